//! What both sides count, and how it is named.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

/// The largest count, sequence number or limit that Redis is told: 2^52.
///
/// Numbers in Lua are doubles, exact up to 2^53; the script adds two counts at most, so all that it
/// computes is exact. A larger number is sent as this one: configuration should refuse it, and no
/// traffic reaches it (a million requests a second do in 142 years).
pub const MAX_COUNT: u64 = 1 << 52;

/// What one Envoy says about one counter, and what it would like.
///
/// A report is cumulative, so a lost answer is made good by the next exchange, and a repeated
/// exchange changes nothing. The store books `consumed` in any case; of `want` it books what is
/// still free. An exchange with a smaller `consumed + want` than before gives back.
///
/// For each counter and Envoy, numbers go up: `seq` by each new exchange, `consumed` never down. One
/// that is sent again is the same in all its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The counter.
    pub key: CounterKey,
    /// Who speaks.
    pub envoy: EnvoyId,
    /// The number of the exchange, from 1 on.
    pub seq: u64,
    /// What this Envoy has admitted in the window so far.
    pub consumed: u64,
    /// What it would like to be able to admit beyond that.
    pub want: u64,
    /// The quota, as this Envoy knows it.
    pub limit: u64,
    /// When the store may forget the counter, in seconds since the Unix epoch: the end of the
    /// window, and a grace for reports that come late. Exchanges after it leave nothing behind.
    pub expires_at: i64,
}

/// What the store answers to an [`Exchange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The newest exchange of this Envoy that the store knows. If it is not the one that was sent,
    /// that one came [too late](Outcome::is_stale) and changed nothing.
    pub seq: u64,
    /// What is booked for this Envoy after exchange `seq`: all it may have consumed in the window
    /// without asking again.
    pub upto: u64,
    /// What is booked for all Envoys now. Above the limit, if more was used than it.
    pub total: u64,
    /// The exchange of this Envoy that the store knew before: `seq` if nothing was changed. If it is
    /// an older one than the store has answered before, the store has lost data.
    pub previous: u64,
}

impl Outcome {
    /// Whether the store had heard of a later exchange. `upto` is then of that one.
    pub fn is_stale(&self, exchange: &Exchange) -> bool {
        self.seq > exchange.seq
    }
}

/// One run of one Envoy process, by a random number. All its workers are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnvoyId(pub u64);

impl fmt::Display for EnvoyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A consumer as the store knows it: 128 bits of a SHA-256, written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerTag(u128);

impl ConsumerTag {
    /// The tag of the consumer with this id. In another namespace it has another tag.
    ///
    /// The digest is of the namespace's length (eight bytes, big-endian), the namespace, and the
    /// id, so that no two pairs make the same text.
    pub fn new(namespace: &str, consumer: &str) -> ConsumerTag {
        let length = u64::try_from(namespace.len()).unwrap_or(u64::MAX);
        let digest = Sha256::new()
            .chain_update(length.to_be_bytes())
            .chain_update(namespace)
            .chain_update(consumer)
            .finalize();
        let high = digest.iter().take(16);
        ConsumerTag(high.fold(0, |tag, byte| (tag << 8) | u128::from(*byte)))
    }
}

impl fmt::Display for ConsumerTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The name of a counter: `tollgate:{0f…}:monthly:2026-11-01`.
///
/// It is the prefix, the consumer's tag, the quota, and the start of the window, see
/// [`window_label`]. The braces make a hash tag, by which Redis Cluster keeps all counters of a
/// consumer on one node and spreads consumers over all. In the quota, whatever is not a letter,
/// digit, `-`, `.`, `_` or `~` is percent-encoded, so no two counters have the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CounterKey {
    text: Arc<str>,
    consumer: ConsumerTag,
}

impl CounterKey {
    /// The counter of this window, which starts so many seconds after the Unix epoch.
    pub fn new(
        prefix: &KeyPrefix,
        consumer: ConsumerTag,
        quota: &str,
        window_start: i64,
    ) -> CounterKey {
        let KeyPrefix(prefix) = prefix;
        let quota = utf8_percent_encode(quota, ESCAPED);
        let window = window_label(window_start);
        CounterKey {
            text: format!("{prefix}{{{consumer}}}:{quota}:{window}").into(),
            consumer,
        }
    }

    /// The name as it is sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose counter it is.
    pub fn consumer(&self) -> ConsumerTag {
        self.consumer
    }
}

/// Everything but the unreserved characters of URIs (RFC 3986 section 2.3).
pub(crate) const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The start of a window in words: `2026-11-01`, or `2026-11-01T053000Z` if it is not at midnight
/// UTC. Beyond the years that a calendar knows it is the number of seconds.
pub fn window_label(window_start: i64) -> String {
    let Ok(instant) = jiff::Timestamp::from_second(window_start) else {
        return window_start.to_string();
    };
    let start = jiff::tz::Offset::UTC.to_datetime(instant);
    let mut label = start.date().to_string();
    if start.time() != jiff::civil::Time::midnight() {
        let (hour, minute, second) = (start.hour(), start.minute(), start.second());
        // Writing to a string does not fail.
        let _ = write!(label, "T{hour:02}{minute:02}{second:02}Z");
    }
    label
}

/// What the names of all counters begin with: up to 64 letters, digits and `. _ - : /`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix(Arc<str>);

impl Default for KeyPrefix {
    fn default() -> Self {
        KeyPrefix("tollgate:".into())
    }
}

const LONGEST_PREFIX: usize = 64;

impl FromStr for KeyPrefix {
    type Err = InvalidKeyPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidKeyPrefix> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/".contains(&byte);
        if text.len() <= LONGEST_PREFIX && text.bytes().all(allowed) {
            Ok(KeyPrefix(text.into()))
        } else {
            Err(InvalidKeyPrefix(text.to_owned()))
        }
    }
}

/// The text can't begin a counter's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidKeyPrefix(String);

impl fmt::Display for InvalidKeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {:?}, expected a prefix of keys: up to {LONGEST_PREFIX} letters, digits and \
             . _ - : / (braces would take away the consumer's hash tag)",
            self.0
        )
    }
}

impl std::error::Error for InvalidKeyPrefix {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const NOVEMBER: i64 = 1_793_491_200;

    #[test]
    fn a_key_names_consumer_quota_and_window() {
        let consumer = ConsumerTag::new("prod", "acme");
        let key = CounterKey::new(&KeyPrefix::default(), consumer, "calls/month", NOVEMBER);
        assert_eq!(
            key.as_str(),
            format!("tollgate:{{{consumer}}}:calls%2Fmonth:2026-11-01")
        );
        assert_eq!(key.consumer(), consumer);
    }

    #[test]
    fn a_tag_is_a_digest_of_namespace_and_id() {
        // printf '\0\0\0\0\0\0\0\4prodacme' | sha256sum
        let tag = ConsumerTag::new("prod", "acme").to_string();
        assert_eq!(tag, "199e7d9ce3c2524bca1422bcff8b9e3d");
        let pairs = [
            ("prod", "acme"),
            ("proda", "cme"),
            ("", "prodacme"),
            ("test", "acme"),
        ];
        let tags: HashSet<_> = pairs.map(|(n, c)| ConsumerTag::new(n, c)).into();
        assert_eq!(tags.len(), pairs.len());
    }

    #[test]
    fn quotas_that_look_like_other_keys_do_not_become_them() {
        let consumer = ConsumerTag::new("", "acme");
        let names = ["a:2026-11-01", "a", "a%3A2026-11-01", "{a}", "ä", ""];
        let keys: HashSet<_> = names
            .map(|name| CounterKey::new(&KeyPrefix::default(), consumer, name, NOVEMBER))
            .into();
        assert_eq!(keys.len(), names.len());
        for key in keys {
            let braces = key.as_str().matches(['{', '}']).count();
            assert_eq!(
                (braces, key.as_str().matches(':').count()),
                (2, 3),
                "{key:?}"
            );
        }
    }

    #[test]
    fn windows_are_labelled_by_their_start() {
        assert_eq!(window_label(NOVEMBER), "2026-11-01");
        assert_eq!(window_label(NOVEMBER - 19_800), "2026-10-31T183000Z");
        assert_eq!(window_label(NOVEMBER + 1), "2026-11-01T000001Z");
        assert_eq!(window_label(0), "1970-01-01");
        assert_eq!(window_label(i64::MAX), i64::MAX.to_string());
        assert_eq!(window_label(i64::MIN), i64::MIN.to_string());
    }

    #[test]
    fn a_prefix_leaves_the_hash_tag_alone() {
        for good in ["", "tollgate:", "eu/gateway-1."] {
            assert!(good.parse::<KeyPrefix>().is_ok(), "{good}");
        }
        for bad in ["{a}", "}", "a b", "ä", &"a".repeat(65)] {
            let error = bad.parse::<KeyPrefix>().unwrap_err().to_string();
            assert!(error.starts_with("found \""), "{error}");
        }
    }
}
