//! The harness, tried without any plugin of Tollgate.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_tests::{
    Authority, ClientError, ClientTls, ConfigFile, EchoUpstream, Envoy, HttpClient, LISTENER,
    Listener, Load, Page, RawClient, WasmFilter, http2_cluster, wasm_filter,
};

#[tokio::test]
async fn http1_requests_are_echoed() {
    let upstream = EchoUpstream::start().await;
    let envoy = Envoy::builder().upstream(&upstream).start().await.unwrap();
    let client = envoy.http1();

    let reply = client
        .post("/a%2Fb/../c?d=e&d=f")
        .host("api.bank.example")
        .header("x-repeated", "1")
        .header("x-repeated", "2")
        .header("x-bytes", b"caf\xe9".as_slice())
        .body("hello")
        .send()
        .await;

    assert_eq!(reply.status, 200);
    assert_eq!(reply.version, http::Version::HTTP_11);
    let echo = reply.echo();
    assert_eq!(echo.method, "POST");
    assert_eq!(echo.path, "/a%2Fb/../c?d=e&d=f");
    assert_eq!(echo.header("host"), Some("api.bank.example"));
    assert_eq!(echo.header_values("x-repeated"), ["1", "2"]);
    assert_eq!(echo.header("x-bytes"), Some("café"));
    assert_eq!(echo.header("x-request-id"), None);
    assert_eq!(echo.body_length, 5);
    assert_eq!(upstream.count(), 1);
    assert_eq!(upstream.received()[0].body, "hello");
}

#[tokio::test]
async fn http2_requests_share_a_connection() {
    let upstream = EchoUpstream::start().await;
    let envoy = Envoy::builder().upstream(&upstream).start().await.unwrap();
    let client = envoy.http2();

    let held = |path| client.get(path).header("x-echo-hold", "gate").send();
    let (first, second, ()) = tokio::join!(held("/1"), held("/2"), async {
        upstream.wait_for_count(2).await;
        upstream.release("gate", 2);
    });

    assert_eq!(first.version, http::Version::HTTP_2);
    assert_eq!(first.echo().path, "/1");
    assert_eq!(second.echo().path, "/2");
    let connections = [("envoy_http_conn_manager_prefix", LISTENER)];
    let stats = envoy.stats().await;
    let connections = stats.get("envoy_http_downstream_cx_http2_total", &connections);
    assert_eq!(connections, Some(1.0));
}

#[tokio::test]
async fn idle_connections_are_used_again_until_the_server_closes_them() {
    let upstream = EchoUpstream::start().await;
    let client = HttpClient::http1(upstream.address());
    for _ in 0..3 {
        client.get("/").send().await;
    }
    let closing = client.get("/").header("connection", "close");
    assert_eq!(closing.send().await.status, 200);
    assert_eq!(client.get("/").send().await.status, 200);
    assert_eq!(upstream.count(), 5);
}

#[tokio::test]
async fn tls_shows_both_sides_certificates() {
    let authority = Authority::new("Test");
    let server = authority.server(&["localhost", "api.bank.example"]);
    let partner = authority.client("partner", &["spiffe://bank.example/partner"]);
    let upstream = EchoUpstream::start().await;
    let manager = json!({
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": { "subject": true, "uri": true },
    });
    let listener = Listener::new()
        .tls(&server)
        .client_authority(authority.cert_pem(), false)
        .connection_manager(manager);
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .listener(listener)
        .start()
        .await
        .unwrap();
    let trusting = ClientTls::trusting(&authority);

    let anonymous = envoy.http1().tls(trusting.clone());
    let reply = anonymous.get("/").send().await;
    assert_eq!(reply.version, http::Version::HTTP_11);
    assert_eq!(reply.echo().header("x-forwarded-client-cert"), None);

    let known = envoy.http2().tls(trusting.clone().identity(&partner));
    let reply = known.host("api.bank.example").get("/").send().await;
    assert_eq!(reply.version, http::Version::HTTP_2);
    let echo = reply.echo();
    assert_eq!(echo.header("x-forwarded-proto"), Some("https"));
    let certificate = echo.header("x-forwarded-client-cert").unwrap();
    assert!(certificate.contains("CN=partner"), "{certificate}");
    assert!(certificate.contains("URI=spiffe://bank.example/partner"));

    let stranger = Authority::new("Stranger");
    let distrusting = envoy.http1().tls(ClientTls::trusting(&stranger));
    let error = distrusting.get("/").try_send().await.unwrap_err();
    assert!(matches!(error, ClientError::Connect(_)), "{error}");
}

#[tokio::test]
async fn the_upstream_answers_as_asked() {
    let upstream = EchoUpstream::start().await;
    upstream.serve("/keys", Page::json(&json!({ "keys": [] })).status(203));
    let client = HttpClient::http1(upstream.address());

    let reply = client
        .get("/")
        .header("x-echo-status", "503")
        .header("x-echo-header", "x-a: 1")
        .header("x-echo-header", "x-a: 2")
        .header("x-echo-header", "content-type: text/html")
        .header("x-echo-body", "busy")
        .header("x-echo-delay-ms", "1")
        .send()
        .await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header_values("x-a"), ["1", "2"]);
    assert_eq!(reply.header("content-type"), Some("text/html"));
    assert_eq!(reply.text(), "busy");

    let large = client.get("/").header("x-echo-body-size", "100000");
    let reply = large.send().await;
    assert_eq!(reply.body.len(), 100_000);
    assert_eq!(reply.header("content-length"), None);

    let page = client.get("/keys?v=1").send().await;
    assert_eq!(page.status, 203);
    assert_eq!(page.json(), json!({ "keys": [] }));

    let reset = client.get("/").header("x-echo-reset", "headers");
    let error = reset.try_send().await.unwrap_err();
    assert!(matches!(error, ClientError::NoReply(_)), "{error}");

    let reset = client.get("/").header("x-echo-reset", "body");
    let error = reset.try_send().await.unwrap_err();
    assert!(matches!(error, ClientError::Body { .. }), "{error}");
}

#[tokio::test]
async fn grpc_calls_end_in_trailers() {
    let upstream = EchoUpstream::start().await;
    let grpc = http2_cluster("grpc", upstream.address());
    let envoy = Envoy::builder()
        .cluster(grpc)
        .route(json!({ "match": { "prefix": "/bank." }, "route": { "cluster": "grpc" } }))
        .start()
        .await
        .unwrap();
    let client = envoy.http2();

    let reply = client.grpc("/bank.Accounts/List", b"{}").send().await;
    assert_eq!(reply.grpc_status(), Some(0));
    let messages = reply.grpc_messages();
    let echo: Value = serde_json::from_slice(&messages[0]).unwrap();
    assert_eq!(echo["path"], "/bank.Accounts/List");
    assert_eq!(echo["body_length"], 7);

    let missing = client.grpc("/bank.Accounts/Get", b"{}");
    let reply = missing.header("x-echo-grpc-status", "5").send().await;
    assert_eq!(reply.grpc_status(), Some(5));

    let reply = client.grpc("/nobody/Get", b"{}").send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.grpc_status(), Some(14));
    assert_eq!(reply.grpc_message().as_deref(), Some("no healthy upstream"));
}

#[tokio::test]
async fn raw_bytes_reach_the_listener_as_they_are() {
    let upstream = EchoUpstream::start().await;
    let envoy = Envoy::builder().upstream(&upstream).start().await.unwrap();
    let mut raw = envoy.raw().await;

    let mut request = b"GET /a HTTP/1.1\r\nhost: a\r\nx-bytes: \xff\xfe\r\n".to_vec();
    for _ in 0..100 {
        request.extend(b"x-repeated: yes\r\n");
    }
    request.extend(format!("x-large: {}\r\n\r\n", "l".repeat(60 << 10)).as_bytes());
    raw.send(request).await;
    let reply = raw.read_reply().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("Content-Type"), Some(&b"application/json"[..]));
    let received = &upstream.received()[0].headers;
    assert_eq!(received["x-bytes"].as_bytes(), b"\xff\xfe");
    assert_eq!(received.get_all("x-repeated").iter().count(), 100);
    assert_eq!(received["x-large"].len(), 60 << 10);

    // The connection is still good, and chunks are put together.
    raw.send("GET /b HTTP/1.1\r\nhost: a\r\nx-echo-body-size: 40000\r\n\r\n")
        .await;
    let reply = raw.read_reply().await;
    assert_eq!(reply.header("transfer-encoding"), Some(&b"chunked"[..]));
    assert_eq!(reply.body.len(), 40_000);

    // Without a host.
    raw.send("GET /c HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.read_reply().await.status, 400);
    assert_eq!(raw.read_to_end().await, b"");

    let mut raw = RawClient::connect(upstream.address()).await;
    raw.send("GET / HTTP/1.1\r\nhost: a\r\nx-echo-status: 204\r\n\r\n")
        .await;
    assert_eq!(raw.read_reply().await.status, 204);
}

#[tokio::test]
async fn a_load_is_counted_by_status() {
    let upstream = EchoUpstream::start().await;
    let envoy = Envoy::builder().upstream(&upstream).start().await.unwrap();

    let report = Load::new(&envoy.http1())
        .requests(500)
        .connections(4)
        .run(|client, index| {
            let status = if index % 5 == 0 { "429" } else { "200" };
            client.get("/").header("x-echo-status", status)
        })
        .await;

    assert_eq!(report.by_status(), [(200, 400), (429, 100)].into());
    assert_eq!(report.count(429), 100);
    assert_eq!(report.statuses[5], 429);
    assert_eq!(upstream.count(), 500);
    let log = envoy.wait_for_access_log(500).await;
    assert_eq!(log.iter().filter(|entry| entry.status == 429).count(), 100);
    let requests = [("envoy_http_conn_manager_prefix", LISTENER)];
    envoy
        .wait_for_stats("the histogram of 500 requests", |stats| {
            stats.get("envoy_http_downstream_rq_time_count", &requests) == Some(500.0)
        })
        .await;
}

#[tokio::test]
async fn the_access_log_tells_what_became_of_a_request() {
    let listener = Listener::new()
        .log_field("agent", "%REQ(USER-AGENT)%")
        .route(json!({
            "match": { "path": "/gone" },
            "direct_response": { "status": 410, "body": { "inline_string": "gone" } },
        }));
    let envoy = Envoy::builder().listener(listener).start().await.unwrap();
    let client = envoy.http1();

    let gone = client
        .get("/gone")
        .header("x-request-id", "r1")
        .header("user-agent", "test");
    assert_eq!(gone.send().await.text(), "gone");
    assert_eq!(client.get("/nobody?a=b").send().await.status, 503);

    let log = envoy.wait_for_access_log(2).await;
    assert_eq!(log[0].status, 410);
    assert_eq!(log[0].method.as_deref(), Some("GET"));
    assert_eq!(log[0].path.as_deref(), Some("/gone"));
    assert_eq!(log[0].details.as_deref(), Some("direct_response"));
    assert_eq!(log[0].request_id.as_deref(), Some("r1"));
    assert_eq!(log[0].extra["agent"], "test");
    assert_eq!(log[0].plan, None);
    assert_eq!(log[1].status, 503);
    assert_eq!(log[1].flags.as_deref(), Some("UH"));
    assert_eq!(log[1].path.as_deref(), Some("/nobody?a=b"));
    let year_2020_in_ns = 1_577_836_800_000_000_000;
    assert!(log[0].start_ns > year_2020_in_ns);
    assert!(log[0].start_ns < log[1].start_ns);
}

#[tokio::test]
async fn a_refused_configuration_gives_its_log() {
    let refused = Envoy::builder().filter(json!({ "name": "no-such-filter" }));
    let error = refused.start().await.err().unwrap();
    assert!(error.log().contains("no-such-filter"), "{error}");
    assert!(error.to_string().contains("no-such-filter"));

    let refused = Envoy::builder()
        .dynamic_listener()
        .filter(json!({ "name": "no-such-filter" }));
    let error = refused.start().await.err().unwrap();
    assert!(error.log().contains("no-such-filter"), "{error}");
}

#[tokio::test]
async fn a_listener_is_replaced_while_envoy_runs() {
    let answer = |text: &str| {
        Listener::new().route(json!({
            "match": { "prefix": "/" },
            "direct_response": { "status": 200, "body": { "inline_string": text } },
        }))
    };
    let mut envoy = Envoy::builder()
        .dynamic_listener()
        .listener(answer("first"))
        .start()
        .await
        .unwrap();
    let address = envoy.address();
    assert_eq!(envoy.http1().get("/").send().await.text(), "first");

    envoy.update_listener(&answer("second")).await.unwrap();
    assert_eq!(envoy.http1().get("/").send().await.text(), "second");
    assert_eq!(envoy.address(), address);

    let refused = answer("third").filter(json!({ "name": "no-such-filter" }));
    let rejected = envoy.update_listener(&refused).await.unwrap_err();
    assert!(rejected.log.contains("no-such-filter"), "{}", rejected.log);
    assert_eq!(envoy.http1().get("/").send().await.text(), "second");

    envoy.update_listener(&answer("fourth")).await.unwrap();
    assert_eq!(envoy.http1().get("/").send().await.text(), "fourth");
}

#[tokio::test]
async fn two_envoys_run_side_by_side_and_end_when_dropped() {
    let upstream = EchoUpstream::start().await;
    let start = || Envoy::builder().concurrency(1).upstream(&upstream).start();
    let (first, second) = tokio::join!(start(), start());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.address(), second.address());
    assert_eq!(first.http1().get("/").send().await.status, 200);

    let client = first.http1();
    drop(first);
    let error = client.get("/").try_send().await.unwrap_err();
    assert!(matches!(error, ClientError::Connect(_)), "{error}");
    assert_eq!(second.http1().get("/").send().await.status, 200);
}

#[tokio::test]
async fn a_wasm_filter_runs() {
    let (_folder, probe) = probe();
    let upstream = EchoUpstream::start().await;
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(wasm_filter("probe", &probe, json!({ "a": 1 })))
        .start()
        .await
        .unwrap();

    let reply = envoy.http1().get("/").send().await;
    assert_eq!(reply.echo().header("x-probe"), Some("seen"));
    let log = envoy.wait_for_access_log(1).await;
    assert_eq!(log[0].plan.as_deref(), Some("gold"));
    let stats = envoy.stats().await;
    let gold = stats.get("probe_requests_total", &[("plan", "gold")]);
    assert_eq!(gold, Some(1.0));
}

#[tokio::test]
async fn a_wasm_filter_that_refuses_its_configuration_changes_nothing() {
    let (_folder, probe) = probe();
    let upstream = EchoUpstream::start().await;
    let good = WasmFilter::new("probe", &probe).configuration_text("anything");
    let good = Listener::new().filter(good.env("NAME", "value"));
    let bad = Listener::new().filter(WasmFilter::new("probe", &probe));

    let error = Envoy::builder().listener(bad.clone()).start().await;
    let error = error.err().unwrap();
    assert!(error.log().contains("probe"), "{error}");

    let mut envoy = Envoy::builder()
        .upstream(&upstream)
        .dynamic_listener()
        .listener(good)
        .start()
        .await
        .unwrap();
    let rejected = envoy.update_listener(&bad).await.unwrap_err();
    assert!(rejected.log.contains("probe"), "{}", rejected.log);
    let reply = envoy.http1().get("/").send().await;
    assert_eq!(reply.echo().header("x-probe"), Some("seen"));
}

#[tokio::test]
async fn whole_configurations_are_validated_and_started() {
    let config = |cluster: &str| {
        format!(
            r#"
static_resources:
  listeners:
  - name: api
    address: {{ socket_address: {{ address: 0.0.0.0, port_value: 8080 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: api
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: / }}
                route: {{ cluster: {cluster} }}
  clusters:
  - name: api
    type: STRICT_DNS
    load_assignment:
      cluster_name: api
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: api, port_value: 80 }} }} }}
"#
        )
    };
    let upstream = EchoUpstream::start().await;
    let good = ConfigFile::parse(&config("api"))
        .unwrap()
        .free_ports()
        .clusters_at(upstream.address())
        .into_value();
    let bad = ConfigFile::parse(&config("nobody")).unwrap().into_value();

    let validation = Envoy::validate(&good).await;
    assert!(validation.success, "{}", validation.output);
    let validation = Envoy::validate(&bad).await;
    assert!(!validation.success);
    assert!(
        validation.output.contains("nobody"),
        "{}",
        validation.output
    );

    let envoy = Envoy::builder().bootstrap(good).start().await.unwrap();
    assert_eq!(envoy.listener("api"), Some(envoy.address()));
    assert_eq!(envoy.http1().get("/").send().await.echo().path, "/");
}

/// A small plugin, and the folder that holds it.
fn probe() -> (TempDir, PathBuf) {
    let wasm = wat::parse_str(include_str!("fixtures/probe.wat")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("probe.wasm");
    std::fs::write(&path, wasm).unwrap();
    (folder, path)
}
