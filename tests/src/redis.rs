//! The system's Redis.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, UnixStream};

use crate::system::{Program, reserve_port};
use crate::wait::wait_for;

/// A `redis-server` with its own folder, on a Unix socket in there, so that it needs no port (but
/// for a [cluster](Redis::cluster)).
pub struct Redis {
    program: Program,
    /// The words of AUTH behind it: a password, or a user and a password.
    login: Vec<String>,
    /// Keeps the ports of a cluster's node while it is dead.
    _reserved: Vec<TcpSocket>,
}

/// What Redis answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisReply {
    /// A text or a status.
    Text(String),
    /// A number.
    Integer(i64),
    /// Nothing.
    Nil,
    /// Several.
    Array(Vec<RedisReply>),
    /// An error.
    Error(String),
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    ///
    /// # Panics
    ///
    /// When the system has none.
    pub async fn start() -> Self {
        Self::with(&["--save", "", "--appendonly", "no"]).await
    }

    /// Starts one that writes each change to its log before it answers, and has it put on the disk
    /// once a second (`appendonly yes`, `appendfsync everysec`).
    ///
    /// # Panics
    ///
    /// When the system has none.
    pub async fn durable() -> Self {
        let arguments = [
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
        ];
        Self::with(&arguments).await
    }

    /// Starts one that asks for a password.
    ///
    /// # Panics
    ///
    /// When the system has none.
    pub async fn with_password(password: &str) -> Self {
        let arguments = ["--save", "", "--requirepass", password];
        let mut redis = Self::prepare(&arguments);
        redis.login = vec![password.to_owned()];
        redis.restart().await;
        redis
    }

    /// Starts one with these files, `redis.conf` and the users of its ACL, on a socket and in a folder
    /// of its own all the same. It is asked as this user, whose password may be any.
    ///
    /// # Panics
    ///
    /// When the system has none, or it refuses the files.
    pub async fn configured(config: &Path, acl: &Path, user: &str) -> Self {
        let acl = acl.to_str().expect("a path in UTF-8");
        let mut redis = Self::prepare_with(Some(config), &["--aclfile", acl]);
        redis.login = vec![user.to_owned(), "any".to_owned()];
        redis.restart().await;
        redis
    }

    /// Starts a Redis Cluster of one node, which has all slots and refuses what a cluster of many
    /// would refuse.
    ///
    /// # Panics
    ///
    /// When the system has none.
    pub async fn cluster() -> Self {
        let (reserved, ports): (Vec<_>, Vec<_>) = [(), ()]
            .map(|()| reserve_port())
            .map(|(socket, address)| (socket, address.port().to_string()))
            .into_iter()
            .unzip();
        // The later of two arguments counts. A cluster is not to be had without a port.
        let mut redis = Self::prepare(&[
            "--save",
            "",
            "--cluster-enabled",
            "yes",
            "--bind",
            "127.0.0.1",
            "--port",
            &ports[0],
            "--cluster-port",
            &ports[1],
        ]);
        redis._reserved = reserved;
        redis.restart().await;
        let slots = ["CLUSTER", "ADDSLOTSRANGE", "0", "16383"];
        assert_eq!(
            redis.command(&slots).await,
            RedisReply::Text("OK".to_owned())
        );
        wait_for("the cluster to be whole", async || {
            match redis.command(&["CLUSTER", "INFO"]).await {
                RedisReply::Text(info) => info.contains("cluster_state:ok").then_some(()),
                _ => None,
            }
        })
        .await;
        redis
    }

    async fn with(arguments: &[&str]) -> Self {
        let mut redis = Self::prepare(arguments);
        redis.restart().await;
        redis
    }

    fn prepare(arguments: &[&str]) -> Self {
        Self::prepare_with(None, arguments)
    }

    /// Arguments count more than the file.
    fn prepare_with(config: Option<&Path>, arguments: &[&str]) -> Self {
        let config = config.map(|path| path.to_str().expect("a path in UTF-8"));
        let program = Program::new("redis-server", |folder| {
            let folder = folder.to_str().expect("a folder with a name in UTF-8");
            let socket = format!("{folder}/redis.sock");
            let mut all: Vec<&str> = config.into_iter().collect();
            all.extend(["--port", "0", "--unixsocket", &socket, "--dir", folder]);
            all.extend(arguments);
            all.into_iter().map(str::to_owned).collect()
        });
        Self {
            program,
            login: Vec::new(),
            _reserved: Vec::new(),
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> std::path::PathBuf {
        self.program.file("redis.sock")
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.login.last().map(String::as_str)
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.program.kill();
        // Redis removes its socket only if it ends by itself.
        let _ = std::fs::remove_file(self.socket());
    }

    /// Starts it again with the folder that it had, after it was [killed](Redis::kill), and waits
    /// until it has read its data.
    pub async fn restart(&mut self) {
        let socket = self.socket();
        let login = self.login.clone();
        let ready = async || match connect(&socket, &login).await {
            Ok(mut connection) => {
                let pong = connection.try_command(&["PING"]).await;
                pong.is_ok_and(|reply| reply == RedisReply::Text("PONG".to_owned()))
            }
            Err(_) => false,
        };
        self.program.start(ready).await;
    }

    /// Stops it as it is (SIGSTOP): it keeps its connections and answers nothing.
    pub fn freeze(&self) {
        self.program.signal("STOP");
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.program.signal("CONT");
    }

    /// A new connection.
    ///
    /// # Panics
    ///
    /// When there is none to be had.
    pub async fn connect(&self) -> RedisConnection {
        let connection = connect(&self.socket(), &self.login).await;
        connection.expect("a Redis that listens")
    }

    /// What it answers to a command, given word by word, on a new connection.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn command<W: AsRef<str>>(&self, words: &[W]) -> RedisReply {
        self.connect().await.command(words).await
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.program.log()
    }
}

/// A connection to a [`Redis`].
pub struct RedisConnection(BufReader<UnixStream>);

pub(crate) async fn connect(socket: &Path, login: &[String]) -> io::Result<RedisConnection> {
    let stream = UnixStream::connect(socket).await?;
    let mut connection = RedisConnection(BufReader::new(stream));
    if !login.is_empty() {
        let words: Vec<&str> = ["AUTH"]
            .into_iter()
            .chain(login.iter().map(String::as_str))
            .collect();
        connection.try_command(&words).await?;
    }
    Ok(connection)
}

impl RedisConnection {
    /// What Redis answers to a command, given word by word.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn command<W: AsRef<str>>(&mut self, words: &[W]) -> RedisReply {
        self.try_command(words).await.expect("an answer of Redis")
    }

    /// Like [`command`](RedisConnection::command).
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn try_command<W: AsRef<str>>(&mut self, words: &[W]) -> io::Result<RedisReply> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words.iter().map(AsRef::as_ref) {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.write_all(request.as_bytes()).await?;
        Box::pin(self.read_reply()).await
    }

    async fn read_reply(&mut self) -> io::Result<RedisReply> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        let line = line
            .strip_suffix("\r\n")
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        match kind {
            "+" => Ok(RedisReply::Text(rest.to_owned())),
            "-" => Ok(RedisReply::Error(rest.to_owned())),
            ":" => Ok(RedisReply::Integer(number()?)),
            "$" => match usize::try_from(number()?) {
                Ok(length) => self.read_text(length).await.map(RedisReply::Text),
                Err(_) => Ok(RedisReply::Nil),
            },
            "*" => {
                let mut replies = Vec::new();
                for _ in 0..number()? {
                    replies.push(Box::pin(self.read_reply()).await?);
                }
                Ok(RedisReply::Array(replies))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    async fn read_text(&mut self, length: usize) -> io::Result<String> {
        let mut text = vec![0; length + "\r\n".len()];
        self.0.read_exact(&mut text).await?;
        text.truncate(length);
        String::from_utf8(text).map_err(io::Error::other)
    }
}
