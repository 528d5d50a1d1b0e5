//! A running Envoy.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::access_log::{self, AccessLogEntry};
use crate::bootstrap::{EnvoyBuilder, Files};
use crate::client::HttpClient;
use crate::listener::Listener;
use crate::process::{self, Process};
use crate::raw::RawClient;
use crate::stats::Stats;
use crate::wait::{DEADLINE, wait_for, wait_until_deadline};

/// A running Envoy with its own ports and its own folder, both gone when it is dropped.
pub struct Envoy {
    process: Process,
    folder: Folder,
    admin: HttpClient,
    listeners: BTreeMap<String, SocketAddr>,
    /// How many listener configurations were written.
    version: u64,
}

impl Envoy {
    /// An Envoy with one listener that sends everything to an upstream, to be changed at will.
    pub fn builder() -> EnvoyBuilder {
        EnvoyBuilder::new()
    }

    /// Asks Envoy whether a whole configuration is good, which runs the plugins' configuration
    /// too. Unlike [`EnvoyBuilder::bootstrap`] this changes nothing in it.
    ///
    /// # Panics
    ///
    /// When there is no Envoy to ask.
    pub async fn validate(bootstrap: &Value) -> Validation {
        let folder = Folder::new().expect("a temporary folder");
        let config = folder.write_config(bootstrap).expect("a writable folder");
        Self::validate_file(&folder, &config).await
    }

    /// Asks Envoy about a configuration as it is written, in YAML.
    ///
    /// # Panics
    ///
    /// When there is no Envoy to ask.
    pub async fn validate_yaml(text: &str) -> Validation {
        let folder = Folder::new().expect("a temporary folder");
        let config = folder.0.path().join("envoy.yaml");
        fs::write(&config, text).expect("a writable folder");
        Self::validate_file(&folder, &config).await
    }

    async fn validate_file(folder: &Folder, config: &Path) -> Validation {
        let mut command = folder.command(config).expect("an Envoy to ask");
        command.args(["--mode", "validate"]);
        let mut process = Process::spawn(command).expect("an Envoy that runs");
        let status = wait_for("`envoy --mode validate` to end", async || {
            process.exited().expect("a child of this process")
        });
        Validation {
            success: status.await.success(),
            output: folder.log() + &folder.stdout(),
        }
    }

    pub(crate) async fn start(builder: EnvoyBuilder) -> Result<Self, StartError> {
        let folder = Folder::new().map_err(StartError::Io)?;
        if builder.dynamic_listener {
            let listener = builder.listener.to_json(&folder.access_log());
            folder
                .write_dynamic_listener(listener, 0)
                .map_err(StartError::Io)?;
        }
        let bootstrap = builder.to_json(&Files {
            access_log: &folder.access_log(),
            dynamic_listener: &folder.dynamic_listener(),
        });
        let config = folder.write_config(&bootstrap).map_err(StartError::Io)?;
        let mut command = folder.command(&config)?;
        command
            .args(["--concurrency", &builder.concurrency.to_string()])
            .args(["--log-level", &builder.log_level])
            .args(["--drain-time-s", &builder.drain_time.as_secs().to_string()])
            .args(["--drain-strategy", "immediate"])
            .args(["--file-flush-interval-msec", "20"])
            .args(&builder.arguments)
            .envs(builder.environment.iter().cloned());
        let mut process = Process::spawn(command).map_err(StartError::Io)?;
        let admin = await_admin(&mut process, &folder).await?;
        await_serving(&mut process, &folder, &admin).await?;
        let mut envoy = Self {
            process,
            folder,
            admin,
            listeners: BTreeMap::new(),
            version: 0,
        };
        envoy.read_listeners().await;
        match envoy.listeners.is_empty() {
            true => Err(StartError::NoListener { log: envoy.log() }),
            false => Ok(envoy),
        }
    }

    /// Where the listener is reached; the first one by name where there are several.
    pub fn address(&self) -> SocketAddr {
        let first = self.listeners.values().next();
        *first.expect("a started Envoy has a listener")
    }

    /// Where the listener of this name is reached.
    pub fn listener(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.get(name).copied()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How much memory the process has at the moment, in bytes. `None` where the system does not
    /// tell as Linux does (`VmRSS` in `/proc/<pid>/status`).
    pub fn resident_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let mut lines = status.lines();
        let text = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = text.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes << 10)
    }

    /// A new client that speaks HTTP/1.1 to [`address`](Self::address).
    pub fn http1(&self) -> HttpClient {
        HttpClient::http1(self.address())
    }

    /// A new client that speaks HTTP/2 to [`address`](Self::address).
    pub fn http2(&self) -> HttpClient {
        HttpClient::http2(self.address())
    }

    /// A new connection to [`address`](Self::address) for any bytes.
    pub async fn raw(&self) -> RawClient {
        RawClient::connect(self.address()).await
    }

    /// Where the admin port is, as a URL.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin.address())
    }

    /// Where the admin port is, as `host:port`.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// What the admin port answers to a GET.
    pub async fn admin_get(&self, path: &str) -> String {
        self.admin.get(path).send().await.text().to_owned()
    }

    /// What the admin port answers to a POST.
    pub async fn admin_post(&self, path: &str) -> String {
        self.admin.post(path).send().await.text().to_owned()
    }

    /// All metrics as they are now. Histograms may lag by one call.
    pub async fn stats(&self) -> Stats {
        Stats::parse(&self.admin_get("/stats/prometheus").await)
    }

    /// Waits until the metrics are as `condition` says.
    pub async fn wait_for_stats(&self, what: &str, condition: impl Fn(&Stats) -> bool) -> Stats {
        wait_for(what, async || {
            let stats = self.stats().await;
            condition(&stats).then_some(stats)
        })
        .await
    }

    /// What Envoy and the plugins have logged so far.
    pub fn log(&self) -> String {
        self.folder.log()
    }

    /// Waits until the log contains this text.
    pub async fn wait_for_log(&self, text: &str) {
        wait_for(&format!("\"{text}\" in Envoy's log"), async || {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// What Envoy has written to its standard output, where a configuration of one's own may have
    /// its access log.
    pub fn stdout(&self) -> String {
        self.folder.stdout()
    }

    /// The requests in the access log so far.
    pub fn access_log(&self) -> Vec<AccessLogEntry> {
        access_log::parse(&read(&self.folder.access_log()))
    }

    /// Waits until the access log has so many requests in all, and gives them.
    pub async fn wait_for_access_log(&self, entries: usize) -> Vec<AccessLogEntry> {
        wait_for(&format!("{entries} lines in the access log"), async || {
            let log = self.access_log();
            (log.len() >= entries).then_some(log)
        })
        .await
    }

    /// Replaces the listener of an Envoy with a [dynamic one](EnvoyBuilder::dynamic_listener), and
    /// waits until all workers have taken it or Envoy has refused it. The old listener's
    /// connections are closed by then: go on with a new client.
    ///
    /// # Panics
    ///
    /// When the listener of this Envoy is not dynamic.
    pub async fn update_listener(&mut self, listener: &Listener) -> Result<(), UpdateRejected> {
        assert!(
            self.folder.dynamic_listener().exists(),
            "the listener is fixed: build this Envoy with dynamic_listener()",
        );
        let before = self.listener_stats().await;
        let logged = self.log().len();
        self.version += 1;
        let json = listener.to_json(&self.folder.access_log());
        self.folder
            .write_dynamic_listener(json, self.version)
            .expect("a writable folder");
        let after = wait_for("Envoy to take or refuse a listener", async || {
            let now = self.listener_stats().await;
            (now.accepted > before.accepted || now.rejected > before.rejected).then_some(now)
        });
        if after.await.rejected > before.rejected {
            let log = self.log().split_off(logged);
            return Err(UpdateRejected { log });
        }
        // The old listener goes only when each worker has got the new one.
        wait_for("the old listener to be gone", async || {
            (self.listener_stats().await.in_transition == 0).then_some(())
        })
        .await;
        self.read_listeners().await;
        Ok(())
    }

    async fn listener_stats(&self) -> ListenerStats {
        let text = self
            .admin_get("/stats?filter=^listener_manager\\.&format=json")
            .await;
        let stats: Value = serde_json::from_str(&text).expect("stats as JSON");
        let value = |name: &str| {
            let stats = stats["stats"].as_array().into_iter().flatten();
            let name = format!("listener_manager.{name}");
            let mut found = stats.filter(|stat| stat["name"] == name.as_str());
            found.next().and_then(|stat| stat["value"].as_u64())
        };
        ListenerStats {
            accepted: value("lds.update_success").unwrap_or(0),
            rejected: value("lds.update_rejected").unwrap_or(0),
            in_transition: value("total_listeners_warming").unwrap_or(0)
                + value("total_listeners_draining").unwrap_or(0)
                + value("total_filter_chains_draining").unwrap_or(0),
        }
    }

    async fn read_listeners(&mut self) {
        let text = self.admin_get("/listeners?format=json").await;
        let json: Value = serde_json::from_str(&text).expect("listeners as JSON");
        let listeners = json["listener_statuses"].as_array().into_iter().flatten();
        self.listeners = listeners
            .filter_map(|listener| {
                let address = &listener["local_address"]["socket_address"];
                let ip = address["address"].as_str()?.parse().ok()?;
                let port = address["port_value"].as_u64()?.try_into().ok()?;
                let name = listener["name"].as_str()?;
                Some((name.to_owned(), SocketAddr::new(ip, port)))
            })
            .collect();
    }
}

struct ListenerStats {
    accepted: u64,
    rejected: u64,
    in_transition: u64,
}

/// A client of the admin port, once that is bound.
async fn await_admin(process: &mut Process, folder: &Folder) -> Result<HttpClient, StartError> {
    let address = wait_until_deadline(async || match process.exited() {
        Ok(None) => process::read_address(&folder.admin_address()).map(Ok),
        Ok(Some(status)) => Some(Err(StartError::exited(status, folder))),
        Err(error) => Some(Err(StartError::Io(error))),
    });
    match address.await {
        Some(address) => address.map(HttpClient::http1),
        None => Err(StartError::not_ready(folder)),
    }
}

/// Waits until Envoy says it is ready and its workers accept connections.
async fn await_serving(
    process: &mut Process,
    folder: &Folder,
    admin: &HttpClient,
) -> Result<(), StartError> {
    let serving = wait_until_deadline(async || match process.exited() {
        Ok(None) => is_serving(admin).await.then_some(Ok(())),
        Ok(Some(status)) => Some(Err(StartError::exited(status, folder))),
        Err(error) => Some(Err(StartError::Io(error))),
    });
    match serving.await {
        Some(result) => result,
        None => Err(StartError::not_ready(folder)),
    }
}

async fn is_serving(admin: &HttpClient) -> bool {
    let ready = admin.get("/ready").try_send().await;
    if !ready.is_ok_and(|reply| reply.status == 200) {
        return false;
    }
    let workers = "/stats?filter=^listener_manager\\.workers_started$";
    let workers = admin.get(workers).try_send().await;
    workers.is_ok_and(|reply| reply.text().trim().ends_with(": 1"))
}

/// What `envoy --mode validate` said.
#[derive(Clone, Debug)]
pub struct Validation {
    /// Whether the configuration is good.
    pub success: bool,
    /// All that was printed.
    pub output: String,
}

/// Why Envoy did not start. Its `Debug` and `Display` show Envoy's log.
pub enum StartError {
    /// There is no Envoy, for the reason given.
    NoBinary(String),
    /// A file or a process could not be made.
    Io(std::io::Error),
    /// Envoy ended, mostly because it refused its configuration.
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: String,
    },
    /// Envoy was not ready in time.
    NotReady {
        /// Its log.
        log: String,
    },
    /// Envoy runs without listener: it refused a [dynamic one](EnvoyBuilder::dynamic_listener).
    NoListener {
        /// Its log.
        log: String,
    },
}

impl StartError {
    fn exited(status: ExitStatus, folder: &Folder) -> Self {
        let log = folder.log();
        Self::Exited { status, log }
    }

    fn not_ready(folder: &Folder) -> Self {
        Self::NotReady { log: folder.log() }
    }

    /// Envoy's log; empty if it did not run.
    pub fn log(&self) -> &str {
        match self {
            Self::NoBinary(_) | Self::Io(_) => "",
            Self::Exited { log, .. } | Self::NotReady { log } | Self::NoListener { log } => log,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBinary(reason) => write!(f, "there is no Envoy: {reason}"),
            Self::Io(error) => write!(f, "cannot start Envoy: {error}"),
            Self::Exited { status, log } => write!(f, "Envoy ended with {status}; its log:\n{log}"),
            Self::NotReady { log } => {
                write!(f, "Envoy was not ready in {DEADLINE:?}; its log:\n{log}")
            }
            Self::NoListener { log } => write!(f, "Envoy has no listener; its log:\n{log}"),
        }
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StartError {}

/// Envoy has refused a listener and kept the old one.
#[derive(Clone, Debug)]
pub struct UpdateRejected {
    /// What Envoy has logged since it got the listener.
    pub log: String,
}

/// The folder of one Envoy.
struct Folder(TempDir);

impl Folder {
    fn new() -> std::io::Result<Self> {
        tempfile::Builder::new()
            .prefix("tollgate-envoy-")
            .tempdir()
            .map(Self)
    }

    fn access_log(&self) -> PathBuf {
        self.0.path().join("access.log")
    }

    fn dynamic_listener(&self) -> PathBuf {
        self.0.path().join("listener.json")
    }

    fn admin_address(&self) -> PathBuf {
        self.0.path().join("admin")
    }

    fn log(&self) -> String {
        read(&self.0.path().join("envoy.log"))
    }

    fn stdout(&self) -> String {
        read(&self.0.path().join("stdout.log"))
    }

    fn write_config(&self, bootstrap: &Value) -> std::io::Result<PathBuf> {
        let path = self.0.path().join("envoy.json");
        fs::write(&path, bootstrap.to_string())?;
        Ok(path)
    }

    /// Writes a file beside and renames it: Envoy watches for that, and never reads half a file.
    fn write_dynamic_listener(&self, mut listener: Value, version: u64) -> std::io::Result<()> {
        listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
        let response = json!({
            "version_info": version.to_string(),
            "resources": [listener],
        });
        let beside = self.0.path().join("listener.json.new");
        fs::write(&beside, response.to_string())?;
        fs::rename(beside, self.dynamic_listener())
    }

    /// Envoy with this configuration, its output going to files of the folder.
    fn command(&self, config: &Path) -> Result<Command, StartError> {
        let file = |name: &str| fs::File::create(self.0.path().join(name)).map_err(StartError::Io);
        let mut command = Command::new(process::binary().map_err(StartError::NoBinary)?);
        command
            .arg("--config-path")
            .arg(config)
            .arg("--admin-address-path")
            .arg(self.admin_address())
            .arg("--disable-hot-restart")
            .stdin(Stdio::null())
            .stdout(file("stdout.log")?)
            .stderr(file("envoy.log")?);
        Ok(command)
    }
}

/// A file's text; empty if there is none (yet).
fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
