//! Tokens and sets of keys.

use std::sync::LazyLock;

use serde_json::json;
use tollgate_jose::{Algorithm, ClaimRules, Jws, Key, KeySet, Limits, MAX_KID_BYTES, NoHost};

use crate::setup::{self, BAD_TOKENS, GOOD_TOKENS, INLINE_ISSUER, START};

/// Nothing longer is read as a token.
const MAX_TOKEN_BYTES: usize = 4_096;

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let keys = json!({ "keys": [setup::jwk(1, "inline"), setup::jwk(2, "remote")] });
    KeySet::parse(keys.to_string().as_bytes(), &Limits::default()).expect("two good keys")
});

/// The first byte says what the rest is: a token, a set of keys, or PEM.
pub fn check(bytes: &[u8]) {
    match bytes {
        [0 | b't', token @ ..] => check_token(token),
        [1 | b'k', keys @ ..] => check_keys(keys),
        [2 | b'p', pem @ ..] => drop(Key::from_pem(&String::from_utf8_lossy(pem), None, None)),
        _ => check_token(bytes),
    }
}

/// Nobody but the holder of a key can sign: what verifies says what was signed.
fn check_token(bytes: &[u8]) {
    let Ok(jws) = Jws::parse(bytes, MAX_TOKEN_BYTES) else {
        return;
    };
    assert!(bytes.len() <= MAX_TOKEN_BYTES);
    let rules = ClaimRules::for_issuer(INLINE_ISSUER);
    if let Ok(validated) = rules.check(jws.claims(), jws.header(), START) {
        assert_eq!(jws.issuer(), Some(INLINE_ISSUER));
        assert!(validated.holds_at(START));
    }
    if KEYS.verify(&jws, &Algorithm::ALL, &NoHost).is_ok() {
        let known = GOOD_TOKENS.iter().chain(BAD_TOKENS.iter());
        let mut inputs = known.filter_map(|token| token.rsplit_once('.'));
        assert!(
            inputs.any(|(input, _)| input.as_bytes() == jws.signing_input()),
            "a forged token verifies: {}",
            bytes.escape_ascii()
        );
    }
}

/// Whatever a set says, it stays within bounds, and its keys are what they are taken for.
fn check_keys(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(keys) = KeySet::parse(bytes, &limits) else {
        return;
    };
    assert!(!keys.keys().is_empty());
    for key in keys.keys() {
        assert!(key.kid().is_none_or(|kid| kid.len() <= MAX_KID_BYTES));
        let fits = |algorithm: &&Algorithm| key.fits(**algorithm);
        for algorithm in Algorithm::ALL.iter().filter(fits) {
            assert_eq!(algorithm.key_type(), key.key_type());
        }
        if let Some(kid) = key.kid() {
            assert!(keys.has_kid(kid));
        }
    }
    for token in GOOD_TOKENS.iter() {
        let jws = Jws::parse(token.as_bytes(), MAX_TOKEN_BYTES).expect("a good token");
        if let Ok(key) = keys.verify(&jws, &[Algorithm::Es256], &NoHost) {
            // Whoever signed it has published the key.
            let ours = KEYS
                .keys()
                .iter()
                .any(|ours| ours.spki_der() == key.spki_der());
            assert!(ours, "{}", bytes.escape_ascii());
        }
    }
}
