//! Redis over HTTP: all is done by one Lua script, which a front hands on.
//!
//! ```
//! use tollgate_quota_store::redis::{
//!     Answer, Credentials, Dialect, Endpoint, Nonce, RedisHttp, Script,
//! };
//! use tollgate_quota_store::{ConsumerTag, CounterKey, EnvoyId, Exchange, KeyPrefix};
//!
//! let endpoint = Endpoint::new("webdis:7379", "", Credentials::None).unwrap();
//! let store = RedisHttp::new(Dialect::Webdis, endpoint);
//! let consumer = ConsumerTag::new("prod", "acme");
//! let batch = [Exchange {
//!     key: CounterKey::new(&KeyPrefix::default(), consumer, "month", 1_793_491_200),
//!     envoy: EnvoyId(7),
//!     seq: 1,
//!     consumed: 40,
//!     want: 10,
//!     limit: 1000,
//!     expires_at: 1_796_169_600,
//! }];
//! let nonce = Nonce(0x2f); // a random one for each call
//! let request = store.encode(&batch, nonce, Script::ByDigest);
//! assert!(request.body.starts_with("EVALSHA/"));
//! # let (status, body) = (200, br#"{"EVALSHA":["1 50 50 0 2f"]}"#);
//! match store.decode(&batch, nonce, status, body) {
//!     Answer::Results(results) => assert_eq!(results[0].as_ref().unwrap().upto, 50),
//!     Answer::ScriptUnknown => { /* send the batch again, with Script::InFull */ }
//! }
//! ```
//!
//! # The script
//!
//! It takes up to [`MAX_BATCH`] exchanges, each about one counter, and does each of them so:
//!
//! ```text
//! if seq is newer than the Envoy's last:
//!     free  = max(limit - total, 0)
//!     new   = consumed + want                              if that gives back, or is no more
//!           = max(consumed, min(consumed + want, upto + free))         otherwise
//!     total = total + new - upto;  upto = new
//!     the counter expires at expires_at
//! answer seq, upto, total, the seq that was known before, and the call's nonce
//! ```
//!
//! So `total` never goes beyond `limit` by a wish, but does by what has been consumed; an exchange
//! that is said twice counts once; and what a lost answer had granted is known again, or given back,
//! with the next exchange. Redis runs a script as one step, so nothing comes between.
//!
//! The nonce is what makes it safe to stop waiting. Webdis writes an answer to the number of the socket
//! on which the question came, and if that one was closed meanwhile, to the connection that has its
//! number now: so an answer that comes too late may reach another call, even of another Envoy.
//!
//! A counter is a hash with a field `total` and one for each run of an Envoy that met the consumer
//! in the window. Nothing but the window's end removes these: there are as many as there were runs.

mod endpoint;
mod upstash;
mod webdis;

use std::fmt;

pub use endpoint::{Credentials, Endpoint, InvalidEndpoint};

use crate::counter::MAX_COUNT;
use crate::{Exchange, Outcome, StoreError};

/// How many exchanges go into one request. More are sent as they are, if need be; Redis does
/// nothing else meanwhile, some 10 µs for each.
pub const MAX_BATCH: usize = 100;

/// The script, as it is sent and hashed.
pub const SCRIPT: &str = include_str!("redis/exchange.lua");

/// The SHA-1 digest of the script, by which Redis knows it.
pub const SCRIPT_SHA1: &str = "7eae4fef5c51d29951a3d4b4ccafa16841045bf7";

/// How the HTTP front in front of Redis wants its commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// [Webdis](https://webd.is): the command's words in the body, divided by slashes. For a single
    /// Redis, since it does not speak to clusters.
    Webdis,
    /// The REST interface of Upstash, which serverless-redis-http has too: arrays of JSON to
    /// `/pipeline`, a command for each consumer, so that a cluster can do its part.
    Upstash,
}

/// Whether the script goes with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// By its digest (`EVALSHA`): short, and refused if Redis has been restarted since it was sent.
    ByDigest,
    /// The whole of it (`EVAL`), by which Redis learns it.
    InFull,
}

impl Script {
    fn command(self) -> &'static str {
        match self {
            Script::ByDigest => "EVALSHA",
            Script::InFull => "EVAL",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Script::ByDigest => SCRIPT_SHA1,
            Script::InFull => SCRIPT,
        }
    }
}

/// What a call and its answer have in common and no other: a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub u64);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A Redis behind an HTTP front.
pub struct RedisHttp {
    dialect: Dialect,
    endpoint: Endpoint,
}

impl RedisHttp {
    /// A store that is spoken to in this dialect.
    pub fn new(dialect: Dialect, endpoint: Endpoint) -> RedisHttp {
        RedisHttp { dialect, endpoint }
    }

    /// The request that makes these exchanges. An empty batch is no request: send none.
    pub fn encode(&self, batch: &[Exchange], nonce: Nonce, script: Script) -> HttpRequest {
        let (path, content_type, body) = match self.dialect {
            Dialect::Webdis => ("/", "text/plain", webdis::encode(batch, nonce, script)),
            Dialect::Upstash => (
                "/pipeline",
                "application/json",
                upstash::encode(batch, nonce, script),
            ),
        };
        self.endpoint.post(path, content_type, body)
    }

    /// What the answer to a batch says, whichever way the script was sent. It has a result for each
    /// exchange, in their order.
    pub fn decode(&self, batch: &[Exchange], nonce: Nonce, status: u16, body: &[u8]) -> Answer {
        let decoded = match self.dialect {
            Dialect::Webdis => webdis::decode(batch, nonce, status, body),
            Dialect::Upstash => upstash::decode(batch, nonce, status, body),
        };
        match decoded {
            Ok(results) if results.iter().any(is_script_unknown) => Answer::ScriptUnknown,
            Ok(results) => Answer::Results(results),
            Err(error) if error.is_script_unknown() => Answer::ScriptUnknown,
            Err(error) => Answer::Results(batch.iter().map(|_| Err(error.clone())).collect()),
        }
    }
}

/// What came of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A result for each exchange.
    Results(Vec<Result<Outcome, StoreError>>),
    /// Redis does not know the script (`NOSCRIPT`). Send the whole batch again, once, with
    /// [`Script::InFull`]; a part that was done already stays as it is.
    ScriptUnknown,
}

impl Answer {
    /// The results, if the script was sent in full: not to know it is an error then.
    pub fn into_results(self, batch: &[Exchange]) -> Vec<Result<Outcome, StoreError>> {
        match self {
            Answer::Results(results) => results,
            Answer::ScriptUnknown => {
                let error = StoreError::redis("NOSCRIPT");
                batch.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }
}

/// A request to make. Its `Debug` leaves out headers, which may hold a credential.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `POST`.
    pub method: &'static str,
    /// The host, with its port if it has one.
    pub authority: String,
    /// The path.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("authority", &self.authority)
            .field("path", &self.path)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// The arguments of one exchange, in the script's order.
fn arguments(exchange: &Exchange) -> [String; 6] {
    let number = |number: u64| number.min(MAX_COUNT).to_string();
    [
        exchange.envoy.to_string(),
        number(exchange.seq),
        number(exchange.consumed),
        number(exchange.want),
        number(exchange.limit),
        exchange.expires_at.clamp(0, LATEST_EXPIRY).to_string(),
    ]
}

/// The end of the year 9999. Redis takes no time whose milliseconds need more than 63 bits.
const LATEST_EXPIRY: i64 = 253_402_300_799;

/// Reads the script's text about one exchange.
fn read_reply(exchange: &Exchange, nonce: Nonce, reply: &str) -> Result<Outcome, StoreError> {
    if let Some(error) = reply.strip_prefix('!') {
        return Err(StoreError::redis(error));
    }
    let garbled = || {
        let expected = format!("an outcome of exchange {}", exchange.seq);
        StoreError::garbled(&expected, reply.as_bytes())
    };
    let (outcome, echoed) = parse_outcome(reply).ok_or_else(garbled)?;
    if echoed != nonce.to_string() {
        return Err(StoreError::OfAnotherCall);
    }
    if !answers(&outcome, exchange) {
        return Err(garbled());
    }
    Ok(outcome)
}

/// The outcome, and the nonce.
fn parse_outcome(reply: &str) -> Option<(Outcome, &str)> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let mut words = reply.split(' ');
    let outcome = Outcome {
        seq: number(words.next()?)?,
        upto: number(words.next()?)?,
        total: number(words.next()?)?,
        previous: number(words.next()?)?,
    };
    let nonce = words.next()?;
    words.next().is_none().then_some((outcome, nonce))
}

/// Whether the script can have said this of the exchange.
fn answers(outcome: &Outcome, exchange: &Exchange) -> bool {
    let bound = |number: u64| number.min(MAX_COUNT);
    if outcome.previous > outcome.seq {
        return false;
    }
    if outcome.seq != bound(exchange.seq) {
        return outcome.seq > bound(exchange.seq);
    }
    let most = bound(exchange.consumed).saturating_add(bound(exchange.want));
    (bound(exchange.consumed)..=most).contains(&outcome.upto)
}

impl StoreError {
    fn is_script_unknown(&self) -> bool {
        let error = match self {
            StoreError::Redis { error, .. } => error,
            _ => return false,
        };
        *error == crate::error::RedisError::ScriptUnknown
    }
}

fn is_script_unknown(result: &Result<Outcome, StoreError>) -> bool {
    result.as_ref().is_err_and(StoreError::is_script_unknown)
}
