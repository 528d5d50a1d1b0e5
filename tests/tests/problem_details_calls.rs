//! Errors to calls by gRPC and gRPC-Web on the real Envoy.

mod common;
mod errors;

use errors::{Case, FILTERS, document, gateway, of_envoy, of_upstream};
use serde_json::json;
use tollgate_tests::{EchoUpstream, Envoy, Page, Reply, http2_cluster, plugin, wasm_filter};

#[tokio::test]
async fn a_grpc_call_fails_as_one() {
    let upstream = EchoUpstream::start().await;
    let mut cases: Vec<Case> = of_envoy().into_iter().chain(of_upstream()).collect();
    for case in &mut cases {
        if let Some(route) = &mut case.route
            && route["route"]["cluster"] == "echo"
        {
            route["route"]["cluster"] = "grpc".into();
        }
    }
    let envoy = gateway(&upstream, &cases).start().await.unwrap();
    let client = envoy.http2();
    client.grpc("/accounts/limited", b"hello").send().await;
    for case in &cases {
        let reply = client.grpc(case.path, b"hello").send().await;
        let (expected, message) = match case.status {
            401 => (16, "This API needs credentials, and none were sent."),
            403 => (7, "Access is denied."),
            404 => (12, "There is nothing at this host and path."),
            429 => (8, "Requests come faster than allowed."),
            500 => (13, "The service could not answer the request."),
            _ => (14, "The "),
        };
        assert_eq!(reply.status, 200, "{}", case.path);
        assert_eq!(
            reply.header("content-type"),
            Some("application/grpc"),
            "{}",
            case.path
        );
        assert_eq!(reply.grpc_status(), Some(expected), "{}", case.path);
        let told = reply.grpc_message().unwrap();
        assert!(told.starts_with(message), "{}: {told}", case.path);
        assert!(reply.body.is_empty(), "{}: {reply:?}", case.path);
        assert_eq!(reply.header_values("x-request-id").len(), 1);
        assert_eq!(reply.header_values("ratelimit").len(), 1);
    }
    for entry in &envoy.wait_for_access_log(cases.len() + 1).await[1..] {
        let path = entry.path.as_deref().unwrap();
        let case = cases.iter().find(|case| case.path == path).unwrap();
        let details = entry.details.as_deref().unwrap();
        assert!(details.starts_with(case.details), "{entry:?}");
    }
}

/// An upstream whose errors to calls are in the headers, with words of its own.
async fn failing_upstream() -> EchoUpstream {
    let upstream = EchoUpstream::start().await;
    for code in [5, 13] {
        let failed = Page::new("application/grpc", "")
            .header("grpc-status", &code.to_string())
            .header("grpc-message", "at Main.java:7");
        upstream.serve(&format!("/accounts/{code}"), failed);
    }
    upstream
}

#[tokio::test]
async fn an_upstreams_own_errors_to_calls_stay_unless_wanted_otherwise() {
    let upstream = failing_upstream().await;
    for (wrap, words) in [
        (json!(["gateway", "upstream_bare_5xx"]), "at Main.java:7"),
        (
            json!(["upstream_grpc"]),
            "The service could not answer the request.",
        ),
    ] {
        let mut document = document();
        document["problem_details"]["wrap"] = wrap;
        let envoy = Envoy::builder()
            .cluster(http2_cluster("grpc", upstream.address()))
            .route(json!({ "match": { "prefix": "/" }, "route": { "cluster": "grpc" } }))
            .filter(wasm_filter("tollgate", plugin("tollgate"), document))
            .start()
            .await
            .unwrap();
        let client = envoy.http2();
        for (code, message) in [(5, "at Main.java:7"), (13, words)] {
            let path = format!("/accounts/{code}");
            let reply = client.grpc(&path, b"hello").send().await;
            assert_eq!(reply.grpc_status(), Some(code), "{reply:?}");
            assert_eq!(reply.grpc_message().as_deref(), Some(message));
            assert_eq!(reply.header_values("grpc-status").len(), 1);
            assert_eq!(reply.header_values("x-request-id").len(), 1);
        }
        // What comes behind messages is not looked at, and what is fine stays.
        for code in ["0", "13"] {
            let request = client.grpc("/accounts/1", b"hello");
            let reply = request.header("x-echo-grpc-status", code).send().await;
            assert_eq!(
                reply.grpc_status().map(|code| code.to_string()).as_deref(),
                Some(code)
            );
            assert_eq!(reply.grpc_messages().len(), 1);
        }
    }
}

/// The status code in a body that is one frame of trailers.
fn code_of_trailers(reply: &Reply) -> u32 {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.header("content-type"),
        Some("application/grpc-web+proto"),
        "{reply:?}"
    );
    assert_eq!(reply.body[0], 0x80, "{reply:?}");
    let length = u32::from_be_bytes(reply.body[1..5].try_into().unwrap());
    assert_eq!(reply.body.len(), 5 + length as usize);
    let trailers = std::str::from_utf8(&reply.body[5..]).unwrap();
    let (status, message) = trailers.split_once("\r\n").unwrap();
    assert!(message.starts_with("grpc-message:The"), "{trailers}");
    status
        .strip_prefix("grpc-status:")
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_grpc_web_call_gets_trailers_in_the_body() {
    let upstream = EchoUpstream::start().await;
    let cases: Vec<Case> = of_envoy().into_iter().chain(of_upstream()).collect();
    let translator = json!({
        "name": "grpc_web",
        "typed_config": { "@type": format!("{FILTERS}.grpc_web.v3.GrpcWeb") },
    });
    // Envoy's filter for gRPC-Web, behind the plugin, makes Envoy's errors those of calls.
    for translates in [false, true] {
        let mut envoy = gateway(&upstream, &cases);
        if translates {
            envoy = envoy.filter(translator.clone());
        }
        let envoy = envoy.start().await.unwrap();
        for client in [envoy.http1(), envoy.http2()] {
            for (path, code) in [
                ("/accounts/nowhere", 12),
                ("/accounts/page", 13),
                ("/accounts/empty", 14),
                ("/accounts/refused", 14),
            ] {
                let request = client
                    .post(path)
                    .header("content-type", "application/grpc-web+proto");
                let reply = request.body(vec![0; 5]).send().await;
                assert_eq!(code_of_trailers(&reply), code, "{path} {translates}");
                assert_eq!(reply.header_values("x-request-id").len(), 1);
                assert_eq!(reply.header("grpc-status"), None, "{reply:?}");
            }
        }
    }
}
