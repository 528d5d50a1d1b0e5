//! Keys as digests, and finding the consumer that a key belongs to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use tollgate_core::config::{ConfigErrors, Rejected};
use tollgate_core::name_list::gentle_growth;
use tollgate_core::time::{Instant3339, Timestamp};

use crate::config::ApiKeyConfig;

/// The SHA-256 or HMAC-SHA-256 of a key. Not secret, but not shown either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest([u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// The text is no digest. It is not shown: it may be a key that was put in place of its digest.
#[derive(Debug)]
pub(crate) struct InvalidDigest {
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

/// Which key of which consumer, by their places in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyPlace {
    pub(crate) consumer: u32,
    pub(crate) key: u32,
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeyPlace { consumer, key } = self;
        write!(f, "usage_plan.consumers[{consumer}].keys[{key}]")
    }
}

/// A key of a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRecord {
    /// The consumer's place in the configuration.
    pub(crate) consumer: u32,
    pub(crate) term: Term,
}

/// When a key is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// From when it is.
    pub(crate) not_before: Timestamp,
    /// From when it no longer is.
    pub(crate) expires: Timestamp,
}

impl Term {
    /// At all times.
    pub(crate) const ALWAYS: Term = Term {
        not_before: Timestamp::from_nanos(0),
        expires: Timestamp::from_nanos(u64::MAX),
    };
}

/// Whether a key may be used at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    Valid,
    NotYet,
    Expired,
}

impl Term {
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

/// All keys, by digest: 40 bytes a key, found by binary search. How long a search takes tells at
/// most about digests, and a digest that was guessed is of no use.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    plain: Box<[(Digest, KeyPlace)]>,
    peppered: Box<[(Digest, KeyPlace)]>,
    /// When keys are valid, by their places; those that are not here are at all times.
    terms: Box<[(KeyPlace, Term)]>,
    pepper: Option<Pepper>,
}

impl Keys {
    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.plain.len().saturating_add(self.peppered.len())
    }

    /// Finds a key; digests are made only of the kinds that the configuration has.
    pub(crate) fn find(&self, key: &[u8]) -> Option<KeyRecord> {
        let plain = match self.plain.is_empty() {
            true => None,
            false => find(&self.plain, &Digest(Sha256::digest(key).into())),
        };
        let place = plain.or_else(|| {
            let pepper = self.pepper.as_ref().filter(|_| !self.peppered.is_empty())?;
            find(&self.peppered, &pepper.digest(key))
        })?;
        Some(KeyRecord {
            consumer: place.consumer,
            term: find(&self.terms, &place).unwrap_or(Term::ALWAYS),
        })
    }
}

fn find<K: Ord, V: Copy>(table: &[(K, V)], key: &K) -> Option<V> {
    let index = table.binary_search_by(|(found, _)| found.cmp(key)).ok()?;
    table.get(index).map(|(_, value)| *value)
}

/// The keys of all consumers as they are listed, kept in the form in which they are found later.
#[derive(Debug, Default)]
pub(crate) struct KeyList {
    plain: Vec<(Digest, KeyPlace)>,
    peppered: Vec<(Digest, KeyPlace)>,
    terms: Vec<(KeyPlace, Term)>,
    /// How many keys there will be, about: room for them is made when it is known of which kind they
    /// are.
    expected: usize,
    /// Those that have not exactly one digest.
    flawed: Vec<(KeyPlace, &'static str)>,
}

impl KeyList {
    /// An empty list of about so many keys.
    pub(crate) fn expecting(keys: usize) -> Self {
        KeyList {
            expected: keys,
            ..KeyList::default()
        }
    }

    /// Adds a key. Keys are added in the order of their places.
    pub(crate) fn push(&mut self, place: KeyPlace, key: &ApiKeyConfig) {
        match (key.sha256, key.hmac_sha256) {
            (Some(digest), None) => {
                let others = self.peppered.len();
                reserve(&mut self.plain, self.expected.saturating_sub(others));
                push(&mut self.plain, (digest, place));
            }
            (None, Some(digest)) => {
                let others = self.plain.len();
                reserve(&mut self.peppered, self.expected.saturating_sub(others));
                push(&mut self.peppered, (digest, place));
            }
            (None, None) => {
                let message = "found no digest, expected sha256 or hmac_sha256";
                self.flawed.push((place, message));
            }
            (Some(_), Some(_)) => {
                let message = "found sha256 and hmac_sha256, expected one of them";
                self.flawed.push((place, message));
            }
        }
        let instant = |instant: Option<Instant3339>| instant.map(|Instant3339(at)| at);
        let term = Term {
            not_before: instant(key.not_before).unwrap_or(Term::ALWAYS.not_before),
            expires: instant(key.expires).unwrap_or(Term::ALWAYS.expires),
        };
        if term != Term::ALWAYS {
            push(&mut self.terms, (place, term));
        }
    }

    /// Compiles the keys.
    pub(crate) fn compile(
        mut self,
        pepper: Result<Option<Pepper>, Rejected>,
        errors: &mut ConfigErrors,
    ) -> Result<Keys, Rejected> {
        let mut mistakes = Mistakes::default();
        for (place, message) in self.flawed {
            mistakes.add(place, "", message);
        }
        if let Ok(None) = pepper {
            for (_, place) in &self.peppered {
                let message = "needs the pepper it was made under: add key: { pepper: { env: NAME } } \
                               to usage_plan";
                mistakes.add(*place, ".hmac_sha256", message);
            }
        }
        for (place, term) in &self.terms {
            if term.expires <= term.not_before {
                let message = "is not after not_before, so the key would never be valid";
                mistakes.add(*place, ".expires", message);
            }
        }
        mistakes.add_repeated(&mut self.plain);
        mistakes.add_repeated(&mut self.peppered);
        mistakes.tell(errors)?;
        Ok(Keys {
            plain: self.plain.into_boxed_slice(),
            peppered: self.peppered.into_boxed_slice(),
            terms: self.terms.into_boxed_slice(),
            pepper: pepper?,
        })
    }
}

/// Makes room in a list that nothing was put into yet.
fn reserve<T>(list: &mut Vec<T>, items: usize) {
    if list.capacity() == 0 {
        list.reserve_exact(items);
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(gentle_growth(list.len()));
    }
    list.push(item);
}

/// The first mistake of each key that has one.
#[derive(Default)]
struct Mistakes(BTreeMap<KeyPlace, Flaw>);

/// What is wrong with a key. Written out only for those that are listed.
enum Flaw {
    /// Behind the key's path, and in words.
    Of(&'static str, &'static str),
    /// It is the same as this one.
    Repeats(KeyPlace),
}

impl Mistakes {
    fn add(&mut self, place: KeyPlace, field: &'static str, message: &'static str) {
        self.0.entry(place).or_insert(Flaw::Of(field, message));
    }

    /// Sorts keys, and finds those that are there already. Keys with other mistakes don't count.
    fn add_repeated(&mut self, keys: &mut [(Digest, KeyPlace)]) {
        keys.sort_unstable();
        let mut first: Option<&(Digest, KeyPlace)> = None;
        for key in &*keys {
            if self.0.contains_key(&key.1) {
                continue;
            }
            match first {
                Some((digest, place)) if *digest == key.0 => {
                    self.0.insert(key.1, Flaw::Repeats(*place));
                }
                _ => first = Some(key),
            }
        }
    }

    fn tell(self, errors: &mut ConfigErrors) -> Result<(), Rejected> {
        let mut verdict = Ok(());
        for (place, flaw) in self.0 {
            verdict = Err(match flaw {
                Flaw::Of(field, message) => errors.add(format!("{place}{field}"), message),
                Flaw::Repeats(first) => {
                    errors.add(place.to_string(), format!("is the same key as {first}"))
                }
            });
        }
        verdict
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    /// The keys of a consumer, each with its scheme and digest.
    fn keys(consumer: u32, listed: &[(&str, &str)], pepper: Option<Pepper>) -> Keys {
        let mut list = KeyList::default();
        for (key, (scheme, digest)) in (0..).zip(listed) {
            let of = |wanted| (*scheme == wanted).then(|| digest.parse().unwrap());
            let config = ApiKeyConfig {
                sha256: of("sha256"),
                hmac_sha256: of("hmac_sha256"),
                not_before: None,
                expires: None,
            };
            list.push(KeyPlace { consumer, key }, &config);
        }
        let mut errors = ConfigErrors::default();
        list.compile(Ok(pepper), &mut errors).unwrap()
    }

    #[test]
    fn a_key_is_found_by_its_sha_256() {
        // FIPS 180-2, appendix B.1.
        let keys = keys(7, &[("sha256", ABC)], None);
        assert_eq!(keys.find(b"abc").unwrap().consumer, 7);
        assert!(keys.find(b"abd").is_none());
    }

    #[test]
    fn a_key_is_found_by_its_hmac() {
        // RFC 4231, test case 2.
        let digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let keys = keys(3, &[("hmac_sha256", digest)], Pepper::new(b"Jefe"));
        assert_eq!(
            keys.find(b"what do ya want for nothing?").unwrap().consumer,
            3
        );
        assert!(keys.find(b"abc").is_none());
        assert!(Pepper::new(b"").is_none());
    }

    #[test]
    fn a_digest_of_one_kind_is_not_taken_for_the_other() {
        let keys = keys(1, &[("hmac_sha256", ABC)], Pepper::new(b"x"));
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
        let term = Term {
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
                term.at(Timestamp::from_seconds(second)),
                expected,
                "{second}"
            );
        }
    }
}
