//! The bucket against a slow model that counts tokens in exact fractions, over random schedules in
//! which the clock also stands still and steps, backwards and forwards.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may fail by a panic"
)]

use std::num::{NonZeroU32, NonZeroU64};

use proptest::prelude::*;
use tollgate_gcra::{Bucket, FULL, Refused};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Tokens in fractions of `1 / period`, so that a nanosecond brings `requests` of them.
struct Model {
    requests: i128,
    period: i128,
    burst: i128,
    /// The fractions that there were at `since`: more than full if the bucket has long been full,
    /// because a clock that steps back undoes the waiting first.
    fractions: i128,
    since: i128,
}

impl Model {
    fn full(requests: u32, period: u64, burst: u32) -> Model {
        Model {
            requests: i128::from(requests),
            period: i128::from(period),
            burst: i128::from(burst),
            fractions: i128::from(burst) * i128::from(period),
            since: 0,
        }
    }

    fn advance(&mut self, now: u64) {
        let now = i128::from(now);
        self.fractions = (self.fractions + (now - self.since) * self.requests).max(0);
        self.since = now;
    }

    fn available(&self, now: u64) -> i128 {
        let elapsed = i128::from(now) - self.since;
        (self.fractions + elapsed * self.requests).clamp(0, self.burst * self.period)
    }

    fn remaining(&self, now: u64) -> i128 {
        self.available(now) / self.period
    }

    /// The time until `tokens` are available, in nanoseconds.
    fn time_until(&self, tokens: i128, now: u64) -> i128 {
        let short = (tokens * self.period - self.available(now)).max(0);
        (short + self.requests - 1) / self.requests
    }

    fn time_until_one_more(&self, now: u64) -> i128 {
        match self.remaining(now) {
            full if full == self.burst => 0,
            remaining => self.time_until(remaining + 1, now),
        }
    }

    /// Whether a request is admitted, or else the time until it is, `None` for never.
    fn check(&mut self, now: u64, cost: u32) -> Result<(), Option<i128>> {
        let price = i128::from(cost) * self.period;
        let available = self.available(now);
        if cost == 0 {
            return Ok(());
        }
        if available >= price {
            self.fractions = available - price;
            self.since = i128::from(now);
            return Ok(());
        }
        let wait = self.time_until(i128::from(cost), now);
        self.advance(now);
        Err((i128::from(cost) <= self.burst).then_some(wait))
    }

    fn refund(&mut self, now: u64, cost: u32) {
        self.fractions += i128::from(cost) * self.period;
        self.advance(now);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The clock goes on by so many thousandths of an interval and so many nanoseconds.
    Forward(u64, u64),
    /// The clock steps back likewise.
    Back(u64, u64),
    Check(u32),
    Refund(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (prop_oneof![0..5000_u64, (0..5_u64).prop_map(|whole| whole * 1000)], 0..2_u64)
            .prop_map(|(part, ns)| Step::Forward(part, ns)),
        1 => (0..1_000_000_u64, 0..2_u64).prop_map(|(part, ns)| Step::Forward(part, ns)),
        1 => (0..100_000_u64, 0..2_u64).prop_map(|(part, ns)| Step::Back(part, ns)),
        8 => (0..4_u32).prop_map(Step::Check),
        1 => (0..30_u32).prop_map(Step::Check),
        1 => (0..4_u32).prop_map(Step::Refund),
    ]
}

fn follows_model(
    bucket: &Bucket,
    mut model: Model,
    start: u64,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let interval = bucket.interval_ns().get();
    let distance = |part: u64, ns: u64| {
        u64::try_from(u128::from(interval) * u128::from(part) / 1000).unwrap() + ns
    };
    let (mut tat, mut now) = (FULL, start);
    for step in steps {
        match *step {
            Step::Forward(part, ns) => now += distance(part, ns),
            Step::Back(part, ns) => now = now.saturating_sub(distance(part, ns)),
            Step::Refund(cost) => {
                tat = bucket.refund(tat, now, cost);
                model.refund(now, cost);
            }
            Step::Check(cost) => {
                let expected = model.check(now, cost);
                let (left, next, outcome) = match bucket.check(tat, now, cost) {
                    Ok(admitted) => {
                        tat = admitted.tat;
                        (admitted.remaining, admitted.next_in_ns, Ok(()))
                    }
                    Err(Refused {
                        retry_after_ns,
                        tat: stored,
                        remaining,
                        next_in_ns,
                    }) => {
                        tat = stored;
                        let wait = retry_after_ns.map(i128::from);
                        (remaining, next_in_ns, Err(wait))
                    }
                };
                prop_assert_eq!(outcome, expected);
                prop_assert_eq!(left, bucket.remaining(tat, now));
                prop_assert_eq!(next, bucket.time_until_one_more(tat, now));
            }
        }
        let remaining = i128::from(bucket.remaining(tat, now));
        prop_assert_eq!(remaining, model.remaining(now));
        let next = i128::from(bucket.time_until_one_more(tat, now));
        prop_assert_eq!(next, model.time_until_one_more(now));
        let full = model.available(now) == model.burst * model.period;
        prop_assert_eq!(bucket.is_full(tat, now), full);
    }
    Ok(())
}

fn bucket(requests: u32, period_ns: u64, burst: u32) -> Bucket {
    Bucket::new(
        NonZeroU32::new(requests).unwrap(),
        NonZeroU64::new(period_ns).unwrap(),
        NonZeroU32::new(burst).unwrap(),
    )
    .unwrap()
}

/// From the shortest to far beyond what is used.
fn interval() -> impl Strategy<Value = u64> {
    prop_oneof![
        1000..1020_u64,
        1000..10_000_000_u64,
        1000..100_000_000_000_u64
    ]
}

/// Clocks that begin near their origin, and the wall clock.
fn start() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..1_000_000_u64,
        1_600_000_000_000_000_000..1_900_000_000_000_000_000_u64
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_rate_of_whole_nanoseconds_is_kept_exactly(
        requests in 1..1000_u32,
        interval in interval(),
        burst in 1..20_u32,
        start in start(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let period = interval * u64::from(requests);
        let bucket = bucket(requests, period, burst);
        prop_assert_eq!(bucket.interval_ns().get(), interval);
        let model = Model::full(requests, period, burst);
        follows_model(&bucket, model, start, &steps)?;
    }

    #[test]
    fn any_other_rate_is_kept_exactly_at_its_rounded_interval(
        requests in 1..1000_u32,
        interval in interval(),
        rest in 0..1000_u64,
        burst in 1..20_u32,
        start in start(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let period = interval * u64::from(requests) + rest % u64::from(requests);
        let bucket = bucket(requests, period, burst);
        let rounded = bucket.interval_ns().get();
        prop_assert!(rounded == interval || rounded == interval + 1);
        let model = Model::full(1, rounded, burst);
        follows_model(&bucket, model, start, &steps)?;
    }
}
