//! Who passes under which rule, and what the others are told.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// Sends all of `cases` under one rule about everything, and compares what comes of them.
fn check(rule: Value, cases: &[(Sent<'_>, u16, &str)]) {
    let plugin = start(&config(json!([rule])));
    for (index, (sent, status, kind)) in cases.iter().enumerate() {
        let reply = send(&plugin, "/accounts/1", *sent);
        assert_eq!(
            outcome(&reply),
            (*status, (*kind).to_owned()),
            "case {index} of {rule}"
        );
    }
}

fn token(token: &str) -> Sent<'_> {
    Sent {
        token: Some(token),
        key: None,
    }
}

fn with_key<'a>(sent: Sent<'a>, key: &'a str) -> Sent<'a> {
    Sent {
        key: Some(key),
        ..sent
    }
}

const ADMIN: &str = r#"{"client_id":"acme","scope":"admin"}"#;

#[test]
fn one_credential() {
    check(
        json!({ "require": "jwt" }),
        &[
            (TOKEN, 200, ""),
            (BOTH, 200, ""),
            (NOTHING, 401, "credentials-missing"),
            (KEY, 401, "credentials-missing"),
            (token("expired"), 401, "token-expired"),
            (token("malformed"), 400, "token-malformed"),
            (token("unchecked"), 503, "issuer-unavailable"),
            // What is not asked for is not looked at.
            (with_key(TOKEN, "unknown"), 200, ""),
        ],
    );
}

#[test]
fn all_of_several() {
    check(
        json!({ "require": { "all_of": ["jwt", "api_key"] } }),
        &[
            (BOTH, 200, ""),
            (NOTHING, 401, "credentials-missing"),
            (TOKEN, 401, "credentials-missing"),
            (KEY, 401, "credentials-missing"),
            (with_key(TOKEN, "unknown"), 401, "api-key-unknown"),
            (with_key(token("expired"), "acme"), 401, "token-expired"),
            (token("malformed"), 400, "token-malformed"),
            // That the key is wrong is certain, and waiting would not mend it.
            (
                with_key(token("unchecked"), "unknown"),
                401,
                "api-key-unknown",
            ),
            (
                with_key(token("unchecked"), "acme"),
                503,
                "issuer-unavailable",
            ),
            (with_key(TOKEN, "globex"), 403, "client-mismatch"),
        ],
    );
    check(
        json!({ "require": { "all_of": ["jwt", "api_key"] }, "same_client": false }),
        &[(with_key(TOKEN, "globex"), 200, "")],
    );
}

#[test]
fn any_of_several() {
    check(
        json!({ "require": { "any_of": ["jwt", "api_key"] } }),
        &[
            (TOKEN, 200, ""),
            (KEY, 200, ""),
            (with_key(TOKEN, "globex"), 200, ""),
            (NOTHING, 401, "credentials-missing"),
            (token("expired"), 401, "token-expired"),
            // One good credential is enough, and an issuer that is down harms nobody who has
            // another.
            (with_key(token("expired"), "acme"), 200, ""),
            (with_key(token("unchecked"), "acme"), 200, ""),
            (with_key(TOKEN, "unknown"), 200, ""),
            // The token may be good.
            (
                with_key(token("unchecked"), "unknown"),
                503,
                "issuer-unavailable",
            ),
        ],
    );
}

#[test]
fn a_token_that_was_found_opens_nothing_with_another_clients_key() {
    let scoped = |scope: &str| json!({ "jwt": { "scopes": scope } });
    check(
        json!({ "require": { "any_of": [
            { "all_of": [scoped("read"), "api_key"] },
            scoped("admin"),
        ] } }),
        &[
            (BOTH, 200, ""),
            (with_key(TOKEN, "globex"), 403, "client-mismatch"),
            (with_key(token(ADMIN), "globex"), 200, ""),
        ],
    );
    // Nor where the token is one of several things that may stand beside the key.
    let beside = json!({ "all_of": [{ "any_of": ["jwt", "mtls"] }, "api_key"] });
    check(
        json!({ "require": beside }),
        &[
            (BOTH, 200, ""),
            (with_key(TOKEN, "globex"), 403, "client-mismatch"),
        ],
    );
    check(
        json!({ "require": beside, "same_client": false }),
        &[(with_key(TOKEN, "globex"), 200, "")],
    );
    // The certificate is enough, and the token is not needed then.
    let plugin = start(&config(json!([{ "require": beside }])));
    plugin
        .host
        .peer_certificate
        .replace(Some(PeerCertificate::default()));
    assert_eq!(send(&plugin, "/", with_key(TOKEN, "globex")).status, 200);
    // Nor does it matter what else the rule names.
    let other = json!({ "require": { "any_of": [scoped("admin"), beside] } });
    let plugin = start(&config(json!([other])));
    let found = with_key(TOKEN, "globex");
    assert_eq!(send(&plugin, "/", found).status, 403);
    plugin
        .host
        .peer_certificate
        .replace(Some(PeerCertificate::default()));
    assert_eq!(send(&plugin, "/", found).status, 200);
    // The key is not needed, so that of another client does no harm.
    check(
        json!({ "require": { "all_of": ["jwt", { "any_of": ["api_key", "jwt"] }] } }),
        &[(with_key(TOKEN, "globex"), 200, "")],
    );
}

#[test]
fn nobody_with_a_bad_credential_passes_as_anonymous() {
    check(
        json!({ "require": { "any_of": ["jwt", "anonymous"] } }),
        &[
            (NOTHING, 200, ""),
            (TOKEN, 200, ""),
            (token("expired"), 401, "token-expired"),
            (token("malformed"), 400, "token-malformed"),
            (token("unchecked"), 503, "issuer-unavailable"),
            (KEY, 200, ""),
        ],
    );
    check(
        json!({ "require": "anonymous" }),
        &[(NOTHING, 200, ""), (token("expired"), 200, "")],
    );
}

#[test]
fn requirements_may_be_nested() {
    check(
        json!({ "require": { "any_of": ["api_key", { "all_of": ["jwt", "mtls"] }] } }),
        &[
            (KEY, 200, ""),
            (TOKEN, 401, "credentials-missing"),
            (NOTHING, 401, "credentials-missing"),
        ],
    );
}

#[test]
fn a_certificate_that_is_missing_beside_a_good_token_is_named() {
    check(
        json!({ "require": { "all_of": ["jwt", "mtls"] } }),
        &[
            (TOKEN, 403, "client-certificate-missing"),
            (NOTHING, 401, "credentials-missing"),
        ],
    );
}

#[test]
fn without_a_rule_everything_is_needed() {
    for document in [
        json!({ "apis": apis(), "jwt_authz": {}, "usage_plan": {} }),
        config(json!([{ "apis": ["status"], "require": "anonymous" }])),
    ] {
        let plugin = start(&document);
        for (sent, status) in [(BOTH, 200), (TOKEN, 401), (KEY, 401), (NOTHING, 401)] {
            assert_eq!(send(&plugin, "/accounts/1", sent).status, status);
            assert_eq!(send(&plugin, "/elsewhere", sent).status, status);
        }
    }
    let plugin = start(&config(
        json!([{ "apis": ["status"], "require": "anonymous" }]),
    ));
    assert_eq!(send(&plugin, "/status", NOTHING).status, 200);
}

#[test]
fn a_plan_for_callers_without_a_key_excuses_them() {
    let plugin = start(&json!({ "usage_plan": { "admits_anonymous": true } }));
    assert_eq!(send(&plugin, "/", NOTHING).status, 200);
    assert_eq!(send(&plugin, "/", KEY).status, 200);
    let bad = with_key(NOTHING, "unknown");
    assert_eq!(send(&plugin, "/", bad).status, 401);
    // A rule that asks for a key means it.
    let plugin = start(&json!({
        "usage_plan": { "admits_anonymous": true },
        "access": [{ "require": "api_key" }],
    }));
    assert_eq!(send(&plugin, "/", NOTHING).status, 401);
}

#[test]
fn the_first_rule_that_fits_applies() {
    let plugin = start(&config(json!([
        { "apis": ["accounts"], "methods": ["GET", "HEAD"], "require": "api_key" },
        { "apis": ["accounts"], "require": "jwt" },
        { "require": "anonymous" },
    ])));
    assert_eq!(send(&plugin, "/accounts/1", KEY).status, 200);
    assert_eq!(send(&plugin, "/accounts/1", TOKEN).status, 401);
    let post = |sent: &str| {
        let request = Request::new("POST", "/accounts/1").header(sent, "{\"client_id\":\"a\"}");
        plugin.send(request).status
    };
    assert_eq!((post("token"), post("key")), (200, 401));
    // HEAD is GET without the body.
    let head = plugin.send(Request::new("HEAD", "/accounts/1").header("key", "acme"));
    assert_eq!(head.status, 200);
    // A method in lower case is another one to us, and the same to some servers.
    let get = plugin.send(Request::new("get", "/accounts/1").header("key", "acme"));
    assert_eq!(outcome(&get), (400, "request-ambiguous".to_owned()));
    assert_eq!(send(&plugin, "/elsewhere", NOTHING).status, 200);
}

#[test]
fn scopes_and_claims_are_asked_of_the_token() {
    check(
        json!({ "require": "jwt", "scopes": ["read", "write"] }),
        &[
            (
                token(r#"{"client_id":"a","scope":"write read x"}"#),
                200,
                "",
            ),
            (
                token(r#"{"client_id":"a","scp":["read","write"]}"#),
                200,
                "",
            ),
            (
                token(r#"{"client_id":"a","scope":"read"}"#),
                403,
                "scope-insufficient",
            ),
            (
                token(r#"{"client_id":"a","scope":"readwrite"}"#),
                403,
                "scope-insufficient",
            ),
            (token(r#"{"client_id":"a"}"#), 403, "scope-insufficient"),
        ],
    );
    check(
        json!({
            "require": { "any_of": [{ "jwt": { "scopes": { "any_of": ["a", "b"] } } }, "api_key"] },
        }),
        &[
            (token(r#"{"client_id":"a","scope":"b"}"#), 200, ""),
            (TOKEN, 403, "scope-insufficient"),
            (BOTH, 200, ""),
            (NOTHING, 401, "credentials-missing"),
        ],
    );
    check(
        json!({
            "require": "jwt",
            "claims": [
                { "claim": "acr", "one_of": ["gold", "silver"] },
                { "claim": ["realm_access", "roles"], "contains": "teller" },
            ],
        }),
        &[
            (
                token(r#"{"client_id":"a","acr":"gold","realm_access":{"roles":["x","teller"]}}"#),
                200,
                "",
            ),
            (
                token(r#"{"client_id":"a","acr":"tin","realm_access":{"roles":["teller"]}}"#),
                403,
                "claims-insufficient",
            ),
            (
                token(r#"{"client_id":"a","acr":"gold"}"#),
                403,
                "claims-insufficient",
            ),
        ],
    );
}

#[test]
fn challenges_follow_rfc_6750() {
    let plugin = start(&config(json!([
        { "apis": ["status"], "require": { "all_of": ["jwt", "api_key"] } },
        { "require": "jwt", "scopes": ["read", "write"] },
    ])));
    // Nothing was sent: no error is named.
    let reply = send(&plugin, "/accounts/1", NOTHING);
    assert_eq!(challenges(&reply), ["Bearer realm=\"api\""]);
    let detail = &reply.problem()["detail"];
    assert_eq!(detail, "This API needs a bearer token, and none was sent.");
    let reply = send(&plugin, "/accounts/1", TOKEN);
    assert_eq!(
        challenges(&reply),
        [
            "Bearer realm=\"api\", error=\"insufficient_scope\", error_description=\"The token lacks \
          a scope that this API needs\", scope=\"read write\""
        ]
    );
    // One challenge for each scheme.
    let reply = send(&plugin, "/status", NOTHING);
    let both = ["Bearer realm=\"api\"", "ApiKey realm=\"api\""];
    assert_eq!(challenges(&reply), both);
    let reply = send(&plugin, "/status", token("expired"));
    assert_eq!(
        challenges(&reply),
        [
            "Bearer realm=\"api\", error=\"invalid_token\"",
            "ApiKey realm=\"api\""
        ]
    );
    let reply = send(&plugin, "/status", with_key(TOKEN, "unknown"));
    assert_eq!(
        challenges(&reply),
        ["ApiKey realm=\"api\"", "Bearer realm=\"api\""]
    );
}

#[test]
fn certificates_are_told_apart_by_their_names() {
    let plugin = start(&config(json!([
        {
            "apis": ["accounts"],
            "require": { "mtls": { "uris": ["spiffe://bank.example/pay/*"], "dns_names": ["*.bank.example"] } },
        },
        { "require": "mtls" },
    ])));
    let show = |uri: Option<&str>, dns: Option<&str>| {
        plugin.host.peer_certificate.replace(Some(PeerCertificate {
            uri_san: uri.map(str::to_owned),
            dns_san: dns.map(str::to_owned),
        }));
        outcome(&send(&plugin, "/accounts/1", NOTHING))
    };
    let passes = (200, String::new());
    let refused = (403, "client-certificate-not-allowed".to_owned());
    assert_eq!(show(Some("spiffe://bank.example/pay/api"), None), passes);
    assert_eq!(show(None, Some("a.bank.example")), passes);
    assert_eq!(show(Some("spiffe://bank.example/ops/api"), None), refused);
    assert_eq!(show(None, None), refused);
    assert_eq!(send(&plugin, "/elsewhere", NOTHING).status, 200);
    plugin.host.peer_certificate.replace(None);
    let reply = send(&plugin, "/accounts/1", NOTHING);
    assert_eq!(
        outcome(&reply),
        (403, "client-certificate-missing".to_owned())
    );
    // There is no challenge that would ask for one.
    assert_eq!(challenges(&reply), [""; 0]);
}

#[test]
fn preflights_pass_where_a_rule_lets_them() {
    let plugin = start(&config(json!([
        { "apis": ["accounts"], "require": "jwt", "allow_preflight": true },
        { "require": "jwt" },
    ])));
    let preflight = |path: &str| {
        Request::new("OPTIONS", path)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "PUT")
    };
    assert_eq!(plugin.send(preflight("/accounts/1")).status, 200);
    assert_eq!(plugin.send(preflight("/elsewhere")).status, 401);
    for lacking in ["origin", "access-control-request-method"] {
        let request = preflight("/accounts/1").without(lacking);
        assert_eq!(plugin.send(request).status, 401, "without {lacking}");
    }
    let get = Request::get("/accounts/1")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "PUT");
    assert_eq!(plugin.send(get).status, 401);
}

#[test]
fn a_rule_about_methods_lets_the_preflights_pass_that_ask_for_them() {
    let plugin = start(&config(json!([
        { "apis": ["accounts"], "methods": ["PUT", "GET"], "require": "jwt", "allow_preflight": true },
        { "apis": ["accounts"], "methods": ["DELETE"], "require": "jwt" },
        { "require": "jwt" },
    ])));
    let preflight = |method: &str| {
        let request = Request::new("OPTIONS", "/accounts/1");
        let request = request.header("origin", "https://app.example");
        plugin.send(request.header("access-control-request-method", method))
    };
    for (method, status) in [
        ("PUT", 200),
        ("GET", 200),
        ("HEAD", 200),
        ("DELETE", 401),
        ("OPTIONS", 401),
        ("put", 401),
        ("", 401),
    ] {
        assert_eq!(preflight(method).status, status, "{method}");
    }
    assert_eq!(
        plugin.send(Request::new("OPTIONS", "/accounts/1")).status,
        401
    );
}

#[test]
fn a_policy_or_a_rule_can_be_tried_out() {
    let decision = |plugin: &Plugin| {
        let state = plugin.host.filter_state.borrow();
        let get = |name: &str| state.get(name).cloned().unwrap_or_default();
        (get("tollgate_decision"), get("tollgate_reason"))
    };
    let told = |decision: &str, reason: &str| (decision.to_owned(), reason.to_owned());
    let plugin = start(&json!({
        "apis": apis(), "jwt_authz": { "mode": "shadow" }, "usage_plan": {},
        "access": [{ "require": { "all_of": ["jwt", "api_key"] } }],
    }));
    for (sent, reason) in [
        (KEY, "credentials-missing"),
        (with_key(token("expired"), "acme"), "token-expired"),
    ] {
        assert_eq!(send(&plugin, "/", sent).status, 200);
        assert_eq!(decision(&plugin), told("would_deny", reason));
    }
    // The key is needed all the same.
    let reply = send(&plugin, "/", with_key(token("expired"), "unknown"));
    assert_eq!(outcome(&reply), (401, "api-key-unknown".to_owned()));
    assert_eq!(send(&plugin, "/", BOTH).status, 200);
    assert_eq!(decision(&plugin), told("allow", ""));

    let plugin = start(&config(json!([{ "require": "jwt", "mode": "shadow" }])));
    assert_eq!(send(&plugin, "/", NOTHING).status, 200);
    assert_eq!(decision(&plugin), told("would_deny", "credentials-missing"));
}

#[test]
fn what_is_tried_out_opens_nothing() {
    let plugin = start(&json!({
        "apis": apis(), "jwt_authz": { "mode": "shadow" }, "usage_plan": {},
        "access": [{ "require": { "any_of": ["jwt", "api_key"] } }],
    }));
    for (sent, status) in [
        (KEY, 200),
        (BOTH, 200),
        (NOTHING, 401),
        (TOKEN, 401),
        (token("expired"), 401),
        (with_key(TOKEN, "unknown"), 401),
        // A bad token does not count either.
        (with_key(token("expired"), "acme"), 200),
    ] {
        assert_eq!(send(&plugin, "/", sent).status, status, "{:?}", sent.token);
    }
    let plugin = start(&json!({
        "jwt_authz": { "mode": "shadow" },
        "access": [{ "require": { "any_of": ["jwt", "anonymous"] } }],
    }));
    assert_eq!(send(&plugin, "/", token("expired")).status, 200);
}
