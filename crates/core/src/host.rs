//! The only door to the host. `tollgate-host` implements it over proxy-wasm, `tollgate-testkit` in
//! memory; policies know no other way to time, randomness, shared state or telemetry.

use std::fmt;
use std::net::IpAddr;

use crate::time::Timestamp;

/// What the host offers while a request is decided.
///
/// Nothing here panics or blocks. What the host cannot give is `None` or a typed error, and the
/// policy decides what that means.
pub trait Host {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Fills `buffer` with random bytes fit for identifiers.
    fn fill_random(&self, buffer: &mut [u8]);

    /// The address of the client as the host resolved it (Envoy: after `use_remote_address` and the
    /// trusted hops of `x-forwarded-for`).
    fn client_address(&self) -> Option<IpAddr>;

    /// The name of the route that the host has chosen for the request, if it has one.
    fn route_name(&self) -> Option<String>;

    /// Reads an entry of the state that all workers share.
    fn shared_get(&self, key: &str) -> Result<Option<SharedValue>, SharedUnavailable>;

    /// Writes an entry of the shared state if it is still as `expected`.
    fn shared_set(&self, key: &str, value: &[u8], expected: Expected)
    -> Result<(), SharedSetError>;

    /// Hands a value on to access logs and other filters.
    fn set_filter_state(&self, key: &str, value: &str);

    /// A counter by its full name, labels included; the same name gives the same counter.
    fn counter(&self, name: &str) -> Option<CounterId>;

    /// Adds to a counter; adding nothing is allowed.
    fn increment(&self, counter: CounterId, by: u64);

    /// Writes to the log. The message is formatted only if the level is on.
    fn log(&self, level: log::Level, message: fmt::Arguments<'_>);
}

/// An entry of the shared state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedValue {
    /// What is stored.
    pub bytes: Vec<u8>,
    /// Which write it came from.
    pub version: Version,
}

/// Tells one write of an entry from the next. Never zero: zero is an unconditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub std::num::NonZeroU32);

/// What must still hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The entry does not exist.
    Absent,
    /// The entry is as it was when this version was read.
    Version(Version),
}

/// The shared state cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedUnavailable;

/// Why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedSetError {
    /// Another worker has written the entry since it was read.
    Conflict,
    /// The shared state cannot be reached.
    Unavailable,
}

/// A counter that the host has defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CounterId(pub u32);

/// Where a plugin is configured: what may be asked then, beside the document.
pub trait Environment {
    /// An environment variable that the operator handed to the plugin.
    fn variable(&self, name: &str) -> Option<String>;
}
