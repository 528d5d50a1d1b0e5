//! Ledgers, a store and what is between them.
#![allow(clippy::arithmetic_side_effects)]

mod decisions;
mod properties;
mod world;

use std::num::NonZeroU32;

use crate::{Mode, RateBound, Settings};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// When the windows of these tests open.
const OPENS: u64 = 1_700_000_000 * SECOND;

/// What makes a jittered span as long as it is.
const NO_JITTER: u32 = 1 << 31;

fn settings(mode: Mode, envoys: u32, limit: u64) -> Settings {
    Settings {
        limit,
        mode,
        envoys: NonZeroU32::new(envoys).unwrap(),
        rate: Some(RateBound {
            burst: 5,
            units: 10,
            period_ns: SECOND,
        }),
        report_interval_ns: 100 * MS,
        stale_ns: 200 * MS,
        skew_ns: 50 * MS,
        peek_interval_ns: SECOND,
        takes_back: true,
    }
}
