//! Usage is kept while configurations are replaced and VMs die.

mod common;

use common::{config, gateway};
use serde_json::json;
use tollgate_tests::{EchoUpstream, Envoy, Listener, plugin, wait_for, wasm_filter};

#[tokio::test]
async fn usage_outlives_configuration_updates() {
    let upstream = EchoUpstream::start().await;
    let document = |limit: u64| config(json!({ "quota": { "limit": limit, "period": "year" } }));
    let mut envoy = gateway(&upstream, document(10))
        .dynamic_listener()
        .start()
        .await
        .unwrap();
    let used = async |envoy: &Envoy, times: usize| {
        let client = envoy.http1();
        for _ in 0..times {
            let reply = client
                .get("/accounts")
                .header("x-api-key", "acme-key")
                .send()
                .await;
            assert_eq!(reply.status, 200);
        }
    };
    used(&envoy, 4).await;
    let listener =
        |document| Listener::new().filter(wasm_filter("tollgate", plugin("tollgate"), document));
    envoy.update_listener(&listener(document(6))).await.unwrap();
    used(&envoy, 2).await;
    let reply = envoy
        .http1()
        .get("/accounts")
        .header("x-api-key", "acme-key")
        .send()
        .await;
    assert_eq!(reply.status, 429);

    // A configuration that is refused changes nothing.
    let refused = envoy
        .update_listener(&listener(json!({ "usage_plan": 3 })))
        .await
        .unwrap_err();
    assert!(
        refused
            .log
            .contains("usage_plan: found the number 3, expected an object"),
        "{}",
        refused.log
    );
    let reply = envoy
        .http1()
        .get("/accounts")
        .header("x-api-key", "acme-key")
        .send()
        .await;
    assert_eq!(reply.status, 429);

    envoy
        .update_listener(&listener(document(20)))
        .await
        .unwrap();
    used(&envoy, 14).await;
    let reply = envoy
        .http1()
        .get("/accounts")
        .header("x-api-key", "acme-key")
        .send()
        .await;
    assert_eq!(reply.status, 429);
}

#[tokio::test]
async fn usage_outlives_the_vm() {
    let upstream = EchoUpstream::start().await;
    let mut document = config(json!({ "quota": { "limit": 5, "period": "year" } }));
    document.as_object_mut().unwrap().remove("request_id");
    document["trap"] = json!({});
    let filter = wasm_filter("trap", tollgate_tests::test_plugin("trap"), document);
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(filter)
        .concurrency(2)
        .start()
        .await
        .unwrap();
    let status = async |name: &'static str| {
        let request = envoy
            .http1()
            .get("/accounts")
            .header("x-api-key", "acme-key");
        request.header(name, "1").send().await.status
    };
    for _ in 0..3 {
        assert_eq!(status("x-fine").await, 200);
    }
    // Both workers' VMs die, and with the old ones all that they remembered.
    for _ in 0..20 {
        assert_eq!(status("x-trap").await, 503);
    }
    let mut admitted = 3;
    wait_for("fresh VMs on all workers and the quota spent", async || {
        admitted += usize::from(status("x-fine").await == 200);
        let stats = envoy.stats().await;
        let exceeded = stats.sum("tollgate_requests_total", &[("reason", "quota-exceeded")]);
        (exceeded >= 20.0).then_some(())
    })
    .await;
    assert_eq!(admitted, 5);
    assert_eq!(upstream.count(), 5);
}
