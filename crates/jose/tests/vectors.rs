//! The examples of the specifications.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{Host, key, set, verifies};
use serde_json::{Value, json};
use tollgate_jose::{
    Algorithm, AlgorithmNotAllowed, CriticalFault, InvalidObject, InvalidToken, Jws,
    MalformedToken, NoHost, Part,
};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// `{"iss":"joe", "exp":1300819380, "http://example.com/is_root":true}`, as RFC 7515 writes it.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// RFC 7515 appendix A.2.
fn rsa_jwk() -> Value {
    json!({
        "kty": "RSA",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        "e": "AQAB",
    })
}

/// RFC 7515 appendix A.3.
fn ec_jwk() -> Value {
    json!({
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

#[test]
fn rs256_of_appendix_a_2_verifies() {
    let token = format!(
        "eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    for host in Host::ALL {
        assert!(verifies(&token, &key(rsa_jwk()), host), "{host:?}");
    }
    let jws = Jws::parse(token.as_bytes(), 1000).unwrap();
    assert_eq!(jws.issuer(), Some("joe"));
    assert_eq!(
        jws.claims()["http://example.com/is_root"],
        Value::Bool(true)
    );
}

#[test]
fn es256_of_appendix_a_3_verifies() {
    let token = format!(
        "eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    for host in Host::ALL {
        assert!(verifies(&token, &key(ec_jwk()), host), "{host:?}");
    }
}

#[test]
fn hs256_of_appendix_a_1_is_refused() {
    let token = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    let jws = Jws::parse(token.as_bytes(), 1000).unwrap();
    assert_eq!(
        set(&[rsa_jwk(), ec_jwk()])
            .verify(&jws, &Algorithm::ALL, &NoHost)
            .unwrap_err(),
        InvalidToken::Algorithm(AlgorithmNotAllowed)
    );
}

#[test]
fn the_unsigned_token_of_appendix_a_5_is_refused() {
    let token = format!("eyJhbGciOiJub25lIn0.{PAYLOAD}.");
    assert_eq!(
        Jws::parse(token.as_bytes(), 1000).unwrap_err(),
        MalformedToken::EmptySegment
    );
}

/// RFC 7515 appendix E, "the header has a crit of an extension that is not understood".
#[test]
fn the_critical_header_of_appendix_e_is_refused() {
    let header = "eyJhbGciOiJub25lIiwNCiAiY3JpdCI6WyJodHRwOi8vZXhhbXBsZS5jb20vVU5ERUZJTkVEIl0sDQogImh0dHA6Ly9leGFtcGxlLmNvbS9VTkRFRklORUQiOnRydWUNCn0";
    let token = format!("{header}.{PAYLOAD}.AAAA");
    assert_eq!(
        Jws::parse(token.as_bytes(), 1000).unwrap_err(),
        MalformedToken::Critical(CriticalFault::NotUnderstood)
    );
}

/// RFC 7797 section 4.2, with a payload that would pass as a segment.
#[test]
fn an_unencoded_payload_is_refused() {
    let header = common::base64url(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#);
    let token = format!("{header}.{PAYLOAD}.A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY");
    assert_eq!(
        Jws::parse(token.as_bytes(), 1000).unwrap_err(),
        MalformedToken::Critical(CriticalFault::NotUnderstood)
    );
}

/// RFC 8037 appendix A.4: a JWS, but no JWT.
#[test]
fn a_payload_that_is_no_claims_set_is_refused() {
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(
        Jws::parse(token.as_bytes(), 1000).unwrap_err(),
        MalformedToken::Json(Part::Payload, InvalidObject::Syntax)
    );
}

/// RFC 7516 appendix A.1, shortened: an encrypted token.
#[test]
fn an_encrypted_token_is_refused() {
    let token = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.XFBoMYUZodetZdvTiFvSkQ";
    assert_eq!(
        Jws::parse(token.as_bytes(), 1000).unwrap_err(),
        MalformedToken::Encrypted
    );
}
