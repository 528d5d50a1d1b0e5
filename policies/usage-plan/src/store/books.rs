//! Exchanges with the store, as they concern the records of consumers.

use std::sync::Arc;

use tollgate_core::host::Host;
use tollgate_core::policy::Plan as PlanFact;
use tollgate_core::shared::{ATTEMPTS, Update, update};
use tollgate_core::time::Timestamp;
use tollgate_quota_ledger::{Decision, Reply, Request, Settled, Terms};

use super::engine::{Counter, Exchange};
use super::health::Purpose;
use super::{Account, Holder, Store, nanos, random};
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

/// A ledger's part: the ledger, what is to be told and asked of it, and what for; and what has been
/// used of the quota by all, as far as is known.
type Part = (StoredLedger, Request, Purpose, u64);

impl Store {
    /// Begins the exchanges that are wanted for an account.
    pub(super) fn begin<H: Host>(
        &self,
        plan: &UsagePlan,
        account: Account,
        want: Want,
        host: &H,
    ) -> Done {
        let Some((
            consumer,
            Plan {
                fact: PlanFact { name, .. },
                quotas,
                ..
            },
        )) = plan.account(account)
        else {
            return Done::default();
        };
        let deadline = nanos(self.timeout);
        let begun = update(host, &consumer.record, ATTEMPTS, |bytes| {
            let now = host.now();
            let mut record = Record::read(bytes.as_deref());
            let parts = begin_all(&mut record, (consumer, quotas), want, deadline, now);
            let has_more = has_more(&record, (consumer, quotas), now);
            match parts.is_empty() {
                true => Update::Keep((parts, has_more)),
                false => Update::Write(record.to_bytes(), (parts, has_more)),
            }
        });
        let Ok((parts, has_more)) = begun else {
            // It is tried again at the next look.
            return Done {
                begun: Vec::new(),
                has_more: true,
            };
        };
        let begun = parts
            .into_iter()
            .filter_map(|(stored, request, purpose, used)| {
                let quota = quotas.iter().find(|quota| quota.id == stored.id)?;
                Some(Begun {
                    account,
                    quota: stored.id,
                    exchange: Exchange {
                        counter: Counter {
                            plan: Arc::clone(name),
                            quota: quota.engine_name(),
                            consumer: consumer.tag,
                            start: stored.start,
                            end: stored.end,
                        },
                        request,
                        booked: stored.ledger.booked(),
                        used,
                    },
                    purpose,
                })
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
    let (consumer, account_plan) = plan.account(begun.account)?;
    let quota = account_plan
        .quotas
        .iter()
        .find(|quota| quota.id == begun.quota)?;
    let shared = quota.shared.as_ref()?;
    let counter = &begun.exchange.counter;
    let changed = update(host, &consumer.record, ATTEMPTS, |bytes| {
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
    });
    changed.ok().flatten()
}

/// Begins an exchange for each ledger that needs one.
fn begin_all(
    record: &mut Record,
    (consumer, quotas): (&Consumer, &[Quota]),
    want: Want,
    deadline: u64,
    now: Timestamp,
) -> Vec<Part> {
    let mut parts = Vec::new();
    for quota in quotas {
        let Some(shared) = &quota.shared else {
            continue;
        };
        let current = ledger_of(quota, record, now);
        let is_current = |stored: &StoredLedger| stored.start == current.start;
        let older = record.ledgers().iter().copied();
        let older = older.filter(|stored| stored.id == quota.id && !is_current(stored));
        let ledgers: Vec<StoredLedger> = older.chain([current]).collect();
        for mut stored in ledgers {
            let terms = shared.terms(is_first(consumer.since, stored.start, stored.end));
            let want = match want {
                Want::Due { .. } if !is_current(&stored) => Want::Due { waiting: 0 },
                want => want,
            };
            let Some((purpose, waiting)) = purpose(&stored, terms, want, now) else {
                continue;
            };
            if let Some(request) = stored
                .ledger
                .begin(terms, waiting, now.as_nanos(), deadline)
            {
                record.set_ledger(stored);
                let used = terms.limit().saturating_sub(stored.ledger.remaining(terms));
                parts.push((stored, request, purpose, used));
            }
        }
    }
    parts
}

/// Why an exchange is due for a ledger, if one is, and how many of the requests need it.
fn purpose(
    stored: &StoredLedger,
    terms: &Terms,
    want: Want,
    now: Timestamp,
) -> Option<(Purpose, u64)> {
    let now = now.as_nanos();
    match (want, stored.ledger.decide(terms, 1, now)) {
        (Want::Probe, _) => Some((Purpose::Probe, 0)),
        (
            Want::Due {
                waiting: waiting @ 1..,
            },
            Decision::Ask,
        ) => Some((Purpose::Ask, waiting)),
        (_, Decision::Refuse { peek: true }) => Some((Purpose::Peek, 0)),
        _ => stored.ledger.due(terms, now).map(|_| (Purpose::Report, 0)),
    }
}

/// Whether a ledger will need an exchange though nobody asks.
fn has_more(record: &Record, (consumer, quotas): (&Consumer, &[Quota]), now: Timestamp) -> bool {
    record.ledgers().iter().any(|stored| {
        let quota = quotas.iter().find(|quota| quota.id == stored.id);
        quota
            .and_then(|quota| quota.shared.as_ref())
            .is_some_and(|shared| {
                let terms = shared.terms(is_first(consumer.since, stored.start, stored.end));
                stored.ledger.next_due(terms, now.as_nanos()).is_some()
            })
    })
}

impl UsagePlan {
    /// Whose record it is, and the account's plan.
    pub(super) fn account(&self, account: Account) -> Option<(&Consumer, &Plan)> {
        let consumer = self.consumer(match account.holder {
            Holder::Consumer(index) => Caller::Consumer(index),
            Holder::Anonymous => Caller::Anonymous,
        })?;
        Some((consumer, self.plans.get(usize::from(account.plan))?))
    }

    /// The accounts of some consumers, from a place on; and the one of callers without a key at the
    /// beginning.
    pub(super) fn accounts_from(&self, from: u32, most: u32) -> Vec<Account> {
        let anonymous = self.anonymous.iter().filter(|_| from == 0);
        let anonymous = anonymous.map(|consumer| Account {
            holder: Holder::Anonymous,
            plan: consumer.plan,
        });
        let consumers = (0_u32..).zip(&self.consumers);
        let consumers = consumers.skip(from as usize).take(most as usize);
        let consumers = consumers.map(|(index, consumer)| Account {
            holder: Holder::Consumer(index),
            plan: consumer.plan,
        });
        anonymous.chain(consumers).collect()
    }
}
