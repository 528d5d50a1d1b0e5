//! The refusals of this policy.

use tollgate_core::problem::Kind;

/// The version has ended.
pub static API_RETIRED: Kind = Kind {
    name: "api-retired",
    status: 410,
    registered: None,
};
/// The version has ended, and its successor is to be called instead.
pub static API_MOVED: Kind = Kind {
    name: "api-moved",
    status: 308,
    registered: None,
};
/// The version is switched off for a while, as it will be for ever.
pub static API_BROWNOUT: Kind = Kind {
    name: "api-brownout",
    status: 410,
    registered: None,
};
/// The version is switched off for a while.
pub static API_UNAVAILABLE: Kind = Kind {
    name: "api-unavailable",
    status: 503,
    registered: None,
};

/// All of them.
pub(crate) fn all(kinds: &mut Vec<&'static Kind>) {
    kinds.extend([&API_RETIRED, &API_MOVED, &API_BROWNOUT, &API_UNAVAILABLE]);
}
