//! Updating shared state by compare-and-swap, a bounded number of times.

use deserr::Deserr;

use crate::config::ConfigErrors;
use crate::host::{Expected, Host, SharedSetError, SharedUnavailable};

/// How often an entry is tried to be written while other workers write it too. With as many workers
/// as a machine has, a second attempt is rare and a fourth unseen.
pub const ATTEMPTS: u32 = 64;

/// What happens to a request that can't be counted, because other workers keep changing the entry
/// or the shared state is out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum OnContention {
    /// It is refused with 503.
    #[default]
    Deny,
    /// It passes without being charged.
    Allow,
}

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
    /// There is no room for it.
    Full,
}

/// Random bytes that all workers agree on, so that what they make of them fits together: whoever
/// asks first makes them, and they live as long as the shared state.
pub fn agreed_seed<H: Host>(host: &H) -> Result<[u8; 16], UpdateFailed> {
    agreed(host, "tollgate/seed")
}

/// A random number that stands for this shared state as long as it lives: all workers agree on it,
/// and no other process has it.
pub fn agreed_number<H: Host>(host: &H, key: &str) -> Result<u64, UpdateFailed> {
    agreed(host, key).map(u64::from_le_bytes)
}

fn agreed<H: Host, const N: usize>(host: &H, key: &str) -> Result<[u8; N], UpdateFailed> {
    let mut random = [0; N];
    host.fill_random(&mut random);
    update(host, key, 8, |bytes| {
        match bytes.and_then(|bytes| <[u8; N]>::try_from(bytes).ok()) {
            Some(known) => Update::Keep(known),
            None => Update::Write(random.to_vec(), random),
        }
    })
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
