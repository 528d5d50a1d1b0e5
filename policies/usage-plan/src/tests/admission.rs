//! Who is let in: keys, consumers, entitlements, and what the upstream gets to see.

use proptest::prelude::*;
use tollgate_core::time::Timestamp;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn refused(reply: &Reply, status: u16, kind: &str) {
    assert_eq!(
        (reply.status, reply.kind().as_str()),
        (status, kind),
        "{reply:?}"
    );
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(reply.problem()["status"], status);
    assert_eq!(reply.header("www-authenticate").is_some(), status == 401);
    assert_eq!(reply.details, format!("tollgate{{{kind}}}"));
    assert!(reply.upstream.is_none());
}

#[test]
fn a_known_key_is_admitted_and_named_to_the_upstream() {
    let reply = call(&gateway(json!({})));
    let upstream = reply.upstream.unwrap();
    assert_eq!(upstream.header("x-consumer-id").as_deref(), Some("acme"));
    assert_eq!(upstream.header("x-consumer-plan").as_deref(), Some("gold"));
    assert_eq!(upstream.header("x-api-key"), None);
}

#[test]
fn without_a_key_the_answer_is_a_challenge() {
    let reply = gateway(json!({})).send(Request::get("/v1/accounts"));
    refused(&reply, 401, "credentials-missing");
    assert_eq!(
        reply.header("www-authenticate"),
        Some("ApiKey realm=\"api\"")
    );
}

#[test]
fn the_realm_is_quoted() {
    let config = config(json!({}), json!({ "key": { "realm": "a \"b\" \\c" } }));
    let reply = start(&config).send(Request::get("/"));
    assert_eq!(
        reply.header("www-authenticate"),
        Some(r#"ApiKey realm="a \"b\" \\c""#)
    );
}

#[test]
fn an_unknown_key_is_refused() {
    let gateway = gateway(json!({}));
    for key in [
        &b"acme-kez"[..],
        b"",
        b"acme-key ",
        b"\xff\xfe",
        &[b'k'; 60 * 1024],
    ] {
        let reply = gateway.send(Request::get("/v1/accounts").header("x-api-key", key));
        refused(&reply, 401, "api-key-unknown");
    }
}

#[test]
fn more_than_one_key_is_a_bad_request() {
    let config = config(
        json!({}),
        json!({ "key": { "header": "x-api-key", "query": "k" } }),
    );
    let gateway = start(&config);
    refused(
        &gateway.send(acme("/v1/accounts").header("x-api-key", "acme-key")),
        400,
        "api-key-repeated",
    );
    refused(
        &gateway.send(acme("/v1/accounts?k=acme-key")),
        400,
        "api-key-repeated",
    );
    let hundred = (0..100).fold(Request::get("/"), |request, _| {
        request.header("x-api-key", "k")
    });
    refused(&gateway.send(hundred), 400, "api-key-repeated");
}

#[test]
fn a_key_is_valid_between_two_instants() {
    let keys = json!([
        { "sha256": sha256("old"), "expires": "2026-11-20T12:00:10Z" },
        { "sha256": sha256("new"), "not_before": "2026-11-20T12:00:05Z" },
    ]);
    let config = config(
        json!({}),
        json!({ "consumers": [{ "id": "acme", "plan": "gold", "keys": keys }] }),
    );
    let gateway = start(&config);
    let send = |key: &str| gateway.send(Request::get("/v1/accounts").header("x-api-key", key));
    let at = |second: u64| {
        gateway
            .clock()
            .set(Timestamp::from_seconds(1_795_176_000 + second))
    };
    assert_eq!(send("old").status, 200);
    refused(&send("new"), 401, "api-key-not-yet-valid");
    at(5);
    assert_eq!((send("old").status, send("new").status), (200, 200));
    at(10);
    refused(&send("old"), 401, "api-key-expired");
    assert_eq!(send("new").status, 200);
}

#[test]
fn keys_may_be_peppered() {
    let mac = |key: &str| {
        use hmac::{Hmac, KeyInit, Mac};
        let mut hmac = Hmac::<Sha256>::new_from_slice(b"pepper").unwrap();
        hmac.update(key.as_bytes());
        hmac.finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let config = config(
        json!({}),
        json!({
            "key": { "pepper": { "env": "PEPPER" } },
            "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "hmac_sha256": mac("acme-key") }] }],
        }),
    );
    let host = || {
        let clock = tollgate_testkit::Clock::at(Timestamp::from_seconds(1));
        tollgate_testkit::Process::new(clock).worker()
    };
    let errors = Plugin::on(host(), &config).err().unwrap().to_string();
    assert!(
        errors.contains("usage_plan.key.pepper.env: no environment variable of this name is set"),
        "{errors}"
    );
    let host = host();
    host.environment
        .borrow_mut()
        .insert("PEPPER".to_owned(), "pepper".to_owned());
    let gateway = Plugin::on(host, &config).unwrap();
    assert_eq!(call(&gateway).status, 200);
    assert_eq!(
        gateway
            .send(Request::get("/").header("x-api-key", "x"))
            .status,
        401
    );
}

#[test]
fn a_plan_opens_its_apis_only() {
    let gateway = gateway(json!({ "apis": ["accounts-v1"] }));
    assert_eq!(call(&gateway).status, 200);
    for path in ["/v1/payments/1", "/elsewhere", "/", "/v1/accountsx"] {
        refused(&gateway.send(acme(path)), 403, "api-not-in-plan");
    }
}

#[test]
fn a_path_in_disguise_is_judged_by_what_it_means() {
    let gateway = gateway(json!({ "apis": ["accounts-v1"] }));
    for path in [
        "/v1/accounts/../payments",
        "/v1//payments/1",
        "/v1/%70ayments/1",
        "/v1/./payments",
    ] {
        refused(&gateway.send(acme(path)), 403, "api-not-in-plan");
    }
    for path in [
        "/v1/accounts/..%2fpayments",
        "/v1/accounts/..;/payments",
        "/v1/accounts\\..\\payments",
    ] {
        refused(&gateway.send(acme(path)), 400, "request-ambiguous");
    }
    let reply = gateway.send(acme("/v1/payments/../accounts/1?q=%20"));
    assert_eq!(
        reply.upstream.unwrap().header(":path").as_deref(),
        Some("/v1/accounts/1?q=%20")
    );
}

#[test]
fn without_rules_about_paths_they_are_left_alone() {
    // APIs alone are labels in metrics, not rules.
    for path in ["/a/..;/%2f//b", "/v1/accounts/..%2fpayments", "/%zz"] {
        let reply = gateway(json!({})).send(acme(path));
        assert_eq!(
            reply.upstream.unwrap().header(":path").as_deref(),
            Some(path)
        );
    }
}

#[test]
fn anonymous_callers_have_a_plan_or_need_a_key() {
    let anonymous = json!({
        "plans": {
            "free": { "apis": ["status"], "throttle": { "rate": "1/s", "burst": 2 } },
            "gold": {},
        },
        "anonymous": { "plan": "free" },
    });
    let gateway = start(&config(json!({}), anonymous));
    let reply = gateway.send(Request::get("/status").header("x-consumer-id", "acme"));
    let upstream = reply.upstream.unwrap();
    assert_eq!(upstream.all("x-consumer-id"), Vec::<String>::new());
    assert_eq!(upstream.header("x-consumer-plan").as_deref(), Some("free"));
    refused(
        &gateway.send(Request::get("/v1/accounts")),
        401,
        "credentials-missing",
    );
    refused(
        &gateway.send(Request::get("/status").header("x-api-key", "x")),
        401,
        "api-key-unknown",
    );
    assert_eq!(gateway.send(acme("/v1/accounts")).status, 200);
    assert_eq!(gateway.send(Request::get("/status")).status, 200);
    refused(&gateway.send(Request::get("/status")), 429, "throttled");
}

#[test]
fn identity_headers_of_the_client_never_reach_the_upstream() {
    let gateway = gateway(json!({}));
    let names = [
        "x-consumer-id",
        "X-Consumer-Plan",
        "x_consumer_id",
        "x-consumer_groups",
        "X-CONSUMER-",
        "x-consumer-x",
        "x.consumer.id",
        "x!consumer~id",
    ];
    let request = names.iter().fold(acme("/elsewhere"), |request, name| {
        request
            .header(&name.to_lowercase(), "forged")
            .header(&name.to_lowercase(), "again")
    });
    let upstream = gateway
        .send(request.header("x-consumed", "fine"))
        .upstream
        .unwrap();
    let values: Vec<String> = upstream
        .0
        .iter()
        .map(|(_, v)| String::from_utf8_lossy(v).into())
        .collect();
    assert!(!values.contains(&"forged".to_owned()) && !values.contains(&"again".to_owned()));
    assert_eq!(upstream.header("x-consumer-id").as_deref(), Some("acme"));
    assert_eq!(upstream.header("x-consumed").as_deref(), Some("fine"));
}

#[test]
fn the_key_is_taken_out_wherever_it_was() {
    let config = config(
        json!({ "apis": ["accounts-v1"] }),
        json!({ "key": { "header": "x-api-key", "query": "api_key", "cookie": "key" } }),
    );
    let gateway = start(&config);
    let reply = gateway.send(Request::get("/v1/accounts?a=1&api%5Fkey=acme-key&b"));
    assert_eq!(
        reply.upstream.unwrap().header(":path").as_deref(),
        Some("/v1/accounts?a=1&b")
    );
    let cookie = Request::get("/v1/accounts").header("cookie", "a=b; key=acme-key; c=d");
    assert_eq!(
        gateway
            .send(cookie)
            .upstream
            .unwrap()
            .header("cookie")
            .as_deref(),
        Some("a=b; c=d")
    );
    let only = Request::get("/v1/accounts").header("cookie", "key=acme-key");
    assert_eq!(gateway.send(only).upstream.unwrap().header("cookie"), None);
    // A request that is refused is logged too.
    let reply = gateway.send(Request::get("/v1/payments?api_key=acme-key"));
    assert_eq!(
        reply.logged.header(":path").as_deref(),
        Some("/v1/payments")
    );
    let reply = gateway.send(Request::get("/v1/payments?api_key=a&api_key=b&c"));
    assert_eq!(
        reply.logged.header(":path").as_deref(),
        Some("/v1/payments?c")
    );
    let reply = gateway.send(Request::get("/v1/a%2Fb?api_key=acme-key"));
    refused(&reply, 400, "request-ambiguous");
    assert_eq!(reply.logged.header(":path").as_deref(), Some("/v1/a%2Fb"));
    let reply = gateway.send(acme("/v1/payments").header("cookie", "a=b"));
    assert_eq!(reply.logged.header("x-api-key"), None);
}

#[test]
fn the_key_may_be_left_for_the_upstream() {
    let config = config(
        json!({}),
        json!({ "key": { "header": "x-api-key", "query": "k", "strip": false } }),
    );
    let gateway = start(&config);
    let upstream = gateway.send(acme("/")).upstream.unwrap();
    assert_eq!(upstream.header("x-api-key").as_deref(), Some("acme-key"));
    let upstream = gateway.send(Request::get("/?k=acme-key")).upstream.unwrap();
    assert_eq!(upstream.header(":path").as_deref(), Some("/?k=acme-key"));
}

#[test]
fn in_shadow_mode_nothing_is_refused_and_everything_counted() {
    let plan = json!({
        "apis": ["accounts-v1"],
        "throttle": { "rate": "1/s", "burst": 1, "methods": { "GET /v1/accounts/**": "9/s" } },
    });
    let gateway = start(&config(plan, json!({ "mode": "shadow" })));
    let requests = [
        (Request::get("/v1/accounts"), "credentials-missing"),
        (
            Request::get("/v1/accounts").header("x-api-key", "x"),
            "api-key-unknown",
        ),
        (
            acme("/v1/accounts").header("x-api-key", "x"),
            "api-key-repeated",
        ),
        (
            acme("/v1/payments").header("x-consumer-id", "forged"),
            "api-not-in-plan",
        ),
        (acme("/v1/a%2Fb"), "request-ambiguous"),
        (acme("/v1/accounts/..;/x"), "request-ambiguous"),
        (acme("/v1/accounts"), "_none"),
        (acme("/v1//accounts"), "throttled"),
    ];
    for (request, reason) in requests {
        let (path, keys) = (
            request.header_values(":path"),
            request.header_values("x-api-key"),
        );
        let reply = gateway.send(request);
        assert_eq!(reply.status, 200, "{reply:?}");
        // Nothing is changed for whoever decides behind it, and no limits are told that don't hold.
        let upstream = reply.upstream.as_ref().unwrap();
        assert_eq!(
            (upstream.all(":path"), upstream.all("x-api-key")),
            (path, keys)
        );
        assert_eq!(reply.header("ratelimit"), None);
        // But nobody's identity can be forged meanwhile.
        assert_ne!(upstream.header("x-consumer-id").as_deref(), Some("forged"));
        let state = gateway.host.filter_state.borrow();
        let expected = if reason == "_none" {
            "allow"
        } else {
            "would_deny"
        };
        assert_eq!(state["tollgate_decision"], expected);
        let found = state.get("tollgate_reason").map_or("_none", String::as_str);
        assert_eq!(found, reason);
    }
}

#[test]
fn another_policy_in_shadow_mode_takes_nothing_away() {
    // Would-be refusals of one policy must not keep another from counting what is real.
    let plan = json!({ "quota": { "limit": 3, "period": "day" } });
    let config = json!({
        "usage_plan": config(plan, json!({}))["usage_plan"],
        "refuse_all": {},
    });
    let gateway = Gateway::<
        tollgate_core::chain!(RefuseAllInShadow, UsagePlan, tollgate_access::Access),
    >::start(&config);
    let gateway = gateway.unwrap_or_else(|errors| panic!("{errors}"));
    let statuses = [(); 5].map(|()| gateway.send(acme("/v1/accounts")).status);
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
}

/// A policy in shadow mode that would refuse every request.
struct RefuseAllInShadow;

#[derive(deserr::Deserr)]
#[deserr(error = tollgate_core::config::ConfigErrors)]
struct RefuseAllConfig {}

impl Policy for RefuseAllInShadow {
    const SECTION: &'static str = "refuse_all";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;
    type Section = RefuseAllConfig;
    type Stream = ();

    fn compile(RefuseAllConfig {}: RefuseAllConfig, _: &mut Compile<'_>) -> Result<Self, Rejected> {
        Ok(RefuseAllInShadow)
    }

    fn step<H: Host>(&self, step: Step, (): &mut (), x: &mut Exchange<'_, H>) -> StepResult {
        match step {
            Step::Shield => Mode::Shadow.refuse(Problem::new(&API_KEY_UNKNOWN, "No."), x),
            _ => Ok(()),
        }
    }
}

#[test]
fn shadow_mode_charges_what_enforcing_would_and_nobody_else() {
    let plan = json!({ "apis": ["accounts-v1"], "quota": { "limit": 2, "period": "day" } });
    let enforcing = start(&config(plan.clone(), json!({})));
    let shadow = config(plan, json!({ "mode": "shadow" }));
    let shadow = Plugin::on(enforcing.host.process.worker(), &shadow).unwrap();
    for _ in 0..3 {
        shadow.send(acme("/v1/payments"));
    }
    let decisions = (0..3).map(|_| {
        call(&shadow);
        shadow.host.filter_state.borrow()["tollgate_decision"].clone()
    });
    assert_eq!(
        decisions.collect::<Vec<_>>(),
        ["allow", "allow", "would_deny"]
    );
    assert_eq!(statuses(&enforcing, 3), [200, 200, 429]);
}

#[test]
fn a_refused_request_is_logged_as_an_admitted_one() {
    let gateway = gateway(json!({ "apis": ["accounts-v1"] }));
    let reply = gateway.send(acme("/v1//payments"));
    assert_eq!(reply.status, 403);
    assert_eq!(
        reply.logged.header(":path").as_deref(),
        Some("/v1/payments")
    );
}

#[test]
fn identity_is_not_taken_from_trailers() {
    let gateway = gateway(json!({}));
    let trailers = [
        ("grpc-status", "0"),
        ("x-consumer-id", "a"),
        ("x_consumer.plan", "b"),
        ("x-consumed", "c"),
    ];
    assert_eq!(
        gateway.send_trailers(&trailers),
        ["grpc-status", "x-consumed"]
    );
}

#[test]
fn decisions_reach_metrics_and_access_logs() {
    let gateway = gateway(json!({ "apis": ["accounts-v1"] }));
    call(&gateway);
    call(&gateway);
    {
        let state = gateway.host.filter_state.borrow();
        let state: Vec<(&str, &str)> = state
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            state,
            [
                ("tollgate_api", "accounts-v1"),
                ("tollgate_consumer", "acme"),
                ("tollgate_decision", "allow"),
                ("tollgate_plan", "gold"),
            ]
        );
    }
    gateway.send(Request::get("/v1/payments"));
    assert_eq!(
        gateway.host.filter_state.borrow()["tollgate_reason"],
        "credentials-missing"
    );
    let counters = gateway.host.process.counters();
    for (name, value) in [
        (
            "decision=.=allow;.;reason=.=_none;.;plan=.=gold;.;api=.=accounts-v1;.;tollgate_requests_total",
            2,
        ),
        (
            "decision=.=deny;.;reason=.=credentials-missing;.;plan=.=_none;.;api=.=payments-v1;.;tollgate_requests_total",
            1,
        ),
        (
            "consumer=.=acme;.;decision=.=allow;.;tollgate_consumer_requests_total",
            2,
        ),
    ] {
        assert_eq!(counters.get(name), Some(&value), "{name} in {counters:?}");
    }
}

#[test]
fn consumers_beyond_the_cap_share_a_counter() {
    let consumers: Vec<Value> = (0..5)
        .map(|i| json!({ "id": format!("c{i}"), "plan": "gold", "keys": [key(&format!("k{i}"))] }))
        .collect();
    let mut config = config(json!({}), json!({ "consumers": consumers }));
    config["telemetry"] = json!({ "consumers": 2, "filter_state": false });
    let gateway = start(&config);
    for i in 0..5 {
        gateway.send(Request::get("/").header("x-api-key", format!("k{i}")));
    }
    let counters = gateway.host.process.counters();
    let of = |id: &str| {
        counters.get(&format!(
            "consumer=.={id};.;decision=.=allow;.;tollgate_consumer_requests_total"
        ))
    };
    assert_eq!(
        (of("c0"), of("c1"), of("c2"), of("_other")),
        (Some(&1), Some(&1), None, Some(&3))
    );
    assert!(gateway.host.filter_state.borrow().is_empty());
}

#[test]
fn a_grpc_call_is_told_in_its_own_terms() {
    let gateway = gateway(json!({}));
    let request = Request::new("POST", "/bank.Accounts/List")
        .header("content-type", "application/grpc+proto");
    let reply = gateway.send(request);
    assert_eq!(reply.status, 401);
    assert_eq!(reply.body, b"This API needs an API key, and none was sent.");
    assert_eq!(reply.header("content-type"), None);
}

proptest! {
    #[test]
    fn whatever_arrives_only_what_the_plan_includes_reaches_the_upstream(
        headers in proptest::collection::vec(("(x-api-key|cookie|x-consumer-id|x_consumer.id|a)", proptest::collection::vec(any::<u8>(), 0..30)), 0..4),
        path in "(/v1/accounts|/v1/payments|)/\\PC{0,20}|(/\\.{0,3}|/v1|/%2[ef]|/accounts|/payments|;){0,6}(\\?\\PC{0,10})?",
        method in "GET|POST|[A-Za-z]{0,7}",
        known: bool,
    ) {
        let config = config(
            json!({ "apis": ["accounts-v1"], "throttle": { "rate": "9/s", "methods": { "GET /v1/**": "5/s" } } }),
            json!({ "key": { "header": "x-api-key", "query": "api_key", "cookie": "key" } }),
        );
        let request = headers.iter().fold(Request::new(&method, &path), |request, (name, value)| request.header(name, value));
        let request = if known { request.header("x-api-key", "acme-key") } else { request };
        let reply = start(&config).send(request);
        prop_assert!(known || reply.status >= 400);
        if let Some(upstream) = reply.upstream {
            let path = upstream.header(":path").unwrap();
            let path = path.split('?').next().unwrap();
            prop_assert!(path == "/v1/accounts" || path.starts_with("/v1/accounts/"), "{}", path);
            // `..&` is a name as any other.
            prop_assert!(path.split('/').all(|segment| segment != ".."), "{}", path);
            prop_assert!(!path.contains("//"), "{}", path);
            prop_assert_eq!(upstream.all("x-api-key"), Vec::<String>::new());
            prop_assert_eq!(upstream.all("x_consumer.id"), Vec::<String>::new());
            prop_assert_eq!(upstream.header("x-consumer-id"), Some("acme".to_owned()));
        }
    }
}
