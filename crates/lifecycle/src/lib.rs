//! The life of an API's version: when it is deprecated, how it is announced, when it goes dark for
//! practice, when it ends, and where its successor is.
//!
//! A [`LifecycleTable`] is compiled from the configuration. It finds the [`Lifecycle`] of the version
//! that a request is for, which tells
//!
//! - the [`Stage`] at an instant, for one consumer or for all;
//! - the header fields for every response: `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and
//!   [links](Link) (RFC 8288), and what becomes of those that the upstream has set
//!   ([`merge_deprecation`], [`merge_sunset`], [`merge_links`]);
//! - the URI of the same thing in the next version, [computed](Lifecycle::elsewhere) from the
//!   request.
//!
//! All dates are whole seconds, since that is what the fields can tell. Time is always an argument,
//! and a clock that steps back only leads back to the stage of then.
//!
//! ```
//! use tollgate_core::time::Timestamp;
//! use tollgate_lifecycle::{Deprecation, Merged, Sunset, merge_deprecation};
//!
//! let now = Timestamp::from_seconds(1_700_000_000);
//! let deprecation = Deprecation::new(Timestamp::from_seconds(1_688_169_599));
//! assert_eq!(deprecation.value(now), Some("@1688169599"));
//!
//! let sunset = Sunset::new(Timestamp::from_seconds(1_719_791_999));
//! assert_eq!(sunset.value(), "Sun, 30 Jun 2024 23:59:59 GMT");
//!
//! // The upstream knows of an earlier date.
//! let merged = merge_deprecation(&deprecation, now, &[b"@1600000000"]);
//! assert_eq!(merged, Merged::Keep);
//! ```

mod brownout;
mod compile;
mod config;
mod cron;
mod dates;
mod lifecycle;
mod link;
mod media_type;
mod selector;
mod successor;
mod uri;

pub use compile::LifecycleTable;
pub use config::{
    AfterSunset, Answer, BrownoutConfig, Offset, RampConfig, SelectorConfig, VersionConfig,
};
pub use cron::{Cron, InvalidCron};
pub use dates::{Deprecation, Merged, Sunset, merge_deprecation, merge_sunset};
pub use lifecycle::{Elsewhere, Lifecycle, Stage};
pub use link::{Link, Relation, merge_links};
pub use media_type::{InvalidMediaRange, MediaRange};
pub use selector::VersionSelector;
pub use successor::{InvalidSuccessor, Successor};
pub use uri::{Docs, InvalidDocs};
