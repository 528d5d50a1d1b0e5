//! How many requests are under way.

use tollgate_testkit::Fault;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn under_way(limit: Value) -> Gateway<Alone> {
    let mut fields = json!({ "name": "under-way", "key": "client_address" });
    let limit = limit.as_object().unwrap().clone();
    fields.as_object_mut().unwrap().extend(limit);
    gateway(json!([fields]))
}

fn get() -> Request {
    Request::get("/")
}

/// How many more requests pass, if none ends; then all of them do.
fn free<P: Policies>(gateway: &Gateway<P>, request: &Request) -> usize {
    let begun = std::iter::repeat_with(|| gateway.begin(request.clone()));
    let mut open = Vec::new();
    for (reply, stream) in begun {
        if reply.status != 200 {
            assert_eq!(reply.kind(), "concurrency-limited");
            gateway.end(stream);
            break;
        }
        open.push(stream);
    }
    let free = open.len();
    open.into_iter().for_each(|stream| gateway.end(stream));
    free
}

#[test]
fn a_place_is_given_back_when_the_stream_ends() {
    let gateway = under_way(json!({ "concurrent": 2 }));
    let (first, open_first) = gateway.begin(get());
    let (second, open_second) = gateway.begin(get());
    assert_eq!((first.status, second.status), (200, 200));
    let refused = gateway.send(get());
    assert_eq!(
        (refused.status, refused.kind().as_str()),
        (429, "concurrency-limited")
    );
    assert_eq!(
        (violated(&refused), retry_after(&refused)),
        (vec!["under-way".to_owned()], 1)
    );
    assert_eq!(
        refused.problem()["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    gateway.end(open_first);
    assert_eq!(free(&gateway, &get()), 1);
    gateway.end(open_second);
    assert_eq!(free(&gateway, &get()), 2);
}

#[test]
fn each_client_has_its_own_places() {
    let limits = json!([{ "name": "under-way", "key": "consumer", "concurrent": 2 }]);
    let gateway: Gateway<WithPlans> = start(&with_plans(limits, json!({})));
    let _open = gateway.begin(caller("acme"));
    for (key, places) in [("acme", 1), ("bolt", 2), ("cent", 2)] {
        assert_eq!(free(&gateway, &caller(key)), places, "{key}");
    }
}

#[test]
fn a_refused_request_takes_no_place() {
    let gateway = gateway(json!([
        { "name": "per-user", "key": { "header": "x-user" }, "concurrent": 1 },
        { "name": "all", "key": "global", "concurrent": 1 },
    ]));
    let user = |name: &str| get().header("x-user", name);
    let (_, open) = gateway.begin(user("ann"));
    for _ in 0..5 {
        let reply = gateway.send(user("bob"));
        assert_eq!(violated(&reply), ["all"]);
    }
    gateway.end(open);
    assert_eq!(free(&gateway, &user("bob")), 1);
}

/// A request that is refused after it has taken its place gives it back at once, and its stream
/// then ends too: that must not give back somebody else's.
#[test]
fn what_is_undone_is_not_given_back_again_at_the_end() {
    let limits = json!([{ "name": "under-way", "key": "global", "concurrent": 3 }]);
    let plan = json!({ "quota": { "limit": 0, "period": "day" } });
    let gateway: Gateway<WithPlans> = start(&with_plans(limits, plan));
    let (_, first) = gateway.begin(caller("cent"));
    let (_, second) = gateway.begin(caller("cent"));
    let (refused, open) = gateway.begin(caller("acme"));
    assert_eq!(refused.kind(), "quota-exceeded");
    assert_eq!(free(&gateway, &caller("cent")), 1);
    gateway.end(open);
    assert_eq!(free(&gateway, &caller("cent")), 1);
    gateway.end(first);
    gateway.end(second);
    assert_eq!(free(&gateway, &caller("cent")), 3);
}

#[test]
fn a_worker_that_is_killed_leaves_nothing_behind_for_ever() {
    for (lease, seconds) in [(json!({ "lease": "1m" }), 60.0), (json!({}), 300.0)] {
        let mut limit = json!({ "concurrent": 2 });
        limit
            .as_object_mut()
            .unwrap()
            .extend(lease.as_object().unwrap().clone());
        let gateway = under_way(limit);
        drop(gateway.begin(get()));
        drop(gateway.begin(get()));
        pass(&gateway, seconds);
        assert_eq!(
            free(&gateway, &get()),
            0,
            "a lease counts for its time at least"
        );
        pass(&gateway, seconds);
        assert_eq!(free(&gateway, &get()), 2, "and no longer than twice that");
    }
}

#[test]
fn a_request_that_outlives_its_lease_gives_back_nobody_else_s() {
    let gateway = under_way(json!({ "concurrent": 1, "lease": "1m" }));
    let (_, old) = gateway.begin(get());
    pass(&gateway, 120.0);
    let (reply, new) = gateway.begin(get());
    assert_eq!(reply.status, 200);
    gateway.end(old);
    assert_eq!(free(&gateway, &get()), 0);
    gateway.end(new);
    assert_eq!(free(&gateway, &get()), 1);
}

#[test]
fn a_clock_that_steps_back_keeps_the_count() {
    let gateway = under_way(json!({ "concurrent": 2, "lease": "1m" }));
    let (_, open) = gateway.begin(get());
    step_back(&gateway, 3600);
    assert_eq!(free(&gateway, &get()), 1);
    gateway.end(open);
    assert_eq!(free(&gateway, &get()), 2);
}

/// The slots of a page are for those who have requests under way, and are never taken from them.
#[test]
fn when_a_page_is_full_the_configuration_decides() {
    for (policy, status) in [("deny", 503), ("allow", 200)] {
        let gateway =
            under_way(json!({ "concurrent": 2, "max_clients": 1, "on_contention": policy }));
        let mut open: Vec<_> = (0..64)
            .map(|i| {
                set_address(&gateway, &format!("192.0.2.{i}"));
                gateway.begin(get())
            })
            .collect();
        assert!(open.iter().all(|(reply, _)| reply.status == 200));
        let reply = from(&gateway, "198.51.100.1");
        assert_eq!(reply.status, status);
        assert_eq!(
            counter(
                &gateway,
                "policy=.=rate_limit;.;limit=.=under-way;.;cause=.=full;.;tollgate_uncounted_total"
            ),
            1
        );
        assert_eq!(from(&gateway, "192.0.2.7").status, 200);
        let (_, stream) = open.remove(9);
        gateway.end(stream);
        assert_eq!(from(&gateway, "198.51.100.1").status, 200);
        assert_eq!(free(&gateway, &get()), 2);
    }
}

#[test]
fn places_are_taken_and_given_back_through_lost_races() {
    let gateway = under_way(json!({ "concurrent": 2 }));
    assert_eq!(free(&gateway, &get()), 2);
    gateway.host.inject([Fault::LostRace; 20]);
    let (reply, open) = gateway.begin(get());
    assert_eq!(reply.status, 200);
    gateway.host.inject([Fault::LostRace; 20]);
    assert_eq!(free(&gateway, &get()), 1);
    gateway.host.inject([Fault::LostRace; 20]);
    gateway.end(open);
    assert_eq!(free(&gateway, &get()), 2);
}

#[test]
fn a_place_that_could_not_be_given_back_is_counted_and_expires() {
    let gateway = under_way(json!({ "concurrent": 1, "lease": "1m" }));
    let (_, open) = gateway.begin(get());
    gateway.host.inject([Fault::ReadFails]);
    gateway.end(open);
    let uncounted =
        "policy=.=rate_limit;.;limit=.=under-way;.;cause=.=unavailable;.;tollgate_uncounted_total";
    assert_eq!(counter(&gateway, uncounted), 1);
    assert_eq!(free(&gateway, &get()), 0);
    pass(&gateway, 120.0);
    assert_eq!(free(&gateway, &get()), 1);
}

/// Streams of several clients that end in every way there is, in any order.
#[test]
fn after_ten_thousand_streams_nothing_is_under_way() {
    let limits = json!([
        { "name": "per-user", "key": { "header": "x-user" }, "concurrent": 3 },
        { "name": "all", "key": "global", "concurrent": 10 },
    ]);
    let plan = json!({ "throttle": "1/s" });
    let gateway: Gateway<WithPlans> = start(&with_plans(limits, plan));
    let mut open = std::collections::VecDeque::new();
    let mut outcomes = std::collections::BTreeMap::new();
    for i in 0..10_000_usize {
        let key = ["acme", "cent", "guess"][i % 3];
        let user = format!("user-{}", i * 7 % 5);
        let (reply, stream) = gateway.begin(caller(key).header("x-user", user));
        *outcomes.entry(reply.status).or_insert(0) += 1;
        open.push_back(stream);
        if i % 100 == 0 {
            pass(&gateway, 0.5);
        }
        while open.len() > i % 40 {
            let from_the_front = i % 2 == 0;
            let ended = if from_the_front {
                open.pop_front()
            } else {
                open.pop_back()
            };
            gateway.end(ended.unwrap());
        }
    }
    assert_eq!(
        outcomes.keys().copied().collect::<Vec<_>>(),
        [200, 401, 429]
    );
    open.into_iter().for_each(|stream| gateway.end(stream));
    for i in 0..5 {
        let user = format!("user-{i}");
        assert_eq!(free(&gateway, &caller("cent").header("x-user", user)), 3);
    }
}
