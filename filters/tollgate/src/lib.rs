//! `tollgate.wasm`: every policy, in the order in which a request is judged.

tollgate_host::plugin!("tollgate.wasm":
    tollgate_request_id::RequestId,
    tollgate_rate_limit::RateLimit,
    tollgate_usage_plan::UsagePlan,
);
