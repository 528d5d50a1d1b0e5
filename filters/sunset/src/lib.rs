//! `sunset.wasm`: the life of API versions.

tollgate_host::plugin!("sunset.wasm": tollgate_sunset::Sunset);
