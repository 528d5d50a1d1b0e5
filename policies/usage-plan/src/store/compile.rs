//! Checking what the configuration says of the store.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tollgate_core::config::Rejected;
use tollgate_core::policy::Compile;
use tollgate_core::units::Span;
use tollgate_quota_store::redis::{Credentials, Dialect, Endpoint, RedisHttp};
use tollgate_quota_store::rls::{Profile, RateLimitService};

use super::config::{
    OnStoreFailure, RedisDialect, RedisHttpConfig, RlsConfig, RlsProfile, SecretConfig, StoreConfig,
};
use super::engine::{Engine, Redis, Rls};
use super::health::Health;
use super::{Abilities, Sharing, Store, nanos};
use crate::plan::Plan;

const REPORT_EVERY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_millis(200);
const STALE_FOR: Duration = Duration::from_secs(5);

/// The shortest and longest time between reports.
const REPORTS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));
/// The shortest and longest time for which an answer is awaited.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(10));
/// The longest time for which requests are admitted while nothing can be reported.
const LONGEST_STALE: Duration = Duration::from_secs(3600);

impl Store {
    /// Checks the section.
    pub(crate) fn compile(
        config: &StoreConfig,
        cx: &mut Compile<'_>,
    ) -> Result<(Store, Sharing), Rejected> {
        let engine = compile_engine(config, cx);
        let report_every = span(config.report_every, REPORT_EVERY);
        let timeout = span(config.timeout, TIMEOUT);
        let stale_for = span(config.stale_for, STALE_FOR);
        let mut verdict = Ok(());
        let mut check = |name: &str, found: Duration, least: Duration, most: Duration| {
            if !(least..=most).contains(&found) {
                verdict = Err(cx.errors.add(
                    format!("usage_plan.store.{name}"),
                    format!(
                        "found {}, expected {} to {}",
                        Span::from(found),
                        Span::from(least),
                        Span::from(most)
                    ),
                ));
            }
        };
        check("report_every", report_every, REPORTS.0, REPORTS.1);
        check("timeout", timeout, TIMEOUTS.0, TIMEOUTS.1);
        // A report that fails must have time to be tried again.
        let least_stale = timeout.saturating_mul(2).saturating_add(report_every);
        check("stale_for", stale_for, least_stale, LONGEST_STALE);
        if config.strict
            && matches!(
                config.on_store_failure,
                Some(OnStoreFailure::Allow | OnStoreFailure::Safe)
            )
        {
            verdict = Err(cx.errors.add(
                "usage_plan.store.on_store_failure",
                "would exceed strict quotas while the store does not answer: write deny, or leave \
                 strict out",
            ));
        }
        let engine = engine?;
        verdict?;
        let sharing = Sharing {
            envoys: config.envoys.0,
            report_interval_ns: nanos(report_every),
            stale_ns: nanos(stale_for),
            strict: config.strict,
            on_failure: config.on_store_failure,
            abilities: engine.abilities(),
        };
        let store = Store {
            engine,
            timeout,
            patience: timeout.saturating_mul(2),
            look_every: report_every.checked_div(4).unwrap_or(report_every),
            health: Health::default(),
            worker: RefCell::default(),
        };
        Ok((store, sharing))
    }
}

fn span(configured: Option<Span>, default: Duration) -> Duration {
    configured.map_or(default, Span::get)
}

fn compile_engine(config: &StoreConfig, cx: &mut Compile<'_>) -> Result<Engine, Rejected> {
    match (&config.redis_http, &config.rls) {
        (Some(redis), None) => compile_redis(redis, cx),
        (None, Some(rls)) => compile_rls(rls, cx),
        (None, None) => Err(cx.errors.add(
            "usage_plan.store",
            "found no engine, expected one of redis_http and rls",
        )),
        (Some(_), Some(_)) => Err(cx.errors.add(
            "usage_plan.store",
            "found redis_http and rls, expected one of them",
        )),
    }
}

fn compile_redis(config: &RedisHttpConfig, cx: &mut Compile<'_>) -> Result<Engine, Rejected> {
    let path = "usage_plan.store.redis_http";
    let credentials = match &config.authorization {
        None => Ok(Credentials::None),
        Some(secret) => compile_credentials(secret, path, cx),
    };
    let dialect = match config.dialect {
        RedisDialect::Webdis => Dialect::Webdis,
        RedisDialect::Upstash => Dialect::Upstash,
    };
    let endpoint = Endpoint::new(config.url.authority(), config.url.path(), credentials?)
        .map_err(|error| cx.errors.add(format!("{path}.url"), error.to_string()))?;
    let key_prefix = config.key_prefix.as_ref();
    Ok(Engine::Redis(Redis {
        cluster: config.cluster.as_str().into(),
        scheme: config.url.scheme(),
        key_prefix: key_prefix
            .map(|prefix| prefix.0.clone())
            .unwrap_or_default(),
        http: RedisHttp::new(dialect, endpoint),
    }))
}

fn compile_rls(config: &RlsConfig, cx: &mut Compile<'_>) -> Result<Engine, Rejected> {
    let path = "usage_plan.store.rls";
    let mut verdict = Ok(());
    if config.domain.is_empty() {
        let message = "is empty, expected the domain under which the server has the limits";
        verdict = Err(cx.errors.add(format!("{path}.domain"), message));
    }
    let authority = config.authority.as_ref().unwrap_or(&config.cluster);
    if authority.is_empty() || !authority.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "expected a host, with a port if need be";
        verdict = Err(cx.errors.add(format!("{path}.authority"), message));
    }
    verdict?;
    let profile = match config.profile {
        RlsProfile::EnvoyRatelimit => Profile::EnvoyRatelimit,
        RlsProfile::Limitador => Profile::Limitador,
    };
    Ok(Engine::Rls(Box::new(Rls {
        cluster: config.cluster.as_str().into(),
        authority: authority.as_str().into(),
        profile,
        service: RateLimitService::new(profile, &config.domain),
        probed: None,
    })))
}

impl Engine {
    fn abilities(&self) -> Abilities {
        match self {
            Engine::Redis(_) => Abilities::REDIS,
            Engine::Rls(rls) => match rls.profile {
                Profile::EnvoyRatelimit => Abilities::ENVOY_RATELIMIT,
                Profile::Limitador => Abilities::LIMITADOR,
            },
        }
    }
}

impl Store {
    /// Tells the store of the plans whose quotas it keeps.
    pub(crate) fn keeps(&mut self, plans: &[Plan]) {
        let Engine::Rls(rls) = &mut self.engine else {
            return;
        };
        let quotas = plans
            .iter()
            .flat_map(|plan| plan.quotas.iter().map(|quota| (&plan.fact.name, quota)));
        // The longer its period and the larger its limit, the less it matters what a probe uses.
        let probed = quotas.max_by_key(|(_, quota)| {
            let window = quota.calendar.window(0);
            (window.length_seconds(), quota.limit)
        });
        rls.probed = probed.map(|(plan, quota)| (Arc::clone(plan), quota.clone()));
    }
}

/// Reads the value of `Authorization` from the environment.
fn compile_credentials(
    secret: &SecretConfig,
    path: &str,
    cx: &mut Compile<'_>,
) -> Result<Credentials, Rejected> {
    let value = cx.environment.variable(&secret.env).unwrap_or_default();
    let basic = |pair: &str| {
        let pair = STANDARD.decode(pair).ok()?;
        let pair = String::from_utf8(pair).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some(Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    };
    let credentials = match value.split_once(' ') {
        Some(("Bearer", token)) => Some(Credentials::Bearer {
            token: token.to_owned(),
        }),
        Some(("Basic", pair)) => basic(pair),
        _ => None,
    };
    credentials.ok_or_else(|| {
        // Neither the name nor the value is repeated: either may be the secret.
        cx.errors.add(
            format!("{path}.authorization.env"),
            "no environment variable of this name is set, or it is not a value of Authorization, \
             as Bearer … or Basic …: hand it to the plugin by vm_config.environment_variables in \
             Envoy, by vmConfig.env in Istio",
        )
    })
}
