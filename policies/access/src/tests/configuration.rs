//! What the rules may say, and how mistakes in them are reported.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn mistakes(config: &Value) -> Vec<String> {
    let errors = Plugin::start(config)
        .err()
        .expect("a configuration with mistakes");
    errors.iter().map(ToString::to_string).collect()
}

fn assert_mistakes(config: &Value, expected: &[&str]) {
    let found = mistakes(config);
    for expected in expected {
        assert!(
            found.iter().any(|message| message.starts_with(expected)),
            "{expected}\nnot in\n{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn shapes_are_checked() {
    assert_mistakes(
        &config(json!([
            { "require": "jwtt" },
            { "require": { "any_of": [] } },
            { "require": { "all_of": ["jwt", "anonymous"] } },
            { "require": { "jwt": {}, "mtls": {} } },
            { "require": { "mtls": { "uris": ["spiffe://*"], "dns_names": ["a*b"] } } },
            { "scopes": ["a b"] },
            { "methods": "get it" },
            { "scope": "read" },
        ])),
        &[
            "access[0].require: unknown credential \"jwtt\", did you mean \"jwt\"?",
            "access[1].require: the list is empty",
            "access[2].require: anonymous in all_of would mean nothing",
            "access[3].require: expected exactly one of jwt, mtls, any_of, all_of",
            "access[4].require.mtls.uris[0]: found \"spiffe://*\", expected a URI",
            "access[4].require.mtls.dns_names[0]: found \"a*b\", expected a DNS name",
            "access[5].scopes[0]:",
            "access[6].methods:",
            "access[7].scope: unknown field, did you mean \"scopes\"?",
        ],
    );
}

#[test]
fn names_must_exist_and_policies_be_there() {
    assert_mistakes(
        &json!({
            "apis": apis(),
            "usage_plan": {},
            "access": [
                { "apis": ["acounts"], "require": "api_key" },
                { "apis": [], "require": "api_key" },
                { "apis": ["status"], "require": { "any_of": ["jwt", "api_key"] } },
                { "methods": [], "require": "api_key" },
            ],
        }),
        &[
            "access[0].apis[0]: unknown API \"acounts\", did you mean \"accounts\"?",
            "access[1].apis: the list is empty",
            "access[2].require: jwt is checked by the jwt_authz section, which the document lacks",
            "access[3].methods: the list is empty",
        ],
    );
    assert_mistakes(
        &json!({ "access": [{ "scopes": "read" }] }),
        &["access[0].require: is missing"],
    );
}

#[test]
fn scopes_that_could_be_passed_by_are_a_mistake() {
    assert_mistakes(
        &config(json!([
            { "apis": ["status"], "require": { "any_of": ["jwt", "api_key"] }, "scopes": "read" },
            { "apis": ["accounts"], "require": "api_key", "claims": [{ "claim": "a", "equals": 1 }] },
            { "require": { "jwt": { "scopes": "read" } }, "scopes": "write" },
        ])),
        &[
            "access[0].scopes: are asked of tokens, but require also lets requests pass without",
            "access[1].claims: are asked of tokens, but require also lets requests pass without",
            "access[2].scopes: are given in require too",
        ],
    );
}

#[test]
fn a_rule_that_never_applies_is_a_mistake() {
    assert_mistakes(
        &config(json!([
            { "apis": ["status"], "require": "jwt" },
            { "apis": ["status"], "methods": "GET", "require": "anonymous" },
            { "methods": "GET", "require": "jwt" },
            { "apis": ["status", "accounts"], "methods": ["GET", "POST"], "require": "jwt" },
        ])),
        &["access[1]: never applies, because access[0] comes first"],
    );
}

#[test]
fn certificates_can_be_asked_for_alone() {
    start(&json!({ "access": [{ "require": "mtls" }] }));
}

#[test]
fn without_a_default_every_request_needs_a_rule() {
    assert_mistakes(
        &json!({ "apis": apis(), "access": [{ "apis": ["accounts"], "require": "mtls" }] }),
        &["access[1]: requests that no rule is about would pass unasked"],
    );
}
