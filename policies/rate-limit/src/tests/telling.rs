//! What clients and operators are told.

use tollgate_core::shared::ATTEMPTS;
use tollgate_testkit::Fault;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn get() -> Request {
    Request::get("/")
}

/// What `Retry-After` says to requests of cost 1 that come one after the other to an empty bucket.
fn waits(limit: Value, count: usize) -> Vec<u64> {
    let mut fields = json!({ "name": "one", "key": "global" });
    let limit = limit.as_object().unwrap().clone();
    fields.as_object_mut().unwrap().extend(limit);
    let gateway = gateway(json!([fields]));
    assert_eq!(gateway.send(get()).status, 200);
    (0..count)
        .map(|_| retry_after(&gateway.send(get())))
        .collect()
}

#[test]
fn the_wait_is_told_in_whole_seconds_rounded_up() {
    assert_eq!(waits(json!({ "rate": "1 / 10s" }), 2), [10, 10]);
    assert_eq!(waits(json!({ "rate": "1 / 1200ms" }), 1), [2]);
    assert_eq!(waits(json!({ "rate": "1000/s", "burst": 1 }), 1), [1]);
}

#[test]
fn the_wait_can_be_capped() {
    assert_eq!(
        waits(json!({ "rate": "1/h", "retry_after_max": "90s" }), 1),
        [90]
    );
    assert_eq!(
        waits(json!({ "rate": "1/m", "retry_after_max": "90s" }), 1),
        [60]
    );
    let penalty =
        json!({ "rate": "1/m", "retry_after_max": "90s", "on_exceed": { "block_for": "1h" } });
    assert_eq!(waits(penalty, 1), [90]);
}

#[test]
fn what_is_added_at_random_stays_within_its_bounds() {
    let jittered = waits(
        json!({ "rate": "1 / 10s", "retry_after_jitter": "5s" }),
        500,
    );
    assert!(jittered.iter().all(|wait| (10..=15).contains(wait)));
    for seconds in 11..=15 {
        let often = jittered.iter().filter(|wait| **wait == seconds).count();
        assert!((50..150).contains(&often), "{seconds}: {often}");
    }
    let capped = waits(
        json!({ "rate": "1 / 10s", "retry_after_jitter": "5s", "retry_after_max": "12s" }),
        500,
    );
    assert!(capped.iter().all(|wait| (10..=12).contains(wait)));
    assert!(capped.contains(&11) && capped.contains(&12));
    let places = json!([
        { "name": "places", "key": "global", "concurrent": 1, "retry_after_jitter": "3s" },
    ]);
    let gateway = gateway(places);
    let _open = gateway.begin(get());
    let waits: Vec<u64> = (0..100)
        .map(|_| retry_after(&gateway.send(get())))
        .collect();
    assert_eq!(
        (waits.iter().min(), waits.iter().max()),
        (Some(&1), Some(&3))
    );
}

#[test]
fn every_decision_of_every_limit_is_counted() {
    let gateway = gateway(json!([
        { "name": "shield", "key": "global", "rate": "5/h", "count": "all" },
        { "name": "per-user", "key": { "header": "x-user" }, "rate": "2/h" },
        { "name": "places", "key": "global", "concurrent": 9 },
    ]));
    assert_eq!(
        statuses(&gateway, &get(), 7),
        [200, 200, 429, 429, 429, 429, 429]
    );
    assert_eq!(decided(&gateway, "shield", "allow"), 5);
    assert_eq!(decided(&gateway, "shield", "deny"), 2);
    assert_eq!(decided(&gateway, "per-user", "allow"), 2);
    assert_eq!(decided(&gateway, "per-user", "deny"), 3);
    assert_eq!(decided(&gateway, "places", "allow"), 2);
    assert_eq!(decided(&gateway, "places", "deny"), 0);
    // Of a limit that has not decided so yet there is no counter.
    let counters = gateway.host.process.counters();
    let of_limits = counters.keys().filter(|name| name.starts_with("limit=.="));
    assert_eq!(
        of_limits.collect::<Vec<_>>(),
        [
            "limit=.=per-user;.;decision=.=allow;.;tollgate_limit_requests_total",
            "limit=.=per-user;.;decision=.=deny;.;tollgate_limit_requests_total",
            "limit=.=places;.;decision=.=allow;.;tollgate_limit_requests_total",
            "limit=.=shield;.;decision=.=allow;.;tollgate_limit_requests_total",
            "limit=.=shield;.;decision=.=deny;.;tollgate_limit_requests_total",
        ]
    );
}

#[test]
fn clients_that_had_to_be_forgotten_are_counted() {
    let gateway = gateway(json!([
        { "name": "small", "key": "client_address", "rate": "2/h", "max_clients": 1 },
    ]));
    let evicted = "limit=.=small;.;tollgate_limit_evicted_total";
    for i in 0..64 {
        assert_eq!(from(&gateway, &format!("192.0.2.{i}")).status, 200);
    }
    assert_eq!(counter(&gateway, evicted), 0);
    for i in 64..74 {
        assert_eq!(from(&gateway, &format!("192.0.2.{i}")).status, 200);
    }
    assert_eq!(counter(&gateway, evicted), 10);
    // Once their buckets are full again nothing is lost.
    pass(&gateway, 3600.0);
    for i in 100..164 {
        assert_eq!(from(&gateway, &format!("192.0.2.{i}")).status, 200);
    }
    assert_eq!(counter(&gateway, evicted), 10);
}

fn limits_of_each_kind(policy: &str) -> [Value; 5] {
    [
        json!({ "rate": "2/h" }),
        json!({ "rate": "2/h", "count": "all" }),
        json!({ "rate": "2/h", "on_exceed": { "block_for": "1h", "after": 9 } }),
        json!({ "rate": "2/h", "on_exceed": { "block_for": "1h", "after": 9 }, "count": "all" }),
        json!({ "concurrent": 2 }),
    ]
    .map(|mut limit| {
        limit["name"] = json!("one");
        limit["key"] = json!("global");
        limit["on_contention"] = json!(policy);
        limit
    })
}

#[test]
fn when_a_request_cannot_be_counted_the_configuration_decides() {
    for (policy, status) in [("deny", 503), ("allow", 200)] {
        for limit in limits_of_each_kind(policy) {
            let gateway = gateway(json!([limit]));
            for (fault, times, cause) in [
                (Fault::ReadFails, 1, "unavailable"),
                // One more than the state is tried to be written, for the first look at it.
                (Fault::LostRace, ATTEMPTS as usize + 1, "contended"),
            ] {
                // The seed is agreed on before, so that only the limit's entry meets the faults.
                assert_eq!(gateway.send(get()).status, 200);
                pass(&gateway, 7200.0);
                gateway.host.inject(vec![fault; times]);
                let reply = gateway.send(get());
                assert_eq!(reply.status, status, "{limit} {fault:?}");
                if status == 503 {
                    assert_eq!(reply.kind(), "limit-unavailable");
                    assert_eq!(retry_after(&reply), 1);
                }
                let name = format!(
                    "policy=.=rate_limit;.;limit=.=one;.;cause=.={cause};.;tollgate_uncounted_total"
                );
                assert_eq!(counter(&gateway, &name), 1, "{limit}");
            }
        }
    }
}

#[test]
fn without_a_seed_nothing_can_be_counted() {
    for (policy, status) in [("deny", 503), ("allow", 200)] {
        for limit in limits_of_each_kind(policy) {
            let gateway = gateway(json!([limit]));
            gateway.host.inject([Fault::ReadFails]);
            assert_eq!(gateway.send(get()).status, status, "{limit}");
            gateway.host.inject([Fault::WriteFails]);
            assert_eq!(gateway.send(get()).status, status, "{limit}");
            gateway.host.inject([Fault::LostRace; 3]);
            assert_eq!(gateway.send(get()).status, 200, "{limit}");
        }
    }
}

#[test]
fn an_entry_that_cannot_be_read_is_begun_anew() {
    let gateway = gateway(json!([{ "name": "one", "key": "global", "rate": "1/h" }]));
    for bytes in [
        &b""[..],
        b"\x02",
        b"\x01\xff\xff",
        &[0xff; 24],
        &[0xff; 2000],
    ] {
        gateway
            .host
            .process
            .put("tollgate/limit/default one ", bytes);
        assert_eq!(statuses(&gateway, &get(), 2), [200, 429], "{bytes:?}");
    }
}
