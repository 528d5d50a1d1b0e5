//! Whether scripts of other origins may read errors, on the real Envoy: with its filter for CORS in
//! front of the plugin, behind it, and without.

mod common;
mod errors;

use errors::{Answer, Connection, FILTERS, document};
use http::Method;
use serde_json::{Value, json};
use tollgate_tests::{EchoUpstream, Envoy, EnvoyBuilder, cluster, plugin, wasm_filter};

const APP: &str = "https://app.bank.example";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    InFront,
    Behind,
    None,
}

/// A gateway whose upstream fails at `/accounts/failed`, and that lets [`APP`] read answers: all of
/// them by Envoy's filter, problems by the plugin.
fn gateway(upstream: &EchoUpstream, filter: Filter) -> EnvoyBuilder {
    let mut document = document();
    document["problem_details"]["cors"] = json!({
        "allow_origins": ["https://*.bank.example"],
        "allow_credentials": true,
    });
    let policy = json!({
        "@type": format!("{FILTERS}.cors.v3.CorsPolicy"),
        "allow_origin_string_match": [{ "exact": APP }],
        "allow_methods": "GET, POST",
        "allow_credentials": true,
    });
    let cors = json!({
        "name": "envoy.filters.http.cors",
        "typed_config": { "@type": format!("{FILTERS}.cors.v3.Cors") },
    });
    let tollgate = wasm_filter("tollgate", plugin("tollgate"), document);
    let filters = match filter {
        Filter::InFront => vec![cors, tollgate],
        Filter::Behind => vec![tollgate, cors],
        Filter::None => vec![tollgate],
    };
    let fails = json!([{ "header": { "key": "x-echo-status", "value": "500" } }]);
    let to = |path: &str, cluster: &str| json!({ "match": { "path": path }, "route": { "cluster": cluster } });
    let mut failed = to("/accounts/failed", "echo");
    failed["request_headers_to_add"] = fails;
    let mut host = json!({ "name": "all", "domains": ["*"], "routes": [
        failed, to("/accounts/fine", "echo"), to("/accounts/refused", "refused"),
    ] });
    if filter != Filter::None {
        host["typed_per_filter_config"] = json!({ "envoy.filters.http.cors": policy });
    }
    let closed = "127.0.0.1:1".parse().unwrap();
    let envoy = Envoy::builder()
        .upstream(upstream)
        .cluster(cluster("refused", closed))
        .map_listener(|listener| {
            listener.connection_manager(json!({ "route_config": { "virtual_hosts": [host] } }))
        });
    filters.into_iter().fold(envoy, EnvoyBuilder::filter)
}

/// The members of a header that is a list, in lower case.
fn members(answer: &Answer, name: &str) -> Vec<String> {
    let values = answer.all(name).join(",").to_lowercase();
    let members = values.split(',').map(str::trim);
    members
        .filter(|member| !member.is_empty())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn scripts_may_read_every_error_that_they_get() {
    let upstream = EchoUpstream::start().await;
    for filter in [Filter::InFront, Filter::Behind, Filter::None] {
        let envoy = gateway(&upstream, filter).start().await.unwrap();
        for mut connection in [
            Connection::Http1(envoy.raw().await),
            Connection::Http2(envoy.http2()),
        ] {
            for (path, key, status) in [
                ("/accounts/nowhere", None, 404),
                ("/accounts/refused", None, 503),
                ("/accounts/failed", None, 500),
                ("/accounts/fine", Some("a-guess"), 401),
            ] {
                for method in [Method::GET, Method::HEAD] {
                    let what = format!("{filter:?} {method} {path}");
                    let mut headers = vec![("origin", APP)];
                    headers.extend(key.map(|key| ("x-api-key", key)));
                    let answer = connection.send(&method, path, &headers).await;
                    assert_eq!(answer.status, status, "{what}");
                    assert_eq!(answer.only("access-control-allow-origin"), APP, "{what}");
                    assert_eq!(
                        answer.only("access-control-allow-credentials"),
                        "true",
                        "{what}"
                    );
                    let vary = members(&answer, "vary");
                    for name in ["accept", "origin"] {
                        assert!(vary.contains(&name.to_owned()), "{what}: {vary:?}");
                    }
                    // Where Envoy's filter has spoken, it has said what may be read.
                    let exposed = members(&answer, "access-control-expose-headers");
                    let is_ours =
                        filter == Filter::None || filter == Filter::InFront && status != 401;
                    if is_ours {
                        assert!(
                            exposed.contains(&"x-request-id".to_owned()),
                            "{what}: {exposed:?}"
                        );
                    }
                    if status != 401 {
                        assert!(
                            exposed.contains(&"ratelimit".to_owned()),
                            "{what}: {exposed:?}"
                        );
                    }
                }
                // Another one is told nothing, and caches keep that apart.
                let mut headers = vec![("origin", "https://evil.example")];
                headers.extend(key.map(|key| ("x-api-key", key)));
                let answer = connection.send(&Method::GET, path, &headers).await;
                assert_eq!(answer.all("access-control-allow-origin"), [""; 0], "{path}");
                assert!(members(&answer, "vary").contains(&"origin".to_owned()));
            }
            // An answer that is no problem has what Envoy's filter gives it, and nothing of ours.
            let fine = connection
                .send(&Method::GET, "/accounts/fine", &[("origin", APP)])
                .await;
            assert_eq!(fine.status, 200);
            let allowed = match filter {
                Filter::None => 0,
                Filter::InFront | Filter::Behind => 1,
            };
            assert_eq!(fine.all("access-control-allow-origin").len(), allowed);
        }
        if filter == Filter::InFront {
            let preflight = envoy
                .http1()
                .request(Method::OPTIONS, "/accounts/fine")
                .header("origin", APP)
                .header("access-control-request-method", "GET");
            let preflight = preflight.send().await;
            assert_eq!(preflight.status, 200);
            assert_eq!(
                preflight.header_values("access-control-allow-origin"),
                [APP]
            );
        }
    }
}

#[tokio::test]
async fn a_mistake_is_told_with_its_place_and_cure() {
    let upstream = EchoUpstream::start().await;
    for (cors, expected) in [
        (
            json!({ "allow_origins": ["*"], "allow_credentials": true }),
            "problem_details.cors.allow_credentials: does not go together with the origin",
        ),
        (
            json!({ "allow_origins": ["https://app.bank.example/"] }),
            "problem_details.cors.allow_origins[0]: found \"https://app.bank.example/\", and an \
             origin ends behind its host and port: write https://app.bank.example",
        ),
    ] {
        let mut document: Value = document();
        document["problem_details"]["cors"] = cors;
        let envoy = Envoy::builder().upstream(&upstream).filter(wasm_filter(
            "tollgate",
            plugin("tollgate"),
            document,
        ));
        let error = envoy.start().await.err().expect("a mistake");
        assert!(error.log().contains(expected), "{error}");
    }
}
