//! `problem-details.wasm`: errors as problem details.

tollgate_host::plugin!("problem-details.wasm": tollgate_problem_details::ProblemDetails);
