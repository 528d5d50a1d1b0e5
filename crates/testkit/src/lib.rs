//! A host in memory, for tests: shared data with compare-and-swap, a clock that is moved by hand,
//! repeatable randomness, and faults on demand. [`Gateway`] runs a chain of policies on it and
//! shows what the client and the upstream would see.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests want to fail loudly; none of this is in a plugin"
)]

mod gateway;
mod host;

pub use gateway::{Gateway, Open, Paused, Reply, Request, Seen, Submitted};
pub use host::{Clock, Fault, MemoryHost, Process, Sent, VerifySignature};
