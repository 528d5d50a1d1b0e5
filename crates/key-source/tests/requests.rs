//! What requests get: keys, a wait that ends, "unknown" only when that is known, or "unavailable".
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, as it should"
)]

mod common;

use std::time::Duration;

use common::{Answer, Got, Words, World, keys, secs, source};
use tollgate_core::time::Timestamp;
use tollgate_key_source::{
    Availability, Failure, FetchOutcome, KeySource, Resolve, Settings, Waiting,
};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn configured_keys_are_always_there() {
    let mut source = KeySource::fixed(Words, vec!["a".to_owned()]);
    let host = World::new(1).process.worker();
    let now = Timestamp::from_seconds(1);
    assert!(source.tick(&host, now).is_none());
    let mut waiting = Waiting::default();
    for (kid, found) in [(Some("a"), true), (None, true), (Some("b"), false)] {
        let got = source.resolve(&host, now, kid, &mut waiting);
        match found {
            true => assert_eq!(got, Resolve::Keys(&vec!["a".to_owned()])),
            false => assert_eq!(got, Resolve::UnknownKid),
        }
    }
    assert_eq!(source.availability(), Availability::Fresh);
}

#[test]
fn the_first_request_waits_for_the_first_fetch() {
    let mut world = World::new(2);
    let mut waiting = Waiting::default();
    assert_eq!(world.resolve(0, "a", &mut waiting), Got::Wait);
    world.tick_all();
    assert_eq!(world.resolve(0, "a", &mut waiting), Got::Wait);
    world.process.clock.advance(Duration::from_millis(300));
    world.answer_all(&keys("a"));
    assert_eq!(world.resolve(0, "a", &mut waiting), Got::Keys);
    // One that came before the fetch and names another key need not look again.
    let mut world = World::new(1);
    let mut waiting = Waiting::default();
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Wait);
    world.tick_all();
    world.answer_all(&keys("a"));
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Unknown);
    assert!(world.tick(0).is_none());
}

#[test]
fn a_request_that_waits_learns_that_there_are_other_keys() {
    let mut world = World::new(1);
    let mut waiting = Waiting::default();
    world.tick(0);
    let has_news = |world: &World, waiting: &Waiting| world.workers[0].source.has_news(waiting);
    assert!(!has_news(&world, &waiting));
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Wait);
    assert!(!has_news(&world, &waiting));
    world.answer_all(&keys("a"));
    assert!(has_news(&world, &waiting));
    // Until it has asked again.
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Wait);
    assert!(!has_news(&world, &waiting));
    world.run(1, &keys("a"));
    assert!(!has_news(&world, &waiting), "the same keys");
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Unknown);
}

#[test]
fn without_keys_a_request_waits_so_long_and_no_longer() {
    let mut world = World::new(1);
    let mut waiting = Waiting::default();
    world.tick(0);
    for _ in 0..49 {
        assert_eq!(world.resolve(0, "a", &mut waiting), Got::Wait);
        world.process.clock.advance(Duration::from_millis(100));
    }
    world.process.clock.advance(Duration::from_millis(100));
    assert_eq!(world.resolve(0, "a", &mut waiting), Got::Unavailable(1));
    // The issuer stays away: nobody waits for an attempt that has not begun.
    world.answer_all(&Answer::Body(504, String::new()));
    world.run(60, &Answer::Body(504, String::new()));
    let mut answers = Vec::new();
    for _ in 0..60 {
        world.run(1, &Answer::Body(504, String::new()));
        answers.push(world.ask(0, "a"));
    }
    let longest = answers.iter().filter_map(|got| match got {
        Got::Unavailable(seconds) => Some(*seconds),
        _ => None,
    });
    assert!((10..=60).contains(&longest.max().unwrap()));
    assert!(
        answers
            .iter()
            .all(|got| matches!(got, Got::Wait | Got::Unavailable(1..)))
    );
}

#[test]
fn a_clock_that_is_set_back_does_not_make_a_request_wait_longer() {
    let mut world = World::new(1);
    let mut waiting = Waiting::default();
    assert_eq!(world.resolve(0, "a", &mut waiting), Got::Wait);
    world.process.clock.set(Timestamp::from_seconds(5));
    world.tick(0);
    for _ in 0..51 {
        world.process.clock.advance(Duration::from_millis(100));
        world.resolve(0, "a", &mut waiting);
    }
    assert!(matches!(
        world.resolve(0, "a", &mut waiting),
        Got::Unavailable(_)
    ));
}

#[test]
fn a_rotated_key_is_found_by_one_fetch_while_the_request_waits() {
    let mut world = World::new(3).started("a");
    world.run(100, &keys("a"));
    world.fetches = 0;
    let mut waiting = [Waiting::default(); 3];
    for (worker, waiting) in waiting.iter_mut().enumerate() {
        assert_eq!(world.resolve(worker, "b", waiting), Got::Wait);
        assert_eq!(world.ask(worker, "a"), Got::Keys);
    }
    assert_eq!(world.tick_all(), 1);
    for (worker, waiting) in waiting.iter_mut().enumerate() {
        assert_eq!(world.resolve(worker, "b", waiting), Got::Wait);
    }
    world.answer_all(&keys("a b"));
    world.tick_all();
    for (worker, waiting) in waiting.iter_mut().enumerate() {
        assert_eq!(world.resolve(worker, "b", waiting), Got::Keys);
    }
    assert_eq!(world.fetches, 1);
}

#[test]
fn random_kids_make_one_fetch_in_each_cool_down() {
    let mut world = World::new(4).started("a");
    world.fetches = 0;
    let mut kids = 0;
    let mut open: Vec<(usize, String, Waiting)> = Vec::new();
    let (mut unknown, mut longest) = (0, 0);
    // 1,000 requests over 100 seconds, ten a second.
    for _ in 0..100 {
        for _ in 0..10 {
            kids += 1;
            open.push((kids % 4, format!("random {kids}"), Waiting::default()));
        }
        // Each asks, ticks come, the issuer answers, each asks again.
        for _ in 0..3 {
            open.retain_mut(|(worker, kid, waiting)| {
                match world.resolve(*worker, kid, waiting) {
                    Got::Unknown => unknown += 1,
                    Got::Wait => return true,
                    other => panic!("{other:?}"),
                }
                false
            });
            longest = longest.max(open.len());
            world.tick_all();
            world.answer_all(&keys("a"));
        }
        world.process.clock.advance(secs(1));
        assert_eq!(world.ask(0, "a"), Got::Keys);
    }
    assert_eq!((kids, unknown, open.len()), (1_000, 1_000, 0));
    assert_eq!(world.fetches, 4, "at 0, 30, 60 and 90 s");
    assert_eq!(longest, 10);
}

#[test]
fn what_was_looked_for_in_vain_is_remembered_until_it_shows_up() {
    let mut world = World::new(1).started("a");
    let mut waiting = Waiting::default();
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Wait);
    world.tick(0);
    world.answer_all(&keys("a"));
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Unknown);
    world.run(60, &keys("a"));
    assert_eq!(world.ask(0, "b"), Got::Unknown, "beyond the cool-down");
    assert_eq!(world.ask(0, "c"), Got::Wait);
    world.run(1, &keys("a b"));
    assert_eq!(world.ask(0, "b"), Got::Keys);
    world.run(1_000, &keys("a"));
    assert_eq!(world.ask(0, "b"), Got::Wait, "long ago");
}

#[test]
fn a_fetch_that_began_before_the_request_proves_nothing() {
    let mut world = World::new(1).started("a");
    world.process.clock.advance(secs(530));
    assert!(world.tick(0).is_some());
    let mut waiting = Waiting::default();
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Wait);
    world.answer_all(&keys("a"));
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Wait);
    assert!(world.tick(0).is_some());
    world.answer_all(&keys("b"));
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Keys);
}

#[test]
fn a_dead_issuer_leaves_good_keys_in_use_until_the_stale_limit() {
    let mut world = World::new(2).started("a");
    let mut least = usize::MAX;
    let mut last = 0;
    for minute in 0..(24 * 60) {
        for _ in 0..60 {
            world.process.clock.advance(secs(1));
            world.tick_all();
            world.answer_all(&Answer::Body(503, "upstream connect error".into()));
        }
        if minute < 24 * 60 - 1 {
            assert_eq!(world.ask(0, "a"), Got::Keys, "{minute}");
            assert_eq!(world.ask(1, "a"), Got::Keys, "{minute}");
        }
        if (31..24 * 60 - 1).contains(&minute) {
            assert_eq!(world.availability(0), Availability::Stale);
            assert!(matches!(world.ask(0, "b"), Got::Unavailable(_) | Got::Wait));
            least = least.min(world.fetches - last);
        }
        last = world.fetches;
    }
    assert!(least <= 2 && world.fetches < 3_000, "{}", world.fetches);
    world.run(1, &Answer::Reset);
    assert_eq!(world.availability(0), Availability::Expired);
    assert!(!matches!(world.ask(0, "a"), Got::Keys | Got::Unknown));
    // It comes back.
    world.run(61, &keys("a"));
    assert_eq!(
        (world.ask(0, "a"), world.ask(1, "a")),
        (Got::Keys, Got::Keys)
    );
}

/// Whatever the stale limit, nobody waits for an issuer that answers within the time-out.
#[test]
fn keys_that_are_refreshed_in_time_are_always_used() {
    for (stale_limit, lifetime) in [(0, 1), (0, 5), (0, 30), (0, 600), (300, 600), (600, 600)] {
        for takes in [0, 4] {
            let settings = Settings {
                stale_limit: Some(secs(stale_limit)),
                min_lifetime: secs(lifetime.min(30)),
                max_lifetime: secs(lifetime),
                ..Settings::default()
            };
            let mut world = World::with(2, source(), settings).started("a");
            let mut asked = None;
            for second in 0..2_000 {
                world.process.clock.advance(secs(1));
                // Each worker looks up what the other has done a little later.
                for worker in [0, 1] {
                    assert_eq!(
                        world.ask(worker, "a"),
                        Got::Keys,
                        "{lifetime} {stale_limit} {takes} {second}"
                    );
                    world.tick(worker);
                }
                if world.workers.iter().any(|worker| !worker.open.is_empty()) {
                    let begun = *asked.get_or_insert(second);
                    if second - begun >= takes {
                        world.answer_all(&keys("a"));
                        asked = None;
                    }
                }
            }
        }
    }
}

#[test]
fn without_the_issuer_fresh_keys_are_used_until_a_refresh_was_tried() {
    for (stale_limit, lifetime, last) in [(0, 600, 607), (300, 600, 607), (700, 600, 700)] {
        let settings = Settings {
            stale_limit: Some(secs(stale_limit)),
            max_lifetime: secs(lifetime),
            ..Settings::default()
        };
        let mut world = World::with(2, source(), settings).started("a");
        world.run(last - 1, &Answer::Reset);
        let new = world.add_worker();
        world.tick(new);
        for worker in 0..3 {
            assert_eq!(world.ask(worker, "a"), Got::Keys, "{stale_limit}");
        }
        world.run(1, &Answer::Reset);
        for worker in 0..3 {
            assert_eq!(world.availability(worker), Availability::Expired);
            assert_ne!(world.ask(worker, "a"), Got::Keys, "{stale_limit}");
        }
    }
}

#[test]
fn without_a_stale_limit_keys_are_used_for_ever() {
    let settings = Settings {
        stale_limit: None,
        max_backoff: secs(3_600),
        ..Settings::default()
    };
    let mut world = World::with(1, source(), settings).started("a");
    world.run(100_000, &Answer::Reset);
    assert_eq!(world.ask(0, "a"), Got::Keys);
    assert!(world.workers[0].source.age().unwrap() >= secs(100_000));
}

#[test]
fn an_unknown_kid_while_the_issuer_is_down_is_unavailable_and_not_unknown() {
    let mut world = World::new(2).started("a");
    let mut waiting = Waiting::default();
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Wait);
    world.tick_all();
    world.answer_all(&Answer::Reset);
    world.tick_all();
    assert_eq!(world.resolve(0, "b", &mut waiting), Got::Unavailable(1));
    assert_eq!(world.ask(1, "b"), Got::Unavailable(1));
    assert_eq!(world.ask(1, "a"), Got::Keys);
    // An issuer that hangs: waiting ends.
    world.process.clock.advance(secs(1));
    assert_eq!(world.tick_all(), 1);
    let mut waiting = Waiting::default();
    for _ in 0..50 {
        assert_eq!(world.resolve(1, "b", &mut waiting), Got::Wait);
        world.process.clock.advance(Duration::from_millis(100));
    }
    assert!(matches!(
        world.resolve(1, "b", &mut waiting),
        Got::Unavailable(1..)
    ));
    // It recovers: now it is known that the key is unknown.
    world.answer_all(&keys("a"));
    world.tick_all();
    assert_eq!(world.ask(1, "c"), Got::Unknown, "within the cool-down");
}

#[test]
fn no_bad_answer_replaces_good_keys() {
    let large = format!("keys: {}.", "k ".repeat(40_000));
    for (answer, label) in [
        (Answer::Body(200, "<html>".into()), "invalid_keys"),
        (Answer::Body(200, String::new()), "invalid_keys"),
        (Answer::Body(200, "keys: .".into()), "invalid_keys"),
        (Answer::Body(200, "keys: b c".into()), "invalid_keys"),
        (Answer::Body(200, large), "too_large"),
        (Answer::Body(500, "keys: b.".into()), "status_5xx"),
        (Answer::Body(503, "keys: b.".into()), "status_503"),
        (Answer::Body(504, "keys: b.".into()), "status_504"),
        (Answer::Body(404, "keys: b.".into()), "status_4xx"),
        (Answer::Body(302, "keys: b.".into()), "status_3xx"),
        (Answer::Body(204, "keys: b.".into()), "status_other"),
        (Answer::Body(206, "keys: b.".into()), "status_other"),
        (Answer::Reset, "no_response"),
        (Answer::NotSent, "not_sent"),
    ] {
        let mut world = World::new(2).started("a");
        world.process.clock.advance(secs(530));
        assert_eq!(world.tick_all(), 1);
        let outcome = world.answer(0, &answer);
        assert!(matches!(outcome, FetchOutcome::Failed(_)));
        assert_eq!(outcome.label(), label);
        world.tick_all();
        for worker in 0..2 {
            assert_eq!(world.workers[worker].source.keys().unwrap(), &["a"]);
        }
        let logged = world.workers[0].host.logged();
        let [(log::Level::Warn, line)] = logged.as_slice() else {
            panic!("{logged:?}");
        };
        assert!(line.starts_with("keys of idp: "), "{line}");
        assert!(
            line.ends_with("those known before stay in use, next attempt in 1 s"),
            "{line}"
        );
        // Tried again, and well.
        world.run(2, &keys("b"));
        assert_eq!(world.workers[1].source.keys().unwrap(), &["b"]);
    }
}

#[test]
fn a_cluster_that_is_not_there_yet_is_tried_every_second() {
    let mut world = World::new(3);
    let mut waiting = Waiting::default();
    for _ in 0..4 {
        assert_eq!(world.resolve(0, "a", &mut waiting), Got::Wait);
        world.run(1, &Answer::NotSent);
    }
    assert_eq!(world.fetches, 4);
    world.run(1, &keys("a"));
    world.tick_all();
    assert_eq!(world.ask(0, "a"), Got::Keys);
    assert!(world.workers.iter().any(|w| {
        let logged = w.host.logged();
        logged.iter().any(|(level, line)| {
            *level == log::Level::Info && line.contains("fetched again, after failing 1 times")
        })
    }));
}

#[test]
fn what_a_format_says_is_logged_in_one_short_line() {
    let mut world = World::new(1);
    world.tick(0);
    let outcome = world.answer(0, &Answer::Body(200, "junk".into()));
    let invalid = Failure::InvalidKeys("not a list of keys".into());
    assert_eq!(outcome, FetchOutcome::Failed(invalid));
    assert_eq!(
        world.workers[0].host.logged()[0].1,
        "keys of idp: the body holds no keys: not a list of keys; there are none to use, next \
         attempt in 1 s"
    );
}
