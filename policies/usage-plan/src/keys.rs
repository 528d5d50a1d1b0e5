//! Keys as digests, and finding the consumer that a key belongs to.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use tollgate_core::time::Timestamp;

/// The SHA-256 or HMAC-SHA-256 of a key. Not secret, but not shown either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// The text is no digest. It is not shown: it may be a key that was put in place of its digest.
#[derive(Debug)]
pub struct InvalidDigest {
    length: usize,
}

impl fmt::Display for InvalidDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {} characters, expected the 64 hexadecimal digits of the key's digest; for \
             sha256 `printf %s \"$KEY\" | sha256sum` prints it",
            self.length
        )
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        parse_hex(text).map(Digest).ok_or(InvalidDigest {
            length: text.chars().count(),
        })
    }
}

tollgate_core::deserr_from_str!(Digest);

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let nibble = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        *byte = nibble(*high)?.checked_shl(4)? | nibble(*low)?;
    }
    Some(digest)
}

/// The secret under which keys are digested, so that whoever reads the configuration can't try
/// keys against it.
pub(crate) struct Pepper(Hmac<Sha256>);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

impl Pepper {
    /// Any number of bytes will do for HMAC; empty ones are no secret.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        if secret.is_empty() {
            return None;
        }
        Hmac::new_from_slice(secret).ok().map(Pepper)
    }

    fn digest(&self, key: &[u8]) -> Digest {
        let mut hmac = self.0.clone();
        hmac.update(key);
        Digest(hmac.finalize().into_bytes().into())
    }
}

/// A key of a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRecord {
    /// The consumer's place in the configuration.
    pub(crate) consumer: u32,
    /// From when the key is valid.
    pub(crate) not_before: Timestamp,
    /// From when it no longer is.
    pub(crate) expires: Timestamp,
}

/// Whether a key may be used at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    Valid,
    NotYet,
    Expired,
}

impl KeyRecord {
    pub(crate) fn at(&self, now: Timestamp) -> Validity {
        if now >= self.expires {
            Validity::Expired
        } else if now < self.not_before {
            Validity::NotYet
        } else {
            Validity::Valid
        }
    }
}

/// All keys, by digest: 56 bytes a key, found by binary search. How long a search takes tells at
/// most about digests, and a digest that was guessed is of no use.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    plain: Vec<(Digest, KeyRecord)>,
    peppered: Vec<(Digest, KeyRecord)>,
    pepper: Option<Pepper>,
}

/// How a configured digest was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Sha256,
    HmacSha256,
}

impl Keys {
    /// Takes digests in any order, each at most once.
    pub(crate) fn new(keys: Vec<(Scheme, Digest, KeyRecord)>, pepper: Option<Pepper>) -> Self {
        let of = |scheme| {
            let mut table: Vec<_> = keys
                .iter()
                .filter(|(found, ..)| *found == scheme)
                .map(|(_, digest, record)| (*digest, *record))
                .collect();
            table.sort_unstable_by_key(|(digest, _)| *digest);
            table.shrink_to_fit();
            table
        };
        Keys {
            plain: of(Scheme::Sha256),
            peppered: of(Scheme::HmacSha256),
            pepper,
        }
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.plain.len().saturating_add(self.peppered.len())
    }

    /// Finds a key; digests are made only of the kinds that the configuration has.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&KeyRecord> {
        if !self.plain.is_empty()
            && let Some(record) = find(&self.plain, &Digest(Sha256::digest(key).into()))
        {
            return Some(record);
        }
        let pepper = self.pepper.as_ref().filter(|_| !self.peppered.is_empty())?;
        find(&self.peppered, &pepper.digest(key))
    }
}

fn find<'a>(table: &'a [(Digest, KeyRecord)], digest: &Digest) -> Option<&'a KeyRecord> {
    let index = table
        .binary_search_by(|(found, _)| found.cmp(digest))
        .ok()?;
    table.get(index).map(|(_, record)| record)
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn record(consumer: u32) -> KeyRecord {
        KeyRecord {
            consumer,
            not_before: Timestamp::default(),
            expires: Timestamp::from_nanos(u64::MAX),
        }
    }

    #[test]
    fn a_key_is_found_by_its_sha_256() {
        // FIPS 180-2, appendix B.1.
        let keys = Keys::new(
            vec![(Scheme::Sha256, ABC.parse().unwrap(), record(7))],
            None,
        );
        assert_eq!(keys.find(b"abc").unwrap().consumer, 7);
        assert!(keys.find(b"abd").is_none());
    }

    #[test]
    fn a_key_is_found_by_its_hmac() {
        // RFC 4231, test case 2.
        let digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let keys = Keys::new(
            vec![(Scheme::HmacSha256, digest.parse().unwrap(), record(3))],
            Pepper::new(b"Jefe"),
        );
        assert_eq!(
            keys.find(b"what do ya want for nothing?").unwrap().consumer,
            3
        );
        assert!(keys.find(b"abc").is_none());
        assert!(Pepper::new(b"").is_none());
    }

    #[test]
    fn a_digest_of_one_kind_is_not_taken_for_the_other() {
        let keys = Keys::new(
            vec![(Scheme::HmacSha256, ABC.parse().unwrap(), record(1))],
            Pepper::new(b"x"),
        );
        assert!(keys.find(b"abc").is_none());
    }

    #[test]
    fn what_is_no_digest_is_refused_and_not_repeated() {
        for bad in [
            "",
            "live-secret-key",
            &ABC.replacen("b", "", 1),
            &format!("{ABC}00"),
            &ABC.replace('b', "g"),
        ] {
            let message = bad.parse::<Digest>().unwrap_err().to_string();
            assert!(bad.is_empty() || !message.contains(bad), "{message}");
            assert!(message.contains("64 hexadecimal digits"), "{message}");
        }
        assert_eq!(
            ABC.to_uppercase().parse::<Digest>().unwrap(),
            ABC.parse().unwrap()
        );
    }

    #[test]
    fn a_key_is_valid_from_not_before_until_expires() {
        let record = KeyRecord {
            consumer: 0,
            not_before: Timestamp::from_seconds(10),
            expires: Timestamp::from_seconds(20),
        };
        for (second, expected) in [
            (9, Validity::NotYet),
            (10, Validity::Valid),
            (19, Validity::Valid),
            (20, Validity::Expired),
        ] {
            assert_eq!(
                record.at(Timestamp::from_seconds(second)),
                expected,
                "{second}"
            );
        }
    }
}
