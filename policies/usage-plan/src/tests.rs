mod admission;
mod configuration;
mod gauges;
mod limits;
mod store;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tollgate_testkit::{Gateway, Reply, Request};

use super::*;

type Plugin = Gateway<tollgate_core::chain!(UsagePlan, tollgate_access::Access)>;

fn sha256(key: &str) -> String {
    Sha256::digest(key.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn key(key: &str) -> Value {
    json!({ "sha256": sha256(key) })
}

fn apis() -> Value {
    json!([
        { "name": "accounts-v1", "match": [{ "path": "/v1/accounts/**" }] },
        { "name": "payments-v1", "match": [{ "path": "/v1/payments/**" }] },
        { "name": "status", "match": [{ "path": "/status" }] },
    ])
}

/// A consumer `acme` with the key `acme-key` on the plan `gold`, and whatever is merged in.
fn config(plan: Value, merged: Value) -> Value {
    let mut section = json!({
        "plans": { "gold": plan },
        "consumers": [{ "id": "acme", "plan": "gold", "keys": [key("acme-key")] }],
    });
    let fields = section.as_object_mut().unwrap();
    fields.extend(merged.as_object().unwrap().clone());
    json!({ "apis": apis(), "usage_plan": section })
}

fn gateway(plan: Value) -> Plugin {
    start(&config(plan, json!({})))
}

fn start(config: &Value) -> Plugin {
    Plugin::start(config).unwrap_or_else(|errors| panic!("{errors}"))
}

fn acme(path: &str) -> Request {
    Request::get(path).header("x-api-key", "acme-key")
}

fn call(gateway: &Plugin) -> Reply {
    gateway.send(acme("/v1/accounts"))
}

fn statuses(gateway: &Plugin, count: usize) -> Vec<u16> {
    (0..count).map(|_| call(gateway).status).collect()
}
