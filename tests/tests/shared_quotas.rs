//! The files that docker-compose.yml shares quotas by, without Docker: `envoy/quotas.yaml` with what
//! `deploy/quota-store` gives to Redis and Webdis, `envoy/quotas-ratelimit.yaml` with a stand-in that
//! has the limits of `deploy/quota-store/ratelimit.yaml`.

use std::net::SocketAddr;

use serde_json::Value;
use tollgate_calendar::Period;
use tollgate_tests::{
    ConfigFile, EchoUpstream, Envoy, RlsLimit, RlsPersonality, RlsStandIn, repository, wait_for,
};

/// The quota of the plan trial, which curio has.
const LIMIT: usize = 6;

async fn gateways(
    file: &str,
    cluster: &str,
    store: SocketAddr,
    upstream: &EchoUpstream,
) -> Vec<Envoy> {
    let mut envoys = Vec::new();
    for _ in 0..2 {
        let config = ConfigFile::load(file)
            .built_plugins()
            .free_ports()
            .cluster_at("upstream", &[upstream.address()])
            .cluster_at(cluster, &[store]);
        let envoy = Envoy::builder()
            .bootstrap(config.into_value())
            .concurrency(2);
        envoys.push(envoy.start().await.unwrap());
    }
    envoys
}

/// Asks them in turn until each has refused. Those that can't tell yet are asked again.
async fn admitted(envoys: &[Envoy]) -> usize {
    let mut admitted = 0;
    let mut refusals = 0;
    for envoy in envoys.iter().cycle() {
        let client = envoy.http1();
        let reply = wait_for("a store that answers", async || {
            let request = client.get("/").header("x-api-key", "curio-demo-key");
            let reply = request.send().await;
            (reply.status != 503).then_some(reply)
        })
        .await;
        match reply.status.as_u16() {
            200 => (admitted, refusals) = (admitted + 1, 0),
            429 => refusals += 1,
            _ => panic!("{reply:?}"),
        }
        if refusals == envoys.len() || admitted > LIMIT {
            return admitted;
        }
    }
    unreachable!("the cycle has no end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_service_with_the_exported_limits_keeps_them() {
    let service = RlsStandIn::start(RlsPersonality::ENVOY_RATELIMIT, "usage-plans").await;
    let path = repository().join("deploy/quota-store/ratelimit.yaml");
    let limits: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(limits["domain"], "usage-plans");
    for plan in limits["descriptors"].as_array().unwrap() {
        for quota in plan["descriptors"].as_array().unwrap() {
            let limit = &quota["descriptors"][0]["descriptors"][0]["rate_limit"];
            let name = quota["value"].as_str().unwrap();
            assert_eq!(limit["unit"], name);
            let limit = RlsLimit {
                requests: limit["requests_per_unit"]
                    .as_u64()
                    .unwrap()
                    .try_into()
                    .unwrap(),
                period: match name {
                    "hour" => Period::Hour,
                    "day" => Period::Day,
                    other => panic!("the image may not keep a quota of a {other}"),
                },
            };
            service.set_limit(plan["value"].as_str().unwrap(), name, limit);
        }
    }
    let upstream = EchoUpstream::start().await;
    let file = "envoy/quotas-ratelimit.yaml";
    let envoys = gateways(file, "ratelimit", service.address(), &upstream).await;
    assert_eq!(admitted(&envoys).await, LIMIT);
}

mod with_redis {
    use tollgate_tests::{Redis, Webdis};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn redis_keeps_a_quota_over_restarts_of_all() {
        let folder = repository().join("deploy/quota-store");
        let config = |name: &str| folder.join(name);
        let mut redis =
            Redis::configured(&config("redis.conf"), &config("redis.acl"), "health").await;
        let webdis = std::fs::read_to_string(config("webdis.json")).unwrap();
        let mut webdis: Value = serde_json::from_str(&webdis).unwrap();
        for of_this_machine in [
            "redis_host",
            "redis_port",
            "http_host",
            "http_port",
            "logfile",
        ] {
            webdis
                .as_object_mut()
                .unwrap()
                .remove(of_this_machine)
                .unwrap();
        }
        let webdis = Webdis::with(&redis, webdis).await;
        let upstream = EchoUpstream::start().await;
        let file = "envoy/quotas.yaml";
        let envoys = gateways(file, "webdis", webdis.address(), &upstream).await;
        assert_eq!(admitted(&envoys).await, LIMIT);
        drop(envoys);
        redis.kill();
        redis.restart().await;
        let envoys = gateways(file, "webdis", webdis.address(), &upstream).await;
        assert_eq!(admitted(&envoys).await, 0);
        assert_eq!(upstream.count(), LIMIT);
    }
}
