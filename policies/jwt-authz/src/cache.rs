//! Tokens that were found good, remembered by one worker.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use serde_json::Value;
use tollgate_core::time::Timestamp;
use tollgate_jose::Validated;

use crate::provider::Verified;

/// A bounded memory of tokens. The key is the whole token: equal bytes, not only an equal hash.
///
/// It has two halves. New tokens go into the young one; when that is full it becomes the old one,
/// and what was old is forgotten. A token that is used while it is old becomes young again. So what
/// is in use stays, whatever else comes, and nothing is ever searched for a victim.
pub(crate) struct Cache {
    young: HashMap<Box<[u8]>, Entry>,
    old: HashMap<Box<[u8]>, Entry>,
    young_bytes: usize,
    limits: CacheLimits,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheLimits {
    /// Tokens; 0 remembers none.
    pub(crate) tokens: usize,
    /// Bytes of these, and of what is made of them, about.
    pub(crate) bytes: usize,
    pub(crate) ttl: Duration,
}

struct Entry {
    verified: Arc<Verified>,
    validated: Validated,
    stored: Timestamp,
    /// Which keys of its provider it was verified with.
    generation: u64,
    /// How many bytes it takes, about.
    weight: usize,
}

/// About what a value of a claim takes beside its text: itself, and its share of the map or list
/// that it is in.
const VALUE_BYTES: usize = 96;

impl Cache {
    pub(crate) fn new(limits: CacheLimits) -> Self {
        Cache {
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
            limits,
        }
    }

    /// The token, if it is remembered and still good. `generation` gives which keys its provider has,
    /// if any.
    pub(crate) fn get(
        &mut self,
        token: &[u8],
        now: Timestamp,
        generation: impl Fn(&Verified) -> Option<u64>,
    ) -> Option<Arc<Verified>> {
        if let Some(entry) = self.young.get(token) {
            return self
                .is_good(entry, now, generation)
                .then(|| Arc::clone(&entry.verified));
        }
        let (token, entry) = self.old.remove_entry(token)?;
        if !self.is_good(&entry, now, generation) {
            return None;
        }
        let verified = Arc::clone(&entry.verified);
        self.put(token, entry);
        Some(verified)
    }

    /// Remembers a token that was verified at `now`, with these keys of its provider.
    pub(crate) fn insert(
        &mut self,
        token: &[u8],
        verified: Arc<Verified>,
        validated: Validated,
        (now, generation): (Timestamp, u64),
    ) {
        let half = self.limits.bytes / 2;
        let values = verified.token.claims.values().map(count_values);
        let values = values.fold(0_usize, usize::saturating_add);
        let weight = values
            .saturating_mul(VALUE_BYTES)
            .saturating_add(token.len());
        if self.limits.tokens < 2 || weight > half {
            return;
        }
        let entry = Entry {
            verified,
            validated,
            stored: now,
            generation,
            weight,
        };
        self.put(token.into(), entry);
    }

    fn put(&mut self, token: Box<[u8]>, entry: Entry) {
        let weight = entry.weight;
        let bytes = self.young_bytes.saturating_add(weight);
        let is_full = self.young.len() >= self.limits.tokens / 2 || bytes > self.limits.bytes / 2;
        if is_full {
            // The room that the old half had is used again.
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.young_bytes = 0;
        }
        if self.young.insert(token, entry).is_none() {
            self.young_bytes = self.young_bytes.saturating_add(weight);
        }
    }

    fn is_good(
        &self,
        entry: &Entry,
        now: Timestamp,
        generation: impl Fn(&Verified) -> Option<u64>,
    ) -> bool {
        // A clock that has stepped back behind the check says nothing about how long ago it was.
        let in_time = entry.stored <= now && now < entry.stored.saturating_add(self.limits.ttl);
        in_time
            && entry.validated.holds_at(now)
            && generation(&entry.verified) == Some(entry.generation)
    }
}

/// How many values there are in one, itself counted. Tokens are not nested deeply: their parser sees
/// to it.
fn count_values(value: &Value) -> usize {
    let inner: usize = match value {
        Value::Array(items) => items
            .iter()
            .map(count_values)
            .fold(0, usize::saturating_add),
        Value::Object(members) => members
            .values()
            .map(count_values)
            .fold(0, usize::saturating_add),
        _ => 0,
    };
    inner.saturating_add(1)
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]
mod tests {
    use std::collections::HashMap as Model;

    use proptest::prelude::*;
    use serde_json::Map;
    use tollgate_core::headers::HeaderName;
    use tollgate_core::token::Token;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// In seconds.
    const TTL: u64 = 10;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn cache(tokens: usize, bytes: usize) -> Cache {
        Cache::new(CacheLimits {
            tokens,
            bytes,
            ttl: Duration::from_secs(TTL),
        })
    }

    /// What is made of a token; a header holds its bytes.
    fn verified(token: &[u8]) -> Arc<Verified> {
        Arc::new(Verified {
            provider: 0,
            token: Arc::new(Token {
                provider: "idp".into(),
                subject: None,
                client: None,
                claims: Map::new(),
                expires: None,
            }),
            headers: vec![(HeaderName::from_static("x-token"), token.to_vec().into())],
        })
    }

    fn bytes_of(verified: &Verified) -> &[u8] {
        verified.headers[0].1.as_bytes()
    }

    fn valid(from: u64, until: Option<u64>) -> Validated {
        Validated {
            expires: None,
            not_before: None,
            accepted_from: at(from),
            accepted_until: until.map(at),
        }
    }

    fn insert(cache: &mut Cache, token: &[u8], now: u64, generation: u64) {
        let checked = (at(now), generation);
        cache.insert(token, verified(token), valid(0, None), checked);
    }

    fn has(cache: &mut Cache, token: &[u8], now: u64, generation: Option<u64>) -> bool {
        let found = cache.get(token, at(now), |_| generation);
        found.is_some_and(|found| bytes_of(&found) == token)
    }

    /// How many tokens are in it, and of how many bytes, which it has counted right.
    fn contents(cache: &Cache) -> (usize, usize) {
        let bytes = |half: &HashMap<Box<[u8]>, Entry>| -> usize {
            half.keys().map(|token| token.len()).sum()
        };
        assert_eq!(cache.young_bytes, bytes(&cache.young));
        (
            cache.young.len() + cache.old.len(),
            bytes(&cache.young) + bytes(&cache.old),
        )
    }

    #[test]
    fn a_token_is_good_for_as_long_as_nothing_has_changed() {
        let mut cache = cache(10, 1_000);
        insert(&mut cache, b"token", 100, 3);
        for (now, generation, good) in [
            (100, Some(3), true),
            (109, Some(3), true),
            (110, Some(3), false),
            (99, Some(3), false),
            (100, Some(4), false),
            (100, Some(2), false),
            (100, None, false),
        ] {
            let found = has(&mut cache, b"token", now, generation);
            assert_eq!(found, good, "{now} {generation:?}");
        }
        for other in [&b"toke"[..], b"token ", b"Token", b""] {
            assert!(!has(&mut cache, other, 100, Some(3)));
        }
    }

    #[test]
    fn a_token_is_good_within_its_own_times() {
        let mut cache = cache(10, 1_000);
        let validated = valid(102, Some(105));
        cache.insert(b"token", verified(b"token"), validated, (at(100), 0));
        for (now, good) in [(101, false), (102, true), (104, true), (105, false)] {
            assert_eq!(has(&mut cache, b"token", now, Some(0)), good, "{now}");
        }
    }

    #[test]
    fn what_is_verified_again_counts_from_then() {
        let mut cache = cache(10, 1_000);
        insert(&mut cache, b"token", 100, 3);
        insert(&mut cache, b"token", 109, 4);
        assert!(has(&mut cache, b"token", 118, Some(4)));
        assert!(!has(&mut cache, b"token", 109, Some(3)));
        assert_eq!(contents(&cache), (1, 5));
    }

    #[test]
    fn what_is_in_use_stays() {
        let mut cache = cache(4, 1_000);
        insert(&mut cache, b"used", 0, 0);
        for n in 0..100 {
            insert(&mut cache, &[n], 0, 0);
            assert!(has(&mut cache, b"used", 0, Some(0)), "{n}");
        }
        assert!(!has(&mut cache, &[0], 0, Some(0)));
    }

    #[test]
    fn an_old_token_that_is_good_no_more_is_dropped() {
        let mut cache = cache(2, 1_000);
        insert(&mut cache, b"a", 0, 0);
        insert(&mut cache, b"b", 0, 0);
        assert_eq!(contents(&cache), (2, 2));
        assert!(!has(&mut cache, b"a", 0, Some(1)));
        assert_eq!(contents(&cache), (1, 1));
    }

    #[test]
    fn what_does_not_fit_is_not_remembered() {
        for (tokens, bytes, fits) in [(0, 100, false), (2, 9, false), (2, 10, true), (2, 0, false)]
        {
            let mut cache = cache(tokens, bytes);
            insert(&mut cache, b"token", 0, 0);
            let found = has(&mut cache, b"token", 0, Some(0));
            assert_eq!(found, fits, "{tokens} {bytes}");
        }
    }

    #[derive(Clone, Debug)]
    enum Event {
        /// A token is looked for, and remembered if it is not there.
        Request(u8),
        /// The clock shows another second.
        Clock(u64),
        /// There are other keys.
        Keys(u64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            8 => (0..12_u8).prop_map(Event::Request),
            1 => (100..130_u64).prop_map(Event::Clock),
            1 => (0..3_u64).prop_map(Event::Keys),
        ];
        prop::collection::vec(event, 0..80)
    }

    proptest! {
        /// Whatever comes, it holds no more than its limits, and what it gives was verified of these
        /// very bytes, with these keys, not too long ago and not in the future.
        #[test]
        fn it_keeps_to_its_limits_and_gives_nothing_false(
            events in events(),
            tokens in 0..8_usize,
            bytes in 0..60_usize,
        ) {
            let mut cache = cache(tokens, bytes);
            let (mut now, mut generation) = (100, 0);
            let mut checked = Model::new();
            for event in events {
                match event {
                    Event::Clock(second) => now = second,
                    Event::Keys(other) => generation = other,
                    Event::Request(token) => {
                        // Some are the beginning of others.
                        let token = vec![token / 4; usize::from(token % 4) * 5 + 1];
                        match cache.get(&token, at(now), |_| Some(generation)) {
                            Some(found) => {
                                prop_assert_eq!(bytes_of(&found), &token);
                                let (stored, keys) = checked[&token];
                                prop_assert_eq!(keys, generation);
                                prop_assert!(stored <= now && now < stored + TTL);
                            }
                            None => {
                                insert(&mut cache, &token, now, generation);
                                checked.insert(token, (now, generation));
                            }
                        }
                    }
                }
                let (count, length) = contents(&cache);
                prop_assert!(count <= tokens && length <= bytes, "{} {}", count, length);
            }
        }
    }
}
