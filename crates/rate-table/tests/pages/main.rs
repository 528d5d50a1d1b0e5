//! What pages and tables promise, over random schedules and at full size.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may fail by a panic"
)]

mod buckets;
mod penalties;
mod tables;

use std::num::{NonZeroU32, NonZeroU64};

use tollgate_gcra::Bucket;
use tollgate_rate_table::{ClientHash, Seed};

const SECOND: u64 = 1_000_000_000;

/// When the tests begin.
const START: u64 = 1_700_000_000 * SECOND;

fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn nanos(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap()
}

/// A bucket in which one request comes back every `interval_ns`.
fn bucket(interval_ns: u64, burst: u32) -> Bucket {
    Bucket::new(count(1), nanos(interval_ns), count(burst)).unwrap()
}

/// The client with this number.
fn client(number: u32) -> ClientHash {
    Seed::from_bytes([7; 16]).client([number.to_le_bytes()])
}
