//! What operators see of every decision: counters with labels, and filter state for access logs.

use std::cell::RefCell;
use std::hash::Hash;

use deserr::Deserr;
use hashbrown::HashMap;

use crate::apis::{ApiId, ApiTable};
use crate::config::ConfigErrors;
use crate::host::{CounterId, Host};
use crate::policy::{Consumer, Facts};
use crate::problem::Kind;
use crate::shared::UpdateFailed;

/// The `telemetry` section.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// How many consumers, in the order of the configuration, get counters of their own; the
    /// others share the label `_other`. Each costs a few time series that live as long as Envoy.
    #[deserr(default = 200)]
    pub consumers: u32,
    /// Whether the decision is put into filter state for access logs, as
    /// `%FILTER_STATE(wasm.tollgate_consumer:PLAIN)%`.
    #[deserr(default = true)]
    pub filter_state: bool,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        TelemetryConfig {
            consumers: 200,
            filter_state: true,
        }
    }
}

/// The outcome of a request as metrics and logs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was let through.
    Allow,
    /// It was let through, and would have been refused but for shadow mode.
    WouldDeny(&'static Kind),
    /// It was refused.
    Deny(&'static Kind),
    /// It was not judged to its end, for this reason.
    Undecided(&'static str),
}

impl Decision {
    /// The host has answered it while it waited.
    pub(crate) const OVERTAKEN: Decision = Decision::Undecided("_overtaken");
    /// Its stream has ended while it waited, as when the client leaves.
    pub(crate) const ABANDONED: Decision = Decision::Undecided("_abandoned");

    fn label(self) -> &'static str {
        match self {
            Decision::Allow => "allow",
            Decision::WouldDeny(_) => "would_deny",
            Decision::Deny(_) => "deny",
            Decision::Undecided(_) => "undecided",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Decision::Allow => NONE,
            Decision::WouldDeny(kind) | Decision::Deny(kind) => kind.name,
            Decision::Undecided(reason) => reason,
        }
    }
}

/// The label of what does not apply to a request; an empty label would vanish in Prometheus.
const NONE: &str = "_none";
/// The label that takes what goes beyond a cap.
const OTHER: &str = "_other";

/// A metric can never be deleted again, so the number of those for requests is bounded: beyond it,
/// the API and the plan are counted as `_other`. Those for consumers are bounded by the
/// configuration.
const MOST_SERIES: usize = 4096;

/// Counts decisions and passes them on to access logs.
pub struct Telemetry {
    config: TelemetryConfig,
    requests: Counters<RequestSeries>,
    consumers: Counters<ConsumerSeries>,
}

/// The counters that are known so far.
type Counters<S> = RefCell<HashMap<S, Option<CounterId>>>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct RequestSeries {
    decision: &'static str,
    reason: &'static str,
    scope: Scope,
}

/// What a request was for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Scope {
    Known {
        plan: Option<u16>,
        api: Option<ApiId>,
    },
    /// Plans and APIs beyond the cap.
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ConsumerSeries {
    decision: &'static str,
    /// `None` stands for all beyond the cap.
    consumer: Option<u32>,
}

impl Telemetry {
    pub(crate) fn new(config: TelemetryConfig) -> Self {
        Telemetry {
            config,
            requests: RefCell::default(),
            consumers: RefCell::default(),
        }
    }

    /// Counts a decision, and puts it where access logs find it.
    pub(crate) fn record<H: Host>(
        &self,
        host: &H,
        apis: &ApiTable,
        api: Option<ApiId>,
        facts: &Facts,
        decision: Decision,
    ) {
        self.count(host, apis, api, facts, decision);
        let api_name = api.map_or(NONE, |id| apis.name(id));
        let plan_name = facts.plan.as_ref().map_or(NONE, |plan| &plan.name);
        if self.config.filter_state {
            host.set_filter_state("tollgate_decision", decision.label());
            if decision != Decision::Allow {
                host.set_filter_state("tollgate_reason", decision.reason());
            }
            if api.is_some() {
                host.set_filter_state("tollgate_api", api_name);
            }
            if let Some(consumer) = &facts.consumer {
                host.set_filter_state("tollgate_consumer", &consumer.id);
            }
            if facts.plan.is_some() {
                host.set_filter_state("tollgate_plan", plan_name);
            }
        }
    }

    /// Counts a decision alone.
    pub(crate) fn count<H: Host>(
        &self,
        host: &H,
        apis: &ApiTable,
        api: Option<ApiId>,
        facts: &Facts,
        decision: Decision,
    ) {
        let api_name = api.map_or(NONE, |id| apis.name(id));
        let plan_name = facts.plan.as_ref().map_or(NONE, |plan| &plan.name);
        self.count_request(host, (api, api_name), (facts, plan_name), decision);
        if let Some(consumer) = &facts.consumer {
            self.count_consumer(host, consumer, decision);
        }
    }

    fn count_request<H: Host>(
        &self,
        host: &H,
        (api, api_name): (Option<ApiId>, &str),
        (facts, plan_name): (&Facts, &str),
        decision: Decision,
    ) {
        let (decision, reason) = (decision.label(), decision.reason());
        let plan = facts.plan.as_ref().map(|plan| plan.index);
        let known = RequestSeries {
            decision,
            reason,
            scope: Scope::Known { plan, api },
        };
        let crowded = self
            .requests
            .try_borrow()
            .is_ok_and(|requests| requests.len() >= MOST_SERIES && !requests.contains_key(&known));
        let (series, plan, api) = match crowded {
            true => (
                RequestSeries {
                    scope: Scope::Other,
                    ..known
                },
                OTHER,
                OTHER,
            ),
            false => (known, plan_name, api_name),
        };
        count(&self.requests, host, series, || {
            counter_name(
                "tollgate_requests_total",
                &[
                    ("decision", decision),
                    ("reason", reason),
                    ("plan", plan),
                    ("api", api),
                ],
            )
        });
    }

    fn count_consumer<H: Host>(&self, host: &H, consumer: &Consumer, decision: Decision) {
        let decision = decision.label();
        let own = consumer.index < self.config.consumers;
        let series = ConsumerSeries {
            decision,
            consumer: own.then_some(consumer.index),
        };
        count(&self.consumers, host, series, || {
            counter_name(
                "tollgate_consumer_requests_total",
                &[
                    ("consumer", if own { &consumer.id } else { OTHER }),
                    ("decision", decision),
                ],
            )
        });
    }
}

fn count<S: Eq + Hash, H: Host>(
    counters: &Counters<S>,
    host: &H,
    series: S,
    name: impl FnOnce() -> String,
) {
    // Nothing below calls back into this object, so the borrow can't be taken already.
    let Ok(mut counters) = counters.try_borrow_mut() else {
        return;
    };
    let counter = counters
        .entry(series)
        .or_insert_with(|| host.counter(&name()));
    if let Some(counter) = counter {
        host.increment(*counter, 1);
    }
}

/// The labels that metrics have. Envoy's configuration needs a stats tag for each.
pub const LABELS: [&str; 12] = [
    "decision",
    "reason",
    "plan",
    "api",
    "consumer",
    "limit",
    "policy",
    "cause",
    "provider",
    "result",
    "stage",
    "api_version",
];

/// Counts a request that a policy, or one of its limits, could not charge.
pub fn count_uncounted<H: Host>(
    host: &H,
    policy: &str,
    limit: Option<&str>,
    failure: UpdateFailed,
) {
    let cause = match failure {
        UpdateFailed::Contended => "contended",
        UpdateFailed::Unavailable => "unavailable",
        UpdateFailed::Full => "full",
    };
    let name = counter_name(
        "tollgate_uncounted_total",
        &[
            ("policy", policy),
            ("limit", limit.unwrap_or(NONE)),
            ("cause", cause),
        ],
    );
    // Rare enough to look the counter up each time.
    if let Some(counter) = host.counter(&name) {
        host.increment(counter, 1);
    }
}

/// A counter's name with its labels in Istio's convention, which Istio's and our stats tags turn
/// into Prometheus labels: `plan=.=gold;.;decision=.=allow;.;tollgate_requests_total`.
pub fn counter_name(name: &str, labels: &[(&str, &str)]) -> String {
    let mut full = String::new();
    for (label, value) in labels {
        full.push_str(label);
        full.push_str("=.=");
        full.push_str(value);
        full.push_str(";.;");
    }
    full.push_str(name);
    full
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn labels_come_before_the_name() {
        assert_eq!(
            counter_name("x_total", &[("plan", "gold"), ("decision", "allow")]),
            "plan=.=gold;.;decision=.=allow;.;x_total"
        );
    }
}
