//! Quantities as people write them in a configuration: durations, rates, sizes.
//!
//! Each has one parser and one canonical spelling, which the parser reads back. A number without a
//! unit is refused with the spelling to use instead, whether it is written as text or as a number.

mod duration;
mod rate;
mod size;

use std::fmt;
use std::str::FromStr;

use deserr::{DeserializeError, IntoValue, Value, ValuePointerRef};

pub use duration::{InvalidSpan, Span};
pub use rate::{InvalidRate, Rate};
pub use size::{InvalidSize, Size};

/// Implements `Deserr` for a quantity by its `FromStr`, for bare numbers too.
macro_rules! deserr_quantity {
    ($type:ty) => {
        impl<E: ::deserr::DeserializeError> ::deserr::Deserr<E> for $type {
            fn deserialize_from_value<V: ::deserr::IntoValue>(
                value: ::deserr::Value<V>,
                location: ::deserr::ValuePointerRef<'_>,
            ) -> Result<Self, E> {
                $crate::units::read_quantity(value, location)
            }
        }
    };
}
use deserr_quantity;

/// Reads a quantity. A number goes through the parser like the text of it, for it is the parser
/// that knows which unit to propose.
fn read_quantity<T, E, V>(value: Value<V>, location: ValuePointerRef<'_>) -> Result<T, E>
where
    T: FromStr<Err: fmt::Display>,
    E: DeserializeError,
    V: IntoValue,
{
    let value = match value {
        Value::Integer(number) => Value::String(number.to_string()),
        Value::NegativeInteger(number) => Value::String(number.to_string()),
        Value::Float(number) => Value::String(number.to_string()),
        other => other,
    };
    crate::config::parse_text(value, location, |text| {
        text.parse().map_err(|error: T::Err| error.to_string())
    })
}

/// Takes the decimal digits off the front of `text`: the number, unless it is above `u64::MAX`,
/// and what follows. Nothing if `text` does not begin with a digit.
fn take_number(text: &str) -> Option<(Option<u64>, &str)> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(rest)?;
    (!digits.is_empty()).then(|| (digits.parse().ok(), rest))
}

/// Takes the letters off the front of `text`: the unit, perhaps empty, and what follows.
fn take_word(text: &str) -> (&str, &str) {
    let rest = text.trim_start_matches(|c: char| c.is_alphabetic());
    (text.strip_suffix(rest).unwrap_or_default(), rest)
}

#[cfg(test)]
mod tests {
    use deserr::Deserr;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::config::{ConfigErrors, Document};

    #[derive(Debug, Deserr)]
    #[deserr(error = ConfigErrors, deny_unknown_fields)]
    struct Section {
        refresh: Span,
        rate: Rate,
        memory: Size,
    }

    fn read(text: &str) -> Result<Section, String> {
        let mut errors = ConfigErrors::default();
        let mut document = Document::parse(text.as_bytes()).unwrap();
        let section = document.take::<Section>("s", &mut errors);
        section.map(Option::unwrap).map_err(|_| errors.to_string())
    }

    #[test]
    fn quantities_are_read_from_text() {
        let section =
            read(r#"{"s": {"refresh": "5m", "rate": "100/s", "memory": "64KiB"}}"#).unwrap();
        assert_eq!(section.refresh.to_string(), "5m");
        assert_eq!(section.rate.to_string(), "100/s");
        assert_eq!(section.memory.to_string(), "64KiB");
    }

    #[test]
    fn a_bare_number_is_refused_with_the_spelling_to_use() {
        let errors = read(r#"{"s": {"refresh": 300, "rate": 1e2, "memory": 512}}"#).unwrap_err();
        for expected in [
            "s.refresh: the duration \"300\" has no unit, write \"300s\"",
            "s.rate: the rate \"100\" has no period, write \"100/s\"",
            "s.memory: the size \"512\" has no unit, write \"512B\"",
        ] {
            assert!(errors.contains(expected), "{expected}\nnot in\n{errors}");
        }
        let errors = read(r#"{"s": {"refresh": -1, "rate": true, "memory": 1.5}}"#).unwrap_err();
        assert!(
            errors.contains("s.refresh: \"-1\" is not a duration"),
            "{errors}"
        );
        assert!(
            errors.contains("s.rate: found true, expected text"),
            "{errors}"
        );
        assert!(
            errors.contains("s.memory: \"1.5\" is not a whole number"),
            "{errors}"
        );
    }
}
