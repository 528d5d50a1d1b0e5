//! What a policy is: one concern of the gateway, as pure logic.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;

use crate::apis::{ApiId, ApiTable};
use crate::config::{ConfigErrors, Rejected};
use crate::headers::{HeaderName, Headers, RequestEdits};
use crate::host::{Environment, Host};
use crate::limit_headers::LimitStatus;
use crate::problem::{Kind, Problem};
use crate::target::RequestTarget;
use crate::time::Timestamp;

/// The fixed order in which a request is judged. It is ours, not the user's, because it is a matter
/// of correctness: who the client is comes before what it may do, and nothing is charged to a
/// client that is refused for another reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give the request its id and trace context. Never denies.
    Identify,
    /// Turn floods away before anything dear is done for them: 429. What is charged here stays
    /// charged.
    Shield,
    /// Find out who calls: 400, 401.
    Authenticate,
    /// Check that the caller may use this API: 403.
    Entitle,
    /// Charge rates: 429.
    Throttle,
    /// Take a place among the requests under way: 429.
    Concurrency,
    /// Charge the caller's plan, its rate and its quotas, all or nothing: 429.
    Charge,
    /// Prepare what the upstream sees. Never denies.
    Forward,
}

impl Step {
    /// The steps in which the API of a request is known.
    pub(crate) const JUDGING: [Step; 7] = [
        Step::Shield,
        Step::Authenticate,
        Step::Entitle,
        Step::Throttle,
        Step::Concurrency,
        Step::Charge,
        Step::Forward,
    ];
}

/// A step passes, or ends the request with a refusal.
pub type StepResult = Result<(), Box<Problem>>;

/// One concern: request ids, usage plans, … Pure: it sees a view of the request, the time and the
/// host's handles, and answers.
pub trait Policy: Sized {
    /// The name of its section in the configuration; the section's presence enables the policy.
    const SECTION: &'static str;

    /// The section, as it is written.
    type Section: deserr::Deserr<ConfigErrors>;

    /// What it remembers of one request from step to step.
    type Stream: Default;

    /// Whether it finds out who calls: a consumer, and a plan.
    const IDENTIFIES: bool = false;

    /// The host's callbacks that it needs, beside the request headers.
    const CALLBACKS: Callbacks;

    /// Checks a section and makes it fast to apply. Every mistake is recorded, not only the first.
    fn compile(section: Self::Section, cx: &mut Compile<'_>) -> Result<Self, Rejected>;

    /// What it needs of the request's target.
    fn target_use(&self) -> TargetUse {
        TargetUse::None
    }

    /// Whether only the policy itself may set this header of the request (given in lower case):
    /// such a trailer is removed, since servers may take it for the header.
    fn reserves(&self, _header: &[u8]) -> bool {
        false
    }

    /// Takes part in a step; a policy passes the steps that are none of its business.
    fn step<H: Host>(
        &self,
        step: Step,
        stream: &mut Self::Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult;

    /// Gives back what was charged to a request that is refused after all.
    fn undo<H: Host>(&self, _stream: &mut Self::Stream, _x: &mut Exchange<'_, H>) {}

    /// The stream has ended, in whatever way. Called once, with [`Callbacks::LOG`].
    fn finish<H: Host>(&self, _stream: &mut Self::Stream, _host: &H) {}
}

/// What a policy needs of a request's target: its host, method and path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetUse {
    /// Nothing: it is not read, and passed on as it came.
    #[default]
    None,
    /// Rules about it are tried out, in shadow mode. It is read and passed on as it came.
    Observe,
    /// Rules about it are enforced. One that can be read in two ways is refused, and the path is
    /// passed on in the form in which it was judged.
    Enforce,
}

impl TargetUse {
    /// What a policy in this mode needs that has rules about targets, or has none.
    pub fn of(mode: Mode, has_rules: bool) -> Self {
        match (has_rules, mode) {
            (false, _) => TargetUse::None,
            (true, Mode::Shadow) => TargetUse::Observe,
            (true, Mode::Enforce) => TargetUse::Enforce,
        }
    }
}

/// What a policy is compiled with.
pub struct Compile<'a> {
    /// The APIs of the document.
    pub apis: &'a ApiTable,
    /// Whether a policy of the document finds out who calls.
    pub identifies: bool,
    /// Where mistakes are recorded.
    pub errors: &'a mut ConfigErrors,
    /// What the operator handed to the plugin beside the document.
    pub environment: &'a dyn Environment,
}

/// A set of host callbacks. One that a plugin does not need is not exported, and Envoy then does
/// not enter the plugin for it: an exported body callback is entered for every chunk of every body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callbacks(u8);

impl Callbacks {
    /// The request's headers: every plugin needs them.
    pub const REQUEST_HEADERS: Callbacks = Callbacks(1);
    /// The response's headers, Envoy's own replies included.
    pub const RESPONSE_HEADERS: Callbacks = Callbacks(1 << 1);
    /// The request's trailers, for a policy that [reserves](Policy::reserves) headers.
    pub const REQUEST_TRAILERS: Callbacks = Callbacks(1 << 2);

    /// The end of the stream, for a policy that has to [finish](Policy::finish) what it began.
    pub const LOG: Callbacks = Callbacks(1 << 3);

    const NAMES: [(Callbacks, &'static str); 4] = [
        (Callbacks::REQUEST_HEADERS, "proxy_on_request_headers"),
        (Callbacks::REQUEST_TRAILERS, "proxy_on_request_trailers"),
        (Callbacks::RESPONSE_HEADERS, "proxy_on_response_headers"),
        (Callbacks::LOG, "proxy_on_log"),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Callbacks) -> Callbacks {
        Callbacks(self.0 | other.0)
    }

    /// Whether all of `other` are in this set.
    pub const fn contains(self, other: Callbacks) -> bool {
        self.0 & other.0 == other.0
    }

    /// The proxy-wasm names of the callbacks, joined by commas and padded with NULs: the form in
    /// which a plugin declares them to the packaging step.
    #[allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "evaluated by the compiler: a mistake is a compile error"
    )]
    pub const fn declaration<const N: usize>(self) -> [u8; N] {
        let mut text = [0; N];
        let mut length = 0;
        let mut index = 0;
        while index < Callbacks::NAMES.len() {
            let (callback, name) = Callbacks::NAMES[index];
            if self.contains(callback) {
                if length > 0 {
                    text[length] = b',';
                    length += 1;
                }
                let name = name.as_bytes();
                let mut at = 0;
                while at < name.len() {
                    text[length] = name[at];
                    length += 1;
                    at += 1;
                }
            }
            index += 1;
        }
        text
    }
}

/// A request on its way through the policies: what came in, what is known, and what is to be done.
pub struct Exchange<'a, H> {
    /// The door to the host.
    pub host: &'a H,
    /// When the request arrived: one instant for all policies.
    pub now: Timestamp,
    /// The headers as they arrived.
    pub request: &'a Headers,
    /// What the request asks for, in the forms in which rules are matched.
    pub target: &'a RequestTarget<'a>,
    /// The `:path` that goes on: normalised, and without a credential once that was found. It also
    /// replaces the path of a request that is refused, so that no access log holds a credential.
    pub path: Cow<'a, [u8]>,
    /// The APIs of the configuration.
    pub apis: &'a ApiTable,
    /// The API that the request is for, from [`Step::Shield`] on.
    pub api: Option<ApiId>,
    /// What the policies have found out so far.
    pub facts: Facts,
    /// What the upstream will see changed.
    pub edits: RequestEdits,
    /// The limits that the request met, for the headers that tell of them.
    pub limits: Vec<LimitStatus>,
    /// What every response to this request gets, whoever makes it.
    pub response: ResponseHeaders,
    pub(crate) client_address: OnceCell<Option<IpAddr>>,
}

impl<H: Host> Exchange<'_, H> {
    /// The address of the client as the host resolved it; asked for once, since it is dear.
    pub fn client_address(&self) -> Option<IpAddr> {
        *self
            .client_address
            .get_or_init(|| self.host.client_address())
    }
}

impl<H> Exchange<'_, H> {
    /// The name of the API that the request is for; empty if it is for none.
    pub fn api_name(&self) -> &str {
        self.api.map_or("", |api| self.apis.name(api))
    }

    /// The request's method; empty if the host gave none.
    pub fn method(&self) -> &[u8] {
        self.request.get(":method").unwrap_or_default()
    }

    /// Notes that a policy in shadow mode would have refused the request; the first one counts.
    pub fn note_would_deny(&mut self, kind: &'static Kind) {
        self.facts.would_deny.get_or_insert(kind);
    }
}

/// What is known of a request; access logs and metrics are made from it.
#[derive(Debug, Default)]
pub struct Facts {
    /// The request's id.
    pub request_id: Option<String>,
    /// The consumer, by its configured id.
    pub consumer: Option<Consumer>,
    /// The plan that applies.
    pub plan: Option<Plan>,
    /// The refusal that a policy in shadow mode would have given; the first one.
    pub would_deny: Option<&'static Kind>,
}

/// A consumer that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its place in the configuration.
    pub index: u32,
    /// Its id.
    pub id: Arc<str>,
}

/// A plan that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its place in the configuration.
    pub index: u16,
    /// Its name.
    pub name: Arc<str>,
}

/// Whether a policy denies, or only says that it would have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, deserr::Deserr)]
#[deserr(rename_all = lowercase)]
pub enum Mode {
    /// Refusals are given.
    #[default]
    Enforce,
    /// Refusals are counted as `would_deny`, and the request passes.
    Shadow,
}

impl Mode {
    /// Gives the refusal, or in shadow mode notes it and passes.
    pub fn refuse<H>(self, problem: Problem, x: &mut Exchange<'_, H>) -> StepResult {
        match self {
            Mode::Enforce => Err(Box::new(problem)),
            Mode::Shadow => {
                x.note_would_deny(problem.kind());
                Ok(())
            }
        }
    }
}

/// Headers for every response to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeaders(Vec<ResponseHeader>);

/// A header for every response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: String,
    /// Whether it joins what the upstream has set, as a member of a list does, or replaces it.
    pub joins: bool,
}

impl ResponseHeaders {
    /// Sets a header, replacing one that an earlier policy or the upstream has set.
    pub fn set(&mut self, name: impl Into<HeaderName>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        self.0.retain(|existing| existing.name != name);
        self.0.push(ResponseHeader {
            name,
            value,
            joins: false,
        });
    }

    /// Adds to a header that is a list, beside what others have set.
    pub fn join(&mut self, name: impl Into<HeaderName>, value: impl Into<String>) {
        self.0.push(ResponseHeader {
            name: name.into(),
            value: value.into(),
            joins: true,
        });
    }

    /// The headers.
    pub fn iter(&self) -> impl Iterator<Item = &ResponseHeader> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_are_declared_by_their_proxy_wasm_names() {
        let declare = |callbacks: Callbacks| {
            let text = callbacks.declaration::<128>();
            String::from_utf8(text.to_vec())
                .unwrap()
                .trim_end_matches('\0')
                .to_owned()
        };
        assert_eq!(
            declare(Callbacks::REQUEST_HEADERS),
            "proxy_on_request_headers"
        );
        assert_eq!(
            declare(Callbacks::REQUEST_HEADERS.union(Callbacks::RESPONSE_HEADERS)),
            "proxy_on_request_headers,proxy_on_response_headers"
        );
    }
}
