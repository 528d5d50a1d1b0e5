//! What `envoy/gateway.yaml` says it does when something behind it fails: retries, timeouts, hosts
//! that are ejected or not well, circuit breakers.

mod bank;

use bank::{ACME, Bank, received};
use http::Method;
use tokio::task::JoinSet;
use tollgate_tests::{EchoUpstream, HttpClient, Page, Reply};

/// Two hosts, of which the first answers everything at this path with 503.
async fn one_fails_at(path: &str) -> [EchoUpstream; 2] {
    let hosts = [EchoUpstream::start().await, EchoUpstream::start().await];
    hosts[0].serve(path, Page::new("text/plain", "no").status(503));
    hosts
}

async fn send(client: &HttpClient, method: Method, path: &str) -> Reply {
    let request = client.request(method, path);
    request.header("x-api-key", ACME).send().await
}

#[tokio::test]
async fn a_read_is_tried_again_on_another_host() {
    let path = "/v1/accounts/42";
    let bank = Bank::with_accounts(one_fails_at(path).await, 2).await;
    let client = bank.client();
    for _ in 0..50 {
        let reply = send(&client, Method::GET, path).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let failed = received(&bank.accounts_v1[0], path);
    assert!(failed > 0);
    let stat = async |name| bank.cluster_stat("accounts-v1", name).await;
    assert_eq!(stat("upstream_rq_retry").await, failed as f64);
    assert_eq!(stat("upstream_rq_retry_success").await, failed as f64);
}

#[tokio::test]
async fn a_write_is_not_tried_again_and_a_failing_host_is_ejected() {
    let path = "/v1/accounts/42";
    let bank = Bank::with_accounts(one_fails_at(path).await, 2).await;
    let client = bank.client();
    let mut failed = 0;
    for _ in 0..100 {
        let reply = send(&client, Method::POST, path).await;
        failed += usize::from(reply.status == 503);
    }
    // Each failure was seen by a client, and the fifth one in a row was the last.
    assert_eq!(failed, 5);
    assert_eq!(received(&bank.accounts_v1[0], path), 5);
    let stat = async |name| bank.cluster_stat("accounts-v1", name).await;
    assert_eq!(stat("outlier_detection_ejections_active").await, 1.0);
    assert_eq!(
        stat("outlier_detection_ejections_enforced_consecutive_5xx").await,
        1.0
    );
    assert_eq!(stat("upstream_rq_retry").await, 0.0);
}

#[tokio::test]
async fn a_host_that_says_it_is_not_well_gets_no_requests() {
    let bank = Bank::with_accounts(one_fails_at("/healthz").await, 1).await;
    let client = bank.client();
    for _ in 0..50 {
        let reply = send(&client, Method::POST, "/v1/accounts/42").await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let [sick, well] = &bank.accounts_v1;
    assert_eq!(received(sick, "/v1/"), 0);
    assert!(received(sick, "/healthz") > 0);
    assert!(received(well, "/v1/") > 0);
}

#[tokio::test]
async fn an_open_breaker_spares_the_upstream() {
    /// What the cluster `payments` takes at once, and how many may wait.
    const CONNECTIONS: usize = 20;
    const WAITING: usize = 10;
    let bank = Bank::start().await;
    let client = bank.client();
    let mut held = JoinSet::new();
    let mut hold = |path: String| {
        let request = client.post(&path).header("x-api-key", ACME);
        held.spawn(request.header("x-echo-hold", "gate").send());
    };
    // One after the other, since a request waits while a connection is made for it.
    for number in 1..=CONNECTIONS {
        hold(format!("/v1/payments/{number}"));
        bank.wait_for_cluster_stat("payments", "upstream_rq_pending_active", 0.0)
            .await;
        bank.wait_for_cluster_stat("payments", "upstream_rq_active", number as f64)
            .await;
    }
    for number in 1..=WAITING {
        hold(format!("/v1/payments/waiting-{number}"));
        bank.wait_for_cluster_stat("payments", "upstream_rq_pending_active", number as f64)
            .await;
    }
    let refused = send(&client, Method::POST, "/v1/payments/refused").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.json()["kind"], "upstream-overloaded");
    assert_eq!(
        bank.cluster_stat("payments", "upstream_rq_pending_overflow")
            .await,
        1.0
    );
    let line = bank.wait_for_log_line("/v1/payments/refused").await;
    assert_eq!(line["flags"], "UO");
    assert_eq!(line["decision"], "allow");

    bank.payments.release("gate", CONNECTIONS + WAITING);
    for reply in held.join_all().await {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(
        received(&bank.payments, "/v1/payments/"),
        CONNECTIONS + WAITING
    );
    // It closes again by itself.
    let reply = send(&client, Method::POST, "/v1/payments/after").await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn an_answer_that_is_late_is_given_up() {
    let bank = Bank::start().await;
    let request = bank
        .client()
        .get("/v1/payments/1")
        .header("x-api-key", ACME);
    let reply = request.header("x-echo-hold", "for-ever").send().await;
    assert_eq!(reply.status, 504, "{reply:?}");
    assert_eq!(reply.json()["kind"], "upstream-timeout");
    let line = bank.wait_for_log_line("/v1/payments/1").await;
    assert_eq!(line["flags"], "UT");
    assert_eq!(
        bank.cluster_stat("payments", "upstream_rq_timeout").await,
        1.0
    );
}

#[tokio::test]
async fn an_answer_that_the_cache_waits_for_is_given_up() {
    let bank = Bank::start().await;
    let request = bank.client().get("/v1/rates/usd").header("x-api-key", ACME);
    let reply = request.header("x-echo-hold", "for-ever").send().await;
    assert_eq!(reply.status, 504, "{reply:?}");
    assert_eq!(reply.json()["kind"], "upstream-timeout");
    let line = bank.wait_for_log_line("/v1/rates/usd").await;
    assert_eq!(
        line["details"],
        "tollgate{upstream-timeout}:max_duration_timeout"
    );
}

#[tokio::test]
async fn a_read_that_is_late_is_tried_once_more_elsewhere() {
    let path = "/v1/accounts/slow";
    let bank = Bank::start().await;
    let request = bank.client().get(path).header("x-api-key", ACME);
    let reply = request.header("x-echo-hold", "for-ever").send().await;
    assert_eq!(reply.status, 504, "{reply:?}");
    let tried = |server| received(server, path);
    let [first, second] = &bank.accounts_v1;
    // Whichever version was chosen; a version has its tries to itself.
    match tried(&bank.accounts_v2) {
        0 => assert_eq!((tried(first), tried(second)), (1, 1)),
        tries => assert_eq!((tries, tried(first), tried(second)), (2, 0, 0)),
    }
}
