//! What `envoy/gateway.yaml` says it does with requests: the canary, CORS, the cache, client
//! certificates, the access log and the metrics.

mod bank;

use std::collections::BTreeSet;

use bank::{ACME, BOLT, Bank, received};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate_tests::{Authority, Page, Reply, wait_for};

const ORIGIN: &str = "https://app.bank.example";

#[track_caller]
fn assert_refused(reply: &Reply, status: u16, kind: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    let problem = reply.json();
    assert_eq!(problem["kind"], kind);
    assert_eq!(
        problem["type"],
        format!("https://errors.bank.example/{kind}")
    );
}

#[tokio::test]
async fn a_tenth_of_the_requests_go_to_the_canary() {
    const REQUESTS: usize = 1000;
    let bank = Bank::start().await;
    let client = bank.client();
    let mut requests = JoinSet::new();
    for number in 0..REQUESTS {
        let request = client.get(&format!("/v1/accounts/{number}"));
        requests.spawn(request.header("x-api-key", ACME).send());
    }
    for reply in requests.join_all().await {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let [first, second] = bank
        .accounts_v1
        .each_ref()
        .map(|it| received(it, "/v1/accounts/"));
    let canary = received(&bank.accounts_v2, "/v1/accounts/");
    assert_eq!(first + second + canary, REQUESTS);
    // 100 are expected with a standard deviation of 9.5; 5 of these to either side leave out one
    // run in two million.
    assert!((53..=147).contains(&canary), "{canary} of {REQUESTS}");
    assert!(first > 0 && second > 0, "{first} and {second}");
}

#[tokio::test]
async fn a_preflight_needs_no_key() {
    let bank = Bank::start().await;
    let preflight = |origin| {
        bank.client()
            .request(Method::OPTIONS, "/v1/payments/7")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "x-api-key")
            .send()
    };
    let reply = preflight(ORIGIN).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("access-control-allow-origin"), Some(ORIGIN));
    assert_eq!(
        reply.header("access-control-allow-methods"),
        Some("GET, POST, PUT, DELETE")
    );
    assert_eq!(
        reply.header("access-control-allow-headers"),
        Some("x-api-key, content-type")
    );
    assert_eq!(reply.header("access-control-max-age"), Some("600"));
    // To Envoy that is no preflight, so it is judged like any other request.
    let stranger = preflight("https://app.bank.example.evil").await;
    assert_refused(&stranger, 401, "credentials-missing");
    assert_eq!(stranger.header("access-control-allow-origin"), None);
    assert_eq!(received(&bank.payments, "/v1/"), 0);
}

#[tokio::test]
async fn a_script_can_read_answers_and_errors() {
    let bank = Bank::start().await;
    let client = bank.client();
    let get = |path| client.get(path).header("origin", ORIGIN);
    let admitted = get("/v1/payments/7").header("x-api-key", ACME).send().await;
    assert_eq!(admitted.status, 200);
    // Tollgate's refusal, and an error of Envoy itself: nobody releases what is held.
    let refused = get("/v1/payments/7").send().await;
    assert_refused(&refused, 401, "credentials-missing");
    let late = get("/v1/rates/usd")
        .header("x-api-key", ACME)
        .header("x-echo-hold", "for-ever")
        .send()
        .await;
    assert_refused(&late, 504, "upstream-timeout");
    for reply in [admitted, refused, late] {
        assert_eq!(reply.header("access-control-allow-origin"), Some(ORIGIN));
        let exposed = reply.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("x-request-id"), "{exposed}");
    }
}

#[tokio::test]
async fn the_cache_answers_only_who_is_admitted() {
    let bank = Bank::start().await;
    let page = Page::json(&json!({ "eur": 1.08 })).header("cache-control", "max-age=3600");
    bank.rates.serve("/v1/rates/eur", page);
    let client = bank.client();
    let get = || client.get("/v1/rates/eur");
    let first = get().header("x-api-key", ACME).send().await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("age"), None);
    let hit = wait_for("an answer out of the cache", async || {
        let reply = get().header("x-api-key", ACME).send().await;
        reply.header("age").is_some().then_some(reply)
    })
    .await;
    let requests = received(&bank.rates, "/v1/rates/eur");

    let other = get().header("x-api-key", BOLT).send().await;
    assert!(other.header("age").is_some(), "{other:?}");
    for reply in [&hit, &other] {
        assert_eq!(reply.json(), json!({ "eur": 1.08 }));
    }
    // What belongs to one caller is not stored.
    assert!(hit.header("ratelimit").unwrap().contains("month"));
    assert!(other.header("ratelimit").unwrap().contains("day"));
    let ids = [&first, &hit, &other].map(|reply| reply.header("x-request-id").unwrap());
    assert_eq!(BTreeSet::from(ids).len(), 3, "{ids:?}");

    for key in [None, Some("a-guess")] {
        let request = match key {
            Some(key) => get().header("x-api-key", key),
            None => get(),
        };
        let reply = request.send().await;
        assert_eq!(reply.status, 401, "{reply:?}");
        assert_eq!(reply.header("age"), None);
        assert!(!reply.text().contains("1.08"), "{reply:?}");
    }
    assert_eq!(received(&bank.rates, "/v1/rates/eur"), requests);
}

#[tokio::test]
async fn only_routes_that_say_so_are_cached() {
    let bank = Bank::start().await;
    let page = Page::json(&json!({ "balance": 7 })).header("cache-control", "max-age=3600");
    bank.payments.serve("/v1/payments/7", page);
    for _ in 0..3 {
        let request = bank.client().get("/v1/payments/7");
        let reply = request.header("x-api-key", ACME).send().await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("age"), None);
    }
    assert_eq!(received(&bank.payments, "/v1/payments/7"), 3);
}

#[tokio::test]
async fn internal_callers_need_a_certificate() {
    let bank = Bank::start().await;
    let path = "/v1/settlements/9";
    let nightly = "spiffe://bank.example/ns/settlement/sa/nightly";
    let nightly_identity = bank.authority.client("nightly", &[nightly]);
    let web = bank
        .authority
        .client("web", &["spiffe://bank.example/ns/web/sa/api"]);
    let stranger = Authority::new("Strangers").client("nightly", &[nightly]);

    // No certificate, or one of somebody else: no handshake, so no answer at all.
    for identity in [None, Some(&stranger)] {
        let attempt = bank.internal(identity).get(path).try_send().await;
        assert!(attempt.is_err(), "{attempt:?}");
    }
    let handshakes = bank.envoy.stats().await;
    let refused = |name: &str| handshakes.sum(&format!("envoy_listener_ssl_{name}"), &[]);
    assert_eq!(refused("fail_verify_no_cert"), 1.0);
    assert_eq!(refused("fail_verify_error"), 1.0);

    let admitted = bank
        .internal(Some(&nightly_identity))
        .get(path)
        .send()
        .await;
    assert_eq!(admitted.status, 200, "{admitted:?}");
    let line = bank.wait_for_log_line(path).await;
    assert_eq!(line["peer"], nightly);
    assert_eq!(line["api"], "settlements-v1");
    assert_eq!(line["decision"], "allow");

    let other = bank.internal(Some(&web)).get(path).send().await;
    assert_refused(&other, 403, "client-certificate-not-allowed");
    // A certificate is no key, and a key is no certificate.
    let keyless = bank.internal(Some(&nightly_identity)).get("/v1/accounts/1");
    assert_refused(&keyless.send().await, 401, "credentials-missing");
    let public = bank.client().get(path).header("x-api-key", ACME);
    assert_refused(&public.send().await, 403, "client-certificate-missing");
    assert_eq!(received(&bank.payments, path), 1);
}

#[tokio::test]
async fn both_listeners_count_together() {
    let bank = Bank::start().await;
    let web = bank.authority.client("web", &[]);
    let mut remaining = Vec::new();
    for client in [bank.client(), bank.internal(Some(&web)), bank.client()] {
        let request = client.get("/v1/accounts/1").header("x-api-key", BOLT);
        let reply = request.send().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let fields = reply.header("ratelimit").unwrap().to_owned();
        let (_, quota) = fields.split_once("\"day\";r=").unwrap();
        let quota: u32 = quota.split(';').next().unwrap().parse().unwrap();
        remaining.push(quota);
    }
    assert_eq!(remaining, [9999, 9998, 9997]);
}

#[tokio::test]
async fn the_access_log_says_who_and_why() {
    let bank = Bank::start().await;
    let client = bank.client();
    let admitted = client
        .get("/v1/payments/7?page=2")
        .header("x-api-key", ACME);
    let admitted = admitted.send().await;
    let refused = client.get("/v1/payments/8").header("x-api-key", BOLT);
    let refused = refused.send().await;
    assert_refused(&refused, 403, "api-not-in-plan");

    let mut line = bank.wait_for_log_line("/v1/payments/7?page=2").await;
    let upstream = bank.payments.address().to_string();
    assert_eq!(
        take(&mut line, "request_id"),
        admitted.header("x-request-id").unwrap()
    );
    assert!(take(&mut line, "time").is_string());
    assert!(take(&mut line, "duration_ms").is_number());
    let expected = json!({
        "method": "GET", "path": "/v1/payments/7?page=2", "status": 200,
        "details": "via_upstream", "flags": "-", "attempts": 1, "cluster": "payments",
        "upstream": upstream, "peer": null, "consumer": "acme", "plan": "gold",
        "api": "payments-v1", "decision": "allow", "reason": null,
    });
    assert_eq!(line, expected);

    let mut line = bank.wait_for_log_line("/v1/payments/8").await;
    assert_eq!(
        take(&mut line, "request_id"),
        refused.header("x-request-id").unwrap()
    );
    assert!(take(&mut line, "time").is_string());
    assert!(take(&mut line, "duration_ms").is_number());
    let expected = json!({
        "method": "GET", "path": "/v1/payments/8", "status": 403,
        "details": "tollgate{api-not-in-plan}", "flags": "-", "attempts": 0,
        "cluster": "payments", "upstream": null, "peer": null, "consumer": "bolt",
        "plan": "bronze", "api": "payments-v1", "decision": "deny", "reason": "api-not-in-plan",
    });
    assert_eq!(line, expected);
}

fn take(line: &mut Value, field: &str) -> Value {
    let removed = line.as_object_mut().unwrap().remove(field);
    removed.unwrap_or_else(|| panic!("{line} has no {field}"))
}

#[tokio::test]
async fn prometheus_sees_labels() {
    let bank = Bank::start().await;
    let client = bank.client();
    for (path, key) in [
        ("/v1/accounts/1", ACME),
        ("/v1/payments/1", ACME),
        ("/v1/payments/1", BOLT),
    ] {
        client.get(path).header("x-api-key", key).send().await;
    }
    let stats = bank.envoy.stats().await;
    for (decision, reason, plan, api) in [
        ("allow", "_none", "gold", "accounts-v1"),
        ("allow", "_none", "gold", "payments-v1"),
        ("deny", "api-not-in-plan", "bronze", "payments-v1"),
    ] {
        let labels = [
            ("decision", decision),
            ("reason", reason),
            ("plan", plan),
            ("api", api),
        ];
        assert_eq!(
            stats.get("tollgate_requests_total", &labels),
            Some(1.0),
            "{labels:?}"
        );
    }
    for (consumer, decision, count) in [("acme", "allow", 2.0), ("bolt", "deny", 1.0)] {
        let labels = [("consumer", consumer), ("decision", decision)];
        assert_eq!(
            stats.get("tollgate_consumer_requests_total", &labels),
            Some(count)
        );
    }
    let limit = [("limit", "per-address"), ("decision", "allow")];
    assert_eq!(
        stats.get("tollgate_limit_requests_total", &limit),
        Some(3.0)
    );
    // All of Tollgate's metrics have their labels taken out of their names.
    let text = bank.envoy.admin_get("/stats/prometheus").await;
    let raw: Vec<&str> = text.lines().filter(|line| line.contains("___")).collect();
    assert!(raw.is_empty(), "{raw:?}");
}
