//! What a limit promises, whatever the requests: the bound on any window of time, that waiting as
//! told suffices, that a refund is neutral, and that no integer breaks it.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may fail by a panic"
)]

use std::num::{NonZeroU32, NonZeroU64};

use proptest::prelude::*;
use tollgate_gcra::{Bucket, FULL, MAX_CAPACITY_NS, MAX_PERIOD_NS, Refused};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NOW: u64 = 1_700_000_000_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Limit {
    requests: u32,
    period_ns: u64,
    burst: u32,
    bucket: Bucket,
}

/// Limits of any size that can be built.
fn limit() -> impl Strategy<Value = Limit> {
    let requests = prop_oneof![1..20_u32, 1..1_000_000_u32];
    let period_ns = prop_oneof![
        1000..10_000_000_u64,
        1000..100_000_000_000_u64,
        1000..=MAX_PERIOD_NS
    ];
    let burst = prop_oneof![1..5_u32, 1..100_u32, 1..=u32::MAX];
    (requests, period_ns, burst).prop_filter_map(
        "the limit can be kept",
        |(requests, period_ns, burst)| {
            let bucket = Bucket::new(
                NonZeroU32::new(requests)?,
                NonZeroU64::new(period_ns)?,
                NonZeroU32::new(burst)?,
            )
            .ok()?;
            Some(Limit {
                requests,
                period_ns,
                burst,
                bucket,
            })
        },
    )
}

/// An instant around a TAT and its limit as well as far from them.
fn instant() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        NOW..NOW + 1_000_000_000_000,
        Just(0),
        Just(u64::MAX)
    ]
}

/// Between two arrivals, in thousandths of an interval.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1000), 0..3000_u64, 0..50_000_u64]
}

/// A part of the whole.
fn share(whole: u64, thousandths: u64) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(thousandths) / 1000).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_window_admits_more_than_burst_and_rate(
        limit in limit(),
        arrivals in prop::collection::vec((pause(), 1..200_u32), 1..100),
    ) {
        let (mut tat, mut now) = (FULL, NOW);
        let mut admitted: Vec<(u64, u128)> = Vec::new();
        for (pause, cost) in arrivals {
            now = MAX_CAPACITY_NS.min(now + share(limit.bucket.interval_ns().get(), pause));
            if let Ok(charge) = limit.bucket.check(tat, now, cost) {
                tat = charge.tat;
                admitted.push((now, u128::from(cost)));
            }
        }
        for (first, (opens, _)) in admitted.iter().enumerate() {
            let mut sum = 0;
            for (closes, cost) in &admitted[first..] {
                sum += cost;
                // sum <= burst + requests * t / period, without a division.
                let allowed = u128::from(limit.burst) * u128::from(limit.period_ns)
                    + u128::from(limit.requests) * u128::from(closes - opens);
                prop_assert!(sum * u128::from(limit.period_ns) <= allowed);
            }
        }
    }

    #[test]
    fn whoever_waits_as_told_gets_the_rate_but_for_a_nanosecond_an_interval(limit in limit()) {
        let burst = limit.burst.min(50);
        let burst = NonZeroU32::new(burst).unwrap();
        let bucket = Bucket::new(
            NonZeroU32::new(limit.requests).unwrap(),
            NonZeroU64::new(limit.period_ns).unwrap(),
            burst,
        )
        .unwrap();
        let (mut tat, mut now) = (FULL, NOW);
        for _ in 0..burst.get() + 100 {
            if let Err(refused) = bucket.check(tat, now, 1) {
                now += refused.retry_after_ns.unwrap();
            }
            tat = bucket.check(tat, now, 1).unwrap().tat;
        }
        let took = u128::from(now - NOW) * u128::from(limit.requests);
        let exact = 100 * u128::from(limit.period_ns);
        prop_assert!(took >= exact);
        prop_assert!(took < exact + 100 * u128::from(limit.requests));
    }

    #[test]
    fn the_wait_told_is_the_shortest_that_suffices(
        limit in limit(),
        tat in instant(),
        now in 0..=MAX_CAPACITY_NS,
        cost in 1..=u32::MAX,
    ) {
        let cost = (cost - 1) % limit.burst + 1;
        if let Err(refused) = limit.bucket.check(tat, now, cost) {
            let wait = refused.retry_after_ns.unwrap();
            prop_assert!(wait > 0);
            prop_assume!(now + wait <= MAX_CAPACITY_NS);
            prop_assert!(limit.bucket.check(refused.tat, now + wait, cost).is_ok());
            prop_assert!(limit.bucket.check(refused.tat, now + wait - 1, cost).is_err());
        }
    }

    #[test]
    fn a_refused_request_changes_nothing_that_can_be_seen(
        limit in limit(),
        tat in instant(),
        now in instant(),
        later in any::<u32>(),
        cost in 1..=u32::MAX,
    ) {
        if let Err(refused) = limit.bucket.check(tat, now, cost) {
            prop_assert!(refused.tat <= tat);
            prop_assert_eq!(limit.bucket.check(refused.tat, now, cost), Err(refused));
            let left = |tat, now| limit.bucket.remaining(tat, now);
            prop_assert_eq!(left(refused.tat, now), left(tat, now));
            let later = now.saturating_add(u64::from(later));
            prop_assert!(left(refused.tat, later) >= left(tat, later));
        }
    }

    #[test]
    fn a_refund_is_neutral(
        limit in limit(),
        missing in 0..1200_u64,
        cost in 1..=u32::MAX,
        refunded_at in -1500_i64..1500,
        seen_at in -1500_i64..1500,
    ) {
        // Times as thousandths of what the bucket holds.
        let whole = limit.bucket.interval_ns().get() * u64::from(limit.burst);
        prop_assume!(whole < NOW / 2);
        let at = |thousandths: i64| {
            let distance = share(whole, thousandths.unsigned_abs());
            if thousandths < 0 { NOW - distance } else { NOW + distance }
        };
        let before = NOW + share(whole, missing);
        let cost = (cost - 1) % limit.burst + 1;
        if let Ok(charge) = limit.bucket.check(before, NOW, cost) {
            let after = limit.bucket.refund(charge.tat, at(refunded_at), cost);
            let seen = at(seen_at.max(refunded_at));
            let level = |tat| {
                let bucket = limit.bucket;
                (bucket.remaining(tat, seen), bucket.time_until_one_more(tat, seen))
            };
            // A clock that stepped back does to the bucket what it does without the charge.
            let kept = limit.bucket.refund(before, at(refunded_at), 0);
            prop_assert_eq!(level(after), level(kept));
        }
    }

    #[test]
    fn no_integer_breaks_it(
        limit in limit(),
        tat in instant(),
        now in instant(),
        cost in prop_oneof![0..5_u32, any::<u32>()],
    ) {
        let bucket = limit.bucket;
        let full = bucket.interval_ns().get();
        match bucket.check(tat, now, cost) {
            Ok(admitted) => {
                prop_assert!(cost <= limit.burst);
                prop_assert!(admitted.remaining <= limit.burst - cost);
                prop_assert!(admitted.next_in_ns <= full);
                prop_assert!(cost == 0 || admitted.tat >= tat.min(now));
            }
            Err(Refused { retry_after_ns, remaining, next_in_ns, .. }) => {
                prop_assert_eq!(retry_after_ns.is_none(), cost > limit.burst);
                prop_assert!(remaining < cost);
                prop_assert!(next_in_ns <= full);
            }
        }
        let refunded = bucket.refund(tat, now, cost);
        prop_assert!(bucket.remaining(refunded, now) <= limit.burst);
        prop_assert!(bucket.remaining(refunded, now) >= bucket.remaining(tat, now));
    }

    #[test]
    fn a_clock_at_any_reading_admits_no_more_than_the_burst_at_once(
        limit in limit(),
        now in instant(),
    ) {
        let full = limit.bucket.check(FULL, now, limit.burst);
        if let Ok(charge) = full {
            prop_assert!(limit.bucket.check(charge.tat, now, 1).is_err());
        }
    }
}
