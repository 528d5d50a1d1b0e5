//! The key identifiers that the issuer was asked for in vain.

use std::collections::VecDeque;
use std::time::Duration;

use siphasher::sip::SipHasher13;

/// How many are remembered; then the oldest is forgotten, and is looked for again as if it were new.
const CAPACITY: usize = 256;

/// The last key identifiers that were looked for and not found, hashed under a seed of the worker's
/// own, so that nobody can make up one that is taken for another.
pub(crate) struct UnknownKids {
    seed: [u8; 16],
    /// Hashes, and until when they are remembered, oldest first. The same span is added to each, so
    /// they are in order of that too.
    entries: VecDeque<(u64, Duration)>,
}

impl UnknownKids {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        UnknownKids {
            seed,
            entries: VecDeque::new(),
        }
    }

    /// Whether `kid` is remembered at `elapsed`.
    pub(crate) fn contains(&self, kid: &str, elapsed: Duration) -> bool {
        let hash = self.hash(kid);
        self.entries
            .iter()
            .any(|(known, until)| *known == hash && elapsed < *until)
    }

    /// Remembers `kid` for `span`.
    pub(crate) fn insert(&mut self, kid: &str, elapsed: Duration, span: Duration) {
        if self.contains(kid, elapsed) {
            return;
        }
        while self
            .entries
            .pop_front_if(|(_, until)| *until <= elapsed)
            .is_some()
        {}
        if self.entries.len() >= CAPACITY {
            self.entries.pop_front();
        }
        let hash = self.hash(kid);
        self.entries.push_back((hash, elapsed.saturating_add(span)));
    }

    fn hash(&self, kid: &str) -> u64 {
        SipHasher13::new_with_key(&self.seed).hash(kid.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_kid_is_remembered_for_the_span_and_the_oldest_goes_first() {
        let mut unknown = UnknownKids::new([7; 16]);
        let (t0, span) = (Duration::from_secs(5), Duration::from_secs(10));
        unknown.insert("a", t0, span);
        assert!(unknown.contains("a", t0) && !unknown.contains("b", t0));
        assert!(unknown.contains("a", Duration::from_millis(14_999)));
        assert!(!unknown.contains("a", t0 + span));
        for n in 0..1_000 {
            unknown.insert(&format!("kid {n}"), t0, span);
            unknown.insert("kid 0", t0, span);
        }
        assert_eq!(unknown.entries.len(), CAPACITY);
        assert!(!unknown.contains("a", t0) && unknown.contains("kid 999", t0));
        unknown.insert("late", t0 + span, span);
        assert_eq!(unknown.entries.len(), 1);
    }
}
