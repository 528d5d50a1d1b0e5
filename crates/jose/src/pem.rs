//! Keys in PEM, for configurations: `-----BEGIN PUBLIC KEY-----` (RFC 7468 section 13).

use p256::pkcs8::SubjectPublicKeyInfoRef;
use p256::pkcs8::der::asn1::ObjectIdentifier;
use p256::pkcs8::der::{Decode as _, Document};

use crate::algorithm::Algorithm;
use crate::key::{
    Key, MAX_KID_BYTES, Material, UnusableKey, ed25519_key, p256_key, p384_key, rsa_key,
};

/// RFC 5480 section 2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// RFC 8410 section 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

impl Key {
    /// Reads a public key in PEM, to be used under `kid` and for `algorithm` only, if given.
    ///
    /// # Errors
    /// If the text is no such key, or none for `algorithm`.
    pub fn from_pem(
        pem: &str,
        kid: Option<String>,
        algorithm: Option<Algorithm>,
    ) -> Result<Self, UnusableKey> {
        if kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(UnusableKey::KidTooLong);
        }
        let (label, der) = Document::from_pem(pem.trim()).map_err(|_| UnusableKey::Pem)?;
        if label != "PUBLIC KEY" {
            return Err(UnusableKey::PemLabel(label.to_owned()));
        }
        let (material, spki) = from_der(der.as_bytes())?;
        Key::new(kid, algorithm, material, spki)
    }
}

fn from_der(der: &[u8]) -> Result<(Material, Vec<u8>), UnusableKey> {
    let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| UnusableKey::Der)?;
    let key = spki.subject_public_key.as_bytes().ok_or(UnusableKey::Der)?;
    let (kind, curve) = spki.algorithm.oids().map_err(|_| UnusableKey::Der)?;
    match (kind, curve) {
        (EC, Some(P256)) => p256_key(key),
        (EC, Some(P384)) => p384_key(key),
        (ED25519, None) => ed25519_key(key),
        (rsa::pkcs1::ALGORITHM_OID, None) => {
            let key = rsa::pkcs1::RsaPublicKey::from_der(key).map_err(|_| UnusableKey::Der)?;
            rsa_key(key.modulus.as_bytes(), key.public_exponent.as_bytes())
        }
        _ => Err(UnusableKey::Der),
    }
}
