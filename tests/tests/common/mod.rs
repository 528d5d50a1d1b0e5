//! What several tests set up in the same way.
#![allow(dead_code, reason = "each test binary uses some of it")]

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tollgate_tests::{EchoUpstream, Envoy, EnvoyBuilder, plugin, wasm_filter};

/// The SHA-256 of a key, in hexadecimal digits.
pub(crate) fn sha256(key: &str) -> String {
    Sha256::digest(key.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A document for the full plugin: the APIs `accounts` and `payments`, request ids, and the
/// consumer `acme`, with the key `acme-key`, on the plan `gold`.
pub(crate) fn config(gold: Value) -> Value {
    json!({
        "apis": [
            { "name": "accounts", "match": [{ "path": "/accounts/**" }] },
            { "name": "payments", "match": [{ "path": "/payments/**" }] },
        ],
        "request_id": {},
        "usage_plan": {
            "plans": { "gold": gold },
            "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256("acme-key") }] }],
        },
    })
}

/// An Envoy with the full plugin in front of an upstream.
pub(crate) fn gateway(upstream: &EchoUpstream, document: Value) -> EnvoyBuilder {
    let filter = wasm_filter("tollgate", plugin("tollgate"), document);
    Envoy::builder().upstream(upstream).filter(filter)
}
