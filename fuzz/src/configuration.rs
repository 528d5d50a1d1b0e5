//! Documents, as JSON text and as a Struct on the wire, at once and by pieces.

use std::cell::Cell;

use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;
use tollgate_core::chain::{Chain, Outcome, Verdict};
use tollgate_core::config::{ConfigErrors, Text};
use tollgate_core::headers::Headers;
use tollgate_testkit::{Clock, MemoryHost, Process};

use crate::setup::{Full, START};

/// Any bytes are a document or none: what is refused is refused with words for each mistake, what is
/// taken serves requests, and both the same in either form, and by pieces of any size.
pub fn check(bytes: &[u8]) {
    let outcomes = check_form(bytes);
    if let Some(wire) = to_wire(bytes) {
        assert_eq!(check_form(&wire), outcomes);
    }
}

/// What becomes of requests, or the mistakes.
type Outcomes = Result<Vec<Outcome>, String>;

fn check_form(document: &[u8]) -> Outcomes {
    let outcomes = try_out(|host| Chain::configure(PLUGIN, document, host));
    // With any byte that changes, all pieces do.
    let chance = document
        .iter()
        .map(|byte| usize::from(*byte))
        .sum::<usize>();
    let pieces = Pieces {
        document,
        size: 1 + chance % LONGEST_PIECE,
        left: usize::MAX.into(),
    };
    let by_pieces = try_out(|host| Chain::configure_from(PLUGIN, &pieces, host));
    assert_eq!(by_pieces, outcomes);
    // Where the host fails on the way, what it handed over is not taken for all of the document.
    let asked = usize::MAX - pieces.left.get();
    pieces.left.set(chance % (asked + 1));
    let by_some = try_out(|host| Chain::configure_from(PLUGIN, &pieces, host));
    assert!(by_some.is_err() || by_some == outcomes);
    outcomes
}

const PLUGIN: &str = "tollgate.wasm";

/// Long ones are as good as all of a document.
const LONGEST_PIECE: usize = 100;

/// A document that is handed over by pieces.
struct Pieces<'a> {
    document: &'a [u8],
    size: usize,
    /// How many of them before the host fails.
    left: Cell<usize>,
}

impl Text for Pieces<'_> {
    fn size(&self) -> usize {
        self.document.len()
    }

    fn piece(&self, start: usize, most: usize) -> Option<Vec<u8>> {
        assert!((1..=self.size).contains(&most));
        self.left.set(self.left.get().checked_sub(1)?);
        Some(self.document[start..start + most].to_vec())
    }

    fn piece_size(&self) -> usize {
        self.size
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

fn try_out(configure: impl FnOnce(&MemoryHost) -> Result<Chain<Full>, ConfigErrors>) -> Outcomes {
    let host = host();
    match configure(&host) {
        Ok(chain) => Ok(serve(&chain, &host)),
        Err(errors) => {
            explained(&errors);
            Err(errors.to_string())
        }
    }
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

/// What becomes of requests that need not wait.
fn serve(chain: &Chain<Full>, host: &MemoryHost) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
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
                outcomes.push(judged.outcome);
            }
            Verdict::Waiting(waiting) => chain.on_abandoned(host, *waiting),
        }
    }
    chain.on_tick(host);
    outcomes
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
