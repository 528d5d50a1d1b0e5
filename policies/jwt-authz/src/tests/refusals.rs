//! Tokens with something wrong: what the client is told, exactly.

use std::collections::BTreeSet;

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::problems::INVALID_TOKEN;

/// A provider that every rule is in force for, with two keys.
fn strict() -> Plugin {
    start(&config(
        json!({ "token": { "max_size": "1KiB" } }),
        json!({
            "algorithms": ["ES256", "RS256"],
            "max_lifetime": "1h",
            "jwks": { "inline": jwks(&[K1, K2]) },
        }),
    ))
}

fn header(more: Value) -> Value {
    with(json!({ "alg": "ES256", "kid": "k1" }), more)
}

/// For each reason, a token and the sentence.
fn bad_tokens() -> Vec<(&'static str, String, &'static str)> {
    let good = token(json!({}));
    let (input, signature) = good.rsplit_once('.').unwrap();
    let with_header = |more: Value| K1.sign_as(&header(more), &claims(json!({})));
    vec![
        (
            "algorithm-not-allowed",
            with_header(json!({ "alg": "HS256" })),
            "The token's signature algorithm is not accepted here.",
        ),
        (
            "audience-mismatch",
            token(json!({ "aud": ["other-api"] })),
            "The token is for another audience.",
        ),
        (
            "claim-malformed",
            token(json!({ "sub": 7 })),
            "The token's sub claim has the wrong type.",
        ),
        (
            "claim-missing",
            token(json!({ "exp": null })),
            "The token's exp claim is missing.",
        ),
        (
            "issuer-unknown",
            token(json!({ "iss": "https://idp.example" })),
            "The token's issuer is not accepted here.",
        ),
        (
            "key-ambiguous",
            with_header(json!({ "kid": null })),
            "The token does not say which of several keys it is signed with.",
        ),
        (
            "key-unfit",
            with_header(json!({ "alg": "RS256" })),
            "The issuer has no key for the token's signature algorithm.",
        ),
        (
            "key-unknown",
            with_header(json!({ "kid": "k3" })),
            "The token is signed with a key that its issuer does not publish.",
        ),
        (
            "signature-invalid",
            with_header(json!({ "kid": "k2" })),
            "The token's signature is not valid.",
        ),
        (
            "token-bound",
            token(json!({ "cnf": { "jkt": "x" } })),
            "The token is bound to a key, which can not be proved here.",
        ),
        (
            "token-encrypted",
            format!("{good}.AAAA.AAAA"),
            "Encrypted tokens are not accepted.",
        ),
        (
            "token-expired",
            token(json!({ "exp": START - 60 })),
            "The token has expired.",
        ),
        (
            "token-extension-unsupported",
            with_header(json!({ "crit": ["x"], "x": 1 })),
            "The token has a critical extension that is not understood.",
        ),
        (
            "token-issued-in-future",
            token(json!({ "iat": START + 61 })),
            "The token is issued in the future.",
        ),
        (
            "token-lifetime-too-long",
            token(json!({ "exp": START + 3601 })),
            "The token is valid for longer than is accepted here.",
        ),
        (
            "token-malformed",
            format!("{input}.{signature}=="),
            "The token's signature is not base64url without padding.",
        ),
        (
            "token-not-yet-valid",
            token(json!({ "nbf": START + 61 })),
            "The token is not valid yet.",
        ),
        (
            "token-too-long",
            token(json!({ "padding": "x".repeat(1024) })),
            "The token is too long.",
        ),
        (
            "token-type-mismatch",
            with_header(json!({ "typ": "logout+jwt" })),
            "The token's typ is not accepted here.",
        ),
    ]
}

#[test]
fn each_reason_has_its_kind_and_its_challenge() {
    let plugin = strict();
    assert_eq!(send(&plugin, &token(json!({}))).status, 200);
    for (kind, token, sentence) in bad_tokens() {
        let reply = send(&plugin, &token);
        refused(&reply, 401, kind);
        assert_eq!(reply.problem()["detail"], sentence, "{kind}");
        assert_eq!(
            challenges(&reply),
            [format!(
                "Bearer realm=\"api\", error=\"invalid_token\", error_description=\"{sentence}\""
            )]
        );
    }
}

#[test]
fn every_kind_is_there_and_tested() {
    let tested: BTreeSet<&str> = bad_tokens().iter().map(|(kind, ..)| *kind).collect();
    let kinds: BTreeSet<&str> = INVALID_TOKEN.iter().map(|kind| kind.name).collect();
    assert_eq!(tested, kinds);
    assert_eq!(INVALID_TOKEN.len(), kinds.len());
}

#[test]
fn rules_are_those_of_the_provider() {
    let loose = start(&config(
        json!({}),
        json!({ "require_exp": false, "skew": "5s", "audiences": null, "any_audience": true }),
    ));
    for (claims, status) in [
        (json!({ "exp": null, "aud": "whoever" }), 200),
        (json!({ "exp": null, "aud": null }), 200),
        (json!({ "exp": START - 4 }), 200),
        (json!({ "exp": START - 5 }), 401),
    ] {
        assert_eq!(
            send(&loose, &token(claims.clone())).status,
            status,
            "{claims}"
        );
    }
    let profiled = start(&config(json!({}), json!({ "profile": "at_jwt" })));
    let typ = |typ: &str, claims: Value| K1.sign_as(&header(json!({ "typ": typ })), &claims);
    let all = claims(json!({ "client_id": "acme", "jti": "1" }));
    assert_eq!(send(&profiled, &typ("at+JWT", all.clone())).status, 200);
    refused(
        &send(&profiled, &typ("JWT", all)),
        401,
        "token-type-mismatch",
    );
    refused(
        &send(&profiled, &typ("at+jwt", claims(json!({})))),
        401,
        "claim-missing",
    );
}

#[test]
fn a_token_is_judged_by_the_issuer_that_it_names() {
    let other = json!({
        "name": "partner", "issuer": "https://partner.example/", "audiences": "partner-api",
        "algorithms": "ES256", "jwks": { "inline": jwks(&[K2]) },
    });
    let plugin = start(&json!({
        "jwt_authz": { "providers": [provider(json!({})), other] },
    }));
    let of_partner =
        claims(json!({ "iss": "https://partner.example/", "aud": ["x", "partner-api"] }));
    assert_eq!(send(&plugin, &token(json!({}))).status, 200);
    assert_eq!(send(&plugin, &K2.sign(&of_partner)).status, 200);
    // A partner's key is no key of ours, nor is what it may say in its own name.
    refused(
        &send(&plugin, &K2.sign(&claims(json!({})))),
        401,
        "key-unknown",
    );
    let under_our_kid = K2.sign_as(&header(json!({})), &claims(json!({})));
    refused(&send(&plugin, &under_our_kid), 401, "signature-invalid");
    refused(&send(&plugin, &K1.sign(&of_partner)), 401, "key-unknown");
    let to_us = with(of_partner, json!({ "aud": "bank-api" }));
    refused(&send(&plugin, &K2.sign(&to_us)), 401, "audience-mismatch");
}

#[test]
fn without_a_token_the_answer_is_a_challenge() {
    let plugin = start(&config(
        json!({ "token": { "realm": "a \"b\" \\c" } }),
        json!({}),
    ));
    let realm = r#"Bearer realm="a \"b\" \\c""#;
    let reply = plugin.send(Request::get("/"));
    refused(&reply, 401, "credentials-missing");
    assert_eq!(challenges(&reply), [realm]);
    let reply = send(&plugin, "x");
    assert_eq!(
        challenges(&reply),
        [format!(
            "{realm}, error=\"invalid_token\", error_description=\"The token does not have three \
             segments separated by dots.\""
        )]
    );
}

#[test]
fn a_bad_token_does_no_harm_where_none_is_asked_for() {
    let plugin = start(&with(
        config(json!({}), json!({})),
        json!({
            "apis": [
                { "name": "status", "match": [{ "path": "/status" }] },
                { "name": "shop", "match": [{ "path": "/shop/**" }] },
            ],
            "access": [
                { "apis": ["status"], "require": "anonymous" },
                { "apis": ["shop"], "require": { "any_of": ["jwt", "anonymous"] } },
            ],
        }),
    ));
    let expired = token(json!({ "exp": START - 60 }));
    assert_eq!(plugin.send(bearer("/status", &expired)).status, 200);
    assert_eq!(plugin.send(Request::get("/shop/1")).status, 200);
    // Who has sent one wants to know.
    refused(
        &plugin.send(bearer("/shop/1", &expired)),
        401,
        "token-expired",
    );
    refused(&plugin.send(Request::get("/")), 401, "credentials-missing");
}
