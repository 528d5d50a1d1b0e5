//! Signed tokens and the keys that verify them: JWT (RFC 7519) in the compact form of JWS
//! (RFC 7515), JWK sets (RFC 7517), read as strictly as their specifications and RFC 8725 (best
//! practice) allow.
//!
//! A token is judged in this order, cheap steps first and the signature last, so that what is
//! refused costs little:
//!
//! 1. [`Jws::parse`]: its form, whole, before any of it is believed;
//! 2. [`Jws::issuer`] tells whose keys and rules apply;
//! 3. [`Header::algorithm`]: the algorithm is one of those allowed for this issuer;
//! 4. [`ClaimRules::check`]: issuer, audience, times, profile;
//! 5. [`KeySet::candidates`]: a key that is meant for this algorithm and this `kid`;
//! 6. [`verify`], by the host where it can, else in Rust. [`KeySet::verify`] is steps 5 and 6.
//!
//! Nothing is believed before step 6. Every way to be refused is one [`InvalidToken`], with a
//! stable slug and a sentence that a client may be shown.
//!
//! Nothing here does I/O or reads a clock, and nothing panics, whatever the bytes.

mod algorithm;
mod claims;
mod encoding;
mod key;
mod pem;
mod refusal;
mod set;
mod token;
mod verify;

pub use algorithm::{Algorithm, InvalidAlgorithm, KeyType};
pub use claims::{Claim, ClaimError, ClaimRules, DEFAULT_SKEW, NumericDate, Validated};
pub use encoding::{InvalidObject, MAX_DEPTH};
pub use key::{Key, MAX_KID_BYTES, UnusableKey};
pub use refusal::InvalidToken;
pub use set::{InvalidKeySet, KeySet, Limits, MAX_KEYS_PER_KID, NoKey, SkippedKey};
pub use token::{
    AlgorithmNotAllowed, CriticalFault, DEFAULT_MAX_TOKEN_BYTES, Header, Jws, MalformedToken, Part,
};
pub use verify::{Hash, NoHost, SignatureHost, SignatureInvalid, verify};
