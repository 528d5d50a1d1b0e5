//! What was measured, as Markdown, JSON and a chart.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tollgate_instructions::docs;
use tollgate_tests::repository;

use crate::calls::{Measured, Often};
use crate::chart;
use crate::configuration::Configuration;
use crate::machine::Machine;
use crate::measure::{Effort, Row, median, range};
use crate::scale::Size;
use crate::tables::{Content, Table, native_chain};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    effort: Effort,
    tables: Vec<Table>,
}

/// Where results are written.
pub(crate) fn folder() -> PathBuf {
    repository().join("target/bench")
}

impl Report {
    pub(crate) fn new(machine: Machine, effort: Effort) -> Self {
        Report {
            machine,
            effort,
            tables: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, table: Table) {
        self.tables.push(table);
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "Measured on {}; {} rounds of {} requests.\n",
            self.machine.describe(),
            self.effort.rounds,
            self.effort.requests,
        );
        for table in &self.tables {
            let written = write!(
                text,
                "\n### {}\n\n{}\n\n{}",
                table.title,
                table.load,
                content(&table.content)
            );
            written.expect("text can be written");
        }
        text
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), String> {
        let json = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        write("bench.md", &self.markdown())?;
        write("bench.json", &json)?;
        if let Some(chart) = self.chart() {
            write("bench.svg", &chart)?;
        }
        Ok(())
    }

    /// Puts the tables between the markers of `docs/performance.md`, and the chart beside it.
    pub(crate) fn write_docs(&self, repository: &Path) -> Result<(), String> {
        let docs = repository.join("docs");
        let mut text = self.markdown();
        if let Some(chart) = self.chart() {
            let path = docs.join("performance.svg");
            std::fs::write(&path, chart).map_err(|error| format!("{}: {error}", path.display()))?;
            text.push_str("\n![CPU that each filter adds](performance.svg)\n");
        }
        docs::replace(&docs.join("performance.md"), "bench", &text)
    }

    fn chart(&self) -> Option<String> {
        let filters = self.tables.iter().find(|table| table.name == "filters")?;
        match &filters.content {
            Content::Added(rows) => Some(chart::added(rows)),
            _ => None,
        }
    }
}

fn content(content: &Content) -> String {
    match content {
        Content::Added(rows) => added(rows),
        Content::Total(rows) => total(rows),
        Content::Throughput(groups) => throughput(groups),
        Content::Calls(measured) => calls(measured),
        Content::Scale(sizes) => scale(sizes),
    }
}

/// The median of a ratio between two rows, round by round.
fn ratio(of: &[f64], to: &[f64]) -> f64 {
    let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    median(&ratios)
}

fn added(rows: &[Row]) -> String {
    let find = |name: String| rows.iter().find(|row| row.name == name);
    let tuned = find(native_chain(true));
    let default = find(native_chain(false));
    let service = rows
        .iter()
        .any(|row| row.name == Configuration::ExtAuthz.name() && median(&row.service_us) > 0.0);
    let mut heads = vec!["", "CPU, µs", "least to most", "added, µs"];
    if tuned.is_some() {
        heads.push("of native chain, cache on");
    }
    if default.is_some() {
        heads.push("of native chain");
    }
    let mut text = head(&heads);
    for (index, row) in rows.iter().enumerate() {
        let (least, most) = range(&row.cpu_us);
        let mut cells = vec![
            row.name.clone(),
            format!("{:.1}", median(&row.cpu_us)),
            format!("{least:.1} to {most:.1}"),
            match index {
                0 => String::new(),
                _ => format!("{:.1}", median(&row.added_us)),
            },
        ];
        for native in [tuned, default].into_iter().flatten() {
            cells.push(match index {
                0 => String::new(),
                // Of the medians: the difference of one round may be near zero.
                _ => format!("{:.2}", median(&row.added_us) / median(&native.added_us)),
            });
        }
        line(&mut text, &cells);
    }
    if service {
        let row = find(Configuration::ExtAuthz.name()).expect("it was found above");
        let served = median(&row.service_us);
        let note = write!(
            text,
            "\nThe service behind ext_authz used {served:.1} µs per request more, in a process of \
             its own.\n",
        );
        note.expect("text can be written");
    }
    text
}

fn total(rows: &[Row]) -> String {
    let mut text = head(&["", "CPU, µs", "least to most", "of the first"]);
    for row in rows {
        let (least, most) = range(&row.cpu_us);
        let first = rows.first().expect("a row, since we are at one");
        line(
            &mut text,
            &[
                row.name.clone(),
                format!("{:.1}", median(&row.cpu_us)),
                format!("{least:.1} to {most:.1}"),
                format!("{:.2}", ratio(&row.cpu_us, &first.cpu_us)),
            ],
        );
    }
    text
}

fn throughput(groups: &[Vec<Row>]) -> String {
    let mut text = head(&["", "CPU, µs", "of the first", "requests/s", "of the first"]);
    for group in groups {
        for row in group {
            let first = group.first().expect("a row, since we are at one");
            line(
                &mut text,
                &[
                    row.name.clone(),
                    format!("{:.1}", median(&row.cpu_us)),
                    format!("{:.3}", ratio(&row.cpu_us, &first.cpu_us)),
                    rate(median(&row.per_second)),
                    format!("{:.3}", ratio(&row.per_second, &first.per_second)),
                ],
            );
        }
    }
    text
}

/// With decimals where there are few.
fn rate(per_second: f64) -> String {
    match per_second {
        ..100.0 => format!("{per_second:.2}"),
        _ => format!("{per_second:.0}"),
    }
}

fn calls(measured: &[Measured]) -> String {
    let mut text = head(&[
        "",
        "CPU, µs",
        "added, µs",
        "each, µs",
        "in a request",
        "together, µs",
    ]);
    for (index, Measured { row, call }) in measured.iter().enumerate() {
        let added = median(&row.added_us);
        let of_call = |value: &dyn Fn(Often) -> String| call.map(value).unwrap_or_default();
        line(
            &mut text,
            &[
                row.name.clone(),
                format!("{:.1}", median(&row.cpu_us)),
                match index {
                    0 => String::new(),
                    _ => format!("{added:.1}"),
                },
                of_call(&|often| format!("{:.2}", added / often.measured)),
                of_call(&|often| format!("{:.0}", often.in_a_request)),
                of_call(&|often| format!("{:.1}", added / often.measured * often.in_a_request)),
            ],
        );
    }
    text
}

fn scale(sizes: &[Size]) -> String {
    let mut text = head(&[
        "",
        "CPU, µs",
        "added, µs",
        "start of a worker, ms of CPU",
        "memory of a worker, MiB",
    ]);
    for (index, size) in sizes.iter().enumerate() {
        line(
            &mut text,
            &[
                size.row.name.clone(),
                format!("{:.1}", median(&size.row.cpu_us)),
                match index {
                    0 => String::new(),
                    _ => format!("{:.1}", median(&size.row.added_us)),
                },
                format!("{:.0}", size.load_ms),
                format!("{:.1}", size.worker_mib),
            ],
        );
    }
    text
}

fn head(cells: &[&str]) -> String {
    let mut text = String::new();
    line(
        &mut text,
        &cells
            .iter()
            .map(|cell| (*cell).to_owned())
            .collect::<Vec<_>>(),
    );
    let rules: Vec<String> = cells
        .iter()
        .enumerate()
        .map(|(index, _)| match index {
            0 => "---".to_owned(),
            _ => "---:".to_owned(),
        })
        .collect();
    text.push_str(&format!("|{}|\n", rules.join("|")));
    text
}

fn line(text: &mut String, cells: &[String]) {
    text.push_str(&format!("| {} |\n", cells.join(" | ")));
}
