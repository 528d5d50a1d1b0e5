//! The `rate_limit` section: a list of named limits.

use std::num::NonZeroU32;

use deserr::{Deserr, IntoValue, Value, ValuePointerRef};
use tollgate_claims::ClaimPath;
use tollgate_core::apis::{MatchConfig, Method};
use tollgate_core::config::{ConfigErrors, OneOrMany, Positive, Table, parse_text};
use tollgate_core::headers::FieldName;
use tollgate_core::name::Name;
use tollgate_core::network::Network;
use tollgate_core::policy::Mode;
use tollgate_core::shared::OnContention;
use tollgate_core::units::{Rate, Span};

/// A limit: how much each client may do, and who is one client.
#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct LimitConfig {
    /// Its name in answers, metrics and the shared state.
    pub name: Name,
    /// What makes one client; requests that agree in all of it share a bucket.
    pub key: OneOrMany<KeyPart>,
    /// How fast: `100/s`, `2000 / 5m`, `10r/s burst=20`, `12pm`, or `{ rate: 100/s, burst: 50 }`.
    #[deserr(default)]
    pub rate: Option<RateConfig>,
    /// How many requests a client may make at once after a pause.
    #[deserr(default)]
    pub burst: Option<Positive>,
    /// A burst of 1: two requests at once are one too many (Apigee's SpikeArrest).
    #[deserr(default)]
    pub smoothing: bool,
    /// How many requests a client may have under way, in place of a rate.
    #[deserr(default)]
    pub concurrent: Option<Positive>,
    /// For how long a request under way counts at least; one that takes more than twice as long
    /// does not count any more. So a worker that was killed leaves nothing behind.
    #[deserr(default)]
    pub lease: Option<Span>,
    /// The APIs that it is about; all, and requests that belong to none, if absent.
    #[deserr(default)]
    pub apis: Option<Vec<Name>>,
    /// The requests that it is about, written as in `apis`; all if absent.
    #[deserr(default, rename = "match")]
    pub matches: Option<OneOrMany<MatchConfig>>,
    /// Whom it is not about.
    #[deserr(default)]
    pub exempt: ExemptConfig,
    /// What a request costs; 1 if absent.
    #[deserr(default)]
    pub cost: CostConfig,
    /// Which requests are counted.
    #[deserr(default)]
    pub count: Count,
    /// What becomes of a client that goes on after it was refused.
    #[deserr(default)]
    pub on_exceed: Option<PenaltyConfig>,
    /// For how many clients at a time there is memory. More are served too; the state of those
    /// nearest to a full bucket is then forgotten.
    #[deserr(default = DEFAULT_MAX_CLIENTS)]
    pub max_clients: Positive,
    /// Plugins on one Envoy whose limits have the same name and namespace share their state.
    #[deserr(default)]
    pub namespace: Option<Name>,
    /// The longest `Retry-After` that a client is told.
    #[deserr(default)]
    pub retry_after_max: Option<Span>,
    /// The most that is added at random to `Retry-After`, so that clients that were refused
    /// together do not come back together.
    #[deserr(default)]
    pub retry_after_jitter: Option<Span>,
    /// What happens to a request whose bucket other workers keep changing.
    #[deserr(default)]
    pub on_contention: OnContention,
    /// Whether refusals are given or only counted.
    #[deserr(default)]
    pub mode: Mode,
}

const DEFAULT_MAX_CLIENTS: Positive = match NonZeroU32::new(100_000) {
    Some(clients) => Positive(clients),
    None => Positive(NonZeroU32::MIN),
};

/// A rate, with its burst if that is given in one with it.
#[derive(Clone, Copy, Debug)]
pub struct RateConfig(pub Rate);

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct RateObject {
    rate: Rate,
    #[deserr(default)]
    burst: Option<Positive>,
}

impl Deserr<ConfigErrors> for RateConfig {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        if !matches!(value, Value::Map(_)) {
            return Rate::deserialize_from_value(value, location).map(RateConfig);
        }
        let RateObject { rate, burst } = RateObject::deserialize_from_value(value, location)?;
        if rate.burst.is_some() && burst.is_some() {
            let mut errors = ConfigErrors::default();
            let path = tollgate_core::config::display_path(location);
            let message = "the rate already has a burst: give it in one place";
            errors.add(format!("{path}.burst"), message);
            return Err(errors);
        }
        Ok(RateConfig(Rate {
            burst: rate.burst.or(burst.map(|Positive(burst)| burst)),
            ..rate
        }))
    }
}

/// Something that tells clients apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The address, as Envoy resolved it, cut to its network.
    ClientAddress {
        /// The bits of an IPv4 address that count.
        ipv4_prefix: u8,
        /// The bits of an IPv6 address that count. Behind /64 a client chooses its addresses
        /// itself.
        ipv6_prefix: u8,
    },
    /// The consumer.
    Consumer,
    /// The plan.
    Plan,
    /// The API.
    Api,
    /// Envoy's route, by its name.
    Route,
    /// Nothing: all requests are one client's.
    Global,
    /// A header.
    Header(FieldName),
    /// A query parameter.
    Query(String),
    /// A cookie.
    Cookie(String),
    /// A claim of the caller's verified token.
    Claim(ClaimPath),
}

const PLAIN_PARTS: [&str; 6] = [
    "client_address",
    "consumer",
    "plan",
    "api",
    "route",
    "global",
];

impl std::str::FromStr for KeyPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "client_address" => KeyPart::ClientAddress {
                ipv4_prefix: 32,
                ipv6_prefix: 64,
            },
            "consumer" => KeyPart::Consumer,
            "plan" => KeyPart::Plan,
            "api" => KeyPart::Api,
            "route" => KeyPart::Route,
            "global" => KeyPart::Global,
            _ => {
                return Err(format!(
                    "unknown key {}{}, or {{ header: … }}, {{ query: … }}, {{ cookie: … }}, \
                     {{ claim: … }}",
                    tollgate_core::config::quote(text),
                    tollgate_core::config::expected_one_of(text, &PLAIN_PARTS)
                ));
            }
        })
    }
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct KeyObject {
    #[deserr(default)]
    client_address: Option<Prefixes>,
    #[deserr(default)]
    header: Option<FieldName>,
    #[deserr(default)]
    query: Option<String>,
    #[deserr(default)]
    cookie: Option<String>,
    #[deserr(default)]
    claim: Option<ClaimPath>,
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct Prefixes {
    #[deserr(default = 32)]
    ipv4_prefix: u64,
    #[deserr(default = 64)]
    ipv6_prefix: u64,
}

impl Deserr<ConfigErrors> for KeyPart {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        if matches!(value, Value::String(_)) {
            return parse_text(value, location, str::parse);
        }
        let object = KeyObject::deserialize_from_value(value, location)?;
        let mut errors = ConfigErrors::default();
        let path = tollgate_core::config::display_path(location);
        let address = object.client_address.map(|prefixes| {
            let mut prefix = |field: &str, bits: u64, most: u8| match u8::try_from(bits) {
                Ok(bits) if bits <= most => bits,
                _ => {
                    let message = format!("found {bits}, expected 0 to {most}");
                    errors.add(format!("{path}.client_address.{field}"), message);
                    0
                }
            };
            KeyPart::ClientAddress {
                ipv4_prefix: prefix("ipv4_prefix", prefixes.ipv4_prefix, 32),
                ipv6_prefix: prefix("ipv6_prefix", prefixes.ipv6_prefix, 128),
            }
        });
        for (field, name) in [("query", &object.query), ("cookie", &object.cookie)] {
            if name.as_deref() == Some("") {
                errors.add(format!("{path}.{field}"), "is empty, expected a name");
            }
        }
        let parts = [
            address,
            object.header.map(KeyPart::Header),
            object.query.map(KeyPart::Query),
            object.cookie.map(KeyPart::Cookie),
            object.claim.map(KeyPart::Claim),
        ];
        let mut parts = parts.into_iter().flatten();
        match (parts.next(), parts.next()) {
            (Some(part), None) if errors.is_empty() => Ok(part),
            (Some(_), None) => Err(errors),
            _ => {
                let message = "expected exactly one of client_address, header, query, cookie, claim; for \
                               several write a list";
                errors.add(path, message);
                Err(errors)
            }
        }
    }
}

/// Whom a limit is not about: whoever fits one of these.
#[derive(Clone, Debug, Default, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct ExemptConfig {
    /// Clients with these addresses.
    #[deserr(default)]
    pub addresses: Vec<Network>,
    /// These consumers.
    #[deserr(default)]
    pub consumers: Vec<Name>,
    /// Consumers on these plans.
    #[deserr(default)]
    pub plans: Vec<Name>,
}

/// What a request costs: a number, or by its method, or as a header says.
#[derive(Clone, Debug)]
pub struct CostConfig {
    /// What a request costs that nothing else is said about.
    pub default: u32,
    /// What requests of a method cost.
    pub methods: Vec<(Method, u32)>,
    /// A header in which trusted callers say what a request costs.
    pub header: Option<CostHeader>,
}

/// A header in which trusted callers say what a request costs.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct CostHeader {
    /// Its name. It is removed before the upstream sees the request.
    pub name: FieldName,
    /// The callers that are believed, by their addresses.
    pub from: Vec<Network>,
    /// The most that is believed.
    pub max: Positive,
}

impl CostConfig {
    /// Whether every request costs 1, as it does where nothing is said.
    pub(crate) fn is_one(&self) -> bool {
        self.default == 1 && self.methods.is_empty() && self.header.is_none()
    }
}

impl Default for CostConfig {
    fn default() -> Self {
        CostConfig {
            default: 1,
            methods: Vec::new(),
            header: None,
        }
    }
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct CostObject {
    #[deserr(default = 1)]
    default: u32,
    #[deserr(default)]
    methods: Table<u32, Method>,
    #[deserr(default)]
    header: Option<CostHeader>,
}

impl Deserr<ConfigErrors> for CostConfig {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        if matches!(value, Value::Integer(_) | Value::NegativeInteger(_)) {
            let default = u32::deserialize_from_value(value, location)?;
            return Ok(CostConfig {
                default,
                ..CostConfig::default()
            });
        }
        let CostObject {
            default,
            methods,
            header,
        } = CostObject::deserialize_from_value(value, location)?;
        Ok(CostConfig {
            default,
            methods: methods.0,
            header,
        })
    }
}

/// Which requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Count {
    /// Those that are let through: what anything else refuses is given back.
    #[default]
    Admitted,
    /// All, before it is known who calls; so it also holds back whoever guesses keys.
    All,
}

/// The penalty box: a client that was refused so often is refused everything for a while.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct PenaltyConfig {
    /// For how long.
    pub block_for: Span,
    /// After how many refusals; 1 blocks with the first.
    #[deserr(default = Positive(NonZeroU32::MIN))]
    pub after: Positive,
    /// Within what time these refusals count together; `block_for` if absent.
    #[deserr(default)]
    pub within: Option<Span>,
}
