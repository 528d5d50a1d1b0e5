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

mod clients;
mod compile;
mod config;
mod consumers;
mod gauges;
mod keys;
mod meter;
mod plan;
pub mod problems;
mod recognised;
mod record;
mod store;

use std::time::Duration;

use serde_json::json;
use tollgate_core::config::Rejected;
use tollgate_core::credentials::{Credential, Evidence};
use tollgate_core::headers::HeaderName;
use tollgate_core::host::{CalloutId, CalloutResponse, Host};
use tollgate_core::limit_headers::{LimitStatus, whole_seconds};
use tollgate_core::places::{Places, Presented};
use tollgate_core::policy::{
    Callbacks, Compile, Consumer as ConsumerFact, Exchange, Halt, Mode, Policy, Step, StepResult,
    TargetUse,
};
use tollgate_core::problem::{CREDENTIALS_MISSING, Kind, Problem, REQUEST_AMBIGUOUS};
use tollgate_core::shared::{ATTEMPTS, OnContention, Update, UpdateFailed, update};
use tollgate_core::telemetry::count_uncounted;
use tollgate_core::text::Text;
use tollgate_core::time::Timestamp;
use tollgate_core::token::Token;

use clients::{ClaimedPlan, ClientPage, ClientPlace, Clients, TokenPlans};
use config::KeyConfig;
pub use config::UsagePlanConfig;
use consumers::{Consumer, Consumers, RecordKeys};
use gauges::QuotaGauges;
use keys::{Keys, Validity};
use meter::{Charge, Exhausted, Limits, Refusal, StoreUse};
use plan::{Plan, Throttle};
use problems::*;
use recognised::Recognised;
use record::Record;
use store::{Account, Holder, Store};
pub use store::{
    OnStoreFailure, RedisDialect, RedisHttpConfig, RlsConfig, RlsProfile, SecretConfig,
    StoreConfig, ratelimit_config,
};

/// The policy; see the crate's documentation.
pub struct UsagePlan {
    places: Places,
    strip: bool,
    challenge: Text,
    keys: Keys,
    recognised: Recognised,
    plans: Vec<Plan>,
    consumers: Consumers,
    /// The plan of callers without a key.
    anonymous: Option<u16>,
    records: RecordKeys,
    /// Which consumer a token's client is.
    clients: Clients,
    tokens: Option<TokenPlans>,
    store: Option<Store>,
    identity_prefix: String,
    id_header: HeaderName,
    plan_header: HeaderName,
    retry_after_max: Option<Duration>,
    on_contention: OnContention,
    mode: Mode,
    gauges: QuotaGauges,
}

/// Who calls.
#[derive(Clone, Copy, Default)]
enum Caller {
    /// Nobody who may: the request passes only because of shadow mode.
    #[default]
    Unknown,
    Anonymous,
    Consumer(u32),
    /// A token's client that is no consumer.
    Client(ClientPlace),
}

/// What the policy remembers of a request.
#[derive(Default)]
pub struct Stream {
    caller: Caller,
    /// The plan's place.
    plan: Option<u16>,
    /// Since when the request waits for the store.
    waits_since: Option<Timestamp>,
}

impl Policy for UsagePlan {
    const SECTION: &'static str = "usage_plan";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS
        .union(Callbacks::REQUEST_TRAILERS)
        .union(Callbacks::RESPONSE_HEADERS)
        .union(Callbacks::CALLOUTS);
    const CREDENTIAL: Option<Credential> = Some(Credential::ApiKey);
    type Section = UsagePlanConfig;
    type Stream = Stream;

    fn kinds(kinds: &mut Vec<&'static Kind>) {
        problems::all(kinds);
    }

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
            Step::Authenticate => {
                if x.credentials.wanted.contains(Credential::ApiKey) {
                    self.authenticate(stream, x);
                }
                Ok(())
            }
            Step::Entitle => self
                .find_plan(stream, x)
                .and_then(|()| self.entitle(stream, x)),
            Step::Charge => self.charge(stream, x),
            Step::Forward => {
                self.forward(x);
                Ok(())
            }
            Step::Shield | Step::Require | Step::Throttle | Step::Concurrency => Ok(()),
        }
    }

    fn tick<H: Host>(&self, host: &H) -> Option<Duration> {
        let gauges = self.show_quotas(host);
        let store = self.store.as_ref().and_then(|store| store.tick(self, host));
        [gauges, store].into_iter().flatten().min()
    }

    fn on_callout<H: Host>(&self, id: CalloutId, response: &CalloutResponse<'_>, host: &H) {
        if let Some(store) = &self.store {
            store.on_callout(self, id, response, host);
        }
    }
}

impl UsagePlan {
    fn authenticate<H: Host>(&self, stream: &mut Stream, x: &mut Exchange<'_, H>) {
        let path = x.request.get(":path").unwrap_or_default();
        let evidence = match self.identify(self.places.find(x.request, path), x) {
            Ok(None) => Evidence::Absent,
            Ok(Some(consumer)) => {
                self.note_caller(Caller::Consumer(consumer), None, stream, x);
                let token = x.facts.token.as_deref();
                x.credentials.same_client =
                    token.map(|token| self.clients.find(token) == Some(consumer));
                Evidence::Valid
            }
            Err(problem) => Evidence::Invalid(Box::new(problem)),
        };
        x.credentials.note(Credential::ApiKey, evidence);
    }

    /// The consumer that the key belongs to, if a key was sent.
    fn identify<H: Host>(
        &self,
        presented: Presented<'_>,
        x: &Exchange<'_, H>,
    ) -> Result<Option<u32>, Problem> {
        let key = match presented {
            Presented::Several => return Err(repeated()),
            Presented::Nothing => return Ok(None),
            Presented::One(key) => key,
        };
        let look_up = || self.keys.find(&key);
        let Some(record) = self.recognised.find(&key, x.host, look_up) else {
            return Err(self.unauthorized(&API_KEY_UNKNOWN, "The API key is not known."));
        };
        match record.term.at(x.now) {
            Validity::Valid => Ok(Some(record.consumer)),
            Validity::Expired => {
                Err(self.unauthorized(&API_KEY_EXPIRED, "The API key has expired."))
            }
            Validity::NotYet => {
                Err(self.unauthorized(&API_KEY_NOT_YET_VALID, "The API key is not valid yet."))
            }
        }
    }

    /// Finds the plan of a caller that has sent no key.
    fn find_plan<H: Host>(&self, stream: &mut Stream, x: &mut Exchange<'_, H>) -> StepResult {
        if let Caller::Consumer(_) = stream.caller {
            return Ok(());
        }
        // Whoever has sent a bad key, and passes only because this is tried out, is not anonymous.
        let has_no_key = matches!(x.credentials.evidence(Credential::ApiKey), Evidence::Absent);
        let (caller, plan) = match (&self.tokens, &x.facts.token) {
            (Some(plans), Some(token)) => match self.find_client(plans, token, x.host) {
                Ok(found) => found,
                Err(problem) => return self.mode.refuse(problem, x),
            },
            _ if has_no_key && self.anonymous.is_some() => (Caller::Anonymous, None),
            _ => (Caller::Unknown, None),
        };
        self.note_caller(caller, plan, stream, x);
        Ok(())
    }

    /// The caller that a token stands for, and its plan if it is not simply that of the caller.
    fn find_client<H: Host>(
        &self,
        plans: &TokenPlans,
        token: &Token,
        host: &H,
    ) -> Result<(Caller, Option<u16>), Problem> {
        let consumer = self.clients.find(token).map(Caller::Consumer);
        let plan = match plans.claimed(token) {
            ClaimedPlan::Plan(plan) => Some(plan),
            ClaimedPlan::None => None,
            ClaimedPlan::Unknown => return Err(no_plan()),
        };
        if let Some(consumer) = consumer {
            return Ok((consumer, plan));
        }
        let plan = plan.or(plans.default).ok_or_else(no_plan)?;
        match plans.place(token, host) {
            Ok(Some(place)) => Ok((Caller::Client(place), Some(plan))),
            Ok(None) => Err(no_plan()),
            Err(failure) => {
                count_uncounted(host, Self::SECTION, None, failure);
                match self.on_contention {
                    // Who it is is not known, so nothing is charged.
                    OnContention::Allow => Ok((Caller::Unknown, Some(plan))),
                    OnContention::Deny => Err(unavailable()),
                }
            }
        }
    }

    /// Notes who calls, and the plan that applies: the caller's own if none is given.
    fn note_caller<H>(
        &self,
        caller: Caller,
        plan: Option<u16>,
        stream: &mut Stream,
        x: &mut Exchange<'_, H>,
    ) {
        let consumer = self.consumer(caller);
        if let (Caller::Consumer(index), Some(consumer)) = (caller, consumer) {
            x.facts.consumer = Some(ConsumerFact {
                index,
                id: consumer.id.into(),
            });
        }
        *stream = Stream {
            caller,
            plan: plan.or(consumer.map(|consumer| consumer.plan)),
            waits_since: None,
        };
        x.facts.plan = self.plan(stream).map(|plan| plan.fact.clone());
    }

    fn entitle<H>(&self, stream: &Stream, x: &mut Exchange<'_, H>) -> StepResult {
        let Some(plan) = self.plan(stream) else {
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
                "The caller's plan does not include this API.",
            ),
        };
        self.mode.refuse(problem, x)
    }

    fn charge<H: Host>(&self, stream: &mut Stream, x: &mut Exchange<'_, H>) -> StepResult {
        let Some(plan) = self.plan(stream) else {
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
        let shared = self.shared_account(stream);
        let limits = Limits {
            throttles,
            quotas: &plan.quotas,
            since: self
                .consumer(stream.caller)
                .and_then(|consumer| consumer.since),
            store: match shared {
                None => StoreUse::Never,
                Some((store, _)) if store.gives_up(stream.waits_since, x.now) => StoreUse::Alone,
                Some(_) => StoreUse::Ask,
            },
        };
        let (charge, statuses) = match self.charge_record(stream.caller, &limits, x.host) {
            Ok(charged) => charged,
            Err(failure) => return self.uncounted(failure, x),
        };
        if let Some((store, account)) = shared {
            store.note(account, &charge, x.host);
        }
        if let Charge::Wait { .. } = charge {
            stream.waits_since.get_or_insert(x.now);
            return Err(Halt::Await);
        }
        // Clients are told of limits that hold.
        if self.mode == Mode::Enforce {
            x.limits.extend(statuses);
        }
        match charge {
            Charge::Refused { refusal, .. } => self.mode.refuse(self.refuse(&refusal), x),
            Charge::Admitted { .. } | Charge::Wait { .. } => Ok(()),
        }
    }

    /// The store, and whose usage it keeps, if it keeps the caller's.
    fn shared_account(&self, stream: &Stream) -> Option<(&Store, Account)> {
        let store = self.store.as_ref()?;
        let plan = stream.plan?;
        let holder = match stream.caller {
            Caller::Consumer(index) => Holder::Consumer(index),
            Caller::Anonymous => Holder::Anonymous,
            Caller::Unknown | Caller::Client(_) => return None,
        };
        let keeps = self
            .plan(stream)?
            .quotas
            .iter()
            .any(|quota| quota.shared.is_some());
        keeps.then_some((store, Account { holder, plan }))
    }

    /// Charges a request to the caller's record.
    fn charge_record<H: Host>(
        &self,
        caller: Caller,
        limits: &Limits<'_>,
        host: &H,
    ) -> Result<(Charge, Vec<LimitStatus>), UpdateFailed> {
        // The clock is read after the record: one that another worker has charged meanwhile must not
        // look as if the clock had stepped back.
        let charge = |record: &mut Record, now| {
            let charge = meter::charge(record, limits, now);
            let (changed, statuses) = match &charge {
                Charge::Admitted { .. } => (true, meter::statuses(record, limits, now)),
                Charge::Refused { settled, .. } => (*settled, meter::statuses(record, limits, now)),
                Charge::Wait { .. } => (false, Vec::new()),
            };
            ((charge, statuses), changed)
        };
        match (caller, &self.tokens) {
            (Caller::Client(place), Some(plans)) => {
                update(host, &plans.key(place), ATTEMPTS, |bytes| {
                    let now = host.now();
                    let mut page = ClientPage::read(bytes.as_deref());
                    let mut record = page.record(place);
                    let (charged, changed) = charge(&mut record, now);
                    if !changed {
                        return Update::Keep(Ok(charged));
                    }
                    match page.store(place, &record, (now.as_nanos(), now.as_seconds())) {
                        Ok(()) => Update::Write(page.to_bytes(), Ok(charged)),
                        Err(full) => Update::Keep(Err(full)),
                    }
                })?
            }
            _ => {
                let Some(consumer) = self.consumer(caller) else {
                    return Ok((Charge::Admitted { alone: false }, Vec::new()));
                };
                self.records.with(consumer, |key| {
                    update(host, key, ATTEMPTS, |bytes| {
                        let now = host.now();
                        let mut record = Record::read(bytes.as_deref());
                        match charge(&mut record, now) {
                            (charged, true) => Update::Write(record.to_bytes(), charged),
                            (charged, false) => Update::Keep(charged),
                        }
                    })
                })
            }
        }
    }

    fn uncounted<H: Host>(&self, failure: UpdateFailed, x: &mut Exchange<'_, H>) -> StepResult {
        count_uncounted(x.host, Self::SECTION, None, failure);
        match self.on_contention {
            OnContention::Allow => Ok(()),
            OnContention::Deny => self.mode.refuse(unavailable(), x),
        }
    }

    /// Removes the key from what the upstream and access logs see.
    ///
    /// In shadow mode it stays: whoever checks keys behind this policy still needs it.
    fn strip_key<H>(&self, x: &mut Exchange<'_, H>) {
        if self.strip && self.mode == Mode::Enforce {
            self.places.strip(x);
        }
    }

    /// What the client sent under the identity prefix was removed when the request came.
    fn forward<H>(&self, x: &mut Exchange<'_, H>) {
        if let Some(consumer) = &x.facts.consumer {
            x.edits.set(self.id_header.clone(), &consumer.id);
        }
        if let Some(plan) = &x.facts.plan {
            x.edits.set(self.plan_header.clone(), &plan.name);
        }
    }

    fn consumer(&self, caller: Caller) -> Option<Consumer<'_>> {
        match caller {
            Caller::Unknown | Caller::Client(_) => None,
            Caller::Anonymous => self.anonymous.map(Consumer::anonymous),
            Caller::Consumer(index) => self.consumers.get(index),
        }
    }

    fn plan(&self, stream: &Stream) -> Option<&Plan> {
        self.plans.get(usize::from(stream.plan?))
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

    fn refuse(&self, refusal: &Refusal) -> Problem {
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
            // Nothing is known to be violated.
            Exhausted::Unknown => {
                return Problem::new(
                    &USAGE_UNAVAILABLE,
                    "What is left of the plan's quota can't be told at the moment.",
                )
                .with_header("retry-after", whole_seconds(retry_after).to_string());
            }
        };
        Problem::new(kind, detail)
            .with("violated-policies", json!([refusal.limit.as_str()]))
            .with_header("retry-after", whole_seconds(retry_after).to_string())
    }
}

fn no_plan() -> Problem {
    Problem::new(
        &PLAN_MISSING,
        "There is no plan for the client that this token was issued to.",
    )
}

fn unavailable() -> Problem {
    Problem::new(
        &USAGE_UNAVAILABLE,
        "The use of the plan can't be counted at the moment.",
    )
    .with_header("retry-after", "1")
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
