//! `tollgate import`: other gateways' configurations, turned into a document.
//!
//! What has no equivalent, and what means something else here, is listed: on standard error and in
//! comments above the document. Keys leave this only as digests.

mod aws;
mod kong;
mod nginx;
mod nginx_syntax;
mod output;
mod parts;

use std::collections::BTreeSet;
use std::io::Write;

use crate::args::ImportCommand;
use crate::input::{self, Input};
use crate::{Outcome, check, note, plugin};
use output::Out;

/// What came of another gateway's configuration.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// The sections of the document.
    pub(crate) sections: Vec<(&'static str, Out)>,
    /// What has no equivalent here.
    pub(crate) lost: BTreeSet<String>,
    /// What means something else here.
    pub(crate) different: BTreeSet<String>,
}

impl Imported {
    pub(crate) fn lose(&mut self, what: impl Into<String>) {
        self.lost.insert(what.into());
    }

    pub(crate) fn differ(&mut self, what: impl Into<String>) {
        self.different.insert(what.into());
    }

    /// Adds a section, unless it is empty.
    pub(crate) fn section(&mut self, name: &'static str, section: Out) {
        if !section.is_empty() {
            self.sections.push((name, section));
        }
    }
}

/// Imports.
pub fn run(command: &ImportCommand, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let (source, imported) = match command {
        ImportCommand::Kong(file) => {
            let input = input::read(&file.file)?;
            ("Kong", kong::import(&input)?)
        }
        ImportCommand::Aws { files } => ("Amazon API Gateway", aws::import(files)?),
        ImportCommand::Nginx(file) => {
            let input = input::read(&file.file)?;
            ("NGINX", nginx::import(&input)?)
        }
    };
    if imported.sections.is_empty() {
        anyhow::bail!("nothing in it has an equivalent here");
    }
    let document = write_document(source, &imported)?;
    for what in &imported.lost {
        note(&format!("no equivalent: {what}"));
    }
    for what in &imported.different {
        note(&format!("different: {what}"));
    }
    out.write_all(document.as_bytes())?;
    verdict(document)
}

/// Checks what was made of it: a name or a path may be one that is not taken here.
fn verdict(document: String) -> anyhow::Result<Outcome> {
    let input = Input {
        name: "<imported>".to_owned(),
        text: document,
    };
    let checked = check::check(input, Some(plugin::FULL));
    if checked.mistakes.is_empty() {
        return Ok(Outcome::Good);
    }
    write!(anstream::stderr(), "\n{}\n\n", checked.report())?;
    note("the document needs a hand: mend what is marked above");
    Ok(Outcome::Bad)
}

fn write_document(source: &str, imported: &Imported) -> anyhow::Result<String> {
    let mut text = format!("# Imported from {source}.\n");
    for (title, list) in [
        ("No equivalent here", &imported.lost),
        ("Different here", &imported.different),
    ] {
        if list.is_empty() {
            continue;
        }
        text.push_str(&format!("#\n# {title}:\n"));
        for what in list {
            comment(&mut text, what);
        }
    }
    for (name, section) in &imported.sections {
        text.push('\n');
        text.push_str(&output::to_yaml(&Out::map([(*name, section.clone())]))?);
    }
    Ok(text)
}

/// Writes an item of a list as a comment of lines that are not too long.
fn comment(text: &mut String, what: &str) {
    let mut line = "# -".to_owned();
    // What was imported must not end the comment.
    for word in what.split_whitespace() {
        if line.len() + word.len() > 98 {
            text.push_str(&line);
            text.push('\n');
            line = "#  ".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
