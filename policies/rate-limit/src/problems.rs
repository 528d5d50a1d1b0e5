//! The refusals of this policy.

use tollgate_core::problem::{Kind, QUOTA_EXCEEDED_TYPE, RegisteredType};

/// The client calls faster than a limit allows.
pub static RATE_LIMITED: Kind = Kind {
    name: "rate-limited",
    status: 429,
    registered: Some(QUOTA_EXCEEDED_TYPE),
};
/// The client has as many requests under way as a limit allows.
pub static CONCURRENCY_LIMITED: Kind = Kind {
    name: "concurrency-limited",
    status: 429,
    registered: Some(QUOTA_EXCEEDED_TYPE),
};
/// The client went on after it was refused, and is refused everything for a while.
pub static CLIENT_BLOCKED: Kind = Kind {
    name: "client-blocked",
    status: 429,
    registered: Some(ABNORMAL_USAGE),
};
/// The request could not be counted.
pub static LIMIT_UNAVAILABLE: Kind = Kind {
    name: "limit-unavailable",
    status: 503,
    registered: None,
};

// draft-ietf-httpapi-ratelimit-headers-11, "Problem Types".
const ABNORMAL_USAGE: RegisteredType = RegisteredType {
    uri: "https://iana.org/assignments/http-problem-types#abnormal-usage-detected",
    title: "Request not satisfied due to detection of abnormal request pattern",
};

/// All of them.
pub(crate) fn all(kinds: &mut Vec<&'static Kind>) {
    kinds.extend([
        &RATE_LIMITED,
        &CONCURRENCY_LIMITED,
        &CLIENT_BLOCKED,
        &LIMIT_UNAVAILABLE,
    ]);
}
