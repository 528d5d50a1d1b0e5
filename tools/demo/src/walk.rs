//! The walk: each request that shows an outcome, and what it has to be.

use tollgate_tests::Reply;

use crate::caller::Caller;
use crate::show::{self, Style};

/// A request and the answer that it must get.
struct Stop {
    title: &'static str,
    method: http::Method,
    path: &'static str,
    key: Option<&'static str>,
    /// The scope of the token that is sent, if one is.
    scope: Option<&'static str>,
    /// How often the request is sent; the last answer is shown and checked.
    times: usize,
    status: u16,
    /// The kind of the problem, if the answer is one.
    kind: Option<&'static str>,
    /// Where the expected figures come from.
    why: &'static str,
}

const GET: Stop = Stop {
    title: "",
    method: http::Method::GET,
    path: "/v1/accounts/42",
    key: None,
    scope: None,
    times: 1,
    status: 200,
    kind: None,
    why: "",
};

const STOPS: &[Stop] = &[
    Stop {
        title: "Admitted",
        key: Some("acme-demo-key"),
        why: "acme is on the plan gold. The upstream learns who calls, not the key.",
        ..GET
    },
    Stop {
        title: "No key needed",
        path: "/status",
        why: "The API status is in the plan of anonymous callers.",
        ..GET
    },
    Stop {
        title: "No key",
        status: 401,
        kind: Some("credentials-missing"),
        why: "The API accounts-v1 is not.",
        ..GET
    },
    Stop {
        title: "Wrong key",
        key: Some("a-guess"),
        status: 401,
        kind: Some("api-key-unknown"),
        why: "Nobody has this key.",
        ..GET
    },
    Stop {
        title: "Expired key",
        key: Some("acme-demo-key-of-2025"),
        status: 401,
        kind: Some("api-key-expired"),
        why: "acme had it until the end of 2025.",
        ..GET
    },
    Stop {
        title: "Two keys",
        path: "/v1/accounts/42?api_key=bolt-demo-key",
        key: Some("acme-demo-key"),
        status: 400,
        kind: Some("api-key-repeated"),
        why: "One in the header, one in the query.",
        ..GET
    },
    Stop {
        title: "Not entitled",
        path: "/v1/payments/7",
        key: Some("bolt-demo-key"),
        status: 403,
        kind: Some("api-not-in-plan"),
        why: "bolt is on the plan bronze, which includes accounts-v1 only.",
        ..GET
    },
    Stop {
        title: "Not entitled, in disguise",
        path: "/v1/accounts/../payments/7",
        key: Some("bolt-demo-key"),
        status: 403,
        kind: Some("api-not-in-plan"),
        why: "A path is judged by what it means.",
        ..GET
    },
    Stop {
        title: "Throttled",
        method: http::Method::POST,
        key: Some("bolt-demo-key"),
        times: 2,
        status: 429,
        kind: Some("throttled"),
        why: "bronze allows one POST in 6 seconds; this is the second at once.",
        ..GET
    },
    Stop {
        title: "Quota spent",
        key: Some("curio-demo-key"),
        times: 4,
        status: 429,
        kind: Some("quota-exceeded"),
        why: "curio is on the plan trial: three requests a month; this is the fourth.",
        ..GET
    },
    Stop {
        title: "Admitted by token",
        path: "/v2/transfers/9",
        scope: Some("transfers:read"),
        why: "Signed by the issuer, whose keys Envoy has fetched. The upstream learns the subject.",
        ..GET
    },
    Stop {
        title: "Without the scope",
        method: http::Method::POST,
        path: "/v2/transfers",
        scope: Some("transfers:read"),
        status: 403,
        kind: Some("scope-insufficient"),
        why: "Who writes needs transfers:write.",
        ..GET
    },
    Stop {
        title: "No token",
        path: "/v2/transfers/9",
        key: Some("acme-demo-key"),
        status: 401,
        kind: Some("credentials-missing"),
        why: "A key is none.",
        ..GET
    },
    Stop {
        title: "Gone",
        path: "/v0/accounts/42",
        status: 410,
        kind: Some("api-retired"),
        why: "accounts-v0 ended in March 2026; the answer says where the same is now.",
        ..GET
    },
];

/// Walks past all stops, and gives what was different from what it had to be.
pub(crate) async fn walk(style: &Style, caller: &Caller) -> Vec<String> {
    let mut different = Vec::new();
    for stop in STOPS {
        let mut last = None;
        for _ in 0..stop.times {
            last = Some(send(stop, caller).await);
        }
        let Some(reply) = last else { continue };
        let mistakes = stop.check(&reply);
        show::stop(
            style,
            stop.title,
            stop.why,
            &request_line(stop, caller),
            &reply,
            &mistakes,
        );
        different.extend(
            mistakes
                .into_iter()
                .map(|mistake| format!("{}: {mistake}", stop.title)),
        );
    }
    different
}

async fn send(stop: &Stop, caller: &Caller) -> Reply {
    let request = caller.client.request(stop.method.clone(), stop.path);
    let request = match stop.key {
        Some(key) => request.header("x-api-key", key),
        None => request,
    };
    match stop.scope {
        Some(scope) => {
            let token = caller.token(scope);
            let bearer = format!("Bearer {token}");
            request.header("authorization", &bearer).send().await
        }
        None => request.send().await,
    }
}

/// The request as curl sends it.
fn request_line(stop: &Stop, caller: &Caller) -> String {
    let mut line = "curl".to_owned();
    if stop.path.contains("..") {
        line.push_str(" --path-as-is");
    }
    if stop.method != http::Method::GET {
        line.push_str(&format!(" -X {}", stop.method));
    }
    if let Some(key) = stop.key {
        line.push_str(&format!(" -H 'x-api-key: {key}'"));
    }
    if let Some(scope) = stop.scope {
        line.push_str(&format!(
            " -H 'authorization: Bearer …' (a token with the scope {scope})"
        ));
    }
    line.push_str(&format!(" '{}{}'", caller.url(), stop.path));
    line
}

impl Stop {
    fn check(&self, reply: &Reply) -> Vec<String> {
        let mut mistakes = Vec::new();
        if reply.status != self.status {
            mistakes.push(format!(
                "expected the status {}, found {}",
                self.status, reply.status
            ));
        }
        match self.kind {
            Some(kind) => self.check_problem(kind, reply, &mut mistakes),
            None => {
                for credential in ["api_key", "authorization"] {
                    if reply.json()[credential] != serde_json::Value::Null {
                        mistakes.push(format!("the {credential} has reached the upstream"));
                    }
                }
            }
        }
        if reply.header("x-request-id").is_none() {
            mistakes.push("the response has no x-request-id".to_owned());
        }
        mistakes
    }

    fn check_problem(&self, kind: &str, reply: &Reply, mistakes: &mut Vec<String>) {
        if reply.header("content-type") != Some("application/problem+json") {
            mistakes.push("the answer is not application/problem+json".to_owned());
            return;
        }
        let found = &reply.json()["kind"];
        if found != kind {
            mistakes.push(format!("expected the problem {kind}, found {found}"));
        }
        let needed = match self.status {
            401 => "www-authenticate",
            429 => "retry-after",
            _ => return,
        };
        if reply.header(needed).is_none() {
            mistakes.push(format!("the answer has no {needed}"));
        }
    }
}
