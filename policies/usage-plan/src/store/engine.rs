//! The engines that a store can have, and how each is spoken to.

mod redis;
mod rls;

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::host::{CalloutId, CalloutNotSent, CalloutResponse, Host};
use tollgate_core::time::Timestamp;
use tollgate_quota_ledger::{Reply, Request};
use tollgate_quota_store::{ConsumerTag, EnvoyId, StoreError};

pub(super) use self::redis::Redis;
pub(super) use self::rls::{Probe, Rls};

/// How a store is spoken to.
pub(super) enum Engine {
    /// Redis behind an HTTP server.
    Redis(Redis),
    /// Envoy's Rate Limit Service protocol.
    Rls(Box<Rls>),
}

/// A quota of a consumer in one window, as engines name it.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    pub(super) plan: Arc<str>,
    /// The quota's name and, where that is not its name, its period: what was used of a year must
    /// not be taken for what was used of a day that began with it.
    pub(super) quota: Arc<str>,
    pub(super) consumer: ConsumerTag,
    /// The window's first second, and the first behind it.
    pub(super) start: i64,
    pub(super) end: i64,
}

/// What is asked and told about one counter.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) counter: Counter,
    pub(super) request: Request,
    /// What the engine has granted or booked to this Envoy so far.
    pub(super) booked: u64,
    /// What has been used of the quota by all, as far as is known.
    pub(super) used: u64,
}

/// What distinguishes a call from others with the same exchanges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Whether all that the store may have forgotten goes with it.
    pub(super) in_full: bool,
    /// A random number, by which the answer is known to be this call's.
    pub(super) nonce: u64,
}

/// What came of a call.
pub(super) enum Answered {
    /// A result for each exchange.
    Results(Vec<Result<Reply, StoreError>>),
    /// It has to be sent again, with all that the store may have forgotten.
    AgainInFull,
}

impl Engine {
    /// How much of a call an exchange takes; a call has room for [`Engine::room`].
    pub(super) fn weight(&self, exchange: &Exchange) -> usize {
        match self {
            Engine::Redis(_) => 1,
            Engine::Rls(rls) => rls.weight(exchange),
        }
    }

    pub(super) fn room(&self) -> usize {
        match self {
            Engine::Redis(_) => redis::ROOM,
            Engine::Rls(rls) => rls.room(),
        }
    }

    /// Sends one call for all these exchanges.
    pub(super) fn call<'a, H: Host>(
        &self,
        envoy: EnvoyId,
        exchanges: impl Iterator<Item = &'a Exchange>,
        manner: Manner,
        timeout: Duration,
        host: &H,
    ) -> Result<CalloutId, CalloutNotSent> {
        match self {
            Engine::Redis(redis) => redis.call(envoy, exchanges, manner, timeout, host),
            Engine::Rls(rls) => rls.call(exchanges, timeout, host),
        }
    }

    /// Reads the answer to a call.
    pub(super) fn decode<'a>(
        &self,
        envoy: EnvoyId,
        exchanges: impl Iterator<Item = &'a Exchange>,
        manner: Manner,
        response: &CalloutResponse<'_>,
    ) -> Answered {
        match self {
            Engine::Redis(redis) => redis.decode(envoy, exchanges, manner, response),
            Engine::Rls(rls) => Answered::Results(rls.decode(exchanges, response)),
        }
    }

    /// Finds out whether the engine does what will be asked of it, where that has to be found out.
    /// Gives what is wrong with it.
    pub(super) fn probe<H: Host>(
        &self,
        probe: &mut Probe,
        timeout: Duration,
        now: Timestamp,
        host: &H,
    ) -> Option<String> {
        match self {
            Engine::Redis(_) => None,
            Engine::Rls(rls) => rls.probe(probe, timeout, now, host),
        }
    }

    /// Takes in the answer to a call of a probe; gives whether it was one.
    pub(super) fn probed<H: Host>(
        &self,
        probe: &mut Probe,
        id: CalloutId,
        response: &CalloutResponse<'_>,
        host: &H,
    ) -> bool {
        match self {
            Engine::Redis(_) => false,
            Engine::Rls(rls) => rls.probed(probe, id, response, host),
        }
    }
}
