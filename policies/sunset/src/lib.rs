//! The life of API versions: deprecation and sunset announced on every response, brownouts for
//! practice, 410 or a redirect after the end, and who still calls.
//!
//! ```yaml
//! sunset:
//! - api: accounts-v1
//!   deprecated: 2026-09-15T00:00:00Z
//!   sunset: 2027-03-15T00:00:00Z
//!   successor: "/v2/accounts/{**}"
//!   docs: https://dev.bank.example/v2
//!   brownouts: [{ at: "0 9 * * MON", for: 15m }]
//!   grace: { acme: 2027-06-30T00:00:00Z }
//! ```

mod metrics;
pub mod problems;

use std::time::Duration;

use serde_json::json;
use tollgate_core::config::{Rejected, key_path, nearest, quote};
use tollgate_core::credentials::Credential;
use tollgate_core::host::Host;
use tollgate_core::limit_headers::whole_seconds;
use tollgate_core::policy::{
    Callbacks, Compile, Exchange, Mode, Policy, Responding, ResponseUse, Step, StepResult,
    TargetUse,
};
use tollgate_core::problem::{Kind, Problem};
use tollgate_lifecycle::{
    AfterSunset, Answer, Elsewhere, Lifecycle, LifecycleTable, Merged, Stage, VersionConfig,
    merge_deprecation, merge_links, merge_sunset,
};

use metrics::Metrics;
use problems::{API_BROWNOUT, API_MOVED, API_RETIRED, API_UNAVAILABLE};

/// The policy; see the crate's documentation.
pub struct Sunset {
    lives: LifecycleTable,
    metrics: Metrics,
    /// Whether access logs may see it.
    filter_state: bool,
}

/// What the policy remembers of a request.
#[derive(Default)]
pub struct Stream {
    /// The place of the life of its version.
    life: Option<usize>,
    consumer: Option<std::sync::Arc<str>>,
    /// Where it is in other versions.
    elsewhere: Elsewhere,
    /// Whether its response will tell of all this.
    announced: bool,
}

impl Policy for Sunset {
    const SECTION: &'static str = "sunset";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS.union(Callbacks::RESPONSE_HEADERS);
    type Section = Vec<VersionConfig>;
    type Stream = Stream;

    fn kinds(kinds: &mut Vec<&'static Kind>) {
        problems::all(kinds);
    }

    fn compile(section: Vec<VersionConfig>, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        let before = cx.errors.len();
        if section.is_empty() {
            let message = "the list is empty: add a version";
            return Err(cx.errors.add(Self::SECTION, message));
        }
        let lives = LifecycleTable::compile(&section, Self::SECTION, cx.apis, cx.errors);
        check_grace(&section, cx);
        cx.errors.none_since(before).map(|()| Sunset {
            lives,
            metrics: Metrics::default(),
            filter_state: cx.filter_state,
        })
    }

    fn target_use(&self) -> TargetUse {
        let modes = self
            .lives
            .iter()
            .map(|life| TargetUse::of(life.mode(), true));
        modes.max().unwrap_or_default()
    }

    fn step<H: Host>(
        &self,
        step: Step,
        stream: &mut Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        match step {
            Step::Require => {
                self.find(stream, x);
                match self.life(stream) {
                    // Whoever has an end of its own is known only later.
                    Some(life) if !life.has_grace() => self.judge(life, stream, x),
                    _ => Ok(()),
                }
            }
            Step::Entitle => match self.life(stream) {
                Some(life) if life.has_grace() => self.judge(life, stream, x),
                _ => Ok(()),
            },
            Step::Forward => {
                self.count(stream, x);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whoever is refused before the version is judged, or waits until the host gives up, is told of
    /// it all the same.
    fn undo<H: Host>(&self, stream: &mut Stream, x: &mut Exchange<'_, H>) {
        if stream.announced {
            return;
        }
        if stream.life.is_none() {
            self.find(stream, x);
        }
        if let Some(life) = self.life(stream) {
            announce(life, stream, x);
        }
    }

    fn response_use(&self, stream: &Stream) -> ResponseUse {
        match stream.life {
            // What is ours was prepared with the request.
            Some(_) => ResponseUse::With(&FIELDS),
            None => ResponseUse::None,
        }
    }

    /// What the upstream says of its own life goes together with ours.
    fn respond<H: Host>(&self, stream: &mut Stream, r: &mut Responding<'_, H>) {
        let Some(life) = self.life(stream) else {
            return;
        };
        let has_own = |name: &&str| r.headers.get(name).is_some();
        if !FIELDS.iter().any(has_own) {
            return;
        }
        let values = |name: &str| -> Vec<&[u8]> { r.headers.get_all(name).collect() };
        if let Some(deprecation) = life.deprecation() {
            let merged = merge_deprecation(deprecation, r.now, &values("deprecation"));
            keep_or_set("deprecation", merged, r);
        }
        let own = life.sunset(stream.consumer.as_deref());
        if let Some((own, general)) = own.zip(life.sunset(None)) {
            let merged = merge_sunset(own, general, &values("sunset"));
            keep_or_set("sunset", merged, r);
        }
        let missing = merge_links(life.links(&stream.elsewhere), &values("link"));
        r.prepared.remove("link");
        if let Some(links) = missing {
            r.prepared.join("link", links);
        }
    }
}

/// The fields that an upstream may have set too.
const FIELDS: [&str; 3] = ["deprecation", "sunset", "link"];

/// Refuses grace for consumers that the document does not have.
fn check_grace(section: &[VersionConfig], cx: &mut Compile<'_>) {
    for (index, version) in section.iter().enumerate() {
        let Some(consumers) = &cx.consumers else {
            // Where the section that has them is mistaken, that is reported.
            let knows_consumers = cx.credentials.contains(Credential::ApiKey);
            if !version.grace.0.is_empty() && !knows_consumers {
                let message = "does nothing without consumers: add usage_plan, in tollgate.wasm, \
                               which has both, or remove it";
                cx.errors
                    .add(format!("{}[{index}].grace", Sunset::SECTION), message);
            }
            continue;
        };
        for (name, _) in &version.grace.0 {
            let name = name.as_str();
            if consumers.find(name).is_some() {
                continue;
            }
            let hint = match nearest(name, consumers.iter()) {
                Some(near) => format!("did you mean {}?", quote(near)),
                None => "expected the id of one, or nothing".to_owned(),
            };
            let path = key_path(&format!("{}[{index}].grace", Sunset::SECTION), name);
            let message = format!(
                "usage_plan.consumers has no consumer {}, {hint}",
                quote(name)
            );
            cx.errors.add(path, message);
        }
    }
}

fn keep_or_set<H>(name: &'static str, merged: Merged<'_>, r: &mut Responding<'_, H>) {
    r.prepared.remove(name);
    if let Merged::Set(value) = merged {
        r.prepared.set(name, value.into_owned());
    }
}

impl Sunset {
    fn life(&self, stream: &Stream) -> Option<&Lifecycle> {
        self.lives.get(stream.life?)
    }

    fn find<H>(&self, stream: &mut Stream, x: &Exchange<'_, H>) {
        let Some(api) = x.api else {
            return;
        };
        stream.life = self.lives.find_place(api, x.request, x.target.query());
    }

    /// Announces what is to come, and refuses what has ended.
    fn judge<H: Host>(
        &self,
        life: &Lifecycle,
        stream: &mut Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        announce(life, stream, x);
        let consumer = stream.consumer.as_deref();
        let successor = || stream.elsewhere.successor().map(str::to_owned);
        let problem = match life.at(x.now, consumer) {
            Stage::Live | Stage::Ending | Stage::Deprecated => return Ok(()),
            Stage::Brownout { until, answer } => {
                let left = until.map(|until| until.saturating_since(x.now));
                brownout(answer, left, successor())
            }
            Stage::Retired => match life.after_sunset() {
                AfterSunset::Pass => return Ok(()),
                AfterSunset::Gone => retired(successor()),
                AfterSunset::Redirect => moved(successor()),
            },
        };
        if life.mode() == Mode::Enforce {
            self.count(stream, x);
        }
        life.mode().refuse(problem, x)
    }

    /// Counts a call, by who calls, and shows operators when the API ends, or next ends if its
    /// versions end one by one.
    fn count<H: Host>(&self, stream: &Stream, x: &Exchange<'_, H>) {
        let (Some(api), Some(place)) = (x.api, stream.life) else {
            return;
        };
        let Some(life) = self.lives.get(place) else {
            return;
        };
        let stage = match life.at(x.now, stream.consumer.as_deref()) {
            Stage::Live => "live",
            Stage::Ending => "ending",
            Stage::Deprecated => "deprecated",
            Stage::Brownout { .. } => "brownout",
            Stage::Retired => "retired",
        };
        if self.filter_state {
            x.host.set_filter_state("tollgate_lifecycle", stage);
            if let Some(version) = life.version() {
                x.host.set_filter_state("tollgate_api_version", version);
            }
        }
        self.metrics.count(api, (place, life), stage, x);
        if let Some(end) = self.lives.next_end(api, x.now) {
            self.metrics.show_end(api, end, x);
        }
    }
}

/// Prepares what every response tells of what is to come: to a consumer that is known by now its own
/// end, to others the one for all.
fn announce<H: Host>(life: &Lifecycle, stream: &mut Stream, x: &mut Exchange<'_, H>) {
    stream.announced = true;
    stream.consumer = x
        .facts
        .consumer
        .as_ref()
        .map(|consumer| std::sync::Arc::clone(&consumer.id));
    let templates = x.api.map_or(&[][..], |api| x.apis.templates(api));
    // Without the credential that the query may have had.
    stream.elsewhere = life.elsewhere(templates, &x.clean_target());
    if let Some(value) = life.deprecation().and_then(|own| own.as_shared(x.now)) {
        x.response.set("deprecation", value);
    }
    if let Some(sunset) = life.sunset(stream.consumer.as_deref()) {
        x.response.set("sunset", sunset.as_shared());
    }
    if let Some(links) = merge_links(life.links(&stream.elsewhere), &[]) {
        x.response.join("link", links);
    }
}

/// `left` is the time until the version is served again, if it is.
fn brownout(answer: Answer, left: Option<Duration>, successor: Option<String>) -> Problem {
    let problem = match answer {
        Answer::Gone => Problem::new(
            &API_BROWNOUT,
            "This version of the API will end soon, and is switched off for a while to show it.",
        ),
        Answer::Unavailable => Problem::new(
            &API_UNAVAILABLE,
            "This version of the API will end soon, and is switched off for a while to show it.",
        ),
    };
    let problem = with_successor(problem, successor);
    match left {
        Some(left) => problem.with_header("retry-after", whole_seconds(left).to_string()),
        None => problem,
    }
}

fn retired(successor: Option<String>) -> Problem {
    with_successor(
        Problem::new(&API_RETIRED, "This version of the API has ended."),
        successor,
    )
}

fn moved(successor: Option<String>) -> Problem {
    match successor {
        Some(uri) => Problem::new(&API_MOVED, "This version of the API has ended.")
            .with("successor", json!(uri))
            .with_header("location", uri),
        // Nothing is known to lead to.
        None => retired(None),
    }
}

fn with_successor(problem: Problem, successor: Option<String>) -> Problem {
    match successor {
        Some(uri) => problem.with("successor", json!(uri)),
        None => problem,
    }
}

#[cfg(test)]
mod tests;
