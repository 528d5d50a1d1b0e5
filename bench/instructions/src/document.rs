//! The documents that plugins are measured with, and the requests.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The issuer of tokens.
pub const ISSUER: &str = "https://idp.bank.example/";

/// Whom tokens are for.
pub const AUDIENCE: &str = "bank-api";

/// The name of the issuer's key.
pub const KEY_ID: &str = "idp-1";

/// The API key of the consumer `acme`.
pub const API_KEY: &str = "acme-0f4c1d2e3b5a69788796a5b4c3d2e1f0";

/// The host of the APIs.
pub const HOST: &str = "api.bank.example";

/// The path of most requests.
pub const PATH: &str = "/v1/accounts/4711/transactions?page=2";

/// What no load comes near.
const FAST: &str = "1000000/s";

/// A set of sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the policies")]
pub enum Policy {
    RequestId,
    ProblemDetails,
    RateLimit,
    JwtAuthz,
    UsagePlan,
    Sunset,
}

impl Policy {
    /// All of them, in the order of the full plugin.
    pub const ALL: [Policy; 6] = [
        Policy::RequestId,
        Policy::ProblemDetails,
        Policy::RateLimit,
        Policy::JwtAuthz,
        Policy::UsagePlan,
        Policy::Sunset,
    ];

    /// The name of its plugin.
    pub fn name(self) -> &'static str {
        match self {
            Policy::RequestId => "request-id",
            Policy::ProblemDetails => "problem-details",
            Policy::RateLimit => "rate-limit",
            Policy::JwtAuthz => "jwt-authz",
            Policy::UsagePlan => "usage-plan",
            Policy::Sunset => "sunset",
        }
    }

    fn sections(self) -> Value {
        match self {
            Policy::RequestId => json!({
                "request_id": { "header": "x-request-id", "accept": { "from": ["10.0.0.0/8"] } },
            }),
            Policy::ProblemDetails => json!({
                "problem_details": {
                    "type_base": "https://errors.bank.example/",
                    "wrap": ["gateway", "upstream_bare_5xx"],
                },
            }),
            Policy::RateLimit => json!({
                "rate_limit": [
                    { "name": "per-address", "key": "client_address", "rate": FAST, "count": "all" },
                ],
            }),
            Policy::JwtAuthz => json!({
                "jwt_authz": {
                    "providers": [{
                        "name": "idp",
                        "issuer": ISSUER,
                        "audiences": [AUDIENCE],
                        "algorithms": ["RS256"],
                        "jwks": { "inline": jwks() },
                        "claims_to_headers": [{ "claim": "sub", "header": "x-subject" }],
                    }],
                },
            }),
            Policy::UsagePlan => json!({
                "usage_plan": {
                    "plans": {
                        "gold": {
                            "throttle": FAST,
                            "quota": { "limit": 1_000_000_000_u32, "period": "month" },
                            "apis": ["accounts-v1", "payments-v1"],
                        },
                        "bronze": {
                            "throttle": "10/s",
                            "quota": { "limit": 10_000, "period": "day" },
                            "apis": ["accounts-v1"],
                        },
                    },
                    "consumers": [
                        { "id": "acme", "plan": "gold", "keys": [key(API_KEY)] },
                        { "id": "bolt", "plan": "bronze", "keys": [key("bolt-key")] },
                    ],
                },
            }),
            Policy::Sunset => json!({
                "sunset": [{
                    "api": "accounts-v1",
                    "deprecated": "2026-09-15T00:00:00Z",
                    "sunset": "2099-03-15T00:00:00Z",
                    "successor": "/v2/accounts/{**}",
                    "docs": "https://dev.bank.example/v2",
                }],
            }),
        }
    }

    /// The document of its own plugin.
    pub fn document(self) -> Value {
        let mut document = self.sections();
        merge(&mut document, json!({ "apis": apis() }));
        match self {
            Policy::JwtAuthz => merge(&mut document, json!({ "access": [access(json!("jwt"))] })),
            Policy::RequestId | Policy::ProblemDetails => {
                document.as_object_mut().expect("a document").remove("apis");
            }
            Policy::RateLimit | Policy::UsagePlan | Policy::Sunset => {}
        }
        document
    }
}

/// The document of the full plugin: every policy, a token and an API key for each request.
pub fn full() -> Value {
    let mut document = json!({
        "apis": apis(),
        "access": [access(json!({ "all_of": ["jwt", "api_key"] }))],
    });
    for policy in Policy::ALL {
        merge(&mut document, policy.sections());
    }
    document
}

/// API keys and nothing else: no limits, no rules, nothing for access logs.
pub fn keys_only() -> Value {
    json!({
        "telemetry": { "filter_state": false },
        "usage_plan": {
            "plans": { "gold": {} },
            "consumers": [{ "id": "acme", "plan": "gold", "keys": [key(API_KEY)] }],
        },
    })
}

/// A plan with a throttle and a quota that a store keeps, which is Webdis in this cluster of Envoy.
pub fn stored(cluster: &str) -> Value {
    let mut document = Policy::UsagePlan.document();
    document["usage_plan"]["store"] = json!({
        "redis_http": {
            "cluster": cluster,
            "url": "http://webdis/",
            "dialect": "webdis",
        },
        "envoys": 3,
        "report_every": "100ms",
    });
    document
}

/// The full document with a limit that refuses nearly everything.
pub fn full_spent() -> Value {
    let mut document = full();
    document["rate_limit"][0]["rate"] = json!("1/h");
    document
}

/// The full document with so many further consumers, each with a key of its own.
pub fn with_keys(keys: usize) -> Value {
    let mut document = full();
    let consumers = document["usage_plan"]["consumers"].as_array_mut();
    let consumers = consumers.expect("a list");
    consumers.truncate(1);
    consumers.extend((1..keys).map(|number| {
        let id = format!("consumer-{number}");
        json!({ "id": id, "plan": "bronze", "keys": [key(&format!("{id}-key"))] })
    }));
    document
}

/// The full document with so many APIs.
pub fn with_apis(apis: usize) -> Value {
    let mut document = full();
    let list = document["apis"].as_array_mut().expect("a list");
    list.extend((list.len()..apis).map(|number| {
        json!({ "name": format!("api-{number}"), "match": [{ "path": format!("/api-{number}/**") }] })
    }));
    document
}

/// The full document with so many limits by address, all of which apply.
pub fn with_limits(limits: usize) -> Value {
    let mut document = full();
    document["rate_limit"] = (0..limits)
        .map(|number| {
            json!({
                "name": format!("limit-{number}"),
                "key": "client_address",
                "rate": FAST,
                "max_clients": 1024,
            })
        })
        .collect();
    document
}

/// The full document with so many limits more, which are about the API that no request is for.
pub fn with_limits_of_others(limits: usize) -> Value {
    let mut document = full();
    let list = document["rate_limit"].as_array_mut().expect("a list");
    list.extend((0..limits).map(|number| {
        json!({
            "name": format!("other-{number}"),
            "key": "client_address",
            "rate": FAST,
            "apis": ["payments-v1"],
        })
    }));
    document
}

/// The headers of a request that is admitted, with so many headers in all.
pub fn headers(token: &str, count: usize) -> Vec<(String, String)> {
    let bearer = format!("Bearer {token}");
    let mut headers: Vec<(String, String)> = [
        (":authority", HOST),
        (":method", "GET"),
        (":path", PATH),
        (":scheme", "http"),
        ("user-agent", "tollgate-bench"),
        ("x-forwarded-proto", "http"),
        ("authorization", bearer.as_str()),
        ("x-api-key", API_KEY),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    headers.extend(fillers(count.saturating_sub(headers.len())));
    headers
}

/// Headers that nobody asks for, as browsers and proxies send them.
pub fn fillers(count: usize) -> impl Iterator<Item = (String, String)> {
    (0..count).map(|number| {
        let name = format!("x-filler-{number:02}");
        (name, format!("a value of some length, number {number:02}"))
    })
}

/// The claims of a token; the number makes it another one.
pub fn claims(number: u64, issued: u64) -> Value {
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice@bank.example",
        "scope": "accounts:read accounts:write payments:read",
        "iat": issued,
        "exp": issued + 86_400,
        "jti": format!("token-{number}"),
        "azp": "acme",
        "realm_access": { "roles": ["teller", "auditor"] },
    })
}

/// A token whose signature fits nothing, for a host that says of each that it fits.
pub fn unsigned_token(number: u64, issued: u64) -> String {
    let header = json!({ "alg": "RS256", "kid": KEY_ID, "typ": "JWT" });
    let [header, claims] =
        [header, claims(number, issued)].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([0x5a; 256]))
}

/// The keys of the issuer: the public half of `tests/fixtures/keys/rsa-1.pem`.
pub fn jwks() -> Value {
    serde_json::from_str(include_str!("../fixtures/jwks.json")).expect("a JWK set")
}

fn apis() -> Value {
    json!([
        { "name": "accounts-v1", "match": [{ "hosts": [HOST], "path": "/v1/accounts/**" }] },
        { "name": "payments-v1", "match": [{ "hosts": [HOST], "path": "/v1/payments/**" }] },
        { "name": "status", "match": [{ "path": "/status", "methods": ["GET"] }] },
    ])
}

fn access(require: Value) -> Value {
    json!({ "apis": ["accounts-v1"], "require": require, "scopes": ["accounts:read"] })
}

fn key(key: &str) -> Value {
    let mut sha256 = String::new();
    for byte in Sha256::digest(key) {
        write!(sha256, "{byte:02x}").expect("text can be written");
    }
    json!({ "sha256": sha256 })
}

/// Adds members to an object.
fn merge(object: &mut Value, more: Value) {
    let more: Map<String, Value> = serde_json::from_value(more).expect("an object");
    object.as_object_mut().expect("an object").extend(more);
}
