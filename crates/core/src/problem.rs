//! Refusals: one type from which every answer of the gateway is rendered (RFC 9457).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serializer;
use serde_json::{Value, json};

use crate::headers::{HeaderName, Headers};
use crate::policy::ResponseHeaders;
use crate::text::Text;

/// A named sort of refusal. The name is stable: metrics, access logs and clients' programs use it.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// `api-key-expired`: lower-case words joined by hyphens.
    pub name: &'static str,
    /// The HTTP status code, 400 to 599; below that for a refusal that leads elsewhere, as 308.
    pub status: u16,
    /// The problem type's own URI and title; without one the type is `about:blank`.
    pub registered: Option<RegisteredType>,
}

/// A problem type that has a URI of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct RegisteredType {
    /// An absolute URI.
    pub uri: &'static str,
    /// Says the same for every occurrence (RFC 9457 section 3.1.3).
    pub title: &'static str,
}

/// A limit is used up (draft-ietf-httpapi-ratelimit-headers-11, "Problem Types").
pub const QUOTA_EXCEEDED_TYPE: RegisteredType = RegisteredType {
    uri: "https://iana.org/assignments/http-problem-types#quota-exceeded",
    title: "Request cannot be satisfied as assigned quota has been exceeded",
};

/// The request's target can be read in more than one way, so no rule can safely be applied to it.
pub static REQUEST_AMBIGUOUS: Kind = Kind {
    name: "request-ambiguous",
    status: 400,
    registered: None,
};

/// What the API needs was not sent (RFC 6750 section 3.1: no error is named then).
pub static CREDENTIALS_MISSING: Kind = Kind {
    name: "credentials-missing",
    status: 401,
    registered: None,
};

/// More requests wait than the gateway keeps.
pub static GATEWAY_CROWDED: Kind = Kind {
    name: "gateway-crowded",
    status: 503,
    registered: None,
};

/// The host did not hand over what is needed to judge the request.
pub static GATEWAY_FAULT: Kind = Kind {
    name: "gateway-fault",
    status: 503,
    registered: None,
};

impl Kind {
    /// What operators see of a refusal as Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub fn details(&self) -> String {
        ["tollgate{", self.name, "}"].concat()
    }
}

/// One refusal: its kind, and what is particular to this occurrence.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    kind: &'static Kind,
    /// The status where it is not the kind's own.
    status: Option<u16>,
    /// The gRPC status code where it is not the one that the status stands for.
    grpc_status: Option<i32>,
    detail: Text,
    extensions: Vec<(&'static str, Value)>,
    headers: Vec<(HeaderName, Text)>,
}

impl Problem {
    /// A refusal with an explanation for the client: it must not tell internals or secrets.
    pub fn new(kind: &'static Kind, detail: impl Into<Text>) -> Self {
        Problem {
            kind,
            status: None,
            grpc_status: None,
            detail: detail.into(),
            extensions: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Adds an extension member to the body (RFC 9457 section 3.2).
    #[must_use]
    pub fn with(mut self, member: &'static str, value: Value) -> Self {
        self.extensions.push((member, value));
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<HeaderName>, value: impl Into<Text>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets another status than the kind's, for an answer whose status is given.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets another gRPC status code than the one that the status stands for, for an answer whose
    /// code is given.
    #[must_use]
    pub fn with_grpc_status(mut self, code: i32) -> Self {
        self.grpc_status = Some(code);
        self
    }

    /// The sort of refusal.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(self.kind.status)
    }

    /// The gRPC status code, where it is not the one that the status stands for.
    pub fn grpc_status(&self) -> Option<i32> {
        self.grpc_status
    }

    /// The explanation for the client.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The extension members of the body.
    pub fn extensions(&self) -> &[(&'static str, Value)] {
        &self.extensions
    }

    /// The headers of the answer.
    pub fn headers(&self) -> &[(HeaderName, Text)] {
        &self.headers
    }

    /// Renders the answer: problem+json, or for a gRPC call its status and message.
    ///
    /// `common` are the headers that every response of this request gets; the problem's own win.
    pub fn render(&self, context: &RenderContext<'_>, common: &ResponseHeaders) -> LocalReply {
        let mut headers = self.headers.clone();
        common.append_to(&mut headers);
        let (grpc_status, body) = if context.grpc {
            (
                Some(
                    self.grpc_status
                        .unwrap_or_else(|| grpc_status(self.status())),
                ),
                self.detail.as_bytes().to_vec(),
            )
        } else {
            headers.push(("content-type".into(), "application/problem+json".into()));
            headers.push(("cache-control".into(), "no-store".into()));
            (None, self.body(context))
        };
        LocalReply {
            status: self.status(),
            headers,
            body,
            grpc_status,
            details: self.kind.details(),
        }
    }

    /// The members in the order in which RFC 9457 presents them, ours behind.
    fn body(&self, context: &RenderContext<'_>) -> Vec<u8> {
        let (uri, title) = match &self.kind.registered {
            Some(registered) => (registered.uri, registered.title),
            None => ("about:blank", status_phrase(self.status())),
        };
        let mut members = vec![
            ("type", json!(uri)),
            ("title", json!(title)),
            ("status", json!(self.status())),
            ("detail", json!(self.detail())),
        ];
        members.extend(
            context
                .instance()
                .map(|instance| ("instance", json!(instance))),
        );
        members.push(("kind", json!(self.kind.name)));
        members.extend_from_slice(&self.extensions);
        let mut body = Vec::with_capacity(256);
        let mut serializer = serde_json::Serializer::new(&mut body);
        // Names are text and the values are JSON already, so nothing can fail.
        let _ = serializer.collect_map(members);
        body
    }
}

/// What a problem takes from the request it answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenderContext<'a> {
    /// The media types that the client accepts, as its `accept` headers name them, joined by commas.
    pub accept: Option<&'a [u8]>,
    /// The request's id, from which `instance` is made.
    pub request_id: Option<&'a str>,
    /// Whether the request is a gRPC call.
    pub grpc: bool,
    /// The request's content type, by which gRPC-Web is known.
    pub content_type: Option<&'a [u8]>,
    /// Where the script comes from that has made the request: its `origin` (Fetch section 3.2).
    pub origin: Option<&'a [u8]>,
    /// The headers of the response whose place the problem takes.
    pub replaces: Option<&'a Headers>,
}

impl RenderContext<'_> {
    /// A URI that names this occurrence: `urn:uuid:…` where the request's id is a UUID.
    pub fn instance(&self) -> Option<String> {
        self.request_id.map(instance)
    }
}

/// An answer that the gateway gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// The HTTP status; on a gRPC call the host sends 200 instead.
    pub status: u16,
    /// The headers, content type included.
    pub headers: Vec<(HeaderName, Text)>,
    /// The body; on a gRPC call its `grpc-message`.
    pub body: Vec<u8>,
    /// The gRPC status code if the request is a gRPC call.
    pub grpc_status: Option<i32>,
    /// What the operator sees as Envoy's `%RESPONSE_CODE_DETAILS%`; no spaces.
    pub details: String,
}

impl LocalReply {
    /// Adds to a header that is a list.
    pub fn add(&mut self, name: &'static str, member: &'static str) {
        match self.headers.iter_mut().find(|(known, _)| known == name) {
            Some((_, value)) => {
                value.push_str(", ");
                value.push_str(member);
            }
            None => self.headers.push((name.into(), member.into())),
        }
    }

    /// Sets a header, in place of one of that name.
    pub fn set(&mut self, name: &'static str, value: impl Into<Text>) {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.into(), value.into()));
    }
}

/// `urn:uuid:…` for a UUID (RFC 9562), a private URN for an id of any other form.
fn instance(request_id: &str) -> String {
    const ALLOWED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    if is_uuid(request_id) {
        ["urn:uuid:", request_id].concat()
    } else {
        format!(
            "urn:x-request-id:{}",
            utf8_percent_encode(request_id, ALLOWED)
        )
    }
}

fn is_uuid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The status phrases of RFC 9110, which `about:blank` problems have as their title.
fn status_phrase(status: u16) -> &'static str {
    match status {
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        410 => "Gone",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        status if status < 500 => "Client Error",
        _ => "Server Error",
    }
}

/// The gRPC status that says what the HTTP status says. 429 is RESOURCE_EXHAUSTED, which clients
/// do not blindly retry, rather than the UNAVAILABLE that a proxy would make of it.
fn grpc_status(status: u16) -> i32 {
    match status {
        400 => 3,        // INVALID_ARGUMENT
        401 => 16,       // UNAUTHENTICATED
        403 => 7,        // PERMISSION_DENIED
        404 | 410 => 12, // UNIMPLEMENTED
        429 => 8,        // RESOURCE_EXHAUSTED
        500 => 13,       // INTERNAL
        502..=504 => 14, // UNAVAILABLE
        _ => 2,          // UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    static TEAPOT: Kind = Kind {
        name: "api-key-expired",
        status: 401,
        registered: None,
    };

    fn render(context: &RenderContext<'_>) -> LocalReply {
        let mut common = ResponseHeaders::default();
        common.set("x-request-id", "1");
        common.set("www-authenticate", "no");
        Problem::new(&TEAPOT, "The key expired.")
            .with("expired", json!("2026-01-01"))
            .with_header("www-authenticate", "ApiKey")
            .render(context, &common)
    }

    #[test]
    fn an_http_request_is_answered_with_problem_json() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let reply = render(&RenderContext {
            request_id: Some(id),
            ..RenderContext::default()
        });
        let text = String::from_utf8(reply.body.clone()).unwrap();
        assert!(text.starts_with(r#"{"type":"about:blank","title":"Unauthorized","status":401,"#));
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            body,
            json!({
                "type": "about:blank",
                "title": "Unauthorized",
                "status": 401,
                "detail": "The key expired.",
                "instance": "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
                "kind": "api-key-expired",
                "expired": "2026-01-01",
            })
        );
        assert_eq!(reply.details, "tollgate{api-key-expired}");
        let header = |name: &str| {
            let found: Vec<_> = reply.headers.iter().filter(|(n, _)| n == name).collect();
            assert!(found.len() <= 1, "{name} is repeated");
            found.first().map(|(_, value)| value.as_str())
        };
        assert_eq!(header("content-type"), Some("application/problem+json"));
        assert_eq!(header("www-authenticate"), Some("ApiKey"));
        assert_eq!(header("x-request-id"), Some("1"));
        assert_eq!(header("cache-control"), Some("no-store"));
    }

    #[test]
    fn a_grpc_call_is_answered_with_its_status_and_message() {
        let reply = render(&RenderContext {
            grpc: true,
            ..RenderContext::default()
        });
        assert_eq!(reply.grpc_status, Some(16));
        assert_eq!(reply.body, b"The key expired.");
        assert!(!reply.headers.iter().any(|(name, _)| name == "content-type"));
    }

    #[test]
    fn an_id_that_is_no_uuid_still_makes_a_uri() {
        assert_eq!(instance("a b/ü"), "urn:x-request-id:a%20b%2F%C3%BC");
    }
}
