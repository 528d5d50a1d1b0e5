//! `sunset.wasm`: the life of API versions.

tollgate_host::plugin!(tollgate_plugins::Sunset);
