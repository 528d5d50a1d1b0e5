//! The small shared entry: who fetches, when what is due, which keys are current.
//!
//! All of it is pure: a worker reads the entry, changes the state here, and writes it back if nobody
//! else has meanwhile.

use std::time::Duration;

use tollgate_core::time::Timestamp;

use crate::body::Digest;

/// Names what the entry is, and the version of its layout.
const MAGIC: [u8; 4] = *b"TKS1";

/// The first pause after a failure, and the least between two fetches of a worker that has no keys
/// though there are some.
pub(crate) const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// What the workers know together about a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// How often it was written. Of two states, the one written more often is the later.
    revision: u64,
    /// The number of the last attempt to fetch. Whoever took the lease is known by it.
    pub(crate) attempt: u64,
    /// Who made the last attempt has the right to fetch, until this is over; empty once it told
    /// what came of it.
    pub(crate) lease: Window,
    /// How many attempts have failed in a row.
    pub(crate) failures: u32,
    /// No attempt is made after a failure, until this is over.
    pub(crate) retry: Window,
    /// No attempt is made for an unknown `kid`, until this is over.
    pub(crate) search: Window,
    /// The number of the last attempt that brought keys; 0: none has.
    pub(crate) published: u64,
    /// Since it has brought them, to when they are to be refreshed.
    pub(crate) refresh: Window,
    /// For how long they are fresh.
    pub(crate) lifetime: Duration,
    /// Which they are.
    pub(crate) digest: Digest,
    /// Since the location of the keys was found, to when it is to be looked for again.
    pub(crate) located: Window,
    /// Where the keys are by the issuer's metadata; empty: not known.
    pub(crate) location: String,
}

/// A span that begins at a point in time.
///
/// It is pending from then until it is over. If the clock was set back, the beginning lies in the
/// future; the window is pending then only if it is no further away than the span is long, so that a
/// clock that was set back by a year delays nothing by a year.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: Timestamp,
    pub(crate) span: Duration,
}

impl Window {
    /// None: never pending.
    pub(crate) const EMPTY: Window = Window {
        start: Timestamp::from_nanos(0),
        span: Duration::ZERO,
    };

    pub(crate) fn new(start: Timestamp, span: Duration) -> Self {
        Window { start, span }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.span.is_zero()
    }

    pub(crate) fn is_pending(self, now: Timestamp) -> bool {
        !self.remaining(now).is_zero()
    }

    /// How long it is still pending, zero if it is not.
    pub(crate) fn remaining(self, now: Timestamp) -> Duration {
        if self.start.saturating_since(now) > self.span {
            return Duration::ZERO;
        }
        let end = self.start.saturating_add(self.span);
        end.saturating_since(now)
    }
}

/// What a worker needs beyond what is due for all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Need {
    /// It does not have the keys that are current, or by its own settings they are due.
    pub(crate) keys: bool,
    /// A request has brought an unknown `kid`.
    pub(crate) search: bool,
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// It is time.
    Refresh,
    /// An unknown `kid`: the cool-down begins.
    Search,
}

/// What keys that were fetched are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) lifetime: Duration,
    pub(crate) refresh: Duration,
    pub(crate) digest: Digest,
}

impl State {
    /// Whether and why an attempt is due.
    pub(crate) fn due(&self, now: Timestamp, need: Need) -> Option<Errand> {
        if self.lease.is_pending(now) || self.retry.is_pending(now) {
            return None;
        }
        if need.search && !self.search.is_pending(now) {
            return Some(Errand::Search);
        }
        let recently = Window::new(self.refresh.start, SHORTEST_PAUSE);
        let due = self.is_overdue(now) || need.keys && !recently.is_pending(now);
        due.then_some(Errand::Refresh)
    }

    /// Whether an attempt is due for all workers, but for a lease or a pause that keeps it.
    pub(crate) fn is_overdue(&self, now: Timestamp) -> bool {
        let abandoned = !self.lease.is_empty();
        self.published == 0 || self.failures > 0 || abandoned || !self.refresh.is_pending(now)
    }

    /// Takes the lease.
    pub(crate) fn take(
        &mut self,
        now: Timestamp,
        errand: Errand,
        lease: Duration,
        cool_down: Duration,
    ) {
        self.attempt = self.attempt.saturating_add(1);
        self.lease = Window::new(now, lease);
        if errand == Errand::Search {
            self.search = Window::new(now, cool_down);
        }
    }

    /// Begins the lease anew for the next request of the same attempt; `false` if another worker
    /// has taken it.
    pub(crate) fn renew(&mut self, attempt: u64, now: Timestamp, lease: Duration) -> bool {
        let mine = self.attempt == attempt;
        if mine {
            self.lease = Window::new(now, lease);
        }
        mine
    }

    /// An attempt has brought keys; `false` if a later one has already.
    pub(crate) fn succeed(&mut self, attempt: u64, now: Timestamp, terms: Terms) -> bool {
        if self.published > attempt {
            return false;
        }
        if self.attempt <= attempt {
            self.attempt = attempt;
            self.lease = Window::EMPTY;
        }
        self.failures = 0;
        self.retry = Window::EMPTY;
        self.published = attempt;
        self.refresh = Window::new(now, terms.refresh);
        self.lifetime = terms.lifetime;
        self.digest = terms.digest;
        true
    }

    /// An attempt has failed. It matters only if no other worker has made one since.
    pub(crate) fn fail(&mut self, attempt: u64, now: Timestamp, failures: u32, pause: Duration) {
        if self.attempt == attempt {
            self.lease = Window::EMPTY;
            self.failures = failures;
            self.retry = Window::new(now, pause);
        }
    }

    /// Tells what was published last from what was published before.
    pub(crate) fn publication(&self) -> (u64, Window, Digest) {
        (self.published, self.refresh, self.digest)
    }

    /// Marks it as written once more.
    pub(crate) fn stamp(&mut self) {
        self.revision = self.revision.saturating_add(1);
    }

    /// The later of what is shared and what this worker knows, which may be later if it could not
    /// write.
    pub(crate) fn later(shared: Option<State>, own: &State) -> State {
        match shared {
            Some(shared) if shared.revision >= own.revision => shared,
            _ => own.clone(),
        }
    }

    /// The entry: what it is, whose it is, the numbers, the location.
    pub(crate) fn encode(&self, fingerprint: &[u8; 16]) -> Vec<u8> {
        let mut entry = Vec::with_capacity(192_usize.saturating_add(self.location.len()));
        entry.extend(MAGIC);
        entry.extend(fingerprint);
        for number in [self.revision, self.attempt, self.published] {
            entry.extend(number.to_le_bytes());
        }
        entry.extend(self.failures.to_le_bytes());
        for window in [
            self.lease,
            self.retry,
            self.search,
            self.refresh,
            self.located,
        ] {
            entry.extend(window.start.as_nanos().to_le_bytes());
            entry.extend(nanos(window.span).to_le_bytes());
        }
        entry.extend(nanos(self.lifetime).to_le_bytes());
        entry.extend(self.digest.0);
        entry.extend(self.location.as_bytes());
        entry
    }

    /// The state in an entry, unless it is something else, damaged, or of another source.
    pub(crate) fn decode(fingerprint: &[u8; 16], entry: &[u8]) -> Option<State> {
        let rest = entry.strip_prefix(&MAGIC)?.strip_prefix(fingerprint)?;
        let mut reader = Reader(rest);
        Some(State {
            revision: reader.number()?,
            attempt: reader.number()?,
            published: reader.number()?,
            failures: u32::from_le_bytes(reader.take()?),
            lease: reader.window()?,
            retry: reader.window()?,
            search: reader.window()?,
            refresh: reader.window()?,
            located: reader.window()?,
            lifetime: Duration::from_nanos(reader.number()?),
            digest: Digest(reader.take()?),
            location: String::from_utf8(reader.0.to_vec()).ok()?,
        })
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn window(&mut self) -> Option<Window> {
        Some(Window {
            start: Timestamp::from_nanos(self.number()?),
            span: Duration::from_nanos(self.number()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const MINE: [u8; 16] = [7; 16];

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn terms(digest: u8) -> Terms {
        Terms {
            lifetime: secs(100),
            refresh: secs(80),
            digest: Digest([digest; 16]),
        }
    }

    #[test]
    fn a_window_is_pending_for_its_span_and_not_in_another_age() {
        let window = Window::new(at(100), secs(10));
        for (now, remaining) in [
            (89, 0),
            (90, 20),
            (99, 11),
            (100, 10),
            (109, 1),
            (110, 0),
            (5_000, 0),
        ] {
            assert_eq!(window.remaining(at(now)), secs(remaining), "{now}");
            assert_eq!(window.is_pending(at(now)), remaining > 0);
        }
        assert!(!Window::EMPTY.is_pending(at(0)));
    }

    #[test]
    fn an_attempt_is_due_when_there_is_reason_and_nobody_is_at_it() {
        let idle = Need::default();
        let search = Need {
            search: true,
            ..idle
        };
        let keys = Need { keys: true, ..idle };
        let mut state = State::default();
        assert_eq!(state.due(at(1_000), idle), Some(Errand::Refresh));

        state.take(at(1_000), Errand::Refresh, secs(7), secs(30));
        assert_eq!(state.due(at(1_006), search), None);
        assert_eq!(
            state.due(at(1_007), idle),
            Some(Errand::Refresh),
            "abandoned"
        );

        state.fail(1, at(1_001), 1, secs(1));
        assert_eq!(state.due(at(1_001), search), None);
        assert_eq!(state.due(at(1_002), idle), Some(Errand::Refresh));

        state.take(at(1_002), Errand::Refresh, secs(7), secs(30));
        assert!(state.succeed(2, at(1_003), terms(1)));
        assert_eq!(state.due(at(1_003), keys), None);
        assert_eq!(state.due(at(1_004), keys), Some(Errand::Refresh));
        assert_eq!(state.due(at(1_082), idle), None);
        assert_eq!(state.due(at(1_083), idle), Some(Errand::Refresh));

        assert_eq!(state.due(at(1_004), search), Some(Errand::Search));
        state.take(at(1_004), Errand::Search, secs(7), secs(30));
        assert!(state.succeed(3, at(1_005), terms(1)));
        assert_eq!(state.due(at(1_033), search), None);
        assert_eq!(state.due(at(1_034), search), Some(Errand::Search));
    }

    #[test]
    fn who_comes_late_changes_nothing_that_is_later() {
        let mut state = State::default();
        state.take(at(1), Errand::Refresh, secs(7), secs(30));
        state.take(at(9), Errand::Refresh, secs(7), secs(30));
        let before = state.clone();
        state.fail(1, at(10), 1, secs(1));
        assert!(!state.renew(1, at(10), secs(7)));
        assert_eq!(state, before);
        // Its keys are welcome, and the other's lease stays.
        assert!(state.succeed(1, at(10), terms(1)));
        assert!(state.lease.is_pending(at(10)));
        assert!(state.succeed(2, at(11), terms(2)));
        assert!(!state.succeed(1, at(12), terms(1)));
        assert_eq!(state.digest, Digest([2; 16]));
    }

    fn windows() -> impl Strategy<Value = Window> {
        any::<[u64; 2]>().prop_map(|[start, span]| {
            Window::new(Timestamp::from_nanos(start), Duration::from_nanos(span))
        })
    }

    proptest! {
        #[test]
        fn a_state_comes_back(
            numbers: [u64; 4],
            failures: u32,
            windows in prop::array::uniform5(windows()),
            digest: [u8; 16],
            location: String,
        ) {
            let [revision, attempt, published, lifetime] = numbers;
            let [lease, retry, search, refresh, located] = windows;
            let state = State {
                revision, attempt, lease, failures, retry, search, published, refresh,
                lifetime: Duration::from_nanos(lifetime),
                digest: Digest(digest),
                located,
                location,
            };
            let entry = state.encode(&MINE);
            prop_assert_eq!(State::decode(&MINE, &entry), Some(state.clone()));
            prop_assert_eq!(State::decode(&[8; 16], &entry), None);
            for end in 0..entry.len().saturating_sub(state.location.len()) {
                prop_assert_eq!(State::decode(&MINE, &entry[..end]), None);
            }
        }

        /// Whatever stands in the entry and whatever the clock shows, a fetch is due at some time
        /// that is no further away than twice the longest span in it.
        #[test]
        fn nothing_is_put_off_for_ever(now: u64, starts: [u64; 4], spans in prop::array::uniform4(0..1_000_u64)) {
            let window = |i: usize| Window::new(
                Timestamp::from_nanos(starts[i]),
                Duration::from_nanos(spans[i]),
            );
            let state = State {
                published: 1,
                lease: window(0),
                retry: window(1),
                search: window(2),
                refresh: window(3),
                ..State::default()
            };
            let later = Timestamp::from_nanos(now.saturating_add(2_000));
            if later.as_nanos() < u64::MAX {
                let due = (now..=later.as_nanos())
                    .step_by(50)
                    .any(|now| state.due(Timestamp::from_nanos(now), Need::default()).is_some());
                prop_assert!(due);
            }
        }
    }
}
