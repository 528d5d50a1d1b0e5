//! Which signatures are valid: the same tables by every host and without one.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't go on has failed"
)]

mod common;

use std::cell::Cell;

use common::{
    ALGORITHMS, ED25519, Host, OTHER_P256, OTHER_RSA, P256, P384, RSA, jwk, key, resigned, set,
    sign, signature, verifies, with,
};
use jsonwebtoken::Algorithm as Alg;
use serde_json::json;
use tollgate_jose::{
    Algorithm, AlgorithmNotAllowed, Hash, InvalidToken, Jws, Key, MalformedToken, NoHost, NoKey,
    SignatureHost, SignatureInvalid,
};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

const PAYLOAD: &str = r#"{"iss":"https://idp.example/","sub":"alice"}"#;

fn header(alg: &str) -> String {
    json!({ "alg": alg }).to_string()
}

#[test]
fn every_algorithm_verifies_its_own_signatures_only() {
    for (name, algorithm, private) in ALGORITHMS {
        let good = sign(&header(name), PAYLOAD, algorithm, private);
        let key = key(jwk(private));
        let (input, _) = good.rsplit_once('.').unwrap();
        let other = sign(&header(name), r#"{"iss":"x"}"#, algorithm, private);
        let swapped = resigned(&good, signature(&other));
        let long = resigned(&good, [signature(&good), vec![0]].concat());
        let short = resigned(&good, signature(&good).split_last().unwrap().1);
        let zeros = resigned(&good, vec![0; signature(&good).len()]);
        let ones = resigned(&good, vec![0xff; signature(&good).len()]);
        for host in Host::ALL {
            assert!(verifies(&good, &key, host), "{name} {host:?}");
            for bad in [&swapped, &long, &short, &zeros, &ones] {
                assert!(!verifies(bad, &key, host), "{name} {host:?} {bad}");
                assert!(bad.len() > input.len());
            }
        }
    }
}

#[test]
fn keys_verify_nothing_that_they_are_not_for() {
    let keys = [RSA, OTHER_RSA, P256, OTHER_P256, P384, ED25519];
    for (name, algorithm, private) in ALGORITHMS {
        let token = sign(&header(name), PAYLOAD, algorithm, private);
        for other in keys {
            let matches = other == private;
            for host in Host::ALL {
                assert_eq!(
                    verifies(&token, &key(jwk(other)), host),
                    matches,
                    "{name} {host:?}"
                );
            }
        }
        // The same key, published for one algorithm.
        for (only, same, owner) in ALGORITHMS {
            if owner == private {
                let key = key(with(jwk(private), json!({ "alg": only })));
                assert_eq!(
                    verifies(&token, &key, &Host::RustCrypto),
                    same == algorithm,
                    "{name} by a key for {only}"
                );
            }
        }
    }
}

#[test]
fn what_the_header_says_is_what_is_verified() {
    let rsa = key(jwk(RSA));
    for (claimed, signed) in [
        ("RS256", Alg::PS256),
        ("PS256", Alg::RS256),
        ("RS256", Alg::RS384),
        ("RS512", Alg::RS256),
        ("PS384", Alg::PS256),
    ] {
        let token = sign(&header(claimed), PAYLOAD, signed, RSA);
        for host in Host::ALL {
            assert!(
                !verifies(&token, &rsa, host),
                "{claimed} {signed:?} {host:?}"
            );
        }
    }
}

/// RFC 8725 section 2.1: the public key of RS256 is the secret of HS256.
#[test]
fn a_public_key_is_never_a_secret() {
    let pem = include_bytes!("keys/rsa-2048.pem");
    let spki = key(jwk(RSA)).spki_der().to_vec();
    let keys = set(&[with(jwk(RSA), json!({"kid": "k"}))]);
    for secret in [pem.as_slice(), pem.trim_ascii(), &spki] {
        for (name, algorithm) in [
            ("HS256", Alg::HS256),
            ("HS384", Alg::HS384),
            ("HS512", Alg::HS512),
        ] {
            for header in [json!({"alg": name}), json!({"alg": name, "kid": "k"})] {
                let token = sign(&header.to_string(), PAYLOAD, algorithm, secret);
                let jws = Jws::parse(token.as_bytes(), 10_000).unwrap();
                assert_eq!(
                    keys.verify(&jws, &Algorithm::ALL, &NoHost).unwrap_err(),
                    InvalidToken::Algorithm(AlgorithmNotAllowed)
                );
                assert!(!verifies(&token, &key(jwk(RSA)), &Host::RustCrypto));
            }
        }
    }
}

#[test]
fn a_token_that_is_not_signed_is_refused() {
    let keys = set(&[jwk(RSA)]);
    for alg in ["none", "None", "nOnE"] {
        let token = sign(&header(alg), PAYLOAD, Alg::RS256, RSA);
        let jws = Jws::parse(token.as_bytes(), 10_000).unwrap();
        assert!(keys.verify(&jws, &Algorithm::ALL, &NoHost).is_err());
        let bare = resigned(&token, []);
        assert_eq!(
            Jws::parse(bare.as_bytes(), 10_000).unwrap_err(),
            MalformedToken::EmptySegment
        );
    }
}

#[test]
fn ecdsa_signatures_are_two_numbers_of_full_length() {
    let es256 = sign(&header("ES256"), PAYLOAD, Alg::ES256, P256);
    let raw = signature(&es256);
    let der = p256::ecdsa::Signature::from_slice(&raw).unwrap().to_der();
    let key = key(jwk(P256));
    let (r, s) = raw.split_at(32);
    let zero = [0; 32];
    // The order of the curve, SEC 2 section 2.4.2.
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    for host in Host::ALL {
        assert!(verifies(&es256, &key, host));
        for bad in [
            der.as_bytes().to_vec(),
            [&zero[..], r, &zero, s].concat(),
            [&[0][..], r, &[0], s].concat(),
            [s, r].concat(),
            [r, &zero].concat(),
            [&zero, s].concat(),
            [r, &order].concat(),
            [&order, s].concat(),
            r.to_vec(),
        ] {
            assert!(
                !verifies(&resigned(&es256, &bad), &key, host),
                "{host:?} {bad:?}"
            );
        }
    }
}

/// What signs decides between s and n - s, and RFC 7518 allows both.
#[test]
fn a_high_s_is_as_good_as_a_low_one() {
    let token = sign(&header("ES256"), PAYLOAD, Alg::ES256, P256);
    let signature = p256::ecdsa::Signature::from_slice(&signature(&token)).unwrap();
    let (r, s) = signature.split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
    for host in Host::ALL {
        assert!(verifies(
            &resigned(&token, other.to_bytes()),
            &key(jwk(P256)),
            host
        ));
    }
}

#[test]
fn the_salt_of_pss_is_as_long_as_the_hash() {
    let key = key(jwk(RSA));
    for host in Host::ALL {
        let good = include_str!("tokens/rsa-2048-ps256.jwt");
        assert!(verifies(good, &key, host));
        let bad = include_str!("tokens/rsa-2048-ps256-salt-20.jwt");
        assert!(!verifies(bad, &key, host));
    }
}

#[test]
fn long_rsa_keys_verify_as_others_do() {
    let pem = include_str!("keys/rsa-8192.pem");
    let key = Key::from_pem(pem, None, None).unwrap();
    for (name, token) in [
        ("RS256", include_str!("tokens/rsa-8192-rs256.jwt")),
        ("RS512", include_str!("tokens/rsa-8192-rs512.jwt")),
    ] {
        let mut flipped = signature(token);
        *flipped.last_mut().unwrap() ^= 1;
        for host in Host::ALL {
            assert!(verifies(token, &key, host), "{name} {host:?}");
            assert!(
                !verifies(&resigned(token, &flipped), &key, host),
                "{name} {host:?}"
            );
        }
    }
}

#[test]
fn long_rsa_keys_are_not_for_pss() {
    let key = Key::from_pem(include_str!("keys/rsa-8192.pem"), None, None).unwrap();
    for token in [
        include_str!("tokens/rsa-8192-ps256.jwt"),
        include_str!("tokens/rsa-8192-ps512.jwt"),
    ] {
        for host in Host::ALL {
            assert!(!verifies(token, &key, host), "{host:?}");
        }
    }
}

/// A host that agrees with everything and counts how often it is asked.
#[derive(Default)]
struct Agreeable(Cell<u32>);

impl SignatureHost for Agreeable {
    fn verify(&self, _: Hash, _: &[u8], _: &[u8], _: &[u8]) -> Option<bool> {
        self.0.set(self.0.get() + 1);
        Some(true)
    }
}

#[test]
fn the_host_is_asked_what_it_knows_and_nothing_else() {
    for (name, algorithm, private) in ALGORITHMS {
        let token = sign(&header(name), PAYLOAD, algorithm, private);
        let jws = Jws::parse(token.as_bytes(), 10_000).unwrap();
        let host = Agreeable::default();
        assert!(tollgate_jose::verify(&jws, &key(jwk(private)), &host).is_ok());
        let asked = name.starts_with("RS") || name.starts_with("ES");
        assert_eq!(host.0.get(), u32::from(asked), "{name}");

        // Never with a key or a signature that can't be meant.
        let host = Agreeable::default();
        for other in [RSA, P256, P384, ED25519]
            .into_iter()
            .filter(|key| *key != private)
        {
            assert!(tollgate_jose::verify(&jws, &key(jwk(other)), &host).is_err());
        }
        let short = resigned(&token, [1; 8]);
        let short = Jws::parse(short.as_bytes(), 10_000).unwrap();
        assert!(tollgate_jose::verify(&short, &key(jwk(private)), &host).is_err());
        assert_eq!(host.0.get(), 0, "{name}");
    }
}

#[test]
fn a_set_verifies_with_the_key_that_is_meant() {
    let keys = set(&[
        with(jwk(P256), json!({"kid": "a"})),
        with(jwk(OTHER_P256), json!({"kid": "b"})),
        with(jwk(RSA), json!({"kid": "c", "alg": "RS256"})),
        with(jwk(OTHER_P256), json!({"kid": "a"})),
    ]);
    let verified =
        |header: serde_json::Value, algorithm: Alg, private: &[u8], allowed: &[Algorithm]| {
            let token = sign(&header.to_string(), PAYLOAD, algorithm, private);
            let jws = Jws::parse(token.as_bytes(), 10_000).unwrap();
            let result = keys.verify(&jws, allowed, &Host::RustCrypto);
            result.map(|key| key.kid().unwrap().to_owned())
        };
    let es256 = |kid: &str| json!({"alg": "ES256", "kid": kid});
    let all = &Algorithm::ALL;
    assert_eq!(verified(es256("a"), Alg::ES256, P256, all).unwrap(), "a");
    assert_eq!(
        verified(es256("b"), Alg::ES256, OTHER_P256, all).unwrap(),
        "b"
    );
    // Two keys have this name, and the second one is right.
    assert_eq!(
        verified(es256("a"), Alg::ES256, OTHER_P256, all).unwrap(),
        "a"
    );
    assert_eq!(
        verified(es256("b"), Alg::ES256, P256, all),
        Err(InvalidToken::Signature(SignatureInvalid))
    );
    assert_eq!(
        verified(es256("z"), Alg::ES256, P256, all),
        Err(InvalidToken::Key(NoKey::UnknownKid))
    );
    assert_eq!(
        verified(es256("c"), Alg::ES256, P256, all),
        Err(InvalidToken::Key(NoKey::NoFittingKey))
    );
    assert_eq!(
        verified(json!({"alg": "ES256"}), Alg::ES256, P256, all),
        Err(InvalidToken::Key(NoKey::Ambiguous))
    );
    assert_eq!(
        verified(json!({"alg": "RS256"}), Alg::RS256, RSA, all).unwrap(),
        "c"
    );
    assert_eq!(
        verified(json!({"alg": "PS256"}), Alg::PS256, RSA, all),
        Err(InvalidToken::Key(NoKey::NoFittingKey))
    );
    assert_eq!(
        verified(es256("a"), Alg::ES256, P256, &[Algorithm::Rs256]),
        Err(InvalidToken::Algorithm(AlgorithmNotAllowed))
    );
}

#[test]
fn what_keys_without_a_name_do_not_verify_may_be_by_a_newer_key() {
    let keys = set(&[
        jwk(P256),
        jwk(RSA),
        jwk(OTHER_RSA),
        with(jwk(OTHER_P256), json!({"kid": "a"})),
        with(jwk(P384), json!({"kid": "b"})),
    ]);
    let verified = |kid: &str, algorithm: Alg, private: &[u8]| {
        let header = json!({"alg": format!("{algorithm:?}"), "kid": kid});
        let token = sign(&header.to_string(), PAYLOAD, algorithm, private);
        let jws = Jws::parse(token.as_bytes(), 10_000).unwrap();
        let result = keys.verify(&jws, &Algorithm::ALL, &Host::RustCrypto);
        result.map(|key| key.spki_der().to_vec())
    };
    for (kid, algorithm, private) in [
        ("k", Alg::ES256, P256),
        ("k", Alg::RS256, RSA),
        ("k", Alg::RS256, OTHER_RSA),
        ("a", Alg::ES256, OTHER_P256),
    ] {
        let found = verified(kid, algorithm, private);
        assert_eq!(found.unwrap(), key(jwk(private)).spki_der(), "{kid}");
    }
    for (kid, algorithm, private, error) in [
        // A key that has another name is not tried.
        ("k", Alg::ES256, OTHER_P256, NoKey::UnknownKid.into()),
        ("k", Alg::ES384, P384, NoKey::UnknownKid.into()),
        // Nor are those without one for a name that is known.
        ("a", Alg::ES256, P256, SignatureInvalid.into()),
        ("b", Alg::ES256, P256, NoKey::NoFittingKey.into()),
    ] {
        let found: Result<_, InvalidToken> = verified(kid, algorithm, private);
        assert_eq!(found, Err(error), "{kid} {algorithm:?}");
    }
}
