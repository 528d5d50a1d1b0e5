//! `tollgate-bench`: what the plugins cost an Envoy, beside what people would use instead. See the
//! usage, and `docs/performance.md` for the method.

// A command line talks through its standard streams.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod calls;
mod chart;
mod configuration;
mod cpu;
mod ext_authz;
mod h2load;
mod helper;
mod machine;
mod measure;
mod native;
mod report;
mod scale;
mod tables;
mod upstream;

use std::process::ExitCode;

use tollgate_tests::repository;

use crate::helper::Helper;
use crate::machine::Machine;
use crate::measure::{Bench, Effort, Servers, Store};
use crate::report::Report;

const USAGE: &str = "usage: tollgate-bench [--quick] [--docs] [TABLE...]

Starts each configuration on the same Envoy, drives it with h2load and writes bench.md, bench.json
and bench.svg to target/bench/.

  --quick    two short rounds, to see whether it runs; the figures are rough
  --docs     also put the tables into docs/performance.md
  TABLE      only these: filters calls http2 workers headers bodies new-tokens refused
             store scale";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [upstream::COMMAND] => upstream::serve().await,
        [ext_authz::COMMAND] => ext_authz::serve().await,
        arguments => run(arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[&str]) -> Result<(), String> {
    let (options, names): (Vec<&str>, Vec<&str>) =
        arguments.iter().partition(|word| word.starts_with("--"));
    let known = ["--quick", "--docs"];
    if options.iter().any(|option| !known.contains(option))
        || names.iter().any(|name| !tables::NAMES.contains(name))
    {
        return Err(USAGE.to_owned());
    }
    if !cfg!(target_os = "linux") {
        return Err("CPU is read from /proc, so this runs on Linux only".to_owned());
    }
    h2load::require()?;
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    let bench = Bench {
        effort: match options.contains(&"--quick") {
            true => Effort::QUICK,
            false => Effort::FULL,
        },
        servers: Servers {
            upstream: Helper::start(upstream::COMMAND)?,
            ext_authz: Helper::start(ext_authz::COMMAND)?,
            store: match wanted("store") {
                true => Some(Store::start().await),
                false => None,
            },
        },
    };
    let machine = Machine::read(&bench.envoy_version().await?);
    if machine.is_busy() {
        eprintln!(
            "others use this machine: {}; figures will be off",
            machine.describe()
        );
    }
    let mut report = Report::new(machine, bench.effort);
    for name in tables::NAMES {
        if wanted(name) {
            report.add(tables::measure(name, &bench).await?);
        }
    }
    let text = report.markdown();
    println!("{text}");
    report.write(&report::folder())?;
    if options.contains(&"--docs") {
        report.write_docs(repository())?;
    }
    Ok(())
}
