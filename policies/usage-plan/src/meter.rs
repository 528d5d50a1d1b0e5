//! Charging a request to a consumer's buckets and quotas: to all or to none.

use std::time::Duration;

use tollgate_core::limit_headers::{LimitName, LimitStatus};
use tollgate_core::time::Timestamp;
use tollgate_quota_ledger::{Decision, Ledger, Window};

use crate::plan::{Quota, Throttle};
use crate::record::{Record, StoredLedger, StoredQuota};
use crate::store::SharedQuota;

/// The limits that a request meets, most specific first.
pub(crate) struct Limits<'a> {
    /// The bucket of its method or path, and the plan's.
    pub(crate) throttles: [Option<&'a Throttle>; 2],
    pub(crate) quotas: &'a [Quota],
    /// When the consumer subscribed, in Unix seconds.
    pub(crate) since: Option<i64>,
    pub(crate) store: StoreUse,
}

/// What is done about quotas that a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreUse {
    /// They are counted here like others.
    Never,
    /// The request waits where the store has to be asked.
    Ask,
    /// Where the store has to be asked, it is decided without.
    Alone,
}

impl<'a> Limits<'a> {
    /// How a quota is shared, if it is the store's.
    fn shared(&self, quota: &'a Quota) -> Option<&'a SharedQuota> {
        match self.store {
            StoreUse::Never => None,
            StoreUse::Ask | StoreUse::Alone => quota.shared.as_ref(),
        }
    }
}

/// A limit that is used up.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) limit: LimitName,
    pub(crate) exhausted: Exhausted,
    /// When to try again.
    pub(crate) retry_after: Duration,
}

/// What kind of limit is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Throttle,
    Quota,
    /// None is known to be: the store does not answer.
    Unknown,
}

/// What came of a charge.
#[derive(Debug, PartialEq)]
pub(crate) enum Charge {
    /// Every limit was charged; the record has changed.
    Admitted {
        /// Whether that was decided without the store, which should have been asked.
        alone: bool,
    },
    /// No limit was charged.
    Refused {
        refusal: Refusal,
        /// Whether the record has changed all the same and must be stored.
        settled: bool,
        /// Whether it is time to see if the store still says so.
        peek: bool,
    },
    /// No limit was charged: the store has to answer first.
    Wait {
        /// Whether it has yet to be asked.
        ask: bool,
    },
}

/// Why no limit is charged.
enum Stop {
    Refused(Refusal, Peek),
    Wait(Ask),
}

type Peek = bool;
type Ask = bool;
/// Whether it was decided without the store, which should have been asked.
type IsAlone = bool;

/// Charges one request at `now` to all limits, or finds the first that does not admit it; then none
/// is charged.
pub(crate) fn charge(record: &mut Record, limits: &Limits<'_>, now: Timestamp) -> Charge {
    let alone = match check(record, limits, now) {
        Ok(alone) => alone,
        Err(Stop::Refused(refusal, peek)) => {
            return Charge::Refused {
                refusal,
                settled: settle(record, limits, now),
                peek,
            };
        }
        Err(Stop::Wait(ask)) => return Charge::Wait { ask },
    };
    for throttle in limits.throttles.into_iter().flatten() {
        let tat = record.tat(throttle.id);
        if let Ok(admitted) = throttle.bucket.check(tat, now.as_nanos(), 1) {
            record.set_tat(throttle.id, admitted.tat);
        }
    }
    for quota in limits.quotas {
        if limits.shared(quota).is_some() {
            let mut stored = ledger_of(quota, record, now);
            stored.ledger.consume(1, now.as_nanos());
            record.set_ledger(stored);
        } else {
            let stored = current(quota, record, now);
            record.set_quota(StoredQuota {
                used: stored.used.saturating_add(1),
                ..stored
            });
        }
    }
    record.prune(now.as_nanos(), now.as_seconds(), |id| {
        limits.quotas.iter().any(|quota| quota.id == id)
    });
    Charge::Admitted { alone }
}

/// Whether every limit admits a request. Nothing is changed.
fn check(record: &Record, limits: &Limits<'_>, now: Timestamp) -> Result<IsAlone, Stop> {
    check_throttles(record, limits, now).map_err(|refusal| Stop::Refused(refusal, false))?;
    let mut alone = false;
    let mut wait = None;
    for quota in limits.quotas {
        let checked = match limits.shared(quota) {
            Some(shared) => check_shared(quota, shared, record, limits, now),
            None => check_quota(quota, record, limits, now).map(|()| false),
        };
        match checked {
            Ok(decided_alone) => alone |= decided_alone,
            Err(refused @ Stop::Refused(..)) => return Err(refused),
            // Another quota may be spent, and that is known at once.
            Err(Stop::Wait(ask)) => wait = Some(wait.unwrap_or_default() || ask),
        }
    }
    match wait {
        Some(ask) => Err(Stop::Wait(ask)),
        None => Ok(alone),
    }
}

fn check_throttles(record: &Record, limits: &Limits<'_>, now: Timestamp) -> Result<(), Refusal> {
    for throttle in limits.throttles.into_iter().flatten() {
        let tat = record.tat(throttle.id);
        throttle
            .bucket
            .check(tat, now.as_nanos(), 1)
            .map_err(|refused| Refusal {
                limit: throttle.name.clone(),
                exhausted: Exhausted::Throttle,
                retry_after: Duration::from_nanos(refused.retry_after_ns.unwrap_or(u64::MAX)),
            })?;
    }
    Ok(())
}

fn check_quota(
    quota: &Quota,
    record: &Record,
    limits: &Limits<'_>,
    now: Timestamp,
) -> Result<(), Stop> {
    let stored = current(quota, record, now);
    match stored.used < limit_in(quota, limits.since, &stored) {
        true => Ok(()),
        false => Err(Stop::Refused(spent(quota, stored.end, now), false)),
    }
}

/// Asks the ledger of a quota that a store keeps.
fn check_shared(
    quota: &Quota,
    shared: &SharedQuota,
    record: &Record,
    limits: &Limits<'_>,
    now: Timestamp,
) -> Result<IsAlone, Stop> {
    let StoredLedger {
        start, end, ledger, ..
    } = ledger_of(quota, record, now);
    let terms = shared.terms(is_first(limits.since, start, end));
    match (ledger.decide(terms, 1, now.as_nanos()), limits.store) {
        (Decision::Admit, _) => Ok(false),
        (Decision::Refuse { peek }, _) => Err(Stop::Refused(spent(quota, end, now), peek)),
        (Decision::Ask | Decision::Wait, StoreUse::Alone) => {
            let window = Window {
                opens: nanos(start),
                closes: nanos(end),
            };
            match ledger.decides_alone(shared.outage, terms, 1, window, now.as_nanos()) {
                true => Ok(true),
                false if ledger.is_spent(terms, 1) => {
                    Err(Stop::Refused(spent(quota, end, now), false))
                }
                false => Err(Stop::Refused(
                    Refusal {
                        limit: quota.name.clone(),
                        exhausted: Exhausted::Unknown,
                        retry_after: RETRY_STORE_AFTER,
                    },
                    false,
                )),
            }
        }
        (Decision::Ask, _) => Err(Stop::Wait(true)),
        (Decision::Wait, _) => Err(Stop::Wait(false)),
    }
}

/// When a client is asked to come back whose request needed the store, which does not answer.
const RETRY_STORE_AFTER: Duration = Duration::from_secs(2);

fn spent(quota: &Quota, end: i64, now: Timestamp) -> Refusal {
    Refusal {
        limit: quota.name.clone(),
        exhausted: Exhausted::Quota,
        retry_after: until(end, now),
    }
}

/// Makes a bucket that is further from full than empty an empty one, and says whether there was
/// such a bucket. That happens when the clock has stepped back or the bucket has shrunk; it would
/// refuse until the clock has caught up.
fn settle(record: &mut Record, limits: &Limits<'_>, now: Timestamp) -> bool {
    let mut settled = false;
    for throttle in limits.throttles.into_iter().flatten() {
        let tat = record.tat(throttle.id);
        let bounded = throttle.bucket.refund(tat, now.as_nanos(), 0);
        if bounded != tat {
            record.set_tat(throttle.id, bounded);
            settled = true;
        }
    }
    settled
}

/// How the consumer stands with each limit.
pub(crate) fn statuses(record: &Record, limits: &Limits<'_>, now: Timestamp) -> Vec<LimitStatus> {
    let throttles = limits.throttles.into_iter().flatten().map(|throttle| {
        let (tat, now) = (record.tat(throttle.id), now.as_nanos());
        LimitStatus {
            name: throttle.name.clone(),
            allowance: u64::from(throttle.bucket.burst().get()),
            window: throttle.window,
            remaining: u64::from(throttle.bucket.remaining(tat, now)),
            reset: Duration::from_nanos(throttle.bucket.time_until_one_more(tat, now)),
        }
    });
    let quotas = limits.quotas.iter().map(|quota| {
        let (start, end, limit, remaining) = match limits.shared(quota) {
            Some(shared) => {
                let stored = ledger_of(quota, record, now);
                let terms = shared.terms(is_first(limits.since, stored.start, stored.end));
                let remaining = stored.ledger.remaining(terms);
                (stored.start, stored.end, terms.limit(), remaining)
            }
            None => {
                let stored = current(quota, record, now);
                let limit = limit_in(quota, limits.since, &stored);
                let remaining = limit.saturating_sub(stored.used);
                (stored.start, stored.end, limit, remaining)
            }
        };
        LimitStatus {
            name: quota.name.clone(),
            allowance: limit,
            window: Duration::from_secs(end.saturating_sub(start).unsigned_abs()),
            remaining,
            reset: until(end, now),
        }
    });
    throttles.chain(quotas).collect()
}

/// The longest step back of the clock that is taken for a correction of it.
const LONGEST_STEP_BACK: i64 = 3600;

/// The quota's window at `now`, and what is used of it.
///
/// A window that has begun runs to its end, also when the configuration changes its calendar or the
/// clock is set back a little, over its beginning: else each would give a second quota. A window
/// further in the future than that was begun by a clock that was wrong, and is given up.
fn current(quota: &Quota, record: &Record, now: Timestamp) -> StoredQuota {
    let now = now.as_seconds();
    let stored = record
        .quota(quota.id)
        .filter(|stored| runs((stored.start, stored.end), now));
    stored.unwrap_or_else(|| {
        let window = quota.calendar.window(now);
        StoredQuota {
            id: quota.id,
            start: window.start,
            end: window.end,
            used: 0,
        }
    })
}

fn runs((start, end): (i64, i64), now: i64) -> bool {
    let length = end.saturating_sub(start);
    let earliest = start.saturating_sub(length.clamp(0, LONGEST_STEP_BACK));
    (earliest..end).contains(&now)
}

/// The ledger of a quota for its window at `now`, which begins and ends as [`current`] has it.
///
/// What was counted here before there was a store is taken over, to be reported.
pub(crate) fn ledger_of(quota: &Quota, record: &Record, now: Timestamp) -> StoredLedger {
    let of_quota = record
        .ledgers()
        .iter()
        .filter(|stored| stored.id == quota.id);
    let running = of_quota.filter(|stored| runs((stored.start, stored.end), now.as_seconds()));
    if let Some(stored) = running.max_by_key(|stored| stored.start) {
        return *stored;
    }
    let StoredQuota {
        id,
        start,
        end,
        used,
    } = current(quota, record, now);
    let mut ledger = Ledger::new(nanos(start));
    if used > 0 {
        ledger.consume(used, now.as_nanos());
    }
    StoredLedger {
        id,
        start,
        end,
        ledger,
    }
}

/// Whether a window is the one in which the consumer has subscribed.
pub(crate) fn is_first(since: Option<i64>, start: i64, end: i64) -> bool {
    since.is_some_and(|since| (start..end).contains(&since))
}

/// The limit that holds in a window: the consumer's first one is shortened by the offset.
fn limit_in(quota: &Quota, since: Option<i64>, stored: &StoredQuota) -> u64 {
    match is_first(since, stored.start, stored.end) {
        true => quota.limit.saturating_sub(quota.offset),
        false => quota.limit,
    }
}

fn until(end: i64, now: Timestamp) -> Duration {
    Timestamp::from_nanos(nanos(end)).saturating_since(now)
}

fn nanos(seconds: i64) -> u64 {
    Timestamp::from_seconds(u64::try_from(seconds).unwrap_or_default()).as_nanos()
}
