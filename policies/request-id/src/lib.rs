//! Request ids: every request has one, the client sees it on every response, the upstream gets it,
//! and every problem names it. With it, a W3C trace is joined or started.
//!
//! ```yaml
//! request_id:
//!   header: x-request-id
//!   format: uuid7
//!   accept: { from: [10.0.0.0/8], max_length: 128 }
//! ```

mod config;
mod id;
mod trace;

use tollgate_core::config::Rejected;
use tollgate_core::headers::Headers;
use tollgate_core::host::Host;
use tollgate_core::policy::{Callbacks, Compile, Exchange, Policy, Step, StepResult};
use tollgate_core::text::Text;

pub use config::{Accept, Authority, Format, RequestIdConfig, TraceContext};
use id::Generator;
use trace::{TRACEPARENT, TRACESTATE, TraceId, Traceparent};

/// The policy; see the crate's documentation.
pub struct RequestId {
    config: RequestIdConfig,
    generator: Generator,
}

impl Policy for RequestId {
    const SECTION: &'static str = "request_id";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS.union(Callbacks::RESPONSE_HEADERS);
    type Section = RequestIdConfig;
    type Stream = ();

    fn compile(config: RequestIdConfig, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        config.check(cx.errors)?;
        Ok(RequestId {
            config,
            generator: Generator::default(),
        })
    }

    fn step<H: Host>(&self, step: Step, (): &mut (), x: &mut Exchange<'_, H>) -> StepResult {
        if step == Step::Identify {
            self.identify(x);
        }
        Ok(())
    }
}

impl RequestId {
    fn identify<H: Host>(&self, x: &mut Exchange<'_, H>) {
        let reads_trace = self.config.trace_context.reads();
        let parent = Traceparent::read(x.request).filter(|_| reads_trace);
        let (id, trace) = match self.accepted(x) {
            Some(id) => (Text::from(id.to_owned()).shared(), None),
            None => {
                let (id, trace) = self.make(parent, x);
                let id = Text::from(id).shared();
                x.edits.set(self.config.header.to_header_name(), id.clone());
                (id, trace)
            }
        };
        if self.config.echo {
            x.response
                .set(self.config.header.to_header_name(), id.clone());
        }
        x.facts.request_id = Some(id);
        if reads_trace && parent.is_none() {
            self.restart_trace(trace, x);
        }
    }

    /// The id that the request brought, if it is one, well-formed, and from somebody whose ids are
    /// kept.
    fn accepted<'a, H: Host>(&self, x: &Exchange<'a, H>) -> Option<&'a str> {
        let request: &'a Headers = x.request;
        let mut values = request.get_all(self.config.header.as_str());
        let (first, second) = (values.next(), values.next());
        drop(values);
        let id = std::str::from_utf8(first?)
            .ok()
            .filter(|_| second.is_none())?;
        let kept = id::is_well_formed(id, self.config.accept.max_length)
            && match self.config.authority {
                Authority::Envoy => true,
                Authority::Tollgate => self.trusts_client(x),
            };
        kept.then_some(id)
    }

    fn trusts_client<H: Host>(&self, x: &Exchange<'_, H>) -> bool {
        let trusted = &self.config.accept.from;
        // The address costs a call of the host, so it is asked for only where it can matter.
        !trusted.is_empty()
            && x.client_address()
                .is_some_and(|client| trusted.iter().any(|network| network.contains(client)))
    }

    /// Makes an id, and the id of the trace that it names: the two share their bits.
    fn make<H: Host>(
        &self,
        parent: Option<Traceparent>,
        x: &Exchange<'_, H>,
    ) -> (String, Option<TraceId>) {
        match (self.config.format, parent) {
            (Format::TraceId, Some(parent)) => (parent.trace_id.to_text(), Some(parent.trace_id)),
            (Format::TraceId, None) => {
                let trace = TraceId::from_uuid(self.generator.uuid7(x.now, x.host));
                (trace.to_text(), Some(trace))
            }
            (Format::Uuid7, _) => named(self.generator.uuid7(x.now, x.host)),
            (Format::Uuid4, _) => named(Generator::uuid4(x.host)),
        }
    }

    /// Replaces a trace context that is absent or invalid. A tracestate belongs to its
    /// traceparent, so it goes with an invalid one (W3C Trace Context section 4.3).
    fn restart_trace<H: Host>(&self, trace: Option<TraceId>, x: &mut Exchange<'_, H>) {
        if x.request.get(TRACESTATE).is_some() {
            x.edits.remove(TRACESTATE);
        }
        match self.config.trace_context {
            TraceContext::JoinOrStart => {
                let trace = trace
                    .unwrap_or_else(|| TraceId::from_uuid(self.generator.uuid7(x.now, x.host)));
                x.edits
                    .set(TRACEPARENT, Traceparent::start(trace, x.host).to_text());
            }
            TraceContext::Join if x.request.get(TRACEPARENT).is_some() => {
                x.edits.remove(TRACEPARENT);
            }
            TraceContext::Join | TraceContext::Ignore => {}
        }
    }
}

fn named(uuid: uuid::Uuid) -> (String, Option<TraceId>) {
    let mut text = uuid::Uuid::encode_buffer();
    let text = uuid.hyphenated().encode_lower(&mut text).to_owned();
    (text, Some(TraceId::from_uuid(uuid)))
}

#[cfg(test)]
mod tests;
