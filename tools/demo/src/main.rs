//! `make demo`: starts a stock Envoy with the gateway configuration from `envoy/tollgate.yaml`, two
//! small upstreams behind it, and walks a client through every outcome.
//!
//! With `--once` it ends after the walk, and fails if an outcome is not the expected one; otherwise
//! it serves until Ctrl-C. Its other commands are the parts of the same, for containers.

mod bank;
mod caller;
mod container;
mod gateway;
mod share;
mod show;
mod walk;

use std::path::Path;
use std::process::ExitCode;

use caller::Caller;
use gateway::Gateway;
use show::Style;

const USAGE: &str = "usage: tollgate-demo [--once]
       tollgate-demo certificates FOLDER
       tollgate-demo serve NAME ADDRESS
       tollgate-demo issuer FOLDER ADDRESS
       tollgate-demo walk FOLDER ADDRESS
       tollgate-demo share LIMIT ADDRESS...
       tollgate-demo reach ADDRESS

Without a command, runs the gateway and all that belongs to it on this machine; with --once until
the walk is over. The commands are its parts, each by itself, for docker-compose.yml.";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [] => run(false).await,
        ["--once"] => run(true).await,
        ["certificates", folder] => container::certificates(Path::new(folder)).map(|()| true),
        ["serve", name, address] => container::serve(name, address).await.map(|()| true),
        ["issuer", folder, address] => {
            let serving = container::issuer(Path::new(folder), address);
            serving.await.map(|()| true)
        }
        ["walk", folder, address] => visit(Path::new(folder), address).await,
        ["share", limit, gateways @ ..] if !gateways.is_empty() => match limit.parse() {
            Ok(limit) => share::share(&Style::of_stdout(), limit, gateways).await,
            Err(error) => Err(format!("LIMIT {limit:?}: {error}")),
        },
        ["reach", address] => container::reach(address).await.map(|()| true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("\ntollgate-demo: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every outcome was the expected one.
async fn run(once: bool) -> Result<bool, String> {
    let style = Style::of_stdout();
    let gateway = Gateway::start().await?;
    let as_expected = walk(&style, &gateway.caller).await;
    if !once {
        show::invitation(&style, &gateway);
        tokio::signal::ctrl_c()
            .await
            .map_err(|error| format!("cannot wait for Ctrl-C: {error}"))?;
        println!("\nStopping.");
    }
    Ok(as_expected)
}

/// The same with a gateway that runs elsewhere.
async fn visit(folder: &Path, gateway: &str) -> Result<bool, String> {
    let caller = container::caller(folder, gateway).await?;
    Ok(walk(&Style::of_stdout(), &caller).await)
}

async fn walk(style: &Style, caller: &Caller) -> bool {
    show::introduction(style, caller);
    let different = walk::walk(style, caller).await;
    show::conclusion(style, &different);
    different.is_empty()
}
