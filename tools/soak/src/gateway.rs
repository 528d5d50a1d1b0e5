//! The gateway under test: Envoy, an upstream and an issuer.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tollgate_tests::{
    Algorithm, Authority, EchoUpstream, Envoy, Issuer, Listener, SigningKey, plugin, wasm_filter,
};

/// The APIs, each named as the first part of its paths.
pub(crate) const APIS: [&str; 10] = [
    "open", "tokens", "keys", "both", "limited", "spent", "ended", "fetched", "broken", "leaving",
];

/// How many requests may be under way.
pub(crate) const PLACES: usize = 100;

/// How long an old configuration may serve. Envoy's default is 10 min; a new one comes sooner here.
const DRAIN_TIME: Duration = Duration::from_secs(15);

/// What the consumer on the plan `small` may use.
pub(crate) const QUOTA: u64 = 500;

pub(crate) struct Gateway {
    pub(crate) envoy: Envoy,
    pub(crate) upstream: EchoUpstream,
    pub(crate) idp: Issuer,
    pub(crate) key: SigningKey,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        let upstream = EchoUpstream::start().await;
        let authority = Authority::new("Soak");
        let idp = Issuer::start(&authority, "idp.example").await;
        let key = SigningKey::new(Algorithm::ES256);
        idp.set_keys([key.jwk("first")]);
        let envoy = Envoy::builder()
            .upstream(&upstream)
            .cluster(idp.cluster("idp"))
            .listener(listener(&idp, 0))
            .dynamic_listener()
            .drain_time(DRAIN_TIME)
            .start()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Gateway {
            envoy,
            upstream,
            idp,
            key,
        }
    }

    /// Replaces the listener by one whose plugin has another document.
    pub(crate) async fn update(&mut self, number: u32) {
        let before = self.envoy.address();
        let listener = listener(&self.idp, number);
        let updated = self.envoy.update_listener(&listener).await;
        updated.unwrap_or_else(|rejected| panic!("{}", rejected.log));
        assert_eq!(self.envoy.address(), before, "the listener has moved");
    }
}

fn listener(idp: &Issuer, number: u32) -> Listener {
    Listener::new()
        .filter(wasm_filter(
            "tollgate",
            plugin("tollgate"),
            document(idp, number),
        ))
        .connection_manager(json!({ "access_log": [] }))
}

/// A document; those of different numbers differ in what changes no decision.
fn document(idp: &Issuer, number: u32) -> Value {
    let sha256 = |key: &str| -> String {
        Sha256::digest(key)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let keys = |key: &str| json!([{ "sha256": sha256(key) }]);
    let apis =
        APIS.map(|name| json!({ "name": name, "match": [{ "path": format!("/{name}/**") }] }));
    json!({
        "apis": apis,
        "request_id": {},
        "rate_limit": [
            { "name": "limited", "key": { "header": "x-client" }, "match": { "path": "/limited/**" },
              "rate": "5/s", "max_clients": 1000 },
            { "name": "flood", "key": "client_address", "rate": "100000/s", "count": "all" },
            { "name": "under-way", "key": "global", "concurrent": PLACES, "lease": "1d" },
        ],
        "jwt_authz": {
            "token": { "realm": format!("soak-{number}") },
            "providers": [{
                "name": "idp",
                "issuer": idp.url(),
                "audiences": "bank-api",
                "algorithms": ["ES256"],
                "jwks": { "cluster": "idp", "url": idp.jwks_url(), "refresh": "30s",
                    "cool_down": "1s", "max_wait": "2s" },
                "claims_to_headers": [{ "claim": "sub", "header": "x-subject" }],
            }],
        },
        "usage_plan": {
            "plans": {
                "large": { "throttle": "100000/s", "quota": { "limit": 100_000_000, "period": "year" } },
                "small": { "quota": { "limit": QUOTA, "period": "year" } },
            },
            "consumers": [
                { "id": "acme", "plan": "large", "keys": keys("acme-soak-key") },
                { "id": "curio", "plan": "small", "keys": keys("curio-soak-key") },
            ],
        },
        "access": [
            { "apis": ["tokens", "fetched", "broken"], "require": "jwt" },
            { "apis": ["keys", "spent"], "require": "api_key" },
            { "apis": ["both"], "require": { "all_of": ["jwt", "api_key"] }, "same_client": false },
            { "apis": ["leaving"], "require": { "any_of": ["jwt", "api_key"] } },
            { "require": "anonymous" },
        ],
        "sunset": [{ "api": "ended", "sunset": "2020-01-01T00:00:00Z" }],
    })
}
