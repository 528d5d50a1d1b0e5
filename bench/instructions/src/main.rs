//! `tollgate-instructions`: see the usage.

// A command line talks through its standard streams.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod callgrind;

use std::collections::BTreeMap;
use std::process::ExitCode;

use tollgate_instructions::allocations::{self, Counting};
use tollgate_instructions::cost;
use tollgate_instructions::scenario::Scenario;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const USAGE: &str = "usage: tollgate-instructions COMMAND

  check           compare instructions per request with bench/instructions/baseline.json
  bless           write what is measured there
  docs            write instructions, host calls and allocations into docs/performance.md
  profile NAME    where the instructions of a scenario go
  allocations NAME
                  where a scenario's request asks for memory
  list            the scenarios, with the host's calls and allocations per request
  run NAME COUNT MOST
                  send COUNT requests, out of MOST that are prepared (what valgrind runs)

check, bless, docs and profile need valgrind.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["check"] => callgrind::check(),
        ["bless"] => callgrind::bless(),
        ["docs"] => callgrind::docs(),
        ["profile", name] => scenario(name).and_then(callgrind::profile),
        ["allocations", name] => scenario(name).map(show_allocations),
        ["list"] => {
            list();
            Ok(())
        }
        ["run", name, count, most] => run(name, count, most),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn scenario(name: &str) -> Result<Scenario, String> {
    Scenario::named(name).ok_or_else(|| {
        let names = Scenario::HELD.into_iter().chain(Scenario::SCALE);
        let names: Vec<String> = names.map(Scenario::name).collect();
        format!("no scenario {name:?}, expected one of {}", names.join(", "))
    })
}

fn run(name: &str, count: &str, most: &str) -> Result<(), String> {
    let number = |text: &str| {
        text.parse::<usize>()
            .map_err(|error| format!("{text:?} is no number: {error}"))
    };
    let (count, most) = (number(count)?, number(most)?);
    scenario(name)?.start(most).send(count);
    Ok(())
}

fn list() {
    println!("| scenario | host calls | allocations | bytes |\n|---|---|---|---|");
    for scenario in Scenario::HELD {
        let cost = cost::measure(scenario);
        println!(
            "| {} | {} | {} | {} |",
            scenario.name(),
            cost.calls(),
            cost.allocations,
            cost.bytes
        );
    }
}

/// How many frames of ours are shown of each allocation.
const FRAMES: usize = 6;

fn show_allocations(scenario: Scenario) {
    let mut session = scenario.start(1);
    let traces = allocations::trace(|| session.send(1));
    let mut places: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (bytes, trace) in &traces {
        let text = trace.to_string();
        let ours: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().split_once(": ").map(|(_, name)| name))
            .filter(|name| {
                (name.contains("tollgate_") || name.contains("proxy_wasm"))
                    && !name.contains("allocations::")
                    && !name.contains("hand_over")
            })
            .take(FRAMES)
            .collect();
        let ours: Vec<String> = ours.into_iter().map(without_parameters).collect();
        let place = places.entry(ours.join(" < ")).or_default();
        *place = (place.0 + 1, place.1 + bytes);
    }
    let mut places: Vec<(String, (usize, usize))> = places.into_iter().collect();
    places.sort_by_key(|(_, (times, bytes))| std::cmp::Reverse((*times, *bytes)));
    println!("{} allocations of one request", traces.len());
    for (place, (times, bytes)) in places {
        println!("{times:4} times {bytes:6} bytes  {place}");
    }
}

/// A function's name without the types in angle brackets behind names, which tell little and are
/// long. An implementation of a trait, `<A as B>::f`, keeps its own.
fn without_parameters(name: &str) -> String {
    let mut short = String::new();
    let mut depth = 0_usize;
    let mut before = ' ';
    for character in name.chars() {
        let is_parameter = short.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        match character {
            '<' if depth > 0 || is_parameter => depth += 1,
            '>' if depth > 0 && before != '-' => depth -= 1,
            _ if depth > 0 => {}
            other => short.push(other),
        }
        before = character;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_without_parameters() {
        let name = "<tollgate_core::chain::Link<P,R> as a::Policies>::respond";
        let short = "<tollgate_core::chain::Link as a::Policies>::respond";
        assert_eq!(without_parameters(name), short);
        assert_eq!(without_parameters("push<A<B>, fn(C) -> D>"), "push");
    }
}
