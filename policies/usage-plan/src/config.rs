//! The `usage_plan` section, as it is written.

use std::num::NonZeroU32;

use deserr::{DeserializeError, Deserr, IntoValue, Value, ValuePointerRef};
use tollgate_calendar::{Period, UtcOffset, Weekday};
use tollgate_claims::ClaimPath;
use tollgate_core::apis::MethodPattern;
use tollgate_core::config::{ConfigErrors, OneOrMany, Positive, Table, parse_text};
use tollgate_core::headers::FieldName;
use tollgate_core::name::Name;
use tollgate_core::policy::Mode;
use tollgate_core::shared::OnContention;
use tollgate_core::time::Instant3339;
use tollgate_core::units::{Rate, Span};

use crate::consumers::ConsumerList;
use crate::keys::Digest;
use crate::store::{OnStoreFailure, StoreConfig};

/// The `usage_plan` section.
#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct UsagePlanConfig {
    /// Where a request carries its key.
    #[deserr(default)]
    pub key: KeyConfig,
    /// The plans, by name.
    #[deserr(default)]
    pub plans: Table<PlanConfig>,
    /// Who may call, with which keys, on which plan.
    #[deserr(default)]
    pub consumers: ConsumerList,
    /// The plan of callers without a key. Without it, a key is needed everywhere.
    #[deserr(default)]
    pub anonymous: Option<AnonymousConfig>,
    /// The plan of callers with a token and without a key. Without it, they have none.
    #[deserr(default)]
    pub token: Option<TokenConfig>,
    /// How the upstream learns who calls.
    #[deserr(default)]
    pub identity: IdentityConfig,
    /// The longest `Retry-After` that a client is told; a quota may last for months.
    #[deserr(default)]
    pub retry_after_max: Option<Span>,
    /// Where quotas are kept that several Envoys share. Without it, each counts for itself, and
    /// forgets when it ends.
    #[deserr(default)]
    pub store: Option<StoreConfig>,
    /// What happens to a request whose consumer's record other workers keep changing.
    #[deserr(default)]
    pub on_contention: OnContention,
    /// Usage is counted per namespace, `default` if absent: plugins on one Envoy with the same
    /// namespace share it.
    #[deserr(default)]
    pub namespace: Option<Name>,
    /// Whether refusals are given or only counted.
    #[deserr(default)]
    pub mode: Mode,
}

/// Where a request carries its key: one of these places, once.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct KeyConfig {
    /// A header; `x-api-key` if no other place is named.
    #[deserr(default)]
    pub header: Option<FieldName>,
    /// A query parameter.
    #[deserr(default)]
    pub query: Option<String>,
    /// A cookie.
    #[deserr(default)]
    pub cookie: Option<String>,
    /// Whether the key is removed before the upstream sees the request.
    #[deserr(default = true)]
    pub strip: bool,
    /// Names the protected space in the challenge of a 401 (RFC 9110 section 11.5).
    #[deserr(default = "api".to_owned())]
    pub realm: String,
    /// The secret under which `hmac_sha256` digests were made.
    #[deserr(default)]
    pub pepper: Option<PepperConfig>,
}

impl Default for KeyConfig {
    fn default() -> Self {
        KeyConfig {
            header: None,
            query: None,
            cookie: None,
            strip: true,
            realm: "api".to_owned(),
            pepper: None,
        }
    }
}

/// Where the pepper comes from. Not from the document, where it would lie beside the digests.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct PepperConfig {
    /// An environment variable that the plugin is given: `vm_config.environment_variables` in
    /// Envoy, `vmConfig.env` in Istio.
    pub env: String,
}

/// A plan: what its consumers may use, and how much of it.
#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct PlanConfig {
    /// How fast.
    #[deserr(default)]
    pub throttle: Option<ThrottleConfig>,
    /// How much in a calendar period; several may apply.
    #[deserr(default)]
    pub quota: OneOrMany<QuotaConfig>,
    /// Which APIs; all, and requests that belong to none, where it is absent.
    #[deserr(default)]
    pub apis: Option<Vec<Name>>,
    /// What happens to its consumers' requests while the store does not answer; as the store says if
    /// absent.
    #[deserr(default)]
    pub on_store_failure: Option<OnStoreFailure>,
}

/// A token bucket: `10/s`, or `{ rate: 10/s, burst: 20 }`.
#[derive(Clone, Debug)]
pub struct BucketConfig {
    /// How fast it fills.
    pub rate: Rate,
    /// How many requests it holds. Without it, as many as the rate admits at once: 100 for `100/s`,
    /// 1 for `10r/s`.
    pub burst: Option<NonZeroU32>,
}

/// A plan's throttle: `10/s`, or `{ rate: 10/s, burst: 20, methods: { "POST /v1/**": 1/s } }`.
#[derive(Clone, Debug)]
pub struct ThrottleConfig {
    /// The bucket of each consumer of the plan.
    pub bucket: BucketConfig,
    /// Buckets of their own for some methods and paths. The most specific pattern applies.
    pub methods: Vec<(MethodPattern, OverrideConfig)>,
}

/// The bucket of a method or path.
#[derive(Clone, Debug)]
pub struct OverrideConfig {
    /// The bucket.
    pub bucket: BucketConfig,
    /// Whether the request is charged to this bucket alone, so that it may be faster than the
    /// plan. Otherwise it must pass both.
    pub replaces_plan: bool,
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct ThrottleObject {
    rate: Rate,
    #[deserr(default)]
    burst: Option<Positive>,
    #[deserr(default)]
    methods: Table<OverrideConfig, MethodPattern>,
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct OverrideObject {
    rate: Rate,
    #[deserr(default)]
    burst: Option<Positive>,
    #[deserr(default)]
    replaces_plan: bool,
}

fn parse_rate<E: DeserializeError, V: IntoValue>(
    value: Value<V>,
    location: ValuePointerRef<'_>,
) -> Result<BucketConfig, E> {
    parse_text(value, location, |text| {
        text.parse::<Rate>().map_err(|error| error.to_string())
    })
    .map(|rate: Rate| BucketConfig { rate, burst: None })
}

impl Deserr<ConfigErrors> for ThrottleConfig {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        if matches!(value, Value::String(_)) {
            let bucket = parse_rate(value, location)?;
            return Ok(ThrottleConfig {
                bucket,
                methods: Vec::new(),
            });
        }
        let object = ThrottleObject::deserialize_from_value(value, location)?;
        let bucket = BucketConfig {
            rate: object.rate,
            burst: object.burst.map(|Positive(burst)| burst),
        };
        Ok(ThrottleConfig {
            bucket,
            methods: object.methods.0,
        })
    }
}

impl Deserr<ConfigErrors> for OverrideConfig {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        if matches!(value, Value::String(_)) {
            let bucket = parse_rate(value, location)?;
            return Ok(OverrideConfig {
                bucket,
                replaces_plan: false,
            });
        }
        let object = OverrideObject::deserialize_from_value(value, location)?;
        let bucket = BucketConfig {
            rate: object.rate,
            burst: object.burst.map(|Positive(burst)| burst),
        };
        Ok(OverrideConfig {
            bucket,
            replaces_plan: object.replaces_plan,
        })
    }
}

/// A quota: so many requests in a period of the civil calendar.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct QuotaConfig {
    /// How many requests. 0 refuses all.
    pub limit: u64,
    /// The calendar period.
    pub period: PeriodName,
    /// Its name in answers and in the record of usage; the period's name if absent.
    #[deserr(default)]
    pub name: Option<Name>,
    /// The offset from UTC at which the period's days begin.
    #[deserr(default)]
    pub utc_offset: Option<Offset>,
    /// The day on which a week begins.
    #[deserr(default)]
    pub week_start: Option<DayOfWeek>,
    /// The day of the month on which a month or year begins; 29 to 31 clamp to the month's end.
    #[deserr(default)]
    pub anchor_day: Option<Positive>,
    /// The month in which a year begins.
    #[deserr(default)]
    pub anchor_month: Option<Positive>,
    /// How many requests are taken off the first period, the one in which the consumer's `since`
    /// lies.
    #[deserr(default)]
    pub offset: u64,
    /// Whether the store must have granted every request; as the store says if absent.
    #[deserr(default)]
    pub strict: Option<bool>,
}

macro_rules! from_str_wrapper {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $inner);

        impl std::str::FromStr for $name {
            type Err = <$inner as std::str::FromStr>::Err;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map($name)
            }
        }

        tollgate_core::deserr_from_str!($name);
    };
}

from_str_wrapper! {
    /// `minute`, `hour`, `day`, `week`, `month` or `year`.
    PeriodName(Period)
}
from_str_wrapper! {
    /// `+02:00`.
    Offset(UtcOffset)
}
from_str_wrapper! {
    /// `monday` to `sunday`.
    DayOfWeek(Weekday)
}

/// A consumer: a client known by name, with any number of keys that share its usage.
#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(crate) struct ConsumerConfig {
    /// Its id, under which its usage is counted: keep it when its keys or its plan change.
    pub id: Name,
    /// The plan it is on.
    pub plan: Name,
    /// When it subscribed, for a quota with an `offset`.
    #[deserr(default)]
    pub since: Option<Instant3339>,
    /// Its keys; several may be valid at a time, so that one can be replaced without a gap.
    #[deserr(default)]
    pub keys: Vec<ApiKeyConfig>,
    /// The clients by which token issuers know it; its id if absent.
    #[deserr(default)]
    pub clients: Option<Vec<ClientConfig>>,
}

/// A client, as a token names it: `abc`, or `{ provider: idp, id: abc }` where only tokens of one
/// issuer count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientConfig {
    /// The name of the provider in `jwt_authz`; any if absent.
    pub provider: Option<Name>,
    /// Its id.
    pub id: String,
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct ClientObject {
    provider: Name,
    id: String,
}

impl Deserr<ConfigErrors> for ClientConfig {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        if matches!(value, Value::String(_)) {
            return Ok(ClientConfig {
                provider: None,
                id: String::deserialize_from_value(value, location)?,
            });
        }
        let ClientObject { provider, id } = ClientObject::deserialize_from_value(value, location)?;
        Ok(ClientConfig {
            provider: Some(provider),
            id,
        })
    }
}

/// How callers with a token and without a key come to a plan: by the consumer that the token's
/// client is, by a claim, or all by the same one.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct TokenConfig {
    /// A claim that names the plan. It goes before the plan of a consumer.
    #[deserr(default)]
    pub plan_claim: Option<ClaimPath>,
    /// The providers whose tokens may choose the plan by that claim; needed where there are several.
    #[deserr(default)]
    pub providers: Option<Vec<Name>>,
    /// The plan where nothing else gives one.
    #[deserr(default)]
    pub plan: Option<Name>,
    /// The claim that tells clients apart that are no consumers; the token's client if absent, or
    /// its subject if it has none.
    #[deserr(default)]
    pub client_claim: Option<ClaimPath>,
    /// For how many clients that are no consumers usage is kept at a time.
    #[deserr(default = DEFAULT_MAX_CLIENTS)]
    pub max_clients: Positive,
}

const DEFAULT_MAX_CLIENTS: Positive = match NonZeroU32::new(10_000) {
    Some(clients) => Positive(clients),
    None => Positive(NonZeroU32::MIN),
};

/// A key, by its digest.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(crate) struct ApiKeyConfig {
    /// The SHA-256 of the key, 64 hexadecimal digits.
    #[deserr(default)]
    pub sha256: Option<Digest>,
    /// The HMAC-SHA-256 of the key under the pepper, 64 hexadecimal digits.
    #[deserr(default)]
    pub hmac_sha256: Option<Digest>,
    /// From when it is valid.
    #[deserr(default)]
    pub not_before: Option<Instant3339>,
    /// Until when it is valid; at this instant it no longer is.
    #[deserr(default)]
    pub expires: Option<Instant3339>,
}

/// What applies to callers without a key, all together.
#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct AnonymousConfig {
    /// Their plan; what it does not include needs a key.
    pub plan: Name,
}

/// How the upstream learns who calls.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct IdentityConfig {
    /// Headers with this prefix are ours: the client's are removed from every request, in every
    /// spelling that a server may take for it, then `<prefix>id` and `<prefix>plan` are set. It
    /// begins with `x-` and ends with `-`.
    #[deserr(default = FieldName::from_static("x-consumer-"))]
    pub prefix: FieldName,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        IdentityConfig {
            prefix: FieldName::from_static("x-consumer-"),
        }
    }
}
