//! A plan, compiled: what it allows and the limits that it sets.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tollgate_calendar::{Calendar, Period, Settings, UtcOffset};
use tollgate_core::apis::{ApiId, ApiTable, PatternTable};
use tollgate_core::config::{ConfigErrors, Positive, Rejected, key_path, quote};
use tollgate_core::limit_headers::{LimitName, filling_time};
use tollgate_core::name::Name;
use tollgate_core::order;
use tollgate_core::policy::Plan as PlanFact;
use tollgate_core::target::LetterCase;
use tollgate_core::time::NANOS_PER_SECOND;
use tollgate_gcra::Bucket;
use tollgate_quota_ledger::RateBound;

use crate::config::{BucketConfig, PlanConfig, QuotaConfig, ThrottleConfig};
use crate::record::LimitId;
use crate::store::{Abilities, OnStoreFailure, Shared, SharedQuota};

/// A plan.
pub(crate) struct Plan {
    pub(crate) fact: PlanFact,
    /// The APIs it includes, sorted; all if absent.
    apis: Option<Vec<ApiId>>,
    /// The bucket of each consumer.
    pub(crate) throttle: Option<Throttle>,
    /// Buckets of their own for some methods and paths.
    pub(crate) methods: PatternTable<MethodThrottle>,
    pub(crate) quotas: Vec<Quota>,
}

/// A bucket, under the name that clients see.
#[derive(Clone, Debug)]
pub(crate) struct Throttle {
    pub(crate) id: LimitId,
    pub(crate) name: LimitName,
    pub(crate) bucket: Bucket,
    /// The time from empty to full.
    pub(crate) window: Duration,
}

/// The bucket of a method or path.
#[derive(Clone, Debug)]
pub(crate) struct MethodThrottle {
    pub(crate) throttle: Throttle,
    pub(crate) replaces_plan: bool,
}

/// A quota, under the name that clients see.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    pub(crate) id: LimitId,
    pub(crate) name: LimitName,
    pub(crate) limit: u64,
    /// What is taken off the limit in a consumer's first window.
    pub(crate) offset: u64,
    pub(crate) calendar: Calendar,
    /// How it is shared, if a store keeps it.
    pub(crate) shared: Option<SharedQuota>,
}

impl Quota {
    /// The name under which a store counts it. The period belongs to it: what was used of a year must
    /// not be taken for what was used of a day that began with it.
    pub(crate) fn engine_name(&self) -> Arc<str> {
        engine_name(self.name.as_str(), self.calendar.period())
    }
}

/// See [`Quota::engine_name`].
pub(crate) fn engine_name(name: &str, period: Period) -> Arc<str> {
    match period.name() {
        period if name == period => name.into(),
        period => format!("{name} {period}").into(),
    }
}

/// The name of a plan's own bucket.
const THROTTLE: &str = "throttle";

/// A record counts its buckets in a byte; a plan with more is a mistake anyway.
const MOST_METHODS: usize = 100;
const MOST_QUOTAS: usize = 8;

impl Plan {
    /// Compiles a plan. `index` is its place among all, `name` its name.
    pub(crate) fn compile(
        index: usize,
        name: &str,
        config: PlanConfig,
        sharing: Shared<'_>,
        apis: &ApiTable,
        errors: &mut ConfigErrors,
    ) -> Result<Plan, Rejected> {
        let path = key_path("usage_plan.plans", name);
        let name = name
            .parse::<Name>()
            .map_err(|error| errors.add(&*path, error.to_string()));
        let included = config
            .apis
            .map(|names| resolve_apis(&names, &path, apis, errors))
            .transpose();
        let throttle = config
            .throttle
            .map(|throttle| compile_throttle(throttle, &path, apis.letter_case(), errors));
        let quotas = compile_quotas(&config.quota.0, &path, errors);
        let (throttle, methods) = match throttle.transpose()? {
            Some((throttle, methods)) => (Some(throttle), methods),
            None => (None, PatternTable::default()),
        };
        let mut quotas = quotas?;
        let rate = rate_bound(throttle.as_ref(), &methods);
        let on_failure = config.on_store_failure;
        share(
            &mut quotas,
            &config.quota.0,
            sharing,
            (rate, on_failure),
            &path,
            errors,
        )?;
        let fact = PlanFact {
            index: u16::try_from(index)
                .map_err(|_| errors.add("usage_plan.plans", "found more than 65535 plans"))?,
            name: name?.to_shared(),
        };
        Ok(Plan {
            fact,
            apis: included?,
            throttle,
            methods,
            quotas,
        })
    }

    /// Whether the plan's consumers may use this API. Where the plan names APIs, a request that
    /// belongs to none is not included.
    pub(crate) fn includes(&self, api: Option<ApiId>) -> bool {
        match (&self.apis, api) {
            (None, _) => true,
            (Some(included), Some(api)) => included.binary_search(&api).is_ok(),
            (Some(_), None) => false,
        }
    }

    /// Whether charging a request needs the consumer's record.
    pub(crate) fn is_limited(&self) -> bool {
        self.throttle.is_some() || !self.quotas.is_empty()
    }

    /// Whether host, method or path of a request decide on what it may do or on its limits.
    pub(crate) fn depends_on_target(&self) -> bool {
        self.apis.is_some() || !self.methods.is_empty()
    }
}

fn resolve_apis(
    names: &[Name],
    path: &str,
    apis: &ApiTable,
    errors: &mut ConfigErrors,
) -> Result<Vec<ApiId>, Rejected> {
    let mut included = Vec::with_capacity(names.len());
    let mut verdict = Ok(());
    for (index, name) in names.iter().enumerate() {
        match apis.resolve(name.as_str(), format!("{path}.apis[{index}]"), errors) {
            Ok(id) => included.push(id),
            Err(rejected) => verdict = Err(rejected),
        }
    }
    order::sort(&mut included);
    included.dedup();
    verdict.map(|()| included)
}

fn compile_throttle(
    config: ThrottleConfig,
    path: &str,
    letter_case: LetterCase,
    errors: &mut ConfigErrors,
) -> Result<(Throttle, PatternTable<MethodThrottle>), Rejected> {
    let path = format!("{path}.throttle");
    let throttle = compile_bucket(&config.bucket, THROTTLE, &path, errors);
    let mut methods = Vec::with_capacity(config.methods.len());
    let mut verdict = Ok(());
    if config.methods.len() > MOST_METHODS {
        let message = format!(
            "found {}, expected at most {MOST_METHODS}",
            config.methods.len()
        );
        verdict = Err(errors.add(format!("{path}.methods"), message));
    }
    for (pattern, own) in config.methods {
        let place = key_path(&format!("{path}.methods"), &pattern.to_string());
        match compile_bucket(&own.bucket, &format!("throttle {pattern}"), &place, errors) {
            Ok(throttle) => {
                let throttle = MethodThrottle {
                    throttle,
                    replaces_plan: own.replaces_plan,
                };
                methods.push((pattern, throttle));
            }
            Err(rejected) => verdict = Err(rejected),
        }
    }
    let mut ids: Vec<LimitId> = methods
        .iter()
        .map(|(_, method)| method.throttle.id)
        .collect();
    order::sort(&mut ids);
    if ids.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        let message =
            "two patterns share the hash under which usage is kept: write one differently";
        verdict = Err(errors.add(format!("{path}.methods"), message));
    }
    let table = PatternTable::compile(methods, letter_case).map_err(|mistakes| {
        let mut found = ConfigErrors::default();
        for mistake in mistakes {
            found.add(format!("{path}.methods"), mistake.to_string());
        }
        errors.append(found)
    });
    verdict?;
    Ok((throttle?, table?))
}

fn compile_bucket(
    config: &BucketConfig,
    name: &str,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<Throttle, Rejected> {
    let rate = config.rate;
    let burst = match (config.burst, rate.burst) {
        (Some(_), Some(_)) => {
            return Err(errors.add(
                format!("{path}.burst"),
                "the rate already has a burst: give it in one place",
            ));
        }
        (own, _) => own.unwrap_or(rate.burst_or_default()),
    };
    let period = u64::try_from(rate.per.as_nanos())
        .ok()
        .and_then(NonZeroU64::new);
    let bucket = period
        .ok_or_else(|| "the rate's period is too long".to_owned())
        .and_then(|period| {
            Bucket::new(rate.requests, period, burst).map_err(|error| error.to_string())
        })
        .map_err(|message| errors.add(path, message))?;
    let name = LimitName::new(name).map_err(|error| errors.add(path, error.to_string()))?;
    Ok(Throttle {
        id: LimitId::of(name.as_str()),
        window: filling_time(bucket.interval_ns().get(), burst.get()),
        name,
        bucket,
    })
}

fn compile_quotas(
    configs: &[QuotaConfig],
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<Vec<Quota>, Rejected> {
    let mut quotas: Vec<Quota> = Vec::with_capacity(configs.len());
    let mut verdict = Ok(());
    if configs.len() > MOST_QUOTAS {
        let message = format!(
            "found {} quotas, expected at most {MOST_QUOTAS}",
            configs.len()
        );
        verdict = Err(errors.add(format!("{path}.quota"), message));
    }
    for (index, config) in configs.iter().enumerate() {
        let place = quota_path(path, index, configs.len());
        match compile_quota(config, &place, errors) {
            Ok(quota) if quota.name.as_str() == THROTTLE => {
                let message = "is the name of the plan's throttle: choose another";
                verdict = Err(errors.add(format!("{place}.name"), message));
            }
            Ok(quota)
                if quotas
                    .iter()
                    .any(|other| other.name == quota.name || other.id == quota.id) =>
            {
                let message = format!(
                    "a second quota is named {}: give one of them a name of its own",
                    quote(quota.name.as_str())
                );
                verdict = Err(errors.add(format!("{place}.name"), message));
            }
            Ok(quota) => quotas.push(quota),
            Err(rejected) => verdict = Err(rejected),
        }
    }
    verdict.map(|()| quotas)
}

/// Where a quota stands: it may be written alone, without a list.
fn quota_path(plan: &str, index: usize, quotas: usize) -> String {
    match quotas {
        1 => format!("{plan}.quota"),
        _ => format!("{plan}.quota[{index}]"),
    }
}

fn compile_calendar(
    config: &QuotaConfig,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<Calendar, Rejected> {
    let anchor_day = ordinal(config.anchor_day, 31, key_path(path, "anchor_day"), errors);
    let anchor_month = ordinal(
        config.anchor_month,
        12,
        key_path(path, "anchor_month"),
        errors,
    );
    let settings = Settings {
        period: config.period.0,
        offset: config.utc_offset.map(|offset| offset.0).unwrap_or_default(),
        week_start: config.week_start.map(|day| day.0),
        anchor_day: anchor_day?,
        anchor_month: anchor_month?,
    };
    Calendar::new(settings).map_err(|invalid| {
        let mut mistakes = ConfigErrors::default();
        for mistake in invalid.mistakes() {
            mistakes.add(key_path(path, mistake.field()), mistake.to_string());
        }
        errors.append(mistakes)
    })
}

/// A day or month of the calendar, up to `most`.
fn ordinal(
    number: Option<Positive>,
    most: u8,
    path: String,
    errors: &mut ConfigErrors,
) -> Result<Option<u8>, Rejected> {
    let Some(Positive(number)) = number else {
        return Ok(None);
    };
    match u8::try_from(number.get()) {
        Ok(ordinal) if ordinal <= most => Ok(Some(ordinal)),
        _ => Err(errors.add(path, format!("found {number}, expected 1 to {most}"))),
    }
}

fn compile_quota(
    config: &QuotaConfig,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<Quota, Rejected> {
    let period = config.period.0;
    let name: Arc<str> = match &config.name {
        Some(name) => name.to_shared(),
        None => period.name().into(),
    };
    let calendar = compile_calendar(config, path, errors);
    let name = LimitName::new(&*name).map_err(|error| errors.add(path, error.to_string()))?;
    if config.offset > config.limit {
        let message = format!(
            "found {}, expected at most the quota's limit, {}",
            config.offset, config.limit
        );
        return Err(errors.add(format!("{path}.offset"), message));
    }
    // With its period: what was used of a year must not be taken for what was used of a day.
    let id = LimitId::of(&format!("{} {}", name.as_str(), period.name()));
    Ok(Quota {
        id,
        name,
        limit: config.limit,
        offset: config.offset,
        calendar: calendar?,
        shared: None,
    })
}

/// Says how a plan's quotas are shared, where there is a store.
fn share(
    quotas: &mut [Quota],
    configs: &[QuotaConfig],
    sharing: Shared<'_>,
    (rate, on_failure): (Option<RateBound>, Option<OnStoreFailure>),
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<(), Rejected> {
    let mut verdict = Ok(());
    let sharing = match sharing {
        Shared::By(sharing) => sharing,
        Shared::Mistaken => return Ok(()),
        Shared::Not => {
            let missing = "is about a store, and there is none: add usage_plan.store, or leave this \
                           out";
            if on_failure.is_some() {
                verdict = Err(errors.add(format!("{path}.on_store_failure"), missing));
            }
            for (index, _) in configs
                .iter()
                .enumerate()
                .filter(|(_, quota)| quota.strict.is_some())
            {
                let place = quota_path(path, index, configs.len());
                verdict = Err(errors.add(format!("{place}.strict"), missing));
            }
            return verdict;
        }
    };
    for (index, (quota, config)) in quotas.iter_mut().zip(configs).enumerate() {
        let place = quota_path(path, index, configs.len());
        if let Err((field, message)) = can_keep(sharing.abilities(), config) {
            verdict = Err(errors.add(key_path(&place, field), message));
            continue;
        }
        let limits = (quota.limit, quota.limit.saturating_sub(quota.offset));
        match sharing.quota(limits, rate, config.strict, on_failure) {
            Ok(shared) => quota.shared = Some(shared),
            Err(mistake) => {
                verdict = Err(errors.add(format!("{place}.strict"), mistake.to_string()));
            }
        }
    }
    verdict
}

/// Whether a store can keep a quota; or the field that it can't keep, and why.
pub(crate) fn can_keep(
    abilities: Abilities,
    config: &QuotaConfig,
) -> Result<(), (&'static str, String)> {
    if config.limit > abilities.most {
        let message = format!(
            "found {}, expected at most {}, the largest number that the store counts",
            config.limit, abilities.most
        );
        return Err(("limit", message));
    }
    if config.offset > 0 && !abilities.takes_back {
        let message = "can't be kept by this store, which has one limit for all periods: leave it out, \
                       or use redis_http";
        return Err(("offset", message.to_owned()));
    }
    if !abilities.has_own_periods {
        return Ok(());
    }
    let own = [
        (
            "utc_offset",
            config
                .utc_offset
                .is_some_and(|offset| offset.0 != UtcOffset::default()),
        ),
        ("week_start", config.week_start.is_some()),
        ("anchor_day", config.anchor_day.is_some()),
        ("anchor_month", config.anchor_month.is_some()),
    ];
    if let Some((field, _)) = own.into_iter().find(|(_, is_given)| *is_given) {
        let message = "can't be kept by this store, whose periods begin at midnight UTC and on the \
                       first of a month: leave it out, or use redis_http";
        return Err((field, message.to_owned()));
    }
    match config.period.0 {
        Period::Week | Period::Year => {
            let message = format!(
                "found {}, which this store counts from other days than the calendar: expected \
                 minute, hour, day or month, or use redis_http",
                config.period.0.name()
            );
            Err(("period", message))
        }
        Period::Minute | Period::Hour | Period::Day | Period::Month => Ok(()),
    }
}

/// What the throttles of a plan let through of a consumer, if they bound it. A method that is not
/// charged to the plan's bucket comes on top of it.
fn rate_bound(
    throttle: Option<&Throttle>,
    methods: &PatternTable<MethodThrottle>,
) -> Option<RateBound> {
    let apart = methods.values().filter(|method| method.replaces_plan);
    let buckets = [&throttle?.bucket]
        .into_iter()
        .chain(apart.map(|method| &method.throttle.bucket));
    let none = RateBound {
        burst: 0,
        units: 0,
        period_ns: DAY_NS,
    };
    Some(buckets.fold(none, |sum, bucket| {
        RateBound {
            burst: sum.burst.saturating_add(bucket.burst().get().into()),
            units: sum
                .units
                .saturating_add(DAY_NS.div_ceil(bucket.interval_ns().get())),
            period_ns: DAY_NS,
        }
    }))
}

/// Rates are added up by what they let through in a day, which rounds even slow ones by little.
const DAY_NS: u64 = 86_400 * NANOS_PER_SECOND;
