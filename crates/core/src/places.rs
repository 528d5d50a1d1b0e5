//! Where a request may carry a credential: finding it there, and taking it out.

use std::borrow::Cow;

use crate::exchange::Exchange;
use crate::headers::{FieldName, Headers, RequestEdits};
use crate::lookup::{
    cookie_value, cookie_values, is_query_pair, query_pairs, query_values, split_cookies,
};

/// The places where a request may carry a credential.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Headers.
    pub headers: Vec<HeaderPlace>,
    /// Query parameters, by their decoded names.
    pub query: Vec<String>,
    /// Cookies.
    pub cookies: Vec<String>,
}

/// A header that may carry a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPlace {
    /// Its name.
    pub name: FieldName,
    /// The authentication scheme in front of the credential, as `Bearer` (RFC 9110 section 11.1);
    /// without one, the whole value is the credential.
    pub scheme: Option<String>,
}

/// What a request carries.
#[derive(Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No credential.
    Nothing,
    /// One credential.
    One(Cow<'a, [u8]>),
    /// More than one, of which the gateway and the upstream might pick different ones.
    Several,
}

impl<'a> Presented<'a> {
    fn add(&mut self, credential: Cow<'a, [u8]>) {
        *self = match self {
            Presented::Nothing => Presented::One(credential),
            Presented::One(_) | Presented::Several => Presented::Several,
        };
    }
}

impl HeaderPlace {
    /// The credentials in the header's values.
    fn values<'a>(&'a self, request: &'a Headers) -> impl Iterator<Item = &'a [u8]> {
        let ours = self.is_ours(request);
        request
            .get_all(self.name.as_str())
            .filter(move |_| ours)
            .flat_map(|value| self.credentials(value))
            .map(Option::unwrap_or_default)
    }

    /// Whether a value of the header has the scheme. Beside one that has it, any other value is one
    /// too many.
    fn is_ours(&self, request: &Headers) -> bool {
        request
            .get_all(self.name.as_str())
            .flat_map(|value| self.credentials(value))
            .any(|credential| credential.is_some())
    }

    /// The credentials of the values in one; `None` for a value without the scheme.
    ///
    /// Envoy joins the values of a repeated `authorization` with commas. One that begins with the
    /// scheme is left whole, for its length; where a comma can't be in a credential, it says that
    /// there are several.
    fn credentials<'v>(&self, value: &'v [u8]) -> impl Iterator<Item = Option<&'v [u8]>> {
        let whole = self.credential(value);
        let parts = match whole {
            Some(_) => None,
            None => Some(value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)),
        };
        let parts = parts.into_iter().flatten();
        whole
            .map(Some)
            .into_iter()
            .chain(parts.map(|part| self.credential(part)))
    }

    fn credential<'v>(&self, value: &'v [u8]) -> Option<&'v [u8]> {
        let Some(scheme) = &self.scheme else {
            return Some(value);
        };
        // The scheme is case-insensitive, and ends with the value or a space.
        let (start, rest) = value.split_at_checked(scheme.len())?;
        let ends = rest.first().is_none_or(|byte| *byte == b' ');
        (start.eq_ignore_ascii_case(scheme.as_bytes()) && ends).then(|| rest.trim_ascii())
    }
}

impl Places {
    /// Looks in every place: a credential that is sent twice is refused even if both are the same,
    /// since what sent it is not in control of its requests.
    pub fn find<'a>(&'a self, request: &'a Headers, path: &'a [u8]) -> Presented<'a> {
        let mut found = Presented::Nothing;
        for place in &self.headers {
            for value in place.values(request) {
                found.add(Cow::Borrowed(value));
            }
        }
        for name in &self.query {
            for value in query_values(path, name) {
                found.add(value);
            }
        }
        for name in &self.cookies {
            for value in cookie_values(request, name) {
                found.add(Cow::Borrowed(value));
            }
        }
        found
    }

    /// Takes the credential out of what the upstream and access logs see.
    pub fn strip<H>(&self, x: &mut Exchange<'_, H>) {
        if let Some(path) = self.strip_query(&x.path) {
            x.path = Cow::Owned(path);
        }
        for place in &self.headers {
            if place.is_ours(x.request) {
                x.edits.remove(place.name.to_header_name());
            }
        }
        match self.strip_cookies(x.request, &x.edits) {
            Some(cookies) if cookies.is_empty() => x.edits.remove("cookie"),
            Some(cookies) => x.edits.set("cookie", cookies),
            None => {}
        }
    }

    /// The path and query without the credential, if it is there.
    fn strip_query(&self, path: &[u8]) -> Option<Vec<u8>> {
        let is_ours = |pair: &[u8]| self.query.iter().any(|name| is_query_pair(pair, name));
        if self.query.is_empty() || !query_pairs(path).any(is_ours) {
            return None;
        }
        let kept: Vec<&[u8]> = query_pairs(path).filter(|pair| !is_ours(pair)).collect();
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

    /// The cookies without the credential, if it is there: one header's value, empty if none is
    /// left. Another policy may have taken out its own before.
    fn strip_cookies(&self, request: &Headers, edits: &RequestEdits) -> Option<Vec<u8>> {
        if self.cookies.is_empty() {
            return None;
        }
        let is_ours = |pair: &[u8]| {
            let mut names = self.cookies.iter();
            names.any(|name| cookie_value(pair, name).is_some())
        };
        let headers: Vec<&[u8]> = match edits.last("cookie") {
            Some(changed) => changed.into_iter().collect(),
            None => request.get_all("cookie").collect(),
        };
        let all = || headers.iter().copied().flat_map(split_cookies);
        if !all().any(is_ours) {
            return None;
        }
        let kept: Vec<&[u8]> = all().filter(|pair| !is_ours(pair)).collect();
        Some(kept.join(&b"; "[..]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn places() -> Places {
        Places {
            headers: vec![HeaderPlace {
                name: FieldName::from_static("x-api-key"),
                scheme: None,
            }],
            query: vec!["api_key".to_owned()],
            cookies: vec!["key".to_owned()],
        }
    }

    /// The key that is found; `Err` if there are several.
    fn find(headers: &[(&str, &str)], path: &str) -> Result<Option<String>, ()> {
        let headers = Headers::from_pairs(headers.iter().copied());
        match places().find(&headers, path.as_bytes()) {
            Presented::Nothing => Ok(None),
            Presented::One(key) => Ok(Some(String::from_utf8(key.into_owned()).unwrap())),
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
                .strip_cookies(&headers, &RequestEdits::default())
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
    fn cookies_that_another_policy_has_taken_out_stay_out() {
        let headers = Headers::from_pairs([("cookie", "token=t; key=k; a=b")]);
        let mut edits = RequestEdits::default();
        edits.set("cookie", "key=k; a=b");
        let left = places().strip_cookies(&headers, &edits);
        assert_eq!(left.as_deref(), Some(&b"a=b"[..]));
        edits.remove("cookie");
        assert_eq!(places().strip_cookies(&headers, &edits), None);
    }

    #[test]
    fn a_scheme_is_told_from_others() {
        let places = Places {
            headers: vec![HeaderPlace {
                name: FieldName::from_static("authorization"),
                scheme: Some("Bearer".to_owned()),
            }],
            ..Places::default()
        };
        let find = |values: &[&str]| {
            let headers = Headers::from_pairs(values.iter().map(|value| ("authorization", value)));
            match places.find(&headers, b"/") {
                Presented::Nothing => "nothing".to_owned(),
                Presented::One(token) => String::from_utf8(token.into_owned()).unwrap(),
                Presented::Several => "several".to_owned(),
            }
        };
        assert_eq!(find(&["Bearer abc"]), "abc");
        assert_eq!(find(&["bEARER   abc "]), "abc");
        assert_eq!(find(&["Bearer"]), "");
        assert_eq!(find(&["Basic abc"]), "nothing");
        assert_eq!(find(&["Bearerabc"]), "nothing");
        assert_eq!(find(&["Bearer a", "Bearer a"]), "several");
        assert_eq!(find(&["Basic a", "Bearer a"]), "several");
        assert_eq!(find(&["Basic a,Bearer a"]), "several");
        assert_eq!(find(&["Digest a=b, bearer  a"]), "several");
        assert_eq!(find(&["Digest a=b, c=\"Bearer d\""]), "nothing");
        assert_eq!(find(&["Bearer a,Bearer a"]), "a,Bearer a");
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
            let _ = (places().strip_query(&path), places().strip_cookies(&headers, &RequestEdits::default()));
        }
    }
}
