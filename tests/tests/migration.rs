//! The documents on the pages for those who come from elsewhere do what the pages say.

use std::fs;

use serde_json::Value;
use tollgate_tests::{EchoUpstream, Envoy, RequestBuilder, plugin, repository, wasm_filter};

const ACME: &str = "acme-demo-key";

/// A gateway with the one document of a page.
async fn gateway(page: &str, upstream: &EchoUpstream) -> Envoy {
    let text = fs::read_to_string(repository().join("docs").join(page)).unwrap();
    let mut documents = text.split("\n```yaml\n").skip(1);
    let document = documents.next().expect("a document");
    assert!(documents.next().is_none(), "{page} has several documents");
    let (document, _) = document.split_once("\n```\n").unwrap();
    let document: Value = serde_saphyr::from_str(document).unwrap();
    Envoy::builder()
        .upstream(upstream)
        .filter(wasm_filter("tollgate", plugin("tollgate"), document))
        .map_listener(|listener| listener.use_remote_address().trusted_hops(1))
        .start()
        .await
        .unwrap()
}

/// The statuses of so many requests at once.
async fn statuses(count: usize, request: impl Fn() -> RequestBuilder) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(request().send().await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn from_aws() {
    let upstream = EchoUpstream::start().await;
    let gateway = gateway("migrate-from-aws.md", &upstream).await;
    let client = gateway.http1().host("api.bank.example");
    let unknown = client.get("/v1/accounts").header("x-api-key", "other");
    assert_eq!(unknown.send().await.status, 401);
    let admitted = client.get("/v1/accounts").header("x-api-key", ACME);
    let admitted = admitted.send().await;
    assert_eq!(admitted.status, 200);
    assert_eq!(admitted.echo().header("x-api-key"), None);
    let elsewhere = client.get("/v2/accounts").header("x-api-key", ACME);
    assert_eq!(elsewhere.send().await.status, 403);
    let transfer = || client.post("/v1/transfers").header("x-api-key", ACME);
    transfer().send().await;
    let throttled = transfer().send().await;
    assert_eq!(throttled.status, 429);
    let kind = throttled.header("x-amzn-errortype");
    assert_eq!(kind, Some("TooManyRequestsException"));
}

#[tokio::test]
async fn from_apigee() {
    let upstream = EchoUpstream::start().await;
    let gateway = gateway("migrate-from-apigee.md", &upstream).await;
    let client = gateway.http1();
    let missing = client.get("/v1/accounts/7").send().await;
    assert_eq!(missing.status, 401);
    // The arrest counts everything, and lets one through every 33 ms.
    let path = "/v1/accounts/7?page=2&apikey=acme-demo-key";
    let mut seen = Vec::new();
    while !(seen.contains(&200) && seen.contains(&429)) {
        let reply = client.get(path).send().await;
        if reply.status == 200 {
            assert_eq!(reply.echo().path, "/v1/accounts/7?page=2");
        }
        seen.push(reply.status.as_u16());
        assert!(seen.len() < 1000, "{seen:?}");
    }
}

#[tokio::test]
async fn from_kong() {
    let upstream = EchoUpstream::start().await;
    let gateway = gateway("migrate-from-kong.md", &upstream).await;
    let client = gateway.http1();
    let with = |key: &str| client.get("/v1/accounts").header("apikey", key.to_owned());
    let admitted = with(ACME).send().await;
    assert_eq!(admitted.status, 200);
    assert_eq!(admitted.echo().header("x-consumer-id"), Some("acme"));
    assert_eq!(admitted.echo().header("apikey"), None);
    assert!(admitted.header("x-request-id").is_some());
    assert_eq!(with("bolt-demo-key").send().await.status, 403);
    assert_eq!(with("other").send().await.status, 401);
}

#[tokio::test]
async fn from_nginx() {
    let upstream = EchoUpstream::start().await;
    let gateway = gateway("migrate-from-nginx.md", &upstream).await;
    let client = gateway.http1();
    let from = |address: &str, path: &str| {
        let request = client.get(path);
        request.header("x-forwarded-for", address.to_owned())
    };
    let logins = statuses(6, || from("198.51.100.1", "/login")).await;
    assert_eq!(logins, [200, 200, 200, 200, 200, 429]);
    // Who is exempt from one limit is not from another.
    let exempt = statuses(60, || from("10.1.2.3", "/")).await;
    assert_eq!(exempt, [200; 60]);
    let limited = statuses(1000, || from("198.51.100.2", "/")).await;
    assert_eq!(limited[..21], [200; 21]);
    assert!(limited.contains(&429));
}
