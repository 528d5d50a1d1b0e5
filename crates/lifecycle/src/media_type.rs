//! Media types that name a version: `application/vnd.bank.v1+json`, `application/json;version=1`.

use std::fmt;
use std::str::FromStr;

use tollgate_core::config::quote;
use tollgate_core::headers::Headers;

use crate::syntax::{Cursor, Parameter};

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

impl MediaRange {
    /// Whether a request asks for it (`Accept`, with a quality above 0) or sends it
    /// (`Content-Type`).
    pub fn is_in(&self, headers: &Headers) -> bool {
        headers
            .get_all("accept")
            .any(|field| self.is_in_field(field))
            || headers
                .get_all("content-type")
                .any(|field| self.is_in_field(field))
    }

    /// Whether it is among the members of a list (RFC 9110 section 12.5.1). What is malformed is
    /// passed over.
    fn is_in_field(&self, field: &[u8]) -> bool {
        let mut cursor = Cursor::new(field);
        loop {
            cursor.skip_empty_members();
            if cursor.is_at_end() {
                return false;
            }
            let takes = self.takes_member(&mut cursor);
            if cursor.end_member() && takes {
                return true;
            }
        }
    }

    fn takes_member(&self, cursor: &mut Cursor<'_>) -> bool {
        let Some((kind, subtype)) = type_and_subtype(cursor) else {
            return false;
        };
        let takes = self.takes_type(&self.kind, kind) && self.takes_type(&self.subtype, subtype);
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
        takes
            && !of("q").any(|quality| quality.value.as_deref().is_some_and(is_zero))
            && self.parameters.iter().all(|(name, value)| {
                let mut found = of(name).peekable();
                found.peek().is_some() && found.all(|found| is_value(found, value))
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

fn type_and_subtype<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let kind = cursor.token()?;
    let subtype = cursor.eat(b'/').then(|| cursor.token())??;
    Some((kind, subtype))
}

/// Whether a quality is 0 (RFC 9110 section 12.4.2): `0`, `0.0` …
fn is_zero(quality: &[u8]) -> bool {
    quality.starts_with(b"0") && quality.iter().all(|byte| matches!(byte, b'0' | b'.'))
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
            for name in ["accept", "content-type"] {
                let headers = Headers::from_pairs([("host", "a"), (name, field)]);
                assert_eq!(range.is_in(&headers), expected, "{range:?} {name}: {field}");
            }
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
            range.is_in_field(&field);
            range.is_in_field(text.as_bytes());
            let _ = text.parse::<MediaRange>();
        }
    }
}
