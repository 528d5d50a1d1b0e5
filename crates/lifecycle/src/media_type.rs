//! Media types that name a version: `application/vnd.bank.v1+json`, `application/json;version=1`.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use tollgate_core::config::quote;
use tollgate_core::headers::Headers;

use crate::syntax::{Cursor, Parameter, is_token_byte};

/// A media type, or several: `application/vnd.bank.v1+json`, `application/json;version=1`,
/// `*/*;version=1`. Parameters are compared by name and value, in any order and letter case; more of
/// them may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange {
    /// Lower-case, or `*`.
    kind: Box<str>,
    subtype: Box<str>,
    /// In lower case.
    parameters: Vec<(Box<str>, Box<str>)>,
}

/// How much a request wants a version, by its `Accept`; the greater, the more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Preference {
    /// The weight in thousandths (RFC 9110 section 12.4.2), at least 1.
    weight: u16,
    /// Of equal weights, what is named first.
    place: Reverse<usize>,
}

impl MediaRange {
    /// How much a request wants it: the most preferred member of `Accept` that it is. What is
    /// malformed is passed over, and so is what the client does not want, with a weight of 0.
    pub(crate) fn preference(&self, headers: &Headers) -> Option<Preference> {
        let fields = headers.get_all("accept");
        let members = fields.flat_map(|field| self.weights(field));
        let taken = members
            .enumerate()
            .filter_map(|(place, weight)| Some((place, weight.filter(|weight| *weight > 0)?)));
        taken
            .map(|(place, weight)| Preference {
                weight,
                place: Reverse(place),
            })
            .max()
    }

    /// Whether a request sends it: its `Content-Type`.
    pub(crate) fn is_sent(&self, headers: &Headers) -> bool {
        let mut fields = headers.get_all("content-type");
        fields.any(|field| {
            self.weights(field)
                .any(|weight| weight.is_some_and(|w| w > 0))
        })
    }

    /// For each member of a list (RFC 9110 section 12.5.1) its weight, if it is in the range.
    fn weights<'a>(&'a self, field: &'a [u8]) -> impl Iterator<Item = Option<u16>> + 'a {
        let mut cursor = Cursor::new(field);
        std::iter::from_fn(move || {
            cursor.skip_empty_members();
            if cursor.is_at_end() {
                return None;
            }
            let weight = self.weight_of_member(&mut cursor);
            // Goes on to the next one in any case.
            let is_whole = cursor.end_member();
            Some(weight.filter(|_| is_whole))
        })
    }

    fn weight_of_member(&self, cursor: &mut Cursor<'_>) -> Option<u16> {
        let (kind, subtype) = type_and_subtype(cursor)?;
        let parameters: Vec<_> = std::iter::from_fn(|| cursor.parameter()).collect();
        let is = |text: &str, found: &[u8]| found.eq_ignore_ascii_case(text.as_bytes());
        let of = |name| {
            parameters
                .iter()
                .filter(move |parameter| is(name, parameter.name))
        };
        let is_value = |found: &Parameter<'_>, value: &str| {
            found.value.as_deref().is_some_and(|found| is(value, found))
        };
        let has_all = self.parameters.iter().all(|(name, value)| {
            let mut found = of(name).peekable();
            found.peek().is_some() && found.all(|found| is_value(found, value))
        });
        let takes = self.takes_type(&self.kind, kind) && self.takes_type(&self.subtype, subtype);
        (takes && has_all).then(|| {
            let weights = of("q").map(|q| weight(q.value.as_deref().unwrap_or_default()));
            weights.min().unwrap_or(MOST)
        })
    }

    /// Compares types or subtypes. A client's `*` stands for a version only beside a parameter that
    /// names it.
    fn takes_type(&self, own: &str, found: &[u8]) -> bool {
        own == "*"
            || found.eq_ignore_ascii_case(own.as_bytes())
            || (found == b"*" && !self.parameters.is_empty())
    }

    /// Whether one media type may be in both.
    pub(crate) fn overlaps(&self, other: &MediaRange) -> bool {
        let meet = |a: &str, b: &str| a == b || a == "*" || b == "*";
        let contradicts = |(name, value): &(Box<str>, Box<str>)| {
            other
                .parameters
                .iter()
                .any(|(found, other)| found == name && other != value)
        };
        meet(&self.kind, &other.kind)
            && meet(&self.subtype, &other.subtype)
            && !self.parameters.iter().any(contradicts)
    }
}

/// As a request would have it in `Accept`.
impl fmt::Display for MediaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.subtype)?;
        for (name, value) in &self.parameters {
            match value.bytes().all(is_token_byte) {
                true => write!(f, ";{name}={value}")?,
                false => {
                    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
                    write!(f, ";{name}=\"{escaped}\"")?;
                }
            }
        }
        Ok(())
    }
}

fn type_and_subtype<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let kind = cursor.token()?;
    let subtype = cursor.eat(b'/').then(|| cursor.token())??;
    Some((kind, subtype))
}

/// The weight of what has none, in thousandths.
const MOST: u16 = 1000;

/// Reads a weight (RFC 9110 section 12.4.2), in thousandths. What is no weight lowers nothing: who
/// writes it wants the type all the same.
fn weight(text: &[u8]) -> u16 {
    let (whole, fraction) = match text.split_first() {
        Some((whole @ (b'0' | b'1'), [])) => (whole, &[][..]),
        Some((whole @ (b'0' | b'1'), [b'.', fraction @ ..])) => (whole, fraction),
        _ => return MOST,
    };
    if *whole == b'1' || fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return MOST;
    }
    let digits = fraction.iter().map(|digit| u16::from(digit & 0x0f));
    let thousandths = digits.zip([100_u16, 10, 1]);
    thousandths
        .map(|(digit, unit)| digit.saturating_mul(unit))
        .fold(0, u16::saturating_add)
}

/// The text is no media type that could name a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidMediaRange {
    text: String,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Malformed,
    NoVersion,
    Quality,
    Repeated,
}

impl fmt::Display for InvalidMediaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = quote(&self.text);
        match self.fault {
            Fault::Malformed => write!(
                f,
                "{text} is not a media type, expected one as application/vnd.bank.v1+json or \
                 application/json;version=1"
            ),
            Fault::NoVersion => write!(
                f,
                "{text} names no version, expected a parameter beside the *, as in */*;version=1"
            ),
            Fault::Quality => write!(
                f,
                "{text} has a quality, which is the client's to give: leave it out"
            ),
            Fault::Repeated => write!(f, "{text} has a parameter twice, write it once"),
        }
    }
}

impl std::error::Error for InvalidMediaRange {}

impl FromStr for MediaRange {
    type Err = InvalidMediaRange;

    fn from_str(text: &str) -> Result<Self, InvalidMediaRange> {
        parse(text.trim()).map_err(|fault| InvalidMediaRange {
            text: text.to_owned(),
            fault,
        })
    }
}

tollgate_core::deserr_from_str!(MediaRange);

fn parse(text: &str) -> Result<MediaRange, Fault> {
    let lower = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_ascii_lowercase().into_boxed_str()),
        Err(_) => Err(Fault::Malformed),
    };
    let mut cursor = Cursor::new(text.as_bytes());
    let (kind, subtype) = type_and_subtype(&mut cursor).ok_or(Fault::Malformed)?;
    let (kind, subtype) = (lower(kind)?, lower(subtype)?);
    let mut parameters = Vec::new();
    while let Some(Parameter { name, value }) = cursor.parameter() {
        let name = lower(name)?;
        if &*name == "q" {
            return Err(Fault::Quality);
        }
        if parameters.iter().any(|(found, _)| *found == name) {
            return Err(Fault::Repeated);
        }
        let value = value.filter(|value| !value.is_empty());
        parameters.push((name, lower(&value.ok_or(Fault::Malformed)?)?));
    }
    let wildcard = &*subtype == "*";
    // A comma would begin another one.
    if !cursor.end_member()
        || !cursor.is_at_end()
        || text.ends_with(',')
        || (&*kind == "*" && !wildcard)
    {
        return Err(Fault::Malformed);
    }
    if wildcard && parameters.is_empty() {
        return Err(Fault::NoVersion);
    }
    Ok(MediaRange {
        kind,
        subtype,
        parameters,
    })
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_version_is_found_among_what_a_client_accepts() {
        const VENDOR: &str = "application/vnd.bank.v1+json";
        const VERSION: &str = "application/json; version=1";
        const ANY: &str = "*/*;version=1";
        for (range, field, expected) in [
            (VENDOR, VENDOR, true),
            (VENDOR, "Application/VND.bank.V1+json;charset=utf-8", true),
            (VENDOR, "application/vnd.bank.v2+json", false),
            (VENDOR, "application/vnd.bank.v10+json", false),
            (VENDOR, "application/vnd.bank.v1+json;q=0", false),
            (VENDOR, "application/vnd.bank.v1+json;q=0.00", false),
            (VENDOR, "application/vnd.bank.v1+json;q=0.1", true),
            (
                VENDOR,
                "text/html, application/vnd.bank.v1+json;q=0.5",
                true,
            ),
            (
                VENDOR,
                "text/html;a=\", application/vnd.bank.v1+json\"",
                false,
            ),
            (VENDOR, "*/*", false),
            (VENDOR, "application/*", false),
            (VENDOR, "", false),
            (VENDOR, "application/vnd.bank.v1+json x", false),
            (VENDOR, "x y, application/vnd.bank.v1+json", true),
            (VERSION, "application/json;version=1", true),
            (
                VERSION,
                "application/json;charset=utf-8;Version=\"1\"",
                true,
            ),
            (VERSION, "application/json;version=2", false),
            (VERSION, "application/json;version=10", false),
            (VERSION, "application/json;version=1;version=2", false),
            (VERSION, "application/json", false),
            (VERSION, "*/*;version=1", true),
            (VERSION, "application/xml;version=1", false),
            (ANY, "text/html;version=1", true),
            (ANY, "*/*", false),
        ] {
            let range: MediaRange = range.parse().unwrap();
            let accept = Headers::from_pairs([("host", "a"), ("accept", field)]);
            let wanted = range.preference(&accept).is_some();
            assert_eq!(wanted, expected, "{range:?} accept: {field}");
            let sent = Headers::from_pairs([("host", "a"), ("content-type", field)]);
            assert_eq!(range.is_sent(&sent), expected, "{range:?} sent: {field}");
            assert!(range.preference(&sent).is_none() && !range.is_sent(&accept));
        }
    }

    #[test]
    fn of_two_versions_one_is_preferred() {
        let [one, two]: [MediaRange; 2] = ["a/b;v=1", "a/b;v=2"].map(|text| text.parse().unwrap());
        for (fields, expected) in [
            (&["a/b;v=1, a/b;v=2"][..], Ordering::Greater),
            (&["a/b;v=2", "a/b;v=1"], Ordering::Less),
            (&["a/b;v=1;q=0.9, a/b;v=2"], Ordering::Less),
            (&["a/b;v=1;q=0.9", "a/b;v=2;q=0.91"], Ordering::Less),
            (&["a/b;v=1;q=0.001, a/b;v=2;q=0"], Ordering::Greater),
            (
                &["a/b;v=1;q=0.5, a/b;v=2;q=0.6, a/b;v=1"],
                Ordering::Greater,
            ),
            (&["a/b;v=2;q=1.000, a/b;v=1;q=1"], Ordering::Less),
            // What is no weight counts as none.
            (&["a/b;v=1;q=0.9, a/b;v=2;q=.5"], Ordering::Less),
            (&["a/b;v=1;q=0.9, a/b;v=2;q=0.0001"], Ordering::Less),
            (&["a/b;v=1;q=0.9, a/b;v=2;q"], Ordering::Less),
            (&["x/y, a/b"], Ordering::Equal),
        ] {
            let headers = Headers::from_pairs(fields.iter().map(|field| ("accept", *field)));
            let order = one.preference(&headers).cmp(&two.preference(&headers));
            assert_eq!(order, expected, "{fields:?}");
        }
    }

    #[test]
    fn ranges_overlap_where_one_type_is_in_both() {
        for (a, b, expected) in [
            ("a/b", "A/B", true),
            ("a/b", "a/c", false),
            ("a/b;v=1", "a/b;v=2", false),
            ("a/b;v=1", "a/b;v=1;x=y", true),
            ("a/b;v=1", "a/b", true),
            ("*/*;v=1", "a/b", true),
            ("a/*;v=1", "b/*;v=1", false),
            ("*/*;v=1", "a/b;v=2", false),
        ] {
            let (a, b): (MediaRange, MediaRange) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.overlaps(&b), expected, "{a:?} {b:?}");
            assert_eq!(b.overlaps(&a), expected, "{b:?} {a:?}");
        }
    }

    #[test]
    fn what_names_no_version_is_refused_with_a_cure() {
        for (text, expected) in [
            (
                "",
                "\"\" is not a media type, expected one as application/vnd.bank.v1+json",
            ),
            ("json", "is not a media type"),
            ("a/", "is not a media type"),
            ("a/b c", "is not a media type"),
            ("a/b;c", "is not a media type"),
            ("a/b;c=", "is not a media type"),
            ("a/b;c=\"d", "is not a media type"),
            ("a/b,c/d", "is not a media type"),
            ("a/b,", "is not a media type"),
            ("*/b", "is not a media type"),
            ("*/*", "names no version, expected a parameter beside the *"),
            ("a/*", "names no version"),
            ("a/b;q=1", "has a quality"),
            ("a/b;v=1;V=2", "has a parameter twice"),
        ] {
            let error = text.parse::<MediaRange>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_field_panics(field in prop::collection::vec(any::<u8>(), 0..40), text in "[a-c/*;=q0,\" ]{0,20}") {
            let range: MediaRange = "a/b;c=1".parse().unwrap();
            for field in [&field[..], text.as_bytes()] {
                prop_assert!(range.weights(field).flatten().all(|weight| weight <= MOST));
            }
            let _ = text.parse::<MediaRange>();
        }
    }
}
