//! Signatures are verified by the host where it can, else in Rust; either way with one outcome.

use ed25519_dalek::Signer as _;
use p256::pkcs8::DecodePublicKey as _;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::sha2::Sha256;
use rsa::signature::{SignatureEncoding as _, Verifier as _};
use rsa::traits::PublicKeyParts as _;
use tollgate_core::host::Hash;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// What the host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cryptography {
    /// It has none.
    Absent,
    /// It has some, and can't tell.
    Unsure,
    /// By the libraries that are used in a plugin, fed with what Envoy gets.
    RustCrypto,
    /// By a close relative of what Envoy has.
    #[cfg(not(target_arch = "wasm32"))]
    Ring,
}

const ALL: &[Cryptography] = &[
    Cryptography::Absent,
    Cryptography::Unsure,
    Cryptography::RustCrypto,
    #[cfg(not(target_arch = "wasm32"))]
    Cryptography::Ring,
];

fn install(plugin: &Plugin, cryptography: Cryptography) {
    *plugin.host.signatures.borrow_mut() = match cryptography {
        Cryptography::Absent => None,
        Cryptography::Unsure => Some(Box::new(|_, _, _, _| None)),
        Cryptography::RustCrypto => Some(Box::new(by_rust_crypto)),
        #[cfg(not(target_arch = "wasm32"))]
        Cryptography::Ring => Some(Box::new(by_ring)),
    };
}

fn by_rust_crypto(hash: Hash, spki: &[u8], signature: &[u8], message: &[u8]) -> Option<bool> {
    assert_eq!(hash, Hash::Sha256);
    if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(spki) {
        let signature = p256::ecdsa::DerSignature::from_bytes(signature).unwrap();
        return Some(key.verify(message, &signature).is_ok());
    }
    let key = rsa::RsaPublicKey::from_public_key_der(spki).unwrap();
    let signature = rsa::pkcs1v15::Signature::try_from(signature).unwrap();
    let key = rsa::pkcs1v15::VerifyingKey::<Sha256>::new(key);
    Some(key.verify(message, &signature).is_ok())
}

#[cfg(not(target_arch = "wasm32"))]
fn by_ring(hash: Hash, spki: &[u8], signature: &[u8], message: &[u8]) -> Option<bool> {
    use p256::pkcs8::SubjectPublicKeyInfoRef;
    use ring::signature::{
        ECDSA_P256_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    };
    use rsa::pkcs1::DecodeRsaPublicKey as _;

    assert_eq!(hash, Hash::Sha256);
    let spki = SubjectPublicKeyInfoRef::try_from(spki).unwrap();
    let key = spki.subject_public_key.as_bytes().unwrap();
    let algorithm: &dyn VerificationAlgorithm = match rsa::RsaPublicKey::from_pkcs1_der(key) {
        Ok(_) => &RSA_PKCS1_2048_8192_SHA256,
        Err(_) => &ECDSA_P256_SHA256_ASN1,
    };
    let key = UnparsedPublicKey::new(algorithm, key);
    Some(key.verify(message, signature).is_ok())
}

/// For tests only, worth nothing; see the README beside it.
const RSA: &[u8] = include_bytes!("../../../../crates/jose/tests/keys/rsa-2048.der");

fn rsa_key() -> rsa::RsaPrivateKey {
    rsa::RsaPrivateKey::from_pkcs1_der(RSA).unwrap()
}

fn ed25519_key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[7; 32])
}

fn rs256(claims: &Value) -> String {
    signed(&json!({ "alg": "RS256", "kid": "rsa" }), claims, |input| {
        let key = rsa::pkcs1v15::SigningKey::<Sha256>::new(rsa_key());
        rsa::signature::Signer::sign(&key, input).to_vec()
    })
}

fn eddsa(claims: &Value) -> String {
    signed(&json!({ "alg": "EdDSA", "kid": "ed" }), claims, |input| {
        ed25519_key().sign(input).to_vec()
    })
}

/// An issuer with a key of each sort.
fn mixed() -> Plugin {
    let (n, e) = (rsa_key().n().to_bytes_be(), rsa_key().e().to_bytes_be());
    let x = ed25519_key().verifying_key().to_bytes();
    let keys = json!({ "keys": [
        K1.jwk(),
        { "kty": "RSA", "kid": "rsa", "n": base64url(n), "e": base64url(e) },
        { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": base64url(x) },
    ] });
    start(&config(
        json!({}),
        json!({ "algorithms": ["ES256", "RS256", "EdDSA"], "jwks": { "inline": keys } }),
    ))
}

/// The token with another payload.
fn tampered(token: &str) -> String {
    let mut segments = token.split('.');
    let (header, signature) = (segments.next().unwrap(), segments.next_back().unwrap());
    let payload = base64url(claims(json!({ "sub": "mallory" })).to_string());
    format!("{header}.{payload}.{signature}")
}

#[test]
fn whoever_verifies_good_tokens_pass_and_others_do_not() {
    let good = claims(json!({}));
    let tokens = [K1.sign(&good), rs256(&good), eddsa(&good)];
    for cryptography in ALL {
        let plugin = mixed();
        install(&plugin, *cryptography);
        for token in &tokens {
            assert_eq!(send(&plugin, token).status, 200, "{cryptography:?} {token}");
            refused(&send(&plugin, &tampered(token)), 401, "signature-invalid");
        }
    }
}

#[test]
fn what_the_host_says_counts() {
    let plugin = mixed();
    let calls = count_signatures(&plugin, Some(false));
    let good = claims(json!({}));
    refused(&send(&plugin, &K1.sign(&good)), 401, "signature-invalid");
    refused(&send(&plugin, &rs256(&good)), 401, "signature-invalid");
    assert_eq!(calls.get(), 2);
    // It is not asked what it does not know.
    assert_eq!(send(&plugin, &eddsa(&good)).status, 200);
    assert_eq!(calls.get(), 2);
}

#[test]
fn a_host_that_cant_tell_is_asked_and_not_relied_on() {
    let plugin = mixed();
    let calls = count_signatures(&plugin, None);
    let good = claims(json!({}));
    assert_eq!(send(&plugin, &K1.sign(&good)).status, 200);
    refused(
        &send(&plugin, &tampered(&K1.sign(&good))),
        401,
        "signature-invalid",
    );
    assert_eq!(calls.get(), 2);
}

#[test]
fn a_key_may_be_given_as_pem() {
    let pem = include_str!("../../../../crates/jose/tests/keys/p-256.pem");
    let private = include_bytes!("../../../../crates/jose/tests/keys/p-256.der");
    let key = <SigningKey as p256::pkcs8::DecodePrivateKey>::from_pkcs8_der(private).unwrap();
    let sign = |header: Value| {
        signed(&header, &claims(json!({})), |input| {
            let signature: p256::ecdsa::Signature = key.sign(input);
            signature.to_vec()
        })
    };
    let plugin = start(&config(json!({}), json!({ "jwks": { "pem": pem } })));
    assert_eq!(send(&plugin, &sign(json!({ "alg": "ES256" }))).status, 200);
    // It has no name, so it may be the one that a token means by any.
    let named = sign(json!({ "alg": "ES256", "kid": "k1" }));
    assert_eq!(send(&plugin, &named).status, 200);
    refused(&send(&plugin, &token(json!({}))), 401, "key-unknown");
    let unnamed = K1.sign_as(&json!({ "alg": "ES256" }), &claims(json!({})));
    refused(&send(&plugin, &unnamed), 401, "signature-invalid");
}

#[test]
fn the_host_gets_the_key_and_what_was_signed() {
    let plugin = mixed();
    let token = token(json!({}));
    let (input, _) = token.rsplit_once('.').unwrap();
    let input = input.as_bytes().to_vec();
    *plugin.host.signatures.borrow_mut() = Some(Box::new(move |hash, spki, signature, message| {
        assert_eq!(hash, Hash::Sha256);
        let key = p256::ecdsa::VerifyingKey::from_public_key_der(spki).unwrap();
        assert_eq!(key, *K1.signing_key().verifying_key());
        assert!(p256::ecdsa::DerSignature::from_bytes(signature).is_ok());
        assert_eq!(message, input);
        Some(true)
    }));
    assert_eq!(send(&plugin, &token).status, 200);
}
