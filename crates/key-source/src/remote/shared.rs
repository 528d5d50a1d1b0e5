//! What a worker shares with the others.

use std::time::Duration;

use tollgate_core::host::{Host, SharedUnavailable};
use tollgate_core::shared::{self, Update, UpdateFailed};
use tollgate_core::time::Timestamp;

use super::{KnownTerms, Remote};
use crate::KeyFormat;
use crate::body::{self, Digest};
use crate::fetch::Failure;
use crate::state::State;

/// Other workers kept writing the state.
#[derive(Debug)]
pub(super) struct Contended;

// Reading.
impl<F: KeyFormat> Remote<F> {
    /// Learns what others have written.
    pub(super) fn sync<H: Host>(&mut self, host: &H, now: Timestamp) {
        if let Ok(entry) = host.shared_get(&self.state_key) {
            let shared = entry.and_then(|entry| State::decode(&self.fingerprint, &entry.bytes));
            self.learn(State::later(shared, &self.state), now);
            self.synced = Some(self.pace.elapsed());
        }
        if self.state.published > 0 {
            self.load_keys(host);
        }
    }

    /// Gets the keys that are current, if this worker does not have them.
    fn load_keys<H: Host>(&mut self, host: &H) {
        let terms = self.terms;
        match &mut self.known {
            Some(known) if known.digest == self.state.digest => {
                known.terms = terms;
                self.torn = false;
                return;
            }
            _ => {}
        }
        let wanted = (self.state.digest, self.state.published);
        if self.looked_up == Some(wanted) {
            return;
        }
        let entry = match host.shared_get(&self.body_key) {
            Ok(entry) => entry.map(|entry| entry.bytes).unwrap_or_default(),
            Err(SharedUnavailable) => return,
        };
        self.looked_up = Some(wanted);
        self.torn = !self.take_over(host, &entry, terms);
    }

    /// Takes keys from the shared entry, and says whether they are those that are current. Others are
    /// taken only by a worker that has none.
    fn take_over<H: Host>(&mut self, host: &H, entry: &[u8], terms: KnownTerms) -> bool {
        let Some((digest, body)) = body::decode(&self.fingerprint, entry) else {
            return false;
        };
        let current = digest == self.state.digest;
        if !current && self.usable().is_some() {
            return false;
        }
        match self.format.parse(body) {
            Ok(keys) => {
                let published = if current { terms.published } else { 0 };
                let terms = KnownTerms { published, ..terms };
                self.set_keys(keys, digest, terms);
                current
            }
            Err(error) => {
                let failure = Failure::invalid_keys(&error);
                let name = &self.source.name;
                host.log(
                    log::Level::Warn,
                    format_args!(
                        "keys of {name}: those of another worker are not taken: {failure}"
                    ),
                );
                false
            }
        }
    }

    /// Goes by a later state from now on. Keys that were published since this worker last looked are
    /// no older than that, nor than those that it has, even if the wall clock says so because it was
    /// set meanwhile.
    fn learn(&mut self, state: State, now: Timestamp) {
        if state.publication() != self.state.publication() {
            let elapsed = self.pace.elapsed();
            let since = self
                .synced
                .map_or(Duration::MAX, |synced| elapsed.saturating_sub(synced));
            self.terms = KnownTerms {
                published: state.published,
                lifetime: state.lifetime,
                age: now
                    .saturating_since(state.refresh.start)
                    .min(since)
                    .min(self.age().unwrap_or(Duration::MAX)),
                elapsed,
            };
        }
        self.state = state;
    }
}

// Writing.
impl<F: KeyFormat> Remote<F> {
    /// Changes the state for all workers. Out of reach of the others, this one goes on by itself.
    pub(super) fn update_state<H: Host, T>(
        &mut self,
        host: &H,
        now: Timestamp,
        mut change: impl FnMut(&mut State) -> T,
    ) -> Result<T, Contended> {
        let (fingerprint, own) = (&self.fingerprint, &self.state);
        let updated = shared::update(host, &self.state_key, shared::ATTEMPTS, |entry| {
            let shared = entry.and_then(|entry| State::decode(fingerprint, &entry));
            let before = State::later(shared, own);
            let mut state = before.clone();
            let outcome = change(&mut state);
            if state == before {
                return Update::Keep((state, outcome));
            }
            state.stamp();
            Update::Write(state.encode(fingerprint), (state, outcome))
        });
        match updated {
            Ok((state, outcome)) => {
                self.learn(state, now);
                Ok(outcome)
            }
            Err(UpdateFailed::Contended) => Err(Contended),
            Err(UpdateFailed::Unavailable | UpdateFailed::Full) => Ok(self.apply(now, change)),
        }
    }

    /// Changes the state for all workers, or for this one if that can't be done.
    pub(super) fn settle<H: Host, T>(
        &mut self,
        host: &H,
        now: Timestamp,
        mut change: impl FnMut(&mut State) -> T,
    ) -> T {
        match self.update_state(host, now, &mut change) {
            Ok(outcome) => outcome,
            Err(Contended) => self.apply(now, change),
        }
    }

    /// Changes the state for this worker.
    pub(super) fn apply<T>(
        &mut self,
        now: Timestamp,
        mut change: impl FnMut(&mut State) -> T,
    ) -> T {
        let mut state = self.state.clone();
        let outcome = change(&mut state);
        state.stamp();
        self.learn(state, now);
        outcome
    }

    pub(super) fn store_body<H: Host>(
        &self,
        host: &H,
        digest: Digest,
        body: &[u8],
    ) -> Result<(), UpdateFailed> {
        let entry = body::encode(digest, body);
        shared::update(host, &self.body_key, shared::ATTEMPTS, |current| {
            if current.as_ref() == Some(&entry) {
                Update::Keep(())
            } else {
                Update::Write(entry.clone(), ())
            }
        })
    }
}
