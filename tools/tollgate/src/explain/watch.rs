//! Looking on while policies judge a request.

use std::cell::RefCell;
use std::time::Duration;

use serde::Serialize;
use tollgate_core::config::Rejected;
use tollgate_core::credentials::{Credential, Evidence};
use tollgate_core::headers::RequestEdit;
use tollgate_core::host::{CalloutId, CalloutResponse, Host};
use tollgate_core::plugin::Wrap;
use tollgate_core::policy::{
    Callbacks, Compile, Exchange, Halt, Policy, Responding, ResponseHeaders, ResponseUse, Step,
    StepResult, TargetUse,
};
use tollgate_core::problem::{Kind, LocalReply, Problem, RenderContext};

use super::name_of;

/// Puts a [`Watch`] around each policy.
pub(crate) enum Watched {}

impl Wrap for Watched {
    type Of<P: Policy> = Watch<P>;
}

/// A policy that does as always, and tells what it did.
pub(crate) struct Watch<P>(P);

/// What was seen of one request.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) events: Vec<Event>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) problem: Option<(String, String)>,
}

/// What a policy did in a step.
#[derive(Debug, Serialize)]
pub(crate) struct Event {
    pub(crate) step: &'static str,
    pub(crate) policy: &'static str,
    pub(crate) did: Vec<String>,
}

/// A limit that the request met.
#[derive(Debug, Serialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    pub(crate) allowance: u64,
    pub(crate) remaining: u64,
    pub(crate) window_seconds: f64,
    pub(crate) reset_seconds: f64,
}

thread_local! {
    /// A policy has no way to anything but the request; this is for the one at hand.
    static SEEN: RefCell<Seen> = RefCell::default();
}

/// Begins with another request.
pub(crate) fn forget() {
    SEEN.take();
}

/// What was seen of the request.
pub(crate) fn seen() -> Seen {
    SEEN.take()
}

impl<P: Policy> Policy for Watch<P> {
    const SECTION: &'static str = P::SECTION;
    type Section = P::Section;
    type Stream = P::Stream;
    const CREDENTIAL: Option<Credential> = P::CREDENTIAL;
    const DECIDES_ACCESS: bool = P::DECIDES_ACCESS;
    const DEFAULT_SECTION: Option<fn() -> Self::Section> = P::DEFAULT_SECTION;
    const CALLBACKS: Callbacks = P::CALLBACKS;

    fn kinds(kinds: &mut Vec<&'static Kind>) {
        P::kinds(kinds);
    }

    fn compile(section: Self::Section, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        P::compile(section, cx).map(Watch)
    }

    fn target_use(&self) -> TargetUse {
        self.0.target_use()
    }

    fn reserves(&self, header: &[u8]) -> bool {
        self.0.reserves(header)
    }

    fn step<H: Host>(
        &self,
        step: Step,
        stream: &mut Self::Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        let before = State::of(x);
        let result = self.0.step(step, stream, x);
        let mut did = before.changes(x);
        match &result {
            Ok(()) => {}
            Err(Halt::Await) => did.push("lets the request wait for a quota store".to_owned()),
            Err(Halt::AwaitOthers) => {
                did.push("lets the request wait for an issuer's keys".to_owned());
            }
            Err(Halt::Refuse(problem)) => did.push(format!("refuses: {}", problem.kind().name)),
        }
        SEEN.with_borrow_mut(|seen| {
            if let Err(Halt::Refuse(problem)) = &result {
                let kind = problem.kind().name.to_owned();
                seen.problem = Some((kind, problem.detail().to_owned()));
            }
            if !did.is_empty() {
                seen.events.push(Event {
                    step: step_name(step),
                    policy: name_of::<P>(),
                    did,
                });
            }
            seen.limits = limits(x);
        });
        result
    }

    fn undo<H: Host>(&self, stream: &mut Self::Stream, x: &mut Exchange<'_, H>) {
        self.0.undo(stream, x);
    }

    fn response_use(&self, stream: &Self::Stream) -> ResponseUse {
        self.0.response_use(stream)
    }

    fn respond<H: Host>(&self, stream: &mut Self::Stream, r: &mut Responding<'_, H>) {
        self.0.respond(stream, r);
    }

    fn render(
        &self,
        problem: &Problem,
        context: &RenderContext<'_>,
        common: &ResponseHeaders,
    ) -> Option<LocalReply> {
        self.0.render(problem, context, common)
    }

    fn finish<H: Host>(&self, stream: &mut Self::Stream, host: &H) {
        self.0.finish(stream, host);
    }

    fn tick<H: Host>(&self, host: &H) -> Option<Duration> {
        self.0.tick(host)
    }

    fn on_callout<H: Host>(&self, id: CalloutId, response: &CalloutResponse<'_>, host: &H) {
        self.0.on_callout(id, response, host);
    }
}

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Identify => "identify",
        Step::Shield => "shield",
        Step::Require => "require",
        Step::Authenticate => "authenticate",
        Step::Entitle => "entitle",
        Step::Throttle => "throttle",
        Step::Concurrency => "concurrency",
        Step::Charge => "charge",
        Step::Forward => "forward",
    }
}

fn limits<H>(x: &Exchange<'_, H>) -> Vec<Limit> {
    let limits = x.limits.iter();
    limits
        .map(|limit| Limit {
            name: limit.name.as_str().to_owned(),
            allowance: limit.allowance,
            remaining: limit.remaining,
            window_seconds: limit.window.as_secs_f64(),
            reset_seconds: limit.reset.as_secs_f64(),
        })
        .collect()
}

/// What was known and wanted of a request before a step.
struct State {
    edits: usize,
    limits: usize,
    request_id: Option<String>,
    token: bool,
    consumer: Option<String>,
    plan: Option<String>,
    would_deny: Option<&'static str>,
    wanted: Vec<&'static str>,
    evidence: Vec<String>,
    response: Vec<String>,
    path: Vec<u8>,
}

impl State {
    fn of<H>(x: &Exchange<'_, H>) -> Self {
        let facts = &x.facts;
        let evidence = |credential| describe(credential, x.credentials.evidence(credential));
        State {
            edits: x.edits.iter().count(),
            limits: x.limits.len(),
            request_id: facts.request_id.as_ref().map(ToString::to_string),
            token: facts.token.is_some(),
            consumer: facts
                .consumer
                .as_ref()
                .map(|consumer| consumer.id.to_string()),
            plan: facts.plan.as_ref().map(|plan| plan.name.to_string()),
            would_deny: facts.would_deny.map(|kind| kind.name),
            wanted: x.credentials.wanted.iter().map(Credential::name).collect(),
            evidence: Credential::ALL.into_iter().map(evidence).collect(),
            response: response(&x.response),
            path: x.path.to_vec(),
        }
    }

    fn changes<H>(&self, x: &Exchange<'_, H>) -> Vec<String> {
        let now = State::of(x);
        let mut did = Vec::new();
        let mut tell = |changed: bool, what: String| {
            if changed {
                did.push(what);
            }
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        tell(
            now.request_id != self.request_id,
            format!("request id {}", text(&now.request_id)),
        );
        tell(
            now.wanted != self.wanted,
            format!("credentials that count: {}", now.wanted.join(", ")),
        );
        for (before, after) in self.evidence.iter().zip(&now.evidence) {
            tell(before != after, after.clone());
        }
        if let Some(token) = x.facts.token.as_ref().filter(|_| !self.token) {
            let subject = token.subject.as_deref().unwrap_or("nobody");
            did.push(format!("token of {subject}, issued by {}", token.provider));
        }
        let mut tell = |changed: bool, what: String| {
            if changed {
                did.push(what);
            }
        };
        tell(
            now.consumer != self.consumer,
            format!("consumer {}", text(&now.consumer)),
        );
        tell(now.plan != self.plan, format!("plan {}", text(&now.plan)));
        tell(
            now.would_deny != self.would_deny,
            format!(
                "would refuse, but for shadow mode: {}",
                now.would_deny.unwrap_or_default()
            ),
        );
        tell(
            now.path != self.path,
            format!("path becomes {}", String::from_utf8_lossy(&now.path)),
        );
        for edit in x.edits.iter().skip(self.edits) {
            did.push(match edit {
                RequestEdit::Set(name, value) => {
                    format!("sets {name}: {}", String::from_utf8_lossy(value.as_bytes()))
                }
                RequestEdit::Remove(name) => format!("removes {name}"),
            });
        }
        for limit in x.limits.iter().skip(self.limits) {
            did.push(format!(
                "limit {}: {} of {} left",
                limit.name.as_str(),
                limit.remaining,
                limit.allowance
            ));
        }
        let headers = now.response.iter();
        let new = headers.filter(|header| !self.response.contains(header));
        did.extend(new.map(|header| format!("response gets {header}")));
        did
    }
}

fn describe(credential: Credential, evidence: &Evidence) -> String {
    let name = credential.name();
    match evidence {
        Evidence::Absent => format!("{name}: none"),
        Evidence::Valid => format!("{name}: good"),
        Evidence::Awaited(_) => format!("{name}: can't be checked yet"),
        Evidence::Invalid(problem) => {
            format!("{name}: {} ({})", problem.kind().name, problem.detail())
        }
    }
}

fn response(headers: &ResponseHeaders) -> Vec<String> {
    headers
        .iter()
        .map(|header| format!("{}: {}", header.name, header.value))
        .collect()
}
