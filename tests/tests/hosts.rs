//! A request is judged by the host that Envoy routes it by.

mod common;

use common::{config, gateway, sha256};
use serde_json::json;
use tollgate_tests::{EchoUpstream, cluster};

#[tokio::test]
async fn no_spelling_of_a_host_leads_to_another_upstream_than_its_rule() {
    let (bank, internal, rest) = (
        EchoUpstream::start().await,
        EchoUpstream::start().await,
        EchoUpstream::start().await,
    );
    let mut document = config(json!({ "apis": ["bank"] }));
    document["apis"] = json!([
        { "name": "bank", "match": { "hosts": "api.bank.example" } },
        { "name": "internal", "match": { "hosts": "*.internal.example" } },
        { "name": "rest", "match": {} },
    ]);
    document["usage_plan"]["plans"]["rest"] = json!({ "apis": ["rest"] });
    let bolt = json!({ "id": "bolt", "plan": "rest", "keys": [{ "sha256": sha256("bolt-key") }] });
    document["usage_plan"]["consumers"]
        .as_array_mut()
        .unwrap()
        .push(bolt);
    let host = |name: &str, domain: &str| {
        json!({ "name": name, "domains": [domain], "routes": [
            { "match": { "prefix": "/" }, "route": { "cluster": name } },
        ] })
    };
    let hosts = json!([
        host("bank", "api.bank.example"),
        host("internal", "*.internal.example"),
        host("rest", "*"),
    ]);
    let envoy = gateway(&bank, document)
        .cluster(cluster("bank", bank.address()))
        .cluster(cluster("internal", internal.address()))
        .cluster(cluster("rest", rest.address()))
        .map_listener(|listener| {
            listener.connection_manager(json!({ "route_config": { "virtual_hosts": hosts } }))
        })
        .start()
        .await
        .unwrap();
    let send = async |key: &str, host: &str| {
        let mut client = envoy.raw().await;
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-api-key: {key}\r\n\r\n");
        client.send(request).await;
        client.read_reply().await.status
    };
    let long = format!("{}.internal.example", "a".repeat(300));
    for host in [
        "api.bank.example.",
        "x@api.bank.example",
        "api.bank.example:9",
        "API.bank.example:09",
    ] {
        assert_eq!(send("acme-key", host).await, 400, "{host}");
    }
    for host in [
        long.as_str(),
        "x:1.internal.example",
        "[::1]x.internal.example",
        "a.internal.example.:1",
    ] {
        assert_eq!(send("bolt-key", host).await, 400, "{host:.30}");
    }
    assert_eq!((bank.count(), internal.count(), rest.count()), (0, 0, 0));
    assert_eq!(send("acme-key", "API.Bank.Example").await, 200);
    assert_eq!(send("acme-key", "elsewhere.example").await, 403);
    assert_eq!(send("bolt-key", "elsewhere.example:8443").await, 200);
    assert_eq!(send("bolt-key", "x.internal.example").await, 403);
    assert_eq!((bank.count(), internal.count(), rest.count()), (1, 0, 1));
}

#[tokio::test]
async fn letter_case_is_no_way_around_a_rule() {
    let upstream = EchoUpstream::start().await;
    let plan = json!({
        "apis": ["transfers", "rest"],
        "throttle": { "rate": "100/s", "methods": { "POST /transfers": { "rate": "1/h", "burst": 1 } } },
    });
    let mut document = config(plan);
    document["apis"] = json!([
        { "name": "transfers", "match": { "path": "/transfers" } },
        { "name": "rest", "match": {} },
    ]);
    document["paths"] = json!({ "letter_case": "ignore" });
    let envoy = gateway(&upstream, document).start().await.unwrap();
    let client = envoy.http2();
    let send = async |method: &str, path: &str| {
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        client
            .request(method, path)
            .header("x-api-key", "acme-key")
            .send()
            .await
    };
    assert_eq!(send("POST", "/transfers").await.status, 200);
    assert_eq!(send("POST", "/Transfers").await.status, 429);
    assert_eq!(send("post", "/transfers").await.status, 400);
    let reply = send("GET", "/Transfers").await;
    assert_eq!(reply.echo().path, "/Transfers");
}
