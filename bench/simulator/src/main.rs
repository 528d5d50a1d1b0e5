//! Simulates a thousand Envoys that share the quotas of a million consumers, with the ledger that
//! decides in the plugins, and writes what came of it to `docs/quota-simulation.md`.
//!
//! Ends with 1 if something was admitted that must not have been.

mod chart;
mod demand;
mod envoy;
mod outcome;
mod report;
mod scenarios;
mod simulation;
mod store;
mod time;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::report::{Result, Results};
use crate::simulation::{Simulation, Strategy};

const USAGE: &str = "\
usage: tollgate-quota-simulator [--seed NUMBER] [--only SCENARIO] [--docs FOLDER]

  --seed   another run of chance, instead of 1
  --only   one scenario; its figures are printed, and no file is written
  --docs   where the page and its images go, instead of docs";

/// What the command line says.
struct Options {
    seed: u64,
    only: Option<String>,
    docs: PathBuf,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let results = simulate(&options);
    if results.is_empty() {
        eprintln!("no such scenario, expected one of:");
        for scenario in scenarios::all() {
            eprintln!("  {}", scenario.name);
        }
        return ExitCode::from(2);
    }
    let results = Results(results);
    if options.only.is_some() {
        println!("{}", results.tables());
    } else if let Err(error) = results.write(&options.docs, options.seed) {
        eprintln!("cannot write to {}: {error}", options.docs.display());
        return ExitCode::FAILURE;
    }
    if results.are_as_promised() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn simulate(options: &Options) -> Vec<Result> {
    let is_wanted = |name: &str| options.only.as_ref().is_none_or(|only| only == name);
    let mut results = Vec::new();
    for scenario in scenarios::all() {
        for strategy in Strategy::ALL
            .into_iter()
            .filter(|_| is_wanted(scenario.name))
        {
            let outcome = Simulation::new(&scenario, strategy, options.seed).run();
            for violation in outcome.violations.iter().take(10) {
                eprintln!("  broken promise: {violation}");
            }
            let result = Result {
                scenario: scenario.clone(),
                strategy,
                violations: outcome.violations.len(),
                load: outcome.load,
                summary: outcome.summary,
            };
            eprintln!("{} {}", scenario.name, result.row());
            results.push(result);
        }
    }
    results
}

fn parse(mut arguments: impl Iterator<Item = String>) -> std::result::Result<Options, String> {
    let mut options = Options {
        seed: 1,
        only: None,
        docs: PathBuf::from("docs"),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let missing = format!("{argument} lacks its value");
            arguments.next().ok_or(missing)
        };
        match argument.as_str() {
            "--seed" => {
                let seed = value()?;
                options.seed = seed
                    .parse()
                    .map_err(|_| format!("--seed: found {seed}, expected a number"))?;
            }
            "--only" => options.only = Some(value()?),
            "--docs" => options.docs = value()?.into(),
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::Balancing;
    use crate::simulation::{Incident, Scenario};
    use crate::time::SECOND;

    fn short(incidents: Vec<(u64, Incident)>) -> Scenario {
        Scenario {
            name: "short",
            text: "",
            balancing: Balancing::Hash,
            rate: 500.0,
            duration: 10 * SECOND,
            rollover: Some(5 * SECOND),
            skew: SECOND,
            attack: None,
            incidents,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let run = |seed| {
            let scenario = short(vec![(SECOND, Incident::Restart { envoy: 7 })]);
            let outcome = Simulation::new(&scenario, Strategy::Adaptive, seed).run();
            (format!("{:?}", outcome.summary), outcome.load)
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn a_strict_run_with_a_frozen_store_keeps_its_promise() {
        let until = 7 * SECOND;
        let scenario = short(vec![(4 * SECOND, Incident::Freeze { until })]);
        let outcome = Simulation::new(&scenario, Strategy::Strict, 1).run();
        assert_eq!(outcome.violations, Vec::<String>::new());
        assert_eq!(outcome.summary.over.sum, 0);
        assert!(outcome.summary.admitted > 1_000);
        assert!(
            outcome.failed > 0,
            "nobody noticed that the store was frozen"
        );
    }

    #[test]
    fn the_command_line_is_read_or_refused() {
        let parse = |line: &str| parse(line.split_whitespace().map(String::from));
        assert_eq!(parse("--seed 7").ok().map(|options| options.seed), Some(7));
        for wrong in ["--seed", "--seed x", "7"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
