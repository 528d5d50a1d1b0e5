//! Keys that are found by the issuer's metadata.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that fails panics, as it should"
)]

mod common;

use common::{Answer, Got, World, discovering, keys, secs};
use tollgate_key_source::{FetchOutcome, Settings};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

const METADATA: &str = "/.well-known/openid-configuration";

fn world(workers: usize) -> World {
    World::with(workers, discovering(), Settings::default())
}

fn metadata(path: &str) -> Answer {
    let document =
        format!(r#"{{"issuer":"https://idp.example","jwks_uri":"https://idp.example{path}"}}"#);
    Answer::Body(200, document)
}

/// Answers all that is open by path, and lists the paths.
fn serve(world: &mut World, at: &str, found: &Answer, list: &Answer) -> Vec<String> {
    let mut paths = Vec::new();
    for worker in 0..world.workers.len() {
        while let Some(fetch) = world.workers[worker].open.first() {
            let path = fetch.path.clone();
            let gone = Answer::Body(404, String::new());
            let answer = match path.as_str() {
                METADATA => found,
                path if path == at => list,
                _ => &gone,
            };
            world.answer(worker, answer);
            paths.push(path);
        }
    }
    paths
}

fn step(world: &mut World, seconds: u64, at: &str, found: &Answer, list: &Answer) -> Vec<String> {
    world.process.clock.advance(secs(seconds));
    world.tick_all();
    serve(world, at, found, list)
}

#[test]
fn the_location_is_found_once_for_all_workers() {
    let mut world = world(3);
    let paths = step(&mut world, 0, "/k", &metadata("/k"), &keys("a"));
    assert_eq!(paths, [METADATA, "/k"]);
    world.tick_all();
    for worker in 0..3 {
        assert_eq!(world.ask(worker, "a"), Got::Keys);
    }
    let paths = step(&mut world, 530, "/k", &metadata("/k"), &keys("a"));
    assert_eq!(paths, ["/k"]);
    let new = world.add_worker();
    world.process.clock.advance(secs(530));
    assert_eq!(world.tick(new).unwrap().path, "/k");
}

#[test]
fn it_is_looked_for_again_after_a_day_and_after_failures() {
    let mut world = world(1);
    step(&mut world, 0, "/k", &metadata("/k"), &keys("a"));
    let paths = step(&mut world, 86_400, "/k", &metadata("/k"), &keys("a"));
    assert_eq!(paths, [METADATA, "/k"]);
    // The keys have moved.
    let mut paths = Vec::new();
    for _ in 0..6 {
        paths.extend(step(&mut world, 530, "/new", &metadata("/new"), &keys("b")));
    }
    assert_eq!(paths[..5], ["/k", "/k", "/k", METADATA, "/new"]);
    assert_eq!(world.ask(0, "b"), Got::Keys);
}

#[test]
fn without_metadata_the_location_known_before_is_used() {
    let bad = [
        Answer::Reset,
        Answer::Body(503, String::new()),
        Answer::Body(200, "<html>".into()),
        Answer::Body(200, "x".repeat(70_000)),
        Answer::Body(
            200,
            r#"{"issuer":"https://evil.example","jwks_uri":"https://idp.example/k"}"#.into(),
        ),
        Answer::Body(
            200,
            r#"{"issuer":"https://idp.example","jwks_uri":"https://evil.example/k"}"#.into(),
        ),
    ];
    for bad in bad {
        let mut world = world(1);
        step(&mut world, 0, "/k", &metadata("/k"), &keys("a"));
        let paths = step(&mut world, 86_400, "/k", &bad, &keys("b"));
        assert_eq!(paths, [METADATA, "/k"], "{bad:?}");
        assert_eq!(world.ask(0, "b"), Got::Keys);
        let line = &world.workers[0].host.logged()[0].1;
        assert!(
            line.ends_with("they are looked for where they were"),
            "{line}"
        );
        // At the very first, there is none.
        let mut world = self::world(1);
        let paths = step(&mut world, 0, "/k", &bad, &keys("a"));
        assert_eq!(paths, [METADATA]);
        assert_eq!(world.availability(0).label(), "never");
        let paths = step(&mut world, 1, "/k", &metadata("/k"), &keys("a"));
        assert_eq!(paths, [METADATA, "/k"]);
    }
}

#[test]
fn a_worker_that_lost_the_lease_between_the_two_requests_stops() {
    let mut world = world(2);
    assert!(world.tick(0).is_some());
    world.process.clock.advance(secs(8));
    assert!(world.tick(1).is_some());
    let outcome = world.answer(0, &metadata("/k"));
    assert_eq!(outcome, FetchOutcome::Discovered);
    assert!(world.workers[0].open.is_empty());
    assert_eq!(
        serve(&mut world, "/k", &metadata("/k"), &keys("a")),
        [METADATA, "/k"]
    );
}

#[test]
fn the_lease_lasts_for_both_requests() {
    let mut world = world(2);
    assert!(world.tick(0).is_some());
    world.process.clock.advance(secs(5));
    world.answer(0, &metadata("/k"));
    world.process.clock.advance(secs(5));
    assert_eq!(world.tick_all(), 0);
    assert_eq!(world.answer(0, &keys("a")), FetchOutcome::Updated);
}
