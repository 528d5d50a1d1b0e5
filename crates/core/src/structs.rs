//! `google.protobuf.Struct` in its wire form, turned into JSON.

use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde_json::{Number, Value as Json};

/// Reads a serialised Struct; `None` if it is none. Its depth is bounded by the decoder.
pub(crate) fn from_wire(bytes: &[u8]) -> Option<Json> {
    Struct::decode(bytes).ok().map(object)
}

fn object(fields: Struct) -> Json {
    Json::Object(
        fields
            .fields
            .into_iter()
            .map(|(name, value)| (name, json(value)))
            .collect(),
    )
}

fn json(value: Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(value),
        // JSON has neither infinities nor NaN; as null they are refused where a number is expected.
        Some(Kind::NumberValue(value)) => Number::from_f64(value).map_or(Json::Null, Json::Number),
        Some(Kind::StringValue(value)) => Json::String(value),
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(fields)) => object(fields),
    }
}

/// Writes JSON the way Envoy serialises a Struct.
#[cfg(test)]
pub(crate) fn to_wire(json: &Json) -> Vec<u8> {
    match value(json).kind {
        Some(Kind::StructValue(fields)) => fields.encode_to_vec(),
        _ => panic!("expected an object"),
    }
}

#[cfg(test)]
fn value(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(prost_types::ListValue {
            values: items.iter().map(value).collect(),
        }),
        Json::Object(fields) => Kind::StructValue(Struct {
            fields: fields
                .iter()
                .map(|(name, json)| (name.clone(), value(json)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_struct_is_read_as_the_json_it_was_written_as() {
        let document = json!({ "a": [1.0, "x", true, null, { "b": {} }], "c": { "d": -2.5 } });
        assert_eq!(from_wire(&to_wire(&document)), Some(document));
        assert_eq!(from_wire(b""), Some(json!({})));
        assert_eq!(from_wire(b"{\"a\": 1}"), None);
    }

    #[test]
    fn what_json_has_no_number_for_is_null() {
        let fields = [(
            "a".to_owned(),
            Value {
                kind: Some(Kind::NumberValue(f64::NAN)),
            },
        )];
        let wire = Struct {
            fields: fields.into_iter().collect(),
        }
        .encode_to_vec();
        assert_eq!(from_wire(&wire), Some(json!({ "a": null })));
    }

    #[test]
    fn a_struct_nested_without_end_is_refused() {
        let mut document = json!({});
        for _ in 0..200 {
            document = json!({ "a": document });
        }
        assert_eq!(from_wire(&to_wire(&document)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_wire(&bytes);
        }
    }
}
