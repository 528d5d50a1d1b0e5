//! Policies joined at compile time, each a link that passes everything on to those behind it.

use std::time::Duration;

use crate::config::{Document, Rejected};
use crate::credentials::CredentialSet;
use crate::host::{CalloutId, CalloutResponse, Host};
use crate::policy::{
    Callbacks, Compile, Exchange, Glimpse, Halt, Policy, Responding, ResponseHeaders, ResponseUse,
    Step, TargetUse,
};
use crate::problem::{Kind, LocalReply, Problem, RenderContext};

/// Policies one after the other; built by [`chain!`](macro@crate::chain).
pub trait Policies: Sized {
    /// What they remember of one request.
    type Streams: Default;

    /// The host's callbacks that any of them needs.
    const CALLBACKS: Callbacks;

    /// The names of their sections, appended to `names` in the order of the chain.
    fn sections(names: &mut Vec<&'static str>);

    /// The kinds of their refusals, appended to `kinds`.
    fn kinds(kinds: &mut Vec<&'static Kind>);

    /// The credentials that those check whose sections the document has.
    fn credentials(document: &Document<'_>) -> CredentialSet;

    /// Compiles the sections that the document has.
    fn compile(document: &mut Document<'_>, cx: &mut Compile<'_>) -> Result<Self, Rejected>;

    /// Whether every one that checks credentials has one behind it that decides on access.
    const GUARDED: bool;

    /// Whether one of them decides on access.
    const DECIDES_ACCESS: bool;

    /// What they need of the request's target.
    fn target_use(&self) -> TargetUse;

    /// Whether any of them [reserves](Policy::reserves) this header.
    fn reserves(&self, header: &[u8]) -> bool;

    /// Lets each but the first `passed` take part in a step, until one halts; its place is then
    /// given.
    fn step<H: Host>(
        &self,
        step: Step,
        passed: usize,
        streams: &mut Self::Streams,
        x: &mut Exchange<'_, H>,
    ) -> Result<(), (usize, Halt)>;

    /// Tells each that the request is refused after all, or given up.
    fn undo<H: Host>(&self, streams: &mut Self::Streams, x: &mut Exchange<'_, H>);

    /// Whether any of them may have to see the response.
    fn awaits_response(&self, streams: &Self::Streams) -> bool;

    /// Whether any of them has to see this response.
    fn has_to_see(&self, streams: &Self::Streams, response: &impl Glimpse) -> bool;

    /// Shows each a response.
    fn respond<H: Host>(&self, streams: &mut Self::Streams, r: &mut Responding<'_, H>);

    /// Lets the first that does so render a refusal.
    fn render(
        &self,
        problem: &Problem,
        context: &RenderContext<'_>,
        common: &ResponseHeaders,
    ) -> Option<LocalReply>;

    /// Tells each that the stream has ended.
    fn finish<H: Host>(&self, streams: &mut Self::Streams, host: &H);

    /// Lets each do what is not for one request, and says when the first wants to do so again.
    fn tick<H: Host>(&self, host: &H) -> Option<Duration>;

    /// Tells each of the answer to a callout.
    fn on_callout<H: Host>(&self, id: CalloutId, response: &CalloutResponse<'_>, host: &H);
}

/// The end of a chain.
pub struct End;

/// A policy, if its section is there, and the policies behind it.
pub struct Link<P, R>(Option<P>, R);

impl Policies for End {
    type Streams = ();
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;
    const GUARDED: bool = true;
    const DECIDES_ACCESS: bool = false;

    fn sections(_names: &mut Vec<&'static str>) {}

    fn kinds(_kinds: &mut Vec<&'static Kind>) {}

    fn credentials(_document: &Document<'_>) -> CredentialSet {
        CredentialSet::NONE
    }

    fn compile(_document: &mut Document<'_>, _cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        Ok(End)
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
        _passed: usize,
        _streams: &mut Self::Streams,
        _x: &mut Exchange<'_, H>,
    ) -> Result<(), (usize, Halt)> {
        Ok(())
    }

    fn undo<H: Host>(&self, (): &mut (), _x: &mut Exchange<'_, H>) {}

    fn awaits_response(&self, (): &()) -> bool {
        false
    }

    fn has_to_see(&self, (): &(), _response: &impl Glimpse) -> bool {
        false
    }

    fn respond<H: Host>(&self, (): &mut (), _r: &mut Responding<'_, H>) {}

    fn render(
        &self,
        _problem: &Problem,
        _context: &RenderContext<'_>,
        _common: &ResponseHeaders,
    ) -> Option<LocalReply> {
        None
    }

    fn finish<H: Host>(&self, (): &mut (), _host: &H) {}

    fn tick<H: Host>(&self, _host: &H) -> Option<Duration> {
        None
    }

    fn on_callout<H: Host>(&self, _id: CalloutId, _response: &CalloutResponse<'_>, _host: &H) {}
}

impl<P: Policy, R: Policies> Policies for Link<P, R> {
    type Streams = (P::Stream, R::Streams);
    const CALLBACKS: Callbacks = P::CALLBACKS.union(R::CALLBACKS);
    const GUARDED: bool = R::GUARDED && (P::CREDENTIAL.is_none() || R::DECIDES_ACCESS);
    const DECIDES_ACCESS: bool = P::DECIDES_ACCESS || R::DECIDES_ACCESS;

    fn sections(names: &mut Vec<&'static str>) {
        names.push(P::SECTION);
        R::sections(names);
    }

    fn kinds(kinds: &mut Vec<&'static Kind>) {
        P::kinds(kinds);
        R::kinds(kinds);
    }

    fn credentials(document: &Document<'_>) -> CredentialSet {
        let own = match P::CREDENTIAL {
            Some(credential) if document.has(P::SECTION) => CredentialSet::of(credential),
            _ => CredentialSet::NONE,
        };
        own.union(R::credentials(document))
    }

    fn compile(document: &mut Document<'_>, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        let policy = match document.take::<P::Section>(P::SECTION, cx.errors) {
            Ok(Some(section)) => P::compile(section, cx).map(Some),
            Ok(None) => match P::DEFAULT_SECTION {
                Some(section) => P::compile(section(), cx).map(Some),
                None => Ok(None),
            },
            Err(rejected) => Err(rejected),
        };
        // The rest is compiled whatever came of this one: all mistakes are reported at once.
        let rest = R::compile(document, cx);
        Ok(Link(policy?, rest?))
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
        passed: usize,
        (own, others): &mut Self::Streams,
        x: &mut Exchange<'_, H>,
    ) -> Result<(), (usize, Halt)> {
        if let Some(policy) = &self.0
            && passed == 0
        {
            policy.step(step, own, x).map_err(|halt| (0, halt))?;
        }
        self.1
            .step(step, passed.saturating_sub(1), others, x)
            .map_err(|(place, halt)| (place.saturating_add(1), halt))
    }

    fn undo<H: Host>(&self, (own, others): &mut Self::Streams, x: &mut Exchange<'_, H>) {
        if let Some(policy) = &self.0 {
            policy.undo(own, x);
        }
        self.1.undo(others, x);
    }

    fn awaits_response(&self, (own, others): &Self::Streams) -> bool {
        let own = self.0.as_ref().map(|policy| policy.response_use(own));
        own.unwrap_or_default() != ResponseUse::None || self.1.awaits_response(others)
    }

    fn has_to_see(&self, (own, others): &Self::Streams, response: &impl Glimpse) -> bool {
        let own = self.0.as_ref().map(|policy| policy.response_use(own));
        own.unwrap_or_default().includes(response) || self.1.has_to_see(others, response)
    }

    fn respond<H: Host>(&self, (own, others): &mut Self::Streams, r: &mut Responding<'_, H>) {
        if let Some(policy) = &self.0 {
            policy.respond(own, r);
        }
        self.1.respond(others, r);
    }

    fn render(
        &self,
        problem: &Problem,
        context: &RenderContext<'_>,
        common: &ResponseHeaders,
    ) -> Option<LocalReply> {
        let own = self.0.as_ref();
        own.and_then(|policy| policy.render(problem, context, common))
            .or_else(|| self.1.render(problem, context, common))
    }

    fn finish<H: Host>(&self, (own, others): &mut Self::Streams, host: &H) {
        if let Some(policy) = &self.0 {
            policy.finish(own, host);
        }
        self.1.finish(others, host);
    }

    fn tick<H: Host>(&self, host: &H) -> Option<Duration> {
        let own = self.0.as_ref().and_then(|policy| policy.tick(host));
        let others = self.1.tick(host);
        own.into_iter().chain(others).min()
    }

    fn on_callout<H: Host>(&self, id: CalloutId, response: &CalloutResponse<'_>, host: &H) {
        if let Some(policy) = &self.0 {
            policy.on_callout(id, response, host);
        }
        self.1.on_callout(id, response, host);
    }
}
