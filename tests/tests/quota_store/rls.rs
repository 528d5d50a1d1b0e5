//! With a stand-in for the Rate Limit Service, which says what it is: `tollgate_tests::rls`.

use serde_json::{Value, json};
use tollgate_calendar::Period;
use tollgate_tests::{
    EchoUpstream, RlsFault, RlsLimit, RlsPersonality, RlsStandIn, http2_cluster, wait_for,
};

use super::{count, document, flood, gateway, gateways};

const LIMIT: u32 = 300;

fn engine(profile: &str) -> Value {
    json!({ "rls": { "cluster": "store", "profile": profile } })
}

fn plan() -> Value {
    json!({ "quota": { "limit": LIMIT, "period": "month" } })
}

async fn service(personality: RlsPersonality) -> RlsStandIn {
    let service = RlsStandIn::start(personality, "usage-plans").await;
    let limit = RlsLimit {
        requests: LIMIT,
        period: Period::Month,
    };
    service.set_limit("gold", "month", limit);
    service
}

/// The hits of the consumer's counter; probes have consumers of their own.
fn hits(service: &RlsStandIn) -> u64 {
    service.counters().into_values().max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_quota_is_not_exceeded() {
    let upstream = EchoUpstream::start().await;
    for (profile, personality) in [
        ("envoy-ratelimit", RlsPersonality::ENVOY_RATELIMIT),
        ("limitador", RlsPersonality::LIMITADOR),
    ] {
        upstream.clear();
        let service = service(personality).await;
        let store = http2_cluster("store", service.address());
        let document = document(plan(), engine(profile), json!({ "strict": true }));
        let envoys = gateways(2, &upstream, &store, &document).await;
        let statuses = flood(&envoys, 400).await;
        assert_eq!(
            count(&statuses, 200) + count(&statuses, 429),
            800,
            "{profile}: {statuses:?}"
        );
        let admitted = count(&statuses, 200);
        assert!(admitted <= 300, "{profile}: {admitted}");
        // What was granted and not used is not given back; leases are small by then.
        assert!(admitted >= 280, "{profile}: {admitted}");
        assert_eq!(upstream.count(), admitted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn far_from_the_limit_usage_is_reported_in_batches() {
    let upstream = EchoUpstream::start().await;
    let service = RlsStandIn::start(RlsPersonality::ENVOY_RATELIMIT, "usage-plans").await;
    let limit = RlsLimit {
        requests: 4_000_000_000,
        period: Period::Month,
    };
    service.set_limit("gold", "month", limit);
    let plan = json!({
        "throttle": { "rate": "1000/s", "burst": 1000 },
        "quota": { "limit": 4_000_000_000_u32, "period": "month" },
    });
    let store = http2_cluster("store", service.address());
    let document = document(plan, engine("envoy-ratelimit"), json!({}));
    let envoys = gateways(2, &upstream, &store, &document).await;
    let admitted = count(&flood(&envoys, 800).await, 200);
    wait_for("all reports", async || {
        (hits(&service) >= admitted as u64).then_some(())
    })
    .await;
    assert_eq!(hits(&service), admitted as u64);
    assert!(
        service.calls().len() < admitted / 4,
        "{}",
        service.calls().len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_would_count_wrongly_is_not_used_and_that_is_said() {
    let upstream = EchoUpstream::start().await;
    let no_hits = RlsPersonality::EnvoyRatelimit {
        honours_hits: false,
        calendar_months: true,
    };
    let thirty_days = RlsPersonality::EnvoyRatelimit {
        honours_hits: true,
        calendar_months: false,
    };
    for (personality, told) in [
        (no_hits, "it does not count the hits"),
        (thirty_days, "USE_CALENDAR_MONTH_RATE_LIMIT"),
    ] {
        let service = service(personality).await;
        let store = http2_cluster("store", service.address());
        let document = document(
            plan(),
            engine("envoy-ratelimit"),
            json!({ "on_store_failure": "deny" }),
        );
        let envoy = gateway(&upstream, &store, &document).start().await.unwrap();
        envoy.wait_for_log(told).await;
        wait_for("a refusal", async || {
            let request = envoy
                .http1()
                .get("/accounts")
                .header("x-api-key", "acme-key");
            (request.send().await.status == 503).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_fails_is_what_the_plan_says() {
    let upstream = EchoUpstream::start().await;
    let service = service(RlsPersonality::ENVOY_RATELIMIT).await;
    let store = http2_cluster("store", service.address());
    let document = document(
        json!({ "quota": { "limit": LIMIT, "period": "month" }, "on_store_failure": "allow" }),
        engine("envoy-ratelimit"),
        json!({ "timeout": "100ms" }),
    );
    let envoys = gateways(1, &upstream, &store, &document).await;
    let mut admitted = 0;
    for fault in [
        RlsFault::None,
        RlsFault::Status(14),
        RlsFault::Garbled,
        RlsFault::Frozen,
        RlsFault::None,
    ] {
        service.set_fault(fault.clone());
        let statuses = flood(&envoys, 20).await;
        assert_eq!(count(&statuses, 200), 20, "{fault:?}: {statuses:?}");
        admitted += 20;
    }
    wait_for("all reports", async || {
        (hits(&service) >= admitted).then_some(())
    })
    .await;
}
