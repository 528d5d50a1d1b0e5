//! Throttles and quotas.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]

use std::time::Duration;

use proptest::prelude::*;
use tollgate_testkit::Fault;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn limited(reply: &Reply) -> (String, u64) {
    assert_eq!(reply.status, 429, "{reply:?}");
    let problem = reply.problem();
    assert_eq!(
        problem["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    let limit = problem["violated-policies"][0].as_str().unwrap().to_owned();
    (limit, reply.header("retry-after").unwrap().parse().unwrap())
}

fn at(gateway: &Plugin, instant: &str) {
    let instant: tollgate_core::time::Instant3339 = instant.parse().unwrap();
    gateway.clock().set(instant.0);
}

#[test]
fn a_burst_then_the_rate() {
    let gateway = gateway(json!({ "throttle": { "rate": "10/s", "burst": 3 } }));
    assert_eq!(statuses(&gateway, 5), [200, 200, 200, 429, 429]);
    gateway.clock().advance(Duration::from_millis(99));
    assert_eq!(statuses(&gateway, 1), [429]);
    gateway.clock().advance(Duration::from_millis(1));
    assert_eq!(statuses(&gateway, 2), [200, 429]);
    gateway.clock().advance(Duration::from_secs(3600));
    assert_eq!(statuses(&gateway, 4), [200, 200, 200, 429]);
}

#[test]
fn a_throttle_may_be_written_in_short() {
    let gateway = gateway(json!({ "throttle": "3/s" }));
    assert_eq!(statuses(&gateway, 4), [200, 200, 200, 429]);
}

#[test]
fn the_client_is_told_its_limits() {
    let gateway = gateway(json!({
        "throttle": { "rate": "1/2s", "burst": 2 },
        "quota": [{ "limit": 5, "period": "day" }, { "limit": 9, "period": "month", "name": "billing" }],
    }));
    let reply = call(&gateway);
    assert_eq!(
        reply.header("ratelimit-policy"),
        Some(r#""throttle";q=2;w=4, "day";q=5;w=86400, "billing";q=9;w=2592000"#)
    );
    assert_eq!(
        reply.header("ratelimit"),
        Some(r#""throttle";r=1;t=2, "day";r=4;t=43200, "billing";r=8;t=907200"#)
    );
    call(&gateway);
    let reply = call(&gateway);
    assert_eq!(limited(&reply), ("throttle".to_owned(), 2));
    // The refused request was not charged to the quotas.
    assert_eq!(
        reply.header("ratelimit"),
        Some(r#""throttle";r=0;t=2, "day";r=3;t=43200, "billing";r=7;t=907200"#)
    );
}

#[test]
fn legacy_headers_are_an_option() {
    let mut config = config(
        json!({ "quota": { "limit": 5, "period": "hour" } }),
        json!({}),
    );
    config["limit_headers"] = json!({ "standard": false, "legacy": true });
    let reply = call(&start(&config));
    assert_eq!(reply.header("ratelimit"), None);
    assert_eq!(reply.header("x-ratelimit-limit"), Some("5"));
    assert_eq!(reply.header("x-ratelimit-remaining"), Some("4"));
    assert_eq!(reply.header("x-ratelimit-reset"), Some("3600"));
}

#[test]
fn a_quota_is_spent_to_the_request_and_renewed_with_the_period() {
    let gateway = gateway(json!({ "quota": { "limit": 3, "period": "minute" } }));
    at(&gateway, "2026-11-20T12:00:30.5Z");
    assert_eq!(statuses(&gateway, 3), [200; 3]);
    assert_eq!(limited(&call(&gateway)), ("minute".to_owned(), 30));
    at(&gateway, "2026-11-20T12:00:59.999999999Z");
    assert_eq!(limited(&call(&gateway)), ("minute".to_owned(), 1));
    at(&gateway, "2026-11-20T12:01:00Z");
    assert_eq!(statuses(&gateway, 4), [200, 200, 200, 429]);
}

#[test]
fn a_month_is_a_month_and_ends_where_the_customer_lives() {
    let gateway = gateway(json!({
        "quota": { "limit": 1, "period": "month", "utc_offset": "+02:00", "anchor_day": 31 }
    }));
    at(&gateway, "2026-01-30T22:00:00Z");
    assert_eq!(statuses(&gateway, 2), [200, 429]);
    // 31 does not exist in February: the window ends with the month's last day.
    at(&gateway, "2026-02-27T21:59:59Z");
    assert_eq!(statuses(&gateway, 1), [429]);
    at(&gateway, "2026-02-27T22:00:00Z");
    assert_eq!(statuses(&gateway, 2), [200, 429]);
    at(&gateway, "2026-03-30T22:00:00Z");
    assert_eq!(statuses(&gateway, 2), [200, 429]);
}

#[test]
fn a_throttled_request_spends_no_quota_and_a_refused_one_no_throttle() {
    let gateway = gateway(json!({
        "apis": ["accounts-v1"],
        "throttle": { "rate": "1/s", "burst": 1 },
        "quota": { "limit": 2, "period": "day" },
    }));
    for _ in 0..3 {
        assert_eq!(gateway.send(acme("/v1/payments")).status, 403);
    }
    assert_eq!(statuses(&gateway, 3), [200, 429, 429]);
    gateway.clock().advance(Duration::from_secs(1));
    assert_eq!(statuses(&gateway, 1), [200]);
    gateway.clock().advance(Duration::from_secs(1));
    assert_eq!(limited(&call(&gateway)).0, "day");
    // Nor did the request that the quota refused take a token.
    let reply = call(&gateway);
    assert!(
        reply
            .header("ratelimit")
            .unwrap()
            .starts_with("\"throttle\";r=1"),
        "{reply:?}"
    );
}

#[test]
fn methods_and_paths_have_buckets_of_their_own() {
    let gateway = gateway(json!({
        "throttle": { "rate": "100/s", "burst": 5, "methods": {
            "POST /v1/accounts/**": { "rate": "1/s", "burst": 2 },
            "/v1/payments/**": { "rate": "1/s", "burst": 7, "replaces_plan": true },
        } },
    }));
    let post =
        || gateway.send(Request::new("POST", "/v1/accounts/1").header("x-api-key", "acme-key"));
    assert_eq!((post().status, post().status), (200, 200));
    assert_eq!(limited(&post()).0, "throttle POST /v1/accounts/**");
    // Both POSTs were charged to the plan's bucket too: three are left.
    assert_eq!(statuses(&gateway, 4), [200, 200, 200, 429]);
    // A bucket that replaces the plan's is as large as it says.
    let pay = || gateway.send(acme("/v1/payments/1")).status;
    assert_eq!(
        (0..8).map(|_| pay()).collect::<Vec<_>>(),
        [200, 200, 200, 200, 200, 200, 200, 429]
    );
}

#[test]
fn keys_of_a_consumer_share_its_usage_and_consumers_do_not() {
    let plan = json!({ "quota": { "limit": 4, "period": "day" } });
    let config = config(
        plan,
        json!({ "consumers": [
            { "id": "acme", "plan": "gold", "keys": [key("old"), key("new")] },
            { "id": "bolt", "plan": "gold", "keys": [key("bolt")] },
        ]}),
    );
    let gateway = start(&config);
    let send = |key: &str| {
        gateway
            .send(Request::get("/").header("x-api-key", key))
            .status
    };
    assert_eq!(
        ["old", "new", "old", "new", "old", "new", "bolt"].map(send),
        [200, 200, 200, 200, 429, 429, 200]
    );
}

#[test]
fn an_offset_shortens_the_first_period_only() {
    let plan = json!({ "quota": { "limit": 5, "period": "month", "offset": 3 } });
    let config = config(
        plan,
        json!({ "consumers": [
            { "id": "acme", "plan": "gold", "since": "2026-11-15T00:00:00Z", "keys": [key("acme-key")] },
        ]}),
    );
    let gateway = start(&config);
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    at(&gateway, "2026-12-01T00:00:00Z");
    assert_eq!(statuses(&gateway, 6), [200, 200, 200, 200, 200, 429]);
}

#[test]
fn a_quota_of_nothing_refuses_everything() {
    let gateway = gateway(json!({ "quota": { "limit": 0, "period": "day" } }));
    assert_eq!(statuses(&gateway, 1), [429]);
}

#[test]
fn retry_after_can_be_capped() {
    let plan = json!({ "quota": { "limit": 0, "period": "year" } });
    let gateway = start(&config(plan, json!({ "retry_after_max": "1h" })));
    assert_eq!(limited(&call(&gateway)).1, 3600);
}

#[test]
fn usage_outlives_a_configuration_update() {
    let plan = |limit: u64, burst: u64| {
        json!({
            "throttle": { "rate": "1/s", "burst": burst },
            "quota": { "limit": limit, "period": "day" },
        })
    };
    let first = gateway(plan(10, 4));
    assert_eq!(statuses(&first, 4), [200; 4]);
    let again = Plugin::on(first.host.process.worker(), &config(plan(5, 3), json!({}))).unwrap();
    assert_eq!(limited(&call(&again)).0, "throttle");
    again.clock().advance(Duration::from_secs(3));
    assert_eq!(statuses(&again, 1), [200]);
    assert_eq!(limited(&call(&again)), ("day".to_owned(), 43197));
}

#[test]
fn a_window_that_has_begun_runs_to_its_end_when_its_calendar_changes() {
    let plan =
        |anchor: u64| json!({ "quota": { "limit": 2, "period": "month", "anchor_day": anchor } });
    let first = gateway(plan(1));
    assert_eq!(statuses(&first, 2), [200, 200]);
    let again = Plugin::on(first.host.process.worker(), &config(plan(20), json!({}))).unwrap();
    assert_eq!(statuses(&again, 1), [429]);
    at(&again, "2026-12-01T00:00:00Z");
    assert_eq!(statuses(&again, 3), [200, 200, 429]);
    at(&again, "2026-12-20T00:00:00Z");
    assert_eq!(statuses(&again, 3), [200, 200, 429]);
}

#[test]
fn a_quota_of_another_period_is_another_quota() {
    let plan = |limit: u64, period: &str| json!({ "quota": { "name": "calls", "limit": limit, "period": period } });
    let first = gateway(plan(100, "year"));
    assert_eq!(statuses(&first, 20), [200; 20]);
    let again = Plugin::on(
        first.host.process.worker(),
        &config(plan(10, "day"), json!({})),
    )
    .unwrap();
    assert_eq!(statuses(&again, 10), [200; 10]);
    assert_eq!(limited(&call(&again)).1, 43_200);
}

#[test]
fn namespaces_and_consumers_are_told_apart() {
    let plan = json!({ "quota": { "limit": 1, "period": "day" } });
    let section = |namespace: &str, id: &str| {
        let consumers = json!([{ "id": id, "plan": "gold", "keys": [key("acme-key")] }]);
        config(
            plan.clone(),
            json!({ "namespace": namespace, "consumers": consumers }),
        )
    };
    let first = start(&section("a", "b/c"));
    assert_eq!(statuses(&first, 2), [200, 429]);
    let second = Plugin::on(first.host.process.worker(), &section("a/b", "c")).unwrap();
    assert_eq!(statuses(&second, 2), [200, 429]);
    let same = Plugin::on(first.host.process.worker(), &section("a", "b/c")).unwrap();
    assert_eq!(statuses(&same, 1), [429]);
}

#[test]
fn a_clock_that_steps_back_gives_nothing_and_locks_nobody_out() {
    let gateway = gateway(json!({
        "throttle": { "rate": "1/s", "burst": 2 },
        "quota": { "limit": 4, "period": "day" },
    }));
    at(&gateway, "2026-11-21T00:00:05Z");
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    // Ten seconds back, over midnight: the bucket is empty at worst, the new day goes on.
    at(&gateway, "2026-11-20T23:59:55Z");
    assert_eq!(statuses(&gateway, 1), [429]);
    at(&gateway, "2026-11-20T23:59:57Z");
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    at(&gateway, "2026-11-21T00:00:10Z");
    assert_eq!(limited(&call(&gateway)).0, "day");
    // A clock that was wrong by years does not close the door for years.
    at(&gateway, "2040-01-01T00:00:00Z");
    assert_eq!(statuses(&gateway, 2), [200, 200]);
    at(&gateway, "2026-11-22T00:00:00Z");
    assert_eq!(statuses(&gateway, 1), [429]);
    at(&gateway, "2026-11-22T00:00:02Z");
    assert_eq!(statuses(&gateway, 2), [200, 200]);
}

#[test]
fn a_lost_race_is_run_again_and_charged_once() {
    let gateway = gateway(json!({ "quota": { "limit": 2, "period": "day" } }));
    gateway.host.inject([Fault::LostRace; 5]);
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
}

#[test]
fn when_usage_cannot_be_counted_the_configuration_decides() {
    for (policy, status) in [("deny", 503), ("allow", 200)] {
        let plan = json!({ "quota": { "limit": 2, "period": "day" } });
        let gateway = start(&config(plan, json!({ "on_contention": policy })));
        for (fault, cause) in [
            (Fault::LostRace, "contended"),
            (Fault::ReadFails, "unavailable"),
            (Fault::WriteFails, "unavailable"),
        ] {
            let times = if fault == Fault::LostRace {
                ATTEMPTS as usize
            } else {
                1
            };
            gateway.host.inject(vec![fault; times]);
            let reply = call(&gateway);
            assert_eq!(reply.status, status, "{fault:?}");
            assert_eq!(reply.header("retry-after").is_some(), status == 503);
            let name = format!(
                "policy=.=usage_plan;.;limit=.=_none;.;cause=.={cause};.;tollgate_uncounted_total"
            );
            assert!(gateway.host.process.counters()[&name] >= 1);
        }
        assert_eq!(
            statuses(&gateway, 3),
            [200, 200, 429],
            "nothing was charged meanwhile"
        );
    }
}

#[test]
fn a_record_that_cannot_be_read_is_begun_anew() {
    let gateway = gateway(json!({ "quota": { "limit": 1, "period": "day" } }));
    for bytes in [&b""[..], b"\x02", b"\x01\xff\xff", &[0xff; 100]] {
        gateway
            .host
            .process
            .put("tollgate/usage/default acme", bytes);
        assert_eq!(statuses(&gateway, 2), [200, 429], "{bytes:?}");
    }
}

#[test]
fn state_is_bounded_by_the_configuration() {
    let gateway = start(&config(
        json!({ "throttle": "1000/s" }),
        json!({ "anonymous": { "plan": "gold" } }),
    ));
    for i in 0..1000 {
        gateway.send(Request::get(&format!("/{i}")).header("x-api-key", format!("guess-{i}")));
        gateway
            .send(Request::get(&format!("/{i}")).header("x-forwarded-for", format!("10.0.0.{i}")));
        gateway.send(acme(&format!("/{i}")));
    }
    let mut keys = gateway.host.process.shared_keys();
    keys.sort();
    assert_eq!(
        keys,
        [
            "tollgate/usage/default  anonymous",
            "tollgate/usage/default acme"
        ]
    );
}

#[test]
fn an_admitted_request_costs_one_read_and_one_write_of_shared_state() {
    let mut config = config(
        json!({ "throttle": "1000/s", "quota": { "limit": 99, "period": "day" } }),
        json!({}),
    );
    config["telemetry"] = json!({ "filter_state": false });
    let gateway = start(&config);
    call(&gateway);
    let before = gateway.host.calls();
    call(&gateway);
    // A read, a write, and the two counters.
    assert_eq!(gateway.host.calls() - before, 4);
}

#[cfg(not(target_arch = "wasm32"))] // has no threads
mod threads {
    use std::thread;

    use tollgate_core::time::Timestamp;
    use tollgate_testkit::{Clock, Process};

    use super::*;

    /// Workers as fast as they can: the quota is spent to the exact request.
    #[test]
    fn workers_spend_a_shared_quota_exactly() {
        const WORKERS: usize = 4;
        const EACH: usize = 2000;
        let process = Process::new(Clock::at(Timestamp::from_seconds(1_795_176_000)));
        let config = config(
            json!({ "throttle": { "rate": "1/h", "burst": 100_000 }, "quota": { "limit": 5000, "period": "day" } }),
            json!({ "on_contention": "deny" }),
        );
        let admitted: usize = thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|_| {
                    scope.spawn(|| {
                        let gateway = Plugin::on(process.worker(), &config).unwrap();
                        statuses(&gateway, EACH)
                            .into_iter()
                            .filter(|status| *status == 200)
                            .count()
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .sum()
        });
        assert_eq!(admitted, 5000);
    }
}

proptest! {
    /// Whatever the schedule, no more than burst + rate × time is admitted, and the quota holds.
    #[test]
    fn never_more_than_the_plan_allows(
        steps in proptest::collection::vec(0_u64..400, 1..120),
        burst in 1_u64..6,
        limit in 0_u64..60,
    ) {
        let gateway = gateway(json!({
            "throttle": { "rate": "10/s", "burst": burst },
            "quota": { "limit": limit, "period": "year" },
        }));
        let (mut admitted, mut elapsed) = (0_u64, 0_u64);
        for step in steps {
            gateway.clock().advance(Duration::from_millis(step));
            elapsed += step;
            if call(&gateway).status == 200 {
                admitted += 1;
            }
            prop_assert!(admitted <= burst + elapsed / 100);
            prop_assert!(admitted <= limit);
        }
    }
}
