//! `usage-plan.wasm`: API keys with usage plans.

tollgate_host::plugin!(tollgate_plugins::UsagePlan);
