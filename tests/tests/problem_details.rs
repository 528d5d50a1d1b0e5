//! Errors as problem details on the real Envoy: its own, those of its filters, and an upstream's.

mod common;
mod idp;

use common::config;
use http::Method;
use idp::{Bearer, Idp, wait_for_active};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tollgate_tests::{
    Algorithm, DEADLINE, EchoUpstream, Envoy, EnvoyBuilder, Fault, HttpClient, RawClient,
    SigningKey, cluster, http2_cluster, merge, plugin, wasm_filter,
};

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";

/// What is behind a path, and what becomes of it.
struct Case {
    path: &'static str,
    /// What its route has (`config.route.v3.Route`); `None` where no route leads to it.
    route: Option<Value>,
    status: u16,
    /// `None` where the answer stays as it is.
    kind: Option<&'static str>,
    /// How `%RESPONSE_CODE_DETAILS%` begins.
    details: &'static str,
}

/// A route to the echo upstream that makes it answer in this way.
fn echo(asks: &[(&str, &str)]) -> Option<Value> {
    let added: Vec<Value> = asks
        .iter()
        .map(|(name, value)| json!({ "header": { "key": name, "value": value } }))
        .collect();
    Some(json!({ "route": { "cluster": "echo" }, "request_headers_to_add": added }))
}

fn to_cluster(cluster: &str) -> Option<Value> {
    Some(json!({ "route": { "cluster": cluster } }))
}

fn with(route: Option<Value>, patch: Value) -> Option<Value> {
    let mut route = route?;
    merge(&mut route, &patch);
    Some(route)
}

/// What a filter of Envoy's does on a route.
fn filtered(name: &str, settings: Value) -> Option<Value> {
    let patch = json!({ "typed_per_filter_config": { name: settings } });
    with(to_cluster("echo"), patch)
}

const PAGE: &str = "<html><body>Exception in thread main</body></html>";

/// The errors of Envoy itself, and of its filters behind the plugin.
fn of_envoy() -> Vec<Case> {
    let case = |path, route, status, kind, details| Case {
        path,
        route,
        status,
        kind: Some(kind),
        details,
    };
    let rate_limit = json!({
        "@type": format!("{FILTERS}.local_ratelimit.v3.LocalRateLimit"),
        "stat_prefix": "limited",
        "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "86400s" },
        "filter_enabled": { "default_value": { "numerator": 100 } },
        "filter_enforced": { "default_value": { "numerator": 100 } },
    });
    let nobody = json!({
        "@type": format!("{FILTERS}.rbac.v3.RBACPerRoute"),
        "rbac": { "rules": { "action": "ALLOW" } },
    });
    vec![
        case(
            "/accounts/nowhere",
            None,
            404,
            "no-route",
            "tollgate{no-route}:route_not_found",
        ),
        case(
            "/accounts/unknown",
            to_cluster("missing"),
            503,
            "upstream-unknown",
            "tollgate{upstream-unknown}:cluster_not_found",
        ),
        case(
            "/accounts/refused",
            to_cluster("refused"),
            503,
            "upstream-unavailable",
            "tollgate{upstream-unavailable}:upstream_reset_before_response_started{",
        ),
        case(
            "/accounts/empty",
            to_cluster("empty"),
            503,
            "upstream-unavailable",
            "tollgate{upstream-unavailable}:no_healthy_upstream",
        ),
        case(
            "/accounts/slow",
            with(
                echo(&[("x-echo-hold", "never")]),
                json!({ "route": { "timeout": "0.05s" } }),
            ),
            504,
            "upstream-timeout",
            "tollgate{upstream-timeout}:response_timeout",
        ),
        case(
            "/accounts/reset",
            echo(&[("x-echo-reset", "headers")]),
            503,
            "upstream-reset",
            "tollgate{upstream-reset}:upstream_reset_before_response_started{",
        ),
        case(
            "/accounts/direct",
            Some(json!({ "direct_response": { "status": 503 } })),
            503,
            "upstream-unavailable",
            "tollgate{upstream-unavailable}:direct_response",
        ),
        case(
            "/accounts/limited",
            filtered("limit", rate_limit),
            429,
            "too-many-requests",
            "tollgate{too-many-requests}:local_rate_limited",
        ),
        case(
            "/accounts/token",
            to_cluster("echo"),
            401,
            "credentials-missing",
            "tollgate{credentials-missing}:jwt_authn_access_denied{Jwt_is_missing}",
        ),
        case(
            "/accounts/nobody",
            filtered("rbac", nobody),
            403,
            "access-denied",
            "tollgate{access-denied}:rbac_access_denied",
        ),
    ]
}

/// The upstream's errors that are replaced.
fn of_upstream() -> Vec<Case> {
    let html = "content-type: text/html; charset=utf-8";
    let failed = |path, asks: &[(&str, &str)], status| Case {
        path,
        route: echo(asks),
        status,
        kind: Some("upstream-failed"),
        details: "tollgate{upstream-failed}",
    };
    vec![
        failed(
            "/accounts/page",
            &[
                ("x-echo-status", "500"),
                ("x-echo-header", html),
                ("x-echo-header", "content-encoding: br"),
                ("x-echo-header", "etag: \"a\""),
                ("x-echo-header", "set-cookie: a=1"),
                ("x-echo-header", "set-cookie: b=2"),
                ("x-echo-body", PAGE),
            ],
            500,
        ),
        failed(
            "/accounts/large",
            &[
                ("x-echo-status", "502"),
                ("x-echo-header", html),
                ("x-echo-body-size", "1048576"),
            ],
            502,
        ),
        failed(
            "/accounts/bare",
            &[("x-echo-status", "503"), ("x-echo-body", "")],
            503,
        ),
    ]
}

/// Answers that stay as they are.
fn untouched() -> Vec<Case> {
    let stays = |path, route, status, details| Case {
        path,
        route,
        status,
        kind: None,
        details,
    };
    let told = [
        ("x-echo-status", "500"),
        ("x-echo-header", "content-type: application/problem+json"),
        ("x-echo-body", r#"{"status":500,"title":"Own"}"#),
    ];
    let written =
        json!({ "direct_response": { "status": 503, "body": { "inline_string": "Back at 9." } } });
    let moved = json!({ "redirect": { "path_redirect": "/accounts/there" } });
    let upstream = "via_upstream";
    vec![
        stays("/accounts/told", echo(&told), 500, upstream),
        stays("/accounts/written", Some(written), 503, "direct_response"),
        stays("/accounts/moved", Some(moved), 301, "direct_response"),
        stays(
            "/accounts/missing",
            echo(&[("x-echo-status", "404"), ("x-echo-body", "Who?")]),
            404,
            upstream,
        ),
        stays(
            "/accounts/none",
            echo(&[("x-echo-status", "204"), ("x-echo-body", "")]),
            204,
            upstream,
        ),
        stays(
            "/accounts/same",
            echo(&[("x-echo-status", "304"), ("x-echo-body", "")]),
            304,
            upstream,
        ),
        stays("/accounts/fine", echo(&[]), 200, upstream),
    ]
}

fn document() -> Value {
    let mut document = config(json!({ "throttle": { "rate": "1000/s", "burst": 10000 } }));
    document["usage_plan"]["anonymous"] = json!({ "plan": "gold" });
    document["problem_details"] = json!({ "wrap": ["gateway", "upstream_bare_5xx"] });
    document
}

/// An Envoy with the full plugin before filters of Envoy's own, which has these routes alone.
fn gateway(upstream: &EchoUpstream, cases: &[Case]) -> EnvoyBuilder {
    let keys = json!({ "keys": [SigningKey::new(Algorithm::ES256).jwk("a")] });
    let jwt = json!({
        "@type": format!("{FILTERS}.jwt_authn.v3.JwtAuthentication"),
        "providers": { "issuer": { "local_jwks": { "inline_string": keys.to_string() } } },
        "rules": [{
            "match": { "path": "/accounts/token" },
            "requires": { "provider_name": "issuer" },
        }],
    });
    let limit = json!({
        "@type": format!("{FILTERS}.local_ratelimit.v3.LocalRateLimit"),
        "stat_prefix": "limited",
    });
    let rbac = json!({ "@type": format!("{FILTERS}.rbac.v3.RBAC") });
    let buffer =
        json!({ "@type": format!("{FILTERS}.buffer.v3.Buffer"), "max_request_bytes": 1024 });
    let routes: Vec<Value> = cases
        .iter()
        .filter_map(|case| {
            let mut route = case.route.clone()?;
            route["match"] = json!({ "path": case.path });
            Some(route)
        })
        .collect();
    let closed = "127.0.0.1:1".parse().unwrap();
    let mut builder = Envoy::builder()
        .upstream(upstream)
        .cluster(cluster("refused", closed))
        .cluster(http2_cluster("grpc", upstream.address()))
        .cluster(json!({ "name": "empty", "type": "STATIC" }))
        .filter(wasm_filter("tollgate", plugin("tollgate"), document()));
    for (name, settings) in [
        ("jwt", jwt),
        ("limit", limit),
        ("rbac", rbac),
        ("buffer", buffer),
    ] {
        builder = builder.filter(json!({ "name": name, "typed_config": settings }));
    }
    builder.map_listener(|listener| {
        listener.connection_manager(json!({
            "route_config": {
                "validate_clusters": false,
                "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }],
            },
        }))
    })
}

/// An answer in either version of HTTP.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn only(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [value] => value,
            _ => panic!("{name} is not there once: {self:?}"),
        }
    }
}

/// One connection.
enum Connection {
    Http1(RawClient),
    Http2(HttpClient),
}

impl Connection {
    async fn ask(&mut self, method: &Method, path: &str, accept: Option<&str>) -> Answer {
        match self {
            Connection::Http1(raw) => {
                let accept = accept.map_or(String::new(), |accept| format!("accept: {accept}\r\n"));
                raw.send(format!(
                    "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{accept}\r\n"
                ))
                .await;
                let reply = match *method == Method::HEAD {
                    true => raw.read_head().await,
                    false => raw.read_reply().await,
                };
                Answer {
                    status: reply.status,
                    headers: reply
                        .headers
                        .iter()
                        .map(|(name, value)| {
                            (name.clone(), String::from_utf8(value.clone()).unwrap())
                        })
                        .collect(),
                    body: reply.body,
                }
            }
            Connection::Http2(client) => {
                let mut request = client.request(method.clone(), path);
                if let Some(accept) = accept {
                    request = request.header("accept", accept);
                }
                let reply = request.send().await;
                Answer {
                    status: reply.status.as_u16(),
                    headers: reply
                        .headers
                        .iter()
                        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                        .collect(),
                    body: reply.body.to_vec(),
                }
            }
        }
    }
}

/// What a client accepts, and what it then gets.
const MEDIA: [(Option<&str>, &str); 6] = [
    (None, "application/problem+json"),
    (Some("application/json"), "application/json"),
    (Some("application/problem+xml"), "application/problem+xml"),
    (Some("text/plain"), "text/plain; charset=utf-8"),
    (
        Some("text/html,application/xhtml+xml,*/*;q=0.8"),
        "text/html; charset=utf-8",
    ),
    (Some("image/png"), "application/problem+json"),
];

fn assert_problem(answer: &Answer, case: &Case, kind: &str, media: &str, method: &Method) {
    let Case { path, status, .. } = case;
    assert_eq!(answer.status, *status, "{path}: {answer:?}");
    assert_eq!(answer.only("content-type"), media, "{path}");
    assert_eq!(answer.only("cache-control"), "no-store", "{path}");
    for name in [
        "transfer-encoding",
        "content-encoding",
        "etag",
        "connection",
    ] {
        assert!(answer.all(name).is_empty(), "{path} {name}: {answer:?}");
    }
    let id = answer.only("x-request-id");
    for name in ["ratelimit-policy", "ratelimit"] {
        assert!(answer.only(name).starts_with("\"throttle\";"), "{path}");
    }
    let length: usize = answer.only("content-length").parse().unwrap();
    if *method == Method::HEAD {
        assert!(length > 0 && answer.body.is_empty(), "{path}: {answer:?}");
        return;
    }
    assert_eq!(length, answer.body.len(), "{path}");
    let text = std::str::from_utf8(&answer.body).unwrap();
    assert!(!text.contains("Exception"), "{path}: {text}");
    let instance = format!("urn:uuid:{id}");
    if media.ends_with("json") {
        let problem: Value = serde_json::from_str(text).unwrap();
        assert_eq!(problem["status"], *status, "{path}");
        assert_eq!(problem["kind"], kind, "{path}");
        assert_eq!(problem["instance"], instance, "{path}");
        return;
    }
    let (parts, end) = match media {
        "application/problem+xml" => (
            [
                format!("<status>{status}</status>"),
                format!("<kind>{kind}</kind>"),
            ],
            "</problem>\n",
        ),
        "text/plain; charset=utf-8" => ([status.to_string(), kind.to_owned()], "\n"),
        _ => (
            [format!("<h1>{status} "), format!("<dd>{kind}</dd>")],
            "</html>\n",
        ),
    };
    for part in parts.iter().chain([&instance]) {
        assert!(text.contains(part), "{path}: no {part} in {text}");
    }
    assert!(text.ends_with(end), "{path}: {text}");
}

#[tokio::test]
async fn every_error_is_a_whole_problem_on_a_connection_that_lives_on() {
    let upstream = EchoUpstream::start().await;
    let cases: Vec<Case> = of_envoy().into_iter().chain(of_upstream()).collect();
    let envoy = gateway(&upstream, &cases).start().await.unwrap();
    // The only token of the limit.
    assert_eq!(
        envoy.http1().get("/accounts/limited").send().await.status,
        200
    );
    let mut sent = 1;
    for mut connection in [
        Connection::Http1(envoy.raw().await),
        Connection::Http2(envoy.http2()),
    ] {
        for case in &cases {
            for (accept, media) in MEDIA {
                for method in [Method::GET, Method::HEAD] {
                    let answer = connection.ask(&method, case.path, accept).await;
                    let kind = case.kind.unwrap();
                    assert_problem(&answer, case, kind, media, &method);
                    sent += 1;
                    if case.path == "/accounts/page" {
                        assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
                    }
                    if case.status == 401 {
                        assert!(answer.only("www-authenticate").starts_with("Bearer"));
                    }
                }
            }
        }
    }
    // One for each client: none was closed.
    let stats = envoy.stats().await;
    let connections = |version| {
        let name = format!("envoy_http_downstream_cx_{version}_total");
        stats.sum(&name, &[("envoy_http_conn_manager_prefix", "http")])
    };
    assert_eq!(connections("http1"), 2.0);
    assert_eq!(connections("http2"), 1.0);
    for entry in &envoy.wait_for_access_log(sent).await[1..] {
        let path = entry.path.as_deref().unwrap();
        let case = cases.iter().find(|case| case.path == path).unwrap();
        assert_eq!(entry.status, case.status, "{entry:?}");
        let details = entry.details.as_deref().unwrap();
        assert!(details.starts_with(case.details), "{entry:?}");
        // It was let in, and somebody else failed it.
        assert_eq!(entry.decision.as_deref(), Some("allow"), "{entry:?}");
        assert!(entry.request_id.is_some(), "{entry:?}");
    }
    assert!(!envoy.log().contains("not sent"), "{}", envoy.log());
}

#[tokio::test]
async fn whatever_is_no_bare_error_stays_as_it_is() {
    let upstream = EchoUpstream::start().await;
    let cases = untouched();
    let envoy = gateway(&upstream, &cases).start().await.unwrap();
    let mut sent = 0;
    for mut connection in [
        Connection::Http1(envoy.raw().await),
        Connection::Http2(envoy.http2()),
    ] {
        for case in &cases {
            for (accept, _) in MEDIA {
                for method in [Method::GET, Method::HEAD] {
                    let answer = connection.ask(&method, case.path, accept).await;
                    sent += 1;
                    assert_eq!(answer.status, case.status, "{answer:?}");
                    assert!(answer.all("content-security-policy").is_empty());
                    answer.only("x-request-id");
                    answer.only("ratelimit");
                    if method == Method::HEAD {
                        continue;
                    }
                    let text = String::from_utf8(answer.body.clone()).unwrap();
                    match case.path {
                        "/accounts/told" => assert_eq!(text, r#"{"status":500,"title":"Own"}"#),
                        "/accounts/written" => assert_eq!(text, "Back at 9."),
                        "/accounts/missing" => assert_eq!(text, "Who?"),
                        "/accounts/fine" => assert!(text.contains("\"method\":\"GET\"")),
                        _ => assert_eq!(text, ""),
                    }
                }
            }
        }
    }
    for entry in envoy.wait_for_access_log(sent).await {
        let path = entry.path.as_deref().unwrap();
        let case = cases.iter().find(|case| case.path == path).unwrap();
        assert_eq!(entry.details.as_deref(), Some(case.details), "{entry:?}");
    }
}

#[tokio::test]
async fn a_body_too_large_is_refused_as_a_problem() {
    let upstream = EchoUpstream::start().await;
    let cases = untouched();
    let envoy = gateway(&upstream, &cases).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let reply = client
            .post("/accounts/fine")
            .body(vec![b'x'; 1 << 20])
            .send()
            .await;
        assert_eq!(reply.status, 413, "{reply:?}");
        assert_eq!(reply.json()["kind"], "request-too-large");
        let length = reply.body.len().to_string();
        assert_eq!(reply.header("content-length"), Some(length.as_str()));
        let next = client.post("/accounts/fine").body("x").send().await;
        assert_eq!(next.echo().body_length, 1);
    }
}

#[tokio::test]
async fn a_grpc_call_fails_as_one() {
    let upstream = EchoUpstream::start().await;
    let mut cases: Vec<Case> = of_envoy().into_iter().chain(of_upstream()).collect();
    for case in &mut cases {
        if let Some(route) = &mut case.route
            && route["route"]["cluster"] == "echo"
        {
            route["route"]["cluster"] = "grpc".into();
        }
    }
    let envoy = gateway(&upstream, &cases).start().await.unwrap();
    let client = envoy.http2();
    client.grpc("/accounts/limited", b"hello").send().await;
    for case in &cases {
        let reply = client.grpc(case.path, b"hello").send().await;
        // Envoy's own are that already when they come by, so they keep its code and words.
        let expected = match case.status {
            401 => 16,
            403 => 7,
            404 => 12,
            500 => 13,
            _ => 14,
        };
        assert_eq!(reply.status, 200, "{}", case.path);
        assert_eq!(
            reply.header("content-type"),
            Some("application/grpc"),
            "{}",
            case.path
        );
        assert_eq!(reply.grpc_status(), Some(expected), "{}", case.path);
        assert!(reply.body.is_empty(), "{}: {reply:?}", case.path);
        assert_eq!(reply.header_values("x-request-id").len(), 1);
        assert_eq!(reply.header_values("ratelimit").len(), 1);
    }
}

#[tokio::test]
async fn a_grpc_web_call_gets_trailers_in_the_body() {
    let upstream = EchoUpstream::start().await;
    let cases: Vec<Case> = of_envoy().into_iter().chain(of_upstream()).collect();
    let envoy = gateway(&upstream, &cases).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        for (path, code) in [
            ("/accounts/nowhere", 12),
            ("/accounts/page", 13),
            ("/accounts/empty", 14),
        ] {
            let request = client
                .post(path)
                .header("content-type", "application/grpc-web+proto");
            let reply = request.body(vec![0; 5]).send().await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(
                reply.header("content-type"),
                Some("application/grpc-web+proto")
            );
            assert_eq!(reply.body[0], 0x80);
            let length = u32::from_be_bytes(reply.body[1..5].try_into().unwrap());
            assert_eq!(reply.body.len(), 5 + length as usize);
            let trailers = std::str::from_utf8(&reply.body[5..]).unwrap();
            assert!(
                trailers.starts_with(&format!("grpc-status:{code}\r\n")),
                "{trailers}"
            );
        }
    }
}

/// What Envoy answers while a request waits in the plugin for an issuer's keys.
#[tokio::test]
async fn a_request_that_waits_too_long_fails_as_a_problem() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let mut document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    document["problem_details"] = json!({});
    document["request_id"] = json!({});
    let envoy = idp
        .gateway(&upstream, document)
        .map_listener(|listener| {
            listener.connection_manager(json!({ "stream_idle_timeout": "2s" }))
        })
        .start()
        .await
        .unwrap();
    let clients = [envoy.http1(), envoy.http2()];
    for client in &clients {
        let waiting = client
            .get("/")
            .bearer(&idp.token())
            .header("accept", "text/html");
        let reply = waiting.send().await;
        assert_eq!(reply.status, 504, "{reply:?}");
        assert_eq!(
            reply.header("content-type"),
            Some("text/html; charset=utf-8"),
            "{reply:?}"
        );
        assert!(
            reply.text().contains("<dd>upstream-timeout</dd>"),
            "{reply:?}"
        );
        let id = reply.header("x-request-id").expect("an id");
        assert!(
            reply.text().contains(&format!("urn:uuid:{id}")),
            "{reply:?}"
        );
    }
    wait_for_active(&envoy, 0).await;
    assert_eq!(upstream.count(), 0);
    // Those that were given up are not taken up.
    idp.issuer.recover();
    for client in &clients {
        let reply = client.get("/").bearer(&idp.token()).send().await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(upstream.count(), 2);
    for entry in &envoy.wait_for_access_log(4).await[..2] {
        let details = entry.details.as_deref();
        assert_eq!(
            details,
            Some("tollgate{upstream-timeout}:stream_idle_timeout"),
            "{entry:?}"
        );
    }
    for trouble in ["lost", "not continued", "not sent"] {
        assert!(!envoy.log().contains(trouble), "{}", envoy.log());
    }
}

/// Filters before the plugin refuse requests that it then never sees.
#[tokio::test]
async fn what_is_refused_before_the_plugin_stays_as_it_is() {
    let upstream = EchoUpstream::start().await;
    let nobody = json!({
        "@type": format!("{FILTERS}.rbac.v3.RBAC"),
        "rules": { "action": "ALLOW" },
    });
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(json!({ "name": "rbac", "typed_config": nobody }))
        .filter(wasm_filter("tollgate", plugin("tollgate"), document()))
        .start()
        .await
        .unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        for _ in 0..2 {
            let reply = client.get("/accounts").send().await;
            assert_eq!(reply.status, 403);
            assert_eq!(reply.text(), "RBAC: access denied");
        }
    }
}

/// An upstream of one connection that sends a beginning, and the rest when it is told to.
async fn upstream_in_parts(
    first: String,
    rest: &'static str,
) -> (
    std::net::SocketAddr,
    oneshot::Sender<()>,
    tokio::task::JoinHandle<()>,
) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go, told) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        stream.write_all(first.as_bytes()).await.unwrap();
        if told.await.is_ok() {
            stream.write_all(rest.as_bytes()).await.unwrap();
        }
        // Until the gateway leaves.
        while stream
            .read_buf(&mut request)
            .await
            .is_ok_and(|read| read > 0)
        {}
    });
    (address, go, serving)
}

fn before(address: std::net::SocketAddr) -> EnvoyBuilder {
    Envoy::builder()
        .cluster(cluster("parts", address))
        .filter(wasm_filter("tollgate", plugin("tollgate"), document()))
        .route(json!({ "match": { "prefix": "/" }, "route": { "cluster": "parts" } }))
}

async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            assert!(
                stream.read_buf(&mut seen).await.unwrap() > 0,
                "closed before {text}"
            );
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect(text);
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn events_pass_one_by_one() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let (address, go, _serving) = upstream_in_parts(
        format!("{head}9\r\ndata: 1\n\n\r\n"),
        "9\r\ndata: 2\n\n\r\n0\r\n\r\n",
    )
    .await;
    let envoy = before(address).start().await.unwrap();
    let mut stream = TcpStream::connect(envoy.address()).await.unwrap();
    let request = "GET /accounts HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    // The second is not sent before the first has come.
    let first = read_until(&mut stream, "data: 1\n\n").await;
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    assert!(first.contains("x-request-id: "), "{first}");
    go.send(()).unwrap();
    read_until(&mut stream, "data: 2\n\n").await;
}

#[tokio::test]
async fn an_error_that_never_ends_is_replaced_at_once() {
    for head in [
        "HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 500 Oops\r\ncontent-length: 1000000\r\ncontent-type: text/html\r\n\r\nhello",
    ] {
        let (address, go, serving) = upstream_in_parts(head.to_owned(), "").await;
        let envoy = before(address).start().await.unwrap();
        let mut client = envoy.raw().await;
        client
            .send("GET /accounts HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await;
        let reply = client.read_reply().await;
        assert_eq!(reply.status, 500);
        let problem: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(problem["kind"], "upstream-failed");
        // Nobody waits for the rest.
        drop(go);
        tokio::time::timeout(DEADLINE, serving)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn a_large_download_passes_whole() {
    const SIZE: usize = 16 << 20;
    let upstream = EchoUpstream::start().await;
    let cases = untouched();
    let envoy = gateway(&upstream, &cases).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let request = client.get("/accounts/fine");
        let reply = request
            .header("x-echo-body-size", SIZE.to_string())
            .send()
            .await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (200, SIZE));
        assert_eq!(reply.header_values("x-request-id").len(), 1);
    }
}

#[tokio::test]
async fn the_plugin_of_this_policy_alone_does_the_same() {
    let upstream = EchoUpstream::start().await;
    let document = json!({ "problem_details": {
        "type_base": "https://errors.bank.example/",
        "overrides": { "no-route": { "status": 410, "detail": "Gone." } },
    } });
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(wasm_filter(
            "problem-details",
            plugin("problem-details"),
            document,
        ))
        .map_listener(|listener| {
            listener.connection_manager(json!({ "route_config": { "virtual_hosts": [
                { "name": "all", "domains": ["*"], "routes": [
                    { "match": { "prefix": "/fine" }, "route": { "cluster": "echo" } },
                ] },
            ] } }))
        })
        .start()
        .await
        .unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let reply = client.get("/nowhere").send().await;
        assert_eq!(reply.status, 410);
        let problem = reply.json();
        assert_eq!(problem["type"], "https://errors.bank.example/no-route");
        assert_eq!(problem["detail"], "Gone.");
        // An upstream's errors are its own unless it is said otherwise.
        let bare = client.get("/fine").header("x-echo-status", "500");
        assert_eq!(
            bare.send().await.header("content-type"),
            Some("application/json")
        );
    }
}
