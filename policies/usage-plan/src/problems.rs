//! The refusals of this policy.

use tollgate_core::problem::{Kind, QUOTA_EXCEEDED_TYPE};

/// No key was sent, and none but known consumers may call this.
pub static CREDENTIALS_MISSING: Kind = Kind {
    name: "credentials-missing",
    status: 401,
    registered: None,
};
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
