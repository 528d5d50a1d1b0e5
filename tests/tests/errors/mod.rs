//! Errors of all sources, and what is expected of the answers to them.
#![allow(dead_code, reason = "each test binary uses some of it")]

use http::Method;
use serde_json::{Value, json};
use tollgate_tests::{
    Algorithm, EchoUpstream, Envoy, EnvoyBuilder, HttpClient, RawClient, Reply, SigningKey,
    cluster, http2_cluster, merge, plugin, wasm_filter,
};

use crate::common::config;

pub(crate) const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.http";

/// What is behind a path, and what becomes of it.
pub(crate) struct Case {
    pub(crate) path: &'static str,
    /// What its route has (`config.route.v3.Route`); `None` where no route leads to it.
    pub(crate) route: Option<Value>,
    pub(crate) status: u16,
    /// `None` where the answer stays as it is.
    pub(crate) kind: Option<&'static str>,
    /// How `%RESPONSE_CODE_DETAILS%` begins.
    pub(crate) details: &'static str,
}

/// A route to the echo upstream that makes it answer in this way.
pub(crate) fn echo(asks: &[(&str, &str)]) -> Option<Value> {
    let added: Vec<Value> = asks
        .iter()
        .map(|(name, value)| json!({ "header": { "key": name, "value": value } }))
        .collect();
    Some(json!({ "route": { "cluster": "echo" }, "request_headers_to_add": added }))
}

pub(crate) fn to_cluster(cluster: &str) -> Option<Value> {
    Some(json!({ "route": { "cluster": cluster } }))
}

pub(crate) fn with(route: Option<Value>, patch: Value) -> Option<Value> {
    let mut route = route?;
    merge(&mut route, &patch);
    Some(route)
}

/// What a filter of Envoy's does on a route.
pub(crate) fn filtered(name: &str, settings: Value) -> Option<Value> {
    let patch = json!({ "typed_per_filter_config": { name: settings } });
    with(to_cluster("echo"), patch)
}

pub(crate) const PAGE: &str = "<html><body>Exception in thread main</body></html>";

/// The errors of Envoy itself, and of its filters behind the plugin.
pub(crate) fn of_envoy() -> Vec<Case> {
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
            "/accounts/key",
            filtered("key", key_auth()),
            401,
            "credentials-missing",
            "tollgate{credentials-missing}:missing_api_key",
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

/// Envoy's own filter for API keys, on a route.
fn key_auth() -> Value {
    json!({
        "@type": format!("{FILTERS}.api_key_auth.v3.ApiKeyAuthPerRoute"),
        "credentials": [{ "key": "their-key", "client": "them" }],
        "key_sources": [{ "header": "x-their-key" }],
    })
}

/// The upstream's errors that are replaced.
pub(crate) fn of_upstream() -> Vec<Case> {
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
pub(crate) fn untouched() -> Vec<Case> {
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

pub(crate) fn document() -> Value {
    let mut document = config(json!({ "throttle": { "rate": "1000/s", "burst": 10000 } }));
    document["usage_plan"]["anonymous"] = json!({ "plan": "gold" });
    document["problem_details"] = json!({ "wrap": ["gateway", "upstream_bare_5xx"] });
    document
}

/// An Envoy with the full plugin before filters of Envoy's own, which has these routes alone.
pub(crate) fn gateway(upstream: &EchoUpstream, cases: &[Case]) -> EnvoyBuilder {
    gateway_with(upstream, cases, &[], document())
}

/// The same with other routes behind these, and with another document.
pub(crate) fn gateway_with(
    upstream: &EchoUpstream,
    cases: &[Case],
    others: &[Value],
    document: Value,
) -> EnvoyBuilder {
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
    let key = json!({ "@type": format!("{FILTERS}.api_key_auth.v3.ApiKeyAuth") });
    let buffer =
        json!({ "@type": format!("{FILTERS}.buffer.v3.Buffer"), "max_request_bytes": 1024 });
    let routes = cases.iter().filter_map(|case| {
        let mut route = case.route.clone()?;
        route["match"] = json!({ "path": case.path });
        Some(route)
    });
    let routes: Vec<Value> = routes.chain(others.iter().cloned()).collect();
    let closed = "127.0.0.1:1".parse().unwrap();
    let mut builder = Envoy::builder()
        .upstream(upstream)
        .cluster(cluster("refused", closed))
        .cluster(http2_cluster("grpc", upstream.address()))
        .cluster(json!({ "name": "empty", "type": "STATIC" }))
        .filter(wasm_filter("tollgate", plugin("tollgate"), document));
    for (name, settings) in [
        ("jwt", jwt),
        ("limit", limit),
        ("rbac", rbac),
        ("buffer", buffer),
    ] {
        builder = builder.filter(json!({ "name": name, "typed_config": settings }));
    }
    // Where it is not asked for, it would refuse everything.
    builder = builder.filter(json!({ "name": "key", "typed_config": key, "disabled": true }));
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
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn of(reply: &Reply) -> Self {
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

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Whether the connection ends with it.
    pub(crate) fn is_last(&self) -> bool {
        self.all("connection") == ["close"]
    }

    pub(crate) fn only(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [value] => value,
            _ => panic!("{name} is not there once: {self:?}"),
        }
    }
}

/// One connection.
pub(crate) enum Connection {
    Http1(RawClient),
    Http2(HttpClient),
}

impl Connection {
    pub(crate) async fn ask(
        &mut self,
        method: &Method,
        path: &str,
        accept: Option<&str>,
    ) -> Answer {
        let accept: Vec<_> = accept
            .map(|accept| ("accept", accept))
            .into_iter()
            .collect();
        self.send(method, path, &accept).await
    }

    pub(crate) async fn send(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        match self {
            Connection::Http1(raw) => {
                let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                raw.send(format!("{head}\r\n")).await;
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
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                Answer::of(&request.send().await)
            }
        }
    }
}

/// What a client accepts, and what it then gets.
pub(crate) const MEDIA: [(Option<&str>, &str); 6] = [
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

pub(crate) fn assert_problem(
    answer: &Answer,
    case: &Case,
    kind: &str,
    media: &str,
    method: &Method,
) {
    let Case { path, status, .. } = case;
    for name in ["ratelimit-policy", "ratelimit"] {
        assert!(answer.only(name).starts_with("\"throttle\";"), "{path}");
    }
    assert_whole(answer, path, (*status, kind), media, method);
}

/// Checks that an answer is the whole problem of this status and kind, in this media type (RFC 9457
/// section 3), with the headers that belong to its body.
pub(crate) fn assert_whole(
    answer: &Answer,
    path: &str,
    (status, kind): (u16, &str),
    media: &str,
    method: &Method,
) {
    assert_eq!(answer.status, status, "{path}: {answer:?}");
    assert_eq!(answer.only("content-type"), media, "{path}");
    assert_eq!(answer.only("cache-control"), "no-store", "{path}");
    for name in ["transfer-encoding", "content-encoding", "etag"] {
        assert!(answer.all(name).is_empty(), "{path} {name}: {answer:?}");
    }
    // Envoy ends a connection by HTTP/1.1 after a 400, and where it has not read a whole body.
    assert!(
        matches!(status, 400 | 413) || !answer.is_last(),
        "{path}: {answer:?}"
    );
    assert_eq!(answer.only("content-language"), "en", "{path}");
    let is_page = media.starts_with("text/html");
    let policies = answer.all("content-security-policy").len();
    assert_eq!(policies, usize::from(is_page), "{path}: {answer:?}");
    let id = answer.only("x-request-id");
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
        for name in ["type", "title", "detail"] {
            let text = problem[name].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{path}: no {name} in {problem}");
        }
        assert_eq!(problem["status"], status, "{path}");
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
