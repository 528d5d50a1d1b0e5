//! See `tollgate_fuzz::chain`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tollgate_fuzz::chain::check(bytes));
