//! What operators see: who still calls, and when an API ends.

use std::cell::RefCell;

use hashbrown::HashMap;
use tollgate_core::apis::ApiId;
use tollgate_core::host::{CounterId, Host};
use tollgate_core::policy::{Consumer, Exchange};
use tollgate_core::telemetry::counter_name;
use tollgate_lifecycle::Lifecycle;

/// The counters that are known so far.
#[derive(Default)]
pub(crate) struct Metrics {
    calls: RefCell<HashMap<Series, Option<CounterId>>>,
    /// When each API ends, as it was shown last.
    ends: RefCell<HashMap<ApiId, u64>>,
}

/// A counter of calls: all that its labels tell, and no more.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Series {
    api: ApiId,
    /// The place of the version's life.
    life: usize,
    stage: &'static str,
    caller: Caller,
}

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Caller {
    /// No consumer that is known.
    None,
    /// A consumer, by its place.
    Own(u32),
    /// One of the consumers that have no counter of their own.
    Other,
}

/// How many consumers, in the order of the configuration, have counters of their own.
const MOST_CONSUMERS: u32 = 200;

impl Metrics {
    /// Counts a call of the version at a place, by who calls.
    pub(crate) fn count<H: Host>(
        &self,
        api: ApiId,
        (place, life): (usize, &Lifecycle),
        stage: &'static str,
        x: &Exchange<'_, H>,
    ) {
        let consumer = x.facts.consumer.as_ref();
        let caller = Caller::of(consumer);
        let series = Series {
            api,
            life: place,
            stage,
            caller,
        };
        // Nothing below calls back into this object, so the borrow can't be taken already.
        let Ok(mut calls) = self.calls.try_borrow_mut() else {
            return;
        };
        let counter = calls.entry(series).or_insert_with(|| {
            let consumer = match (caller, consumer) {
                (Caller::Own(_), Some(consumer)) => &consumer.id,
                (Caller::Other, _) => "_other",
                _ => "_none",
            };
            x.host.counter(&counter_name(
                "tollgate_lifecycle_requests_total",
                &[
                    ("api", x.api_name()),
                    ("api_version", life.version().unwrap_or("_none")),
                    ("stage", stage),
                    ("consumer", consumer),
                ],
            ))
        });
        if let Some(counter) = counter {
            x.host.increment(*counter, 1);
        }
    }

    /// Shows when an API ends, in seconds since the Unix epoch, where that is not what was shown
    /// last.
    pub(crate) fn show_end<H: Host>(&self, api: ApiId, end: u64, x: &Exchange<'_, H>) {
        let Ok(mut ends) = self.ends.try_borrow_mut() else {
            return;
        };
        if ends.insert(api, end) == Some(end) {
            return;
        }
        let name = counter_name(
            "tollgate_sunset_timestamp_seconds",
            &[("api", x.api_name())],
        );
        if let Some(gauge) = x.host.gauge(&name) {
            x.host.set_gauge(gauge, end);
        }
    }
}

impl Caller {
    fn of(consumer: Option<&Consumer>) -> Caller {
        match consumer.map(|consumer| consumer.index) {
            None => Caller::None,
            Some(index) if index < MOST_CONSUMERS => Caller::Own(index),
            Some(_) => Caller::Other,
        }
    }
}
