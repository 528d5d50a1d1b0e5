//! Faults while the gateway is busy: configurations replaced, upstreams that break off, clients that
//! dawdle, ten thousand connections. What is counted stays exact.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{config, gateway};
use http::Version;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tollgate_tests::{
    EchoUpstream, Envoy, HttpClient, Listener, Stats, plugin, wait_for, wasm_filter,
};

/// A plan whose limits nobody reaches, and whose quota tells what was used.
fn plan() -> Value {
    json!({ "throttle": "1000000/s", "quota": { "limit": QUOTA, "period": "year" } })
}

const QUOTA: u64 = 1_000_000;

/// What was used of the quota, as the next answer tells; the request that asks is not counted.
async fn used(client: &HttpClient) -> u64 {
    let reply = client
        .get("/accounts")
        .header("x-api-key", "acme-key")
        .send()
        .await;
    let field = reply.header("ratelimit").expect("what is left").to_owned();
    let quota = field
        .split(", ")
        .find(|item| item.starts_with("\"year\""))
        .expect("the quota");
    let left = quota
        .split(';')
        .find_map(|part| part.strip_prefix("r="))
        .expect("a number");
    QUOTA - left.parse::<u64>().unwrap() - 1
}

fn admitted(stats: &Stats) -> u64 {
    stats.sum("tollgate_requests_total", &[("decision", "allow")]) as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_updates_under_load_lose_no_request_and_no_count() {
    const UPDATES: u64 = 20;
    let upstream = EchoUpstream::start().await;
    let document = |number: u64| {
        let mut document = config(plan());
        document["request_id"] =
            json!({ "header": "x-request-id", "echo": number.is_multiple_of(2) });
        document
    };
    let mut envoy = gateway(&upstream, document(0))
        .dynamic_listener()
        // Longer than any request here takes, so that none is cut off.
        .drain_time(Duration::from_secs(2))
        .start()
        .await
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut lanes = JoinSet::new();
    for lane in 0..6 {
        let client = if lane % 2 == 0 {
            envoy.http1()
        } else {
            envoy.http2()
        };
        let (client, stop) = (client.fresh(), stop.clone());
        lanes.spawn(async move {
            let mut good = 0;
            while !stop.load(Ordering::Relaxed) {
                let request = client.post("/accounts").header("x-api-key", "acme-key");
                let reply = request.body("payment").send().await;
                assert_eq!(reply.status, 200, "{reply:?}");
                good += 1;
            }
            good
        });
    }
    for number in 1..=UPDATES {
        let filter = wasm_filter("tollgate", plugin("tollgate"), document(number));
        envoy
            .update_listener(&Listener::new().filter(filter))
            .await
            .unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let sent: u64 = lanes.join_all().await.iter().sum();
    assert!(sent > UPDATES, "{sent} requests");
    assert_eq!(upstream.count() as u64, sent);
    assert_eq!(admitted(&envoy.stats().await), sent);
    assert_eq!(used(&envoy.http1()).await, sent);
}

#[tokio::test]
async fn upstreams_that_break_off_leave_counts_exact_and_no_place_taken() {
    const PLACES: usize = 5;
    let upstream = EchoUpstream::start().await;
    let mut document = config(plan());
    document["rate_limit"] =
        json!([{ "name": "under-way", "key": "global", "concurrent": PLACES, "lease": "1h" }]);
    let envoy = gateway(&upstream, document).start().await.unwrap();
    // In Envoy 1.36, a body that an upstream has left unfinished looks whole to a client by HTTP/2.
    let looks_whole = envoy.admin_get("/server_info").await.contains("/1.36.");
    let mut sent = 0;
    for client in [envoy.http1(), envoy.http2()] {
        for reset in ["headers", "body"] {
            for _ in 0..10 {
                let request = client
                    .fresh()
                    .post("/accounts")
                    .header("x-api-key", "acme-key");
                let request = request
                    .header("x-echo-reset", reset)
                    .body(vec![b'x'; 200_000]);
                match request.try_send().await {
                    Ok(reply) if reset == "body" && reply.version == Version::HTTP_2 => {
                        assert!(looks_whole, "{reply:?}");
                    }
                    Ok(reply) => assert_eq!(reply.status, 503, "{reply:?}"),
                    Err(error) => assert_eq!(reset, "body", "{error}"),
                }
                sent += 1;
            }
        }
    }
    assert_eq!(admitted(&envoy.stats().await), sent);
    assert_eq!(used(&envoy.http1()).await, sent);
    let mut held = JoinSet::new();
    upstream.clear();
    for _ in 0..PLACES {
        let request = envoy
            .http2()
            .get("/accounts")
            .header("x-api-key", "acme-key");
        held.spawn(request.header("x-echo-hold", "gate").send());
    }
    upstream.wait_for_count(PLACES).await;
    upstream.release("gate", PLACES);
    for reply in held.join_all().await {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

#[tokio::test]
async fn clients_that_dawdle_are_not_judged_and_hold_up_nobody() {
    const DAWDLERS: usize = 500;
    let upstream = EchoUpstream::start().await;
    let envoy = gateway(&upstream, config(plan()))
        .concurrency(1)
        .map_listener(|listener| {
            listener.connection_manager(json!({ "request_headers_timeout": "3s" }))
        })
        .start()
        .await
        .unwrap();
    let head = b"POST /accounts HTTP/1.1\r\nhost: a\r\nx-api-key: acme-key\r\nx-a: ";
    let mut dawdlers = Vec::new();
    for _ in 0..DAWDLERS {
        let mut stream = TcpStream::connect(envoy.address()).await.unwrap();
        stream.write_all(head).await.unwrap();
        dawdlers.push(stream);
    }
    let connected = |stats: &Stats| {
        let listener = [("envoy_http_conn_manager_prefix", "http")];
        stats.get("envoy_http_downstream_cx_active", &listener) == Some(DAWDLERS as f64)
    };
    envoy
        .wait_for_stats("all connections to be open", connected)
        .await;
    let client = envoy.http1();
    for count in 0..10 {
        assert_eq!(used(&client).await, count);
    }
    assert_eq!(admitted(&envoy.stats().await), 10);
    // Envoy's own timeout ends them, and the plugin has never heard of them.
    for mut stream in dawdlers {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 408"),
            "{rest}"
        );
    }
    assert_eq!(admitted(&envoy.stats().await), 10);
    assert_eq!(upstream.count(), 10);
    assert_eq!(used(&client).await, 10);
}

/// As many files as the system lets this process have, and with it Envoy, which it starts.
fn raise_file_limit(wanted: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the calls read and write nothing but the struct.
    let raised = unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    };
    assert!(
        raised == 0 && limit.rlim_max >= wanted,
        "{} open files are allowed, {wanted} are needed: raise the hard limit (ulimit -Hn)",
        limit.rlim_max
    );
}

/// Sends a request on a connection, and reads its whole answer.
async fn exchange(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> u16 {
    let head =
        "GET /accounts HTTP/1.1\r\nhost: a\r\nx-api-key: acme-key\r\nx-echo-body: good\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    buffer.clear();
    while !buffer.ends_with(b"\r\n\r\ngood") {
        assert!(
            stream.read_buf(buffer).await.unwrap() > 0,
            "{}",
            buffer.escape_ascii()
        );
    }
    std::str::from_utf8(&buffer[9..12])
        .unwrap()
        .parse()
        .unwrap()
}

async fn exchange_on_all(streams: &mut [TcpStream]) {
    let mut buffer = Vec::new();
    for stream in streams {
        assert_eq!(exchange(stream, &mut buffer).await, 200);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_are_served_and_counted() {
    const CONNECTIONS: usize = 10_000;
    const LANES: usize = 20;
    // And some to the upstream, files, and what other tests in this process have.
    raise_file_limit(CONNECTIONS as u64 + 5_000);
    let upstream = EchoUpstream::start().await;
    let envoy: Envoy = gateway(&upstream, config(plan())).start().await.unwrap();
    let address = envoy.address();
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        lanes.spawn(async move {
            let mut streams = Vec::new();
            for _ in 0..CONNECTIONS / LANES {
                streams.push(TcpStream::connect(address).await.unwrap());
            }
            exchange_on_all(&mut streams).await;
            streams
        });
    }
    let open = lanes.join_all().await;
    let listener = [("envoy_http_conn_manager_prefix", "http")];
    let stats = envoy.stats().await;
    let active = stats.get("envoy_http_downstream_cx_active", &listener);
    assert_eq!(active, Some(CONNECTIONS as f64));
    // All are still good.
    let mut lanes = JoinSet::new();
    for mut streams in open {
        lanes.spawn(async move { exchange_on_all(&mut streams).await });
    }
    lanes.join_all().await;
    let sent = 2 * CONNECTIONS as u64;
    assert_eq!(admitted(&envoy.stats().await), sent);
    assert_eq!(used(&envoy.http1()).await, sent);
    assert_eq!(upstream.count() as u64, sent + 1);
    wait_for("all connections to be closed", async || {
        let stats = envoy.stats().await;
        let active = stats.get("envoy_http_downstream_cx_active", &listener)?;
        (active <= 1.0).then_some(())
    })
    .await;
}
