//! What operators see of every decision: counters with labels, and filter state for access logs.

use std::cell::RefCell;

use deserr::Deserr;
use hashbrown::HashMap;

use crate::apis::{ApiId, ApiTable};
use crate::config::ConfigErrors;
use crate::host::{CounterId, Host};
use crate::policy::Facts;
use crate::problem::Kind;

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
}

impl Decision {
    fn label(self) -> &'static str {
        match self {
            Decision::Allow => "allow",
            Decision::WouldDeny(_) => "would_deny",
            Decision::Deny(_) => "deny",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Decision::Allow => NONE,
            Decision::WouldDeny(kind) | Decision::Deny(kind) => kind.name,
        }
    }
}

/// The label of what does not apply to a request; an empty label would vanish in Prometheus.
const NONE: &str = "_none";
/// The label that takes what goes beyond a cap.
const OTHER: &str = "_other";

/// A metric can never be deleted again, so their number is bounded: beyond this many, the API and
/// the plan are counted as `_other`.
const MOST_SERIES: usize = 4096;

/// Counts decisions and passes them on to access logs.
pub struct Telemetry {
    config: TelemetryConfig,
    series: RefCell<HashMap<Series, Option<CounterId>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Series {
    Request {
        decision: &'static str,
        reason: &'static str,
        plan: Option<u16>,
        api: Option<ApiId>,
    },
    Consumer {
        decision: &'static str,
        consumer: u32,
    },
}

/// The consumer index that stands for all beyond the cap.
const OTHER_CONSUMERS: u32 = u32::MAX;

impl Telemetry {
    pub(crate) fn new(config: TelemetryConfig) -> Self {
        Telemetry {
            config,
            series: RefCell::default(),
        }
    }

    pub(crate) fn record<H: Host>(
        &self,
        host: &H,
        apis: &ApiTable,
        api: Option<ApiId>,
        facts: &Facts,
        decision: Decision,
    ) {
        let api_name = api.map_or(NONE, |id| apis.name(id));
        let plan_name = facts.plan.as_ref().map_or(NONE, |plan| &plan.name);
        let series = Series::Request {
            decision: decision.label(),
            reason: decision.reason(),
            plan: facts.plan.as_ref().map(|plan| plan.index),
            api,
        };
        self.count(host, series, |crowded| {
            counter_name(
                "tollgate_requests_total",
                &[
                    ("decision", decision.label()),
                    ("reason", decision.reason()),
                    ("plan", if crowded { OTHER } else { plan_name }),
                    ("api", if crowded { OTHER } else { api_name }),
                ],
            )
        });
        if let Some(consumer) = &facts.consumer {
            let own = consumer.index < self.config.consumers;
            let series = Series::Consumer {
                decision: decision.label(),
                consumer: if own { consumer.index } else { OTHER_CONSUMERS },
            };
            self.count(host, series, |_| {
                counter_name(
                    "tollgate_consumer_requests_total",
                    &[
                        ("consumer", if own { &consumer.id } else { OTHER }),
                        ("decision", decision.label()),
                    ],
                )
            });
        }
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

    fn count<H: Host>(&self, host: &H, series: Series, name: impl FnOnce(bool) -> String) {
        // Nothing below calls back into this object, so the borrow can't be taken already.
        let Ok(mut known) = self.series.try_borrow_mut() else {
            return;
        };
        let counter = match known.get(&series) {
            Some(counter) => *counter,
            None => {
                let crowded = known.len() >= MOST_SERIES;
                let counter = host.counter(&name(crowded));
                if !crowded {
                    known.insert(series, counter);
                }
                counter
            }
        };
        if let Some(counter) = counter {
            host.increment(counter, 1);
        }
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
    use super::*;

    #[test]
    fn labels_come_before_the_name() {
        assert_eq!(
            counter_name("x_total", &[("plan", "gold"), ("decision", "allow")]),
            "plan=.=gold;.;decision=.=allow;.;x_total"
        );
    }
}
