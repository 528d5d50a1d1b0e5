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
use tollgate_problem_format::grpc::{self, WebFormat};
use tollgate_problem_format::{
    CONTENT_SECURITY_POLICY, Document, MediaType, Section, Settings, Wrap, choose, from_details,
    kinds,
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
        let wraps = [Wrap::Gateway, Wrap::UpstreamBare4xx, Wrap::UpstreamBare5xx];
        match wraps.into_iter().any(|wrap| self.settings.wraps(wrap)) {
            true => ResponseUse::Errors,
            false => ResponseUse::None,
        }
    }

    fn respond<H: Host>(&self, (): &mut (), r: &mut Responding<'_, H>) {
        if r.status < 400 || r.replacement.is_some() || is_problem(r.headers) {
            return;
        }
        let problem = match r.source {
            ResponseSource::Gateway(details) => self.of_gateway(r.status, details, r.headers),
            ResponseSource::Upstream => self.of_upstream(r.status),
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
            .then(|| Problem::new(reply.kind, reply.detail).with_status(status))
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

    fn write(
        &self,
        problem: &Problem,
        context: &RenderContext<'_>,
        common: &ResponseHeaders,
    ) -> LocalReply {
        let mut document = Document::new(problem.kind(), problem.detail());
        if document.status != problem.status() {
            document.status = problem.status();
            document.title = tollgate_problem_format::phrase(document.status).into();
        }
        document.instance = context.instance().map(Cow::Owned);
        for (name, value) in problem.extensions() {
            document.extend(*name, Cow::Borrowed(value));
        }
        self.settings.apply(problem.kind(), &mut document);
        let mut reply = LocalReply {
            status: document.status,
            headers: self.headers(problem, common),
            body: Vec::new(),
            grpc_status: None,
            details: format!("tollgate{{{}}}", problem.kind().name),
        };
        let web = context.content_type.and_then(WebFormat::of);
        if context.grpc {
            reply.grpc_status = Some(grpc::code(document.status));
            reply.body = document.detail.as_bytes().to_vec();
        } else if let Some(format) = web {
            reply.status = 200;
            reply.set("content-type", format.content_type());
            reply.body = format.trailers(grpc::code(document.status), &document.detail);
        } else {
            let media = choose(context.accept.into_iter());
            reply.set("content-type", media.content_type());
            reply.set("content-language", self.settings.language());
            reply.set("cache-control", "no-store");
            reply.set("vary", "accept");
            if media == MediaType::Html {
                reply.set("content-security-policy", CONTENT_SECURITY_POLICY);
            }
            reply.body = document.render(media, self.settings.language());
        }
        reply
    }

    /// The problem's own headers, then the operator's in place of those, then what every response to
    /// the request gets.
    fn headers(&self, problem: &Problem, common: &ResponseHeaders) -> Vec<(HeaderName, String)> {
        let set = self.settings.headers(problem.kind());
        let is_set = |name: &str| set.iter().any(|(own, _)| own == name);
        let mut headers: Vec<(HeaderName, String)> = problem
            .headers()
            .iter()
            .filter(|(name, _)| !is_set(name))
            .cloned()
            .collect();
        headers.extend_from_slice(set);
        for header in common.iter() {
            if !headers.iter().any(|(own, _)| *own == header.name) {
                headers.push((header.name.clone(), header.value.clone()));
            }
        }
        headers
    }
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
