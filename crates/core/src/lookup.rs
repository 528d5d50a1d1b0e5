//! Finding values in the query and in cookies.

use std::borrow::Cow;

use form_urlencoded::parse;

use crate::headers::Headers;

/// The pairs of a path's query, as they are written; empty ones are left out.
pub fn query_pairs(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let query = path
        .iter()
        .position(|byte| *byte == b'?')
        .and_then(|mark| path.get(mark..)?.get(1..));
    query
        .unwrap_or_default()
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
}

/// Whether a pair of a query has this name once decoded: `api%5Fkey` is `api_key` to the upstream
/// too.
pub fn is_query_pair(pair: &[u8], name: &str) -> bool {
    parse(pair).next().is_some_and(|(found, _)| found == name)
}

/// The decoded values of a query parameter.
pub fn query_values<'a>(path: &'a [u8], name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    query_pairs(path)
        .filter(move |pair| is_query_pair(pair, name))
        .filter_map(|pair| parse(pair).next())
        .map(|(_, value)| match value {
            Cow::Borrowed(value) => Cow::Borrowed(value.as_bytes()),
            Cow::Owned(value) => Cow::Owned(value.into_bytes()),
        })
}

/// The cookies of a request, as they are written (RFC 6265 section 4.2.1).
pub fn cookies(request: &Headers) -> impl Iterator<Item = &[u8]> {
    request.get_all("cookie").flat_map(split_cookies)
}

/// The cookies of one `cookie` header.
pub(crate) fn split_cookies(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    header
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
}

/// The value of a cookie if it has this name.
pub fn cookie_value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (found, value) = pair.split_at_checked(pair.iter().position(|byte| *byte == b'=')?)?;
    let value = value.strip_prefix(b"=")?.trim_ascii();
    // RFC 6265 section 4.1.1: a value may stand in double quotes.
    let unquoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    (found.trim_ascii() == name.as_bytes()).then_some(unquoted.unwrap_or(value))
}

/// The values of the cookies of this name.
pub fn cookie_values<'a>(request: &'a Headers, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    cookies(request).filter_map(move |pair| cookie_value(pair, name))
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn query_values_are_decoded() {
        let values: Vec<_> = query_values(b"/a?x=1&y%5f=a+b%26&&y_=2&y_#", "y_").collect();
        assert_eq!(values, [&b"a b&"[..], b"2"]);
        assert_eq!(query_values(b"/y_=1", "y_").count(), 0);
    }

    #[test]
    fn cookies_may_be_in_several_headers_and_quoted() {
        let headers =
            Headers::from_pairs([("cookie", "a=1; b = 2 ;b=\"3\""), ("cookie", ";; b=\"; b")]);
        assert_eq!(
            cookie_values(&headers, "b").collect::<Vec<_>>(),
            [&b"2"[..], b"3", b"\""]
        );
    }
}
