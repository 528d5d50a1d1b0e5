//! Envoy's Rate Limit Service protocol, version 3, as two servers speak it.
//!
//! The servers have the same messages and different habits:
//!
//! | | `envoyproxy/ratelimit` | Limitador |
//! |---|---|---|
//! | descriptors in a call | [`MAX_BATCH`], each with its own hits and its own answer | one |
//! | a call that does not fit is | counted all the same: what was left is lost | not counted |
//! | [`Purpose::Report`] | `ShouldRateLimit` | `Report` of Kuadrant's service |
//! | [`Purpose::Peek`] | `ShouldRateLimit` with 0 hits | `CheckRateLimit` of Kuadrant's service |
//! | what remains | in each answer | in a header of the answer to `ShouldRateLimit` only |
//! | the limit | in each answer; none if there is no rule | in that header |
//! | a window begins | at multiples of its unit; a month, if so set, by the calendar | with the first hit |
//!
//! Nothing recognises a call that was made twice: after a lost answer it is unknown whether it was
//! counted.
//!
//! Several equal descriptors in one call of `envoyproxy/ratelimit` are counted and answered one
//! after the other (its pipeline has an `INCRBY` for each). So for requests that wait, send one
//! report with one hit for each: those that fit are let in, however many they are.

mod config;
mod message;
mod probe;
pub mod proto;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use config::{InvalidPlanQuota, PlanQuota, ratelimit_config};
pub use probe::{Finding, Probe, ProbeStep, Verdict};

use crate::{ConsumerTag, StoreError};

/// How many descriptors go into one call of `envoyproxy/ratelimit`.
pub const MAX_BATCH: usize = 100;

/// The largest limit: counts of the protocol have 32 bits.
pub const MAX_COUNT: u64 = u32::MAX as u64;

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `envoyproxy/ratelimit`, of an image that honours hits of each descriptor (since the end of
    /// 2024).
    EnvoyRatelimit,
    /// Kuadrant's Limitador, with `--rate-limit-headers DRAFT_VERSION_03`.
    Limitador,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To count what has been used, whether it fits or not.
    Report,
    /// To learn whether the hits fit, and count them. If they do not, `envoyproxy/ratelimit` counts
    /// them too: ask it for one hit at a time, or for what was used already.
    Ask,
    /// To learn how things stand and count nothing; hits are left out of account.
    Peek,
}

/// What names a counter to the service.
///
/// Its entries are `plan`, `quota`, `consumer` and `period`. Limits belong to plans and quotas, so
/// that the server's configuration, and its metrics, do not grow with consumers. The period keeps
/// late reports out of the next window, and gives Limitador's windows their beginning.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Descriptor {
    /// The plan's name.
    pub plan: Arc<str>,
    /// The quota's name.
    pub quota: Arc<str>,
    /// The consumer.
    pub consumer: ConsumerTag,
    /// The window, by its [label](crate::window_label).
    pub period: Arc<str>,
}

/// A number of hits for a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The counter.
    pub descriptor: Descriptor,
    /// The hits.
    pub hits: u32,
}

/// How a counter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the limit is exceeded. Of a [peek](Purpose::Peek) at `envoyproxy/ratelimit`, this is
    /// not so when exactly all is used.
    pub over: bool,
    /// What remains, if it was said.
    pub remaining: Option<u32>,
    /// The limit, if it was said.
    pub limit: Option<u32>,
    /// The time until the server begins a new window, if it was said.
    pub reset: Option<Duration>,
}

/// A unary call to make.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// The full name of the service.
    pub service: &'static str,
    /// The name of the method.
    pub method: &'static str,
    /// The request message, without the prefix that gRPC puts before it.
    pub message: Vec<u8>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "/{}/{} ({} bytes)",
            self.service,
            self.method,
            self.message.len()
        )
    }
}

/// A rate limit service.
#[derive(Clone, Debug)]
pub struct RateLimitService {
    profile: Profile,
    domain: Arc<str>,
}

impl RateLimitService {
    /// A service of this kind, which has our limits under this domain (Limitador: namespace).
    pub fn new(profile: Profile, domain: &str) -> RateLimitService {
        let domain = domain.into();
        RateLimitService { profile, domain }
    }

    /// How many reports go into one call. Those beyond are not sent, and answered so.
    pub fn max_batch(&self) -> usize {
        match self.profile {
            Profile::EnvoyRatelimit => MAX_BATCH,
            Profile::Limitador => 1,
        }
    }

    /// The call for a batch. An empty batch is no call: make none.
    pub fn encode(&self, purpose: Purpose, batch: &[Report]) -> Call {
        let batch = batch.get(..self.max_batch()).unwrap_or(batch);
        message::encode(self.profile, &self.domain, purpose, batch)
    }

    /// What the answer says of each member of the batch, in their order. For a call that ended with
    /// another status than `OK` there is [`StoreError::grpc`].
    pub fn decode(
        &self,
        purpose: Purpose,
        batch: &[Report],
        message: &[u8],
    ) -> Vec<Result<Status, StoreError>> {
        let sent = batch.len().min(self.max_batch());
        let answered = match message::decode(self.profile, purpose, sent, message) {
            Ok(results) => results,
            Err(error) => vec![Err(error); sent],
        };
        let unsent = std::iter::repeat_with(|| Err(StoreError::NotSent));
        answered
            .into_iter()
            .chain(unsent)
            .take(batch.len())
            .collect()
    }
}
