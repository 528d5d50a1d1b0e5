//! What a long document costs a plugin in memory, while it is read and afterwards. WebAssembly's
//! memory never shrinks, so what counts is the most that is held at any time.

use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;
use tollgate_instructions::Plugin;
use tollgate_instructions::document::with_keys;
use tollgate_instructions::held::{Held, Watched};
use tollgate_plugins::Tollgate;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// 2026-11-20T12:00:00Z.
const START: u64 = 1_795_176_000;

const CONSUMERS: usize = 20_000;

/// How many bytes a consumer with one key may take while the document is read, and afterwards. Its
/// text has 127, of which its id are 14; its digest has 32.
const MOST: u64 = 84;
const AFTER: u64 = 68;

/// What a document holds on its way to a plugin.
fn held(document: &[u8]) -> Held {
    // The host is a thread's own.
    std::thread::scope(|scope| {
        let start = || Plugin::start_with::<Tollgate>(document, START).held();
        scope.spawn(start).join().unwrap()
    })
}

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(items) => Kind::ListValue(ListValue {
            values: items.into_iter().map(value).collect(),
        }),
        Json::Object(fields) => Kind::StructValue(object(fields)),
    };
    Value { kind: Some(kind) }
}

fn object(fields: serde_json::Map<String, Json>) -> Struct {
    let fields = fields.into_iter();
    Struct {
        fields: fields.map(|(name, json)| (name, value(json))).collect(),
    }
}

fn to_text(document: Json) -> Vec<u8> {
    document.to_string().into_bytes()
}

fn to_struct(document: Json) -> Vec<u8> {
    match document {
        Json::Object(fields) => object(fields).encode_to_vec(),
        _ => panic!("expected an object"),
    }
}

#[test]
fn a_consumer_takes_what_is_kept_of_it() {
    for (form, write) in [
        ("text", to_text as fn(Json) -> Vec<u8>),
        ("Struct", to_struct),
    ] {
        let (few, many) = (write(with_keys(1)), write(with_keys(CONSUMERS)));
        let each = |bytes: u64| bytes.div_ceil(CONSUMERS as u64 - 1);
        let text = each((many.len() - few.len()) as u64);
        let (few, many) = (held(&few), held(&many));
        let most = each(many.most - few.most);
        let after = each(many.after - few.after);
        println!("{form}: {text} bytes each, {most} at most, {after} afterwards; one: {few:?}");
        assert!(most <= MOST, "{form}: {most} bytes at most");
        assert!(after <= AFTER, "{form}: {after} bytes afterwards");
    }
}
