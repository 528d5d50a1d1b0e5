//! What Envoys tell the store, and when.

use std::cmp::Reverse;

use hashbrown::HashMap;

use super::{BATCH, Event, Item, LOSS, Message, Simulation, Strategy, TICK};
use crate::demand::{DEADLINE, ENVOYS, REGIONS, REPORT_INTERVAL};
use crate::store::{Answer, Body, CounterId, Store};
use crate::time::{MS, SECOND};

impl Simulation<'_> {
    /// Begins an exchange about one counter.
    pub(super) fn exchange(&mut self, index: usize, id: CounterId, waiting: u64) {
        if !self.envoys[index].may_send(self.now) {
            return;
        }
        if let Some(item) = self.begin(index, id, waiting) {
            self.send(index, vec![item]);
        }
    }

    pub(super) fn begin(&mut self, index: usize, id: CounterId, waiting: u64) -> Option<Item> {
        let (terms, wall, now) = (self.terms(id), self.wall(index), self.now);
        let cell = self.cell(index, id);
        let request = cell.ledger.begin(&terms, waiting, wall, DEADLINE)?;
        Some(Item {
            since: cell.since,
            ..Item::new(id, Body::Ledger(request), now)
        })
    }

    pub(super) fn plan_naive_report(&mut self, index: usize, id: CounterId, at: u64) {
        if self.cell(index, id).scheduled == 0 {
            self.put_down(index, id, at);
        }
    }

    /// Notes when there will be something to tell.
    pub(super) fn plan_errand(&mut self, index: usize, id: CounterId) {
        let (terms, wall, now) = (self.terms(id), self.wall(index), self.now);
        let cell = self.cell(index, id);
        if let Some((at, _)) = cell.ledger.next_due(&terms, wall) {
            let at = now + at.saturating_sub(wall);
            if cell.scheduled == 0 || at < cell.scheduled {
                self.put_down(index, id, at);
            }
        }
    }

    pub(super) fn put_down(&mut self, index: usize, id: CounterId, at: u64) {
        let at = at.max(1);
        self.cell(index, id).scheduled = at;
        let envoy = &mut self.envoys[index];
        envoy.agenda.push(Reverse((at, id)));
        let phase = index as u64 * (TICK / ENVOYS as u64);
        let tick = at.saturating_sub(phase).div_ceil(TICK) * TICK + phase;
        let tick = tick.max(self.now + 1);
        if envoy.wake_at == 0 || tick < envoy.wake_at {
            envoy.wake_at = tick;
            self.schedule(tick, Event::Wake { envoy: index });
        }
    }

    /// An Envoy tells what is due, in batches.
    pub(super) fn wake(&mut self, index: usize) {
        if self.envoys[index].wake_at != self.now {
            return;
        }
        self.envoys[index].wake_at = 0;
        let open = !self.envoys[index].may_send(self.now);
        let mut items: HashMap<usize, Vec<Item>> = HashMap::new();
        while let Some(Reverse((at, id))) = self.envoys[index].agenda.peek().copied() {
            if at > self.now {
                let tick = at.max(self.now + TICK);
                self.envoys[index].wake_at = tick;
                self.schedule(tick, Event::Wake { envoy: index });
                break;
            }
            self.envoys[index].agenda.pop();
            let Some(cell) = self.envoys[index].cells.get_mut(&id) else {
                continue;
            };
            if cell.scheduled != at {
                continue;
            }
            cell.scheduled = 0;
            if open {
                self.put_down(index, id, self.now + SECOND / 2);
                continue;
            }
            if let Some(item) = self.errand(index, id) {
                items
                    .entry(Store::shard(id.consumer))
                    .or_default()
                    .push(item);
            }
        }
        let mut shards: Vec<usize> = items.keys().copied().collect();
        shards.sort_unstable();
        for shard in shards {
            for batch in items[&shard].chunks(BATCH) {
                self.send(index, batch.to_vec());
            }
        }
    }

    pub(super) fn errand(&mut self, index: usize, id: CounterId) -> Option<Item> {
        let (terms, wall, now) = (self.terms(id), self.wall(index), self.now);
        let strategy = self.strategy;
        let cell = self.cell(index, id);
        if strategy == Strategy::Naive {
            if cell.naive.in_flight.is_some() {
                return None;
            }
            let units = std::mem::take(&mut cell.naive.pending);
            cell.naive.in_flight = Some(units);
            return Some(Item::new(id, Body::Add(units), now));
        }
        if cell.ledger.due(&terms, wall).is_some() {
            return self.begin(index, id, 0);
        }
        self.plan_errand(index, id);
        None
    }

    pub(super) fn send(&mut self, index: usize, items: Vec<Item>) {
        self.exchanges += 1;
        let (exchange, region) = (self.exchanges, index * REGIONS / ENVOYS);
        let there = self.latency(region);
        let back = self.latency(region);
        let lost = self.rng.f64() < LOSS;
        let request_is_lost = lost && self.rng.bool();
        let envoy = &mut self.envoys[index];
        envoy.note_sent(self.now, DEADLINE);
        let life = envoy.life;
        envoy.pending.insert(exchange, items.clone());
        let timeout = Event::Timeout {
            envoy: index,
            life,
            exchange,
        };
        self.schedule(self.now + DEADLINE, timeout);
        if request_is_lost || self.cut_until[region] > self.now {
            return;
        }
        let message = Message {
            envoy: index,
            life,
            exchange,
            back,
            reply_is_lost: lost,
            items,
        };
        self.schedule(self.now + there, Event::AtStore(Box::new(message)));
    }

    /// One way: half of 2 ms in the store's region, of 80 to 200 ms from others.
    pub(super) fn latency(&mut self, region: usize) -> u64 {
        let base = match region {
            0 => 1.0,
            far => 40.0 + 60.0 * far as f64 / (REGIONS - 1) as f64,
        };
        let radius = (-2.0 * (1.0 - self.rng.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.rng.f64()).cos();
        (base * (0.25 * normal).exp() * MS as f64) as u64
    }

    pub(super) fn at_store(&mut self, mut message: Box<Message>) {
        let shard = Store::shard(message.items[0].id.consumer);
        let done = self.store.enqueue(shard, message.items.len(), self.now);
        let from = message.envoy as u64 + ENVOYS as u64 * message.life;
        for item in &mut message.items {
            let used = self.used_before(item.id);
            item.answer = Some(self.store.apply(item.id, used, from, item.body));
            let horizon = self.terms(item.id).horizon_ns();
            if item.since > 0 && done.saturating_sub(item.since) > horizon {
                self.outcome.tally(item.id).silent += 1;
            }
        }
        if !message.reply_is_lost {
            let at = done + message.back;
            self.schedule(at, Event::AtEnvoy(message));
        }
    }

    pub(super) fn at_envoy(&mut self, message: Message) {
        let region = message.envoy * REGIONS / ENVOYS;
        let envoy = &mut self.envoys[message.envoy];
        if envoy.life != message.life || self.cut_until[region] > self.now {
            return;
        }
        let in_time = envoy.pending.remove(&message.exchange).is_some();
        envoy.breaker.succeed();
        for item in message.items {
            match item.answer {
                Some(Answer::Ledger(reply)) => {
                    let (terms, wall) = (self.terms(item.id), self.wall(message.envoy));
                    let jitter = self.rng.u32(..);
                    let cell = self.cell(message.envoy, item.id);
                    cell.ledger.settle(&terms, reply, wall, jitter);
                    cell.since = if cell.ledger.unreported() > 0 {
                        item.sent_at.max(1)
                    } else {
                        0
                    };
                    self.decide_waiting(message.envoy, item.id);
                    self.plan_errand(message.envoy, item.id);
                }
                Some(Answer::Total(total)) => {
                    let now = self.now;
                    let naive = &mut self.cell(message.envoy, item.id).naive;
                    naive.known = total;
                    if in_time {
                        naive.in_flight = None;
                        if naive.pending > 0 {
                            self.plan_naive_report(message.envoy, item.id, now + REPORT_INTERVAL);
                        }
                    }
                }
                Some(Answer::Taken(taken)) if in_time => {
                    self.outcome.waited(self.now - item.sent_at);
                    if taken {
                        self.outcome.tally(item.id).admitted += 1;
                    } else {
                        self.outcome.refused += 1;
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) fn time_out(&mut self, index: usize, life: u64, exchange: u64) {
        let envoy = &mut self.envoys[index];
        if envoy.life != life {
            return;
        }
        let Some(items) = envoy.pending.remove(&exchange) else {
            return;
        };
        envoy.breaker.fail(self.now, self.rng.u32(..));
        for item in items {
            match item.body {
                Body::Ledger(request) => self.fail(index, item.id, request.seq),
                Body::Add(units) => {
                    let naive = &mut self.cell(index, item.id).naive;
                    naive.in_flight = None;
                    naive.pending += units;
                    let at = self.now + REPORT_INTERVAL;
                    self.plan_naive_report(index, item.id, at);
                }
                Body::Take { .. } => self.outcome.failed += 1,
            }
        }
    }

    pub(super) fn fail(&mut self, index: usize, id: CounterId, seq: u64) {
        let (terms, wall) = (self.terms(id), self.wall(index));
        let jitter = self.rng.u32(..);
        let cell = self.cell(index, id);
        cell.ledger.fail(&terms, seq, wall, jitter);
        for since in std::mem::take(&mut cell.waiting) {
            self.outcome.waited(self.now - since);
            self.decide_alone(index, id);
        }
        self.plan_errand(index, id);
    }
}
