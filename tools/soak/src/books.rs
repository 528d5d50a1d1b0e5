//! What was sent, what came back, what the upstream saw: counted here, and compared at the end with
//! what the gateway has counted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use tollgate_tests::{ClientError, Received, Reply, Stats};

use crate::gateway::{APIS, QUOTA};

/// Requests by API and reason; `_none` where they were let through.
type Counts = BTreeMap<(String, String), u64>;

#[derive(Default)]
pub(crate) struct Books(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    answered: Counts,
    /// Requests whose client left, by API.
    left: BTreeMap<String, u64>,
    /// Requests that got no answer although their client stayed.
    lost: Vec<String>,
    /// When the configuration was replaced last.
    updated: Option<Instant>,
    /// What the upstream received, by API.
    received: BTreeMap<String, u64>,
}

impl Books {
    /// Enters the answer to a request for this API. `admitted` says that it was let through whatever
    /// became of it then.
    pub(crate) fn answered(&self, api: &str, admitted: bool, reply: Result<Reply, ClientError>) {
        let mut entries = self.0.lock().expect("no lane has panicked");
        let reason = match reply {
            _ if admitted => "_none".to_owned(),
            Ok(reply) => reason(&reply),
            Err(error) => {
                // Envoy closes the connections of what was replaced when it has drained for as long
                // as it may.
                let since = entries.updated.map(|at| at.elapsed().as_secs_f32());
                let since = since.map(|since| format!(", {since:.1} s after an update"));
                let since = since.unwrap_or_default();
                return entries.lost.push(format!("{api}: {error}{since}"));
            }
        };
        *entries
            .answered
            .entry((api.to_owned(), reason))
            .or_default() += 1;
    }

    /// Notes that the configuration is replaced now.
    #[expect(
        clippy::disallowed_methods,
        reason = "a run takes as long as it is told to"
    )]
    pub(crate) fn updated(&self) {
        let mut entries = self.0.lock().expect("no lane has panicked");
        entries.updated = Some(Instant::now());
    }

    /// Enters a request whose client did not wait for the answer.
    pub(crate) fn left(&self, api: &str) {
        let mut entries = self.0.lock().expect("no lane has panicked");
        *entries.left.entry(api.to_owned()).or_default() += 1;
    }

    pub(crate) fn upstream(&self, received: Vec<Received>) {
        let mut entries = self.0.lock().expect("no lane has panicked");
        for request in received {
            let api = request.path.split(['/', '?']).nth(1).unwrap_or_default();
            *entries.received.entry(api.to_owned()).or_default() += 1;
        }
    }

    /// Prints the books, and says where they differ from the metrics.
    pub(crate) fn close(&self, stats: &Stats) -> Vec<String> {
        let entries = self.0.lock().expect("no lane has panicked");
        let mut faults: Vec<String> = entries.lost.iter().take(100).cloned().collect();
        let counted = counted(stats);
        let sent: u64 = entries.answered.values().chain(entries.left.values()).sum();
        println!("requests sent:          {sent}");
        println!("lost:                   {}", entries.lost.len());
        println!("\n| API | reason | answered | counted |\n|---|---|---|---|");
        let keys = entries.answered.keys().chain(counted.keys());
        let mut keys: Vec<_> = keys
            .filter(|(api, _)| APIS.contains(&api.as_str()))
            .collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let of = |counts: &Counts| counts.get(key).copied().unwrap_or(0);
            let (answered, counted) = (of(&entries.answered), of(&counted));
            println!("| {} | {} | {answered} | {counted} |", key.0, key.1);
            let left = entries.left.get(&key.0).copied().unwrap_or(0);
            if !(answered..=answered + left).contains(&counted) {
                faults.push(format!("{key:?}: {answered} answered, {counted} counted"));
            }
        }
        println!("\n| API | left | let through | received by the upstream |\n|---|---|---|---|");
        for api in APIS {
            let through = counted
                .get(&(api.to_owned(), "_none".to_owned()))
                .copied()
                .unwrap_or(0);
            let received = entries.received.get(api).copied().unwrap_or(0);
            let left = entries.left.get(api).copied().unwrap_or(0);
            println!("| {api} | {left} | {through} | {received} |");
            // Whose client leaves at that moment is let through, and not sent any more.
            if !(through.saturating_sub(left)..=through).contains(&received) {
                faults.push(format!("{api}: {through} let through, {received} received"));
            }
        }
        let spent = entries.received.get("spent").copied().unwrap_or(0);
        if spent != QUOTA {
            faults.push(format!("{spent} requests on a quota of {QUOTA}"));
        }
        faults
    }
}

/// Why a request was refused, as its answer says.
fn reason(reply: &Reply) -> String {
    if reply.status == 200 && reply.grpc_status().is_none_or(|status| status == 0) {
        return "_none".to_owned();
    }
    let problem: Option<serde_json::Value> = serde_json::from_slice(&reply.body).ok();
    let kind = problem.and_then(|problem| Some(problem.get("kind")?.as_str()?.to_owned()));
    kind.unwrap_or_else(|| format!("a {} that is no problem", reply.status))
}

fn counted(stats: &Stats) -> Counts {
    let mut counts = Counts::new();
    for sample in stats.select("tollgate_requests_total", &[]) {
        let label = |name| sample.label(name).unwrap_or_default().to_owned();
        *counts.entry((label("api"), label("reason"))).or_default() += sample.value as u64;
    }
    counts
}
