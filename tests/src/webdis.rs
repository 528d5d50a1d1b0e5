//! The system's Webdis, which puts HTTP in front of Redis.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use crate::redis::Redis;
use crate::system::{Program, reserve_port};

/// A `webdis` on a free loopback port. It lets through what Tollgate needs, EVALSHA and EVAL, and
/// nothing else.
pub struct Webdis {
    program: Program,
    address: SocketAddr,
    /// Keeps the port while the program is dead.
    _reserved: TcpSocket,
}

impl Webdis {
    /// Starts one in front of this Redis, with its password if it has one.
    ///
    /// # Panics
    ///
    /// When the system has none.
    pub async fn start(redis: &Redis) -> Self {
        Self::with(redis, json!({})).await
    }

    /// Starts one with these settings changed.
    ///
    /// # Panics
    ///
    /// When the system has none.
    pub async fn with(redis: &Redis, settings: Value) -> Self {
        let (reserved, address) = reserve_port();
        let mut config = json!({
            "redis_host": redis.socket(),
            "redis_port": 0,
            "redis_auth": redis.password(),
            "http_host": address.ip().to_string(),
            "http_port": address.port(),
            "threads": 2,
            "pool_size": 4,
            "daemonize": false,
            "websockets": false,
            "database": 0,
            // One rule would not do: in each, what is disabled comes after what is enabled.
            "acl": [{ "disabled": ["*"] }, { "enabled": ["EVALSHA", "EVAL"] }],
            "verbosity": 3,
            "logfile": "webdis.log",
        });
        let settings = settings.as_object().expect("an object").clone();
        config.as_object_mut().expect("an object").extend(settings);
        let program = Program::new("webdis", |folder| {
            let file = folder.join("webdis.json");
            fs::write(&file, config.to_string()).expect("a writable folder");
            vec![file.to_str().expect("a path in UTF-8").to_owned()]
        });
        let mut webdis = Self {
            program,
            address,
            _reserved: reserved,
        };
        webdis.restart().await;
        webdis
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it (SIGKILL). Connections to its port are refused then.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts it again, after it was [killed](Webdis::kill).
    pub async fn restart(&mut self) {
        let address = self.address;
        let listens = async || TcpStream::connect(address).await.is_ok();
        self.program.start(listens).await;
    }

    /// Stops it as it is (SIGSTOP): it keeps its connections and answers nothing.
    pub fn freeze(&self) {
        self.program.signal("STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.program.signal("CONT");
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let log = fs::read(self.program.file("webdis.log")).unwrap_or_default();
        self.program.log() + &String::from_utf8_lossy(&log)
    }
}
