//! Exchanges with the store, as they concern the records of consumers.

use std::sync::Arc;

use tollgate_core::host::Host;
use tollgate_core::shared::{ATTEMPTS, Update, update};
use tollgate_core::time::Timestamp;
use tollgate_quota_ledger::{Decision, Reply, Request, Settled, Terms};

use super::engine::{Counter, Exchange};
use super::health::Purpose;
use super::{Account, Holder, SharedQuota, Store, nanos, random};
use crate::meter::{is_first, ledger_of};
use crate::plan::{Plan, Quota};
use crate::record::{LimitId, Record, StoredLedger};
use crate::{Caller, Consumer, UsagePlan};

/// An exchange that was begun.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    pub(super) account: Account,
    quota: LimitId,
    pub(super) exchange: Exchange,
    pub(super) purpose: Purpose,
}

/// Why exchanges are wanted for an account.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    /// What is due, and what so many requests wait for.
    Due { waiting: u64 },
    /// Any answer, to see whether the store gives one.
    Probe,
}

/// What was begun for an account.
#[derive(Default)]
pub(super) struct Done {
    pub(super) begun: Vec<Begun>,
    /// Whether something will have to be reported later.
    pub(super) has_more: bool,
}

/// A ledger's part.
struct Part<'a> {
    stored: StoredLedger,
    plan: &'a Plan,
    quota: &'a Quota,
    request: Request,
    purpose: Purpose,
    /// What has been used of the quota by all, as far as is known.
    used: u64,
}

/// What is wanted now, and how much of it.
#[derive(Clone, Copy, Debug)]
struct Order {
    want: Want,
    /// How many exchanges may be begun.
    most: usize,
    /// For how long an answer is awaited, in nanoseconds.
    deadline: u64,
    now: Timestamp,
}

impl Store {
    /// Begins the exchanges that are wanted for an account, as many as there is room for.
    pub(super) fn begin<H: Host>(
        &self,
        plan: &UsagePlan,
        account: Account,
        (want, most): (Want, usize),
        host: &H,
    ) -> Done {
        let Some(books) = plan.books(account) else {
            return Done::default();
        };
        let deadline = nanos(self.timeout);
        let begin = |bytes: Option<Vec<u8>>| {
            let order = Order {
                want,
                most,
                deadline,
                now: host.now(),
            };
            let mut record = Record::read(bytes.as_deref());
            let parts = books.begin(&mut record, order);
            let has_more = books.has_more(&record, order.now);
            match parts.is_empty() {
                true => Update::Keep((parts, has_more)),
                false => Update::Write(record.to_bytes(), (parts, has_more)),
            }
        };
        let begun = plan
            .records
            .with(books.consumer, |key| update(host, key, ATTEMPTS, begin));
        let Ok((parts, has_more)) = begun else {
            // It is tried again at the next look.
            return Done {
                begun: Vec::new(),
                has_more: true,
            };
        };
        let begun = parts.into_iter().map(|part| Begun {
            account,
            quota: part.quota.id,
            exchange: Exchange {
                counter: Counter {
                    plan: Arc::clone(&part.plan.fact.name),
                    quota: part.quota.engine_name(),
                    consumer: plan.records.tag(books.consumer),
                    start: part.stored.start,
                    end: part.stored.end,
                },
                request: part.request,
                booked: part.stored.ledger.booked(),
                used: part.used,
            },
            purpose: part.purpose,
        });
        Done {
            begun: begun.collect(),
            has_more,
        }
    }

    /// Takes in what the store has answered to an exchange.
    pub(super) fn settle<H: Host>(
        &self,
        plan: &UsagePlan,
        begun: &Begun,
        reply: Reply,
        host: &H,
    ) -> Option<Settled> {
        let jitter = random(host);
        change(plan, begun, host, |stored, terms, now| {
            stored.ledger.settle(terms, reply, now.as_nanos(), jitter)
        })
    }

    /// Notes that an exchange has failed, or that nobody knows what came of it.
    pub(super) fn fail<H: Host>(&self, plan: &UsagePlan, begun: &Begun, host: &H) {
        let jitter = random(host);
        change(plan, begun, host, |stored, terms, now| {
            let seq = begun.exchange.request.seq;
            stored.ledger.fail(terms, seq, now.as_nanos(), jitter);
        });
    }
}

/// Changes the ledger of an exchange, if it is still there. A ledger whose record can't be written
/// counts the exchange as lost when its deadline has passed.
fn change<H: Host, T>(
    plan: &UsagePlan,
    begun: &Begun,
    host: &H,
    change: impl Fn(&mut StoredLedger, &Terms, Timestamp) -> T,
) -> Option<T> {
    let books = plan.books(begun.account)?;
    let (_, _, shared) = books.quota(begun.quota)?;
    let consumer = books.consumer;
    let counter = &begun.exchange.counter;
    let change = |bytes: Option<Vec<u8>>| {
        let now = host.now();
        let mut record = Record::read(bytes.as_deref());
        let of_exchange = |stored: &&StoredLedger| {
            (stored.id, stored.start, stored.end) == (begun.quota, counter.start, counter.end)
        };
        let Some(mut stored) = record.ledgers().iter().find(of_exchange).copied() else {
            return Update::Keep(None);
        };
        let terms = shared.terms(is_first(consumer.since, stored.start, stored.end));
        let result = change(&mut stored, terms, now);
        record.set_ledger(stored);
        Update::Write(record.to_bytes(), Some(result))
    };
    let changed = plan
        .records
        .with(consumer, |key| update(host, key, ATTEMPTS, change));
    changed.ok().flatten()
}

/// The ledgers of an account, and what holds for them.
#[derive(Clone, Copy)]
struct Books<'a> {
    plans: &'a [Plan],
    /// The account's plan.
    plan: &'a Plan,
    consumer: Consumer<'a>,
}

impl<'a> Books<'a> {
    /// A quota that a store keeps, and its plan: the account's, or another one, where the consumer may
    /// have been before and have left something to report.
    fn quota(&self, id: LimitId) -> Option<(&'a Plan, &'a Quota, &'a SharedQuota)> {
        let of = |plan: &'a Plan| {
            let quota = plan.quotas.iter().find(|quota| quota.id == id)?;
            Some((plan, quota, quota.shared.as_ref()?))
        };
        of(self.plan).or_else(|| self.plans.iter().find_map(of))
    }

    fn terms(&self, shared: &'a SharedQuota, stored: &StoredLedger) -> &'a Terms {
        shared.terms(is_first(self.consumer.since, stored.start, stored.end))
    }

    /// Begins an exchange for each ledger that needs one.
    fn begin(&self, record: &mut Record, order: Order) -> Vec<Part<'a>> {
        let now = order.now;
        let shared = self
            .plan
            .quotas
            .iter()
            .filter(|quota| quota.shared.is_some());
        let current: Vec<StoredLedger> =
            shared.map(|quota| ledger_of(quota, record, now)).collect();
        let is_current = |stored: &StoredLedger| {
            let mut same = current.iter();
            same.any(|current| (current.id, current.start) == (stored.id, stored.start))
        };
        let older = record.ledgers().iter().copied();
        let older: Vec<StoredLedger> = older.filter(|stored| !is_current(stored)).collect();
        let mut parts = Vec::new();
        // Those first for which somebody may wait.
        for (mut stored, is_current) in current
            .iter()
            .map(|stored| (*stored, true))
            .chain(older.into_iter().map(|stored| (stored, false)))
        {
            if parts.len() >= order.most {
                break;
            }
            let Some((plan, quota, shared)) = self.quota(stored.id) else {
                continue;
            };
            let terms = self.terms(shared, &stored);
            let needed = match is_current {
                true => needed(&stored, terms, order.want, now),
                false => due(&stored, terms, now),
            };
            let Some((purpose, waiting)) = needed else {
                continue;
            };
            let begun = stored
                .ledger
                .begin(terms, waiting, now.as_nanos(), order.deadline);
            if let Some(request) = begun {
                record.set_ledger(stored);
                parts.push(Part {
                    stored,
                    plan,
                    quota,
                    request,
                    purpose,
                    used: terms.limit().saturating_sub(stored.ledger.remaining(terms)),
                });
            }
        }
        parts
    }

    /// Whether a ledger will need an exchange though nobody asks.
    fn has_more(&self, record: &Record, now: Timestamp) -> bool {
        record.ledgers().iter().any(|stored| {
            self.quota(stored.id).is_some_and(|(_, _, shared)| {
                let terms = self.terms(shared, stored);
                stored.ledger.next_due(terms, now.as_nanos()).is_some()
            })
        })
    }
}

/// Why an exchange is needed for the ledger of the present window, if one is, and how many requests
/// wait for it.
fn needed(
    stored: &StoredLedger,
    terms: &Terms,
    want: Want,
    now: Timestamp,
) -> Option<(Purpose, u64)> {
    let ledger = &stored.ledger;
    match (want, ledger.decide(terms, 1, now.as_nanos())) {
        (Want::Probe, _) => Some((Purpose::Probe, 0)),
        (
            Want::Due {
                waiting: waiting @ 1..,
            },
            Decision::Ask,
        ) => ledger
            .may_ask(now.as_nanos())
            .then_some((Purpose::Ask, waiting)),
        (_, Decision::Refuse { peek: true }) => Some((Purpose::Peek, 0)),
        _ => due(stored, terms, now),
    }
}

/// Whether there is something to report, or to be asked for again.
fn due(stored: &StoredLedger, terms: &Terms, now: Timestamp) -> Option<(Purpose, u64)> {
    let due = stored.ledger.due(terms, now.as_nanos());
    due.map(|_| (Purpose::Report, 0))
}

impl UsagePlan {
    /// Whose record it is, the account's plan, and the others.
    fn books(&self, account: Account) -> Option<Books<'_>> {
        let consumer = self.consumer(match account.holder {
            Holder::Consumer(index) => Caller::Consumer(index),
            Holder::Anonymous => Caller::Anonymous,
        })?;
        Some(Books {
            plans: &self.plans,
            plan: self.plans.get(usize::from(account.plan))?,
            consumer,
        })
    }

    /// The accounts of some consumers, from a place on; and the one of callers without a key at the
    /// beginning.
    pub(super) fn accounts_from(&self, from: u32, most: u32) -> Vec<Account> {
        let anonymous = self.anonymous.into_iter().filter(|_| from == 0);
        let anonymous = anonymous.map(|plan| Account {
            holder: Holder::Anonymous,
            plan,
        });
        let consumers = self.consumers.from(from).take(most as usize);
        let consumers = consumers.map(|(index, consumer)| Account {
            holder: Holder::Consumer(index),
            plan: consumer.plan,
        });
        anonymous.chain(consumers).collect()
    }
}
