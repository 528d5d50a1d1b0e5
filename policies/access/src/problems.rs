//! The refusals of this policy.

use tollgate_core::problem::Kind;

/// The API needs a client certificate, and none was shown.
pub static CLIENT_CERTIFICATE_MISSING: Kind = Kind {
    name: "client-certificate-missing",
    status: 403,
    registered: None,
};
/// The client's certificate is not one of those that may call this API.
pub static CLIENT_CERTIFICATE_NOT_ALLOWED: Kind = Kind {
    name: "client-certificate-not-allowed",
    status: 403,
    registered: None,
};
/// The token lacks a scope that the API needs (RFC 6750 section 3.1).
pub static SCOPE_INSUFFICIENT: Kind = Kind {
    name: "scope-insufficient",
    status: 403,
    registered: None,
};
/// The token's claims are not what the API needs.
pub static CLAIMS_INSUFFICIENT: Kind = Kind {
    name: "claims-insufficient",
    status: 403,
    registered: None,
};
/// The token was issued to another client than the one the API key belongs to.
pub static CLIENT_MISMATCH: Kind = Kind {
    name: "client-mismatch",
    status: 403,
    registered: None,
};

/// All of them.
pub(crate) fn all(kinds: &mut Vec<&'static Kind>) {
    kinds.extend([
        &CLIENT_CERTIFICATE_MISSING,
        &CLIENT_CERTIFICATE_NOT_ALLOWED,
        &SCOPE_INSUFFICIENT,
        &CLAIMS_INSUFFICIENT,
        &CLIENT_MISMATCH,
    ]);
}
