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

/// Charges one request at `now` to all limits, or says which is the first that does not admit it;
/// then none is charged. Gives the record that is to be kept in either case.
pub(crate) fn charge(
    before: &Record,
    limits: &Limits<'_>,
    now: Timestamp,
) -> (Record, Option<Refusal>) {
    match try_charge(before, limits, now) {
        Ok(after) => (after, None),
        Err(refusal) => (settled(before, limits, now), Some(refusal)),
    }
}

fn try_charge(before: &Record, limits: &Limits<'_>, now: Timestamp) -> Result<Record, Refusal> {
    let mut after = before.clone();
    for throttle in limits.throttles.into_iter().flatten() {
        let tat = before.tat(throttle.id);
        let admitted = throttle
            .bucket
            .check(tat, now.as_nanos(), 1)
            .map_err(|refused| Refusal {
                limit: throttle.name.clone(),
                exhausted: Exhausted::Throttle,
                retry_after: Duration::from_nanos(refused.retry_after_ns.unwrap_or(u64::MAX)),
            })?;
        after.set_tat(throttle.id, admitted.tat);
    }
    for quota in limits.quotas {
        let stored = current(quota, before, now);
        if stored.used >= limit_in(quota, limits.since, &stored) {
            return Err(Refusal {
                limit: quota.name.clone(),
                exhausted: Exhausted::Quota,
                retry_after: until(stored.end, now),
            });
        }
        after.set_quota(StoredQuota {
            used: stored.used.saturating_add(1),
            ..stored
        });
    }
    after.prune(now.as_nanos(), now.as_seconds(), |id| {
        limits.quotas.iter().any(|quota| quota.id == id)
    });
    Ok(after)
}

/// The record as it stands after a refusal. A bucket further from full than empty, because the
/// clock has stepped back or the bucket has shrunk, is made empty: else it would refuse until the
/// clock has caught up.
fn settled(before: &Record, limits: &Limits<'_>, now: Timestamp) -> Record {
    let mut record = before.clone();
    for throttle in limits.throttles.into_iter().flatten() {
        let tat = before.tat(throttle.id);
        let bounded = throttle.bucket.refund(tat, now.as_nanos(), 0);
        if bounded != tat {
            record.set_tat(throttle.id, bounded);
        }
    }
    record
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
