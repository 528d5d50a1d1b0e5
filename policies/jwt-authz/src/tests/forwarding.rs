//! What the upstream learns of a token, and that it learns it from nobody else.

use tollgate_testkit::Seen;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn forwarding() -> Value {
    let issuer = json!({ "claims_to_headers": [
        { "claim": "sub", "header": "X-Subject" },
        { "claim": ["realm_access", "roles"], "header": "x-roles" },
        { "claim": "https://bank.example/groups", "header": "x-groups", "separator": "|" },
        { "claim": "address", "header": "x-address", "format": "json" },
        { "claim": "level", "header": "x-level" },
    ] });
    with(
        config(json!({ "payload_header": "x-jwt-payload" }), issuer),
        json!({
            "apis": [
                { "name": "status", "match": [{ "path": "/status" }] },
                { "name": "accounts", "match": [{ "path": "/accounts/**" }] },
            ],
            "access": [
                { "apis": ["status"], "require": "anonymous" },
                { "apis": ["accounts"], "require": "jwt", "scopes": "read", "allow_preflight": true },
                { "require": { "any_of": ["jwt", "anonymous"] } },
            ],
        }),
    )
}

fn upstream(plugin: &Plugin, request: Request) -> Seen {
    let reply = plugin.send(request);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.upstream.unwrap()
}

#[test]
fn claims_become_headers() {
    let plugin = start(&forwarding());
    let token = token(json!({
        "realm_access": { "roles": ["teller", "auditor"] },
        "https://bank.example/groups": ["a,b", "c"],
        "address": { "city": "Zürich" },
        "level": 3.0,
    }));
    // Twice: from the token, and from what is remembered of it.
    for _ in 0..2 {
        let upstream = upstream(&plugin, bearer("/", &token));
        for (name, value) in [
            ("x-subject", "alice"),
            ("x-roles", "teller,auditor"),
            ("x-groups", "a,b|c"),
            ("x-address", r#"{"city":"Z\u00fcrich"}"#),
            ("x-level", "3"),
        ] {
            assert_eq!(upstream.header(name).as_deref(), Some(value), "{name}");
        }
        let payload = token.split('.').nth(1);
        assert_eq!(upstream.header("x-jwt-payload").as_deref(), payload);
        assert_eq!(upstream.header("authorization"), None);
    }
}

#[test]
fn claims_that_are_absent_or_unsafe_become_no_header() {
    let plugin = start(&forwarding());
    for bad in [
        json!({ "sub": "a\r\nx-admin: yes" }),
        json!({ "sub": "a\u{0}" }),
        json!({ "sub": "a\u{7f}" }),
        json!({ "sub": "a\tb" }),
        json!({ "sub": "" }),
        json!({ "sub": " a" }),
        json!({ "sub": "x".repeat(4097) }),
        json!({ "sub": null }),
    ] {
        let request = bearer("/", &token(bad.clone())).header("x-subject", "forged");
        let upstream = upstream(&plugin, request);
        assert_eq!(upstream.header("x-subject"), None, "{bad}");
    }
    for bad in [
        json!(["teller", "auditor,admin"]),
        json!([["a"]]),
        json!({ "a": 1 }),
    ] {
        let token = token(json!({ "realm_access": { "roles": bad } }));
        let upstream = upstream(&plugin, bearer("/", &token).header("x-roles", "admin"));
        assert_eq!(upstream.header("x-roles"), None);
        assert_eq!(upstream.header("x-subject").as_deref(), Some("alice"));
    }
}

/// Spellings that a server may take for `x-subject` or one of the others. A host gives names in
/// lower case.
const FORGED: [&str; 9] = [
    "x-subject",
    "x_subject",
    "x.subject",
    "x-roles",
    "x_roles",
    "x!groups",
    "x-jwt-payload",
    "x_jwt_payload",
    "x-jwt.payload",
];

fn forged(request: Request) -> Request {
    FORGED.iter().fold(request, |request, name| {
        request.header(name, "forged").header(name, "again")
    })
}

fn assert_clean(seen: &Seen) {
    for (name, value) in &seen.0 {
        assert!(value != b"forged" && value != b"again", "{name}");
    }
}

#[test]
fn what_the_client_says_of_itself_reaches_nobody() {
    let plugin = start(&forwarding());
    let good = token(json!({ "scope": "read" }));
    for request in [
        bearer("/accounts/1", &good),
        bearer("/accounts/1", &good),
        // No token is needed, or looked at.
        Request::get("/status"),
        bearer("/status", &good),
        bearer("/status", "x.y.z"),
        // None was sent.
        Request::get("/"),
        Request::new("OPTIONS", "/accounts/1")
            .header("origin", "https://app.example")
            .header("access-control-request-method", "POST"),
    ] {
        let reply = plugin.send(forged(request.clone()).header("x-other", "kept"));
        let seen = reply.upstream.unwrap_or_else(|| panic!("{request:?}"));
        assert_clean(&seen);
        assert_eq!(seen.header("x-other").as_deref(), Some("kept"));
    }
    let bare = upstream(&plugin, forged(bearer("/status", &good)));
    assert_eq!(
        bare.header("x-subject"),
        None,
        "not looked at, so not believed"
    );
}

#[test]
fn nor_does_it_reach_the_log_of_a_refused_request() {
    let plugin = start(&forwarding());
    for (request, kind) in [
        (Request::get("/accounts/1"), "credentials-missing"),
        (bearer("/accounts/1", "x.y.z"), "token-malformed"),
        (
            bearer("/accounts/1", &token(json!({}))),
            "scope-insufficient",
        ),
        (
            bearer("/accounts%2F1", &token(json!({}))),
            "request-ambiguous",
        ),
    ] {
        let reply = plugin.send(forged(request));
        assert_eq!(reply.kind(), kind);
        assert_clean(&reply.logged);
    }
}

#[test]
fn trailers_are_no_way_around() {
    let plugin = start(&forwarding());
    let trailers: Vec<(&str, &str)> = FORGED
        .iter()
        .map(|name| (*name, "forged"))
        .chain([("grpc-status", "0"), ("x-other", "kept")])
        .collect();
    assert_eq!(plugin.send_trailers(&trailers), ["grpc-status", "x-other"]);
}

#[test]
fn a_header_of_one_issuer_is_not_left_to_tokens_of_another() {
    let mut document = config(
        json!({}),
        json!({ "claims_to_headers": [{ "claim": "sub", "header": "x-subject" }] }),
    );
    let partner = json!({
        "name": "partner", "issuer": "https://partner.example/", "any_audience": true,
        "algorithms": "ES256", "jwks": { "inline": jwks(&[K2]) },
        "claims_to_headers": [{ "claim": "sub", "header": "x-partner" }],
    });
    let providers = document["jwt_authz"]["providers"].as_array_mut().unwrap();
    providers.push(partner);
    let plugin = start(&document);
    let of_partner = K2.sign(&claims(
        json!({ "iss": "https://partner.example/", "sub": "bob" }),
    ));
    let request = bearer("/", &of_partner)
        .header("x-subject", "alice")
        .header("x-partner", "alice");
    let upstream = upstream(&plugin, request);
    assert_eq!(upstream.header("x-subject"), None);
    assert_eq!(upstream.header("x-partner").as_deref(), Some("bob"));
}

#[test]
fn a_request_that_waited_gets_its_headers_too() {
    let plugin = start(&config(
        json!({ "payload_header": "x-payload" }),
        with(
            published(json!({})),
            json!({ "claims_to_headers": [{ "claim": "sub", "header": "x-subject" }] }),
        ),
    ));
    let token = token(json!({}));
    let request = bearer("/", &token).header("x_subject", "forged");
    let paused = plugin.submit(request).paused();
    plugin.tick();
    let paused = plugin.resume(paused).paused();
    publish(&plugin, &[K1]);
    let upstream = plugin.resume(paused).reply().upstream.unwrap();
    assert_eq!(upstream.header("x-subject").as_deref(), Some("alice"));
    assert_eq!(upstream.header("x_subject"), None);
    assert_eq!(upstream.header("authorization"), None);
    let payload = token.split('.').nth(1);
    assert_eq!(upstream.header("x-payload").as_deref(), payload);
}
