//! What a client is told of its limits: `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-11), or the older `X-RateLimit-*`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deserr::Deserr;
use sfv::{ItemSerializer, StringRef};

use crate::config::ConfigErrors;
use crate::policy::ResponseHeaders;

/// The `limit_headers` section: which headers tell clients of their limits.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct LimitHeadersConfig {
    /// `RateLimit-Policy` and `RateLimit`, an item for each limit.
    #[deserr(default = true)]
    pub standard: bool,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds from now), for the one limit
    /// that has least left.
    #[deserr(default = false)]
    pub legacy: bool,
}

impl Default for LimitHeadersConfig {
    fn default() -> Self {
        LimitHeadersConfig {
            standard: true,
            legacy: false,
        }
    }
}

/// The name of a limit as clients see it: printable ASCII, a structured field's String.
///
/// Cheap to clone: every request that meets the limit takes it along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitName(Arc<Written>);

#[derive(Debug, PartialEq, Eq)]
struct Written {
    name: String,
    /// The name as it stands in a field, quoted and escaped.
    item: String,
}

/// The text has characters that a structured field's String can't hold (RFC 9651 section 3.3.3).
#[derive(Debug)]
pub struct InvalidLimitName(String);

impl LimitName {
    /// Takes printable ASCII.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidLimitName> {
        let name = name.into();
        match StringRef::from_str(&name) {
            Ok(bare) => {
                let item = ItemSerializer::new().bare_item(bare).finish();
                Ok(LimitName(Arc::new(Written { name, item })))
            }
            Err(_) => Err(InvalidLimitName(name)),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0.name
    }
}

impl fmt::Display for InvalidLimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected printable ASCII",
            crate::config::quote(&self.0)
        )
    }
}

/// How a client stands with one limit, after the request was charged or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// The limit.
    pub name: LimitName,
    /// How many requests it allows in its window: a bucket's burst, a quota's limit.
    pub allowance: u64,
    /// The window: for a bucket the time in which it fills.
    pub window: Duration,
    /// How many requests are left.
    pub remaining: u64,
    /// Until when that is all there is.
    pub reset: Duration,
}

/// Sets the headers for the limits that a request met.
pub(crate) fn set(
    config: &LimitHeadersConfig,
    limits: &[LimitStatus],
    cross_origin: bool,
    response: &mut ResponseHeaders,
) {
    if cross_origin && !limits.is_empty() {
        // A script of another origin sees only what is named here (Fetch section 3.2.6).
        for (told, names) in [
            (config.standard, "RateLimit, RateLimit-Policy, Retry-After"),
            (
                config.legacy,
                "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset",
            ),
        ] {
            if told {
                response.join("access-control-expose-headers", names);
            }
        }
    }
    if config.standard && !limits.is_empty() {
        // The upstream may have limits of its own, and must not seem to have none.
        response.join(
            "ratelimit-policy",
            list(limits, |limit| {
                [
                    (";q=", limit.allowance),
                    (";w=", whole_seconds(limit.window)),
                ]
            }),
        );
        response.join(
            "ratelimit",
            list(limits, |limit| {
                [
                    (";r=", limit.remaining),
                    (";t=", whole_seconds(limit.reset)),
                ]
            }),
        );
    }
    // Of two limits with as little left, the longer one holds the client back for longer.
    let tightest = limits
        .iter()
        .min_by_key(|limit| (limit.remaining, std::cmp::Reverse(limit.window)));
    if let Some(limit) = tightest.filter(|_| config.legacy) {
        response.set("x-ratelimit-limit", limit.allowance.to_string());
        response.set("x-ratelimit-remaining", limit.remaining.to_string());
        response.set("x-ratelimit-reset", whole_seconds(limit.reset).to_string());
    }
}

/// A structured field's List (RFC 9651 section 3.1) of the limits' names with two parameters each.
///
/// The names were serialised when they were configured, and an integer is nothing but its digits:
/// putting them together here takes a fraction of what a serialiser does for every response.
fn list(
    limits: &[LimitStatus],
    parameters: impl Fn(&LimitStatus) -> [(&'static str, u64); 2],
) -> String {
    let mut field = String::with_capacity(128);
    let mut digits = itoa::Buffer::new();
    for limit in limits {
        if !field.is_empty() {
            field.push_str(", ");
        }
        field.push_str(&limit.name.0.item);
        for (key, value) in parameters(limit) {
            field.push_str(key);
            field.push_str(digits.format(value.min(LARGEST_INTEGER)));
        }
    }
    field
}

/// The largest integer of a structured field has 15 digits.
const LARGEST_INTEGER: u64 = 999_999_999_999_999;

/// The time in which an empty bucket fills, from the time in which one request comes back.
///
/// That one is rounded up to whole nanoseconds; rounding to milliseconds here keeps this from adding
/// up to a second.
pub fn filling_time(interval_ns: u64, burst: u32) -> Duration {
    let nanos = interval_ns.saturating_mul(u64::from(burst));
    Duration::from_millis(nanos.saturating_add(500_000) / 1_000_000)
}

/// Seconds, rounded up and at least 1: a client that comes back after them is not too early.
pub fn whole_seconds(span: Duration) -> u64 {
    let started = u64::from(span.subsec_nanos() > 0);
    span.as_secs().saturating_add(started).max(1)
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn status(
        name: &str,
        allowance: u64,
        window: u64,
        remaining: u64,
        reset_ms: u64,
    ) -> LimitStatus {
        LimitStatus {
            name: LimitName::new(name).unwrap(),
            allowance,
            window: Duration::from_secs(window),
            remaining,
            reset: Duration::from_millis(reset_ms),
        }
    }

    fn headers(config: &LimitHeadersConfig, limits: &[LimitStatus]) -> Vec<(String, String)> {
        let mut response = ResponseHeaders::default();
        set(config, limits, false, &mut response);
        response
            .iter()
            .map(|header| (header.name.to_string(), header.value.to_string()))
            .collect()
    }

    #[test]
    fn limits_are_lists_of_string_items() {
        let limits = [
            status("burst", 100, 60, 50, 29_001),
            status("a \"day\"", 1000, 86400, 7, 10),
        ];
        assert_eq!(
            headers(&LimitHeadersConfig::default(), &limits),
            [
                (
                    "ratelimit-policy".to_owned(),
                    r#""burst";q=100;w=60, "a \"day\"";q=1000;w=86400"#.to_owned()
                ),
                (
                    "ratelimit".to_owned(),
                    r#""burst";r=50;t=30, "a \"day\"";r=7;t=1"#.to_owned()
                ),
            ]
        );
    }

    #[test]
    fn what_is_written_is_a_structured_field() {
        use sfv::{BareItem, List, ListEntry, Parser};
        let limits = [
            status("throttle POST /v1/**", 5, 3, 4, 1),
            status("a\\\"b", 7, 9, 0, 99_000),
        ];
        for (_, field) in headers(&LimitHeadersConfig::default(), &limits) {
            let list: List = Parser::new(&field).parse().unwrap();
            let items: Vec<_> = list
                .iter()
                .map(|entry| match entry {
                    ListEntry::Item(item) => item,
                    ListEntry::InnerList(_) => panic!("an inner list in {field}"),
                })
                .collect();
            for (item, limit) in items.iter().zip(&limits) {
                let name = item.bare_item.as_string().unwrap().as_str();
                assert_eq!(name, limit.name.as_str());
                assert!(
                    item.params
                        .values()
                        .all(|value| matches!(value, BareItem::Integer(_)))
                );
                assert_eq!(item.params.len(), 2);
            }
        }
    }

    #[test]
    fn legacy_headers_show_the_limit_with_least_left() {
        let config = LimitHeadersConfig {
            standard: false,
            legacy: true,
        };
        let limits = [
            status("a", 10, 1, 0, 200),
            status("b", 5, 60, 0, 9000),
            status("c", 9, 9, 3, 1),
        ];
        let names = [
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ];
        let expected: Vec<_> = names
            .iter()
            .zip(["5", "0", "9"])
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        assert_eq!(headers(&config, &limits), expected);
    }

    #[test]
    fn scripts_of_other_origins_may_read_them() {
        let limits = [status("a", 10, 1, 0, 200)];
        let exposed = |standard, legacy, limits: &[LimitStatus]| {
            let mut response = ResponseHeaders::default();
            set(
                &LimitHeadersConfig { standard, legacy },
                limits,
                true,
                &mut response,
            );
            let exposed = response
                .iter()
                .filter(|h| h.name == "access-control-expose-headers");
            exposed
                .map(|header| header.value.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            exposed(true, false, &limits),
            ["RateLimit, RateLimit-Policy, Retry-After"]
        );
        assert_eq!(exposed(true, true, &limits).len(), 2);
        assert!(exposed(true, true, &[]).is_empty());
        assert!(exposed(false, false, &limits).is_empty());
    }

    #[test]
    fn nothing_is_said_where_there_is_no_limit() {
        let config = LimitHeadersConfig {
            standard: true,
            legacy: true,
        };
        assert!(headers(&config, &[]).is_empty());
    }

    #[test]
    fn seconds_are_rounded_up_and_at_least_one() {
        for (millis, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2)] {
            assert_eq!(
                whole_seconds(Duration::from_millis(millis)),
                seconds,
                "{millis} ms"
            );
        }
    }

    #[test]
    fn the_largest_numbers_still_make_a_field() {
        let limits = [status("a", u64::MAX, u64::MAX, u64::MAX, u64::MAX)];
        let all = headers(&LimitHeadersConfig::default(), &limits);
        assert!(all[0].1.contains("q=999999999999999"), "{all:?}");
    }
}
