//! Time as one worker has lived through it.

use std::time::Duration;

use tollgate_core::time::Timestamp;

/// The longest step that is believed. Ticks come every second, so a longer one is a clock that was
/// set, or a worker that stood still.
const LONGEST_STEP: Duration = Duration::from_secs(2);

/// A clock that never goes back and never leaps: the steps of the wall clock added up, those
/// backwards left out and those forwards cut to two seconds.
///
/// It is what keys grow old by. Was the wall clock wrong by a year, setting it does not make them
/// expire, and a request does not wait for a year.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    last: Option<Timestamp>,
    elapsed: Duration,
}

impl Pace {
    /// Goes along with the wall clock, and returns the time since the beginning.
    pub(crate) fn advance(&mut self, now: Timestamp) -> Duration {
        let step = self
            .last
            .map_or(Duration::ZERO, |last| now.saturating_since(last));
        self.last = Some(now);
        self.elapsed = self.elapsed.saturating_add(step.min(LONGEST_STEP));
        self.elapsed
    }

    /// The time since the beginning, as of when it last went along.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn steps_are_added_up_and_leaps_are_not() {
        let mut pace = Pace::default();
        let at = |pace: &mut Pace, seconds| pace.advance(Timestamp::from_seconds(seconds));
        assert_eq!(at(&mut pace, 1_000), Duration::ZERO);
        assert_eq!(at(&mut pace, 1_001), Duration::from_secs(1));
        assert_eq!(at(&mut pace, 5), Duration::from_secs(1));
        assert_eq!(at(&mut pace, 6), Duration::from_secs(2));
        assert_eq!(at(&mut pace, 2_000_000_000), Duration::from_secs(4));
        assert_eq!(pace.elapsed(), Duration::from_secs(4));
    }
}
