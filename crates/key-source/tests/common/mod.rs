//! Several workers of one process and an issuer that does as it is told.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(unreachable_pub, reason = "a test has no public items")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails panics, as it should"
)]

use std::time::Duration;

use tollgate_core::time::Timestamp;
use tollgate_key_source::{
    Answered, Availability, Caching, Discovery, Fetch, FetchOutcome, KeyFormat, KeySource, Resolve,
    Response, Settings, Source, Ticket, Waiting,
};
use tollgate_testkit::{Clock, MemoryHost, Process};

/// Keys that are nothing but their identifiers: `keys: a b c`.
#[derive(Clone, Copy)]
pub struct Words;

impl KeyFormat for Words {
    type Keys = Vec<String>;
    type Invalid = &'static str;

    fn parse(&self, body: &[u8]) -> Result<Vec<String>, &'static str> {
        let text = std::str::from_utf8(body).map_err(|_| "not text")?;
        let list = text.strip_prefix("keys:").ok_or("not a list of keys")?;
        let list = list.strip_suffix('.').ok_or("it breaks off")?;
        let keys: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
        if keys.is_empty() {
            return Err("no key");
        }
        Ok(keys)
    }

    fn has_kid(&self, keys: &Vec<String>, kid: &str) -> bool {
        keys.iter().any(|key| key == kid)
    }
}

pub type Keys = KeySource<Words>;

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn source() -> Source {
    Source {
        name: "idp".into(),
        shared_key: "tollgate/jwks/test idp".into(),
        cluster: "idp-cluster".into(),
        endpoint: "https://idp.example/jwks".parse().unwrap(),
        discovery: None,
    }
}

pub fn discovering() -> Source {
    Source {
        endpoint: "https://idp.example/.well-known/openid-configuration"
            .parse()
            .unwrap(),
        discovery: Some(Discovery {
            issuer: "https://idp.example".into(),
            jwks_host: None,
        }),
        ..source()
    }
}

/// One worker and what it waits for.
pub struct Worker {
    pub host: MemoryHost,
    pub source: Keys,
    pub open: Vec<Fetch>,
}

/// What the issuer says to a fetch.
#[derive(Clone, Debug)]
pub enum Answer {
    Body(u16, String),
    Reset,
    /// The host can't send.
    NotSent,
}

pub fn keys(list: &str) -> Answer {
    Answer::Body(200, format!("keys: {list}."))
}

pub struct World {
    pub process: Process,
    pub workers: Vec<Worker>,
    pub fetches: usize,
    pub caching: Caching,
    pub source: Source,
    pub settings: Settings,
}

impl World {
    pub fn new(workers: usize) -> World {
        World::with(workers, source(), Settings::default())
    }

    pub fn with(workers: usize, source: Source, settings: Settings) -> World {
        let mut world = World {
            process: Process::new(Clock::at(Timestamp::from_seconds(1_800_000_000))),
            workers: Vec::new(),
            fetches: 0,
            caching: Caching::Unsaid,
            source,
            settings,
        };
        for _ in 0..workers {
            world.add_worker();
        }
        world
    }

    pub fn add_worker(&mut self) -> usize {
        self.workers.push(self.new_worker());
        self.workers.len() - 1
    }

    fn new_worker(&self) -> Worker {
        Worker {
            host: self.process.worker(),
            source: KeySource::remote(Words, self.source.clone(), self.settings.clone()),
            open: Vec::new(),
        }
    }

    /// The worker is killed and comes back without memory; answers to it are lost.
    pub fn restart(&mut self, worker: usize) {
        self.workers[worker] = self.new_worker();
    }

    pub fn now(&self) -> Timestamp {
        self.process.clock.now()
    }

    pub fn tick(&mut self, worker: usize) -> Option<Fetch> {
        let now = self.now();
        let w = &mut self.workers[worker];
        let fetch = w.source.tick(&w.host, now)?;
        self.fetches += 1;
        w.open.push(fetch.clone());
        Some(fetch)
    }

    pub fn tick_all(&mut self) -> usize {
        (0..self.workers.len())
            .filter(|worker| self.tick(*worker).is_some())
            .count()
    }

    /// Answers the oldest open fetch of a worker.
    pub fn answer(&mut self, worker: usize, answer: &Answer) -> FetchOutcome {
        let fetch = self.workers[worker].open.remove(0);
        self.answer_ticket(worker, fetch.ticket, answer)
    }

    pub fn answer_ticket(
        &mut self,
        worker: usize,
        ticket: Ticket,
        answer: &Answer,
    ) -> FetchOutcome {
        let (now, caching) = (self.now(), self.caching);
        let w = &mut self.workers[worker];
        let (status, body) = match answer {
            Answer::NotSent => return w.source.dispatch_failed(&w.host, now, ticket),
            Answer::Reset => (None, ""),
            Answer::Body(status, body) => (Some(*status), body.as_str()),
        };
        let response = Response {
            status,
            caching,
            body: body.as_bytes(),
        };
        let Answered { outcome, next } = w.source.fetched(&w.host, now, ticket, response);
        if let Some(next) = next {
            self.fetches += 1;
            w.open.push(next);
        }
        outcome
    }

    /// Answers all that is open, further requests of the same attempts too.
    pub fn answer_all(&mut self, answer: &Answer) -> usize {
        let mut answered = 0;
        for worker in 0..self.workers.len() {
            while !self.workers[worker].open.is_empty() {
                self.answer(worker, answer);
                answered += 1;
            }
        }
        answered
    }

    /// Lets seconds pass, with a tick of every worker and an answer at once in each.
    pub fn run(&mut self, seconds: u64, answer: &Answer) {
        for _ in 0..seconds {
            self.process.clock.advance(secs(1));
            self.tick_all();
            self.answer_all(answer);
        }
    }

    /// Fetches for the first time, and lets all workers know.
    pub fn started(mut self, list: &str) -> World {
        self.tick_all();
        self.answer_all(&keys(list));
        self.tick_all();
        for worker in &self.workers {
            assert_eq!(worker.source.availability(), Availability::Fresh);
        }
        self
    }

    pub fn resolve(&mut self, worker: usize, kid: &str, waiting: &mut Waiting) -> Got {
        let now = self.now();
        let w = &mut self.workers[worker];
        match w.source.resolve(&w.host, now, Some(kid), waiting) {
            Resolve::Keys(_) => Got::Keys,
            Resolve::Wait => Got::Wait,
            Resolve::UnknownKid => Got::Unknown,
            Resolve::Unavailable { retry_after } => Got::Unavailable(retry_after),
        }
    }

    pub fn ask(&mut self, worker: usize, kid: &str) -> Got {
        self.resolve(worker, kid, &mut Waiting::default())
    }

    pub fn availability(&self, worker: usize) -> Availability {
        self.workers[worker].source.availability()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    Keys,
    Wait,
    Unknown,
    Unavailable(u64),
}
