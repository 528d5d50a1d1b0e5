//! What is asked of a server, what it answers, and what became of it.

use std::fmt;
use std::time::Duration;

use tollgate_core::config::quote;

use crate::caching::Caching;
use crate::discovery::InvalidDiscovery;
use tollgate_core::endpoint::Scheme;

/// A GET request to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the source waits for the answer"]
pub struct Fetch {
    /// The host's name for the server: Envoy's cluster.
    pub cluster: String,
    /// How it is spoken to. Whether TLS is used is the cluster's matter.
    pub scheme: Scheme,
    /// The host, and the port if it is not the scheme's own.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// After what time no answer is awaited any longer; never zero.
    pub timeout: Duration,
    /// To be given back with what came of it.
    pub ticket: Ticket,
}

/// Tells the fetches of a source from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The number of the attempt, which all workers count together.
    pub(crate) attempt: u64,
    /// How many requests this worker has made before.
    pub(crate) serial: u64,
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status; `None` if there was no answer, or it broke off.
    pub status: Option<u16>,
    /// What the headers say about its lifetime.
    pub caching: Caching,
    /// The body.
    pub body: &'a [u8],
}

/// What became of a fetch, and how it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "there may be another request to make"]
pub struct Answered {
    /// What became of it, to be counted.
    pub outcome: FetchOutcome,
    /// The next request, to be made at once.
    pub next: Option<Fetch>,
}

/// What became of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    /// There are other keys now.
    Updated,
    /// The keys are the same as before.
    Unchanged,
    /// It was found where the keys are.
    Discovered,
    /// It came too late: it was given up, or another worker has fetched keys since.
    Late,
    /// It brought nothing; what was known before is kept.
    Failed(Failure),
}

impl FetchOutcome {
    /// A label for metrics, one of a few.
    pub fn label(&self) -> &'static str {
        match self {
            FetchOutcome::Updated => "updated",
            FetchOutcome::Unchanged => "unchanged",
            FetchOutcome::Discovered => "discovered",
            FetchOutcome::Late => "late",
            FetchOutcome::Failed(failure) => failure.label(),
        }
    }
}

/// Why a fetch brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host could not send the request.
    NotSent,
    /// There was no answer, or it broke off.
    NoResponse,
    /// The answer has a status other than 200.
    Status(u16),
    /// The body is longer than [`Settings::max_body`](crate::Settings::max_body).
    TooLarge {
        /// Its length in bytes.
        length: usize,
    },
    /// The format found no keys in the body, and this is what it said.
    InvalidKeys(String),
    /// The issuer's metadata does not tell where the keys are.
    InvalidDiscovery(InvalidDiscovery),
}

impl Failure {
    fn label(&self) -> &'static str {
        match self {
            Failure::NotSent => "not_sent",
            Failure::NoResponse => "no_response",
            // What Envoy says when the connection was refused, and when no answer came in time.
            Failure::Status(503) => "status_503",
            Failure::Status(504) => "status_504",
            Failure::Status(300..=399) => "status_3xx",
            Failure::Status(400..=499) => "status_4xx",
            Failure::Status(500..=599) => "status_5xx",
            Failure::Status(_) => "status_other",
            Failure::TooLarge { .. } => "too_large",
            Failure::InvalidKeys(_) => "invalid_keys",
            Failure::InvalidDiscovery(_) => "invalid_discovery",
        }
    }

    /// A failure of the format, in its words; they may repeat what a stranger has sent.
    pub(crate) fn invalid_keys(error: &impl fmt::Display) -> Failure {
        const LONGEST: usize = 200;
        let text: String = error
            .to_string()
            .chars()
            .flat_map(char::escape_debug)
            .take(LONGEST)
            .collect();
        Failure::InvalidKeys(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotSent => f.write_str(
                "the request could not be sent; is the cluster configured, and known to this proxy?",
            ),
            Failure::NoResponse => f.write_str("no answer came, or it broke off"),
            Failure::Status(503) => {
                f.write_str("status 503, which is also what Envoy says if it can't connect")
            }
            Failure::Status(504) => {
                f.write_str("status 504, which is also what Envoy says if no answer comes in time")
            }
            Failure::Status(status) => write!(f, "status {status}, expected 200"),
            Failure::TooLarge { length } => {
                write!(f, "the body of {length} bytes is longer than what is allowed")
            }
            Failure::InvalidKeys(error) => write!(f, "the body holds no keys: {error}"),
            Failure::InvalidDiscovery(error) => write!(f, "the issuer's metadata: {error}"),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        write!(
            f,
            "{scheme}://{}{} through the cluster {}",
            self.authority,
            self.path,
            quote(&self.cluster)
        )
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn what_a_format_says_is_shortened_and_can_not_forge_a_line_of_the_log() {
        let Failure::InvalidKeys(text) = Failure::invalid_keys(&format!("a\nb{}", "é".repeat(999)))
        else {
            panic!("another failure");
        };
        assert!(text.starts_with("a\\nbé") && text.chars().count() == 200);
    }
}
