//! Methods and paths, written in one: `POST /v1/accounts/**`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::method::check_method;
use super::routes::{Route, Routes};
use super::{InvalidMethod, InvalidTemplate, Method, Template};
use crate::config::quote;
use crate::target::{AmbiguousRequest, LetterCase, RequestTarget};

/// A method, a template of paths, or both: `POST /v1/accounts/**`, `/v1/accounts/**`, `POST`. That
/// of `GET` is for `HEAD` too, as [`Method`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodPattern {
    method: Option<Method>,
    path: Option<Template>,
}

impl MethodPattern {
    /// The method; none for all.
    pub fn method(&self) -> Option<&Method> {
        self.method.as_ref()
    }

    /// The paths; none for all.
    pub fn path(&self) -> Option<&Template> {
        self.path.as_ref()
    }
}

/// The text is not a method pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidMethodPattern {
    /// It has no method and no path, or more than one.
    Malformed(String),
    /// The method is none.
    Method(InvalidMethod),
    /// The path is none.
    Path(InvalidTemplate),
}

impl fmt::Display for InvalidMethodPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) => write!(
                f,
                "{} is not a method and path, expected one such as \"POST /v1/accounts/**\", \
                 \"/v1/accounts/**\" or \"POST\"",
                quote(text)
            ),
            Self::Method(error) => error.fmt(f),
            Self::Path(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InvalidMethodPattern {}

impl FromStr for MethodPattern {
    type Err = InvalidMethodPattern;

    fn from_str(text: &str) -> Result<Self, InvalidMethodPattern> {
        let mut words = text.split_whitespace();
        let (method, path) = match (words.next(), words.next(), words.next()) {
            (Some(path), None, None) if path.starts_with('/') => (None, Some(path)),
            (Some(method), path, None) if !method.starts_with('/') => (Some(method), path),
            _ => return Err(InvalidMethodPattern::Malformed(text.to_owned())),
        };
        Ok(MethodPattern {
            method: method
                .map(str::parse)
                .transpose()
                .map_err(InvalidMethodPattern::Method)?,
            path: path
                .map(str::parse)
                .transpose()
                .map_err(InvalidMethodPattern::Path)?,
        })
    }
}

impl fmt::Display for MethodPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.method, &self.path) {
            (Some(method), Some(path)) => write!(f, "{method} {path}"),
            (Some(method), None) => method.fmt(f),
            (None, Some(path)) => path.fmt(f),
            // No text is read as this one.
            (None, None) => f.write_str("/**"),
        }
    }
}

crate::deserr_from_str!(MethodPattern);

/// A value for each of a set of method patterns, found by the method and path of a request.
///
/// As between APIs, the more specific path goes before the more specific method:
/// `/v1/accounts/**` before `POST`. Of methods, `HEAD` itself goes before `GET`, which stands for
/// it, and this before all.
#[derive(Clone, Debug)]
pub struct PatternTable<T> {
    entries: Vec<(MethodPattern, T)>,
    /// Leads to indices of `entries`; none if there are no entries.
    routes: Option<Routes<usize>>,
}

impl<T> Default for PatternTable<T> {
    fn default() -> Self {
        PatternTable {
            entries: Vec::new(),
            routes: None,
        }
    }
}

/// The patterns can't be told from each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPatterns {
    /// Two take exactly the same requests.
    Duplicate {
        /// The position of the later one.
        index: usize,
        /// The later one.
        pattern: MethodPattern,
        /// The earlier one.
        earlier: MethodPattern,
    },
    /// The router can't hold them; its reason.
    Unroutable(String),
}

impl fmt::Display for InvalidPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate {
                pattern, earlier, ..
            } => {
                write!(
                    f,
                    "\"{pattern}\" takes the same requests as \"{earlier}\", remove one"
                )
            }
            Self::Unroutable(reason) => write!(f, "the patterns can't be routed: {reason}"),
        }
    }
}

impl std::error::Error for InvalidPatterns {}

impl<T> PatternTable<T> {
    /// What the patterns stand for, in the order in which they were given.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Makes a table for paths that are read in this letter case. Of patterns that take the same
    /// requests every later one is reported.
    pub fn compile(
        entries: impl IntoIterator<Item = (MethodPattern, T)>,
        letter_case: LetterCase,
    ) -> Result<Self, Vec<InvalidPatterns>> {
        let entries: Vec<_> = entries.into_iter().collect();
        let templates: Vec<Template> = entries
            .iter()
            .map(|(pattern, _)| match &pattern.path {
                Some(template) => template.clone().folded(letter_case),
                None => Template::everything(),
            })
            .collect();
        let duplicates = duplicates(entries.iter().map(|(pattern, _)| pattern).zip(&templates));
        if !duplicates.is_empty() {
            return Err(duplicates);
        }
        if entries.is_empty() {
            return Ok(PatternTable::default());
        }
        let routes: Vec<Route<'_, usize>> = entries
            .iter()
            .zip(&templates)
            .enumerate()
            .map(|(value, ((pattern, _), template))| Route {
                method: pattern.method.as_ref(),
                template,
                value,
            })
            .collect();
        let routes = Routes::compile(&routes)
            .map_err(|error| vec![InvalidPatterns::Unroutable(error.to_string())])?;
        Ok(PatternTable {
            entries,
            routes: Some(routes),
        })
    }

    /// The pattern that takes the request most specifically, and its value. The request is refused
    /// if the readings of its path lead to different patterns, or if its method could be taken for
    /// another where patterns name methods.
    pub fn find(
        &self,
        method: &[u8],
        target: &RequestTarget<'_>,
    ) -> Result<Option<&(MethodPattern, T)>, AmbiguousRequest> {
        let Some(routes) = &self.routes else {
            return Ok(None);
        };
        if routes.name_methods() {
            check_method(method)?;
        }
        let index = target.agree(|path| routes.find(method, path))?;
        Ok(index.and_then(|index| self.entries.get(index)))
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The patterns and their values, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &(MethodPattern, T)> {
        self.entries.iter()
    }
}

/// The patterns that take the same requests as an earlier one. Each comes with the template that
/// its paths are compared with.
fn duplicates<'p>(
    patterns: impl Iterator<Item = (&'p MethodPattern, &'p Template)>,
) -> Vec<InvalidPatterns> {
    let mut seen = BTreeMap::new();
    let mut duplicates = Vec::new();
    for (index, (pattern, template)) in patterns.enumerate() {
        let key = (&pattern.method, template.shape());
        let earlier = *seen.entry(key).or_insert(pattern);
        if !std::ptr::eq(earlier, pattern) {
            let (pattern, earlier) = (pattern.clone(), earlier.clone());
            duplicates.push(InvalidPatterns::Duplicate {
                index,
                pattern,
                earlier,
            });
        }
    }
    duplicates
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::target::PathOptions;

    fn table(
        patterns: &[&'static str],
    ) -> Result<PatternTable<&'static str>, Vec<InvalidPatterns>> {
        let entries = patterns.iter().map(|text| (text.parse().unwrap(), *text));
        PatternTable::compile(entries, LetterCase::Exact)
    }

    fn find(
        table: &PatternTable<&'static str>,
        method: &str,
        path: &str,
    ) -> Result<Option<&'static str>, AmbiguousRequest> {
        let target = RequestTarget::parse(path.as_bytes(), &PathOptions::default())?;
        Ok(table
            .find(method.as_bytes(), &target)?
            .map(|(_, value)| *value))
    }

    #[test]
    fn patterns_are_read_back() {
        for (text, shown) in [
            ("POST /v1/accounts/**", "POST /v1/accounts/**"),
            ("  POST   /v1/{id}/ ", "POST /v1/{id}"),
            ("/v1/accounts/**", "/v1/accounts/**"),
            ("POST", "POST"),
        ] {
            let pattern: MethodPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), shown);
            assert_eq!(shown.parse(), Ok(pattern));
        }
    }

    #[test]
    fn a_misspelt_pattern_is_refused_with_a_cure() {
        for (text, expected) in [
            (
                "",
                "\"\" is not a method and path, expected one such as \"POST /v1/accounts/**\"",
            ),
            ("GET POST /a", "\"GET POST /a\" is not a method and path"),
            ("/a POST", "\"/a POST\" is not a method and path"),
            ("get /a", "write \"GET\" instead of \"get\""),
            ("GET a", "the path \"a\" does not begin with a slash"),
            ("GET /*.json", "a part of the segment \"*.json\""),
            ("* /a", "leave the method out"),
        ] {
            let error = text.parse::<MethodPattern>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_most_specific_pattern_has_the_request() {
        let patterns = [
            "POST",
            "POST /v1/**",
            "/v1/accounts/**",
            "GET /v1/accounts/{id}",
        ];
        let table = table(&patterns).unwrap();
        for (method, path, expected) in [
            ("POST", "/v2", Some("POST")),
            ("POST", "", Some("POST")),
            ("POST", "/v1/cards", Some("POST /v1/**")),
            ("POST", "/v1/accounts/7", Some("/v1/accounts/**")),
            ("GET", "/v1/accounts/7", Some("GET /v1/accounts/{id}")),
            ("GET", "/v1/accounts", Some("/v1/accounts/**")),
            ("GET", "/v1/cards", None),
            ("OPTIONS", "*", None),
        ] {
            assert_eq!(find(&table, method, path), Ok(expected), "{method} {path}");
        }
        assert_eq!(
            find(&table, "GET", "/v1/accounts;x/7"),
            Err(AmbiguousRequest::PathReadings)
        );
        assert_eq!(find(&table, "POST", "/v1/a;x/7"), Ok(Some("POST /v1/**")));
    }

    #[test]
    fn a_pattern_for_get_has_head_unless_one_for_the_same_paths_names_it() {
        let patterns = ["GET /v1/**", "HEAD /v1/a", "GET /v1/a", "/v1/b", "HEAD"];
        let table = table(&patterns).unwrap();
        for (path, expected) in [
            ("/v1/a", "HEAD /v1/a"),
            ("/v1/c", "GET /v1/**"),
            ("/v1/b", "/v1/b"),
            ("/v2", "HEAD"),
        ] {
            assert_eq!(find(&table, "HEAD", path), Ok(Some(expected)), "{path}");
        }
    }

    #[test]
    fn a_method_that_could_be_another_is_refused_where_methods_are_named() {
        let refused = Err(AmbiguousRequest::MalformedMethod);
        for named in ["POST", "POST /v1/**"] {
            let table = table(&[named, "/v1/a"]).unwrap();
            for method in ["post", "Post", ""] {
                assert_eq!(find(&table, method, "/v1/a"), refused, "{named} {method}");
            }
        }
        let table = table(&["/v1/**"]).unwrap();
        assert_eq!(find(&table, "post", "/v1/a"), Ok(Some("/v1/**")));
    }

    #[test]
    fn letter_case_is_ignored_where_the_target_ignores_it() {
        let options = PathOptions {
            letter_case: LetterCase::Ignore,
            ..PathOptions::default()
        };
        let compile = |patterns: &[&'static str]| {
            let entries = patterns.iter().map(|text| (text.parse().unwrap(), *text));
            PatternTable::compile(entries, options.letter_case)
        };
        let table = compile(&["GET /v1/Accounts/{Id}", "/v1/**"]).unwrap();
        for path in ["/v1/accounts/7", "/V1/ACCOUNTS/aB", "/v1/%41ccounts/7"] {
            let target = RequestTarget::parse(path.as_bytes(), &options).unwrap();
            let (pattern, _) = table.find(b"GET", &target).unwrap().unwrap();
            assert_eq!(pattern.to_string(), "GET /v1/Accounts/{Id}", "{path}");
        }
        let errors = compile(&["/v1/accounts", "GET /v1/Accounts", "/v1/Accounts"]).unwrap_err();
        let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let expected = "\"/v1/Accounts\" takes the same requests as \"/v1/accounts\", remove one";
        assert_eq!(messages, [expected]);
    }

    #[test]
    fn an_empty_table_finds_nothing_and_refuses_nothing() {
        let table = table(&[]).unwrap();
        assert!(table.is_empty());
        assert_eq!(find(&table, "GET", "/v1;x/a"), Ok(None));
    }

    #[test]
    fn patterns_that_take_the_same_requests_are_reported() {
        let errors = table(&["GET /a/{id}", "GET /a/*", "POST", "POST /**", "/a/*"]).unwrap_err();
        let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "\"GET /a/*\" takes the same requests as \"GET /a/{id}\", remove one",
                "\"POST /**\" takes the same requests as \"POST\", remove one",
            ]
        );
        assert!(matches!(
            errors[1],
            InvalidPatterns::Duplicate { index: 3, .. }
        ));
    }
}
