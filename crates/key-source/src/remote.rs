//! A source whose keys are fetched: the state machine.

mod judge;
mod shared;

use std::time::Duration;

use tollgate_core::host::Host;
use tollgate_core::limit_headers::whole_seconds;
use tollgate_core::time::Timestamp;

use crate::KeyFormat;
use crate::body::Digest;
use crate::fetch::{Answered, Failure, Fetch, FetchOutcome, Response, Ticket};
use crate::pace::Pace;
use crate::schedule::{Chance, pause_after, refresh_after};
use crate::settings::{Settings, Source};
use crate::source::Availability;
use crate::state::{Errand, Need, SHORTEST_PAUSE, State, Terms, Window};
use crate::unknown::UnknownKids;
use tollgate_core::endpoint::Endpoint;

/// How much longer than a request may take a lease is held: for the answer to be taken in by a worker
/// that is busy.
const LEASE_SLACK: Duration = Duration::from_secs(2);

/// How long the location of the keys is gone by before the issuer's metadata is read again.
const LOCATION_LIFETIME: Duration = Duration::from_secs(86_400);

/// After how many failures, and multiples of it, the metadata is read again: keys may have moved.
const FAILURES_TO_RELOCATE: u32 = 3;

pub(crate) use judge::Verdict;

pub(crate) struct Remote<F: KeyFormat> {
    format: F,
    source: Source,
    settings: Settings,
    fingerprint: [u8; 16],
    state_key: String,
    body_key: String,
    pace: Pace,
    /// The latest that this worker knows.
    state: State,
    /// The terms of the keys that are current by it.
    terms: KnownTerms,
    /// When it last read the shared state, by its pace.
    synced: Option<Duration>,
    known: Option<Known<F::Keys>>,
    /// The publication for whose body this worker has looked in the shared state.
    looked_up: Option<(Digest, u64)>,
    /// What it found there was not what was published.
    torn: bool,
    in_flight: Option<InFlight>,
    serial: u64,
    /// A request has brought an unknown `kid` since the last tick.
    search: bool,
    unknown: Option<UnknownKids>,
    generation: u64,
}

/// Keys that this worker has.
struct Known<K> {
    keys: K,
    digest: Digest,
    terms: KnownTerms,
}

/// Since when and for how long they are good.
#[derive(Clone, Copy, Default)]
struct KnownTerms {
    /// The attempt that last brought them; 0 if it can't be told.
    published: u64,
    lifetime: Duration,
    /// How old they were at some time of the worker's pace.
    age: Duration,
    elapsed: Duration,
}

/// The request of this worker that was not answered yet.
struct InFlight {
    ticket: Ticket,
    stage: Stage,
    /// When it is given up, by the worker's pace.
    until: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Metadata,
    Keys,
}

// What a worker does from time to time.
impl<F: KeyFormat> Remote<F> {
    pub(crate) fn new(format: F, source: Source, settings: Settings) -> Self {
        Remote {
            format,
            fingerprint: source.fingerprint(),
            state_key: format!("{} state", source.shared_key),
            body_key: format!("{} keys", source.shared_key),
            source,
            settings: settings.tempered(),
            pace: Pace::default(),
            state: State::default(),
            terms: KnownTerms::default(),
            synced: None,
            known: None,
            looked_up: None,
            torn: false,
            in_flight: None,
            serial: 0,
            search: false,
            unknown: None,
            generation: 0,
        }
    }

    pub(crate) fn tick<H: Host>(&mut self, host: &H, now: Timestamp) -> Option<Fetch> {
        let elapsed = self.pace.advance(now);
        self.sync(host, now);
        let need = Need {
            keys: self.torn || self.usable().is_none() || self.is_outdated(),
            search: std::mem::take(&mut self.search),
        };
        if self.in_flight.as_ref().is_some_and(|f| elapsed < f.until) {
            return None;
        }
        self.in_flight = None;
        self.state.due(now, need)?;
        let (lease, cool_down) = (self.lease_span(), self.settings.cool_down);
        // Where so many others write, one of them has taken it.
        let errand = self.update_state(host, now, |state| {
            let errand: Option<Errand> = state.due(now, need);
            if let Some(errand) = errand {
                state.take(now, errand, lease, cool_down);
            }
            errand
        });
        errand.ok().flatten()?;
        let (stage, endpoint) = self.first_stage(now);
        Some(self.request(self.state.attempt, stage, endpoint))
    }

    fn set_keys(&mut self, keys: F::Keys, digest: Digest, terms: KnownTerms) {
        self.generation = self.generation.wrapping_add(1);
        self.known = Some(Known {
            keys,
            digest,
            terms,
        });
    }

    /// What to ask for first: the keys, or where they are.
    fn first_stage(&self, now: Timestamp) -> (Stage, Endpoint) {
        let failures = self.state.failures;
        let moved = failures > 0 && failures.checked_rem(FAILURES_TO_RELOCATE) == Some(0);
        let relocate =
            self.source.discovery.is_some() && (moved || !self.state.located.is_pending(now));
        match self.keys_endpoint() {
            Some(endpoint) if !relocate => (Stage::Keys, endpoint),
            _ => (Stage::Metadata, self.source.endpoint.clone()),
        }
    }

    /// Where the keys are, if that is known. What the shared state says is checked as if the issuer
    /// had just said it.
    fn keys_endpoint(&self) -> Option<Endpoint> {
        let Some(discovery) = &self.source.discovery else {
            return Some(self.source.endpoint.clone());
        };
        let endpoint: Endpoint = self.state.location.parse().ok()?;
        let checked = discovery.check(&self.source.endpoint, &endpoint);
        checked.ok().map(|()| endpoint)
    }

    fn request(&mut self, attempt: u64, stage: Stage, endpoint: Endpoint) -> Fetch {
        self.serial = self.serial.wrapping_add(1);
        let ticket = Ticket {
            attempt,
            serial: self.serial,
        };
        self.in_flight = Some(InFlight {
            ticket,
            stage,
            until: self.pace.elapsed().saturating_add(self.lease_span()),
        });
        Fetch {
            cluster: self.source.cluster.clone(),
            scheme: endpoint.scheme(),
            authority: endpoint.authority().to_owned(),
            path: endpoint.path().to_owned(),
            timeout: self.settings.timeout,
            ticket,
        }
    }

    fn lease_span(&self) -> Duration {
        self.settings.timeout.saturating_add(LEASE_SLACK)
    }
}

// What becomes of a fetch.
impl<F: KeyFormat> Remote<F> {
    pub(crate) fn fetched<H: Host>(
        &mut self,
        host: &H,
        now: Timestamp,
        ticket: Ticket,
        response: Response<'_>,
    ) -> Answered {
        self.pace.advance(now);
        let Some(stage) = self.redeem(ticket) else {
            return Answered::done(FetchOutcome::Late);
        };
        self.sync(host, now);
        if self.state.published > ticket.attempt {
            return Answered::done(FetchOutcome::Late);
        }
        match stage {
            Stage::Metadata => self.take_metadata(host, now, ticket, response),
            Stage::Keys => Answered::done(match self.read_keys(response) {
                Ok(keys) => self.publish(host, now, ticket, keys, response),
                Err(failure) => self.fail(host, now, ticket, failure),
            }),
        }
    }

    pub(crate) fn settle_failure<H: Host>(
        &mut self,
        host: &H,
        now: Timestamp,
        ticket: Ticket,
        failure: Failure,
    ) -> FetchOutcome {
        self.pace.advance(now);
        match self.redeem(ticket) {
            Some(_) => self.fail(host, now, ticket, failure),
            None => FetchOutcome::Late,
        }
    }

    /// Ends the request with this ticket, if it is the one under way.
    fn redeem(&mut self, ticket: Ticket) -> Option<Stage> {
        let in_flight = self.in_flight.take_if(|f| f.ticket == ticket)?;
        Some(in_flight.stage)
    }

    fn take_metadata<H: Host>(
        &mut self,
        host: &H,
        now: Timestamp,
        ticket: Ticket,
        response: Response<'_>,
    ) -> Answered {
        let (outcome, endpoint, found) = match self.read_metadata(response) {
            Ok(endpoint) => (FetchOutcome::Discovered, endpoint, true),
            Err(failure) => match self.keys_endpoint() {
                None => return Answered::done(self.fail(host, now, ticket, failure)),
                Some(endpoint) => {
                    let name = &self.source.name;
                    host.log(
                        log::Level::Warn,
                        format_args!(
                            "keys of {name}: {failure}; they are looked for where they were"
                        ),
                    );
                    (FetchOutcome::Failed(failure), endpoint, false)
                }
            },
        };
        let (lease, location) = (self.lease_span(), endpoint.to_string());
        let mine = self.settle(host, now, |state| {
            let mine = state.renew(ticket.attempt, now, lease);
            if mine && found {
                state.located = Window::new(now, LOCATION_LIFETIME);
                state.location.clone_from(&location);
            }
            mine
        });
        let next = mine.then(|| self.request(ticket.attempt, Stage::Keys, endpoint));
        Answered { outcome, next }
    }

    fn read_metadata(&self, response: Response<'_>) -> Result<Endpoint, Failure> {
        let body = self.read_body(response)?;
        match &self.source.discovery {
            None => Ok(self.source.endpoint.clone()),
            Some(discovery) => discovery
                .locate(&self.source.endpoint, body)
                .map_err(Failure::InvalidDiscovery),
        }
    }

    fn read_keys(&self, response: Response<'_>) -> Result<F::Keys, Failure> {
        let body = self.read_body(response)?;
        self.format
            .parse(body)
            .map_err(|error| Failure::invalid_keys(&error))
    }

    fn read_body<'a>(&self, response: Response<'a>) -> Result<&'a [u8], Failure> {
        match response.status {
            None => Err(Failure::NoResponse),
            Some(200) if response.body.len() > self.settings.max_body => Err(Failure::TooLarge {
                length: response.body.len(),
            }),
            Some(200) => Ok(response.body),
            Some(status) => Err(Failure::Status(status)),
        }
    }

    /// Makes keys the current ones, for this worker and the others.
    fn publish<H: Host>(
        &mut self,
        host: &H,
        now: Timestamp,
        ticket: Ticket,
        keys: F::Keys,
        response: Response<'_>,
    ) -> FetchOutcome {
        let settings = &self.settings;
        let lifetime = response
            .caching
            .lifetime(settings.min_lifetime, settings.max_lifetime);
        let terms = Terms {
            lifetime,
            refresh: refresh_after(lifetime, Chance::draw(host)),
            digest: Digest::of(&self.fingerprint, response.body),
        };
        let failures = self.state.failures;
        // The body first: who then reads of it finds it. Without it, the others must not read of it,
        // and fetch for themselves when the lease is over.
        let stored = self.store_body(host, terms.digest, response.body);
        let succeed = |state: &mut State| state.succeed(ticket.attempt, now, terms);
        let latest = match stored {
            Ok(()) => self.settle(host, now, succeed),
            Err(_) => self.apply(now, succeed),
        };
        if !latest {
            self.sync(host, now);
            return FetchOutcome::Late;
        }
        let name = &self.source.name;
        if failures > 0 {
            host.log(
                log::Level::Info,
                format_args!(
                    "keys of {name}: fetched again, after failing {failures} times in a row"
                ),
            );
        }
        self.torn = false;
        match &mut self.known {
            Some(known) if known.digest == terms.digest => {
                known.terms = self.terms;
                FetchOutcome::Unchanged
            }
            _ => {
                self.set_keys(keys, terms.digest, self.terms);
                FetchOutcome::Updated
            }
        }
    }

    fn fail<H: Host>(
        &mut self,
        host: &H,
        now: Timestamp,
        ticket: Ticket,
        failure: Failure,
    ) -> FetchOutcome {
        let chance = Chance::draw(host);
        let settings = self.settings.clone();
        self.settle(host, now, |state| {
            let (failures, pause) = match failure {
                // It costs the issuer nothing, and clusters come within seconds.
                Failure::NotSent => (state.failures.max(1), SHORTEST_PAUSE),
                _ => {
                    let failures = state.failures.saturating_add(1);
                    (failures, pause_after(failures, &settings, chance))
                }
            };
            state.fail(ticket.attempt, now, failures, pause);
        });
        let kept = match self.usable() {
            Some(_) => "those known before stay in use",
            None => "there are none to use",
        };
        let (name, again) = (&self.source.name, self.state.retry.remaining(now));
        let again = whole_seconds(again);
        host.log(
            log::Level::Warn,
            format_args!("keys of {name}: {failure}; {kept}, next attempt in {again} s"),
        );
        FetchOutcome::Failed(failure)
    }
}

// How the keys are.
impl<F: KeyFormat> Remote<F> {
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.pace.advance(now);
    }

    /// The keys, unless they are too old.
    pub(crate) fn usable(&self) -> Option<&F::Keys> {
        let known = self.known.as_ref()?;
        let expired = match self.settings.stale_limit {
            None => false,
            Some(limit) => self.age()? >= limit.max(self.least_limit(known)),
        };
        (!expired).then_some(&known.keys)
    }

    /// The age up to which keys are used in any case: while they are fresh, and until the attempt
    /// that refreshes them is over, which begins a tick after the end of their lifetime at the latest.
    /// So an issuer that answers in time keeps nobody waiting, whatever the stale limit.
    fn least_limit(&self, known: &Known<F::Keys>) -> Duration {
        self.lifetime(known).saturating_add(self.lease_span())
    }

    /// For how long keys are fresh. What another configuration has fetched may have been given longer
    /// than this one allows.
    fn lifetime(&self, known: &Known<F::Keys>) -> Duration {
        known.terms.lifetime.min(self.settings.max_lifetime)
    }

    /// Whether the keys are to be refreshed though by what the workers share there is time: another
    /// configuration, which allows a longer lifetime, has fetched them.
    fn is_outdated(&self) -> bool {
        self.age()
            .is_some_and(|age| age >= self.settings.max_lifetime)
    }

    pub(crate) fn age(&self) -> Option<Duration> {
        let terms = self.known.as_ref()?.terms;
        let since = self.pace.elapsed().saturating_sub(terms.elapsed);
        Some(terms.age.saturating_add(since))
    }

    pub(crate) fn availability(&self) -> Availability {
        match (&self.known, self.age()) {
            (Some(known), Some(age)) if self.usable().is_some() => {
                if age < self.lifetime(known) {
                    Availability::Fresh
                } else {
                    Availability::Stale
                }
            }
            (Some(_), _) => Availability::Expired,
            (None, _) => Availability::Never,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}

impl Answered {
    fn done(outcome: FetchOutcome) -> Self {
        Answered {
            outcome,
            next: None,
        }
    }
}
