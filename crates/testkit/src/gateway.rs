//! A chain of policies between a client and an upstream that answers 200.

use std::time::Duration;

use tollgate_core::chain::{Chain, Judged, Kept, Outcome, Policies, Responded, Verdict, Waiting};
use tollgate_core::config::ConfigErrors;
use tollgate_core::headers::{Headers, RequestEdit};
use tollgate_core::host::{CalloutId, CalloutResponse};
use tollgate_core::policy::{Glimpse, ResponseSource};
use tollgate_core::problem::LocalReply;
use tollgate_core::time::Timestamp;

use crate::host::{Clock, MemoryHost, Process};

/// A configured plugin on one worker.
pub struct Gateway<P> {
    /// The worker that it runs on.
    pub host: MemoryHost,
    chain: Chain<P>,
}

impl<P: Policies> Gateway<P> {
    /// Starts a process with one worker. Its clock shows 2026-11-20T12:00:00Z.
    pub fn start(config: &serde_json::Value) -> Result<Self, ConfigErrors> {
        let clock = Clock::at(Timestamp::from_seconds(1_795_176_000));
        Self::on(Process::new(clock).worker(), config)
    }

    /// Configures the plugin on a given worker.
    pub fn on(host: MemoryHost, config: &serde_json::Value) -> Result<Self, ConfigErrors> {
        let chain = Chain::configure("test.wasm", config.to_string().as_bytes(), &host)?;
        Ok(Gateway { host, chain })
    }

    /// The clock of the process.
    pub fn clock(&self) -> &Clock {
        &self.host.process.clock
    }

    /// Sends a request through the chain, and ends its stream.
    pub fn send(&self, request: Request) -> Reply {
        let (reply, open) = self.begin(request);
        self.end(open);
        reply
    }

    /// Ends a stream.
    pub fn end(&self, Open(kept): Open<P>) {
        self.chain.on_end(&self.host, kept);
    }

    /// Sends a request through the chain, where it does not wait; its stream stays open.
    pub fn begin(&self, request: Request) -> (Reply, Open<P>) {
        match self.submit(request) {
            Submitted::Answered(reply, open) => (reply, open),
            Submitted::Waiting(_) => panic!("the request waits"),
        }
    }

    /// Sends a request through the chain, where it may wait.
    pub fn submit(&self, request: Request) -> Submitted<P> {
        self.host.filter_state.borrow_mut().clear();
        let headers = Headers::from_pairs(request.headers.iter().map(|(n, v)| (n.as_str(), v)));
        let verdict = self.chain.on_request(&self.host, headers);
        submitted(request, verdict)
    }

    /// Takes up a request that waits.
    pub fn resume(&self, Paused { request, waiting }: Paused<P>) -> Submitted<P> {
        let verdict = self.chain.on_resume(&self.host, *waiting);
        submitted(request, verdict)
    }

    /// Ends the stream of a request that waits.
    pub fn abandon(&self, paused: Paused<P>) {
        self.chain.on_abandoned(&self.host, *paused.waiting);
    }

    /// Lets the host answer a request that waits. Its stream stays open, for that answer.
    pub fn overtake(&self, paused: Paused<P>) -> Open<P> {
        self.host.filter_state.borrow_mut().clear();
        Open(self.chain.on_overtaken(&self.host, *paused.waiting))
    }

    /// Lets the policies do what is not for one request.
    pub fn tick(&self) -> Option<Duration> {
        self.chain.on_tick(&self.host)
    }

    /// Answers a callout; no status stands for an answer that broke off.
    pub fn answer(
        &self,
        id: CalloutId,
        status: Option<u16>,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let status = status.map(|status| status.to_string());
        let pseudo = status.iter().map(|status| (":status", status.as_str()));
        let headers = Headers::from_pairs(pseudo.chain(headers.iter().copied()));
        let response = CalloutResponse {
            headers: &headers,
            body,
            trailers: &Headers::default(),
        };
        self.chain.on_callout(&self.host, id, &response);
    }

    /// Sends a response through the chain, which sees it if it has to.
    pub fn respond(
        &self,
        Open(kept): &mut Open<P>,
        status: u16,
        headers: &[(&str, &str)],
        source: &ResponseSource,
    ) -> Responded {
        let text = status.to_string();
        let pseudo = [(":status", text.as_str())];
        let headers = Headers::from_pairs(pseudo.iter().chain(headers).copied());
        let response = Response {
            headers: &headers,
            is_error: status >= 400 || (kept.is_call() && is_failed_call(&headers)),
        };
        match self.chain.has_to_see(kept, &response) {
            true => self.chain.on_response(&self.host, kept, &headers, source),
            false => Responded::Change(kept.response.clone()),
        }
    }

    /// The answer to a request whose headers the host does not hand over.
    pub fn fail_to_read(&self) -> LocalReply {
        self.chain.on_unreadable_request(&self.host)
    }

    /// The answer to a request that passes, and whose headers the host does not change.
    pub fn fail_to_change(&self, request: Request) -> LocalReply {
        let headers = Headers::from_pairs(request.headers.iter().map(|(n, v)| (n.as_str(), v)));
        let (reply, Open(kept)) = self.begin(request);
        assert!(reply.upstream.is_some(), "{reply:?}");
        let reply = self
            .chain
            .on_unchangeable_request(&self.host, &kept, &headers);
        self.end(Open(kept));
        reply
    }

    /// Sends trailers through the chain, and gives those that are left.
    pub fn send_trailers(&self, trailers: &[(&str, &str)]) -> Vec<String> {
        let headers = Headers::from_pairs(trailers.iter().copied());
        let removed: Vec<&str> = self.chain.on_request_trailers(&headers).collect();
        let left = trailers.iter().filter(|(name, _)| !removed.contains(name));
        left.map(|(name, _)| (*name).to_owned()).collect()
    }
}

/// A response as the host gives a glimpse of it.
struct Response<'a> {
    headers: &'a Headers,
    is_error: bool,
}

impl Glimpse for Response<'_> {
    fn is_error(&self) -> bool {
        self.is_error
    }

    fn has(&self, name: &str) -> bool {
        self.headers.get(name).is_some()
    }
}

fn is_failed_call(headers: &Headers) -> bool {
    headers.get("grpc-status").is_some_and(|code| code != b"0")
}

/// What became of a request that may wait.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every one is answered, as in what it is made of"
)]
pub enum Submitted<P: Policies> {
    /// It was judged.
    Answered(Reply, Open<P>),
    /// It waits.
    Waiting(Paused<P>),
}

impl<P: Policies> Submitted<P> {
    /// The answer to a request that does not wait.
    pub fn reply(self) -> Reply {
        match self {
            Submitted::Answered(reply, _) => reply,
            Submitted::Waiting(_) => panic!("the request waits"),
        }
    }

    /// The request, which waits.
    pub fn paused(self) -> Paused<P> {
        match self {
            Submitted::Answered(reply, _) => panic!("the request was answered: {reply:?}"),
            Submitted::Waiting(paused) => paused,
        }
    }
}

/// A request that waits.
pub struct Paused<P: Policies> {
    request: Request,
    waiting: Box<Waiting<P::Streams>>,
}

fn submitted<P: Policies>(request: Request, verdict: Verdict<P::Streams>) -> Submitted<P> {
    match verdict {
        Verdict::Judged(judged) => {
            let (reply, open) = concluded(request, judged);
            Submitted::Answered(reply, open)
        }
        Verdict::Waiting(waiting) => Submitted::Waiting(Paused { request, waiting }),
    }
}

fn concluded<P: Policies>(request: Request, judged: Judged<P::Streams>) -> (Reply, Open<P>) {
    let Judged {
        outcome,
        edits,
        kept,
    } = judged;
    let mut changed = request.headers;
    for edit in edits.iter() {
        match edit {
            RequestEdit::Remove(name) => changed.retain(|(found, _)| *name != **found),
            RequestEdit::Set(name, value) => {
                changed.retain(|(found, _)| *name != **found);
                changed.push((name.to_string(), value.as_bytes().to_vec()));
            }
        }
    }
    let changed = Seen(changed);
    let reply = match outcome {
        Outcome::Forward => Reply {
            status: 200,
            headers: kept
                .response
                .iter()
                .map(|header| (header.name.to_string(), header.value.to_string()))
                .collect(),
            body: Vec::new(),
            details: String::new(),
            upstream: Some(changed.clone()),
            logged: changed,
        },
        Outcome::Reply(reply) => Reply {
            status: reply.status,
            headers: reply
                .headers
                .into_iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            body: reply.body,
            details: reply.details,
            upstream: None,
            logged: changed,
        },
    };
    (reply, Open(kept))
}

/// A stream whose request was judged and that has not ended.
pub struct Open<P: Policies>(Kept<P::Streams>);

/// A request; `GET /` of `api.example` to begin with.
#[derive(Clone, Debug)]
pub struct Request {
    headers: Vec<(String, Vec<u8>)>,
}

impl Request {
    /// A request with this method and path.
    pub fn new(method: &str, path: &str) -> Self {
        let pseudo = [
            (":authority", "api.example"),
            (":method", method),
            (":path", path),
        ];
        Request {
            headers: pseudo
                .map(|(name, value)| (name.to_owned(), value.into()))
                .to_vec(),
        }
    }

    /// A GET request.
    pub fn get(path: &str) -> Self {
        Request::new("GET", path)
    }

    /// Adds a header, also a second one of the same name.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// All values of a header.
    pub fn header_values(&self, name: &str) -> Vec<String> {
        Seen(self.headers.clone()).all(name)
    }

    /// Removes all headers of a name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| found != name);
        self
    }
}

/// What came back, and what the upstream saw if it was asked.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers that the gateway has set.
    pub headers: Vec<(String, String)>,
    /// The body of an answer of the gateway's own.
    pub body: Vec<u8>,
    /// What Envoy shows as the response code's details.
    pub details: String,
    /// The request as the upstream saw it.
    pub upstream: Option<Seen>,
    /// The request as access logs show it, also where it was refused.
    pub logged: Seen,
}

impl Reply {
    /// A header that the gateway has set.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body of a problem.
    pub fn problem(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a problem's body is JSON")
    }

    /// The kind of a problem.
    pub fn kind(&self) -> String {
        self.problem()["kind"]
            .as_str()
            .expect("a problem has a kind")
            .to_owned()
    }
}

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
pub struct Seen(pub Vec<(String, Vec<u8>)>);

impl Seen {
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(found, _)| found == name);
        values
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// The only value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        assert!(all.len() <= 1, "{name} is repeated: {all:?}");
        all.pop()
    }
}
