//! The command line of Tollgate: what it does, for `main` and for tests.
//!
//! A document is checked and a request is judged by the plugins' own code, compiled natively: see
//! `tollgate_plugins`.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "a tool that runs for a moment, and never in Envoy; overflow would be caught"
)]
#![cfg_attr(
    test,
    allow(
        clippy::string_slice,
        reason = "a test that cuts within a character shall fail"
    )
)]

pub mod args;
pub mod check;
pub mod diagnostics;
pub mod explain;
pub mod export;
pub mod import;
pub mod input;
pub mod json_text;
pub mod key;
pub mod path;
pub mod plugin;
pub mod schema;
pub mod section;
pub mod yaml;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Arguments, Command};
use clap::CommandFactory as _;

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All is well.
    Good,
    /// What was to be checked has mistakes, or what was asked for can't be had.
    Bad,
    /// Something could not be read, or the command was not used as it is meant.
    Unusable,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Good => 0,
            Outcome::Bad => 1,
            Outcome::Unusable => 2,
        })
    }
}

/// Does what the arguments ask for.
pub fn run(arguments: Arguments) -> ExitCode {
    let mut out = anstream::stdout().lock();
    match execute(arguments.command, &mut out).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    }) {
        Ok(outcome) => outcome.into(),
        // Whoever reads has read enough, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            Outcome::Unusable.into()
        }
    }
}

fn execute(command: Command, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    match command {
        Command::Check(arguments) => check::run(&arguments, out),
        Command::Explain(arguments) => explain::run(&arguments, out),
        Command::Key { command } => key::run(&command, out),
        Command::Schema => {
            out.write_all(schema::TEXT.as_bytes())?;
            Ok(Outcome::Good)
        }
        Command::Import { command } => import::run(&command, out),
        Command::Export { command } => export::run(&command, out),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "tollgate", out);
            Ok(Outcome::Good)
        }
    }
}

/// Says on stderr what went wrong.
pub(crate) fn report(error: &anyhow::Error) {
    note(&format!("{error:#}"));
}

/// Says something on stderr.
pub(crate) fn note(message: &str) {
    // Where stderr is closed nobody listens.
    let _ = writeln!(anstream::stderr(), "tollgate: {message}");
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
