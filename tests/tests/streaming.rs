//! What is long or never ends passes through the full plugin as it comes.

mod common;
mod errors;

use std::time::Duration;

use errors::document;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tollgate_tests::{DEADLINE, EchoUpstream, Envoy, EnvoyBuilder, cluster, plugin, wasm_filter};

/// For what takes longer than a request usually does, on a machine that has much to do.
const LONG: Duration = Duration::from_secs(300);

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
async fn an_upgraded_connection_passes_untouched() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let (address, go, _serving) = upstream_in_parts(head.to_owned(), "from the upstream").await;
    let envoy = before(address).map_listener(|listener| {
        listener.connection_manager(json!({ "upgrade_configs": [{ "upgrade_type": "websocket" }] }))
    });
    let envoy = envoy.start().await.unwrap();
    let mut stream = TcpStream::connect(envoy.address()).await.unwrap();
    let request = "GET /accounts HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\n\
                   upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let reply = read_until(&mut stream, "\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 101"), "{reply}");
    for header in [
        "upgrade: websocket",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "x-request-id: ",
    ] {
        assert!(reply.contains(header), "{reply}");
    }
    assert!(!reply.contains("content-type"), "{reply}");
    go.send(()).unwrap();
    read_until(&mut stream, "from the upstream").await;
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

/// How much Envoy may grow while a body passes. It holds what fits the buffers of two connections,
/// some MiB; a body that is held back would show whole.
const MOST_GROWTH: u64 = 96 << 20;

#[tokio::test]
async fn a_long_download_passes_as_it_comes() {
    const SIZE: u64 = 1 << 30;
    /// How often memory is looked at.
    const STEP: u64 = 16 << 20;
    let upstream = EchoUpstream::start().await;
    let filter = wasm_filter("tollgate", plugin("tollgate"), document());
    let envoy = Envoy::builder().upstream(&upstream).filter(filter);
    let envoy = envoy.start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        assert_eq!(client.get("/accounts/1").send().await.status, 200);
        let before = envoy.resident_memory();
        let (mut most, mut length) = (before, 0);
        let request = client
            .get("/accounts/1")
            .header("x-echo-body-size", SIZE.to_string())
            .timeout(LONG);
        let (status, headers) = request
            .watch(|seen| {
                if seen / STEP > length / STEP {
                    most = most.max(envoy.resident_memory());
                }
                length = seen;
            })
            .await;
        assert_eq!((status.as_u16(), length), (200, SIZE));
        assert!(headers.contains_key("x-request-id"), "{headers:?}");
        assert!(headers.contains_key("ratelimit"), "{headers:?}");
        let growth = most.unwrap_or(0).saturating_sub(before.unwrap_or(0));
        println!("grown by {} MiB", growth >> 20);
        assert!(growth < MOST_GROWTH, "grown by {growth} bytes");
    }
}
