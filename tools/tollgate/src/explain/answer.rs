//! What became of a request, ready to be written.

use serde::Serialize;
use tollgate_testkit::Reply;

use super::Asked;
use super::apis::ApiVerdict;
use super::watch::{Event, Limit, Seen};

/// All that is told of a request.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    pub(crate) plugin: &'static str,
    pub(crate) request: String,
    pub(crate) at: String,
    pub(crate) apis: Vec<ApiVerdict>,
    pub(crate) steps: Vec<Event>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) answer: Answer,
    /// The request's headers as the upstream gets them; none if it is not asked.
    pub(crate) upstream: Option<Vec<Header>>,
    /// The answers to all repetitions, in runs of the same.
    pub(crate) repetitions: Vec<Run>,
    /// Issuers whose keys were needed and not given.
    pub(crate) missing_keys: Vec<String>,
}

/// What the client gets.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    /// Whether the request reaches the upstream, whose status and body then count.
    pub(crate) forwarded: bool,
    pub(crate) status: Option<u16>,
    pub(crate) kind: Option<String>,
    pub(crate) why: Option<String>,
    pub(crate) details: String,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Option<String>,
}

/// A header.
#[derive(Debug, Serialize)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Some repetitions that ended alike.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) outcome: String,
}

/// How the repetitions ended.
#[derive(Default)]
pub(crate) struct Statuses(Vec<Run>);

impl Statuses {
    pub(crate) fn add(&mut self, reply: &Reply) {
        let outcome = match &reply.upstream {
            Some(_) => "forwarded".to_owned(),
            None => format!("{} {}", reply.status, reply.details),
        };
        let number = self.0.last().map_or(1, |run| run.to + 1);
        match self.0.last_mut() {
            Some(run) if run.outcome == outcome => run.to = number,
            _ => self.0.push(Run {
                from: number,
                to: number,
                outcome,
            }),
        }
    }
}

impl Explanation {
    /// Whether the keys of an issuer could have made a difference.
    pub(crate) fn needs_keys(&self) -> bool {
        let mut did = self.steps.iter().flat_map(|event| &event.did);
        did.any(|did| did.contains("issuer-unavailable"))
    }

    pub(crate) fn of(asked: &Asked, reply: Reply, seen: Seen, statuses: Statuses) -> Self {
        let forwarded = reply.upstream.is_some();
        let (kind, why) = match seen.problem.filter(|_| !forwarded) {
            Some((kind, detail)) => (Some(kind), Some(detail)),
            // Refused by the chain itself, before or between the policies.
            None if !forwarded => (kind_of(&reply), None),
            None => (None, None),
        };
        let headers = |pairs: Vec<(String, Vec<u8>)>| {
            let pairs = pairs.into_iter();
            pairs
                .map(|(name, value)| Header {
                    name,
                    value: String::from_utf8_lossy(&value).into_owned(),
                })
                .collect()
        };
        let at = jiff::Timestamp::from_nanosecond(asked.at.as_nanos().into());
        Explanation {
            plugin: "",
            request: format!("{} {}{}", asked.method, asked.authority, asked.path),
            at: at.map(|at| at.to_string()).unwrap_or_default(),
            apis: Vec::new(),
            steps: seen.events,
            limits: seen.limits,
            answer: Answer {
                forwarded,
                status: (!forwarded).then_some(reply.status),
                kind,
                why,
                details: reply.details,
                headers: reply
                    .headers
                    .into_iter()
                    .map(|(name, value)| Header { name, value })
                    .collect(),
                body: (!forwarded).then(|| String::from_utf8_lossy(&reply.body).into_owned()),
            },
            upstream: reply.upstream.map(|seen| headers(seen.0)),
            repetitions: statuses.0,
            missing_keys: Vec::new(),
        }
    }
}

fn kind_of(reply: &Reply) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
    Some(body.get("kind")?.as_str()?.to_owned())
}
