//! The load generator: h2load of nghttp2, with a fixed number of requests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;
use tollgate_instructions::document::{HOST, PATH};

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) protocol: Protocol,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) target: Target,
    /// A file whose bytes are the body; without one the request is a GET.
    pub(crate) body: Option<PathBuf>,
    /// The status that every response must have.
    pub(crate) expected: Status,
    /// How many requests are sent.
    pub(crate) count: Count,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Count {
    /// In proportion to the usual number.
    Share(f64),
    /// So many, however long it takes.
    Exactly(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// 16 connections.
    Http1,
    /// One connection, so one request after the other.
    Http1Single,
    /// 4 connections with 4 streams each.
    Http2,
    /// One connection with 16 streams: h2load then asks for each target of a list once.
    Http2Single,
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A path with its query.
    Path(String),
    /// Each of these paths once, from a file with one in each line.
    Each(Vec<String>),
}

/// What every response must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Anything, as while warming up, when a limit is not spent yet.
    Any,
    Success,
    ClientError,
}

impl Load {
    /// GET of the usual path with these headers.
    pub(crate) fn get(headers: Vec<(String, String)>) -> Self {
        Load {
            protocol: Protocol::Http1,
            headers,
            target: Target::Path(PATH.to_owned()),
            body: None,
            expected: Status::Success,
            count: Count::Share(1.0),
        }
    }
}

/// What h2load has said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
}

/// Fails with what to do where h2load is missing.
pub(crate) fn require() -> Result<(), String> {
    let version = std::process::Command::new("h2load")
        .arg("--version")
        .output();
    match version {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(
            "h2load is missing, install it (Debian, Ubuntu: apt install nghttp2-client; \
                  Fedora: dnf install nghttp2)"
                .to_owned(),
        ),
    }
}

/// Sends so many requests.
pub(crate) async fn run(load: &Load, address: SocketAddr, requests: u64) -> Result<Run, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut command = Command::new("h2load");
    command
        .args(["-n", &requests.to_string(), "-t", "1"])
        .args(["-H", &format!(":authority: {HOST}")]);
    match load.protocol {
        Protocol::Http1 => command.args(["--h1", "-c", "16"]),
        Protocol::Http1Single => command.args(["--h1", "-c", "1"]),
        Protocol::Http2 => command.args(["-c", "4", "-m", "4"]),
        Protocol::Http2Single => command.args(["-c", "1", "-m", "16"]),
    };
    for (name, value) in &load.headers {
        if !name.starts_with(':') {
            command.args(["-H", &format!("{name}: {value}")]);
        }
    }
    if let Some(body) = &load.body {
        command.arg("-d").arg(body);
    }
    match &load.target {
        Target::Path(path) => command.arg(format!("http://{address}{path}")),
        Target::Each(paths) => {
            let list = folder.path().join("targets");
            let lines: String = paths
                .iter()
                .map(|path| format!("http://{address}{path}\n"))
                .collect();
            std::fs::write(&list, lines).map_err(|error| error.to_string())?;
            command.arg("-i").arg(list)
        }
    };
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("h2load does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let run = parse(&text).ok_or_else(|| format!("h2load has failed:\n{text}"))?;
    let answered = statuses(&text).ok_or_else(|| format!("no status codes:\n{text}"))?;
    let as_expected = match load.expected {
        Status::Any => answered.iter().sum(),
        Status::Success => answered[0],
        Status::ClientError => answered[2],
    };
    match as_expected == requests && run.requests == requests {
        true => Ok(run),
        false => Err(format!(
            "not every response is {:?}:\n{text}",
            load.expected
        )),
    }
}

fn parse(text: &str) -> Option<Run> {
    let line = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix));
    // finished in 1.20s, 8312.30 req/s, 1.20MB/s
    let finished = line("finished in ")?;
    let per_second = finished.split(", ").nth(1)?.strip_suffix(" req/s")?;
    // requests: 10000 total, 10000 started, 10000 done, 10000 succeeded, …
    let done = line("requests: ")?
        .split(", ")
        .nth(2)?
        .strip_suffix(" done")?;
    Some(Run {
        requests: done.parse().ok()?,
        per_second: per_second.parse().ok()?,
    })
}

/// How many responses had a status of 2xx, 3xx, 4xx and 5xx.
fn statuses(text: &str) -> Option<[u64; 4]> {
    // status codes: 10000 2xx, 0 3xx, 0 4xx, 0 5xx
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("status codes: "))?;
    let mut counts = line
        .split(", ")
        .map(|count| count.split(' ').next()?.parse().ok());
    Some([
        counts.next()??,
        counts.next()??,
        counts.next()??,
        counts.next()??,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
starting benchmark...
finished in 1.20s, 8312.30 req/s, 1.20MB/s
requests: 10000 total, 10000 started, 10000 done, 9990 succeeded, 10 failed, 0 errored, 0 timeout
status codes: 9990 2xx, 0 3xx, 10 4xx, 0 5xx
traffic: 1.37MB (1440000) total
";

    #[test]
    fn what_h2load_says_is_understood() {
        let run = parse(SAID).unwrap();
        assert_eq!(run.requests, 10_000);
        assert!((run.per_second - 8312.3).abs() < 1e-9);
        assert_eq!(statuses(SAID), Some([9990, 0, 10, 0]));
    }

    #[test]
    fn anything_else_is_a_failure() {
        assert!(parse("Could not connect to host").is_none());
        assert!(statuses("status codes: many").is_none());
    }
}
