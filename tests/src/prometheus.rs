//! A running Prometheus, and its tool.

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::HttpClient;
use crate::envoy::Envoy;
use crate::process::Process;
use crate::repository;
use crate::wait::wait_for;

/// A Prometheus with its own port and its own folder, both gone when it is dropped.
pub struct Prometheus {
    _process: Process,
    _folder: TempDir,
    client: HttpClient,
}

impl Prometheus {
    /// Starts one that reads the metrics of these gateways twice a second, as the job `tollgate`,
    /// and goes by the rules of these files. `None` where there is no Prometheus, which it tells.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start(gateways: &[&Envoy], rules: &[PathBuf]) -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let targets: Vec<String> = gateways
            .iter()
            .map(|gateway| gateway.admin_address().to_string())
            .collect();
        let config = json!({
            "global": { "scrape_interval": "500ms", "evaluation_interval": "500ms" },
            "rule_files": rules,
            "scrape_configs": [{
                "job_name": "tollgate",
                "metrics_path": "/stats/prometheus",
                "static_configs": [{ "targets": targets }],
            }],
        });
        let config_file = folder.path().join("prometheus.json");
        fs::write(&config_file, config.to_string()).expect("a writable folder");
        let address = free_address();
        let log = fs::File::create(folder.path().join("log")).expect("a writable folder");
        let mut command = Command::new(programs.join("prometheus"));
        command
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut process = Process::spawn(command).expect("a Prometheus that runs");
        let client = HttpClient::http1(address);
        let count = targets.len();
        wait_for("Prometheus to have read all gateways", async || {
            if let Some(status) = process.exited().expect("a child of this process") {
                let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                panic!("Prometheus ended with {status}:\n{log}");
            }
            let up = query(&client, "sum(up)").await?;
            (up.first().copied() == Some(count as f64)).then_some(())
        })
        .await;
        Some(Prometheus {
            _process: process,
            _folder: folder,
            client,
        })
    }

    /// The values that an expression has now, those that are no number left out.
    ///
    /// # Panics
    ///
    /// When Prometheus can't evaluate it.
    pub async fn query(&self, expression: &str) -> Vec<f64> {
        let values = query(&self.client, expression).await;
        values.unwrap_or_else(|| panic!("Prometheus does not evaluate {expression}"))
    }
}

async fn query(client: &HttpClient, expression: &str) -> Option<Vec<f64>> {
    let escaped = utf8_percent_encode(expression, NON_ALPHANUMERIC);
    let path = format!("/api/v1/query?query={escaped}");
    let reply = client.get(&path).try_send().await.ok()?;
    let answer: Value = serde_json::from_str(reply.text()).ok()?;
    let result = answer["data"]["result"].as_array()?;
    let values = result
        .iter()
        .filter_map(|series| series["value"][1].as_str()?.parse::<f64>().ok());
    Some(values.filter(|value| !value.is_nan()).collect())
}

/// Prometheus can't be told to take any free port and say which. Between this and its start another
/// program could take the port; Prometheus would then end, and the test say so.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

/// Runs `promtool` in the root of the repository, and gives what it says: an error if it has found
/// mistakes. `None` where there is no Prometheus, which it tells.
///
/// # Panics
///
/// When it does not run.
pub fn promtool(arguments: &[&str]) -> Option<Result<String, String>> {
    let output = Command::new(programs()?.join("promtool"))
        .args(arguments)
        .current_dir(repository())
        .output()
        .expect("a promtool that runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Some(match output.status.success() {
        true => Ok(said),
        false => Err(said),
    })
}

/// The folder of the programs, asked for once.
fn programs() -> Option<&'static Path> {
    static PROGRAMS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| match fetch() {
        Ok(folder) => Some(folder),
        Err(reason) => {
            skipped("dashboards and alerts", &reason);
            None
        }
    });
    programs.as_deref()
}

fn fetch() -> Result<PathBuf, String> {
    let script = repository().join("tools/fetch-prometheus");
    let output = Command::new(&script)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} does not run: {error}", script.display()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().into()),
        false => Err(String::from_utf8_lossy(&output.stderr)
            .trim()
            .replace('\n', "; ")),
    }
}

/// Says that tests are left out for want of something, in the line that `make test` looks for.
///
/// # Panics
///
/// With `CI` set: there, nothing may be left out.
fn skipped(what: &str, reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what}: {reason}");
    // Not by `println!`, whose output the test runner keeps to itself.
    let _ = writeln!(io::stdout(), "\nskipped: {what}: {reason}");
}
