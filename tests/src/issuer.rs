//! An issuer of tokens: a real HTTPS server that publishes keys, and can go wrong in many ways.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::bootstrap::tls_cluster;
use crate::echo::Received;
use crate::tls::{Authority, Identity};
use crate::tokens::unix_time;
use crate::upstream::Page;
use crate::wait::wait_for;

/// Where an [`Issuer`] describes itself (OpenID Connect Discovery 1.0 section 4).
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// Where an [`Issuer`] publishes its keys.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// How large the documents are while [`Fault::Oversized`] lasts, at least.
pub const OVERSIZED_BYTES: usize = 5 << 20;

/// How many connections wait to be accepted.
const BACKLOG: u32 = 128;

/// An HTTPS server (HTTP/1.1) on a free loopback port that serves [`DISCOVERY_PATH`] and
/// [`JWKS_PATH`] to GET, and has nothing else. It ends when it is dropped.
pub struct Issuer {
    host: String,
    authority_pem: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
    /// `None` while it is dead.
    server: Mutex<Option<Server>>,
    /// Bound and never listening, so that nobody else gets the port while the issuer is dead.
    _reserved: TcpSocket,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers properly, so much later.
    Delay(Duration),
    /// Answers when the fault is taken back or replaced, as it is asked to then.
    Hold,
    /// Reads the request and never answers.
    Hang,
    /// Closes the connection instead of an answer. As a fault of the whole issuer it closes new
    /// connections before TLS.
    Close,
    /// Answers with this status and a body that is no document.
    Status(u16),
    /// Answers 200 with a web page.
    Html,
    /// Announces the length of the whole document, sends half of it and closes the connection.
    Truncated,
    /// Answers with the document and a member that makes it larger than [`OVERSIZED_BYTES`].
    Oversized,
    /// Answers 302 and sends the client to this URL.
    Redirect(String),
}

/// A request that an issuer received.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The request itself.
    pub request: Received,
    /// The name that the client called it by in TLS (SNI).
    pub server_name: Option<String>,
}

/// What the connections have in common with the test.
struct Shared {
    url: String,
    state: watch::Sender<State>,
    record: Mutex<Record>,
}

/// What the issuer answers.
#[derive(Clone, Default)]
struct State {
    keys: Vec<Value>,
    headers: HeaderMap,
    pages: BTreeMap<String, Page>,
    fault: Option<Fault>,
    path_faults: BTreeMap<String, Fault>,
}

#[derive(Default)]
struct Record {
    connections: usize,
    fetches: Vec<Fetch>,
}

/// A listening port and the connections to it.
struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Issuer {
    /// Starts an issuer without keys that is called by this name, with a certificate of this
    /// authority. The name need not resolve: clients are told the [`address`](Self::address).
    pub async fn start(authority: &Authority, host: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let identity = authority.server(&[host]);
        Self::start_at(address, authority.cert_pem(), &identity, host).await
    }

    /// The same at this address, with this certificate, which is of the authority given as PEM.
    ///
    /// # Panics
    ///
    /// When the address is taken.
    pub async fn start_at(
        address: SocketAddr,
        authority_pem: &str,
        identity: &Identity,
        host: &str,
    ) -> Self {
        let url = format!("https://{host}");
        let reserved = reserve(address);
        let address = reserved.local_addr().expect("a bound socket");
        let issuer = Self {
            host: host.to_owned(),
            authority_pem: authority_pem.to_owned(),
            address,
            shared: Arc::new(Shared {
                url,
                state: watch::Sender::new(State::default()),
                record: Mutex::default(),
            }),
            acceptor: TlsAcceptor::from(server_config(identity)),
            server: Mutex::default(),
            _reserved: reserved,
        };
        issuer.revive();
        issuer
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name in its certificate.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its identifier: the `iss` of its tokens.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The URL of its keys.
    pub fn jwks_url(&self) -> String {
        self.shared.jwks_url()
    }

    /// A cluster of this issuer. Envoy checks its certificate and asks for it by its name.
    pub fn cluster(&self, name: &str) -> Value {
        tls_cluster(name, self.address, &self.host, &self.authority_pem)
    }

    /// Claims of a token for this audience that is valid for an hour from now.
    pub fn claims(&self, subject: &str, audience: &str) -> Value {
        let now = unix_time();
        json!({
            "iss": self.url(),
            "sub": subject,
            "aud": audience,
            "iat": now,
            "exp": now + 3_600,
        })
    }

    /// Publishes these keys (see [`SigningKey::jwk`](crate::SigningKey::jwk)) and no others.
    pub fn set_keys(&self, keys: impl IntoIterator<Item = Value>) {
        let keys = keys.into_iter().collect();
        self.change(|state| state.keys = keys);
    }

    /// Publishes one more key.
    pub fn add_key(&self, key: Value) {
        self.change(|state| state.keys.push(key));
    }

    /// Publishes the keys of this `kid` no more.
    pub fn drop_key(&self, kid: &str) {
        self.change(|state| state.keys.retain(|key| key["kid"] != kid));
    }

    /// Sends these headers with the documents, such as `cache-control` and `age`; one that the
    /// documents have, such as `content-type`, replaces theirs. Headers set before are dropped.
    ///
    /// # Panics
    ///
    /// When HTTP does not allow a name or a value.
    pub fn set_headers(&self, headers: &[(&str, &str)]) {
        let headers = headers.iter().map(|(name, value)| {
            let name = name.parse::<HeaderName>().expect("a header name");
            (name, value.parse::<HeaderValue>().expect("a header value"))
        });
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        self.change(|state| state.headers = map);
    }

    /// Answers requests for this path with a page of the test's instead of a document.
    pub fn serve(&self, path: &str, page: Page) {
        self.change(|state| {
            state.pages.insert(path.to_owned(), page);
        });
    }

    /// Does wrong from now on, whatever it is asked for.
    pub fn fail(&self, fault: Fault) {
        self.change(|state| state.fault = Some(fault));
    }

    /// Does wrong from now on where it is asked for this path.
    pub fn fail_at(&self, path: &str, fault: Fault) {
        self.change(|state| {
            state.path_faults.insert(path.to_owned(), fault);
        });
    }

    /// Does right again: no fault, no page, and no header but the usual ones. Keys stay.
    pub fn recover(&self) {
        self.change(|state| {
            let keys = std::mem::take(&mut state.keys);
            *state = State {
                keys,
                ..State::default()
            };
        });
    }

    /// Closes the port and all connections, and returns when that is done. Until
    /// [`revive`](Self::revive), connections are refused.
    pub async fn kill(&self) {
        let server = self.server.lock().unwrap().take();
        if let Some(Server { stop, task }) = server {
            // It fails where the task has ended by itself, which the next line tells.
            let _ = stop.send(());
            task.await.expect("a server that does not panic");
        }
    }

    /// Comes back on the same port, with the keys and faults it had; nothing if it is alive.
    pub fn revive(&self) {
        let mut server = self.server.lock().unwrap();
        if server.is_none() {
            let socket = reserve(self.address);
            let listener = socket.listen(BACKLOG).expect("a port of its own");
            *server = Some(Server::spawn(
                listener,
                self.acceptor.clone(),
                self.shared.clone(),
            ));
        }
    }

    /// All requests received so far, in the order of their arrival.
    pub fn fetches(&self) -> Vec<Fetch> {
        self.shared.record.lock().unwrap().fetches.clone()
    }

    /// How many requests for this path it has received so far.
    pub fn count(&self, path: &str) -> usize {
        let record = self.shared.record.lock().unwrap();
        let fetches = record.fetches.iter();
        fetches.filter(|fetch| fetch.path() == path).count()
    }

    /// How many connections it has accepted so far, also those that it closed at once.
    pub fn connections(&self) -> usize {
        self.shared.record.lock().unwrap().connections
    }

    /// Waits until so many requests for this path have been received, in all.
    pub async fn wait_for_count(&self, path: &str, count: usize) {
        wait_for(&format!("{count} requests for {path}"), async || {
            (self.count(path) >= count).then_some(())
        })
        .await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.shared.state.send_modify(change);
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        if let Ok(server) = self.server.get_mut()
            && let Some(server) = server
        {
            server.task.abort();
        }
    }
}

impl Fetch {
    /// The path without its query.
    pub fn path(&self) -> &str {
        self.request.path.split('?').next().unwrap_or_default()
    }
}

impl Server {
    fn spawn(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, acceptor, shared, stopped));
        Self { stop, task }
    }
}

/// A socket on this address, beside others that were made here.
fn reserve(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an unbound socket");
    // Only for sockets of the same user.
    socket.set_reuseport(true).expect("an unbound socket");
    socket.bind(address).expect("a free port");
    socket
}

fn server_config(identity: &Identity) -> Arc<ServerConfig> {
    let cert = CertificateDer::from_pem_slice(identity.cert_pem.as_bytes())
        .expect("an identity has a certificate");
    let key =
        PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("an identity has a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .expect("the key belongs to the certificate");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Serves until it is told to stop, and then closes everything.
async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            _ = &mut stopped => break,
        };
        shared.record.lock().unwrap().connections += 1;
        if !matches!(shared.state.borrow().fault, Some(Fault::Close)) {
            connections.spawn(serve_connection(stream, acceptor.clone(), shared.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    connections.shutdown().await;
}

async fn serve_connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // A client that has gone, or does not trust the certificate, is no concern of the server.
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let server_name = stream.get_ref().1.server_name().map(str::to_owned);
    let service = service_fn(|request| {
        let shared = shared.clone();
        let server_name = server_name.clone();
        async move { shared.answer(request, server_name).await }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Shared {
    /// The answer to one request; an error closes the connection instead.
    async fn answer(
        &self,
        request: http::Request<Incoming>,
        server_name: Option<String>,
    ) -> Result<Response<PageBody>, io::Error> {
        let request = Received::read(request).await.map_err(io::Error::other)?;
        let fetch = Fetch {
            request,
            server_name,
        };
        self.record.lock().unwrap().fetches.push(fetch.clone());
        let path = fetch.path();
        let state = self.state_for(path).await?;
        let page = self.page(&state, &fetch.request.method, path);
        let page = match state.fault_at(path).cloned() {
            None | Some(Fault::Hold) => page,
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                page
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Close) => return Err(io::Error::other("the test asked for it")),
            Some(Fault::Status(status)) => Page::new("text/plain", "out of order").status(status),
            Some(Fault::Html) => Page::new("text/html", "<!doctype html><title>Sign in</title>"),
            Some(Fault::Truncated) => return Ok(PageBody::cut_short(page)),
            Some(Fault::Oversized) => oversized(page),
            Some(Fault::Redirect(url)) => {
                let page = Page::new("text/plain", "over there").status(302);
                page.header(LOCATION.as_str(), &url)
            }
        };
        Ok(PageBody::whole(page))
    }

    /// The state once it does not hold back answers for this path.
    async fn state_for(&self, path: &str) -> Result<State, io::Error> {
        let mut states = self.state.subscribe();
        let state = states
            .wait_for(|state| !matches!(state.fault_at(path), Some(Fault::Hold)))
            .await
            .map_err(io::Error::other)?;
        Ok(state.clone())
    }

    /// What is to be found there, if nothing goes wrong.
    fn page(&self, state: &State, method: &Method, path: &str) -> Page {
        if method != Method::GET {
            return Page::new("text/plain", "only GET").status(405);
        }
        if let Some(page) = state.pages.get(path) {
            return page.clone();
        }
        let document = match path {
            DISCOVERY_PATH => self.discovery(),
            JWKS_PATH => json!({ "keys": state.keys }),
            _ => return Page::new("text/plain", "nothing here").status(404),
        };
        let mut page = Page::json(&document);
        for name in state.headers.keys() {
            page.headers.remove(name);
            for value in state.headers.get_all(name) {
                page.headers.append(name, value.clone());
            }
        }
        page
    }

    fn discovery(&self) -> Value {
        json!({
            "issuer": self.url,
            "authorization_endpoint": format!("{}/authorize", self.url),
            "token_endpoint": format!("{}/token", self.url),
            "jwks_uri": self.jwks_url(),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA"],
        })
    }

    fn jwks_url(&self) -> String {
        format!("{}{JWKS_PATH}", self.url)
    }
}

impl State {
    fn fault_at(&self, path: &str) -> Option<&Fault> {
        self.path_faults.get(path).or(self.fault.as_ref())
    }
}

/// The page with a member more, where it is an object; it is still a good document.
fn oversized(mut page: Page) -> Page {
    if let Ok(mut document) = serde_json::from_slice::<Value>(&page.body)
        && document.is_object()
    {
        document["padding"] = json!("x".repeat(OVERSIZED_BYTES));
        page.body = document.to_string().into();
    }
    page
}

/// A body that may end before its length is reached.
struct PageBody {
    /// What is yet to be sent.
    content: Option<Bytes>,
    /// How much more was announced.
    missing: u64,
    /// Whether the content was given the time to be sent, before the connection breaks.
    flushed: bool,
}

impl PageBody {
    fn whole(page: Page) -> Response<Self> {
        Self::response(page, 0)
    }

    fn cut_short(mut page: Page) -> Response<Self> {
        let missing = page.body.split_off(page.body.len() / 2);
        Self::response(page, missing.len() as u64)
    }

    fn response(page: Page, missing: u64) -> Response<Self> {
        let mut response = Response::new(Self {
            content: (!page.body.is_empty()).then_some(page.body),
            missing,
            flushed: false,
        });
        *response.status_mut() = page.status;
        *response.headers_mut() = page.headers;
        response
    }
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(content) = self.content.take() {
            return Poll::Ready(Some(Ok(Frame::data(content))));
        }
        if self.missing == 0 {
            return Poll::Ready(None);
        }
        // The server sends what it has when it must wait, and drops it on an error.
        if !self.flushed {
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::other("the test asked for it"))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_none() && self.missing == 0
    }

    fn size_hint(&self) -> SizeHint {
        let content = self.content.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(content as u64 + self.missing)
    }
}
