//! One client connection: TCP, perhaps TLS, and HTTP/1.1 or HTTP/2 on it.

use std::io;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{ClientError, Target};

/// Larger than any header block a test sends or gets back.
const MAX_HEADER_BYTES: u32 = 1 << 20;
const MAX_HEADERS: usize = 2_000;

pub(crate) type Request = http::Request<Full<Bytes>>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// The sending half of a connection; a task drives the connection itself.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    pub(crate) async fn connect(target: &Target) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(target.address)
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(ClientError::Connect)?;
        let Some(tls) = &target.tls else {
            return Self::handshake(stream, target.protocol).await;
        };
        let alpn: &[u8] = match target.protocol {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        };
        let name = ServerName::try_from(target.host.clone())
            .map_err(|error| ClientError::Connect(io::Error::other(error)))?;
        let stream = TlsConnector::from(tls.config(alpn))
            .connect(name, stream)
            .await
            .map_err(ClientError::Connect)?;
        Self::handshake(stream, target.protocol).await
    }

    async fn handshake<S>(stream: S, protocol: Protocol) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::Builder::new()
                    .max_headers(MAX_HEADERS)
                    .handshake(stream)
                    .await
                    .map_err(ClientError::NoReply)?;
                // How it ends is told to each request that it was to carry.
                tokio::spawn(connection);
                Ok(Self::Http1(sender))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .max_header_list_size(MAX_HEADER_BYTES)
                    .handshake(stream)
                    .await
                    .map_err(ClientError::NoReply)?;
                tokio::spawn(connection);
                Ok(Self::Http2(sender))
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// The response, or the error and, where nothing of it was sent, the request.
    pub(crate) async fn send(
        &mut self,
        request: Request,
    ) -> Result<Response<Incoming>, (ClientError, Option<Request>)> {
        let ready = match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        };
        if let Err(error) = ready {
            return Err((ClientError::NoReply(error), Some(request)));
        }
        let sent = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| {
            let unsent = error.take_message();
            (ClientError::NoReply(error.into_error()), unsent)
        })
    }
}
