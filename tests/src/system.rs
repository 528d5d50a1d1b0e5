//! Programs of the system that tests run for themselves: found in PATH, with their own folder.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::process::Process;
use crate::wait::wait_until_deadline;

/// A program with a folder of its own, in which its output goes to `log`. It may be killed, started
/// again, and stopped for a while; it is gone when this is dropped.
pub(crate) struct Program {
    folder: TempDir,
    name: &'static str,
    arguments: Vec<String>,
    /// `None` while it is dead.
    process: Option<Process>,
}

impl Program {
    /// A program that is not started yet. Its arguments may name files of the folder.
    pub(crate) fn new(name: &'static str, arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("tollgate-")
            .tempdir()
            .expect("a temporary folder");
        let arguments = arguments(folder.path());
        Self {
            folder,
            name,
            arguments,
            process: None,
        }
    }

    /// Starts it, and waits until `ready` says so.
    ///
    /// # Panics
    ///
    /// When it is not to be found, ends, or is not ready in time.
    pub(crate) async fn start(&mut self, mut ready: impl AsyncFnMut() -> bool) {
        self.process = Some(self.spawn().expect("a child process"));
        let started = wait_until_deadline(async || {
            let process = self.process.as_mut()?;
            match process.exited().expect("a child of this process") {
                Some(status) => Some(Err(status)),
                None => ready().await.then_some(Ok(())),
            }
        });
        match started.await {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!("{} ended with {status}:\n{}", self.name, self.log()),
            None => panic!("{} is not ready:\n{}", self.name, self.log()),
        }
    }

    fn spawn(&self) -> io::Result<Process> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.file("log"))?;
        let mut command = Command::new(find(self.name));
        command
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Process::spawn(command)
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it as it is (SIGSTOP), or lets it go on (SIGCONT).
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("a running program");
        let status = Command::new("kill")
            .args(["-s", signal, &process.id().to_string()])
            .status();
        assert!(status.expect("the program kill").success());
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.file("log")).unwrap_or_default()).into_owned()
    }
}

/// # Panics
///
/// When it is not in PATH, saying how to get it.
fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(name));
    found.find(|file| file.is_file()).unwrap_or_else(|| {
        panic!("found no {name} in PATH: `make e2e` installs it, or leaves such tests out")
    })
}

/// A free loopback port, which nobody else gets while the socket is there: it is bound, and does
/// not listen.
pub(crate) fn reserve_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    // The program does the same, or it could not have the port too.
    socket.set_reuseaddr(true).expect("an unbound socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(any).expect("a free loopback port");
    let address = socket.local_addr().expect("a bound socket");
    (socket, address)
}
