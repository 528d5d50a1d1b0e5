//! Servers that a measurement needs, each a process of its own, so that its CPU is not Envoy's.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpListener;

/// This program run as a server. It ends when its standard input does, so at the latest with us.
pub(crate) struct Helper {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Helper {
    pub(crate) fn start(command: &str) -> Result<Self, String> {
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(this)
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command} does not start: {error}"))?;
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output)
            .read_line(&mut line)
            .map_err(|error| format!("{command} does not say where it is: {error}"))?;
        let address = line
            .trim()
            .parse()
            .map_err(|_| format!("{command} says that it is at {line:?}"))?;
        Ok(Self { child, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Fails only for a process that has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Binds a free loopback port, says so, and ends the process when its standard input ends.
pub(crate) async fn listen() -> Result<TcpListener, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("{address}");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    Ok(listener)
}
