//! The store: counters in shards, each of which does one thing after the other.

use hashbrown::HashMap;
use tollgate_quota_ledger::model::Counter;
use tollgate_quota_ledger::{Reply, Request};

use crate::time::SECOND;

/// A fifth of what one Redis was measured to do by a script.
const SHARDS: usize = 16;
const COST_OF_EXCHANGE: u64 = 20_000;
const COST_OF_COUNTER: u64 = 10_000;

/// A window of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CounterId {
    pub(crate) window: u32,
    pub(crate) consumer: u32,
}

/// What an Envoy says of a counter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    /// By the protocol of the ledger.
    Ledger(Request),
    /// So much more was used.
    Add(u64),
    /// One is to be used, if there is one left.
    Take { limit: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Ledger(Reply),
    Total(u64),
    Taken(bool),
}

#[derive(Default)]
pub(crate) struct Store {
    counters: HashMap<CounterId, Shelf>,
    saved: HashMap<CounterId, Shelf>,
    busy_until: [u64; SHARDS],
    frozen_until: u64,
    /// What was done in each second: exchanges and counters.
    pub(crate) load: Vec<(u64, u64)>,
}

#[derive(Clone, Default)]
struct Shelf {
    counter: Counter,
    plain: u64,
}

/// Who had used what was used before the run.
const PAST: u64 = u64::MAX;

impl Store {
    pub(crate) fn shard(consumer: u32) -> usize {
        crate::demand::mix(u64::from(consumer)) as usize % SHARDS
    }

    /// When a message that comes now will have been dealt with.
    pub(crate) fn enqueue(&mut self, shard: usize, counters: usize, now: u64) -> u64 {
        let busy = &mut self.busy_until[shard];
        let begin = now.max(*busy).max(self.frozen_until);
        *busy = begin + COST_OF_EXCHANGE + COST_OF_COUNTER * counters as u64;
        let second = (now / SECOND) as usize;
        if self.load.len() <= second {
            self.load.resize(second + 1, (0, 0));
        }
        self.load[second].0 += 1;
        self.load[second].1 += counters as u64;
        *busy
    }

    pub(crate) fn apply(
        &mut self,
        id: CounterId,
        used_before: u64,
        envoy: u64,
        body: Body,
    ) -> Answer {
        let shelf = self.counters.entry(id).or_insert_with(|| {
            let mut counter = Counter::default();
            if used_before > 0 {
                counter.exchange(PAST, &past(used_before));
            }
            Shelf {
                counter,
                plain: used_before,
            }
        });
        match body {
            Body::Ledger(request) => Answer::Ledger(shelf.counter.exchange(envoy, &request)),
            Body::Add(units) => {
                shelf.plain += units;
                Answer::Total(shelf.plain)
            }
            Body::Take { limit } => {
                let taken = shelf.plain < limit;
                shelf.plain += u64::from(taken);
                Answer::Taken(taken)
            }
        }
    }

    pub(crate) fn freeze(&mut self, until: u64) {
        self.frozen_until = until;
    }

    pub(crate) fn save(&mut self) {
        self.saved = self.counters.clone();
    }

    /// Goes back to what was saved, and calls `lost` with what was forgotten. `used_before` tells
    /// what a counter begins with.
    pub(crate) fn restore(
        &mut self,
        used_before: impl Fn(CounterId) -> u64,
        mut lost: impl FnMut(CounterId, u64),
    ) {
        let saved = std::mem::take(&mut self.saved);
        let now = std::mem::replace(&mut self.counters, saved);
        for (id, shelf) in now {
            let before = self.counters.get(&id);
            let plain = before.map_or_else(|| used_before(id), |before| before.plain);
            // What is given back by one and granted to another leaves the total as it was.
            let of_envoys: u64 = shelf
                .counter
                .envoys()
                .filter(|(envoy, _)| *envoy != PAST)
                .map(|(envoy, upto)| {
                    let kept = before.map_or(0, |before| before.counter.upto(envoy));
                    upto.saturating_sub(kept)
                })
                .sum();
            lost(id, of_envoys.max(shelf.plain.saturating_sub(plain)));
        }
    }

    /// What is booked by the ledgers' protocol.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (CounterId, u64)> {
        let counters = self.counters.iter();
        counters.map(|(id, shelf)| (*id, shelf.counter.total()))
    }
}

fn past(consumed: u64) -> Request {
    Request {
        seq: 1,
        consumed,
        want: 0,
        limit: 0,
    }
}
