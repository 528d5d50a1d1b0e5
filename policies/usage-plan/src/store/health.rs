//! What operators are told of the store.

use std::cell::RefCell;

use tollgate_core::host::Host;
use tollgate_core::telemetry::counter_name;
use tollgate_core::time::Timestamp;
use tollgate_quota_ledger::{Breaker, Circuit, Settled};
use tollgate_quota_store::StoreError;

/// What an exchange is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Requests wait for it.
    Ask,
    /// It tells what was admitted, or gives back or renews what was granted ahead.
    Report,
    /// It looks whether a spent quota still is.
    Peek,
    /// It looks whether the store answers again, since nothing else has to be said to it.
    Probe,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Purpose::Ask => "ask",
            Purpose::Report => "report",
            Purpose::Peek => "peek",
            Purpose::Probe => "probe",
        }
    }
}

/// How a request was decided about for which the store should have been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    Admitted,
    Refused,
}

/// Counts, and keeps the log from being flooded.
#[derive(Default)]
pub(crate) struct Health(RefCell<Told>);

#[derive(Default)]
struct Told {
    /// The error that was logged last, and when.
    error: Option<(String, Timestamp)>,
    /// Whether the breaker was open, if that was told.
    is_open: Option<bool>,
}

/// An error that stays the same is logged once in this time, in seconds.
const SAME_ERROR_EVERY: i64 = 60;

impl Health {
    pub(super) fn settled<H: Host>(&self, purpose: Purpose, settled: Option<Settled>, host: &H) {
        let result = match settled {
            Some(Settled::Done) => "ok",
            Some(Settled::WentBack) => {
                self.log(
                    "the store has forgotten usage of a period that still runs; what this Envoy \
                     knows is still held against the quotas: is it durable (append-only file, no \
                     eviction)?",
                    host,
                );
                "went_back"
            }
            Some(Settled::Late) | None => "late",
            Some(Settled::Forgotten) => {
                self.log(
                    "the store knows more of this Envoy's usage than the Envoy does: do two plugins \
                     share a namespace, or was the plugin's state lost?",
                    host,
                );
                "forgotten"
            }
        };
        count(purpose, result, host);
    }

    pub(super) fn failed<H: Host>(&self, purpose: Purpose, error: &StoreError, host: &H) {
        self.log(&error.to_string(), host);
        count(purpose, "failed", host);
    }

    pub(super) fn not_sent<H: Host>(&self, host: &H) {
        self.log("Envoy does not know the store's cluster, or not yet", host);
    }

    pub(super) fn unfit<H: Host>(&self, flaw: &str, host: &H) {
        self.log(&format!("{flaw}; it is not used"), host);
    }

    /// Tells of a breaker that has opened or closed.
    pub(super) fn tell<H: Host>(&self, breaker: &Breaker, now: Timestamp, host: &H) {
        let Ok(mut told) = self.0.try_borrow_mut() else {
            return;
        };
        let is_open = breaker.circuit(now.as_nanos()) != Circuit::Closed;
        if told.is_open != Some(is_open) {
            let was_told = told.is_open.replace(is_open).is_some();
            if let Some(gauge) = host.gauge("tollgate_store_breaker_open") {
                host.set_gauge(gauge, u64::from(is_open));
            }
            match is_open {
                false if !was_told => {}
                true => host.log(
                    log::Level::Warn,
                    format_args!("usage_plan.store: does not answer, it is left alone for a while"),
                ),
                false => host.log(
                    log::Level::Warn,
                    format_args!("usage_plan.store: answers again"),
                ),
            }
        }
    }

    /// Counts a request for which the store should have been asked.
    pub(crate) fn alone<H: Host>(&self, alone: Alone, host: &H) {
        let result = match alone {
            Alone::Admitted => "admitted",
            Alone::Refused => "refused",
        };
        increment(
            "tollgate_store_unanswered_total",
            &[("result", result)],
            host,
        );
    }

    fn log<H: Host>(&self, error: &str, host: &H) {
        let Ok(mut told) = self.0.try_borrow_mut() else {
            return;
        };
        let now = host.now();
        let is_known = told.error.as_ref().is_some_and(|(known, at)| {
            let age = now.as_seconds().saturating_sub(at.as_seconds());
            known == error && (0..SAME_ERROR_EVERY).contains(&age)
        });
        if !is_known {
            host.log(log::Level::Error, format_args!("usage_plan.store: {error}"));
            told.error = Some((error.to_owned(), now));
        }
    }
}

fn count<H: Host>(purpose: Purpose, result: &str, host: &H) {
    let labels = [("stage", purpose.label()), ("result", result)];
    increment("tollgate_store_exchanges_total", &labels, host);
}

/// Exchanges are few beside requests, so the counter is looked up each time.
fn increment<H: Host>(name: &str, labels: &[(&str, &str)], host: &H) {
    if let Some(counter) = host.counter(&counter_name(name, labels)) {
        host.increment(counter, 1);
    }
}
