//! Several limits on one request: all are charged, or none.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn tiers() -> Value {
    json!([
        { "name": "everyone", "key": "global", "rate": "10/h" },
        { "name": "per-user", "key": { "header": "x-user" }, "rate": "3/h" },
        { "name": "per-user-and-method", "key": { "header": "x-user" }, "rate": "1/h",
          "match": { "methods": "POST" } },
    ])
}

fn user(method: &str, name: &str) -> Request {
    Request::new(method, "/").header("x-user", name)
}

#[test]
fn all_limits_are_charged_or_none() {
    let gateway = gateway(tiers());
    let standing = |reply: &Reply| {
        ["everyone", "per-user", "per-user-and-method"].map(|limit| left(reply, limit))
    };
    let reply = gateway.send(user("POST", "ann"));
    assert_eq!(reply.status, 200);
    assert_eq!(standing(&reply), [Some(9), Some(2), Some(0)]);
    for _ in 0..3 {
        let reply = gateway.send(user("POST", "ann"));
        assert_eq!(reply.status, 429);
        assert_eq!(violated(&reply), ["per-user-and-method"]);
        // The client is told what is there, not what would be if it had been admitted.
        assert_eq!(standing(&reply), [Some(9), Some(2), Some(0)]);
    }
    let reply = gateway.send(user("GET", "ann"));
    assert_eq!(standing(&reply), [Some(8), Some(1), None]);
    assert_eq!(statuses(&gateway, &user("GET", "ann"), 3), [200, 429, 429]);
    // Nobody else pays for what was refused.
    let reply = gateway.send(user("GET", "bob"));
    assert_eq!(standing(&reply), [Some(6), Some(2), None]);
}

#[test]
fn all_that_refuse_are_named_the_most_specific_first_and_the_longest_wait_is_told() {
    let gateway = gateway(json!([
        { "name": "global", "key": "global", "rate": "1/h" },
        { "name": "address", "key": "client_address", "rate": "1 / 10s" },
        { "name": "roomy", "key": "client_address", "rate": "9/s" },
        { "name": "address-and-user", "key": ["client_address", { "header": "x-user" }], "rate": "1/m" },
        { "name": "matched", "key": ["client_address", { "header": "x-user" }], "rate": "1/m",
          "match": { "path": "/**" } },
    ]));
    assert_eq!(gateway.send(Request::get("/")).status, 200);
    let reply = gateway.send(Request::get("/"));
    assert_eq!((reply.status, reply.kind().as_str()), (429, "rate-limited"));
    assert_eq!(
        violated(&reply),
        ["matched", "address-and-user", "address", "global"]
    );
    assert_eq!(retry_after(&reply), 3600);
    assert_eq!(
        reply.problem()["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    pass(&gateway, 60.0);
    let reply = gateway.send(Request::get("/"));
    assert_eq!(
        (violated(&reply), retry_after(&reply)),
        (vec!["global".to_owned()], 3540)
    );
}

#[test]
fn the_client_is_told_of_each_limit() {
    let gateway = gateway(json!([
        { "name": "slow", "key": "global", "rate": "1/2s", "burst": 4 },
        { "name": "shield", "key": "global", "rate": "60/min", "count": "all" },
    ]));
    let reply = gateway.send(Request::get("/"));
    assert_eq!(
        reply.header("ratelimit-policy"),
        Some(r#""shield";q=60;w=60, "slow";q=4;w=8"#)
    );
    assert_eq!(
        reply.header("ratelimit"),
        Some(r#""shield";r=59;t=1, "slow";r=3;t=2"#)
    );
}

/// A limit for which `admitted` requests count, and one for which `all` do.
fn counting() -> Value {
    json!([
        { "name": "shield", "key": "client_address", "rate": "100/h", "count": "all" },
        { "name": "admitted", "key": "consumer", "rate": "100/h" },
        { "name": "boxed", "key": "consumer", "rate": "100/h", "on_exceed": { "block_for": "1h" } },
    ])
}

fn standing(reply: &Reply) -> [Option<u64>; 3] {
    ["shield", "admitted", "boxed"].map(|limit| left(reply, limit))
}

#[test]
fn what_the_plan_refuses_is_given_back_to_limits_on_admitted_requests() {
    let plan = json!({ "quota": { "limit": 1, "period": "day" }, "apis": ["accounts-v1"] });
    let config = with_plans(counting(), plan);
    let gateway: Gateway<WithPlans> = start(&config);
    let reply = gateway.send(caller("acme"));
    assert_eq!(
        (reply.status, standing(&reply)),
        (200, [Some(99), Some(99), Some(99)])
    );
    for refused in 1..4 {
        let reply = gateway.send(caller("acme"));
        assert_eq!(
            (reply.status, reply.kind().as_str()),
            (429, "quota-exceeded")
        );
        // The headers too tell of what was given back.
        assert_eq!(standing(&reply), [Some(99 - refused), Some(99), Some(99)]);
    }
    // Refused for the API, before any limit on admitted requests is asked.
    let payments = Request::get("/v1/payments").header("x-api-key", "bolt");
    let reply = gateway.send(payments);
    assert_eq!(
        (reply.status, standing(&reply)),
        (403, [Some(95), None, None])
    );
    let reply = gateway.send(caller("guess"));
    assert_eq!(
        (reply.status, standing(&reply)),
        (401, [Some(94), None, None])
    );
    let reply = gateway.send(caller("bolt"));
    assert_eq!(
        (reply.status, standing(&reply)),
        (200, [Some(93), Some(99), Some(99)])
    );
}

#[test]
fn what_a_concurrency_limit_refuses_is_given_back() {
    let mut limits = counting();
    limits
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "under-way", "key": "global", "concurrent": 1 }));
    let gateway = gateway(limits);
    let (reply, open) = gateway.begin(Request::get("/"));
    assert_eq!(
        (reply.status, standing(&reply)),
        (200, [Some(99), Some(99), Some(99)])
    );
    let reply = gateway.send(Request::get("/"));
    assert_eq!(reply.kind(), "concurrency-limited");
    assert_eq!(standing(&reply), [Some(98), Some(99), Some(99)]);
    gateway.end(open);
    let reply = gateway.send(Request::get("/"));
    assert_eq!(
        (reply.status, standing(&reply)),
        (200, [Some(97), Some(98), Some(98)])
    );
}

/// A shield holds back whoever guesses keys, before a key is looked at.
#[test]
fn a_limit_on_all_requests_comes_before_authentication() {
    let limits =
        json!([{ "name": "shield", "key": "client_address", "rate": "3/h", "count": "all" }]);
    let gateway: Gateway<WithPlans> = start(&with_plans(limits, json!({})));
    assert_eq!(
        statuses(&gateway, &caller("guess"), 5),
        [401, 401, 401, 429, 429]
    );
    assert_eq!(statuses(&gateway, &caller("acme"), 1), [429]);
}

#[test]
fn an_admitted_request_costs_a_read_and_a_write_for_each_limit() {
    let config = json!({
        "telemetry": { "filter_state": false },
        "rate_limit": [
            { "name": "a", "key": "global", "rate": "100/h" },
            { "name": "b", "key": { "header": "x-user" }, "rate": "100/h" },
            { "name": "c", "key": "global", "concurrent": 100 },
        ],
    });
    let gateway: Gateway<Alone> = start(&config);
    let calls = |request: Request| {
        let before = gateway.host.calls();
        let (_, open) = gateway.begin(request);
        let begun = gateway.host.calls() - before;
        gateway.end(open);
        (begun, gateway.host.calls() - before - begun)
    };
    calls(Request::get("/"));
    // A read, a write and a counter for each limit, and the counter of the chain.
    assert_eq!(calls(Request::get("/")), (3 * 3 + 1, 2));
}
