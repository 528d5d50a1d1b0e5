//! What may be asked of tokens beyond a signature, and the specifications' own examples, on the real
//! Envoy.

mod idp;

use idp::{Bearer, assert_refused, claims, document, gateway};
use serde_json::{Value, json};
use tollgate_tests::{
    Algorithm, EchoUpstream, Envoy, Reply, SigningKey, merge, tamper_signature, unix_time,
};

/// The header and the claims of an access token as RFC 9068 section 2 has it.
fn access_token() -> (Value, Value) {
    let header = json!({ "alg": "ES256", "kid": "es", "typ": "at+jwt" });
    (header, claims(json!({ "jti": "1", "client_id": "app" })))
}

async fn start(upstream: &EchoUpstream, key: &SigningKey, more: Value) -> Envoy {
    let mut document = document(json!("ES256"), &[key.jwk("es")]);
    merge(&mut document["jwt_authz"]["providers"][0], &more);
    gateway("jwt-authz", upstream, document)
        .start()
        .await
        .unwrap()
}

async fn send(envoy: &Envoy, token: &str) -> Reply {
    envoy.http1().get("/").bearer(token).send().await
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[tokio::test]
async fn with_at_jwt_only_access_tokens_are_accepted() {
    let upstream = EchoUpstream::start().await;
    let key = SigningKey::new(Algorithm::ES256);
    let envoy = start(&upstream, &key, json!({ "profile": "at_jwt" })).await;
    let (header, claims) = access_token();
    for typ in ["at+jwt", "application/at+jwt", "AT+JWT"] {
        let mut header = header.clone();
        header["typ"] = json!(typ);
        let token = key.token_with_header(header, claims.clone());
        assert_eq!(send(&envoy, &token).await.status, 200, "{typ}");
    }
    for typ in [json!("JWT"), json!("logout+jwt"), json!("dpop+jwt")] {
        let mut header = header.clone();
        header["typ"] = typ;
        let token = key.token_with_header(header, claims.clone());
        assert_refused(&send(&envoy, &token).await, 401, "token-type-mismatch");
    }
    let untyped = key.token_with_header(without(header.clone(), "typ"), claims.clone());
    assert_refused(&send(&envoy, &untyped).await, 401, "token-type-mismatch");
    for (name, kind) in [
        ("iss", "issuer-unknown"),
        ("sub", "claim-missing"),
        ("aud", "claim-missing"),
        ("exp", "claim-missing"),
        ("iat", "claim-missing"),
        ("jti", "claim-missing"),
        ("client_id", "claim-missing"),
    ] {
        let token = key.token_with_header(header.clone(), without(claims.clone(), name));
        let reply = send(&envoy, &token).await;
        println!("{name}: {}", reply.text());
        assert_refused(&reply, 401, kind);
    }
    // Without the profile, all of that is left to the issuer.
    let envoy = start(&upstream, &key, json!({})).await;
    assert_eq!(send(&envoy, &untyped).await.status, 200);
}

#[tokio::test]
async fn tokens_without_an_end_are_accepted_where_that_is_asked_for() {
    let upstream = EchoUpstream::start().await;
    let key = SigningKey::new(Algorithm::ES256);
    let endless = key.token("es", without(claims(json!({})), "exp"));
    let expired = key.token("es", claims(json!({ "exp": unix_time() - 120 })));
    for (more, accepted) in [
        (json!({}), false),
        (json!({ "require_exp": false }), true),
        (json!({ "require_exp": false, "max_lifetime": "1h" }), false),
    ] {
        let envoy = start(&upstream, &key, more.clone()).await;
        let reply = send(&envoy, &endless).await;
        match accepted {
            // Not seen before, and remembered.
            true => {
                assert_eq!(reply.status, 200, "{reply:?}");
                assert_eq!(send(&envoy, &endless).await.status, 200);
            }
            false => assert_refused(&reply, 401, "claim-missing"),
        }
        // An end that is there counts in any case.
        assert_refused(&send(&envoy, &expired).await, 401, "token-expired");
    }
}

/// RFC 7515 appendices A.2 and A.3, RFC 8037 appendix A.4. The first two have expired in 2011, so that
/// only who allows for a clock a hundred years off takes them.
#[tokio::test]
async fn the_examples_of_the_specifications_are_what_they_are_said_to_be() {
    const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const RS256: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    const ES256: &str =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let keys = json!([
        {
            "kty": "RSA",
            "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
            "e": "AQAB",
        },
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        },
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        },
    ]);
    let start = async |skew: &str| {
        let document = json!({ "jwt_authz": { "providers": [{
            "name": "joe",
            "issuer": "joe",
            "any_audience": true,
            "algorithms": ["RS256", "ES256", "EdDSA"],
            "skew": skew,
            "jwks": { "inline": { "keys": keys } },
        }]}});
        let upstream = EchoUpstream::start().await;
        let envoy = gateway("jwt-authz", &upstream, document);
        (envoy.start().await.unwrap(), upstream)
    };
    let (lenient, _upstream) = start("36500d").await;
    let (strict, _upstream) = start("60s").await;
    let rs256 = format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.{RS256}");
    let es256 = format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.{ES256}");
    for token in [&rs256, &es256] {
        assert_eq!(send(&lenient, token).await.status, 200);
        let forged = tamper_signature(token);
        assert_refused(&send(&lenient, &forged).await, 401, "signature-invalid");
        assert_refused(&send(&strict, token).await, 401, "token-expired");
    }
    // Each is signed by its own key only, and the text of this one is no claims.
    let swapped = format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.{RS256}");
    assert_refused(&send(&lenient, &swapped).await, 401, "signature-invalid");
    let eddsa = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let reply = send(&lenient, eddsa).await;
    assert_refused(&reply, 401, "token-malformed");
    assert_eq!(reply.json()["detail"], "The token's payload is not JSON.");
}
