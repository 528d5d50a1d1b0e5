//! Limits for clients that nobody configured, on the real Envoy, through the plugin that has nothing
//! else.

mod common;

use std::time::Duration;

use common::{config, gateway};
use serde_json::{Value, json};
use tollgate_tests::{
    AccessLogEntry, EchoUpstream, Envoy, EnvoyBuilder, HttpClient, Listener, Load, Reply, cluster,
    plugin, wait_for, wasm_filter,
};

const WORKERS: u32 = 4;

/// An Envoy behind one trusted proxy, so that `x-forwarded-for` says who calls.
fn limited(upstream: &EchoUpstream, limits: Value) -> EnvoyBuilder {
    let document = json!({ "rate_limit": limits });
    let filter = wasm_filter("rate-limit", plugin("rate-limit"), document);
    let builder = Envoy::builder().upstream(upstream).filter(filter);
    behind_a_proxy(builder).concurrency(WORKERS)
}

fn behind_a_proxy(builder: EnvoyBuilder) -> EnvoyBuilder {
    builder.map_listener(|listener| listener.use_remote_address().trusted_hops(1))
}

async fn from(client: &HttpClient, address: &str) -> Reply {
    let request = client.get("/").header("x-forwarded-for", address);
    request.send().await
}

async fn statuses_from(client: &HttpClient, address: &str, requests: usize) -> Vec<u16> {
    let mut statuses = Vec::with_capacity(requests);
    for _ in 0..requests {
        statuses.push(from(client, address).await.status.as_u16());
    }
    statuses
}

fn retry_after(reply: &Reply) -> u64 {
    let seconds = reply
        .header("retry-after")
        .and_then(|text| text.parse().ok());
    seconds.unwrap_or_else(|| panic!("no retry-after: {reply:?}"))
}

fn kind(reply: &Reply) -> String {
    let problem = reply.json();
    problem["kind"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn each_address_has_a_bucket_of_its_own() {
    let upstream = EchoUpstream::start().await;
    let limits = json!([
        { "name": "per-address", "key": "client_address", "rate": "1/h", "burst": 3 },
    ]);
    let envoy = limited(&upstream, limits).start().await.unwrap();
    // Connections are spread over the workers, who count together.
    for address in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
        for expected in [200, 200, 200, 429, 429] {
            assert_eq!(
                from(&envoy.http1(), address).await.status,
                expected,
                "{address}"
            );
        }
    }
    // Of IPv6, a client has a whole network; what it writes before the trusted address is its own
    // invention.
    let client = envoy.http2();
    for (address, expected) in [
        ("2001:db8::2", 429),
        ("2001:db8:0:1::2", 200),
        ("203.0.113.9, 192.0.2.1", 429),
        ("::ffff:192.0.2.1", 429),
    ] {
        assert_eq!(from(&client, address).await.status, expected, "{address}");
    }
    let stats = envoy.stats().await;
    let counted = |decision| {
        let labels = [("limit", "per-address"), ("decision", decision)];
        stats.get("tollgate_limit_requests_total", &labels)
    };
    assert_eq!((counted("allow"), counted("deny")), (Some(10.0), Some(9.0)));
    assert_eq!(upstream.count(), 10);
}

#[tokio::test]
async fn a_client_is_told_of_every_limit_beside_the_upstreams_own() {
    let upstream = EchoUpstream::start().await;
    let limits = json!([
        { "name": "per-address", "key": "client_address", "rate": "6/h", "burst": 3 },
        { "name": "per-tenant", "key": ["client_address", { "header": "x-tenant" }], "rate": "2/h" },
        { "name": "tried-out", "key": "global", "rate": "1/h", "mode": "shadow" },
    ]);
    let envoy = limited(&upstream, limits).start().await.unwrap();
    let client = envoy.http1();
    let send = async |tenant: &str| {
        let request = client.get("/").header("x-tenant", tenant);
        let request = request.header("x-forwarded-for", "192.0.2.1");
        let request = request.header("x-echo-header", "ratelimit: \"upstream\";r=0;t=60");
        let request = request.header("x-echo-header", "ratelimit-policy: \"upstream\";q=1;w=60");
        request.send().await
    };
    let first = send("a").await;
    assert_eq!(
        first.header_values("ratelimit"),
        [
            "\"upstream\";r=0;t=60",
            "\"per-tenant\";r=1;t=1800, \"per-address\";r=2;t=600"
        ]
    );
    assert_eq!(
        first.header_values("ratelimit-policy"),
        [
            "\"upstream\";q=1;w=60",
            "\"per-tenant\";q=2;w=3600, \"per-address\";q=3;w=1800"
        ]
    );
    assert_eq!(send("a").await.status, 200);
    let refused = send("a").await;
    assert_eq!(
        (refused.status.as_u16(), kind(&refused)),
        (429, "rate-limited".to_owned())
    );
    assert_eq!(refused.json()["violated-policies"], json!(["per-tenant"]));
    assert!(
        (1_700..=1_800).contains(&retry_after(&refused)),
        "{refused:?}"
    );
    assert_eq!(refused.header_values("ratelimit").len(), 1);
    // The refused request was charged to no limit.
    let third = send("b").await;
    assert!(
        third.header_values("ratelimit")[1].contains("\"per-address\";r=0;"),
        "{third:?}"
    );
    let refused = send("b").await;
    assert_eq!(refused.json()["violated-policies"], json!(["per-address"]));
    assert!((500..=600).contains(&retry_after(&refused)), "{refused:?}");

    let stats = envoy.stats().await;
    let would_deny = [("limit", "tried-out"), ("decision", "would_deny")];
    assert_eq!(
        stats.get("tollgate_limit_requests_total", &would_deny),
        Some(2.0)
    );
}

#[tokio::test]
async fn what_is_told_of_a_wait_is_capped_and_jittered() {
    let upstream = EchoUpstream::start().await;
    let limits = json!([
        { "name": "capped", "key": { "query": "who" }, "rate": "1/h", "retry_after_max": "20s",
          "match": { "path": "/capped" } },
        { "name": "jittered", "key": { "query": "who" }, "rate": "1/h", "retry_after_jitter": "1h",
          "match": { "path": "/jittered" } },
    ]);
    let envoy = limited(&upstream, limits).start().await.unwrap();
    let client = envoy.http1();
    let waits = async |path: &str| {
        assert_eq!(client.get(path).send().await.status, 200);
        let mut waits = Vec::new();
        for _ in 0..20 {
            waits.push(retry_after(&client.get(path).send().await));
        }
        waits
    };
    assert_eq!(waits("/capped?who=a").await, [20; 20]);
    let mut waits = waits("/jittered?who=a").await;
    assert!(
        waits.iter().all(|wait| (3_500..=7_200).contains(wait)),
        "{waits:?}"
    );
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 10, "{waits:?}");
}

#[tokio::test]
async fn limits_by_header_query_cookie_route_and_api_count_for_themselves() {
    let upstream = EchoUpstream::start().await;
    let document = json!({
        "apis": [
            { "name": "accounts", "match": [{ "path": "/accounts/**" }] },
            { "name": "payments", "match": [{ "path": "/payments/**" }] },
        ],
        "rate_limit": [
            { "name": "header", "key": { "header": "x-tenant" }, "rate": "2/h",
              "match": { "path": "/header" } },
            { "name": "query", "key": { "query": "q" }, "rate": "2/h", "match": { "path": "/query" } },
            { "name": "cookie", "key": { "cookie": "c" }, "rate": "2/h", "match": { "path": "/cookie" } },
            { "name": "route", "key": "route", "rate": "2/h", "match": { "path": "/route/**" } },
            { "name": "api", "key": "api", "rate": "2/h", "apis": ["accounts", "payments"] },
            { "name": "post", "key": "global", "rate": "2/h",
              "match": { "path": "/everybody", "methods": "POST" } },
        ],
    });
    let route = |name: &str| {
        json!({
            "name": name,
            "match": { "prefix": format!("/route/{name}") },
            "route": { "cluster": "named" },
        })
    };
    let filter = wasm_filter("rate-limit", plugin("rate-limit"), document);
    let envoy = Envoy::builder()
        .filter(filter)
        .cluster(cluster("named", upstream.address()))
        .upstream(&upstream)
        .route(route("one"))
        .route(route("two"))
        .start()
        .await
        .unwrap();
    let client = envoy.http1();
    let spend = async |path: &str, name: &'static str, value: &str| {
        let mut statuses = Vec::new();
        for _ in 0..3 {
            let request = client.get(path).header(name, value);
            statuses.push(request.send().await.status.as_u16());
        }
        statuses
    };
    for (path, name, value) in [
        ("/header", "x-tenant", "a"),
        ("/header", "x-tenant", "b"),
        // Leaving it out is no way around a limit.
        ("/header", "x-other", "c"),
        ("/query?q=1&x=1", "x-other", "-"),
        ("/query?x=1&q=2", "x-other", "-"),
        ("/query", "x-other", "-"),
        ("/cookie", "cookie", "a=b; c=d"),
        ("/cookie", "cookie", "c=e"),
        ("/route/one", "x-other", "-"),
        ("/route/two", "x-other", "-"),
        ("/accounts/1", "x-other", "-"),
        ("/payments/1", "x-other", "-"),
    ] {
        assert_eq!(
            spend(path, name, value).await,
            [200, 200, 429],
            "{path} {value}"
        );
    }
    assert_eq!(spend("/everybody", "x-other", "-").await, [200, 200, 200]);
    for expected in [200, 200, 429] {
        assert_eq!(client.post("/everybody").send().await.status, expected);
    }
}

#[tokio::test]
async fn only_trusted_callers_say_what_a_request_costs() {
    let upstream = EchoUpstream::start().await;
    let limits = json!([{
        "name": "budget", "key": "client_address", "rate": "10/h",
        "cost": {
            "default": 2,
            "methods": { "POST": 3 },
            "header": { "name": "x-cost", "from": ["10.0.0.0/8"], "max": 5 },
        },
        "exempt": { "addresses": ["192.0.2.9"] },
    }]);
    let envoy = limited(&upstream, limits).start().await.unwrap();
    let client = envoy.http1();
    let left = async |method: http::Method, address: &str, cost: &str| {
        let request = client
            .request(method, "/")
            .header("x-forwarded-for", address);
        let reply = request.header("x-cost", cost).send().await;
        let told = reply.header("ratelimit").map(str::to_owned);
        if reply.status == 200 {
            assert_eq!(reply.echo().header("x-cost"), None);
        }
        let left = told.and_then(|told| told.split(";r=").nth(1)?.split(';').next()?.parse().ok());
        (reply.status.as_u16(), left)
    };
    use http::Method;
    assert_eq!(left(Method::GET, "192.0.2.1", "0").await, (200, Some(8)));
    assert_eq!(left(Method::POST, "192.0.2.1", "0").await, (200, Some(5)));
    assert_eq!(left(Method::GET, "10.0.0.1", "0").await, (200, Some(10)));
    assert_eq!(left(Method::GET, "10.0.0.1", "4").await, (200, Some(6)));
    assert_eq!(left(Method::POST, "10.0.0.1", "1000").await, (200, Some(1)));
    assert_eq!(
        left(Method::POST, "10.0.0.1", "a lot").await,
        (429, Some(1))
    );
    assert_eq!(left(Method::POST, "192.0.2.9", "1").await, (200, None));
}

/// The bucket is exact while four workers spend it as fast as they can; the time it is compared with
/// is Envoy's own, from its access log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_burst_and_rate_is_admitted_and_hardly_less() {
    const REQUESTS: usize = 10_000;
    let upstream = EchoUpstream::start().await;
    for (count, key) in [
        ("admitted", "client_address"),
        ("all", "client_address"),
        ("admitted", "global"),
    ] {
        upstream.clear();
        let limits = json!([
            { "name": "exact", "key": key, "rate": "100/s", "burst": 200, "count": count },
        ]);
        let envoy = limited(&upstream, limits)
            .map_listener(|listener| {
                listener.log_field("duration_us", "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%")
            })
            .start()
            .await
            .unwrap();
        let load = Load::new(&envoy.http1()).requests(REQUESTS).connections(16);
        let report = load
            .run(|client, _| client.get("/").header("x-forwarded-for", "192.0.2.1"))
            .await;
        assert_eq!(report.count(200) + report.count(429), REQUESTS);
        assert_eq!(upstream.count(), report.count(200));
        let log = envoy.wait_for_access_log(REQUESTS).await;
        assert_exact(&log, 200.0, 100.0);
        let stats = envoy.stats().await;
        assert_eq!(stats.sum("tollgate_uncounted_total", &[]), 0.0);
        assert_eq!(stats.sum("tollgate_limit_evicted_total", &[]), 0.0);
    }
}

/// Never more than the burst and what has come since, and at least 99 % of it. A request is judged at
/// some moment after Envoy has seen its first byte, so the bucket may have filled for longer than the
/// log shows, by at most the longest time that a request took.
fn assert_exact(log: &[AccessLogEntry], burst: f64, rate: f64) {
    let durations = log.iter().filter_map(|entry| {
        let us = entry.extra.get("duration_us")?;
        us.as_f64().or_else(|| us.as_str()?.parse().ok())
    });
    let slack = durations.fold(0.0, f64::max) / 1e6 * rate;
    let mut times: Vec<(u64, bool)> = log
        .iter()
        .map(|entry| (entry.start_ns, entry.status == 200))
        .collect();
    times.sort_unstable();
    let since_first = |at: u64| (at - times[0].0) as f64 / 1e9;
    let mut admitted = 0.0;
    for (at, was_admitted) in &times {
        admitted += f64::from(u8::from(*was_admitted));
        let granted = burst + rate * since_first(*at);
        assert!(admitted <= granted + slack + 1.0, "{admitted} of {granted}");
    }
    let granted = burst + rate * since_first(times[times.len() - 1].0);
    assert!(admitted >= 0.99 * granted - 1.0, "{admitted} of {granted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_one_limit_refuses_is_charged_to_no_other() {
    const REQUESTS: usize = 5_000;
    let upstream = EchoUpstream::start().await;
    let limits = json!([
        { "name": "wide", "key": ["client_address", { "header": "x-tenant" }], "rate": "1000/day" },
        { "name": "narrow", "key": "client_address", "rate": "300/day" },
    ]);
    let envoy = limited(&upstream, limits).start().await.unwrap();
    let load = Load::new(&envoy.http2()).requests(REQUESTS).connections(16);
    let report = load
        .run(|client, _| client.get("/").header("x-forwarded-for", "192.0.2.1"))
        .await;
    assert_eq!(
        (report.count(200), report.count(429)),
        (300, REQUESTS - 300)
    );
    let refused = from(&envoy.http1(), "192.0.2.1").await;
    let left = refused.header("ratelimit").unwrap();
    assert!(left.contains("\"wide\";r=700;"), "{left}");
    assert!(left.contains("\"narrow\";r=0;"), "{left}");
}

#[tokio::test]
async fn whoever_goes_on_is_blocked() {
    let upstream = EchoUpstream::start().await;
    let limits = json!([{
        "name": "shield", "key": "client_address", "rate": "2 / 5m", "count": "all",
        "on_exceed": { "block_for": "10m", "after": 3, "within": "5m" },
    }]);
    let envoy = limited(&upstream, limits).start().await.unwrap();
    let mut refusals = Vec::new();
    for attempt in 0..8 {
        // A new connection each time, on whichever worker.
        let reply = from(&envoy.http1(), "192.0.2.1").await;
        match attempt {
            0 | 1 => assert_eq!(reply.status, 200),
            _ => refusals.push((kind(&reply), retry_after(&reply))),
        }
    }
    for (number, (kind, wait)) in refusals.into_iter().enumerate() {
        match number {
            0 | 1 => assert!(
                kind == "rate-limited" && (100..=150).contains(&wait),
                "{kind} {wait}"
            ),
            _ => assert!(
                kind == "client-blocked" && (500..=600).contains(&wait),
                "{kind} {wait}"
            ),
        }
    }
    assert_eq!(
        statuses_from(&envoy.http1(), "192.0.2.2", 3).await,
        [200, 200, 429]
    );
    assert_eq!(upstream.count(), 4);
}

/// A block is more than an empty bucket: this one is soon full again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_client_stays_out_though_its_bucket_is_full() {
    const REFILL: Duration = Duration::from_millis(10);
    let upstream = EchoUpstream::start().await;
    let limits = json!([{
        "name": "per-address", "key": "client_address", "rate": "100/s", "burst": 1,
        "on_exceed": { "block_for": "1h" },
    }]);
    let envoy = limited(&upstream, limits).start().await.unwrap();
    wait_for("two requests at once", async || {
        let load = Load::new(&envoy.http1()).requests(64).connections(16);
        let send = |client: &HttpClient, _| client.get("/").header("x-forwarded-for", "192.0.2.1");
        (load.run(send).await.count(429) > 0).then_some(())
    })
    .await;
    let client = envoy.http1();
    let refused = async {
        loop {
            let reply = from(&client, "192.0.2.1").await;
            assert_eq!(kind(&reply), "client-blocked");
            assert!(retry_after(&reply) > 3_000, "{reply:?}");
        }
    };
    // For as long as it takes the bucket to fill several times.
    let _: Result<(), _> = tokio::time::timeout(5 * REFILL, refused).await;
    assert_eq!(from(&client, "192.0.2.2").await.status, 200);
}

#[tokio::test]
async fn buckets_and_blocks_outlive_an_update_of_the_configuration() {
    let upstream = EchoUpstream::start().await;
    let listener = |more: &str| {
        let document = json!({ "rate_limit": [
            { "name": "per-address", "key": "client_address", "rate": "3/day" },
            { "name": "boxed", "key": { "header": "x-client" }, "rate": "2/day",
              "on_exceed": { "block_for": "1h" }, "match": { "path": "/boxed" } },
            { "name": more, "key": "global", "rate": "1000/day" },
        ] });
        let listener = Listener::new().use_remote_address().trusted_hops(1);
        listener.filter(wasm_filter("rate-limit", plugin("rate-limit"), document))
    };
    let mut envoy = Envoy::builder()
        .upstream(&upstream)
        .listener(listener("before"))
        .dynamic_listener()
        .start()
        .await
        .unwrap();
    let boxed = async |client: &HttpClient, address: &str| {
        let request = client.get("/boxed").header("x-forwarded-for", address);
        request.header("x-client", "one").send().await
    };
    let client = envoy.http1();
    assert_eq!(statuses_from(&client, "192.0.2.1", 2).await, [200, 200]);
    for expected in [200, 200, 429] {
        assert_eq!(boxed(&client, "192.0.2.2").await.status, expected);
    }
    envoy.update_listener(&listener("after")).await.unwrap();
    let client = envoy.http1();
    assert_eq!(statuses_from(&client, "192.0.2.1", 2).await, [200, 429]);
    assert_eq!(kind(&boxed(&client, "192.0.2.3").await), "client-blocked");
}

/// A document for the full plugin with a limit per address beside usage plans.
fn with_keys(count: &str) -> Value {
    let mut document = config(json!({}));
    document["rate_limit"] = json!([
        { "name": "per-address", "key": "client_address", "rate": "5/h", "count": count },
    ]);
    document
}

#[tokio::test]
async fn counting_all_requests_holds_back_whoever_guesses_keys() {
    let upstream = EchoUpstream::start().await;
    let guess = async |client: &HttpClient, number: usize| {
        let request = client
            .get("/accounts")
            .header("x-forwarded-for", "192.0.2.1");
        let request = request.header("x-api-key", format!("guess-{number}"));
        request.send().await.status.as_u16()
    };
    let right = async |client: &HttpClient, address: &str| {
        let request = client.get("/accounts").header("x-forwarded-for", address);
        request
            .header("x-api-key", "acme-key")
            .send()
            .await
            .status
            .as_u16()
    };
    for (count, last) in [("all", 429), ("admitted", 401)] {
        let envoy = behind_a_proxy(gateway(&upstream, with_keys(count)));
        let envoy = envoy.start().await.unwrap();
        let client = envoy.http1();
        for number in 0..20 {
            let expected = if number < 5 { 401 } else { last };
            assert_eq!(guess(&client, number).await, expected, "{count} {number}");
        }
        let same = right(&client, "192.0.2.1").await;
        assert_eq!(same, if count == "all" { 429 } else { 200 });
        assert_eq!(right(&client, "192.0.2.2").await, 200);
    }
}

/// What NGINX's `limit_req zone=… rate=R burst=N nodelay` does, on the arrivals that Envoy saw. Its
/// rule: the first request of a client has an excess of 0. For each later one, the excess is what it
/// was, less the rate times the milliseconds since the last admitted request, plus 1, never below 0;
/// the request is refused, and changes nothing, if that exceeds N.
#[tokio::test]
async fn a_burst_is_judged_as_nginx_would() {
    // In thousandths of a request, as NGINX counts.
    const RATE: i64 = 10 * 1000 / 60;
    const BURST: i64 = 20 * 1000;
    let upstream = EchoUpstream::start().await;
    let limits = json!([
        { "name": "nginx", "key": "client_address", "rate": "10r/m burst=20 nodelay" },
    ]);
    let envoy = limited(&upstream, limits).start().await.unwrap();
    let statuses = statuses_from(&envoy.http1(), "192.0.2.1", 30).await;
    let log = envoy.wait_for_access_log(30).await;
    let mut state: Option<(i64, i64)> = None;
    let by_nginx: Vec<u16> = log
        .iter()
        .map(|entry| {
            let now_ms = i64::try_from(entry.start_ns / 1_000_000).unwrap();
            let excess = state.map_or(0, |(excess, last_ms)| {
                (excess - RATE * (now_ms - last_ms) / 1000 + 1000).max(0)
            });
            if excess > BURST {
                return 429;
            }
            state = Some((excess, now_ms));
            200
        })
        .collect();
    assert_eq!(statuses, by_nginx);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 21);
}
