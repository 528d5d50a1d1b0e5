//! A session: what happens, and the books that are kept of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use arbitrary::Arbitrary;
use serde_json::json;
use tollgate_core::host::CalloutId;
use tollgate_core::policy::ResponseSource;
use tollgate_core::time::Timestamp;
use tollgate_testkit::{Clock, Fault, Gateway, Open, Paused, Process, Reply, Request, Submitted};

use super::model::{self, Carried};
use crate::setup::{
    self, ACME_KEY, BAD_TOKENS, CURIO_KEY, Full, GOOD_TOKENS, PLACES, QUOTA, START,
};

const DAY: u64 = 86_400;

/// One thing that happens.
#[derive(Arbitrary, Debug)]
pub(super) enum Action<'a> {
    Send {
        worker: bool,
        head: Head<'a>,
    },
    Respond {
        which: u8,
        status: u16,
        headers: Vec<(&'a str, &'a str)>,
        own: Option<&'a str>,
    },
    End {
        which: u8,
    },
    Resume {
        which: u8,
    },
    Leave {
        which: u8,
    },
    Tick {
        worker: bool,
    },
    Answer {
        worker: bool,
        answer: Answer<'a>,
    },
    Wait {
        millis: u32,
    },
    StepBack {
        seconds: u16,
    },
    Fail {
        worker: bool,
        faults: Vec<Failure>,
    },
    Overwrite {
        which: u8,
        bytes: &'a [u8],
    },
}

/// A request's head.
#[derive(Arbitrary, Debug)]
pub(super) struct Head<'a> {
    method: Method<'a>,
    path: Path<'a>,
    host: Option<&'a str>,
    address: Option<u8>,
    credentials: Vec<(Place, Secret<'a>)>,
    headers: Vec<(Name<'a>, &'a [u8])>,
}

#[derive(Arbitrary, Debug)]
enum Method<'a> {
    Get,
    Post,
    Options,
    Other(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Path<'a> {
    Open,
    Tokens,
    Keys,
    Both,
    Either,
    Old,
    Ended,
    Below(&'a str),
    Any(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum Place {
    Bearer,
    TokenHeader,
    TokenQuery,
    TokenCookie,
    KeyHeader,
    KeyQuery,
    KeyCookie,
}

#[derive(Arbitrary, Debug)]
enum Secret<'a> {
    Acme,
    Curio,
    Good(u8),
    Bad(u8),
    Any(&'a str),
}

/// Names that mean something here, and any other.
#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Known(u8),
    Any(&'a str),
}

const NAMES: [&str; 18] = [
    "x-consumer-id",
    "x-consumer-plan",
    "x_consumer_id",
    "x-subject",
    "x.subject",
    "x-payload",
    "authorization",
    "x-api-key",
    "cookie",
    "accept",
    "origin",
    "access-control-request-method",
    "content-type",
    "x-request-id",
    "traceparent",
    "x-tenant",
    "x-forwarded-for",
    "te",
];

#[derive(Arbitrary, Debug)]
pub(super) enum Answer<'a> {
    Keys,
    Nothing,
    Any { status: u16, body: &'a [u8] },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Failure {
    LostRace,
    ReadFails,
    WriteFails,
}

/// Two workers, what is under way, and the books.
pub(super) struct Session {
    workers: [Gateway<Full>; 2],
    open: Vec<(usize, Under, Open<Full>)>,
    waiting: Vec<(usize, Under, Paused<Full>)>,
    callouts: [Vec<CalloutId>; 2],
    books: Books,
}

/// Who sent a request.
#[derive(Clone, Copy)]
struct Under {
    carried: Carried,
    address: Option<u8>,
}

/// What was counted by hand.
#[derive(Default)]
struct Books {
    judged: u64,
    admitted: u64,
    /// Admitted requests by consumer and day.
    charged: BTreeMap<(String, u64), u64>,
    /// Whether the clock was stepped back, or the state overwritten: what was used may be forgotten.
    disturbed: bool,
}

impl Session {
    pub(super) fn start() -> Self {
        let process = Process::new(Clock::at(START));
        let worker = || {
            let host = process.worker();
            host.clusters.borrow_mut().push("idp".to_owned());
            Gateway::on(host, &setup::document()).unwrap_or_else(|errors| panic!("{errors}"))
        };
        Session {
            workers: [worker(), worker()],
            open: Vec::new(),
            waiting: Vec::new(),
            callouts: Default::default(),
            books: Books::default(),
        }
    }

    fn clock(&self) -> &Clock {
        self.workers[0].clock()
    }

    pub(super) fn act(&mut self, action: &Action<'_>) {
        match action {
            Action::Send { worker, head } => self.send(usize::from(*worker), head),
            Action::Respond {
                which,
                status,
                headers,
                own,
            } => {
                self.respond(*which, *status, headers, *own);
            }
            Action::End { which } => {
                if let Some((worker, _, open)) = take(&mut self.open, *which) {
                    self.workers[worker].end(open);
                }
            }
            Action::Resume { which } => {
                if let Some((worker, under, paused)) = take(&mut self.waiting, *which) {
                    let submitted = self.workers[worker].resume(paused);
                    self.note(worker, under, submitted);
                }
            }
            Action::Leave { which } => {
                if let Some((worker, _, paused)) = take(&mut self.waiting, *which) {
                    self.workers[worker].abandon(paused);
                    self.books.judged += 1;
                }
            }
            Action::Tick { worker } => self.tick(usize::from(*worker)),
            Action::Answer { worker, answer } => self.answer(usize::from(*worker), answer),
            Action::Wait { millis } => {
                self.clock()
                    .advance(Duration::from_millis(u64::from(*millis) % 50_000_000));
            }
            Action::StepBack { seconds } => {
                let now = self.clock().now().as_seconds();
                let before = u64::try_from(now)
                    .unwrap_or_default()
                    .saturating_sub(u64::from(*seconds));
                self.clock().set(Timestamp::from_seconds(before));
                self.books.disturbed |= *seconds > 0;
            }
            Action::Fail { worker, faults } => {
                let faults = faults.iter().take(70).map(|fault| match fault {
                    Failure::LostRace => Fault::LostRace,
                    Failure::ReadFails => Fault::ReadFails,
                    Failure::WriteFails => Fault::WriteFails,
                });
                self.workers[usize::from(*worker)].host.inject(faults);
            }
            Action::Overwrite { which, bytes } => self.overwrite(*which, bytes),
        }
    }

    fn send(&mut self, worker: usize, head: &Head<'_>) {
        let headers = head.headers();
        let carried = Carried::by(&headers);
        let mut request = Request::get("")
            .without(":path")
            .without(":method")
            .without(":authority");
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let gateway = &self.workers[worker];
        let address = head
            .address
            .map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last % 8)));
        gateway.host.client_address.set(address);
        let under = Under {
            carried,
            address: head.address.map(|last| last % 8),
        };
        let submitted = gateway.submit(request);
        self.note(worker, under, submitted);
    }

    fn note(&mut self, worker: usize, under: Under, submitted: Submitted<Full>) {
        match submitted {
            Submitted::Answered(reply, open) => {
                model::check(under.carried, &reply);
                self.enter(&reply);
                if reply.upstream.is_some() {
                    self.open.push((worker, under, open));
                    self.places(under.address);
                } else {
                    self.workers[worker].end(open);
                }
            }
            Submitted::Waiting(paused) => self.waiting.push((worker, under, paused)),
        }
    }

    /// Writes a judgement into the books.
    fn enter(&mut self, reply: &Reply) {
        self.books.judged += 1;
        let Some(seen) = &reply.upstream else {
            return;
        };
        self.books.admitted += 1;
        let Some(consumer) = seen.header("x-consumer-id") else {
            return;
        };
        let day = u64::try_from(self.clock().now().as_seconds()).unwrap_or_default() / DAY;
        let charged = self.books.charged.entry((consumer, day)).or_default();
        *charged += 1;
        assert!(
            *charged <= QUOTA || self.books.disturbed,
            "{charged} of {QUOTA} a day"
        );
    }

    /// Nobody has more requests under way than places.
    fn places(&self, address: Option<u8>) {
        // A lease that lasts a day is given up in the second day after.
        let now = self.clock().now().as_seconds();
        let early = now < START.as_seconds() + 43_200;
        if early && !self.books.disturbed {
            let held = self
                .open
                .iter()
                .filter(|(_, under, _)| under.address == address);
            assert!(held.count() <= PLACES);
        }
    }

    fn respond(&mut self, which: u8, status: u16, headers: &[(&str, &str)], own: Option<&str>) {
        let count = self.open.len();
        if count == 0 {
            return;
        }
        let (worker, _, open) = &mut self.open[usize::from(which) % count];
        let source = match own {
            None => ResponseSource::Upstream,
            Some(details) => ResponseSource::Gateway(details.to_owned()),
        };
        let responded = self.workers[*worker].respond(open, status, headers, &source);
        drop(responded);
    }

    fn tick(&mut self, worker: usize) {
        self.workers[worker].tick();
        let mut sent = self.workers[worker].host.callouts.borrow_mut();
        self.callouts[worker].extend(sent.drain(..).map(|sent| sent.id));
    }

    fn answer(&mut self, worker: usize, answer: &Answer<'_>) {
        let Some(id) = self.callouts[worker].pop() else {
            return;
        };
        let (status, body) = match answer {
            Answer::Keys => {
                let keys = json!({ "keys": [setup::jwk(2, "remote")] });
                (Some(200), keys.to_string().into_bytes())
            }
            Answer::Nothing => (None, Vec::new()),
            Answer::Any { status, body } => (Some(*status), body.to_vec()),
        };
        self.workers[worker].answer(id, status, &[("cache-control", "max-age=60")], &body);
    }

    fn overwrite(&mut self, which: u8, bytes: &[u8]) {
        let process = &self.workers[0].host.process;
        let mut keys = process.shared_keys();
        // Keys of an issuer are only ever written by a gateway that has checked them; whoever can
        // write there has no need of a token.
        keys.retain(|key| !key.starts_with("tollgate/jwks/"));
        keys.sort();
        if keys.is_empty() {
            return;
        }
        process.put(&keys[usize::from(which) % keys.len()], bytes);
        self.books.disturbed = true;
    }

    /// Ends everything, and compares the books with what was counted.
    pub(super) fn close(mut self) {
        for (worker, _, open) in self.open.drain(..) {
            self.workers[worker].end(open);
        }
        for (worker, _, paused) in self.waiting.drain(..) {
            self.workers[worker].abandon(paused);
            self.books.judged += 1;
        }
        let counters = self.workers[0].host.process.counters();
        let sum = |part: &str| -> u64 {
            let named = counters.iter().filter(|(name, _)| {
                name.contains("tollgate_requests_total") && name.contains(part)
            });
            named.map(|(_, value)| value).sum()
        };
        assert_eq!(
            sum("decision=.=allow;"),
            self.books.admitted,
            "{counters:?}"
        );
        assert!(sum("") <= self.books.judged, "{counters:?}");
    }
}

fn take<T>(list: &mut Vec<T>, which: u8) -> Option<T> {
    match list.len() {
        0 => None,
        length => Some(list.swap_remove(usize::from(which) % length)),
    }
}

impl Head<'_> {
    fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let mut path = self.path.bytes();
        let mut cookies = Vec::new();
        let mut headers = vec![
            (":method".to_owned(), self.method.bytes()),
            (
                ":authority".to_owned(),
                self.host.unwrap_or("api.example").into(),
            ),
        ];
        for (place, secret) in &self.credentials {
            let secret = secret.text();
            let mut add = |name: &str, value: String| headers.push((name.to_owned(), value.into()));
            match place {
                Place::Bearer => add("authorization", format!("Bearer {secret}")),
                Place::TokenHeader => add("x-token", secret),
                Place::KeyHeader => add("x-api-key", secret),
                Place::TokenCookie => cookies.push(format!("token={secret}")),
                Place::KeyCookie => cookies.push(format!("key={secret}")),
                Place::TokenQuery | Place::KeyQuery => {
                    let name = match place {
                        Place::KeyQuery => "api_key",
                        _ => "access_token",
                    };
                    let mark = if path.contains(&b'?') { '&' } else { '?' };
                    path.extend(format!("{mark}{name}={secret}").bytes());
                }
            }
        }
        if !cookies.is_empty() {
            headers.push(("cookie".to_owned(), cookies.join("; ").into()));
        }
        headers.push((":path".to_owned(), path));
        for (name, value) in &self.headers {
            let name = match name {
                Name::Known(index) => NAMES[usize::from(*index) % NAMES.len()].to_owned(),
                // As Envoy hands them over: in lower case, no pseudo-header, never empty.
                Name::Any(name) => name.trim_start_matches(':').to_ascii_lowercase(),
            };
            if !name.is_empty() {
                headers.push((name, value.to_vec()));
            }
        }
        headers
    }
}

impl Method<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Method::Get => b"GET".to_vec(),
            Method::Post => b"POST".to_vec(),
            Method::Options => b"OPTIONS".to_vec(),
            Method::Other(method) => method.as_bytes().to_vec(),
        }
    }
}

impl Path<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Path::Open => b"/open/a".to_vec(),
            Path::Tokens => b"/tokens/a".to_vec(),
            Path::Keys => b"/keys/a".to_vec(),
            Path::Both => b"/both/a".to_vec(),
            Path::Either => b"/either/a".to_vec(),
            Path::Old => b"/old/a".to_vec(),
            Path::Ended => b"/ended/a".to_vec(),
            Path::Below(rest) => format!("/open/{rest}").into(),
            Path::Any(bytes) => bytes.to_vec(),
        }
    }
}

impl Secret<'_> {
    fn text(&self) -> String {
        match self {
            Secret::Acme => ACME_KEY.to_owned(),
            Secret::Curio => CURIO_KEY.to_owned(),
            Secret::Good(index) => GOOD_TOKENS[usize::from(*index) % GOOD_TOKENS.len()].clone(),
            Secret::Bad(index) => BAD_TOKENS[usize::from(*index) % BAD_TOKENS.len()].clone(),
            Secret::Any(text) => (*text).to_owned(),
        }
    }
}
