//! Requests of clients.

use tollgate_quota_ledger::{Decision, Ledger, Outage, Window};

use super::{START, Simulation, Strategy};
use crate::demand::{MONTH, PASSED, REPORT_INTERVAL, SKEW_OF_CLOCKS};
use crate::envoy::Cell;
use crate::simulation::Item;
use crate::store::{Answer, Body, CounterId};
use crate::time::SECOND;

impl Simulation<'_> {
    /// A request at an Envoy.
    pub(super) fn serve(&mut self, index: usize, consumer: usize) {
        let id = self.counter_now(index, consumer);
        if !self.envoys[index].cells.contains_key(&id) {
            let cell = self.open(index, id);
            self.envoys[index].cells.insert(id, cell);
        }
        let rate = self.plan(id).rate;
        let now = self.now;
        let cell = self.cell(index, id);
        if !cell.throttle_admits(&rate, now) {
            self.outcome.throttled += 1;
            return;
        }
        self.outcome.tally(id).demand += 1;
        match self.strategy {
            Strategy::Synchronous => self.serve_synchronously(index, id),
            Strategy::Naive => self.serve_naively(index, id),
            _ => self.serve_by_ledger(index, id),
        }
    }

    pub(super) fn serve_by_ledger(&mut self, index: usize, id: CounterId) {
        let (terms, wall, now) = (self.terms(id), self.wall(index), self.now);
        match self.cell(index, id).ledger.decide(&terms, 1, wall) {
            Decision::Admit => self.admit(index, id),
            Decision::Refuse { peek } => {
                self.outcome.refused += 1;
                if peek {
                    self.exchange(index, id, 0);
                }
            }
            Decision::Ask | Decision::Wait if !self.envoys[index].may_send(now) => {
                self.decide_alone(index, id);
            }
            decision => {
                self.cell(index, id).waiting.push(now);
                if decision == Decision::Ask {
                    self.exchange(index, id, 1);
                }
            }
        }
    }

    pub(super) fn admit(&mut self, index: usize, id: CounterId) {
        let (wall, now) = (self.wall(index), self.now);
        let cell = self.cell(index, id);
        cell.ledger.consume(1, wall);
        if cell.since == 0 && cell.ledger.unreported() > 0 {
            cell.since = now.max(1);
        }
        self.outcome.tally(id).admitted += 1;
        self.plan_errand(index, id);
    }

    pub(super) fn decide_alone(&mut self, index: usize, id: CounterId) {
        let (terms, wall) = (self.terms(id), self.wall(index));
        let opens = self.opens(id.window);
        let window = Window {
            opens,
            closes: opens + MONTH,
        };
        let outage = match self.strategy {
            Strategy::Strict => Outage::Deny,
            _ => Outage::Safe { percent: 100 },
        };
        let ledger = &self.cell(index, id).ledger;
        if ledger.decides_alone(outage, &terms, 1, window, wall) {
            self.outcome.tally(id).alone += 1;
            self.admit(index, id);
        } else {
            self.outcome.failed += 1;
        }
    }

    pub(super) fn serve_synchronously(&mut self, index: usize, id: CounterId) {
        if !self.envoys[index].may_send(self.now) {
            self.outcome.failed += 1;
            return;
        }
        let limit = self.plan(id).limit;
        let item = Item::new(id, Body::Take { limit }, self.now);
        self.send(index, vec![item]);
    }

    pub(super) fn serve_naively(&mut self, index: usize, id: CounterId) {
        let (limit, now) = (self.plan(id).limit, self.now);
        let cell = self.cell(index, id);
        let naive = &mut cell.naive;
        if naive.used() < limit {
            naive.pending += 1;
            self.outcome.tally(id).admitted += 1;
        } else {
            self.outcome.refused += 1;
        }
        self.plan_naive_report(index, id, now + REPORT_INTERVAL);
    }

    /// Decides again about requests that waited.
    pub(super) fn decide_waiting(&mut self, index: usize, id: CounterId) {
        let (terms, wall) = (self.terms(id), self.wall(index));
        let waiting = std::mem::take(&mut self.cell(index, id).waiting);
        for since in waiting {
            match self.cell(index, id).ledger.decide(&terms, 1, wall) {
                Decision::Admit => self.admit(index, id),
                Decision::Refuse { .. } => self.outcome.refused += 1,
                Decision::Ask | Decision::Wait => {
                    self.cell(index, id).waiting.push(since);
                    continue;
                }
            }
            self.outcome.waited(self.now - since);
        }
        let still = self.cell(index, id).waiting.len() as u64;
        if still > 0 {
            self.exchange(index, id, still);
        }
    }

    /// What an Envoy knows of a consumer that has called it before the run.
    pub(super) fn open(&mut self, index: usize, id: CounterId) -> Cell {
        let opens = self.opens(id.window);
        let mut cell = Cell::new(Ledger::new(opens));
        let consumer = id.consumer as usize;
        let balancing = self.scenario.balancing;
        let rate = self.population.rate_at(consumer, index, balancing);
        let seconds = -(1.0 - self.rng.f64()).ln() / rate;
        let age = (seconds * SECOND as f64) as u64;
        if id.window > 0 || self.envoys[index].life > 0 || age >= PASSED {
            return cell;
        }
        let used = self.used_before(id);
        let since = self.population.consumer(consumer).rate * seconds;
        let known = used.saturating_sub(since as u64);
        cell.naive.known = known;
        if self.strategy.has_ledger() {
            let terms = self.terms(id);
            let wall = START + SKEW_OF_CLOCKS / 2 - age;
            if let Some(request) = cell.ledger.begin(&terms, 0, wall, 1) {
                let body = Body::Ledger(request);
                if let Answer::Ledger(mut reply) = self.store.apply(id, used, index as u64, body) {
                    reply.total = known;
                    cell.ledger.settle(&terms, reply, wall, 1 << 31);
                }
            }
        }
        cell
    }
}
