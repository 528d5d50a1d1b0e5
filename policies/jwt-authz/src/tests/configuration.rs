//! What the section may say, and how mistakes in it are reported.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn mistakes(document: &Value) -> Vec<String> {
    let errors = Plugin::start(document)
        .err()
        .unwrap_or_else(|| panic!("a configuration with mistakes: {document}"));
    errors.iter().map(ToString::to_string).collect()
}

fn assert_mistakes(document: &Value, expected: &[&str]) {
    let found = mistakes(document);
    for expected in expected {
        assert!(
            found.iter().any(|message| message.starts_with(expected)),
            "{expected}\nnot in\n{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn there_must_be_an_issuer() {
    assert_mistakes(
        &json!({ "jwt_authz": { "providers": [] } }),
        &["jwt_authz.providers: the list is empty, so no token would be accepted: add an issuer"],
    );
    assert_mistakes(
        &json!({ "jwt_authz": {} }),
        &["jwt_authz: the field \"providers\" is missing, add it"],
    );
    assert_mistakes(
        &json!({ "jwt_authz": { "providers": [{}] } }),
        &[
            "jwt_authz.providers[0]: the field \"name\" is missing",
            "jwt_authz.providers[0]: the field \"issuer\" is missing",
            "jwt_authz.providers[0]: the field \"algorithms\" is missing",
            "jwt_authz.providers[0]: the field \"jwks\" is missing",
        ],
    );
}

#[test]
fn each_mistake_of_a_provider_has_its_path() {
    for (more, expected) in [
        (json!({ "name": "" }), "name: found \"\", expected a name"),
        (
            json!({ "issuer": "" }),
            "issuer: is empty, expected what tokens have as iss",
        ),
        (
            json!({ "audiences": [] }),
            "audiences: is missing: name the audiences that this API goes by, or write \
             any_audience: true",
        ),
        (
            json!({ "any_audience": true }),
            "any_audience: contradicts audiences: keep one of them",
        ),
        (
            json!({ "algorithms": [] }),
            "algorithms: the list is empty: name the algorithms that the issuer signs with",
        ),
        (
            json!({ "algorithms": ["ES256", "none"] }),
            "algorithms[1]: ",
        ),
        (json!({ "algorithms": "HS256" }), "algorithms: "),
        (json!({ "algorithms": "es256" }), "algorithms: "),
        (json!({ "skew": "60" }), "skew: "),
        (json!({ "max_lifetime": -1 }), "max_lifetime: "),
        (
            json!({ "require_exp": "no" }),
            "require_exp: found text, expected true or false",
        ),
        (
            json!({ "profile": "atjwt" }),
            "profile: unknown value \"atjwt\", did you mean \"at_jwt\"?",
        ),
        (json!({ "client_claim": "" }), "client_claim: "),
        (
            json!({ "audience": "x" }),
            "audience: unknown field, did you mean \"audiences\"?",
        ),
        (
            json!({ "claims_to_headers": [{ "claim": "sub", "header": "Host" }] }),
            "claims_to_headers[0].header: \"host\" has a meaning of its own, choose another",
        ),
        (
            json!({ "claims_to_headers": [
                { "claim": "sub", "header": "x-a" }, { "claim": "sub", "header": "x_a" },
            ] }),
            "claims_to_headers[1].header: servers may take \"x_a\" for the header of \
             jwt_authz.providers[0].claims_to_headers[0]",
        ),
    ] {
        assert_mistakes(
            &config(json!({}), more),
            &[&format!("jwt_authz.providers[0].{expected}")],
        );
    }
}

#[test]
fn providers_are_told_apart_by_name_and_issuer() {
    let providers = json!([
        provider(json!({})),
        provider(json!({ "issuer": "https://partner.example/" })),
        provider(json!({ "name": "other" })),
        provider(json!({ "name": "third", "issuer": "https://third.example/" })),
    ]);
    assert_mistakes(
        &json!({ "jwt_authz": { "providers": providers } }),
        &[
            "jwt_authz.providers[1].name: \"idp\" is that of another provider too",
            "jwt_authz.providers[2].issuer: \"https://idp.example/\" is that of another provider \
             too",
        ],
    );
}

#[test]
fn keys_come_from_one_place() {
    let remote = json!({ "cluster": "idp", "url": "https://idp.example/jwks.json" });
    let exactly_one = "expected exactly one of url, discovery (with cluster), inline, pem";
    for (jwks, expected) in [
        (json!({}), format!(": {exactly_one}")),
        (json!({ "cluster": "idp" }), format!(": {exactly_one}")),
        (
            with(remote.clone(), json!({ "inline": jwks(&[K1]) })),
            format!(": {exactly_one}"),
        ),
        (
            with(
                remote.clone(),
                json!({ "discovery": "https://idp.example/m" }),
            ),
            format!(": {exactly_one}"),
        ),
        (
            with(remote.clone(), json!({ "cluster": null })),
            ".cluster: is missing: name Envoy's cluster for the issuer's server".to_owned(),
        ),
        (
            with(remote.clone(), json!({ "jwks_host": "keys.example" })),
            ".jwks_host: is for discovery, which is not used".to_owned(),
        ),
        (
            with(remote.clone(), json!({ "url": "idp.example/jwks.json" })),
            ".url: found \"idp.example/jwks.json\", expected a URL".to_owned(),
        ),
        (
            with(remote.clone(), json!({ "refresh": "999ms" })),
            ".refresh: is less than 1s, expected at least that".to_owned(),
        ),
        (
            with(remote.clone(), json!({ "cool_down": "0s" })),
            ".cool_down: is less than 1s, expected at least that".to_owned(),
        ),
        (
            with(remote.clone(), json!({ "max_wait": "soon" })),
            ".max_wait: ".to_owned(),
        ),
        (
            with(remote.clone(), json!({ "max_keys": 0 })),
            ".max_keys: found 0, expected 1 to ".to_owned(),
        ),
        (
            with(remote, json!({ "max_size": "64KB" })),
            ".max_size: ".to_owned(),
        ),
        (
            json!({ "inline": 7 }),
            ".inline: found the number 7, expected an object or text".to_owned(),
        ),
        (
            json!({ "inline": { "keys": [] } }),
            ".inline: found no key, expected at least one".to_owned(),
        ),
        (
            json!({ "inline": "keys" }),
            ".inline: found no JSON, expected a JWK set".to_owned(),
        ),
        (
            json!({ "inline": { "keys": [K1.jwk(), { "kty": "oct", "kid": "s", "k": "AAAA" }] } }),
            ".inline.keys[1]: can't be used because it is a shared secret (kty oct)".to_owned(),
        ),
        (
            json!({ "inline": jwks(&[K1]), "max_size": "64B" }),
            ".inline: found ".to_owned(),
        ),
        (
            json!({ "inline": jwks(&[K1, K2]), "max_keys": 1 }),
            ".inline: found 2 keys, expected at most 1".to_owned(),
        ),
        (
            json!({ "pem": "-----BEGIN CERTIFICATE-----" }),
            ".pem: ".to_owned(),
        ),
    ] {
        assert_mistakes(
            &config(json!({}), json!({ "jwks": jwks })),
            &[&format!("jwt_authz.providers[0].jwks{expected}")],
        );
    }
}

#[test]
fn each_mistake_of_the_section_has_its_path() {
    for (more, expected) in [
        (
            json!({ "token": { "realm": "caf\u{e9}" } }),
            "token.realm: expected printable ASCII",
        ),
        (
            json!({ "token": { "realm": "a\nb" } }),
            "token.realm: expected printable ASCII",
        ),
        (
            json!({ "token": { "query": "" } }),
            "token.query: is empty, expected a name",
        ),
        (
            json!({ "token": { "cookies": ["a", ""] } }),
            "token.cookies: is empty, expected a name",
        ),
        (
            json!({ "token": { "headers": "Content-Type" } }),
            "token.headers: content-type has a meaning of its own, choose another",
        ),
        (
            json!({ "token": { "headers": ["x-token", "X-Token"] } }),
            "token.headers: x-token is named twice",
        ),
        (
            json!({ "token": { "query": ["jwt", "jwt"] } }),
            "token.query: \"jwt\" is named twice",
        ),
        (
            json!({ "token": { "cookies": ["jwt", "a", "jwt"] } }),
            "token.cookies: \"jwt\" is named twice",
        ),
        (
            json!({ "token": { "headers": [{ "name": "x-token", "scheme": "a b" }] } }),
            "token.headers[0].scheme: ",
        ),
        (
            json!({ "token": { "headers": [":path"] } }),
            "token.headers[0]: found \":path\", expected a header's name",
        ),
        (
            json!({ "token": { "cookie": "jwt" } }),
            "token.cookie: unknown field, did you mean \"cookies\"?",
        ),
        (
            json!({ "payload_header": "authorization" }),
            "payload_header: \"authorization\" has a meaning of its own, choose another",
        ),
        (
            json!({ "cache": { "max_tokens": -1 } }),
            "cache.max_tokens: ",
        ),
        (json!({ "cache": { "ttl": 10 } }), "cache.ttl: "),
        (
            json!({ "mode": "shadows" }),
            "mode: unknown value \"shadows\", did you mean \"shadow\"?",
        ),
        (
            json!({ "provider": [] }),
            "provider: unknown field, did you mean \"providers\"?",
        ),
    ] {
        assert_mistakes(
            &config(more, json!({})),
            &[&format!("jwt_authz.{expected}")],
        );
    }
    assert_mistakes(
        &config(
            json!({ "payload_header": "X_Subject" }),
            json!({ "claims_to_headers": [{ "claim": "sub", "header": "x-subject" }] }),
        ),
        &["jwt_authz.payload_header: is a header for a claim too, choose another"],
    );
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let providers = json!([
        provider(json!({ "issuer": "", "audiences": [], "algorithms": [] })),
        provider(json!({ "name": "b", "jwks": {} })),
    ]);
    assert_mistakes(
        &json!({
            "jwt_authz": {
                "providers": providers,
                "token": { "query": "" },
                "payload_header": "host",
            },
            "access": [{ "require": "jwtt" }],
        }),
        &[
            "jwt_authz.providers[0].issuer: ",
            "jwt_authz.providers[0].audiences: ",
            "jwt_authz.providers[0].algorithms: ",
            "jwt_authz.providers[1].jwks: ",
            "jwt_authz.token.query: ",
            "jwt_authz.payload_header: ",
            "access[0].require: ",
        ],
    );
}

#[test]
fn lists_of_one_may_be_written_without_brackets() {
    let document = config(
        json!({ "token": { "headers": "authorization" } }),
        json!({ "audiences": "bank-api", "algorithms": "ES256" }),
    );
    assert_eq!(send(&start(&document), &token(json!({}))).status, 200);
}

#[test]
fn keys_may_be_written_as_text() {
    let inline = jwks(&[K1]).to_string();
    let document = config(json!({}), json!({ "jwks": { "inline": inline } }));
    assert_eq!(send(&start(&document), &token(json!({}))).status, 200);
}

/// As sets have them that were copied from an issuer.
#[test]
fn written_keys_may_stand_beside_some_for_others() {
    let for_others = [
        with(K2.jwk(), json!({ "use": "enc" })),
        with(K2.jwk(), json!({ "key_ops": ["deriveKey"] })),
        with(K2.jwk(), json!({ "alg": "ECDH-ES" })),
        with(K2.jwk(), json!({ "crv": "P-521" })),
        json!({ "kty": "AKP", "kid": "k2", "alg": "ML-DSA-44", "pub": "AAAA" }),
    ];
    let inline =
        |keys: &[Value]| config(json!({}), json!({ "jwks": { "inline": { "keys": keys } } }));
    for other in &for_others {
        let plugin = start(&inline(&[other.clone(), K1.jwk()]));
        assert_eq!(send(&plugin, &token(json!({}))).status, 200);
        let by_other = K2.sign(&claims(json!({})));
        refused(&send(&plugin, &by_other), 401, "key-unfit");
    }
    assert_mistakes(
        &inline(&for_others),
        &[
            "jwt_authz.providers[0].jwks.inline: found no usable key among 5: keys[0] (kid \"k2\") is \
           left out because use is \"enc\", expected sig",
        ],
    );
    // What is broken is ours to mend, and all of it is told.
    let jwks = "jwt_authz.providers[0].jwks.inline.keys";
    assert_mistakes(
        &inline(&[
            for_others[0].clone(),
            K1.jwk(),
            with(K2.jwk(), json!({ "x": "AAAA" })),
            json!({ "kty": "RSA", "e": "AQAB", "n": base64url([0xff; 128]) }),
            with(K2.jwk(), json!({ "d": "AAAA", "use": "enc" })),
            with(K2.jwk(), json!({ "alg": "RS256" })),
            K1.jwk(),
            json!("key"),
        ]),
        &[
            &format!("{jwks}[2]: can't be used because x has 3 bytes, expected 32"),
            &format!("{jwks}[3]: can't be used because its modulus has 1024 bits, expected 2048"),
            &format!("{jwks}[4]: can't be used because it has private members"),
            &format!(
                "{jwks}[5]: can't be used because alg is \"RS256\", which is not for this type"
            ),
            &format!("{jwks}[6]: can't be used because the set has it twice"),
            &format!("{jwks}[7]: can't be used because it is not a JSON object"),
        ],
    );
}

#[test]
fn written_keys_have_nothing_of_fetched_ones() {
    let mut document = config(json!({}), json!({}));
    let jwks = &mut document["jwt_authz"]["providers"][0]["jwks"];
    jwks["cluster"] = json!("idp");
    jwks["max_wait"] = json!("1s");
    assert_mistakes(
        &document,
        &[
            "jwt_authz.providers[0].jwks.cluster: is for keys that are fetched",
            "jwt_authz.providers[0].jwks.max_wait: is for keys that are fetched",
        ],
    );
    assert_mistakes(
        &config(json!({}), json!({ "algorithms": "RS512" })),
        &["jwt_authz.providers[0].jwks: has no key for any of algorithms"],
    );
}
