//! What an Envoy keeps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use tollgate_quota_ledger::{Breaker, Ledger, RateBound};

use crate::simulation::Item;
use crate::store::CounterId;

pub(crate) struct Envoy {
    /// How often it was restarted.
    pub(crate) life: u64,
    /// How far its clock is ahead of the true one.
    pub(crate) offset: u64,
    pub(crate) cells: HashMap<CounterId, Cell>,
    /// What will have to be told when.
    pub(crate) agenda: BinaryHeap<Reverse<(u64, CounterId)>>,
    /// When it looks next; 0 if it has no reason to.
    pub(crate) wake_at: u64,
    pub(crate) breaker: Breaker,
    /// The exchanges whose replies it awaits.
    pub(crate) pending: HashMap<u64, Vec<Item>>,
}

/// What it keeps of one consumer in one window.
pub(crate) struct Cell {
    /// The throttle's theoretical arrival time.
    tat: u64,
    pub(crate) ledger: Ledger,
    pub(crate) naive: Naive,
    /// When the requests came that wait.
    pub(crate) waiting: Vec<u64>,
    /// When the oldest usage was admitted that may not be booked; 0 if there is none.
    pub(crate) since: u64,
    /// Its place in the agenda; 0 if it has none.
    pub(crate) scheduled: u64,
}

/// For the strategy without a ledger.
#[derive(Default)]
pub(crate) struct Naive {
    /// The store's last total.
    pub(crate) known: u64,
    /// What was used since the last report.
    pub(crate) pending: u64,
    /// What the report says that is under way.
    pub(crate) in_flight: Option<u64>,
}

impl Envoy {
    pub(crate) fn new(offset: u64) -> Self {
        Envoy {
            life: 0,
            offset,
            cells: HashMap::new(),
            agenda: BinaryHeap::new(),
            wake_at: 0,
            breaker: Breaker::default(),
            pending: HashMap::new(),
        }
    }

    /// Forgets everything, and gives back what it knew.
    pub(crate) fn restart(&mut self) -> HashMap<CounterId, Cell> {
        let next = Envoy {
            life: self.life + 1,
            ..Envoy::new(self.offset)
        };
        std::mem::replace(self, next).cells
    }
}

impl Cell {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Cell {
            tat: 0,
            ledger,
            naive: Naive::default(),
            waiting: Vec::new(),
            since: 0,
            scheduled: 0,
        }
    }

    pub(crate) fn throttle_admits(&mut self, rate: &RateBound, now: u64) -> bool {
        let interval = rate.period_ns.div_ceil(rate.units);
        let tat = self.tat.max(now) + interval;
        let admitted = tat - now <= interval * rate.burst;
        if admitted {
            self.tat = tat;
        }
        admitted
    }
}

impl Naive {
    pub(crate) fn used(&self) -> u64 {
        self.known + self.unreported()
    }

    pub(crate) fn unreported(&self) -> u64 {
        self.pending + self.in_flight.unwrap_or(0)
    }
}
