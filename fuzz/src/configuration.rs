//! Documents, as JSON text and as a Struct on the wire.

use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;
use tollgate_core::chain::{Chain, Outcome, Verdict};
use tollgate_core::config::ConfigErrors;
use tollgate_core::headers::Headers;
use tollgate_testkit::{Clock, MemoryHost, Process};

use crate::setup::{Full, START};

/// Any bytes are a document or none: what is refused is refused with words for each mistake, what is
/// taken serves requests, and both the same in either form.
pub fn check(bytes: &[u8]) {
    let host = host();
    let taken = configure(&host, bytes);
    match &taken {
        Ok(chain) => serve(chain, &host),
        Err(errors) => explained(errors),
    }
    if let Some(wire) = to_wire(bytes) {
        let as_struct = configure(&host, &wire)
            .err()
            .map(|errors| errors.to_string());
        assert_eq!(taken.err().map(|errors| errors.to_string()), as_struct);
    }
}

fn host() -> MemoryHost {
    let host = Process::new(Clock::at(START)).worker();
    host.clusters.borrow_mut().push("idp".to_owned());
    let pepper = (
        "PEPPER".to_owned(),
        "a pepper of thirty-two letters or more".to_owned(),
    );
    host.environment.borrow_mut().extend([pepper]);
    host
}

fn configure(host: &MemoryHost, document: &[u8]) -> Result<Chain<Full>, ConfigErrors> {
    Chain::configure("tollgate.wasm", document, host)
}

fn explained(errors: &ConfigErrors) {
    assert!(!errors.is_empty());
    for error in errors.iter() {
        let text = error.to_string();
        assert!(
            !text.is_empty() && !text.contains(char::is_control),
            "{text:?}"
        );
    }
}

fn serve(chain: &Chain<Full>, host: &MemoryHost) {
    for path in ["/", "/v1/accounts/7?api_key=k", "/a;b/..%2f", "*"] {
        let headers = [
            (":method", "GET"),
            (":path", path),
            (":authority", "api.example:80"),
            ("authorization", "Bearer a.b.c"),
            ("x-api-key", "k"),
        ];
        match chain.on_request(host, Headers::from_pairs(headers)) {
            Verdict::Judged(judged) => {
                if let Outcome::Reply(reply) = &judged.outcome {
                    assert!((300..600).contains(&reply.status), "{}", reply.status);
                }
                chain.on_end(host, judged.kept);
            }
            Verdict::Waiting(waiting) => chain.on_abandoned(host, *waiting),
        }
    }
    chain.on_tick(host);
}

/// The document as Envoy hands over a Struct; `None` where the two can't be the same: other numbers,
/// or text that a Struct's reader takes for something else.
fn to_wire(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    // Members that are there twice are refused as text, and can't be twice in a Struct.
    let Json::Object(fields) = serde_json::from_str(text).ok()? else {
        return None;
    };
    if fields.is_empty() || repeats_members(text) {
        return None;
    }
    let wire = object(&fields)?.encode_to_vec();
    // What is JSON as well is read as that.
    serde_json::from_slice::<Json>(&wire)
        .is_err()
        .then_some(wire)
}

/// Whether an object may have a member twice: as many colons are in the text as it is written anew.
fn repeats_members(text: &str) -> bool {
    let again = serde_json::from_str::<Json>(text).map(|json| json.to_string());
    again.is_ok_and(|again| again.matches("\":").count() < text.matches(':').count())
}

fn object(fields: &serde_json::Map<String, Json>) -> Option<Struct> {
    let fields = fields.iter();
    let fields = fields.map(|(name, field)| Some((name.clone(), value(field)?)));
    Some(Struct {
        fields: fields.collect::<Option<_>>()?,
    })
}

fn value(json: &Json) -> Option<Value> {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => {
            let exact = number
                .as_i64()
                .is_some_and(|integer| integer.unsigned_abs() < 1 << 53);
            if !exact && !number.is_f64() {
                return None;
            }
            Kind::NumberValue(number.as_f64()?)
        }
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(value).collect::<Option<_>>()?,
        }),
        Json::Object(fields) => Kind::StructValue(object(fields)?),
    };
    Some(Value { kind: Some(kind) })
}
