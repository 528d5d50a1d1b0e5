//! What an answer takes from the request and from the response whose place it takes.

use crate::headers::{HeaderName, Headers};
use crate::policy::{ResponseHeaders, ResponseSource};
use crate::problem::LocalReply;
use crate::text::Text;

/// What the rendering of a refusal has to know of who asked.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Client {
    pub(super) request_id: Option<Text>,
    /// The `accept` headers, joined.
    pub(super) accept: Option<Vec<u8>>,
    pub(super) grpc: bool,
    pub(super) content_type: Option<Vec<u8>>,
    /// The `origin`, where there is one.
    pub(super) origin: Option<Vec<u8>>,
}

impl Client {
    pub(super) fn of(request: &Headers, request_id: Option<Text>) -> Self {
        let inbound_id = || request.get_str("x-request-id").filter(|id| is_plain_id(id));
        let mut accept: Vec<&[u8]> = request.get_all("accept").collect();
        Client {
            request_id: request_id.or_else(|| inbound_id().map(|id| id.to_owned().into())),
            accept: match accept.len() {
                0 => None,
                1 => accept.pop().map(<[u8]>::to_vec),
                _ => Some(accept.join(&b", "[..])),
            },
            grpc: is_grpc(request),
            content_type: request.get("content-type").map(<[u8]>::to_vec),
            origin: only(request, "origin").map(<[u8]>::to_vec),
        }
    }

    /// Whether it calls by gRPC or gRPC-Web.
    pub(super) fn is_call(&self) -> bool {
        self.grpc || self.content_type.as_deref().is_some_and(is_grpc_web)
    }
}

/// The value of a header that must not be repeated.
fn only<'a>(request: &'a Headers, name: &str) -> Option<&'a [u8]> {
    let mut values = request.get_all(name);
    let value = values.next();
    value.filter(|_| values.next().is_none())
}

/// Hands on what a response that is replaced says beside its body: challenges, cookies, what other
/// filters have added. What the new answer has of its own goes first, except in lists: there both
/// have their part, as where the response is not replaced.
pub(super) fn keep_headers(
    headers: &Headers,
    source: &ResponseSource,
    prepared: &ResponseHeaders,
    reply: &mut LocalReply,
) {
    let joins = |(name, value): &&(HeaderName, Text)| {
        LISTS.contains(&name.as_str())
            || prepared
                .iter()
                .any(|header| header.joins && header.name == *name && header.value == *value)
    };
    let own = reply.headers.iter().filter(|header| !joins(header));
    let own: Vec<HeaderName> = own.map(|(name, _)| name.clone()).collect();
    for (name, value) in headers.iter() {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            continue;
        };
        let is_own = own.iter().any(|known| known == name);
        let of_gateway = *source != ResponseSource::Upstream;
        // Tells how long the whole is, of which no part was given (RFC 9110 section 15.5.17).
        let is_of_status = reply.status == 416 && name == "content-range";
        let is_left =
            is_own || (is_of_body(name) && !is_of_status) || (of_gateway && name == "server");
        if !is_left {
            let name = HeaderName::from(name.to_owned());
            reply.headers.push((name, value.to_owned().into()));
        }
    }
}

/// Headers of every answer that are lists.
const LISTS: [&str; 2] = ["access-control-expose-headers", "vary"];

/// Whether a header is about the body or the connection, so that another body has another one.
fn is_of_body(name: &str) -> bool {
    const EXACT: [&str; 17] = [
        "accept-ranges",
        "age",
        "cache-control",
        "connection",
        "date",
        "digest",
        "etag",
        "expires",
        "grpc-message",
        "grpc-status",
        "grpc-status-details-bin",
        "keep-alive",
        "last-modified",
        "repr-digest",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    name.starts_with(':') || name.starts_with("content-") || EXACT.contains(&name)
}

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

/// Whether a content type is one of gRPC-Web: `application/grpc-web` or `application/grpc-web-text`,
/// alone, with a format or with parameters.
fn is_grpc_web(content_type: &[u8]) -> bool {
    const START: &[u8] = b"application/grpc-web";
    let start = content_type.get(..START.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(START))
}
