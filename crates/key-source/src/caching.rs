//! How long an answer stays fresh, by its own word: `Cache-Control` and `Age` (RFC 9111).
//!
//! The crates for this want typed header maps or leave quoted values out, and what is needed is one
//! directive; so it is read here.

use std::time::Duration;

use tollgate_core::headers::Headers;

/// What an answer says about its lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caching {
    /// Nothing, or nothing that can be understood.
    #[default]
    Unsaid,
    /// It should be asked for again before each use: `no-cache`, `no-store`, or a `max-age` that is
    /// no number.
    Volatile,
    /// It stays fresh for this much longer: `max-age` without the time that it has spent in caches on
    /// its way (`Age`).
    Fresh(Duration),
}

impl Caching {
    /// Reads the headers of an answer.
    ///
    /// `s-maxage` is for caches that many clients share (RFC 9111 section 5.2.2.10) and is not
    /// looked at. A directive given twice counts with its first value, `Age` too (sections 4.2.1 and
    /// 5.1).
    pub fn from_headers(headers: &Headers) -> Caching {
        let mut max_age = None;
        for value in headers.get_all("cache-control") {
            for (name, argument) in directives(value) {
                if is(name, b"no-cache") || is(name, b"no-store") {
                    return Caching::Volatile;
                }
                if is(name, b"max-age") && max_age.is_none() {
                    max_age = Some(delta_seconds(argument));
                }
            }
        }
        match max_age {
            None => Caching::Unsaid,
            Some(None) => Caching::Volatile,
            Some(Some(max_age)) => Caching::Fresh(max_age.saturating_sub(age(headers))),
        }
    }

    /// The lifetime to go by, in these bounds.
    pub(crate) fn lifetime(self, floor: Duration, cap: Duration) -> Duration {
        match self {
            Caching::Unsaid => cap,
            Caching::Volatile => floor,
            Caching::Fresh(span) => span.min(cap).max(floor),
        }
    }
}

/// `Age`, zero if it is missing or no number (RFC 9111 section 5.1: such a value is ignored).
fn age(headers: &Headers) -> Duration {
    let first = headers.get("age").and_then(|value| {
        let member = value.split(|byte| *byte == b',').next()?;
        delta_seconds(member.trim_ascii())
    });
    first.unwrap_or_default()
}

fn is(name: &[u8], wanted: &[u8]) -> bool {
    name.eq_ignore_ascii_case(wanted)
}

/// The directives of a header value and their arguments, the quotes of an argument taken off: both
/// forms are to be accepted (RFC 9111 section 5.2).
fn directives(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    list_members(value).map(|member| {
        let equals = member.iter().position(|byte| *byte == b'=');
        let (name, argument) = equals
            .and_then(|at| member.split_at_checked(at))
            .unwrap_or((member, b""));
        let argument = argument.strip_prefix(b"=").unwrap_or_default().trim_ascii();
        let unquoted = argument
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""));
        (name.trim_ascii(), unquoted.unwrap_or(argument))
    })
}

/// The members of a comma-separated list; a comma within quotes does not separate
/// (`private="a, max-age=1"`).
fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |byte| {
        let literal = escaped;
        escaped = quoted && !literal && *byte == b'\\';
        if *byte == b'"' && !literal {
            quoted = !quoted;
        }
        *byte == b',' && !quoted
    })
}

/// A number of seconds; one that is too large is as good as for ever (RFC 9111 section 1.2.2).
fn delta_seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0_u32, |seconds, digit| {
        seconds
            .saturating_mul(10)
            .saturating_add(u32::from(digit.saturating_sub(b'0')))
    });
    Some(Duration::from_secs(u64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn read(headers: &[(&str, &str)]) -> Caching {
        Caching::from_headers(&Headers::from_pairs(headers.iter().copied()))
    }

    fn fresh(seconds: u64) -> Caching {
        Caching::Fresh(Duration::from_secs(seconds))
    }

    #[test]
    fn max_age_is_found_in_every_form() {
        for (value, expected) in [
            ("max-age=300", fresh(300)),
            ("public, Max-Age=\"300\"", fresh(300)),
            (" must-revalidate ,\tMAX-AGE=300 , public", fresh(300)),
            ("max-age=300, max-age=5", fresh(300)),
            ("s-maxage=5, max-age=300", fresh(300)),
            ("s-maxage=5", Caching::Unsaid),
            ("private=\"a, max-age=5\", max-age=300", fresh(300)),
            ("private=\"a\\\", max-age=5\", max-age=300", fresh(300)),
            ("max-age=99999999999999999999", fresh(u64::from(u32::MAX))),
            ("max-age=0", fresh(0)),
            ("max-age", Caching::Volatile),
            ("max-age=", Caching::Volatile),
            ("max-age=-1", Caching::Volatile),
            ("max-age=1.5", Caching::Volatile),
            ("max-age=300, no-cache", Caching::Volatile),
            ("no-cache=\"set-cookie\", max-age=300", Caching::Volatile),
            ("No-Store", Caching::Volatile),
            ("not-max-age=5", Caching::Unsaid),
            ("", Caching::Unsaid),
            (",,=,", Caching::Unsaid),
        ] {
            assert_eq!(read(&[("cache-control", value)]), expected, "{value}");
        }
        assert_eq!(read(&[]), Caching::Unsaid);
        let two = [("cache-control", "public"), ("cache-control", "max-age=7")];
        assert_eq!(read(&two), fresh(7));
    }

    #[test]
    fn the_time_in_caches_is_taken_off() {
        for (age, left) in [
            ("20", 280),
            ("400", 0),
            ("20, 30", 280),
            ("-20", 300),
            ("x", 300),
            ("", 300),
        ] {
            let headers = [("cache-control", "max-age=300"), ("age", age)];
            assert_eq!(read(&headers), fresh(left), "{age}");
        }
    }

    #[test]
    fn a_lifetime_stays_in_its_bounds() {
        let (floor, cap) = (Duration::from_secs(30), Duration::from_secs(600));
        for (caching, seconds) in [
            (Caching::Unsaid, 600),
            (Caching::Volatile, 30),
            (fresh(0), 30),
            (fresh(100), 100),
            (fresh(86_400), 600),
        ] {
            assert_eq!(caching.lifetime(floor, cap), Duration::from_secs(seconds));
        }
    }

    proptest! {
        #[test]
        fn any_value_is_taken(value: Vec<u8>, age: Vec<u8>) {
            let headers = Headers::from_pairs([(&b"cache-control"[..], value), (b"age", age)]);
            let _ = Caching::from_headers(&headers);
        }

        #[test]
        fn a_list_without_quotes_is_split_at_commas(value in "[a-z=, \\\\]{0,40}") {
            let members: Vec<_> = list_members(value.as_bytes()).collect();
            let expected: Vec<_> = value.split(',').map(str::as_bytes).collect();
            prop_assert_eq!(members, expected);
        }
    }
}
