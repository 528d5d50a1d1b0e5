//! The configuration of `envoyproxy/ratelimit` that belongs to plans.

use std::collections::BTreeMap;
use std::fmt;

use tollgate_calendar::Period;

use super::MAX_COUNT;

/// A quota of a plan, as the service has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanQuota<'a> {
    /// The plan's name.
    pub plan: &'a str,
    /// The quota's name, once in each plan.
    pub quota: &'a str,
    /// How many hits.
    pub limit: u64,
    /// In which period. Its windows must begin at midnight UTC, months on the first: the service
    /// has no others.
    pub period: Period,
}

/// The file, in YAML, for a service that is run with `USE_CALENDAR_MONTH_RATE_LIMIT=true`. Its
/// descriptors are those of [`Descriptor`](super::Descriptor).
///
/// # Errors
///
/// When the service could not keep one of the quotas as it is meant.
pub fn ratelimit_config(
    domain: &str,
    quotas: &[PlanQuota<'_>],
) -> Result<String, InvalidPlanQuota> {
    let mut plans: BTreeMap<&str, BTreeMap<&str, (u64, &str)>> = BTreeMap::new();
    for quota in quotas {
        let invalid = |problem| InvalidPlanQuota::new(quota, problem);
        let unit = unit(quota.period).map_err(invalid)?;
        if quota.limit > MAX_COUNT {
            return Err(invalid(Problem::Limit(quota.limit)));
        }
        if quota.plan.contains('*') || quota.quota.contains('*') {
            return Err(invalid(Problem::Wildcard));
        }
        let named = plans.entry(quota.plan).or_default();
        if named.insert(quota.quota, (quota.limit, unit)).is_some() {
            return Err(invalid(Problem::Twice));
        }
    }
    Ok(render(domain, &plans))
}

/// The service's name for a period whose windows it has too.
fn unit(period: Period) -> Result<&'static str, Problem> {
    match period {
        Period::Minute => Ok("minute"),
        Period::Hour => Ok("hour"),
        Period::Day => Ok("day"),
        Period::Month => Ok("month"),
        Period::Week => Err(Problem::Week),
        Period::Year => Err(Problem::Year),
    }
}

fn render(domain: &str, plans: &BTreeMap<&str, BTreeMap<&str, (u64, &str)>>) -> String {
    let mut yaml = format!("domain: {}\ndescriptors:\n", quoted(domain));
    for (plan, quotas) in plans {
        yaml.push_str(&format!(
            "- key: plan\n  value: {}\n  descriptors:\n",
            quoted(plan)
        ));
        for (quota, (limit, unit)) in quotas {
            // Without a value, an entry matches any: a counter for each consumer and period, and
            // one row of metrics for all.
            yaml.push_str(&format!(
                "  - key: quota\n    value: {}\n    descriptors:\n    - key: consumer\n      \
                 descriptors:\n      - key: period\n        rate_limit:\n          \
                 unit: {unit}\n          requests_per_unit: {limit}\n",
                quoted(quota)
            ));
        }
    }
    yaml
}

/// A text of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A quota that `envoyproxy/ratelimit` can't keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPlanQuota {
    plan: String,
    quota: String,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Week,
    Year,
    Limit(u64),
    Wildcard,
    Twice,
}

impl InvalidPlanQuota {
    fn new(quota: &PlanQuota<'_>, problem: Problem) -> InvalidPlanQuota {
        InvalidPlanQuota {
            plan: quota.plan.to_owned(),
            quota: quota.quota.to_owned(),
            problem,
        }
    }
}

impl fmt::Display for InvalidPlanQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plan {:?}, quota {:?}: ", self.plan, self.quota)?;
        match self.problem {
            Problem::Week => f.write_str(
                "found the period week, which this service begins on Thursdays; expected minute, \
                 hour, day or month, or use a Redis store",
            ),
            Problem::Year => f.write_str(
                "found the period year, which to this service is 365 days from the epoch on; \
                 expected minute, hour, day or month, or use a Redis store",
            ),
            Problem::Limit(limit) => write!(
                f,
                "found the limit {limit}, expected at most {MAX_COUNT}, since this service counts \
                 with 32 bits; or use a Redis store",
            ),
            Problem::Wildcard => {
                f.write_str("found a \"*\" in a name, which this service takes for any text")
            }
            Problem::Twice => f.write_str("found it twice, expected it once"),
        }
    }
}

impl std::error::Error for InvalidPlanQuota {}
