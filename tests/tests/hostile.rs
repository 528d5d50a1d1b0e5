//! Requests that nobody sends by accident: a clear answer each, and the worker lives on.

mod common;

use common::{config, gateway};
use serde_json::json;
use tollgate_tests::{EchoUpstream, Envoy, RawReply};

async fn raw(envoy: &Envoy, request: impl AsRef<[u8]>) -> RawReply {
    let mut client = envoy.raw().await;
    client.send(request).await;
    client.read_reply().await
}

#[tokio::test]
async fn strange_requests_get_clear_answers() {
    let upstream = EchoUpstream::start().await;
    let mut document = config(json!({ "apis": ["accounts"], "throttle": "1000/s" }));
    document["usage_plan"]["key"] =
        json!({ "header": "x-api-key", "query": "key", "cookie": "key" });
    document["request_id"] = json!({ "accept": { "from": ["127.0.0.1"] } });
    let envoy = gateway(&upstream, document)
        .concurrency(1)
        .map_listener(|listener| {
            listener.connection_manager(json!({ "max_request_headers_kb": 96 }))
        })
        .start()
        .await
        .unwrap();
    let request = |headers: &[u8]| {
        let mut request = b"GET /accounts HTTP/1.1\r\nhost: api.example\r\n".to_vec();
        request.extend_from_slice(headers);
        request.extend_from_slice(b"\r\n");
        request
    };
    let repeated = "x-api-key: acme-key\r\n".repeat(100);
    let long = format!("x-api-key: {}\r\n", "k".repeat(60 * 1024));
    let long_id = format!(
        "x-api-key: acme-key\r\nx-request-id: {}\r\n",
        "i".repeat(60 * 1024)
    );
    for (what, request, status) in [
        (
            "a key that is not UTF-8",
            request(b"x-api-key: caf\xe9\xff\r\n"),
            401,
        ),
        (
            "a cookie that is not UTF-8",
            request(b"cookie: key=\xff\xfe\r\n"),
            401,
        ),
        (
            "an id that is not UTF-8",
            request(b"x-api-key: acme-key\r\nx-request-id: \xe9\r\n"),
            200,
        ),
        (
            "a trace that is not UTF-8",
            request(b"x-api-key: acme-key\r\ntraceparent: \xe9\r\n"),
            200,
        ),
        (
            "another header that is not UTF-8",
            request(b"x-api-key: acme-key\r\nx-other: \xe9\r\n"),
            200,
        ),
        ("100 keys", request(repeated.as_bytes()), 400),
        ("a key of 60 KiB", request(long.as_bytes()), 401),
        ("an id of 60 KiB", request(long_id.as_bytes()), 200),
        ("an empty key", request(b"x-api-key:\r\n"), 401),
        (
            "no authority",
            b"GET /accounts HTTP/1.0\r\n\r\n".to_vec(),
            426,
        ),
        (
            "an empty authority",
            b"GET /accounts HTTP/1.1\r\nhost:\r\nx-api-key: acme-key\r\n\r\n".to_vec(),
            200,
        ),
        (
            "a path that is not UTF-8",
            b"GET /accounts/\xff HTTP/1.1\r\nhost: a\r\nx-api-key: acme-key\r\n\r\n".to_vec(),
            400,
        ),
        (
            "no path",
            b"OPTIONS * HTTP/1.1\r\nhost: a\r\nx-api-key: acme-key\r\n\r\n".to_vec(),
            404,
        ),
        (
            "an absolute URL",
            b"GET http://b/accounts HTTP/1.1\r\nhost: a\r\nx-api-key: acme-key\r\n\r\n".to_vec(),
            200,
        ),
        (
            "half an escape",
            b"GET /accounts/%a HTTP/1.1\r\nhost: a\r\nx-api-key: acme-key\r\n\r\n".to_vec(),
            400,
        ),
    ] {
        let reply = raw(&envoy, request).await;
        assert_eq!(reply.status, status, "{what}: {reply:?}");
    }
    let reply = envoy
        .http1()
        .get("/accounts")
        .header("x-api-key", "acme-key")
        .send()
        .await;
    assert_eq!(reply.status, 200);
    let stats = envoy.stats().await;
    let reloads = stats.sum("envoy_wasm_tollgate_vm_reload_success", &[]);
    assert_eq!(reloads, 0.0, "{}", envoy.log());
    assert!(!envoy.log().contains("panicked"), "{}", envoy.log());
}
