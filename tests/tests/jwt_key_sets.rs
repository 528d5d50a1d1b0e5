//! What issuers' sets of keys have in them, on the real Envoy: keys that are for something else, broken
//! or without a name, and more of them than are taken.

mod idp;

use idp::{AUDIENCE, Bearer, Idp, assert_refused, claims, document, gateway, wait_for_fetches};
use serde_json::{Value, json};
use tollgate_tests::{
    Algorithm, EchoUpstream, JWKS_PATH, Page, SigningKey, base64url, merge, tamper_signature,
};

/// A key of `key`'s, named `odd`, with other members; null removes one.
fn changed(key: &SigningKey, others: Value) -> Value {
    let mut jwk = key.jwk("odd");
    merge(&mut jwk, &others);
    jwk.as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    jwk
}

#[tokio::test]
async fn a_key_that_verifies_no_token_does_not_cost_the_others() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let odd = SigningKey::new(Algorithm::ES256);
    let short = json!({ "kty": "RSA", "kid": "odd", "n": base64url([0xff; 128]), "e": "AQAB" });
    let keys = [
        changed(&odd, json!({ "use": "enc" })),
        changed(&odd, json!({ "use": null, "key_ops": ["deriveKey"] })),
        changed(&odd, json!({ "key_ops": ["verify", "verify"] })),
        changed(&odd, json!({ "alg": "ECDH-ES" })),
        changed(&odd, json!({ "alg": "RS256" })),
        changed(&odd, json!({ "alg": "EdDSA" })),
        changed(&odd, json!({ "crv": "secp256k1" })),
        changed(&odd, json!({ "kty": "AKP" })),
        changed(&odd, json!({ "kty": null })),
        changed(&odd, json!({ "x": "AAAA" })),
        changed(&odd, json!({ "d": "AAAA" })),
        json!({ "kty": "oct", "kid": "odd", "k": "AAAA" }),
        short,
    ];
    let issuer = |index: usize| format!("https://idp{index}.example/");
    let mut providers = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let path = format!("/sets/{index}");
        let set = json!({ "keys": [key, idp.key.jwk("first")] });
        idp.issuer.serve(&path, Page::json(&set));
        providers.push(json!({
            "name": format!("idp{index}"),
            "issuer": issuer(index),
            "audiences": AUDIENCE,
            "algorithms": ["ES256", "RS256"],
            "jwks": { "cluster": "idp", "url": format!("https://{}{path}", idp.issuer.host()) },
        }));
    }
    let document = json!({ "jwt_authz": { "providers": providers } });
    let envoy = idp.gateway(&upstream, document).start().await.unwrap();
    for (index, key) in keys.iter().enumerate() {
        let claims = claims(json!({ "iss": issuer(index) }));
        let good = idp.key.token("first", claims.clone());
        let reply = envoy.http1().get("/").bearer(&good).send().await;
        assert_eq!(reply.status, 200, "{key}: {reply:?}");
        // It is there, so that fetching the set again would not help.
        let by_odd = odd.token("odd", claims);
        let reply = envoy.http1().get("/").bearer(&by_odd).send().await;
        println!("{key}: {}", reply.text());
        assert_refused(&reply, 401, "key-unfit");
        assert_eq!(idp.issuer.count(&format!("/sets/{index}")), 1, "{key}");
    }
    assert_eq!(upstream.count(), keys.len());
}

#[tokio::test]
async fn a_set_with_more_keys_than_are_taken_is_no_set() {
    let upstream = EchoUpstream::start().await;
    let mut idps = Vec::new();
    for (index, others) in [99, 100].into_iter().enumerate() {
        let idp = Idp::called(&format!("idp{index}.bank.example")).await;
        for number in 0..others {
            idp.issuer
                .add_key(json!({ "kty": "AKP", "kid": format!("{number}") }));
        }
        idps.push(idp);
    }
    let mut builder = gateway("tollgate", &upstream, {
        let providers = idps.iter().enumerate().map(|(index, idp)| {
            let name = format!("idp{index}");
            let mut provider = idp.provider(json!({ "cluster": name, "max_wait": "100ms" }));
            merge(&mut provider, &json!({ "name": name }));
            provider
        });
        json!({ "jwt_authz": { "providers": providers.collect::<Vec<_>>() } })
    });
    for (index, idp) in idps.iter().enumerate() {
        builder = builder.cluster(idp.issuer.cluster(&format!("idp{index}")));
    }
    let envoy = builder.start().await.unwrap();
    wait_for_fetches(&envoy, "idp0", "updated").await;
    wait_for_fetches(&envoy, "idp1", "invalid_keys").await;
    let reply = envoy.http1().get("/").bearer(&idps[0].token()).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = envoy.http1().get("/").bearer(&idps[1].token()).send().await;
    assert_refused(&reply, 503, "issuer-unavailable");
    let log = envoy.log();
    assert!(
        log.contains("found 101 keys, expected at most 100"),
        "{log}"
    );
}

#[tokio::test]
async fn keys_without_a_name_verify_tokens_that_name_one() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let [rsa, other] = [Algorithm::RS256, Algorithm::ES256].map(SigningKey::new);
    idp.issuer
        .set_keys([changed(&idp.key, json!({ "kid": null })), rsa.jwk("rsa")]);
    let mut document = idp.document(json!({ "refresh": "1h", "cool_down": "1h" }));
    document["jwt_authz"]["providers"][0]["algorithms"] = json!(["ES256", "RS256"]);
    let envoy = idp.gateway(&upstream, document).start().await.unwrap();
    let send = async |token: String| envoy.http1().get("/").bearer(&token).send().await;
    for kid in ["first", "second", ""] {
        let reply = send(idp.key.token(kid, idp.claims())).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let reply = send(rsa.token("rsa", idp.claims())).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let unnamed = idp
        .key
        .token_with_header(json!({ "alg": "ES256" }), idp.claims());
    assert_eq!(send(unnamed).await.status, 200);
    assert_eq!(idp.issuer.count(JWKS_PATH), 1);

    // What it does not verify is looked for, once. A key with a name is for that alone.
    for token in [
        other.token("new", idp.claims()),
        rsa.token("new", idp.claims()),
        tamper_signature(&idp.key.token("first", idp.claims())),
    ] {
        assert_refused(&send(token).await, 401, "key-unknown");
        assert_eq!(idp.issuer.count(JWKS_PATH), 2);
    }
    let named = idp.key.token("rsa", idp.claims());
    assert_refused(&send(named).await, 401, "key-unfit");
    assert_eq!(send(idp.key.token("x", idp.claims())).await.status, 200);
    assert_eq!(idp.issuer.count(JWKS_PATH), 2);
}

#[tokio::test]
async fn keys_in_the_document_may_be_a_set_that_an_issuer_publishes() {
    let upstream = EchoUpstream::start().await;
    let [key, other] = [Algorithm::ES256, Algorithm::ES256].map(SigningKey::new);
    let set = [
        changed(&other, json!({ "use": "enc" })),
        key.jwk("first"),
        json!({ "kty": "AKP", "kid": "odd", "alg": "ML-DSA-65", "pub": "AAAA" }),
    ];
    let by_set = document(json!("ES256"), &set);
    let mut by_pem = document(json!("ES256"), &[]);
    by_pem["jwt_authz"]["providers"][0]["jwks"] = json!({ "pem": key.public_pem() });
    for (document, unverified) in [(by_set, "key-unfit"), (by_pem, "key-unknown")] {
        let envoy = gateway("jwt-authz", &upstream, document)
            .start()
            .await
            .unwrap();
        let good = key.token("first", claims(json!({})));
        let reply = envoy.http1().get("/").bearer(&good).send().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let odd = other.token("odd", claims(json!({})));
        let reply = envoy.http1().get("/").bearer(&odd).send().await;
        assert_refused(&reply, 401, unverified);
    }
}
