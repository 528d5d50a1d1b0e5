//! The value of a claim as the value of a header.

use std::fmt::{self, Write as _};
use std::io::{self, ErrorKind};
use std::str::FromStr;

use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};
use tollgate_core::config::quote;
use tollgate_core::deserr_from_str;

use crate::scalar::Exact;

/// Why a claim is not handed on, although it is there. Nothing of its value is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedClaim {
    /// It has a control character, with which one header could become several.
    ControlCharacter,
    /// It, or an item of a list, begins or ends with white space, which readers drop.
    OuterWhitespace,
    /// An item of a list is empty or has the separator in it, so the list would be read as another.
    AmbiguousItem,
    /// An item of a list is null, a list or an object.
    NestedItem,
    /// It is an object.
    Object,
    /// It is, or has in it, a number too large to be known exactly.
    InexactNumber,
    /// It is longer than one header may be.
    TooLong,
    /// It is longer than what the headers before it have left.
    TooLongInAll,
}

impl fmt::Display for RefusedClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RefusedClaim::ControlCharacter => "has a control character",
            RefusedClaim::OuterWhitespace => "begins or ends with white space, or an item does",
            RefusedClaim::AmbiguousItem => {
                "is a list with an item that is empty or has the separator in it; choose another \
                 separator, or format: json"
            }
            RefusedClaim::NestedItem => {
                "is a list with an item that is null, a list or an object; only format: json \
                 writes these"
            }
            RefusedClaim::Object => "is an object; only format: json writes these",
            RefusedClaim::InexactNumber => "has a number too large to be known exactly",
            RefusedClaim::TooLong => "is too long for a header",
            RefusedClaim::TooLongInAll => "is too long beside the headers of other claims",
        })
    }
}

impl std::error::Error for RefusedClaim {}

/// Writes a claim as text: a text as it is, numbers and booleans as JSON, the items of a list
/// joined. `None` for null, an empty text and an empty list, with which there is nothing to say.
pub(crate) fn text(
    claim: &Value,
    separator: Separator,
    longest: usize,
) -> Option<Result<Vec<u8>, RefusedClaim>> {
    let mut text = Text {
        written: String::new(),
        longest,
    };
    let result = match claim {
        Value::Null => return None,
        Value::String(value) if value.is_empty() => return None,
        Value::Array(items) if items.is_empty() => return None,
        Value::Object(_) => Err(RefusedClaim::Object),
        Value::Array(items) => text.push_items(items, separator),
        scalar => text.push(scalar),
    };
    Some(result.map(|()| text.written.into_bytes()))
}

struct Text {
    written: String,
    longest: usize,
}

impl Text {
    fn push_items(&mut self, items: &[Value], separator: Separator) -> Result<(), RefusedClaim> {
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.push_text(separator.0.encode_utf8(&mut [0; 4]))?;
            }
            let start = self.written.len();
            self.push(item)?;
            // Numbers too: the separator may be a point.
            let item = self.written.get(start..).unwrap_or_default();
            if item.is_empty() || item.contains(separator.0) {
                return Err(RefusedClaim::AmbiguousItem);
            }
        }
        Ok(())
    }

    fn push(&mut self, scalar: &Value) -> Result<(), RefusedClaim> {
        match scalar {
            Value::String(text) if text.contains(char::is_control) => {
                Err(RefusedClaim::ControlCharacter)
            }
            Value::String(text) if text.trim().len() != text.len() => {
                Err(RefusedClaim::OuterWhitespace)
            }
            Value::String(text) => self.push_text(text),
            Value::Bool(true) => self.push_text("true"),
            Value::Bool(false) => self.push_text("false"),
            Value::Number(number) => {
                let exact = Exact::of(number).ok_or(RefusedClaim::InexactNumber)?;
                // Writing to a String can't fail, and a number is short.
                let _ = write!(self.written, "{exact}");
                self.push_text("")
            }
            Value::Null | Value::Array(_) | Value::Object(_) => Err(RefusedClaim::NestedItem),
        }
    }

    fn push_text(&mut self, text: &str) -> Result<(), RefusedClaim> {
        if self.written.len().saturating_add(text.len()) > self.longest {
            return Err(RefusedClaim::TooLong);
        }
        self.written.push_str(text);
        Ok(())
    }
}

/// What stands between the items of a list: one character, a space or ASCII punctuation.
///
/// It is a single one so that no end of an item and beginning of a separator can be taken for each
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Separator(char);

impl Default for Separator {
    fn default() -> Self {
        Separator(',')
    }
}

/// The text can't be a [`Separator`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSeparator(String);

impl fmt::Display for InvalidSeparator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected one character that is a space or punctuation, as \",\" or \"|\"",
            quote(&self.0)
        )
    }
}

impl std::error::Error for InvalidSeparator {}

impl FromStr for Separator {
    type Err = InvalidSeparator;

    fn from_str(text: &str) -> Result<Self, InvalidSeparator> {
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(only), None) if only == ' ' || only.is_ascii_punctuation() => Ok(Separator(only)),
            _ => Err(InvalidSeparator(text.to_owned())),
        }
    }
}

deserr_from_str!(Separator);

/// Writes a claim as JSON in printable ASCII, everything else escaped. `None` for null.
pub(crate) fn json(claim: &Value, longest: usize) -> Option<Result<Vec<u8>, RefusedClaim>> {
    if claim.is_null() {
        return None;
    }
    let mut bounded = Bounded {
        written: Vec::new(),
        longest,
    };
    let mut serializer = Serializer::with_formatter(&mut bounded, AsciiFormatter);
    Some(match claim.serialize(&mut serializer) {
        Ok(()) => Ok(bounded.written),
        Err(error) if error.io_error_kind() == Some(INEXACT) => Err(RefusedClaim::InexactNumber),
        Err(_) => Err(RefusedClaim::TooLong),
    })
}

/// How the formatter tells that a number is not exact.
const INEXACT: ErrorKind = ErrorKind::InvalidData;

struct Bounded {
    written: Vec<u8>,
    longest: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written.len().saturating_add(bytes.len()) > self.longest {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct AsciiFormatter;

impl Formatter for AsciiFormatter {
    /// Escapes DEL and what is not ASCII; the serializer escapes the other control characters.
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let odd = |character: char| !character.is_ascii() || character == '\x7f';
        for piece in fragment.split_inclusive(odd) {
            let plain = piece.trim_end_matches(odd);
            writer.write_all(plain.as_bytes())?;
            let odd = piece.strip_prefix(plain).unwrap_or_default();
            for unit in odd.encode_utf16() {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        match Exact::of_double(value) {
            Some(exact) => write!(writer, "{exact}"),
            None => Err(INEXACT.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::testing::mistakes;

    type Rendered = Option<Result<&'static str, RefusedClaim>>;

    fn check(claim: &Value, found: Option<Result<Vec<u8>, RefusedClaim>>, expected: Rendered) {
        let found = found.map(|value| value.map(|bytes| String::from_utf8(bytes).unwrap()));
        let expected = expected.map(|value| value.map(str::to_owned));
        assert_eq!(found, expected, "{claim}");
    }

    fn number(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn claims_as_text() {
        use RefusedClaim::*;
        for (claim, expected) in [
            (json!("alice"), Some(Ok("alice"))),
            (json!("a, b"), Some(Ok("a, b"))),
            (json!("Zoë 北"), Some(Ok("Zoë 北"))),
            (json!("a b"), Some(Ok("a b"))),
            (json!(""), None),
            (json!(null), None),
            (json!([]), None),
            (json!(7), Some(Ok("7"))),
            (json!(-7), Some(Ok("-7"))),
            (number("1e3"), Some(Ok("1000"))),
            (number("0.5"), Some(Ok("0.5"))),
            (
                number("18446744073709551615"),
                Some(Ok("18446744073709551615")),
            ),
            (number("18446744073709551616"), Some(Err(InexactNumber))),
            (number("1e20"), Some(Err(InexactNumber))),
            (json!(true), Some(Ok("true"))),
            (json!(false), Some(Ok("false"))),
            (json!("a\r\nx-admin: 1"), Some(Err(ControlCharacter))),
            (json!("a\tb"), Some(Err(ControlCharacter))),
            (json!("a\0"), Some(Err(ControlCharacter))),
            (json!("a\x7f"), Some(Err(ControlCharacter))),
            (json!("a\u{80}b"), Some(Err(ControlCharacter))),
            (json!("a\u{85}"), Some(Err(ControlCharacter))),
            (json!(" a"), Some(Err(OuterWhitespace))),
            (json!("a "), Some(Err(OuterWhitespace))),
            (json!(" "), Some(Err(OuterWhitespace))),
            (json!("a\u{a0}"), Some(Err(OuterWhitespace))),
            (json!({ "a": 1 }), Some(Err(Object))),
            (json!({}), Some(Err(Object))),
            (json!(["a"]), Some(Ok("a"))),
            (json!(["a", 1, true, "b c"]), Some(Ok("a,1,true,b c"))),
            (json!(["a", "b,admin"]), Some(Err(AmbiguousItem))),
            (json!(["b,admin"]), Some(Err(AmbiguousItem))),
            (json!(["a", ""]), Some(Err(AmbiguousItem))),
            (json!([""]), Some(Err(AmbiguousItem))),
            (json!(["a", " b"]), Some(Err(OuterWhitespace))),
            (json!(["a", "b\n"]), Some(Err(ControlCharacter))),
            (json!(["a", null]), Some(Err(NestedItem))),
            (json!(["a", ["b"]]), Some(Err(NestedItem))),
            (json!([{ "a": 1 }]), Some(Err(NestedItem))),
            (json!("a".repeat(41)), Some(Err(TooLong))),
            (json!(["a".repeat(20), "a".repeat(20)]), Some(Err(TooLong))),
            (
                json!(["a".repeat(19), 1234567890, 1234567890, 1]),
                Some(Err(TooLong)),
            ),
        ] {
            check(&claim, text(&claim, Separator::default(), 40), expected);
        }
        let longest = json!("a".repeat(40));
        assert!(text(&longest, Separator::default(), 40).unwrap().is_ok());
        assert_eq!(
            text(&json!(12345), Separator::default(), 4),
            Some(Err(TooLong))
        );
    }

    #[test]
    fn lists_with_another_separator() {
        for (separator, claim, expected) in [
            (" ", json!(["a", "b"]), Ok("a b")),
            (" ", json!(["a b"]), Err(RefusedClaim::AmbiguousItem)),
            ("|", json!(["a,b", "c"]), Ok("a,b|c")),
            (".", json!([1, 2]), Ok("1.2")),
            (".", json!([1.5, 2]), Err(RefusedClaim::AmbiguousItem)),
            ("-", json!([-1]), Err(RefusedClaim::AmbiguousItem)),
        ] {
            let separator: Separator = separator.parse().unwrap();
            check(&claim, text(&claim, separator, 40), Some(expected));
        }
        for bad in ["", ",,", ", ", "a", "0", "\n", "\t", "·", "\x7f"] {
            let found = mistakes::<Separator>(json!(bad));
            assert!(found.contains("expected one character"), "{bad:?}: {found}");
        }
    }

    #[test]
    fn claims_as_json() {
        use RefusedClaim::*;
        for (claim, expected) in [
            (json!(null), None),
            (json!("alice"), Some(Ok(r#""alice""#))),
            (json!(""), Some(Ok(r#""""#))),
            (json!([]), Some(Ok("[]"))),
            (json!(" a\r\n"), Some(Ok(r#"" a\r\n""#))),
            (json!("\0\x7f\u{85}"), Some(Ok(r#""\u0000\u007f\u0085""#))),
            (
                json!("Zoë 北🙂x"),
                Some(Ok(r#""Zo\u00eb \u5317\ud83d\ude42x""#)),
            ),
            (json!("a\"b\\"), Some(Ok(r#""a\"b\\""#))),
            (
                json!({ "é": [1, null, [true]], "b": {} }),
                Some(Ok(r#"{"b":{},"\u00e9":[1,null,[true]]}"#)),
            ),
            (number("[1e3,0.5,1.0]"), Some(Ok("[1000,0.5,1]"))),
            (number("[1e20]"), Some(Err(InexactNumber))),
            (
                json!("a".repeat(38)),
                Some(Ok("\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"")),
            ),
            (json!("a".repeat(39)), Some(Err(TooLong))),
            (json!("é".repeat(7)), Some(Err(TooLong))),
        ] {
            check(&claim, json(&claim, 40), expected);
        }
    }
}
