//! What an engine has to be told of the plans.

use std::sync::Arc;

use tollgate_core::config::{ConfigErrors, key_path};
use tollgate_quota_store::rls::{PlanQuota, ratelimit_config as render};

use super::sharing::Abilities;
use crate::config::{QuotaConfig, UsagePlanConfig};
use crate::plan::{can_keep, engine_name};

/// The configuration of `envoyproxy/ratelimit`, in YAML, that belongs to the plans of a section which
/// has been checked.
///
/// # Errors
///
/// The quotas that this server could not keep as they are meant.
pub fn ratelimit_config(config: &UsagePlanConfig) -> Result<String, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let mut named: Vec<(&str, Arc<str>, &QuotaConfig)> = Vec::new();
    for (plan, config) in config.plans.iter() {
        for quota in &config.quota.0 {
            let period = quota.period.0;
            let name = quota
                .name
                .as_ref()
                .map_or(period.name(), |name| name.as_str());
            let path = format!("{}.quota {name}", key_path("usage_plan.plans", plan));
            if let Err((field, message)) = can_keep(Abilities::ENVOY_RATELIMIT, quota) {
                errors.add(format!("{path}: {field}"), message);
            }
            named.push((plan, engine_name(name, period), quota));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let quotas: Vec<PlanQuota<'_>> = named
        .iter()
        .map(|(plan, name, quota)| PlanQuota {
            plan,
            quota: name,
            limit: quota.limit,
            period: quota.period.0,
        })
        .collect();
    let rls = config.store.as_ref().and_then(|store| store.rls.as_ref());
    let domain = rls.map_or(DEFAULT_DOMAIN, |rls| rls.domain.as_str());
    render(domain, &quotas).map_err(|mistake| {
        errors.add("usage_plan.plans", mistake.to_string());
        errors
    })
}

/// The domain under which a server has the limits, if none is given.
pub(super) const DEFAULT_DOMAIN: &str = "usage-plans";
