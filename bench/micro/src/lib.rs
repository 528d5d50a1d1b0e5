//! Nothing but benchmarks: see `benches/`. They are in a crate of their own, because the pure crates
//! are also tested as WebAssembly, for which criterion is not made.
