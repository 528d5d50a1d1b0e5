//! The kinds of what Envoy refuses or fails at by itself. Beside these it uses
//! [`CREDENTIALS_MISSING`](tollgate_core::problem::CREDENTIALS_MISSING) and
//! [`GATEWAY_FAULT`](tollgate_core::problem::GATEWAY_FAULT).
//!
//! A kind's status is the one that Envoy uses by default. An operator can set others in Envoy, so
//! the status of an answer is that which Envoy gave it.

use tollgate_core::problem::{Kind, QUOTA_EXCEEDED_TYPE};

/// All of them, in the order of their status.
pub static KINDS: [&Kind; 19] = [
    &REQUEST_REFUSED,
    &REQUEST_MALFORMED,
    &CREDENTIALS_INVALID,
    &ACCESS_DENIED,
    &UPGRADE_REFUSED,
    &NO_ROUTE,
    &REQUEST_TIMEOUT,
    &REQUEST_TOO_LARGE,
    &HTTP_VERSION_UNSUPPORTED,
    &TOO_MANY_REQUESTS,
    &REQUEST_HEADERS_TOO_LARGE,
    &GATEWAY_ERROR,
    &UPSTREAM_RESPONSE_INVALID,
    &UPSTREAM_UNKNOWN,
    &UPSTREAM_UNAVAILABLE,
    &UPSTREAM_RESET,
    &UPSTREAM_OVERLOADED,
    &GATEWAY_OVERLOADED,
    &UPSTREAM_TIMEOUT,
];

/// `request-refused`: Envoy refused the request for a reason that has no kind of its own.
pub static REQUEST_REFUSED: Kind = plain("request-refused", 400);

/// `request-malformed`: the request does not keep to HTTP, or to what Envoy is told to accept.
pub static REQUEST_MALFORMED: Kind = plain("request-malformed", 400);

/// `credentials-invalid`: a filter of Envoy did not accept the token, key or password.
pub static CREDENTIALS_INVALID: Kind = plain("credentials-invalid", 401);

/// `access-denied`: a filter of Envoy knows the caller, or needs not, and says no.
pub static ACCESS_DENIED: Kind = plain("access-denied", 403);

/// `upgrade-refused`: the request asks for an upgrade, as to a WebSocket, that is not allowed here.
pub static UPGRADE_REFUSED: Kind = plain("upgrade-refused", 403);

/// `no-route`: no route matches the request.
pub static NO_ROUTE: Kind = plain("no-route", 404);

/// `request-timeout`: the request did not arrive in time, or its stream was silent for too long.
pub static REQUEST_TIMEOUT: Kind = plain("request-timeout", 408);

/// `request-too-large`: the body is larger than Envoy may hold.
pub static REQUEST_TOO_LARGE: Kind = plain("request-too-large", 413);

/// `http-version-unsupported`: the request came in a version of HTTP that is not allowed.
pub static HTTP_VERSION_UNSUPPORTED: Kind = plain("http-version-unsupported", 426);

/// `too-many-requests`: a rate limit of Envoy's own is used up.
pub static TOO_MANY_REQUESTS: Kind = Kind {
    name: "too-many-requests",
    status: 429,
    registered: Some(QUOTA_EXCEEDED_TYPE),
};

/// `request-headers-too-large`: the headers are too many or too large.
pub static REQUEST_HEADERS_TOO_LARGE: Kind = plain("request-headers-too-large", 431);

/// `gateway-error`: Envoy failed for a reason that has no kind of its own.
pub static GATEWAY_ERROR: Kind = plain("gateway-error", 500);

/// `upstream-response-invalid`: the upstream's answer does not keep to HTTP, or is too large.
pub static UPSTREAM_RESPONSE_INVALID: Kind = plain("upstream-response-invalid", 502);

/// `upstream-unknown`: the route leads to a cluster that Envoy does not have.
pub static UPSTREAM_UNKNOWN: Kind = plain("upstream-unknown", 503);

/// `upstream-unavailable`: no host of the upstream is healthy, or none can be reached.
pub static UPSTREAM_UNAVAILABLE: Kind = plain("upstream-unavailable", 503);

/// `upstream-reset`: the upstream broke off before it answered. It may have seen the request.
pub static UPSTREAM_RESET: Kind = plain("upstream-reset", 503);

/// `upstream-overloaded`: a circuit breaker of Envoy spares the upstream.
pub static UPSTREAM_OVERLOADED: Kind = plain("upstream-overloaded", 503);

/// `gateway-overloaded`: Envoy sheds load.
pub static GATEWAY_OVERLOADED: Kind = plain("gateway-overloaded", 503);

/// `upstream-timeout`: the upstream did not answer in time. It may have seen the request.
pub static UPSTREAM_TIMEOUT: Kind = plain("upstream-timeout", 504);

const fn plain(name: &'static str, status: u16) -> Kind {
    Kind {
        name,
        status,
        registered: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn names_are_lower_case_words_and_unique() {
        let names: BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        for name in names {
            let is_word =
                |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(name.split('-').all(is_word), "{name}");
        }
        assert!(KINDS.is_sorted_by_key(|kind| kind.status));
        assert!(KINDS.iter().all(|kind| (400..600).contains(&kind.status)));
    }
}
