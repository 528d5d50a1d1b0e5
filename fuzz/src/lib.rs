//! What must hold of every input, whoever sends it. Each module is one target of the fuzzer: its
//! `check` takes any bytes, and panics where something does not hold. `make fuzz` looks for such
//! bytes; `cargo test` runs the seeds, and every input that once broke a check.

pub mod accept;
pub mod chain;
pub mod configuration;
pub mod dates;
pub mod keys;
pub mod paths;
pub mod records;
pub mod setup;
pub mod tokens;

/// The checks by the names of their targets.
pub const CHECKS: [(&str, fn(&[u8])); 8] = [
    ("configuration", configuration::check),
    ("tokens", tokens::check),
    ("keys", keys::check),
    ("paths", paths::check),
    ("accept", accept::check),
    ("dates", dates::check),
    ("records", records::check),
    ("chain", chain::check),
];
