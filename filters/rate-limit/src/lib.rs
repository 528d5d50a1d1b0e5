//! `rate-limit.wasm`: limits on how fast requests come and how many are under way.

tollgate_host::plugin!(tollgate_plugins::RateLimit);
