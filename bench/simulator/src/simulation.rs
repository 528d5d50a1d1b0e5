//! The events of a run, one after the other.

mod exchanges;
mod judging;
mod serving;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;
use tollgate_quota_ledger::{Circuit, Mode, Terms};

use crate::demand::{
    Balancing, CONSUMERS, ENVOYS, PASSED, Plan, Population, REGIONS, SKEW_OF_CLOCKS, TIERS,
};
use crate::envoy::{Cell, Envoy};
use crate::outcome::Outcome;
use crate::store::{Answer, Body, CounterId, Store};
use crate::time::{MS, SECOND};

/// When a run begins, on a true clock.
const START: u64 = 1_700_000_000 * SECOND;

/// Envoys look ten times a second what is due.
const TICK: u64 = 100 * MS;

/// The most counters that an exchange is about.
const BATCH: usize = 100;

/// How many exchanges are lost, on the way there or back.
const LOSS: f64 = 0.001;

/// How an Envoy comes to its decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Every request asks.
    Synchronous,
    /// Usage is reported at intervals; requests are admitted by the last total.
    Naive,
    /// The ledger, with the plan's rate bound.
    Adaptive,
    /// The ledger, with a rate that is guessed.
    Learning,
    /// The ledger in strict mode.
    Strict,
}

/// What happens beside requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Incident {
    /// An Envoy ends without a word, and another takes its place.
    Restart { envoy: usize },
    /// A region can't reach the store.
    Cut { region: usize, until: u64 },
    /// The store does nothing.
    Freeze { until: u64 },
    /// The store copies its data.
    Save,
    /// The store goes back to the copy.
    Restore,
}

/// One consumer calls every Envoy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attack {
    pub(crate) consumer: usize,
    /// How many times what its throttle lets through.
    pub(crate) factor: u64,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) balancing: Balancing,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) duration: u64,
    /// When the month ends.
    pub(crate) rollover: Option<u64>,
    /// How far clocks are apart at most.
    pub(crate) skew: u64,
    pub(crate) attack: Option<Attack>,
    pub(crate) incidents: Vec<(u64, Incident)>,
}

pub(crate) struct Simulation<'a> {
    scenario: &'a Scenario,
    strategy: Strategy,
    population: Population,
    terms: Vec<Terms>,
    rng: Rng,
    now: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    envoys: Vec<Envoy>,
    cut_until: [u64; REGIONS],
    store: Store,
    exchanges: u64,
    outcome: Outcome,
}

enum Event {
    Request,
    Attack,
    Wake {
        envoy: usize,
    },
    AtStore(Box<Message>),
    AtEnvoy(Box<Message>),
    Timeout {
        envoy: usize,
        life: u64,
        exchange: u64,
    },
    Incident(Incident),
}

struct Scheduled {
    at: u64,
    order: u64,
    event: Event,
}

/// An exchange under way.
struct Message {
    envoy: usize,
    life: u64,
    exchange: u64,
    /// How long the reply will take.
    back: u64,
    reply_is_lost: bool,
    items: Vec<Item>,
}

#[derive(Clone, Copy)]
pub(crate) struct Item {
    pub(crate) id: CounterId,
    pub(crate) body: Body,
    answer: Option<Answer>,
    /// When the oldest usage was admitted that is told here; 0 if there is none.
    since: u64,
    sent_at: u64,
}

impl Strategy {
    pub(crate) const ALL: [Strategy; 5] = [
        Strategy::Synchronous,
        Strategy::Naive,
        Strategy::Learning,
        Strategy::Adaptive,
        Strategy::Strict,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Strategy::Synchronous => "synchronous",
            Strategy::Naive => "naive",
            Strategy::Learning => "adaptive, guessed",
            Strategy::Adaptive => "adaptive",
            Strategy::Strict => "strict",
        }
    }

    /// Whether it decides by the ledger.
    fn has_ledger(self) -> bool {
        !matches!(self, Strategy::Synchronous | Strategy::Naive)
    }
}

impl<'a> Simulation<'a> {
    pub(crate) fn new(scenario: &'a Scenario, strategy: Strategy, seed: u64) -> Self {
        let population = Population::new(scenario.rate, scenario.duration, seed);
        let mode = match strategy {
            Strategy::Strict => Mode::Strict,
            _ => Mode::Adaptive,
        };
        let bounded = strategy != Strategy::Learning;
        let envoys = scenario.balancing.envoys();
        let terms = (0..TIERS)
            .map(|tier| population.plans[tier].terms(mode, bounded, envoys))
            .collect();
        let mut rng = Rng::with_seed(seed);
        let offset = |rng: &mut Rng| SKEW_OF_CLOCKS / 2 + rng.u64(0..=scenario.skew);
        let envoys = (0..ENVOYS)
            .map(|_| Envoy::new(offset(&mut rng) - scenario.skew / 2))
            .collect();
        Simulation {
            scenario,
            strategy,
            population,
            terms,
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            scheduled: 0,
            envoys,
            cut_until: [0; REGIONS],
            store: Store::default(),
            exchanges: 0,
            outcome: Outcome::new(CONSUMERS),
        }
    }

    /// Runs to the end, and until everything that was used is told.
    pub(crate) fn run(mut self) -> Outcome {
        self.schedule(0, Event::Request);
        if let Some(attack) = self.scenario.attack {
            self.schedule(attack.from, Event::Attack);
        }
        for (at, incident) in &self.scenario.incidents {
            self.schedule(*at, Event::Incident(*incident));
        }
        while let Some(Reverse(Scheduled { at, event, .. })) = self.queue.pop() {
            self.now = at;
            match event {
                Event::Request => self.request(),
                Event::Attack => self.attack(),
                Event::Wake { envoy } => self.wake(envoy),
                Event::AtStore(message) => self.at_store(message),
                Event::AtEnvoy(message) => self.at_envoy(*message),
                Event::Timeout {
                    envoy,
                    life,
                    exchange,
                } => self.time_out(envoy, life, exchange),
                Event::Incident(incident) => self.incident(incident),
            }
        }
        self.judge()
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        let order = self.scheduled;
        self.queue.push(Reverse(Scheduled { at, order, event }));
    }

    fn request(&mut self) {
        let next = self.now + self.population.pause(&mut self.rng);
        if next < self.scenario.duration {
            self.schedule(next, Event::Request);
        }
        let Some(consumer) = self.population.caller(self.now, &mut self.rng) else {
            return;
        };
        let balancing = self.scenario.balancing;
        let lives = |envoy: usize| self.envoys[envoy].life;
        let envoy = self
            .population
            .envoy(consumer, balancing, lives, &mut self.rng);
        self.serve(envoy, consumer);
    }

    fn attack(&mut self) {
        let Some(attack) = self.scenario.attack.filter(|a| self.now < a.until) else {
            return;
        };
        let plan = self.population.plans[self.population.consumer(attack.consumer).tier];
        let rate = (plan.rate.units * attack.factor * ENVOYS as u64) as f64;
        let pause = -(1.0 - self.rng.f64()).ln() / rate * SECOND as f64;
        self.schedule(self.now + pause as u64, Event::Attack);
        let envoy = self.rng.usize(..ENVOYS);
        self.serve(envoy, attack.consumer);
    }

    fn incident(&mut self, incident: Incident) {
        match incident {
            Incident::Restart { envoy } => self.restart(envoy),
            Incident::Cut { region, until } => self.cut_until[region] = until,
            Incident::Freeze { until } => self.store.freeze(until),
            Incident::Save => self.store.save(),
            Incident::Restore => {
                let population = &self.population;
                let used_before = |id| used_before(population, id);
                let outcome = &mut self.outcome;
                self.store
                    .restore(used_before, |id, lost| outcome.tally(id).forgotten += lost);
            }
        }
    }

    fn restart(&mut self, index: usize) {
        let envoy = &mut self.envoys[index];
        let cells = envoy.restart();
        for (id, cell) in cells {
            let unreported = cell.ledger.unreported() + cell.naive.unreported();
            let tally = self.outcome.tally(id);
            tally.lost += unreported;
            tally.crashes += u64::from(unreported > 0);
            self.outcome.failed += cell.waiting.len() as u64;
        }
    }

    fn cell(&mut self, index: usize, id: CounterId) -> &mut Cell {
        let cells = &mut self.envoys[index].cells;
        cells
            .get_mut(&id)
            .expect("a cell lives as long as its Envoy")
    }

    fn terms(&self, id: CounterId) -> Terms {
        self.terms[self.population.consumer(id.consumer as usize).tier]
    }

    fn plan(&self, id: CounterId) -> Plan {
        self.population.plans[self.population.consumer(id.consumer as usize).tier]
    }

    /// What an Envoy's clock says.
    fn wall(&self, index: usize) -> u64 {
        START + self.now + self.envoys[index].offset
    }

    fn opens(&self, window: u32) -> u64 {
        match self.scenario.rollover {
            Some(at) if window > 0 => START + SKEW_OF_CLOCKS / 2 + at,
            _ => START - PASSED,
        }
    }

    fn counter_now(&self, index: usize, consumer: usize) -> CounterId {
        let rolled = self.scenario.rollover.is_some() && self.wall(index) >= self.opens(1);
        CounterId {
            window: u32::from(rolled),
            consumer: consumer as u32,
        }
    }

    fn used_before(&self, id: CounterId) -> u64 {
        used_before(&self.population, id)
    }
}

fn used_before(population: &Population, id: CounterId) -> u64 {
    match id.window {
        0 => population.consumer(id.consumer as usize).used,
        _ => 0,
    }
}

impl Item {
    fn new(id: CounterId, body: Body, now: u64) -> Self {
        Item {
            id,
            body,
            answer: None,
            since: 0,
            sent_at: now,
        }
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Whether an Envoy may send now, and what that does to its breaker.
impl Envoy {
    fn may_send(&self, now: u64) -> bool {
        self.breaker.circuit(now) != Circuit::Open
    }

    fn note_sent(&mut self, now: u64, deadline: u64) {
        if self.breaker.circuit(now) == Circuit::HalfOpen {
            self.breaker.probe(now, deadline);
        }
    }
}
