//! `tollgate`, the command line.

use std::process::ExitCode;

use clap::Parser as _;
use tollgate_cli::args::Arguments;

fn main() -> ExitCode {
    tollgate_cli::run(Arguments::parse())
}
