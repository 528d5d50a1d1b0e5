//! One public key, from a JWK (RFC 7517, RFC 7518 section 6, RFC 8037), ready to verify.
//!
//! `jsonwebtoken` has a type for JWKs, but one odd key fails its whole set, and it knows nothing
//! of private members, weak keys or points off the curve; so members are read here, and the keys
//! they tell are made and checked by the crates that verify with them.

use std::fmt;

use jsonwebtoken::DecodingKey;
use p256::pkcs8::EncodePublicKey as _;
use rsa::BigUint;
use serde_json::{Map, Value};
use tollgate_core::config::quote;

use crate::algorithm::{Algorithm, KeyType};
use crate::encoding::base64url;

/// The longest `kid` of a key or a token, in bytes.
pub const MAX_KID_BYTES: usize = 256;

/// The shortest RSA modulus, in bits (RFC 7518 section 3.3).
pub(crate) const MIN_RSA_BITS: usize = 2048;

/// The longest RSA modulus, in bits: what BoringSSL, and so Envoy, verifies with.
pub(crate) const MAX_RSA_BITS: usize = 8192;

/// The smallest RSA public exponent (FIPS 186-5 section A.1.1).
const MIN_RSA_EXPONENT: u64 = 0x1_0001;

/// A public key that signatures are verified with.
#[derive(Clone, Debug)]
pub struct Key {
    kid: Option<String>,
    /// The only algorithm it is for, if its owner says so.
    algorithm: Option<Algorithm>,
    material: Material,
    spki: Vec<u8>,
}

/// The key as what verifies with it in Rust wants it.
#[derive(Clone, Debug)]
pub(crate) enum Material {
    Rsa {
        modulus_bytes: usize,
        decoding: DecodingKey,
    },
    /// An RSA key that is longer than `jsonwebtoken` takes.
    LongRsa {
        modulus_bytes: usize,
        key: Box<rsa::RsaPublicKey>,
    },
    P256(DecodingKey),
    P384(DecodingKey),
    Ed25519(DecodingKey),
}

impl Key {
    /// Reads a JWK.
    ///
    /// # Errors
    /// If it is not a public key of an accepted type that may verify signatures.
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, UnusableKey> {
        let kty = text(jwk, "kty")?.ok_or(UnusableKey::Missing("kty"))?;
        // A secret is told whatever it is for.
        match kty {
            "RSA" | "EC" | "OKP" => refuse_private(jwk)?,
            "oct" => return Err(UnusableKey::Symmetric),
            kty => return Err(UnusableKey::Type(kty.to_owned())),
        }
        let (kid, algorithm) = purpose(jwk)?;
        let curve = || text(jwk, "crv")?.ok_or(UnusableKey::Missing("crv"));
        let (material, spki) = match kty {
            "RSA" => rsa_key(&bytes(jwk, "n")?, &bytes(jwk, "e")?)?,
            "EC" => match curve()? {
                "P-256" => p256_key(&point::<32>(jwk)?)?,
                "P-384" => p384_key(&point::<48>(jwk)?)?,
                curve => return Err(UnusableKey::Curve(curve.to_owned())),
            },
            _ => match curve()? {
                "Ed25519" => ed25519_key(&bytes(jwk, "x")?)?,
                curve => return Err(UnusableKey::Curve(curve.to_owned())),
            },
        };
        Key::new(kid, algorithm, material, spki)
    }

    pub(crate) fn new(
        kid: Option<String>,
        algorithm: Option<Algorithm>,
        material: Material,
        spki: Vec<u8>,
    ) -> Result<Self, UnusableKey> {
        match algorithm {
            Some(algorithm) if algorithm.key_type() != material.key_type() => {
                Err(UnusableKey::OtherType(algorithm))
            }
            _ => Ok(Key {
                kid,
                algorithm,
                material,
                spki,
            }),
        }
    }

    /// Its name, if it has one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its type.
    pub fn key_type(&self) -> KeyType {
        self.material.key_type()
    }

    /// The only algorithm it is for, if its owner says so.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// The key as a DER `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7).
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Whether it may verify signatures of this algorithm.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{Ps256, Ps384, Ps512};
        // No host verifies PSS, and in Rust so long a key costs many milliseconds for each forgery.
        let is_dear = matches!(self.material, Material::LongRsa { .. })
            && matches!(algorithm, Ps256 | Ps384 | Ps512);
        !is_dear
            && algorithm.key_type() == self.key_type()
            && self.algorithm.is_none_or(|only| only == algorithm)
    }

    pub(crate) fn material(&self) -> &Material {
        &self.material
    }

    /// Whether both are the same key for the same use.
    pub(crate) fn is_same(&self, other: &Key) -> bool {
        self.kid == other.kid && self.algorithm == other.algorithm && self.spki == other.spki
    }
}

impl Material {
    fn key_type(&self) -> KeyType {
        match self {
            Material::Rsa { .. } | Material::LongRsa { .. } => KeyType::Rsa,
            Material::P256(_) => KeyType::P256,
            Material::P384(_) => KeyType::P384,
            Material::Ed25519(_) => KeyType::Ed25519,
        }
    }

    /// The exact length of a signature, in bytes.
    pub(crate) fn signature_bytes(&self) -> usize {
        match self {
            Material::Rsa { modulus_bytes, .. } | Material::LongRsa { modulus_bytes, .. } => {
                *modulus_bytes
            }
            // r and s, or R and S.
            Material::P256(_) | Material::Ed25519(_) => 64,
            Material::P384(_) => 96,
        }
    }
}

/// Reads `kid` and `alg`, and refuses keys that are not for verifying (RFC 7517 section 4).
fn purpose(jwk: &Map<String, Value>) -> Result<(Option<String>, Option<Algorithm>), UnusableKey> {
    match text(jwk, "use")? {
        None | Some("sig") => {}
        Some(other) => return Err(UnusableKey::Use(other.to_owned())),
    }
    jwk.get("key_ops").map_or(Ok(()), operations)?;
    let algorithm = text(jwk, "alg")?
        .map(|name| {
            Algorithm::from_name(name).ok_or_else(|| UnusableKey::Algorithm(name.to_owned()))
        })
        .transpose()?;
    let kid = text(jwk, "kid")?.map(str::to_owned);
    match kid {
        Some(kid) if kid.len() > MAX_KID_BYTES => Err(UnusableKey::KidTooLong),
        kid => Ok((kid, algorithm)),
    }
}

/// Refuses `key_ops` that is no list of different names, or has no `verify` among them (RFC 7517
/// section 4.3).
fn operations(operations: &Value) -> Result<(), UnusableKey> {
    let Value::Array(operations) = operations else {
        return Err(UnusableKey::Operations);
    };
    let names = || operations.iter().filter_map(Value::as_str);
    let repeated = names()
        .enumerate()
        .any(|(index, name)| names().take(index).any(|other| other == name));
    if names().count() != operations.len() || repeated {
        return Err(UnusableKey::Operations);
    }
    match names().any(|name| name == "verify") {
        true => Ok(()),
        false => Err(UnusableKey::NotToVerify),
    }
}

/// A key whose private half is published is everybody's key.
fn refuse_private(jwk: &Map<String, Value>) -> Result<(), UnusableKey> {
    match ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]
        .iter()
        .any(|member| jwk.contains_key(*member))
    {
        true => Err(UnusableKey::Private),
        false => Ok(()),
    }
}

/// A member that must be text if it is there.
fn text<'a>(
    jwk: &'a Map<String, Value>,
    member: &'static str,
) -> Result<Option<&'a str>, UnusableKey> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(UnusableKey::NotText(member)),
    }
}

fn bytes(jwk: &Map<String, Value>, member: &'static str) -> Result<Vec<u8>, UnusableKey> {
    let text = text(jwk, member)?.ok_or(UnusableKey::Missing(member))?;
    base64url(text.as_bytes()).ok_or(UnusableKey::Encoding(member))
}

/// Reads coordinates of `N` bytes each as an uncompressed point (SEC 1 section 2.3.3).
fn point<const N: usize>(jwk: &Map<String, Value>) -> Result<Vec<u8>, UnusableKey> {
    let mut point = vec![4];
    for member in ["x", "y"] {
        let coordinate = bytes(jwk, member)?;
        if coordinate.len() != N {
            return Err(UnusableKey::Length {
                member,
                found: coordinate.len(),
                expected: N,
            });
        }
        point.extend(coordinate);
    }
    Ok(point)
}

/// Makes a key from big-endian numbers. Zeros before the modulus, which RFC 7518 section 6.3.1.1
/// knows that some libraries write, change nothing and are dropped.
pub(crate) fn rsa_key(n: &[u8], e: &[u8]) -> Result<(Material, Vec<u8>), UnusableKey> {
    let (modulus, exponent) = (BigUint::from_bytes_be(n), BigUint::from_bytes_be(e));
    let bits = modulus.bits();
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(UnusableKey::RsaLength(bits));
    }
    if exponent < BigUint::from(MIN_RSA_EXPONENT) {
        return Err(UnusableKey::RsaExponent);
    }
    // Refuses even numbers, and exponents of more than 33 bits as BoringSSL does.
    let key =
        rsa::RsaPublicKey::new_with_max_size(modulus, exponent, MAX_RSA_BITS).map_err(|error| {
            match error {
                rsa::Error::InvalidExponent | rsa::Error::PublicExponentTooLarge => {
                    UnusableKey::RsaExponent
                }
                _ => UnusableKey::RsaModulus,
            }
        })?;
    let spki = key
        .to_public_key_der()
        .map_err(|_| UnusableKey::RsaModulus)?
        .into_vec();
    let modulus_bytes = bits.div_ceil(8);
    let material = match bits > rsa::RsaPublicKey::MAX_SIZE {
        true => Material::LongRsa {
            modulus_bytes,
            key: Box::new(key),
        },
        false => Material::Rsa {
            modulus_bytes,
            decoding: DecodingKey::from_rsa_raw_components(n, e),
        },
    };
    Ok((material, spki))
}

/// Makes a key from a point (SEC 1 section 2.3.3).
pub(crate) fn p256_key(point: &[u8]) -> Result<(Material, Vec<u8>), UnusableKey> {
    let key = p256::PublicKey::from_sec1_bytes(point).map_err(|_| UnusableKey::Point)?;
    let spki = key.to_public_key_der().map_err(|_| UnusableKey::Point)?;
    let decoding = DecodingKey::from_ec_der(&key.to_sec1_bytes());
    Ok((Material::P256(decoding), spki.into_vec()))
}

/// Makes a key from a point (SEC 1 section 2.3.3).
pub(crate) fn p384_key(point: &[u8]) -> Result<(Material, Vec<u8>), UnusableKey> {
    let key = p384::PublicKey::from_sec1_bytes(point).map_err(|_| UnusableKey::Point)?;
    let spki = key.to_public_key_der().map_err(|_| UnusableKey::Point)?;
    let decoding = DecodingKey::from_ec_der(&key.to_sec1_bytes());
    Ok((Material::P384(decoding), spki.into_vec()))
}

/// Makes a key from an encoded point (RFC 8032 section 5.1.2).
pub(crate) fn ed25519_key(x: &[u8]) -> Result<(Material, Vec<u8>), UnusableKey> {
    let x: [u8; 32] = x.try_into().map_err(|_| UnusableKey::Length {
        member: "x",
        found: x.len(),
        expected: 32,
    })?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&x).map_err(|_| UnusableKey::Point)?;
    // With a point of small order, one signature is valid for many messages.
    if key.is_weak() {
        return Err(UnusableKey::WeakPoint);
    }
    let spki = key.to_public_key_der().map_err(|_| UnusableKey::Point)?;
    let decoding = DecodingKey::from_ed_der(&x);
    Ok((Material::Ed25519(decoding), spki.into_vec()))
}

/// The key can't be used to verify tokens. As text: what follows "the key is left out because".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnusableKey {
    /// It is not a JSON object.
    NotAnObject,
    /// A member is missing.
    Missing(&'static str),
    /// A member is not text.
    NotText(&'static str),
    /// A member is not base64url in its only form.
    Encoding(&'static str),
    /// A member has the wrong length, in bytes.
    Length {
        /// Its name.
        member: &'static str,
        /// The length it has.
        found: usize,
        /// The length it must have.
        expected: usize,
    },
    /// `kid` is longer than [`MAX_KID_BYTES`].
    KidTooLong,
    /// `kty` is none that is known.
    Type(String),
    /// `crv` is none that is known for the type.
    Curve(String),
    /// It is a shared secret.
    Symmetric,
    /// It has private members.
    Private,
    /// `use` is not `sig`.
    Use(String),
    /// `key_ops` is no list of different names.
    Operations,
    /// `key_ops` has no `verify`.
    NotToVerify,
    /// `alg` is none that is accepted.
    Algorithm(String),
    /// `alg` is one for another type of key.
    OtherType(Algorithm),
    /// The RSA modulus has so many bits, too few or too many.
    RsaLength(usize),
    /// The RSA modulus can't be a product of two large primes.
    RsaModulus,
    /// The RSA public exponent is even, too small or too large.
    RsaExponent,
    /// The point is not on the curve.
    Point,
    /// The point is one of the few on which Ed25519 is no signature scheme.
    WeakPoint,
    /// The set has this very key twice.
    Repeated,
    /// The set has too many keys of this type under this `kid`, or without one.
    Crowded,
    /// It is not a PEM block.
    Pem,
    /// It is a PEM block of something else.
    PemLabel(String),
    /// What the PEM block contains is no public key.
    Der,
}

impl UnusableKey {
    /// Whether there need be nothing wrong with the key: it is for something else, or of a kind that
    /// is not known here, as sets have them beside the keys that verify tokens. A known name in
    /// another letter case, or in the wrong place, is a slip.
    pub fn is_for_others(&self) -> bool {
        let is_known =
            |names: &[&str], found: &str| names.iter().any(|name| name.eq_ignore_ascii_case(found));
        match self {
            UnusableKey::NotToVerify => true,
            UnusableKey::Use(purpose) => !is_known(&["sig", ""], purpose),
            UnusableKey::Type(kty) => !is_known(&["RSA", "EC", "OKP", "oct", ""], kty),
            UnusableKey::Curve(crv) => !is_known(&["P-256", "P-384", "Ed25519", ""], crv),
            UnusableKey::Algorithm(alg) => {
                !is_known(&Algorithm::ALL.map(Algorithm::name), alg) && !alg.is_empty()
            }
            _ => false,
        }
    }
}

impl fmt::Display for UnusableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnusableKey::NotAnObject => f.write_str("it is not a JSON object"),
            UnusableKey::Missing(member) => write!(f, "{member} is missing"),
            UnusableKey::NotText(member) => write!(f, "{member} is not text"),
            UnusableKey::Encoding(member) => {
                write!(f, "{member} is not base64url without padding")
            }
            UnusableKey::Length {
                member,
                found,
                expected,
            } => write!(f, "{member} has {found} bytes, expected {expected}"),
            UnusableKey::KidTooLong => write!(f, "kid has more than {MAX_KID_BYTES} bytes"),
            UnusableKey::Type(kty) => {
                write!(f, "kty is {}, expected RSA, EC or OKP", quote(kty))
            }
            UnusableKey::Curve(crv) => write!(
                f,
                "crv is {}, expected P-256 or P-384 for EC, Ed25519 for OKP",
                quote(crv)
            ),
            UnusableKey::Symmetric => {
                f.write_str("it is a shared secret (kty oct), expected a public key")
            }
            UnusableKey::Private => f.write_str(
                "it has private members, so anybody who reads it can sign; replace the key and \
                 publish its public members only",
            ),
            UnusableKey::Use(purpose) => write!(f, "use is {}, expected sig", quote(purpose)),
            UnusableKey::Operations => f.write_str("key_ops is not a list of different names"),
            UnusableKey::NotToVerify => f.write_str("key_ops has no verify"),
            UnusableKey::Algorithm(alg) => {
                write!(f, "alg is {}, which is not accepted", quote(alg))
            }
            UnusableKey::OtherType(alg) => write!(
                f,
                "alg is {}, which is not for this type of key",
                quote(alg.name())
            ),
            UnusableKey::RsaLength(bits) => write!(
                f,
                "its modulus has {bits} bits, expected {MIN_RSA_BITS} to {MAX_RSA_BITS}"
            ),
            UnusableKey::RsaModulus => f.write_str("its modulus is even"),
            UnusableKey::RsaExponent => f.write_str(
                "its exponent is not an odd number from 65537 to 8589934591, expected 65537",
            ),
            UnusableKey::Point => f.write_str("its point is not on the curve"),
            UnusableKey::WeakPoint => f.write_str("its point has a small order"),
            UnusableKey::Repeated => f.write_str("the set has it twice"),
            UnusableKey::Crowded => write!(
                f,
                "more than {} keys of its type have the same kid, or none",
                crate::set::MAX_KEYS_PER_KID
            ),
            UnusableKey::Pem => f.write_str(
                "it is not PEM, expected one block from -----BEGIN PUBLIC KEY----- to \
                 -----END PUBLIC KEY-----",
            ),
            UnusableKey::PemLabel(label) => write!(
                f,
                "it is a PEM block of {}, expected PUBLIC KEY, which openssl pkey -pubout makes \
                 of a private key",
                quote(label)
            ),
            UnusableKey::Der => {
                f.write_str("it is no public key of RSA, P-256, P-384 or Ed25519 in DER")
            }
        }
    }
}

impl std::error::Error for UnusableKey {}
