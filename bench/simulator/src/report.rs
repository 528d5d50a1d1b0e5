//! The page.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use crate::chart::{Line, chart};
use crate::outcome::Summary;
use crate::simulation::{Scenario, Strategy};
use crate::time::SECOND;

/// What came of a scenario under a strategy.
pub(crate) struct Result {
    pub(crate) scenario: Scenario,
    pub(crate) strategy: Strategy,
    pub(crate) violations: usize,
    /// Exchanges and counters in each second.
    pub(crate) load: Vec<(u64, u64)>,
    pub(crate) summary: Summary,
}

pub(crate) struct Results(pub(crate) Vec<Result>);

/// What goes before and behind the figures.
const PAGE: &str = include_str!("page.md");

/// The scenarios whose load is drawn.
const CHARTS: [(&str, &str); 3] = [
    (
        "by-key",
        "Counters a second at the store, requests spread by key",
    ),
    (
        "month-ends",
        "Counters a second at the store, the month ends after 30 s",
    ),
    (
        "random",
        "Counters a second at the store, requests spread at random",
    ),
];

impl Results {
    /// Writes the page and its images.
    pub(crate) fn write(&self, docs: &Path, seed: u64) -> io::Result<()> {
        let images = docs.join("images");
        fs::create_dir_all(&images)?;
        for (scenario, title) in CHARTS {
            let lines: Vec<Line<'_>> = self
                .of(scenario)
                .map(|result| Line {
                    name: result.strategy.name(),
                    values: result.load.iter().map(|(_, counters)| *counters).collect(),
                })
                .collect();
            let file = images.join(format!("quota-load-{scenario}.svg"));
            fs::write(file, chart(title, &lines))?;
        }
        let page = PAGE
            .replace("{tables}", self.tables().trim_end())
            .replace("{seed}", &seed.to_string());
        fs::write(docs.join("quota-simulation.md"), page)
    }

    pub(crate) fn are_as_promised(&self) -> bool {
        self.0.iter().all(|result| result.violations == 0)
    }

    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        let mut last = "";
        for result in &self.0 {
            let scenario = &result.scenario;
            if scenario.name != last {
                last = scenario.name;
                let _ = write!(text, "\n### {last}\n\n{}\n\n", scenario.text);
                text.push_str(HEAD);
            }
            let _ = writeln!(text, "{}", result.row());
        }
        text.trim_start().to_owned()
    }

    fn of(&self, scenario: &str) -> impl Iterator<Item = &Result> {
        let results = self.0.iter();
        results.filter(move |result| result.scenario.name == scenario)
    }
}

const HEAD: &str = "\
| strategy | over: sum, most, p99.9 | under: sum, most, p99.9 | alone | lost | waited | added ms: p50, p99 \
| exchanges/s: mean, peak | counters/s: mean, peak | in the 10 s from the event | promise |
|---|---|---|---|---|---|---|---|---|---|---|
";

impl Result {
    /// Its line in the table.
    pub(crate) fn row(&self) -> String {
        let summary = &self.summary;
        let waited = 100.0 * summary.waited as f64 / summary.demand.max(1) as f64;
        format!(
            "| {} | {}, {}, {} | {}, {}, {} | {} | {} | {waited:.1} % | {:.0}, {:.0} | {}, {} | {}, {} | {} | {} |",
            self.strategy.name(),
            summary.over.sum,
            summary.over.max,
            summary.over.p999,
            summary.under.sum,
            summary.under.max,
            summary.under.p999,
            summary.alone,
            summary.lost,
            summary.wait_p50_ms,
            summary.wait_p99_ms,
            self.mean(|load| load.0),
            self.peak(|load| load.0),
            self.mean(|load| load.1),
            self.peak(|load| load.1),
            self.after_event(),
            self.promise(),
        )
    }

    fn seconds(&self) -> usize {
        (self.scenario.duration / SECOND) as usize
    }

    fn mean(&self, of: impl Fn(&(u64, u64)) -> u64) -> u64 {
        let load = self.load.iter().take(self.seconds());
        load.map(of).sum::<u64>() / self.seconds() as u64
    }

    fn peak(&self, of: impl Fn(&(u64, u64)) -> u64) -> u64 {
        self.load.iter().map(of).max().unwrap_or(0)
    }

    /// Counters a second in the ten seconds from when something happens.
    fn after_event(&self) -> String {
        let scenario = &self.scenario;
        let incident = scenario.incidents.last().map(|(at, _)| *at);
        let attack = scenario.attack.map(|attack| attack.from);
        let one_incident = incident.filter(|_| scenario.incidents.len() < 3);
        let Some(at) = scenario.rollover.or(attack).or(one_incident) else {
            return "–".to_owned();
        };
        let load = self.load.iter().skip((at / SECOND) as usize).take(10);
        (load.map(|(_, counters)| counters).sum::<u64>() / 10).to_string()
    }

    fn promise(&self) -> String {
        match (self.strategy, self.violations) {
            (Strategy::Naive | Strategy::Learning, _) => "none".to_owned(),
            (_, 0) => "kept".to_owned(),
            (_, broken) => format!("**broken {broken} times**"),
        }
    }
}
