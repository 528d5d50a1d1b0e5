//! Workers, time, the clock, the issuer and the shared state, in any order: keys that are known are
//! served, what is not known is not called unknown, and the issuer is asked so often and no more.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, as it should"
)]

mod common;

use std::time::Duration;

use common::{Answer, Got, World, discovering, secs, source};
use proptest::prelude::*;
use tollgate_core::time::Timestamp;
use tollgate_key_source::{Settings, Waiting};
use tollgate_testkit::Fault;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

const WORKERS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(u64),
    Tick(usize),
    /// The issuer answers the oldest fetch of a worker.
    Good(usize),
    Bad(usize, u8),
    /// The worker is killed, with the answers it waits for, and made anew.
    Restart(usize),
    /// A token names the key that the issuer always has.
    Known(usize),
    /// A token names a key that nobody has.
    Unknown(usize, u8),
    SetClock(i64),
    Fail(usize, u8, bool),
}

fn steps(rough: bool) -> impl Strategy<Value = Vec<Step>> {
    let w = 0..WORKERS;
    let rough = u32::from(rough);
    let step = prop_oneof![
        8 => prop_oneof![0..1_500_u64, 0..60_000_u64].prop_map(Step::Pass),
        12 => w.clone().prop_map(Step::Tick),
        8 => w.clone().prop_map(Step::Good),
        4 * rough => (w.clone(), any::<u8>()).prop_map(|(w, how)| Step::Bad(w, how)),
        1 => w.clone().prop_map(Step::Restart),
        3 => w.clone().prop_map(Step::Known),
        4 => (w.clone(), any::<u8>()).prop_map(|(w, kid)| Step::Unknown(w, kid)),
        rough => prop_oneof![-100_000..100_000_i64, Just(-2_000_000_000), Just(900_000_000)]
            .prop_map(Step::SetClock),
        2 * rough => (w, 0..6_u8, any::<bool>()).prop_map(|(w, n, read)| Step::Fail(w, n, read)),
    ];
    prop::collection::vec(step, 1..400)
}

/// The world, and next to it the time that has really passed.
struct Watched {
    world: World,
    real: Duration,
    /// When the issuer gave each set of keys out; the key named by the number is only in that.
    given: Vec<Duration>,
    /// The set that each worker had when it was last looked at.
    had: [Option<usize>; WORKERS],
    open: [Waiting; WORKERS],
    /// The age from which keys may be given up: the stale limit, but not before they are no longer
    /// fresh and an attempt to refresh them has had its time.
    limit: Duration,
    /// By how much the clock was set forward in all.
    ahead: Duration,
    /// The same, when the worker last got keys having none: the age of those it could not know
    /// better than by the clock.
    ahead_at_first: [Duration; WORKERS],
    restarts: u64,
    steps_of_clock: u64,
    faults: u64,
}

impl Watched {
    fn new(discovery: bool, stale_limit: u64, lifetime: u64) -> Watched {
        let default = Settings::default();
        let settings = Settings {
            stale_limit: Some(secs(stale_limit)),
            min_lifetime: default.min_lifetime.min(secs(lifetime)),
            max_lifetime: secs(lifetime),
            ..default
        };
        let least = settings.max_lifetime + settings.timeout + secs(2);
        let source = if discovery { discovering() } else { source() };
        Watched {
            world: World::with(WORKERS, source, settings),
            real: Duration::ZERO,
            given: Vec::new(),
            had: [None; WORKERS],
            open: [Waiting::default(); WORKERS],
            limit: secs(stale_limit).max(least),
            ahead: Duration::ZERO,
            ahead_at_first: [Duration::ZERO; WORKERS],
            restarts: 0,
            steps_of_clock: 0,
            faults: 0,
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let world = &mut self.world;
        match step {
            Step::Pass(millis) => {
                let span = Duration::from_millis(millis);
                world.process.clock.advance(span);
                self.real += span;
            }
            Step::Tick(w) => {
                world.tick(w);
            }
            Step::Good(w) => {
                let number = self.given.len();
                let list = Answer::Body(200, format!("keys: always {number}."));
                self.answer(w, &list);
            }
            Step::Bad(w, how) => {
                let bad = [
                    Answer::Reset,
                    Answer::NotSent,
                    Answer::Body(500, "keys: bad.".into()),
                    Answer::Body(200, "keys: bad".into()),
                    Answer::Body(200, "keys: .".into()),
                ];
                self.answer(w, &bad[usize::from(how) % bad.len()]);
            }
            Step::Restart(w) => {
                world.restart(w);
                self.had[w] = None;
                self.open[w] = Waiting::default();
                self.restarts += 1;
            }
            Step::Known(w) => {
                let served = self.had[w].is_some_and(|number| !self.is_old(w, number));
                let world = &mut self.world;
                let got = world.ask(w, "always");
                prop_assert!(got != Got::Unknown);
                prop_assert!(!served || got == Got::Keys);
            }
            Step::Unknown(w, kid) => {
                let kid = format!("stranger {kid}");
                let got = world.resolve(w, &kid, &mut self.open[w]);
                prop_assert!(got != Got::Keys);
                if got != Got::Wait {
                    self.open[w] = Waiting::default();
                }
                if let Got::Unavailable(after) = got {
                    prop_assert!((1..=120).contains(&after));
                }
            }
            Step::SetClock(by) => {
                let to = world.now().as_seconds().saturating_add(by).max(0);
                let to = Timestamp::from_seconds(to.try_into().unwrap());
                world.process.clock.set(to);
                self.steps_of_clock += 1;
                self.ahead += secs(by.max(0).unsigned_abs());
            }
            Step::Fail(w, count, read) => {
                let fault = if read {
                    Fault::ReadFails
                } else {
                    Fault::WriteFails
                };
                let faults = vec![fault; usize::from(count)];
                world.workers[w].host.inject(faults);
                self.faults += u64::from(count);
            }
        }
        self.check()
    }

    fn answer(&mut self, w: usize, answer: &Answer) {
        let Some(fetch) = self.world.workers[w].open.first() else {
            return;
        };
        let metadata = fetch.path.contains("well-known");
        let good = matches!(answer, Answer::Body(200, list) if list.ends_with("y.") || list.contains("always"));
        if metadata && good {
            let document = r#"{"issuer":"https://idp.example","jwks_uri":"https://idp.example/k"}"#;
            self.world.answer(w, &Answer::Body(200, document.into()));
            return;
        }
        if good {
            self.given.push(self.real);
        }
        self.world.answer(w, answer);
    }

    /// Who had keys that are not too old has them still, or others.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for w in 0..WORKERS {
            let keys = self.world.workers[w].source.keys();
            let has = keys.map(|keys| keys[1].parse().unwrap());
            match (self.had[w], has) {
                (Some(number), None) => prop_assert!(self.is_old(w, number), "worker {w}"),
                (None, Some(_)) => self.ahead_at_first[w] = self.ahead,
                _ => {}
            }
            self.had[w] = has;
        }
        Ok(())
    }

    /// Whether keys may be too old to be used: to each step of the clock falls up to two seconds.
    fn is_old(&self, w: usize, number: usize) -> bool {
        let age = self.real - self.given[number];
        age + self.ahead_at_first[w] + secs(2 * self.steps_of_clock) >= self.limit
    }

    fn fetches(&self) -> u64 {
        self.world.fetches.try_into().unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(128)
    })]

    #[test]
    fn keys_that_are_known_are_served(
        discovery: bool,
        stale_limit in prop_oneof![Just(0_u64), Just(120), Just(3_600)],
        lifetime in prop_oneof![Just(1_u64), Just(30), Just(600)],
        steps in steps(true),
    ) {
        let mut watched = Watched::new(discovery, stale_limit, lifetime);
        for step in steps {
            watched.step(step)?;
        }
        // At most one attempt a second and one in each cool-down, of one or two requests each; all
        // that again for each worker out of reach of the others, and from each step of the clock on.
        let seconds = watched.real.as_secs();
        let lonely = if watched.faults > 0 { WORKERS as u64 } else { 1 };
        let attempts = lonely * (2 + seconds + seconds / 30 + 2 * watched.steps_of_clock);
        let requests = if discovery { 2 } else { 1 };
        let most = requests * (attempts + watched.restarts);
        prop_assert!(watched.fetches() <= most, "{} > {most}", watched.fetches());
    }

    #[test]
    fn an_issuer_that_answers_is_asked_seldom(steps in steps(false)) {
        let mut watched = Watched::new(false, 86_400, 600);
        for step in steps {
            watched.step(step)?;
        }
        // Refreshes, cool-downs, and leases that nobody answered for.
        let seconds = watched.real.as_secs();
        let most = 2 + seconds / 432 + seconds / 30 + seconds / 7;
        prop_assert!(watched.fetches() <= most, "{} > {most}", watched.fetches());
    }

    /// However it went before, once the issuer and the shared state are well again all workers have
    /// the keys within little more than the longest pause.
    #[test]
    fn it_always_recovers(discovery: bool, steps in steps(true)) {
        let mut watched = Watched::new(discovery, 120, 600);
        for step in steps {
            watched.step(step)?;
        }
        for worker in &watched.world.workers {
            // What is left of the injected faults is used up.
            for _ in 0..3_000 {
                use tollgate_core::host::{Expected, Host as _};
                let _ = worker.host.shared_get("unused");
                let _ = worker.host.shared_set("other", b"", Expected::Absent);
            }
        }
        // A pause may begin in the future, and then lasts twice as long.
        for _ in 0..140 {
            watched.step(Step::Pass(1_000))?;
            for w in 0..WORKERS {
                watched.step(Step::Tick(w))?;
                watched.step(Step::Good(w))?;
                watched.step(Step::Good(w))?;
            }
        }
        for w in 0..WORKERS {
            prop_assert_eq!(watched.world.ask(w, "always"), Got::Keys);
        }
    }
}
