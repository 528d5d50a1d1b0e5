//! Versions that share their paths, and what leads from one to the next, on the real Envoy.

use serde_json::{Value, json};
use tollgate_tests::{EchoUpstream, Envoy, EnvoyBuilder, plugin, wasm_filter};

/// Three versions of one API, each by another place: one that has ended, one that will, and one that
/// lives on.
fn versions() -> Value {
    json!([
        {
            "api": "accounts",
            "version": { "header": "x-api-version", "value": ["2024-01-01", "2024"] },
            "deprecated": "2020-09-15T00:00:00Z",
            "sunset": "2021-03-15T00:00:00Z",
            "successor": "/accounts/{**}?version=2",
            "latest": "https://api3.bank.example/accounts/{**}",
            "docs": "https://dev.bank.example/v2",
        },
        {
            "api": "accounts",
            "version": { "query": "version", "value": "2" },
            "deprecated": "2020-09-15T00:00:00Z",
            "sunset": "2100-03-15T00:00:00Z",
            "latest": "https://api3.bank.example/accounts/{**}",
        },
        {
            "api": "accounts",
            "version": { "media_type": "application/vnd.bank.v3+json" },
        },
    ])
}

fn gateway(upstream: &EchoUpstream, name: &str, lives: Value) -> EnvoyBuilder {
    let document = json!({
        "apis": [{ "name": "accounts", "match": [{ "path": "/accounts/{**}" }] }],
        "sunset": lives,
    });
    Envoy::builder()
        .upstream(upstream)
        .filter(wasm_filter(name, plugin(name), document))
        .map_listener(|listener| {
            let version = "%FILTER_STATE(wasm.tollgate_api_version:PLAIN)%";
            listener.log_field("version", version)
        })
}

#[tokio::test]
async fn versions_are_told_apart_by_header_query_and_media_type() {
    let upstream = EchoUpstream::start().await;
    for name in ["sunset", "tollgate"] {
        let envoy = gateway(&upstream, name, versions()).start().await.unwrap();
        for client in [envoy.http1(), envoy.http2()] {
            let first = client
                .get("/accounts/42?a=b")
                .header("x-api-version", "2024");
            let first = first.send().await;
            assert_eq!(first.status, 410);
            assert_eq!(first.json()["kind"], "api-retired");
            assert_eq!(first.json()["successor"], "/accounts/42?a=b&version=2");
            assert_eq!(first.header_values("deprecation"), ["@1600128000"]);
            assert_eq!(
                first.header_values("link"),
                ["<https://dev.bank.example/v2>; rel=\"deprecation\", \
                  <https://dev.bank.example/v2>; rel=\"sunset\", \
                  </accounts/42?a=b&version=2>; rel=\"successor-version\", \
                  <https://api3.bank.example/accounts/42?a=b>; rel=\"latest-version\""]
            );
            let second = client.get("/accounts/42?version=2&a=b").send().await;
            assert_eq!(second.status, 200);
            assert_eq!(
                second.header_values("sunset"),
                ["Mon, 15 Mar 2100 00:00:00 GMT"]
            );
            assert_eq!(
                second.header_values("link"),
                ["<https://api3.bank.example/accounts/42?a=b>; rel=\"latest-version\""]
            );
            let third = "text/html;q=0.5, application/vnd.bank.v3+json";
            let third = client.get("/accounts/42").header("accept", third);
            // It is for none of them.
            let none = client.get("/accounts/42").header("accept", "*/*");
            for request in [third, none] {
                let reply = request.send().await;
                assert_eq!(reply.status, 200);
                for header in ["deprecation", "sunset", "link"] {
                    assert_eq!(reply.header(header), None);
                }
            }
        }
        let stats = envoy
            .wait_for_stats("six calls of versions", |stats| {
                stats.sum("tollgate_lifecycle_requests_total", &[]) >= 6.0
            })
            .await;
        for (version, stage) in [
            ("2024-01-01", "retired"),
            ("2", "deprecated"),
            ("application/vnd.bank.v3+json", "live"),
        ] {
            let labels = [
                ("api", "accounts"),
                ("api_version", version),
                ("stage", stage),
                ("consumer", "_none"),
            ];
            let count = stats.get("tollgate_lifecycle_requests_total", &labels);
            assert_eq!(count, Some(2.0), "{labels:?}");
        }
        let log = envoy.wait_for_access_log(8).await;
        let logged = |version: Value| {
            log.iter()
                .filter(|it| it.extra["version"] == version)
                .count()
        };
        for version in ["2024-01-01", "2", "application/vnd.bank.v3+json"] {
            assert_eq!(logged(version.into()), 2, "{version}");
        }
        assert_eq!(logged(Value::Null), 2);
    }
}

#[tokio::test]
async fn redirects_in_a_circle_are_refused() {
    let upstream = EchoUpstream::start().await;
    let mut lives = versions();
    lives[0]["after_sunset"] = "redirect".into();
    lives[1]["after_sunset"] = "redirect".into();
    lives[1]["successor"] = "/accounts/{**}?version=1".into();
    lives[0]["version"] = json!({ "query": "version", "value": "1" });
    let refused = gateway(&upstream, "sunset", lives).start().await.err();
    let log = format!("{refused:?}");
    assert!(log.contains("leads round in a circle"), "{log}");
}
