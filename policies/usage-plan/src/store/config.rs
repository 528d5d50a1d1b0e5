//! `usage_plan.store`, as it is written.

use deserr::Deserr;
use tollgate_core::config::{ConfigErrors, Positive};
use tollgate_core::endpoint::Endpoint;
use tollgate_core::units::Span;
use tollgate_quota_store::KeyPrefix;

use super::export::DEFAULT_DOMAIN;

/// Where quotas are kept that several Envoys share: one of `redis_http` and `rls`.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct StoreConfig {
    /// Redis, or Valkey, behind a server that speaks HTTP.
    #[deserr(default)]
    pub redis_http: Option<RedisHttpConfig>,
    /// A server of Envoy's Rate Limit Service protocol.
    #[deserr(default)]
    pub rls: Option<RlsConfig>,
    /// How many Envoys share the quotas at most, while new ones replace old ones too. What all of
    /// them may admit unseen by the others is computed from it.
    pub envoys: Positive,
    /// How often usage is reported that was admitted without asking; 1s if absent.
    #[deserr(default)]
    pub report_every: Option<Span>,
    /// For how long an answer of the store is awaited; 200ms if absent. A request waits up to twice as
    /// long.
    #[deserr(default)]
    pub timeout: Option<Span>,
    /// For how long requests are admitted without asking while nothing can be reported; 5s if
    /// absent.
    #[deserr(default)]
    pub stale_for: Option<Span>,
    /// Whether every request must be covered by what the store has granted, so that no quota is
    /// ever exceeded, whatever fails.
    #[deserr(default)]
    pub strict: bool,
    /// What happens to requests that the store would have to be asked for, while it does not
    /// answer; a plan may have its own. `safe` if absent, `deny` with `strict`.
    #[deserr(default)]
    pub on_store_failure: Option<OnStoreFailure>,
}

/// What happens to requests that the store would have to be asked for, while it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum OnStoreFailure {
    /// They pass, and are reported later.
    Allow,
    /// They are refused with 503.
    Deny,
    /// They pass up to this Envoy's share of the part of the period that has gone by, then they are
    /// refused with 503.
    Safe,
}

/// Redis behind a server that speaks HTTP.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct RedisHttpConfig {
    /// Envoy's cluster for it.
    pub cluster: String,
    /// Its URL; a path is put before those of the requests.
    pub url: Endpoint,
    /// What it speaks.
    pub dialect: RedisDialect,
    /// The credentials for it: the value of `Authorization`, as `Bearer …` or `Basic …`.
    #[deserr(default)]
    pub authorization: Option<SecretConfig>,
    /// What the names of all keys begin with; `tollgate:` if absent.
    #[deserr(default)]
    pub key_prefix: Option<KeyPrefixText>,
}

/// How a server takes Redis' commands over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum RedisDialect {
    /// As webdis does.
    Webdis,
    /// As Upstash's REST API and serverless-redis-http do.
    Upstash,
}

/// What the names of keys begin with.
#[derive(Clone, Debug)]
pub struct KeyPrefixText(pub KeyPrefix);

impl std::str::FromStr for KeyPrefixText {
    type Err = <KeyPrefix as std::str::FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(KeyPrefixText)
    }
}

tollgate_core::deserr_from_str!(KeyPrefixText);

/// Where a secret comes from. Not from the document, which more people read.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct SecretConfig {
    /// An environment variable that the plugin is given: `vm_config.environment_variables` in
    /// Envoy, `vmConfig.env` in Istio.
    pub env: String,
}

/// A server of Envoy's Rate Limit Service protocol.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct RlsConfig {
    /// Envoy's cluster for it, which must speak HTTP/2.
    pub cluster: String,
    /// What it does beyond the protocol.
    pub profile: RlsProfile,
    /// The domain under which it has the limits.
    #[deserr(default = DEFAULT_DOMAIN.to_owned())]
    pub domain: String,
    /// The `:authority` of requests; the cluster's name if absent.
    #[deserr(default)]
    pub authority: Option<String>,
}

/// What a server of the protocol does beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors)]
pub enum RlsProfile {
    /// As envoyproxy/ratelimit does.
    #[deserr(rename = "envoy-ratelimit")]
    EnvoyRatelimit,
    /// As Limitador does.
    #[deserr(rename = "limitador")]
    Limitador,
}
