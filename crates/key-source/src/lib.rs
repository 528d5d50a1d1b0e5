//! The keys of an issuer of tokens, fetched over HTTP, shared by all workers of a process, and never
//! the cause of an outage.
//!
//! A [`KeySource`] does no I/O: it says what to fetch ([`KeySource::tick`]), is told what came back
//! ([`KeySource::fetched`]), and answers requests that need a key ([`KeySource::resolve`]). What keys
//! are, it does not know either: a [`KeyFormat`] reads them and finds one by its `kid`.
//!
//! # What it promises
//!
//! - **Good keys stay.** Only a complete answer with status 200 from which the format could read keys
//!   replaces them. Whatever else comes back, or nothing, leaves them in use until they are older
//!   than [`Settings::stale_limit`], and while the issuer answers in time, always.
//! - **One fetch for all workers.** Who fetches holds a lease in the state that the workers share,
//!   taken by compare-and-swap. If the holder dies, the lease ends by itself and another takes over.
//! - **Strangers can't make it fetch.** A `kid` that is not among the keys makes one fetch at once,
//!   for which the request waits, and then none for [`Settings::cool_down`], however many others come
//!   to however many workers. One that was looked for in vain is remembered for a while.
//! - **Unknown is not unavailable.** [`Resolve::UnknownKid`] (401) is said only when the issuer has
//!   answered since and does not have the key, or has answered within the cool-down. If it could not
//!   be asked, the key may well be new, and that is [`Resolve::Unavailable`] (503).
//! - **The wall clock may step.** A point in time that is further away than the span it begins is
//!   taken as past, and the age of the keys is added up from small steps, so neither makes keys
//!   expire nor fetches pile up.
//!
//! # The life of a fetch
//!
//! ```text
//!             due                     200 and keys
//!   idle ────────────> lease held ────────────────────> idle until ~80 % of the lifetime
//!    ^                  │      │ anything else, nothing
//!    │   lease is over  │      └─────────────────────> idle until the back-off is over
//!    └──────────────────┘
//! ```
//!
//! It is due when nothing was ever fetched, when the time for a refresh has come, when the last one
//! failed and the back-off is over, or when a request brings an unknown `kid` outside the cool-down.
//!
//! With [`Discovery`], a fetch begins with the issuer's metadata when the location of the keys is not
//! known, was found a day ago, or has failed several times; if the metadata can't be had, it goes on
//! with the location known before.
//!
//! # What is shared
//!
//! Two entries for each source: a small one that every worker reads at every tick (who fetches, when
//! what is due, which keys are current), and one with the keys as they were received, read only when
//! the small one names others than the worker has. Both belong to one configuration of the source:
//! what another configuration or another version of the program has left there is as good as absent.
//! Out of reach of the shared state, a worker goes on by itself, as if it were the only one.

mod body;
mod caching;
mod discovery;
mod fetch;
mod pace;
mod remote;
mod schedule;
mod settings;
mod source;
mod state;
mod unknown;

use std::fmt;

pub use caching::Caching;
pub use discovery::{Discovery, InvalidDiscovery};
pub use fetch::{Answered, Failure, Fetch, FetchOutcome, Response, Ticket};
pub use settings::{Settings, Source};
pub use source::{Availability, KeySource, Resolve, Waiting};

/// What keys are, and how they are read.
pub trait KeyFormat {
    /// A set of keys.
    type Keys;
    /// Why a body holds no keys. Its text is logged, shortened and escaped.
    type Invalid: fmt::Display;

    /// Reads the body of an answer. A set without a usable key is an error: it would otherwise
    /// replace keys that are good.
    fn parse(&self, body: &[u8]) -> Result<Self::Keys, Self::Invalid>;

    /// Whether one of the keys has this identifier (`kid`, RFC 7517 section 4.5).
    fn has_kid(&self, keys: &Self::Keys, kid: &str) -> bool;
}
