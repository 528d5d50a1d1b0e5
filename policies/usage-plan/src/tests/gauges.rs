//! What operators see of quotas.

use std::collections::BTreeMap;
use std::time::Duration;

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// What a gateway shows of quotas: used and limit, by consumer and quota.
fn shown(gateway: &Plugin) -> BTreeMap<String, (u64, u64)> {
    let mut shown = BTreeMap::new();
    for (name, value) in gateway.host.process.gauges() {
        let (labels, name) = name.rsplit_once(";.;").unwrap();
        let labels = labels.replace(";.;", " ").replace("=.=", "=");
        let entry: &mut (u64, u64) = shown.entry(labels).or_default();
        match name {
            "tollgate_quota_used_requests" => entry.0 = value,
            "tollgate_quota_limit_requests" => entry.1 = value,
            other => panic!("a gauge {other}"),
        }
    }
    shown
}

fn daily(merged: Value) -> Plugin {
    start(&config(
        json!({ "quota": [{ "limit": 5, "period": "day" }, { "limit": 100, "period": "month" }] }),
        merged,
    ))
}

const DAY: &str = "consumer=acme limit=day";
const MONTH: &str = "consumer=acme limit=month";

#[test]
fn each_quota_is_shown_as_it_is_used() {
    let gateway = daily(json!({}));
    assert_eq!(gateway.tick(), Some(Duration::from_secs(10)));
    assert_eq!(shown(&gateway), BTreeMap::new(), "nobody has called");
    statuses(&gateway, 7);
    gateway.tick();
    assert_eq!(shown(&gateway), BTreeMap::new(), "it is not time yet");
    gateway.clock().advance(Duration::from_secs(10));
    gateway.tick();
    let expected = [(DAY, (5, 5)), (MONTH, (5, 100))];
    let expected = expected.map(|(labels, values)| (labels.to_owned(), values));
    assert_eq!(shown(&gateway), BTreeMap::from(expected));
}

#[test]
fn a_quota_is_free_again_when_its_window_ends_though_nobody_calls() {
    let gateway = daily(json!({}));
    statuses(&gateway, 3);
    gateway.tick();
    assert_eq!(shown(&gateway)[DAY], (3, 5));
    gateway.clock().advance(Duration::from_secs(86_400));
    gateway.tick();
    assert_eq!(shown(&gateway)[DAY], (0, 5));
    assert_eq!(shown(&gateway)[MONTH], (3, 100));
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_readings() {
    let gateway = daily(json!({}));
    gateway.tick();
    statuses(&gateway, 1);
    let earlier = gateway.clock().now().as_nanos() - 3_600_000_000_000;
    gateway
        .clock()
        .set(tollgate_core::time::Timestamp::from_nanos(earlier));
    gateway.tick();
    assert_eq!(shown(&gateway)[DAY], (1, 5));
}

#[test]
fn only_as_many_consumers_as_have_metrics_of_their_own_are_shown() {
    let mut document = config(
        json!({ "quota": { "limit": 5, "period": "day" } }),
        json!({ "consumers": [
            { "id": "acme", "plan": "gold", "keys": [key("acme-key")] },
            { "id": "bolt", "plan": "gold", "keys": [key("bolt-key")] },
        ] }),
    );
    document["telemetry"] = json!({ "consumers": 1 });
    let gateway = start(&document);
    call(&gateway);
    gateway.send(Request::get("/v1/accounts").header("x-api-key", "bolt-key"));
    gateway.tick();
    let shown: Vec<_> = shown(&gateway).into_keys().collect();
    assert_eq!(shown, ["consumer=acme limit=day"]);
}

#[test]
fn without_quotas_there_are_no_readings() {
    let gateway = gateway(json!({ "throttle": "10/s" }));
    call(&gateway);
    let calls = gateway.host.calls();
    assert_eq!(gateway.tick(), None);
    assert_eq!(gateway.host.calls(), calls);
}
