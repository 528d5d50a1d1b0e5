//! A real HTTP server that answers with what it received.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::echo::{EchoBody, Received, echo};
use crate::wait::wait_for;

/// An HTTP/1.1 and h2c server on a free loopback port. It answers every request with 200 and an
/// [`Echo`](crate::Echo) as JSON, and a gRPC request with that as a message and `grpc-status: 0`.
///
/// A request can ask for something else:
///
/// | request header | effect |
/// |---|---|
/// | `x-echo-status: 503` | this status |
/// | `x-echo-header: name: value` | this response header, repeatable |
/// | `x-echo-body: text` | this body instead of the JSON |
/// | `x-echo-body-size: 100000` | a body of so many `x`, in chunks and without a content-length |
/// | `x-echo-delay-ms: 20` | answers so much later |
/// | `x-echo-hold: gate` | answers when the test calls [`EchoUpstream::release`] |
/// | `x-echo-reset: headers` | breaks off instead of an answer |
/// | `x-echo-reset: body` | breaks off in the middle of the body |
/// | `x-echo-grpc-status: 5` | this `grpc-status` in the trailers, for a gRPC request |
pub struct EchoUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What the connections have in common with the test.
#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    pages: Mutex<BTreeMap<String, Page>>,
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl EchoUpstream {
    /// Starts a server, which ends when it is dropped.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free loopback port");
        let address = listener.local_addr().expect("a bound listener");
        let shared = Arc::<Shared>::default();
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests received so far, in the order of their arrival.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The requests received since the last call, which are then forgotten.
    pub fn take_received(&self) -> Vec<Received> {
        std::mem::take(&mut *self.shared.received.lock().unwrap())
    }

    /// How many requests it has received so far.
    pub fn count(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    /// Waits until so many requests have been received, in all.
    pub async fn wait_for_count(&self, count: usize) {
        wait_for(&format!("{count} requests at the upstream"), async || {
            (self.count() >= count).then_some(())
        })
        .await;
    }

    /// Forgets the requests received so far.
    pub fn clear(&self) {
        self.shared.received.lock().unwrap().clear();
    }

    /// Answers requests for this path (without query) with a page of the test's, from now on.
    pub fn serve(&self, path: &str, page: Page) {
        let mut pages = self.shared.pages.lock().unwrap();
        pages.insert(path.to_owned(), page);
    }

    /// Lets so many requests through that are held, or will be, by `x-echo-hold: gate`.
    pub fn release(&self, gate: &str, requests: usize) {
        self.shared.gate(gate).add_permits(requests);
    }
}

impl Drop for EchoUpstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A fixed answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Page {
    /// A 200 with this body.
    pub fn new(content_type: &str, body: impl Into<Bytes>) -> Self {
        let content_type = HeaderValue::from_str(content_type).expect("a content type");
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, content_type)]),
            body: body.into(),
        }
    }

    /// A 200 with this document.
    pub fn json(document: &Value) -> Self {
        Self::new("application/json", document.to_string())
    }

    /// The same with another status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).expect("a status");
        self
    }

    /// The same with another header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = value.parse().expect("a header value");
        self.headers.append(name, value);
        self
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropping the set when this task is aborted ends the connections.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        connections.spawn(serve_connection(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>) {
    // A client that has gone is no concern of the server.
    let _ = stream.set_nodelay(true);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_headers(2_000);
    builder.http2().max_header_list_size(1 << 20);
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { shared.answer(request).await }
    });
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Shared {
    /// The answer to one request; an error breaks off instead.
    async fn answer(
        &self,
        request: http::Request<Incoming>,
    ) -> Result<Response<EchoBody>, io::Error> {
        let request = Received::read(request).await.map_err(io::Error::other)?;
        self.received.lock().unwrap().push(request.clone());
        if let Some(gate) = request.header("x-echo-hold") {
            let gate = self.gate(gate);
            let permit = gate.acquire().await.map_err(io::Error::other)?;
            permit.forget();
        }
        if let Some(delay) = request.asks("x-echo-delay-ms") {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if request.header("x-echo-reset") == Some("headers") {
            return Err(io::Error::other("the request asked for a reset"));
        }
        let path = request.path.split('?').next().unwrap_or_default();
        if let Some(page) = self.pages.lock().unwrap().get(path) {
            return Ok(page.clone().into());
        }
        Ok(echo(&request))
    }

    fn gate(&self, name: &str) -> Arc<Semaphore> {
        let mut gates = self.gates.lock().unwrap();
        let gate = gates.entry(name.to_owned());
        gate.or_insert_with(|| Arc::new(Semaphore::new(0))).clone()
    }
}

impl From<Page> for Response<EchoBody> {
    fn from(page: Page) -> Self {
        let mut response = Response::new(EchoBody::sized(page.body));
        *response.status_mut() = page.status;
        *response.headers_mut() = page.headers;
        response
    }
}
