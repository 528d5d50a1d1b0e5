//! When to leave a store alone that does not answer.

use crate::exchange::jittered;

/// Failures in a row that open the breaker.
const MOST_FAILURES: u32 = 3;

/// For how long it opens first: 1 s.
const FIRST_PAUSE_NS: u64 = 1_000_000_000;

/// For how long it opens at most: 30 s, and with jitter a quarter more.
const LONGEST_PAUSE_NS: u64 = 30 * FIRST_PAUSE_NS;

/// A circuit breaker: of one store, and one worker. While it is open, nothing is sent, so that an
/// outage costs requests no time. After three failures in a row it opens for about 1 s, which
/// doubles up to 30 s with each probe that fails. Times are nanoseconds on any one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker(State);

/// Whether to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Yes.
    Closed,
    /// One request, as a [`probe`](Breaker::probe).
    HalfOpen,
    /// No.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        /// In a row.
        failures: u32,
    },
    Open(Pause),
    Probing(Pause),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    since: u64,
    until: u64,
    /// How long the next one will be, in nanoseconds, before jitter.
    next_ns: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker(State::Closed { failures: 0 })
    }
}

impl Breaker {
    /// Whether to send now.
    pub fn circuit(&self, now: u64) -> Circuit {
        match self.0 {
            State::Closed { .. } => Circuit::Closed,
            // One that began in the future was begun before the clock stepped back.
            State::Open(pause) | State::Probing(pause)
                if pause.since <= now && now < pause.until =>
            {
                Circuit::Open
            }
            State::Open(_) | State::Probing(_) => Circuit::HalfOpen,
        }
    }

    /// Notes that the probe of a half-open breaker is sent. Until it has succeeded or failed, or
    /// `deadline_ns` have passed, nothing else is.
    pub fn probe(&mut self, now: u64, deadline_ns: u64) {
        if let State::Open(pause) | State::Probing(pause) = self.0 {
            self.0 = State::Probing(Pause {
                since: now,
                until: now.saturating_add(deadline_ns),
                ..pause
            });
        }
    }

    /// Notes that the store has answered.
    pub fn succeed(&mut self) {
        *self = Breaker::default();
    }

    /// Notes that it has not. `jitter` is a random number, which spreads the probes of Envoys.
    pub fn fail(&mut self, now: u64, jitter: u32) {
        self.0 = match self.0 {
            State::Closed { failures } => match failures.saturating_add(1) {
                MOST_FAILURES.. => open(FIRST_PAUSE_NS, now, jitter),
                failures => State::Closed { failures },
            },
            State::Probing(pause) => open(pause.next_ns, now, jitter),
            // What was under way when it opened says nothing new.
            State::Open(_) => return,
        };
    }
}

fn open(pause_ns: u64, now: u64, jitter: u32) -> State {
    State::Open(Pause {
        since: now,
        until: now.saturating_add(jittered(pause_ns, jitter)),
        next_ns: pause_ns.saturating_mul(2).min(LONGEST_PAUSE_NS),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// What makes [`jittered`] leave a span as it is.
    const NO_JITTER: u32 = 1 << 31;

    fn opened(now: u64) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..MOST_FAILURES {
            breaker.fail(now, NO_JITTER);
        }
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.fail(0, NO_JITTER);
            breaker.fail(0, NO_JITTER);
            breaker.succeed();
        }
        assert_eq!(breaker.circuit(0), Circuit::Closed);
        assert_eq!(opened(0).circuit(0), Circuit::Open);
    }

    #[test]
    fn each_probe_that_fails_doubles_the_pause() {
        let mut breaker = opened(0);
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let until = now + seconds * FIRST_PAUSE_NS;
            assert_eq!(breaker.circuit(until - 1), Circuit::Open, "{seconds} s");
            assert_eq!(breaker.circuit(until), Circuit::HalfOpen, "{seconds} s");
            breaker.probe(until, 100);
            assert_eq!(breaker.circuit(until), Circuit::Open, "one probe");
            now = until + 50;
            breaker.fail(now, NO_JITTER);
        }
        breaker.probe(now, 100);
        breaker.succeed();
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn a_probe_that_nobody_concludes_is_followed_by_another() {
        let mut breaker = opened(0);
        breaker.probe(FIRST_PAUSE_NS, 100);
        assert_eq!(breaker.circuit(FIRST_PAUSE_NS + 99), Circuit::Open);
        assert_eq!(breaker.circuit(FIRST_PAUSE_NS + 100), Circuit::HalfOpen);
    }

    #[test]
    fn late_failures_do_not_prolong_a_pause() {
        let mut breaker = opened(0);
        breaker.fail(FIRST_PAUSE_NS - 1, NO_JITTER);
        assert_eq!(breaker, opened(0));
    }

    #[test]
    fn a_clock_that_steps_back_lets_it_probe() {
        assert_eq!(opened(1_000).circuit(999), Circuit::HalfOpen);
    }

    proptest! {
        #[test]
        fn a_pause_is_never_longer_than_its_bound(
            steps in prop::collection::vec((0_u8..4, any::<u64>(), any::<u32>()), 0..100),
        ) {
            let mut breaker = Breaker::default();
            for (what, now, jitter) in steps {
                match what {
                    0 => breaker.fail(now, jitter),
                    1 => breaker.probe(now, 1_000),
                    2 => breaker.succeed(),
                    _ => {}
                }
                let bound = LONGEST_PAUSE_NS + LONGEST_PAUSE_NS / 4;
                if let Some(later) = now.checked_add(bound) {
                    prop_assert_ne!(breaker.circuit(later), Circuit::Open);
                }
            }
        }
    }
}
