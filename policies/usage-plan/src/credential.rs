//! Finding the key in a request, and taking it out.

use std::borrow::Cow;

use tollgate_core::headers::Headers;
use tollgate_core::lookup::{
    cookie_value, cookie_values, cookies, is_query_pair, query_pairs, query_values,
};

use crate::config::KeyConfig;

const DEFAULT_HEADER: &str = "x-api-key";

/// The places where a request may carry its key.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    header: Option<String>,
    query: Option<String>,
    cookie: Option<String>,
}

/// What a request carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    /// No key.
    Nothing,
    /// One key.
    Key(Cow<'a, [u8]>),
    /// More than one, of which the gateway and the upstream might pick different ones.
    Several,
}

impl Places {
    pub(crate) fn new(config: &KeyConfig) -> Self {
        let none_named =
            config.header.is_none() && config.query.is_none() && config.cookie.is_none();
        let header = config
            .header
            .as_ref()
            .map(|header| header.as_str().to_owned());
        Places {
            header: header.or_else(|| none_named.then(|| DEFAULT_HEADER.to_owned())),
            query: config.query.clone(),
            cookie: config.cookie.clone(),
        }
    }

    /// The header, for messages and for removing it.
    pub(crate) fn header(&self) -> Option<&str> {
        self.header.as_deref()
    }

    /// Looks in every place: a key that is sent twice is refused even if both are the same, since
    /// what sent it is not in control of its requests.
    pub(crate) fn find<'a>(&'a self, request: &'a Headers, path: &'a [u8]) -> Presented<'a> {
        let in_header = self
            .header
            .iter()
            .flat_map(|name| request.get_all(name))
            .map(Cow::Borrowed);
        let in_query = self.query.iter().flat_map(|name| query_values(path, name));
        let in_cookie = self
            .cookie
            .iter()
            .flat_map(|name| cookie_values(request, name))
            .map(Cow::Borrowed);
        let mut found = in_header.chain(in_query).chain(in_cookie);
        match (found.next(), found.next()) {
            (None, _) => Presented::Nothing,
            (Some(key), None) => Presented::Key(key),
            (Some(_), Some(_)) => Presented::Several,
        }
    }

    /// The path and query without the key, if it is there.
    pub(crate) fn strip_query(&self, path: &[u8]) -> Option<Vec<u8>> {
        let name = self.query.as_ref()?;
        if !query_pairs(path).any(|pair| is_query_pair(pair, name)) {
            return None;
        }
        let kept: Vec<&[u8]> = query_pairs(path)
            .filter(|pair| !is_query_pair(pair, name))
            .collect();
        let mut stripped = path
            .split(|byte| *byte == b'?')
            .next()
            .unwrap_or_default()
            .to_vec();
        if !kept.is_empty() {
            stripped.push(b'?');
            stripped.extend(kept.join(&b'&'));
        }
        Some(stripped)
    }

    /// The cookies without the key, if it is there: one header's value, empty if none is left.
    pub(crate) fn strip_cookie(&self, request: &Headers) -> Option<Vec<u8>> {
        let name = self.cookie.as_ref()?;
        let is_key = |pair: &&[u8]| cookie_value(pair, name).is_some();
        let all = || cookies(request);
        if !all().any(|pair| is_key(&pair)) {
            return None;
        }
        Some(
            all()
                .filter(|pair| !is_key(pair))
                .collect::<Vec<_>>()
                .join(&b"; "[..]),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places() -> Places {
        Places {
            header: Some("x-api-key".to_owned()),
            query: Some("api_key".to_owned()),
            cookie: Some("key".to_owned()),
        }
    }

    /// The key that is found; `Err` if there are several.
    fn find(headers: &[(&str, &str)], path: &str) -> Result<Option<String>, ()> {
        let headers = Headers::from_pairs(headers.iter().copied());
        match places().find(&headers, path.as_bytes()) {
            Presented::Nothing => Ok(None),
            Presented::Key(key) => Ok(Some(String::from_utf8(key.into_owned()).unwrap())),
            Presented::Several => Err(()),
        }
    }

    fn key(text: &str) -> Result<Option<String>, ()> {
        Ok(Some(text.to_owned()))
    }

    #[test]
    fn a_key_is_found_in_each_place() {
        assert_eq!(find(&[("x-api-key", "k")], "/"), key("k"));
        assert_eq!(find(&[], "/a?x=1&api_key=k%2B1"), key("k+1"));
        assert_eq!(find(&[], "/a?api%5Fkey=k"), key("k"));
        assert_eq!(find(&[("cookie", "a=b; key=k")], "/"), key("k"));
        assert_eq!(
            find(&[("cookie", "a=b"), ("cookie", " key = k ")], "/"),
            key("k")
        );
        assert_eq!(find(&[("cookie", "key=\"k\"")], "/"), key("k"));
        assert_eq!(find(&[("cookie", "key=\"")], "/"), key("\""));
        assert_eq!(find(&[("x-api-key", "")], "/"), key(""));
        assert_eq!(
            find(
                &[("authorization", "k"), ("cookie", "keys=k")],
                "/api_key=k?api_keys=k"
            ),
            Ok(None)
        );
    }

    #[test]
    fn a_key_that_is_sent_twice_is_not_one() {
        for (headers, path) in [
            (&[("x-api-key", "k"), ("x-api-key", "k")][..], "/"),
            (&[("x-api-key", "k")], "/?api_key=k"),
            (&[("x-api-key", "k"), ("cookie", "key=k")], "/"),
            (&[], "/?api_key=k&api_key=l"),
            (&[], "/?api_key=k&api%5fkey"),
            (&[("cookie", "key=k; key=l")], "/"),
        ] {
            assert_eq!(find(headers, path), Err(()), "{headers:?} {path}");
        }
    }

    #[test]
    fn the_query_loses_the_key_and_nothing_else() {
        for (path, stripped) in [
            ("/a?api_key=k", Some("/a")),
            ("/a?x=%20+&api%5Fkey=k&y", Some("/a?x=%20+&y")),
            ("/a?x=1?api_key&api_key=1&&", Some("/a?x=1?api_key")),
            ("/a?x=1&&", None),
            ("/a", None),
            ("/a?", None),
        ] {
            let found = places().strip_query(path.as_bytes());
            assert_eq!(found.as_deref(), stripped.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn the_cookies_lose_the_key_and_nothing_else() {
        let strip = |cookies: &[&str]| {
            let headers = Headers::from_pairs(cookies.iter().map(|value| ("cookie", *value)));
            places()
                .strip_cookie(&headers)
                .map(|left| String::from_utf8(left).unwrap())
        };
        assert_eq!(
            strip(&["a=b; key=k; c=\"d e\"", "f"]).as_deref(),
            Some("a=b; c=\"d e\"; f")
        );
        assert_eq!(strip(&["key=k"]).as_deref(), Some(""));
        assert_eq!(strip(&["a=b"]), None);
    }

    #[test]
    fn without_a_place_the_key_is_in_x_api_key() {
        assert_eq!(
            Places::new(&KeyConfig::default()).header(),
            Some("x-api-key")
        );
        let query = KeyConfig {
            query: Some("k".to_owned()),
            ..KeyConfig::default()
        };
        assert_eq!(Places::new(&query).header(), None);
    }

    proptest! {
        #[test]
        fn a_stripped_query_holds_no_key(path in "/[a-z]{0,3}(\\?([a-z_%5fF=&;+]|api_key|api%5Fkey){0,12})?") {
            let stripped = places().strip_query(path.as_bytes()).unwrap_or(path.into_bytes());
            let headers = Headers::default();
            let places = places();
            prop_assert_eq!(places.find(&headers, &stripped), Presented::Nothing);
        }

        #[test]
        fn no_bytes_make_it_panic(
            path in proptest::collection::vec(any::<u8>(), 0..60),
            cookie in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let headers = Headers::from_pairs([("cookie", cookie)]);
            let _ = places().find(&headers, &path);
            let _ = (places().strip_query(&path), places().strip_cookie(&headers));
        }
    }
}
