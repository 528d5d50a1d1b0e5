//! Charging a request to a consumer's buckets and quotas: to all or to none.

use std::time::Duration;

use tollgate_calendar::Window;
use tollgate_core::limit_headers::{LimitName, LimitStatus};
use tollgate_core::time::Timestamp;

use crate::plan::{Quota, Throttle};
use crate::record::{Record, StoredQuota};

/// The limits that a request meets, most specific first.
pub(crate) struct Limits<'a> {
    /// The bucket of its method or path, and the plan's.
    pub(crate) throttles: [Option<&'a Throttle>; 2],
    pub(crate) quotas: &'a [Quota],
    /// When the consumer subscribed, in Unix seconds.
    pub(crate) since: Option<i64>,
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
}

/// What came of a charge.
#[derive(Debug, PartialEq)]
pub(crate) enum Charge {
    /// Every limit was charged; the record has changed.
    Admitted,
    /// No limit was charged.
    Refused {
        refusal: Refusal,
        /// Whether the record has changed all the same and must be stored.
        settled: bool,
    },
}

/// Charges one request at `now` to all limits, or finds the first that does not admit it; then none
/// is charged.
pub(crate) fn charge(record: &mut Record, limits: &Limits<'_>, now: Timestamp) -> Charge {
    if let Err(refusal) = check(record, limits, now) {
        return Charge::Refused {
            refusal,
            settled: settle(record, limits, now),
        };
    }
    for throttle in limits.throttles.into_iter().flatten() {
        let tat = record.tat(throttle.id);
        if let Ok(admitted) = throttle.bucket.check(tat, now.as_nanos(), 1) {
            record.set_tat(throttle.id, admitted.tat);
        }
    }
    for quota in limits.quotas {
        let stored = current(quota, record, now);
        record.set_quota(StoredQuota {
            used: stored.used.saturating_add(1),
            ..stored
        });
    }
    record.prune(now.as_nanos(), now.as_seconds(), |id| {
        limits.quotas.iter().any(|quota| quota.id == id)
    });
    Charge::Admitted
}

/// Whether every limit admits a request. Nothing is changed.
fn check(record: &Record, limits: &Limits<'_>, now: Timestamp) -> Result<(), Refusal> {
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
    for quota in limits.quotas {
        let stored = current(quota, record, now);
        if stored.used >= limit_in(quota, limits.since, &stored) {
            return Err(Refusal {
                limit: quota.name.clone(),
                exhausted: Exhausted::Quota,
                retry_after: until(stored.end, now),
            });
        }
    }
    Ok(())
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
        let stored = current(quota, record, now);
        let limit = limit_in(quota, limits.since, &stored);
        let window = Window {
            start: stored.start,
            end: stored.end,
        };
        LimitStatus {
            name: quota.name.clone(),
            allowance: limit,
            window: Duration::from_secs(window.length_seconds()),
            remaining: limit.saturating_sub(stored.used),
            reset: until(stored.end, now),
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
    let stored = record.quota(quota.id).filter(|stored| {
        let length = stored.end.saturating_sub(stored.start);
        let earliest = stored
            .start
            .saturating_sub(length.clamp(0, LONGEST_STEP_BACK));
        (earliest..stored.end).contains(&now)
    });
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

/// The limit that holds in a window: the consumer's first one is shortened by the offset.
fn limit_in(quota: &Quota, since: Option<i64>, stored: &StoredQuota) -> u64 {
    let first = since.is_some_and(|since| (stored.start..stored.end).contains(&since));
    match first {
        true => quota.limit.saturating_sub(quota.offset),
        false => quota.limit,
    }
}

fn until(end: i64, now: Timestamp) -> Duration {
    let end = Timestamp::from_seconds(u64::try_from(end).unwrap_or_default());
    end.saturating_since(now)
}
