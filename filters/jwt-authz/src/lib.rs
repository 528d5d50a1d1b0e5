//! `jwt-authz.wasm`: signed tokens, and what they must grant.

tollgate_host::plugin!("jwt-authz.wasm": tollgate_jwt_authz::JwtAuthz, tollgate_access::Access);
