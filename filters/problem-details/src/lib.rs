//! `problem-details.wasm`: errors as problem details.

tollgate_host::plugin!(tollgate_plugins::ProblemDetails);
