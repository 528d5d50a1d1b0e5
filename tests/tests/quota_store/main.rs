//! Quotas that several Envoys share by way of a store: real Envoys with several workers; Redis and
//! Webdis of the system, and a stand-in for the Rate Limit Service.

#[path = "../common/mod.rs"]
mod common;
mod rls;
mod with_redis;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate_tests::{EchoUpstream, Envoy, EnvoyBuilder, Load, merge};

const WORKERS: u32 = 2;

/// A document for a plan whose quotas this store keeps.
fn document(plan: Value, engine: Value, settings: Value) -> Value {
    let mut store = json!({ "envoys": 3, "report_every": "100ms", "timeout": "1s" });
    merge(&mut store, &engine);
    merge(&mut store, &settings);
    let mut document = common::config(plan);
    document["usage_plan"]["store"] = store;
    document
}

fn gateway(upstream: &EchoUpstream, cluster: &Value, document: &Value) -> EnvoyBuilder {
    common::gateway(upstream, document.clone())
        .cluster(cluster.clone())
        .concurrency(WORKERS)
}

async fn gateways(
    count: usize,
    upstream: &EchoUpstream,
    cluster: &Value,
    document: &Value,
) -> Vec<Envoy> {
    let mut envoys = Vec::new();
    for _ in 0..count {
        envoys.push(gateway(upstream, cluster, document).start().await.unwrap());
    }
    envoys
}

/// Sends requests through all Envoys at once, as fast as they take them, and gives how many had
/// which status.
async fn flood(envoys: &[Envoy], requests: usize) -> BTreeMap<u16, usize> {
    let floods = envoys.iter().map(|envoy| {
        let client = envoy.http1();
        tokio::spawn(async move {
            let load = Load::new(&client).requests(requests).connections(8);
            let report = load
                .run(|client, _| client.get("/accounts").header("x-api-key", "acme-key"))
                .await;
            report.by_status()
        })
    });
    let mut sum = BTreeMap::new();
    for flood in floods.collect::<Vec<_>>() {
        for (status, count) in flood.await.unwrap() {
            *sum.entry(status).or_default() += count;
        }
    }
    sum
}

fn count(statuses: &BTreeMap<u16, usize>, status: u16) -> usize {
    statuses.get(&status).copied().unwrap_or_default()
}
