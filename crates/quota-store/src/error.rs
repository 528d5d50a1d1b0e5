//! Why an answer is no result.

use std::fmt;

/// Why a store gave no result, in words for the operator's log.
///
/// What the store said itself is cut and its control characters are replaced; it never holds a
/// credential of ours, because requests are not repeated in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// A status of HTTP that is no 200, with the beginning of the body.
    Http {
        /// The status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// A status of gRPC that is not `OK`.
    Grpc {
        /// The status, as <https://grpc.github.io/grpc/core/md_doc_statuscodes.html> lists them.
        status: u32,
        /// What the server said about it.
        message: String,
    },
    /// An error of Redis.
    Redis {
        /// Which.
        error: RedisError,
        /// How Redis put it.
        message: String,
    },
    /// The answer to another call: it came so late that this call has got it.
    OfAnotherCall,
    /// An answer that is none to what was asked.
    Garbled(String),
    /// The Rate Limit Service applies no limit to a descriptor.
    NoLimit,
    /// The member of a batch was not sent, because the batch was too long.
    NotSent,
}

/// The errors of Redis that tell an operator something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisError {
    /// `NOAUTH`, `unauthenticated …`: it asks for a password.
    AuthenticationRequired,
    /// `WRONGPASS`, `ERR invalid password`: the password is wrong.
    AuthenticationFailed,
    /// `NOPERM`: its access control does not allow the script.
    Forbidden,
    /// `READONLY`: it is a replica.
    ReadOnly,
    /// `LOADING`: it is reading its data.
    Loading,
    /// `BUSY`: a script runs for too long.
    Busy,
    /// `MASTERDOWN`, `CLUSTERDOWN`, `TRYAGAIN`, `NOREPLICAS`: it will answer later.
    NotReady,
    /// `MOVED`, `ASK`, `CROSSSLOT`: it is a cluster, and the HTTP front does not speak to clusters.
    Cluster,
    /// `OOM`: its memory is used up.
    OutOfMemory,
    /// `MISCONF`: it can't write to its disk.
    Disk,
    /// `WRONGTYPE`: something else lies under the counter's key, or what lies there is damaged.
    WrongType,
    /// `unknown command`: it has no scripts, or the HTTP front does not let them through.
    UnknownCommand,
    /// `NOSCRIPT`, although the script was sent in full.
    ScriptUnknown,
    /// Any other.
    Other,
}

impl StoreError {
    /// Whether it may pass by itself. If not, somebody has to change a configuration.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            // OK, INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED.
            Self::Grpc { status, .. } => !matches!(status, 0 | 3 | 5 | 7 | 12 | 16),
            Self::Redis { error, .. } => error.is_transient(),
            Self::Garbled(_) | Self::OfAnotherCall | Self::NotSent => true,
            Self::NoLimit => false,
        }
    }

    /// Whether it is about one counter, while the store is in order otherwise.
    pub fn is_of_one_counter(&self) -> bool {
        match self {
            Self::NoLimit => true,
            Self::Redis { error, .. } => *error == RedisError::WrongType,
            _ => false,
        }
    }

    /// An answer that is not understood: what was expected, and what came.
    pub(crate) fn garbled(expected: &str, found: &[u8]) -> StoreError {
        let found = excerpt(found);
        StoreError::Garbled(format!("expected {expected}, found \"{found}\""))
    }

    pub(crate) fn http(status: u16, body: &[u8]) -> StoreError {
        let body = excerpt(body);
        StoreError::Http { status, body }
    }

    /// The error for a gRPC call that ended with this status. The host gives 14, `UNAVAILABLE`, if
    /// no server was reached, and 4, `DEADLINE_EXCEEDED`, if none answered in time.
    pub fn grpc(status: u32, message: &[u8]) -> StoreError {
        let message = excerpt(message);
        StoreError::Grpc { status, message }
    }

    /// Reads an error as Redis words it: a code in capitals first, mostly.
    pub(crate) fn redis(message: &str) -> StoreError {
        let error = RedisError::classify(message);
        let message = excerpt(message.as_bytes());
        StoreError::Redis { error, message }
    }
}

impl RedisError {
    fn is_transient(self) -> bool {
        match self {
            Self::ReadOnly
            | Self::Loading
            | Self::Busy
            | Self::NotReady
            | Self::OutOfMemory
            | Self::Disk
            | Self::ScriptUnknown
            | Self::Other => true,
            Self::AuthenticationRequired
            | Self::AuthenticationFailed
            | Self::Forbidden
            | Self::Cluster
            | Self::WrongType
            | Self::UnknownCommand => false,
        }
    }

    /// Before Redis 7, an error inside a script has the script's name and line before its code, and
    /// a dash.
    fn classify(message: &str) -> RedisError {
        let code = |code: &str| {
            message
                .split(|c: char| !c.is_ascii_alphanumeric())
                .any(|word| word == code)
        };
        let codes: [(&[&str], RedisError); 12] = [
            (&["NOSCRIPT"], RedisError::ScriptUnknown),
            (&["NOAUTH"], RedisError::AuthenticationRequired),
            (&["WRONGPASS"], RedisError::AuthenticationFailed),
            (&["NOPERM"], RedisError::Forbidden),
            (&["READONLY"], RedisError::ReadOnly),
            (&["LOADING"], RedisError::Loading),
            (&["BUSY"], RedisError::Busy),
            (
                &["MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS"],
                RedisError::NotReady,
            ),
            (&["MOVED", "ASK", "CROSSSLOT"], RedisError::Cluster),
            (&["OOM"], RedisError::OutOfMemory),
            (&["MISCONF"], RedisError::Disk),
            (&["WRONGTYPE"], RedisError::WrongType),
        ];
        let found = codes
            .iter()
            .find(|(names, _)| names.iter().any(|name| code(name)));
        let lower = message.to_ascii_lowercase();
        match found {
            Some((_, error)) => *error,
            None if lower.contains("unknown command") => RedisError::UnknownCommand,
            None if lower.contains("invalid password") => RedisError::AuthenticationFailed,
            // `Protocol error: unauthenticated multibulk length`: Redis takes ten words at most from
            // those it does not know.
            None if lower.contains("unauthenticated") => RedisError::AuthenticationRequired,
            None if lower.contains("invalid username-password") => RedisError::AuthenticationFailed,
            None => RedisError::Other,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::AuthenticationRequired => {
                "Redis asks for a password; give it to the HTTP front (redis_auth in webdis)"
            }
            Self::AuthenticationFailed => "Redis refuses the password of the HTTP front",
            Self::Forbidden => {
                "Redis does not allow this user the script; it needs EVALSHA, EVAL, HMGET, HSET and \
                 EXPIREAT on the keys of counters"
            }
            Self::ReadOnly => {
                "this Redis is a read-only replica; lead the HTTP front to the primary, unless a \
                 failover is under way"
            }
            Self::Loading => "Redis is still loading its data",
            Self::Busy => "Redis is busy with a script",
            Self::NotReady => "Redis or its cluster is not ready",
            Self::Cluster => {
                "this is a Redis Cluster, and the HTTP front knows one node only; use a single Redis, \
                 or a front that speaks to clusters, with the dialect upstash"
            }
            Self::OutOfMemory => {
                "Redis has used up its memory (maxmemory); give it more, and keep maxmemory-policy \
                 noeviction"
            }
            Self::Disk => "Redis can't write to its disk",
            Self::WrongType => {
                "something that is no counter lies under a counter's key; remove it, or choose \
                 another key prefix"
            }
            Self::UnknownCommand => {
                "the store has no EVALSHA or EVAL, or the HTTP front does not let them through"
            }
            Self::ScriptUnknown => "Redis does not know the script that it was just sent",
            Self::Other => "Redis reports an error",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { status, body } => {
                let hint = match status {
                    401 | 407 => "; check the credentials of the quota store",
                    403 => {
                        "; the HTTP front must allow EVALSHA and EVAL (in webdis, a rule of `acl`), \
                         and the credentials must be right"
                    }
                    404 | 405 => "; check the address and base path of the quota store",
                    413 => "; the HTTP front must take requests of 128 kB",
                    _ => "",
                };
                write!(f, "the quota store answered with status {status}{hint}")?;
                match body.is_empty() {
                    true => Ok(()),
                    false => write!(f, ": \"{body}\""),
                }
            }
            Self::Grpc { status, message } => {
                let hint = match status {
                    4 => " (DEADLINE_EXCEEDED): it did not answer in time",
                    7 | 16 => ": it refuses our credentials",
                    12 => {
                        " (UNIMPLEMENTED): the server does not know this method; is it a Rate Limit \
                         Service, of the configured profile?"
                    }
                    14 => " (UNAVAILABLE): it can't be reached",
                    _ => "",
                };
                write!(
                    f,
                    "the rate limit service answered with gRPC status {status}{hint}"
                )?;
                match message.is_empty() {
                    true => Ok(()),
                    false => write!(f, ": \"{message}\""),
                }
            }
            Self::Redis { error, message } => write!(f, "{}: \"{message}\"", error.sentence()),
            Self::Garbled(what) => write!(f, "the quota store's answer makes no sense: {what}"),
            Self::OfAnotherCall => f.write_str(
                "the quota store's answer is one to another call, which had stopped waiting for it",
            ),
            Self::NoLimit => f.write_str(
                "the rate limit service has no limit for this plan; load the configuration that \
                 belongs to these plans, under the same domain",
            ),
            Self::NotSent => f.write_str("the batch was too long; this member was not sent"),
        }
    }
}

impl std::error::Error for StoreError {}

const LONGEST_EXCERPT: usize = 160;

/// The beginning of a text, fit for a log line.
fn excerpt(bytes: &[u8]) -> String {
    // A character that is not printable ASCII becomes one of these.
    let printable = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '?',
    };
    let mut text: String = bytes.iter().take(LONGEST_EXCERPT).map(printable).collect();
    if bytes.len() > LONGEST_EXCERPT {
        text.push_str("...");
    }
    text
}
