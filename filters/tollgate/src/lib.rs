//! `tollgate.wasm`: every policy, in the order in which a request is judged.

tollgate_host::plugin!(tollgate_plugins::Tollgate);
