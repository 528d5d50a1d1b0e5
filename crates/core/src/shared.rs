//! Updating shared state by compare-and-swap, a bounded number of times.

use crate::host::{Expected, Host, SharedSetError, SharedUnavailable};

/// What to do with an entry after having looked at it.
#[derive(Debug)]
pub enum Update<T> {
    /// Store these bytes; the update ends with `T` once they are stored.
    Write(Vec<u8>, T),
    /// Leave the entry as it is and end with `T`.
    Keep(T),
}

/// An entry could not be updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateFailed {
    /// Other workers wrote it first, at every attempt.
    Contended,
    /// The shared state cannot be reached.
    Unavailable,
}

/// Reads the entry `key`, lets `decide` look at it, and stores the result unless another worker
/// was faster; then it decides again on what that one left, at most `attempts` times.
///
/// `decide` gets the entry's bytes, to be edited in place, or `None` for an absent entry. It must not have effects of its own: all but its last
/// answer are thrown away.
pub fn update<H: Host, T>(
    host: &H,
    key: &str,
    attempts: u32,
    mut decide: impl FnMut(Option<Vec<u8>>) -> Update<T>,
) -> Result<T, UpdateFailed> {
    for _ in 0..attempts {
        let current = host
            .shared_get(key)
            .map_err(|SharedUnavailable| UpdateFailed::Unavailable)?;
        let (bytes, expected) = match current {
            Some(entry) => (Some(entry.bytes), Expected::Version(entry.version)),
            None => (None, Expected::Absent),
        };
        let (bytes, outcome) = match decide(bytes) {
            Update::Keep(outcome) => return Ok(outcome),
            Update::Write(bytes, outcome) => (bytes, outcome),
        };
        match host.shared_set(key, &bytes, expected) {
            Ok(()) => return Ok(outcome),
            Err(SharedSetError::Conflict) => {}
            Err(SharedSetError::Unavailable) => return Err(UpdateFailed::Unavailable),
        }
    }
    Err(UpdateFailed::Contended)
}
