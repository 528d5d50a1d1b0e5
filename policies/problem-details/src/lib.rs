//! Errors as problem details (RFC 9457): the gateway's refusals in the form that the client reads
//! best and in the operator's words, Envoy's own errors, and if wanted an upstream's bare ones.
//!
//! ```yaml
//! problem_details:
//!   type_base: https://errors.bank.example/
//!   overrides:
//!     quota-exceeded: { members: { support: "https://dev.bank.example/quota" } }
//!     default_5xx: { detail: Something went wrong on our side. }
//!   wrap: [gateway, upstream_bare_5xx]
//! ```
//!
//! A body is never looked at: what is to be replaced is known from the headers, and the answer is
//! given in their place. So responses that are no errors cost nothing, and stream as ever.

use std::borrow::Cow;

use tollgate_core::config::Rejected;
use tollgate_core::headers::{HeaderName, Headers};
use tollgate_core::host::Host;
use tollgate_core::policy::{
    Callbacks, Compile, Exchange, Policy, Responding, ResponseHeaders, ResponseSource, ResponseUse,
    Step, StepResult,
};
use tollgate_core::problem::{Kind, LocalReply, Problem, RenderContext};
use tollgate_core::text::Text;
use tollgate_problem_format::grpc::{self, WebFormat};
use tollgate_problem_format::{
    CONTENT_SECURITY_POLICY, Document, EnvoyReply, MediaType, Section, Settings, Wrap, choose,
    from_call_details, from_details, kinds,
};

/// The upstream has failed, and its answer is not shown.
pub static UPSTREAM_FAILED: Kind = Kind {
    name: "upstream-failed",
    status: 502,
    registered: None,
};
/// The upstream has refused the request, and its answer is not shown.
pub static UPSTREAM_REFUSED: Kind = Kind {
    name: "upstream-refused",
    status: 400,
    registered: None,
};

/// The policy; see the crate's documentation.
pub struct ProblemDetails {
    settings: Settings,
}

impl Policy for ProblemDetails {
    const SECTION: &'static str = "problem_details";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS.union(Callbacks::RESPONSE_HEADERS);
    type Section = Section;
    type Stream = ();

    fn kinds(kinds: &mut Vec<&'static Kind>) {
        kinds.extend(kinds::KINDS);
        kinds.extend([&UPSTREAM_FAILED, &UPSTREAM_REFUSED]);
    }

    fn compile(section: Section, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        let settings = Settings::compile(section, &cx.kinds, Self::SECTION, cx.errors)?;
        Ok(ProblemDetails { settings })
    }

    fn step<H: Host>(&self, _step: Step, (): &mut (), _x: &mut Exchange<'_, H>) -> StepResult {
        Ok(())
    }

    fn response_use(&self, (): &()) -> ResponseUse {
        let wraps = [
            Wrap::Gateway,
            Wrap::UpstreamBare4xx,
            Wrap::UpstreamBare5xx,
            Wrap::UpstreamGrpc,
        ];
        match wraps.into_iter().any(|wrap| self.settings.wraps(wrap)) {
            true => ResponseUse::Errors,
            false => ResponseUse::None,
        }
    }

    fn respond<H: Host>(&self, (): &mut (), r: &mut Responding<'_, H>) {
        if r.replacement.is_some() || is_problem(r.headers) {
            return;
        }
        let problem = match (r.source, failed_call(r)) {
            (ResponseSource::Gateway(details), Some(code)) => {
                self.of_gateway_to_call(code, details, r.headers)
            }
            (ResponseSource::Upstream, Some(code)) => self.of_upstream_to_call(code),
            (_, None) if r.status < 400 => None,
            (ResponseSource::Gateway(details), None) => {
                self.of_gateway(r.status, details, r.headers)
            }
            (ResponseSource::Upstream, None) => self.of_upstream(r.status),
        };
        r.replacement = problem.map(Box::new);
    }

    fn render(
        &self,
        problem: &Problem,
        context: &RenderContext<'_>,
        common: &ResponseHeaders,
    ) -> Option<LocalReply> {
        Some(self.write(problem, context, common))
    }
}

impl ProblemDetails {
    fn of_gateway(&self, status: u16, details: &str, headers: &Headers) -> Option<Problem> {
        let reply = from_details(status, details)?;
        // What an operator or a service has written says more than we could.
        let is_written = reply.is_authored && !is_empty(headers);
        (self.settings.wraps(Wrap::Gateway) && !is_written)
            .then(|| problem(&reply, headers).with_status(status))
    }

    fn of_upstream(&self, status: u16) -> Option<Problem> {
        let (wrap, kind, detail) = match status {
            400..=499 => (
                Wrap::UpstreamBare4xx,
                &UPSTREAM_REFUSED,
                "The service has refused the request.",
            ),
            _ => (
                Wrap::UpstreamBare5xx,
                &UPSTREAM_FAILED,
                "The service could not answer the request.",
            ),
        };
        self.settings
            .wraps(wrap)
            .then(|| Problem::new(kind, detail).with_status(status))
    }

    /// The status is the kind's own: Envoy's is not told.
    fn of_gateway_to_call(&self, code: i32, details: &str, headers: &Headers) -> Option<Problem> {
        let reply = from_call_details(code, details)?;
        let message = headers.get("grpc-message").unwrap_or_default();
        let is_written = reply.is_authored && !message.is_empty();
        (self.settings.wraps(Wrap::Gateway) && !is_written).then(|| problem(&reply, headers))
    }

    /// What the upstream says is wrong with the call is part of its API; how it has failed itself is
    /// not.
    fn of_upstream_to_call(&self, code: i32) -> Option<Problem> {
        (self.settings.wraps(Wrap::UpstreamGrpc) && grpc::is_servers_fault(code)).then(|| {
            let detail = "The service could not answer the request.";
            Problem::new(&UPSTREAM_FAILED, detail).with_grpc_status(code)
        })
    }

    fn write(
        &self,
        problem: &Problem,
        context: &RenderContext<'_>,
        common: &ResponseHeaders,
    ) -> LocalReply {
        let mut document = Document::new(problem.kind(), problem.detail());
        document.status = problem.status();
        document.instance = context.instance().map(Cow::Owned);
        for (name, value) in problem.extensions() {
            document.extend(*name, Cow::Borrowed(value));
        }
        let status = document.status;
        self.settings.apply(problem.kind(), &mut document);
        let code = match problem.grpc_status() {
            Some(code) if document.status == status => code,
            _ => grpc::code(document.status),
        };
        let mut reply = LocalReply {
            status: document.status,
            headers: self.headers(problem, common),
            body: Vec::new(),
            grpc_status: None,
            details: problem.kind().details(),
        };
        let web = context.content_type.and_then(WebFormat::of);
        if context.grpc {
            reply.grpc_status = Some(code);
            reply.body = document.detail.as_bytes().to_vec();
        } else if let Some(format) = web {
            reply.status = 200;
            reply.set("content-type", format.content_type());
            reply.body = format.trailers(code, &document.detail);
        } else {
            let media = choose(context.accept.into_iter());
            reply.set("content-type", media.content_type());
            reply.set("content-language", self.settings.language().clone());
            reply.set("vary", "accept");
            let set = self.settings.headers(problem.kind());
            let mut set_unless_overridden = |name: &'static str, value: &'static str| {
                if !set.iter().any(|(own, _)| *own == name) {
                    reply.set(name, value);
                }
            };
            set_unless_overridden("cache-control", "no-store");
            if media == MediaType::Html {
                set_unless_overridden("content-security-policy", CONTENT_SECURITY_POLICY);
            }
            reply.body = document.render(media, self.settings.language());
        }
        if let Some(cors) = self.settings.cors() {
            cors.allow(context, &mut reply.headers);
            if cors.varies() {
                // Also where no script asks: the answer may be kept for one that does.
                reply.add("vary", "origin");
            }
        }
        reply
    }

    /// The problem's own headers, then the operator's in place of those, then what every response to
    /// the request gets.
    fn headers(&self, problem: &Problem, common: &ResponseHeaders) -> Vec<(HeaderName, Text)> {
        let set = self.settings.headers(problem.kind());
        let is_set = |name: &str| set.iter().any(|(own, _)| own == name);
        let own = problem.headers().iter().filter(|(name, _)| !is_set(name));
        let mut headers: Vec<(HeaderName, Text)> = Vec::with_capacity(TYPICAL_HEADERS);
        headers.extend(own.cloned());
        headers.extend_from_slice(set);
        common.append_to(&mut headers);
        headers
    }
}

/// The problem in place of an answer of Envoy's with these headers. One that asks for credentials
/// says how to send them (RFC 9110 section 15.5.2), if the answer did not.
fn problem(reply: &EnvoyReply, headers: &Headers) -> Problem {
    let problem = Problem::new(reply.kind, reply.detail);
    match reply.challenge {
        Some(challenge) if headers.get("www-authenticate").is_none() => {
            problem.with_header("www-authenticate", challenge)
        }
        _ => problem,
    }
}

/// As many as a problem has with those of all policies.
const TYPICAL_HEADERS: usize = 16;

/// The gRPC status code of an error that a call got in the headers, in place of messages and
/// trailers (gRPC over HTTP2, "Trailers-Only").
fn failed_call<H>(r: &Responding<'_, H>) -> Option<i32> {
    const UNKNOWN: i32 = 2;
    let code = r.headers.get_str("grpc-status");
    let code = code.filter(|_| r.is_call && r.status < 400)?;
    let code = code.parse().unwrap_or(UNKNOWN);
    (code != 0).then_some(code)
}

/// Whether an answer is a problem already.
fn is_problem(headers: &Headers) -> bool {
    headers.get("content-type").is_some_and(|value| {
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        essence.eq_ignore_ascii_case(b"application/problem+json")
            || essence.eq_ignore_ascii_case(b"application/problem+xml")
    })
}

/// Whether an answer has no body.
fn is_empty(headers: &Headers) -> bool {
    match headers.get("content-length") {
        Some(length) => length == b"0",
        None => headers.get("content-type").is_none(),
    }
}

#[cfg(test)]
mod tests;
