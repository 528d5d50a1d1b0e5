//! Paths that servers read in different ways. Three read each request: the plugin finds its API,
//! Envoy its route, the upstream its resource. Whatever the spelling, the three agree, or the
//! request is refused.

mod common;

use common::sha256;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tollgate_tests::{
    ECHO_CLUSTER, EchoUpstream, Envoy, EnvoyBuilder, RawReply, plugin, wasm_filter,
};

/// Ways to `/admin`, and past it.
const TARGETS: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/users",
    "//admin/users",
    "///admin//users",
    "/./admin/users",
    "/admin/./users",
    "/%61dmin/users",
    "/%41dmin/users",
    "/ADMIN/users",
    "/Admin/users",
    "/public/../admin/users",
    "/public/%2e%2e/admin/users",
    "/public/%2E./admin/users",
    "/public/..;/admin/users",
    "/public/..;x=1/admin/users",
    "/public/;/../admin/users",
    "/public;/../admin/users",
    "/public/..%3b/admin/users",
    "/public/%2e%2e%3b/admin/users",
    "/public/..%2fadmin/users",
    "/public%2f..%2fadmin%2fusers",
    "/public/%252e%252e/admin/users",
    "/public/..%252fadmin/users",
    "/public/%25%32%65%25%32%65/admin",
    "/public\\..\\admin\\users",
    "/public/..\\admin",
    "/public/..%5cadmin/users",
    "/%5cadmin",
    "/admin%5cusers",
    "/admin%2fusers",
    "/admin%2Fusers",
    "/admin;x/users",
    "/admin;/users",
    "/;/admin/users",
    "/admin%3bx/users",
    "/admin%00/users",
    "/admin%00",
    "/%00/admin",
    "/admin%0a",
    "/admin%20",
    "/admin.",
    "/admin./users",
    "/admin../users",
    "/admin/..",
    "/admin/../public/a",
    "/admin/../../admin",
    "/..",
    "/../admin",
    "/%2e%2e/admin",
    "/.%2e/admin",
    "/...",
    "/.../admin",
    "/public/.../admin",
    "/%c0%ae%c0%ae/admin",
    "/public/%c0%ae%c0%ae/admin",
    "/%c0%afadmin",
    "/public%c0%af..%c0%afadmin",
    "/%e0%80%afadmin",
    "/%f0%80%80%afadmin",
    "/%c1%a1dmin",
    "/%ef%bc%8fadmin",
    "/%u0061dmin",
    "/admin?x=/public",
    "/public?x=/admin",
    "/public?/../admin",
    "/public/%3f/../admin",
    "/public%3f/../../admin",
    "/public#/../admin",
    "/public/#/../../admin",
    "/public%23/../admin",
    "/public/%23/../../admin/users",
    "/admin#",
    "/admin%",
    "/admin%2",
    "/admin%zz",
    "/%%61dmin",
    "/public/a/../../admin/b/../users",
    "/public/./../admin",
    "/ADMIN/../admin",
    "/public/.%00./admin",
    "/public/..%00/admin",
    "/public/%2e%2e%00/admin",
    "/public/..%0d/admin",
    "/public/~/admin",
    "/~admin",
    "/admin~",
    "/admin*",
    "/admin+users",
    "/admin%2busers",
    "/admin,",
    "/admin:80/users",
    "/@admin/users",
    "/http://api.example/admin",
    "//api.example/admin",
    "http://api.example/admin/users",
    "http://api.example:80/admin/users",
    "HTTP://api.example/admin",
    "http://other.example/admin/users",
    "http://user:pass@api.example/admin",
    "http://api.example",
    "http://api.example?/admin",
    "http://api.example/public/../admin",
    "http:///admin",
    "http://api.example\\admin",
    "http://api.example#/admin",
    "https://api.example/public/..;/admin",
    "ftp://api.example/admin",
    "admin",
    "admin/users",
    "./admin",
    "*",
    "?/admin",
    ";/admin",
    "\\admin",
    "%2fadmin",
    "/public/a%2f..%2f..%2fadmin",
    "/public/a;b=/../../admin",
    "/%2e/admin/users",
    "/%2e%2fadmin",
    "/public/%2e",
    "/public/%2e%2e",
    "/public/%2e%2e/",
];

/// Names of hosts that may be the same one.
const HOSTS: &[&str] = &[
    "api.example",
    "API.EXAMPLE",
    "Api.Example",
    "api.example.",
    "api.example:80",
    "api.example:443",
    "api.example:0",
    "api.example:99999",
    "api.example:",
    "api.example.:80",
    "api.example..",
    ".api.example",
    "user@api.example",
    "other.example@api.example",
    "api.example@other.example",
    "api.example:x",
    "api.example:80:80",
    "api.example/",
    "api.example#",
    "api.example?x",
    "api.example, other.example",
    "api%2eexample",
    "api.example%00",
    "[api.example]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "127.0.0.1",
    "other.example",
    "other.example:80",
    "OTHER.example.",
];

/// `admin` needs a key, everything else is open; Envoy's routes are cut in the same way.
fn gateway(upstream: &EchoUpstream, section: Value) -> EnvoyBuilder {
    let hosts = section.get("api_hosts").cloned();
    let mut apis = json!([
        { "name": "admin", "match": [{ "path": "/admin/**" }] },
        { "name": "public", "match": [{ "path": "/public/**" }] },
    ]);
    if let Some(hosts) = hosts {
        apis = json!([{ "name": "admin", "match": [{ "hosts": hosts }] }]);
    }
    let document = json!({
        "apis": apis,
        "paths": section.get("paths").cloned().unwrap_or(json!({})),
        "usage_plan": {
            "plans": { "gold": {} },
            "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256("k") }] }],
        },
        "access": [{ "apis": ["admin"], "require": "api_key" }, { "require": "anonymous" }],
    });
    Envoy::builder()
        .upstream(upstream)
        .concurrency(1)
        .route(route("admin", json!({ "path_separated_prefix": "/admin" })))
        .route(route(
            "public",
            json!({ "path_separated_prefix": "/public" }),
        ))
        .route(route("-", json!({ "prefix": "/" })))
        .filter(wasm_filter("tollgate", plugin("tollgate"), document))
}

/// A route that tells which one it is, and which API the plugin has found.
fn route(name: &str, matching: Value) -> Value {
    let header = |key: &str, value: &str| json!({ "header": { "key": key, "value": value } });
    json!({
        "match": matching,
        "route": { "cluster": ECHO_CLUSTER },
        "response_headers_to_add": [
            header("x-route", name),
            header("x-api", "%FILTER_STATE(wasm.tollgate_api:PLAIN)%"),
        ],
    })
}

async fn send(envoy: &Envoy, target: &str, host: &str, more: &str) -> RawReply {
    let mut client = envoy.raw().await;
    let head = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{more}connection: close\r\n\r\n");
    client.send(head).await;
    client.read_reply().await
}

/// The first segment that a server finds which decodes once, drops parameters, knows backslashes,
/// merges slashes and resolves dots.
fn resource(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let decoded = percent_decode_str(path)
        .decode_utf8_lossy()
        .replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
    {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    segments.first().map_or("-", |first| *first).to_owned()
}

fn header<'r>(reply: &'r RawReply, name: &str) -> &'r str {
    std::str::from_utf8(reply.header(name).unwrap_or(b"-")).unwrap()
}

#[tokio::test]
async fn api_route_and_resource_agree_however_a_path_is_written() {
    for paths in [json!({}), json!({ "escaped_slashes": "keep" })] {
        let upstream = EchoUpstream::start().await;
        let section = json!({ "paths": paths });
        let envoy = gateway(&upstream, section).start().await.unwrap();
        let mut outcomes = [0; 2];
        for target in TARGETS {
            upstream.clear();
            let reply = send(&envoy, target, "api.example", "x-api-key: k\r\n").await;
            let received = upstream.take_received();
            outcomes[usize::from(reply.status == 200)] += 1;
            let [request] = received.as_slice() else {
                assert!(reply.status >= 400, "{target}: {reply:?}");
                assert!(received.is_empty(), "{target}: {received:?}");
                continue;
            };
            let (route, api) = (header(&reply, "x-route"), header(&reply, "x-api"));
            assert_eq!(api, route, "{target}: judged and routed in different ways");
            let resource = resource(&request.path);
            let expected = match resource.as_str() {
                "admin" | "public" => resource.as_str(),
                _ => "-",
            };
            assert_eq!(api, expected, "{target}, received as {}", request.path);

            // The same without a key gets nowhere near.
            let refused = send(&envoy, target, "api.example", "").await;
            assert_eq!(
                refused.status == 200,
                api != "admin",
                "{target}: {refused:?}"
            );
        }
        let [refused, passed] = outcomes;
        assert!(
            refused > 30 && passed > 30,
            "{refused} refused, {passed} passed"
        );
    }
}

#[tokio::test]
async fn no_spelling_of_a_host_gets_past_its_rules() {
    let upstream = EchoUpstream::start().await;
    let section = json!({ "api_hosts": ["api.example"] });
    let virtual_host = |name: &str, domains: Value| json!({ "name": name, "domains": domains, "routes": [route(name, json!({ "prefix": "/" }))] });
    let envoy = gateway(&upstream, section)
        .map_listener(|listener| {
            listener.connection_manager(json!({ "route_config": { "virtual_hosts": [
                virtual_host("admin", json!(["api.example", "api.example:*"])),
                virtual_host("-", json!(["*"])),
            ]}}))
        })
        .start()
        .await
        .unwrap();
    let mut passed = 0;
    for host in HOSTS {
        upstream.clear();
        let reply = send(&envoy, "/a", host, "").await;
        if reply.status != 200 {
            assert_eq!(upstream.count(), 0, "{host}");
            continue;
        }
        passed += 1;
        // Nothing without a key is ever routed to where one is needed.
        assert_eq!(header(&reply, "x-route"), "-", "{host}: {reply:?}");
        assert_eq!(header(&reply, "x-api"), "-", "{host}: {reply:?}");
        let received = upstream.take_received();
        let seen = received[0]
            .header("host")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let seen = seen
            .split(':')
            .next()
            .unwrap_or_default()
            .trim_end_matches('.');
        assert_ne!(seen, "api.example", "{host}: {reply:?}");
    }
    assert!(passed > 3, "only {passed} passed");
}
