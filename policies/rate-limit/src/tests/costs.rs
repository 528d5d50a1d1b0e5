//! What a request costs, and what a rate is.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// How much of 100 tokens a request takes that comes from 10.0.0.1.
fn taken(cost: Value, request: Request) -> u64 {
    let gateway =
        gateway(json!([{ "name": "one", "key": "global", "rate": "100/h", "cost": cost }]));
    set_address(&gateway, "10.0.0.1");
    100 - left(&gateway.send(request), "one").unwrap()
}

#[test]
fn a_cost_may_be_constant_or_by_method() {
    let get = || Request::get("/");
    assert_eq!(taken(json!(7), get()), 7);
    assert_eq!(taken(json!(1e1), get()), 10);
    assert_eq!(taken(json!(0), get()), 0);
    assert_eq!(taken(json!({}), get()), 1);
    let by_method = || json!({ "default": 2, "methods": { "POST": 5, "DELETE": 0 } });
    assert_eq!(taken(by_method(), get()), 2);
    assert_eq!(taken(by_method(), Request::new("POST", "/")), 5);
    assert_eq!(taken(by_method(), Request::new("DELETE", "/")), 0);
    // A method that a server may take for another costs what the dearest does.
    assert_eq!(taken(by_method(), Request::new("post", "/")), 5);
    assert_eq!(taken(by_method(), Request::new("delete", "/")), 5);
}

fn said(value: &str) -> Request {
    Request::new("POST", "/").header("x-cost", value)
}

fn by_header() -> Value {
    json!({
        "default": 2,
        "methods": { "POST": 3 },
        "header": { "name": "X-Cost", "from": ["10.0.0.0/8"], "max": 40 },
    })
}

#[test]
fn a_trusted_caller_may_say_what_a_request_costs() {
    for (value, cost) in [
        ("7", 7),
        ("0", 0),
        ("40", 40),
        ("41", 40),
        ("4294967295", 40),
    ] {
        assert_eq!(taken(by_header(), said(value)), cost, "{value}");
    }
    for nonsense in ["", "-1", "1.5", "many", "4294967296", "0x10", "\u{ff}"] {
        assert_eq!(taken(by_header(), said(nonsense)), 3, "{nonsense}");
    }
    assert_eq!(taken(by_header(), Request::get("/")), 2);
}

#[test]
fn nobody_else_is_believed() {
    let gateway =
        gateway(json!([{ "name": "one", "key": "global", "rate": "100/h", "cost": by_header() }]));
    set_address(&gateway, "192.0.2.1");
    assert_eq!(left(&gateway.send(said("0")), "one"), Some(97));
    gateway.host.client_address.set(None);
    assert_eq!(left(&gateway.send(said("0")), "one"), Some(94));
}

#[test]
fn the_header_with_the_cost_is_not_for_the_upstream() {
    for address in ["10.0.0.1", "192.0.2.1"] {
        let gateway = gateway(
            json!([{ "name": "one", "key": "global", "rate": "100/h", "cost": by_header() }]),
        );
        set_address(&gateway, address);
        let request = said("5").header("x-cost", "6").header("x-other", "7");
        let upstream = gateway.send(request).upstream.unwrap();
        assert_eq!(upstream.all("x-cost"), Vec::<String>::new());
        assert_eq!(upstream.all("x-other"), ["7"]);
    }
}

/// More than a full bucket holds could never be admitted.
#[test]
fn a_cost_is_at_most_the_burst() {
    let gateway = gateway(json!([{ "name": "one", "key": "global", "rate": "5/s", "cost": 9 }]));
    let request = Request::get("/");
    assert_eq!(statuses(&gateway, &request, 2), [200, 429]);
    assert_eq!(retry_after(&gateway.send(request.clone())), 1);
    pass(&gateway, 0.999);
    assert_eq!(statuses(&gateway, &request, 1), [429]);
    pass(&gateway, 0.001);
    assert_eq!(statuses(&gateway, &request, 2), [200, 429]);
}

#[test]
fn every_spelling_of_a_rate_admits_what_it_says() {
    for (fields, burst, interval_s) in [
        (json!({ "rate": "100/s" }), 100, 0.01),
        (json!({ "rate": "2000 / 5m" }), 2000, 0.15),
        (json!({ "rate": "10/min" }), 10, 6.0),
        (json!({ "rate": "10r/s" }), 1, 0.1),
        (json!({ "rate": "10r/s burst=20" }), 21, 0.1),
        (json!({ "rate": "10r/s burst=20 nodelay" }), 21, 0.1),
        (json!({ "rate": "600r/m" }), 1, 0.1),
        (json!({ "rate": "10ps" }), 1, 0.1),
        (json!({ "rate": "12pm" }), 1, 5.0),
        (json!({ "rate": "100/s burst=50" }), 50, 0.01),
        (json!({ "rate": "100/s", "burst": 50 }), 50, 0.01),
        (json!({ "rate": "12pm", "burst": 3 }), 3, 5.0),
        (json!({ "rate": "100/s", "smoothing": true }), 1, 0.01),
        (json!({ "rate": "12pm", "smoothing": true }), 1, 5.0),
        (json!({ "rate": "100/s", "smoothing": false }), 100, 0.01),
    ] {
        let mut limit = json!({ "name": "one", "key": "global" });
        let more = fields.as_object().unwrap().clone();
        limit.as_object_mut().unwrap().extend(more);
        let gateway = gateway(json!([limit]));
        let admitted = || {
            let admitted = |status: &u16| *status == 200;
            statuses(&gateway, &Request::get("/"), burst + 1)
                .iter()
                .filter(|s| admitted(s))
                .count()
        };
        assert_eq!(admitted(), burst, "{fields}");
        pass(&gateway, interval_s - 0.000_001);
        assert_eq!(admitted(), 0, "{fields}");
        pass(&gateway, 0.000_001);
        assert_eq!(admitted(), 1, "{fields}");
        pass(&gateway, interval_s * 3.0);
        assert_eq!(admitted(), burst.min(3), "{fields}");
        pass(&gateway, interval_s * 1e6);
        assert_eq!(admitted(), burst, "{fields}");
    }
}
