//! An HTTP client that does what it is told: no redirects, no decompression, no header of its own
//! but `host`, and the path as given.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::connection::{Protocol, Request, Sender};
use crate::echo::Echo;
use crate::tls::ClientTls;
use crate::wait::DEADLINE;

/// A client of one server. It keeps its connections and opens more when all are busy; a clone
/// shares them.
#[derive(Clone)]
pub struct HttpClient {
    target: Target,
    idle: Arc<Mutex<Vec<Sender>>>,
}

/// Where a client connects to, and how it speaks.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) host: String,
}

impl HttpClient {
    /// A client that speaks HTTP/1.1 and keeps connections alive.
    pub fn http1(address: SocketAddr) -> Self {
        Self::new(address, Protocol::Http1)
    }

    /// A client that speaks HTTP/2, without TLS by prior knowledge.
    pub fn http2(address: SocketAddr) -> Self {
        Self::new(address, Protocol::Http2)
    }

    fn new(address: SocketAddr, protocol: Protocol) -> Self {
        Self::to(Target {
            address,
            protocol,
            tls: None,
            host: "localhost".to_owned(),
        })
    }

    fn to(target: Target) -> Self {
        let idle = Arc::default();
        Self { target, idle }
    }

    /// Speaks TLS. The server's certificate must name [`host`](Self::host).
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.target.tls = Some(tls);
        Self::to(self.target)
    }

    /// Calls the server by this name in `host`, `:authority` and TLS; "localhost" if not set.
    pub fn host(mut self, host: &str) -> Self {
        self.target.host = host.to_owned();
        Self::to(self.target)
    }

    /// A client of the same server that shares no connection with this one.
    pub fn fresh(&self) -> Self {
        Self::to(self.target.clone())
    }

    /// Where it connects to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.target.address
    }

    /// Starts a GET.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Starts a POST.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// Starts a request of any method. The path may have a query; what a [`Uri`] cannot hold is
    /// for [`RawClient`](crate::RawClient).
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        RequestBuilder {
            client: self.clone(),
            method,
            path: path.to_owned(),
            host: self.target.host.clone(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: DEADLINE,
        }
    }

    /// Starts a gRPC call with one message; send it over HTTP/2.
    pub fn grpc(&self, path: &str, message: &[u8]) -> RequestBuilder {
        let mut body = BytesMut::with_capacity(5 + message.len());
        body.put_u8(0);
        body.put_u32(message.len().try_into().expect("a message under 4 GiB"));
        body.put_slice(message);
        self.post(path)
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(body)
    }

    /// Sends on an idle connection, or a new one if there is none or the server has closed it.
    async fn exchange(&self, mut request: Request) -> Result<Reply, ClientError> {
        loop {
            let (mut sender, reused) = self.acquire().await?;
            match sender.send(request).await {
                Ok(response) => {
                    let reply = Reply::read(response).await?;
                    self.give_back(sender).await;
                    return Ok(reply);
                }
                // Nothing of it was sent, so that another connection may send it.
                Err((_, Some(unsent))) if reused => request = unsent,
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// A connection, and whether it has been used before.
    async fn acquire(&self) -> Result<(Sender, bool), ClientError> {
        let mut idle = self.idle.lock().await;
        idle.retain(|sender| !sender.is_closed());
        match (self.target.protocol, idle.last()) {
            (Protocol::Http2, Some(Sender::Http2(sender))) => {
                Ok((Sender::Http2(sender.clone()), true))
            }
            // Locked while it connects: requests made at the same time share the connection.
            (Protocol::Http2, _) => {
                let sender = Sender::connect(&self.target).await?;
                if let Sender::Http2(sender) = &sender {
                    idle.push(Sender::Http2(sender.clone()));
                }
                Ok((sender, false))
            }
            (Protocol::Http1, _) => match idle.pop() {
                Some(sender) => Ok((sender, true)),
                None => {
                    drop(idle);
                    Ok((Sender::connect(&self.target).await?, false))
                }
            },
        }
    }

    async fn give_back(&self, sender: Sender) {
        if matches!(sender, Sender::Http1(_)) {
            self.idle.lock().await.push(sender);
        }
    }
}

/// A request being put together.
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder {
    client: HttpClient,
    method: Method,
    path: String,
    host: String,
    headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
}

impl RequestBuilder {
    /// Adds a header; one that is there already is repeated.
    ///
    /// # Panics
    ///
    /// When HTTP does not allow the name or the value; see [`RawClient`](crate::RawClient).
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
        N::Error: fmt::Debug,
        V::Error: fmt::Debug,
    {
        let name = name.try_into().expect("a header name");
        self.headers
            .append(name, value.try_into().expect("a header value"));
        self
    }

    /// Asks for another host than the client's.
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body and `content-type: application/json`.
    pub fn json(self, body: &Value) -> Self {
        self.header(CONTENT_TYPE, "application/json")
            .body(body.to_string())
    }

    /// Gives up after this time, instead of [`DEADLINE`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the request and reads the whole reply.
    ///
    /// # Panics
    ///
    /// When there is no whole reply; [`try_send`](Self::try_send) gives that as an error.
    pub async fn send(self) -> Reply {
        let name = format!("{} {}", self.method, self.path);
        match self.try_send().await {
            Ok(reply) => reply,
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// Sends the request and reads the whole reply.
    pub async fn try_send(self) -> Result<Reply, ClientError> {
        let timeout = self.timeout;
        let client = self.client.clone();
        match tokio::time::timeout(timeout, client.exchange(self.build())).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout(timeout)),
        }
    }

    /// Sends the request and reads the reply without keeping its body, which may be of any length.
    /// `seen` is told after each part of it how many bytes have come so far.
    ///
    /// # Panics
    ///
    /// When there is no whole reply.
    pub async fn watch(self, mut seen: impl FnMut(u64)) -> (StatusCode, HeaderMap) {
        let name = format!("{} {}", self.method, self.path);
        let timeout = self.timeout;
        let client = self.client.fresh();
        let request = self.build();
        let watching = async {
            let (mut sender, _) = client.acquire().await?;
            let response = sender.send(request).await.map_err(|(error, _)| error)?;
            let (head, mut body) = response.into_parts();
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| ClientError::Body {
                    status: head.status,
                    error,
                })?;
                length += frame.data_ref().map_or(0, |data| data.len() as u64);
                seen(length);
            }
            Ok((head.status, head.headers))
        };
        let watched: Result<_, ClientError> = tokio::time::timeout(timeout, watching)
            .await
            .unwrap_or(Err(ClientError::Timeout(timeout)));
        watched.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn build(self) -> Request {
        let target = &self.client.target;
        let uri = Uri::builder().path_and_query(self.path.as_str());
        let (uri, host) = match target.protocol {
            Protocol::Http1 => (uri, Some(self.host.as_str())),
            Protocol::Http2 => {
                let scheme = if target.tls.is_some() {
                    "https"
                } else {
                    "http"
                };
                (uri.scheme(scheme).authority(self.host.as_str()), None)
            }
        };
        let uri = uri
            .build()
            .unwrap_or_else(|error| panic!("\"{}\" is no path: {error}", self.path));
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers;
        if let Some(host) = host {
            let host = host.parse().expect("a host that fits a header");
            request.headers_mut().entry(HOST).or_insert(host);
        }
        request
    }
}

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its trailers, if it had any.
    pub trailers: Option<HeaderMap>,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    async fn read(response: Response<Incoming>) -> Result<Self, ClientError> {
        let (head, body) = response.into_parts();
        match body.collect().await {
            Ok(body) => Ok(Self {
                status: head.status,
                version: head.version,
                headers: head.headers,
                trailers: body.trailers().cloned(),
                body: body.to_bytes(),
            }),
            Err(error) => Err(ClientError::Body {
                status: head.status,
                error,
            }),
        }
    }

    /// The value of a header; the first one where it is repeated, `None` where it is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All values of a header that are text.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none, showing the reply.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body is no JSON ({error}): {self:?}"))
    }

    /// What the echo upstream says it received.
    ///
    /// # Panics
    ///
    /// When the reply is not the echo's, showing it.
    pub fn echo(&self) -> Echo {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no reply of the echo upstream ({error}): {self:?}"))
    }

    /// The `grpc-status`, from the trailers or, in a reply without body, from the headers.
    pub fn grpc_status(&self) -> Option<u32> {
        self.grpc_field("grpc-status")?.parse().ok()
    }

    /// The `grpc-message`, percent-decoded.
    pub fn grpc_message(&self) -> Option<String> {
        let message = self.grpc_field("grpc-message")?;
        Some(percent_decode_str(message).decode_utf8_lossy().into_owned())
    }

    /// The gRPC messages in the body.
    pub fn grpc_messages(&self) -> Vec<Bytes> {
        let mut rest = self.body.clone();
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let prefix = rest.split_to(5);
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
            messages.push(rest.split_to(length as usize));
        }
        messages
    }

    fn grpc_field(&self, name: &str) -> Option<&str> {
        let trailer = self.trailers.as_ref().and_then(|fields| fields.get(name));
        trailer.or_else(|| self.headers.get(name))?.to_str().ok()
    }
}

/// Why there is no whole reply.
#[derive(Debug)]
pub enum ClientError {
    /// No connection, or no TLS on it.
    Connect(std::io::Error),
    /// The server closed the connection, reset the stream, or spoke no HTTP.
    NoReply(hyper::Error),
    /// The reply began, and broke off.
    Body {
        /// The status it began with.
        status: StatusCode,
        /// How it broke off.
        error: hyper::Error,
    },
    /// Nothing came for this long.
    Timeout(Duration),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::NoReply(error) => write!(f, "no reply: {error:?}"),
            Self::Body { status, error } => {
                write!(f, "the body of the {status} reply broke off: {error:?}")
            }
            Self::Timeout(timeout) => write!(f, "no whole reply in {timeout:?}"),
        }
    }
}

impl std::error::Error for ClientError {}
