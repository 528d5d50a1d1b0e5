//! What operators see of each limit.

use std::cell::Cell;

use tollgate_core::host::{CounterId, Host};
use tollgate_core::telemetry::counter_name;

/// The counters of a limit, defined when they are first needed.
#[derive(Default)]
pub(crate) struct Counters {
    allowed: Cell<Option<CounterId>>,
    denied: Cell<Option<CounterId>>,
    would_deny: Cell<Option<CounterId>>,
    evicted: Cell<Option<CounterId>>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Allowed,
    Denied,
    WouldDeny,
    /// A client was forgotten before its bucket was full again.
    Evicted,
}

impl Counters {
    pub(crate) fn count<H: Host>(&self, host: &H, limit: &str, event: Event) {
        let requests = "tollgate_limit_requests_total";
        let (cell, name, decision) = match event {
            Event::Allowed => (&self.allowed, requests, Some("allow")),
            Event::Denied => (&self.denied, requests, Some("deny")),
            Event::WouldDeny => (&self.would_deny, requests, Some("would_deny")),
            Event::Evicted => (&self.evicted, "tollgate_limit_evicted_total", None),
        };
        if cell.get().is_none() {
            let name = match decision {
                Some(decision) => counter_name(name, &[("limit", limit), ("decision", decision)]),
                None => counter_name(name, &[("limit", limit)]),
            };
            cell.set(host.counter(&name));
        }
        if let Some(counter) = cell.get() {
            host.increment(counter, 1);
        }
    }
}
