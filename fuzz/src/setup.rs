//! What several checks start from: the full plugin, keys, tokens, and a rich document.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tollgate_core::time::Timestamp;

/// Every policy, in the order of `tollgate.wasm`.
pub type Full = tollgate_core::chain!(
    tollgate_request_id::RequestId,
    tollgate_problem_details::ProblemDetails,
    tollgate_rate_limit::RateLimit,
    tollgate_jwt_authz::JwtAuthz,
    tollgate_usage_plan::UsagePlan,
    tollgate_access::Access,
    tollgate_sunset::Sunset,
);

/// What the clock shows at first: 2026-11-20T12:00:00Z.
pub const START: Timestamp = Timestamp::from_seconds(1_795_176_000);

/// A key of the consumer `acme`.
pub const ACME_KEY: &str = "acme-key-5f2c";

/// A key of the consumer `curio`.
pub const CURIO_KEY: &str = "curio-key-91ab";

/// The issuer whose keys stand in the document.
pub const INLINE_ISSUER: &str = "https://inline.example/";

/// The issuer whose keys are fetched.
pub const REMOTE_ISSUER: &str = "https://remote.example/";

/// The quota of each consumer for a day.
pub const QUOTA: u64 = 12;

/// How many requests of an address may be under way.
pub const PLACES: usize = 4;

/// The SHA-256 of a key, in hexadecimal digits.
pub fn sha256(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signing_key(secret: u8) -> SigningKey {
    SigningKey::from_slice(&[secret; 32]).expect("a scalar in range")
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The public half of a key on P-256.
pub fn jwk(secret: u8, kid: &str) -> Value {
    let point = signing_key(secret).verifying_key().to_encoded_point(false);
    let [x, y] = [point.x(), point.y()].map(|part| base64url(part.expect("an affine point")));
    json!({ "kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "x": x, "y": y })
}

/// A token with these claims, signed with ES256. The same claims give the same token.
pub fn token(secret: u8, kid: &str, claims: &Value) -> String {
    let header = base64url(json!({ "alg": "ES256", "kid": kid }).to_string());
    let input = format!("{header}.{}", base64url(claims.to_string()));
    let signature: Signature = signing_key(secret).sign(input.as_bytes());
    format!("{input}.{}", base64url(signature.to_bytes()))
}

/// Claims that are accepted for a day.
pub fn claims(issuer: &str, subject: &str) -> Value {
    json!({
        "iss": issuer,
        "sub": subject,
        "aud": "bank-api",
        "iat": START.as_seconds(),
        "exp": START.as_seconds() + 86_400,
    })
}

/// Tokens that are good at first: of both issuers, and of a client that is a consumer.
pub static GOOD_TOKENS: LazyLock<[String; 3]> = LazyLock::new(|| {
    let mut consumer = claims(INLINE_ISSUER, "robot");
    consumer["client_id"] = json!("curio-web");
    [
        token(1, "inline", &claims(INLINE_ISSUER, "alice")),
        token(2, "remote", &claims(REMOTE_ISSUER, "bob")),
        token(1, "inline", &consumer),
    ]
});

/// Tokens that are never good: signed by a stranger under each name, and expired.
pub static BAD_TOKENS: LazyLock<[String; 3]> = LazyLock::new(|| {
    let mut expired = claims(INLINE_ISSUER, "alice");
    expired["exp"] = json!(START.as_seconds() - 3_600);
    [
        token(9, "inline", &claims(INLINE_ISSUER, "alice")),
        token(9, "remote", &claims(REMOTE_ISSUER, "bob")),
        token(1, "inline", &expired),
    ]
});

/// A document that uses every section.
pub fn document() -> Value {
    json!({
        "apis": [
            { "name": "open", "match": [{ "path": "/open/**" }] },
            { "name": "tokens", "match": [{ "path": "/tokens/**" }] },
            { "name": "keys", "match": [{ "path": ["/keys/**", "/v1/keys/{name}"] }] },
            { "name": "both", "match": [{ "path": "/both/**", "methods": ["GET", "POST"] }] },
            { "name": "either", "match": [{ "hosts": ["api.example"], "path": "/either/**" }] },
            { "name": "old", "match": [{ "path": "/old/**" }] },
            { "name": "ended", "match": [{ "path": "/ended/**" }] },
        ],
        "paths": { "escaped_slashes": "keep" },
        "request_id": { "accept": { "from": ["10.0.0.0/8"] } },
        "limit_headers": { "legacy": true },
        "problem_details": {
            "type_base": "https://errors.example/",
            "overrides": { "credentials-missing": { "detail": "No." } },
            "wrap": ["gateway", "upstream_bare_4xx", "upstream_bare_5xx"],
        },
        "rate_limit": [
            { "name": "flood", "key": "client_address", "rate": "600/h", "count": "all",
              "on_exceed": { "after": 2, "within": "1m", "block_for": "1m" } },
            { "name": "tenant", "key": [{ "header": "x-tenant" }, { "cookie": "s" }, { "query": "t" }],
              "rate": "30 / 1m", "max_clients": 64 },
            { "name": "subject", "key": { "claim": "sub" }, "rate": "40/h" },
            { "name": "under-way", "key": "client_address", "concurrent": PLACES, "lease": "1d" },
        ],
        "jwt_authz": {
            "token": { "headers": ["authorization", "x-token"], "query": "access_token",
                "cookies": "token" },
            "payload_header": "x-payload",
            "providers": [
                { "name": "inline", "issuer": INLINE_ISSUER, "audiences": "bank-api",
                  "algorithms": ["ES256"], "jwks": { "inline": { "keys": [jwk(1, "inline")] } },
                  "claims_to_headers": [{ "claim": "sub", "header": "x-subject" }] },
                { "name": "remote", "issuer": REMOTE_ISSUER, "audiences": "bank-api",
                  "algorithms": ["ES256"],
                  "jwks": { "cluster": "idp", "url": "https://remote.example/jwks.json" },
                  "claims_to_headers": [{ "claim": "sub", "header": "x-subject" }] },
            ],
        },
        "usage_plan": {
            "key": { "header": "x-api-key", "query": "api_key", "cookie": "key" },
            "plans": {
                "gold": { "throttle": "1000/s", "quota": { "limit": QUOTA, "period": "day" } },
                "free": {
                    "throttle": { "rate": "100/s", "methods": { "POST /keys/**": "50/s" } },
                    "quota": { "limit": QUOTA, "period": "day" },
                },
            },
            "consumers": [
                { "id": "acme", "plan": "gold", "clients": [],
                  "keys": [{ "sha256": sha256(ACME_KEY) }] },
                { "id": "curio", "plan": "free",
                  "clients": [{ "provider": "inline", "id": "curio-web" }],
                  "keys": [{ "sha256": sha256(CURIO_KEY) }] },
            ],
        },
        "access": [
            { "apis": ["open", "old", "ended"], "require": "anonymous" },
            { "apis": ["tokens"], "require": "jwt" },
            { "apis": ["keys"], "require": "api_key" },
            { "apis": ["either"], "require": { "any_of": ["jwt", "api_key"] } },
            { "require": { "all_of": ["jwt", "api_key"] }, "same_client": false },
        ],
        "sunset": [
            { "api": "old", "deprecated": "2026-01-01T00:00:00Z", "sunset": "2026-12-01T00:00:00Z",
              "successor": "/open/{**}", "after_sunset": "redirect",
              "brownouts": [{ "at": "30 12 * * *", "for": "10m", "from": "2026-11-01T00:00:00Z" }] },
            { "api": "ended", "sunset": "2026-11-01T00:00:00Z", "docs": "/docs" },
        ],
    })
}
