//! Signatures, verified by the host where it can, else in Rust.
//!
//! The host is some thirty times faster, so RS256/384/512 and ES256/384 are offered to it first.
//! It knows neither RSASSA-PSS nor Ed25519.
//!
//! In Rust, `jsonwebtoken` verifies, with its own RustCrypto provider called as the plain value
//! that it is. `jsonwebtoken::crypto::verify` and `decode` would take the provider from a global
//! of the process instead, which tests can't switch, and whose default panics at the first token
//! as soon as any crate of the build turns on a second provider. Its `decode` would also read the
//! clock, and copy and parse the token once more.
//!
//! RSA keys of more than 4096 bits, which that provider does not take, go to the `rsa` crate
//! below it.
//!
//! ECDSA signatures with a high `s` are accepted, as RFC 7518 section 3.4 has it and common
//! signers make them: who has a token can make a second one with the same claims, so a token's
//! bytes must not be what tells it from another, its `jti` is.

use std::fmt;

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm as Alg, DecodingKey};
use rsa::sha2::{Digest as _, Sha256, Sha384, Sha512};
use rsa::{Pkcs1v15Sign, Pss, RsaPublicKey};

use crate::algorithm::Algorithm;
use crate::key::{Key, Material};
use crate::token::Jws;

/// A hash function of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// Its name, as Envoy's `verify_signature` wants it.
    pub const fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "sha256",
            Hash::Sha384 => "sha384",
            Hash::Sha512 => "sha512",
        }
    }
}

/// A host that verifies signatures.
pub trait SignatureHost {
    /// Whether `signature` is one of `message` by the key in `spki_der`, a DER
    /// `SubjectPublicKeyInfo` of RSA, P-256 or P-384: RSASSA-PKCS1-v1_5, or ECDSA in DER
    /// (RFC 3279 section 2.2.3). `None` if the host can't tell, whatever the reason.
    fn verify(&self, hash: Hash, spki_der: &[u8], signature: &[u8], message: &[u8])
    -> Option<bool>;
}

/// No host: everything is verified in Rust.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHost;

impl SignatureHost for NoHost {
    fn verify(&self, _: Hash, _: &[u8], _: &[u8], _: &[u8]) -> Option<bool> {
        None
    }
}

/// The signature is not one of this token by this key. As text: a sentence for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureInvalid;

impl SignatureInvalid {
    /// A stable name.
    pub const fn slug(self) -> &'static str {
        "signature-invalid"
    }
}

impl fmt::Display for SignatureInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The token's signature is not valid.")
    }
}

impl std::error::Error for SignatureInvalid {}

/// Verifies the signature of a token.
///
/// The algorithm is the one that the token names. A key that is not for it, by its type, curve or
/// `alg`, verifies nothing; whether the algorithm is allowed was asked before.
///
/// # Errors
/// If the signature is not valid, or has not exactly the length that the key's signatures have.
pub fn verify(jws: &Jws<'_>, key: &Key, host: &impl SignatureHost) -> Result<(), SignatureInvalid> {
    let algorithm = jws
        .header()
        .named_algorithm()
        .filter(|algorithm| key.fits(*algorithm))
        .ok_or(SignatureInvalid)?;
    match is_valid(algorithm, key, jws.signature(), jws.signing_input(), host) {
        true => Ok(()),
        false => Err(SignatureInvalid),
    }
}

fn is_valid(
    algorithm: Algorithm,
    key: &Key,
    signature: &Vec<u8>,
    message: &[u8],
    host: &impl SignatureHost,
) -> bool {
    signature.len() == key.material().signature_bytes()
        && by_host(algorithm, key, signature, message, host)
            .unwrap_or_else(|| in_rust(algorithm, key.material(), signature, message))
}

/// What the host says, if it is an algorithm that a host may know.
fn by_host(
    algorithm: Algorithm,
    key: &Key,
    signature: &[u8],
    message: &[u8],
    host: &impl SignatureHost,
) -> Option<bool> {
    let ask = |hash: Hash, signature: &[u8]| host.verify(hash, key.spki_der(), signature, message);
    match algorithm {
        Algorithm::Rs256 => ask(Hash::Sha256, signature),
        Algorithm::Rs384 => ask(Hash::Sha384, signature),
        Algorithm::Rs512 => ask(Hash::Sha512, signature),
        // An r or s out of range is no signature, and has no DER.
        Algorithm::Es256 => match p256::ecdsa::Signature::from_slice(signature) {
            Ok(signature) => ask(Hash::Sha256, signature.to_der().as_bytes()),
            Err(_) => Some(false),
        },
        Algorithm::Es384 => match p384::ecdsa::Signature::from_slice(signature) {
            Ok(signature) => ask(Hash::Sha384, signature.to_der().as_bytes()),
            Err(_) => Some(false),
        },
        Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 | Algorithm::EdDsa => None,
    }
}

fn in_rust(algorithm: Algorithm, material: &Material, signature: &Vec<u8>, message: &[u8]) -> bool {
    match material {
        Material::LongRsa { key, .. } => long_rsa(algorithm, key, signature, message),
        Material::Rsa { decoding, .. }
        | Material::P256(decoding)
        | Material::P384(decoding)
        | Material::Ed25519(decoding) => provider(algorithm, decoding, signature, message),
    }
}

fn provider(algorithm: Algorithm, key: &DecodingKey, signature: &Vec<u8>, message: &[u8]) -> bool {
    let algorithm = match algorithm {
        Algorithm::Rs256 => Alg::RS256,
        Algorithm::Rs384 => Alg::RS384,
        Algorithm::Rs512 => Alg::RS512,
        Algorithm::Ps256 => Alg::PS256,
        Algorithm::Ps384 => Alg::PS384,
        Algorithm::Ps512 => Alg::PS512,
        Algorithm::Es256 => Alg::ES256,
        Algorithm::Es384 => Alg::ES384,
        Algorithm::EdDsa => Alg::EdDSA,
    };
    // It indexes into an Ed25519 key without looking; ours has its 32 bytes.
    (DEFAULT_PROVIDER.verifier_factory)(&algorithm, key)
        .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
}

fn long_rsa(algorithm: Algorithm, key: &RsaPublicKey, signature: &[u8], message: &[u8]) -> bool {
    let verified = match algorithm {
        Algorithm::Rs256 => {
            let scheme = Pkcs1v15Sign::new::<Sha256>();
            key.verify(scheme, &Sha256::digest(message), signature)
        }
        Algorithm::Rs384 => {
            let scheme = Pkcs1v15Sign::new::<Sha384>();
            key.verify(scheme, &Sha384::digest(message), signature)
        }
        Algorithm::Rs512 => {
            let scheme = Pkcs1v15Sign::new::<Sha512>();
            key.verify(scheme, &Sha512::digest(message), signature)
        }
        Algorithm::Ps256 => key.verify(Pss::new::<Sha256>(), &Sha256::digest(message), signature),
        Algorithm::Ps384 => key.verify(Pss::new::<Sha384>(), &Sha384::digest(message), signature),
        Algorithm::Ps512 => key.verify(Pss::new::<Sha512>(), &Sha512::digest(message), signature),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return false,
    };
    verified.is_ok()
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::encoding::{base64url, object};

    /// RFC 8037 appendix A.4. Its payload is no JSON, so that it is no JWT.
    #[test]
    fn the_example_of_ed25519_is_valid() {
        let key =
            br#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let key = Key::from_jwk(&object(key).unwrap()).unwrap();
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let mut signature = base64url(
            b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        )
        .unwrap();
        let valid = |signature: &Vec<u8>, message: &[u8]| {
            is_valid(Algorithm::EdDsa, &key, signature, message, &NoHost)
        };
        assert!(valid(&signature, message));
        assert!(!valid(&signature, b"another message"));
        signature.push(0);
        assert!(!valid(&signature, message));
    }
}
