//! `jwt-authz.wasm`: signed tokens, and what they must grant.

tollgate_host::plugin!(tollgate_plugins::JwtAuthz);
