//! Which keys are used, and which of them for which token.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{ED25519, OTHER_P256, P256, P384, RSA, base64url, jwk, key, set, with};
use serde_json::{Value, json};
use tollgate_jose::{
    Algorithm, InvalidKeySet, InvalidObject, Key, KeySet, KeyType, Limits, MAX_KEYS_PER_KID,
    MAX_KID_BYTES, NoKey, UnusableKey,
};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

fn fault(jwk: Value) -> UnusableKey {
    Key::from_jwk(jwk.as_object().unwrap()).unwrap_err()
}

fn parse(json: &Value) -> Result<KeySet, InvalidKeySet> {
    KeySet::parse(json.to_string().as_bytes(), &Limits::default())
}

/// RSA keys by their numbers only: `bits` long, odd, and not necessarily a product of two primes.
fn rsa(bits: usize, exponent: &[u8]) -> Value {
    let mut n = vec![0xff; bits.div_ceil(8)];
    n[0] >>= n.len() * 8 - bits;
    json!({"kty": "RSA", "n": base64url(n), "e": base64url(exponent)})
}

#[test]
fn public_keys_are_read_in_all_forms() {
    for (private, pem, expected) in [
        (RSA, include_str!("keys/rsa-2048.pem"), KeyType::Rsa),
        (P256, include_str!("keys/p-256.pem"), KeyType::P256),
        (P384, include_str!("keys/p-384.pem"), KeyType::P384),
        (ED25519, include_str!("keys/ed25519.pem"), KeyType::Ed25519),
    ] {
        let from_jwk = key(with(jwk(private), json!({"kid": "k"})));
        let from_pem = Key::from_pem(pem, Some("k".to_owned()), None).unwrap();
        for key in [&from_jwk, &from_pem] {
            assert_eq!(key.key_type(), expected);
            assert_eq!((key.kid(), key.algorithm()), (Some("k"), None));
        }
        // The same SPKI that OpenSSL writes.
        assert_eq!(from_jwk.spki_der(), from_pem.spki_der());
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let body = body
            .trim_end_matches('=')
            .replace('+', "-")
            .replace('/', "_");
        assert_eq!(base64url(from_jwk.spki_der()), body);
    }
}

#[test]
fn keys_say_what_they_are_for() {
    for good in [
        json!({"use": "sig"}),
        json!({"key_ops": ["verify"]}),
        json!({"key_ops": ["sign", "verify"], "use": "sig"}),
        json!({"x5c": ["AA"], "x5t": 1, "extra": {}, "exp": 1}),
    ] {
        assert_eq!(key(with(jwk(P256), good)).algorithm(), None);
    }
    for (use_or_ops, expected) in [
        (json!({"use": "enc"}), UnusableKey::Use("enc".to_owned())),
        (json!({"use": ""}), UnusableKey::Use(String::new())),
        (json!({"use": null}), UnusableKey::NotText("use")),
        (json!({"key_ops": ["encrypt"]}), UnusableKey::NotToVerify),
        (json!({"key_ops": []}), UnusableKey::NotToVerify),
        (json!({"key_ops": "verify"}), UnusableKey::Operations),
        (json!({"key_ops": ["verify", 1]}), UnusableKey::Operations),
        (
            json!({"key_ops": ["verify", "verify"]}),
            UnusableKey::Operations,
        ),
        (json!({"key_ops": null}), UnusableKey::Operations),
        (json!({"kid": 1}), UnusableKey::NotText("kid")),
        (
            json!({"kid": "k".repeat(MAX_KID_BYTES + 1)}),
            UnusableKey::KidTooLong,
        ),
        (json!({"alg": 1}), UnusableKey::NotText("alg")),
        (
            json!({"alg": "HS256"}),
            UnusableKey::Algorithm("HS256".to_owned()),
        ),
        (
            json!({"alg": "none"}),
            UnusableKey::Algorithm("none".to_owned()),
        ),
        (
            json!({"alg": "ECDH-ES"}),
            UnusableKey::Algorithm("ECDH-ES".to_owned()),
        ),
        (
            json!({"alg": "ES384"}),
            UnusableKey::OtherType(Algorithm::Es384),
        ),
        (
            json!({"alg": "RS256"}),
            UnusableKey::OtherType(Algorithm::Rs256),
        ),
    ] {
        assert_eq!(fault(with(jwk(P256), use_or_ops)), expected);
    }
    for name in ["EdDSA", "Ed25519"] {
        let key = key(with(jwk(ED25519), json!({ "alg": name })));
        assert_eq!(key.algorithm(), Some(Algorithm::EdDsa));
    }
}

#[test]
fn keys_for_others_are_told_from_broken_ones() {
    for (jwk, more) in [
        (RSA, json!({"use": "enc"})),
        (RSA, json!({"use": "tls", "e": 3})),
        (RSA, json!({"key_ops": ["encrypt", "wrapKey"]})),
        (RSA, json!({"alg": "RSA-OAEP"})),
        (P256, json!({"alg": "ECDH-ES+A256KW"})),
        (P256, json!({"crv": "P-521"})),
        (P256, json!({"crv": "secp256k1"})),
        (ED25519, json!({"crv": "X25519"})),
        (P256, json!({"kty": "AKP"})),
    ]
    .map(|(private, more)| (jwk(private), more))
    {
        let fault = fault(with(jwk, more.clone()));
        assert!(fault.is_for_others(), "{more} {fault}");
    }
    for (jwk, more) in [
        (RSA, json!({"use": "SIG"})),
        (RSA, json!({"use": 1})),
        (RSA, json!({"use": "enc", "d": "AAAA"})),
        (RSA, json!({"key_ops": "encrypt"})),
        (RSA, json!({"key_ops": ["encrypt", "encrypt"]})),
        (RSA, json!({"alg": "rs256"})),
        (RSA, json!({"alg": "ES256"})),
        (RSA, json!({"kty": "rsa"})),
        (RSA, json!({"kty": "oct", "k": "AAAA", "alg": "HS256"})),
        (RSA, json!({"kty": "oct", "k": "AAAA", "use": "enc"})),
        (RSA, json!({"e": "AQ"})),
        (P256, json!({"crv": "p-256"})),
        (P256, json!({"crv": "Ed25519"})),
        (P256, json!({"x": "AAAA"})),
        (P256, json!({"kid": 1})),
    ]
    .map(|(private, more)| (jwk(private), more))
    {
        let fault = fault(with(jwk, more.clone()));
        assert!(!fault.is_for_others(), "{more} {fault}");
    }
}

#[test]
fn types_and_curves_are_known() {
    let without = |private: &[u8], member: &str| {
        let mut jwk = jwk(private);
        jwk.as_object_mut().unwrap().remove(member);
        jwk
    };
    for (jwk, expected) in [
        (json!({}), UnusableKey::Missing("kty")),
        (
            with(jwk(RSA), json!({"kty": "rsa"})),
            UnusableKey::Type("rsa".to_owned()),
        ),
        (
            json!({"kty": "AKP", "alg": "ES256"}),
            UnusableKey::Type("AKP".to_owned()),
        ),
        (json!({"kty": "oct", "k": "AAAA"}), UnusableKey::Symmetric),
        (
            with(jwk(P256), json!({"crv": "P-521"})),
            UnusableKey::Curve("P-521".to_owned()),
        ),
        (
            with(jwk(P256), json!({"crv": "secp256k1"})),
            UnusableKey::Curve("secp256k1".to_owned()),
        ),
        (
            with(jwk(P256), json!({"crv": "Ed25519"})),
            UnusableKey::Curve("Ed25519".to_owned()),
        ),
        (
            with(jwk(ED25519), json!({"crv": "X25519"})),
            UnusableKey::Curve("X25519".to_owned()),
        ),
        (
            with(jwk(ED25519), json!({"crv": "P-256"})),
            UnusableKey::Curve("P-256".to_owned()),
        ),
        (without(P256, "crv"), UnusableKey::Missing("crv")),
        (without(P256, "y"), UnusableKey::Missing("y")),
        (without(ED25519, "x"), UnusableKey::Missing("x")),
        (without(RSA, "e"), UnusableKey::Missing("e")),
        (without(RSA, "n"), UnusableKey::Missing("n")),
    ] {
        assert_eq!(fault(jwk), expected);
    }
}

#[test]
fn private_keys_are_not_trusted() {
    for private in [RSA, P256, P384, ED25519] {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert_eq!(
                fault(with(jwk(private), json!({ member: "AQAB" }))),
                UnusableKey::Private
            );
        }
    }
}

#[test]
fn rsa_keys_are_neither_weak_nor_huge() {
    let f4 = &[1, 0, 1];
    for bits in [2048, 2049, 3072, 4096, 4097, 8192] {
        assert_eq!(key(rsa(bits, f4)).key_type(), KeyType::Rsa, "{bits}");
    }
    for bits in [1, 1024, 2047, 8193, 16384] {
        assert_eq!(fault(rsa(bits, f4)), UnusableKey::RsaLength(bits));
    }
    for good in [&[1, 0, 1][..], &[0, 1, 0, 1], &[1, 0xff, 0xff, 0xff, 0xff]] {
        assert!(Key::from_jwk(rsa(2048, good).as_object().unwrap()).is_ok());
    }
    for bad in [
        &[][..],
        &[0],
        &[1],
        &[2],
        &[3],
        &[17],
        &[0xff, 0xff],
        &[1, 0, 0],
        &[1, 0, 2],
        &[2, 0, 0, 0, 1],
        &[1, 0, 0, 0, 0, 0, 0, 0, 1],
    ] {
        assert_eq!(fault(rsa(2048, bad)), UnusableKey::RsaExponent, "{bad:?}");
    }
    let mut even = vec![0xff; 256];
    even[255] = 0xfe;
    assert_eq!(
        fault(json!({"kty": "RSA", "n": base64url(even), "e": "AQAB"})),
        UnusableKey::RsaModulus
    );
    // Some libraries write a zero before the modulus.
    let mut padded = vec![0xff; 257];
    padded[0] = 0;
    let padded = key(json!({"kty": "RSA", "n": base64url(padded), "e": "AQAB"}));
    assert_eq!(padded.spki_der(), key(rsa(2048, f4)).spki_der());
}

#[test]
fn numbers_are_base64url_of_the_right_length() {
    let length = |member, found, expected| UnusableKey::Length {
        member,
        found,
        expected,
    };
    for (jwk, expected) in [
        (
            with(jwk(RSA), json!({"e": "AQAB="})),
            UnusableKey::Encoding("e"),
        ),
        (
            with(jwk(RSA), json!({"n": "a+b/"})),
            UnusableKey::Encoding("n"),
        ),
        (
            with(jwk(RSA), json!({"e": 65537})),
            UnusableKey::NotText("e"),
        ),
        (with(jwk(P256), json!({"x": ""})), length("x", 0, 32)),
        (
            with(jwk(P256), json!({"y": base64url([1; 31])})),
            length("y", 31, 32),
        ),
        (
            with(jwk(P256), json!({"x": base64url([0; 33])})),
            length("x", 33, 32),
        ),
        (
            with(jwk(P256), json!({"crv": "P-384"})),
            length("x", 32, 48),
        ),
        (
            with(jwk(P384), json!({"crv": "P-256"})),
            length("x", 48, 32),
        ),
        (
            with(jwk(ED25519), json!({"x": base64url([1; 31])})),
            length("x", 31, 32),
        ),
        (
            with(jwk(ED25519), json!({"x": base64url([1; 64])})),
            length("x", 64, 32),
        ),
    ] {
        assert_eq!(fault(jwk), expected);
    }
}

#[test]
fn points_are_on_their_curve() {
    for private in [P256, P384] {
        let good = jwk(private);
        let swapped = with(good.clone(), json!({"x": good["y"], "y": good["x"]}));
        assert_eq!(fault(swapped), UnusableKey::Point);
    }
    let (ones, zeros) = (base64url([0xff; 32]), base64url([0; 32]));
    for (x, y) in [(&zeros, &zeros), (&ones, &ones)] {
        assert_eq!(
            fault(with(jwk(P256), json!({"x": x, "y": y}))),
            UnusableKey::Point
        );
    }
    let mut two = [0; 32];
    two[0] = 2;
    assert_eq!(
        fault(with(jwk(ED25519), json!({"x": base64url(two)}))),
        UnusableKey::Point
    );
    // The neutral element, a point of order 2 and two of order 4.
    let neutral = {
        let mut x = [0; 32];
        x[0] = 1;
        x
    };
    let minus_one = {
        let mut x = [0xff; 32];
        x[0] = 0xec;
        x[31] = 0x7f;
        x
    };
    let order_4 = [0; 32];
    let negative = {
        let mut x = [0; 32];
        x[31] = 0x80;
        x
    };
    for weak in [neutral, minus_one, order_4, negative] {
        assert_eq!(
            fault(with(jwk(ED25519), json!({"x": base64url(weak)}))),
            UnusableKey::WeakPoint
        );
    }
}

#[test]
fn pem_is_one_public_key() {
    let fault = |pem: &str| Key::from_pem(pem, None, None).unwrap_err();
    let good = include_str!("keys/p-256.pem");
    assert!(Key::from_pem(&format!("\n  {good}\n\n"), None, None).is_ok());
    assert!(Key::from_pem(good.trim_end(), None, Some(Algorithm::Es256)).is_ok());
    assert_eq!(
        Key::from_pem(good, None, Some(Algorithm::Rs256)).unwrap_err(),
        UnusableKey::OtherType(Algorithm::Rs256)
    );
    let long = Some("k".repeat(MAX_KID_BYTES + 1));
    assert_eq!(
        Key::from_pem(good, long, None).unwrap_err(),
        UnusableKey::KidTooLong
    );
    for bad in [
        "",
        "key",
        "-----BEGIN PUBLIC KEY-----",
        &good.replace("PUBLIC KEY-----\n", ""),
    ] {
        assert_eq!(fault(bad), UnusableKey::Pem, "{bad}");
    }
    assert_eq!(fault(&good.repeat(2)), UnusableKey::Pem);
    for label in ["PRIVATE KEY", "RSA PUBLIC KEY", "CERTIFICATE"] {
        assert_eq!(
            fault(&good.replace("PUBLIC KEY", label)),
            UnusableKey::PemLabel(label.to_owned())
        );
    }
    assert_eq!(
        fault(include_str!("keys/rsa-1024.pem")),
        UnusableKey::RsaLength(1024)
    );
    assert_eq!(
        fault(include_str!("keys/rsa-exponent-3.pem")),
        UnusableKey::RsaExponent
    );
    assert_eq!(fault(include_str!("keys/p-521.pem")), UnusableKey::Der);
    let x25519 = include_str!("keys/ed25519.pem").replace("K2Vw", "K2Vu");
    assert_eq!(fault(&x25519), UnusableKey::Der);
}

#[test]
fn one_odd_key_does_not_cost_the_others() {
    let keys = parse(&json!({"extra": [], "keys": [
        with(jwk(P256), json!({"kid": "a"})),
        with(jwk(RSA), json!({"kid": "b", "use": "enc"})),
        {"kty": "oct", "k": "AAAA", "kid": "c"},
        "text",
        with(jwk(P384), json!({"kid": "d\n"})),
        {"kid": 1},
        with(jwk(P256), json!({"kid": "a"})),
    ]}))
    .unwrap();
    let kids: Vec<_> = keys.keys().iter().map(Key::kid).collect();
    assert_eq!(kids, [Some("a"), Some("d\n")]);
    let skipped: Vec<String> = keys.skipped().iter().map(ToString::to_string).collect();
    assert_eq!(
        skipped,
        [
            "keys[1] (kid \"b\") is left out because use is \"enc\", expected sig",
            "keys[2] (kid \"c\") is left out because it is a shared secret (kty oct), expected a \
             public key",
            "keys[3] is left out because it is not a JSON object",
            "keys[5] is left out because kty is missing",
            "keys[6] (kid \"a\") is left out because the set has it twice",
        ]
    );
    for known in ["a", "b", "c", "d\n"] {
        assert!(keys.has_kid(known));
    }
    assert!(!keys.has_kid("d"));
}

#[test]
fn what_is_no_set_is_refused() {
    let fault = |json: &str| KeySet::parse(json.as_bytes(), &Limits::default()).unwrap_err();
    for (json, expected) in [
        ("", InvalidKeySet::Json(InvalidObject::Syntax)),
        ("<html>", InvalidKeySet::Json(InvalidObject::Syntax)),
        ("[]", InvalidKeySet::Json(InvalidObject::NotAnObject)),
        (
            r#"{"keys":[],"keys":[]}"#,
            InvalidKeySet::Json(InvalidObject::RepeatedMember),
        ),
        (
            r#"{"keys":[{"kty":"EC","kty":"RSA"}]}"#,
            InvalidKeySet::Json(InvalidObject::RepeatedMember),
        ),
        ("{}", InvalidKeySet::NoKeys),
        (r#"{"keys":{}}"#, InvalidKeySet::NoKeys),
        (r#"{"keys":[]}"#, InvalidKeySet::NoUsableKey(Vec::new())),
    ] {
        assert_eq!(fault(json), expected, "{json}");
        assert!(fault(json).to_string().starts_with("found "));
    }
    let only = fault(r#"{"keys":[{"kty":"oct"}]}"#).to_string();
    assert!(
        only.starts_with("found no usable key: keys[0] is left out because"),
        "{only}"
    );
    let two = fault(r#"{"keys":[{"kty":"oct"},{}]}"#).to_string();
    assert!(
        two.starts_with("found no usable key among 2: keys[0]"),
        "{two}"
    );
}

#[test]
fn sets_are_capped() {
    let one = json!({"keys": [jwk(P256)]}).to_string();
    let limits = |bytes, keys| Limits { bytes, keys };
    assert!(KeySet::parse(one.as_bytes(), &limits(one.len(), 1)).is_ok());
    assert_eq!(
        KeySet::parse(one.as_bytes(), &limits(one.len() - 1, 1)).unwrap_err(),
        InvalidKeySet::TooLong {
            found: one.len(),
            limit: one.len() - 1
        }
    );
    assert_eq!(
        parse(&json!({"keys": vec![json!({}); 101]})).unwrap_err(),
        InvalidKeySet::TooManyKeys {
            found: 101,
            limit: 100
        }
    );
}

#[test]
fn few_keys_share_a_kid_or_have_none() {
    for kid in [Some("k"), None] {
        let named = |jwk: Value| match kid {
            Some(kid) => with(jwk, json!({"kid": kid})),
            None => jwk,
        };
        let mut jwks: Vec<Value> = (0..6_u8)
            .map(|index| {
                let mut n = [0xff; 256];
                n[8] = index;
                named(json!({"kty": "RSA", "e": "AQAB", "n": base64url(n)}))
            })
            .collect();
        jwks.push(named(jwk(P256)));
        let keys = set(&jwks);
        assert_eq!(keys.keys().len(), MAX_KEYS_PER_KID + 1);
        assert!(
            keys.skipped()
                .iter()
                .all(|key| key.reason == UnusableKey::Crowded)
        );
        let candidates = |algorithm| Ok::<_, NoKey>(keys.candidates(algorithm, Some("k"))?.count());
        assert_eq!(candidates(Algorithm::Rs256), Ok(MAX_KEYS_PER_KID));
        assert_eq!(candidates(Algorithm::Es256), Ok(1));
    }
}

#[test]
fn candidates_agree_in_name_and_purpose() {
    let keys = set(&[
        with(jwk(RSA), json!({"kid": "rsa"})),
        with(jwk(RSA), json!({"kid": "rs512", "alg": "RS512"})),
        with(jwk(P256), json!({"kid": "ec"})),
        with(jwk(ED25519), json!({"kid": "ed", "alg": "EdDSA"})),
        with(jwk(P384), json!({"kid": "skipped", "use": "enc"})),
    ]);
    let found = |algorithm, kid| {
        let candidates = keys.candidates(algorithm, kid)?;
        Ok(candidates.map(|key| key.kid().unwrap()).collect::<Vec<_>>())
    };
    for (algorithm, kid, expected) in [
        (Algorithm::Rs256, Some("rsa"), Ok(vec!["rsa"])),
        (Algorithm::Ps256, Some("rsa"), Ok(vec!["rsa"])),
        (Algorithm::Rs512, Some("rsa"), Ok(vec!["rsa"])),
        (Algorithm::Rs256, Some("rs512"), Err(NoKey::NoFittingKey)),
        (Algorithm::Rs256, Some("ec"), Err(NoKey::NoFittingKey)),
        (Algorithm::Es384, Some("ec"), Err(NoKey::NoFittingKey)),
        (Algorithm::Es384, Some("skipped"), Err(NoKey::NoFittingKey)),
        (Algorithm::Rs256, Some("RSA"), Err(NoKey::UnknownKid)),
        (Algorithm::Rs256, Some(""), Err(NoKey::UnknownKid)),
        (Algorithm::Rs256, None, Ok(vec!["rsa"])),
        (Algorithm::Rs512, None, Err(NoKey::Ambiguous)),
        (Algorithm::Es256, None, Ok(vec!["ec"])),
        (Algorithm::EdDsa, None, Ok(vec!["ed"])),
        (Algorithm::Es384, None, Err(NoKey::NoFittingKey)),
    ] {
        assert_eq!(found(algorithm, kid), expected, "{algorithm} {kid:?}");
    }
}

/// RFC 7517 section 4.5: a key need not have a name, and then it may be any.
#[test]
fn a_key_without_a_name_is_tried_for_names_that_no_key_has() {
    let keys = set(&[
        jwk(P256),
        with(jwk(OTHER_P256), json!({"kid": "a"})),
        with(jwk(P384), json!({"kid": "skipped", "use": "enc"})),
    ]);
    let found = |algorithm, kid| {
        let candidates = keys.candidates(algorithm, kid)?;
        Ok(candidates.map(Key::kid).collect::<Vec<_>>())
    };
    for (algorithm, kid, expected) in [
        (Algorithm::Es256, Some("k"), Ok(vec![None])),
        (Algorithm::Es256, Some(""), Ok(vec![None])),
        (Algorithm::Es256, Some("a"), Ok(vec![Some("a")])),
        (Algorithm::Es256, Some("skipped"), Err(NoKey::NoFittingKey)),
        (Algorithm::Es384, Some("k"), Err(NoKey::UnknownKid)),
        (Algorithm::Es256, None, Err(NoKey::Ambiguous)),
    ] {
        assert_eq!(found(algorithm, kid), expected, "{algorithm} {kid:?}");
    }
    let alone = KeySet::from_keys([key(jwk(P256))]).unwrap();
    assert!(alone.candidates(Algorithm::Es256, None).is_ok());
    assert!(alone.candidates(Algorithm::Es256, Some("k")).is_ok());
    assert!(!alone.has_kid("k"));
    assert_eq!(
        KeySet::from_keys([]).unwrap_err(),
        InvalidKeySet::NoUsableKey(Vec::new())
    );
}
