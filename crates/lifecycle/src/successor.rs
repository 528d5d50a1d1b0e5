//! The URI of a request's thing in another version.

use std::fmt;
use std::str::FromStr;

use tollgate_core::apis::{InvalidTemplate, MissingCapture, Template};
use tollgate_core::config::quote;
use tollgate_core::lookup::is_query_pair;
use tollgate_core::target::RequestTarget;

use crate::uri::{UriFault, check_characters, push_query, split_origin};

/// Where a request's thing is in another version: `/v2/accounts/{**}`, or on another host
/// `https://api2.example.com/accounts/{id}`, perhaps with a query, `/accounts/{**}?version=2`.
///
/// The wildcards of the path are [filled](Template::fill) from what the API's own path took. The
/// request's query follows, without the parameters that are given here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// `https://api2.example.com`, or empty.
    origin: Box<str>,
    path: Template,
    /// What stands behind the `?`; perhaps empty.
    query: Box<str>,
}

impl Successor {
    /// Checks that every wildcard can be filled from what `source` takes of a path.
    pub fn check_fill(&self, source: &Template) -> Result<(), MissingCapture> {
        self.path.check_fill(source)
    }

    /// Whether it names a host.
    pub fn has_origin(&self) -> bool {
        !self.origin.is_empty()
    }

    /// The values that it gives a query parameter.
    pub(crate) fn query_values(&self, name: &str) -> impl Iterator<Item = String> {
        form_urlencoded::parse(self.query.as_bytes())
            .filter(move |(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The URI for a request whose path one of `sources`, the API's templates, takes; the first that
    /// does is the one that counts. `left_out` are parameters of the request's query that do not
    /// come along.
    ///
    /// It always begins with the configured origin, or with one slash and something else than a
    /// slash, so no request can make it lead to a host of its own choice. It has nothing in it that
    /// would end a header field's value or a part of it.
    pub fn uri<'n>(
        &self,
        sources: &[Template],
        target: &RequestTarget<'_>,
        left_out: impl Iterator<Item = &'n str> + Clone,
    ) -> Option<String> {
        let captures = sources.iter().find_map(|source| source.captures(target))?;
        let query = target.query().unwrap_or_default();
        let mut uri = String::with_capacity(
            [self.origin.len(), target.path().len(), query.len()]
                .into_iter()
                .fold(TYPICAL_GROWTH, usize::saturating_add),
        );
        uri.push_str(&self.origin);
        self.path.fill_into(&captures, &mut uri).ok()?;
        // No template gives this. If one ever did, a request could name a host.
        if uri
            .strip_prefix(&*self.origin)
            .is_none_or(|path| path.starts_with("//"))
        {
            return None;
        }
        let is_kept = |pair: &&[u8]| {
            !pair.is_empty()
                && !left_out.clone().any(|name| is_query_pair(pair, name))
                && !self.gives_parameter_of(pair)
        };
        let pairs = query.split(|byte| *byte == b'&');
        let own = Some(self.query.as_bytes()).filter(|query| !query.is_empty());
        for (index, pair) in pairs.filter(is_kept).chain(own).enumerate() {
            uri.push(if index == 0 { '?' } else { '&' });
            push_query(&mut uri, pair);
        }
        Some(uri)
    }

    fn gives_parameter_of(&self, pair: &[u8]) -> bool {
        !self.query.is_empty()
            && form_urlencoded::parse(self.query.as_bytes())
                .any(|(name, _)| is_query_pair(pair, &name))
    }
}

/// How much longer a URI may get than the request's, without its memory being moved: what the
/// successor has of path and query.
const TYPICAL_GROWTH: usize = 32;

/// The text can't be where a successor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSuccessor {
    text: String,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Uri(UriFault),
    Path(InvalidTemplate),
    Fragment,
    QueryWildcard,
}

impl fmt::Display for InvalidSuccessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = quote(&self.text);
        match &self.fault {
            Fault::Uri(fault) => write!(f, "found the URI {text}, {fault}"),
            Fault::Path(error) => error.fmt(f),
            Fault::Fragment => write!(f, "found the URI {text} with a fragment, leave it out"),
            Fault::QueryWildcard => write!(
                f,
                "found the URI {text} with a wildcard in its query, expected it in the path; the \
                 request's query comes along by itself"
            ),
        }
    }
}

impl std::error::Error for InvalidSuccessor {}

impl FromStr for Successor {
    type Err = InvalidSuccessor;

    fn from_str(text: &str) -> Result<Self, InvalidSuccessor> {
        parse(text).map_err(|fault| InvalidSuccessor {
            text: text.to_owned(),
            fault,
        })
    }
}

fn parse(text: &str) -> Result<Successor, Fault> {
    let (origin, rest) = split_origin(text).map_err(Fault::Uri)?;
    if rest.contains('#') {
        return Err(Fault::Fragment);
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains(['{', '}']) {
        return Err(Fault::QueryWildcard);
    }
    check_characters(query).map_err(Fault::Uri)?;
    let path = if path.is_empty() { "/" } else { path };
    Ok(Successor {
        origin: origin.into(),
        path: Template::parse(path).map_err(Fault::Path)?,
        query: query.into(),
    })
}

tollgate_core::deserr_from_str!(Successor);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tollgate_core::target::{EscapedSlashes, PathOptions};
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const OPTIONS: PathOptions = PathOptions {
        escaped_slashes: EscapedSlashes::Keep,
        letter_case: tollgate_core::target::LetterCase::Exact,
    };

    fn uri(successor: &str, source: &str, raw: &str, left_out: &[&str]) -> Option<String> {
        let successor: Successor = successor.parse().unwrap();
        let sources = [Template::parse(source).unwrap()];
        let target = RequestTarget::parse(raw.as_bytes(), &OPTIONS).unwrap();
        successor.uri(&sources, &target, left_out.iter().copied())
    }

    #[test]
    fn a_successor_is_computed_from_the_request() {
        for (successor, source, raw, left_out, expected) in [
            (
                "/v2/accounts/{**}",
                "/v1/accounts/**",
                "/v1/accounts/7?a=b",
                &[][..],
                "/v2/accounts/7?a=b",
            ),
            (
                "/v2/{id}",
                "/v1/{id}",
                "/v1/a%2Fb%20c?q=%zz",
                &[],
                "/v2/a%2Fb%20c?q=%zz",
            ),
            (
                "https://b.example/{**}",
                "/v1/**",
                "/v1?a",
                &[],
                "https://b.example/?a",
            ),
            (
                "https://b.example:1",
                "/v1/**",
                "/v1/x",
                &[],
                "https://b.example:1/",
            ),
            (
                "/a/{**}?v=2",
                "/a/**",
                "/a/b?x=1&v=1&%76=0&&y",
                &[],
                "/a/b?x=1&y&v=2",
            ),
            ("/a/{**}?v=2", "/a/**", "/a/b?v=1", &[], "/a/b?v=2"),
            ("/a/{**}", "/a/**", "/a/b?v=1&x", &["v"], "/a/b?x"),
            ("/a/{**}", "/a/**", "/a/b?v=1", &["v"], "/a/b"),
            ("/a/{**}", "/a/**", "/a/b?", &[], "/a/b"),
            ("/v2/{**}", "/v1/**", "/v1/?a=b", &[], "/v2/?a=b"),
            ("/v2/{id}", "/v1/{id}", "/v1/7/", &[], "/v2/7/"),
            (
                "https://b.example/{**}",
                "/v1/**",
                "/v1/",
                &[],
                "https://b.example/",
            ),
            ("/{**}", "/**", "//evil.example//x", &[], "/evil.example/x"),
            ("/{**}", "/v1/**", "/v1//evil.example", &[], "/evil.example"),
            (
                "/a/**",
                "/a/**",
                "/a/b?x=>;\"\u{e9}, y<",
                &[],
                "/a/b?x=%3E;%22%C3%A9,%20y%3C",
            ),
        ] {
            assert_eq!(
                uri(successor, source, raw, left_out).unwrap(),
                expected,
                "{successor} {raw}"
            );
        }
        assert_eq!(uri("/v2/**", "/v1/**", "/v3/a", &[]), None);
    }

    #[test]
    fn a_misspelt_successor_is_refused_with_a_cure() {
        for (text, expected) in [
            ("v2", "a path that begins with one slash"),
            ("//evil.example/{**}", "a path that begins with one slash"),
            ("https://{host}/a", "expected a host behind the //"),
            ("/v2#a", "with a fragment, leave it out"),
            ("/v2?id={id}", "with a wildcard in its query"),
            ("/v2?a b", "which has ' '"),
            ("/v2/{id}.json", "a part of the segment"),
            ("/v2//a", "two slashes in a row"),
        ] {
            let error = text.parse::<Successor>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_request_leads_to_another_host_or_out_of_a_link(
            raw in "/[/.a%25CFf\\\\@:\"<>;,\u{e9}]{0,16}(\\?\\PC{0,12})?",
            (successor, origin) in prop::sample::select(vec![
                ("/{**}", ""),
                ("/**?v=2", ""),
                ("https://b.example/{**}", "https://b.example"),
                ("https://b.example", "https://b.example"),
            ]),
            source in prop::sample::select(vec!["/**", "/a/**"]),
        ) {
            let successor: Successor = successor.parse().unwrap();
            let sources = [Template::parse(source).unwrap()];
            let unread = RequestTarget::unread(raw.as_bytes());
            let read = RequestTarget::parse(raw.as_bytes(), &OPTIONS).ok();
            for target in [Some(unread), read].into_iter().flatten() {
                let Some(uri) = successor.uri(&sources, &target, std::iter::empty()) else {
                    continue;
                };
                let path = uri.strip_prefix(origin).unwrap();
                prop_assert!(path.starts_with('/'), "{}", uri);
                prop_assert!(!path.starts_with("//") && !path.starts_with("/\\"), "{}", uri);
                prop_assert!(uri.bytes().all(|byte| byte.is_ascii_graphic()), "{}", uri);
                prop_assert!(!uri.contains(['<', '>', '"', '\\', '#']), "{}", uri);
            }
        }
    }
}
