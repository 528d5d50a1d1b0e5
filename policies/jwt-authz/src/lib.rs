//! JWT authorisation: who signed a token, whether it may be used here and now, and what the upstream
//! learns from it.
//!
//! ```yaml
//! jwt_authz:
//!   providers:
//!   - name: idp
//!     issuer: https://idp.bank.example/
//!     audiences: [bank-api]
//!     algorithms: [RS256, ES256]
//!     jwks: { cluster: idp, url: https://idp.bank.example/.well-known/jwks.json, refresh: 5m }
//!     claims_to_headers: [{ claim: sub, header: x-subject }, { claim: [realm_access, roles], header: x-roles }]
//! ```
//!
//! The policy only notes what it found; whether a request needs a token, and what the token must
//! grant, is the matter of the `access` rules.

mod cache;
mod compile;
mod config;
pub mod problems;
mod provider;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tollgate_claims::is_same_header;
use tollgate_core::config::Rejected;
use tollgate_core::credentials::{Credential, Evidence};
use tollgate_core::headers::FieldName;
use tollgate_core::host::{Callout, CalloutId, CalloutResponse, Host};
use tollgate_core::places::{Places, Presented};
use tollgate_core::policy::{Callbacks, Compile, Exchange, Mode, Policy, Step, StepResult};
use tollgate_core::problem::{Kind, Problem};
use tollgate_core::telemetry::counter_name;
use tollgate_jose::{ClaimError, InvalidToken, Jws};
use tollgate_key_source::{Caching, Fetch, FetchOutcome, Response, Ticket, Waiting};

use cache::Cache;
pub use config::JwtAuthzConfig;
use problems::{ISSUER_UNAVAILABLE, TOKEN_EMPTY, TOKEN_REPEATED, invalid_token};
use provider::{Accepted, Provider, Unverified, Verified};

/// The policy; see the crate's documentation.
pub struct JwtAuthz {
    places: Places,
    strip: bool,
    max_token_bytes: usize,
    challenge: String,
    payload_header: Option<FieldName>,
    providers: Vec<Provider>,
    cache: RefCell<Cache>,
    /// The fetches under way on this worker.
    pending: RefCell<Vec<Pending>>,
    mode: Mode,
}

/// A fetch under way.
struct Pending {
    id: CalloutId,
    /// The provider's place.
    provider: usize,
    ticket: Ticket,
}

/// What the policy remembers of a request.
#[derive(Default)]
pub struct Stream {
    waiting: Waiting,
    /// What it waits for: the keys of a provider, and which of them.
    awaited: Option<(usize, Option<Box<str>>)>,
    verified: Option<Arc<Verified>>,
    /// The token's payload as it was sent, where the upstream is to get it.
    payload: Option<Vec<u8>>,
}

/// How often keys are looked after.
const TICK: Duration = Duration::from_secs(1);

/// What is understood of a server that publishes keys.
const ACCEPT: &str = "application/jwk-set+json, application/json";

impl Policy for JwtAuthz {
    const SECTION: &'static str = "jwt_authz";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS
        .union(Callbacks::REQUEST_TRAILERS)
        .union(Callbacks::CALLOUTS);
    const CREDENTIAL: Option<Credential> = Some(Credential::Jwt);
    type Section = JwtAuthzConfig;
    type Stream = Stream;

    fn kinds(kinds: &mut Vec<&'static Kind>) {
        problems::all(kinds);
    }

    fn compile(config: JwtAuthzConfig, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        compile::compile(config, cx)
    }

    fn reserves(&self, header: &[u8]) -> bool {
        self.providers
            .iter()
            .any(|provider| provider.headers.reserves(header))
            || self
                .payload_header
                .as_ref()
                .is_some_and(|name| is_same_header(header, name.as_str()))
    }

    fn step<H: Host>(
        &self,
        step: Step,
        stream: &mut Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        match step {
            // Before anything else can refuse the request: its path is in access logs. In shadow
            // mode the token stays: whoever checks it behind this policy still needs it.
            Step::Identify => {
                if self.strip && self.mode == Mode::Enforce {
                    self.places.strip(x);
                }
                Ok(())
            }
            Step::Authenticate if x.credentials.wanted.contains(Credential::Jwt) => {
                self.authenticate(stream, x);
                Ok(())
            }
            Step::Forward => {
                self.forward(stream, x);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn tick<H: Host>(&self, host: &H) -> Option<Duration> {
        let mut fetches = false;
        for (place, provider) in self.providers.iter().enumerate() {
            let Ok(mut keys) = provider.keys.try_borrow_mut() else {
                continue;
            };
            fetches |= keys.is_remote();
            let fetch = keys.tick(host, host.now());
            let age = keys.age();
            drop(keys);
            provider.show_age(age, host);
            if let Some(fetch) = fetch {
                self.send(place, &fetch, host);
            }
        }
        fetches.then_some(TICK)
    }

    fn on_callout<H: Host>(&self, id: CalloutId, response: &CalloutResponse<'_>, host: &H) {
        let Some(Pending {
            provider: place,
            ticket,
            ..
        }) = self.take_pending(id)
        else {
            return;
        };
        let Some(provider) = self.providers.get(place) else {
            return;
        };
        let answer = Response {
            status: response.status(),
            caching: Caching::from_headers(response.headers),
            body: response.body,
        };
        let Ok(mut keys) = provider.keys.try_borrow_mut() else {
            return;
        };
        let answered = keys.fetched(host, host.now(), ticket, answer);
        drop(keys);
        note_fetch(provider, &answered.outcome, host);
        if let Some(fetch) = answered.next {
            self.send(place, &fetch, host);
        }
    }
}

impl JwtAuthz {
    fn authenticate<H: Host>(&self, stream: &mut Stream, x: &mut Exchange<'_, H>) {
        let path = x.request.get(":path").unwrap_or_default();
        let evidence = match self.places.find(x.request, path) {
            Presented::Nothing => Evidence::Absent,
            Presented::Several => Evidence::Invalid(Box::new(self.repeated())),
            Presented::One(token) if token.is_empty() => Evidence::Invalid(Box::new(
                self.bad_request(&TOKEN_EMPTY, "A token was announced and is missing."),
            )),
            Presented::One(token) => match self.verify(&token, stream, x) {
                Ok(verified) => {
                    x.facts.token = Some(Arc::clone(&verified.token));
                    if self.payload_header.is_some() {
                        let mut segments = token.split(|byte| *byte == b'.');
                        stream.payload = segments.nth(1).map(<[u8]>::to_vec);
                    }
                    stream.verified = Some(verified);
                    Evidence::Valid
                }
                Err(Unverified::Wait) => Evidence::Awaited(Box::new(unavailable(1))),
                // No token has a comma, and Envoy joins the values of a repeated header with it.
                Err(Unverified::Invalid(_)) if token.contains(&b',') => {
                    Evidence::Invalid(Box::new(self.repeated()))
                }
                Err(Unverified::Invalid(reason)) => {
                    Evidence::Invalid(Box::new(self.invalid(reason)))
                }
                Err(Unverified::Unavailable { retry_after }) => {
                    Evidence::Invalid(Box::new(unavailable(retry_after)))
                }
            },
        };
        x.credentials.note(Credential::Jwt, evidence);
    }

    fn verify<H: Host>(
        &self,
        token: &[u8],
        stream: &mut Stream,
        x: &Exchange<'_, H>,
    ) -> Result<Arc<Verified>, Unverified> {
        // Whoever waits on is not read again and again.
        if let Some((place, kid)) = &stream.awaited
            && let Some(provider) = self.providers.get(*place)
            && provider.awaits((x.host, x.now), kid.as_deref(), &mut stream.waiting)
        {
            return Err(Unverified::Wait);
        }
        let provider = |verified: &Verified| self.providers.get(verified.provider);
        if let Ok(mut cache) = self.cache.try_borrow_mut()
            && let Some(verified) = cache.get(token, x.now, |verified| {
                provider(verified).and_then(Provider::generation)
            })
        {
            return Ok(verified);
        }
        let jws = Jws::parse(token, self.max_token_bytes)?;
        let issuer = jws.issuer();
        let (place, provider) = self
            .providers
            .iter()
            .enumerate()
            .find(|(_, provider)| Some(provider.rules.issuer.as_str()) == issuer)
            .ok_or(ClaimError::IssuerUnknown)?;
        let Accepted {
            verified,
            validated,
            generation,
        } = {
            let kid = jws.header().kid().map(Box::from);
            provider
                .verify(place, jws, (x.host, x.now), &mut stream.waiting)
                .inspect_err(|reason| {
                    stream.awaited = (*reason == Unverified::Wait).then_some((place, kid));
                })?
        };
        let verified = Arc::new(verified);
        if let Ok(mut cache) = self.cache.try_borrow_mut() {
            let checked = (x.now, generation);
            cache.insert(token, Arc::clone(&verified), validated, checked);
        }
        Ok(verified)
    }

    /// What the client sent under these names was removed when the request came.
    fn forward<H>(&self, stream: &mut Stream, x: &mut Exchange<'_, H>) {
        if let Some(verified) = &stream.verified {
            for (name, value) in &verified.headers {
                x.edits.set(name.clone(), value.clone());
            }
        }
        if let (Some(name), Some(payload)) = (&self.payload_header, stream.payload.take()) {
            x.edits.set(name.to_header_name(), payload);
        }
    }

    fn send<H: Host>(&self, place: usize, fetch: &Fetch, host: &H) {
        let Some(provider) = self.providers.get(place) else {
            return;
        };
        let callout = Callout {
            cluster: &fetch.cluster,
            method: "GET",
            scheme: fetch.scheme.as_str(),
            authority: &fetch.authority,
            path: &fetch.path,
            headers: &[("accept", ACCEPT)],
            body: b"",
            timeout: fetch.timeout,
        };
        let ticket = fetch.ticket;
        match host.call(&callout) {
            Ok(id) => {
                if let Ok(mut pending) = self.pending.try_borrow_mut() {
                    // A provider has one fetch under way; what it had before is answered too late.
                    pending.retain(|other| other.provider != place);
                    pending.push(Pending {
                        id,
                        provider: place,
                        ticket,
                    });
                }
            }
            Err(_) => {
                let Ok(mut keys) = provider.keys.try_borrow_mut() else {
                    return;
                };
                let outcome = keys.dispatch_failed(host, host.now(), ticket);
                drop(keys);
                note_fetch(provider, &outcome, host);
            }
        }
    }

    fn take_pending(&self, id: CalloutId) -> Option<Pending> {
        let mut pending = self.pending.try_borrow_mut().ok()?;
        let place = pending.iter().position(|pending| pending.id == id)?;
        Some(pending.swap_remove(place))
    }

    fn repeated(&self) -> Problem {
        self.bad_request(
            &TOKEN_REPEATED,
            "More than one token was sent; send exactly one.",
        )
    }

    /// RFC 6750 section 3.1, `invalid_request`.
    fn bad_request(&self, kind: &'static Kind, detail: &'static str) -> Problem {
        Problem::new(kind, detail)
            .with_header("www-authenticate", self.error("invalid_request", detail))
    }

    /// RFC 6750 section 3.1, `invalid_token`.
    fn invalid(&self, reason: InvalidToken) -> Problem {
        let detail = reason.to_string();
        let challenge = self.error("invalid_token", &detail);
        Problem::new(invalid_token(reason.slug()), detail)
            .with_header("www-authenticate", challenge)
    }

    /// A challenge with an error. Descriptions have no characters that would have to be escaped.
    fn error(&self, error: &str, description: &str) -> String {
        format!(
            "{}, error=\"{error}\", error_description=\"{description}\"",
            self.challenge
        )
    }
}

fn unavailable(retry_after: u64) -> Problem {
    Problem::new(
        &ISSUER_UNAVAILABLE,
        "The token can't be checked at the moment.",
    )
    .with_header("retry-after", retry_after.to_string())
}

/// Counts a fetch. What went wrong with it, the source of keys has logged.
fn note_fetch<H: Host>(provider: &Provider, outcome: &FetchOutcome, host: &H) {
    let name = counter_name(
        "tollgate_jwks_fetches_total",
        &[("provider", &provider.name), ("result", outcome.label())],
    );
    // Rare enough to look the counter up each time.
    if let Some(counter) = host.counter(&name) {
        host.increment(counter, 1);
    }
}

#[cfg(test)]
mod tests;
