//! What a plain scalar means, which differs from one reader of YAML to the next.

use granit_parser::ScalarStyle;
use serde_json::{Number, Value as Json};
use tollgate_core::config::{ConfigErrors, key_path};

use super::{Node, Scalar, Value};

/// Who reads the YAML before the plugin gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Envoy, by yaml-cpp, into a protobuf Struct. `yes`, `y` and `on` are true. A whole number that
    /// fits into 32 bits is a number; any other number is left as text.
    Envoy,
    /// Kubernetes, by YAML 1.1 as in Go, then as JSON. `yes` and `on` are true.
    Kubernetes,
    /// JSON, in which scalars are what they look like.
    Json,
}

/// Which numbers the plugin gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Doubles, as a protobuf Struct holds them.
    Doubles,
    /// What is written, as JSON text holds it.
    AsWritten,
}

/// How a section reaches the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Who reads it.
    pub dialect: Dialect,
    /// What becomes of its numbers.
    pub numbers: Numbers,
}

impl Reading {
    /// A `google.protobuf.Struct` in Envoy's YAML, and what stands for one.
    pub const ENVOY: Reading = Reading {
        dialect: Dialect::Envoy,
        numbers: Numbers::Doubles,
    };

    /// Turns a node into JSON as the plugin gets it. What no reader would take is recorded.
    pub fn json(self, node: &Node, path: &str, errors: &mut ConfigErrors) -> Json {
        match &node.value {
            Value::Scalar(scalar) => self.scalar(scalar),
            Value::List(items) => {
                let items = items.iter().enumerate();
                let json = |(index, item)| self.json(item, &format!("{path}[{index}]"), errors);
                Json::Array(items.map(json).collect())
            }
            Value::Map(entries) => {
                let mut object = serde_json::Map::new();
                for (key, value) in entries {
                    let Some(name) = key.text() else {
                        errors.add(path, "a key is a list or a mapping, expected text");
                        continue;
                    };
                    let path = key_path(path, name);
                    if name == "<<" {
                        errors.add(
                            path.as_str(),
                            "merge keys are not followed: write the fields out",
                        );
                        continue;
                    }
                    let json = self.json(value, &path, errors);
                    if object.insert(name.to_owned(), json).is_some() {
                        errors.add(path, "the key is there twice: remove one of them");
                    }
                }
                Json::Object(object)
            }
        }
    }

    fn scalar(self, scalar: &Scalar) -> Json {
        let text = scalar.text.as_str();
        if scalar.style != ScalarStyle::Plain || scalar.is_text {
            return Json::from(text);
        }
        if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Json::Null;
        }
        if let Some(truth) = truth(text, self.dialect) {
            return Json::from(truth);
        }
        let number = match self.dialect {
            Dialect::Envoy => return envoys_number(text),
            Dialect::Kubernetes => kubernetes_number(text),
            Dialect::Json => serde_json::from_str::<Number>(text).ok(),
        };
        match (number, self.numbers) {
            (None, _) => Json::from(text),
            (Some(number), Numbers::AsWritten) => Json::Number(number),
            (Some(number), Numbers::Doubles) => number
                .as_f64()
                .and_then(Number::from_f64)
                .map_or(Json::Null, Json::Number),
        }
    }
}

fn truth(text: &str, dialect: Dialect) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let capitalised = |text: &str| {
        let mut bytes = text.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_uppercase())
            && bytes.all(|byte| byte.is_ascii_lowercase())
    };
    let is_usual = text == lower || text == text.to_ascii_uppercase() || capitalised(text);
    let is_json = dialect == Dialect::Json;
    match lower.as_str() {
        _ if !is_usual || is_json && text != lower => None,
        "true" => Some(true),
        "false" => Some(false),
        "y" | "yes" | "on" if !is_json => Some(true),
        "n" | "no" | "off" if !is_json => Some(false),
        _ => None,
    }
}

/// A whole number of 32 bits, written in decimal, hexadecimal or octal; all else is text.
fn envoys_number(text: &str) -> Json {
    match integer(text, |digits| match digits.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => Some((octal, 8)),
        _ => None,
    }) {
        Some(number) if i32::try_from(number).is_ok() => Json::from(number as f64),
        Some(number) => Json::from(number.to_string()),
        None => Json::from(text),
    }
}

fn kubernetes_number(text: &str) -> Option<Number> {
    let plain = text.replace('_', "");
    let with_prefix = |digits: &str| -> Option<(String, u32)> {
        let prefixes = [("0b", 2), ("0o", 8), ("0", 8)];
        prefixes.iter().find_map(|(prefix, radix)| {
            let rest = digits.strip_prefix(prefix).filter(|rest| !rest.is_empty());
            rest.map(|rest| (rest.to_owned(), *radix))
        })
    };
    let whole = integer(&plain, |digits| {
        with_prefix(digits).map(|(rest, radix)| {
            let start = digits.len().saturating_sub(rest.len());
            (digits.get(start..).unwrap_or_default(), radix)
        })
    });
    if let Some(whole) = whole {
        return Some(Number::from(whole));
    }
    if let Ok(whole) = plain.parse::<u64>() {
        return Some(Number::from(whole));
    }
    let is_number = plain.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && plain
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    plain
        .parse::<f64>()
        .ok()
        .filter(|_| is_number)
        .and_then(Number::from_f64)
}

/// A whole number of 64 bits with a sign; `prefixed` takes a prefix other than `0x` off.
fn integer(text: &str, prefixed: impl FnOnce(&str) -> Option<(&str, u32)>) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let hexadecimal = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None => prefixed(digits).unwrap_or((digits, 10)),
    };
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(dialect: Dialect, numbers: Numbers, text: &str) -> Json {
        let node = super::super::parse(text).unwrap().remove(0);
        let mut errors = ConfigErrors::default();
        let json = Reading { dialect, numbers }.json(&node, "", &mut errors);
        assert!(errors.is_empty(), "{errors}");
        json
    }

    #[test]
    fn scalars_are_what_envoy_takes_them_for() {
        for (text, expected) in [
            ("10", json!(10.0)),
            ("0x10", json!(16.0)),
            ("010", json!(8.0)),
            ("08", json!("08")),
            ("-5", json!(-5.0)),
            ("2147483647", json!(2_147_483_647.0)),
            ("2147483648", json!("2147483648")),
            ("1.5", json!("1.5")),
            ("1e3", json!("1e3")),
            ("1_000", json!("1_000")),
            ("on", json!(true)),
            ("No", json!(false)),
            ("y", json!(true)),
            ("yEs", json!("yEs")),
            ("~", json!(null)),
            ("'on'", json!("on")),
            ("\"7\"", json!("7")),
            ("!!str 7", json!("7")),
            ("10/s", json!("10/s")),
            ("2027-06-30T00:00:00Z", json!("2027-06-30T00:00:00Z")),
        ] {
            assert_eq!(
                read(Dialect::Envoy, Numbers::Doubles, text),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn kubernetes_has_all_numbers() {
        let read = |text| read(Dialect::Kubernetes, Numbers::AsWritten, text);
        for (text, expected) in [
            ("10000000000", json!(10_000_000_000_u64)),
            ("1_000", json!(1000)),
            ("0o17", json!(15)),
            ("017", json!(15)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("1h30m", json!("1h30m")),
            ("on", json!(true)),
            ("-x", json!("-x")),
            ("e5", json!("e5")),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn json_is_what_it_looks_like() {
        let text = r#"{"a": true, "b": 1.5, "c": "on", "d": 10000000000, "e": null}"#;
        assert_eq!(
            read(Dialect::Json, Numbers::AsWritten, text),
            serde_json::from_str::<Json>(text).unwrap()
        );
    }

    #[test]
    fn keys_that_are_there_twice_are_mistakes() {
        let node = super::super::parse("a: {b: 1, b: 2}\n<<: {}\n[x]: 1")
            .unwrap()
            .remove(0);
        let mut errors = ConfigErrors::default();
        Reading::ENVOY.json(&node, "", &mut errors);
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["a.b", "[\"<<\"]", ""]);
    }
}
