//! Origins as a configuration allows them.

use std::fmt;
use std::str::FromStr;

use tollgate_core::config::quote;
use tollgate_core::deserr_from_str;

/// Origins whose scripts may read an answer, in the form in which browsers write them (RFC 6454
/// section 6.2): `https://app.bank.example`, `http://localhost:3000`. All hosts below a name are
/// `https://*.bank.example`, without that name itself; `*` is every origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Every origin.
    Any,
    /// This one, in lower case.
    Exact(Box<str>),
    /// Those whose host lies below a name.
    Below {
        /// `https://`.
        scheme: Box<str>,
        /// `.bank.example`, with the port if there is one.
        suffix: Box<str>,
    },
}

impl AllowedOrigin {
    /// Whether an `origin` of a request is one of these.
    pub(crate) fn takes(&self, origin: &str) -> bool {
        match self {
            AllowedOrigin::Any => true,
            AllowedOrigin::Exact(own) => origin.eq_ignore_ascii_case(own),
            AllowedOrigin::Below { scheme, suffix } => {
                strip_ends(origin.as_bytes(), scheme.as_bytes(), suffix.as_bytes())
                    .is_some_and(is_host)
            }
        }
    }
}

/// What is between a beginning and an end, in any letter case.
fn strip_ends<'a>(text: &'a [u8], start: &[u8], end: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(start.len())?;
    let (middle, tail) = rest.split_at_checked(rest.len().checked_sub(end.len())?)?;
    (head.eq_ignore_ascii_case(start) && tail.eq_ignore_ascii_case(end)).then_some(middle)
}

/// Whether a text is one or more labels of a host's name. An underscore is no part of a name that
/// can be registered, and yet of some that are served.
fn is_host(text: &[u8]) -> bool {
    let is_label = |label: &[u8]| {
        !label.is_empty()
            && label
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.split(|byte| *byte == b'.').all(is_label)
}

/// The text is no origin that could be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidOrigin {
    text: String,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Malformed,
    /// `null`.
    Opaque,
    /// With what should stand there.
    MoreThanOrigin(String),
    DefaultPort(String),
    Wildcard,
    NotAscii,
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = quote(&self.text);
        match &self.fault {
            Fault::Malformed => write!(
                f,
                "found {text}, expected an origin, as https://app.bank.example, or \
                 https://*.bank.example for all hosts below a name"
            ),
            Fault::Opaque => write!(
                f,
                "null is what browsers send for documents without an origin, which any site can \
                 make: leave it out"
            ),
            Fault::MoreThanOrigin(origin) => write!(
                f,
                "found {text}, and an origin ends behind its host and port: write {origin}"
            ),
            Fault::DefaultPort(origin) => write!(
                f,
                "found {text}, and browsers leave out the port that its scheme has by default: \
                 write {origin}"
            ),
            Fault::Wildcard => write!(
                f,
                "found {text}, and a * stands alone, or for whole labels in front of a name, as in \
                 https://*.bank.example"
            ),
            Fault::NotAscii => write!(
                f,
                "found {text}, and browsers send hosts in ASCII: write it as xn--…"
            ),
        }
    }
}

impl std::error::Error for InvalidOrigin {}

impl FromStr for AllowedOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        parse(text).map_err(|fault| InvalidOrigin {
            text: text.to_owned(),
            fault,
        })
    }
}

deserr_from_str!(AllowedOrigin);

fn parse(text: &str) -> Result<AllowedOrigin, Fault> {
    if text == "*" {
        return Ok(AllowedOrigin::Any);
    }
    if text.eq_ignore_ascii_case("null") {
        return Err(Fault::Opaque);
    }
    let (scheme, rest) = text.split_once("://").ok_or(Fault::Malformed)?;
    if !is_scheme(scheme) {
        return Err(Fault::Malformed);
    }
    if let Some((authority, _)) = rest.split_once(['/', '?', '#']) {
        let origin = format!("{scheme}://{authority}");
        parse(&origin)?;
        return Err(Fault::MoreThanOrigin(origin));
    }
    if !rest.is_ascii() {
        return Err(Fault::NotAscii);
    }
    let (host, port) = split_port(rest)?;
    if is_default_port(scheme, port) {
        return Err(Fault::DefaultPort(format!("{scheme}://{host}")));
    }
    let below = host.strip_prefix("*.");
    let name = below.unwrap_or(host);
    if name.contains('*') {
        return Err(Fault::Wildcard);
    }
    let is_address = below.is_none() && is_ipv6(name);
    if !is_host(name.as_bytes()) && !is_address {
        return Err(Fault::Malformed);
    }
    let text = text.to_ascii_lowercase();
    match (below, text.split_once("://*")) {
        (Some(_), Some((scheme, suffix))) => Ok(AllowedOrigin::Below {
            scheme: format!("{scheme}://").into(),
            suffix: suffix.into(),
        }),
        _ => Ok(AllowedOrigin::Exact(text.into())),
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// The host, and the port if there is one.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), Fault> {
    let Some((host, port)) = authority.rsplit_once(':') else {
        return Ok((authority, None));
    };
    // A colon inside of an address.
    if authority.ends_with(']') {
        return Ok((authority, None));
    }
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    match port.parse() {
        Ok(number) if is_number => Ok((host, Some(number))),
        _ => Err(Fault::Malformed),
    }
}

fn is_default_port(scheme: &str, port: Option<u16>) -> bool {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    port == Some(443) && is("https") || port == Some(80) && is("http")
}

fn is_ipv6(host: &str) -> bool {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn an_origin_is_compared_as_a_whole() {
        for (allowed, origin, expected) in [
            ("*", "https://a.example", true),
            ("*", "null", true),
            ("https://a.example", "https://a.example", true),
            ("https://A.example", "HTTPS://a.EXAMPLE", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "https://a.example.evil.example", false),
            (
                "https://a.example",
                "https://evil.example/https://a.example",
                false,
            ),
            ("https://a.example", "https://b.a.example", false),
            ("http://localhost:3000", "http://localhost:3000", true),
            ("http://localhost:3000", "http://localhost:3001", false),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("https://*.a.example", "https://b.a.example", true),
            ("https://*.a.example", "https://c.b.A.example", true),
            ("https://*.a.example", "https://a.example", false),
            ("https://*.a.example", "https://.a.example", false),
            ("https://*.a.example", "https://b..a.example", false),
            ("https://*.a.example", "https://ba.example", false),
            ("https://*.a.example", "http://b.a.example", false),
            ("https://*.a.example", "https://b.a.example:8443", false),
            (
                "https://*.a.example",
                "https://evil.example/.a.example",
                false,
            ),
            (
                "https://*.a.example",
                "https://evil.example:1.a.example",
                false,
            ),
            ("https://*.a.example", "https://user@.a.example", false),
            ("https://*.a.example:8443", "https://b.a.example:8443", true),
            ("https://*.a.example:8443", "https://b.a.example", false),
            ("https://*.a.example", "https://", false),
            ("https://*.a.example", "", false),
        ] {
            let parsed: AllowedOrigin = allowed.parse().unwrap();
            assert_eq!(parsed.takes(origin), expected, "{allowed} {origin}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_a_cure() {
        for (text, expected) in [
            ("", "expected an origin, as https://app.bank.example"),
            ("a.example", "expected an origin"),
            ("//a.example", "expected an origin"),
            ("https://", "expected an origin"),
            ("https://a..example", "expected an origin"),
            ("https://a.example:", "expected an origin"),
            ("https://a.example:0", "expected an origin"),
            ("https://a.example:99999", "expected an origin"),
            ("https://a.example:+1", "expected an origin"),
            ("https://user@a.example", "expected an origin"),
            ("https://*.[::1]", "expected an origin"),
            ("https://a.example, https://b.example", "expected an origin"),
            ("null", "leave it out"),
            ("https://a.example/", "write https://a.example"),
            ("https://a.example/app", "write https://a.example"),
            ("https://a.example?b", "write https://a.example"),
            ("https://a.example:443", "write https://a.example"),
            ("HTTP://a.example:80", "write HTTP://a.example"),
            ("https://ü.example", "write it as xn--"),
            ("https://a.*.example", "a * stands alone"),
            ("https://*", "a * stands alone"),
            ("https://*a.example", "a * stands alone"),
            ("https://*.*.example", "a * stands alone"),
        ] {
            let error = text.parse::<AllowedOrigin>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_origin_takes_itself(
            text in "(https?://)?[a-z*.:0-9\\[\\]/ü]{0,20}",
            any in any::<String>(),
        ) {
            for text in [text, any] {
                if let Ok(allowed) = text.parse::<AllowedOrigin>()
                    && !text.contains('*')
                {
                    prop_assert!(allowed.takes(&text));
                }
                let below: AllowedOrigin = "https://*.a.example".parse().unwrap();
                below.takes(&text);
            }
        }
    }
}
