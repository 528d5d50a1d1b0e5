//! What the echo upstream makes of a request: the record of it, and the answer.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde::{Deserialize, Serialize};

/// A request as the upstream received it.
#[derive(Clone, Debug)]
pub struct Received {
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// Its method.
    pub method: Method,
    /// Its path and query, as they were on the wire.
    pub path: String,
    /// Its headers; `host` is there for HTTP/2 too, from `:authority`.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Received {
    pub(crate) async fn read(request: http::Request<Incoming>) -> Result<Self, hyper::Error> {
        let (mut head, body) = request.into_parts();
        if let Some(authority) = head.uri.authority()
            && let Ok(host) = authority.as_str().parse()
        {
            head.headers.entry(http::header::HOST).or_insert(host);
        }
        let path = match head.uri.path_and_query() {
            Some(path) => path.as_str().to_owned(),
            None => head.uri.to_string(),
        };
        Ok(Self {
            version: head.version,
            method: head.method,
            path,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    /// The value of a header; the first one where it is repeated, `None` where it is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn is_grpc(&self) -> bool {
        let content_type = self.header("content-type").unwrap_or_default();
        content_type.starts_with("application/grpc")
    }

    /// The value of one of the headers that ask for an answer other than the usual one.
    pub(crate) fn asks<T: FromStr>(&self, name: &str) -> Option<T> {
        self.header(name)?.parse().ok()
    }

    fn to_echo(&self) -> Echo {
        let headers = self.headers.iter().map(|(name, value)| {
            let value = match std::str::from_utf8(value.as_bytes()) {
                Ok(text) => text.to_owned(),
                Err(_) => value.as_bytes().iter().map(|byte| *byte as char).collect(),
            };
            (name.to_string(), value)
        });
        Echo {
            method: self.method.to_string(),
            path: self.path.clone(),
            headers: headers.collect(),
            body_length: self.body.len(),
        }
    }
}

/// What the upstream received, as it says in its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The method.
    pub method: String,
    /// Path and query, as they were on the wire.
    pub path: String,
    /// Names in lower case and values; repeats follow one another in their order. A value that is
    /// not UTF-8 has one character for each byte (Latin-1).
    pub headers: Vec<(String, String)>,
    /// How many bytes the body had.
    pub body_length: usize,
}

impl Echo {
    /// The value of a header; the first one where it is repeated.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).first().copied()
    }

    /// All values of a header.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(seen, _)| seen == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }
}

/// The usual answer, or what the request asks for.
pub(crate) fn echo(request: &Received) -> Response<EchoBody> {
    let mut response = Response::new(echo_body(request));
    let content_type = match (request.is_grpc(), request.header("x-echo-body")) {
        (true, _) => "application/grpc",
        (false, None) => "application/json",
        (false, Some(_)) => "text/plain",
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for value in request.headers.get_all("x-echo-header") {
        if let Some((name, value)) = parse_header(value) {
            // The usual content type gives way to one that was asked for.
            if name == CONTENT_TYPE {
                headers.insert(name, value);
            } else {
                headers.append(name, value);
            }
        }
    }
    if let Some(status) = request.asks("x-echo-status") {
        *response.status_mut() = status;
    }
    response
}

fn echo_body(request: &Received) -> EchoBody {
    if let Some(size) = request.asks("x-echo-body-size") {
        return EchoBody::chunked(size);
    }
    let content = match request.headers.get("x-echo-body") {
        Some(text) => Bytes::copy_from_slice(text.as_bytes()),
        None => serde_json::to_vec(&request.to_echo())
            .expect("an echo is JSON")
            .into(),
    };
    if request.header("x-echo-reset") == Some("body") {
        return EchoBody::broken(content);
    }
    if request.is_grpc() {
        let status = request.asks("x-echo-grpc-status").unwrap_or(0);
        return EchoBody::grpc(&content, status);
    }
    EchoBody::sized(content)
}

fn parse_header(value: &HeaderValue) -> Option<(HeaderName, HeaderValue)> {
    let bytes = value.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&bytes[..colon]).ok()?;
    let value = HeaderValue::from_bytes(bytes[colon + 1..].trim_ascii()).ok()?;
    Some((name, value))
}

/// A body that is known beforehand.
pub(crate) struct EchoBody {
    frames: VecDeque<Result<Frame<Bytes>, io::Error>>,
    /// How many `x` follow behind the frames.
    padding: usize,
    /// The content-length, where it is to be sent.
    length: Option<u64>,
    /// Whether what comes before an error was given the time to be sent.
    flushed: bool,
}

/// A chunk of a body that is longer than one.
static PADDING: [u8; 16 << 10] = [b'x'; 16 << 10];

impl EchoBody {
    pub(crate) fn sized(content: Bytes) -> Self {
        Self {
            length: Some(content.len() as u64),
            frames: match content.is_empty() {
                true => VecDeque::new(),
                false => VecDeque::from([Ok(Frame::data(content))]),
            },
            padding: 0,
            flushed: false,
        }
    }

    /// So many `x`, made as they are sent: however many there are, they need no memory.
    fn chunked(size: usize) -> Self {
        Self {
            padding: size,
            ..Self::streamed(VecDeque::new())
        }
    }

    fn broken(content: Bytes) -> Self {
        let error = io::Error::other("the request asked for a reset");
        Self::streamed(VecDeque::from([Ok(Frame::data(content)), Err(error)]))
    }

    fn grpc(message: &[u8], status: u32) -> Self {
        let mut content = BytesMut::new();
        content.put_u8(0);
        content.put_u32(message.len().try_into().expect("a message under 4 GiB"));
        content.put_slice(message);
        let status = HeaderMap::from_iter([(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from(status),
        )]);
        let content = Frame::data(content.freeze());
        Self::streamed(VecDeque::from([Ok(content), Ok(Frame::trailers(status))]))
    }

    fn streamed(frames: VecDeque<Result<Frame<Bytes>, io::Error>>) -> Self {
        Self {
            frames,
            padding: 0,
            length: None,
            flushed: false,
        }
    }
}

impl Body for EchoBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        // The server sends what it has when it must wait, and drops it on an error.
        if matches!(self.frames.front(), Some(Err(_))) && !self.flushed {
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(frame));
        }
        let chunk = &PADDING[..self.padding.min(PADDING.len())];
        self.padding -= chunk.len();
        let frame = (!chunk.is_empty()).then(|| Ok(Frame::data(Bytes::from_static(chunk))));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.padding == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}
