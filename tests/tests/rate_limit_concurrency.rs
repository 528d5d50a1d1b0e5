//! Requests under way: however a stream ends, its place is free again.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{config, sha256};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate_tests::{
    ClientError, ECHO_CLUSTER, EchoUpstream, Envoy, EnvoyBuilder, HttpClient, Listener, Page,
    cluster, plugin, wasm_filter,
};

/// How many requests a client may have under way.
const PLACES: usize = 48;
/// How many are under way at most while streams end.
const CONNECTIONS: usize = 24;

/// The ways for a stream to end.
#[derive(Clone, Copy, Debug)]
enum End {
    Completion,
    ResponseInChunks,
    UpstreamResetBeforeHeaders,
    UpstreamResetInBody,
    ClientLeavesWhileWaiting,
    ClientLeavesInBody,
    RouteTimeout,
    DeadUpstream,
    NoRoute,
    AnswerByEnvoy,
    InternalRedirect,
    RefusedByALaterPolicy,
    RefusedByALaterPlugin,
    BodyTooLate,
}

const ENDS: [End; 14] = [
    End::Completion,
    End::ResponseInChunks,
    End::UpstreamResetBeforeHeaders,
    End::UpstreamResetInBody,
    End::ClientLeavesWhileWaiting,
    End::ClientLeavesInBody,
    End::RouteTimeout,
    End::DeadUpstream,
    End::NoRoute,
    End::AnswerByEnvoy,
    End::InternalRedirect,
    End::RefusedByALaterPolicy,
    End::RefusedByALaterPlugin,
    End::BodyTooLate,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_ten_thousand_streams_that_end_in_every_way_no_place_is_taken() {
    const STREAMS: usize = 10_000;
    let upstream = EchoUpstream::start().await;
    upstream.serve(
        "/moved",
        Page::new("text/plain", "")
            .status(302)
            .header("location", "http://localhost/arrived"),
    );
    let envoy = Arc::new(ending_gateway(&upstream).start().await.unwrap());
    let mut connections = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let envoy = envoy.clone();
        connections.spawn(async move {
            // Half of them speak HTTP/2, where a reset leaves the connection open.
            let client = match connection % 2 {
                0 => envoy.http1(),
                _ => envoy.http2(),
            };
            for number in (connection..STREAMS).step_by(CONNECTIONS) {
                // Shifted, so that each way meets both protocols.
                let end = ENDS[(number / CONNECTIONS + number) % ENDS.len()];
                run(&envoy, &client, end).await;
            }
        });
    }
    connections.join_all().await;

    // Envoy learns of a client that has left when it reads from the connection again.
    envoy
        .wait_for_stats("all streams to have ended", |stats| {
            stats.sum(
                "envoy_http_downstream_rq_active",
                &[("envoy_http_conn_manager_prefix", "http")],
            ) == 0.0
        })
        .await;
    let stats = envoy.stats().await;
    assert_eq!(stats.sum("tollgate_uncounted_total", &[]), 0.0);
    let counted = |decision| {
        let labels = [("limit", "under-way"), ("decision", decision)];
        stats.sum("tollgate_limit_requests_total", &labels)
    };
    assert!(counted("allow") >= STREAMS as f64);
    assert_eq!(counted("deny"), 0.0);

    all_places_are_free(&envoy, &upstream, PLACES).await;
}

/// Fills the places, finds that there is not one more, and that they are free again.
async fn all_places_are_free(envoy: &Arc<Envoy>, upstream: &EchoUpstream, places: usize) {
    for round in 0..2 {
        upstream.clear();
        let gate = format!("last-{round}");
        let mut held = JoinSet::new();
        for _ in 0..places {
            let request = request(&envoy.http2(), "/hold").header("x-echo-hold", gate.as_str());
            held.spawn(request.send());
        }
        upstream.wait_for_count(places).await;
        let refused = request(&envoy.http1(), "/").send().await;
        assert_eq!(refused.status, 429);
        assert_eq!(refused.json()["kind"], "concurrency-limited");
        assert_eq!(refused.json()["violated-policies"], json!(["under-way"]));
        assert_eq!(refused.header("retry-after"), Some("1"));
        upstream.release(&gate, places);
        for reply in held.join_all().await {
            assert_eq!(reply.status, 200);
        }
    }
}

/// The full plugin, so that a policy comes behind the limit, and another plugin behind it. Leases
/// outlast the test, so that none is free because it has been forgotten.
fn ending_gateway(upstream: &EchoUpstream) -> EnvoyBuilder {
    let mut document = config(json!({}));
    document["usage_plan"]["plans"]["spent"] = json!({ "quota": { "limit": 1, "period": "year" } });
    document["usage_plan"]["consumers"] = json!([
        { "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256("acme-key") }] },
        { "id": "curio", "plan": "spent", "keys": [{ "sha256": sha256("curio-key") }] },
    ]);
    // A redirected request comes again without its key, which no upstream is to see.
    document["usage_plan"]["anonymous"] = json!({ "plan": "gold" });
    document["rate_limit"] = json!([under_way()]);
    let behind = json!({ "usage_plan": {
        "key": { "header": "x-other-key" },
        "anonymous": { "plan": "public" },
        "plans": { "public": {} },
    } });
    let route = |path: &str, mut action: Value| {
        action["cluster"] = action
            .get("cluster")
            .cloned()
            .unwrap_or(ECHO_CLUSTER.into());
        json!({ "match": { "path": path }, "route": action })
    };
    let redirect = json!({ "internal_redirect_policy": { "max_internal_redirects": 1 } });
    Envoy::builder()
        .upstream(upstream)
        .filter(wasm_filter("tollgate", plugin("tollgate"), document))
        .filter(wasm_filter("behind", plugin("usage-plan"), behind))
        .cluster(cluster("dead", ([127, 0, 0, 1], 1).into()))
        .route(route("/dead", json!({ "cluster": "dead" })))
        .route(route("/slow", json!({ "timeout": "0.005s" })))
        .route(route("/moved", redirect))
        .route(json!({
            "match": { "path": "/direct" },
            "direct_response": { "status": 418 },
        }))
        .route(json!({
            "match": { "path": "/unrouted" },
            "route": { "cluster": "missing" },
        }))
        .map_listener(|listener| {
            listener.connection_manager(json!({
                "request_timeout": "0.1s",
                // A client need not wait this long to see that its connection is closed.
                "delayed_close_timeout": "0.01s",
                "route_config": { "validate_clusters": false },
            }))
        })
        .concurrency(4)
}

fn under_way() -> Value {
    json!({ "name": "under-way", "key": { "header": "x-client" }, "concurrent": PLACES, "lease": "1h" })
}

fn request(client: &HttpClient, path: &str) -> tollgate_tests::RequestBuilder {
    let request = client.get(path).header("x-client", "one");
    request.header("x-api-key", "acme-key")
}

/// A request that ends in this way.
async fn run(envoy: &Envoy, client: &HttpClient, end: End) {
    let status =
        |path: &'static str| async move { request(client, path).send().await.status.as_u16() };
    match end {
        End::Completion => assert_eq!(status("/").await, 200),
        End::ResponseInChunks => {
            let request = request(client, "/").header("x-echo-body-size", "40000");
            assert_eq!(request.send().await.body.len(), 40_000);
        }
        End::UpstreamResetBeforeHeaders => {
            let request = request(client, "/").header("x-echo-reset", "headers");
            assert_eq!(request.send().await.status, 503);
        }
        End::UpstreamResetInBody => {
            let request = request(client, "/").header("x-echo-reset", "body");
            let reply = request.try_send().await;
            // Envoy 1.36 ends the stream as if the body were whole.
            let ended = reply.as_ref().is_ok_and(|reply| reply.status == 200);
            assert!(
                ended || matches!(reply, Err(ClientError::Body { .. })),
                "{reply:?}"
            );
        }
        End::ClientLeavesWhileWaiting => {
            let request = request(client, "/").header("x-echo-hold", "never");
            let reply = request.timeout(Duration::from_millis(5)).try_send().await;
            assert!(matches!(reply, Err(ClientError::Timeout(_))), "{reply:?}");
        }
        End::ClientLeavesInBody => {
            let mut raw = envoy.raw().await;
            raw.send(half_a_body()).await;
        }
        End::BodyTooLate => {
            let mut raw = envoy.raw().await;
            raw.send(half_a_body()).await;
            assert_eq!(raw.read_reply().await.status, 408);
        }
        End::RouteTimeout => {
            let request = request(client, "/slow").header("x-echo-hold", "never");
            assert_eq!(request.send().await.status, 504);
        }
        End::DeadUpstream => assert_eq!(status("/dead").await, 503),
        End::NoRoute => assert_eq!(status("/unrouted").await, 503),
        End::AnswerByEnvoy => assert_eq!(status("/direct").await, 418),
        End::InternalRedirect => {
            let reply = request(client, "/moved").send().await;
            assert_eq!(reply.echo().path, "/arrived");
        }
        End::RefusedByALaterPolicy => {
            let request = client.get("/").header("x-client", "one");
            let reply = request.header("x-api-key", "curio-key").send().await;
            // The first one spends the quota.
            assert!(
                reply.status == 200 || reply.json()["kind"] == "quota-exceeded",
                "{reply:?}"
            );
        }
        End::RefusedByALaterPlugin => {
            let request = request(client, "/").header("x-other-key", "unknown");
            assert_eq!(request.send().await.status, 401);
        }
    }
}

fn half_a_body() -> &'static str {
    "POST / HTTP/1.1\r\nhost: a\r\nx-client: one\r\nx-api-key: acme-key\r\ncontent-length: 100\r\n\r\nhalf"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_the_limit_are_under_way_on_all_workers_together() {
    const ATTEMPTS: usize = 200;
    let upstream = EchoUpstream::start().await;
    let document = json!({ "rate_limit": [under_way()] });
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(wasm_filter("rate-limit", plugin("rate-limit"), document))
        .concurrency(4)
        .start()
        .await
        .unwrap();
    let mut attempts = JoinSet::new();
    for _ in 0..ATTEMPTS {
        let request = request(&envoy.http1(), "/").header("x-echo-hold", "gate");
        attempts.spawn(request.send());
    }
    for _ in 0..ATTEMPTS - PLACES {
        let refused = attempts.join_next().await.unwrap().unwrap();
        assert_eq!(refused.status, 429);
    }
    // Refusals may be faster than what was admitted.
    upstream.wait_for_count(PLACES).await;
    assert_eq!(upstream.count(), PLACES);
    // Another client is not held back.
    let other = envoy
        .http1()
        .get("/")
        .header("x-client", "two")
        .send()
        .await;
    assert_eq!(other.status, 200);
    upstream.release("gate", PLACES);
    for reply in attempts.join_all().await {
        assert_eq!(reply.status, 200);
    }
    upstream.clear();
    all_places_are_free(&Arc::new(envoy), &upstream, PLACES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_cut_off_by_an_update_give_their_places_back() {
    let upstream = EchoUpstream::start().await;
    let listener = |retry_after_max: &str| {
        let mut limit = under_way();
        limit["retry_after_max"] = json!(retry_after_max);
        let document = json!({ "rate_limit": [limit] });
        Listener::new().filter(wasm_filter("rate-limit", plugin("rate-limit"), document))
    };
    let mut envoy = Envoy::builder()
        .upstream(&upstream)
        .listener(listener("1m"))
        .dynamic_listener()
        .concurrency(4)
        .start()
        .await
        .unwrap();
    let mut held = JoinSet::new();
    for _ in 0..PLACES {
        let request = request(&envoy.http2(), "/").header("x-echo-hold", "never");
        held.spawn(request.try_send());
    }
    upstream.wait_for_count(PLACES).await;
    // The configuration changes, and the VMs with it; the limit's state stays.
    envoy.update_listener(&listener("2m")).await.unwrap();
    for reply in held.join_all().await {
        assert!(reply.is_err(), "{reply:?}");
    }
    all_places_are_free(&Arc::new(envoy), &upstream, PLACES).await;
}
