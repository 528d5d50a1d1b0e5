//! APIs: named once, by the requests that belong to them, and used by every policy.
//!
//! A request is for the API whose match fits it most specifically, whatever the order in the
//! document:
//!
//! 1. the host: an exact one before `*.example.com`, a longer suffix before a shorter one, any
//!    host last;
//! 2. then the path, segment by segment from the left: a literal before `*` or `{name}`, these
//!    before `**`;
//! 3. then the method: a named one before `GET` for `HEAD`, and that before all.
//!
//! Where the more specific match does not take the request's method, or none of a host's matches
//! takes its path, the less specific ones get their turn.
//!
//! No spelling of a request leads around a rule:
//!
//! - One trailing slash makes no difference: `/accounts` and `/accounts/` are the same to a
//!   template, as they are to most servers.
//! - A rule about `GET` is one about [`HEAD`](Method) too.
//! - What could be taken for different APIs [is refused](crate::target::AmbiguousRequest): a path by
//!   [its readings](crate::target), a host by [its port or dot](HostOptions), a method by its letter
//!   case.

mod authority;
mod captures;
mod claims;
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
pub use config::{ApiConfig, HostOptions, MatchConfig, Ports};
pub use host::{HostPattern, InvalidHost};
pub use method::{InvalidMethod, Method, check_method};
pub use pattern::{InvalidMethodPattern, InvalidPatterns, MethodPattern, PatternTable};
pub use table::{ApiId, ApiTable};
pub use template::{InvalidTemplate, Template};
