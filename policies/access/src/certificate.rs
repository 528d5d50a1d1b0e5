//! Which client certificates may call.

use std::fmt;

use tollgate_core::config::quote;
use tollgate_core::host::PeerCertificate;

/// Which client certificates may call: one with any of these names, or any at all if none is given.
/// Envoy has checked the certificate against its own trust anchors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRule {
    /// URIs, as SPIFFE ids.
    pub uris: Vec<UriPattern>,
    /// DNS names.
    pub dns_names: Vec<DnsPattern>,
}

impl CertificateRule {
    /// Whether a certificate is one of those. Of each sort of name, only the first is known.
    pub(crate) fn admits(&self, certificate: &PeerCertificate) -> bool {
        if self.uris.is_empty() && self.dns_names.is_empty() {
            return true;
        }
        let by_uri = certificate
            .uri_san
            .as_deref()
            .is_some_and(|uri| self.uris.iter().any(|pattern| pattern.matches(uri)));
        let by_name = certificate
            .dns_san
            .as_deref()
            .is_some_and(|name| self.dns_names.iter().any(|pattern| pattern.matches(name)));
        by_uri || by_name
    }
}

/// A URI, or all that begin with what stands before `/*`: `spiffe://bank.example/ns/payments/*`.
/// Compared byte by byte, as SPIFFE ids are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriPattern {
    text: Box<str>,
    is_prefix: bool,
}

impl UriPattern {
    fn matches(&self, uri: &str) -> bool {
        match self.is_prefix {
            true => uri
                .strip_prefix(&*self.text)
                .is_some_and(|rest| !rest.is_empty()),
            false => *self.text == *uri,
        }
    }
}

/// The text is no pattern of URIs.
#[derive(Debug)]
pub struct InvalidUriPattern(String);

impl fmt::Display for InvalidUriPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected a URI as spiffe://bank.example/payments, or the beginning of one \
             with /* behind it",
            quote(&self.0)
        )
    }
}

impl std::str::FromStr for UriPattern {
    type Err = InvalidUriPattern;

    fn from_str(text: &str) -> Result<Self, InvalidUriPattern> {
        let (uri, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        let authority = uri.split_once("://").map(|(scheme, rest)| {
            let host = rest.split('/').next().unwrap_or_default();
            (scheme, host, rest.len() > host.len())
        });
        match authority {
            Some((scheme, host, has_path))
                if !scheme.is_empty()
                    && !host.is_empty()
                    && !uri.contains('*')
                    && uri.bytes().all(|byte| byte.is_ascii_graphic())
                    // A pattern ends at a border of a segment, never inside of a name.
                    && (!is_prefix || (has_path && uri.ends_with('/'))) =>
            {
                Ok(UriPattern {
                    text: uri.into(),
                    is_prefix,
                })
            }
            _ => Err(InvalidUriPattern(text.to_owned())),
        }
    }
}

tollgate_core::deserr_from_str!(UriPattern);

/// A DNS name, or with `*.` in front all that have one label more: `*.bank.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPattern {
    /// In lower case; of a wildcard, what stands behind the star, with its dot.
    text: Box<str>,
    is_wildcard: bool,
}

impl DnsPattern {
    fn matches(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        match self.is_wildcard {
            true => name
                .strip_suffix(&*self.text)
                .is_some_and(|label| !label.is_empty() && !label.contains('.')),
            false => *self.text == *name,
        }
    }
}

/// The text is no pattern of DNS names.
#[derive(Debug)]
pub struct InvalidDnsPattern(String);

impl fmt::Display for InvalidDnsPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected a DNS name as pay.bank.example, or *.bank.example",
            quote(&self.0)
        )
    }
}

impl std::str::FromStr for DnsPattern {
    type Err = InvalidDnsPattern;

    fn from_str(text: &str) -> Result<Self, InvalidDnsPattern> {
        let (kept, is_wildcard) = match text.strip_prefix('*') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let name = match is_wildcard {
            true => kept.strip_prefix('.').unwrap_or_default(),
            false => kept,
        };
        let is_label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if !name.split('.').all(is_label) {
            return Err(InvalidDnsPattern(text.to_owned()));
        }
        Ok(DnsPattern {
            text: kept.to_ascii_lowercase().into(),
            is_wildcard,
        })
    }
}

tollgate_core::deserr_from_str!(DnsPattern);

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn uris_match_whole_or_by_their_first_segments() {
        let matches = |pattern: &str, uri: &str| {
            let pattern: UriPattern = pattern.parse().unwrap();
            pattern.matches(uri)
        };
        let id = "spiffe://bank.example/ns/payments/sa/api";
        assert!(matches(id, id));
        assert!(!matches(id, "spiffe://bank.example/ns/payments/sa/api2"));
        assert!(matches("spiffe://bank.example/ns/payments/*", id));
        assert!(matches("spiffe://bank.example/*", id));
        assert!(!matches("spiffe://bank.example/ns/pay/*", id));
        assert!(!matches(
            "spiffe://bank.example/*",
            "spiffe://bank.example/"
        ));
        assert!(!matches(
            "spiffe://bank.example/*",
            "spiffe://bank.example.evil/a"
        ));
    }

    #[test]
    fn a_pattern_that_could_mean_more_than_it_says_is_refused() {
        for pattern in [
            "*",
            "spiffe://*",
            "spiffe://bank*",
            "spiffe://bank.example*",
            "spiffe://bank.example/pay*",
            "spiffe://*/ns/*",
            "bank.example/a",
            "",
        ] {
            assert!(pattern.parse::<UriPattern>().is_err(), "{pattern}");
        }
        for pattern in ["*", "*.", "a*.example", "*.*.example", "a..b", ""] {
            assert!(pattern.parse::<DnsPattern>().is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let matches = |pattern: &str, name: &str| {
            let pattern: DnsPattern = pattern.parse().unwrap();
            pattern.matches(name)
        };
        assert!(matches("Pay.bank.example", "pay.BANK.example"));
        assert!(matches("*.bank.example", "pay.bank.example"));
        assert!(!matches("*.bank.example", "bank.example"));
        assert!(!matches("*.bank.example", "a.pay.bank.example"));
        assert!(!matches("*.bank.example", "paybank.example"));
    }
}
