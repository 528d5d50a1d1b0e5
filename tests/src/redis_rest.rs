//! A stand-in for the REST interface of Upstash, in front of a real Redis.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::redis::{Redis, RedisReply, connect};

/// An HTTP server that answers `POST /pipeline` as the documentation of Upstash says, with what a
/// real Redis answers to each command. It is not Upstash, nor serverless-redis-http: it was written
/// for these tests.
pub struct RedisRest {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

struct Front {
    socket: PathBuf,
    authorization: String,
}

impl RedisRest {
    /// Starts one that wants this bearer token.
    pub async fn start(redis: &Redis, token: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free loopback port");
        let address = listener.local_addr().expect("a bound listener");
        let front = Arc::new(Front {
            socket: redis.socket(),
            authorization: format!("Bearer {token}"),
        });
        let accepting = tokio::spawn(accept(listener, front));
        Self { address, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RedisRest {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, front: Arc<Front>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        connections.spawn(serve(stream, front.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, front: Arc<Front>) {
    let service = service_fn(|request| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(request).await) }
    });
    // A client that has gone is no concern of the server.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Front {
    async fn answer(&self, request: http::Request<Incoming>) -> Response<Full<Bytes>> {
        let authorization = request.headers().get(AUTHORIZATION);
        if authorization.is_none_or(|value| value != self.authorization.as_str()) {
            let error = "WRONGPASS invalid or missing auth token";
            return respond(StatusCode::UNAUTHORIZED, json!({ "error": error }));
        }
        if request.method() != Method::POST || request.uri().path() != "/pipeline" {
            return respond(
                StatusCode::NOT_FOUND,
                json!({ "error": "ERR no such path" }),
            );
        }
        let body = match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return respond(StatusCode::BAD_REQUEST, json!({})),
        };
        let Ok(commands) = serde_json::from_slice::<Vec<Vec<String>>>(&body) else {
            let error = "ERR failed to parse pipeline request";
            return respond(StatusCode::BAD_REQUEST, json!({ "error": error }));
        };
        match self.run(&commands).await {
            Ok(replies) => respond(StatusCode::OK, replies.into()),
            Err(error) => {
                let error = json!({ "error": error.to_string() });
                respond(StatusCode::SERVICE_UNAVAILABLE, error)
            }
        }
    }

    async fn run(&self, commands: &[Vec<String>]) -> std::io::Result<Vec<Value>> {
        let mut connection = connect(&self.socket, &[]).await?;
        let mut replies = Vec::new();
        for command in commands {
            replies.push(match connection.try_command(command).await? {
                RedisReply::Error(error) => json!({ "error": error }),
                reply => json!({ "result": to_json(&reply) }),
            });
        }
        Ok(replies)
    }
}

fn to_json(reply: &RedisReply) -> Value {
    match reply {
        RedisReply::Text(text) | RedisReply::Error(text) => text.as_str().into(),
        RedisReply::Integer(number) => (*number).into(),
        RedisReply::Nil => Value::Null,
        RedisReply::Array(replies) => replies.iter().map(to_json).collect(),
    }
}

fn respond(status: StatusCode, body: Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response
}
