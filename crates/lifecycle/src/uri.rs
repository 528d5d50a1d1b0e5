//! URIs that a configuration gives, in no need of escaping in a header.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_encode_byte;
use tollgate_core::config::quote;

/// Why a text can't be a URI of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UriFault {
    /// It begins neither with `http://` or `https://` nor with one slash.
    Start,
    /// What follows the scheme is no host with an optional port.
    Authority,
    /// It has a character that a URI can't have.
    Character(char),
}

impl fmt::Display for UriFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UriFault::Start => f.write_str(
                "expected one that begins with https:// and a host, or a path that begins with one \
                 slash",
            ),
            UriFault::Authority => f.write_str(
                "expected a host behind the //, with a port if need be and nothing else, as in \
                 https://api.example.com:8443/v2",
            ),
            UriFault::Character(character) => write!(
                f,
                "which has {character:?}, expected the characters of a URI: write it in percent \
                 encoding",
            ),
        }
    }
}

/// Splits a URI into its origin, which is empty for a path, and what follows.
///
/// A path begins with one slash: with two it would name a host, and a browser takes a backslash for
/// a slash.
pub(crate) fn split_origin(uri: &str) -> Result<(&str, &str), UriFault> {
    let scheme = ["https://", "http://"].into_iter().find_map(|scheme| {
        let head = uri.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(scheme)
    });
    let Some(scheme) = scheme else {
        let local = uri.starts_with('/') && !uri.starts_with("//") && !uri.starts_with("/\\");
        return local.then_some(("", uri)).ok_or(UriFault::Start);
    };
    let authority = uri.get(scheme.len()..).unwrap_or_default();
    let length = authority.find(['/', '?', '#']).unwrap_or(authority.len());
    let authority = authority.get(..length).unwrap_or_default();
    check_authority(authority).ok_or(UriFault::Authority)?;
    uri.split_at_checked(scheme.len().saturating_add(length))
        .ok_or(UriFault::Authority)
}

/// A name, an IPv4 address, or an IPv6 address in brackets; perhaps a port.
fn check_authority(authority: &str) -> Option<()> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            ("v6", port)
        }
        None => authority.split_at_checked(authority.find(':').unwrap_or(authority.len()))?,
    };
    let in_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let begins = host.bytes().next()?.is_ascii_alphanumeric();
    let valid_port = match port.strip_prefix(':') {
        Some(port) => {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => port.is_empty(),
    };
    (begins && host.bytes().all(in_host) && valid_port).then_some(())
}

/// Checks that a text has only what a URI may have: no delimiter of a header field is among it.
pub(crate) fn check_characters(text: &str) -> Result<(), UriFault> {
    let found = text
        .chars()
        .find(|character| match u8::try_from(*character) {
            Ok(byte) => !is_query_byte(byte) && byte != b'#',
            Err(_) => true,
        });
    found.map_or(Ok(()), |character| Err(UriFault::Character(character)))
}

/// Writes a query, or a part of one, with what no URI has escaped; what is escaped already stays.
pub(crate) fn push_query(uri: &mut String, query: &[u8]) {
    // Most have nothing to be escaped.
    if query.iter().all(|byte| is_query_byte(*byte))
        && let Ok(query) = std::str::from_utf8(query)
    {
        uri.push_str(query);
        return;
    }
    for byte in query {
        match is_query_byte(*byte) {
            true => uri.push(char::from(*byte)),
            false => uri.push_str(percent_encode_byte(*byte)),
        }
    }
}

/// RFC 3986 section 3.4, and the percent sign of escapes.
fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]".contains(&byte)
}

/// Where the end of a version is documented: `https://dev.example.com/v2`, or a path on the API's own
/// host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docs(Box<str>);

impl Docs {
    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_target(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

/// The text can't be the URI of documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDocs {
    text: String,
    fault: UriFault,
}

impl fmt::Display for InvalidDocs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found the URI {}, {}", quote(&self.text), self.fault)
    }
}

impl std::error::Error for InvalidDocs {}

impl FromStr for Docs {
    type Err = InvalidDocs;

    fn from_str(text: &str) -> Result<Self, InvalidDocs> {
        split_origin(text)
            .and_then(|_| check_characters(text))
            .map(|()| Docs(text.into()))
            .map_err(|fault| InvalidDocs {
                text: text.to_owned(),
                fault,
            })
    }
}

tollgate_core::deserr_from_str!(Docs);

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn documentation_is_an_absolute_uri_or_a_path() {
        for good in [
            "https://dev.bank.example",
            "HTTPS://dev.bank.example:8443/v2?a=b#sunset",
            "http://[::1]:8080/a",
            "http://127.0.0.1/",
            "/docs/v2#end",
            "/",
        ] {
            assert_eq!(good.parse::<Docs>().unwrap().as_str(), good);
        }
        for (bad, expected) in [
            (
                "",
                "begins with https:// and a host, or a path that begins with one slash",
            ),
            ("docs", "a path that begins with one slash"),
            ("//evil.example", "a path that begins with one slash"),
            ("/\\evil.example", "a path that begins with one slash"),
            ("ftp://a.example", "begins with https://"),
            ("javascript:alert(1)", "begins with https://"),
            ("https://", "expected a host behind the //"),
            ("https:///docs", "expected a host behind the //"),
            ("https://user@a.example/", "expected a host behind the //"),
            ("https://a.example:0/", "expected a host behind the //"),
            ("https://a.example:+1/", "expected a host behind the //"),
            ("https://a.example:99999/", "expected a host behind the //"),
            ("https://a.example:/", "expected a host behind the //"),
            ("https://[::1/", "expected a host behind the //"),
            ("https://-a.example/", "expected a host behind the //"),
            ("https://a\\b/", "expected a host behind the //"),
            (
                "https://a.example/a b",
                "which has ' ', expected the characters of a URI",
            ),
            ("https://a.example/>", "which has '>'"),
            ("https://a.example/\"", "which has '\"'"),
            ("https://a.example/\u{e9}", "which has 'é'"),
            ("/a\r\nb", "which has '\\r'"),
        ] {
            let error = bad.parse::<Docs>().unwrap_err().to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}
