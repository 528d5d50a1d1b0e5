#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]

mod charging;
mod concurrency;
mod configuration;
mod costs;
mod flood;
mod keys;
mod model;
mod penalty;
mod races;
mod scope;
mod shadow;
mod telling;
mod threads;

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tollgate_core::chain::Policies;
use tollgate_core::time::Timestamp;
use tollgate_testkit::{Gateway, Reply, Request};
use tollgate_usage_plan::UsagePlan;

use super::*;

type Alone = tollgate_core::chain!(RateLimit, Nobody, tollgate_access::Access);

/// Stands for a policy that finds out who calls, and never does.
struct Nobody;

#[derive(deserr::Deserr)]
#[deserr(error = tollgate_core::config::ConfigErrors)]
struct NobodyConfig {}

impl Policy for Nobody {
    const SECTION: &'static str = "nobody";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;
    const CREDENTIAL: Option<tollgate_core::credentials::Credential> =
        Some(tollgate_core::credentials::Credential::ApiKey);
    type Section = NobodyConfig;
    type Stream = ();

    fn compile(NobodyConfig {}: NobodyConfig, _: &mut Compile<'_>) -> Result<Self, Rejected> {
        Ok(Nobody)
    }

    fn step<H: Host>(&self, _: Step, (): &mut (), _: &mut Exchange<'_, H>) -> StepResult {
        Ok(())
    }
}

/// Stands for a policy that checks tokens: the claims are in a header.
struct Tokens;

impl Policy for Tokens {
    const SECTION: &'static str = "tokens";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;
    const CREDENTIAL: Option<tollgate_core::credentials::Credential> =
        Some(tollgate_core::credentials::Credential::Jwt);
    type Section = NobodyConfig;
    type Stream = ();

    fn compile(NobodyConfig {}: NobodyConfig, _: &mut Compile<'_>) -> Result<Self, Rejected> {
        Ok(Tokens)
    }

    fn step<H: Host>(&self, step: Step, (): &mut (), x: &mut Exchange<'_, H>) -> StepResult {
        if let (Step::Authenticate, Some(claims)) = (step, x.request.get("claims")) {
            x.facts.token = Some(std::sync::Arc::new(tollgate_core::token::Token {
                provider: "idp".into(),
                subject: None,
                client: None,
                claims: serde_json::from_slice(claims).unwrap(),
                expires: None,
            }));
        }
        Ok(())
    }
}

type WithPlans = tollgate_core::chain!(RateLimit, UsagePlan, tollgate_access::Access);

fn start<P: Policies>(config: &Value) -> Gateway<P> {
    Gateway::start(config).unwrap_or_else(|errors| panic!("{errors}"))
}

fn gateway(limits: Value) -> Gateway<Alone> {
    start(&json!({ "rate_limit": limits, "nobody": {} }))
}

/// The same configuration on another worker of the process.
fn another_worker<P: Policies, Q: Policies>(first: &Gateway<Q>, config: &Value) -> Gateway<P> {
    Gateway::on(first.host.process.worker(), config).unwrap_or_else(|errors| panic!("{errors}"))
}

fn apis() -> Value {
    json!([
        { "name": "accounts-v1", "match": [{ "path": "/v1/accounts/**" }] },
        { "name": "payments-v1", "match": [{ "path": "/v1/payments/**" }] },
    ])
}

/// Limits before consumers `acme` and `bolt` on the plan `gold` and `cent` on `bronze`, whose keys
/// are their names.
fn with_plans(limits: Value, gold: Value) -> Value {
    let consumer = |id: &str, plan: &str| {
        let digest = Sha256::digest(id.as_bytes());
        let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "id": id, "plan": plan, "keys": [{ "sha256": sha256 }] })
    };
    json!({
        "apis": apis(),
        "rate_limit": limits,
        "usage_plan": {
            "plans": { "gold": gold, "bronze": {} },
            "consumers": [
                consumer("acme", "gold"),
                consumer("bolt", "gold"),
                consumer("cent", "bronze"),
            ],
        },
    })
}

fn caller(key: &str) -> Request {
    Request::get("/v1/accounts").header("x-api-key", key)
}

fn set_address<P: Policies>(gateway: &Gateway<P>, address: &str) {
    let address: IpAddr = address.parse().unwrap();
    gateway.host.client_address.set(Some(address));
}

fn from<P: Policies>(gateway: &Gateway<P>, address: &str) -> Reply {
    set_address(gateway, address);
    gateway.send(Request::get("/"))
}

fn statuses<P: Policies>(gateway: &Gateway<P>, request: &Request, count: usize) -> Vec<u16> {
    let send = || gateway.send(request.clone()).status;
    std::iter::repeat_with(send).take(count).collect()
}

fn pass<P: Policies>(gateway: &Gateway<P>, seconds: f64) {
    gateway.clock().advance(Duration::from_secs_f64(seconds));
}

fn step_back<P: Policies>(gateway: &Gateway<P>, seconds: u64) {
    let then = gateway.clock().now().as_nanos() - seconds * 1_000_000_000;
    gateway.clock().set(Timestamp::from_nanos(then));
}

/// What `RateLimit` says is left of a limit; `None` where it does not tell of it.
fn left(reply: &Reply, limit: &str) -> Option<u64> {
    let field = reply.header("ratelimit")?;
    let item = format!("\"{limit}\";r=");
    let (_, behind) = field.split_once(&item)?;
    behind.split(';').next()?.parse().ok()
}

fn retry_after(reply: &Reply) -> u64 {
    reply.header("retry-after").unwrap().parse().unwrap()
}

fn violated(reply: &Reply) -> Vec<String> {
    let problem = reply.problem();
    let names = problem["violated-policies"].as_array().unwrap();
    names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// How often a limit has decided so.
fn decided<P: Policies>(gateway: &Gateway<P>, limit: &str, decision: &str) -> u64 {
    let name = format!("limit=.={limit};.;decision=.={decision};.;tollgate_limit_requests_total");
    counter(gateway, &name)
}

fn counter<P: Policies>(gateway: &Gateway<P>, name: &str) -> u64 {
    let counters = gateway.host.process.counters();
    counters.get(name).copied().unwrap_or_default()
}
