//! Instructions per request, counted by valgrind's callgrind.
//!
//! A scenario is run twice, with `COUNT` and with `2 × COUNT` requests, and the difference divided by
//! `COUNT`: what starting and preparing cost is in both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tollgate_instructions::scenario::Scenario;
use tollgate_instructions::{cost, docs};

/// How many requests the difference is about.
const COUNT: usize = 200;

/// How much more instructions than before are let pass.
const TOLERANCE: f64 = 0.02;

type Counts = BTreeMap<String, u64>;

/// Compares with the baseline.
pub(crate) fn check() -> Result<(), String> {
    let baseline = read_baseline()?;
    let mut failed = Vec::new();
    println!("| scenario | baseline | now | change |\n|---|---|---|---|");
    for scenario in Scenario::HELD {
        let name = scenario.name();
        let now = instructions(scenario)?;
        let Some(before) = baseline.get(&name).copied() else {
            failed.push(format!("{name}: has no baseline"));
            continue;
        };
        let change = now as f64 / before as f64 - 1.0;
        println!("| {name} | {before} | {now} | {:+.1} % |", change * 100.0);
        if change > TOLERANCE {
            failed.push(format!("{name}: {now} instructions, {before} before"));
        } else if change < -TOLERANCE {
            println!("{name} got cheaper: `make instructions BLESS=1` keeps it so");
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "more than {:.0} % above bench/instructions/baseline.json:\n  {}\n\
             where they go: cargo run --profile profiling -p tollgate-instructions profile NAME",
            TOLERANCE * 100.0,
            failed.join("\n  "),
        )),
    }
}

/// Writes the baseline.
pub(crate) fn bless() -> Result<(), String> {
    let mut counts = Counts::new();
    for scenario in Scenario::HELD {
        let count = instructions(scenario)?;
        println!("{}: {count}", scenario.name());
        counts.insert(scenario.name(), count);
    }
    let text = serde_json::to_string_pretty(&counts).expect("a map of numbers") + "\n";
    std::fs::write(baseline(), text).map_err(|error| error.to_string())
}

/// Writes what is measured into `docs/performance.md`.
pub(crate) fn docs() -> Result<(), String> {
    let mut text = "| | instructions | host calls | allocations | bytes allocated |\n\
                    |---|---:|---:|---:|---:|\n"
        .to_owned();
    for scenario in Scenario::HELD.into_iter().chain(Scenario::SCALE) {
        let cost = cost::measure(scenario);
        let row = format!(
            "| {} | {} | {} | {:.0} | {:.0} |\n",
            scenario.name(),
            instructions(scenario)?,
            cost.all_calls(),
            cost.allocations,
            cost.bytes
        );
        print!("{row}");
        text.push_str(&row);
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.md");
    docs::replace(&page, "instructions", &text)
}

/// Prints where the instructions go.
pub(crate) fn profile(scenario: Scenario) -> Result<(), String> {
    let out = scratch()?.join("profile.out");
    // Only what happens inside, so neither the start nor warming up.
    let within = [
        "--collect-atstart=no".to_owned(),
        "--toggle-collect=*Session*send*".to_owned(),
    ];
    let total = callgrind(scenario, COUNT, &out, &within)?;
    let each = |count: u64| count / COUNT as u64;
    println!(
        "{}: {} instructions per request",
        scenario.name(),
        each(total)
    );
    // A function has a line for each file from which something was inlined into it: all that it
    // calls is in the greatest of them, what it does itself in their sum.
    for (title, inclusive) in [("with what it calls", true), ("by itself", false)] {
        let mut functions = Counts::new();
        for (count, name) in annotated(&out, inclusive)? {
            let entry = functions.entry(name).or_default();
            *entry = match inclusive {
                true => count.max(*entry),
                false => count + *entry,
            };
        }
        let mut functions: Vec<(String, u64)> = functions.into_iter().collect();
        functions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        println!("\nper request, {title}:");
        for (name, count) in functions.into_iter().take(SHOWN) {
            let percent = count as f64 / total as f64 * 100.0;
            println!("{:8} {percent:5.1} %  {name}", each(count));
        }
    }
    Ok(())
}

/// How many functions a profile shows.
const SHOWN: usize = 40;

/// What callgrind_annotate says: instructions, and the name of the function.
fn annotated(out: &Path, inclusive: bool) -> Result<Vec<(u64, String)>, String> {
    let output = Command::new("callgrind_annotate")
        .args(["--threshold=99", "--auto=no"])
        .arg(match inclusive {
            true => "--inclusive=yes",
            false => "--inclusive=no",
        })
        .arg(out)
        .output()
        .map_err(|error| format!("callgrind_annotate does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter_map(function).collect())
}

/// Reads a line as `1,234 (5.6%)  path/file.rs:crate::function [object]`.
fn function(line: &str) -> Option<(u64, String)> {
    let (count, rest) = line.trim().split_once(" (")?;
    let (_, place) = rest.split_once("%)")?;
    let place = place.trim().split(" [").next()?;
    let name = match place.find(".rs:").or(place.find(".c:")) {
        Some(at) => place[at..].split_once(':')?.1,
        None => place,
    };
    Some((count.replace(',', "").parse().ok()?, name.to_owned()))
}

fn instructions(scenario: Scenario) -> Result<u64, String> {
    let folder = scratch()?;
    let measure = |count| {
        let out = folder.join(format!("{}-{count}.out", scenario.name()));
        let total = callgrind(scenario, count, &out, &[])?;
        let _ = std::fs::remove_file(out);
        Ok::<u64, String>(total)
    };
    let (once, twice) = (measure(COUNT)?, measure(2 * COUNT)?);
    Ok((twice - once) / COUNT as u64)
}

/// Runs a scenario under callgrind and gives how many instructions it was.
fn callgrind(
    scenario: Scenario,
    count: usize,
    out: &Path,
    options: &[String],
) -> Result<u64, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--error-exitcode=99"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .args(options)
        .arg(this)
        .args(["run", &scenario.name()])
        .args([count, 2 * COUNT].map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind does not run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{} under valgrind: {said}", scenario.name()));
    }
    let text = std::fs::read_to_string(out).map_err(|error| error.to_string())?;
    let total = text
        .lines()
        .rev()
        .find_map(|line| {
            line.strip_prefix("totals: ")
                .or(line.strip_prefix("summary: "))
        })
        .and_then(|total| total.split_whitespace().next()?.parse().ok());
    total.ok_or_else(|| format!("no total in {}", out.display()))
}

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json")
}

fn read_baseline() -> Result<Counts, String> {
    let path = baseline();
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{}: {error}; `bless` writes it", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A folder beside this program.
fn scratch() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = this.with_file_name("callgrind");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_profile_is_understood() {
        let line =
            " 5,906,106 (17.94%)  /home/x/crates/lifecycle/src/link.rs:a::b::<impl C>::d [/x]";
        assert_eq!(
            function(line),
            Some((5_906_106, "a::b::<impl C>::d".to_owned()))
        );
        assert_eq!(function("Ir                   file:function"), None);
    }
}
