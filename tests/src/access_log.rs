//! The access log: one JSON object for each request.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One request in the access log.
#[derive(Clone, Debug, Deserialize)]
pub struct AccessLogEntry {
    /// When its first byte came, in ns since 1970.
    #[serde(deserialize_with = "number_in_text")]
    pub start_ns: u64,
    /// Its method.
    pub method: Option<String>,
    /// Its path as the client sent it.
    pub path: Option<String>,
    /// The status of the reply; 0 if the client left before there was one.
    pub status: u16,
    /// `%RESPONSE_CODE_DETAILS%`: who made the reply, and why.
    pub details: Option<String>,
    /// `%RESPONSE_FLAGS%`, such as `NR` or `UF`.
    pub flags: Option<String>,
    /// `x-request-id` of the request as it went to the upstream.
    pub request_id: Option<String>,
    /// Filter state `wasm.tollgate_consumer`, and likewise below.
    pub consumer: Option<String>,
    /// The consumer's plan.
    pub plan: Option<String>,
    /// The API.
    pub api: Option<String>,
    /// What was decided.
    pub decision: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Fields that the test has added.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The entries in the text of a log; a last line that is still being written is left out.
pub(crate) fn parse(text: &str) -> Vec<AccessLogEntry> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let entries = whole.lines().map(|line| {
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("no entry of the access log ({error}): {line}"))
    });
    entries.collect()
}

/// The log's configuration.
pub(crate) fn to_json(path: &Path, extra: &BTreeMap<String, String>) -> Value {
    let mut format = json!({
        "start_ns": "%START_TIME(%s%9f)%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "request_id": "%REQ(X-REQUEST-ID)%",
    });
    for name in ["consumer", "plan", "api", "decision", "reason"] {
        format[name] = format!("%FILTER_STATE(wasm.tollgate_{name}:PLAIN)%").into();
    }
    for (name, value) in extra {
        format[name] = value.as_str().into();
    }
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": { "json_format": format },
        },
    })
}

fn number_in_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
