//! Configurations in turn, round after round.

use std::net::SocketAddr;

use serde::Serialize;
use tollgate_tests::{Envoy, Redis, Webdis};

use crate::configuration::Configuration;
use crate::cpu;
use crate::h2load::{self, Count, Load, Status};
use crate::helper::Helper;

/// What is the same for every table.
pub(crate) struct Bench {
    pub(crate) effort: Effort,
    pub(crate) servers: Servers,
}

/// What stands behind the gateways.
pub(crate) struct Servers {
    pub(crate) upstream: Helper,
    pub(crate) ext_authz: Helper,
    /// Where the quota store is, if a table needs one.
    pub(crate) store: Option<Store>,
}

/// A quota store: Webdis, and the Redis behind it.
pub(crate) struct Store {
    webdis: Webdis,
    _redis: Redis,
}

impl Store {
    pub(crate) async fn start() -> Self {
        let redis = Redis::start().await;
        Self {
            webdis: Webdis::start(&redis).await,
            _redis: redis,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.webdis.address()
    }
}

/// How long it is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Requests to each configuration in each round.
    pub(crate) requests: u64,
    /// Requests before the first round, which are not counted.
    pub(crate) warm_up: u64,
}

impl Effort {
    pub(crate) const FULL: Effort = Effort {
        rounds: 5,
        requests: 20_000,
        warm_up: 2_000,
    };

    pub(crate) const QUICK: Effort = Effort {
        rounds: 2,
        requests: 2_000,
        warm_up: 500,
    };

    /// The number of requests of a load.
    pub(crate) fn requests_of(self, load: &Load) -> u64 {
        self.scaled(self.requests, load)
    }

    /// The number of requests before those.
    fn warm_up_of(self, load: &Load) -> u64 {
        self.scaled(self.warm_up, load)
    }

    fn scaled(self, requests: u64, load: &Load) -> u64 {
        match load.count {
            Count::Share(share) => ((requests as f64 * share) as u64).max(MOST_CONNECTIONS),
            Count::Exactly(count) => count,
        }
    }
}

/// h2load wants a request for each connection at least.
const MOST_CONNECTIONS: u64 = 16;

/// One row to be.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) configuration: Configuration,
    pub(crate) load: Load,
}

impl Case {
    pub(crate) fn new(configuration: Configuration, load: &Load) -> Self {
        Case {
            name: configuration.name(),
            configuration,
            load: load.clone(),
        }
    }

    pub(crate) fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

/// What was measured of one case, one value for each round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// CPU of the Envoy process per request, in µs.
    pub(crate) cpu_us: Vec<f64>,
    /// CPU of the authorisation service per request, in µs.
    pub(crate) service_us: Vec<f64>,
    pub(crate) per_second: Vec<f64>,
    /// CPU per request above that of the first row in the same round, in µs.
    pub(crate) added_us: Vec<f64>,
}

impl Bench {
    /// What Envoy calls itself: `5c49d7…/1.40.0/Clean/RELEASE/BoringSSL`.
    pub(crate) async fn envoy_version(&self) -> Result<String, String> {
        let envoy = Configuration::NoFilter.start(&self.servers, 1).await?;
        let info: serde_json::Value = serde_json::from_str(&envoy.admin_get("/server_info").await)
            .map_err(|error| error.to_string())?;
        let version = info["version"].as_str().unwrap_or_default();
        let number = version.split('/').nth(1).unwrap_or(version);
        Ok(number.to_owned())
    }

    /// Measures cases, each on an Envoy of its own, all started before the first round. The first
    /// one is what the others are compared with.
    pub(crate) async fn measure(&self, cases: &[Case], workers: u32) -> Result<Vec<Row>, String> {
        let mut envoys = Vec::new();
        for case in cases {
            let envoy = case.configuration.start(&self.servers, workers).await?;
            let mut warming = case.load.clone();
            warming.expected = Status::Any;
            let count = self.effort.warm_up_of(&warming);
            h2load::run(&warming, envoy.address(), count)
                .await
                .map_err(|error| format!("{}: {error}\n{}", case.name, envoy.log()))?;
            envoys.push(envoy);
        }
        let mut rows: Vec<Row> = cases.iter().map(|case| Row::new(&case.name)).collect();
        for round in 1..=self.effort.rounds {
            eprintln!("round {round} of {}", self.effort.rounds);
            for place in turns(round, cases.len()) {
                let sample = self.sample(&cases[place], &envoys[place]).await?;
                rows[place].add(&sample);
            }
            let base = rows.first().and_then(|row| row.cpu_us.last().copied());
            for row in &mut rows {
                let of_this_round = row.cpu_us.last().copied();
                row.added_us
                    .extend(of_this_round.zip(base).map(|(of, to)| of - to));
            }
        }
        Ok(rows)
    }

    async fn sample(&self, case: &Case, envoy: &Envoy) -> Result<Sample, String> {
        let requests = self.effort.requests_of(&case.load);
        let read = || {
            let envoy = cpu::used_us(envoy.pid())?;
            Ok::<_, String>((envoy, cpu::used_us(self.servers.ext_authz.pid())?))
        };
        let before = read()?;
        let run = h2load::run(&case.load, envoy.address(), requests)
            .await
            .map_err(|error| format!("{}: {error}\n{}", case.name, envoy.log()))?;
        let after = read()?;
        Ok(Sample {
            cpu_us: (after.0 - before.0) / requests as f64,
            service_us: (after.1 - before.1) / requests as f64,
            per_second: run.per_second,
        })
    }
}

/// Who is measured when in a round: each round begins with another case, so that none is always the
/// one that follows the same other.
fn turns(round: usize, cases: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..cases).collect();
    places.rotate_left(round % cases.max(1));
    if round % 2 == 1 {
        places.reverse();
    }
    places
}

struct Sample {
    cpu_us: f64,
    service_us: f64,
    per_second: f64,
}

impl Row {
    fn new(name: &str) -> Self {
        Row {
            name: name.to_owned(),
            cpu_us: Vec::new(),
            service_us: Vec::new(),
            per_second: Vec::new(),
            added_us: Vec::new(),
        }
    }

    fn add(&mut self, sample: &Sample) {
        self.cpu_us.push(sample.cpu_us);
        self.service_us.push(sample.service_us);
        self.per_second.push(sample.per_second);
    }
}

/// The middle value; the mean of the two in the middle where there are two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => f64::NAN,
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// The least and the greatest value.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, greatest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_turn_in_every_round() {
        assert_eq!(turns(1, 3), [0, 2, 1]);
        assert_eq!(turns(2, 3), [2, 0, 1]);
        for round in 1..6 {
            let mut places = turns(round, 4);
            places.sort_unstable();
            assert_eq!(places, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn a_median_is_the_middle_value() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(range(&[3.0, 1.0, 2.0]), (1.0, 3.0));
    }
}
