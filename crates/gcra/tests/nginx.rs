//! The bucket decides like NGINX's `limit_req` with `nodelay`, so that limits can be carried over:
//! `rate=R burst=N nodelay` is the rate R and a burst of N + 1, since `burst` there counts the
//! requests beyond the first.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may fail by a panic"
)]

use std::num::{NonZeroU32, NonZeroU64};

use proptest::prelude::*;
use tollgate_gcra::{Bucket, FULL};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

const NS_PER_MS: u64 = 1_000_000;

/// The arithmetic of `limit_req`: the excess is counted in thousandths of a request, the time in
/// milliseconds, and the first request of a client has no excess.
struct LimitReq {
    /// In thousandths of a request a second.
    rate: i64,
    /// In thousandths of a request.
    burst: i64,
    state: Option<State>,
}

struct State {
    excess: i64,
    last_ms: i64,
}

impl LimitReq {
    fn new(requests: u32, seconds: u32, burst: u32) -> LimitReq {
        LimitReq {
            rate: i64::from(requests) * 1000 / i64::from(seconds),
            burst: i64::from(burst) * 1000,
            state: None,
        }
    }

    fn admits(&mut self, now_ms: u64) -> bool {
        let now_ms = i64::try_from(now_ms).unwrap();
        let excess = self.state.as_ref().map_or(0, |state| {
            let drained = self.rate * (now_ms - state.last_ms).abs() / 1000;
            (state.excess - drained + 1000).max(0)
        });
        let admitted = excess <= self.burst;
        if admitted {
            self.state = Some(State {
                excess,
                last_ms: now_ms,
            });
        }
        admitted
    }
}

/// A client's bucket here.
struct Client {
    bucket: Bucket,
    tat: u64,
}

impl Client {
    fn new(requests: u32, seconds: u32, burst: u32) -> Client {
        let bucket = Bucket::new(
            NonZeroU32::new(requests).unwrap(),
            NonZeroU64::new(u64::from(seconds) * 1000 * NS_PER_MS).unwrap(),
            NonZeroU32::new(burst).unwrap(),
        );
        Client {
            bucket: bucket.unwrap(),
            tat: FULL,
        }
    }

    fn admits(&mut self, now_ms: u64) -> bool {
        match self.bucket.check(self.tat, now_ms * NS_PER_MS, 1) {
            Ok(admitted) => {
                self.tat = admitted.tat;
                true
            }
            Err(_) => false,
        }
    }
}

#[test]
fn a_burst_of_five_admits_six_at_once() {
    let mut nginx = LimitReq::new(10, 1, 5);
    let mut client = Client::new(10, 1, 6);
    for admitted in [true, true, true, true, true, true, false, false] {
        assert_eq!(nginx.admits(1000), admitted);
        assert_eq!(client.admits(1000), admitted);
    }
}

#[test]
fn without_a_burst_a_request_too_early_is_refused() {
    let mut nginx = LimitReq::new(10, 1, 0);
    let mut client = Client::new(10, 1, 1);
    for (now_ms, admitted) in [
        (0, true),
        (0, false),
        (99, false),
        (100, true),
        (199, false),
    ] {
        assert_eq!(nginx.admits(now_ms), admitted);
        assert_eq!(client.admits(now_ms), admitted);
    }
}

/// Rates a second whose interval is a whole number of nanoseconds, so that both are exact.
fn exact_rate() -> impl Strategy<Value = u32> {
    let exact: Vec<u32> = (1..=100_000)
        .filter(|rate| 1_000_000_000 % rate == 0)
        .collect();
    prop::sample::select(exact)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_decision_is_the_same(
        rate in exact_rate(),
        burst in 0..30_u32,
        start_ms in 1_600_000_000_000..1_900_000_000_000_u64,
        pauses_ms in prop::collection::vec(
            prop_oneof![3 => Just(0), 3 => 0..3_u64, 2 => 0..300_u64, 1 => 0..3000_u64],
            1..200,
        ),
    ) {
        let mut nginx = LimitReq::new(rate, 1, burst);
        let mut client = Client::new(rate, 1, burst + 1);
        let mut now_ms = start_ms;
        for pause_ms in pauses_ms {
            now_ms += pause_ms;
            prop_assert_eq!(client.admits(now_ms), nginx.admits(now_ms), "at {} ms", now_ms);
        }
    }
}
