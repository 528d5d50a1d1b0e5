//! Request ids on the real Envoy: on what the upstream gets, and on every response.

use serde_json::{Value, json};
use tollgate_tests::{EchoUpstream, Envoy, EnvoyBuilder, Listener, plugin, wasm_filter};

fn gateway(upstream: &EchoUpstream, section: Value) -> EnvoyBuilder {
    let listener = Listener::new().use_remote_address();
    Envoy::builder()
        .upstream(upstream)
        .listener(listener)
        .filter(filter(section))
}

fn filter(section: Value) -> Value {
    wasm_filter(
        "request-id",
        plugin("request-id"),
        json!({ "request_id": section }),
    )
}

fn is_uuid7(id: &str) -> bool {
    id.len() == 36
        && id.as_bytes()[14] == b'7'
        && matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b')
}

#[tokio::test]
async fn a_request_gets_a_whole_uuid7_that_both_sides_see() {
    let upstream = EchoUpstream::start().await;
    let envoy = gateway(&upstream, json!({})).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let reply = client.get("/").send().await;
        let id = reply.header("x-request-id").unwrap().to_owned();
        assert!(is_uuid7(&id), "{id}");
        assert_eq!(reply.echo().header("x-request-id"), Some(id.as_str()));
        let trace = reply.echo().header("traceparent").unwrap().to_owned();
        assert!(
            trace.starts_with(&format!("00-{}-", id.replace('-', ""))),
            "{trace} {id}"
        );
    }
}

#[tokio::test]
async fn envoys_default_identifiers_do_not_get_in_the_way() {
    let upstream = EchoUpstream::start().await;
    let manager = json!({
        "generate_request_id": true,
        "preserve_external_request_id": false,
        "request_id_extension": null,
    });
    let listener = Listener::new()
        .use_remote_address()
        .connection_manager(manager);
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .listener(listener)
        .filter(filter(json!({})))
        .start()
        .await
        .unwrap();
    let reply = envoy
        .http1()
        .get("/")
        .header("x-request-id", "mine")
        .send()
        .await;
    let id = reply.header("x-request-id").unwrap().to_owned();
    assert!(is_uuid7(&id), "{id}");
    assert_eq!(reply.echo().header("x-request-id"), Some(id.as_str()));
}

#[tokio::test]
async fn the_id_of_envoys_connection_manager_counts_if_configured() {
    let upstream = EchoUpstream::start().await;
    let listener = Listener::new().use_remote_address().connection_manager(
        json!({ "generate_request_id": true, "preserve_external_request_id": false }),
    );
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .listener(listener)
        .filter(filter(json!({ "authority": "envoy" })))
        .start()
        .await
        .unwrap();
    let reply = envoy.http1().get("/").send().await;
    let id = reply.header("x-request-id").unwrap();
    assert_eq!(id.as_bytes()[14], b'4', "{id} is not Envoy's");
    assert_eq!(reply.echo().header("x-request-id"), Some(id));
}

#[tokio::test]
async fn only_trusted_peers_choose_their_ids() {
    let upstream = EchoUpstream::start().await;
    let trusting = gateway(
        &upstream,
        json!({ "accept": { "from": ["127.0.0.0/8"], "max_length": 20 } }),
    );
    let trusting = trusting.start().await.unwrap();
    let distrusting = gateway(&upstream, json!({ "accept": { "from": ["10.0.0.0/8"] } }));
    let distrusting = distrusting.start().await.unwrap();
    let send = |envoy: &Envoy, id: &[u8]| envoy.http1().get("/").header("x-request-id", id).send();

    let reply = send(&trusting, b"order-17").await;
    assert_eq!(reply.header("x-request-id"), Some("order-17"));
    assert_eq!(reply.echo().header_values("x-request-id"), ["order-17"]);
    for bad in [&b"far too long to be accepted"[..], b"a b", b"caf\xe9"] {
        let reply = send(&trusting, bad).await;
        assert!(is_uuid7(reply.header("x-request-id").unwrap()), "{bad:?}");
    }
    let repeated = trusting
        .http1()
        .get("/")
        .header("x-request-id", "a")
        .header("x-request-id", "b");
    let reply = repeated.send().await;
    assert_eq!(reply.echo().header_values("x-request-id").len(), 1);
    assert!(is_uuid7(reply.header("x-request-id").unwrap()));

    let reply = send(&distrusting, b"order-17").await;
    assert!(is_uuid7(reply.header("x-request-id").unwrap()));
    // Whom the client claims to be does not matter.
    let forwarded = distrusting
        .http1()
        .get("/")
        .header("x-forwarded-for", "10.0.0.1");
    let reply = forwarded.header("x-request-id", "order-17").send().await;
    assert_ne!(reply.header("x-request-id"), Some("order-17"));
}

#[tokio::test]
async fn envoys_own_replies_carry_the_id() {
    let upstream = EchoUpstream::start().await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let route = |path: &str, action: Value| {
        let mut route = json!({ "match": { "prefix": path } });
        tollgate_tests::merge(&mut route, &action);
        route
    };
    let envoy = gateway(&upstream, json!({}))
        .cluster(tollgate_tests::cluster("dead", dead))
        .route(route("/refused", json!({ "route": { "cluster": "dead" } })))
        .route(route(
            "/missing",
            json!({ "route": { "cluster": "nowhere" } }),
        ))
        .route(route(
            "/direct",
            json!({ "direct_response": { "status": 418 } }),
        ))
        .route(route(
            "/redirect",
            json!({ "redirect": { "path_redirect": "/" } }),
        ))
        .route(route(
            "/slow",
            json!({ "route": { "cluster": "echo", "timeout": "0.05s" } }),
        ))
        .map_listener(|listener| {
            listener.connection_manager(json!({
                "route_config": { "validate_clusters": false },
            }))
        })
        .start()
        .await
        .unwrap();
    for (path, status) in [
        ("/refused", 503),
        ("/missing", 503),
        ("/direct", 418),
        ("/redirect", 301),
        ("/slow", 504),
    ] {
        for client in [envoy.http1(), envoy.http2()] {
            let reply = client
                .get(path)
                .header("x-echo-hold", "for ever")
                .send()
                .await;
            assert_eq!(reply.status, status, "{path}");
            let ids = reply.header_values("x-request-id");
            assert!(matches!(ids[..], [id] if is_uuid7(id)), "{path}: {ids:?}");
        }
    }
}
