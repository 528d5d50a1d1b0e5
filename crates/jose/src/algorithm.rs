//! Signature algorithms (RFC 7518 section 3.1, RFC 8037, RFC 9864).

use std::fmt;
use std::str::FromStr;

use tollgate_core::config::{expected_one_of, quote};

/// An algorithm whose signatures are verified with a public key.
///
/// There is no `none`, and nothing with a shared secret: see [`InvalidAlgorithm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256, MGF1 and a salt of 32 bytes.
    Ps256,
    /// RSASSA-PSS with SHA-384, MGF1 and a salt of 48 bytes.
    Ps384,
    /// RSASSA-PSS with SHA-512, MGF1 and a salt of 64 bytes.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519. Its name is `EdDSA` in RFC 8037 and `Ed25519` in RFC 9864; both are read, and mean
    /// the same, as Ed25519 is the only curve of `EdDSA` that has keys here.
    EdDsa,
}

/// The kind of a public key, and with it which algorithms it can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `kty` RSA.
    Rsa,
    /// `kty` EC, `crv` P-256.
    P256,
    /// `kty` EC, `crv` P-384.
    P384,
    /// `kty` OKP, `crv` Ed25519.
    Ed25519,
}

/// Names as they are written in a header, a key or a configuration.
const NAMES: [(&str, Algorithm); 10] = [
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("EdDSA", Algorithm::EdDsa),
    ("Ed25519", Algorithm::EdDsa),
];

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Algorithm; 9] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];

    /// The algorithm that has exactly this name, letter case included.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, algorithm)| *algorithm)
    }

    /// Its name, the older one where there are two.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// The type of key it needs.
    pub const fn key_type(self) -> KeyType {
        match self {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => KeyType::Rsa,
            Algorithm::Es256 => KeyType::P256,
            Algorithm::Es384 => KeyType::P384,
            Algorithm::EdDsa => KeyType::Ed25519,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no algorithm that is accepted.
#[derive(Debug)]
pub struct InvalidAlgorithm(String);

impl fmt::Display for InvalidAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.0;
        let names = NAMES.map(|(name, _)| name);
        write!(f, "found {}", quote(found))?;
        match found.get(..2) {
            Some(prefix) if prefix.eq_ignore_ascii_case("HS") => write!(
                f,
                ", which is never accepted because whoever can verify such a token can also make \
                 one, expected one of {}",
                names.join(", ")
            ),
            _ if found.eq_ignore_ascii_case("none") => write!(
                f,
                ", which is never accepted because anybody can make such a token, expected one of \
                 {}",
                names.join(", ")
            ),
            _ => {
                let meant = names.iter().find(|name| name.eq_ignore_ascii_case(found));
                f.write_str(&expected_one_of(meant.unwrap_or(&found.as_str()), &names))
            }
        }
    }
}

impl std::error::Error for InvalidAlgorithm {}

impl FromStr for Algorithm {
    type Err = InvalidAlgorithm;

    fn from_str(name: &str) -> Result<Self, InvalidAlgorithm> {
        Algorithm::from_name(name).ok_or_else(|| InvalidAlgorithm(name.to_owned()))
    }
}

tollgate_core::deserr_from_str!(Algorithm);

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn names_are_exact() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse::<Algorithm>().unwrap(), algorithm);
        }
        assert_eq!("Ed25519".parse::<Algorithm>().unwrap(), Algorithm::EdDsa);
        for bad in [
            "rs256", "RS256 ", "", "ES512", "ES256K", "Ed448", "HS256", "none", "é",
        ] {
            assert!(bad.parse::<Algorithm>().is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_say_what_is_accepted_and_why_others_never_are() {
        let error = |name: &str| name.parse::<Algorithm>().unwrap_err().to_string();
        assert_eq!(
            error("rs256"),
            "found \"rs256\", did you mean \"RS256\"? (expected one of RS256, RS384, RS512, \
             PS256, PS384, PS512, ES256, ES384, EdDSA, Ed25519)"
        );
        for secret in ["HS256", "HS384", "HS512", "hs256"] {
            let message = error(secret);
            assert!(message.contains("can also make one"), "{message}");
            assert!(message.contains("expected one of RS256, "), "{message}");
        }
        for none in ["none", "None", "NONE"] {
            assert!(error(none).contains("anybody can make such a token"));
        }
    }
}
