//! A source of keys as its users see it.

use std::time::Duration;

use tollgate_core::host::Host;
use tollgate_core::time::Timestamp;

use crate::KeyFormat;
use crate::fetch::{Answered, Failure, Fetch, FetchOutcome, Response, Ticket};
use crate::remote::{Remote, Verdict};
use crate::settings::{Settings, Source};

/// The keys of an issuer, for one worker.
///
/// [`tick`](KeySource::tick) must be called at least once a second, and soon after a request was
/// told to wait; `now` is [`Host::now`] everywhere. Where a process tries a configuration out in a
/// worker that it ends at once, `tick` must not be called there: it would take the lease and leave.
pub struct KeySource<F: KeyFormat>(Kind<F>);

enum Kind<F: KeyFormat> {
    Fixed { format: F, keys: F::Keys },
    Remote(Box<Remote<F>>),
}

/// How good the keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// There are keys, as fresh as the issuer wants them to be.
    Fresh,
    /// There are keys that should have been refreshed by now.
    Stale,
    /// There were keys; they are older than the stale limit and not used.
    Expired,
    /// None were ever fetched.
    Never,
}

impl Availability {
    /// A label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Availability::Fresh => "fresh",
            Availability::Stale => "stale",
            Availability::Expired => "expired",
            Availability::Never => "never",
        }
    }
}

/// What a request has to remember while it waits; a new one is [`Waiting::default`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Waiting(Option<Since>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    /// When it asked first, by the worker's pace.
    pub(crate) elapsed: Duration,
    /// The last attempt that had begun then. What a later one brings tells of the time after.
    pub(crate) attempt: u64,
    /// Which keys there were when it asked last.
    pub(crate) generation: u64,
}

impl Waiting {
    /// Since when it waits, if it asks now.
    pub(crate) fn since(&mut self, asks: Since) -> Since {
        let since = self.0.get_or_insert(asks);
        since.generation = asks.generation;
        *since
    }
}

/// What a request gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Resolve<'a, K> {
    /// The keys, with the wanted one among them if one was named.
    Keys(&'a K),
    /// They are on their way: ask again after the next tick.
    Wait,
    /// The issuer has no such key: it has been asked since, or only just before.
    UnknownKid,
    /// There is no telling: the issuer can't be asked at present.
    Unavailable {
        /// Seconds until it is asked again, at least 1.
        retry_after: u64,
    },
}

impl<F: KeyFormat> KeySource<F> {
    /// Keys that are part of the configuration.
    pub fn fixed(format: F, keys: F::Keys) -> Self {
        KeySource(Kind::Fixed { format, keys })
    }

    /// Keys that are to be fetched.
    pub fn remote(format: F, source: Source, settings: Settings) -> Self {
        KeySource(Kind::Remote(Box::new(Remote::new(
            format, source, settings,
        ))))
    }

    /// Whether the keys are fetched, so that [`tick`](KeySource::tick) has something to do.
    pub fn is_remote(&self) -> bool {
        matches!(self.0, Kind::Remote(_))
    }

    /// Learns what other workers have fetched, and says what this one has to fetch, if anything.
    ///
    /// The answer goes to [`fetched`](KeySource::fetched), with the fetch's ticket; if the host can't
    /// send the request, that is told to [`dispatch_failed`](KeySource::dispatch_failed).
    pub fn tick<H: Host>(&mut self, host: &H, now: Timestamp) -> Option<Fetch> {
        self.as_remote()?.tick(host, now)
    }

    /// The host could not send a request, as when it does not know the cluster yet. It is tried
    /// again, by some worker, in a second.
    pub fn dispatch_failed<H: Host>(
        &mut self,
        host: &H,
        now: Timestamp,
        ticket: Ticket,
    ) -> FetchOutcome {
        match self.as_remote() {
            None => FetchOutcome::Late,
            Some(remote) => remote.settle_failure(host, now, ticket, Failure::NotSent),
        }
    }

    /// Takes an answer in.
    pub fn fetched<H: Host>(
        &mut self,
        host: &H,
        now: Timestamp,
        ticket: Ticket,
        response: Response<'_>,
    ) -> Answered {
        match self.as_remote() {
            None => Answered {
                outcome: FetchOutcome::Late,
                next: None,
            },
            Some(remote) => remote.fetched(host, now, ticket, response),
        }
    }

    /// The keys for a request whose token names the key `kid`, or none.
    ///
    /// A request that is told to wait keeps `waiting`, and asks again after the next tick; it gets
    /// another answer before long ([`Settings::max_wait`]).
    pub fn resolve<H: Host>(
        &mut self,
        host: &H,
        now: Timestamp,
        kid: Option<&str>,
        waiting: &mut Waiting,
    ) -> Resolve<'_, F::Keys> {
        match &mut self.0 {
            Kind::Fixed { format, keys } => match kid {
                Some(kid) if !format.has_kid(keys, kid) => Resolve::UnknownKid,
                _ => Resolve::Keys(keys),
            },
            Kind::Remote(remote) => match remote.judge(host, now, kid, waiting) {
                Verdict::Serve => match remote.usable() {
                    Some(keys) => Resolve::Keys(keys),
                    None => Resolve::Wait,
                },
                Verdict::Wait => Resolve::Wait,
                Verdict::UnknownKid => Resolve::UnknownKid,
                Verdict::Unavailable { retry_after } => Resolve::Unavailable { retry_after },
            },
        }
    }

    /// The keys, if there are any that may be used, for a request that looks for itself whether one
    /// of them will do. If none does, [`resolve`](KeySource::resolve) has the last word.
    pub fn keys_at(&mut self, now: Timestamp) -> Option<&F::Keys> {
        if let Some(remote) = self.as_remote() {
            remote.advance(now);
        }
        self.keys()
    }

    /// Whether there are other keys than when a request last asked, so that
    /// [`keys_at`](KeySource::keys_at) may have one now that will do.
    pub fn has_news(&self, waiting: &Waiting) -> bool {
        waiting
            .0
            .is_some_and(|since| since.generation != self.generation())
    }

    /// The keys, if there are any that may be used, as of the last call with a time.
    pub fn keys(&self) -> Option<&F::Keys> {
        match &self.0 {
            Kind::Fixed { keys, .. } => Some(keys),
            Kind::Remote(remote) => remote.usable(),
        }
    }

    /// How good the keys are, as of the last call with a time.
    pub fn availability(&self) -> Availability {
        match &self.0 {
            Kind::Fixed { .. } => Availability::Fresh,
            Kind::Remote(remote) => remote.availability(),
        }
    }

    /// How long ago the keys were fetched; `None` if there are none, or they are configured.
    pub fn age(&self) -> Option<Duration> {
        match &self.0 {
            Kind::Fixed { .. } => None,
            Kind::Remote(remote) => remote.age(),
        }
    }

    /// Changes whenever this worker has got other keys. What was derived from keys, such as a token
    /// that was found good, holds for one generation.
    pub fn generation(&self) -> u64 {
        match &self.0 {
            Kind::Fixed { .. } => 0,
            Kind::Remote(remote) => remote.generation(),
        }
    }

    fn as_remote(&mut self) -> Option<&mut Remote<F>> {
        match &mut self.0 {
            Kind::Fixed { .. } => None,
            Kind::Remote(remote) => Some(remote),
        }
    }
}
