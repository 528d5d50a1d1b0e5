//! Finding the keys by the issuer's metadata (OpenID Connect Discovery 1.0 section 4, RFC 8414).

use std::fmt;

use serde::Deserialize;
use tollgate_core::config::quote;

use tollgate_core::endpoint::{Endpoint, InvalidEndpoint, Scheme};

/// The endpoint of a source is that of metadata which tells where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The issuer whose metadata it has to be, compared byte for byte.
    pub issuer: String,
    /// The host of the keys, with its port if that is not the scheme's own, where it is not the
    /// host of the metadata. They are fetched through the same cluster.
    pub jwks_host: Option<String>,
}

impl Discovery {
    /// Reads the metadata that `metadata` has answered with, and returns where the keys are.
    pub(crate) fn locate(
        &self,
        metadata: &Endpoint,
        body: &[u8],
    ) -> Result<Endpoint, InvalidDiscovery> {
        let document: Document =
            serde_json::from_slice(body).map_err(|error| InvalidDiscovery::NotMetadata {
                line: error.line(),
                column: error.column(),
            })?;
        if document.issuer != self.issuer {
            return Err(InvalidDiscovery::OtherIssuer {
                found: document.issuer,
                expected: self.issuer.clone(),
            });
        }
        let keys: Endpoint = document.jwks_uri.parse()?;
        self.check(metadata, &keys)?;
        Ok(keys)
    }

    /// Whether keys may be there.
    pub(crate) fn check(
        &self,
        metadata: &Endpoint,
        keys: &Endpoint,
    ) -> Result<(), InvalidDiscovery> {
        if keys.scheme() == Scheme::Http && metadata.scheme() == Scheme::Https {
            return Err(InvalidDiscovery::InTheClear);
        }
        let host = self.jwks_host.as_deref().unwrap_or(metadata.authority());
        if !keys.authority().eq_ignore_ascii_case(host) {
            return Err(InvalidDiscovery::OtherHost {
                found: keys.authority().to_owned(),
                expected: host.to_owned(),
            });
        }
        Ok(())
    }
}

/// What is read of the metadata; a member that is there twice is an error.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// The metadata does not tell where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidDiscovery {
    /// It is not JSON, or has no `issuer` and `jwks_uri`, or has one of them twice.
    NotMetadata {
        /// Where reading ended, counted from 1.
        line: usize,
        /// The column there.
        column: usize,
    },
    /// It is that of another issuer.
    OtherIssuer {
        /// The issuer in the metadata.
        found: String,
        /// The configured one.
        expected: String,
    },
    /// `jwks_uri` is no URL that keys can be fetched from.
    NoEndpoint(InvalidEndpoint),
    /// `jwks_uri` is `http`, and the metadata was fetched over `https`.
    InTheClear,
    /// `jwks_uri` is on a host that is not allowed.
    OtherHost {
        /// The host in the metadata.
        found: String,
        /// The one that is allowed.
        expected: String,
    },
}

impl From<InvalidEndpoint> for InvalidDiscovery {
    fn from(error: InvalidEndpoint) -> Self {
        InvalidDiscovery::NoEndpoint(error)
    }
}

impl fmt::Display for InvalidDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidDiscovery::NotMetadata { line, column } => write!(
                f,
                "expected a JSON object with \"issuer\" and \"jwks_uri\" once each; reading ended \
                 at line {line}, column {column}"
            ),
            InvalidDiscovery::OtherIssuer { found, expected } => write!(
                f,
                "found the issuer {}, expected exactly {expected:?}; mend the configured issuer or \
                 the URL of the metadata",
                quote(found)
            ),
            InvalidDiscovery::NoEndpoint(error) => write!(f, "jwks_uri: {error}"),
            InvalidDiscovery::InTheClear => f.write_str(
                "jwks_uri: found http, expected https, since the metadata was fetched over https",
            ),
            InvalidDiscovery::OtherHost { found, expected } => write!(
                f,
                "jwks_uri: found the host {}, expected {expected:?}; if the keys are meant to be \
                 there, allow that host in the configuration",
                quote(found)
            ),
        }
    }
}

impl std::error::Error for InvalidDiscovery {}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn locate(metadata: &str, jwks_host: Option<&str>, body: &str) -> Result<String, String> {
        let discovery = Discovery {
            issuer: "https://idp.example".into(),
            jwks_host: jwks_host.map(str::to_owned),
        };
        discovery
            .locate(&metadata.parse().unwrap(), body.as_bytes())
            .map(|endpoint| endpoint.to_string())
            .map_err(|error| error.to_string())
    }

    fn metadata(jwks_uri: &str) -> String {
        format!(r#"{{"issuer": "https://idp.example", "jwks_uri": "{jwks_uri}", "x": [1]}}"#)
    }

    const HTTPS: &str = "https://idp.example/.well-known/openid-configuration";
    const HTTP: &str = "http://idp.example:8080/.well-known/openid-configuration";

    #[test]
    fn keys_are_found_on_the_host_of_the_metadata_or_the_one_allowed() {
        for (url, host, keys) in [
            (HTTPS, None, "https://idp.example/keys"),
            (HTTPS, None, "https://IDP.example:443/keys"),
            (HTTP, None, "http://idp.example:8080/keys"),
            (HTTPS, Some("Keys.example"), "https://keys.example/keys"),
            (
                HTTPS,
                Some("keys.example:8443"),
                "https://keys.example:8443/keys",
            ),
        ] {
            assert!(locate(url, host, &metadata(keys)).is_ok(), "{keys}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (url, host, keys, mistake) in [
            (HTTPS, None, "http://idp.example/keys", "expected https"),
            (HTTPS, None, "https://evil.example/keys", "evil.example"),
            (
                HTTPS,
                None,
                "https://idp.example.evil.example/keys",
                "the host",
            ),
            (HTTPS, None, "https://idp.example:8443/keys", "the host"),
            (
                HTTPS,
                None,
                "https://idp.example@evil.example/keys",
                "user information",
            ),
            (
                HTTPS,
                Some("keys.example"),
                "https://idp.example/keys",
                "keys.example",
            ),
            (HTTP, None, "http://idp.example/keys", "the host"),
            (HTTPS, None, "/keys", "jwks_uri"),
        ] {
            let error = locate(url, host, &metadata(keys)).unwrap_err();
            assert!(error.contains(mistake), "{keys}: {error}");
        }
        for (body, mistake) in [
            ("", "line 1"),
            ("<html>", "line 1, column 1"),
            ("[]", "a JSON object"),
            (r#"{"issuer": "https://idp.example"}"#, "jwks_uri"),
            (
                r#"{"issuer": "https://idp.example/", "jwks_uri": "x"}"#,
                "exactly",
            ),
            (
                r#"{"issuer": "a", "issuer": "https://idp.example", "jwks_uri": "x"}"#,
                "once each",
            ),
        ] {
            let error = locate(HTTPS, None, body).unwrap_err();
            assert!(error.contains(mistake), "{body}: {error}");
        }
    }
}
