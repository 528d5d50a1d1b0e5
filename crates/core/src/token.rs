//! A verified token, as every policy may rely on it.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::time::Timestamp;

/// A token whose issuer, signature and times were checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The name that the configuration gives its issuer.
    pub provider: Arc<str>,
    /// Whom it is about: `sub` (RFC 7519 section 4.1.2).
    pub subject: Option<Box<str>>,
    /// The client that it was issued to: `client_id` (RFC 8693 section 4.3), or what the
    /// configuration names instead.
    pub client: Option<Box<str>>,
    /// All its claims.
    pub claims: Map<String, Value>,
    /// From when on it is no longer accepted, the tolerated skew included; `None` if it has no end.
    pub expires: Option<Timestamp>,
}
