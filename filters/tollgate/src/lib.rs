//! `tollgate.wasm`: every policy, in the order in which a request is judged.

tollgate_host::plugin!("tollgate.wasm":
    tollgate_request_id::RequestId,
    tollgate_problem_details::ProblemDetails,
    tollgate_rate_limit::RateLimit,
    tollgate_jwt_authz::JwtAuthz,
    tollgate_usage_plan::UsagePlan,
    tollgate_access::Access,
    tollgate_sunset::Sunset,
);
