//! Limits that are tried out.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn tried_and_enforced() -> Value {
    json!([
        { "name": "tried", "key": "client_address", "rate": "1/h", "mode": "shadow" },
        { "name": "held", "key": "global", "rate": "3/h" },
    ])
}

#[test]
fn a_limit_in_shadow_mode_counts_what_it_would_deny_and_others_hold() {
    let gateway = gateway(tried_and_enforced());
    let request = Request::get("/");
    assert_eq!(statuses(&gateway, &request, 5), [200, 200, 200, 429, 429]);
    assert_eq!(decided(&gateway, "tried", "allow"), 1);
    assert_eq!(decided(&gateway, "tried", "would_deny"), 2);
    assert_eq!(decided(&gateway, "tried", "deny"), 0);
    assert_eq!(decided(&gateway, "held", "allow"), 3);
    assert_eq!(decided(&gateway, "held", "deny"), 2);
    assert_eq!(decided(&gateway, "held", "would_deny"), 0);
}

#[test]
fn clients_are_not_told_of_it_and_access_logs_are() {
    let gateway = gateway(tried_and_enforced());
    let reply = gateway.send(Request::get("/"));
    assert_eq!(
        reply.header("ratelimit-policy"),
        Some(r#""held";q=3;w=3600"#)
    );
    assert_eq!(reply.header("ratelimit"), Some(r#""held";r=2;t=1200"#));
    let reply = gateway.send(Request::get("/"));
    assert_eq!((reply.status, left(&reply, "tried")), (200, None));
    let state = gateway.host.filter_state.borrow().clone();
    assert_eq!(state["tollgate_decision"], "would_deny");
    assert_eq!(state["tollgate_reason"], "rate-limited");
}

#[test]
fn it_has_a_state_of_its_own() {
    let config = |mode: &str| {
        json!({ "rate_limit": [
            { "name": "one", "key": "global", "rate": "2/h", "mode": mode },
        ] })
    };
    let tried: Gateway<Alone> = start(&config("shadow"));
    assert_eq!(statuses(&tried, &Request::get("/"), 5), [200; 5]);
    let enforced: Gateway<Alone> = another_worker(&tried, &config("enforce"));
    assert_eq!(statuses(&enforced, &Request::get("/"), 3), [200, 200, 429]);
}

/// Whatever would deny in shadow mode before, limits that are enforced hold.
#[test]
fn an_enforced_limit_is_not_switched_off_by_one_that_is_tried_out() {
    for tried in [
        json!({ "name": "tried", "key": "global", "rate": "1/h", "count": "all", "mode": "shadow" }),
        json!({ "name": "tried", "key": "global", "rate": "1/h", "mode": "shadow" }),
        json!({ "name": "tried", "key": "global", "rate": "1/h", "mode": "shadow",
            "on_exceed": { "block_for": "1h" } }),
    ] {
        let held = [
            json!({ "name": "held", "key": "global", "rate": "3/h" }),
            json!({ "name": "held", "key": "global", "rate": "3/h", "count": "all" }),
            json!({ "name": "held", "key": "global", "rate": "3/h", "on_exceed": { "block_for": "1h" } }),
        ];
        for held in held {
            let gateway = gateway(json!([tried, held]));
            assert_eq!(
                statuses(&gateway, &Request::get("/"), 5),
                [200, 200, 200, 429, 429],
                "{tried} {held}"
            );
        }
        let held = json!({ "name": "held", "key": "global", "concurrent": 2 });
        let gateway = gateway(json!([tried, held]));
        let begun = [(); 4].map(|()| gateway.begin(Request::get("/")));
        assert_eq!(
            begun.each_ref().map(|(reply, _)| reply.status),
            [200, 200, 429, 429]
        );
    }
}

#[test]
fn what_an_enforced_limit_refuses_is_not_counted_by_one_that_is_tried_out() {
    let gateway = gateway(json!([
        { "name": "tried", "key": "global", "rate": "100/h", "mode": "shadow" },
        { "name": "held", "key": "client_address", "rate": "1/h" },
    ]));
    assert_eq!(
        statuses(&gateway, &Request::get("/"), 5),
        [200, 429, 429, 429, 429]
    );
    assert_eq!(decided(&gateway, "tried", "allow"), 1);
}

#[test]
fn a_penalty_and_a_concurrency_limit_can_be_tried_out() {
    let gateway = gateway(json!([
        { "name": "box", "key": "global", "rate": "1/s", "mode": "shadow",
          "on_exceed": { "block_for": "10m" } },
    ]));
    assert_eq!(statuses(&gateway, &Request::get("/"), 3), [200; 3]);
    pass(&gateway, 60.0);
    assert_eq!(statuses(&gateway, &Request::get("/"), 1), [200]);
    assert_eq!(decided(&gateway, "box", "would_deny"), 3);
    assert_eq!(
        gateway.host.filter_state.borrow()["tollgate_reason"],
        "client-blocked"
    );

    let gateway = super::gateway(json!([
        { "name": "places", "key": "global", "concurrent": 2, "mode": "shadow" },
    ]));
    let begun = [(); 4].map(|()| gateway.begin(Request::get("/")));
    assert!(begun.iter().all(|(reply, _)| reply.status == 200));
    assert_eq!(decided(&gateway, "places", "allow"), 2);
    assert_eq!(decided(&gateway, "places", "would_deny"), 2);
    begun.into_iter().for_each(|(_, open)| gateway.end(open));
    let _again = [(); 2].map(|()| gateway.begin(Request::get("/")));
    assert_eq!(decided(&gateway, "places", "allow"), 4);
}

#[test]
fn it_refuses_nothing_when_it_cannot_count() {
    let gateway = gateway(json!([
        { "name": "tried", "key": "global", "rate": "1/h", "mode": "shadow" },
    ]));
    gateway.host.inject([tollgate_testkit::Fault::ReadFails]);
    assert_eq!(statuses(&gateway, &Request::get("/"), 1), [200]);
    assert_eq!(decided(&gateway, "tried", "would_deny"), 1);
}

/// The header in which a cost is said stays away from the upstream in either mode.
#[test]
fn it_strips_the_header_with_the_cost() {
    let cost = json!({ "header": { "name": "x-cost", "from": ["10.0.0.0/8"], "max": 9 } });
    let gateway = gateway(json!([
        { "name": "tried", "key": "global", "rate": "9/h", "mode": "shadow", "cost": cost },
    ]));
    let reply = gateway.send(Request::get("/").header("x-cost", "1"));
    assert_eq!(reply.upstream.unwrap().header("x-cost"), None);
}
