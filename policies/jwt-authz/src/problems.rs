//! The refusals of this policy.

use tollgate_core::problem::Kind;

/// More than one token was sent.
pub static TOKEN_REPEATED: Kind = Kind {
    name: "token-repeated",
    status: 400,
    registered: None,
};
/// A token was announced and not sent, as by the word `Bearer` alone.
pub static TOKEN_EMPTY: Kind = Kind {
    name: "token-empty",
    status: 400,
    registered: None,
};
/// The issuer's keys can't be had at present, so the token can't be checked.
pub static ISSUER_UNAVAILABLE: Kind = Kind {
    name: "issuer-unavailable",
    status: 503,
    registered: None,
};

/// What is wrong with a token that was checked: all 401, `invalid_token` (RFC 6750 section 3.1).
macro_rules! invalid_token {
    ($($name:literal),+ $(,)?) => {
        /// The kinds of tokens that are refused, by the slugs of their reasons.
        pub static INVALID_TOKEN: &[Kind] = &[$(Kind {
            name: $name,
            status: 401,
            registered: None,
        }),+];
    };
}

invalid_token!(
    "algorithm-not-allowed",
    "audience-mismatch",
    "claim-malformed",
    "claim-missing",
    "issuer-unknown",
    "key-ambiguous",
    "key-unfit",
    "key-unknown",
    "signature-invalid",
    "token-bound",
    "token-encrypted",
    "token-expired",
    "token-extension-unsupported",
    "token-issued-in-future",
    "token-lifetime-too-long",
    "token-malformed",
    "token-not-yet-valid",
    "token-too-long",
    "token-type-mismatch",
);

/// A token is refused for a reason that has no kind of its own; there is none.
static TOKEN_INVALID: Kind = Kind {
    name: "token-invalid",
    status: 401,
    registered: None,
};

/// The kind of a reason.
pub(crate) fn invalid_token(slug: &str) -> &'static Kind {
    let mut kinds = INVALID_TOKEN.iter();
    kinds
        .find(|kind| kind.name == slug)
        .unwrap_or(&TOKEN_INVALID)
}

/// All of them.
pub(crate) fn all(kinds: &mut Vec<&'static Kind>) {
    kinds.extend([&TOKEN_REPEATED, &TOKEN_EMPTY, &ISSUER_UNAVAILABLE]);
    kinds.extend(INVALID_TOKEN);
}
