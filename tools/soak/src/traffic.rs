//! The lanes of traffic: each sends requests of one kind after another until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tollgate_tests::{Algorithm, HttpClient, RequestBuilder, SigningKey, unix_time};

use crate::books::Books;
use crate::gateway::Gateway;

/// How long a lane rests after each request.
const REST: Duration = Duration::from_millis(40);

/// Longer than any run.
const WEEK: i64 = 7 * 86_400;

/// What the lanes have in common.
struct Lanes {
    books: Arc<Books>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Lanes {
    /// Starts a lane of requests for an API, made from their number.
    fn add<F>(&mut self, api: &'static str, client: &HttpClient, make: F)
    where
        F: Fn(&HttpClient, u64) -> RequestBuilder + Send + 'static,
    {
        self.lane(api, false, client, make);
    }

    /// The same for requests that are let through, whatever the upstream makes of them.
    fn add_broken<F>(&mut self, api: &'static str, client: &HttpClient, make: F)
    where
        F: Fn(&HttpClient, u64) -> RequestBuilder + Send + 'static,
    {
        self.lane(api, true, client, make);
    }

    fn lane<F>(&mut self, api: &'static str, admitted: bool, client: &HttpClient, make: F)
    where
        F: Fn(&HttpClient, u64) -> RequestBuilder + Send + 'static,
    {
        let (books, stop, client) = (self.books.clone(), self.stop.clone(), client.fresh());
        self.tasks.spawn(async move {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let reply = make(&client, number).try_send().await;
                books.answered(api, admitted, reply);
                tokio::time::sleep(REST).await;
            }
        });
    }

    /// Starts a lane of clients that send this and hang up, now before and now after the request has
    /// gone on.
    fn add_leaving<F>(&mut self, gateway: &Gateway, head: F)
    where
        F: Fn(u64) -> String + Send + 'static,
    {
        let (books, stop) = (self.books.clone(), self.stop.clone());
        let address = gateway.envoy.address();
        self.tasks.spawn(async move {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let stream = TcpStream::connect(address).await;
                let mut stream = stream.expect("Envoy listens");
                if stream.write_all(head(number).as_bytes()).await.is_ok() {
                    books.left("leaving");
                }
                tokio::time::sleep(Duration::from_millis(number % 60)).await;
            }
        });
    }
}

pub(crate) fn start(gateway: &Gateway, books: &Arc<Books>, stop: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut lanes = Lanes {
        books: books.clone(),
        stop: stop.clone(),
        tasks: JoinSet::new(),
    };
    let tokens = Tokens::of(gateway);
    for client in [gateway.envoy.http1(), gateway.envoy.http2()] {
        anybody(&mut lanes, &client);
        with_tokens(&mut lanes, &client, &tokens);
        with_keys(&mut lanes, &client, &tokens);
    }
    let http2 = gateway.envoy.http2();
    let good = tokens.good.clone();
    lanes.add("tokens", &http2, move |client, _| {
        client
            .grpc("/tokens/bank.Accounts/List", b"x")
            .header("authorization", good.clone())
    });
    let (good, unknown) = (tokens.good.clone(), tokens.unknown.clone());
    lanes.add_leaving(gateway, move |number| {
        let token = match number % 2 {
            0 => good.as_str(),
            // It waits for the keys when its client leaves.
            _ => unknown.as_str(),
        };
        let delay = number % 40;
        format!(
            "GET /leaving/a HTTP/1.1\r\nhost: a\r\nauthorization: {token}\r\n\
             x-echo-delay-ms: {delay}\r\n\r\n"
        )
    });
    lanes.add_leaving(gateway, |_| {
        "POST /leaving/a HTTP/1.1\r\nhost: a\r\nx-api-key: acme-soak-key\r\n\
         content-length: 100000\r\n\r\nhalf of"
            .to_owned()
    });
    lanes.tasks
}

/// Values of `authorization`.
struct Tokens {
    good: String,
    forged: String,
    expired: String,
    unknown: String,
}

impl Tokens {
    fn of(gateway: &Gateway) -> Self {
        let stranger = SigningKey::new(Algorithm::ES256);
        let mut claims = gateway.idp.claims("alice", "bank-api");
        claims["exp"] = (unix_time() + WEEK).into();
        let mut expired = claims.clone();
        expired["exp"] = 1.into();
        let bearer = |token: String| format!("Bearer {token}");
        Tokens {
            good: bearer(gateway.key.token("first", claims.clone())),
            forged: bearer(stranger.token("first", claims.clone())),
            expired: bearer(gateway.key.token("first", expired)),
            unknown: bearer(stranger.token("unknown", claims)),
        }
    }
}

/// What needs no credentials: plain requests, large bodies in both directions, limits, what can't be
/// read, a version that has ended.
fn anybody(lanes: &mut Lanes, client: &HttpClient) {
    lanes.add("open", client, |client, number| match number % 3 {
        0 => client.get("/open/a"),
        1 => client.post("/open/a").body(vec![b'x'; 50_000]),
        _ => client.get("/open/a").header("x-echo-body-size", "100000"),
    });
    lanes.add("limited", client, |client, _| {
        client.get("/limited/a").header("x-client", "one")
    });
    lanes.add("ended", client, |client, _| client.get("/ended/a"));
}

fn with_tokens(lanes: &mut Lanes, client: &HttpClient, tokens: &Tokens) {
    let values = [&tokens.good, &tokens.forged, &tokens.expired].map(String::clone);
    lanes.add("tokens", client, move |client, number| {
        let request = client.get("/tokens/a");
        match values.get(usize::try_from(number % 4).unwrap_or_default()) {
            Some(value) => request.header("authorization", value.clone()),
            None => request,
        }
    });
    // Answered after a fetch of the keys, or refused because there was one just now.
    let unknown = tokens.unknown.clone();
    lanes.add("fetched", client, move |client, _| {
        client
            .get("/fetched/a")
            .header("authorization", unknown.clone())
    });
    let good = tokens.good.clone();
    lanes.add_broken("broken", client, move |client, number| {
        let request = client
            .get("/broken/a")
            .header("authorization", good.clone());
        request.header(
            "x-echo-reset",
            if number % 2 == 0 { "headers" } else { "body" },
        )
    });
}

fn with_keys(lanes: &mut Lanes, client: &HttpClient, tokens: &Tokens) {
    lanes.add("keys", client, |client, number| {
        let request = client.get("/keys/a");
        match number % 4 {
            0 | 1 => request.header("x-api-key", "acme-soak-key"),
            2 => request.header("x-api-key", "nobodys-key"),
            _ => request,
        }
    });
    let good = tokens.good.clone();
    lanes.add("both", client, move |client, number| {
        let request = client.get("/both/a").header("authorization", good.clone());
        match number % 2 {
            0 => request.header("x-api-key", "acme-soak-key"),
            _ => request,
        }
    });
    lanes.add("spent", client, |client, _| {
        client.get("/spent/a").header("x-api-key", "curio-soak-key")
    });
}
