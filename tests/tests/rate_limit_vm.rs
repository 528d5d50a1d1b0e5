//! Limits while VMs die.

use serde_json::json;
use tokio::task::JoinSet;
use tollgate_tests::{EchoUpstream, Envoy, test_plugin, wait_for, wasm_filter};

const PLACES: usize = 8;

/// Whoever holds leases may die without giving them back; they are then forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_a_vm_that_died_run_out_and_buckets_stay() {
    let upstream = EchoUpstream::start().await;
    let document = json!({ "trap": {}, "rate_limit": [
        { "name": "under-way", "key": "client_address", "concurrent": PLACES, "lease": "5s" },
        { "name": "budget", "key": { "header": "x-client" }, "rate": "5/day" },
    ] });
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(wasm_filter("trap", test_plugin("trap"), document))
        .concurrency(2)
        .start()
        .await
        .unwrap();
    let request = |client: &str| {
        let request = envoy.http1().get("/");
        request.header("x-client", client.to_owned())
    };
    for _ in 0..5 {
        assert_eq!(request("spent").send().await.status, 200);
    }
    let mut held = JoinSet::new();
    for number in 0..PLACES {
        let request = request(&format!("held-{number}")).header("x-echo-hold", "gate");
        held.spawn(request.try_send());
    }
    upstream.wait_for_count(5 + PLACES).await;
    assert_eq!(request("full").send().await.status, 429);
    // Both workers' VMs die, and with them whoever would have given the places back.
    for _ in 0..20 {
        let trapped = request("trap").header("x-trap", "1").send().await;
        assert_eq!(trapped.status, 503);
    }
    upstream.release("gate", PLACES);
    held.join_all().await;

    let mut number = 0;
    wait_for("all places to be free again", async || {
        upstream.clear();
        number += 1;
        let mut held = JoinSet::new();
        for place in 0..PLACES {
            let client = format!("again-{number}-{place}");
            let request = request(&client).header("x-echo-delay-ms", "200");
            held.spawn(request.try_send());
        }
        let replies = held.join_all().await;
        let all = replies
            .into_iter()
            .all(|reply| reply.is_ok_and(|reply| reply.status == 200));
        all.then_some(())
    })
    .await;
    let refused = request("spent").send().await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["violated-policies"], json!(["budget"]));
}
