//! The contexts that the SDK's dispatcher calls.

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use tollgate_core::chain::{Chain, Judged, Kept, Outcome, Policies, Responded, Verdict, Waiting};
use tollgate_core::config::{Text, more_mistakes};
use tollgate_core::headers::{Headers, RequestEdit, RequestEdits, to_wire};
use tollgate_core::host::{CalloutId, CalloutResponse, Host, MOST_CALLOUT_BODY};
use tollgate_core::policy::{Callbacks, Glimpse, ResponseHeader, ResponseHeaders, ResponseSource};
use tollgate_core::problem::LocalReply;
use tollgate_core::time::Timestamp;

use crate::abi::{self, Failure, MapKind};
use crate::host::Envoy;

const CRITICAL: u32 = 5;

/// How many requests may wait on a worker. Nothing else bounds them: Envoy's circuit breakers count
/// only what has reached the router.
const MOST_WAITING: usize = 1000;

/// How many requests that waited are answered or let go in one call of the host's. It does what that
/// brings about when the call returns, one inside the other, and its stack is not endless: at some
/// 300 the VM dies.
const MOST_AT_ONCE: usize = 32;

/// How soon a tick follows a request that began to wait, so that what it waits for is asked for.
const SOON: Duration = Duration::from_millis(1);

/// The time between two looks at requests that wait, where no callout is answered: something else may
/// have come for them, as another worker's answer, and none waits for ever. The more there are, the
/// longer it is, since each look costs some microseconds for each of them.
const LOOK_FOR_EACH: Duration = Duration::from_micros(100);
const SHORTEST_LOOK: Duration = Duration::from_millis(2);
const LONGEST_LOOK: Duration = Duration::from_millis(20);

/// Makes the SDK run a plugin that holds the policies `P`.
pub fn register<P: Policies + 'static>(name: &'static str) {
    NAME.set(name);
    proxy_wasm::set_root_context(|context_id| {
        Box::new(Root::<P> {
            name: NAME.get(),
            context_id,
            worker: Rc::new(Worker {
                envoy: Envoy::default(),
                tick_period: Cell::new(Duration::ZERO),
                waiting: RefCell::default(),
                next_look: Cell::default(),
            }),
            chain: None,
        })
    });
}

thread_local! {
    /// The name of the `.wasm`; the SDK takes a plain function, which can capture nothing.
    static NAME: Cell<&'static str> = const { Cell::new("") };
}

/// One configuration of the plugin on one worker.
struct Root<P: Policies> {
    name: &'static str,
    context_id: u32,
    worker: Rc<Worker<P>>,
    chain: Option<Rc<Chain<P>>>,
}

/// What a configuration and its streams share.
struct Worker<P: Policies> {
    envoy: Envoy,
    /// The period that Envoy was told last.
    tick_period: Cell<Duration>,
    /// The streams whose requests wait, in the order in which they came.
    waiting: RefCell<Vec<(u32, SharedPhase<P>)>>,
    /// When those are to be taken up.
    next_look: Cell<Timestamp>,
}

/// How far a stream is. A root context takes up requests that wait, so it shares this with them.
type SharedPhase<P> = Rc<RefCell<Phase<P>>>;

enum Phase<P: Policies> {
    /// Its request has not come, or was answered before it was judged, or is just being judged.
    Idle,
    /// Its request waits.
    Waiting(Box<Waiting<P::Streams>>),
    /// Its request was judged.
    Judged {
        /// What is kept of it until the stream ends.
        kept: Kept<P::Streams>,
        /// Whether the response has nothing to get any more, as once we have answered ourselves.
        answered: bool,
    },
}

impl<P: Policies> Worker<P> {
    fn is_crowded(&self) -> bool {
        let waiting = self.waiting.try_borrow();
        waiting.is_ok_and(|waiting| waiting.len() >= MOST_WAITING)
    }

    /// Whether requests that wait are to be taken up now.
    fn is_time_to_look(&self) -> bool {
        let (now, next) = (self.envoy.now(), self.next_look.get());
        // One that is far away was set before the clock stepped back.
        next <= now || next > now.saturating_add(LONGEST_LOOK)
    }

    /// The time until requests that wait are to be taken up.
    fn until_look(&self) -> Duration {
        match self.has_waiting() {
            true => self.next_look.get().saturating_since(self.envoy.now()),
            false => IDLE_TICKS,
        }
    }

    fn has_waiting(&self) -> bool {
        let waiting = self.waiting.try_borrow();
        waiting.is_ok_and(|waiting| !waiting.is_empty())
    }

    fn tick_after(&self, period: Duration) {
        if self.tick_period.replace(period) != period {
            let milliseconds = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
            if let Err(failure) = abi::set_tick_period(milliseconds) {
                self.envoy.log(
                    log::Level::Error,
                    format_args!("tick period not set: {failure:?}"),
                );
            }
        }
    }
}

impl<P: Policies + 'static> Context for Root<P> {
    fn on_http_call_response(
        &mut self,
        token: u32,
        _headers: usize,
        _body: usize,
        _trailers: usize,
    ) {
        let Some(chain) = self.chain.clone() else {
            return;
        };
        // Where the answer broke off, the host has no headers.
        let map = |kind| {
            abi::header_map(kind)
                .map(Headers::from_wire)
                .unwrap_or(Ok(Headers::default()))
                .unwrap_or_default()
        };
        let (headers, trailers) = (
            map(MapKind::CalloutResponse),
            map(MapKind::CalloutResponseTrailers),
        );
        let body = abi::callout_response_body(MOST_CALLOUT_BODY).unwrap_or_default();
        let response = CalloutResponse {
            headers: &headers,
            body: &body,
            trailers: &trailers,
        };
        chain.on_callout(&self.worker.envoy, CalloutId(token), &response);
        if self.worker.has_waiting() {
            self.worker.next_look.set(Timestamp::default());
            self.worker.tick_after(SOON);
        }
    }
}

impl<P: Policies + 'static> RootContext for Root<P> {
    fn on_configure(&mut self, size: usize) -> bool {
        match Chain::configure_from(self.name, &Configuration { size }, &self.worker.envoy) {
            Ok(chain) => {
                if P::CALLBACKS.contains(Callbacks::CALLOUTS) {
                    // Envoy configures a plugin once more than it uses it, to try it out, and ends
                    // that instance: what is asked for only now, at the first tick, is not lost.
                    self.worker.tick_after(SOON);
                }
                self.chain = Some(Rc::new(chain));
                true
            }
            Err(errors) => {
                let mistakes = errors.len();
                abi::log(
                    CRITICAL,
                    &format!("{}: {mistakes} mistake(s) in the configuration", self.name),
                );
                for error in errors.iter() {
                    abi::log(CRITICAL, &format!("{}: {error}", self.name));
                }
                if errors.unlisted() > 0 {
                    let more = more_mistakes(errors.unlisted());
                    abi::log(CRITICAL, &format!("{}: {more}", self.name));
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(chain) = self.chain.clone() {
            let next = chain.on_tick(&self.worker.envoy).unwrap_or(IDLE_TICKS);
            let more = self.worker.is_time_to_look() && self.take_up_waiting(&chain);
            let next = match more {
                true => SOON,
                false => next.min(self.worker.until_look()),
            };
            self.worker.tick_after(next.max(SOON));
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream {
            context_id,
            worker: Rc::clone(&self.worker),
            chain: self.chain.clone(),
            phase: Rc::new(RefCell::new(Phase::Idle)),
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// The document, which the host keeps for as long as it is being read.
struct Configuration {
    size: usize,
}

impl Text for Configuration {
    fn size(&self) -> usize {
        self.size
    }

    fn piece(&self, start: usize, most: usize) -> Option<Vec<u8>> {
        abi::plugin_configuration(start, most).ok()
    }
}

/// The time between ticks where no policy asks for any.
const IDLE_TICKS: Duration = Duration::from_secs(60);

impl<P: Policies> Root<P> {
    /// Takes up the requests that wait, and gives whether there are more than can be taken up at
    /// once. Those that have to wait on stay in their order.
    fn take_up_waiting(&self, chain: &Chain<P>) -> bool {
        let waiting = match self.worker.waiting.try_borrow_mut() {
            Ok(mut waiting) => mem::take(&mut *waiting),
            Err(_) => return false,
        };
        if waiting.is_empty() {
            return false;
        }
        let mut waiting = waiting.into_iter();
        let mut concluded = 0_usize;
        while concluded < MOST_AT_ONCE
            && let Some((context_id, phase)) = waiting.next()
        {
            if self.take_up(chain, context_id, phase) {
                concluded = concluded.saturating_add(1);
            }
        }
        let _ = abi::set_effective_context(self.context_id);
        let more = waiting.len() > 0;
        if let Ok(mut kept) = self.worker.waiting.try_borrow_mut() {
            kept.extend(waiting);
            let look = LOOK_FOR_EACH.saturating_mul(u32::try_from(kept.len()).unwrap_or(u32::MAX));
            let look = look.clamp(SHORTEST_LOOK, LONGEST_LOOK);
            let next = self.worker.envoy.now().saturating_add(look);
            self.worker.next_look.set(next);
        }
        more
    }

    /// Takes up a request that waits, and gives whether it waits no longer.
    fn take_up(&self, chain: &Chain<P>, context_id: u32, phase: SharedPhase<P>) -> bool {
        let Ok(before) = phase
            .try_borrow_mut()
            .map(|mut phase| mem::replace(&mut *phase, Phase::Idle))
        else {
            return false;
        };
        let request = match before {
            Phase::Waiting(request) => request,
            // The stream has ended meanwhile, or the host has answered it.
            other => {
                if let Ok(mut phase) = phase.try_borrow_mut() {
                    *phase = other;
                }
                return false;
            }
        };
        if let Err(failure) = abi::set_effective_context(context_id) {
            self.worker.envoy.log(
                log::Level::Error,
                format_args!("stream {context_id} lost: {failure:?}"),
            );
            chain.on_abandoned(&self.worker.envoy, *request);
            return false;
        }
        let stream = Stream {
            context_id,
            worker: Rc::clone(&self.worker),
            chain: None,
            phase,
        };
        let verdict = chain.on_resume(&self.worker.envoy, *request);
        if matches!(verdict, Verdict::Waiting(_)) {
            stream.conclude(chain, verdict);
            return false;
        }
        if stream.conclude(chain, verdict) == Action::Continue
            && let Err(failure) = abi::continue_request()
        {
            self.worker.envoy.log(
                log::Level::Error,
                format_args!("stream {context_id} not continued: {failure:?}"),
            );
        }
        true
    }
}

/// One request and its response.
struct Stream<P: Policies> {
    context_id: u32,
    worker: Rc<Worker<P>>,
    chain: Option<Rc<Chain<P>>>,
    phase: SharedPhase<P>,
}

impl<P: Policies> Context for Stream<P> {}

impl<P: Policies> HttpContext for Stream<P> {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        // Envoy creates no stream on a plugin whose configuration it has refused.
        let Some(chain) = self.chain.clone() else {
            let _ = abi::send_local_response(503, "tollgate{unconfigured}", b"", b"", None);
            return Action::Pause;
        };
        let headers = abi::header_map(MapKind::Request).map(Headers::from_wire);
        let Ok(Ok(headers)) = headers else {
            return self.answer(&chain.on_unreadable_request(&self.worker.envoy));
        };
        let verdict = chain.on_request(&self.worker.envoy, headers);
        if let Verdict::Waiting(request) = &verdict {
            // What fails here fails once more when the request is judged, and counts then.
            let _ = change(&request.edits());
        }
        self.conclude(&chain, verdict)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let trailers = abi::header_map(MapKind::RequestTrailers).map(Headers::from_wire);
        if let (Some(chain), Ok(Ok(trailers))) = (&self.chain, trailers) {
            for name in chain.on_request_trailers(&trailers) {
                // The host does not fail to remove what it has just listed.
                let _ = abi::remove_header(MapKind::RequestTrailers, name);
            }
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(chain) = self.chain.clone() else {
            return Action::Continue;
        };
        let Ok(mut phase) = self.phase.try_borrow_mut() else {
            return Action::Continue;
        };
        match &mut *phase {
            Phase::Judged { answered: true, .. } => Action::Continue,
            Phase::Judged { kept, answered } => {
                let (action, replaced) = self.respond(&chain, kept);
                *answered = replaced;
                action
            }
            // The host answers by itself what never came to be judged, or waits too long.
            Phase::Idle | Phase::Waiting(_) => {
                let mut kept = match mem::replace(&mut *phase, Phase::Idle) {
                    Phase::Waiting(request) => {
                        self.forget_waiting();
                        chain.on_overtaken(&self.worker.envoy, *request)
                    }
                    Phase::Idle | Phase::Judged { .. } => Kept::default(),
                };
                let (action, answered) = self.respond(&chain, &mut kept);
                *phase = Phase::Judged { kept, answered };
                action
            }
        }
    }
}

/// The end of a stream, when Envoy deletes its context. That it does for every stream, so nothing
/// has to be entered for the log before.
impl<P: Policies> Drop for Stream<P> {
    fn drop(&mut self) {
        let Some(chain) = &self.chain else {
            return;
        };
        match self.set_phase(Phase::Idle) {
            // A stream that Envoy has refused by itself was never judged.
            Phase::Idle => {}
            Phase::Waiting(request) => {
                self.forget_waiting();
                chain.on_abandoned(&self.worker.envoy, *request);
            }
            Phase::Judged { kept, .. } => chain.on_end(&self.worker.envoy, kept),
        }
    }
}

/// The response at hand, asked for one thing after another: a header that is not there costs a
/// tenth of what all of them do.
struct Response {
    is_call: bool,
}

impl Glimpse for Response {
    /// Where the host does not tell, it is looked at.
    fn is_error(&self) -> bool {
        match abi::header(MapKind::Response, ":status") {
            Ok(status) if matches!(status.first(), Some(b'1'..=b'3')) => {
                self.is_call && is_failed_call()
            }
            Ok(_) | Err(_) => true,
        }
    }

    fn has(&self, name: &str) -> bool {
        !matches!(abi::header(MapKind::Response, name), Err(Failure::NotFound))
    }
}

/// Whether the response at hand is the error of a call that has no messages: HTTP status 200, and
/// what trailers would say in the headers (gRPC over HTTP2, "Trailers-Only").
fn is_failed_call() -> bool {
    abi::header(MapKind::Response, "grpc-status").is_ok_and(|code| code != b"0")
}

/// Changes the request's headers.
fn change(edits: &RequestEdits) -> Result<(), Failure> {
    edits.iter().try_for_each(|edit| match edit {
        RequestEdit::Set(name, value) => abi::set_header(MapKind::Request, name, value.as_bytes()),
        RequestEdit::Remove(name) => abi::remove_header(MapKind::Request, name),
    })
}

impl<P: Policies> Stream<P> {
    /// Does to a request what the chain has decided.
    fn conclude(&self, chain: &Chain<P>, verdict: Verdict<P::Streams>) -> Action {
        let Judged {
            outcome,
            edits,
            kept,
        } = match verdict {
            Verdict::Judged(judged) => judged,
            Verdict::Waiting(request) if self.worker.is_crowded() => {
                chain.on_crowded(&self.worker.envoy, *request)
            }
            Verdict::Waiting(request) => {
                self.wait(request);
                return Action::Pause;
            }
        };
        let outcome = match (change(&edits), outcome) {
            // An upstream must not see what should have been removed.
            (Err(_), Outcome::Forward) => Outcome::Reply(self.unchanged(chain, &kept)),
            (_, outcome) => outcome,
        };
        self.set_phase(Phase::Judged {
            kept,
            answered: outcome != Outcome::Forward,
        });
        match outcome {
            Outcome::Forward => Action::Continue,
            Outcome::Reply(reply) => self.answer(&reply),
        }
    }

    /// The answer to a request that Envoy would not change.
    fn unchanged(&self, chain: &Chain<P>, kept: &Kept<P::Streams>) -> LocalReply {
        let headers = abi::header_map(MapKind::Request).map(Headers::from_wire);
        let headers = headers.ok().and_then(Result::ok).unwrap_or_default();
        chain.on_unchangeable_request(&self.worker.envoy, kept, &headers)
    }

    /// Lets the policies see a response, if one of them wants to, and does to it what they decide.
    /// Gives whether another answer has taken its place.
    fn respond(&self, chain: &Chain<P>, kept: &mut Kept<P::Streams>) -> (Action, bool) {
        let response = Response {
            is_call: kept.is_call(),
        };
        let responded = match chain.has_to_see(kept, &response) {
            true => self.show(chain, kept),
            false => None,
        };
        match responded {
            Some(Responded::Replace(reply)) => (self.answer(&reply), true),
            Some(Responded::Change(headers)) => {
                self.change_response(&headers);
                (Action::Continue, false)
            }
            None => {
                self.change_response(&kept.response);
                (Action::Continue, false)
            }
        }
    }

    fn show(&self, chain: &Chain<P>, kept: &mut Kept<P::Streams>) -> Option<Responded> {
        let headers = abi::header_map(MapKind::Response).ok()?;
        let headers = Headers::from_wire(headers).ok()?;
        let source = match abi::property(b"response\0code_details") {
            Ok(details) if details != b"via_upstream" => {
                ResponseSource::Gateway(String::from_utf8_lossy(&details).into_owned())
            }
            _ => ResponseSource::Upstream,
        };
        Some(chain.on_response(&self.worker.envoy, kept, &headers, &source))
    }

    fn change_response(&self, headers: &ResponseHeaders) {
        for ResponseHeader { name, value, joins } in headers.iter() {
            let made = match joins {
                true => abi::add_header(MapKind::Response, name, value.as_bytes()),
                false => abi::set_header(MapKind::Response, name, value.as_bytes()),
            };
            if let Err(failure) = made {
                self.worker.envoy.log(
                    log::Level::Warn,
                    format_args!("response header {name} not set: {failure:?}"),
                );
            }
        }
    }

    fn wait(&self, request: Box<Waiting<P::Streams>>) {
        self.set_phase(Phase::Waiting(request));
        if let Ok(mut waiting) = self.worker.waiting.try_borrow_mut() {
            waiting.push((self.context_id, Rc::clone(&self.phase)));
        }
        self.worker.tick_after(SOON);
    }

    fn forget_waiting(&self) {
        if let Ok(mut waiting) = self.worker.waiting.try_borrow_mut() {
            waiting.retain(|(context_id, _)| *context_id != self.context_id);
        }
    }

    /// Sets how far the stream is, and gives how far it was.
    fn set_phase(&self, phase: Phase<P>) -> Phase<P> {
        match self.phase.try_borrow_mut() {
            Ok(mut current) => mem::replace(&mut *current, phase),
            // Nobody holds it for longer than it takes to exchange it.
            Err(_) => Phase::Idle,
        }
    }

    fn answer(&self, reply: &LocalReply) -> Action {
        let headers = to_wire(&reply.headers);
        let sent = abi::send_local_response(
            reply.status,
            &reply.details,
            &reply.body,
            &headers,
            reply.grpc_status,
        );
        if let Err(failure) = sent {
            self.worker.envoy.log(
                log::Level::Error,
                format_args!("answer {} not sent: {failure:?}", reply.details),
            );
        }
        Action::Pause
    }
}
