//! Requests whose end, or whose number, servers read in different ways (request smuggling), and
//! requests at the limits of size. One is judged for each that the upstream gets.

mod common;

use common::sha256;
use serde_json::json;
use tollgate_tests::{EchoUpstream, Envoy, plugin, wasm_filter};

/// What an attacker would like the upstream to see as a request of its own: it has no key.
const INNER: &str = "GET /admin HTTP/1.1\r\nhost: a\r\nx-inner: 1\r\n\r\n";

async fn gateway(upstream: &EchoUpstream) -> Envoy {
    let document = json!({
        "apis": [{ "name": "admin", "match": [{ "path": "/admin/**" }] }],
        "usage_plan": {
            "plans": { "gold": {} },
            "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256("k") }] }],
        },
        "access": [{ "apis": ["admin"], "require": "api_key" }, { "require": "anonymous" }],
    });
    let filter = wasm_filter("tollgate", plugin("tollgate"), document);
    let builder = Envoy::builder()
        .upstream(upstream)
        .filter(filter)
        .concurrency(1);
    builder.start().await.unwrap()
}

/// Heads, each followed by what makes it ambiguous. `{inner}` is the hidden request.
fn shapes() -> Vec<(&'static str, String)> {
    let inner = INNER;
    let length = inner.len();
    let chunk = format!("{length:x}");
    let post =
        |head: &str, body: &str| format!("POST /open HTTP/1.1\r\nhost: a\r\n{head}\r\n{body}");
    vec![
        (
            "both framings",
            post(
                &format!(
                    "content-length: {}\r\ntransfer-encoding: chunked\r\n",
                    length + 5
                ),
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "both framings, the other way",
            post(
                "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
                &format!("{chunk}\r\n{inner}\r\n0\r\n\r\n"),
            ),
        ),
        (
            "two lengths",
            post(
                &format!("content-length: 0\r\ncontent-length: {length}\r\n"),
                inner,
            ),
        ),
        (
            "the same length twice",
            post(
                &format!("content-length: {length}\r\ncontent-length: {length}\r\n"),
                inner,
            ),
        ),
        (
            "a list of lengths",
            post(&format!("content-length: {length}, 0\r\n"), inner),
        ),
        (
            "a length with a sign",
            post(&format!("content-length: +{length}\r\n"), inner),
        ),
        ("a negative length", post("content-length: -1\r\n", inner)),
        (
            "a length in hexadecimal",
            post(&format!("content-length: 0x{chunk}\r\n"), inner),
        ),
        (
            "a length with a space before the colon",
            post(&format!("content-length : {length}\r\n"), inner),
        ),
        (
            "an obsolete fold",
            post(&format!("x-a: 1\r\n content-length: {length}\r\n"), inner),
        ),
        (
            "a folded coding",
            post(
                "transfer-encoding:\r\n chunked\r\n",
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "a coding with a tab",
            post(
                "transfer-encoding:\tchunked\r\n",
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "a coding in quotes",
            post(
                "transfer-encoding: \"chunked\"\r\n",
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "an unknown coding",
            post(
                "transfer-encoding: xchunked\r\n",
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "two codings",
            post(
                "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "chunked is not the last",
            post(
                "transfer-encoding: chunked, identity\r\n",
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "a vertical tab in the coding",
            post(
                "transfer-encoding: \u{b}chunked\r\n",
                &format!("0\r\n\r\n{inner}"),
            ),
        ),
        (
            "bare line feeds",
            format!("POST /open HTTP/1.1\nhost: a\ncontent-length: {length}\n\n{inner}"),
        ),
        (
            "a bare line feed in a head",
            post(&format!("x-a: 1\ncontent-length: {length}\r\n"), inner),
        ),
        (
            "a bare return in a head",
            post(&format!("x-a: 1\rcontent-length: {length}\r\n"), inner),
        ),
        ("a NUL in a value", post("x-a: 1\0\r\n", inner)),
        ("an empty name", post(": 1\r\n", inner)),
        (
            "a chunk extension",
            post(
                "transfer-encoding: chunked\r\n",
                &format!("{chunk};a=\"b\"\r\n{inner}\r\n0\r\n\r\n"),
            ),
        ),
        (
            "a chunk extension with a line feed",
            post(
                "transfer-encoding: chunked\r\n",
                &format!("2;\nxx\r\n{chunk}\r\n{inner}\r\n0\r\n\r\n"),
            ),
        ),
        (
            "a chunk size too large",
            post(
                "transfer-encoding: chunked\r\n",
                &format!("ffffffffffffffff0\r\n{inner}"),
            ),
        ),
        (
            "a chunk size with a sign",
            post(
                "transfer-encoding: chunked\r\n",
                &format!("+{chunk}\r\n{inner}\r\n0\r\n\r\n"),
            ),
        ),
        (
            "a chunk without its end",
            post("transfer-encoding: chunked\r\n", &format!("1\r\nx{inner}")),
        ),
        (
            "a framing field in trailers",
            post(
                "transfer-encoding: chunked\r\n",
                &format!("0\r\ncontent-length: {length}\r\nx-api-key: k\r\n\r\n"),
            ),
        ),
        (
            "a body of a GET",
            format!("GET /open HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{inner}"),
        ),
        (
            "a space before the head",
            format!(" GET /open HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{inner}"),
        ),
        (
            "two hosts",
            format!(
                "GET /open HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: {length}\r\n\r\n{inner}"
            ),
        ),
        (
            "a target in two lines",
            format!(
                "GET /open HTTP/1.1\r\nx: /admin HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{inner}"
            ),
        ),
        (
            "another version",
            format!("POST /open HTTP/1.9\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{inner}"),
        ),
        (
            "an upgrade that nobody asked for",
            format!(
                "GET /open HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: {length}\r\n\r\n{inner}"
            ),
        ),
        (
            "a connection header that names others",
            "GET /admin HTTP/1.1\r\nhost: a\r\nx-api-key: wrong\r\nconnection: x-api-key\r\n\r\n"
                .to_owned(),
        ),
    ]
}

#[tokio::test]
async fn nothing_is_smuggled_past_the_gateway() {
    let upstream = EchoUpstream::start().await;
    let envoy = gateway(&upstream).await;
    for (what, bytes) in shapes() {
        upstream.clear();
        let mut client = envoy.raw().await;
        client.send(&bytes).await;
        // Whatever Envoy still waits for, it gets: the end of a body, and a request that is good.
        client
            .send("0\r\n\r\nGET /open HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await;
        client.shut_down().await;
        client.read_to_end().await;
        let received = upstream.take_received();
        for request in &received {
            assert!(!request.path.starts_with("/admin"), "{what}: {received:?}");
            assert_eq!(request.header("x-inner"), None, "{what}: {received:?}");
            assert_eq!(request.header("x-api-key"), None, "{what}: {received:?}");
            // The upstream's framing is one: hyper refuses both at once.
            let lengths = request.headers.get_all("content-length").iter().count();
            let codings = request.headers.get_all("transfer-encoding").iter().count();
            assert!(lengths + codings <= 1, "{what}: {request:?}");
        }
    }
    let stats = envoy.stats().await;
    assert_eq!(stats.sum("envoy_wasm_tollgate_vm_reload_success", &[]), 0.0);
    let client = envoy.http1();
    assert_eq!(
        client
            .get("/admin")
            .header("x-api-key", "k")
            .send()
            .await
            .status,
        200
    );
    assert_eq!(client.get("/admin").send().await.status, 401);
}

/// One frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// Fields as literals without a table (RFC 7541 section 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

#[tokio::test]
async fn http2_brings_no_fields_of_http1_with_it() {
    let upstream = EchoUpstream::start().await;
    let envoy = gateway(&upstream).await;
    let usual = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/open"),
        (":authority", "a"),
    ];
    let admin = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/admin"),
        (":authority", "a"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&usual[..], more].concat();
    for (what, list) in [
        ("connection", with(&[("connection", "x-api-key")])),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te", with(&[("te", "gzip")])),
        ("a capital", with(&[("X-Api-Key", "k")])),
        ("a line break", with(&[("x-a", "1\r\nx-inner: 1")])),
        ("a line feed", with(&[("x-a", "1\nx-inner: 1")])),
        ("a NUL", with(&[("x-a", "1\0")])),
        ("a colon in a name", with(&[("x-inner: 1\r\nx", "1")])),
        ("two paths", with(&[(":path", "/admin")])),
        (
            "a pseudo-header behind others",
            with(&[("x-a", "1"), (":path", "/admin")]),
        ),
        ("an unknown pseudo-header", with(&[(":x-inner", "1")])),
        ("another host", with(&[("host", "b")])),
        ("a length without a body", with(&[("content-length", "5")])),
        (
            "a line break in the path",
            vec![
                usual[0],
                usual[1],
                (":path", "/open HTTP/1.1\r\nx-inner: 1"),
                usual[3],
            ],
        ),
        ("no path", vec![usual[0], usual[1], usual[3]]),
        (
            "an empty path",
            vec![usual[0], usual[1], (":path", ""), usual[3]],
        ),
        ("no method", usual[1..].to_vec()),
        ("no key", admin.to_vec()),
    ] {
        upstream.clear();
        let mut client = envoy.raw().await;
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        client.send(frame(4, 0, 0, &[])).await;
        // END_STREAM and END_HEADERS.
        client.send(frame(1, 5, 1, &fields(&list))).await;
        client.send(frame(1, 5, 3, &fields(&usual))).await;
        client.shut_down().await;
        client.read_to_end().await;
        for request in upstream.take_received() {
            assert_eq!(request.path, "/open", "{what}: {request:?}");
            for name in [
                "x-inner",
                "x-api-key",
                "connection",
                "upgrade",
                "transfer-encoding",
            ] {
                assert_eq!(request.header(name), None, "{what}: {request:?}");
            }
            assert_ne!(request.header("te"), Some("gzip"), "{what}: {request:?}");
        }
    }
    assert_eq!(envoy.http2().get("/open").send().await.status, 200);
}

#[tokio::test]
async fn requests_at_the_limits_of_size_are_judged_and_larger_ones_refused() {
    let upstream = EchoUpstream::start().await;
    let envoy = gateway(&upstream).await;
    let client = envoy.http1();
    let status = async |path: &str, headers: usize, size: usize| {
        let mut request = client.fresh().get(path).header("x-api-key", "k");
        for number in 0..headers {
            request = request.header(format!("x-{number}"), "x".repeat(size));
        }
        request.send().await.status.as_u16()
    };
    let long = |length: usize| format!("/admin/{}", "a/".repeat(length / 2));
    // The harness lets Envoy take 500 headers of 96 KiB in all.
    assert_eq!(status("/admin", 490, 10).await, 200);
    assert_eq!(status("/admin", 510, 10).await, 431);
    assert_eq!(status("/admin", 9, 10_000).await, 200);
    assert_eq!(status("/admin", 11, 10_000).await, 431);
    assert_eq!(status(&long(60_000), 0, 0).await, 200);
    assert_eq!(
        status(&format!("/admin?{}", "a=b&".repeat(15_000)), 0, 0).await,
        200
    );
    let unkeyed = client.get(&long(60_000)).send().await;
    assert_eq!(unkeyed.status, 401);
    assert_eq!(upstream.count(), 4);
    let reloads = envoy
        .stats()
        .await
        .sum("envoy_wasm_tollgate_vm_reload_success", &[]);
    assert_eq!(reloads, 0.0);
}
