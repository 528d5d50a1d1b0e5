//! Exact token buckets, each one integer: the generic cell rate algorithm (ITU-T I.371, annex A).
//!
//! A bucket that refills continuously is told completely by the moment at which it will be full
//! again. That moment is its *theoretical arrival time* (TAT), a `u64` of nanoseconds on the clock
//! that the caller reads `now` from, such as the time since the Unix epoch. With the emission
//! interval `T`, the time in which one request comes back, a request of cost `n` moves the TAT `n·T`
//! further, and is admitted if the bucket is then at most `burst·T` away from full.
//!
//! A TAT that has passed is a full bucket, so [`FULL`], the bucket nobody has used, is every bucket
//! long enough after its last request: forgetting such a bucket loses nothing.
//!
//! All is pure: the caller keeps the TAT, and passes the time. Nothing here fails or panics,
//! whatever the integers.
//!
//! ```
//! use std::num::{NonZeroU32, NonZeroU64};
//! use tollgate_gcra::{Bucket, FULL};
//!
//! let second = NonZeroU64::new(1_000_000_000).unwrap();
//! let two = NonZeroU32::new(2).unwrap();
//! let bucket = Bucket::new(two, second, two).unwrap();
//!
//! let now = 1_700_000_000_000_000_000;
//! let first = bucket.check(FULL, now, 1).unwrap();
//! let second = bucket.check(first.tat, now, 1).unwrap();
//! let refused = bucket.check(second.tat, now, 1).unwrap_err();
//! assert_eq!(refused.retry_after_ns, Some(500_000_000));
//! ```

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

/// The TAT of a bucket that nobody has used: the same as having none stored.
pub const FULL: u64 = 0;

/// The longest period of a rate: 400 days, in nanoseconds.
pub const MAX_PERIOD_NS: u64 = 400 * 24 * 60 * 60 * NS_PER_SECOND;

/// The highest rate, in requests per second.
///
/// The emission interval is rounded up to whole nanoseconds, which costs up to 1 ns of every
/// interval: 0.1 % at this rate, and more above it.
pub const MAX_REQUESTS_PER_SECOND: u64 = 1_000_000;

/// The longest time that a bucket may take from empty to full: 2^63 − 1 ns, some 292 years.
///
/// With it a TAT fits its integer on any clock that reads less than 2^63 ns, which is the wall
/// clock until the year 2262.
pub const MAX_CAPACITY_NS: u64 = u64::MAX >> 1;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// A limit: how fast a bucket refills and how much it holds.
///
/// In any time `t` it admits at most `burst + requests · t / period` requests, never one more. The
/// emission interval is `period / requests` rounded up to whole nanoseconds, so that the rate kept
/// is at or below the one asked for, by less than 1 ns an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The time in which one request comes back, in nanoseconds.
    interval: NonZeroU64,
    /// What a full bucket admits at once.
    burst: NonZeroU32,
    /// The time from empty to full, in nanoseconds: `interval · burst`.
    capacity: u64,
}

/// A request that the bucket admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The bucket with the request charged, to be stored.
    pub tat: u64,
    /// How many more requests the bucket admits now.
    pub remaining: u32,
    /// When there will be one more than `remaining`, as [`Bucket::time_until_one_more`] tells.
    pub next_in_ns: u64,
}

/// A request that the bucket does not admit. It is charged nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How long until the bucket admits this request if it gets no other, in nanoseconds. `None` if
    /// it never will, because the request costs more than a full bucket holds.
    pub retry_after_ns: Option<u64>,
    /// The bucket. It differs from the one given only where that one was further from full than
    /// empty, which happens when the clock stepped back or the limit shrank. It must be stored then:
    /// the bucket would otherwise stay empty until the clock has caught up.
    pub tat: u64,
    /// How many requests of cost 1 the bucket admits now.
    pub remaining: u32,
    /// When there will be one more than `remaining`, as [`Bucket::time_until_one_more`] tells.
    pub next_in_ns: u64,
}

impl Bucket {
    /// A bucket that refills at `requests` per `period_ns` nanoseconds, and holds `burst`.
    pub fn new(
        requests: NonZeroU32,
        period_ns: NonZeroU64,
        burst: NonZeroU32,
    ) -> Result<Bucket, InvalidBucket> {
        if period_ns.get() > MAX_PERIOD_NS {
            return Err(InvalidBucket::PeriodTooLong { period_ns });
        }
        let shortest_interval = NS_PER_SECOND / MAX_REQUESTS_PER_SECOND;
        if u64::from(requests.get()).saturating_mul(shortest_interval) > period_ns.get() {
            return Err(InvalidBucket::RateTooHigh {
                requests,
                period_ns,
            });
        }
        let interval = period_ns.div_ceil(NonZeroU64::from(requests));
        let capacity = interval
            .get()
            .checked_mul(u64::from(burst.get()))
            .filter(|capacity| *capacity <= MAX_CAPACITY_NS)
            .ok_or(InvalidBucket::BurstTooLarge { burst, interval })?;
        Ok(Bucket {
            interval,
            burst,
            capacity,
        })
    }

    /// The time in which one request comes back, in nanoseconds.
    pub fn interval_ns(&self) -> NonZeroU64 {
        self.interval
    }

    /// What a full bucket admits at once.
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// Charges a request of `cost` to the bucket `tat`, if the bucket admits it.
    ///
    /// A cost of 0 is a peek: it is always admitted and leaves the TAT as it is. A `tat` further
    /// ahead than an empty bucket's is taken for an empty one, so a clock that steps back, or a
    /// limit that shrinks, leaves a bucket empty at worst. A clock that steps forward fills it at
    /// most.
    pub fn check(&self, tat: u64, now: u64, cost: u32) -> Result<Admitted, Refused> {
        let now = self.readable(now);
        let missing = self.missing(tat, now);
        if cost == 0 {
            return Ok(self.admitted(tat, missing));
        }
        if cost > self.burst.get() {
            return Err(self.refused(tat, now, None));
        }
        let charged = missing.saturating_add(self.price(cost));
        match charged.checked_sub(self.capacity) {
            None | Some(0) => Ok(self.admitted(now.saturating_add(charged), charged)),
            Some(wait) => Err(self.refused(tat, now, Some(wait))),
        }
    }

    /// How many requests of cost 1 the bucket admits at once.
    pub fn remaining(&self, tat: u64, now: u64) -> u32 {
        self.remaining_at(self.missing(tat, self.readable(now)))
    }

    /// How long until the bucket admits one more request than now, in nanoseconds: until then
    /// [`remaining`](Self::remaining) is all there is, what the parameter `t` of the RateLimit field
    /// reports. 0 only if the bucket is full, since then there will never be one more.
    pub fn time_until_one_more(&self, tat: u64, now: u64) -> u64 {
        self.next_in(self.missing(tat, self.readable(now)))
    }

    /// Gives back what a request of `cost` was charged.
    ///
    /// The bucket is then the one before the charge if no other request came between, and it never
    /// holds more than full. Refund at once all the same: after the charge has come back by itself,
    /// and others were charged, a refund is a gift.
    #[must_use = "the refunded bucket must be stored"]
    pub fn refund(&self, tat: u64, now: u64, cost: u32) -> u64 {
        // The charge is taken off before the bounds are looked at: a clock that stepped back since
        // must not turn the refund into more than was charged.
        self.at_worst_empty(tat.saturating_sub(self.price(cost)), self.readable(now))
    }

    /// Whether the bucket is full. It equals an absent one then, and need not be kept.
    pub fn is_full(&self, tat: u64, now: u64) -> bool {
        tat <= self.readable(now)
    }

    /// The clock stands still where a TAT would no longer fit, so that a bucket never refills there
    /// instead of always.
    fn readable(&self, now: u64) -> u64 {
        now.min(u64::MAX.saturating_sub(self.capacity))
    }

    /// How far the bucket is from full, in nanoseconds.
    fn missing(&self, tat: u64, now: u64) -> u64 {
        tat.saturating_sub(now).min(self.capacity)
    }

    fn at_worst_empty(&self, tat: u64, now: u64) -> u64 {
        tat.min(now.saturating_add(self.capacity))
    }

    fn price(&self, cost: u32) -> u64 {
        self.interval.get().saturating_mul(u64::from(cost))
    }

    fn remaining_at(&self, missing: u64) -> u32 {
        let whole = self.capacity.saturating_sub(missing) / self.interval;
        // At most `burst`, since the capacity is `burst` intervals.
        u32::try_from(whole).unwrap_or(self.burst.get())
    }

    fn next_in(&self, missing: u64) -> u64 {
        // The capacity is a whole number of intervals: what of `missing` makes no whole interval
        // is the rest of the one under way.
        match missing % self.interval {
            0 => missing.min(self.interval.get()),
            rest => rest,
        }
    }

    fn admitted(&self, tat: u64, missing: u64) -> Admitted {
        Admitted {
            tat,
            remaining: self.remaining_at(missing),
            next_in_ns: self.next_in(missing),
        }
    }

    fn refused(&self, tat: u64, now: u64, retry_after_ns: Option<u64>) -> Refused {
        let missing = self.missing(tat, now);
        Refused {
            retry_after_ns,
            tat: self.at_worst_empty(tat, now),
            remaining: self.remaining_at(missing),
            next_in_ns: self.next_in(missing),
        }
    }
}

/// A limit that cannot be kept exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidBucket {
    /// The period is longer than [`MAX_PERIOD_NS`].
    PeriodTooLong {
        /// The period asked for.
        period_ns: NonZeroU64,
    },
    /// The rate is above [`MAX_REQUESTS_PER_SECOND`].
    RateTooHigh {
        /// The requests asked for in each period.
        requests: NonZeroU32,
        /// The period asked for.
        period_ns: NonZeroU64,
    },
    /// The bucket takes longer than [`MAX_CAPACITY_NS`] from empty to full.
    BurstTooLarge {
        /// The burst asked for.
        burst: NonZeroU32,
        /// The time in which one request comes back, in nanoseconds.
        interval: NonZeroU64,
    },
}

impl fmt::Display for InvalidBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidBucket::PeriodTooLong { period_ns } => write!(
                f,
                "a period of {} is too long, expected at most 400 days",
                Seconds(*period_ns)
            ),
            InvalidBucket::RateTooHigh {
                requests,
                period_ns,
            } => write!(
                f,
                "a rate of {requests} per {} is too high, expected at most \
                 {MAX_REQUESTS_PER_SECOND} per 1 s",
                Seconds(*period_ns)
            ),
            InvalidBucket::BurstTooLarge { burst, interval } => write!(
                f,
                "a burst of {burst}, of which one comes back every {}, is too large, expected at \
                 most {}",
                Seconds(*interval),
                MAX_CAPACITY_NS / *interval
            ),
        }
    }
}

impl std::error::Error for InvalidBucket {}

/// Nanoseconds, shown as seconds: `0.001 s`.
struct Seconds(NonZeroU64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0.get() / NS_PER_SECOND, self.0.get() % NS_PER_SECOND);
        match format!("{rest:09}").trim_end_matches('0') {
            "" => write!(f, "{whole} s"),
            fraction => write!(f, "{whole}.{fraction} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const NOW: u64 = 1_700_000_000 * NS_PER_SECOND;

    /// Ten a second: one every 100 ms.
    const TEN_A_SECOND: u64 = 100_000_000;

    fn try_bucket(requests: u32, period_ns: u64, burst: u32) -> Result<Bucket, InvalidBucket> {
        Bucket::new(
            NonZeroU32::new(requests).unwrap(),
            NonZeroU64::new(period_ns).unwrap(),
            NonZeroU32::new(burst).unwrap(),
        )
    }

    fn bucket(requests: u32, period_ns: u64, burst: u32) -> Bucket {
        try_bucket(requests, period_ns, burst).unwrap()
    }

    #[test]
    fn a_bucket_starts_full_and_comes_back_one_by_one() {
        let bucket = bucket(10, NS_PER_SECOND, 3);
        let mut tat = FULL;
        for left in [2, 1, 0] {
            let admitted = bucket.check(tat, NOW, 1).unwrap();
            assert_eq!(admitted.remaining, left);
            assert_eq!(admitted.next_in_ns, TEN_A_SECOND);
            tat = admitted.tat;
        }
        let refused = bucket.check(tat, NOW + 30_000_000, 1).unwrap_err();
        let expected = Refused {
            retry_after_ns: Some(70_000_000),
            tat,
            remaining: 0,
            next_in_ns: 70_000_000,
        };
        assert_eq!(refused, expected);

        assert!(bucket.check(tat, NOW + TEN_A_SECOND - 1, 1).is_err());
        assert!(bucket.check(tat, NOW + TEN_A_SECOND, 1).is_ok());
        assert!(!bucket.is_full(tat, NOW + 3 * TEN_A_SECOND - 1));
        assert!(bucket.is_full(tat, NOW + 3 * TEN_A_SECOND));
    }

    #[test]
    fn a_burst_of_one_smooths() {
        let bucket = bucket(10, NS_PER_SECOND, 1);
        let tat = bucket.check(FULL, NOW, 1).unwrap().tat;
        assert!(bucket.check(tat, NOW, 1).is_err());
        assert!(bucket.check(tat, NOW + TEN_A_SECOND, 1).is_ok());
    }

    #[test]
    fn a_cost_above_the_burst_is_never_admitted() {
        let bucket = bucket(10, NS_PER_SECOND, 3);
        assert!(bucket.check(FULL, NOW, 3).is_ok());
        for cost in [4, u32::MAX] {
            let refused = bucket.check(FULL, NOW, cost).unwrap_err();
            let expected = Refused {
                retry_after_ns: None,
                tat: FULL,
                remaining: 3,
                next_in_ns: 0,
            };
            assert_eq!(refused, expected);
        }
    }

    #[test]
    fn a_cost_of_zero_is_a_peek() {
        let bucket = bucket(10, NS_PER_SECOND, 3);
        for (tat, remaining, next_in_ns) in [
            (FULL, 3, 0),
            (NOW, 3, 0),
            (NOW + 1, 2, 1),
            (NOW + 3 * TEN_A_SECOND, 0, TEN_A_SECOND),
            (u64::MAX, 0, TEN_A_SECOND),
        ] {
            let expected = Admitted {
                tat,
                remaining,
                next_in_ns,
            };
            assert_eq!(bucket.check(tat, NOW, 0), Ok(expected));
            assert_eq!(bucket.remaining(tat, NOW), remaining);
            assert_eq!(bucket.time_until_one_more(tat, NOW), next_in_ns);
        }
    }

    #[test]
    fn a_clock_that_steps_back_empties_the_bucket_at_worst() {
        let bucket = bucket(10, NS_PER_SECOND, 3);
        let tat = bucket.check(FULL, NOW, 1).unwrap().tat;
        let earlier = NOW - 3600 * NS_PER_SECOND;
        let refused = bucket.check(tat, earlier, 1).unwrap_err();
        assert_eq!(refused.retry_after_ns, Some(TEN_A_SECOND));
        assert_eq!(refused.tat, earlier + 3 * TEN_A_SECOND);
        assert!(bucket.check(refused.tat, earlier + TEN_A_SECOND, 1).is_ok());
    }

    #[test]
    fn a_limit_that_shrinks_leaves_the_bucket_empty_at_worst() {
        let (large, small) = (bucket(10, NS_PER_SECOND, 9), bucket(10, NS_PER_SECOND, 2));
        let tat = large.check(FULL, NOW, 7).unwrap().tat;
        let refused = small.check(tat, NOW, 1).unwrap_err();
        assert_eq!(refused.retry_after_ns, Some(TEN_A_SECOND));
        assert_eq!(refused.tat, NOW + 2 * TEN_A_SECOND);
    }

    #[test]
    fn a_clock_that_steps_forward_fills_the_bucket_at_most() {
        let bucket = bucket(10, NS_PER_SECOND, 3);
        let tat = bucket.check(FULL, NOW, 3).unwrap().tat;
        assert_eq!(bucket.remaining(tat, u64::MAX >> 1), 3);
        assert!(bucket.check(tat, u64::MAX >> 1, 4).is_err());
    }

    #[test]
    fn a_refund_undoes_a_charge() {
        let bucket = bucket(10, NS_PER_SECOND, 3);
        let one = bucket.check(FULL, NOW, 1).unwrap().tat;
        let three = bucket.check(one, NOW, 2).unwrap().tat;
        assert_eq!(bucket.refund(three, NOW, 2), one);
        assert!(bucket.is_full(bucket.refund(one, NOW, 1), NOW));
        assert_eq!(bucket.remaining(bucket.refund(one, NOW, u32::MAX), NOW), 3);
        assert_eq!(bucket.refund(FULL, NOW, 1), FULL);
    }

    #[test]
    fn the_interval_is_rounded_up() {
        for (requests, period_ns, interval) in [
            (3, NS_PER_SECOND, 333_333_334),
            (1, 1000, 1000),
            (1_000_000, NS_PER_SECOND, 1000),
            (999_999, NS_PER_SECOND, 1001),
            (1, MAX_PERIOD_NS, MAX_PERIOD_NS),
        ] {
            let bucket = bucket(requests, period_ns, 1);
            assert_eq!(bucket.interval_ns().get(), interval);
        }
    }

    #[test]
    fn a_limit_that_cannot_be_kept_is_refused_with_its_bound() {
        for (requests, period_ns, burst, expected) in [
            (
                1,
                MAX_PERIOD_NS + 1_000_000,
                1,
                "a period of 34560000.001 s is too long, expected at most 400 days",
            ),
            (
                1_000_001,
                NS_PER_SECOND,
                1,
                "a rate of 1000001 per 1 s is too high, expected at most 1000000 per 1 s",
            ),
            (
                1,
                999,
                1,
                "a rate of 1 per 0.000000999 s is too high, expected at most 1000000 per 1 s",
            ),
            (
                1,
                MAX_PERIOD_NS,
                267,
                "a burst of 267, of which one comes back every 34560000 s, is too large, expected \
                 at most 266",
            ),
        ] {
            let error = try_bucket(requests, period_ns, burst).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert!(try_bucket(1, MAX_PERIOD_NS, 266).is_ok());
        assert!(try_bucket(1, MAX_PERIOD_NS, u32::MAX).is_err());
        assert!(try_bucket(u32::MAX, NS_PER_SECOND, 1).is_err());
        assert!(try_bucket(1, u64::MAX, u32::MAX).is_err());
    }
}
