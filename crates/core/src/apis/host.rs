//! Hosts that a configuration names.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::config::quote;

/// A host as it is configured: `api.example.com`, `*.example.com` (one label or more in front),
/// `[2001:db8::1]`, or `*` for any.
///
/// Upper and lower case are the same. A trailing dot is left out, and a port can't be named; what
/// becomes of requests with either is the business of [`HostOptions`](super::HostOptions).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPattern(Pattern);

/// From specific to general. Names are in lower case, IPv6 addresses in brackets and in their
/// shortest form (RFC 5952).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pattern {
    Exact(String),
    /// The name behind `*.`.
    Under(String),
    Any,
}

impl HostPattern {
    /// Any host, and no host at all.
    pub const ANY: HostPattern = HostPattern(Pattern::Any);

    /// A host that fits; none if any does.
    pub(super) fn sample(&self) -> Option<String> {
        match &self.0 {
            Pattern::Exact(name) => Some(name.clone()),
            Pattern::Under(parent) => Some(format!("_.{parent}")),
            Pattern::Any => None,
        }
    }
}

/// The longest name that DNS can hold, without the trailing dot (RFC 1035 §2.3.4).
pub(super) const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// The text is not a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidHost {
    /// It has a scheme or a path.
    Url(String),
    /// It has a port.
    Port(String),
    /// It has a `*` elsewhere than as its first label.
    Wildcard(String),
    /// It has letters beyond ASCII.
    NotAscii(String),
    /// It is an IPv6 address without brackets, or in brackets without being one.
    Ipv6(String),
    /// It is not a name in another way.
    Malformed(String),
}

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(text) => write!(
                f,
                "{} is not a host, write the host alone, without scheme and path",
                quote(text)
            ),
            Self::Port(text) => write!(
                f,
                "the host {} has a port, leave it out; \"hosts: {{ ports: ignore }}\" takes requests \
                 with any",
                quote(text)
            ),
            Self::Wildcard(text) => write!(
                f,
                "the host {} has a * that is not the first label, write \"*.example.com\", or \
                 \"*\" for any host",
                quote(text)
            ),
            Self::NotAscii(text) => write!(
                f,
                "the host {} is not ASCII, write it in the form of DNS (\"xn--…\")",
                quote(text)
            ),
            Self::Ipv6(text) => write!(
                f,
                "the host {} is not an IPv6 address in brackets, write it as \"[2001:db8::1]\"",
                quote(text)
            ),
            Self::Malformed(text) => write!(
                f,
                "{} is not a host, expected one such as \"api.example.com\", \"*.example.com\" or \
                 \"*\"",
                quote(text)
            ),
        }
    }
}

impl std::error::Error for InvalidHost {}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if text == "*" {
            return Ok(HostPattern::ANY);
        }
        let invalid = |kind: fn(String) -> InvalidHost| Err(kind(text.to_owned()));
        if text.contains('/') {
            return invalid(InvalidHost::Url);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return invalid(InvalidHost::Ipv6);
        }
        if text.starts_with('[') {
            return match text
                .strip_prefix('[')
                .and_then(|text| text.rsplit_once(']'))
            {
                Some((address, "")) => match address.parse::<Ipv6Addr>() {
                    Ok(address) => Ok(HostPattern(Pattern::Exact(format!("[{address}]")))),
                    Err(_) => invalid(InvalidHost::Ipv6),
                },
                Some((_, rest)) if rest.starts_with(':') => invalid(InvalidHost::Port),
                _ => invalid(InvalidHost::Ipv6),
            };
        }
        if text.contains(':') {
            return invalid(InvalidHost::Port);
        }
        if !text.is_ascii() {
            return invalid(InvalidHost::NotAscii);
        }
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (name, pattern): (_, fn(String) -> Pattern) = match lower.strip_prefix("*.") {
            Some(parent) => (parent, Pattern::Under),
            None => (lower.as_str(), Pattern::Exact),
        };
        match name {
            _ if name.contains('*') => invalid(InvalidHost::Wildcard),
            _ if !is_name(name) => invalid(InvalidHost::Malformed),
            _ => Ok(HostPattern(pattern(name.to_owned()))),
        }
    }
}

/// Labels of letters, digits, hyphens and, as they occur in practice, underscores.
pub(super) fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= LONGEST_NAME && name.split('.').all(is_label)
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Exact(name) => f.write_str(name),
            Pattern::Under(parent) => write!(f, "*.{parent}"),
            Pattern::Any => f.write_str("*"),
        }
    }
}

crate::deserr_from_str!(HostPattern);

/// Something for each host pattern, found by the host of a request.
#[derive(Clone, Debug)]
pub(super) struct HostTable<T> {
    exact: BTreeMap<String, T>,
    under: BTreeMap<String, T>,
    any: Option<T>,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        HostTable {
            exact: BTreeMap::new(),
            under: BTreeMap::new(),
            any: None,
        }
    }
}

impl<T> HostTable<T> {
    /// Enters what belongs to a pattern, in place of what belonged to it before.
    pub(super) fn insert(&mut self, host: HostPattern, value: T) {
        match host.0 {
            Pattern::Exact(name) => drop(self.exact.insert(name, value)),
            Pattern::Under(parent) => drop(self.under.insert(parent, value)),
            Pattern::Any => self.any = Some(value),
        }
    }

    /// Whether any entry is for some hosts and not for others.
    pub(super) fn names_hosts(&self) -> bool {
        !(self.exact.is_empty() && self.under.is_empty())
    }

    /// The entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.exact
            .values()
            .chain(self.under.values())
            .chain(&self.any)
    }

    /// Asks the entries whose pattern fits a host, from the most specific to the most general,
    /// until one has an answer. A request without a host that a pattern could name is for any.
    pub(super) fn find<R>(
        &self,
        host: Option<&str>,
        mut ask: impl FnMut(&T) -> Option<R>,
    ) -> Option<R> {
        host.and_then(|name| {
            let exact = self.exact.get(name).and_then(&mut ask);
            exact.or_else(|| self.parents(name).find_map(&mut ask))
        })
        .or_else(|| self.any.as_ref().and_then(&mut ask))
    }

    /// The entries for subdomains of the domains that `name` is in, longest first.
    fn parents(&self, name: &str) -> impl Iterator<Item = &T> {
        let mut rest = (!self.under.is_empty()).then_some(name);
        std::iter::from_fn(move || {
            let (label, parent) = rest?.split_once('.')?;
            rest = Some(parent);
            Some((label, parent))
        })
        .filter(|(label, _)| !label.is_empty())
        .filter_map(|(_, parent)| self.under.get(parent))
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn table(hosts: &[&str]) -> HostTable<String> {
        let mut table = HostTable::default();
        for host in hosts {
            table.insert(host.parse().unwrap(), (*host).to_owned());
        }
        table
    }

    fn fitting(table: &HostTable<String>, host: Option<&str>) -> Vec<String> {
        let mut fitting = Vec::new();
        let none = table.find(host, |pattern| {
            fitting.push(pattern.clone());
            None::<()>
        });
        assert_eq!(none, None);
        fitting
    }

    #[test]
    fn hosts_are_asked_from_the_most_specific_to_the_most_general() {
        let patterns = [
            "[2001:DB8:0::1]",
            "api.example.com",
            "*.com",
            "*.example.com",
            "*",
        ];
        let table = table(&patterns);
        for (host, expected) in [
            (
                "api.example.com",
                &["api.example.com", "*.example.com", "*.com", "*"] as &[&str],
            ),
            ("x.api.example.com", &["*.example.com", "*.com", "*"]),
            ("example.com", &["*.com", "*"]),
            ("com", &["*"]),
            ("[2001:db8::1]", &["[2001:DB8:0::1]", "*"]),
            ("[2001:db8::2]", &["*"]),
        ] {
            assert_eq!(fitting(&table, Some(host)), expected, "{host}");
        }
        assert_eq!(fitting(&table, None), ["*"]);
        assert_eq!(table.find(None, |host| Some(host.clone())).unwrap(), "*");
        assert!(table.iter().eq(patterns.iter()));
    }

    #[test]
    fn a_table_says_whether_hosts_make_a_difference() {
        assert!(table(&["*", "api.example.com"]).names_hosts());
        assert!(table(&["*.example.com"]).names_hosts());
        assert!(!table(&["*"]).names_hosts());
        assert!(!table(&[]).names_hosts());
    }

    #[test]
    fn a_misspelt_host_is_refused_with_a_cure() {
        for (text, expected) in [
            (
                "https://api.example.com",
                "write the host alone, without scheme and path",
            ),
            ("api.example.com/v1", "write the host alone"),
            ("api.example.com:443", "has a port, leave it out"),
            ("[::1]:443", "has a port, leave it out"),
            ("::1", "write it as \"[2001:db8::1]\""),
            ("[1.2.3.4]", "is not an IPv6 address in brackets"),
            ("[::1", "is not an IPv6 address in brackets"),
            ("api.*.com", "has a * that is not the first label"),
            ("*api.example.com", "has a * that is not the first label"),
            ("*.*.com", "has a * that is not the first label"),
            ("bücher.example", "write it in the form of DNS"),
            ("", "\"\" is not a host, expected one such as"),
            ("a..b", "\"a..b\" is not a host"),
            ("*.", "has a * that is not the first label"),
            ("a b", "\"a b\" is not a host"),
            (&format!("{}.com", "a".repeat(64)), "is not a host"),
        ] {
            let error = text.parse::<HostPattern>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn hosts_are_shown_in_one_spelling_and_read_back() {
        for (text, shown) in [
            ("API.example.com.", "api.example.com"),
            ("*.Example.com", "*.example.com"),
            ("10.0.0.1", "10.0.0.1"),
            ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
            ("_svc.local", "_svc.local"),
            ("*", "*"),
        ] {
            let host: HostPattern = text.parse().unwrap();
            assert_eq!(host.to_string(), shown);
            assert_eq!(shown.parse(), Ok(host));
        }
    }
}
