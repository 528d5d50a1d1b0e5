//! A plugin is a chain of policies, joined at compile time, that judges one request after another.

mod configure;
mod link;
mod reply;

use std::borrow::Cow;
use std::time::Duration;

use crate::apis::ApiTable;
use crate::exchange::Progress;
use crate::headers::{Headers, RequestEdits};
use crate::host::{CalloutId, CalloutResponse, Host};
use crate::limit_headers::{self, LimitHeadersConfig};
use crate::policy::{
    Exchange, Facts, Glimpse, Halt, Responding, ResponseHeaders, ResponseSource, Step, StepResult,
    TargetUse,
};
use crate::problem::{
    GATEWAY_CROWDED, GATEWAY_FAULT, LocalReply, Problem, REQUEST_AMBIGUOUS, RenderContext,
};
use crate::target::{AmbiguousRequest, PathOptions, RequestTarget};
use crate::telemetry::{Decision, Telemetry};
pub use link::{End, Link, Policies};
use reply::{Client, keep_headers};

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

/// What became of a request.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every request is judged at once, and shall not be allocated for that"
)]
pub enum Verdict<S> {
    /// It is judged.
    Judged(Judged<S>),
    /// It waits, to be taken up again by [`Chain::on_resume`].
    Waiting(Box<Waiting<S>>),
}

/// A request that waits.
#[derive(Debug)]
pub struct Waiting<S> {
    request: Headers,
    progress: Progress,
    streams: S,
    at: Place,
}

impl<S> Waiting<S> {
    /// The changes to make to the request before it waits. Its client may leave meanwhile, and access
    /// logs must hold no credential even then. [`Judged::edits`] has them too.
    pub fn edits(&self) -> RequestEdits {
        let raw_path = self.request.get(":path").unwrap_or_default();
        self.progress.edits(raw_path)
    }
}

/// Where in the chain a request is: how many steps it has passed, and in the next one how many
/// policies.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    steps: usize,
    policies: usize,
}

/// What is kept of a request until its stream ends.
#[derive(Debug, Default, PartialEq)]
pub struct Kept<S> {
    /// The headers that its response gets if somebody else answers it.
    pub response: ResponseHeaders,
    client: Client,
    streams: S,
}

impl<S> Kept<S> {
    /// Whether the request is a call by gRPC or gRPC-Web, whose errors need not show in the HTTP
    /// status. Known where a policy may have to see the response.
    pub fn is_call(&self) -> bool {
        self.client.is_call()
    }
}

/// What is to be made of a response.
#[derive(Debug, PartialEq)]
pub enum Responded {
    /// It gets these headers.
    Change(ResponseHeaders),
    /// This takes its place.
    Replace(LocalReply),
}

/// The judgement of a request, and what is to be kept until its response.
#[derive(Debug, PartialEq)]
pub struct Judged<S> {
    /// What is to be done with it.
    pub outcome: Outcome,
    /// The changes to make to it. Also to one that is refused: access logs show its headers, which
    /// must hold its own id and no credential.
    pub edits: RequestEdits,
    /// What is kept of it, for [`Chain::on_response`] and [`Chain::on_end`].
    pub kept: Kept<S>,
}

impl<P: Policies> Chain<P> {
    /// Judges a request by its headers.
    pub fn on_request<H: Host>(&self, host: &H, request: Headers) -> Verdict<P::Streams> {
        self.judge(
            host,
            Waiting {
                request,
                progress: Progress::default(),
                streams: P::Streams::default(),
                at: Place::default(),
            },
        )
    }

    /// Takes up a request that waits.
    pub fn on_resume<H: Host>(
        &self,
        host: &H,
        waiting: Waiting<P::Streams>,
    ) -> Verdict<P::Streams> {
        self.judge(host, waiting)
    }

    fn judge<H: Host>(&self, host: &H, waiting: Waiting<P::Streams>) -> Verdict<P::Streams> {
        let Waiting {
            request,
            progress,
            mut streams,
            at,
        } = waiting;
        let (progress, at) = {
            let raw_path = request.get(":path").unwrap_or_default();
            let unread = RequestTarget::unread(raw_path);
            let target = self.read_target(raw_path);
            let mut x = Exchange::resume(
                progress,
                (host, host.now()),
                (
                    &request,
                    target.as_ref().unwrap_or(&unread),
                    self.forwarded_path(&target, raw_path),
                ),
                (&self.apis, &self.paths),
            );
            match self.advance(at, &target, &mut streams, &mut x) {
                Ok(()) => return Verdict::Judged(self.conclude(Ok(()), raw_path, x, streams)),
                Err((_, Halt::Refuse(problem))) => {
                    self.policies.undo(&mut streams, &mut x);
                    return Verdict::Judged(self.conclude(Err(problem), raw_path, x, streams));
                }
                Err((at, Halt::Await | Halt::AwaitOthers)) => (x.suspend(), at),
            }
        };
        Verdict::Waiting(Box::new(Waiting {
            request,
            progress,
            streams,
            at,
        }))
    }

    /// Takes a request through the steps that it has not passed.
    fn advance<H: Host>(
        &self,
        from: Place,
        target: &Result<RequestTarget<'_>, AmbiguousRequest>,
        streams: &mut P::Streams,
        x: &mut Exchange<'_, H>,
    ) -> Result<(), (Place, Halt)> {
        if from.steps == 0 && from.policies == 0 {
            self.remove_reserved(x);
        }
        let mut passed = from.policies;
        for (steps, step) in Step::ALL.into_iter().enumerate().skip(from.steps) {
            let halted = |(policies, halt)| {
                let policies = match halt {
                    Halt::AwaitOthers => 0,
                    Halt::Await | Halt::Refuse(_) => policies,
                };
                (Place { steps, policies }, halt)
            };
            if step == Step::Shield {
                self.find_api(target, x).map_err(|halt| halted((0, halt)))?;
            }
            self.policies
                .step(step, passed, streams, x)
                .map_err(halted)?;
            passed = 0;
        }
        Ok(())
    }

    /// Removes what only a policy may set, from every request, whatever becomes of it.
    fn remove_reserved<H: Host>(&self, x: &mut Exchange<'_, H>) {
        for (name, _) in x.request.iter() {
            if self.policies.reserves(name)
                && let Ok(name) = std::str::from_utf8(name)
            {
                x.edits.remove(name.to_owned());
            }
        }
    }

    /// Tells the policies that the stream of a request that was waiting has ended.
    pub fn on_abandoned<H: Host>(&self, host: &H, waiting: Waiting<P::Streams>) {
        let kept = self.leave(host, waiting, |x, streams| {
            // Its stream may be gone, and with it the place for what access logs show.
            self.telemetry
                .count(host, &self.apis, x.api, &x.facts, Decision::ABANDONED);
            Kept {
                response: ResponseHeaders::default(),
                client: Client::default(),
                streams,
            }
        });
        self.on_end(host, kept);
    }

    /// Refuses a request that would have to wait, where too many do already.
    pub fn on_crowded<H: Host>(
        &self,
        host: &H,
        waiting: Waiting<P::Streams>,
    ) -> Judged<P::Streams> {
        self.leave(host, waiting, |x, streams| {
            let problem = Problem::new(
                &GATEWAY_CROWDED,
                "Too many requests wait at the moment for what is needed to judge them.",
            )
            .with_header("retry-after", "1");
            let raw_path = x.request.get(":path").unwrap_or_default();
            self.conclude(Err(Box::new(problem)), raw_path, x, streams)
        })
    }

    /// Gives up a request that was waiting when the host answered it. What is kept of it is for that
    /// answer and for [`Chain::on_end`].
    pub fn on_overtaken<H: Host>(
        &self,
        host: &H,
        waiting: Waiting<P::Streams>,
    ) -> Kept<P::Streams> {
        self.leave(host, waiting, |mut x, streams| {
            self.telemetry
                .record(host, &self.apis, x.api, &x.facts, Decision::OVERTAKEN);
            self.tell_limits(&mut x);
            Kept {
                client: Client::of(x.request, x.facts.request_id.take()),
                response: x.response,
                streams,
            }
        })
    }

    /// Lets the policies undo what they did for a request that waits and will not be judged.
    fn leave<H: Host, T>(
        &self,
        host: &H,
        waiting: Waiting<P::Streams>,
        then: impl FnOnce(Exchange<'_, H>, P::Streams) -> T,
    ) -> T {
        let Waiting {
            request,
            progress,
            mut streams,
            ..
        } = waiting;
        let raw_path = request.get(":path").unwrap_or_default();
        let target = RequestTarget::unread(raw_path);
        let mut x = Exchange::resume(
            progress,
            (host, host.now()),
            (&request, &target, Cow::Borrowed(raw_path)),
            (&self.apis, &self.paths),
        );
        self.policies.undo(&mut streams, &mut x);
        then(x, streams)
    }

    /// Lets the policies do what is not for one request. Returns after what time at the latest they
    /// want to do so again.
    pub fn on_tick<H: Host>(&self, host: &H) -> Option<Duration> {
        self.policies.tick(host)
    }

    /// Tells the policies of the answer to a callout. Requests that wait may then go on.
    pub fn on_callout<H: Host>(&self, host: &H, id: CalloutId, response: &CalloutResponse<'_>) {
        self.policies.on_callout(id, response, host);
    }

    /// Whether the policies have to see this response.
    pub fn has_to_see(&self, kept: &Kept<P::Streams>, response: &impl Glimpse) -> bool {
        self.policies.has_to_see(&kept.streams, response)
    }

    /// Shows the policies a response that is not the gateway's own refusal.
    pub fn on_response<H: Host>(
        &self,
        host: &H,
        kept: &mut Kept<P::Streams>,
        headers: &Headers,
        source: &ResponseSource,
    ) -> Responded {
        let status = headers.get_str(":status");
        let mut r = Responding {
            host,
            now: host.now(),
            status: status
                .and_then(|status| status.parse().ok())
                .unwrap_or_default(),
            headers,
            source,
            is_call: kept.is_call(),
            prepared: std::mem::take(&mut kept.response),
            replacement: None,
        };
        self.policies.respond(&mut kept.streams, &mut r);
        match r.replacement {
            None => Responded::Change(r.prepared),
            Some(problem) => {
                let replaces = Some(headers);
                let mut reply = self.render(&problem, &kept.client, replaces, &r.prepared);
                keep_headers(headers, source, &r.prepared, &mut reply);
                if let ResponseSource::Gateway(details) = source {
                    // What the host said of it stays for the operator.
                    reply.details.push(':');
                    reply.details.push_str(details);
                }
                Responded::Replace(reply)
            }
        }
    }

    /// Tells the policies that the stream has ended, in whatever way.
    pub fn on_end<H: Host>(&self, host: &H, mut kept: Kept<P::Streams>) {
        self.policies.finish(&mut kept.streams, host);
    }

    fn render(
        &self,
        problem: &Problem,
        client: &Client,
        replaces: Option<&Headers>,
        common: &ResponseHeaders,
    ) -> LocalReply {
        let context = RenderContext {
            request_id: client.request_id.as_deref(),
            accept: client.accept.as_deref(),
            grpc: client.grpc,
            content_type: client.content_type.as_deref(),
            origin: client.origin.as_deref(),
            replaces,
        };
        self.policies
            .render(problem, &context, common)
            .unwrap_or_else(|| problem.render(&context, common))
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

    /// The answer to a request whose headers the host would not hand over. Nothing is known of who
    /// asks.
    pub fn on_unreadable_request<H: Host>(&self, host: &H) -> LocalReply {
        self.answer_fault(host, &Client::default(), &ResponseHeaders::default())
    }

    /// The answer to a request that was to go on, and whose headers the host would not change.
    /// `request` are they as they stand now.
    pub fn on_unchangeable_request<H: Host>(
        &self,
        host: &H,
        kept: &Kept<P::Streams>,
        request: &Headers,
    ) -> LocalReply {
        // Who asks is kept only where a policy awaits the response.
        match kept.client == Client::default() {
            true => self.answer_fault(host, &Client::of(request, None), &kept.response),
            false => self.answer_fault(host, &kept.client, &kept.response),
        }
    }

    fn answer_fault<H: Host>(
        &self,
        host: &H,
        client: &Client,
        common: &ResponseHeaders,
    ) -> LocalReply {
        let decision = Decision::Deny(&GATEWAY_FAULT);
        self.telemetry
            .record(host, &self.apis, None, &Facts::default(), decision);
        let problem = Problem::new(&GATEWAY_FAULT, "The gateway could not read the request.");
        self.render(&problem, client, None, common)
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
            (Err(ambiguous), TargetUse::Enforce) => {
                Err(Problem::new(&REQUEST_AMBIGUOUS, ambiguous.explanation()).into())
            }
        }
    }

    fn conclude<H: Host>(
        &self,
        verdict: Result<(), Box<Problem>>,
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
        self.tell_limits(&mut x);
        if *x.path != *raw_path {
            x.edits.set(":path", x.path.into_owned());
        }
        let refused = verdict.is_err();
        let client = match refused || self.policies.awaits_response(&streams) {
            true => Client::of(x.request, x.facts.request_id.take()),
            false => Client::default(),
        };
        let outcome = match verdict {
            Ok(()) => Outcome::Forward,
            Err(problem) => Outcome::Reply(self.render(&problem, &client, None, &x.response)),
        };
        Judged {
            outcome,
            edits: x.edits,
            kept: Kept {
                response: x.response,
                client,
                streams,
            },
        }
    }
}

impl<P> Chain<P> {
    /// Prepares what the client is told of the limits that its request met.
    fn tell_limits<H>(&self, x: &mut Exchange<'_, H>) {
        let cross_origin = x.request.get("origin").is_some();
        limit_headers::set(
            &self.limit_headers,
            &x.limits,
            cross_origin,
            &mut x.response,
        );
    }
}
