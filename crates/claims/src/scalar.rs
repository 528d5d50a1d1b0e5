//! Single values: texts, numbers, booleans.

use std::borrow::Cow;
use std::fmt;

use deserr::{Deserr, IntoValue, Value as ConfigValue, ValuePointerRef};
use serde_json::{Number, Value};
use tollgate_core::config::{ConfigErrors, display_path};

/// The longest text of a claim that becomes part of a key, in bytes.
pub const LONGEST_KEY_TEXT: usize = 1024;

/// A configured value that claims are compared with: a text, a number, true or false.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar(Repr);

#[derive(Clone, Debug, PartialEq)]
enum Repr {
    Text(Box<str>),
    Number(Exact),
    Boolean(bool),
}

impl Scalar {
    /// Whether a claim has this type and this value. The numbers 1 and 1.0 are equal; 1 and the text
    /// `1` are not. Texts are equal byte by byte.
    pub fn equals(&self, claim: &Value) -> bool {
        match (&self.0, claim) {
            (Repr::Text(wanted), Value::String(found)) => **wanted == **found,
            (Repr::Number(wanted), Value::Number(found)) => Exact::of(found) == Some(*wanted),
            (Repr::Boolean(wanted), Value::Bool(found)) => wanted == found,
            _ => false,
        }
    }
}

impl Deserr<ConfigErrors> for Scalar {
    fn deserialize_from_value<V: IntoValue>(
        value: ConfigValue<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        let repr = match value {
            ConfigValue::String(text) => Ok(Repr::Text(text.into())),
            ConfigValue::Boolean(value) => Ok(Repr::Boolean(value)),
            ConfigValue::Integer(value) => Ok(Repr::Number(Exact::Integer(value.into()))),
            ConfigValue::NegativeInteger(value) => Ok(Repr::Number(Exact::Integer(value.into()))),
            ConfigValue::Float(value) => Exact::of_double(value).map(Repr::Number).ok_or(
                "found a number too large to be exact, so that no claim would equal it for sure: \
                 let the issuer give it as text",
            ),
            ConfigValue::Null | ConfigValue::Sequence(_) | ConfigValue::Map(_) => {
                Err("expected a single value: text, a number, true or false")
            }
        };
        repr.map(Scalar).map_err(|message| {
            let mut errors = ConfigErrors::default();
            errors.add(display_path(location), message);
            errors
        })
    }
}

/// A number that is known exactly, each in one form: `1.0` and `-0.0` are the integers 1 and 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Exact {
    Integer(i128),
    /// A double that is no integer.
    Fraction(f64),
}

/// The largest integer that no other integer is rounded to when it is read as a double: 2^53 − 1.
const LARGEST_EXACT_DOUBLE: f64 = 9_007_199_254_740_991.0;

impl Exact {
    /// `None` if the number is a double so large that several integers are read as it.
    pub(crate) fn of(number: &Number) -> Option<Self> {
        number
            .as_i128()
            .map(Exact::Integer)
            .or_else(|| Exact::of_double(number.as_f64()?))
    }

    /// `None` if the double is so large that several integers are read as it, or infinite or NaN.
    pub(crate) fn of_double(double: f64) -> Option<Self> {
        if !double.is_finite() || double.abs() > LARGEST_EXACT_DOUBLE {
            None
        } else if double.fract() == 0.0 {
            // Exact: it is an integer below 2^53.
            Some(Exact::Integer(double as i128))
        } else {
            Some(Exact::Fraction(double))
        }
    }
}

impl fmt::Display for Exact {
    /// Writes the number as JSON text, an integer without exponent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exact::Integer(integer) => write!(f, "{integer}"),
            // `Debug` writes small fractions with an exponent instead of hundreds of zeros.
            Exact::Fraction(double) => write!(f, "{double:?}"),
        }
    }
}

/// The text of a claim for use as part of a key that tells clients apart: a text as it is, numbers
/// and booleans as JSON text.
///
/// `None` for null, lists and objects, for numbers that are not known exactly, and for texts longer
/// than [`LONGEST_KEY_TEXT`]. The number 1 and the text `1` make the same key.
pub fn key_text(claim: &Value) -> Option<Cow<'_, [u8]>> {
    match claim {
        Value::String(text) => {
            (text.len() <= LONGEST_KEY_TEXT).then_some(Cow::Borrowed(text.as_bytes()))
        }
        Value::Number(number) => {
            let text = Exact::of(number)?.to_string();
            Some(Cow::Owned(text.into_bytes()))
        }
        Value::Bool(true) => Some(Cow::Borrowed(b"true")),
        Value::Bool(false) => Some(Cow::Borrowed(b"false")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::testing::{mistakes, read};

    fn number(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn values_are_equal_by_type_and_value() {
        for (configured, claim, equal) in [
            (json!("1"), json!("1"), true),
            (json!("1"), json!(1), false),
            (json!(1), json!("1"), false),
            (json!("a"), json!("A"), false),
            (json!(1), number("1.0"), true),
            (number("1.0"), json!(1), true),
            (json!(100), number("1e2"), true),
            (json!(0), number("-0.0"), true),
            (json!(-3), number("-3.0"), true),
            (json!(0.5), number("5e-1"), true),
            (json!(0.5), json!(1), false),
            (json!(u64::MAX), json!(u64::MAX), true),
            (json!(i64::MIN), json!(i64::MIN), true),
            (json!(-1), json!(u64::MAX), false),
            // Both are read as the same double.
            (
                json!(9007199254740992_u64),
                number("9007199254740993.0"),
                false,
            ),
            (json!(true), json!(true), true),
            (json!(true), json!("true"), false),
            (json!(true), json!(1), false),
            (json!(""), json!(null), false),
            (json!(0), json!(null), false),
            (json!("a"), json!(["a"]), false),
        ] {
            let scalar: Scalar = read(configured.clone()).unwrap();
            assert_eq!(scalar.equals(&claim), equal, "{configured} {claim}");
        }
    }

    #[test]
    fn only_single_exact_values_can_be_configured() {
        for (value, expected) in [
            (json!(null), "here: expected a single value"),
            (json!([1]), "here: expected a single value"),
            (json!({}), "here: expected a single value"),
            (
                number("18446744073709551616"),
                "here: found a number too large",
            ),
            (number("1e300"), "here: found a number too large"),
        ] {
            let found = mistakes::<Scalar>(value.clone());
            assert!(found.starts_with(expected), "{value}: {found}");
        }
    }

    #[test]
    fn a_key_is_made_of_single_values_only() {
        for (claim, expected) in [
            (json!("alice"), Some("alice")),
            (json!("ålice\n"), Some("ålice\n")),
            (json!(""), Some("")),
            (json!(42), Some("42")),
            (number("4.2e1"), Some("42")),
            (number("-0.0"), Some("0")),
            (number("0.25"), Some("0.25")),
            (number("1e-300"), Some("1e-300")),
            (number("18446744073709551615"), Some("18446744073709551615")),
            (number("18446744073709551616"), None),
            (number("1e15"), Some("1000000000000000")),
            (number("1e16"), None),
            (json!(true), Some("true")),
            (json!(false), Some("false")),
            (json!(null), None),
            (json!(["alice"]), None),
            (json!({ "sub": "alice" }), None),
            (json!("a".repeat(LONGEST_KEY_TEXT + 1)), None),
        ] {
            let found = key_text(&claim);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{claim}");
        }
        assert!(key_text(&json!("a".repeat(LONGEST_KEY_TEXT))).is_some());
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_written_as_json_that_is_the_same_number(double in any::<f64>(), integer in any::<i64>()) {
            for exact in [Exact::of_double(double), Some(Exact::Integer(integer.into()))] {
                let Some(exact) = exact else { continue };
                let text = exact.to_string();
                prop_assert!(serde_json::from_str::<Number>(&text).is_ok(), "{}", text);
                // serde_json itself may read the nearest double but one.
                let read = match exact {
                    Exact::Integer(_) => text.parse().map(Exact::Integer).ok(),
                    Exact::Fraction(_) => text.parse().ok().and_then(Exact::of_double),
                };
                prop_assert_eq!(read, Some(exact), "{}", text);
                prop_assert!(text.len() <= 25, "{}", text);
            }
        }
    }
}
