//! Checking the section as a whole, and making it fast to apply.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tollgate_claims::{Caps, ClaimsToHeaders};
use tollgate_core::config::{ConfigErrors, Rejected, quote};
use tollgate_core::credentials::Credential;
use tollgate_core::headers::FieldName;
use tollgate_core::places::{HeaderPlace, Places};
use tollgate_core::policy::{Authenticator, Compile};
use tollgate_core::units::{Size, Span};
use tollgate_jose::{ClaimRules, DEFAULT_MAX_TOKEN_BYTES, DEFAULT_SKEW, Key, KeySet, Limits};
use tollgate_key_source::{Discovery, KeySource, Settings, Source};

use crate::JwtAuthz;
use crate::cache::{Cache, CacheLimits};
use crate::config::{
    AlgorithmName, CacheConfig, JwtAuthzConfig, KeysConfig, Profile, ProviderConfig, TokenConfig,
};
use crate::provider::{JwkSets, Provider};

/// RFC 6750.
const BEARER: &str = "Bearer";

const DEFAULT_CACHE_SIZE: Size = Size::from_bytes(4 << 20);
const DEFAULT_CACHE_TTL: Duration = Duration::from_secs(600);

/// Compiles the section; see [`JwtAuthz`].
pub(crate) fn compile(config: JwtAuthzConfig, cx: &mut Compile<'_>) -> Result<JwtAuthz, Rejected> {
    let challenge = challenge(&config.token);
    cx.authenticators.push(Authenticator {
        credential: Credential::Jwt,
        challenge: challenge.clone(),
        admits_anonymous: false,
        providers: config
            .providers
            .iter()
            .map(|provider| provider.name.as_str().to_owned())
            .collect(),
        mode: config.mode,
    });
    let mut verdict = Ok(());
    if config.providers.is_empty() {
        let message = "the list is empty, so no token would be accepted: add an issuer";
        verdict = Err(cx.errors.add("jwt_authz.providers", message));
    }
    let mut providers: Vec<Provider> = Vec::with_capacity(config.providers.len());
    for (index, provider) in config.providers.into_iter().enumerate() {
        let path = format!("jwt_authz.providers[{index}]");
        let twice = providers.iter().find_map(|other| {
            if *other.name == *provider.name.as_str() {
                return Some(("name", provider.name.as_str().to_owned()));
            }
            let same = other.rules.issuer == provider.issuer;
            same.then(|| ("issuer", provider.issuer.clone()))
        });
        if let Some((field, value)) = twice {
            let message = format!("{} is that of another provider too", quote(&value));
            verdict = Err(cx.errors.add(format!("{path}.{field}"), message));
        }
        match compile_provider(provider, &path, cx.errors) {
            Ok(provider) => providers.push(provider),
            Err(rejected) => verdict = Err(rejected),
        }
    }
    let places = compile_places(&config.token, cx.errors);
    let payload_header = config
        .payload_header
        .map(|header| check_payload_header(header, &providers, cx.errors))
        .transpose();
    verdict?;
    Ok(JwtAuthz {
        places: places?,
        strip: config.token.strip,
        max_token_bytes: config
            .token
            .max_size
            .map_or(DEFAULT_MAX_TOKEN_BYTES, Size::as_usize),
        challenge,
        payload_header: payload_header?,
        cache: RefCell::new(Cache::new(cache_limits(&config.cache))),
        pending: RefCell::default(),
        providers,
        mode: config.mode,
    })
}

fn cache_limits(config: &CacheConfig) -> CacheLimits {
    CacheLimits {
        tokens: usize::try_from(config.max_tokens).unwrap_or(usize::MAX),
        bytes: config.max_size.unwrap_or(DEFAULT_CACHE_SIZE).as_usize(),
        ttl: config.ttl.map_or(DEFAULT_CACHE_TTL, Span::get),
    }
}

fn compile_provider(
    config: ProviderConfig,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<Provider, Rejected> {
    let mut verdict = Ok(());
    if config.issuer.is_empty() {
        let message = "is empty, expected what tokens have as iss";
        verdict = Err(errors.add(format!("{path}.issuer"), message));
    }
    match (config.audiences.0.is_empty(), config.any_audience) {
        (true, false) => {
            let message = "is missing: name the audiences that this API goes by, or write \
                           any_audience: true to accept tokens that were made for others";
            verdict = Err(errors.add(format!("{path}.audiences"), message));
        }
        (false, true) => {
            let message = "contradicts audiences: keep one of them";
            verdict = Err(errors.add(format!("{path}.any_audience"), message));
        }
        _ => {}
    }
    if config.algorithms.0.is_empty() {
        let message = "the list is empty: name the algorithms that the issuer signs with, as RS256";
        verdict = Err(errors.add(format!("{path}.algorithms"), message));
    }
    let headers = ClaimsToHeaders::compile(
        config.claims_to_headers,
        Caps::default(),
        &format!("{path}.claims_to_headers"),
        errors,
    );
    let keys = compile_keys(
        config.jwks,
        (config.name.as_str(), &config.issuer),
        &config.algorithms.0,
        &format!("{path}.jwks"),
        errors,
    );
    verdict?;
    Ok(Provider {
        name: config.name.to_shared(),
        algorithms: config.algorithms.0.iter().map(|name| name.0).collect(),
        rules: ClaimRules {
            issuer: config.issuer,
            audiences: config.audiences.0,
            require_exp: config.require_exp,
            max_lifetime: config.max_lifetime.map(Span::get),
            skew: config.skew.map_or(DEFAULT_SKEW, Span::get),
            require_at_jwt: config.profile == Profile::AtJwt,
            accept_bound: config.accept_bound_tokens,
        },
        client_claim: config.client_claim,
        headers: headers?,
        keys: RefCell::new(keys?),
        age: Cell::default(),
    })
}

/// Keys come from exactly one place.
fn compile_keys(
    config: KeysConfig,
    (provider, issuer): (&str, &str),
    algorithms: &[AlgorithmName],
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<KeySource<JwkSets>, Rejected> {
    let mut limits = Limits::default();
    if let Some(size) = config.max_size {
        limits.bytes = size.as_usize();
    }
    if let Some(keys) = config.max_keys {
        limits.keys = usize::try_from(keys.0.get()).unwrap_or(usize::MAX);
    }
    let named = [
        config.inline.is_some(),
        config.pem.is_some(),
        config.url.is_some(),
        config.discovery.is_some(),
    ];
    if named.iter().filter(|named| **named).count() != 1 {
        let message = "expected exactly one of url, discovery (with cluster), inline, pem";
        return Err(errors.add(path, message));
    }
    if config.inline.is_some() || config.pem.is_some() {
        let keys = written_keys(&config, &limits, path, errors)?;
        let fits = |algorithm: &AlgorithmName| keys.keys().iter().any(|key| key.fits(algorithm.0));
        if !algorithms.is_empty() && !algorithms.iter().any(fits) {
            let message = "has no key for any of algorithms, so no token would be accepted";
            return Err(errors.add(path, message));
        }
        return Ok(KeySource::fixed(JwkSets(limits), keys));
    }
    let Some(cluster) = config.cluster.clone() else {
        let message = "is missing: name Envoy's cluster for the issuer's server";
        return Err(errors.add(format!("{path}.cluster"), message));
    };
    let discovery = config.discovery.is_some().then(|| Discovery {
        issuer: issuer.to_owned(),
        jwks_host: config.jwks_host.clone(),
    });
    if config.jwks_host.is_some() && discovery.is_none() {
        let message = "is for discovery, which is not used";
        return Err(errors.add(format!("{path}.jwks_host"), message));
    }
    let settings = settings(&config, limits.bytes, path, errors)?;
    let Some(endpoint) = config.url.or(config.discovery) else {
        return Err(errors.add(path, "expected url or discovery"));
    };
    let source = Source {
        name: provider.to_owned(),
        // A name has no space, so no two providers make the same key.
        shared_key: format!("tollgate/jwks/{provider}"),
        cluster,
        endpoint,
        discovery,
    };
    Ok(KeySource::remote(JwkSets(limits), source, settings))
}

/// Keys that the configuration holds. Those for something else are skipped, since a set that an
/// issuer publishes may have them. The others must be good: what is wrong with a fetched set is the
/// issuer's matter, and that of a written one ours.
fn written_keys(
    config: &KeysConfig,
    limits: &Limits,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<KeySet, Rejected> {
    let mut verdict = Ok(());
    for (field, given) in [
        ("cluster", config.cluster.is_some()),
        ("jwks_host", config.jwks_host.is_some()),
        ("refresh", config.refresh.is_some()),
        ("stale_for", config.stale_for.is_some()),
        ("timeout", config.timeout.is_some()),
        ("max_wait", config.max_wait.is_some()),
        ("cool_down", config.cool_down.is_some()),
    ] {
        if given {
            let message = "is for keys that are fetched, and these are written here: remove it";
            verdict = Err(errors.add(format!("{path}.{field}"), message));
        }
    }
    let keys = match (&config.inline, &config.pem) {
        (Some(inline), _) => KeySet::parse(&inline.0, limits)
            .map_err(|error| errors.add(format!("{path}.inline"), error.to_string())),
        (None, pem) => Key::from_pem(pem.as_deref().unwrap_or_default(), None, None)
            .map_err(|error| errors.add(format!("{path}.pem"), error.to_string()))
            .and_then(|key| {
                KeySet::from_keys([key])
                    .map_err(|error| errors.add(format!("{path}.pem"), error.to_string()))
            }),
    }?;
    let broken = keys.skipped().iter();
    for key in broken.filter(|key| !key.reason.is_for_others()) {
        let path = format!("{path}.inline.keys[{}]", key.index);
        let message = format!("can't be used because {}", key.reason);
        verdict = Err(errors.add(path, message));
    }
    verdict.map(|()| keys)
}

fn settings(
    config: &KeysConfig,
    max_body: usize,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<Settings, Rejected> {
    let default = Settings::default();
    let mut verdict = Ok(());
    let mut at_least = |field: &str, span: Option<Span>, least: u64, or: Duration| {
        let found = span.map_or(or, Span::get);
        if found < Duration::from_secs(least) {
            let message = format!("is less than {least}s, expected at least that");
            verdict = Err(errors.add(format!("{path}.{field}"), message));
        }
        found
    };
    let max_lifetime = at_least("refresh", config.refresh, 1, default.max_lifetime);
    let cool_down = at_least("cool_down", config.cool_down, 1, default.cool_down);
    verdict?;
    Ok(Settings {
        timeout: config.timeout.map_or(default.timeout, Span::get),
        max_body,
        min_lifetime: default.min_lifetime.min(max_lifetime),
        max_lifetime,
        stale_limit: config
            .stale_for
            .map_or(default.stale_limit, |span| Some(span.get())),
        cool_down,
        // A key that is published after the first token that names it is found by the next search,
        // and not only by the next refresh. The cool-down bounds how often that asks the issuer.
        remember_unknown: cool_down,
        max_wait: config.max_wait.map_or(default.max_wait, Span::get),
        ..default
    })
}

fn compile_places(config: &TokenConfig, errors: &mut ConfigErrors) -> Result<Places, Rejected> {
    let mut verdict = Ok(());
    if !config
        .realm
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic())
    {
        verdict = Err(errors.add("jwt_authz.token.realm", "expected printable ASCII"));
    }
    for (field, names) in [("query", &config.query.0), ("cookies", &config.cookies.0)] {
        if names.iter().any(String::is_empty) {
            let message = "is empty, expected a name";
            verdict = Err(errors.add(format!("jwt_authz.token.{field}"), message));
        }
        // Every token would be found in it twice, and refused for that.
        let mut earlier = names.iter().enumerate();
        let twice = earlier.find(|(index, name)| names.iter().take(*index).any(|n| n == *name));
        if let Some((_, name)) = twice {
            let message = format!("{} is named twice", quote(name));
            verdict = Err(errors.add(format!("jwt_authz.token.{field}"), message));
        }
    }
    let mut headers: Vec<HeaderPlace> = Vec::new();
    for header in &config.headers.0 {
        if TAKEN_HEADERS.contains(&header.name.as_str()) {
            let message = format!(
                "{} has a meaning of its own, choose another",
                header.name.as_str()
            );
            verdict = Err(errors.add("jwt_authz.token.headers", message));
        }
        if headers.iter().any(|other| other.name == header.name) {
            let message = format!("{} is named twice", header.name.as_str());
            verdict = Err(errors.add("jwt_authz.token.headers", message));
        }
        headers.push(HeaderPlace {
            name: header.name.clone(),
            scheme: header.scheme.clone(),
        });
    }
    if headers.is_empty() && config.query.0.is_empty() && config.cookies.0.is_empty() {
        headers.push(HeaderPlace {
            name: FieldName::from_static("authorization"),
            scheme: Some(BEARER.to_owned()),
        });
    }
    verdict.map(|()| Places {
        headers,
        query: config.query.0.clone(),
        cookies: config.cookies.0.clone(),
    })
}

/// Headers that can't carry a token, because removing them would break the request.
const TAKEN_HEADERS: [&str; 7] = [
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "te",
    "transfer-encoding",
];

fn check_payload_header(
    header: FieldName,
    providers: &[Provider],
    errors: &mut ConfigErrors,
) -> Result<FieldName, Rejected> {
    let path = "jwt_authz.payload_header";
    let taken = providers
        .iter()
        .any(|provider| provider.headers.reserves(header.as_str().as_bytes()));
    if taken {
        return Err(errors.add(path, "is a header for a claim too, choose another"));
    }
    tollgate_claims::check_header(&header)
        .map(|()| header)
        .map_err(|message| errors.add(path, message))
}

/// The challenge that asks for a token, in the scheme in which `authorization` carries it. A 401
/// needs one (RFC 9110 section 15.5.2), so it is `Bearer` where tokens are somewhere else.
fn challenge(config: &TokenConfig) -> String {
    let mut headers = config.headers.0.iter();
    let scheme = headers
        .find(|header| header.name.as_str() == "authorization")
        .and_then(|header| header.scheme.as_deref());
    let realm = escape(&config.realm);
    format!("{} realm=\"{realm}\"", scheme.unwrap_or(BEARER))
}

/// A quoted string (RFC 9110 section 5.6.4).
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            matches!(c, '"' | '\\')
                .then_some('\\')
                .into_iter()
                .chain([c])
        })
        .collect()
}
