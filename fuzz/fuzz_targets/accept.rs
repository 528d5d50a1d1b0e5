//! See `tollgate_fuzz::accept`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tollgate_fuzz::accept::check(bytes));
