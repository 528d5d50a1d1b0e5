//! Errors as problem details on the real Envoy: its own, those of its filters, and an upstream's.

mod common;
mod errors;
mod idp;

use errors::{
    Case, Connection, FILTERS, MEDIA, assert_problem, document, gateway, of_envoy, of_upstream,
    untouched,
};
use http::Method;
use idp::{Bearer, Idp, wait_for_active};
use serde_json::json;
use tollgate_tests::{EchoUpstream, Envoy, Fault, plugin, wasm_filter};

#[tokio::test]
async fn every_error_is_a_whole_problem_on_a_connection_that_lives_on() {
    let upstream = EchoUpstream::start().await;
    let cases: Vec<Case> = of_envoy().into_iter().chain(of_upstream()).collect();
    let envoy = gateway(&upstream, &cases).start().await.unwrap();
    // The only token of the limit.
    assert_eq!(
        envoy.http1().get("/accounts/limited").send().await.status,
        200
    );
    let mut sent = 1;
    for mut connection in [
        Connection::Http1(envoy.raw().await),
        Connection::Http2(envoy.http2()),
    ] {
        for case in &cases {
            for (accept, media) in MEDIA {
                for method in [Method::GET, Method::HEAD] {
                    let answer = connection.ask(&method, case.path, accept).await;
                    let kind = case.kind.unwrap();
                    assert_problem(&answer, case, kind, media, &method);
                    sent += 1;
                    if case.path == "/accounts/page" {
                        assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
                    }
                    if case.status == 401 {
                        let scheme = match case.path {
                            "/accounts/key" => "ApiKey",
                            _ => "Bearer",
                        };
                        assert!(answer.only("www-authenticate").starts_with(scheme));
                    }
                }
            }
        }
    }
    // One for each client: none was closed.
    let stats = envoy.stats().await;
    let connections = |version| {
        let name = format!("envoy_http_downstream_cx_{version}_total");
        stats.sum(&name, &[("envoy_http_conn_manager_prefix", "http")])
    };
    assert_eq!(connections("http1"), 2.0);
    assert_eq!(connections("http2"), 1.0);
    for entry in &envoy.wait_for_access_log(sent).await[1..] {
        let path = entry.path.as_deref().unwrap();
        let case = cases.iter().find(|case| case.path == path).unwrap();
        assert_eq!(entry.status, case.status, "{entry:?}");
        let details = entry.details.as_deref().unwrap();
        assert!(details.starts_with(case.details), "{entry:?}");
        // It was let in, and somebody else failed it.
        assert_eq!(entry.decision.as_deref(), Some("allow"), "{entry:?}");
        assert!(entry.request_id.is_some(), "{entry:?}");
    }
    assert!(!envoy.log().contains("not sent"), "{}", envoy.log());
}

#[tokio::test]
async fn whatever_is_no_bare_error_stays_as_it_is() {
    let upstream = EchoUpstream::start().await;
    let cases = untouched();
    let envoy = gateway(&upstream, &cases).start().await.unwrap();
    let mut sent = 0;
    for mut connection in [
        Connection::Http1(envoy.raw().await),
        Connection::Http2(envoy.http2()),
    ] {
        for case in &cases {
            for (accept, _) in MEDIA {
                for method in [Method::GET, Method::HEAD] {
                    let answer = connection.ask(&method, case.path, accept).await;
                    sent += 1;
                    assert_eq!(answer.status, case.status, "{answer:?}");
                    assert!(answer.all("content-security-policy").is_empty());
                    answer.only("x-request-id");
                    answer.only("ratelimit");
                    if method == Method::HEAD {
                        continue;
                    }
                    let text = String::from_utf8(answer.body.clone()).unwrap();
                    match case.path {
                        "/accounts/told" => assert_eq!(text, r#"{"status":500,"title":"Own"}"#),
                        "/accounts/written" => assert_eq!(text, "Back at 9."),
                        "/accounts/missing" => assert_eq!(text, "Who?"),
                        "/accounts/fine" => assert!(text.contains("\"method\":\"GET\"")),
                        _ => assert_eq!(text, ""),
                    }
                }
            }
        }
    }
    for entry in envoy.wait_for_access_log(sent).await {
        let path = entry.path.as_deref().unwrap();
        let case = cases.iter().find(|case| case.path == path).unwrap();
        assert_eq!(entry.details.as_deref(), Some(case.details), "{entry:?}");
    }
}

#[tokio::test]
async fn a_body_too_large_is_refused_as_a_problem() {
    let upstream = EchoUpstream::start().await;
    let cases = untouched();
    let envoy = gateway(&upstream, &cases).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let reply = client
            .post("/accounts/fine")
            .body(vec![b'x'; 1 << 20])
            .send()
            .await;
        assert_eq!(reply.status, 413, "{reply:?}");
        assert_eq!(reply.json()["kind"], "request-too-large");
        let length = reply.body.len().to_string();
        assert_eq!(reply.header("content-length"), Some(length.as_str()));
        let next = client.post("/accounts/fine").body("x").send().await;
        assert_eq!(next.echo().body_length, 1);
    }
}

/// What Envoy answers while a request waits in the plugin for an issuer's keys.
#[tokio::test]
async fn a_request_that_waits_too_long_fails_as_a_problem() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    idp.issuer.fail(Fault::Hold);
    let mut document = idp.document(json!({ "timeout": "1m", "max_wait": "1m" }));
    document["problem_details"] = json!({});
    document["request_id"] = json!({});
    document["rate_limit"] =
        json!([{ "name": "all", "key": "global", "rate": "1000/s", "count": "all" }]);
    // A version that is judged once it is known who calls, which here is never.
    document["apis"] = json!([{ "name": "all", "match": { "path": "/**" } }]);
    document["usage_plan"] = json!({
        "plans": { "gold": {} },
        "token": { "plan": "gold" },
        "consumers": [{ "id": "acme", "plan": "gold" }],
    });
    document["access"] = json!([{ "require": "jwt" }]);
    document["sunset"] = json!([{
        "api": "all",
        "sunset": "2100-03-15T00:00:00Z",
        "grace": { "acme": "2101-03-15T00:00:00Z" },
    }]);
    let envoy = idp
        .gateway(&upstream, document)
        .map_listener(|listener| {
            listener.connection_manager(json!({ "stream_idle_timeout": "2s" }))
        })
        .start()
        .await
        .unwrap();
    let clients = [envoy.http1(), envoy.http2()];
    for client in &clients {
        let waiting = client
            .get("/")
            .bearer(&idp.token())
            .header("accept", "text/html");
        let reply = waiting.send().await;
        assert_eq!(reply.status, 504, "{reply:?}");
        assert_eq!(
            reply.header("content-type"),
            Some("text/html; charset=utf-8"),
            "{reply:?}"
        );
        assert!(
            reply.text().contains("<dd>upstream-timeout</dd>"),
            "{reply:?}"
        );
        let limits = reply.header_values("ratelimit");
        assert!(
            matches!(limits[..], [all] if all.starts_with("\"all\";r=")),
            "{reply:?}"
        );
        assert_eq!(
            reply.header_values("sunset"),
            ["Mon, 15 Mar 2100 00:00:00 GMT"]
        );
        let id = reply.header("x-request-id").expect("an id");
        assert!(
            reply.text().contains(&format!("urn:uuid:{id}")),
            "{reply:?}"
        );
    }
    wait_for_active(&envoy, 0).await;
    assert_eq!(upstream.count(), 0);
    // Those that were given up are not taken up.
    idp.issuer.recover();
    for client in &clients {
        let reply = client.get("/").bearer(&idp.token()).send().await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(upstream.count(), 2);
    for entry in &envoy.wait_for_access_log(4).await[..2] {
        let details = entry.details.as_deref();
        assert_eq!(
            details,
            Some("tollgate{upstream-timeout}:stream_idle_timeout"),
            "{entry:?}"
        );
        assert_eq!(entry.decision.as_deref(), Some("undecided"), "{entry:?}");
        assert_eq!(entry.reason.as_deref(), Some("_overtaken"), "{entry:?}");
    }
    let overtaken = [("decision", "undecided"), ("reason", "_overtaken")];
    let stats = envoy.stats().await;
    assert_eq!(stats.sum("tollgate_requests_total", &overtaken), 2.0);
    for trouble in ["lost", "not continued", "not sent"] {
        assert!(!envoy.log().contains(trouble), "{}", envoy.log());
    }
}

/// Filters before the plugin refuse requests that it then never sees.
#[tokio::test]
async fn what_is_refused_before_the_plugin_stays_as_it_is() {
    let upstream = EchoUpstream::start().await;
    let nobody = json!({
        "@type": format!("{FILTERS}.rbac.v3.RBAC"),
        "rules": { "action": "ALLOW" },
    });
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(json!({ "name": "rbac", "typed_config": nobody }))
        .filter(wasm_filter("tollgate", plugin("tollgate"), document()))
        .start()
        .await
        .unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        for _ in 0..2 {
            let reply = client.get("/accounts").send().await;
            assert_eq!(reply.status, 403);
            assert_eq!(reply.text(), "RBAC: access denied");
        }
    }
}

#[tokio::test]
async fn the_plugin_of_this_policy_alone_does_the_same() {
    let upstream = EchoUpstream::start().await;
    let document = json!({ "problem_details": {
        "type_base": "https://errors.bank.example/",
        "overrides": { "no-route": { "status": 410, "detail": "Gone." } },
    } });
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(wasm_filter(
            "problem-details",
            plugin("problem-details"),
            document,
        ))
        .map_listener(|listener| {
            listener.connection_manager(json!({ "route_config": { "virtual_hosts": [
                { "name": "all", "domains": ["*"], "routes": [
                    { "match": { "prefix": "/fine" }, "route": { "cluster": "echo" } },
                ] },
            ] } }))
        })
        .start()
        .await
        .unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let reply = client.get("/nowhere").send().await;
        assert_eq!(reply.status, 410);
        let problem = reply.json();
        assert_eq!(problem["type"], "https://errors.bank.example/no-route");
        assert_eq!(problem["detail"], "Gone.");
        // An upstream's errors are its own unless it is said otherwise.
        let bare = client.get("/fine").header("x-echo-status", "500");
        assert_eq!(
            bare.send().await.header("content-type"),
            Some("application/json")
        );
    }
}
