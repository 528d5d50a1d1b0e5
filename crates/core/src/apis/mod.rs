//! APIs: named once, by the requests that belong to them, and used by every policy.
//!
//! A request is for the API whose match fits it most specifically, whatever the order in the
//! document:
//!
//! 1. the host: an exact one before `*.example.com`, a longer suffix before a shorter one, any
//!    host last;
//! 2. then the path, segment by segment from the left: a literal before `*` or `{name}`, these
//!    before `**`;
//! 3. then the method: a named one before all.
//!
//! Where the more specific match does not take the request's method, or none of a host's matches
//! takes its path, the less specific ones get their turn.
//!
//! One trailing slash makes no difference: `/accounts` and `/accounts/` are the same to a template,
//! as they are to most servers, so that a slash does not lead around a rule.

mod captures;
mod config;
mod host;
mod method;
mod pattern;
mod routes;
mod table;
mod template;
#[cfg(test)]
mod tests;

pub use captures::{Captures, MissingCapture};
pub use config::{ApiConfig, MatchConfig};
pub use host::{HostPattern, InvalidHost};
pub use method::{InvalidMethod, Method};
pub use pattern::{InvalidMethodPattern, InvalidPatterns, MethodPattern, PatternTable};
pub use table::{ApiId, ApiTable};
pub use template::{InvalidTemplate, Template};
