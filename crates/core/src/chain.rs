//! A plugin is a chain of policies, joined at compile time, that judges one request after another.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::apis::{ApiConfig, ApiTable, HostOptions};
use crate::config::{ConfigErrors, Document, Rejected};
use crate::headers::{Headers, RequestEdits};
use crate::host::{Environment, Host};
use crate::limit_headers::{self, LimitHeadersConfig};
use crate::policy::{
    Callbacks, Compile, Exchange, Facts, Policy, ResponseHeaders, Step, StepResult, TargetUse,
};
use crate::problem::{GATEWAY_FAULT, LocalReply, Problem, REQUEST_AMBIGUOUS, RenderContext};
use crate::target::{AmbiguousRequest, PathOptions, RequestTarget};
use crate::telemetry::{Decision, Telemetry, TelemetryConfig};

/// Policies one after the other; built by [`chain!`](macro@crate::chain).
pub trait Policies: Sized {
    /// What they remember of one request.
    type Streams: Default;

    /// The host's callbacks that any of them needs.
    const CALLBACKS: Callbacks;

    /// The names of their sections, appended to `names` in the order of the chain.
    fn sections(names: &mut Vec<&'static str>);

    /// Whether one whose section the document has finds out who calls.
    fn identify(document: &Document) -> bool;

    /// Compiles the sections that the document has.
    fn compile(document: &mut Document, cx: &mut Compile<'_>) -> Result<Self, Rejected>;

    /// How many of them are enabled.
    fn enabled(&self) -> usize;

    /// What they need of the request's target.
    fn target_use(&self) -> TargetUse;

    /// Whether any of them [reserves](Policy::reserves) this header.
    fn reserves(&self, header: &[u8]) -> bool;

    /// Lets each take part in a step, until one denies.
    fn step<H: Host>(
        &self,
        step: Step,
        streams: &mut Self::Streams,
        x: &mut Exchange<'_, H>,
    ) -> StepResult;

    /// Lets each give back what it charged to a request that is refused after all.
    fn undo<H: Host>(&self, streams: &mut Self::Streams, x: &mut Exchange<'_, H>);

    /// Tells each that the stream has ended.
    fn finish<H: Host>(&self, streams: &mut Self::Streams, host: &H);
}

/// The end of a chain.
pub struct End;

/// A policy, if its section is there, and the policies behind it.
pub struct Link<P, R>(Option<P>, R);

impl Policies for End {
    type Streams = ();
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;

    fn sections(_names: &mut Vec<&'static str>) {}

    fn identify(_document: &Document) -> bool {
        false
    }

    fn compile(_document: &mut Document, _cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        Ok(End)
    }

    fn enabled(&self) -> usize {
        0
    }

    fn target_use(&self) -> TargetUse {
        TargetUse::None
    }

    fn reserves(&self, _header: &[u8]) -> bool {
        false
    }

    fn step<H: Host>(
        &self,
        _step: Step,
        _streams: &mut Self::Streams,
        _x: &mut Exchange<'_, H>,
    ) -> StepResult {
        Ok(())
    }

    fn undo<H: Host>(&self, (): &mut (), _x: &mut Exchange<'_, H>) {}

    fn finish<H: Host>(&self, (): &mut (), _host: &H) {}
}

impl<P: Policy, R: Policies> Policies for Link<P, R> {
    type Streams = (P::Stream, R::Streams);
    const CALLBACKS: Callbacks = P::CALLBACKS.union(R::CALLBACKS);

    fn sections(names: &mut Vec<&'static str>) {
        names.push(P::SECTION);
        R::sections(names);
    }

    fn identify(document: &Document) -> bool {
        (P::IDENTIFIES && document.has(P::SECTION)) || R::identify(document)
    }

    fn compile(document: &mut Document, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        let policy = match document.take::<P::Section>(P::SECTION, cx.errors) {
            Ok(Some(section)) => P::compile(section, cx).map(Some),
            Ok(None) => Ok(None),
            Err(rejected) => Err(rejected),
        };
        // The rest is compiled whatever came of this one: all mistakes are reported at once.
        let rest = R::compile(document, cx);
        Ok(Link(policy?, rest?))
    }

    fn enabled(&self) -> usize {
        usize::from(self.0.is_some()).saturating_add(self.1.enabled())
    }

    fn target_use(&self) -> TargetUse {
        let own = self.0.as_ref().map(P::target_use).unwrap_or_default();
        own.max(self.1.target_use())
    }

    fn reserves(&self, header: &[u8]) -> bool {
        self.0
            .as_ref()
            .is_some_and(|policy| policy.reserves(header))
            || self.1.reserves(header)
    }

    fn step<H: Host>(
        &self,
        step: Step,
        (own, others): &mut Self::Streams,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        if let Some(policy) = &self.0 {
            policy.step(step, own, x)?;
        }
        self.1.step(step, others, x)
    }

    fn undo<H: Host>(&self, (own, others): &mut Self::Streams, x: &mut Exchange<'_, H>) {
        if let Some(policy) = &self.0 {
            policy.undo(own, x);
        }
        self.1.undo(others, x);
    }

    fn finish<H: Host>(&self, (own, others): &mut Self::Streams, host: &H) {
        if let Some(policy) = &self.0 {
            policy.finish(own, host);
        }
        self.1.finish(others, host);
    }
}

/// The type of a chain of policies: `chain!(RequestId, UsagePlan)`.
#[macro_export]
macro_rules! chain {
    () => { $crate::chain::End };
    ($policy:ty $(, $rest:ty)* $(,)?) => {
        $crate::chain::Link<$policy, $crate::chain!($($rest),*)>
    };
}

/// A configured plugin.
pub struct Chain<P> {
    apis: ApiTable,
    paths: PathOptions,
    target_use: TargetUse,
    limit_headers: LimitHeadersConfig,
    telemetry: Telemetry,
    policies: P,
}

/// What is to be done with a request, once it is [changed](Judged::edits).
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It passes.
    Forward,
    /// It is answered.
    Reply(LocalReply),
}

/// The judgement of a request, and what is to be kept until its response.
#[derive(Debug, PartialEq)]
pub struct Judged<S> {
    /// What is to be done with it.
    pub outcome: Outcome,
    /// The changes to make to it. Also to one that is refused: access logs show its headers, which
    /// must hold its own id and no credential.
    pub edits: RequestEdits,
    /// The headers that its response gets if somebody else answers it.
    pub response: ResponseHeaders,
    /// What the policies remember of the request, for [`Chain::on_end`].
    pub streams: S,
}

impl<P: Policies> Chain<P> {
    /// Reads a configuration document. `plugin` is the name of the `.wasm`, for messages.
    pub fn configure(
        plugin: &str,
        text: &[u8],
        environment: &dyn Environment,
    ) -> Result<Self, ConfigErrors> {
        let mut document = Document::parse(text)?;
        let mut errors = ConfigErrors::default();
        let chain = Self::compile(plugin, &mut document, environment, &mut errors);
        match chain {
            Ok(chain) if errors.is_empty() => Ok(chain),
            _ => Err(errors),
        }
    }

    fn compile(
        plugin: &str,
        document: &mut Document,
        environment: &dyn Environment,
        errors: &mut ConfigErrors,
    ) -> Result<Self, Rejected> {
        let apis = document.take::<Vec<ApiConfig>>("apis", errors);
        let hosts = document.take::<HostOptions>("hosts", errors);
        let paths = document.take::<PathOptions>("paths", errors);
        let limit_headers = document.take::<LimitHeadersConfig>("limit_headers", errors);
        let telemetry = document.take::<TelemetryConfig>("telemetry", errors);
        // What can't be read is recorded; the rest is checked as if it had been left out.
        let hosts = hosts.ok().flatten().unwrap_or_default();
        let paths = paths.ok().flatten().unwrap_or_default();
        // Where `apis` itself can't be read, names that refer to it can't be checked; the table is
        // then empty and says so, and no policy reports what only follows from that.
        let table = match &apis {
            Ok(_) => {
                let apis = apis.ok().flatten().unwrap_or_default();
                ApiTable::compile(apis, hosts, paths, errors)
            }
            Err(_) => ApiTable::unreadable(),
        };
        let mut cx = Compile {
            apis: &table,
            identifies: P::identify(document),
            errors,
            environment,
        };
        let policies = P::compile(document, &mut cx);
        let mut sections = Vec::new();
        P::sections(&mut sections);
        for unknown in document.remaining() {
            errors.add(unknown, unknown_section(plugin, unknown, &sections));
        }
        let policies = policies?;
        if policies.enabled() == 0 && errors.is_empty() {
            return Err(errors.add(
                "",
                format!(
                    "no policy is configured, so {plugin} would do nothing: add a section, {}",
                    sections.join(" or ")
                ),
            ));
        }
        Ok(Chain {
            target_use: policies.target_use(),
            apis: table,
            paths,
            limit_headers: limit_headers?.unwrap_or_default(),
            telemetry: Telemetry::new(telemetry?.unwrap_or_default()),
            policies,
        })
    }

    /// Judges a request by its headers.
    pub fn on_request<H: Host>(&self, host: &H, request: &Headers) -> Judged<P::Streams> {
        let raw_path = request.get(":path").unwrap_or_default();
        let unread = RequestTarget::unread(raw_path);
        let target = self.read_target(raw_path);
        let mut x = Exchange {
            host,
            now: host.now(),
            request,
            target: target.as_ref().unwrap_or(&unread),
            path: self.forwarded_path(&target, raw_path),
            apis: &self.apis,
            api: None,
            facts: Facts::default(),
            edits: RequestEdits::default(),
            limits: Vec::new(),
            response: ResponseHeaders::default(),
            client_address: OnceCell::new(),
        };
        let mut streams = P::Streams::default();
        let verdict = self
            .policies
            .step(Step::Identify, &mut streams, &mut x)
            .and_then(|()| {
                self.find_api(&target, &mut x)?;
                Step::JUDGING
                    .into_iter()
                    .try_for_each(|step| self.policies.step(step, &mut streams, &mut x))
            });
        if verdict.is_err() {
            self.policies.undo(&mut streams, &mut x);
        }
        self.conclude(verdict, raw_path, x, streams)
    }

    /// Tells the policies that the stream has ended, in whatever way.
    pub fn on_end<H: Host>(&self, host: &H, mut streams: P::Streams) {
        self.policies.finish(&mut streams, host);
    }

    /// The names of the trailers that are to be removed.
    pub fn on_request_trailers<'a>(
        &'a self,
        trailers: &'a Headers,
    ) -> impl Iterator<Item = &'a str> {
        trailers
            .iter()
            .filter(|(name, _)| self.policies.reserves(name))
            .filter_map(|(name, _)| std::str::from_utf8(name).ok())
    }

    /// The answer to a request whose headers the host would not hand over or change.
    pub fn on_unreadable_request<H: Host>(&self, host: &H) -> LocalReply {
        let decision = Decision::Deny(&GATEWAY_FAULT);
        self.telemetry
            .record(host, &self.apis, None, &Facts::default(), decision);
        Problem::new(&GATEWAY_FAULT, "The gateway could not read the request.")
            .render(&RenderContext::default(), &ResponseHeaders::default())
    }

    /// Reads the target where a rule or a label depends on it.
    fn read_target<'a>(&self, raw_path: &'a [u8]) -> Result<RequestTarget<'a>, AmbiguousRequest> {
        match self.target_use == TargetUse::None && self.apis.is_empty() {
            true => Ok(RequestTarget::unread(raw_path)),
            false => RequestTarget::parse(raw_path, &self.paths),
        }
    }

    /// The path that goes on: where rules about it are enforced, the form that was judged.
    fn forwarded_path<'a>(
        &self,
        target: &Result<RequestTarget<'a>, AmbiguousRequest>,
        raw_path: &'a [u8],
    ) -> Cow<'a, [u8]> {
        match target {
            Ok(target) if self.target_use == TargetUse::Enforce => target
                .rewritten()
                .map_or(Cow::Borrowed(raw_path), Cow::Owned),
            _ => Cow::Borrowed(raw_path),
        }
    }

    /// Finds the request's API. A target that can be read in two ways belongs to none; it is
    /// refused where a rule depends on it.
    fn find_api<H: Host>(
        &self,
        target: &Result<RequestTarget<'_>, AmbiguousRequest>,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        let api = target
            .as_ref()
            .map_err(|ambiguous| *ambiguous)
            .and_then(|target| {
                self.apis
                    .find(x.request.get(":authority"), x.method(), target)
            });
        match (api, self.target_use) {
            (Ok(api), _) => {
                x.api = api;
                Ok(())
            }
            (Err(_), TargetUse::None) => Ok(()),
            (Err(_), TargetUse::Observe) => {
                x.note_would_deny(&REQUEST_AMBIGUOUS);
                Ok(())
            }
            (Err(ambiguous), TargetUse::Enforce) => Err(Box::new(Problem::new(
                &REQUEST_AMBIGUOUS,
                ambiguous.explanation(),
            ))),
        }
    }

    fn conclude<H: Host>(
        &self,
        verdict: StepResult,
        raw_path: &[u8],
        mut x: Exchange<'_, H>,
        streams: P::Streams,
    ) -> Judged<P::Streams> {
        let decision = match (&verdict, x.facts.would_deny) {
            (Err(problem), _) => Decision::Deny(problem.kind()),
            (Ok(()), Some(kind)) => Decision::WouldDeny(kind),
            (Ok(()), None) => Decision::Allow,
        };
        self.telemetry
            .record(x.host, &self.apis, x.api, &x.facts, decision);
        let cross_origin = x.request.get("origin").is_some();
        limit_headers::set(
            &self.limit_headers,
            &x.limits,
            cross_origin,
            &mut x.response,
        );
        if *x.path != *raw_path {
            x.edits.set(":path", x.path);
        }
        let outcome = match verdict {
            Ok(()) => Outcome::Forward,
            Err(problem) => {
                let inbound_id = x
                    .request
                    .get_str("x-request-id")
                    .filter(|id| is_plain_id(id));
                let context = RenderContext {
                    request_id: x.facts.request_id.as_deref().or(inbound_id),
                    grpc: is_grpc(x.request),
                };
                Outcome::Reply(problem.render(&context, &x.response))
            }
        };
        Judged {
            outcome,
            edits: x.edits,
            response: x.response,
            streams,
        }
    }
}

/// The sections that belong to no policy.
const CORE_SECTIONS: [&str; 5] = ["apis", "hosts", "paths", "limit_headers", "telemetry"];

fn unknown_section(plugin: &str, unknown: &str, sections: &[&str]) -> String {
    let own: Vec<&str> = CORE_SECTIONS.iter().chain(sections).copied().collect();
    let expected = crate::config::expected_one_of(unknown, &own);
    let is_a_slip = expected.contains("did you mean");
    let elsewhere = match plugin {
        _ if is_a_slip => String::new(),
        FULL_PLUGIN => String::new(),
        _ => format!(
            "; if this is a policy of another plugin, load {FULL_PLUGIN}, which has all, or {}.wasm",
            unknown.replace('_', "-")
        ),
    };
    format!("{plugin} has no such section{expected}{elsewhere}")
}

/// The plugin that holds all policies.
const FULL_PLUGIN: &str = "tollgate.wasm";

/// The longest id of somebody else's making that is repeated in an answer.
const LONGEST_PLAIN_ID: usize = 128;

fn is_plain_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= LONGEST_PLAIN_ID && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether Envoy will treat the request as a gRPC call: `application/grpc`, alone or followed by
/// `+`. With parameters it does not, and would send the message as text.
fn is_grpc(request: &Headers) -> bool {
    request
        .get("content-type")
        .and_then(|value| value.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}
