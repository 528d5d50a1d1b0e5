//! The penalty box.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn boxed(rate: &str, penalty: Value) -> Gateway<Alone> {
    gateway(json!([
        { "name": "boxed", "key": "client_address", "rate": rate, "on_exceed": penalty },
    ]))
}

fn kinds(gateway: &Gateway<Alone>, count: usize) -> Vec<String> {
    let kind = |reply: Reply| match reply.status {
        200 => "ok".to_owned(),
        _ => reply.kind(),
    };
    (0..count)
        .map(|_| kind(gateway.send(Request::get("/"))))
        .collect()
}

#[test]
fn a_client_that_goes_on_is_blocked_and_then_free_again() {
    let gateway = boxed(
        "2/s",
        json!({ "block_for": "10m", "after": 3, "within": "1m" }),
    );
    assert_eq!(
        kinds(&gateway, 6),
        [
            "ok",
            "ok",
            "rate-limited",
            "rate-limited",
            "client-blocked",
            "client-blocked"
        ]
    );
    let reply = gateway.send(Request::get("/"));
    assert_eq!(reply.status, 429);
    let problem = reply.problem();
    assert_eq!(
        problem["type"],
        "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"
    );
    assert_eq!(
        (violated(&reply), retry_after(&reply)),
        (vec!["boxed".to_owned()], 600)
    );
    assert_eq!(reply.header("ratelimit"), Some(r#""boxed";r=0;t=600"#));
    assert_eq!(
        from(&gateway, "192.0.2.2").status,
        200,
        "others are not blocked"
    );

    // Long after the bucket is full again, and whatever the client does meanwhile.
    for _ in 0..599 {
        pass(&gateway, 1.0);
        assert_eq!(from(&gateway, "192.0.2.1").kind(), "client-blocked");
    }
    assert_eq!(retry_after(&gateway.send(Request::get("/"))), 1);
    pass(&gateway, 0.999_999_999);
    assert_eq!(kinds(&gateway, 1), ["client-blocked"]);
    pass(&gateway, 0.000_000_001);
    // Its denials are forgotten too.
    assert_eq!(
        kinds(&gateway, 5),
        ["ok", "ok", "rate-limited", "rate-limited", "client-blocked"]
    );
}

#[test]
fn without_a_number_the_first_denial_blocks() {
    let gateway = boxed("2 / 5m", json!({ "block_for": "10m" }));
    assert_eq!(
        kinds(&gateway, 4),
        ["ok", "ok", "client-blocked", "client-blocked"]
    );
    pass(&gateway, 600.0);
    assert_eq!(kinds(&gateway, 3), ["ok", "ok", "client-blocked"]);
}

#[test]
fn denials_count_together_within_the_window_only() {
    let penalty = json!({ "block_for": "10m", "after": 3, "within": "1m" });
    let gateway = boxed("1/s", penalty);
    for _ in 0..10 {
        assert_eq!(kinds(&gateway, 3), ["ok", "rate-limited", "rate-limited"]);
        pass(&gateway, 60.0);
    }
    // The window begins with the first denial.
    assert_eq!(kinds(&gateway, 2), ["ok", "rate-limited"]);
    pass(&gateway, 30.0);
    assert_eq!(kinds(&gateway, 2), ["ok", "rate-limited"]);
    pass(&gateway, 29.9);
    assert_eq!(kinds(&gateway, 2), ["ok", "client-blocked"]);
}

#[test]
fn a_window_that_is_left_out_is_as_long_as_the_block() {
    let gateway = boxed("1/s", json!({ "block_for": "10m", "after": 2 }));
    assert_eq!(kinds(&gateway, 2), ["ok", "rate-limited"]);
    pass(&gateway, 599.0);
    assert_eq!(kinds(&gateway, 2), ["ok", "client-blocked"]);
}

#[test]
fn a_client_that_waits_as_it_is_told_is_never_blocked() {
    let gateway = boxed("3/s", json!({ "block_for": "10m", "after": 2 }));
    for _ in 0..300 {
        let reply = gateway.send(Request::get("/"));
        assert_eq!(reply.status, 200);
        if left(&reply, "boxed") == Some(0) {
            let (_, seconds) = reply
                .header("ratelimit")
                .unwrap()
                .split_once(";t=")
                .unwrap();
            pass(&gateway, seconds.parse().unwrap());
        }
    }
    // Nor is one that notices by being refused, and then waits until its denial is forgotten.
    for _ in 0..300 {
        let reply = gateway.send(Request::get("/"));
        if reply.status != 200 {
            assert_eq!(reply.kind(), "rate-limited");
            pass(&gateway, 600.0);
        }
    }
}

#[test]
fn a_blocked_client_costs_no_write() {
    let limit = json!({ "name": "boxed", "key": "global", "rate": "1/h",
        "on_exceed": { "block_for": "10m" } });
    for count in ["admitted", "all"] {
        let mut limit = limit.clone();
        limit["count"] = json!(count);
        let config = json!({ "telemetry": { "filter_state": false }, "rate_limit": [limit] });
        let gateway: Gateway<Alone> = start(&config);
        assert_eq!(
            kinds(&gateway, 3),
            ["ok", "client-blocked", "client-blocked"]
        );
        let before = gateway.host.calls();
        assert_eq!(kinds(&gateway, 10), ["client-blocked"; 10]);
        // A read and two counters.
        assert_eq!(gateway.host.calls() - before, 10 * 3, "{count}");
    }
}

#[test]
fn a_block_holds_on_every_worker_and_before_authentication() {
    let limits = json!([
        { "name": "boxed", "key": "client_address", "rate": "3/s", "count": "all",
          "on_exceed": { "block_for": "10m" } },
    ]);
    let config = with_plans(limits, json!({}));
    let first: Gateway<WithPlans> = start(&config);
    let second: Gateway<WithPlans> = another_worker(&first, &config);
    assert_eq!(statuses(&first, &caller("guess"), 4), [401, 401, 401, 429]);
    pass(&first, 60.0);
    for gateway in [&first, &second] {
        assert_eq!(gateway.send(caller("acme")).kind(), "client-blocked");
    }
}

/// What other limits refuse is no denial of this one.
#[test]
fn only_denials_of_the_limit_itself_count() {
    let gateway = gateway(json!([
        { "name": "boxed", "key": "global", "rate": "10/h",
          "on_exceed": { "block_for": "10m", "after": 2 } },
        { "name": "tight", "key": "client_address", "rate": "1/h" },
    ]));
    assert_eq!(gateway.send(Request::get("/")).status, 200);
    for _ in 0..20 {
        let reply = gateway.send(Request::get("/"));
        assert_eq!(
            (violated(&reply), left(&reply, "boxed")),
            (vec!["tight".to_owned()], Some(9))
        );
    }
    for i in 2..11 {
        assert_eq!(from(&gateway, &format!("192.0.2.{i}")).status, 200);
    }
    // Refused by both, the second time with a block, which is then what the client is told.
    let reply = gateway.send(Request::get("/"));
    assert_eq!(
        (reply.kind().as_str(), retry_after(&reply)),
        ("rate-limited", 3600)
    );
    assert_eq!(violated(&reply), ["tight", "boxed"]);
    let reply = gateway.send(Request::get("/"));
    assert_eq!(
        (reply.kind().as_str(), retry_after(&reply)),
        ("client-blocked", 3600)
    );
}

#[test]
fn a_clock_that_steps_back_blocks_nobody_for_longer() {
    let gateway = boxed("1/s", json!({ "block_for": "10m" }));
    assert_eq!(kinds(&gateway, 2), ["ok", "client-blocked"]);
    step_back(&gateway, 365 * 86_400);
    assert_eq!(retry_after(&gateway.send(Request::get("/"))), 600);
    pass(&gateway, 600.0);
    assert_eq!(kinds(&gateway, 1), ["ok"]);
}
