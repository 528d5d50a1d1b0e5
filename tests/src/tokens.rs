//! Signed tokens (JWS, RFC 7515), the keys they are signed with, and tokens with something wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

/// See `fixtures/keys/README.md`.
const RSA_KEYS: [&str; 3] = [
    include_str!("../fixtures/keys/rsa-1.pem"),
    include_str!("../fixtures/keys/rsa-2.pem"),
    include_str!("../fixtures/keys/rsa-3.pem"),
];

/// How tokens are signed (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// Its name in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    fn scheme(self) -> Scheme {
        match self {
            Self::RS256 => Scheme::Rsa(&RSA_PKCS1_SHA256),
            Self::RS384 => Scheme::Rsa(&RSA_PKCS1_SHA384),
            Self::RS512 => Scheme::Rsa(&RSA_PKCS1_SHA512),
            Self::PS256 => Scheme::Rsa(&RSA_PSS_SHA256),
            Self::PS384 => Scheme::Rsa(&RSA_PSS_SHA384),
            Self::PS512 => Scheme::Rsa(&RSA_PSS_SHA512),
            Self::ES256 => Scheme::Ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::ES384 => Scheme::Ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::EdDSA => Scheme::Ed25519,
        }
    }
}

/// An algorithm as *ring* wants it.
enum Scheme {
    Rsa(&'static dyn RsaEncoding),
    Ecdsa(&'static EcdsaSigningAlgorithm),
    Ed25519,
}

/// A private key that signs tokens with one algorithm.
pub struct SigningKey {
    algorithm: Algorithm,
    pkcs8: Vec<u8>,
    pair: Pair,
}

enum Pair {
    Rsa {
        pair: RsaKeyPair,
        encoding: &'static dyn RsaEncoding,
        /// Where it is in [`RSA_KEYS`].
        index: usize,
    },
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// A key for this algorithm. Those for ECDSA and EdDSA are made on the spot; RSA has one fixed
    /// key of 2048 bits, the same for each of its algorithms.
    pub fn new(algorithm: Algorithm) -> Self {
        Self::numbered(algorithm, 0)
    }

    /// Another key for the same algorithm, to rotate to.
    ///
    /// # Panics
    ///
    /// When there are no more RSA keys: the second successor of a [`new`](Self::new) one has no
    /// successor.
    pub fn successor(&self) -> Self {
        let number = match &self.pair {
            Pair::Rsa { index, .. } => index + 1,
            Pair::Ecdsa(_) | Pair::Ed25519(_) => 0,
        };
        Self::numbered(self.algorithm, number)
    }

    /// The number tells RSA keys apart; all others are new.
    fn numbered(algorithm: Algorithm, number: usize) -> Self {
        let random = SystemRandom::new();
        let (pkcs8, pair) = match algorithm.scheme() {
            Scheme::Rsa(encoding) => {
                let pem = RSA_KEYS.get(number).expect("there are three RSA keys");
                let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("PKCS#8");
                let pkcs8 = der.secret_pkcs8_der().to_vec();
                let pair = Pair::Rsa {
                    pair: RsaKeyPair::from_pkcs8(&pkcs8).expect("an RSA key"),
                    encoding,
                    index: number,
                };
                (pkcs8, pair)
            }
            Scheme::Ecdsa(scheme) => {
                let pkcs8 = EcdsaKeyPair::generate_pkcs8(scheme, &random).expect("a new key");
                let pkcs8 = pkcs8.as_ref().to_vec();
                let pair = EcdsaKeyPair::from_pkcs8(scheme, &pkcs8, &random);
                (pkcs8, Pair::Ecdsa(pair.expect("the key just made")))
            }
            Scheme::Ed25519 => {
                let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).expect("a new key");
                let pkcs8 = pkcs8.as_ref().to_vec();
                let pair = Ed25519KeyPair::from_pkcs8(&pkcs8);
                (pkcs8, Pair::Ed25519(pair.expect("the key just made")))
            }
        };
        Self {
            algorithm,
            pkcs8,
            pair,
        }
    }

    /// A key for ES256 that was written down by [`pkcs8`](Self::pkcs8).
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn es256(pkcs8: &[u8]) -> Self {
        let scheme = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(scheme, pkcs8, &SystemRandom::new());
        Self {
            algorithm: Algorithm::ES256,
            pkcs8: pkcs8.to_vec(),
            pair: Pair::Ecdsa(pair.expect("a key for ES256, as PKCS#8")),
        }
    }

    /// The private key, as PKCS#8 in DER.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The algorithm it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key as a JWK (RFC 7517), with `use` and `alg`.
    pub fn jwk(&self, kid: &str) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa { pair, .. } => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": base64url(public.n), "e": base64url(public.e) })
            }
            Pair::Ecdsa(pair) => {
                // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
                let (x, y) = pair.public_key().as_ref()[1..].split_at(match self.algorithm {
                    Algorithm::ES384 => 48,
                    _ => 32,
                });
                let curve = match self.algorithm {
                    Algorithm::ES384 => "P-384",
                    _ => "P-256",
                };
                json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
            }
            Pair::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key()) })
            }
        };
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm.name());
        jwk
    }

    /// The public key as PEM (`PUBLIC KEY`, SPKI).
    pub fn public_pem(&self) -> String {
        let pkcs8 = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        let pair = rcgen::KeyPair::try_from(&pkcs8).expect("a key of a known kind");
        pair.public_key_pem()
    }

    /// A token with these claims that names its key.
    pub fn token(&self, kid: &str, claims: Value) -> String {
        let header = json!({ "alg": self.algorithm.name(), "kid": kid, "typ": "JWT" });
        self.token_with_header(header, claims)
    }

    /// A token with exactly this header, which need not tell how it is signed, and these claims,
    /// which need not be an object.
    pub fn token_with_header(&self, header: Value, claims: Value) -> String {
        let [header, claims] = [header, claims].map(|part| base64url(part.to_string()));
        self.sign_segments(&header, &claims)
    }

    /// A token with these first two segments as they are, base64url or not, signed.
    pub fn sign_segments(&self, header: &str, payload: &str) -> String {
        let message = format!("{header}.{payload}");
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", base64url(signature))
    }

    /// The signature of a message, as JWS has it: ECDSA as r and s of fixed length.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa { pair, encoding, .. } => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)
                    .expect("a signature as long as the modulus");
                signature
            }
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).expect("a signature");
                signature.as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// A token signed with a shared secret, as an attacker can with a public key for the secret.
pub fn hs256_token(secret: &[u8], kid: &str, claims: Value) -> String {
    let header = base64url(json!({ "alg": "HS256", "kid": kid, "typ": "JWT" }).to_string());
    let message = format!("{header}.{}", base64url(claims.to_string()));
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let tag = ring::hmac::sign(&secret, message.as_bytes());
    format!("{message}.{}", base64url(tag))
}

/// The token with another segment in place of one (0 header, 1 payload, 2 signature).
///
/// # Panics
///
/// When it has no such segment.
pub fn replace_segment(token: &str, index: usize, segment: &str) -> String {
    let mut segments: Vec<&str> = token.split('.').collect();
    segments[index] = segment;
    segments.join(".")
}

/// The token with one bit of its signature changed.
///
/// # Panics
///
/// When it has no signature.
pub fn tamper_signature(token: &str) -> String {
    let (_, signature) = token.rsplit_once('.').expect("a token with segments");
    let mut signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    signature[0] ^= 1;
    replace_segment(token, 2, &base64url(signature))
}

/// Encodes as JWS does: base64url without padding (RFC 7515 section 2).
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Now, in seconds since 1970, as claims have it.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's tokens are judged by Envoy's clock"
)]
pub fn unix_time() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_1970.expect("a clock that is set").as_secs();
    seconds.try_into().expect("not the end of time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_another_key() {
        for algorithm in Algorithm::ALL {
            let first = SigningKey::new(algorithm);
            let second = first.successor();
            assert_eq!(second.algorithm(), algorithm);
            let jwks = [first.jwk("a"), second.jwk("a"), second.successor().jwk("a")];
            assert_ne!(jwks[0], jwks[1]);
            assert_ne!(jwks[1], jwks[2]);
            assert_ne!(jwks[0], jwks[2]);
        }
    }

    #[test]
    fn one_rsa_key_signs_with_each_of_its_algorithms() {
        let keys = [Algorithm::RS256, Algorithm::RS512, Algorithm::PS256].map(SigningKey::new);
        assert_eq!(keys[0].jwk("a")["n"], keys[1].jwk("a")["n"]);
        assert_eq!(keys[0].public_pem(), keys[2].public_pem());
        assert_eq!(keys[0].jwk("a")["e"], "AQAB");
    }

    #[test]
    fn every_kind_of_public_key_has_a_pem() {
        for algorithm in Algorithm::ALL {
            let pem = SigningKey::new(algorithm).public_pem();
            assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----"), "{pem}");
        }
    }

    #[test]
    fn a_token_is_broken_where_it_is_meant_to_be() {
        let token = SigningKey::new(Algorithm::EdDSA).token("a", json!({ "sub": "x" }));
        let tampered = tamper_signature(&token);
        assert_eq!(tampered.len(), token.len());
        assert_eq!(
            tampered.rsplit_once('.').unwrap().0,
            token.rsplit_once('.').unwrap().0
        );
        assert_ne!(tampered, token);
        assert_eq!(replace_segment("a.b.c", 2, ""), "a.b.");
        assert_eq!(replace_segment("a.b.c", 0, "d.e"), "d.e.b.c");
    }

    #[test]
    fn a_shared_secret_signs_with_hmac() {
        let token = hs256_token(b"secret", "a", json!({ "sub": "x" }));
        let (message, tag) = token.rsplit_once('.').unwrap();
        let tag = URL_SAFE_NO_PAD.decode(tag).unwrap();
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
        ring::hmac::verify(&secret, message.as_bytes(), &tag).unwrap();
    }
}
