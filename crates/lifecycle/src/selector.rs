//! Which requests of an API are for a version of it.

use std::borrow::Cow;

use tollgate_core::headers::{FieldName, Headers};

use crate::media_type::{MediaRange, Preference};

/// Which requests of an API are for a version of it: those that name the version in one of some
/// places, and perhaps those that name none of the API's versions.
///
/// A request that names several versions is for each of them: which of them the upstream would take
/// is not known here, and the end of one must not be walked around by naming another too. Only
/// `Accept` tells what its client prefers, so of the versions in it one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionSelector {
    pub(crate) places: Vec<Place>,
    /// Whether requests are of this version that have none of the headers and parameters in
    /// `places`, and name no other version.
    pub(crate) is_default: bool,
}

/// Where the version is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A header that has one of the values.
    Header(FieldName, Vec<String>),
    /// A parameter of the query, by its decoded name.
    Query(String, Vec<String>),
    /// `Accept` or `Content-Type`.
    MediaType(MediaRange),
}

impl VersionSelector {
    /// Whether the API itself is the version.
    pub fn takes_all(&self) -> bool {
        self.places.is_empty()
    }

    /// How much a request wants the version, by its `Accept`.
    pub(crate) fn preference(&self, headers: &Headers) -> Option<Preference> {
        let ranges = self.places.iter().filter_map(|place| match place {
            Place::MediaType(range) => Some(range),
            Place::Header(..) | Place::Query(..) => None,
        });
        ranges.filter_map(|range| range.preference(headers)).max()
    }

    /// Whether a request names the version, its `Accept` aside. `query` is what follows the `?`.
    pub(crate) fn is_named(&self, headers: &Headers, query: Option<&[u8]>) -> bool {
        let query = query.unwrap_or_default();
        let mut places = self.places.iter();
        places.any(|place| place.names_version(headers, query))
    }

    /// Whether a request is for the version that names none of its API's.
    pub(crate) fn takes_rest(&self, headers: &Headers, query: Option<&[u8]>) -> bool {
        let query = query.unwrap_or_default();
        let mut places = self.places.iter();
        self.takes_all() || self.is_default && !places.any(|place| place.is_present(headers, query))
    }

    /// What metrics call the version: the first value by which it is named.
    pub(crate) fn label(&self) -> Option<Box<str>> {
        let text = match self.places.first()? {
            Place::Header(_, values) | Place::Query(_, values) => values.first()?.clone(),
            Place::MediaType(range) => range.to_string(),
        };
        Some(match &*text {
            // An empty label would vanish.
            "" => "_empty".into(),
            text => label(text).into(),
        })
    }

    /// Whether a request can be for both versions of an API by naming just one.
    pub(crate) fn overlaps(&self, other: &VersionSelector) -> bool {
        match (self.takes_all(), other.takes_all()) {
            (true, true) => true,
            // The one that is narrower goes first.
            (true, false) | (false, true) => false,
            (false, false) => {
                let overlaps = |a: &Place| other.places.iter().any(|b| a.overlaps(b));
                (self.is_default && other.is_default) || self.places.iter().any(overlaps)
            }
        }
    }

    /// The parameters of the query in which the version is named.
    pub(crate) fn query_names(&self) -> impl Iterator<Item = &str> + Clone {
        self.places.iter().filter_map(|place| match place {
            Place::Query(name, _) => Some(name.as_str()),
            Place::Header(..) | Place::MediaType(_) => None,
        })
    }
}

impl Place {
    fn names_version(&self, headers: &Headers, query: &[u8]) -> bool {
        match self {
            Place::Header(name, versions) => headers
                .get_all(name.as_str())
                .any(|value| names_one_of(value, versions)),
            Place::Query(name, versions) => query_values(query, name)
                .any(|value| versions.iter().any(|version| *version == value)),
            Place::MediaType(range) => range.is_sent(headers),
        }
    }

    /// Whether the request names any version here.
    fn is_present(&self, headers: &Headers, query: &[u8]) -> bool {
        match self {
            Place::Header(name, _) => headers.get(name.as_str()).is_some(),
            Place::Query(name, _) => query_values(query, name).next().is_some(),
            // Every request accepts something, so this says nothing.
            Place::MediaType(_) => false,
        }
    }

    fn overlaps(&self, other: &Place) -> bool {
        let meet = |a: &[String], b: &[String]| a.iter().any(|value| b.contains(value));
        match (self, other) {
            (Place::Header(a, ours), Place::Header(b, theirs)) => a == b && meet(ours, theirs),
            (Place::Query(a, ours), Place::Query(b, theirs)) => a == b && meet(ours, theirs),
            (Place::MediaType(a), Place::MediaType(b)) => a.overlaps(b),
            _ => false,
        }
    }
}

/// The text as the value of a label, which stands in a metric's name before `;.;`, behind `=.=`, in
/// printable ASCII.
fn label(text: &str) -> String {
    let mut before = ' ';
    let fit = text.chars().map(|c| {
        let is_fit = matches!(c, ' '..='~') && !(c == '.' && matches!(before, ';' | '='));
        before = c;
        if is_fit { c } else { '_' }
    });
    fit.collect()
}

/// Whether a header's value, or a member of it if it is a list, is one of the versions.
fn names_one_of(value: &[u8], versions: &[String]) -> bool {
    let is_one = |value: &[u8]| versions.iter().any(|version| version.as_bytes() == value);
    is_one(value.trim_ascii())
        || value
            .split(|byte| *byte == b',')
            .any(|member| is_one(member.trim_ascii()))
}

/// The decoded values of a query parameter.
fn query_values<'a>(query: &'a [u8], name: &str) -> impl Iterator<Item = Cow<'a, str>> {
    form_urlencoded::parse(query)
        .filter(move |(found, _)| found == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn header(name: &str, versions: &[&str]) -> Place {
        Place::Header(
            name.parse().unwrap(),
            versions.iter().map(|v| v.to_string()).collect(),
        )
    }

    fn query(name: &str, versions: &[&str]) -> Place {
        Place::Query(
            name.to_owned(),
            versions.iter().map(|v| v.to_string()).collect(),
        )
    }

    fn media_type(text: &str) -> Place {
        Place::MediaType(text.parse().unwrap())
    }

    fn selector(places: Vec<Place>, is_default: bool) -> VersionSelector {
        VersionSelector { places, is_default }
    }

    #[test]
    fn a_version_is_found_where_it_is_named() {
        let by_header = selector(vec![header("X-Api-Version", &["1", "1.0"])], false);
        let by_query = selector(vec![query("api version", &["1"])], false);
        let by_type = selector(vec![media_type("application/vnd.bank.v1+json")], false);
        let by_any = selector(
            vec![header("v", &["1"]), query("v", &["1"]), media_type("a/v1")],
            true,
        );
        for (selector, headers, query, expected) in [
            (&VersionSelector::default(), &[][..], None, true),
            (&by_header, &[], None, false),
            (&by_header, &[("x-api-version", "1")], None, true),
            (&by_header, &[("x-api-version", " 1.0 ")], None, true),
            (&by_header, &[("x-api-version", "2")], None, false),
            (&by_header, &[("x-api-version", "10")], None, false),
            (&by_header, &[("x-api-version", "2, 1")], None, true),
            (
                &by_header,
                &[("x-api-version", "2"), ("x-api-version", "1")],
                None,
                true,
            ),
            (&by_header, &[], Some("x-api-version=1"), false),
            (&by_query, &[], Some("a=b&api%20version=%31"), true),
            (&by_query, &[], Some("api+version=2&api+version=1"), true),
            (&by_query, &[], Some("api+version=2"), false),
            (&by_query, &[], None, false),
            (
                &by_type,
                &[("accept", "text/html, application/vnd.bank.v1+json")],
                None,
                true,
            ),
            (&by_type, &[("accept", "*/*")], None, false),
            (&by_any, &[], None, true),
            (&by_any, &[("accept", "a/v2")], None, true),
            (&by_any, &[("v", "2")], None, false),
            (&by_any, &[("v", "2")], Some("v=1"), true),
            (&by_any, &[("v", "")], None, false),
            (&by_any, &[], Some("v=2"), false),
            (&by_any, &[("accept", "a/v1")], Some("v=2"), true),
        ] {
            let map = Headers::from_pairs(headers.iter().copied());
            let query = query.map(str::as_bytes);
            let found = selector.is_named(&map, query)
                || selector.preference(&map).is_some()
                || selector.takes_rest(&map, query);
            assert_eq!(found, expected, "{selector:?} {headers:?} {query:?}");
        }
    }

    #[test]
    fn a_label_is_the_first_name_and_ends_no_label() {
        let media = media_type("Application/json;Version=\"1 0\"");
        for (selector, expected) in [
            (VersionSelector::default(), None),
            (
                selector(
                    vec![header("v", &["2024-01-01", "1"]), query("v", &["0"])],
                    true,
                ),
                Some("2024-01-01"),
            ),
            (selector(vec![query("v", &[""])], false), Some("_empty")),
            (
                selector(vec![media], false),
                Some("application/json;version=\"1 0\""),
            ),
            (
                selector(vec![query("v", &["a;.;b=.=c.d;\u{fc}\n"])], false),
                Some("a;_;b=_=c.d;__"),
            ),
        ] {
            assert_eq!(selector.label().as_deref(), expected);
        }
    }

    #[test]
    fn versions_overlap_that_one_place_names() {
        let all = VersionSelector::default();
        let one = selector(vec![header("v", &["1"])], false);
        let two = selector(vec![header("v", &["2", "3"])], true);
        let three = selector(vec![query("v", &["1"]), header("V", &["3"])], false);
        let default = selector(vec![query("v", &["2"])], true);
        for (a, b, expected) in [
            (&all, &all, true),
            (&all, &one, false),
            (&one, &one, true),
            (&one, &two, false),
            (&two, &three, true),
            (&one, &three, false),
            (&two, &default, true),
            (&three, &default, false),
        ] {
            assert_eq!(a.overlaps(b), expected, "{a:?} {b:?}");
            assert_eq!(b.overlaps(a), expected, "{b:?} {a:?}");
        }
    }
}
