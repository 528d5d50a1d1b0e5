//! Keys against a list of them that is walked from its beginning.

use proptest::prelude::*;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// How a key is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scheme {
    Plain,
    Peppered,
    /// With no digest.
    Neither,
    /// With both digests.
    Both,
}

/// A key of a consumer.
#[derive(Clone, Debug)]
struct Written {
    place: KeyPlace,
    scheme: Scheme,
    /// Which of [`SECRETS`] it is.
    secret: u8,
    /// In seconds, as `expires` is.
    not_before: Option<u64>,
    expires: Option<u64>,
}

/// So few that some are there again, and some of them are nobody's.
const SECRETS: u8 = 12;

const PEPPER: &[u8] = b"a pepper";

impl Written {
    fn config(&self) -> ApiKeyConfig {
        let pepper = Pepper::new(PEPPER).unwrap();
        let plain = Digest(Sha256::digest([self.secret]).into());
        let is_one_of = |schemes: [Scheme; 2]| schemes.contains(&self.scheme);
        let instant = |second: u64| Instant3339(Timestamp::from_seconds(second));
        ApiKeyConfig {
            sha256: is_one_of([Scheme::Plain, Scheme::Both]).then_some(plain),
            hmac_sha256: is_one_of([Scheme::Peppered, Scheme::Both])
                .then(|| pepper.digest(&[self.secret])),
            not_before: self.not_before.map(instant),
            expires: self.expires.map(instant),
        }
    }

    fn validity(&self, second: u64) -> Validity {
        match (self.not_before, self.expires) {
            (_, Some(expires)) if second >= expires => Validity::Expired,
            (Some(not_before), _) if second < not_before => Validity::NotYet,
            _ => Validity::Valid,
        }
    }

    /// What is wrong with it by itself.
    fn mistake(&self, has_pepper: bool) -> Option<&'static str> {
        let not_before = self.not_before.unwrap_or(0);
        match self.scheme {
            Scheme::Neither => Some(": found no digest"),
            Scheme::Both => Some(": found sha256 and hmac_sha256"),
            Scheme::Peppered if !has_pepper => Some(".hmac_sha256: needs the pepper"),
            _ if self.expires.is_some_and(|at| at <= not_before) => {
                Some(".expires: is not after not_before")
            }
            _ => None,
        }
    }
}

/// The beginnings of the mistakes in a list, in its order.
fn mistakes(written: &[Written], has_pepper: bool) -> Vec<String> {
    let sound = |key: &&Written| key.mistake(has_pepper).is_none();
    let in_order = written.iter().enumerate().filter_map(|(index, key)| {
        let same = |other: &&Written| (other.scheme, other.secret) == (key.scheme, key.secret);
        let first = || written[..index].iter().filter(sound).find(same);
        let mistake = key.mistake(has_pepper).map(str::to_owned);
        let mistake = mistake
            .or_else(|| first().map(|first| format!(": is the same key as {}", first.place)));
        mistake.map(|mistake| format!("{}{mistake}", key.place))
    });
    in_order.collect()
}

/// The key that a client means: of those that are the same under both schemes, the plain one.
fn walk(written: &[Written], secret: u8) -> Option<&Written> {
    let mut schemes = [Scheme::Plain, Scheme::Peppered].into_iter();
    schemes.find_map(|scheme| {
        let is_it = |key: &&Written| (key.scheme, key.secret) == (scheme, secret);
        written.iter().find(is_it)
    })
}

fn compile(written: &[Written], has_pepper: bool, expected: usize) -> Result<Keys, ConfigErrors> {
    let mut list = KeyList::expecting(expected);
    for key in written {
        list.push(key.place, &key.config());
    }
    let mut errors = ConfigErrors::default();
    let pepper = has_pepper.then(|| Pepper::new(PEPPER).unwrap());
    list.compile(Ok(pepper), &mut errors).map_err(|_| errors)
}

/// The keys of some consumers, several each.
fn any_keys(schemes: impl Strategy<Value = Scheme> + Clone) -> impl Strategy<Value = Vec<Written>> {
    let second = || prop::option::weighted(0.3, 0..8_u64);
    let key = (schemes, 0..SECRETS - 2, second(), second());
    let consumers = prop::collection::vec(prop::collection::vec(key, 0..4), 0..6);
    consumers.prop_map(|consumers| {
        let mut written = Vec::new();
        for (consumer, keys) in (0..).zip(consumers) {
            for (key, (scheme, secret, not_before, expires)) in (0..).zip(keys) {
                let place = KeyPlace { consumer, key };
                written.push(Written {
                    place,
                    scheme,
                    secret,
                    not_before,
                    expires,
                });
            }
        }
        written
    })
}

fn either() -> impl Strategy<Value = Scheme> + Clone {
    prop_oneof![Just(Scheme::Plain), Just(Scheme::Peppered)]
}

proptest! {
    #[test]
    fn a_key_is_found_as_in_a_list(mut written in any_keys(either()), expected in 0..30_usize) {
        let mut kept: Vec<Written> = Vec::new();
        for key in written.drain(..) {
            kept.push(key);
            if !mistakes(&kept, true).is_empty() {
                kept.pop();
            }
        }
        let keys = compile(&kept, true, expected).unwrap();
        prop_assert_eq!(keys.len(), kept.len());
        for secret in 0..SECRETS {
            let (found, listed) = (keys.find(&[secret]), walk(&kept, secret));
            prop_assert_eq!(
                found.map(|record| record.consumer),
                listed.map(|key| key.place.consumer)
            );
            for (record, key) in found.iter().zip(listed) {
                for second in 0..9 {
                    let validity = record.term.at(Timestamp::from_seconds(second));
                    prop_assert_eq!(validity, key.validity(second));
                }
            }
        }
    }

    #[test]
    fn mistakes_in_keys_are_those_of_a_list(
        written in any_keys(prop_oneof![
            8 => either(),
            1 => Just(Scheme::Neither),
            1 => Just(Scheme::Both),
        ]),
        has_pepper in any::<bool>(),
    ) {
        let found = match compile(&written, has_pepper, written.len()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        let expected = mistakes(&written, has_pepper);
        prop_assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            prop_assert!(found.starts_with(&expected), "{} {}", found, expected);
        }
    }
}
