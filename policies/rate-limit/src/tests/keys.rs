//! Who is one client.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// What a key may look at.
struct Call {
    address: Option<&'static str>,
    route: Option<&'static str>,
    request: Request,
}

fn call() -> Call {
    Call {
        address: None,
        route: None,
        request: Request::get("/"),
    }
}

fn at(address: &'static str) -> Call {
    Call {
        address: Some(address),
        ..call()
    }
}

fn on_route(name: &'static str) -> Call {
    Call {
        route: Some(name),
        ..call()
    }
}

fn path(path: &str) -> Call {
    Call {
        request: Request::get(path),
        ..call()
    }
}

fn header(name: &str, value: &str) -> Call {
    Call {
        request: Request::get("/").header(name, value),
        ..call()
    }
}

fn send<P: Policies>(gateway: &Gateway<P>, call: &Call) -> u16 {
    let address = call.address.map(|address| address.parse().unwrap());
    gateway.host.client_address.set(address);
    *gateway.host.route_name.borrow_mut() = call.route.map(str::to_owned);
    gateway.send(call.request.clone()).status
}

/// Whether two requests are of one client: then the second finds the bucket empty.
fn same(key: &Value, first: &Call, second: &Call) -> bool {
    let limits = json!([{ "name": "one", "key": key, "rate": "1/h" }]);
    let gateway: Gateway<Alone> =
        start(&json!({ "apis": apis(), "rate_limit": limits, "nobody": {} }));
    assert_eq!(send(&gateway, first), 200);
    send(&gateway, second) == 429
}

fn assert_apart(key: Value, calls: &[Call]) {
    for (i, first) in calls.iter().enumerate() {
        for (j, second) in calls.iter().enumerate() {
            assert_eq!(same(&key, first, second), i == j, "{key}: {i}, {j}");
        }
    }
}

fn assert_same(key: Value, calls: &[Call]) {
    for (i, first) in calls.iter().enumerate() {
        for (j, second) in calls.iter().enumerate() {
            assert!(same(&key, first, second), "{key}: {i}, {j}");
        }
    }
}

#[test]
fn each_part_tells_clients_apart() {
    assert_apart(
        json!("client_address"),
        &[
            call(),
            at("192.0.2.1"),
            at("192.0.2.2"),
            at("2001:db8::1"),
            at("2001:db8:0:1::1"),
        ],
    );
    assert_apart(
        json!("api"),
        &[path("/"), path("/v1/accounts/7"), path("/v1/payments/7")],
    );
    assert_apart(json!("route"), &[call(), on_route("a"), on_route("b")]);
    assert_apart(
        json!({ "header": "X-User" }),
        &[call(), header("x-user", "ann"), header("x-user", "bob")],
    );
    assert_apart(
        json!({ "query": "user" }),
        &[path("/"), path("/?user=ann"), path("/?user=bob")],
    );
    assert_apart(
        json!({ "cookie": "user" }),
        &[
            call(),
            header("cookie", "user=ann"),
            header("cookie", "user=bob"),
        ],
    );
}

#[test]
fn what_a_key_does_not_name_makes_no_other_client() {
    assert_same(
        json!("global"),
        &[at("192.0.2.1"), on_route("a"), path("/v1/accounts")],
    );
    assert_same(
        json!("api"),
        &[
            path("/v1/accounts/7"),
            path("/v1/accounts/8?x"),
            path("/v1//accounts/8"),
        ],
    );
    assert_same(
        json!({ "query": "user" }),
        &[
            path("/?user=ann"),
            path("/other?x=1&user=ann"),
            path("/?us%65r=a%6en"),
        ],
    );
    assert_same(
        json!({ "cookie": "user" }),
        &[
            header("cookie", "user=ann"),
            header("cookie", "x=1; user=ann; y=2"),
            header("cookie", "user=\"ann\""),
        ],
    );
    assert_same(
        json!({ "header": "x-user" }),
        &[
            header("x-user", "ann"),
            header("X-User".to_lowercase().as_str(), "ann"),
        ],
    );
}

/// Leaving out what tells clients apart is no way around a limit: all who do are one client.
#[test]
fn whoever_lacks_the_part_shares_a_bucket() {
    assert_same(json!("client_address"), &[call(), call()]);
    assert_same(json!("consumer"), &[at("192.0.2.1"), at("192.0.2.2")]);
    assert_same(json!("plan"), &[at("192.0.2.1"), at("192.0.2.2")]);
    assert_same(
        json!("api"),
        &[path("/"), path("/v1"), path("/v9/accounts")],
    );
    assert_same(
        json!({ "header": "x-user" }),
        &[call(), header("x-user", ""), header("x-users", "ann")],
    );
    assert_same(
        json!({ "query": "user" }),
        &[
            path("/"),
            path("/?user"),
            path("/?user=&x"),
            path("/?USER=ann"),
        ],
    );
    assert_same(
        json!({ "cookie": "user" }),
        &[
            call(),
            header("cookie", "user="),
            header("cookie", "users=ann"),
        ],
    );
}

#[test]
fn networks_are_as_wide_as_configured() {
    let key =
        |v4: u8, v6: u8| json!({ "client_address": { "ipv4_prefix": v4, "ipv6_prefix": v6 } });
    for (key, first, second, one) in [
        (json!("client_address"), "192.0.2.1", "192.0.2.0", false),
        (
            json!("client_address"),
            "2001:db8::1",
            "2001:db8::ffff:0:0:1",
            true,
        ),
        (
            json!({ "client_address": {} }),
            "2001:db8::1",
            "2001:db8::2",
            true,
        ),
        (key(24, 64), "192.0.2.1", "192.0.2.255", true),
        (key(24, 64), "192.0.2.1", "192.0.3.1", false),
        (key(31, 64), "192.0.2.2", "192.0.2.3", true),
        (key(31, 64), "192.0.2.1", "192.0.2.2", false),
        (key(0, 64), "192.0.2.1", "8.8.8.8", true),
        (key(0, 0), "0.0.0.0", "2001:db8::1", false),
        (key(32, 0), "2001:db8::1", "fe80::1", true),
        (key(32, 48), "2001:db8:0:1::", "2001:db8:0:ffff::", true),
        (key(32, 48), "2001:db8:0::", "2001:db8:1::", false),
        (key(32, 128), "2001:db8::1", "2001:db8::2", false),
        (key(32, 128), "2001:db8::1", "2001:db8::1", true),
    ] {
        assert_eq!(
            same(&key, &at(first), &at(second)),
            one,
            "{key} {first} {second}"
        );
    }
}

#[test]
fn parts_are_joined_and_kept_apart() {
    let of = |user: &str, tenant: &str| Call {
        request: Request::get("/")
            .header("x-user", user)
            .header("x-tenant", tenant),
        ..call()
    };
    assert_apart(
        json!([{ "header": "x-user" }, { "header": "x-tenant" }]),
        &[
            of("ab", "c"),
            of("a", "bc"),
            of("", "abc"),
            of("abc", ""),
            of("c", "ab"),
        ],
    );
    let from = |address, path| Call {
        request: Request::get(path),
        ..at(address)
    };
    assert_apart(
        json!(["client_address", "api"]),
        &[
            from("192.0.2.1", "/v1/accounts"),
            from("192.0.2.1", "/v1/payments"),
            from("192.0.2.2", "/v1/accounts"),
            from("192.0.2.2", "/"),
        ],
    );
    // `global` adds nothing.
    assert_apart(
        json!(["global", "client_address"]),
        &[at("192.0.2.1"), at("192.0.2.2")],
    );
}

#[test]
fn consumers_and_plans_are_those_of_the_usage_plan() {
    let limits = json!([
        { "name": "per-consumer", "key": "consumer", "rate": "2/h" },
        { "name": "per-plan", "key": ["plan"], "rate": "3/h" },
        { "name": "per-plan-and-api", "key": ["plan", "api"], "rate": "100/h" },
    ]);
    let gateway: Gateway<WithPlans> = start(&with_plans(limits, json!({})));
    assert_eq!(statuses(&gateway, &caller("acme"), 3), [200, 200, 429]);
    // What the plan has left is for its other consumers.
    let reply = gateway.send(caller("bolt"));
    assert_eq!((reply.status, left(&reply, "per-plan")), (200, Some(0)));
    assert_eq!(violated(&gateway.send(caller("bolt"))), ["per-plan"]);
    assert_eq!(statuses(&gateway, &caller("cent"), 3), [200, 200, 429]);
    // Whoever is refused for its key comes to no limit that counts admitted requests.
    assert_eq!(statuses(&gateway, &caller("guess"), 5), [401; 5]);

    let mut keys = gateway.host.process.shared_keys();
    keys.retain(|key| key.starts_with("tollgate/limit/"));
    keys.sort();
    assert_eq!(
        keys,
        [
            "tollgate/limit/default per-consumer acme",
            "tollgate/limit/default per-consumer bolt",
            "tollgate/limit/default per-consumer cent",
            "tollgate/limit/default per-plan bronze",
            "tollgate/limit/default per-plan gold",
            "tollgate/limit/default per-plan-and-api bronze accounts-v1",
            "tollgate/limit/default per-plan-and-api gold accounts-v1",
        ]
    );
}

#[test]
fn limits_of_one_name_and_namespace_share_their_state() {
    let config = |namespace: &str, name: &str| {
        json!({ "rate_limit": [
            { "name": name, "namespace": namespace, "key": "client_address", "rate": "2/h" },
        ] })
    };
    let first: Gateway<Alone> = start(&config("a", "x"));
    assert_eq!(from(&first, "192.0.2.1").status, 200);
    let second: Gateway<Alone> = another_worker(&first, &config("a", "x"));
    assert_eq!(statuses(&second, &Request::get("/"), 2), [200, 429]);
    for (namespace, name) in [("b", "x"), ("a", "y")] {
        let other: Gateway<Alone> = another_worker(&first, &config(namespace, name));
        assert_eq!(statuses(&other, &Request::get("/"), 3), [200, 200, 429]);
    }
}

#[test]
fn claims_of_the_token_tell_clients_apart() {
    let limits = json!([{ "name": "one", "key": { "claim": ["org", "id"] }, "rate": "1/h" }]);
    let config = json!({ "nobody": {}, "tokens": {}, "rate_limit": limits });
    let gateway =
        start::<tollgate_core::chain!(RateLimit, Nobody, Tokens, tollgate_access::Access)>(&config);
    let call = |claims: &str| {
        gateway
            .send(Request::get("/").header("claims", claims))
            .status
    };
    assert_eq!(call(r#"{"org":{"id":"a"},"sub":"1"}"#), 200);
    assert_eq!(call(r#"{"org":{"id":"a"},"sub":"2"}"#), 429);
    assert_eq!(call(r#"{"org":{"id":"b"}}"#), 200);
    assert_eq!(call(r#"{"org":{"id":7}}"#), 200);
    // Whatever can't tell clients apart is as if it were not there.
    assert_eq!(call(r#"{"org":{"id":["a"]}}"#), 200);
    assert_eq!(call(r#"{"org":{}}"#), 429);
    assert_eq!(gateway.send(Request::get("/")).status, 429);
}
