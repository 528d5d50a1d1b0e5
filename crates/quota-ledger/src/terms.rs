//! What a quota promises, and under which assumptions.

use std::num::NonZeroU32;

use crate::slope::Slope;

/// The same on every Envoy, except while a new configuration is being rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Units that a window has.
    pub limit: u64,
    /// Whether units may be used before the store has granted them.
    pub mode: Mode,
    /// The most Envoys that serve a consumer at one time, those that come and go during a rolling
    /// update included.
    pub envoys: NonZeroU32,
    /// What one Envoy lets through of one consumer, if its plan bounds that.
    pub rate: Option<RateBound>,
    /// How long usage may remain unreported while the store answers, in nanoseconds: `T`.
    pub report_interval_ns: u64,
    /// How much longer, when it does not answer at once. Beyond, an Envoy uses no more units that
    /// were not granted. It must cover the deadline of an exchange and at least one more attempt.
    pub stale_ns: u64,
    /// The most by which the clocks of two Envoys differ, or one of them steps.
    pub skew_ns: u64,
    /// How long an Envoy refuses by what it knows before it looks whether that still holds.
    pub peek_interval_ns: u64,
    /// Whether the store takes back what it has granted. If not, an Envoy keeps it until it uses it,
    /// and what it never uses is lost to the others.
    pub takes_back: bool,
}

/// Whether units may be used before the store has granted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Yes, while the limit is far away; they are booked afterwards.
    #[default]
    Adaptive,
    /// Never.
    Strict,
}

/// In any time `t`, one Envoy lets through at most `burst + units · t / period_ns` units of one
/// consumer: what its throttle says, in units of the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateBound {
    /// At least the cost of the dearest request.
    pub burst: u64,
    /// Units that come back in a period.
    pub units: u64,
    /// The period, in nanoseconds.
    pub period_ns: u64,
}

impl RateBound {
    /// So many units a second, and no burst beyond the units of a second.
    pub fn per_second(units: u64) -> Self {
        RateBound {
            burst: units,
            units,
            period_ns: NS_PER_SECOND,
        }
    }

    /// The most units let through in `ns`.
    pub fn units_in(&self, ns: u64) -> u64 {
        self.burst.saturating_add(self.slope().units_in(ns))
    }

    fn slope(&self) -> Slope {
        Slope::new(self.units, self.period_ns)
    }
}

const NS_PER_SECOND: u64 = 1_000_000_000;

/// The shortest interval that makes sense: 1 ms.
const SHORTEST_INTERVAL_NS: u64 = 1_000_000;

/// How long usage of a quiet consumer may remain unreported: 30 s.
const LONGEST_INTERVAL_NS: u64 = 30 * NS_PER_SECOND;

/// A longer interval makes the zone wider in which requests have to ask, by twice what all Envoys
/// let through in it. This keeps that below a 128th of the limit.
const STRETCH: u64 = 256;

/// By how much consumers without a bounded rate are expected to become faster at most.
const SURGE: u64 = 2;

/// [`Settings`], made fast to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub(crate) limit: u64,
    pub(crate) mode: Mode,
    pub(crate) envoys: u64,
    pub(crate) interval_ns: u64,
    pub(crate) peek_ns: u64,
    pub(crate) takes_back: bool,
    /// How long usage may remain unreported whatever happens: `H`.
    pub(crate) horizon_ns: u64,
    /// The longest interval for quiet consumers.
    longest_interval_ns: u64,
    skew_ns: u64,
    bound: Option<Bound>,
}

/// What follows from the rate of one Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    /// What one Envoy may have used unseen, at an age of 0.
    unseen_by_one: u64,
    /// How that grows with age.
    others: Slope,
    /// What all Envoys let through.
    all: Slope,
    /// The largest lease: `G`.
    lease: u64,
}

impl Terms {
    /// Prepares settings. Intervals below 1 ms count as 1 ms.
    pub fn new(settings: Settings) -> Self {
        let envoys = u64::from(settings.envoys.get());
        let interval_ns = settings.report_interval_ns.max(SHORTEST_INTERVAL_NS);
        let all = settings.rate.map(|rate| rate.slope().times(envoys));
        let longest_interval_ns = all.map_or(interval_ns, |all| {
            let stretched = all.ns_for(settings.limit) / STRETCH;
            stretched.min(LONGEST_INTERVAL_NS).max(interval_ns)
        });
        let horizon_ns = longest_interval_ns.saturating_add(settings.stale_ns);
        let others = envoys.saturating_sub(1);
        let bound = settings.rate.map(|rate| {
            let slope = rate.slope();
            let lease = rate.burst.max(slope.units_in(interval_ns)).max(1);
            let around = horizon_ns
                .saturating_mul(2)
                .saturating_add(settings.skew_ns);
            let each = rate.units_in(around).saturating_add(lease);
            Bound {
                unseen_by_one: each,
                others: slope.times(others),
                all: slope.times(envoys),
                lease,
            }
        });
        Terms {
            limit: settings.limit,
            mode: settings.mode,
            envoys,
            interval_ns,
            peek_ns: settings.peek_interval_ns.max(SHORTEST_INTERVAL_NS),
            takes_back: settings.takes_back,
            horizon_ns,
            longest_interval_ns,
            skew_ns: settings.skew_ns,
            bound,
        }
    }

    /// The units of a window.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How long usage may remain unreported whatever happens, in nanoseconds: `H`.
    pub fn horizon_ns(&self) -> u64 {
        self.horizon_ns
    }

    /// What other Envoys may have used, or use until this Envoy's usage is booked, that is not in
    /// the store's total of `age_ns` ago: `S`. `None` if nothing bounds it.
    pub fn unseen(&self, age_ns: u64) -> Option<u64> {
        if self.envoys == 1 {
            return Some(0);
        }
        let others = self.envoys.saturating_sub(1);
        self.bound.map(|bound| {
            let unseen = bound.unseen_by_one.saturating_mul(others);
            unseen.saturating_add(bound.others.units_in(age_ns))
        })
    }

    /// What may have been used of a window that opened `age_ns` ago, by all Envoys, of which this one
    /// may be a new run: before it, another run had its place. `None` if nothing bounds it.
    pub(crate) fn unseen_since_opening(&self, age_ns: u64) -> Option<u64> {
        self.bound.map(|bound| {
            let others = bound.unseen_by_one.saturating_mul(self.envoys);
            others.saturating_add(bound.all.units_in(age_ns))
        })
    }

    /// The same as [`Terms::unseen`], as far as it can be guessed from how fast the total has grown of late.
    pub(crate) fn guess_unseen(&self, age_ns: u64, burn: Slope) -> u64 {
        let span = self
            .horizon_ns
            .saturating_mul(2)
            .saturating_add(self.skew_ns)
            .saturating_add(age_ns);
        burn.times(SURGE).units_in(span).saturating_add(self.envoys)
    }

    /// How long usage may remain unreported, when so many units remain and so many are unreported.
    /// Only those wait for longer who use little, so that not much is lost with an Envoy.
    pub(crate) fn interval_at(&self, remaining: u64, unreported: u64) -> u64 {
        let bound = self.bound.filter(|bound| unreported < bound.lease);
        bound.map_or(self.interval_ns, |bound| {
            let stretched = bound.all.ns_for(remaining) / 8;
            stretched
                .min(self.longest_interval_ns)
                .max(self.interval_ns)
        })
    }

    /// The largest lease that an Envoy may hold.
    pub(crate) fn largest_lease(&self) -> u64 {
        match (self.mode, self.bound) {
            (Mode::Adaptive, Some(bound)) => bound.lease,
            _ => u64::MAX,
        }
    }

    /// How old the store's word may be by which a request is refused.
    pub(crate) fn fresh_ns(&self) -> u64 {
        self.peek_ns.saturating_mul(4)
    }
}
