//! A limit, compiled.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use tollgate_core::apis::{ApiConfig, ApiId, ApiTable, check_method};
use tollgate_core::config::{ConfigErrors, Rejected};
use tollgate_core::credentials::Credential;
use tollgate_core::headers::FieldName;
use tollgate_core::host::Host;
use tollgate_core::limit_headers::LimitName;
use tollgate_core::name::Name;
use tollgate_core::order;
use tollgate_core::policy::{Compile, Exchange, Mode};
use tollgate_core::shared::OnContention;
use tollgate_core::target::AmbiguousRequest;
use tollgate_gcra::Bucket;
use tollgate_rate_table::{PenaltyBucket, Seed, TableSize};

use crate::config::{
    CostConfig, Count, ExemptConfig, KeyPart, LimitConfig, PenaltyConfig, RateConfig,
};
use crate::counters::Counters;
use crate::key::Key;
use crate::place::{Place, Places};

/// A limit.
pub(crate) struct Limit {
    pub(crate) name: LimitName,
    pub(crate) kind: Kind,
    pub(crate) count: Count,
    pub(crate) mode: Mode,
    pub(crate) on_contention: OnContention,
    pub(crate) retry_after: RetryAfter,
    pub(crate) counters: Counters,
    key: Key,
    places: Places,
    scope: Scope,
    exempt: ExemptConfig,
    cost: CostConfig,
}

/// What is limited.
pub(crate) enum Kind {
    /// How fast requests come.
    Rate(Bucket),
    /// How fast, and whoever goes on is blocked.
    Penalty(PenaltyBucket),
    /// How many are under way.
    Concurrency {
        most: NonZeroU32,
        /// The time for which a lease counts at least, in nanoseconds.
        lease_ns: NonZeroU64,
    },
}

/// Which requests a limit is about.
struct Scope {
    apis: Option<Vec<ApiId>>,
    /// A table with one API.
    matches: Option<ApiTable>,
}

/// What is told to those who are refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryAfter {
    pub(crate) max: Option<Duration>,
    pub(crate) jitter: Duration,
}

impl Limit {
    pub(crate) fn compile(
        index: usize,
        config: LimitConfig,
        cx: &mut Compile<'_>,
    ) -> Result<Limit, Rejected> {
        let path = format!("rate_limit[{index}]");
        let kind = compile_kind(&config, &path, cx.errors);
        let scope = compile_scope(&config, &path, cx);
        let key = compile_key(&config, &path, cx);
        let table = TableSize::for_clients(config.max_clients.0).map_err(|error| {
            cx.errors
                .add(format!("{path}.max_clients"), error.to_string())
        });
        let name = LimitName::new(config.name.as_str())
            .map_err(|error| cx.errors.add(format!("{path}.name"), error.to_string()));
        let (key, table) = (key?, table?);
        let namespace = config.namespace.as_ref().map_or("default", Name::as_str);
        Ok(Limit {
            places: Places::new(namespace, config.name.as_str(), config.mode, &key, table),
            name: name?,
            kind: kind?,
            scope: scope?,
            key,
            exempt: config.exempt,
            cost: config.cost,
            count: config.count,
            mode: config.mode,
            on_contention: config.on_contention,
            retry_after: RetryAfter {
                max: config.retry_after_max.map(|span| span.get()),
                jitter: config
                    .retry_after_jitter
                    .map(|span| span.get())
                    .unwrap_or_default(),
            },
            counters: Counters::default(),
        })
    }

    /// Whether the limit is about this request.
    pub(crate) fn applies<H: Host>(&self, x: &Exchange<'_, H>) -> Result<bool, AmbiguousRequest> {
        Ok(self.scope.takes(x)? && !self.exempts(x))
    }

    fn exempts<H: Host>(&self, x: &Exchange<'_, H>) -> bool {
        let ExemptConfig {
            addresses,
            consumers,
            plans,
        } = &self.exempt;
        let named = |names: &[Name], found: Option<&str>| {
            found.is_some_and(|found| names.iter().any(|name| name.as_str() == found))
        };
        named(
            consumers,
            x.facts.consumer.as_ref().map(|consumer| &*consumer.id),
        ) || named(plans, x.facts.plan.as_ref().map(|plan| &*plan.name))
            || (!addresses.is_empty()
                && x.client_address().is_some_and(|address| {
                    addresses.iter().any(|network| network.contains(address))
                }))
    }

    /// What the request costs, at most what a full bucket holds: more could never be admitted.
    pub(crate) fn cost<H: Host>(&self, x: &Exchange<'_, H>) -> u32 {
        let burst = match &self.kind {
            Kind::Rate(bucket) | Kind::Penalty(PenaltyBucket { bucket, .. }) => {
                bucket.burst().get()
            }
            Kind::Concurrency { .. } => return 1,
        };
        let of_method = |method: &[u8]| {
            let named = self.cost.methods.iter();
            let mut found = named.filter(|(named, _)| named.as_str().as_bytes() == method);
            found.next().map(|(_, cost)| *cost)
        };
        // A method that a server may take for another costs what the dearest does.
        if !self.cost.methods.is_empty() && check_method(x.method()).is_err() {
            let costs = self.cost.methods.iter().map(|(_, cost)| *cost);
            let dearest = costs.max().unwrap_or_default().max(self.cost.default);
            return dearest.min(burst);
        }
        // HEAD is GET without the body (RFC 9110 section 9.3.2), and as dear to who answers it.
        let by_method = || match x.method() {
            b"HEAD" => of_method(b"HEAD").or_else(|| of_method(b"GET")),
            method => of_method(method),
        };
        let by_method = || by_method().unwrap_or(self.cost.default);
        self.cost_in_header(x).unwrap_or_else(by_method).min(burst)
    }

    fn cost_in_header<H: Host>(&self, x: &Exchange<'_, H>) -> Option<u32> {
        let header = self.cost.header.as_ref()?;
        let said: u32 = x.request.get_str(header.name.as_str())?.parse().ok()?;
        let caller = x.client_address()?;
        let believed = header.from.iter().any(|network| network.contains(caller));
        believed.then(|| said.min(header.max.0.get()))
    }

    /// The header in which a cost is said, which is not for the upstream.
    pub(crate) fn cost_header(&self) -> Option<&str> {
        self.cost.header.as_ref().map(|header| header.name.as_str())
    }

    /// Where the state of the request's client is kept.
    pub(crate) fn place<H: Host>(&self, seed: &Seed, x: &Exchange<'_, H>) -> Place {
        let client = self.key.client(seed, self.name.as_str(), x);
        self.places.of(client, |key| self.key.names(x, key))
    }

    /// Whether host, method or path of a request decide on whether the limit is about it.
    pub(crate) fn depends_on_target(&self) -> bool {
        self.scope.apis.is_some() || self.scope.matches.is_some() || self.key.needs_api()
    }

    /// The more is said about which requests and which clients, the earlier a limit is looked at.
    pub(crate) fn specificity(&self) -> usize {
        let scope = [self.scope.matches.is_some(), self.scope.apis.is_some()];
        scope
            .into_iter()
            .filter(|said| *said)
            .count()
            .saturating_add(self.key.len())
    }
}

impl Scope {
    fn takes<H>(&self, x: &Exchange<'_, H>) -> Result<bool, AmbiguousRequest> {
        let in_apis = self
            .apis
            .as_ref()
            .is_none_or(|apis| x.api.is_some_and(|api| apis.binary_search(&api).is_ok()));
        if !in_apis {
            return Ok(false);
        }
        match &self.matches {
            None => Ok(true),
            Some(table) => {
                let found = table.find(x.request.get(":authority"), x.method(), x.target)?;
                Ok(found.is_some())
            }
        }
    }
}

fn compile_kind(
    config: &LimitConfig,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<Kind, Rejected> {
    match (config.rate, config.concurrent) {
        (None, None) => Err(errors.add(path, "limits nothing: add a rate, or concurrent")),
        (Some(_), Some(_)) => {
            let message = "has a rate and concurrent: make two limits of it";
            Err(errors.add(path, message))
        }
        (None, Some(most)) => compile_concurrency(config, most.0, path, errors),
        (Some(RateConfig(rate)), None) => {
            let bucket = compile_bucket(config, rate, path, errors);
            if config.lease.is_some() {
                let message = "is for concurrent only: remove it";
                return Err(errors.add(format!("{path}.lease"), message));
            }
            match &config.on_exceed {
                None => Ok(Kind::Rate(bucket?)),
                Some(penalty) => {
                    let penalty = compile_penalty(penalty, path, errors);
                    Ok(Kind::Penalty(penalty?(bucket?)))
                }
            }
        }
    }
}

fn compile_concurrency(
    config: &LimitConfig,
    most: NonZeroU32,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<Kind, Rejected> {
    let mut verdict = Ok(());
    for (field, given) in [
        ("burst", config.burst.is_some()),
        ("smoothing", config.smoothing),
        ("on_exceed", config.on_exceed.is_some()),
        ("cost", !config.cost.is_one()),
    ] {
        if given {
            verdict = Err(errors.add(format!("{path}.{field}"), "is for a rate only: remove it"));
        }
    }
    if config.count == Count::All {
        let message = "is for a rate only: a request under way was admitted";
        verdict = Err(errors.add(format!("{path}.count"), message));
    }
    const FIVE_MINUTES: Duration = Duration::from_secs(300);
    let lease = config.lease.map_or(FIVE_MINUTES, |span| span.get());
    let lease_ns = positive_nanos(lease).ok_or_else(|| {
        errors.add(
            format!("{path}.lease"),
            "expected a time above 0, at most 500 years",
        )
    });
    verdict?;
    Ok(Kind::Concurrency {
        most,
        lease_ns: lease_ns?,
    })
}

fn compile_bucket(
    config: &LimitConfig,
    rate: tollgate_core::units::Rate,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<Bucket, Rejected> {
    let burst = match (config.smoothing, config.burst, rate.burst) {
        (true, None, None) => NonZeroU32::MIN,
        (true, ..) => {
            let message = "is a burst of 1, and a burst is given too: remove one of them";
            return Err(errors.add(format!("{path}.smoothing"), message));
        }
        (false, Some(_), Some(_)) => {
            let message = "the rate already has a burst: give it in one place";
            return Err(errors.add(format!("{path}.burst"), message));
        }
        (false, Some(burst), None) => burst.0,
        (false, None, _) => rate.burst_or_default(),
    };
    positive_nanos(rate.per)
        .ok_or_else(|| "the rate's period is too long".to_owned())
        .and_then(|period| {
            Bucket::new(rate.requests, period, burst).map_err(|error| error.to_string())
        })
        .map_err(|message| errors.add(format!("{path}.rate"), message))
}

fn compile_penalty(
    config: &PenaltyConfig,
    path: &str,
    errors: &mut ConfigErrors,
) -> Result<impl FnOnce(Bucket) -> PenaltyBucket, Rejected> {
    let mut nanos = |field: &str, span: Duration| {
        positive_nanos(span).ok_or_else(|| {
            let message = "expected a time above 0, at most 500 years";
            errors.add(format!("{path}.on_exceed.{field}"), message)
        })
    };
    let block_for = config.block_for.get();
    let block_for_ns = nanos("block_for", block_for);
    let within_ns = nanos("within", config.within.map_or(block_for, |span| span.get()));
    let (block_for_ns, within_ns, after) = (block_for_ns?, within_ns?, config.after.0);
    Ok(move |bucket| PenaltyBucket {
        bucket,
        after,
        within_ns,
        block_for_ns,
    })
}

fn compile_key(config: &LimitConfig, path: &str, cx: &mut Compile<'_>) -> Result<Key, Rejected> {
    if config.key.0.is_empty() {
        let message = "is empty: write global for one bucket that all share";
        return Err(cx.errors.add(format!("{path}.key"), message));
    }
    let key = Key::new(config.key.0.clone());
    let mut verdict = Ok(());
    let unnamed = config.key.0.iter().any(|part| match part {
        KeyPart::Query(name) => name.is_empty(),
        // A cookie's name is a token, as a header's is (RFC 6265 section 4.1.1).
        KeyPart::Cookie(name) => name.parse::<FieldName>().is_err(),
        _ => false,
    });
    if unnamed {
        let message = "has a query parameter or cookie whose name none can have";
        verdict = Err(cx.errors.add(format!("{path}.key"), message));
    }
    let exempts = !config.exempt.consumers.is_empty() || !config.exempt.plans.is_empty();
    let needs_identity = key.needs_identity() || exempts;
    if key.needs_token() && config.count == Count::All {
        let message = "all requests are counted before a token is checked, so key can't name \
                       claims: count: admitted, or another key";
        verdict = Err(cx.errors.add(format!("{path}.count"), message));
    }
    if key.needs_token() && !cx.credentials.contains(Credential::Jwt) {
        let message = "a claim is named, but nothing checks tokens: add the section jwt_authz, or \
                       use another key";
        verdict = Err(cx.errors.add(format!("{path}.key"), message));
    }
    if needs_identity && config.count == Count::All {
        let message = "all requests are counted before it is known who calls, so key and exempt \
                       can't name consumers or plans: count: admitted, or another key";
        verdict = Err(cx.errors.add(format!("{path}.count"), message));
    }
    if needs_identity && cx.credentials.is_empty() {
        let message = "consumers or plans are named in key or exempt, but nothing finds out who \
                       calls: add the section usage_plan, or use another key";
        verdict = Err(cx.errors.add(path, message));
    }
    verdict.map(|()| key)
}

fn compile_scope(
    config: &LimitConfig,
    path: &str,
    cx: &mut Compile<'_>,
) -> Result<Scope, Rejected> {
    let is_empty = |field: &str, errors: &mut ConfigErrors| {
        let message = "is empty: leave it out for a limit on all requests";
        errors.add(format!("{path}.{field}"), message)
    };
    let apis = config.apis.as_ref().map(|names| {
        if names.is_empty() {
            return Err(is_empty("apis", cx.errors));
        }
        let found = names.iter().enumerate().map(|(index, name)| {
            cx.apis
                .resolve(name.as_str(), format!("{path}.apis[{index}]"), cx.errors)
        });
        // All are looked up before the first mistake is looked at.
        let found: Vec<Result<ApiId, Rejected>> = found.collect();
        found.into_iter().collect::<Result<Vec<ApiId>, Rejected>>()
    });
    let matches = config.matches.clone().map(|matches| {
        if matches.0.is_empty() {
            return Err(is_empty("match", cx.errors));
        }
        let api = ApiConfig {
            name: "match".to_owned(),
            matches,
        };
        let mut mistakes = ConfigErrors::default();
        let table = cx.apis.compile_like(vec![api], &mut mistakes);
        if mistakes.is_empty() {
            return Ok(table);
        }
        // The table speaks of the section apis, which this is written like.
        let mut found = ConfigErrors::default();
        for mistake in mistakes.iter() {
            let place = mistake.path.strip_prefix("apis[0]").unwrap_or_default();
            found.add(format!("{path}{place}"), mistake.message.as_str());
        }
        Err(cx.errors.append(found))
    });
    let mut apis = apis.transpose()?;
    if let Some(apis) = &mut apis {
        order::sort(apis);
    }
    Ok(Scope {
        apis,
        matches: matches.transpose()?,
    })
}

/// The nanoseconds of a time above zero that fits.
fn positive_nanos(span: Duration) -> Option<NonZeroU64> {
    u64::try_from(span.as_nanos())
        .ok()
        .and_then(NonZeroU64::new)
}
