//! Where a callout goes: a URL, taken apart.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::config::quote;
use http::Uri;

/// The longest URL that is taken, in bytes. One that was discovered is kept in the shared state.
const LONGEST_URL: usize = 1024;

/// An `http` or `https` URL without user information and fragment.
///
/// Written out again it is in one form: scheme and authority in lower case, no port if it is the
/// scheme's own, a path of at least `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    authority: String,
    path: String,
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// The text is no URL that something can be fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEndpoint {
    found: String,
    mistake: &'static str,
}

impl Endpoint {
    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, and the port if it is not the scheme's own.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.as_str(),
            self.authority,
            self.path
        )
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |mistake| InvalidEndpoint {
            found: quote(text),
            mistake,
        };
        if text.len() > LONGEST_URL {
            return Err(invalid("it is longer than 1024 bytes"));
        }
        // The parser would leave it out without a word.
        if text.contains('#') {
            return Err(invalid("it has a fragment, leave that out"));
        }
        let uri: Uri = text.parse().map_err(|_| invalid("it is not a URL"))?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            Some(_) => return Err(invalid("its scheme is neither https nor http")),
            None => return Err(invalid("it does not begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("it has user information, leave that out"));
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(invalid("it has no host"));
        }
        if !is_host(&host) {
            return Err(invalid("its host is neither a name nor an address"));
        }
        let authority = match authority.port_u16() {
            Some(port) if port != scheme.default_port() => format!("{host}:{port}"),
            // A port that is none is passed over by the parser.
            None if authority.as_str() != authority.host() => {
                return Err(invalid(
                    "it has a colon after the host, and no port from 0 to 65535",
                ));
            }
            _ => host,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = match path.strip_prefix('/') {
            Some(_) => path.to_owned(),
            None => format!("/{path}"),
        };
        Ok(Endpoint {
            scheme,
            authority,
            path,
        })
    }
}

/// Whether a host is an IPv6 address in brackets, or has none; the parser takes any brackets.
fn is_host(host: &str) -> bool {
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.contains(['[', ']', ':']),
    }
}

crate::deserr_from_str!(Endpoint);

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected a URL as https://host.example/path: {}",
            self.found, self.mistake
        )
    }
}

impl std::error::Error for InvalidEndpoint {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn urls_are_taken_apart_and_put_in_one_form() {
        for (text, form) in [
            ("https://idp.example/jwks", "https://idp.example/jwks"),
            (
                "HTTPS://IdP.Example:443/JWKS?a=B",
                "https://idp.example/JWKS?a=B",
            ),
            ("http://idp.example:80", "http://idp.example/"),
            ("http://idp.example:443/x", "http://idp.example:443/x"),
            ("https://idp.example:8443?x", "https://idp.example:8443/?x"),
            ("https://[2001:DB8::1]:443/k", "https://[2001:db8::1]/k"),
            ("https://127.0.0.1:9/k", "https://127.0.0.1:9/k"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), form);
        }
    }

    #[test]
    fn what_can_not_be_fetched_is_refused() {
        let long = format!("https://idp.example/{}", "x".repeat(1_100));
        for (text, mistake) in [
            ("", "not a URL"),
            ("/jwks", "does not begin with"),
            ("idp.example", "does not begin with"),
            ("ftp://idp.example/jwks", "neither https nor http"),
            ("file:///etc/passwd", "not a URL"),
            ("https:///jwks", "not a URL"),
            ("https://me:secret@idp.example/", "user information"),
            ("https://idp.example/jwks#x", "fragment"),
            ("https://idp.example:/jwks", "colon"),
            ("https://[::1]x/jwks", "no port from"),
            ("https://:443/jwks", "no host"),
            ("https://idp.example:99999/jwks", "no port from"),
            ("https://[::g]/jwks", "neither a name nor"),
            ("https://a[:]/jwks", "neither a name nor"),
            ("https://idp.example/a b", "not a URL"),
            ("https://idp.example/a\r\nx: y", "not a URL"),
            (long.as_str(), "longer than"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(mistake), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_read_as_itself(text in "(http|https)://[a-zA-Z0-9.\\[\\]:@-]{1,12}(:[0-9]{1,5})?(/[!-~]{0,12})?") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
            }
        }
    }
}
