//! Processes that tests start: Envoy, which binary that is, and that nothing is left of any.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;

use crate::repository;

/// A running process, killed when it is dropped, and when this process ends without dropping it.
pub(crate) struct Process {
    child: Child,
    /// Dropping it ends the thread that started the child.
    _guardian: mpsc::Sender<()>,
}

impl Process {
    /// Starts a process from a thread that lives as long as it. On Linux the kernel kills the
    /// child when that thread ends, which is at the latest when this process ends, however that
    /// happens. (The thread of the caller would not do: a test's ends with the test, a pool's when
    /// it is idle.)
    pub(crate) fn spawn(mut command: Command) -> io::Result<Self> {
        die_with_parent(&mut command);
        let (guardian, stopped) = mpsc::channel();
        let (started, child) = mpsc::channel();
        thread::Builder::new()
            .name("process-guardian".to_owned())
            .spawn(move || {
                let sent = started.send(command.spawn());
                if sent.is_ok() {
                    // Nothing is ever sent: this waits for the sender to be dropped.
                    let _ = stopped.recv();
                }
            })?;
        let child = child.recv().map_err(io::Error::other)??;
        Ok(Self {
            child,
            _guardian: guardian,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only for a process that has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;

    let set_signal = || {
        // SAFETY: prctl with PR_SET_PDEATHSIG takes a signal number and touches no memory.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes one system call and neither allocates nor
    // takes a lock.
    unsafe { command.pre_exec(set_signal) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}

/// The Envoy to test with: `ENVOY_BIN`, else what `tools/fetch-envoy` gives, asked once.
pub(crate) fn binary() -> Result<&'static Path, String> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| match std::env::var_os("ENVOY_BIN") {
        Some(path) => Ok(path.into()),
        None => fetch(),
    });
    binary.as_deref().map_err(Clone::clone)
}

fn fetch() -> Result<PathBuf, String> {
    let script = repository().join("tools/fetch-envoy");
    let output = Command::new(&script)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} does not run: {error}", script.display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let path = String::from_utf8_lossy(&output.stdout);
    Ok(PathBuf::from(path.trim()))
}

/// Reads the address that Envoy writes once its admin port is bound; `None` until then.
pub(crate) fn read_address(path: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
