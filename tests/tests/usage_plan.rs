//! API keys and usage plans on the real Envoy, through the full plugin.

mod common;

use common::{config, gateway, sha256};
use serde_json::json;
use tollgate_tests::{EchoUpstream, Envoy, WasmFilter, http2_cluster, plugin, wasm_filter};

#[tokio::test]
async fn every_outcome_looks_as_documented() {
    let upstream = EchoUpstream::start().await;
    let plan = json!({ "apis": ["accounts"], "throttle": { "rate": "1/h", "burst": 2 } });
    let expired = json!({ "sha256": sha256("old-key"), "expires": "2026-01-01T00:00:00Z" });
    let mut document = config(plan);
    document["usage_plan"]["consumers"][0]["keys"]
        .as_array_mut()
        .unwrap()
        .push(expired);
    let envoy = gateway(&upstream, document).start().await.unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        let send = |path: &str, key: Option<&str>| {
            let request = client.get(path);
            let request = match key {
                Some(key) => request.header("x-api-key", key),
                None => request,
            };
            request.send()
        };
        let admitted = send("/accounts/1", Some("acme-key")).await;
        assert_eq!(admitted.status, 200);
        assert_eq!(admitted.echo().header("x-consumer-id"), Some("acme"));
        assert_eq!(admitted.echo().header("x-api-key"), None);
        assert_eq!(
            admitted.header("ratelimit-policy"),
            Some(r#""throttle";q=2;w=7200"#)
        );
        assert!(
            admitted
                .header("ratelimit")
                .unwrap()
                .starts_with("\"throttle\";r=")
        );

        for (path, key, status, kind) in [
            ("/accounts", None, 401, "credentials-missing"),
            ("/accounts", Some("guess"), 401, "api-key-unknown"),
            ("/accounts", Some("old-key"), 401, "api-key-expired"),
            ("/payments", Some("acme-key"), 403, "api-not-in-plan"),
            (
                "/accounts/..%2fpayments",
                Some("acme-key"),
                400,
                "request-ambiguous",
            ),
        ] {
            let reply = send(path, key).await;
            assert_eq!(reply.status, status, "{path} {key:?}");
            assert_eq!(
                reply.header("content-type"),
                Some("application/problem+json")
            );
            assert_eq!(reply.header("www-authenticate").is_some(), status == 401);
            let problem = reply.json();
            assert_eq!(problem["status"], status);
            assert_eq!(problem["kind"], kind);
            let id = reply.header("x-request-id").unwrap();
            assert_eq!(problem["instance"], format!("urn:uuid:{id}"));
            assert_eq!(reply.header_values("x-request-id").len(), 1);
        }
    }
    let throttled = envoy
        .http1()
        .get("/accounts")
        .header("x-api-key", "acme-key")
        .send()
        .await;
    assert_eq!(throttled.status, 429);
    assert_eq!(throttled.json()["violated-policies"], json!(["throttle"]));
    let retry_after: u64 = throttled.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&retry_after), "{retry_after}");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn operators_see_what_was_decided() {
    let upstream = EchoUpstream::start().await;
    let mut document = config(json!({ "apis": ["accounts"] }));
    document["usage_plan"]["key"] = json!({ "header": "x-api-key", "query": "key" });
    let envoy = gateway(&upstream, document).start().await.unwrap();
    let client = envoy.http1();
    client.get("/accounts?a=1&key=acme-key").send().await;
    client.get("/payments?key=acme-key").send().await;
    client.get("/accounts?key=a-guess").send().await;

    let log = envoy.wait_for_access_log(3).await;
    let entry = |status: u16| log.iter().find(|entry| entry.status == status).unwrap();
    let admitted = entry(200);
    assert_eq!(admitted.consumer.as_deref(), Some("acme"));
    assert_eq!(admitted.plan.as_deref(), Some("gold"));
    assert_eq!(admitted.api.as_deref(), Some("accounts"));
    assert_eq!(admitted.decision.as_deref(), Some("allow"));
    assert_eq!(admitted.path.as_deref(), Some("/accounts?a=1"));
    let denied = entry(403);
    assert_eq!(denied.details.as_deref(), Some("tollgate{api-not-in-plan}"));
    assert_eq!(denied.decision.as_deref(), Some("deny"));
    assert_eq!(denied.reason.as_deref(), Some("api-not-in-plan"));
    assert_eq!(denied.path.as_deref(), Some("/payments"));
    assert_eq!(entry(401).path.as_deref(), Some("/accounts"));
    for entry in &log {
        assert!(
            entry.request_id.is_some() || entry.status != 200,
            "{entry:?}"
        );
    }

    let stats = envoy.stats().await;
    for (decision, reason, plan, api) in [
        ("allow", "_none", "gold", "accounts"),
        ("deny", "api-not-in-plan", "gold", "payments"),
        ("deny", "api-key-unknown", "_none", "accounts"),
    ] {
        let labels = [
            ("decision", decision),
            ("reason", reason),
            ("plan", plan),
            ("api", api),
        ];
        assert_eq!(
            stats.get("tollgate_requests_total", &labels),
            Some(1.0),
            "{labels:?}"
        );
    }
    let labels = [("consumer", "acme"), ("decision", "allow")];
    assert_eq!(
        stats.get("tollgate_consumer_requests_total", &labels),
        Some(1.0)
    );
    let everything = format!("{}{}{:?}", envoy.log(), envoy.stdout(), log);
    for secret in ["acme-key", "a-guess"] {
        assert!(!everything.contains(secret), "{secret} is in a log");
    }
}

#[tokio::test]
async fn forged_identity_reaches_no_upstream() {
    let upstream = EchoUpstream::start().await;
    let mut document = config(json!({}));
    document["usage_plan"]["anonymous"] = json!({ "plan": "gold" });
    let envoy = gateway(&upstream, document).start().await.unwrap();
    for (client, key) in [(envoy.http1(), None), (envoy.http2(), Some("acme-key"))] {
        let names = [
            "x-consumer-id",
            "X-Consumer-Plan",
            "x-consumer-groups",
            "x_consumer_id",
            "X-Consumer_Id",
        ];
        for path in ["/accounts", "/payments", "/elsewhere", "/"] {
            for method in [http::Method::GET, http::Method::OPTIONS, http::Method::POST] {
                let mut request = client.request(method, path);
                for name in names {
                    let name = name.to_ascii_lowercase();
                    request = request
                        .header(name.as_str(), "forged")
                        .header(name.as_str(), "again");
                }
                if let Some(key) = key {
                    request = request.header("x-api-key", key);
                }
                assert_eq!(request.send().await.status, 200);
            }
        }
    }
    for request in upstream.received() {
        for (name, value) in &request.headers {
            assert!(
                value != "forged" && value != "again",
                "{name} reached the upstream"
            );
        }
    }
    assert_eq!(upstream.count(), 24);
}

#[tokio::test]
async fn a_grpc_call_gets_status_and_message() {
    let upstream = EchoUpstream::start().await;
    let envoy = gateway(
        &upstream,
        config(json!({ "throttle": { "rate": "1/h", "burst": 1 } })),
    );
    let envoy = envoy
        .cluster(http2_cluster("grpc", upstream.address()))
        .route(json!({ "match": { "prefix": "/bank." }, "route": { "cluster": "grpc" } }))
        .start()
        .await
        .unwrap();
    let call = |key: &'static str| {
        envoy
            .http2()
            .grpc("/bank.Accounts/List", b"")
            .header("x-api-key", key)
            .send()
    };
    let reply = call("acme-key").await;
    assert_eq!(reply.grpc_status(), Some(0), "{reply:?}");
    for (key, status, message) in [
        ("guess", 16, "The API key is not known."),
        ("acme-key", 8, "Requests come faster than the plan allows."),
    ] {
        let reply = call(key).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.grpc_status(), Some(status));
        assert_eq!(reply.grpc_message().as_deref(), Some(message));
        assert!(
            reply
                .header("content-type")
                .unwrap()
                .starts_with("application/grpc")
        );
        assert!(reply.header("x-request-id").is_some());
    }
}

#[tokio::test]
async fn usage_plan_alone_works_and_names_the_request_as_others_do() {
    let upstream = EchoUpstream::start().await;
    let document = json!({ "usage_plan": config(json!({}))["usage_plan"] });
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(wasm_filter("usage-plan", plugin("usage-plan"), document))
        .start()
        .await
        .unwrap();
    let admitted = envoy
        .http1()
        .get("/any/..;/path%2f")
        .header("x-api-key", "acme-key")
        .send()
        .await;
    assert_eq!(admitted.echo().path, "/any/..;/path%2f");
    let refused = envoy
        .http1()
        .get("/")
        .header("x-request-id", "order 17")
        .send()
        .await;
    assert_eq!(refused.json()["instance"], json!(null));
    let refused = envoy
        .http1()
        .get("/")
        .header("x-request-id", "order-17")
        .send()
        .await;
    assert_eq!(refused.json()["instance"], "urn:x-request-id:order-17");
}

#[tokio::test]
async fn a_pepper_comes_from_the_environment() {
    let upstream = EchoUpstream::start().await;
    // HMAC-SHA-256 of the RFC 4231 test case 2.
    let digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let document = json!({ "usage_plan": {
        "key": { "pepper": { "env": "PEPPER" } },
        "plans": { "gold": {} },
        "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "hmac_sha256": digest }] }],
    }});
    let filter = WasmFilter::new("tollgate", plugin("tollgate")).configuration(document);
    let without = Envoy::builder()
        .upstream(&upstream)
        .filter(filter.clone())
        .start()
        .await;
    let log = without
        .err()
        .expect("a refused configuration")
        .log()
        .to_owned();
    assert!(log.contains("usage_plan.key.pepper.env"), "{log}");
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(filter.env("PEPPER", "Jefe"));
    let envoy = envoy.start().await.unwrap();
    let key = "what do ya want for nothing?";
    assert_eq!(
        envoy
            .http1()
            .get("/")
            .header("x-api-key", key)
            .send()
            .await
            .status,
        200
    );
    assert_eq!(
        envoy
            .http1()
            .get("/")
            .header("x-api-key", "Jefe")
            .send()
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn a_refused_request_is_logged_under_its_own_id_and_without_its_key() {
    let upstream = EchoUpstream::start().await;
    let mut document = config(json!({ "apis": ["accounts"] }));
    document["usage_plan"]["key"] = json!({ "query": "key", "cookie": "key" });
    let envoy = gateway(&upstream, document)
        .map_listener(|listener| listener.log_field("cookie", "%REQ(COOKIE)%"))
        .start()
        .await
        .unwrap();
    for (path, cookie) in [
        ("/payments?key=acme-key", "a=b"),
        ("/a%2Fb?key=acme-key", "a=b"),
        ("/payments", "a=b; key=acme-key"),
    ] {
        let client = envoy.http1();
        let request = client.get(path).header("x-request-id", "somebody-elses");
        let reply = request.header("cookie", cookie).send().await;
        assert!(reply.status == 400 || reply.status == 403, "{reply:?}");
        let id = reply.header("x-request-id").unwrap().to_owned();
        let logged = tollgate_tests::wait_for("the entry of the request", async || {
            let log = envoy.access_log();
            log.into_iter()
                .find(|entry| entry.request_id.as_deref() == Some(&id))
        })
        .await;
        assert_eq!(logged.extra["cookie"], "a=b");
    }
    let log = format!("{:?}{}", envoy.access_log(), envoy.log());
    assert!(
        !log.contains("acme-key") && !log.contains("somebody-elses"),
        "{log}"
    );
}

#[tokio::test]
async fn the_upstreams_limits_are_told_beside_ours() {
    let upstream = EchoUpstream::start().await;
    let envoy = gateway(&upstream, config(json!({ "throttle": "9/s" })))
        .start()
        .await
        .unwrap();
    let reply = envoy
        .http1()
        .get("/accounts")
        .header("x-api-key", "acme-key")
        .header("x-echo-status", "429")
        .header("x-echo-header", "ratelimit: \"upstream\";r=0;t=60")
        .header("x-echo-header", "ratelimit-policy: \"upstream\";q=1;w=60")
        .send()
        .await;
    assert_eq!(
        reply.header_values("ratelimit"),
        ["\"upstream\";r=0;t=60", "\"throttle\";r=8;t=1"]
    );
    assert_eq!(reply.header_values("ratelimit-policy").len(), 2);
}

#[tokio::test]
async fn a_shadow_plugin_changes_nothing_for_the_one_behind_it() {
    let upstream = EchoUpstream::start().await;
    let plan = json!({ "apis": ["accounts"], "quota": { "limit": 4, "period": "year" } });
    let enforcing = config(plan);
    let mut shadow = enforcing.clone();
    shadow["usage_plan"]["mode"] = json!("shadow");
    shadow.as_object_mut().unwrap().remove("request_id");
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .filter(wasm_filter("shadow", plugin("usage-plan"), shadow))
        .filter(wasm_filter("tollgate", plugin("tollgate"), enforcing))
        .start()
        .await
        .unwrap();
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let request = envoy
            .http1()
            .get("/accounts")
            .header("x-api-key", "acme-key");
        statuses.push(request.send().await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
}

#[tokio::test]
async fn identity_is_not_taken_from_trailers() {
    let upstream = EchoUpstream::start().await;
    let envoy = gateway(&upstream, config(json!({}))).start().await.unwrap();
    let mut client = envoy.raw().await;
    client
        .send(
            "POST /accounts HTTP/1.1\r\nhost: a\r\nx-api-key: acme-key\r\n\
             transfer-encoding: chunked\r\ntrailer: x-consumer-id\r\n\r\n\
             2\r\nhi\r\n0\r\nx-consumer-id: forged\r\n\r\n",
        )
        .await;
    assert_eq!(client.read_reply().await.status, 200);
    assert_eq!(upstream.received()[0].header("x-consumer-id"), Some("acme"));
}
