//! Limits are exact while several workers spend them as fast as they can. These tests count; the
//! time they compare with is Envoy's own, from its access log.

mod common;

use common::{config, gateway};
use serde_json::json;
use tollgate_tests::{EchoUpstream, Load};

const WORKERS: u32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_burst_and_rate_is_admitted_and_hardly_less() {
    const REQUESTS: usize = 20_000;
    const RATE: f64 = 100.0;
    const BURST: f64 = 200.0;
    let upstream = EchoUpstream::start().await;
    let document = config(json!({ "throttle": { "rate": "100/s", "burst": 200 } }));
    let envoy = gateway(&upstream, document)
        .concurrency(WORKERS)
        .map_listener(|listener| {
            listener.log_field("duration_us", "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%")
        })
        .start()
        .await
        .unwrap();
    let load = Load::new(&envoy.http1()).requests(REQUESTS).connections(16);
    let report = load
        .run(|client, _| client.get("/accounts").header("x-api-key", "acme-key"))
        .await;
    assert_eq!(report.count(200) + report.count(429), REQUESTS);
    assert_eq!(upstream.count(), report.count(200));

    let log = envoy.wait_for_access_log(REQUESTS).await;
    let mut times: Vec<(u64, bool)> = log
        .iter()
        .map(|entry| (entry.start_ns, entry.status == 200))
        .collect();
    times.sort_unstable();
    let (first, last) = (times[0].0, times[REQUESTS - 1].0);
    // A request is judged at some moment after Envoy has seen its first byte. So the bucket may
    // have filled for longer than the access log shows, by the longest time that a request waited
    // for its judgement; that is bounded by the time it took in all.
    let slack = slowest(&log) * RATE;
    let mut admitted = 0.0;
    for (at, was_admitted) in times {
        admitted += f64::from(u8::from(was_admitted));
        let elapsed = (at - first) as f64 / 1e9;
        assert!(
            admitted <= BURST + RATE * elapsed + slack + 1.0,
            "{admitted} after {elapsed} s"
        );
    }
    let elapsed = (last - first) as f64 / 1e9;
    assert!(
        admitted >= 0.99 * (BURST + RATE * elapsed) - 1.0,
        "{admitted} after {elapsed} s"
    );
}

/// The longest time that a request spent in Envoy, in seconds.
fn slowest(log: &[tollgate_tests::AccessLogEntry]) -> f64 {
    let durations = log
        .iter()
        .filter_map(|entry| entry.extra.get("duration_us"));
    durations
        .filter_map(|us| us.as_f64().or_else(|| us.as_str()?.parse().ok()))
        .fold(0.0, f64::max)
        / 1e6
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_spent_to_the_exact_request() {
    const LIMIT: usize = 7_000;
    let upstream = EchoUpstream::start().await;
    let document = config(json!({
        "throttle": { "rate": "1000000/s", "burst": 1_000_000 },
        "quota": { "limit": LIMIT, "period": "year" },
    }));
    let envoy = gateway(&upstream, document)
        .concurrency(WORKERS)
        .start()
        .await
        .unwrap();
    let load = Load::new(&envoy.http2())
        .requests(LIMIT + 3_000)
        .connections(16);
    let report = load
        .run(|client, _| client.get("/accounts").header("x-api-key", "acme-key"))
        .await;
    assert_eq!((report.count(200), report.count(429)), (LIMIT, 3_000));
    assert_eq!(upstream.count(), LIMIT);
    let stats = envoy.stats().await;
    assert_eq!(
        stats.sum("tollgate_requests_total", &[("decision", "allow")]),
        LIMIT as f64
    );
    assert_eq!(
        stats.sum("tollgate_requests_total", &[("reason", "quota-exceeded")]),
        3_000.0
    );
    assert_eq!(stats.sum("tollgate_uncounted_total", &[]), 0.0);
}
