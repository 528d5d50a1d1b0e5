//! `tollgate check`: every mistake in a configuration, where it stands.

use std::io::Write;

use serde::Serialize;
use tollgate_core::config::more_mistakes;

use crate::args::{CheckArguments, Format};
use crate::diagnostics::{self, Mistake};
use crate::input::{self, Input};
use crate::section::{self, Section};
use crate::{Outcome, note, plugin, report};

/// What was found in a file.
pub struct Checked {
    /// The file.
    pub input: Input,
    /// Its documents.
    pub sections: Vec<Section>,
    /// Their mistakes, in the order of the file.
    pub mistakes: Vec<Mistake>,
    /// How many more there are, of which too many were found to list them.
    pub unlisted: usize,
}

/// Checks files.
pub fn run(arguments: &CheckArguments, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let named = arguments.plugin.as_deref().map(plugin::named).transpose()?;
    let mut outcome = Outcome::Good;
    let mut all = Vec::new();
    for path in &arguments.files {
        match input::read(path) {
            Ok(input) => all.push(check(input, named)),
            Err(error) => {
                report(&error);
                outcome = Outcome::Unusable;
            }
        }
    }
    for checked in &all {
        outcome = outcome.max(checked.outcome());
        if checked.outcome() == Outcome::Unusable {
            note(&format!(
                "{} has no configuration of a Tollgate plugin; where it is not known as one, say \
                 whose it is: --plugin tollgate",
                checked.input.name
            ));
        }
    }
    match arguments.format {
        Format::Json => write_json(&all, outcome, out)?,
        Format::Text => {
            for checked in &all {
                write_text(checked, out)?;
            }
        }
    }
    Ok(outcome)
}

/// Checks a text.
pub fn check(input: Input, plugin: Option<&'static str>) -> Checked {
    let (sections, mut found) = match section::find(&input.text, plugin) {
        Ok(sections) => {
            let mut found = Found::default();
            for section in &sections {
                found.append(mistakes(section));
            }
            (sections, found)
        }
        Err(error) => {
            let mistake = Mistake {
                plugin: None,
                path: String::new(),
                message: error.message,
                span: error.offset..error.offset,
            };
            let listed = vec![mistake];
            (
                Vec::new(),
                Found {
                    listed,
                    unlisted: 0,
                },
            )
        }
    };
    found.listed.sort_by_key(|mistake| mistake.span.start);
    Checked {
        input,
        sections,
        mistakes: found.listed,
        unlisted: found.unlisted,
    }
}

/// The mistakes of some sections, and how many more there are.
#[derive(Default)]
struct Found {
    listed: Vec<Mistake>,
    unlisted: usize,
}

impl Found {
    fn append(&mut self, other: Found) {
        self.listed.extend(other.listed);
        self.unlisted += other.unlisted;
    }
}

fn mistakes(section: &Section) -> Found {
    let configured = match section
        .mistakes
        .iter()
        .any(|mistake| mistake.path.is_empty())
    {
        // There is no document to speak of.
        true => Default::default(),
        false => plugin::configure(section.plugin, &section.document, &section.variables),
    };
    let all = section.mistakes.iter().chain(configured.iter());
    Found {
        listed: all
            .map(|error| diagnostics::locate(error, section))
            .collect(),
        unlisted: section.mistakes.unlisted() + configured.unlisted(),
    }
}

impl Checked {
    /// What came of it.
    pub fn outcome(&self) -> Outcome {
        match (self.mistakes.is_empty(), self.sections.is_empty()) {
            (false, _) => Outcome::Bad,
            (true, true) => Outcome::Unusable,
            (true, false) => Outcome::Good,
        }
    }

    /// The mistakes as they are shown to people, in colour.
    pub fn report(&self) -> String {
        let documents = self
            .sections
            .iter()
            .filter_map(|section| section.nodes.as_ref());
        let secrets: Vec<_> = documents.flat_map(diagnostics::secrets).collect();
        let reports = self.mistakes.iter();
        let reports: Vec<String> = reports
            .map(|mistake| diagnostics::render(mistake, &self.input, &secrets))
            .collect();
        reports.join("\n\n")
    }
}

fn write_text(checked: &Checked, out: &mut dyn Write) -> anyhow::Result<()> {
    let name = &checked.input.name;
    if !checked.mistakes.is_empty() {
        writeln!(out, "{}\n", checked.report())?;
        if checked.unlisted > 0 {
            writeln!(out, "{}\n", more_mistakes(checked.unlisted))?;
        }
        let count = checked.mistakes.len() + checked.unlisted;
        let s = if count == 1 { "" } else { "s" };
        writeln!(out, "{name}: {count} mistake{s}\n")?;
    } else if !checked.sections.is_empty() {
        let plugins: Vec<&str> = checked
            .sections
            .iter()
            .map(|section| section.plugin)
            .collect();
        writeln!(out, "{name}: good for {}", plugins.join(", "))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct ReportJson<'a> {
    ok: bool,
    files: Vec<FileJson<'a>>,
}

#[derive(Serialize)]
struct FileJson<'a> {
    file: &'a str,
    sections: Vec<SectionJson>,
    mistakes: Vec<MistakeJson<'a>>,
    /// How many more there are that are not listed.
    unlisted: usize,
}

#[derive(Serialize)]
struct SectionJson {
    plugin: &'static str,
    form: &'static str,
    line: usize,
}

#[derive(Serialize)]
struct MistakeJson<'a> {
    plugin: Option<&'static str>,
    path: &'a str,
    message: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

fn write_json(all: &[Checked], outcome: Outcome, out: &mut dyn Write) -> anyhow::Result<()> {
    let files = all.iter().map(file_json).collect();
    let report = ReportJson {
        ok: outcome == Outcome::Good,
        files,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)?;
    Ok(())
}

fn file_json(checked: &Checked) -> FileJson<'_> {
    let text = &checked.input.text;
    let sections = checked.sections.iter().map(|section| SectionJson {
        plugin: section.plugin,
        form: section.form.name(),
        line: diagnostics::position(text, section.place.start).0,
    });
    let mistakes = checked.mistakes.iter().map(|mistake| {
        let (line, column) = diagnostics::position(text, mistake.span.start);
        let (end_line, end_column) = diagnostics::position(text, mistake.span.end);
        MistakeJson {
            plugin: mistake.plugin,
            path: &mistake.path,
            message: &mistake.message,
            line,
            column,
            end_line,
            end_column,
        }
    });
    FileJson {
        file: &checked.input.name,
        sections: sections.collect(),
        mistakes: mistakes.collect(),
        unlisted: checked.unlisted,
    }
}
