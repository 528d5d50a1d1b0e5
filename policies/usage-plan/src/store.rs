//! Quotas that several Envoys share and that outlive them: a store keeps them, and each Envoy keeps a
//! [`Ledger`](tollgate_quota_ledger::Ledger) of every one that it needs.
//!
//! Requests are decided about by the ledger, which is a part of the consumer's record. Where it says
//! that the store has to be asked, the request waits, and the next tick asks for all that wait. What
//! was admitted ahead of a grant is reported from ticks too. The ledgers are shared by the workers, so
//! any of them may ask, one at a time for each quota.

mod books;
mod compile;
mod config;
mod engine;
mod errands;
mod export;
mod health;
mod sharing;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use tollgate_core::host::{CalloutId, CalloutResponse, Host};
use tollgate_core::shared::agreed_number;
use tollgate_core::time::Timestamp;
use tollgate_quota_ledger::{Breaker, Circuit};
use tollgate_quota_store::EnvoyId;

use crate::UsagePlan;
use crate::meter::{Charge, Exhausted};
use books::{Begun, Want};
pub use config::{
    OnStoreFailure, RedisDialect, RedisHttpConfig, RlsConfig, RlsProfile, SecretConfig, StoreConfig,
};
use engine::{Answered, Engine, Manner, Probe};
use errands::Errands;
pub use export::ratelimit_config;
use health::{Alone, Health};
pub(crate) use sharing::{Abilities, Shared, SharedQuota, Sharing};

/// The store of a configuration, as one worker knows it.
pub(crate) struct Store {
    engine: Engine,
    /// For how long an answer is awaited.
    timeout: Duration,
    /// For how long a request waits. One whose units others were faster to use is asked for again.
    patience: Duration,
    /// The time between two looks for what is to be reported.
    look_every: Duration,
    health: Health,
    worker: RefCell<Worker>,
}

/// Whose usage, under which plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Account {
    pub(crate) holder: Holder,
    /// The plan's place.
    pub(crate) plan: u16,
}

/// Who has a record of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// A consumer, by its place.
    Consumer(u32),
    /// All callers without a key.
    Anonymous,
}

/// What a worker has to do for the store, and what is under way.
#[derive(Default)]
struct Worker {
    /// Accounts for which an exchange is wanted now.
    errands: Errands,
    /// Accounts whose ledgers may have something to report.
    touched: BTreeSet<Account>,
    /// When to look through them.
    next_look: Timestamp,
    /// How many consumers' records this worker has looked at, to find what was left in them by
    /// workers that are no more.
    found: u32,
    under_way: Vec<Batch>,
    breaker: Breaker,
    /// An account for which an exchange has failed.
    failed: Option<Account>,
    probe: Probe,
    /// Whether the store would count wrongly, so that it is not used.
    is_unfit: bool,
    envoy: Option<EnvoyId>,
}

/// A request to the store that is not answered yet.
struct Batch {
    id: CalloutId,
    begun: Vec<Begun>,
    manner: Manner,
}

/// How many accounts are looked at for one call.
const MOST_ACCOUNTS: usize = 400;

/// How many requests to the store a worker may have under way.
const MOST_UNDER_WAY: usize = 16;

/// How many records a new worker looks at in one tick.
const MOST_FOUND: u32 = 500;

impl Store {
    /// Whether a request that needs the store has to be decided about without it: it has waited long
    /// enough, or the store is left alone because it does not answer.
    pub(crate) fn gives_up(&self, waits_since: Option<Timestamp>, now: Timestamp) -> bool {
        // One that waits since the future began to before the clock stepped back.
        let is_late = waits_since
            .is_some_and(|since| since > now || now.saturating_since(since) >= self.patience);
        let worker = self.worker.try_borrow();
        is_late || worker.is_ok_and(|worker| worker.is_out(now))
    }

    /// Notes what came of a request: what there is to ask or report.
    pub(crate) fn note<H: Host>(&self, account: Account, charge: &Charge, host: &H) {
        let Ok(mut worker) = self.worker.try_borrow_mut() else {
            return;
        };
        match charge {
            Charge::Wait { ask: true } => {
                worker.errands.add_waiting(account, host.now());
            }
            Charge::Refused { peek: true, .. } => {
                worker.errands.add(account);
            }
            Charge::Admitted { alone } => {
                worker.touched.insert(account);
                if *alone {
                    self.health.alone(Alone::Admitted, host);
                }
            }
            Charge::Refused { refusal, .. } if refusal.exhausted == Exhausted::Unknown => {
                self.health.alone(Alone::Refused, host);
            }
            Charge::Wait { ask: false } | Charge::Refused { .. } => {}
        }
    }

    /// Asks and reports what is due. Returns when to be called again.
    pub(crate) fn tick<H: Host>(&self, plan: &UsagePlan, host: &H) -> Option<Duration> {
        let now = host.now();
        let mut worker = self.worker.try_borrow_mut().ok()?;
        let flaw = self
            .engine
            .probe(&mut worker.probe, self.timeout, now, host);
        worker.is_unfit = flaw.is_some();
        if let Some(flaw) = flaw {
            self.health.unfit(&flaw, host);
        }
        match worker.breaker.circuit(now.as_nanos()) {
            _ if worker.is_out(now) => worker.put_off(),
            circuit => self.send_due(&mut worker, plan, circuit, host),
        }
        self.health.tell(&worker.breaker, now, host);
        let until_look = worker.next_look.saturating_since(now);
        let has_more = !worker.errands.is_empty();
        // What has no room yet goes on its way when an answer is here.
        let has_room = worker.under_way.len() < MOST_UNDER_WAY;
        Some(if has_more && has_room {
            Duration::ZERO
        } else {
            until_look.min(self.look_every)
        })
    }

    fn send_due<H: Host>(&self, worker: &mut Worker, plan: &UsagePlan, circuit: Circuit, host: &H) {
        let now = host.now();
        let Some(envoy) = worker.envoy(host) else {
            return;
        };
        worker.look(plan, now, self.look_every);
        // A store that may still be out is tried with a single request.
        let most_batches = match circuit {
            Circuit::HalfOpen => 1,
            Circuit::Open | Circuit::Closed => {
                MOST_UNDER_WAY.saturating_sub(worker.under_way.len())
            }
        };
        for _ in 0..most_batches {
            let mut batch = self.begin_batch(worker, plan, host);
            if batch.is_empty() && circuit == Circuit::HalfOpen {
                batch = self.begin_probe(worker, plan, host);
            }
            if batch.is_empty() {
                break;
            }
            if circuit == Circuit::HalfOpen {
                worker.breaker.probe(now.as_nanos(), nanos(self.timeout));
            }
            self.send(worker, plan, envoy, (batch, false), host);
        }
    }

    /// Begins an exchange for which there is no need but to see whether the store answers again:
    /// another worker may have told it all.
    fn begin_probe<H: Host>(&self, worker: &mut Worker, plan: &UsagePlan, host: &H) -> Vec<Begun> {
        let done = worker
            .failed
            .map(|account| self.begin(plan, account, (Want::Probe, 1), host));
        done.unwrap_or_default().begun
    }

    /// Begins exchanges for accounts that want them, as many as one call has room for.
    fn begin_batch<H: Host>(&self, worker: &mut Worker, plan: &UsagePlan, host: &H) -> Vec<Begun> {
        let mut batch: Vec<Begun> = Vec::new();
        let mut room = self.engine.room();
        for _ in 0..MOST_ACCOUNTS {
            if room == 0 {
                break;
            }
            let Some((account, waiting)) = worker.errands.next() else {
                break;
            };
            let done = self.begin(plan, account, (Want::Due { waiting }, room), host);
            if done.has_more {
                worker.touched.insert(account);
            }
            for begun in done.begun {
                let weight = self.engine.weight(&begun.exchange);
                match batch.is_empty() || weight <= room {
                    true => {
                        room = room.saturating_sub(weight);
                        batch.push(begun);
                    }
                    false => {
                        room = 0;
                        self.fail(plan, &begun, host);
                        worker.errands.add(account);
                    }
                }
            }
        }
        batch
    }

    fn send<H: Host>(
        &self,
        worker: &mut Worker,
        plan: &UsagePlan,
        envoy: EnvoyId,
        (begun, in_full): (Vec<Begun>, bool),
        host: &H,
    ) {
        let exchanges = begun.iter().map(|begun| &begun.exchange);
        let manner = Manner {
            in_full,
            nonce: (u64::from(random(host)) << 32) | u64::from(random(host)),
        };
        match self
            .engine
            .call(envoy, exchanges, manner, self.timeout, host)
        {
            Ok(id) => worker.under_way.push(Batch { id, begun, manner }),
            Err(_) => {
                self.health.not_sent(host);
                worker.breaker.fail(host.now().as_nanos(), random(host));
                for exchange in &begun {
                    self.fail(plan, exchange, host);
                    worker.touched.insert(exchange.account);
                    worker.failed = Some(exchange.account);
                }
            }
        }
    }

    /// Takes in an answer, if it is one of the store's.
    pub(crate) fn on_callout<H: Host>(
        &self,
        plan: &UsagePlan,
        id: CalloutId,
        response: &CalloutResponse<'_>,
        host: &H,
    ) {
        let Ok(mut worker) = self.worker.try_borrow_mut() else {
            return;
        };
        if self.engine.probed(&mut worker.probe, id, response, host) {
            return;
        }
        let Some(place) = worker.under_way.iter().position(|batch| batch.id == id) else {
            return;
        };
        let Batch { begun, manner, .. } = worker.under_way.swap_remove(place);
        let Some(envoy) = worker.envoy(host) else {
            return;
        };
        let exchanges = begun.iter().map(|begun| &begun.exchange);
        let results = match self.engine.decode(envoy, exchanges, manner, response) {
            Answered::Results(results) => results,
            Answered::AgainInFull => {
                self.send(&mut worker, plan, envoy, (begun, true), host);
                return;
            }
        };
        let mut answered = false;
        for (exchange, result) in begun.iter().zip(results) {
            worker.touched.insert(exchange.account);
            match result {
                Ok(reply) => {
                    answered = true;
                    let settled = self.settle(plan, exchange, reply, host);
                    self.health.settled(exchange.purpose, settled, host);
                }
                Err(error) => {
                    // The store is not out because of one counter.
                    answered |= error.is_of_one_counter();
                    self.health.failed(exchange.purpose, &error, host);
                    self.fail(plan, exchange, host);
                    worker.failed = Some(exchange.account);
                }
            }
        }
        match answered {
            true => worker.breaker.succeed(),
            false => worker.breaker.fail(host.now().as_nanos(), random(host)),
        }
    }
}

impl Worker {
    /// Whether the store is left alone: it has not answered, or would count wrongly.
    fn is_out(&self, now: Timestamp) -> bool {
        self.is_unfit || self.breaker.circuit(now.as_nanos()) == Circuit::Open
    }

    /// The number by which the store knows this process.
    fn envoy<H: Host>(&mut self, host: &H) -> Option<EnvoyId> {
        if self.envoy.is_none() {
            self.envoy = agreed_number(host, "tollgate/envoy").ok().map(EnvoyId);
        }
        self.envoy
    }

    /// Leaves for later what was wanted now. The requests that wait are decided about without the
    /// store when they are taken up.
    fn put_off(&mut self) {
        self.touched.extend(self.errands.take());
    }

    /// Moves the accounts to the errands that may have something to report, if it is time.
    fn look(&mut self, plan: &UsagePlan, now: Timestamp, every: Duration) {
        for account in plan.accounts_from(self.found, MOST_FOUND) {
            self.errands.add(account);
        }
        self.found = self.found.saturating_add(MOST_FOUND);
        let is_time = self.next_look <= now || self.next_look > now.saturating_add(every);
        if is_time {
            self.next_look = now.saturating_add(every);
            for account in std::mem::take(&mut self.touched) {
                self.errands.add(account);
            }
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn random<H: Host>(host: &H) -> u32 {
    let mut bytes = [0; 4];
    host.fill_random(&mut bytes);
    u32::from_le_bytes(bytes)
}
