//! The `jwt_authz` section, as it is written.

use std::str::FromStr;

use deserr::{Deserr, IntoValue, Value, ValueKind, ValuePointerRef};
use tollgate_claims::{ClaimPath, ClaimToHeader};
use tollgate_core::config::{ConfigErrors, OneOrMany, Positive, wrong_kind};
use tollgate_core::deserr_from_str;
use tollgate_core::endpoint::Endpoint;
use tollgate_core::headers::{FieldName, InvalidFieldName};
use tollgate_core::name::Name;
use tollgate_core::policy::Mode;
use tollgate_core::units::{Size, Span};
use tollgate_jose::Algorithm;

/// The `jwt_authz` section.
#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct JwtAuthzConfig {
    /// Whose tokens are accepted.
    pub providers: Vec<ProviderConfig>,
    /// Where a request carries its token.
    #[deserr(default)]
    pub token: TokenConfig,
    /// A header in which the upstream gets the claims as they were signed: the token's payload,
    /// base64url.
    #[deserr(default)]
    pub payload_header: Option<FieldName>,
    /// How many tokens are remembered that were found good.
    #[deserr(default)]
    pub cache: CacheConfig,
    /// Whether refusals are given or only counted.
    #[deserr(default)]
    pub mode: Mode,
}

/// An issuer, and what is asked of its tokens.
#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct ProviderConfig {
    /// Its name in metrics, the log and the shared state.
    pub name: Name,
    /// `iss` of its tokens, exactly.
    pub issuer: String,
    /// Of these, `aud` must name one.
    #[deserr(default)]
    pub audiences: OneOrMany<String>,
    /// Says that tokens for every audience are accepted, in place of `audiences`.
    #[deserr(default)]
    pub any_audience: bool,
    /// The signature algorithms that are accepted.
    pub algorithms: OneOrMany<AlgorithmName>,
    /// Its keys.
    pub jwks: KeysConfig,
    /// How far its clock may be off.
    #[deserr(default)]
    pub skew: Option<Span>,
    /// Whether a token must have an `exp`.
    #[deserr(default = true)]
    pub require_exp: bool,
    /// The longest time from `iat`, or from now, to `exp`.
    #[deserr(default)]
    pub max_lifetime: Option<Span>,
    /// Whether tokens are accepted that are bound to a key of their bearer's (`cnf`: DPoP, mutual
    /// TLS), though nothing here asks for the proof.
    #[deserr(default)]
    pub accept_bound_tokens: bool,
    /// What sort of token it must be.
    #[deserr(default)]
    pub profile: Profile,
    /// The claim that names the client that the token was issued to; `client_id`, or else `azp`, if
    /// absent.
    #[deserr(default)]
    pub client_claim: Option<ClaimPath>,
    /// The claims that the upstream gets as headers.
    #[deserr(default)]
    pub claims_to_headers: Vec<ClaimToHeader>,
}

/// What sort of token is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Profile {
    /// Any signed token that is not typed as something else.
    #[default]
    Any,
    /// An access token as RFC 9068 has it: `typ: at+jwt` and all its claims.
    #[deserr(rename = "at_jwt")]
    AtJwt,
}

/// The name of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmName(pub Algorithm);

impl std::str::FromStr for AlgorithmName {
    type Err = <Algorithm as std::str::FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(AlgorithmName)
    }
}

tollgate_core::deserr_from_str!(AlgorithmName);

/// Keys: fetched through a cluster, or written down.
#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct KeysConfig {
    /// A JWK set (RFC 7517), as an object or as its JSON text.
    #[deserr(default)]
    pub inline: Option<InlineKeys>,
    /// A single public key: `-----BEGIN PUBLIC KEY-----`.
    #[deserr(default)]
    pub pem: Option<String>,
    /// Envoy's cluster for the server that publishes the keys.
    #[deserr(default)]
    pub cluster: Option<String>,
    /// Where the server publishes them.
    #[deserr(default)]
    pub url: Option<Endpoint>,
    /// Where the server publishes its metadata, which tell where the keys are (OpenID Connect
    /// Discovery, RFC 8414), in place of `url`.
    #[deserr(default)]
    pub discovery: Option<Endpoint>,
    /// The host that the metadata may send us to, where it is not that of `discovery`.
    #[deserr(default)]
    pub jwks_host: Option<String>,
    /// How long keys are fresh at most; a shorter `max-age` of the server counts.
    #[deserr(default)]
    pub refresh: Option<Span>,
    /// For how long keys are used while the server can't be reached.
    #[deserr(default)]
    pub stale_for: Option<Span>,
    /// After what time no answer is awaited.
    #[deserr(default)]
    pub timeout: Option<Span>,
    /// For how long a request waits for keys.
    #[deserr(default)]
    pub max_wait: Option<Span>,
    /// How long an unknown `kid` leads to no further fetch after one did.
    #[deserr(default)]
    pub cool_down: Option<Span>,
    /// The longest set that is taken.
    #[deserr(default)]
    pub max_size: Option<Size>,
    /// The most keys that a set may have.
    #[deserr(default)]
    pub max_keys: Option<Positive>,
}

/// A JWK set as JSON text.
#[derive(Clone)]
pub struct InlineKeys(pub Vec<u8>);

impl std::fmt::Debug for InlineKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InlineKeys(…)")
    }
}

impl Deserr<ConfigErrors> for InlineKeys {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        match value {
            Value::String(text) => Ok(InlineKeys(text.into_bytes())),
            value @ Value::Map(_) => Ok(InlineKeys(to_json(value).to_string().into_bytes())),
            actual => Err(wrong_kind(
                actual,
                &[ValueKind::Map, ValueKind::String],
                location,
            )),
        }
    }
}

fn to_json<V: IntoValue>(value: Value<V>) -> serde_json::Value {
    serde_json::Value::from(value)
}

/// Where a request carries its token: one of these places, once.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct TokenConfig {
    /// Headers. `authorization` with the scheme `Bearer` if no place is named.
    #[deserr(default)]
    pub headers: OneOrMany<HeaderConfig>,
    /// Query parameters.
    #[deserr(default)]
    pub query: OneOrMany<String>,
    /// Cookies.
    #[deserr(default)]
    pub cookies: OneOrMany<String>,
    /// Whether the token is removed before the upstream sees the request.
    #[deserr(default = true)]
    pub strip: bool,
    /// The longest token that is read.
    #[deserr(default)]
    pub max_size: Option<Size>,
    /// Names the protected space in challenges (RFC 9110 section 11.5).
    #[deserr(default = "api".to_owned())]
    pub realm: String,
}

impl Default for TokenConfig {
    fn default() -> Self {
        TokenConfig {
            headers: OneOrMany::default(),
            query: OneOrMany::default(),
            cookies: OneOrMany::default(),
            strip: true,
            max_size: None,
            realm: "api".to_owned(),
        }
    }
}

/// A header that carries a token: its name, or `{ name: x-token, scheme: Token }`.
#[derive(Clone, Debug)]
pub struct HeaderConfig {
    /// Its name.
    pub name: FieldName,
    /// The scheme in front of the token.
    pub scheme: Option<String>,
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct HeaderObject {
    name: FieldName,
    #[deserr(default)]
    scheme: Option<Scheme>,
}

/// An authentication scheme, as it is written (RFC 9110 section 11.1).
struct Scheme(String);

impl FromStr for Scheme {
    type Err = InvalidFieldName;

    fn from_str(text: &str) -> Result<Self, InvalidFieldName> {
        // It is a token, as a header's name is.
        FieldName::from_str(text).map(|_| Scheme(text.to_owned()))
    }
}

deserr_from_str!(Scheme);

impl Deserr<ConfigErrors> for HeaderConfig {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        let (name, scheme) = match value {
            Value::String(_) => (FieldName::deserialize_from_value(value, location)?, None),
            _ => {
                let object = HeaderObject::deserialize_from_value(value, location)?;
                (object.name, object.scheme.map(|Scheme(scheme)| scheme))
            }
        };
        let is_authorization = name.as_str() == "authorization";
        Ok(HeaderConfig {
            scheme: scheme.or_else(|| is_authorization.then(|| "Bearer".to_owned())),
            name,
        })
    }
}

/// What each worker remembers of tokens that it found good.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct CacheConfig {
    /// How many tokens; fewer than 2 remembers none.
    #[deserr(default = DEFAULT_MAX_TOKENS)]
    pub max_tokens: u32,
    /// How many bytes they may have together.
    #[deserr(default)]
    pub max_size: Option<Size>,
    /// For how long; never beyond a token's end, or its issuer's next keys.
    #[deserr(default)]
    pub ttl: Option<Span>,
}

const DEFAULT_MAX_TOKENS: u32 = 2000;

impl Default for CacheConfig {
    fn default() -> Self {
        CacheConfig {
            max_tokens: DEFAULT_MAX_TOKENS,
            max_size: None,
            ttl: None,
        }
    }
}
