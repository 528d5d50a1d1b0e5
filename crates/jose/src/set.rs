//! A set of keys (RFC 7517 section 5), and which of them a token may be verified with.

use std::fmt;

use serde_json::Value;
use tollgate_core::config::quote;

use crate::algorithm::Algorithm;
use crate::encoding::{InvalidObject, MAX_DEPTH, object};
use crate::key::{Key, UnusableKey};
use crate::refusal::InvalidToken;
use crate::token::Jws;
use crate::verify::{SignatureHost, SignatureInvalid, verify};

/// How many keys of one type may share a `kid`, or have none, as each of them is tried.
pub const MAX_KEYS_PER_KID: usize = 4;

/// How large a set may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its length, in bytes: 64 KiB by default.
    pub bytes: usize,
    /// How many keys it has, unusable ones included: 100 by default.
    pub keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 64 * 1024,
            keys: 100,
        }
    }
}

/// The keys of an issuer: at least one.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<SkippedKey>,
}

/// A key of a set that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its place in the set, from 0.
    pub index: usize,
    /// Its name, if that much of it could be read.
    pub kid: Option<String>,
    /// Why it is not used.
    pub reason: UnusableKey,
}

impl fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys[{}]", self.index)?;
        if let Some(kid) = &self.kid {
            write!(f, " (kid {})", quote(kid))?;
        }
        write!(f, " is left out because {}", self.reason)
    }
}

impl KeySet {
    /// Reads a JWK set. A key that can't be used is skipped, so that one odd key, or one for
    /// another purpose, does not cost the others.
    ///
    /// # Errors
    /// If the text is no set within `limits`, or none of its keys can be used.
    pub fn parse(json: &[u8], limits: &Limits) -> Result<Self, InvalidKeySet> {
        if json.len() > limits.bytes {
            return Err(InvalidKeySet::TooLong {
                found: json.len(),
                limit: limits.bytes,
            });
        }
        let set = object(json).map_err(InvalidKeySet::Json)?;
        let Some(Value::Array(jwks)) = set.get("keys") else {
            return Err(InvalidKeySet::NoKeys);
        };
        if jwks.len() > limits.keys {
            return Err(InvalidKeySet::TooManyKeys {
                found: jwks.len(),
                limit: limits.keys,
            });
        }
        let keys = jwks.iter().map(|jwk| {
            let kid = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
            let key = match jwk {
                Value::Object(jwk) => Key::from_jwk(jwk),
                _ => Err(UnusableKey::NotAnObject),
            };
            (kid, key)
        });
        KeySet::collect(keys)
    }

    /// Makes a set of keys that a configuration gives one by one.
    ///
    /// # Errors
    /// If there is none.
    pub fn from_keys(keys: impl IntoIterator<Item = Key>) -> Result<Self, InvalidKeySet> {
        KeySet::collect(
            keys.into_iter()
                .map(|key| (key.kid().map(str::to_owned), Ok(key))),
        )
    }

    fn collect(
        found: impl Iterator<Item = (Option<String>, Result<Key, UnusableKey>)>,
    ) -> Result<Self, InvalidKeySet> {
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, (kid, key)) in found.enumerate() {
            match key.and_then(|key| room_for(&keys, key)) {
                Ok(key) => keys.push(key),
                Err(reason) => skipped.push(SkippedKey { index, kid, reason }),
            }
        }
        match keys.is_empty() {
            true => Err(InvalidKeySet::NoUsableKey(skipped)),
            false => Ok(KeySet { keys, skipped }),
        }
    }

    /// The keys, in the order of the set.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The keys that are not used, for a log.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// Whether the set has a key of this name, be it one that is skipped: fetching the set again
    /// would not help a token that names it.
    pub fn has_kid(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid() == Some(kid))
            || self
                .skipped
                .iter()
                .any(|key| key.kid.as_deref() == Some(kid))
    }

    /// The keys that a token of this algorithm and `kid` may be verified with: type, curve, `alg`
    /// and `use` agree, and the name too. If no key has the name, these are the keys without one
    /// (RFC 7517 section 4.5), each of which may be the one that is meant. A token without `kid` is
    /// not tried with several keys, and never with the first of them.
    ///
    /// # Errors
    /// If there is none, [`NoKey`].
    pub fn candidates(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> Result<impl Iterator<Item = &Key>, NoKey> {
        let name = kid.filter(|kid| self.has_kid(kid));
        let fitting = self
            .keys
            .iter()
            .filter(move |key| kid.is_none() || key.kid() == name)
            .filter(move |key| key.fits(algorithm));
        match (kid, fitting.clone().count()) {
            (Some(_), 0) if name.is_none() => Err(NoKey::UnknownKid),
            (_, 0) => Err(NoKey::NoFittingKey),
            (None, 2..) => Err(NoKey::Ambiguous),
            _ => Ok(fitting),
        }
    }

    /// Finds the key that signed the token, and with it proves the token.
    ///
    /// # Errors
    /// If its algorithm is none of those `allowed`, no key may verify it, or none does. Where the
    /// name is unknown and keys without one do not verify the token, that is [`NoKey::UnknownKid`]
    /// too: what a newer set has under the name may.
    pub fn verify(
        &self,
        jws: &Jws<'_>,
        allowed: &[Algorithm],
        host: &impl SignatureHost,
    ) -> Result<&Key, InvalidToken> {
        let algorithm = jws.header().algorithm(allowed)?;
        let kid = jws.header().kid();
        self.candidates(algorithm, kid)?
            .find(|key| verify(jws, key, host).is_ok())
            .ok_or_else(|| match kid {
                Some(kid) if !self.has_kid(kid) => NoKey::UnknownKid.into(),
                _ => SignatureInvalid.into(),
            })
    }
}

/// Whether a key may join the others.
fn room_for(keys: &[Key], key: Key) -> Result<Key, UnusableKey> {
    if keys.iter().any(|other| other.is_same(&key)) {
        return Err(UnusableKey::Repeated);
    }
    let namesakes = keys
        .iter()
        .filter(|other| other.kid() == key.kid())
        .filter(|other| other.key_type() == key.key_type());
    match namesakes.count() < MAX_KEYS_PER_KID {
        true => Ok(key),
        false => Err(UnusableKey::Crowded),
    }
}

/// The set can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidKeySet {
    /// It is too long.
    TooLong {
        /// Its length, in bytes.
        found: usize,
        /// What is allowed.
        limit: usize,
    },
    /// It is no proper JSON object.
    Json(InvalidObject),
    /// It has no `keys` that is a list.
    NoKeys,
    /// It has too many keys.
    TooManyKeys {
        /// How many.
        found: usize,
        /// What is allowed.
        limit: usize,
    },
    /// It is empty, or every key of it is skipped.
    NoUsableKey(Vec<SkippedKey>),
}

impl fmt::Display for InvalidKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidKeySet::TooLong { found, limit } => write!(
                f,
                "found {found} bytes, expected a JWK set of at most {limit}"
            ),
            InvalidKeySet::Json(InvalidObject::Syntax) => {
                f.write_str("found no JSON, expected a JWK set as {\"keys\": [...]}")
            }
            InvalidKeySet::Json(InvalidObject::RepeatedMember) => {
                f.write_str("found an object with the same member twice, remove one")
            }
            InvalidKeySet::Json(InvalidObject::TooDeep) => write!(
                f,
                "found objects more than {MAX_DEPTH} deep, expected a JWK set"
            ),
            InvalidKeySet::Json(InvalidObject::NotAnObject) | InvalidKeySet::NoKeys => {
                f.write_str("found no list of keys, expected a JWK set as {\"keys\": [...]}")
            }
            InvalidKeySet::TooManyKeys { found, limit } => {
                write!(f, "found {found} keys, expected at most {limit}")
            }
            InvalidKeySet::NoUsableKey(skipped) => match skipped.as_slice() {
                [] => f.write_str("found no key, expected at least one"),
                [only] => write!(f, "found no usable key: {only}"),
                [first, others @ ..] => write!(
                    f,
                    "found no usable key among {}: {first}; the others are left out as well",
                    others.len().saturating_add(1)
                ),
            },
        }
    }
}

impl std::error::Error for InvalidKeySet {}

/// Why no key may verify a token. As text: a sentence for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// The set has no key of that name; a newer set may have it.
    UnknownKid,
    /// The token names no key, and several would fit.
    Ambiguous,
    /// The keys in question are not for the token's algorithm, or not usable.
    NoFittingKey,
}

impl NoKey {
    /// A stable name.
    pub const fn slug(self) -> &'static str {
        match self {
            NoKey::UnknownKid => "key-unknown",
            NoKey::Ambiguous => "key-ambiguous",
            NoKey::NoFittingKey => "key-unfit",
        }
    }
}

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoKey::UnknownKid => "The token is signed with a key that its issuer does not publish.",
            NoKey::Ambiguous => "The token does not say which of several keys it is signed with.",
            NoKey::NoFittingKey => "The issuer has no key for the token's signature algorithm.",
        })
    }
}

impl std::error::Error for NoKey {}
