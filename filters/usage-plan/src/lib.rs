//! `usage-plan.wasm`: API keys with usage plans.

tollgate_host::plugin!("usage-plan.wasm": tollgate_usage_plan::UsagePlan, tollgate_access::Access);
