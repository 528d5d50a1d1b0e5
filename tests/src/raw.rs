//! A client that sends any bytes, for what a proper HTTP client refuses to send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::wait::DEADLINE;

/// A TCP connection that speaks whatever it is told to.
pub struct RawClient {
    stream: TcpStream,
    /// What was received and not yet read.
    buffer: Vec<u8>,
}

/// A reply as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReply {
    /// The status of the status line.
    pub status: u16,
    /// Names (in their own case) and values, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
}

impl RawClient {
    /// Opens a connection.
    ///
    /// # Panics
    ///
    /// Here and below: when the connection breaks, or nothing comes before [`DEADLINE`].
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a listening port");
        stream.set_nodelay(true).expect("an open connection");
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .await
            .expect("an open connection");
    }

    /// Says that nothing more will be sent; a connection that has been closed by then is none the
    /// worse.
    pub async fn shut_down(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads one reply to a request that was no HEAD.
    pub async fn read_reply(&mut self) -> RawReply {
        let mut reply = self.read_head().await;
        if reply.status < 200 || matches!(reply.status, 204 | 304) {
            return reply;
        }
        reply.body = if reply.header("transfer-encoding") == Some(b"chunked") {
            self.read_chunks().await
        } else if let Some(length) = reply.header("content-length") {
            let length = parse_number(length, 10);
            self.read_exact(length).await
        } else {
            self.read_to_end().await
        };
        reply
    }

    /// Reads a status line and headers, and leaves what follows.
    pub async fn read_head(&mut self) -> RawReply {
        let status_line = self.read_line().await;
        let status = status_line
            .split(|byte| *byte == b' ')
            .nth(1)
            .unwrap_or_else(|| panic!("no status line: {}", status_line.escape_ascii()));
        let status = parse_number(status, 10).try_into().expect("a status");
        let mut headers = Vec::new();
        loop {
            let line = self.read_line().await;
            if line.is_empty() {
                break;
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let colon = colon.unwrap_or_else(|| panic!("no header: {}", line.escape_ascii()));
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
        RawReply {
            status,
            headers,
            body: Vec::new(),
        }
    }

    /// Reads until the server closes the connection; a reset counts as closing.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        while self.receive().await {}
        std::mem::take(&mut self.buffer)
    }

    async fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line().await;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = parse_number(size, 16);
            if size == 0 {
                // Trailers, if any, and the empty line after them.
                while !self.read_line().await.is_empty() {}
                return body;
            }
            body.extend(self.read_exact(size).await);
            self.read_line().await;
        }
    }

    async fn read_line(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                line.truncate(end);
                return line;
            }
            self.receive_more().await;
        }
    }

    async fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            self.receive_more().await;
        }
        self.buffer.drain(..length).collect()
    }

    async fn receive_more(&mut self) {
        if !self.receive().await {
            let seen = self.buffer.escape_ascii();
            panic!("the server closed the connection in the middle of a reply: \"{seen}\"");
        }
    }

    /// Appends what comes next to the buffer; `false` if nothing will come any more.
    async fn receive(&mut self) -> bool {
        let read = tokio::time::timeout(DEADLINE, self.stream.read_buf(&mut self.buffer)).await;
        match read.expect("a reply before the deadline") {
            Ok(count) => count > 0,
            Err(_) => false,
        }
    }
}

impl RawReply {
    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(seen, _)| seen.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// All values of a header.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(seen, _)| seen.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }
}

fn parse_number(digits: &[u8], radix: u32) -> usize {
    let text = String::from_utf8_lossy(digits);
    usize::from_str_radix(text.trim(), radix)
        .unwrap_or_else(|error| panic!("\"{text}\" is no number: {error}"))
}
