//! Waiting for a condition, with a deadline instead of a guess of how long it takes.

use std::time::Duration;

/// How long a condition may take before a test fails. Generous: the machine may be busy building.
pub const DEADLINE: Duration = Duration::from_secs(60);

const BETWEEN_PROBES: Duration = Duration::from_millis(10);

/// Calls `probe` until it gives a value.
///
/// # Panics
///
/// After [`DEADLINE`], naming `what` was waited for.
pub async fn wait_for<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    match wait_until_deadline(probe).await {
        Some(value) => value,
        None => panic!("waited {DEADLINE:?} in vain for {what}"),
    }
}

/// Like [`wait_for`], but `None` once the deadline has passed.
pub(crate) async fn wait_until_deadline<T>(mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let attempts = async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(BETWEEN_PROBES).await;
        }
    };
    tokio::time::timeout(DEADLINE, attempts).await.ok()
}
