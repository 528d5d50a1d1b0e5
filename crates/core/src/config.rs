//! Reading a configuration so that every mistake is reported at once, each with its path.
//!
//! Sections are plain structs that derive [`deserr::Deserr`] with [`ConfigErrors`] as their error;
//! a value with a syntax of its own (a duration, a rate) implements [`std::str::FromStr`] and gets
//! its `Deserr` from [`deserr_from_str!`](crate::deserr_from_str). What shapes cannot say (a name
//! that must exist, two fields that exclude each other) is checked when a policy is compiled, and
//! recorded with [`ConfigErrors::add`].

use std::fmt;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::str::FromStr;

use deserr::{
    DeserializeError, ErrorKind, IntoValue, Map as _, MergeWithError, Sequence as _, Value,
    ValueKind, ValuePointerRef,
};

use crate::order;

pub use crate::document::{Document, Text};

/// One mistake in a configuration document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where, as `usage_plan.consumers[3].plan`; empty for the document itself.
    pub path: String,
    /// What was found, what was expected, and how to mend it.
    pub message: String,
}

impl fmt::Display for ConfigError {
    /// One line, whatever the document holds: names that it gives are repeated in messages, and who
    /// writes a document is not always who reads the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write_line(f, &self.message),
            path => {
                write_line(f, path)?;
                f.write_str(": ")?;
                write_line(f, &self.message)
            }
        }
    }
}

/// Writes text with its control characters escaped.
fn write_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for piece in text.split_inclusive(char::is_control) {
        let mut chars = piece.chars();
        match chars.next_back() {
            Some(last) if last.is_control() => {
                write!(f, "{}{}", chars.as_str(), last.escape_debug())?;
            }
            _ => f.write_str(piece)?,
        }
    }
    Ok(())
}

/// All mistakes found in a configuration document, in the order of the document where known. The
/// first thousand are listed: one that is made in every item of a long list is understood by then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    found: usize,
    listed: Vec<ConfigError>,
}

const MOST_LISTED: usize = 1000;

/// Proof that a mistake was recorded: the only way to give up compiling a section.
#[derive(Debug)]
pub struct Rejected(());

impl ConfigErrors {
    /// Records a mistake at `path`.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) -> Rejected {
        self.found = self.found.saturating_add(1);
        self.list(ConfigError {
            path: path.into(),
            message: message.into(),
        });
        Rejected(())
    }

    /// Whether nothing was recorded since there were `before` mistakes; else the proof of it.
    pub fn none_since(&self, before: usize) -> Result<(), Rejected> {
        match self.found > before {
            true => Err(Rejected(())),
            false => Ok(()),
        }
    }

    /// Takes over the mistakes of `other`.
    pub fn append(&mut self, other: ConfigErrors) -> Rejected {
        self.found = self.found.saturating_add(other.found);
        for error in other.listed {
            self.list(error);
        }
        Rejected(())
    }

    fn list(&mut self, error: ConfigError) {
        if self.listed.len() < MOST_LISTED {
            self.listed.push(error);
        }
    }

    /// How many mistakes are not listed, for there are too many.
    pub fn unlisted(&self) -> usize {
        self.found.saturating_sub(self.listed.len())
    }

    /// Whether no mistake was found.
    pub fn is_empty(&self) -> bool {
        self.found == 0
    }

    /// How many mistakes were found.
    pub fn len(&self) -> usize {
        self.found
    }

    /// The mistakes that are listed, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.listed.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.listed.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        match self.unlisted() {
            0 => Ok(()),
            more => write!(f, "\n{}", more_mistakes(more)),
        }
    }
}

/// What is said of mistakes that are not listed.
pub fn more_mistakes(count: usize) -> String {
    format!("and {count} mistakes more: mend these first")
}

impl std::error::Error for ConfigErrors {}

impl MergeWithError<ConfigErrors> for ConfigErrors {
    fn merge(
        existing: Option<Self>,
        other: ConfigErrors,
        _location: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let mut errors = existing.unwrap_or_default();
        errors.append(other);
        ControlFlow::Continue(errors)
    }
}

impl DeserializeError for ConfigErrors {
    fn error<V: IntoValue>(
        existing: Option<Self>,
        error: ErrorKind<'_, V>,
        location: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let mut errors = existing.unwrap_or_default();
        let path = display_path(location);
        match error {
            ErrorKind::IncorrectValueKind { actual, accepted } => errors.add(
                path,
                format!(
                    "found {}, expected {}",
                    describe(&actual),
                    describe_kinds(accepted)
                ),
            ),
            ErrorKind::MissingField { field } => {
                errors.add(path, format!("the field \"{field}\" is missing, add it"))
            }
            ErrorKind::UnknownKey { key, accepted } if looks_like_a_field(key) => errors.add(
                key_path(&path, key),
                format!("unknown field{}", expected_one_of(key, accepted)),
            ),
            ErrorKind::UnknownKey { key, accepted } => {
                let (length, expected) = (key.chars().count(), expected_one_of("", accepted));
                errors.add(
                    path,
                    format!("unknown field of {length} characters{expected}"),
                )
            }
            ErrorKind::UnknownValue { value, accepted } => errors.add(
                path,
                format!(
                    "unknown value \"{value}\"{}",
                    expected_one_of(value, accepted)
                ),
            ),
            ErrorKind::BadSequenceLen { actual, expected } => errors.add(
                path,
                format!(
                    "found a list of {}, expected {expected} items",
                    actual.len()
                ),
            ),
            ErrorKind::Unexpected { msg } => errors.add(path, msg),
        };
        ControlFlow::Continue(errors)
    }
}

/// Whether text where a field's name should be is one, or may be a secret in the wrong place.
fn looks_like_a_field(key: &str) -> bool {
    key.len() <= 24
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Appends a field or key to a path, quoted where it has characters of its own:
/// `usage_plan.plans.gold.throttle.methods["POST /v1/**"]`.
pub fn key_path(parent: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    match (parent, plain) {
        ("", true) => key.to_owned(),
        (_, true) => format!("{parent}.{key}"),
        (_, false) => format!("{parent}[{key:?}]"),
    }
}

/// Writes a location as a path.
pub fn display_path(pointer: ValuePointerRef<'_>) -> String {
    match pointer {
        ValuePointerRef::Origin => String::new(),
        ValuePointerRef::Key { key, prev } => key_path(&display_path(*prev), key),
        ValuePointerRef::Index { index, prev } => format!("{}[{index}]", display_path(*prev)),
    }
}

/// The longest piece of a found value that an error repeats.
const LONGEST_QUOTE: usize = 48;

fn describe<V: IntoValue>(value: &Value<V>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Boolean(value) => format!("{value}"),
        Value::Integer(value) => format!("the number {value}"),
        Value::NegativeInteger(value) => format!("the number {value}"),
        Value::Float(value) if value.fract() == 0.0 => {
            format!("the number {value}, too large to be exact")
        }
        Value::Float(value) => format!("the number {value}"),
        // Not repeated: where a key or a pepper is put in the wrong place, this would log it.
        Value::String(_) => "text".to_owned(),
        Value::Sequence(items) => format!("a list of {}", items.len()),
        Value::Map(map) => format!("an object of {}", map.len()),
    }
}

/// Quotes a found value for an error message, shortened.
pub fn quote(value: &str) -> String {
    match value.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{:?}…", value.get(..end).unwrap_or_default()),
        None => format!("{value:?}"),
    }
}

fn describe_kinds(kinds: &[ValueKind]) -> String {
    let names: Vec<&str> = kinds
        .iter()
        .map(|kind| match kind {
            ValueKind::Null => "null",
            ValueKind::Boolean => "true or false",
            ValueKind::Integer => "a whole number",
            ValueKind::NegativeInteger => "a negative whole number",
            ValueKind::Float => "a number",
            ValueKind::String => "text",
            ValueKind::Sequence => "a list",
            ValueKind::Map => "an object",
        })
        .collect();
    names.join(" or ")
}

/// `, did you mean "x"? (expected one of x, y, z)`, to follow what was found.
pub fn expected_one_of(found: &str, accepted: &[&str]) -> String {
    let expected = match accepted {
        [] => "expected none".to_owned(),
        [only] => format!("expected {only}"),
        _ => format!("expected one of {}", accepted.join(", ")),
    };
    match nearest(found, accepted.iter().copied()) {
        Some(name) => format!(", did you mean \"{name}\"? ({expected})"),
        None => format!(", {expected}"),
    }
}

/// The name that `found` is a slip of, if it is near one.
pub fn nearest<'a>(found: &str, accepted: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    accepted
        .map(|name| (edit_distance(found, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(found.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn edit_distance(a: &str, b: &str) -> usize {
    strsim::damerau_levenshtein(a, b)
}

/// Implements `Deserr` for a type that is written as text and parsed by its `FromStr`, whose error
/// is shown as it is.
#[macro_export]
macro_rules! deserr_from_str {
    ($type:ty) => {
        impl<E: ::deserr::DeserializeError> ::deserr::Deserr<E> for $type {
            fn deserialize_from_value<V: ::deserr::IntoValue>(
                value: ::deserr::Value<V>,
                location: ::deserr::ValuePointerRef<'_>,
            ) -> Result<Self, E> {
                $crate::config::parse_text(value, location, |text| {
                    text.parse::<$type>().map_err(|error| error.to_string())
                })
            }
        }
    };
}

/// Reads a text value with `parse`, whose error is reported at `location`.
pub fn parse_text<T, E: DeserializeError, V: IntoValue>(
    value: Value<V>,
    location: ValuePointerRef<'_>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, E> {
    match value {
        Value::String(text) => parse(&text).map_err(|msg| {
            let error: ErrorKind<'_, V> = ErrorKind::Unexpected { msg };
            deserr::take_cf_content(E::error(None, error, location))
        }),
        actual => Err(wrong_kind(actual, &[ValueKind::String], location)),
    }
}

/// Refuses a value that is of none of the kinds that are accepted.
pub fn wrong_kind<E: DeserializeError, V: IntoValue>(
    actual: Value<V>,
    accepted: &[ValueKind],
    location: ValuePointerRef<'_>,
) -> E {
    let error = ErrorKind::IncorrectValueKind { actual, accepted };
    deserr::take_cf_content(E::error(None, error, location))
}

/// One item or a list of them: `quota: {…}` and `quota: [{…}, {…}]` are both understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany(Vec::new())
    }
}

impl<T: deserr::Deserr<E>, E: DeserializeError> deserr::Deserr<E> for OneOrMany<T> {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, E> {
        match value {
            Value::Sequence(_) => Vec::deserialize_from_value(value, location).map(OneOrMany),
            one => T::deserialize_from_value(one, location).map(|one| OneOrMany(vec![one])),
        }
    }
}

/// A whole number from 1 to 4294967295.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positive(pub NonZeroU32);

impl<E: DeserializeError> deserr::Deserr<E> for Positive {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, E> {
        let number = u64::deserialize_from_value(value, location)?;
        let positive = u32::try_from(number).ok().and_then(NonZeroU32::new);
        positive.map(Positive).ok_or_else(|| {
            let msg = format!("found {number}, expected 1 to {}", u32::MAX);
            let error: ErrorKind<'_, V> = ErrorKind::Unexpected { msg };
            deserr::take_cf_content(E::error(None, error, location))
        })
    }
}

/// An object whose keys are chosen by the user, sorted by key; a key may have a syntax of its own.
///
/// The maps of `deserr` 0.6 drop the mistakes found in their values; this one reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<T, K = String>(pub Vec<(K, T)>);

impl<T, K> Default for Table<T, K> {
    fn default() -> Self {
        Table(Vec::new())
    }
}

impl<T> Table<T> {
    /// The value under `name`.
    pub fn get(&self, name: &str) -> Option<&T> {
        let index = self
            .0
            .binary_search_by(|(key, _)| key.as_str().cmp(name))
            .ok()?;
        self.0.get(index).map(|(_, value)| value)
    }

    /// Names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<T, K, E> deserr::Deserr<E> for Table<T, K>
where
    T: deserr::Deserr<E>,
    K: FromStr<Err: fmt::Display>,
    E: DeserializeError,
{
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, E> {
        let map = match value {
            Value::Map(map) => map,
            actual => return Err(wrong_kind(actual, &[ValueKind::Map], location)),
        };
        let mut entries: Vec<(String, V)> = map.into_iter().collect();
        order::sort_by(&mut entries, |(a, _), (b, _)| a.cmp(b));
        let mut table = Vec::with_capacity(entries.len());
        let mut errors: Option<E> = None;
        for (text, value) in entries {
            let place = location.push_key(&text);
            let key = text.parse::<K>().map_err(|error| {
                let error: ErrorKind<'_, V> = ErrorKind::Unexpected {
                    msg: error.to_string(),
                };
                deserr::take_cf_content(E::error(None, error, place))
            });
            let value = T::deserialize_from_value(value.into_value(), place);
            match (key, value) {
                (Ok(key), Ok(value)) => table.push((key, value)),
                (key, value) => {
                    for error in [key.err(), value.err()].into_iter().flatten() {
                        match E::merge(errors.take(), error, place) {
                            ControlFlow::Continue(merged) => errors = Some(merged),
                            ControlFlow::Break(merged) => return Err(merged),
                        }
                    }
                }
            }
        }
        errors.map_or(Ok(Table(table)), Err)
    }
}

#[cfg(test)]
mod tests {
    use deserr::Deserr;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[derive(Debug, Deserr, PartialEq)]
    #[deserr(error = ConfigErrors, deny_unknown_fields)]
    struct Plan {
        limit: u64,
        #[deserr(default)]
        apis: Option<Vec<String>>,
    }

    #[derive(Debug, Deserr)]
    #[deserr(error = ConfigErrors, deny_unknown_fields)]
    struct Section {
        plans: Table<Plan>,
    }

    fn read(text: &str) -> Result<Option<Section>, ConfigErrors> {
        let mut document = Document::parse(text.as_bytes())?;
        let mut errors = ConfigErrors::default();
        document.take("usage_plan", &mut errors).map_err(|_| errors)
    }

    #[test]
    fn every_mistake_is_reported_with_its_path() {
        let errors = read(
            r#"{"usage_plan": {"plans": {
                "gold": {"limit": "many", "apis": [1, "a"]},
                "a b": {"limt": 3}
            }}}"#,
        )
        .unwrap_err();
        let text = errors.to_string();
        for expected in [
            "usage_plan.plans.gold.limit: found text, expected a whole number",
            "usage_plan.plans.gold.apis[0]: found the number 1, expected text",
            "usage_plan.plans[\"a b\"].limt: unknown field, did you mean \"limit\"? (expected one of limit, apis)",
            "usage_plan.plans[\"a b\"]: the field \"limit\" is missing, add it",
        ] {
            assert!(text.contains(expected), "{expected}\nnot in\n{text}");
        }
        assert_eq!(errors.len(), 4);
    }

    #[test]
    fn doubles_without_a_fraction_are_integers() {
        let section = read(r#"{"usage_plan": {"plans": {"gold": {"limit": 1e+07}}}}"#);
        assert_eq!(
            section.unwrap().unwrap().plans.get("gold").unwrap().limit,
            10_000_000
        );
        for bad in ["1.5", "-1e3", "1e300"] {
            let text = format!(r#"{{"usage_plan": {{"plans": {{"gold": {{"limit": {bad}}}}}}}}}"#);
            assert!(read(&text).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not_repeated() {
        let secret = "sk_live_4242424242424242";
        for text in [
            format!(r#"{{"usage_plan": "{secret}"}}"#),
            format!(r#"{{"usage_plan": {{"plans": "{secret}"}}}}"#),
            format!(r#"{{"usage_plan": {{"plans": {{"gold": {{"limit": "{secret}"}}}}}}}}"#),
            format!(r#"{{"usage_plan": {{"plans": {{"gold": {{"limit": 1, "{secret}": 1}}}}}}}}"#),
            format!(
                r#"{{"usage_plan": {{"plans": {{"gold": {{"limit": 1, "apis": "{secret}"}}}}}}}}"#
            ),
        ] {
            let errors = read(&text).unwrap_err().to_string();
            assert!(!errors.contains(secret), "{errors}");
        }
    }

    #[test]
    fn a_mistake_is_one_line_whatever_the_document_holds() {
        let mut errors = ConfigErrors::default();
        errors.add("a\nb", "found \r\u{85}x\u{7f}");
        assert_eq!(errors.to_string(), r"a\nb: found \r\u{85}x\u{7f}");
    }

    #[test]
    fn a_thousand_mistakes_are_listed() {
        let mut errors = ConfigErrors::default();
        for section in 0..3 {
            let before = errors.len();
            let mut more = ConfigErrors::default();
            for item in 0..700 + section * 700 {
                more.add(format!("{section}[{item}]"), "is wrong");
            }
            errors.append(more);
            assert!(errors.none_since(before).is_err());
        }
        let listed: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!((errors.len(), listed.len()), (4200, 1000));
        assert_eq!(listed[699..701], ["0[699]", "1[0]"]);
        assert_eq!(listed[999], "1[299]");
        assert_eq!(errors.unlisted(), 3200);
        let text = errors.to_string();
        assert!(text.ends_with("\nand 3200 mistakes more: mend these first"));
    }
}
