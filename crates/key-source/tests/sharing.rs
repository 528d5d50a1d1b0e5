//! One fetch serves all workers, whatever happens to the one that makes it.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that fails panics, as it should"
)]

mod common;

use std::time::Duration;

use common::{Answer, Got, World, keys, secs, source};
use tollgate_core::time::Timestamp;
use tollgate_key_source::{Availability, Caching, FetchOutcome, Settings, Source};
use tollgate_testkit::Fault;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn one_fetch_serves_all_workers() {
    let mut world = World::new(8);
    assert_eq!(world.tick_all(), 1);
    assert_eq!(world.tick_all(), 0);
    assert_eq!(world.answer(0, &keys("a")), FetchOutcome::Updated);
    world.tick_all();
    for worker in 0..8 {
        assert_eq!(world.ask(worker, "a"), Got::Keys);
    }
    world.run(400, &keys("a"));
    assert_eq!(world.fetches, 1);
    world.run(4_000, &keys("a"));
    // Every 432 to 528 seconds.
    assert!((9..=11).contains(&world.fetches), "{}", world.fetches);
}

#[test]
fn a_fetch_names_the_server_and_the_path() {
    let fetch = World::new(1).tick(0).unwrap();
    assert_eq!(
        fetch.to_string(),
        "https://idp.example/jwks through the cluster \"idp-cluster\""
    );
    assert_eq!(fetch.timeout, secs(5));
}

#[test]
fn keys_are_refreshed_when_the_issuer_wants_it_within_bounds() {
    for (caching, from, to) in [
        (Caching::Fresh(secs(100)), 72, 88),
        (Caching::Fresh(secs(1)), 30, 37),
        (Caching::Volatile, 30, 37),
        (Caching::Fresh(secs(86_400)), 432, 528),
    ] {
        let mut world = World::new(1);
        world.caching = caching;
        let mut world = world.started("a");
        let start = world.now();
        while world.tick(0).is_none() {
            world.process.clock.advance(secs(1));
        }
        let after = world.now().saturating_since(start).as_secs();
        assert!((from..=to + 1).contains(&after), "{caching:?}: {after}");
    }
}

#[test]
fn the_big_entry_is_read_once() {
    let mut world = World::new(2).started("a");
    let before = world.workers[1].host.calls();
    for _ in 0..100 {
        world.tick(1);
    }
    assert_eq!(world.workers[1].host.calls() - before, 100);
    let generation = world.workers[1].source.generation();
    world.run(1_000, &keys("a"));
    assert_eq!(world.workers[1].source.generation(), generation);
    world.run(1_000, &keys("b"));
    assert_eq!(world.workers[1].source.generation(), generation + 1);
    assert_eq!(world.process.shared_keys().len(), 2);
}

#[test]
fn a_worker_that_dies_with_the_lease_is_replaced_when_it_is_over() {
    let mut world = World::new(2);
    assert!(world.tick(0).is_some());
    world.restart(0);
    for _ in 0..6 {
        world.process.clock.advance(secs(1));
        assert_eq!(world.tick_all(), 0);
    }
    world.process.clock.advance(secs(1));
    assert_eq!(world.tick_all(), 1);
    world.answer_all(&keys("a"));
    world.tick_all();
    assert_eq!(world.availability(0), Availability::Fresh);
    assert_eq!(world.availability(1), Availability::Fresh);
}

#[test]
fn a_worker_that_comes_later_needs_no_fetch() {
    let mut world = World::new(1).started("a");
    world.process.clock.advance(secs(100));
    let late = world.add_worker();
    assert_eq!(world.ask(late, "a"), Got::Wait);
    assert!(world.tick(late).is_none());
    assert_eq!(world.ask(late, "a"), Got::Keys);
    assert_eq!(world.workers[late].source.age(), Some(secs(100)));
}

#[test]
fn an_answer_that_comes_too_late_does_not_undo_a_later_one() {
    let mut world = World::new(2);
    let slow = world.tick(0).unwrap();
    world.process.clock.advance(secs(8));
    assert!(world.tick(1).is_some());
    assert_eq!(world.answer(1, &keys("new")), FetchOutcome::Updated);
    let outcome = world.answer_ticket(0, slow.ticket, &keys("old"));
    assert_eq!(outcome, FetchOutcome::Late);
    world.tick_all();
    for worker in 0..2 {
        assert_eq!(world.workers[worker].source.keys().unwrap(), &["new"]);
    }
    // Nor does one that is delivered twice, or to a worker that did not ask.
    let outcome = world.answer_ticket(1, slow.ticket, &keys("old"));
    assert_eq!(outcome, FetchOutcome::Late);
}

#[test]
fn an_answer_that_comes_first_though_late_is_taken() {
    let mut world = World::new(2);
    let slow = world.tick(0).unwrap();
    world.process.clock.advance(secs(8));
    assert!(world.tick(1).is_some());
    let outcome = world.answer_ticket(0, slow.ticket, &keys("a"));
    assert_eq!(outcome, FetchOutcome::Updated);
    assert_eq!(world.answer(1, &keys("b")), FetchOutcome::Updated);
    world.tick_all();
    assert_eq!(world.workers[0].source.keys().unwrap(), &["b"]);
}

#[test]
fn what_another_configuration_has_fetched_is_not_taken() {
    let mut world = World::new(1).started("old");
    world.source = Source {
        endpoint: "https://idp.example/other".parse().unwrap(),
        ..source()
    };
    let new = world.add_worker();
    assert_eq!(world.ask(new, "old"), Got::Wait);
    assert_eq!(world.tick(new).unwrap().path, "/other");
    world.answer(new, &keys("new"));
    assert_eq!(world.ask(new, "new"), Got::Keys);
    // Both live on side by side, each with its own, until the old one has drained.
    world.fetches = 0;
    for _ in 0..1_000 {
        world.process.clock.advance(secs(1));
        for worker in [0, new] {
            world.tick(worker);
            let list = if worker == new { "new" } else { "old" };
            while !world.workers[worker].open.is_empty() {
                world.answer(worker, &keys(list));
            }
        }
        assert_eq!(world.workers[0].source.keys().unwrap(), &["old"]);
        assert_eq!(world.workers[new].source.keys().unwrap(), &["new"]);
    }
    assert!(world.fetches <= 6, "{}", world.fetches);
    assert_eq!(world.process.shared_keys().len(), 2);
}

#[test]
fn the_shortest_lifetime_of_all_configurations_counts() {
    let mut world = World::with(1, source(), Settings::default());
    world.settings.max_lifetime = secs(36_000);
    let patient = world.add_worker();
    world.tick(patient);
    world.answer(patient, &keys("a"));
    world.settings.max_lifetime = secs(100);
    world.settings.stale_limit = Some(Duration::ZERO);
    let hasty = world.add_worker();
    world.fetches = 0;
    for second in 0..10_000 {
        world.run(1, &keys("a"));
        assert_eq!(world.ask(hasty, "a"), Got::Keys, "{second}");
        assert_eq!(world.ask(patient, "a"), Got::Keys, "{second}");
    }
    // Every 100 seconds, or after 72 to 88 if it was the hasty one that fetched last.
    assert!((100..=140).contains(&world.fetches), "{}", world.fetches);
}

#[test]
fn entries_that_can_not_be_read_are_as_good_as_absent() {
    for entry in ["state", "keys"] {
        for junk in [&b""[..], b"x", b"TKS1", b"TKB1", &[0xff; 300]] {
            let mut world = World::new(2).started("a");
            let key = format!("{} {entry}", source().shared_key);
            world.process.put(&key, junk);
            world.run(100, &keys("a"));
            assert_eq!(world.fetches, 1, "{entry}: workers that have keys go on");
            let new = world.add_worker();
            world.run(3, &keys("a"));
            assert_eq!(world.ask(new, "a"), Got::Keys);
            assert_eq!(world.fetches, 2);
            let other = world.add_worker();
            world.run(3, &keys("a"));
            assert_eq!(world.ask(other, "a"), Got::Keys);
            assert_eq!(world.fetches, 2, "it was put right for all");
        }
    }
}

#[test]
fn races_for_the_entries_are_lost_without_harm() {
    let mut world = World::new(3);
    world.workers[0].host.inject([Fault::LostRace; 200]);
    assert_eq!(world.tick_all(), 1, "the next one takes the lease");
    world.workers[1].host.inject([Fault::LostRace; 3]);
    assert_eq!(world.answer(1, &keys("a")), FetchOutcome::Updated);
    world.tick_all();
    assert_eq!(world.ask(2, "a"), Got::Keys);
    // Who can't publish has the keys, and the others get theirs when the lease is over.
    let mut world = World::new(2);
    assert!(world.tick(0).is_some());
    world.workers[0].host.inject([Fault::LostRace; 500]);
    assert_eq!(world.answer(0, &keys("a")), FetchOutcome::Updated);
    world.run(8, &keys("a"));
    assert_eq!(
        (world.ask(0, "a"), world.ask(1, "a")),
        (Got::Keys, Got::Keys)
    );
    assert_eq!(world.fetches, 2);
}

#[test]
fn out_of_reach_of_the_shared_state_each_worker_fetches_for_itself() {
    for faults in [
        vec![Fault::ReadFails],
        vec![Fault::WriteFails],
        vec![Fault::ReadFails, Fault::WriteFails],
    ] {
        let mut world = World::new(3);
        for _ in 0..1_000 {
            for worker in &world.workers {
                let left = [faults.as_slice(); 20].concat();
                worker.host.inject(left);
            }
            world.run(1, &keys("a"));
            for worker in 0..3 {
                assert_eq!(world.ask(worker, "a"), Got::Keys);
            }
        }
        assert!(
            (3..=9).contains(&world.fetches),
            "{faults:?} {}",
            world.fetches
        );
    }
}

#[test]
fn out_of_reach_of_the_shared_state_failures_are_bounded_too() {
    let mut world = World::new(1);
    world.workers[0].host.inject([Fault::WriteFails; 5_000]);
    world.run(1_000, &Answer::Reset);
    assert!((15..50).contains(&world.fetches), "{}", world.fetches);
}

#[test]
fn a_clock_that_steps_neither_ends_the_keys_nor_makes_a_storm() {
    let year = 31_536_000;
    let start = 1_800_000_000;
    for step_to in [
        0,
        start - 10 * year,
        start - 86_400,
        start - 300,
        start + 300,
        start + 86_400,
        start + 30 * year,
    ] {
        for issuer in [keys("a"), Answer::Reset] {
            let mut world = World::new(3).started("a");
            world.run(10, &issuer);
            world.process.clock.set(Timestamp::from_seconds(step_to));
            world.fetches = 0;
            for _ in 0..2_000 {
                for worker in 0..3 {
                    assert_eq!(world.ask(worker, "a"), Got::Keys, "{step_to}");
                }
                world.run(1, &issuer);
            }
            let (least, most) = match issuer {
                Answer::Reset => (20, 80),
                _ => (3, 6),
            };
            assert!(
                (least..=most).contains(&world.fetches),
                "{step_to}: {}",
                world.fetches
            );
        }
    }
}

#[test]
fn a_clock_that_swings_makes_no_storm() {
    let mut world = World::new(3).started("a");
    world.fetches = 0;
    for swing in 0..100 {
        let hour = if swing % 2 == 0 { 3_600 } else { -3_600 };
        let to = world.now().as_seconds() + hour;
        world
            .process
            .clock
            .set(Timestamp::from_seconds(to.try_into().unwrap()));
        world.run(5, &keys("a"));
        for worker in 0..3 {
            assert_eq!(world.ask(worker, "a"), Got::Keys);
        }
    }
    assert!(world.fetches <= 100, "{}", world.fetches);
}

#[test]
fn a_worker_that_is_made_after_a_step_takes_the_keys_that_are_there() {
    for step_to in [1_000, 1_700_000_000] {
        let mut world = World::new(1).started("a");
        world.process.clock.set(Timestamp::from_seconds(step_to));
        let new = world.add_worker();
        assert!(world.tick(new).is_some(), "a refresh is due");
        assert_eq!(world.ask(new, "a"), Got::Keys);
    }
}

#[test]
fn settings_without_sense_make_no_storm() {
    let settings = Settings {
        timeout: Duration::ZERO,
        min_lifetime: Duration::ZERO,
        max_lifetime: Duration::ZERO,
        max_backoff: Duration::ZERO,
        ..Settings::default()
    };
    for issuer in [keys("a"), Answer::Reset, Answer::NotSent] {
        let mut world = World::with(4, source(), settings.clone());
        for _ in 0..1_000 {
            world.process.clock.advance(Duration::from_millis(50));
            world.tick_all();
            world.answer_all(&issuer);
        }
        assert!((45..=52).contains(&world.fetches), "{}", world.fetches);
    }
}
