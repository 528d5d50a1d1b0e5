//! Some Envoys with skewed clocks, one counter, and messages that arrive in any order, more than
//! once or not at all.

use proptest::prelude::*;

use super::{MS, NO_JITTER, OPENS};
use crate::model::Counter;
use crate::{Decision, Ledger, RateBound, Reply, Request, Settings, Settled, Terms};

/// One thing that happens. Indices are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// Time passes.
    Pass { ms: u64 },
    /// Requests of a client, one after the other.
    Demand { envoy: usize, cost: u64, times: u8 },
    /// An Envoy looks what is due.
    Tick { envoy: usize },
    /// An Envoy gives up waiting for a reply.
    GiveUp { envoy: usize },
    /// A message arrives; a copy of it stays under way, or not.
    Deliver { message: usize, keep: bool },
    /// A message is lost.
    Lose { message: usize },
    /// Client's requests, answered without anything getting lost.
    Serve { envoy: usize, times: u8 },
    /// An Envoy's clock steps.
    Step { envoy: usize, part: u64 },
    /// An Envoy ends without a word, and another takes its place.
    Crash { envoy: usize },
    /// The store goes back to a copy of its data.
    Restore,
    /// The store makes a copy of its data.
    Save,
}

pub(super) fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = || 0_usize..64;
    let event = prop_oneof![
        4 => (0_u64..400).prop_map(|ms| Event::Pass { ms }),
        6 => (index(), 1_u64..4, 1_u8..30)
            .prop_map(|(envoy, cost, times)| Event::Demand { envoy, cost, times }),
        3 => index().prop_map(|envoy| Event::Tick { envoy }),
        1 => index().prop_map(|envoy| Event::GiveUp { envoy }),
        8 => (index(), any::<bool>())
            .prop_map(|(message, keep)| Event::Deliver { message, keep }),
        1 => index().prop_map(|message| Event::Lose { message }),
        2 => (index(), 1_u8..30).prop_map(|(envoy, times)| Event::Serve { envoy, times }),
        1 => (index(), 0_u64..=100).prop_map(|(envoy, part)| Event::Step { envoy, part }),
    ];
    prop::collection::vec(event, 1..250)
}

/// The same, and now and then one of these.
pub(super) fn events_with(rare: Vec<Event>) -> impl Strategy<Value = Vec<Event>> {
    let rare = (prop::sample::select(rare), 0_usize..64).prop_map(|(event, envoy)| match event {
        Event::Crash { .. } => Event::Crash { envoy },
        other => other,
    });
    let rare = prop::collection::vec((rare, any::<prop::sample::Index>()), 0..6);
    (events(), rare).prop_map(|(mut events, rare)| {
        for (event, at) in rare {
            events.insert(at.index(events.len()), event);
        }
        events
    })
}

enum Message {
    Request { id: u64, request: Request },
    Reply { id: u64, reply: Reply },
}

pub(super) struct Envoy {
    /// New after each crash.
    pub(super) id: u64,
    pub(super) ledger: Ledger,
    /// How far its clock is ahead of the true time, plus the most it can be behind.
    offset: u64,
    /// Its throttle: units, and when they were counted.
    tokens: (f64, u64),
    /// When usage was admitted, and what was consumed with it.
    admissions: Vec<(u64, u64)>,
}

pub(super) struct World {
    settings: Settings,
    pub(super) terms: Terms,
    /// The true time.
    now: u64,
    pub(super) envoys: Vec<Envoy>,
    messages: Vec<Message>,
    pub(super) store: Counter,
    saved: Counter,
    /// What was ever admitted.
    pub(super) admitted: u64,
    /// What Envoys that crashed had admitted and not told.
    pub(super) untold: u64,
    pub(super) crashes: u64,
    ids: u64,
    /// Whether usage is always booked in time, as the theorem assumes.
    books_in_time: bool,
}

impl World {
    pub(super) fn new(settings: Settings, books_in_time: bool) -> Self {
        let ids = u64::from(settings.envoys.get());
        let envoy = |id| Envoy {
            id,
            ledger: Ledger::new(OPENS),
            offset: settings.skew_ns / ids * id,
            tokens: (burst(&settings), OPENS),
            admissions: Vec::new(),
        };
        World {
            settings,
            terms: Terms::new(settings),
            // Some clocks are behind: their window opens later.
            now: OPENS + settings.skew_ns,
            envoys: (1..=ids).map(envoy).collect(),
            messages: Vec::new(),
            store: Counter::default(),
            saved: Counter::default(),
            admitted: 0,
            untold: 0,
            crashes: 0,
            ids,
            books_in_time,
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        let count = self.envoys.len();
        match event {
            Event::Pass { ms } => self.pass(ms * MS),
            Event::Demand { envoy, cost, times } => {
                for _ in 0..times {
                    if !self.demand(envoy % count, cost) {
                        break;
                    }
                }
            }
            Event::Tick { envoy } => {
                let now = self.clock(envoy % count);
                if self.envoys[envoy % count]
                    .ledger
                    .due(&self.terms, now)
                    .is_some()
                {
                    self.send(envoy % count, 0);
                }
            }
            Event::GiveUp { envoy } => self.give_up(envoy % count),
            Event::Deliver { message, keep } if !self.messages.is_empty() => {
                let message = self.messages.remove(message % self.messages.len());
                if keep && self.messages.len() < 50 {
                    self.messages.push(message.copy());
                }
                self.deliver(message);
            }
            Event::Lose { message } if !self.messages.is_empty() => {
                self.messages.remove(message % self.messages.len());
            }
            Event::Deliver { .. } | Event::Lose { .. } => {}
            Event::Serve { envoy, times } => {
                for _ in 0..times {
                    self.serve(envoy % count, 1);
                }
            }
            Event::Step { envoy, part } => {
                self.envoys[envoy % count].offset = self.settings.skew_ns * part / 100;
            }
            Event::Crash { envoy } => self.crash(envoy % count),
            Event::Restore => self.store = self.saved.clone(),
            Event::Save => self.saved = self.store.clone(),
        }
    }

    /// A request, answered without anything getting lost. Whether it was admitted.
    pub(super) fn serve(&mut self, envoy: usize, cost: u64) -> bool {
        for _ in 0..4 {
            if self.demand(envoy, cost) {
                return true;
            }
            self.converse(envoy);
        }
        false
    }

    /// Lets everybody tell and give back everything, without anything getting lost.
    pub(super) fn flush(&mut self) {
        self.messages.clear();
        for _ in 0..20 {
            self.pass(self.terms.interval_ns * 3);
            for envoy in 0..self.envoys.len() {
                self.give_up(envoy);
                self.pass(self.terms.interval_ns * 3);
                let now = self.clock(envoy);
                if self.envoys[envoy].ledger.due(&self.terms, now).is_some() {
                    self.send(envoy, 0);
                    self.converse(envoy);
                }
            }
        }
        for envoy in &self.envoys {
            assert!(envoy.ledger.is_settled());
            let now = self.now + self.settings.skew_ns;
            assert_eq!(envoy.ledger.next_due(&self.terms, now), None);
        }
    }

    /// Lets one Envoy have an exchange, without anything getting lost.
    pub(super) fn settle(&mut self, envoy: usize) {
        self.give_up(envoy);
        self.send(envoy, 0);
        self.converse(envoy);
    }

    /// What the living Envoys have admitted.
    pub(super) fn consumed(&self) -> u64 {
        let consumed = self.envoys.iter().map(|envoy| envoy.ledger.consumed());
        consumed.sum()
    }

    /// What is booked for the living.
    pub(super) fn booked(&self) -> u64 {
        self.envoys.iter().map(|e| self.store.upto(e.id)).sum()
    }

    pub(super) fn pass(&mut self, ns: u64) {
        let until = self.now + ns;
        while self.books_in_time
            && let Some((due, envoy)) = self.next_booking()
            && due <= until
        {
            self.now = self.now.max(due);
            self.give_up(envoy);
            self.send(envoy, 0);
            let last = self.messages.pop().unwrap();
            self.deliver(last);
        }
        self.now = until;
    }

    /// When the first usage that is not booked has to be, and whose it is.
    fn next_booking(&self) -> Option<(u64, usize)> {
        let bookings = self.envoys.iter().enumerate().filter_map(|(index, envoy)| {
            let upto = self.store.upto(envoy.id);
            let (at, _) = envoy
                .admissions
                .iter()
                .find(|(_, consumed)| *consumed > upto)?;
            Some((at + self.terms.horizon_ns(), index))
        });
        bookings.min()
    }

    fn clock(&self, envoy: usize) -> u64 {
        self.now - self.settings.skew_ns + self.envoys[envoy].offset
    }

    /// A request of a client; whether it was admitted. One that is not may have sent a message.
    fn demand(&mut self, index: usize, cost: u64) -> bool {
        let now = self.clock(index);
        if now < OPENS || !self.throttle_admits(index, cost) {
            return false;
        }
        let envoy = &mut self.envoys[index];
        match envoy.ledger.decide(&self.terms, cost, now) {
            Decision::Admit => {
                envoy.ledger.consume(cost, now);
                envoy.tokens.0 -= cost as f64;
                envoy.admissions.push((self.now, envoy.ledger.consumed()));
                self.admitted += cost;
                return true;
            }
            Decision::Ask => self.send(index, cost),
            Decision::Refuse { peek: true } => self.send(index, 0),
            Decision::Wait | Decision::Refuse { peek: false } => {}
        }
        false
    }

    fn throttle_admits(&mut self, index: usize, cost: u64) -> bool {
        let Some(rate) = self.settings.rate else {
            return true;
        };
        let (tokens, since) = self.envoys[index].tokens;
        let back = (self.now - since) as f64 * rate.units as f64 / rate.period_ns as f64;
        let tokens = (tokens + back).min(burst(&self.settings));
        self.envoys[index].tokens = (tokens, self.now);
        tokens >= cost as f64
    }

    fn send(&mut self, index: usize, waiting: u64) {
        let now = self.clock(index);
        let envoy = &mut self.envoys[index];
        // What workers share is bytes.
        let mut ledger = Ledger::from_bytes(&envoy.ledger.to_bytes());
        let deadline = self.terms.interval_ns / 2;
        if let Some(request) = ledger.begin(&self.terms, waiting, now, deadline) {
            let id = envoy.id;
            self.messages.push(Message::Request { id, request });
        }
        envoy.ledger = ledger;
    }

    fn give_up(&mut self, index: usize) {
        let now = self.clock(index);
        let ledger = &mut self.envoys[index].ledger;
        ledger.fail(&self.terms, ledger.seq, now, NO_JITTER);
    }

    /// Sends again until there is an answer.
    fn converse(&mut self, index: usize) {
        let id = self.envoys[index].id;
        let is_of = |message: &Message| match message {
            Message::Request { id: of, .. } | Message::Reply { id: of, .. } => *of == id,
        };
        while let Some(at) = self.messages.iter().rposition(is_of) {
            let message = self.messages.remove(at);
            self.deliver(message);
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Request { id, request } => {
                let reply = self.store.exchange(id, &request);
                self.messages.push(Message::Reply { id, reply });
            }
            Message::Reply { id, reply } => {
                let Some(index) = self.envoys.iter().position(|envoy| envoy.id == id) else {
                    return;
                };
                let now = self.clock(index);
                let ledger = &mut self.envoys[index].ledger;
                let settled = ledger.settle(&self.terms, reply, now, NO_JITTER);
                assert_ne!(settled, Settled::Forgotten);
            }
        }
    }

    fn crash(&mut self, index: usize) {
        self.ids += 1;
        self.crashes += 1;
        let envoy = &mut self.envoys[index];
        self.untold += envoy.ledger.unreported();
        envoy.id = self.ids;
        envoy.ledger = Ledger::new(OPENS);
        envoy.admissions.clear();
    }
}

impl Message {
    fn copy(&self) -> Message {
        match self {
            Message::Request { id, request } => Message::Request {
                id: *id,
                request: *request,
            },
            Message::Reply { id, reply } => Message::Reply {
                id: *id,
                reply: *reply,
            },
        }
    }
}

fn burst(settings: &Settings) -> f64 {
    settings
        .rate
        .map_or(0.0, |RateBound { burst, .. }| burst as f64)
}
