//! An issuer: its rules, its keys, and what the upstream learns from its tokens.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tollgate_claims::{ClaimPath, ClaimsToHeaders};
use tollgate_core::headers::{HeaderName, HeaderValue};
use tollgate_core::host::{GaugeId, Hash, Host};
use tollgate_core::telemetry::counter_name;
use tollgate_core::time::Timestamp;
use tollgate_core::token::Token;
use tollgate_jose::{
    Algorithm, ClaimRules, InvalidKeySet, InvalidToken, Jws, KeySet, Limits, NoKey, SignatureHost,
    Validated,
};
use tollgate_key_source::{KeyFormat, KeySource, Resolve, Waiting};

/// An issuer whose tokens are accepted.
pub(crate) struct Provider {
    pub(crate) name: Arc<str>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) rules: ClaimRules,
    pub(crate) client_claim: Option<ClaimPath>,
    pub(crate) headers: ClaimsToHeaders,
    /// Borrowed for the length of a call that calls nothing of ours.
    pub(crate) keys: RefCell<KeySource<JwkSets>>,
    /// The gauge of the keys' age, once they have one.
    pub(crate) age: Cell<Option<GaugeId>>,
}

/// A token that was found good, and what is made of it for the upstream.
pub(crate) struct Verified {
    /// Its provider's place.
    pub(crate) provider: usize,
    pub(crate) token: Arc<Token>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why a token is not accepted, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unverified {
    Invalid(InvalidToken),
    /// The issuer's keys are on their way.
    Wait,
    /// The issuer's keys can't be had; when it is asked again, in seconds.
    Unavailable {
        retry_after: u64,
    },
}

impl<E: Into<InvalidToken>> From<E> for Unverified {
    fn from(error: E) -> Self {
        Unverified::Invalid(error.into())
    }
}

/// A token that passed every check.
pub(crate) struct Accepted {
    pub(crate) verified: Verified,
    pub(crate) validated: Validated,
    /// Which keys it was verified with.
    pub(crate) generation: u64,
}

impl Provider {
    /// Checks a token of this issuer: all that is cheap first, the signature last.
    pub(crate) fn verify<H: Host>(
        &self,
        place: usize,
        jws: Jws<'_>,
        (host, now): (&H, Timestamp),
        waiting: &mut Waiting,
    ) -> Result<Accepted, Unverified> {
        jws.header().algorithm(&self.algorithms)?;
        let validated = self.rules.check(jws.claims(), jws.header(), now)?;
        let Ok(mut source) = self.keys.try_borrow_mut() else {
            return Err(Unverified::Unavailable { retry_after: 1 });
        };
        let kid = jws.header().kid();
        let prove = |keys: &KeySet| {
            let key = keys.verify(&jws, &self.algorithms, &HostCryptography(host));
            key.map(|_| ())
        };
        // What a key without a name proves needs no fetch, though no key has the token's name. What
        // it does not prove may yet be by a key of that name which is not known.
        let is_proven = kid.is_some_and(|kid| {
            let keys = source.keys_at(now);
            keys.is_some_and(|keys| !keys.has_kid(kid) && prove(keys).is_ok())
        });
        if !is_proven {
            match source.resolve(host, now, kid, waiting) {
                Resolve::Keys(keys) => prove(keys)?,
                Resolve::Wait => return Err(Unverified::Wait),
                Resolve::UnknownKid => return Err(NoKey::UnknownKid.into()),
                Resolve::Unavailable { retry_after } => {
                    return Err(Unverified::Unavailable { retry_after });
                }
            }
        }
        Ok(Accepted {
            generation: source.generation(),
            verified: self.learn(place, jws.into_claims(), &validated, host),
            validated,
        })
    }

    /// Whether the key that a token names is still on its way.
    pub(crate) fn awaits<H: Host>(
        &self,
        (host, now): (&H, Timestamp),
        kid: Option<&str>,
        waiting: &mut Waiting,
    ) -> bool {
        let Ok(mut source) = self.keys.try_borrow_mut() else {
            return false;
        };
        // Of new keys, one without a name may do, and then none is to be looked for.
        !source.has_news(waiting)
            && matches!(source.resolve(host, now, kid, waiting), Resolve::Wait)
    }

    /// Which keys the provider has, if it has any that may be used.
    pub(crate) fn generation(&self) -> Option<u64> {
        let source = self.keys.try_borrow().ok()?;
        source.keys().map(|_| source.generation())
    }

    /// Shows operators how long ago the keys were received, those that are too old to be used too.
    /// Every worker shows the same, since all take them from the same place.
    pub(crate) fn show_age<H: Host>(&self, age: Option<Duration>, host: &H) {
        let Some(age) = age else {
            return;
        };
        let gauge = self.age.get().or_else(|| {
            let labels = [("provider", &*self.name)];
            host.gauge(&counter_name("tollgate_jwks_age_seconds", &labels))
        });
        self.age.set(gauge);
        if let Some(gauge) = gauge {
            host.set_gauge(gauge, age.as_secs());
        }
    }

    fn learn<H: Host>(
        &self,
        provider: usize,
        claims: Map<String, Value>,
        validated: &Validated,
        host: &H,
    ) -> Verified {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(Box::from);
        let client = match &self.client_claim {
            Some(claim) => claim.find(&claims).and_then(Value::as_str).map(Box::from),
            // One that is there and no text names nobody.
            None if claims.contains_key("client_id") => text("client_id"),
            None => text("azp"),
        };
        let mut headers = Vec::new();
        for (name, value) in self.headers.render(&claims) {
            match value {
                Ok(value) => headers.push((name, HeaderValue::shared(value))),
                Err(refused) => host.log(
                    log::Level::Debug,
                    format_args!("jwt_authz: {}: no header {name}: {refused}", self.name),
                ),
            }
        }
        Verified {
            provider,
            token: Arc::new(Token {
                provider: Arc::clone(&self.name),
                subject: text("sub"),
                client,
                expires: validated.accepted_until,
                claims,
            }),
            headers,
        }
    }
}

/// JWK sets, as a source of keys reads them.
pub(crate) struct JwkSets(pub(crate) Limits);

impl KeyFormat for JwkSets {
    type Keys = KeySet;
    type Invalid = InvalidKeySet;

    fn parse(&self, body: &[u8]) -> Result<KeySet, InvalidKeySet> {
        KeySet::parse(body, &self.0)
    }

    fn has_kid(&self, keys: &KeySet, kid: &str) -> bool {
        keys.has_kid(kid)
    }
}

/// The host's own cryptography, which is native where a plugin's is not.
struct HostCryptography<'a, H>(&'a H);

impl<H: Host> SignatureHost for HostCryptography<'_, H> {
    fn verify(
        &self,
        hash: tollgate_jose::Hash,
        spki_der: &[u8],
        signature: &[u8],
        message: &[u8],
    ) -> Option<bool> {
        let hash = match hash {
            tollgate_jose::Hash::Sha256 => Hash::Sha256,
            tollgate_jose::Hash::Sha384 => Hash::Sha384,
            tollgate_jose::Hash::Sha512 => Hash::Sha512,
        };
        self.0.verify_signature(hash, spki_der, signature, message)
    }
}
