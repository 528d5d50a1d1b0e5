//! The tables: which configurations meet which load.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tollgate_instructions::document::{KEY_ID, PATH, Policy, claims, headers};
use tollgate_tests::{Algorithm, SigningKey, unix_time};

use crate::configuration::Configuration;
use crate::h2load::{Count, Load, Protocol, Status, Target};
use crate::measure::{Bench, Case, Row};
use crate::{calls, scale, upstream};

pub(crate) const NAMES: [&str; 10] = [
    "filters",
    "calls",
    "http2",
    "workers",
    "headers",
    "bodies",
    "new-tokens",
    "refused",
    "store",
    "scale",
];

/// A table as it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What was sent.
    pub(crate) load: String,
    pub(crate) content: Content,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    /// CPU per request, and what is added to the first row's.
    Added(Vec<Row>),
    /// CPU per request, in proportion to that of the first row.
    Total(Vec<Row>),
    /// Requests per second, in proportion to that of the first row of each group.
    Throughput(Vec<Vec<Row>>),
    Calls(Vec<calls::Measured>),
    Scale(Vec<scale::Size>),
}

/// The rows of the native chain, which others are compared with.
pub(crate) fn native_chain(cached: bool) -> String {
    Configuration::NativeChain { cached }.name()
}

pub(crate) async fn measure(name: &'static str, bench: &Bench) -> Result<Table, String> {
    eprintln!("table {name}");
    match name {
        "filters" => filters(bench).await,
        "calls" => calls(bench).await,
        "http2" => {
            let mut load = warm(8);
            load.protocol = Protocol::Http2;
            let title = "HTTP/2";
            let sent = "As above, over 4 connections of HTTP/2 with 4 streams each.";
            chains(bench, name, (title, sent), &load, 1).await
        }
        "workers" => {
            let title = "Two workers";
            let sent = "As above, HTTP/1.1, to an Envoy with two workers.";
            chains(bench, name, (title, sent), &warm(8), 2).await
        }
        "headers" => {
            let title = "40 headers";
            let sent =
                "As above, HTTP/1.1, one worker, with 40 headers in each request instead of 8.";
            chains(bench, name, (title, sent), &warm(40), 1).await
        }
        "bodies" => bodies(bench).await,
        "new-tokens" => new_tokens(bench).await,
        "refused" => refused(bench).await,
        "store" => store(bench).await,
        _ => scale(bench).await,
    }
}

/// Requests with an API key and always the same token.
fn warm(count: usize) -> Load {
    Load::get(headers(&token(0), count))
}

pub(crate) fn token(number: u64) -> String {
    let issued = u64::try_from(unix_time()).expect("a clock that is set");
    // rsa-1.pem, whose public half the documents have.
    SigningKey::new(Algorithm::RS256).token(KEY_ID, claims(number, issued))
}

async fn filters(bench: &Bench) -> Result<Table, String> {
    let load = warm(8);
    let mut configurations = vec![
        Configuration::NoFilter,
        Configuration::EmptyAll,
        Configuration::EmptyUsed,
    ];
    configurations.extend(Policy::ALL.map(Configuration::Alone));
    configurations.extend([
        Configuration::Full,
        Configuration::InARow,
        Configuration::JwtAuthn { cached: false },
        Configuration::JwtAuthn { cached: true },
        Configuration::ApiKeyAuth,
        Configuration::LocalRatelimit,
        Configuration::NativeChain { cached: false },
        Configuration::NativeChain { cached: true },
        Configuration::KeysOnly,
        Configuration::Lua,
        Configuration::ExtAuthz,
    ]);
    let cases: Vec<Case> = configurations
        .into_iter()
        .map(|configuration| Case::new(configuration, &load))
        .collect();
    Ok(Table {
        name: "filters",
        title: "Filters",
        load: "GET with 8 headers, among them an API key and a token (RS256) seen before, over 16 \
               connections of HTTP/1.1, to an Envoy with one worker."
            .to_owned(),
        content: Content::Added(bench.measure(&cases, 1).await?),
    })
}

async fn calls(bench: &Bench) -> Result<Table, String> {
    Ok(Table {
        name: "calls",
        title: "Calls of the host",
        load:
            "As above. Each call is made 20 times for each request by a plugin that does nothing \
               else, and all of them as often as a request of the full document makes them: what \
               that adds would remain if the plugin's own work took no time."
                .to_owned(),
        content: Content::Calls(calls::measure(bench, &warm(8)).await?),
    })
}

async fn chains(
    bench: &Bench,
    name: &'static str,
    (title, sent): (&'static str, &str),
    load: &Load,
    workers: u32,
) -> Result<Table, String> {
    let cases = [
        Configuration::NoFilter,
        Configuration::EmptyUsed,
        Configuration::Full,
        Configuration::NativeChain { cached: false },
        Configuration::NativeChain { cached: true },
    ]
    .map(|configuration| Case::new(configuration, load));
    Ok(Table {
        name,
        title,
        load: sent.to_owned(),
        content: Content::Added(bench.measure(&cases, workers).await?),
    })
}

struct Body {
    way: Way,
    size: u64,
    name: &'static str,
    protocol: Protocol,
    count: Count,
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

impl Body {
    /// This share of the usual number of requests.
    const fn many(way: Way, size: u64, name: &'static str, share: f64) -> Self {
        Body {
            way,
            size,
            name,
            protocol: Protocol::Http1,
            count: Count::Share(share),
        }
    }

    /// Ten, one after the other.
    const fn few(way: Way, size: u64, name: &'static str) -> Self {
        Body {
            way,
            size,
            name,
            protocol: Protocol::Http1Single,
            count: Count::Exactly(10),
        }
    }
}

const BODIES: [Body; 6] = [
    Body::many(Way::Up, 1 << 10, "1 KiB", 1.0),
    Body::many(Way::Down, 1 << 10, "1 KiB", 1.0),
    Body::many(Way::Up, 1 << 20, "1 MiB", 0.05),
    Body::many(Way::Down, 1 << 20, "1 MiB", 0.05),
    Body::few(Way::Up, 1 << 30, "1 GiB"),
    Body::few(Way::Down, 1 << 30, "1 GiB"),
];

async fn bodies(bench: &Bench) -> Result<Table, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut groups = Vec::new();
    for body in BODIES {
        let mut load = warm(8);
        load.count = body.count;
        load.protocol = body.protocol;
        let way = match body.way {
            Way::Up => {
                load.body = Some(body_file(folder.path(), body.size)?);
                "request"
            }
            Way::Down => {
                load.target = Target::Path(format!("{PATH}&{}", upstream::ask(body.size)));
                "response"
            }
        };
        let cases = [
            Configuration::NoFilter,
            Configuration::EmptyAll,
            Configuration::Full,
        ]
        .map(|configuration| {
            let of = configuration.name();
            Case::new(configuration, &load).named(format!("{way} of {}: {of}", body.name))
        });
        groups.push(bench.measure(&cases, 1).await?);
    }
    Ok(Table {
        name: "bodies",
        title: "Bodies",
        load: "As in the first table, with bodies. Those of 1 GiB are sent one after the other over one \
               connection."
            .to_owned(),
        content: Content::Throughput(groups),
    })
}

/// A file of so many bytes, which takes no room on the disk.
fn body_file(folder: &Path, size: u64) -> Result<PathBuf, String> {
    let path = folder.join(size.to_string());
    let file = File::create(&path).map_err(|error| error.to_string())?;
    file.set_len(size).map_err(|error| error.to_string())?;
    Ok(path)
}

/// How many tokens are signed: more than any of the caches holds, so that in the next round, in the
/// same order, each is new again.
const NEW_TOKENS: u64 = 4_000;

async fn new_tokens(bench: &Bench) -> Result<Table, String> {
    let mut load = warm(8);
    load.headers.retain(|(name, _)| name != "authorization");
    load.protocol = Protocol::Http2Single;
    load.count = Count::Exactly(NEW_TOKENS);
    let tokens = (0..NEW_TOKENS).map(|number| format!("{PATH}&token={}", token(number)));
    load.target = Target::Each(tokens.collect());
    let cases = [
        Configuration::NoFilter,
        Configuration::JwtQuery,
        Configuration::FullQuery,
        Configuration::JwtAuthn { cached: false },
        Configuration::NativeChain { cached: false },
    ]
    .map(|configuration| Case::new(configuration, &load));
    Ok(Table {
        name: "new-tokens",
        title: "Tokens never seen before",
        load: format!(
            "{NEW_TOKENS} tokens in turn, in the query, since h2load sends the same headers in every \
             request; over one connection of HTTP/2 with 16 streams. They are more than any \
             cache holds, so that each is new in every round."
        ),
        content: Content::Added(bench.measure(&cases, 1).await?),
    })
}

async fn refused(bench: &Bench) -> Result<Table, String> {
    let admitted = warm(8);
    let mut missing = admitted.clone();
    missing
        .headers
        .retain(|(name, _)| name != "authorization" && name != "x-api-key");
    missing.expected = Status::ClientError;
    let mut spent = admitted.clone();
    spent.expected = Status::ClientError;
    let native = Configuration::NativeChain { cached: true };
    let cases = [
        Case::new(Configuration::Full, &admitted).named("`tollgate.wasm`, admitted"),
        Case::new(Configuration::Full, &missing).named("`tollgate.wasm`, no credentials: 401"),
        Case::new(Configuration::FullSpent, &spent).named("`tollgate.wasm`, limit spent: 429"),
        Case::new(native, &admitted).named("native chain, cache on, admitted"),
        Case::new(native, &missing).named("native chain, cache on, no credentials: 401"),
        Case::new(Configuration::NativeSpent, &spent)
            .named("native chain, cache on, limit spent: 429"),
    ];
    Ok(Table {
        name: "refused",
        title: "Refused requests",
        load: "As in the first table. The whole CPU of Envoy per request, with what it does \
               for the upstream, which a refused request does not reach."
            .to_owned(),
        content: Content::Total(bench.measure(&cases, 1).await?),
    })
}

async fn store(bench: &Bench) -> Result<Table, String> {
    let load = warm(8);
    let alone = Configuration::Alone(Policy::UsagePlan);
    let cases = [
        Case::new(alone, &load).named("quota in the Envoy's memory"),
        Case::new(Configuration::Stored, &load).named("quota in Redis, behind Webdis"),
    ];
    Ok(Table {
        name: "store",
        title: "A quota store",
        load: "`usage-plan.wasm`, two workers, a quota that is far from used up, whose usage is \
               reported every 100 ms. Redis and Webdis run on the same machine. The ratios are to \
               the quota without a store."
            .to_owned(),
        content: Content::Throughput(vec![bench.measure(&cases, 2).await?]),
    })
}

async fn scale(bench: &Bench) -> Result<Table, String> {
    Ok(Table {
        name: "scale",
        title: "Large documents",
        load: "`tollgate.wasm`, all policies.".to_owned(),
        content: Content::Scale(scale::measure(bench).await?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens are signed here, and the documents hold the key that verifies them.
    #[test]
    fn the_documents_have_the_key_that_signs() {
        let jwk = SigningKey::new(Algorithm::RS256).jwk(KEY_ID);
        let jwks = tollgate_instructions::document::jwks();
        assert_eq!(jwks["keys"][0], jwk);
    }
}
