//! What a request gets.

use std::time::Duration;

use tollgate_core::host::Host;
use tollgate_core::limit_headers::whole_seconds;
use tollgate_core::time::Timestamp;

use super::Remote;
use crate::KeyFormat;
use crate::source::{Since, Waiting};
use crate::unknown::UnknownKids;

/// What a request gets, less the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Serve,
    Wait,
    UnknownKid,
    Unavailable { retry_after: u64 },
}

impl<F: KeyFormat> Remote<F> {
    pub(crate) fn judge<H: Host>(
        &mut self,
        host: &H,
        now: Timestamp,
        kid: Option<&str>,
        waiting: &mut Waiting,
    ) -> Verdict {
        let elapsed = self.pace.advance(now);
        let since = waiting.since(Since {
            elapsed,
            attempt: self.state.attempt,
            generation: self.generation,
        });
        let left = self
            .settings
            .max_wait
            .saturating_sub(elapsed.saturating_sub(since.elapsed));
        let has_kid = self
            .usable()
            .map(|keys| kid.is_none_or(|kid| self.format.has_kid(keys, kid)));
        match (has_kid, kid) {
            (Some(true), _) => Verdict::Serve,
            (Some(false), Some(kid)) => self.judge_unknown(host, now, kid, since, left),
            (None, _) | (Some(false), None) => self.judge_without_keys(now, left),
        }
    }

    /// There are keys, but not the one that is named.
    fn judge_unknown<H: Host>(
        &mut self,
        host: &H,
        now: Timestamp,
        kid: &str,
        since: Since,
        left: Duration,
    ) -> Verdict {
        let published = self.known.as_ref().map_or(0, |k| k.terms.published);
        let (elapsed, span) = (self.pace.elapsed(), self.settings.remember_unknown);
        let unknown = self.unknown.get_or_insert_with(|| {
            let mut seed = [0; 16];
            host.fill_random(&mut seed);
            UnknownKids::new(seed)
        });
        if unknown.contains(kid, elapsed) {
            return Verdict::UnknownKid;
        }
        if published > since.attempt {
            unknown.insert(kid, elapsed, span);
            return Verdict::UnknownKid;
        }
        if self.state.retry.is_pending(now) {
            return self.unavailable(now);
        }
        if left.is_zero() {
            // Whoever does not wait may find the key when trying again.
            self.search |= !self.state.search.is_pending(now);
            return self.unavailable(now);
        }
        if self.state.lease.is_pending(now) || self.state.is_overdue(now) {
            return Verdict::Wait;
        }
        if self.state.search.is_pending(now) {
            return Verdict::UnknownKid;
        }
        self.search = true;
        Verdict::Wait
    }

    /// There are no keys at all. It is worth waiting while they may come in time.
    fn judge_without_keys(&self, now: Timestamp, left: Duration) -> Verdict {
        // An issuer that has failed more than once in a row is not about to come back: nobody waits
        // for the next attempt before it has begun.
        let hopeless = self.state.failures > 2 && self.state.retry.is_pending(now);
        if left.is_zero() || hopeless || self.state.retry.remaining(now) >= left {
            return self.unavailable(now);
        }
        Verdict::Wait
    }

    fn unavailable(&self, now: Timestamp) -> Verdict {
        Verdict::Unavailable {
            retry_after: whole_seconds(self.state.retry.remaining(now)),
        }
    }
}
