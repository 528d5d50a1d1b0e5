//! Checking the section as a whole, and making it fast to apply.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tollgate_core::config::{ConfigErrors, Rejected, Table, expected_one_of, quote};
use tollgate_core::credentials::Credential;
use tollgate_core::headers::{FieldName, HeaderName};
use tollgate_core::name::Name;
use tollgate_core::name_list::NameList;
use tollgate_core::places::{HeaderPlace, Places};
use tollgate_core::policy::{Authenticator, Compile, Mode};
use tollgate_core::shared::OnContention;
use tollgate_core::text::Text;
use tollgate_rate_table::TableSize;

use crate::clients::{Clients, TokenPlans};
use crate::config::{ClientConfig, KeyConfig, PlanConfig, TokenConfig, UsagePlanConfig};
use crate::consumers::RecordKeys;
use crate::gauges::QuotaGauges;
use crate::keys::Pepper;
use crate::plan::Plan;
use crate::recognised::Recognised;
use crate::store::{Shared, Store};
use crate::{UsagePlan, challenge};

/// Compiles the section; see [`UsagePlan`].
pub(crate) fn compile(
    config: UsagePlanConfig,
    cx: &mut Compile<'_>,
) -> Result<UsagePlan, Rejected> {
    let challenge = challenge(&config.key);
    cx.authenticators.push(Authenticator {
        credential: Credential::ApiKey,
        challenge: challenge.clone(),
        admits_anonymous: config.anonymous.is_some(),
        providers: Vec::new(),
        mode: config.mode,
    });
    let records = record_keys(&config);
    let names = PlanNames::new(&config.plans);
    let store = config
        .store
        .as_ref()
        .map(|store| Store::compile(store, cx))
        .transpose();
    let shared = match &store {
        Ok(None) => Shared::Not,
        Ok(Some((_, sharing))) => Shared::By(sharing),
        Err(_) => Shared::Mistaken,
    };
    let fits_store = check_store(&config, cx.errors);
    let plans = compile_plans(config.plans.0, shared, cx);
    let pepper = compile_pepper(&config.key, cx);
    let listed = config.consumers.split();
    let ids = listed.ids;
    cx.consumers = Some(Arc::clone(&ids));
    let consumers = listed.terms.compile(&ids, &names, cx.errors);
    let keys = listed.keys.compile(pepper, cx.errors);
    let providers: Vec<String> = cx
        .authenticators
        .iter()
        .flat_map(|authenticator| authenticator.providers.iter().cloned())
        .collect();
    let clients = compile_clients(listed.clients, &ids, &providers, cx.errors);
    let tokens = config
        .token
        .map(|token| compile_tokens(token, &names, &records, &providers, cx));
    let anonymous = config.anonymous.map(|anonymous| {
        let path = "usage_plan.anonymous.plan";
        names.find_without_offset(&anonymous.plan, path, cx.errors)
    });
    let key = check_key_config(&config.key, cx.errors);
    let prefix = check_prefix(config.identity.prefix.as_str(), cx.errors);
    let retry_after_max = config
        .retry_after_max
        .map(|span| check_retry_after(span.get(), cx.errors))
        .transpose();
    if ids.is_empty() && anonymous.is_none() && tokens.is_none() {
        return Err(cx.errors.add(
            "usage_plan",
            "neither consumers nor an anonymous plan nor one for tokens are given, so every request \
             would be refused: add one of them",
        ));
    }
    let (prefix, (), ()) = (prefix?, key?, fits_store?);
    let (plans, keys) = (plans?, keys?);
    let mut store = store?.map(|(store, _)| store);
    if let Some(store) = &mut store {
        store.keeps(&plans);
    }
    Ok(UsagePlan {
        places: places(&config.key),
        strip: config.key.strip,
        challenge: Text::from(challenge).shared(),
        recognised: Recognised::new(keys.len()),
        keys,
        plans,
        consumers: consumers?,
        anonymous: anonymous.transpose()?,
        clients: clients?,
        records,
        tokens: tokens.transpose()?,
        id_header: HeaderName::from(format!("{prefix}id")).shared(),
        plan_header: HeaderName::from(format!("{prefix}plan")).shared(),
        identity_prefix: prefix.to_owned(),
        store,
        retry_after_max: retry_after_max?,
        on_contention: config.on_contention,
        mode: config.mode,
        gauges: QuotaGauges::new(cx.metered_consumers),
    })
}

/// Whether the section asks for something that its store can't give.
fn check_store(config: &UsagePlanConfig, errors: &mut ConfigErrors) -> Result<(), Rejected> {
    let Some(store) = &config.store else {
        return Ok(());
    };
    let mut verdict = Ok(());
    let mut quotas = config.plans.0.iter().flat_map(|(_, plan)| &plan.quota.0);
    let is_strict = store.strict || quotas.any(|quota| quota.strict == Some(true));
    if is_strict && config.on_contention == OnContention::Allow {
        let message = "lets requests pass uncounted, which a strict quota does not allow: write deny, \
                       or leave strict out";
        verdict = Err(errors.add("usage_plan.on_contention", message));
    }
    let plan_claim = config
        .token
        .as_ref()
        .and_then(|token| token.plan_claim.as_ref());
    if store.rls.is_some() && plan_claim.is_some() && !config.consumers.is_empty() {
        let message = "lets a consumer be on several plans, while an rls store counts for each plan by \
                       itself, so that it would have its quota several times: use redis_http";
        verdict = Err(errors.add("usage_plan.token.plan_claim", message));
    }
    verdict
}

fn record_keys(config: &UsagePlanConfig) -> RecordKeys {
    let namespace = config.namespace.as_ref().map_or("default", Name::as_str);
    // A policy that is only tried out must not use up what another one grants.
    let state = match config.mode {
        Mode::Enforce => "usage",
        Mode::Shadow => "shadow-usage",
    };
    RecordKeys::new(state, namespace)
}

fn compile_plans(
    configs: Vec<(String, crate::config::PlanConfig)>,
    shared: Shared<'_>,
    cx: &mut Compile<'_>,
) -> Result<Vec<Plan>, Rejected> {
    let mut plans = Vec::with_capacity(configs.len());
    let mut verdict = Ok(());
    for (index, (name, config)) in configs.into_iter().enumerate() {
        match Plan::compile(index, &name, config, shared, cx.apis, cx.errors) {
            Ok(plan) => plans.push(plan),
            Err(rejected) => verdict = Err(rejected),
        }
    }
    verdict.map(|()| plans)
}

/// Finds plans by name, also while some of them have mistakes.
pub(crate) struct PlanNames {
    plans: Vec<(String, HasOffset)>,
}

/// Whether a quota of the plan has an offset.
type HasOffset = bool;

impl PlanNames {
    fn new(plans: &Table<PlanConfig>) -> Self {
        let has_offset = |plan: &PlanConfig| plan.quota.0.iter().any(|quota| quota.offset > 0);
        let plans = plans
            .iter()
            .map(|(name, plan)| (name.to_owned(), has_offset(plan)));
        PlanNames {
            plans: plans.collect(),
        }
    }

    /// The place of a plan.
    pub(crate) fn place(&self, name: &Name) -> Option<u16> {
        let place = self
            .plans
            .iter()
            .position(|(known, _)| known == name.as_str());
        place.and_then(|index| u16::try_from(index).ok())
    }

    /// Refuses a name that no plan has.
    pub(crate) fn unknown(&self, name: &Name, path: &str, errors: &mut ConfigErrors) -> Rejected {
        let known: Vec<&str> = self.plans.iter().map(|(known, _)| known.as_str()).collect();
        let found = expected_one_of(name.as_str(), &known);
        errors.add(
            path,
            format!("unknown plan {}{found}", quote(name.as_str())),
        )
    }

    /// A plan for callers whose first period nobody knows.
    fn find_without_offset(
        &self,
        name: &Name,
        path: &str,
        errors: &mut ConfigErrors,
    ) -> Result<u16, Rejected> {
        let plan = self
            .place(name)
            .ok_or_else(|| self.unknown(name, path, errors))?;
        match self.has_offset(plan) {
            false => Ok(plan),
            true => Err(errors.add(
                path,
                "has a quota with an offset, which is for the first period of a consumer: use \
                 another plan",
            )),
        }
    }

    fn by_name(&self) -> HashMap<Box<str>, u16> {
        self.plans
            .iter()
            .zip(0..=u16::MAX)
            .map(|((name, _), index)| (name.as_str().into(), index))
            .collect()
    }

    /// Whether the first period of a consumer on this plan is another one.
    pub(crate) fn has_offset(&self, index: u16) -> bool {
        self.plans
            .get(usize::from(index))
            .is_some_and(|(_, has_offset)| *has_offset)
    }
}

/// Which client of which issuer is which consumer. Issuers need not know of one another's clients, so
/// where there are several, one must not be able to make its own client somebody else's.
fn compile_clients(
    listed: Vec<(u32, Vec<ClientConfig>)>,
    ids: &Arc<NameList>,
    providers: &[String],
    errors: &mut ConfigErrors,
) -> Result<Clients, Rejected> {
    let mut clients = Clients::default();
    let mut verdict = Ok(());
    if providers.len() <= 1 {
        clients.know_by_id(ids, listed.iter().map(|(consumer, _)| *consumer).collect());
    }
    for (consumer, listed) in listed {
        for (index, client) in listed.into_iter().enumerate() {
            let path = format!("usage_plan.consumers[{consumer}].clients[{index}]");
            if client.id.is_empty() {
                let message = "is empty, expected the client's id";
                verdict = Err(errors.add(path, message));
                continue;
            }
            match &client.provider {
                None if providers.len() > 1 => {
                    let message = format!(
                        "names no provider, and there are several: write {{ provider: …, id: {} }}",
                        quote(&client.id)
                    );
                    verdict = Err(errors.add(path.as_str(), message));
                }
                Some(name) if !providers.is_empty() && !is_in(name, providers) => {
                    verdict = Err(errors.add(path.as_str(), unknown_provider(name, providers)));
                }
                _ => {}
            }
            let provider = client.provider.as_ref().map(|name| name.as_str().into());
            if let Some(other) = clients.add(&client.id, provider, consumer) {
                let message = format!(
                    "{} is a client of usage_plan.consumers[{other}] too",
                    quote(&client.id)
                );
                verdict = Err(errors.add(path, message));
            }
        }
    }
    verdict.map(|()| clients)
}

fn is_in(name: &Name, names: &[String]) -> bool {
    names.iter().any(|other| other == name.as_str())
}

fn unknown_provider(name: &Name, providers: &[String]) -> String {
    let known: Vec<&str> = providers.iter().map(String::as_str).collect();
    let found = expected_one_of(name.as_str(), &known);
    format!("unknown provider {}{found}", quote(name.as_str()))
}

fn compile_tokens(
    config: TokenConfig,
    names: &PlanNames,
    records: &RecordKeys,
    providers: &[String],
    cx: &mut Compile<'_>,
) -> Result<TokenPlans, Rejected> {
    let mut verdict = Ok(());
    if config.plan_claim.is_some() && config.providers.is_none() && providers.len() > 1 {
        let message = "is missing: there are several providers, so name those that may choose the \
                       plan by plan_claim";
        verdict = Err(cx.errors.add("usage_plan.token.providers", message));
    }
    for (index, name) in config.providers.iter().flatten().enumerate() {
        if !providers.is_empty() && !is_in(name, providers) {
            let path = format!("usage_plan.token.providers[{index}]");
            verdict = Err(cx.errors.add(path, unknown_provider(name, providers)));
        }
    }
    if !cx.credentials.contains(Credential::Jwt) {
        let message = "is for callers with tokens, which the jwt_authz section checks: add it \
                       (tollgate.wasm has all policies)";
        verdict = Err(cx.errors.add("usage_plan.token", message));
    }
    let default = config
        .plan
        .map(|plan| names.find_without_offset(&plan, "usage_plan.token.plan", cx.errors))
        .transpose();
    let size = TableSize::for_clients(config.max_clients.0).map_err(|error| {
        cx.errors
            .add("usage_plan.token.max_clients", error.to_string())
    });
    verdict?;
    Ok(TokenPlans {
        plan_claim: config.plan_claim,
        providers: config
            .providers
            .map(|names| names.iter().map(|name| name.as_str().into()).collect()),
        default: default?,
        client_claim: config.client_claim,
        names: names.by_name(),
        size: size?,
        prefix: records.of_clients(),
    })
}

fn compile_pepper(config: &KeyConfig, cx: &mut Compile<'_>) -> Result<Option<Pepper>, Rejected> {
    let Some(pepper) = &config.pepper else {
        return Ok(None);
    };
    let secret = cx.environment.variable(&pepper.env);
    secret
        .as_deref()
        .and_then(|secret| Pepper::new(secret.as_bytes()))
        .map(Some)
        .ok_or_else(|| {
            cx.errors.add(
                "usage_plan.key.pepper.env",
                // Its name is not repeated: it may be the pepper itself, put in the wrong place.
                "no environment variable of this name is set, or it is empty: hand it to the \
                 plugin by vm_config.environment_variables in Envoy, by vmConfig.env in Istio",
            )
        })
}

fn check_key_config(config: &KeyConfig, errors: &mut ConfigErrors) -> Result<(), Rejected> {
    let mut verdict = Ok(());
    if !config
        .realm
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic())
    {
        verdict = Err(errors.add("usage_plan.key.realm", "expected printable ASCII"));
    }
    if let Some(header) = &config.header
        && TAKEN_HEADERS.contains(&header.as_str())
    {
        let message = format!(
            "{} has a meaning of its own, choose another",
            header.as_str()
        );
        verdict = Err(errors.add("usage_plan.key.header", message));
    }
    if config.query.as_ref().is_some_and(String::is_empty) {
        let message = "is empty, expected the parameter's name";
        verdict = Err(errors.add("usage_plan.key.query", message));
    }
    // A cookie's name is a token, as a header's is (RFC 6265 section 4.1.1).
    if config
        .cookie
        .as_ref()
        .is_some_and(|name| name.parse::<FieldName>().is_err())
    {
        let message = "is not a cookie's name: letters, digits and !#$%&'*+-.^_`|~";
        verdict = Err(errors.add("usage_plan.key.cookie", message));
    }
    verdict
}

/// Where requests carry their keys: in `x-api-key` if no place is named.
fn places(config: &KeyConfig) -> Places {
    let none_named = config.header.is_none() && config.query.is_none() && config.cookie.is_none();
    let default = none_named.then(|| FieldName::from_static("x-api-key"));
    let header = config.header.clone().or(default);
    Places {
        headers: header
            .map(|name| HeaderPlace { name, scheme: None })
            .into_iter()
            .collect(),
        query: config.query.iter().cloned().collect(),
        cookies: config.cookie.iter().cloned().collect(),
    }
}

/// Headers that can't carry a key, because removing them would break the request.
const TAKEN_HEADERS: [&str; 7] = [
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "te",
    "transfer-encoding",
];

/// Everything under the prefix is removed from requests, so it must not cover headers of others.
fn check_prefix<'a>(prefix: &'a str, errors: &mut ConfigErrors) -> Result<&'a str, Rejected> {
    let own = prefix
        .strip_prefix("x-")
        .and_then(|rest| rest.strip_suffix('-'));
    let of_others = ["x-forwarded-", "x-envoy-", "x-request-"];
    if own.is_none_or(str::is_empty) || of_others.contains(&prefix) {
        return Err(errors.add(
            "usage_plan.identity.prefix",
            format!(
                "found {}, expected one of your own that begins with x- and ends with -, as \
                 x-consumer-: every header of the client under it is removed",
                quote(prefix)
            ),
        ));
    }
    Ok(prefix)
}

fn check_retry_after(most: Duration, errors: &mut ConfigErrors) -> Result<Duration, Rejected> {
    if most < Duration::from_secs(1) {
        return Err(errors.add(
            "usage_plan.retry_after_max",
            "is less than 1s, the least that Retry-After can say",
        ));
    }
    Ok(most)
}
