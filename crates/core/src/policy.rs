//! What a policy is: one concern of the gateway, as pure logic.

use std::sync::Arc;
use std::time::Duration;

use crate::apis::ApiTable;
pub use crate::callbacks::Callbacks;
use crate::config::{ConfigErrors, Rejected};
use crate::credentials::{Credential, CredentialSet};
pub use crate::exchange::{Consumer, Exchange, Facts, Plan};
use crate::host::{CalloutId, CalloutResponse, Environment, Host};
use crate::name_list::NameList;
use crate::problem::{Kind, LocalReply, Problem, RenderContext};
pub use crate::response::{
    Glimpse, Responding, ResponseHeader, ResponseHeaders, ResponseSource, ResponseUse,
};

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
    /// Find out which credentials the request needs. Never denies.
    Require,
    /// Check the credentials that count, and whether they are enough: 400, 401.
    Authenticate,
    /// Find the caller's plan, and check that the caller may use this API: 403.
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
    /// All steps in their order.
    pub(crate) const ALL: [Step; 9] = [
        Step::Identify,
        Step::Shield,
        Step::Require,
        Step::Authenticate,
        Step::Entitle,
        Step::Throttle,
        Step::Concurrency,
        Step::Charge,
        Step::Forward,
    ];
}

/// A step passes, or the request goes no further.
pub type StepResult = Result<(), Halt>;

/// Why a request goes no further.
#[derive(Debug)]
pub enum Halt {
    /// It is refused.
    Refuse(Box<Problem>),
    /// It waits for something that only the host can bring, as an issuer's keys. The policies'
    /// [`tick`](Policy::tick) follows within a millisecond. It is taken up again at the policy that
    /// lets it wait, after every answer to a callout and every few milliseconds; so that policy takes
    /// the step again, and puts an end to the waiting.
    Await,
    /// It waits for something that another policy of the same step has asked for. When it is taken up
    /// again, all policies take the step again.
    AwaitOthers,
}

impl From<Problem> for Halt {
    fn from(problem: Problem) -> Self {
        Halt::Refuse(Box::new(problem))
    }
}

impl From<Box<Problem>> for Halt {
    fn from(problem: Box<Problem>) -> Self {
        Halt::Refuse(problem)
    }
}

/// One concern: request ids, usage plans, … Pure: it sees a view of the request, the time and the
/// host's handles, and answers.
pub trait Policy: Sized {
    /// The name of its section in the configuration; the section's presence enables the policy.
    const SECTION: &'static str;

    /// The section, as it is written.
    type Section: deserr::Deserr<ConfigErrors>;

    /// What it remembers of one request from step to step.
    type Stream: Default;

    /// The credential that it checks, if it is one that finds out who calls. It only
    /// [notes](crate::credentials::Credentials::note) what it found.
    const CREDENTIAL: Option<Credential> = None;

    /// Whether it decides which credentials a request needs, and refuses it without them. A chain
    /// that checks credentials must have one that does, behind those that check.
    const DECIDES_ACCESS: bool = false;

    /// The section that applies where the document has none; without one, the policy is off then.
    const DEFAULT_SECTION: Option<fn() -> Self::Section> = None;

    /// The host's callbacks that it needs, beside the request headers.
    const CALLBACKS: Callbacks;

    /// The kinds of its refusals, appended to `kinds`.
    fn kinds(_kinds: &mut Vec<&'static Kind>) {}

    /// Checks a section and makes it fast to apply. Every mistake is recorded, not only the first.
    fn compile(section: Self::Section, cx: &mut Compile<'_>) -> Result<Self, Rejected>;

    /// What it needs of the request's target.
    fn target_use(&self) -> TargetUse {
        TargetUse::None
    }

    /// Whether only the policy itself may set this header of the request (given in lower case). The
    /// client's is removed when the request comes, and so is such a trailer, since servers may take
    /// it for the header.
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

    /// The request is refused after all, or given up while it waited: gives back what was charged to
    /// it, and may still prepare its response. Some steps may not have been taken.
    fn undo<H: Host>(&self, _stream: &mut Self::Stream, _x: &mut Exchange<'_, H>) {}

    /// Which responses to a request it has to see, with [`Callbacks::RESPONSE_HEADERS`]. `stream` is
    /// new where the host answered before the request was judged.
    fn response_use(&self, _stream: &Self::Stream) -> ResponseUse {
        ResponseUse::None
    }

    /// Looks at the headers of a response, and says what is to be made of it.
    fn respond<H: Host>(&self, _stream: &mut Self::Stream, _r: &mut Responding<'_, H>) {}

    /// Renders a refusal in its own way; `common` are the headers that every response to the request
    /// gets.
    fn render(
        &self,
        _problem: &Problem,
        _context: &RenderContext<'_>,
        _common: &ResponseHeaders,
    ) -> Option<LocalReply> {
        None
    }

    /// The stream has ended, in whatever way. Called once.
    fn finish<H: Host>(&self, _stream: &mut Self::Stream, _host: &H) {}

    /// Does what is not for one request, on every worker, with [`Callbacks::CALLOUTS`]. Returns when
    /// it wants to be called again at the latest; it is also called soon after a request began to
    /// wait.
    fn tick<H: Host>(&self, _host: &H) -> Option<Duration> {
        None
    }

    /// A callout was answered, maybe another policy's.
    fn on_callout<H: Host>(&self, _id: CalloutId, _response: &CalloutResponse<'_>, _host: &H) {}
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
    /// The credentials that policies of the document check.
    pub credentials: CredentialSet,
    /// What the policies in front that check credentials tell of themselves.
    pub authenticators: Vec<Authenticator>,
    /// How many consumers, in the order of the document, get metrics of their own.
    pub metered_consumers: u32,
    /// Whether policies may put what they find out of a request into filter state for access logs.
    pub filter_state: bool,
    /// The ids of the consumers of the document, where a policy in front knows consumers.
    pub consumers: Option<Arc<NameList>>,
    /// The kinds of all refusals that there can be.
    pub kinds: Vec<&'static Kind>,
    /// Where mistakes are recorded.
    pub errors: &'a mut ConfigErrors,
    /// What the operator handed to the plugin beside the document.
    pub environment: &'a dyn Environment,
}

/// A policy that checks credentials, as the one that decides on access needs to know it.
#[derive(Clone, Debug)]
pub struct Authenticator {
    /// What it checks.
    pub credential: Credential,
    /// The challenge that asks for it, without an error (RFC 9110 section 11.6.1).
    pub challenge: String,
    /// Whether it has a place for callers who send nothing.
    pub admits_anonymous: bool,
    /// The names of the issuers that it trusts.
    pub providers: Vec<String>,
    /// Whether it is only tried out.
    pub mode: Mode,
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
            Mode::Enforce => Err(problem.into()),
            Mode::Shadow => {
                x.note_would_deny(problem.kind());
                Ok(())
            }
        }
    }
}
