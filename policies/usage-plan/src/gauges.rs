//! How much of its quotas each consumer has used, for dashboards.
//!
//! The records are read from time to time and not while requests are judged: that costs requests
//! nothing, and a gauge also goes back to zero when a window ends and nobody calls.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use tollgate_core::host::{GaugeId, Host};
use tollgate_core::telemetry::counter_name;
use tollgate_core::time::Timestamp;

use crate::UsagePlan;
use crate::consumers::Consumer;
use crate::meter::{Limits, StoreUse, statuses};
use crate::plan::Quota;
use crate::record::Record;

/// The time between two readings of the records.
const PERIOD: Duration = Duration::from_secs(10);

/// What one worker shows. All workers read the same records, so they show the same.
pub(crate) struct QuotaGauges {
    /// How many consumers, in the order of the configuration, have gauges.
    consumers: u32,
    read: Cell<Option<Timestamp>>,
    known: RefCell<HashMap<Series, Gauges>>,
}

/// The places of a consumer and of a quota of its plan.
type Series = (u32, usize);

#[derive(Clone, Copy)]
struct Gauges {
    used: Option<GaugeId>,
    limit: Option<GaugeId>,
}

impl QuotaGauges {
    pub(crate) fn new(consumers: u32) -> Self {
        QuotaGauges {
            consumers,
            read: Cell::default(),
            known: RefCell::default(),
        }
    }

    /// Whether it is time to read the records at `now`; a clock that was set back counts as that.
    fn is_due(&self, now: Timestamp) -> bool {
        match self.read.get() {
            Some(read) => now < read || now.saturating_since(read) >= PERIOD,
            None => true,
        }
    }

    fn set<H: Host>(
        &self,
        series: Series,
        named: (Consumer<'_>, &Quota),
        values: [u64; 2],
        host: &H,
    ) {
        // Nothing below calls back into this object, so the borrow can't be taken already.
        let Ok(mut known) = self.known.try_borrow_mut() else {
            return;
        };
        let gauges = *known
            .entry(series)
            .or_insert_with(|| Gauges::define(named, host));
        for (gauge, value) in [gauges.used, gauges.limit].into_iter().zip(values) {
            if let Some(gauge) = gauge {
                host.set_gauge(gauge, value);
            }
        }
    }
}

impl Gauges {
    fn define<H: Host>((consumer, quota): (Consumer<'_>, &Quota), host: &H) -> Self {
        let labels = [("consumer", consumer.id), ("limit", quota.name.as_str())];
        let gauge = |name| host.gauge(&counter_name(name, &labels));
        Gauges {
            used: gauge("tollgate_quota_used_requests"),
            limit: gauge("tollgate_quota_limit_requests"),
        }
    }
}

impl UsagePlan {
    /// Shows how the consumers stand with their quotas, if it is time. Returns when it is time again;
    /// never, if there is nothing to show.
    pub(crate) fn show_quotas<H: Host>(&self, host: &H) -> Option<Duration> {
        let shown = usize::try_from(self.gauges.consumers).unwrap_or(usize::MAX);
        let mut limited = self
            .consumers
            .from(0)
            .take(shown)
            .filter_map(|(place, consumer)| {
                let plan = self.plans.get(usize::from(consumer.plan))?;
                (!plan.quotas.is_empty()).then_some((place, consumer, &*plan.quotas))
            })
            .peekable();
        limited.peek()?;
        let now = host.now();
        if self.gauges.is_due(now) {
            self.gauges.read.set(Some(now));
            let mut ledgers = LedgerSum::default();
            for (place, consumer, quotas) in limited {
                self.show_consumer(place, consumer, quotas, &mut ledgers, host);
            }
            if self.store.is_some() {
                ledgers.show(host);
            }
        }
        Some(PERIOD)
    }

    /// Shows one consumer; not one that has never called, nor where it can't be told.
    fn show_consumer<H: Host>(
        &self,
        place: u32,
        consumer: Consumer<'_>,
        quotas: &[Quota],
        ledgers: &mut LedgerSum,
        host: &H,
    ) {
        let read = |key: &str| host.shared_get(key);
        let Ok(Some(entry)) = self.records.with(consumer, read) else {
            return;
        };
        let limits = Limits {
            throttles: [None, None],
            quotas,
            since: consumer.since,
            store: StoreUse::Ask,
        };
        let record = Record::read(Some(&entry.bytes));
        ledgers.add(&record, host.now());
        let statuses = statuses(&record, &limits, host.now());
        for ((index, quota), status) in quotas.iter().enumerate().zip(statuses) {
            let used = status.allowance.saturating_sub(status.remaining);
            let values = [used, status.allowance];
            self.gauges
                .set((place, index), (consumer, quota), values, host);
        }
    }
}

/// What this Envoy has admitted and the store may not know, of all consumers that are shown.
#[derive(Default)]
struct LedgerSum {
    unreported: u64,
    /// The age of the oldest answer of the store by which requests are decided, in seconds.
    oldest: u64,
}

impl LedgerSum {
    fn add(&mut self, record: &Record, now: Timestamp) {
        for stored in record.ledgers() {
            self.unreported = self.unreported.saturating_add(stored.ledger.unreported());
            let is_running = (stored.start..stored.end).contains(&now.as_seconds());
            // Until the store has answered, what is known is that nothing was used at the beginning.
            let since_start = now.as_seconds().saturating_sub(stored.start);
            let age = match stored.ledger.age_of_knowledge(now.as_nanos()) {
                Some(age) => Timestamp::from_nanos(age).as_seconds(),
                None => since_start,
            };
            if is_running {
                self.oldest = self.oldest.max(age.unsigned_abs());
            }
        }
    }

    fn show<H: Host>(&self, host: &H) {
        for (name, value) in [
            ("tollgate_store_unreported_requests", self.unreported),
            ("tollgate_store_knowledge_age_seconds", self.oldest),
        ] {
            // Rare enough to look the gauge up each time.
            if let Some(gauge) = host.gauge(name) {
                host.set_gauge(gauge, value);
            }
        }
    }
}
