//! The two encodings that tokens and keys are made of: base64url and JSON objects, both in the one
//! form that no two readers can take differently.

use std::cell::Cell;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// How deep objects and arrays may be nested, the outermost object included.
pub const MAX_DEPTH: usize = 32;

/// Decodes base64url as RFC 7515 section 2 defines it: without padding, white space or other
/// characters, and with the unused bits of the last character zero, so that every byte string has
/// exactly one form.
pub(crate) fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The text is not one JSON object that every reader understands alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidObject {
    /// It is not JSON in UTF-8, or has a number beyond the range of a double.
    Syntax,
    /// An object at any depth has a member twice: readers disagree about which one counts
    /// (RFC 8259 section 4, RFC 7515 section 4).
    RepeatedMember,
    /// It is nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// It is some other JSON value.
    NotAnObject,
}

/// Reads one object.
pub(crate) fn object(text: &[u8]) -> Result<Map<String, Value>, InvalidObject> {
    let fault = Cell::new(InvalidObject::Syntax);
    let strict = Strict {
        levels: MAX_DEPTH,
        fault: &fault,
    };
    // Once for all of it, which is cheaper than for each piece of text in it.
    let text = str::from_utf8(text).map_err(|_| InvalidObject::Syntax)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let value = strict
        .deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value));
    match value {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(InvalidObject::NotAnObject),
        Err(_) => Err(fault.get()),
    }
}

/// Reads a value of which at most `levels` objects and arrays contain one another.
#[derive(Clone, Copy)]
struct Strict<'a> {
    levels: usize,
    /// What an error of the reader means, as its own type can't tell.
    fault: &'a Cell<InvalidObject>,
}

impl Strict<'_> {
    fn fail<E: Error>(self, fault: InvalidObject) -> E {
        self.fault.set(fault);
        E::custom("refused")
    }

    fn one_level_down<E: Error>(self) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Strict { levels, ..self }),
            None => Err(self.fail(InvalidObject::TooDeep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        match Number::from_f64(value) {
            Some(number) => Ok(Value::Number(number)),
            None => Err(self.fail(InvalidObject::Syntax)),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.one_level_down()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.one_level_down()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            match object.entry(name) {
                Entry::Vacant(place) => {
                    place.insert(members.next_value_seed(inner)?);
                }
                Entry::Occupied(_) => return Err(self.fail(InvalidObject::RepeatedMember)),
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn base64url_has_one_form() {
        assert_eq!(base64url(b"AQAB"), Some(vec![1, 0, 1]));
        assert_eq!(base64url(b"_-8"), Some(vec![0xff, 0xef]));
        for bad in [
            "AQ==", "AQ=", "AR", "AQB", "A", "AQ AB", "AQAB\n", " AQAB", "A+AB", "A/AB", "AQ\0B",
            "AQ\u{e9}", "AQ.B",
        ] {
            assert_eq!(base64url(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn objects_are_read_or_refused_for_a_reason() {
        let nested = |levels: usize| {
            let lists = levels - 1;
            format!(r#"{{"a":{}{}}}"#, "[".repeat(lists), "]".repeat(lists))
        };
        for good in [
            "{}",
            " {\"a\": 1.5e3, \"b\": [null, true, {}], \"c\": \"\\u00e9\"}\n",
            r#"{"a":{"b":1},"b":{"b":1}}"#,
            &nested(MAX_DEPTH),
        ] {
            assert_eq!(
                object(good.as_bytes()).map(Value::Object).ok(),
                serde_json::from_str(good).ok()
            );
        }
        for (bad, fault) in [
            ("", InvalidObject::Syntax),
            ("{", InvalidObject::Syntax),
            ("{} {}", InvalidObject::Syntax),
            ("{\"a\":1,}", InvalidObject::Syntax),
            ("{'a':1}", InvalidObject::Syntax),
            ("{\"a\":NaN}", InvalidObject::Syntax),
            ("{\"a\":1e400}", InvalidObject::Syntax),
            ("{\"a\":\"\\ud800\"}", InvalidObject::Syntax),
            ("\u{feff}{}", InvalidObject::Syntax),
            ("[]", InvalidObject::NotAnObject),
            ("\"{}\"", InvalidObject::NotAnObject),
            ("null", InvalidObject::NotAnObject),
            (r#"{"a":1,"a":1}"#, InvalidObject::RepeatedMember),
            (r#"{"a":1,"\u0061":2}"#, InvalidObject::RepeatedMember),
            (r#"{"a":[{"b":1,"b":2}]}"#, InvalidObject::RepeatedMember),
            (&nested(MAX_DEPTH + 1), InvalidObject::TooDeep),
            (&nested(100_000), InvalidObject::TooDeep),
        ] {
            assert_eq!(object(bad.as_bytes()), Err(fault), "{bad:.40}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(InvalidObject::Syntax));
    }
}
