//! Media types that name a version: `application/vnd.bank.v1+json`, `application/json;version=1`.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use tollgate_core::accept;
use tollgate_core::accept::media_ranges;
use tollgate_core::config::quote;
use tollgate_core::headers::Headers;
use tollgate_core::syntax::{Parameter, is_token_byte};

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

    /// For each member of a list its weight, if it is in the range.
    fn weights<'a>(&'a self, field: &'a [u8]) -> impl Iterator<Item = Option<u16>> + 'a {
        media_ranges(field)
            .map(|found| found.filter(|found| self.takes(found)))
            .map(|found| found.map(|found| found.weight()))
    }

    fn takes(&self, found: &accept::MediaRange<'_>) -> bool {
        let is = |text: &str, found: &[u8]| found.eq_ignore_ascii_case(text.as_bytes());
        let is_value = |found: &Parameter<'_>, value: &str| {
            found.value.as_deref().is_some_and(|found| is(value, found))
        };
        let has_all = self.parameters.iter().all(|(name, value)| {
            let of_name = found.parameters.iter().filter(|it| is(name, it.name));
            let mut of_name = of_name.peekable();
            of_name.peek().is_some() && of_name.all(|found| is_value(found, value))
        });
        self.takes_type(&self.kind, found.kind)
            && self.takes_type(&self.subtype, found.subtype)
            && has_all
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
    // A comma would begin another one.
    if text.starts_with(',') || text.ends_with(',') {
        return Err(Fault::Malformed);
    }
    let mut ranges = media_ranges(text.as_bytes());
    let (Some(Some(found)), None) = (ranges.next(), ranges.next()) else {
        return Err(Fault::Malformed);
    };
    let (kind, subtype) = (lower(found.kind)?, lower(found.subtype)?);
    let mut parameters = Vec::with_capacity(found.parameters.len());
    for parameter in found.parameters {
        if parameter.is_weight() {
            return Err(Fault::Quality);
        }
        let name = lower(parameter.name)?;
        if parameters.iter().any(|(found, _)| *found == name) {
            return Err(Fault::Repeated);
        }
        let value = parameter.value.filter(|value| !value.is_empty());
        parameters.push((name, lower(&value.ok_or(Fault::Malformed)?)?));
    }
    let wildcard = &*subtype == "*";
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
                prop_assert!(range.weights(field).flatten().all(|weight| weight <= accept::MOST));
            }
            let _ = text.parse::<MediaRange>();
        }
    }
}
