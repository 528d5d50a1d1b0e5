//! Workers in threads of their own, as fast as they can.

#![cfg(not(target_arch = "wasm32"))] // has no threads

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tollgate_testkit::{Clock, Process};

use super::*;

const WORKERS: usize = 4;
const CLIENTS: usize = 5;

fn process() -> Process {
    Process::new(Clock::at(Timestamp::from_seconds(1_795_176_000)))
}

/// Lets each worker do its work, and adds up what they say.
fn together<const N: usize>(work: impl Fn(usize) -> [u64; N] + Sync) -> [u64; N] {
    let work = &work;
    thread::scope(|scope| {
        let workers = [0, 1, 2, 3].map(|worker| scope.spawn(move || work(worker)));
        let mut sum = [0; N];
        for worker in workers {
            for (sum, own) in sum.iter_mut().zip(worker.join().unwrap()) {
                *sum += own;
            }
        }
        sum
    })
}

fn configured(process: &Process, limits: &Value) -> Gateway<Alone> {
    let config = json!({ "rate_limit": limits });
    Gateway::on(process.worker(), &config).unwrap_or_else(|errors| panic!("{errors}"))
}

fn user(number: usize) -> Request {
    Request::get("/").header("x-user", number.to_string())
}

/// How many requests of each client one worker gets through.
fn admitted(gateway: &Gateway<Alone>, worker: usize, requests: usize) -> [u64; CLIENTS] {
    let mut admitted = [0; CLIENTS];
    for i in 0..requests {
        let client = (i + worker) % CLIENTS;
        match gateway.send(user(client)).status {
            200 => admitted[client] += 1,
            status => assert_eq!(status, 429),
        }
    }
    admitted
}

#[test]
fn while_the_clock_stands_still_exactly_the_burst_is_admitted() {
    for limit in [
        json!({ "rate": "300/h" }),
        json!({ "rate": "300/h", "count": "all" }),
        json!({ "rate": "300/h", "on_exceed": { "block_for": "1s", "after": 10_000 } }),
    ] {
        // In a page of its own, or in one with the others.
        for max_clients in [1, 100_000] {
            let mut limit = limit.clone();
            limit["name"] = json!("per-user");
            limit["key"] = json!({ "header": "x-user" });
            limit["max_clients"] = json!(max_clients);
            let (process, limits) = (process(), json!([limit]));
            let sum = together(|worker| {
                admitted(&configured(&process, &limits), worker, 600 * CLIENTS / 2)
            });
            assert_eq!(sum, [300; CLIENTS], "{limit}");
        }
    }
}

/// What one limit has charged is given back whenever another worker takes the last token of the
/// next: at the end each is charged exactly what was admitted.
#[test]
fn two_limits_are_charged_for_what_was_admitted_and_nothing_else() {
    let process = process();
    let limits = json!([
        { "name": "everyone", "key": "global", "rate": "500/h" },
        { "name": "per-user", "key": { "header": "x-user" }, "rate": "1000/h" },
    ]);
    let sum = together(|worker| admitted(&configured(&process, &limits), worker, 500));
    assert_eq!(sum.iter().sum::<u64>(), 500);
    let gateway = configured(&process, &limits);
    for (client, admitted) in sum.into_iter().enumerate() {
        let reply = gateway.send(user(client));
        assert_eq!(left(&reply, "everyone"), Some(0));
        assert_eq!(left(&reply, "per-user"), Some(1000 - admitted));
    }
}

#[test]
fn while_time_passes_never_more_than_burst_and_rate_is_admitted() {
    const STEPS: u64 = 400;
    let process = process();
    let limits = json!([
        { "name": "per-user", "key": { "header": "x-user" }, "rate": "100/s", "burst": 20 },
    ]);
    let (over, started) = (AtomicBool::new(false), process.clock.now());
    let sum: [u64; CLIENTS] = thread::scope(|scope| {
        // The clock runs five milliseconds at a time, half a request each.
        scope.spawn(|| {
            for _ in 0..STEPS {
                process.clock.advance(Duration::from_millis(5));
                thread::yield_now();
            }
            over.store(true, Ordering::Relaxed);
        });
        together(|worker| {
            let gateway = configured(&process, &limits);
            let mut sum = [0; CLIENTS];
            while !over.load(Ordering::Relaxed) {
                let more = admitted(&gateway, worker, CLIENTS);
                sum = std::array::from_fn(|client| sum[client] + more[client]);
            }
            let more = admitted(&gateway, worker, 100 * CLIENTS);
            std::array::from_fn(|client| sum[client] + more[client])
        })
    });
    let elapsed = process.clock.now().as_nanos() - started.as_nanos();
    assert_eq!(elapsed, STEPS * 5_000_000);
    for admitted in sum {
        // With the rest of each bucket drawn at the end, at least what it holds.
        assert!((20..=20 + STEPS / 2).contains(&admitted), "{sum:?}");
    }
}

#[test]
fn never_more_than_allowed_are_under_way_and_in_the_end_none() {
    const MOST: u64 = 3;
    let process = process();
    let limits = json!([{ "name": "places", "key": "global", "concurrent": MOST }]);
    let under_way = AtomicU64::new(0);
    let [admitted, refused] = together(|_| {
        let gateway = configured(&process, &limits);
        let mut counts = [0, 0];
        for _ in 0..2000 {
            let (reply, open) = gateway.begin(Request::get("/"));
            if reply.status == 200 {
                assert!(under_way.fetch_add(1, Ordering::SeqCst) < MOST);
                thread::yield_now();
                under_way.fetch_sub(1, Ordering::SeqCst);
                counts[0] += 1;
            } else {
                counts[1] += 1;
            }
            gateway.end(open);
        }
        counts
    });
    assert_eq!(admitted + refused, 2000 * WORKERS as u64);
    let gateway = configured(&process, &limits);
    let begun: Vec<_> = (0..=MOST)
        .map(|_| gateway.begin(Request::get("/")))
        .collect();
    let statuses: Vec<u16> = begun.iter().map(|(reply, _)| reply.status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
}
