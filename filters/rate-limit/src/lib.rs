//! `rate-limit.wasm`: limits on how fast requests come and how many are under way.

tollgate_host::plugin!("rate-limit.wasm": tollgate_rate_limit::RateLimit);
