//! Keys, a signer, and hosts that verify.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that can't go on has failed"
)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm as Alg, EncodingKey};
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use rsa::pkcs1::der::Decode as _;
use rsa::sha2::{Sha256, Sha384, Sha512};
use rsa::signature::Verifier as _;
use serde_json::{Value, json};
use tollgate_jose::{Hash, Jws, Key, KeySet, Limits, SignatureHost};

pub(crate) const RSA: &[u8] = include_bytes!("../keys/rsa-2048.der");
pub(crate) const OTHER_RSA: &[u8] = include_bytes!("../keys/other-rsa-2048.der");
pub(crate) const P256: &[u8] = include_bytes!("../keys/p-256.der");
pub(crate) const OTHER_P256: &[u8] = include_bytes!("../keys/other-p-256.der");
pub(crate) const P384: &[u8] = include_bytes!("../keys/p-384.der");
pub(crate) const ED25519: &[u8] = include_bytes!("../keys/ed25519.der");

/// Every algorithm with its names and a private key for it.
pub(crate) const ALGORITHMS: [(&str, Alg, &[u8]); 10] = [
    ("RS256", Alg::RS256, RSA),
    ("RS384", Alg::RS384, RSA),
    ("RS512", Alg::RS512, RSA),
    ("PS256", Alg::PS256, RSA),
    ("PS384", Alg::PS384, RSA),
    ("PS512", Alg::PS512, RSA),
    ("ES256", Alg::ES256, P256),
    ("ES384", Alg::ES384, P384),
    ("EdDSA", Alg::EdDSA, ED25519),
    ("Ed25519", Alg::EdDSA, ED25519),
];

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The public JWK of a private key, without further members.
pub(crate) fn jwk(private: &[u8]) -> Value {
    if let Ok(key) = rsa::pkcs1::RsaPrivateKey::from_der(private) {
        let (n, e) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
        json!({"kty": "RSA", "n": base64url(n), "e": base64url(e)})
    } else if let Ok(key) = p256::SecretKey::from_pkcs8_der(private) {
        let point = key.public_key().to_encoded_point(false);
        let [x, y] = [point.x().unwrap(), point.y().unwrap()].map(base64url);
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
    } else if let Ok(key) = p384::SecretKey::from_pkcs8_der(private) {
        let point = key.public_key().to_encoded_point(false);
        let [x, y] = [point.x().unwrap(), point.y().unwrap()].map(base64url);
        json!({"kty": "EC", "crv": "P-384", "x": x, "y": y})
    } else {
        let key = ed25519_dalek::SigningKey::from_pkcs8_der(private).unwrap();
        let x = base64url(key.verifying_key().as_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "x": x})
    }
}

/// `value` with further members.
pub(crate) fn with(mut value: Value, more: Value) -> Value {
    let members = more.as_object().unwrap().clone();
    value.as_object_mut().unwrap().extend(members);
    value
}

pub(crate) fn key(jwk: Value) -> Key {
    Key::from_jwk(jwk.as_object().unwrap()).unwrap()
}

pub(crate) fn set(jwks: &[Value]) -> KeySet {
    let json = json!({ "keys": jwks }).to_string();
    KeySet::parse(json.as_bytes(), &Limits::default()).unwrap()
}

/// A token with this header, signed with `algorithm` whatever the header says.
pub(crate) fn sign(header: &str, payload: &str, algorithm: Alg, private: &[u8]) -> String {
    let key = match algorithm {
        Alg::HS256 | Alg::HS384 | Alg::HS512 => EncodingKey::from_secret(private),
        Alg::ES256 | Alg::ES384 => EncodingKey::from_ec_der(private),
        Alg::EdDSA => EncodingKey::from_ed_der(private),
        _ => EncodingKey::from_rsa_der(private),
    };
    let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm, &key).unwrap();
    let input = format!("{}.{}", base64url(header), base64url(payload));
    let signature = signer.try_sign(input.as_bytes()).unwrap();
    format!("{input}.{}", base64url(signature))
}

/// The token with another signature.
pub(crate) fn resigned(token: &str, signature: impl AsRef<[u8]>) -> String {
    let (input, _) = token.rsplit_once('.').unwrap();
    format!("{input}.{}", base64url(signature))
}

pub(crate) fn signature(token: &str) -> Vec<u8> {
    let (_, signature) = token.rsplit_once('.').unwrap();
    URL_SAFE_NO_PAD.decode(signature).unwrap()
}

pub(crate) fn verifies(token: &str, key: &Key, host: &Host) -> bool {
    let jws = Jws::parse(token.as_bytes(), token.len()).unwrap();
    tollgate_jose::verify(&jws, key, host).is_ok()
}

/// Who verifies: each table runs with all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// Nobody: it is done in Rust, by the crate under test.
    Absent,
    /// Other parts of the crates that the crate under test uses, fed with what Envoy gets.
    RustCrypto,
    /// `ring`, a close relative of what Envoy verifies with.
    #[cfg(not(target_arch = "wasm32"))]
    Ring,
}

impl Host {
    pub(crate) const ALL: &[Host] = &[
        Host::Absent,
        Host::RustCrypto,
        #[cfg(not(target_arch = "wasm32"))]
        Host::Ring,
    ];
}

impl SignatureHost for Host {
    fn verify(&self, hash: Hash, spki: &[u8], signature: &[u8], message: &[u8]) -> Option<bool> {
        match self {
            Host::Absent => None,
            Host::RustCrypto => by_rust_crypto(hash, spki, signature, message),
            #[cfg(not(target_arch = "wasm32"))]
            Host::Ring => Some(by_ring(hash, spki, signature, message)),
        }
    }
}

/// `None` for keys that are too long for it.
fn by_rust_crypto(hash: Hash, spki: &[u8], signature: &[u8], message: &[u8]) -> Option<bool> {
    if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(spki) {
        assert_eq!(hash, Hash::Sha256);
        let signature = p256::ecdsa::DerSignature::from_bytes(signature).unwrap();
        return Some(key.verify(message, &signature).is_ok());
    }
    if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(spki) {
        assert_eq!(hash, Hash::Sha384);
        let signature = p384::ecdsa::DerSignature::from_bytes(signature).unwrap();
        return Some(key.verify(message, &signature).is_ok());
    }
    let key = rsa::RsaPublicKey::from_public_key_der(spki).ok()?;
    let signature = rsa::pkcs1v15::Signature::try_from(signature).unwrap();
    use rsa::pkcs1v15::VerifyingKey;
    let verified = match hash {
        Hash::Sha256 => VerifyingKey::<Sha256>::new(key).verify(message, &signature),
        Hash::Sha384 => VerifyingKey::<Sha384>::new(key).verify(message, &signature),
        Hash::Sha512 => VerifyingKey::<Sha512>::new(key).verify(message, &signature),
    };
    Some(verified.is_ok())
}

#[cfg(not(target_arch = "wasm32"))]
fn by_ring(hash: Hash, spki: &[u8], signature: &[u8], message: &[u8]) -> bool {
    use p256::pkcs8::SubjectPublicKeyInfoRef;
    use ring::signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
        VerificationAlgorithm,
    };

    let spki = SubjectPublicKeyInfoRef::from_der(spki).unwrap();
    let key = spki.subject_public_key.as_bytes().unwrap();
    let is_rsa = spki.algorithm.oid == rsa::pkcs1::ALGORITHM_OID;
    let algorithm: &dyn VerificationAlgorithm = match (is_rsa, hash) {
        (true, Hash::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
        (true, Hash::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
        (true, Hash::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
        (false, Hash::Sha256) => &ECDSA_P256_SHA256_ASN1,
        (false, Hash::Sha384) => &ECDSA_P384_SHA384_ASN1,
        (false, Hash::Sha512) => return false,
    };
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .is_ok()
}
