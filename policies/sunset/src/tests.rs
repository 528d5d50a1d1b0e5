use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

use tollgate_core::chain::Responded;
use tollgate_core::policy::{ResponseHeaders, ResponseSource};
use tollgate_core::time::Instant3339;
use tollgate_testkit::{Gateway, Open, Reply, Request};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

mod refused;

type Chain = tollgate_core::chain!(
    tollgate_usage_plan::UsagePlan,
    tollgate_access::Access,
    Sunset
);
type Plugin = Gateway<Chain>;

fn start(version: Value) -> Plugin {
    let mut life = json!({
        "api": "accounts-v1",
        "deprecated": "2026-09-15T00:00:00Z",
        "sunset": "2027-03-15T00:00:00Z",
        "successor": "/v2/accounts/{**}",
        "docs": "https://dev.bank.example/v2",
    });
    let fields = life.as_object_mut().unwrap();
    fields.extend(version.as_object().unwrap().clone());
    let config = json!({
        "apis": [{ "name": "accounts-v1", "match": [{ "path": "/v1/accounts/{**}" }] }],
        "usage_plan": {
            "key": { "header": "x-api-key", "query": "api_key" },
            "plans": { "gold": {} },
            "anonymous": { "plan": "gold" },
            "consumers": [{ "id": "acme", "plan": "gold", "keys": [{
                // The SHA-256 of the key.
                "sha256": "5d0a9ed0eb8b1e4f1ecd3e0e2f4d7c2e3a4b5c6d7e8f90123456789abcdef012",
            }] }],
        },
        "sunset": [life],
    });
    Plugin::start(&config).unwrap_or_else(|errors| panic!("{errors}"))
}

fn sha256(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn at(plugin: &Plugin, instant: &str) {
    let Instant3339(instant) = instant.parse().unwrap();
    plugin.clock().set(instant);
}

fn get(path: &str) -> Request {
    Request::get(path)
}

fn call(plugin: &Plugin) -> Reply {
    plugin.send(get("/v1/accounts/42"))
}

const LINKS: &str = "<https://dev.bank.example/v2>; rel=\"deprecation\", \
                     <https://dev.bank.example/v2>; rel=\"sunset\", \
                     </v2/accounts/42>; rel=\"successor-version\"";

#[test]
fn what_is_to_come_is_announced_on_every_response() {
    let plugin = start(json!({}));
    let reply = call(&plugin);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("deprecation"), Some("@1789430400"));
    assert_eq!(
        reply.header("sunset"),
        Some("Mon, 15 Mar 2027 00:00:00 GMT")
    );
    assert_eq!(reply.header("link"), Some(LINKS));
    // On refusals too.
    let refused = plugin.send(get("/v1/accounts/42").header("x-api-key", "unknown"));
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("deprecation"), Some("@1789430400"));
    // And on nothing else.
    let other = plugin.send(get("/v2/accounts/42"));
    assert_eq!(other.header("deprecation"), None);
}

#[test]
fn a_version_ends_to_the_second() {
    let plugin = start(json!({}));
    at(&plugin, "2027-03-14T23:59:59Z");
    assert_eq!(call(&plugin).status, 200);
    at(&plugin, "2027-03-15T00:00:00Z");
    let reply = plugin.send(get("/v1/accounts/42/cards?page=2&api_key=secret"));
    assert_eq!((reply.status, reply.kind().as_str()), (410, "api-retired"));
    // The successor of this very request, without the credential.
    assert_eq!(reply.problem()["successor"], "/v2/accounts/42/cards?page=2");
    let links = reply.header("link").unwrap();
    assert!(
        links.contains("</v2/accounts/42/cards?page=2>; rel=\"successor-version\""),
        "{links}"
    );
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    // A clock that steps back leads back.
    at(&plugin, "2027-03-14T23:59:59Z");
    assert_eq!(call(&plugin).status, 200);
}

#[test]
fn the_end_may_be_a_redirect_or_a_hint() {
    let plugin = start(json!({ "after_sunset": "redirect" }));
    at(&plugin, "2027-04-01T00:00:00Z");
    let reply = plugin.send(get("/v1/accounts/42?a=b"));
    assert_eq!((reply.status, reply.kind().as_str()), (308, "api-moved"));
    assert_eq!(reply.header("location"), Some("/v2/accounts/42?a=b"));
    // A long one is no link, and still the whole way.
    let query = "x".repeat(4000);
    let reply = plugin.send(get(&format!("/v1/accounts/42?{query}")));
    let location = format!("/v2/accounts/42?{query}");
    assert_eq!(reply.header("location"), Some(location.as_str()));
    assert!(!reply.header("link").unwrap().contains("successor-version"));
    let plugin = start(json!({ "after_sunset": "pass" }));
    at(&plugin, "2027-04-01T00:00:00Z");
    assert_eq!(call(&plugin).status, 200);
    let plugin = start(json!({ "mode": "shadow" }));
    at(&plugin, "2027-04-01T00:00:00Z");
    assert_eq!(call(&plugin).status, 200);
    assert_eq!(
        plugin.host.filter_state.borrow()["tollgate_decision"],
        "would_deny"
    );
    let counters = plugin.host.process.counters();
    let calls: u64 = counters
        .iter()
        .filter(|(name, _)| name.ends_with("tollgate_lifecycle_requests_total"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(calls, 1);
}

#[test]
fn brownouts_say_when_they_end() {
    for (answer, status, kind) in [
        ("gone", 410, "api-brownout"),
        ("unavailable", 503, "api-unavailable"),
    ] {
        let plugin = start(json!({
            "brownouts": [{ "at": "0 9 * * MON", "for": "15m", "answer": answer }],
        }));
        at(&plugin, "2026-11-23T08:59:59Z");
        assert_eq!(call(&plugin).status, 200);
        at(&plugin, "2026-11-23T09:00:00Z");
        let reply = call(&plugin);
        assert_eq!((reply.status, reply.kind().as_str()), (status, kind));
        assert_eq!(reply.header("retry-after"), Some("900"));
        assert_eq!(reply.problem()["successor"], "/v2/accounts/42");
        plugin.clock().advance(Duration::from_secs(900));
        assert_eq!(call(&plugin).status, 200);
    }
}

#[test]
fn the_last_brownout_promises_no_service() {
    let plugin = start(json!({ "brownouts": [{ "from": "2027-03-14T00:00:00Z", "for": "24h" }] }));
    at(&plugin, "2027-03-14T12:00:00Z");
    let reply = call(&plugin);
    assert_eq!((reply.status, reply.kind().as_str()), (410, "api-brownout"));
    assert_eq!(reply.header("retry-after"), None);
}

/// What a response of the upstream's gets.
fn respond(plugin: &Plugin, headers: &[(&str, &str)]) -> ResponseHeaders {
    let (_, mut open): (Reply, Open<Chain>) = plugin.begin(get("/v1/accounts/42"));
    let responded = plugin.respond(&mut open, 200, headers, &ResponseSource::Upstream);
    plugin.end(open);
    match responded {
        Responded::Change(headers) => headers,
        Responded::Replace(reply) => panic!("{reply:?}"),
    }
}

fn set(headers: &ResponseHeaders, name: &str) -> Option<String> {
    let mut found = headers.iter().filter(|header| header.name == name);
    let value = found.next().map(|header| header.value.to_string());
    assert!(found.next().is_none(), "{name} is there twice");
    value
}

#[test]
fn the_upstreams_own_dates_and_links_are_kept() {
    let plugin = start(json!({}));
    let headers = respond(&plugin, &[]);
    assert_eq!(set(&headers, "deprecation").as_deref(), Some("@1789430400"));
    assert_eq!(set(&headers, "link").as_deref(), Some(LINKS));
    let headers = respond(
        &plugin,
        &[
            ("deprecation", "@1600000000"),
            ("sunset", "Sun, 31 Jan 2027 00:00:00 GMT"),
            ("link", "</v2/accounts/42>; rel=\"successor-version\""),
        ],
    );
    // The earlier dates stay as they are, and no link is there twice.
    assert_eq!(set(&headers, "deprecation"), None);
    assert_eq!(set(&headers, "sunset"), None);
    let links = set(&headers, "link").unwrap();
    assert!(!links.contains("successor-version"), "{links}");
    assert!(links.contains("rel=\"deprecation\""), "{links}");
}

#[test]
fn a_consumer_with_grace_is_told_its_own_end_whatever_the_upstream_says() {
    let plugin = Plugin::start(&json!({
        "apis": [{ "name": "accounts", "match": [{ "path": "/v1/accounts/{**}" }] }],
        "usage_plan": {
            "key": { "header": "x-api-key" },
            "plans": { "gold": {} },
            "consumers": [
                { "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256("acme") }] },
                { "id": "bolt", "plan": "gold", "keys": [{ "sha256": sha256("bolt") }] },
            ],
        },
        "sunset": [{
            "api": "accounts",
            "sunset": "2027-03-15T00:00:00Z",
            "grace": { "acme": "2027-06-30T00:00:00Z" },
        }],
    }));
    let plugin = plugin.unwrap_or_else(|errors| panic!("{errors}"));
    let told = |consumer: &str| {
        let request = get("/v1/accounts/42").header("x-api-key", consumer);
        let (_, mut open): (Reply, Open<Chain>) = plugin.begin(request);
        let general = [("sunset", "Mon, 15 Mar 2027 00:00:00 GMT")];
        let responded = plugin.respond(&mut open, 200, &general, &ResponseSource::Upstream);
        plugin.end(open);
        match responded {
            Responded::Change(headers) => set(&headers, "sunset"),
            Responded::Replace(reply) => panic!("{reply:?}"),
        }
    };
    assert_eq!(
        told("acme").as_deref(),
        Some("Wed, 30 Jun 2027 00:00:00 GMT")
    );
    assert_eq!(told("bolt"), None, "the upstream's stays");
}

#[test]
fn the_end_of_a_version_is_shown_once_it_is_called() {
    let plugin = start(json!({}));
    assert_eq!(plugin.host.process.gauges().len(), 0);
    call(&plugin);
    let name = "api=.=accounts-v1;.;tollgate_sunset_timestamp_seconds";
    // 2027-03-15T00:00:00Z
    assert_eq!(plugin.host.process.gauges().get(name), Some(&1_805_068_800));
}

#[test]
fn of_versions_that_end_one_by_one_the_next_end_is_shown() {
    let plugin = Plugin::start(&json!({
        "apis": [{ "name": "accounts", "match": [{ "path": "/v1/accounts/{**}" }] }],
        "sunset": [
            {
                "api": "accounts",
                "version": { "header": "v", "value": "1" },
                "sunset": "2027-03-15T00:00:00Z",
            },
            {
                "api": "accounts",
                "version": { "header": "v", "value": "2", "default": true },
                "sunset": "2027-06-30T00:00:00Z",
            },
        ],
    }));
    let plugin = plugin.unwrap_or_else(|errors| panic!("{errors}"));
    let name = "api=.=accounts;.;tollgate_sunset_timestamp_seconds";
    for (now, end) in [
        ("2027-03-14T23:59:59Z", 1_805_068_800),
        ("2027-03-15T00:00:00Z", 1_814_313_600),
        // Back with the clock, and behind the last.
        ("2027-03-14T00:00:00Z", 1_805_068_800),
        ("2027-07-01T00:00:00Z", 1_814_313_600),
    ] {
        at(&plugin, now);
        call(&plugin);
        assert_eq!(plugin.host.process.gauges().get(name), Some(&end), "{now}");
    }
    assert_eq!(
        counted(&plugin),
        [
            ("accounts 2 ending _none".to_owned(), 3),
            ("accounts 2 retired _none".to_owned(), 1),
        ]
    );
}

#[test]
fn calls_are_counted_by_version_and_caller() {
    let plugin = start(json!({}));
    call(&plugin);
    call(&plugin);
    let name = "api=.=accounts-v1;.;api_version=.=_none;.;stage=.=deprecated;.;consumer=.=_none;.;tollgate_lifecycle_requests_total";
    assert_eq!(plugin.host.process.counters().get(name), Some(&2));
    assert_eq!(
        plugin.host.filter_state.borrow()["tollgate_lifecycle"],
        "deprecated"
    );
}

#[test]
fn versions_of_one_api_are_counted_apart() {
    let plugin = Plugin::start(&json!({
        "apis": [{ "name": "accounts", "match": [{ "path": "/v1/accounts/{**}" }] }],
        "sunset": [
            {
                "api": "accounts",
                "version": { "header": "v", "value": ["2024-01-01", "2024"] },
                "deprecated": "2026-09-15T00:00:00Z",
            },
            {
                "api": "accounts",
                "version": { "media_type": "application/json;version=2" },
                "deprecated": "2026-09-15T00:00:00Z",
            },
            { "api": "accounts", "deprecated": "2026-09-15T00:00:00Z" },
        ],
    }));
    let plugin = plugin.unwrap_or_else(|errors| panic!("{errors}"));
    for (header, value, version) in [
        ("v", "2024-01-01", Some("2024-01-01")),
        ("v", "2024", Some("2024-01-01")),
        (
            "accept",
            "application/json; version=2",
            Some("application/json;version=2"),
        ),
        ("accept", "*/*", None),
    ] {
        plugin.send(get("/v1/accounts/42").header(header, value));
        let state = plugin.host.filter_state.borrow();
        let logged = state.get("tollgate_api_version").map(String::as_str);
        assert_eq!(logged, version);
    }
    assert_eq!(
        counted(&plugin),
        [
            ("accounts 2024-01-01 deprecated _none".to_owned(), 2),
            ("accounts _none deprecated _none".to_owned(), 1),
            (
                "accounts application/json;version=2 deprecated _none".to_owned(),
                1
            ),
        ]
    );
}

#[test]
fn what_access_logs_see_can_be_turned_off() {
    for filter_state in [true, false] {
        let plugin = Plugin::start(&json!({
            "telemetry": { "filter_state": filter_state },
            "apis": [{ "name": "accounts", "match": [{ "path": "/v1/accounts/{**}" }] }],
            "sunset": [{ "api": "accounts", "deprecated": "2026-09-15T00:00:00Z" }],
        }));
        let plugin = plugin.unwrap_or_else(|errors| panic!("{errors}"));
        call(&plugin);
        let state = plugin.host.filter_state.borrow();
        assert_eq!(state.contains_key("tollgate_lifecycle"), filter_state);
        assert_eq!(state.is_empty(), !filter_state, "{state:?}");
    }
}

/// The calls that are counted, by API, version, stage and consumer.
fn counted(plugin: &Plugin) -> Vec<(String, u64)> {
    let counters = plugin.host.process.counters();
    let calls = counters.iter().filter_map(|(name, count)| {
        let labels = name.strip_suffix(";.;tollgate_lifecycle_requests_total")?;
        let values = labels
            .split(";.;")
            .filter_map(|label| label.split("=.=").nth(1));
        Some((values.collect::<Vec<_>>().join(" "), *count))
    });
    let mut calls: Vec<_> = calls.collect();
    calls.sort();
    calls
}

#[test]
fn apis_that_live_alike_are_counted_apart() {
    let plugin = Plugin::start(&json!({
        "apis": [
            { "name": "accounts", "match": [{ "path": "/v1/accounts/{**}" }] },
            { "name": "cards", "match": [{ "path": "/v1/cards/{**}" }] },
        ],
        "sunset": [{ "apis": ["accounts", "cards"], "deprecated": "2026-09-15T00:00:00Z" }],
    }));
    let plugin = plugin.unwrap_or_else(|errors| panic!("{errors}"));
    for path in ["/v1/accounts/42", "/v1/cards/7", "/v1/cards/8"] {
        plugin.send(get(path));
    }
    assert_eq!(
        counted(&plugin),
        [
            ("accounts _none deprecated _none".to_owned(), 1),
            ("cards _none deprecated _none".to_owned(), 2),
        ]
    );
}

#[test]
fn callers_beyond_the_cap_are_told_from_those_that_are_not_known() {
    let consumers: Vec<Value> = (0..202)
        .map(|i| json!({ "id": format!("c{i}"), "plan": "gold", "keys": [{ "sha256": sha256(&format!("k{i}")) }] }))
        .collect();
    let plugin = Plugin::start(&json!({
        "apis": [{ "name": "accounts", "match": [{ "path": "/v1/accounts/{**}" }] }],
        "usage_plan": {
            "key": { "header": "x-api-key" },
            "plans": { "gold": {} },
            "anonymous": { "plan": "gold" },
            "consumers": consumers,
        },
        "sunset": [{ "api": "accounts", "deprecated": "2026-09-15T00:00:00Z" }],
    }));
    let plugin = plugin.unwrap_or_else(|errors| panic!("{errors}"));
    call(&plugin);
    for i in [199, 200, 201] {
        plugin.send(get("/v1/accounts/42").header("x-api-key", format!("k{i}")));
    }
    assert_eq!(
        counted(&plugin),
        [
            ("accounts _none deprecated _none".to_owned(), 1),
            ("accounts _none deprecated _other".to_owned(), 2),
            ("accounts _none deprecated c199".to_owned(), 1),
        ]
    );
}

#[test]
fn mistakes_are_reported_with_their_paths() {
    let errors = Plugin::start(&json!({
        "apis": [{ "name": "accounts-v1", "match": [{ "path": "/v1/accounts/{**}" }] }],
        "sunset": [{
            "api": "accounts-v1",
            "deprecated": "2027-09-15T00:00:00Z",
            "sunset": "2027-03-15T00:00:00Z",
        }, { "api": "acounts" }],
    }));
    let errors = errors.err().unwrap().to_string();
    assert!(errors.contains("sunset[0]"), "{errors}");
    assert!(errors.contains("sunset[1]"), "{errors}");
    let empty = Plugin::start(&json!({ "sunset": [] })).err().unwrap();
    assert_eq!(
        empty.to_string(),
        "sunset: the list is empty: add a version"
    );
}

#[test]
fn grace_is_for_consumers_that_there_are() {
    let consumers = |ids: &[&str]| {
        let consumers: Vec<Value> = ids
            .iter()
            .map(|id| json!({ "id": id, "plan": "gold" }))
            .collect();
        json!({ "plans": { "gold": {} }, "consumers": consumers })
    };
    let read = |usage_plan: Option<Value>| {
        let mut config = json!({
            "apis": [{ "name": "a", "match": [{ "path": "/**" }] }],
            "sunset": [{
                "api": "a",
                "sunset": "2027-03-15T00:00:00Z",
                "grace": { "acme": "2027-06-30T00:00:00Z", "beta": "2027-06-30T00:00:00Z" },
            }],
        });
        if let Some(usage_plan) = usage_plan {
            config["usage_plan"] = usage_plan;
        }
        Plugin::start(&config)
            .err()
            .map(|errors| errors.to_string())
    };
    let error = read(Some(consumers(&["acne", "beta"]))).unwrap();
    assert!(
        error.contains(
            "sunset[0].grace.acme: usage_plan.consumers has no consumer \"acme\", did you mean \
             \"acne\"?"
        ),
        "{error}"
    );
    assert!(!error.contains("grace.beta"), "{error}");
    let error = read(Some(consumers(&["someone", "beta"]))).unwrap();
    assert!(error.contains("no consumer \"acme\", expected the id of one"));
    assert_eq!(read(Some(consumers(&["acme", "beta"]))), None);
    // Nothing tells who there is.
    assert_eq!(
        read(None).as_deref(),
        Some(
            "sunset[0].grace: does nothing without consumers: add usage_plan, in tollgate.wasm, \
             which has both, or remove it"
        )
    );
    // Nor does a section that can't be read; but that is the only mistake.
    let error = read(Some(json!({ "plan": {} }))).unwrap();
    assert!(
        error.contains("usage_plan") && !error.contains("grace"),
        "{error}"
    );
}
