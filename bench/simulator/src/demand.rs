//! Who calls how often, on which plan, and which Envoy serves it.

use std::num::NonZeroU32;

use fastrand::Rng;
use tollgate_quota_ledger::{Mode, RateBound, Settings, Terms};

use crate::scenarios::{ATTACKED, LEFT_TO_ATTACK};
use crate::time::{MS, SECOND};

pub(crate) const CONSUMERS: usize = 1_000_000;
pub(crate) const ENVOYS: usize = 1_000;
pub(crate) const REGIONS: usize = 20;
const ENVOYS_PER_REGION: usize = ENVOYS / REGIONS;

/// The exponent of Zipf's law.
const SKEW: f64 = 1.1;

/// A burst consumer calls for a fifth of the time, five times as often.
const BURST_PERIOD: u64 = 10 * SECOND;

/// The part of requests that come to another region than their consumer's own.
const SPILL: f64 = 0.05;

/// A month, of which 20 days have passed when a run begins.
pub(crate) const MONTH: u64 = 30 * 24 * 3_600 * SECOND;
pub(crate) const PASSED: u64 = 20 * 24 * 3_600 * SECOND;

/// How requests come to Envoys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balancing {
    /// To one Envoy of a region, by the consumer's key.
    Hash,
    /// To any Envoy of a region.
    Random,
    /// By connections, of which a consumer has a few and which last as long as the Envoy.
    Sticky,
}

impl Balancing {
    /// How many Envoys may serve a consumer. What the operator has to configure.
    pub(crate) fn envoys(self) -> u32 {
        match self {
            // One of each region, and one that takes its place.
            Balancing::Hash => 2 * REGIONS as u32,
            Balancing::Random | Balancing::Sticky => ENVOYS as u32,
        }
    }
}

/// A plan: what an Envoy lets through, and a month's quota of a tenth of what one Envoy could.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) limit: u64,
    pub(crate) rate: RateBound,
}

impl Plan {
    /// Plans have throttles of 1, 4, 16 … a second.
    fn of_tier(tier: usize) -> Self {
        let units = 4_u64.pow(tier as u32);
        Plan {
            limit: units * (MONTH / SECOND) / 10,
            rate: RateBound {
                burst: 2 * units,
                units,
                period_ns: SECOND,
            },
        }
    }

    pub(crate) fn terms(&self, mode: Mode, bounded: bool, envoys: u32) -> Terms {
        Terms::new(Settings {
            limit: self.limit,
            mode,
            envoys: NonZeroU32::new(envoys).expect("there are Envoys"),
            rate: bounded.then_some(self.rate),
            report_interval_ns: REPORT_INTERVAL,
            stale_ns: STALE,
            skew_ns: SKEW_OF_CLOCKS,
            peek_interval_ns: 2 * SECOND,
            takes_back: true,
        })
    }
}

pub(crate) const REPORT_INTERVAL: u64 = SECOND;
const STALE: u64 = 3 * SECOND;
pub(crate) const SKEW_OF_CLOCKS: u64 = SECOND;
pub(crate) const DEADLINE: u64 = 500 * MS;

/// How many plans there are.
pub(crate) const TIERS: usize = 10;

/// A consumer, found anew from its number each time.
#[derive(Clone, Copy)]
pub(crate) struct Consumer {
    /// How many requests it sends a second, on average.
    pub(crate) rate: f64,
    pub(crate) tier: usize,
    /// What was used of its quota before the run.
    pub(crate) used: u64,
    pub(crate) region: usize,
    bursty: bool,
}

pub(crate) struct Population {
    /// Requests a second, of all.
    rate: f64,
    zipf: Vec<f64>,
    alias: Alias,
    duration: u64,
    seed: u64,
    pub(crate) plans: Vec<Plan>,
}

impl Population {
    pub(crate) fn new(rate: f64, duration: u64, seed: u64) -> Self {
        let mut zipf: Vec<f64> = (1..=CONSUMERS)
            .map(|rank| (rank as f64).powf(-SKEW))
            .collect();
        let sum: f64 = zipf.iter().sum();
        zipf.iter_mut().for_each(|weight| *weight /= sum);
        let mut population = Population {
            rate,
            zipf,
            alias: Alias::default(),
            duration,
            seed,
            plans: (0..TIERS).map(Plan::of_tier).collect(),
        };
        let weights = (0..CONSUMERS)
            .map(|index| {
                let factor = if population.consumer(index).bursty {
                    5.0
                } else {
                    1.0
                };
                population.zipf[index] * factor
            })
            .collect();
        population.alias = Alias::new(weights);
        population
    }

    pub(crate) fn consumer(&self, index: usize) -> Consumer {
        let hash = mix(self.seed ^ (index as u64) << 20);
        let rate = self.rate * self.zipf[index];
        // The plan that allows twice what is usual on one Envoy.
        let tier = (0..TIERS).find(|tier| 4_f64.powi(*tier as i32) >= 2.0 * rate);
        let tier = tier.unwrap_or(TIERS - 1);
        let limit = self.plan(tier).limit;
        // A tenth of the busiest and a hundredth of all reach their limit within the run, or nearly.
        let part = if index < 1_000 { 10 } else { 100 };
        let expected = rate * (self.duration / SECOND) as f64;
        let left = if index == ATTACKED {
            LEFT_TO_ATTACK
        } else if hash.is_multiple_of(part) {
            (expected * 1.2 * fraction(mix(hash))) as u64
        } else {
            (limit as f64 * (0.2 + 0.3 * fraction(mix(hash)))) as u64
        };
        Consumer {
            rate,
            tier,
            used: limit.saturating_sub(left),
            region: (hash >> 32) as usize % REGIONS,
            bursty: (hash >> 16).is_multiple_of(4),
        }
    }

    fn plan(&self, tier: usize) -> Plan {
        self.plans
            .get(tier)
            .copied()
            .unwrap_or_else(|| Plan::of_tier(tier))
    }

    /// How long until the next request may come: at a rate above all that there is, from which
    /// [`Population::caller`] takes away.
    pub(crate) fn pause(&self, rng: &mut Rng) -> u64 {
        let most = self.rate * self.alias.sum * 1.5;
        (-(1.0 - rng.f64()).ln() / most * SECOND as f64) as u64
    }

    /// Who sends it, if somebody does: there is night and day, once in a run, and bursts.
    pub(crate) fn caller(&self, now: u64, rng: &mut Rng) -> Option<usize> {
        let turn = now as f64 / self.duration as f64;
        let day = 1.0 - 0.5 * (turn * std::f64::consts::TAU).cos();
        if rng.f64() * 1.5 > day {
            return None;
        }
        let index = self.alias.sample(rng);
        let hash = mix(index as u64);
        let phase = (now + hash % BURST_PERIOD) % BURST_PERIOD;
        (!self.consumer(index).bursty || phase < BURST_PERIOD / 5).then_some(index)
    }

    /// Which Envoy serves a request. `lives` says how often an Envoy was restarted.
    pub(crate) fn envoy(
        &self,
        index: usize,
        balancing: Balancing,
        lives: impl Fn(usize) -> u64,
        rng: &mut Rng,
    ) -> usize {
        let consumer = self.consumer(index);
        let spilt = rng.f64() < SPILL;
        let region = if spilt {
            rng.usize(..REGIONS)
        } else {
            consumer.region
        };
        let within = match balancing {
            Balancing::Random => rng.usize(..ENVOYS_PER_REGION),
            Balancing::Hash => pick(index, region, 0),
            Balancing::Sticky => {
                let connections = 1 + (consumer.rate / 20.0).min(31.0) as usize;
                let connection = rng.usize(..connections);
                let first = pick(index, region, connection);
                let lived = lives(region * ENVOYS_PER_REGION + first);
                if lived == 0 {
                    first
                } else {
                    pick(index, region, connection + 1_000 * lived as usize)
                }
            }
        };
        region * ENVOYS_PER_REGION + within
    }

    /// How often a consumer's requests come to an Envoy that has just got one, a second.
    pub(crate) fn rate_at(&self, index: usize, envoy: usize, balancing: Balancing) -> f64 {
        let consumer = self.consumer(index);
        let home = envoy / ENVOYS_PER_REGION == consumer.region;
        let region = if home {
            1.0 - SPILL
        } else {
            SPILL / REGIONS as f64
        };
        let share = match balancing {
            Balancing::Hash => 1.0,
            Balancing::Random => 1.0 / ENVOYS_PER_REGION as f64,
            Balancing::Sticky => 1.0 / (1.0 + (consumer.rate / 20.0).min(31.0)),
        };
        consumer.rate * region * share
    }
}

fn pick(index: usize, region: usize, salt: usize) -> usize {
    let key = (index as u64) << 24 ^ (region as u64) << 16 ^ salt as u64;
    (mix(key) % ENVOYS_PER_REGION as u64) as usize
}

/// The finalizer of SplitMix64, a public-domain mixing of bits.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn fraction(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// Samples by weight in constant time (Walker's alias method, as Vose builds it).
#[derive(Default)]
struct Alias {
    keep: Vec<f64>,
    other: Vec<u32>,
    sum: f64,
}

impl Alias {
    fn new(weights: Vec<f64>) -> Self {
        let count = weights.len();
        let sum: f64 = weights.iter().sum();
        let mut keep: Vec<f64> = weights.iter().map(|w| w * count as f64 / sum).collect();
        let mut other: Vec<u32> = (0..count as u32).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|index| keep[*index] < 1.0);
        while let (Some(low), Some(high)) = (small.pop(), large.last().copied()) {
            other[low] = high as u32;
            keep[high] -= 1.0 - keep[low];
            if keep[high] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        Alias { keep, other, sum }
    }

    fn sample(&self, rng: &mut Rng) -> usize {
        let index = rng.usize(..self.keep.len());
        if rng.f64() < self.keep[index] {
            index
        } else {
            self.other[index] as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_as_often_as_their_weights_say() {
        let alias = Alias::new(vec![1.0, 0.0, 6.0, 3.0]);
        let mut rng = Rng::with_seed(1);
        let mut found = [0_u32; 4];
        for _ in 0..100_000 {
            found[alias.sample(&mut rng)] += 1;
        }
        for (found, expected) in found.into_iter().zip([10_000, 0, 60_000, 30_000]) {
            assert!(found.abs_diff(expected) < 1_000, "{found}, {expected}");
        }
    }

    #[test]
    fn a_consumer_meets_one_envoy_of_a_region_if_spread_by_key() {
        let population = Population::new(100.0, 10 * SECOND, 1);
        let mut rng = Rng::with_seed(1);
        let mut met: Vec<usize> = (0..10_000)
            .map(|_| population.envoy(77, Balancing::Hash, |_| 0, &mut rng))
            .collect();
        met.sort_unstable();
        met.dedup();
        let mut regions: Vec<usize> = met.iter().map(|at| at / ENVOYS_PER_REGION).collect();
        regions.dedup();
        assert_eq!(met.len(), REGIONS);
        assert_eq!(regions.len(), REGIONS);
    }
}
