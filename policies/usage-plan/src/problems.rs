//! The refusals of this policy.

use tollgate_core::problem::{Kind, QUOTA_EXCEEDED_TYPE};

/// More than one key was sent.
pub static API_KEY_REPEATED: Kind = Kind {
    name: "api-key-repeated",
    status: 400,
    registered: None,
};
/// The key belongs to nobody.
pub static API_KEY_UNKNOWN: Kind = Kind {
    name: "api-key-unknown",
    status: 401,
    registered: None,
};
/// The key is not valid yet.
pub static API_KEY_NOT_YET_VALID: Kind = Kind {
    name: "api-key-not-yet-valid",
    status: 401,
    registered: None,
};
/// The key is no longer valid.
pub static API_KEY_EXPIRED: Kind = Kind {
    name: "api-key-expired",
    status: 401,
    registered: None,
};
/// The token's client has no plan.
pub static PLAN_MISSING: Kind = Kind {
    name: "plan-missing",
    status: 403,
    registered: None,
};
/// The consumer's plan does not include the API.
pub static API_NOT_IN_PLAN: Kind = Kind {
    name: "api-not-in-plan",
    status: 403,
    registered: None,
};
/// The consumer calls faster than its plan allows.
pub static THROTTLED: Kind = Kind {
    name: "throttled",
    status: 429,
    registered: Some(QUOTA_EXCEEDED_TYPE),
};
/// The consumer's quota is used up.
pub static QUOTA_EXCEEDED: Kind = Kind {
    name: "quota-exceeded",
    status: 429,
    registered: Some(QUOTA_EXCEEDED_TYPE),
};
/// Usage could not be counted.
pub static USAGE_UNAVAILABLE: Kind = Kind {
    name: "usage-unavailable",
    status: 503,
    registered: None,
};

/// All of them.
pub(crate) fn all(kinds: &mut Vec<&'static Kind>) {
    kinds.extend([
        &API_KEY_REPEATED,
        &API_KEY_UNKNOWN,
        &API_KEY_NOT_YET_VALID,
        &API_KEY_EXPIRED,
        &PLAN_MISSING,
        &API_NOT_IN_PLAN,
        &THROTTLED,
        &QUOTA_EXCEEDED,
        &USAGE_UNAVAILABLE,
    ]);
}
