//! API keys with usage plans: a key belongs to a consumer, a consumer is on a plan, a plan says
//! which APIs may be called, how fast, and how often in a calendar period.
//!
//! ```yaml
//! usage_plan:
//!   key: { header: x-api-key, query: api_key }
//!   plans:
//!     bronze:
//!       throttle: { rate: 10/s, burst: 20, methods: { "POST /v1/accounts/**": 1/s } }
//!       quota: { limit: 10000, period: day }
//!       apis: [accounts-v1]
//!   consumers:
//!   - { id: acme, plan: bronze, keys: [{ sha256: "…", expires: 2027-06-30T00:00:00Z }] }
//! ```

mod compile;
mod config;
mod credential;
mod keys;
mod meter;
mod plan;
pub mod problems;
mod record;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tollgate_core::config::Rejected;
use tollgate_core::headers::HeaderName;
use tollgate_core::host::Host;
use tollgate_core::limit_headers::whole_seconds;
use tollgate_core::policy::{
    Callbacks, Compile, Consumer as ConsumerFact, Exchange, Mode, Policy, Step, StepResult,
    TargetUse,
};
use tollgate_core::problem::{Kind, Problem, REQUEST_AMBIGUOUS};
use tollgate_core::shared::{ATTEMPTS, OnContention, Update, UpdateFailed, update};
use tollgate_core::telemetry::count_uncounted;

use config::KeyConfig;
pub use config::UsagePlanConfig;
use credential::{Places, Presented};
use keys::{Keys, Validity};
use meter::{Charge, Exhausted, Limits, Refusal};
use plan::{Plan, Throttle};
use problems::*;
use record::Record;

/// The policy; see the crate's documentation.
pub struct UsagePlan {
    places: Places,
    strip: bool,
    challenge: String,
    keys: Keys,
    plans: Vec<Plan>,
    consumers: Vec<Consumer>,
    anonymous: Option<Consumer>,
    identity_prefix: String,
    id_header: HeaderName,
    plan_header: HeaderName,
    retry_after_max: Option<Duration>,
    on_contention: OnContention,
    mode: Mode,
}

/// A consumer, or all callers without a key.
struct Consumer {
    id: Arc<str>,
    /// The plan's place.
    plan: u16,
    since: Option<i64>,
    /// The key of its record in the shared state.
    record: Box<str>,
}

/// Who calls.
#[derive(Clone, Copy, Default)]
enum Caller {
    /// Nobody who may: the request passes only because of shadow mode.
    #[default]
    Unknown,
    Anonymous,
    Consumer(u32),
}

/// What the policy remembers of a request.
#[derive(Default)]
pub struct Stream {
    caller: Caller,
}

impl Policy for UsagePlan {
    const SECTION: &'static str = "usage_plan";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS
        .union(Callbacks::REQUEST_TRAILERS)
        .union(Callbacks::RESPONSE_HEADERS);
    const IDENTIFIES: bool = true;
    type Section = UsagePlanConfig;
    type Stream = Stream;

    fn compile(config: UsagePlanConfig, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        compile::compile(config, cx)
    }

    fn target_use(&self) -> TargetUse {
        TargetUse::of(self.mode, self.plans.iter().any(Plan::depends_on_target))
    }

    fn reserves(&self, header: &[u8]) -> bool {
        has_prefix(header, self.identity_prefix.as_bytes())
    }

    fn step<H: Host>(
        &self,
        step: Step,
        stream: &mut Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        match step {
            // Before anything else can refuse the request: its path is in access logs.
            Step::Identify => {
                self.strip_key(x);
                Ok(())
            }
            Step::Authenticate => self.authenticate(stream, x),
            Step::Entitle => self.entitle(stream, x),
            Step::Charge => self.charge(stream, x),
            Step::Forward => {
                self.forward(x);
                Ok(())
            }
            Step::Shield | Step::Throttle | Step::Concurrency => Ok(()),
        }
    }
}

impl UsagePlan {
    fn authenticate<H: Host>(&self, stream: &mut Stream, x: &mut Exchange<'_, H>) -> StepResult {
        let path = x.request.get(":path").unwrap_or_default();
        match self.identify(self.places.find(x.request, path), x) {
            Ok(caller) => {
                stream.caller = caller;
                self.note_caller(caller, x);
                Ok(())
            }
            Err(problem) => self.mode.refuse(problem, x),
        }
    }

    fn identify<H: Host>(
        &self,
        presented: Presented<'_>,
        x: &Exchange<'_, H>,
    ) -> Result<Caller, Problem> {
        let key = match presented {
            Presented::Several => return Err(repeated()),
            Presented::Nothing if self.anonymous.is_some() => return Ok(Caller::Anonymous),
            Presented::Nothing => return Err(self.missing()),
            Presented::Key(key) => key,
        };
        let Some(record) = self.keys.find(&key) else {
            return Err(self.unauthorized(&API_KEY_UNKNOWN, "The API key is not known."));
        };
        match record.at(x.now) {
            Validity::Valid => Ok(Caller::Consumer(record.consumer)),
            Validity::Expired => {
                Err(self.unauthorized(&API_KEY_EXPIRED, "The API key has expired."))
            }
            Validity::NotYet => {
                Err(self.unauthorized(&API_KEY_NOT_YET_VALID, "The API key is not valid yet."))
            }
        }
    }

    fn note_caller<H>(&self, caller: Caller, x: &mut Exchange<'_, H>) {
        if let Caller::Consumer(index) = caller
            && let Some(consumer) = self.consumer(caller)
        {
            x.facts.consumer = Some(ConsumerFact {
                index,
                id: Arc::clone(&consumer.id),
            });
        }
        x.facts.plan = self.plan(caller).map(|plan| plan.fact.clone());
    }

    fn entitle<H>(&self, stream: &Stream, x: &mut Exchange<'_, H>) -> StepResult {
        let Some(plan) = self.plan(stream.caller) else {
            return Ok(());
        };
        if plan.includes(x.api) {
            return Ok(());
        }
        let problem = match stream.caller {
            // To whom is not known yet, a key may open what the anonymous plan does not.
            Caller::Anonymous => self.missing(),
            _ => Problem::new(
                &API_NOT_IN_PLAN,
                "The plan of this API key does not include this API.",
            ),
        };
        self.mode.refuse(problem, x)
    }

    fn charge<H: Host>(&self, stream: &Stream, x: &mut Exchange<'_, H>) -> StepResult {
        let (Some(consumer), Some(plan)) = (self.consumer(stream.caller), self.plan(stream.caller))
        else {
            return Ok(());
        };
        // A request may come here that shadow mode would have refused before. A plan that is only
        // tried out too charges it nothing, as it would not have been charged; one that is enforced
        // charges what is real.
        let would_not_come = self.mode == Mode::Shadow && x.facts.would_deny.is_some();
        if !plan.is_limited() || would_not_come {
            return Ok(());
        }
        let throttles = match throttles(plan, x) {
            Ok(throttles) => throttles,
            Err(problem) => return self.mode.refuse(problem, x),
        };
        let limits = Limits {
            throttles,
            quotas: &plan.quotas,
            since: consumer.since,
        };
        let charged = update(x.host, &consumer.record, ATTEMPTS, |bytes| {
            // Read after the record: one that another worker has charged meanwhile must not look as
            // if the clock had stepped back.
            let now = x.host.now();
            let mut record = Record::read(bytes.as_deref());
            let charge = meter::charge(&mut record, &limits, now);
            let statuses = meter::statuses(&record, &limits, now);
            match charge {
                Charge::Refused {
                    refusal,
                    settled: false,
                } => Update::Keep((statuses, Some(refusal))),
                Charge::Refused {
                    refusal,
                    settled: true,
                } => Update::Write(record.to_bytes(), (statuses, Some(refusal))),
                Charge::Admitted => Update::Write(record.to_bytes(), (statuses, None)),
            }
        });
        match charged {
            Ok((statuses, refusal)) => {
                // Clients are told of limits that hold.
                if self.mode == Mode::Enforce {
                    x.limits.extend(statuses);
                }
                match refusal {
                    None => Ok(()),
                    Some(refusal) => self.mode.refuse(self.too_many(&refusal), x),
                }
            }
            Err(failure) => self.uncounted(failure, x),
        }
    }

    fn uncounted<H: Host>(&self, failure: UpdateFailed, x: &mut Exchange<'_, H>) -> StepResult {
        count_uncounted(x.host, Self::SECTION, failure);
        match self.on_contention {
            OnContention::Allow => Ok(()),
            OnContention::Deny => self.mode.refuse(
                Problem::new(
                    &USAGE_UNAVAILABLE,
                    "The use of the plan can't be counted at the moment.",
                )
                .with_header("retry-after", "1"),
                x,
            ),
        }
    }

    /// Removes the key from what the upstream and access logs see.
    ///
    /// In shadow mode it stays: whoever checks keys behind this policy still needs it.
    fn strip_key<H>(&self, x: &mut Exchange<'_, H>) {
        if !self.strip || self.mode == Mode::Shadow {
            return;
        }
        if let Some(path) = self.places.strip_query(&x.path) {
            x.path = Cow::Owned(path);
        }
        if let Some(name) = self.places.header()
            && x.request.get(name).is_some()
        {
            x.edits.remove(name.to_owned());
        }
        match self.places.strip_cookie(x.request) {
            Some(cookies) if cookies.is_empty() => x.edits.remove("cookie"),
            Some(cookies) => x.edits.set("cookie", cookies),
            None => {}
        }
    }

    /// Only what is set here may reach the upstream under the identity prefix.
    fn forward<H>(&self, x: &mut Exchange<'_, H>) {
        let prefix = self.identity_prefix.as_bytes();
        for (name, _) in x.request.iter() {
            if has_prefix(name, prefix)
                && let Ok(name) = std::str::from_utf8(name)
            {
                x.edits.remove(name.to_owned());
            }
        }
        if let Some(consumer) = &x.facts.consumer {
            x.edits.set(self.id_header.clone(), consumer.id.as_bytes());
        }
        if let Some(plan) = &x.facts.plan {
            x.edits.set(self.plan_header.clone(), plan.name.as_bytes());
        }
    }

    fn consumer(&self, caller: Caller) -> Option<&Consumer> {
        match caller {
            Caller::Unknown => None,
            Caller::Anonymous => self.anonymous.as_ref(),
            Caller::Consumer(index) => self.consumers.get(index as usize),
        }
    }

    fn plan(&self, caller: Caller) -> Option<&Plan> {
        self.plans.get(usize::from(self.consumer(caller)?.plan))
    }

    fn unauthorized(&self, kind: &'static Kind, detail: &'static str) -> Problem {
        Problem::new(kind, detail).with_header("www-authenticate", self.challenge.clone())
    }

    fn missing(&self) -> Problem {
        self.unauthorized(
            &CREDENTIALS_MISSING,
            "This API needs an API key, and none was sent.",
        )
    }

    fn too_many(&self, refusal: &Refusal) -> Problem {
        let retry_after = match self.retry_after_max {
            Some(most) => refusal.retry_after.min(most),
            None => refusal.retry_after,
        };
        let (kind, detail) = match refusal.exhausted {
            Exhausted::Throttle => (&THROTTLED, "Requests come faster than the plan allows."),
            Exhausted::Quota => (
                &QUOTA_EXCEEDED,
                "The plan's quota for this period is used up.",
            ),
        };
        Problem::new(kind, detail)
            .with("violated-policies", json!([refusal.limit.as_str()]))
            .with_header("retry-after", whole_seconds(retry_after).to_string())
    }
}

fn repeated() -> Problem {
    Problem::new(
        &API_KEY_REPEATED,
        "More than one API key was sent; send exactly one.",
    )
}

/// The buckets that a request is charged to, most specific first.
fn throttles<'a, H>(
    plan: &'a Plan,
    x: &Exchange<'_, H>,
) -> Result<[Option<&'a Throttle>; 2], Problem> {
    let own = plan
        .methods
        .find(x.method(), x.target)
        .map_err(|ambiguous| Problem::new(&REQUEST_AMBIGUOUS, ambiguous.explanation()))?;
    let own = own.map(|(_, method)| method);
    let replaced = own.is_some_and(|method| method.replaces_plan);
    let of_plan = plan.throttle.as_ref().filter(|_| !replaced);
    Ok([own.map(|method| &method.throttle), of_plan])
}

/// Whether a header's name begins with the prefix. Servers that pass headers on as variables (CGI,
/// RFC 3875 section 4.1.18) make the same of every character that is no letter or digit.
fn has_prefix(name: &[u8], prefix: &[u8]) -> bool {
    let plain = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() => byte.to_ascii_lowercase(),
        _ => b'-',
    };
    name.get(..prefix.len())
        .is_some_and(|start| start.iter().map(plain).eq(prefix.iter().map(plain)))
}

fn challenge(config: &KeyConfig) -> String {
    let quoted: String = config
        .realm
        .chars()
        .flat_map(|c| {
            matches!(c, '"' | '\\')
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect();
    format!("ApiKey realm=\"{quoted}\"")
}

#[cfg(test)]
mod tests;
