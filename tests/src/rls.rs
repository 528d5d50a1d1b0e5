//! A stand-in for servers of Envoy's Rate Limit Service protocol.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tollgate_calendar::{Calendar, Period, Settings};
use tollgate_quota_store::rls::proto::{
    Code, DescriptorStatus, Entry, HeaderValue as AddedHeader, RateLimit, RateLimitDescriptor,
    RateLimitRequest, RateLimitResponse,
};

use crate::tokens::unix_time;

/// A gRPC server on a free loopback port that counts as `envoyproxy/ratelimit` or Limitador do, in
/// memory, as far as a client can see it on the wire. It is neither of them: it was written for
/// these tests from what their sources say (`src/redis/fixed_cache_impl.go` and
/// `src/limiter/base_limiter.go` of the one, `limitador-server/src/envoy_rls` of the other).
///
/// It reads descriptors with the entries `plan`, `quota`, `consumer` and `period`, and has a limit
/// for each plan and quota that it was [given one](RlsStandIn::set_limit) for.
pub struct RlsStandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// Which server it resembles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RlsPersonality {
    /// `envoyproxy/ratelimit`: counts hits also when they do not fit, answers each descriptor.
    EnvoyRatelimit {
        /// Whether it counts the hits of each descriptor; images until the end of 2024 count 1.
        honours_hits: bool,
        /// `USE_CALENDAR_MONTH_RATE_LIMIT`; a month has 30 days else, from the epoch on.
        calendar_months: bool,
    },
    /// Limitador: counts nothing when hits do not fit, answers the call as a whole.
    Limitador {
        /// `--rate-limit-headers DRAFT_VERSION_03`.
        headers: bool,
    },
}

impl RlsPersonality {
    /// `envoyproxy/ratelimit` as it should be run.
    pub const ENVOY_RATELIMIT: Self = Self::EnvoyRatelimit {
        honours_hits: true,
        calendar_months: true,
    };

    /// Limitador as it should be run.
    pub const LIMITADOR: Self = Self::Limitador { headers: true };
}

/// A limit of a plan and quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RlsLimit {
    /// How many hits.
    pub requests: u32,
    /// In which period. Limitador's window has 32 days from the first hit on, whatever it is.
    pub period: Period,
}

/// What goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RlsFault {
    /// Nothing.
    #[default]
    None,
    /// Calls end with this status of gRPC, and nothing is counted.
    Status(u32),
    /// Calls are counted and never answered.
    Silent,
    /// Calls wait, uncounted, until this fault is over.
    Frozen,
    /// The answer is no message of the protocol.
    Garbled,
}

/// A call that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RlsCall {
    /// The path, `/<service>/<method>`.
    pub path: String,
    /// How many descriptors it had.
    pub descriptors: usize,
}

struct Shared {
    domain: String,
    personality: RlsPersonality,
    fault: watch::Sender<RlsFault>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    limits: HashMap<(String, String), RlsLimit>,
    counters: BTreeMap<String, Counter>,
    calls: Vec<RlsCall>,
    latency: Duration,
}

struct Counter {
    hits: u64,
    /// When the window ends, in seconds since the Unix epoch.
    end: i64,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

const ENVOY: &str = "/envoy.service.ratelimit.v3.RateLimitService";
const KUADRANT: &str = "/kuadrant.service.ratelimit.v1.RateLimitService";

const UNIMPLEMENTED: u32 = 12;

/// The seconds of a window of Limitador.
const LIMITADOR_WINDOW: i64 = 32 * 86_400;

impl RlsStandIn {
    /// Starts one that has limits in this domain, though no limit yet.
    pub async fn start(personality: RlsPersonality, domain: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free loopback port");
        let address = listener.local_addr().expect("a bound listener");
        let shared = Arc::new(Shared {
            domain: domain.to_owned(),
            personality,
            fault: watch::Sender::default(),
            state: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Where it listens, for HTTP/2 without TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the limit of a plan's quota.
    pub fn set_limit(&self, plan: &str, quota: &str, limit: RlsLimit) {
        let mut state = self.shared.state.lock().unwrap();
        state
            .limits
            .insert((plan.to_owned(), quota.to_owned()), limit);
    }

    /// Lets every answer come so much later.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.state.lock().unwrap().latency = latency;
    }

    /// Lets this go wrong from now on.
    pub fn set_fault(&self, fault: RlsFault) {
        self.shared.fault.send_replace(fault);
    }

    /// All counters: their words joined by spaces, and their hits.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let state = self.shared.state.lock().unwrap();
        let counters = state.counters.iter();
        counters
            .map(|(key, counter)| (key.clone(), counter.hits))
            .collect()
    }

    /// All calls received so far.
    pub fn calls(&self) -> Vec<RlsCall> {
        self.shared.state.lock().unwrap().calls.clone()
    }

    /// Forgets all counters, as a store without durability does in a restart.
    pub fn lose_counters(&self) {
        self.shared.state.lock().unwrap().counters.clear();
    }
}

impl Drop for RlsStandIn {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropping the set when this task is aborted ends the connections.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        connections.spawn(serve(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // A client that has gone is no concern of the server.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Shared {
    async fn answer(&self, request: http::Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let Some(request) = body
            .get(5..)
            .and_then(|body| RateLimitRequest::decode(body).ok())
        else {
            return failure(13, "no message");
        };
        let call = RlsCall {
            path: path.clone(),
            descriptors: request.descriptors.len(),
        };
        let latency = {
            let mut state = self.state.lock().unwrap();
            state.calls.push(call);
            state.latency
        };
        let mut fault = self.fault.subscribe();
        let fault = fault.wait_for(|fault| *fault != RlsFault::Frozen).await;
        let fault = fault.map(|fault| fault.clone()).unwrap_or_default();
        if let RlsFault::Status(status) = fault {
            return failure(status, "as the test wants it");
        }
        let response = self.count(&path, &request);
        tokio::time::sleep(latency).await;
        match (fault, response) {
            (RlsFault::Silent, _) => std::future::pending().await,
            (RlsFault::Garbled, _) => success(b"\xff\xff garbled"),
            (_, Ok(response)) => success(&response.encode_to_vec()),
            (_, Err((status, message))) => failure(status, message),
        }
    }

    fn count(
        &self,
        path: &str,
        request: &RateLimitRequest,
    ) -> Result<RateLimitResponse, (u32, &'static str)> {
        let mut state = self.state.lock().unwrap();
        match self.personality {
            RlsPersonality::EnvoyRatelimit { .. } => {
                if path != format!("{ENVOY}/ShouldRateLimit") {
                    return Err((UNIMPLEMENTED, "unknown service"));
                }
                if request.domain.is_empty() {
                    return Err((2, "rate limit domain must not be empty"));
                }
                if request.descriptors.is_empty() {
                    return Err((2, "rate limit descriptor list must not be empty"));
                }
                let each = request.descriptors.iter();
                let statuses: Vec<_> = each
                    .map(|descriptor| self.count_descriptor(&mut state, request, descriptor))
                    .collect();
                let over = statuses
                    .iter()
                    .any(|status| status.code() == Code::OverLimit);
                Ok(RateLimitResponse {
                    overall_code: code(over).into(),
                    statuses,
                    response_headers_to_add: Vec::new(),
                })
            }
            RlsPersonality::Limitador { headers } => {
                self.count_call(&mut state, path, request, headers)
            }
        }
    }

    /// One descriptor of a call, as `envoyproxy/ratelimit` counts it.
    fn count_descriptor(
        &self,
        state: &mut State,
        request: &RateLimitRequest,
        descriptor: &RateLimitDescriptor,
    ) -> DescriptorStatus {
        let RlsPersonality::EnvoyRatelimit {
            honours_hits,
            calendar_months,
        } = self.personality
        else {
            unreachable!("the caller knows the personality");
        };
        let limit = state
            .limit(descriptor)
            .filter(|_| request.domain == self.domain);
        let Some(limit) = limit else {
            return DescriptorStatus {
                code: Code::Ok.into(),
                ..DescriptorStatus::default()
            };
        };
        let hits = match descriptor.hits_addend {
            Some(hits) if honours_hits => hits,
            _ => request.hits_addend.max(1).into(),
        };
        let now = unix_time();
        let (start, end) = window(limit.period, calendar_months, now);
        let key = format!("{} {start}", words(&descriptor.entries));
        let counter = state
            .counters
            .entry(key)
            .or_insert(Counter { hits: 0, end });
        counter.hits += hits;
        let remaining = u64::from(limit.requests).checked_sub(counter.hits);
        DescriptorStatus {
            code: code(remaining.is_none()).into(),
            current_limit: Some(RateLimit {
                requests_per_unit: limit.requests,
                unit: unit(limit.period),
            }),
            limit_remaining: remaining.map_or(0, |left| u32::try_from(left).unwrap()),
            duration_until_reset: Some(tollgate_quota_store::rls::proto::Duration {
                seconds: end - now,
                nanos: 0,
            }),
        }
    }

    /// A call of one descriptor, as Limitador counts it.
    fn count_call(
        &self,
        state: &mut State,
        path: &str,
        request: &RateLimitRequest,
        headers: bool,
    ) -> Result<RateLimitResponse, (u32, &'static str)> {
        let descriptor = request.descriptors.first().cloned().unwrap_or_default();
        let limit = state
            .limit(&descriptor)
            .filter(|_| request.domain == self.domain);
        let mut response = RateLimitResponse {
            overall_code: Code::Ok.into(),
            ..RateLimitResponse::default()
        };
        let Some(limit) = limit else {
            return Ok(response);
        };
        let now = unix_time();
        let end = now + LIMITADOR_WINDOW;
        let key = words(&descriptor.entries);
        let counter = state
            .counters
            .entry(key)
            .or_insert(Counter { hits: 0, end });
        let hits = u64::from(request.hits_addend.max(1));
        let most = u64::from(limit.requests);
        match path.rsplit_once('/') {
            Some((ENVOY, "ShouldRateLimit")) => {
                let over = counter.hits + hits > most;
                if !over {
                    counter.hits += hits;
                }
                response.overall_code = code(over).into();
                if headers {
                    response.response_headers_to_add = limitador_headers(counter, most, now);
                }
            }
            Some((KUADRANT, "CheckRateLimit")) => {
                response.overall_code = code(counter.hits + 1 > most).into();
            }
            Some((KUADRANT, "Report")) => counter.hits += hits,
            _ => return Err((UNIMPLEMENTED, "unknown service")),
        }
        Ok(response)
    }
}

impl State {
    fn limit(&self, descriptor: &RateLimitDescriptor) -> Option<RlsLimit> {
        let value = |key: &str| {
            let mut entries = descriptor.entries.iter();
            let entry = entries.find(|entry| entry.key == key)?;
            Some(entry.value.clone())
        };
        let named = self.limits.get(&(value("plan")?, value("quota")?))?;
        value("consumer").and(value("period")).map(|_| *named)
    }
}

fn words(entries: &[Entry]) -> String {
    let words: Vec<&str> = entries.iter().map(|entry| entry.value.as_str()).collect();
    words.join(" ")
}

fn code(over: bool) -> Code {
    if over { Code::OverLimit } else { Code::Ok }
}

/// The window of `envoyproxy/ratelimit` at an instant.
fn window(period: Period, calendar_months: bool, now: i64) -> (i64, i64) {
    let length = match period {
        Period::Minute => 60,
        Period::Hour => 3600,
        Period::Day => 86_400,
        Period::Week => 7 * 86_400,
        Period::Month if calendar_months => {
            let months = Calendar::new(Settings::every(Period::Month)).expect("plain months");
            let window = months.window(now);
            return (window.start, window.end);
        }
        Period::Month => 30 * 86_400,
        Period::Year => 365 * 86_400,
    };
    let start = now - now % length;
    (start, start + length)
}

fn unit(period: Period) -> i32 {
    match period {
        Period::Minute => 2,
        Period::Hour => 3,
        Period::Day => 4,
        Period::Month => 5,
        Period::Year => 6,
        Period::Week => 7,
    }
}

fn limitador_headers(counter: &Counter, limit: u64, now: i64) -> Vec<AddedHeader> {
    let remaining = limit.saturating_sub(counter.hits);
    let header = |key: &str, value: String| AddedHeader {
        key: key.to_owned(),
        value,
        raw_value: Vec::new(),
    };
    vec![
        header(
            "X-RateLimit-Limit",
            format!("{limit}, {limit};w={LIMITADOR_WINDOW}"),
        ),
        header("X-RateLimit-Remaining", remaining.to_string()),
        header("X-RateLimit-Reset", (counter.end - now).to_string()),
    ]
}

fn success(message: &[u8]) -> Response<Body> {
    let mut body = BytesMut::with_capacity(5 + message.len());
    body.put_u8(0);
    body.put_u32(message.len().try_into().expect("a message under 4 GiB"));
    body.put_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::from(body.freeze()).with_trailers(async { Some(Ok(trailers)) });
    respond(body.boxed_unsync())
}

fn failure(status: u32, message: &'static str) -> Response<Body> {
    let mut response = respond(Empty::new().boxed_unsync());
    let headers = response.headers_mut();
    headers.insert("grpc-status", status.into());
    headers.insert("grpc-message", HeaderValue::from_static(message));
    response
}

fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}
