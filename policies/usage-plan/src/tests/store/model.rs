//! Envoys with several workers, and a store in memory that reads what is really sent.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tollgate_quota_ledger::Request as Told;
use tollgate_quota_ledger::model::Counter;
use tollgate_testkit::{Clock, Process, Sent};

use super::Plugin;

/// Redis behind webdis, as it is seen from Envoy.
#[derive(Default)]
pub(super) struct Webdis {
    pub(super) counters: RefCell<HashMap<String, Counter>>,
    /// Whether it has heard the script.
    pub(super) knows_script: Cell<bool>,
    /// How many requests it has had.
    pub(super) calls: Cell<usize>,
}

impl Webdis {
    pub(super) fn answer(&self, sent: &Sent) -> String {
        self.calls.set(self.calls.get() + 1);
        assert_eq!(sent.url, "http://webdis:7379/");
        let body = str::from_utf8(&sent.body).unwrap();
        let words: Vec<String> = body
            .split('/')
            .map(|word| percent_decode_str(word).decode_utf8().unwrap().into_owned())
            .collect();
        let [command, script, count, rest @ ..] = words.as_slice() else {
            panic!("{body}");
        };
        match command.as_str() {
            "EVAL" => {
                assert!(script.contains("redis.pcall"));
                self.knows_script.set(true);
            }
            "EVALSHA" if self.knows_script.get() => {}
            _ => return json!({ command: [false, "NOSCRIPT No matching script."] }).to_string(),
        }
        let [rest @ .., nonce] = rest else {
            panic!("{body}");
        };
        let (keys, arguments) = rest.split_at(count.parse().unwrap());
        let replies: Vec<String> = keys
            .iter()
            .zip(arguments.chunks(6))
            .map(|(key, arguments)| {
                let number = |index: usize| arguments[index].parse::<u64>().unwrap();
                let envoy = u64::from_str_radix(&arguments[0], 16).unwrap();
                let told = Told {
                    seq: number(1),
                    consumed: number(2),
                    want: number(3),
                    limit: number(4),
                };
                let mut counters = self.counters.borrow_mut();
                let counter = counters.entry(key.clone()).or_default();
                let reply = counter.exchange(envoy, &told);
                format!(
                    "{} {} {} {} {nonce}",
                    reply.seq, reply.upto, reply.total, reply.previous
                )
            })
            .collect();
        json!({ command: replies }).to_string()
    }

    /// What it has booked in all.
    pub(super) fn total(&self) -> u64 {
        self.counters.borrow().values().map(Counter::total).sum()
    }

    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.counters.borrow().keys().cloned().collect();
        keys.sort();
        keys
    }
}

/// How the store behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Answers,
    /// It takes requests, and its answers are lost.
    Mute,
    Refuses,
    /// Something else lies under every key.
    Damaged,
}

/// Some workers of one Envoy, and the store.
pub(super) struct Envoy {
    pub(super) workers: Vec<Plugin>,
}

impl Envoy {
    pub(super) fn start(clock: &Clock, workers: usize, config: &Value) -> Envoy {
        let process = Process::new(clock.clone());
        // Numbers that a process draws must be its own.
        for _ in 0..NEXT.with(|next| next.replace(next.get() + 8)) {
            let _ = process.worker();
        }
        let workers = (0..workers).map(|_| {
            let host = process.worker();
            host.clusters.borrow_mut().push("webdis".to_owned());
            Plugin::on(host, config).unwrap_or_else(|errors| panic!("{errors}"))
        });
        Envoy {
            workers: workers.collect(),
        }
    }

    /// Ticks, and has the store answer.
    pub(super) fn tick(&self, store: &Webdis, mood: Mood) {
        for worker in &self.workers {
            worker.tick();
            loop {
                let Some(sent) = worker.host.callouts.borrow_mut().pop_front() else {
                    break;
                };
                match mood {
                    Mood::Answers => {
                        let body = store.answer(&sent);
                        worker.answer(sent.id, Some(200), &[], body.as_bytes());
                    }
                    Mood::Mute => {
                        store.answer(&sent);
                        worker.answer(sent.id, Some(504), &[], b"upstream request timeout");
                    }
                    Mood::Damaged => {
                        store.calls.set(store.calls.get() + 1);
                        let reply = "!WRONGTYPE Operation against a key";
                        let body = json!({ "EVALSHA": [reply] }).to_string();
                        worker.answer(sent.id, Some(200), &[], body.as_bytes());
                    }
                    Mood::Refuses => worker.answer(sent.id, Some(503), &[], b"no"),
                }
            }
        }
    }
}

thread_local! {
    static NEXT: Cell<usize> = const { Cell::new(1) };
}
