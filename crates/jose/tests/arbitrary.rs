//! Whatever the bytes, nothing panics, and nothing but the very token is accepted. Native only, as
//! `proptest` and `ring` are.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't go on has failed"
)]

mod common;

use common::{ALGORITHMS, Host, base64url, jwk, set, sign};
use proptest::prelude::*;
use serde_json::json;
use tollgate_core::time::Timestamp;
use tollgate_jose::{Algorithm, ClaimRules, Jws, Key, KeySet, Limits, NoHost, SignatureHost};

const PAYLOAD: &str = r#"{"iss":"https://idp.example/","sub":"alice","exp":1900000000}"#;

fn accepted(keys: &KeySet, token: &[u8], host: &impl SignatureHost) -> bool {
    Jws::parse(token, 10_000).is_ok_and(|jws| keys.verify(&jws, &Algorithm::ALL, host).is_ok())
}

#[test]
fn no_byte_of_a_token_can_be_changed() {
    for (name, algorithm, private) in ALGORITHMS {
        let keys = set(&[jwk(private)]);
        let header = json!({"alg": name, "typ": "JWT"}).to_string();
        let good = sign(&header, PAYLOAD, algorithm, private);
        // The host, being fast, gets every place; Rust some, as it is built for debugging here.
        let by_host = name.starts_with("RS") || name.starts_with("ES");
        let step = if by_host { 1 } else { 23 };
        assert!(accepted(&keys, good.as_bytes(), &Host::Ring));
        for place in (0..good.len()).step_by(step) {
            for byte in [
                b'A',
                b'B',
                b'_',
                b'.',
                b'=',
                b' ',
                b'\n',
                0,
                0xff,
                good.as_bytes()[place] ^ 1,
            ] {
                let mut bad = good.clone().into_bytes();
                bad[place] = byte;
                let same = bad == good.as_bytes();
                assert_eq!(
                    accepted(&keys, &bad, &Host::Ring),
                    same,
                    "{name} {place} {byte}"
                );
            }
        }
        for place in (0..=good.len()).step_by(step) {
            let mut longer = good.clone();
            longer.insert(place, 'A');
            assert!(
                !accepted(&keys, longer.as_bytes(), &Host::Ring),
                "{name} {place}"
            );
            assert!(!accepted(&keys, &good.as_bytes()[place..], &Host::Ring) || place == 0);
            assert!(
                !accepted(&keys, &good.as_bytes()[..place], &Host::Ring) || place == good.len()
            );
        }
    }
}

fn json_like() -> impl Strategy<Value = String> {
    let member = prop_oneof![
        r#""(alg|kid|typ|crit|b64|iss|aud|exp|nbf|iat|kty|crv|x|y|n|e|use|key_ops|keys)":("[A-Za-z0-9_ -]{0,44}"|-?[0-9]{1,25}(\.[0-9]{1,3})?(e-?[0-9]{1,3})?|null|true|\[("[a-z]{1,3}")?\]|\{\})"#,
        Just(r#""alg":"ES256""#.to_owned()),
        Just(r#""kty":"EC","crv":"P-256""#.to_owned()),
        Just(r#""kty":"RSA","e":"AQAB""#.to_owned()),
        Just(r#""kty":"OKP","crv":"Ed25519""#.to_owned()),
    ];
    prop::collection::vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn try_all(token: &[u8], keys: &KeySet) {
    if let Ok(jws) = Jws::parse(token, 10_000) {
        let rules = ClaimRules {
            max_lifetime: Some(std::time::Duration::from_secs(60)),
            ..ClaimRules::for_issuer("i")
        };
        let now = Timestamp::from_seconds(1_800_000_000);
        let checked = rules.check(jws.claims(), jws.header(), now);
        assert!(checked.is_err() || checked.is_ok_and(|validated| validated.holds_at(now)));
        let verified = keys.verify(&jws, &Algorithm::ALL, &NoHost);
        assert!(verified.is_err());
    }
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let keys = set(&[jwk(common::P256)]);
        try_all(&bytes, &keys);
        prop_assert!(KeySet::parse(&bytes, &Limits::default()).is_err());
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(Key::from_pem(&text, None, None).is_err());
    }

    #[test]
    fn tokens_that_look_right_never_panic(
        header in json_like(),
        payload in json_like(),
        signature in prop::collection::vec(any::<u8>(), 60..68),
    ) {
        let keys = set(&[jwk(common::P256), jwk(common::ED25519)]);
        let token = format!("{}.{}.{}", base64url(header), base64url(payload), base64url(signature));
        try_all(token.as_bytes(), &keys);
    }

    #[test]
    fn keys_that_look_right_never_panic(jwks in prop::collection::vec(json_like(), 0..4)) {
        let json = format!(r#"{{"keys":[{}]}}"#, jwks.join(","));
        if let Ok(keys) = KeySet::parse(json.as_bytes(), &Limits::default()) {
            prop_assert!(!keys.keys().is_empty());
        }
    }

    #[test]
    fn pem_that_looks_right_never_panics(der in prop::collection::vec(any::<u8>(), 0..120), cut in 0..90_usize) {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----");
        let _ = Key::from_pem(&pem, None, None);
        let mut real = include_str!("keys/p-256.pem").to_owned();
        real.remove(cut);
        let _ = Key::from_pem(&real, None, None);
    }
}
