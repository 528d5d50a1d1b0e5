//! How quotas are shared: what the ledgers of a plan's quotas have to know.

use std::num::NonZeroU32;

use tollgate_quota_ledger::{Mode, Outage, RateBound, Settings, Terms};
use tollgate_quota_store::{MAX_COUNT, rls};

use super::OnStoreFailure;

/// What the configuration says of the store that holds for the quotas of all plans.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    pub(super) envoys: NonZeroU32,
    pub(super) report_interval_ns: u64,
    pub(super) stale_ns: u64,
    pub(super) strict: bool,
    pub(super) on_failure: Option<OnStoreFailure>,
    /// What the store can't do.
    pub(super) abilities: Abilities,
}

/// What a store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// The largest limit that it can keep.
    pub(crate) most: u64,
    /// Whether it takes back what it has granted.
    pub(crate) takes_back: bool,
    /// Whether it tells what remains when it is told what was used. If not, each request must be
    /// covered by a grant.
    pub(crate) tells_what_remains: bool,
    /// Whether its periods are those of the calendar in UTC, whatever ours are.
    pub(crate) has_own_periods: bool,
}

impl Abilities {
    /// Those of Redis with our script.
    pub(super) const REDIS: Abilities = Abilities {
        most: MAX_COUNT,
        takes_back: true,
        tells_what_remains: true,
        has_own_periods: false,
    };
    /// Those of `envoyproxy/ratelimit`.
    pub(super) const ENVOY_RATELIMIT: Abilities = Abilities {
        most: rls::MAX_COUNT,
        takes_back: false,
        tells_what_remains: true,
        has_own_periods: true,
    };
    /// Those of Limitador.
    pub(super) const LIMITADOR: Abilities = Abilities {
        most: rls::MAX_COUNT,
        takes_back: false,
        tells_what_remains: false,
        has_own_periods: false,
    };
}

/// Whether a store keeps the quotas.
#[derive(Clone, Copy)]
pub(crate) enum Shared<'a> {
    /// None does.
    Not,
    /// One should, but what is said of it has mistakes.
    Mistaken,
    /// One does.
    By(&'a Sharing),
}

/// A quota that a store keeps.
#[derive(Clone, Debug)]
pub(crate) struct SharedQuota {
    usual: Terms,
    /// In the consumer's first window, which an offset shortens.
    first: Terms,
    /// What is done when the store does not answer.
    pub(crate) outage: Outage,
}

impl SharedQuota {
    /// What holds in a window, given whether it is the consumer's first.
    pub(crate) fn terms(&self, is_first: bool) -> &Terms {
        match is_first {
            true => &self.first,
            false => &self.usual,
        }
    }
}

/// How much of a limit is given away while the store does not answer, in percent. Not all of it:
/// something has been used before.
const SAFE_PERCENT: u8 = 80;

/// The clocks of Envoys are taken to differ by no more than this: 500 ms.
const SKEW_NS: u64 = 500_000_000;

/// How long a spent quota is taken to be spent before the store is asked again: 2 s.
const PEEK_INTERVAL_NS: u64 = 2_000_000_000;

impl Sharing {
    /// What the store can do.
    pub(crate) fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// How a quota is shared, with its limit and the one of a consumer's first window.
    pub(crate) fn quota(
        &self,
        (limit, first): (u64, u64),
        rate: Option<RateBound>,
        strict: Option<bool>,
        on_failure: Option<OnStoreFailure>,
    ) -> Result<SharedQuota, StrictMayNotExceed> {
        let strict = strict.unwrap_or(self.strict);
        let default = match strict {
            true => OnStoreFailure::Deny,
            false => OnStoreFailure::Safe,
        };
        let on_failure = on_failure.or(self.on_failure).unwrap_or(default);
        if strict && on_failure != OnStoreFailure::Deny {
            return Err(StrictMayNotExceed);
        }
        let settings = |limit| Settings {
            limit,
            mode: match strict || !self.abilities.tells_what_remains {
                true => Mode::Strict,
                false => Mode::Adaptive,
            },
            envoys: self.envoys,
            rate,
            report_interval_ns: self.report_interval_ns,
            stale_ns: self.stale_ns,
            skew_ns: SKEW_NS,
            peek_interval_ns: PEEK_INTERVAL_NS,
            takes_back: self.abilities.takes_back,
        };
        Ok(SharedQuota {
            usual: Terms::new(settings(limit)),
            first: Terms::new(settings(first)),
            outage: match on_failure {
                OnStoreFailure::Allow => Outage::Allow,
                OnStoreFailure::Deny => Outage::Deny,
                OnStoreFailure::Safe => Outage::Safe {
                    percent: SAFE_PERCENT,
                },
            },
        })
    }
}

/// A strict quota is to be exceeded while the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StrictMayNotExceed;

impl std::fmt::Display for StrictMayNotExceed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "a strict quota is never exceeded, so requests can't pass while the store does not \
             answer: leave strict out, or write on_store_failure: deny",
        )
    }
}
