//! What a gateway does with the claims of a verified token (RFC 7519 section 4): find one
//! ([`ClaimPath`]), ask for scopes ([`ScopeRule`]) and for values ([`ClaimCondition`]), hand some on
//! as headers ([`ClaimsToHeaders`]), tell clients apart by one ([`key_text`]).
//!
//! Claims are a [`serde_json::Map`] that somebody else has verified; nothing here looks at
//! signatures or times. What is not there, or is not of the type that was asked for, satisfies
//! nothing and becomes no header: a rule fails closed.
//!
//! Integers are compared and written exactly, or not at all: one so large that only a double holds
//! it may stand for several, so it equals nothing and is not written. A fraction is the double that
//! it was read as, which for very long ones may be a neighbour of the nearest.
//!
//! Claims are trusted to be of bounded size and depth, as those of a token under a size limit are.
//!
//! ```
//! use tollgate_claims::{ClaimPath, scopes};
//!
//! let claims = serde_json::json!({
//!     "scope": "accounts:read accounts:write",
//!     "realm_access": { "roles": ["teller"] },
//! });
//! let claims = claims.as_object().unwrap();
//!
//! let path: ClaimPath = "/realm_access/roles/0".parse().unwrap();
//! assert_eq!(path.find(claims), Some(&"teller".into()));
//! assert!(scopes(claims).contains("accounts:read"));
//! ```

mod condition;
mod path;
mod render;
mod scalar;
mod scope;
#[cfg(test)]
mod testing;
mod to_headers;

pub use condition::ClaimCondition;
pub use path::{ClaimPath, InvalidClaimPath, MAX_DEPTH};
pub use render::{InvalidSeparator, RefusedClaim, Separator};
pub use scalar::{LONGEST_KEY_TEXT, Scalar, key_text};
pub use scope::{InvalidScopeToken, MAX_SCOPES, ScopeRule, ScopeToken, Scopes, scopes};
pub use to_headers::{Caps, ClaimToHeader, ClaimsToHeaders, Format, check_header, is_same_header};
