//! `make demo`: starts a stock Envoy with the gateway configuration from `envoy/tollgate.yaml`, two
//! small upstreams behind it, and walks a client through every outcome.
//!
//! With `--once` it ends after the walk, and fails if an outcome is not the expected one; otherwise
//! it serves until Ctrl-C.

mod bank;
mod gateway;
mod show;
mod walk;

use std::process::ExitCode;

use gateway::Gateway;
use show::Style;

#[tokio::main]
async fn main() -> ExitCode {
    let once = match arguments(std::env::args().skip(1)) {
        Ok(once) => once,
        Err(message) => {
            eprintln!("tollgate-demo: {message}");
            return ExitCode::from(2);
        }
    };
    match run(once).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("\ntollgate-demo: {message}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(arguments: impl Iterator<Item = String>) -> Result<bool, String> {
    let mut once = false;
    for argument in arguments {
        match argument.as_str() {
            "--once" => once = true,
            other => {
                return Err(format!(
                    "unknown argument {other:?}, the only one is --once"
                ));
            }
        }
    }
    Ok(once)
}

/// Whether every outcome was the expected one.
async fn run(once: bool) -> Result<bool, String> {
    let style = Style::of_stdout();
    let gateway = Gateway::start().await?;
    show::introduction(&style, &gateway);
    let different = walk::walk(&style, &gateway).await;
    show::conclusion(&style, &different);
    if !once {
        show::invitation(&style, &gateway);
        tokio::signal::ctrl_c()
            .await
            .map_err(|error| format!("cannot wait for Ctrl-C: {error}"))?;
        println!("\nStopping.");
    }
    Ok(different.is_empty())
}
