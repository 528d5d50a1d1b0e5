//! The authority of a request: the host that it is for, and whether everybody reads it so.

use std::io::Write as _;
use std::net::Ipv6Addr;

use super::Ports;
use super::host::{LONGEST_NAME, is_name};
use crate::target::AmbiguousRequest;

/// The host of a request, in the form in which patterns are kept.
pub(super) struct Authority {
    text: [u8; LONGEST_NAME],
    length: usize,
    settled: bool,
}

impl Authority {
    /// Reads an authority: a name or an IPv6 address in brackets, perhaps with a port (RFC 3986
    /// §3.2.2, without what no host of HTTP has). Nothing is allocated.
    ///
    /// Anything else is refused: whoever finds a host in it, finds another than the next.
    pub(super) fn parse(raw: &[u8], ports: Ports) -> Result<Authority, AmbiguousRequest> {
        Authority::read(raw, ports).ok_or(AmbiguousRequest::MalformedHost)
    }

    fn read(raw: &[u8], ports: Ports) -> Option<Authority> {
        let (host, port) = split_port(std::str::from_utf8(raw).ok()?)?;
        let mut authority = Authority {
            text: [0; LONGEST_NAME],
            length: 0,
            settled: port.is_none() || ports == Ports::Ignore,
        };
        match host.starts_with('[') {
            true => authority.set_address(host)?,
            false => authority.set_name(host)?,
        }
        Some(authority)
    }

    fn set_address(&mut self, host: &str) -> Option<()> {
        let address = host.strip_prefix('[')?.strip_suffix(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let mut free = self.text.as_mut_slice();
        write!(free, "[{address}]").ok()?;
        let unused = free.len();
        self.length = self.text.len().checked_sub(unused)?;
        self.settled &= self.host().eq_ignore_ascii_case(host);
        Some(())
    }

    fn set_name(&mut self, host: &str) -> Option<()> {
        let name = host.strip_suffix('.').unwrap_or(host);
        let slot = self.text.get_mut(..name.len()).filter(|_| is_name(name))?;
        slot.copy_from_slice(name.as_bytes());
        slot.make_ascii_lowercase();
        self.length = name.len();
        self.settled &= name.len() == host.len();
        Some(())
    }

    /// The host without its port and trailing dot, in lower case; an IPv6 address in its shortest
    /// form.
    pub(super) fn host(&self) -> &str {
        let text = self.text.get(..self.length).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }

    /// Whether a server that compares the authority as it stands finds this host too. If not, it
    /// finds one that no pattern can name.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }
}

/// The host and the port.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    match authority.rsplit_once(':') {
        // A colon of the address.
        Some((_, rest)) if rest.ends_with(']') => Some((authority, None)),
        Some((host, port)) => is_port(port).then_some((host, Some(port))),
        None => Some((authority, None)),
    }
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn read(authority: &str, ports: Ports) -> Option<(String, bool)> {
        let authority = Authority::parse(authority.as_bytes(), ports).ok()?;
        Some((authority.host().to_owned(), authority.is_settled()))
    }

    #[test]
    fn a_host_is_settled_if_nothing_can_be_taken_off_it() {
        for (authority, host, by_default, without_ports) in [
            ("api.example.com", "api.example.com", true, true),
            ("API.Example.COM", "api.example.com", true, true),
            ("localhost", "localhost", true, true),
            ("_svc-1.local", "_svc-1.local", true, true),
            ("10.0.0.1", "10.0.0.1", true, true),
            ("api.example.com:8443", "api.example.com", false, true),
            ("api.example.com:0", "api.example.com", false, true),
            ("api.example.com:65535", "api.example.com", false, true),
            ("api.example.com.", "api.example.com", false, false),
            ("api.example.com.:8443", "api.example.com", false, false),
            ("[2001:db8::1]", "[2001:db8::1]", true, true),
            ("[2001:DB8::1]", "[2001:db8::1]", true, true),
            ("[2001:db8::1]:443", "[2001:db8::1]", false, true),
            ("[2001:db8:0::1]", "[2001:db8::1]", false, false),
            ("[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]", true, true),
        ] {
            let expected = |settled| Some((host.to_owned(), settled));
            let found = read(authority, Ports::Reject);
            assert_eq!(found, expected(by_default), "{authority}");
            let found = read(authority, Ports::Ignore);
            assert_eq!(found, expected(without_ports), "{authority}");
        }
    }

    #[test]
    fn what_is_not_a_host_with_an_optional_port_is_refused() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}internal.example", "a.".repeat(150));
        for authority in [
            "",
            ".",
            "..",
            ":443",
            ".example.com",
            "api..example.com",
            "api.example.com..",
            "api.example.com:",
            "api.example.com:x",
            "api.example.com:+80",
            "api.example.com:65536",
            "api.example.com:000080",
            "api.example.com:80:80",
            "x:1.internal.example",
            "x@api.example.com",
            "api.example.com@evil.example",
            "api.example.com/",
            "api.example.com,evil.example",
            "api.example.com evil.example",
            " api.example.com",
            "api%2eexample.com",
            "*.example.com",
            "\u{e4}pi.example.com",
            "api.example.com\0",
            "2001:db8::1",
            "[2001:db8::1",
            "[2001:db8::1]:",
            "[2001:db8::1]x",
            "[::1]x.internal.example",
            "[::1]]",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "[1.2.3.4]",
            "[]",
            "[]:80",
            "]",
            "api.example.com]",
            "api.example.com:80]",
            long_label.as_str(),
            long_name.as_str(),
        ] {
            assert_eq!(read(authority, Ports::Reject), None, "{authority}");
            assert_eq!(read(authority, Ports::Ignore), None, "{authority}");
        }
        let refused = Authority::parse(b"api.\xff.example", Ports::Reject);
        assert_eq!(refused.err(), Some(AmbiguousRequest::MalformedHost));
    }

    #[test]
    fn the_longest_name_is_read() {
        let name = format!("{}{}", "a.".repeat(126), "b");
        assert_eq!(name.len(), LONGEST_NAME);
        assert_eq!(read(&name, Ports::Reject), Some((name.clone(), true)));
        let decorated = format!("{name}.:65535");
        assert_eq!(read(&decorated, Ports::Reject), Some((name.clone(), false)));
        assert_eq!(read(&format!("{name}c.d"), Ports::Reject), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(raw: Vec<u8>) {
            let _ = Authority::parse(&raw, Ports::Reject);
        }

        #[test]
        fn a_settled_host_is_the_authority_itself(
            authority in "[aA1.:_@\\[\\]-]{0,8}(\\.?(:[0-9]{0,6})?)|\\[[0:1aA]{2,9}\\]",
        ) {
            if let Ok(read) = Authority::parse(authority.as_bytes(), Ports::Reject) {
                let same = read.host().eq_ignore_ascii_case(&authority);
                prop_assert_eq!(read.is_settled(), same);
            }
        }
    }
}
