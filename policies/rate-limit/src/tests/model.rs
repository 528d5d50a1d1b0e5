//! The policy against a slow model that keeps every bucket as an exact signed number.

use std::collections::HashMap;

use proptest::prelude::*;
use tollgate_testkit::Open;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

const NAMES: [&str; 3] = ["per-user-post", "per-user", "everyone"];

/// How fast a limit is and for whom.
#[derive(Clone, Copy, Debug)]
struct Terms {
    interval_ms: u32,
    burst: u32,
}

#[derive(Clone, Debug)]
enum Step {
    /// A request of one of four users, with its method and cost; it stays under way for some steps.
    Request { user: usize, post: bool, cost: u32 },
    /// The oldest request that is under way ends.
    End,
    /// Milliseconds forwards, or backwards.
    Time(i64),
}

fn terms() -> impl Strategy<Value = [Terms; 3]> {
    let one = (1_u32..400, 1_u32..8).prop_map(|(interval_ms, burst)| Terms { interval_ms, burst });
    [one.clone(), one.clone(), one]
}

fn steps(earliest_ms: i64) -> impl Strategy<Value = Vec<Step>> {
    let request = (0..4_usize, any::<bool>(), 1..4_u32)
        .prop_map(|(user, post, cost)| Step::Request { user, post, cost });
    let time = prop_oneof![
        6 => 0..300_i64,
        1 => 0..100_000_i64,
        2 => earliest_ms.clamp(-300, 0)..=0,
        1 => earliest_ms..=0,
    ];
    let step = prop_oneof![5 => request, 2 => Just(Step::End), 2 => time.prop_map(Step::Time)];
    prop::collection::vec(step, 1..120)
}

fn config([post, user, everyone]: [Terms; 3], most: u32) -> Value {
    let rate = |terms: Terms| format!("1 / {}ms", terms.interval_ms);
    let cost = json!({ "header": { "name": "x-cost", "from": ["0.0.0.0/0"], "max": 100 } });
    let user_key = json!({ "header": "x-user" });
    json!({ "rate_limit": [
        { "name": "everyone", "key": "global", "rate": rate(everyone), "burst": everyone.burst, "cost": cost },
        { "name": "per-user", "key": user_key, "rate": rate(user), "burst": user.burst, "cost": cost },
        { "name": "per-user-post", "key": user_key, "rate": rate(post), "burst": post.burst, "cost": cost,
          "match": { "methods": "POST" } },
        { "name": "places", "key": "global", "concurrent": most, "lease": "1d" },
    ] })
}

/// When each bucket will be full or was, by limit and user, in milliseconds from the start; and how
/// many requests are under way.
struct Model {
    terms: [Terms; 3],
    full_at: HashMap<(usize, usize), i128>,
    under_way: u32,
    most: u32,
}

#[derive(Debug, PartialEq)]
struct Expected {
    violated: Vec<&'static str>,
    left: [Option<u64>; 3],
    retry_after_ms: i128,
}

impl Model {
    fn send(&mut self, now: i128, user: usize, post: bool, cost: u32) -> Expected {
        let met = (usize::from(!post)..3).map(|limit| (limit, if limit == 2 { 0 } else { user }));
        let mut after = HashMap::new();
        let mut expected = Expected {
            violated: Vec::new(),
            left: [None; 3],
            retry_after_ms: 0,
        };
        for bucket in met {
            let (limit, _) = bucket;
            let Terms { interval_ms, burst } = self.terms[limit];
            let [interval, burst] = [interval_ms, burst].map(i128::from);
            let full_at = self.full_at.get(&bucket).copied().unwrap_or(i128::MIN / 2);
            let missing = (full_at - now).clamp(0, interval * burst);
            let charged = missing + interval * i128::from(cost).min(burst);
            let excess = charged - interval * burst;
            if excess > 0 {
                expected.violated.push(NAMES[limit]);
                expected.retry_after_ms = expected.retry_after_ms.max(excess);
                // Brought along with a clock that has stepped back.
                self.full_at.insert(bucket, now + missing);
            }
            after.insert(bucket, (missing, charged));
        }
        let refused = !expected.violated.is_empty();
        let no_place = !refused && self.under_way == self.most;
        for (bucket, (missing, charged)) in after {
            let (limit, _) = bucket;
            let Terms { interval_ms, burst } = self.terms[limit];
            let kept = if refused || no_place {
                missing
            } else {
                charged
            };
            let left =
                i128::from(burst) - (kept + i128::from(interval_ms) - 1) / i128::from(interval_ms);
            expected.left[limit] = Some(left.try_into().unwrap());
            if !refused {
                self.full_at.insert(bucket, now + kept);
            }
        }
        if no_place {
            expected.violated.push("places");
        } else if !refused {
            self.under_way += 1;
        }
        expected
    }
}

fn run(terms: [Terms; 3], most: u32, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let gateway: Gateway<Alone> = start(&config(terms, most));
    let mut model = Model {
        terms,
        full_at: HashMap::new(),
        under_way: 0,
        most,
    };
    let started = gateway.clock().now().as_nanos();
    let mut now_ms = 0_i64;
    let mut under_way: Vec<Open<Alone>> = Vec::new();
    for step in steps {
        match step {
            Step::Time(by_ms) => {
                now_ms = (now_ms + by_ms).max(-1_000_000_000);
                let now = started.saturating_add_signed(now_ms * 1_000_000);
                gateway.clock().set(Timestamp::from_nanos(now));
            }
            Step::End if under_way.is_empty() => {}
            Step::End => {
                gateway.end(under_way.remove(0));
                model.under_way -= 1;
            }
            Step::Request { user, post, cost } => {
                let expected = model.send(now_ms.into(), user, post, cost);
                let request = Request::new(if post { "POST" } else { "GET" }, "/")
                    .header("x-user", user.to_string())
                    .header("x-cost", cost.to_string());
                let (reply, open) = gateway.begin(request);
                let found = Expected {
                    violated: match reply.status {
                        200 => Vec::new(),
                        _ => known(violated(&reply)),
                    },
                    left: NAMES.map(|limit| left(&reply, limit)),
                    retry_after_ms: expected.retry_after_ms,
                };
                if reply.status == 200 {
                    under_way.push(open);
                } else {
                    let seconds = (expected.retry_after_ms + 999) / 1000;
                    prop_assert_eq!(i128::from(retry_after(&reply)), seconds.max(1));
                    gateway.end(open);
                }
                prop_assert_eq!(found, expected);
            }
        }
    }
    Ok(())
}

fn known(names: Vec<String>) -> Vec<&'static str> {
    let all = NAMES.iter().chain(&["places"]);
    let known = |name: &String| *all.clone().find(|known| *known == name).unwrap();
    names.iter().map(known).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn each_decision_is_the_model_s(terms in terms(), most in 1..9_u32, steps in steps(0)) {
        run(terms, most, steps)?;
    }

    #[test]
    fn also_when_the_clock_steps_back(terms in terms(), most in 1..9_u32, steps in steps(-100_000)) {
        run(terms, most, steps)?;
    }

    /// Whatever the clock does, whoever waits as long as it is told is admitted.
    #[test]
    fn nobody_is_locked_out(interval_ms in 1..5000_u32, burst in 1..5_u32, steps in steps(-50_000_000)) {
        let gateway = gateway(json!([
            { "name": "one", "key": "global", "rate": format!("1 / {interval_ms}ms"), "burst": burst },
        ]));
        for step in steps {
            let now = gateway.clock().now().as_nanos();
            match step {
                Step::Time(by_ms) => {
                    let then = now.saturating_add_signed(by_ms * 1_000_000);
                    gateway.clock().set(Timestamp::from_nanos(then));
                }
                _ => {
                    let reply = gateway.send(Request::get("/"));
                    if reply.status == 429 {
                        prop_assert!(retry_after(&reply) <= u64::from(interval_ms * burst).div_ceil(1000));
                        gateway.clock().advance(Duration::from_secs(retry_after(&reply)));
                        prop_assert_eq!(gateway.send(Request::get("/")).status, 200);
                    }
                }
            }
        }
    }
}

#[test]
fn a_clock_that_steps_back_gives_nothing_and_locks_nobody_out() {
    for count in ["admitted", "all"] {
        let gateway = gateway(json!([
            { "name": "one", "key": "global", "rate": "1/s", "burst": 2, "count": count },
        ]));
        let request = Request::get("/");
        assert_eq!(statuses(&gateway, &request, 3), [200, 200, 429]);
        // Years, so that nobody could wait for the clock to catch up.
        step_back(&gateway, 10 * 365 * 86_400);
        assert_eq!(statuses(&gateway, &request, 2), [429, 429]);
        pass(&gateway, 1.0);
        assert_eq!(statuses(&gateway, &request, 2), [200, 429], "{count}");
        pass(&gateway, 5.0);
        assert_eq!(statuses(&gateway, &request, 3), [200, 200, 429]);
    }
}
