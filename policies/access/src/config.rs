//! The `access` section: a list of rules.

use deserr::{Deserr, IntoValue, Value, ValuePointerRef};
use tollgate_claims::{ClaimCondition, ScopeRule};
use tollgate_core::apis::Method;
use tollgate_core::config::{ConfigErrors, OneOrMany, display_path, parse_text};
use tollgate_core::name::Name;
use tollgate_core::policy::Mode;

use crate::certificate::{CertificateRule, DnsPattern, UriPattern};

/// A rule: what some requests need. The first rule that is about a request applies.
#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct RuleConfig {
    /// The APIs that it is about; all, and requests that belong to none, if absent.
    #[deserr(default)]
    pub apis: Option<Vec<Name>>,
    /// The methods that it is about; all if absent.
    #[deserr(default)]
    pub methods: Option<OneOrMany<Method>>,
    /// The credentials that are needed; all that the document has policies for, if absent.
    #[deserr(default)]
    pub require: Option<RequirementConfig>,
    /// The scopes that a token must have.
    #[deserr(default)]
    pub scopes: Option<ScopeRule>,
    /// What a token's claims must be.
    #[deserr(default)]
    pub claims: Vec<ClaimCondition>,
    /// Whether the token must have been issued to the consumer that the API key belongs to, where
    /// both are needed.
    #[deserr(default = true)]
    pub same_client: bool,
    /// Whether CORS preflights pass without credentials; browsers send none with them.
    #[deserr(default)]
    pub allow_preflight: bool,
    /// Whether refusals are given or only counted.
    #[deserr(default)]
    pub mode: Mode,
}

/// Credentials: `jwt`, `api_key`, `mtls` or `anonymous`, or a combination as
/// `{ any_of: [jwt, { all_of: [api_key, mtls] }] }`.
#[derive(Clone, Debug)]
pub enum RequirementConfig {
    /// A token, that grants something.
    Jwt(TokenRule),
    /// An API key.
    ApiKey,
    /// A client certificate.
    Mtls(CertificateRule),
    /// Nothing, as long as nothing bad was sent.
    Anonymous,
    /// One of these.
    AnyOf(Vec<RequirementConfig>),
    /// All of these.
    AllOf(Vec<RequirementConfig>),
}

/// What a token must grant.
#[derive(Clone, Debug, Default, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct TokenRule {
    /// Its scopes.
    #[deserr(default)]
    pub scopes: Option<ScopeRule>,
    /// Its claims.
    #[deserr(default)]
    pub claims: Vec<ClaimCondition>,
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct RequirementObject {
    #[deserr(default)]
    jwt: Option<TokenRule>,
    #[deserr(default)]
    mtls: Option<CertificateConfig>,
    #[deserr(default)]
    any_of: Option<Vec<RequirementConfig>>,
    #[deserr(default)]
    all_of: Option<Vec<RequirementConfig>>,
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct CertificateConfig {
    #[deserr(default)]
    uris: Vec<UriPattern>,
    #[deserr(default)]
    dns_names: Vec<DnsPattern>,
}

const NAMES: [&str; 4] = ["jwt", "api_key", "mtls", "anonymous"];

impl std::str::FromStr for RequirementConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "jwt" => Ok(RequirementConfig::Jwt(TokenRule::default())),
            "api_key" => Ok(RequirementConfig::ApiKey),
            "mtls" => Ok(RequirementConfig::Mtls(CertificateRule::default())),
            "anonymous" => Ok(RequirementConfig::Anonymous),
            _ => Err(format!(
                "unknown credential {}{}, or {{ any_of: […] }}, {{ all_of: […] }}",
                tollgate_core::config::quote(text),
                tollgate_core::config::expected_one_of(text, &NAMES)
            )),
        }
    }
}

impl Deserr<ConfigErrors> for RequirementConfig {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        if matches!(value, Value::String(_)) {
            return parse_text(value, location, str::parse);
        }
        let object = RequirementObject::deserialize_from_value(value, location)?;
        let path = display_path(location);
        let refuse = |message: &str| {
            let mut errors = ConfigErrors::default();
            errors.add(path.as_str(), message);
            Err(errors)
        };
        let requirements = [
            object.jwt.map(RequirementConfig::Jwt),
            object.mtls.map(|certificate| {
                RequirementConfig::Mtls(CertificateRule {
                    uris: certificate.uris,
                    dns_names: certificate.dns_names,
                })
            }),
            object.any_of.map(RequirementConfig::AnyOf),
            object.all_of.map(RequirementConfig::AllOf),
        ];
        let mut requirements = requirements.into_iter().flatten();
        match (requirements.next(), requirements.next()) {
            (Some(RequirementConfig::AnyOf(all) | RequirementConfig::AllOf(all)), None)
                if all.is_empty() =>
            {
                refuse("the list is empty: name the credentials, or write anonymous")
            }
            (Some(RequirementConfig::AllOf(all)), None)
                if all
                    .iter()
                    .any(|part| matches!(part, RequirementConfig::Anonymous)) =>
            {
                refuse("anonymous in all_of would mean nothing: leave it out, or use any_of")
            }
            (Some(requirement), None) => Ok(requirement),
            _ => refuse("expected exactly one of jwt, mtls, any_of, all_of"),
        }
    }
}
