//! A token issuer with one key, and gateways that accept its tokens.
#![allow(dead_code, reason = "each test binary uses some of it")]

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate_tests::{
    Algorithm, Authority, EchoUpstream, Envoy, EnvoyBuilder, HttpClient, Issuer, Reply,
    RequestBuilder, SigningKey, merge, plugin, unix_time, wait_for, wasm_filter,
};

/// Whom the tokens are for.
pub(crate) const AUDIENCE: &str = "bank-api";

/// Who issues tokens whose keys are not fetched.
pub(crate) const ISSUER: &str = "https://idp.bank.example/";

/// The challenge of a gateway that wants a token.
pub(crate) const CHALLENGE: &str = "Bearer realm=\"api\"";

/// An issuer that publishes one key for ES256 under the name `first`.
pub(crate) struct Idp {
    /// What signed the issuer's certificate.
    pub(crate) authority: Authority,
    /// The server.
    pub(crate) issuer: Issuer,
    /// The key.
    pub(crate) key: SigningKey,
}

impl Idp {
    pub(crate) async fn start() -> Self {
        Self::called("idp.bank.example").await
    }

    pub(crate) async fn called(host: &str) -> Self {
        let authority = Authority::new("Test");
        let issuer = Issuer::start(&authority, host).await;
        let key = SigningKey::new(Algorithm::ES256);
        issuer.set_keys([key.jwk("first")]);
        Self {
            authority,
            issuer,
            key,
        }
    }

    /// Claims that are accepted.
    pub(crate) fn claims(&self) -> Value {
        self.issuer.claims("alice", AUDIENCE)
    }

    /// Those claims and others.
    pub(crate) fn claims_with(&self, others: Value) -> Value {
        let mut claims = self.claims();
        merge(&mut claims, &others);
        claims
    }

    /// A good token.
    pub(crate) fn token(&self) -> String {
        self.key.token("first", self.claims())
    }

    /// A good token with more claims.
    pub(crate) fn token_with(&self, claims: Value) -> String {
        self.key.token("first", self.claims_with(claims))
    }

    /// The issuer as an item of `jwt_authz.providers`, its keys fetched through the cluster `idp`.
    pub(crate) fn provider(&self, jwks: Value) -> Value {
        let mut provider = json!({
            "name": "idp",
            "issuer": self.issuer.url(),
            "audiences": AUDIENCE,
            "algorithms": ["ES256", "EdDSA"],
            "jwks": { "cluster": "idp", "url": self.issuer.jwks_url() },
        });
        merge(&mut provider["jwks"], &jwks);
        provider
    }

    /// A document that accepts this issuer's tokens. No token is remembered, so that each request
    /// says how the keys are.
    pub(crate) fn document(&self, jwks: Value) -> Value {
        json!({ "jwt_authz": {
            "providers": [self.provider(jwks)],
            "cache": { "max_tokens": 0 },
        }})
    }

    /// An Envoy with the full plugin that knows the issuer.
    pub(crate) fn gateway(&self, upstream: &EchoUpstream, document: Value) -> EnvoyBuilder {
        gateway("tollgate", upstream, document).cluster(self.issuer.cluster("idp"))
    }
}

/// An Envoy with a plugin in front of an upstream.
pub(crate) fn gateway(name: &str, upstream: &EchoUpstream, document: Value) -> EnvoyBuilder {
    Envoy::builder()
        .upstream(upstream)
        .filter(wasm_filter(name, plugin(name), document))
}

/// How many fetches had this result.
pub(crate) async fn fetches(envoy: &Envoy, labels: &[(&str, &str)]) -> f64 {
    envoy
        .stats()
        .await
        .sum("tollgate_jwks_fetches_total", labels)
}

/// Waits until so many requests of clients are under way.
pub(crate) async fn wait_for_active(envoy: &Envoy, requests: usize) {
    let listener = [("envoy_http_conn_manager_prefix", "http")];
    let what = format!("{requests} requests under way");
    envoy
        .wait_for_stats(&what, |stats| {
            stats.get("envoy_http_downstream_rq_active", &listener) == Some(requests as f64)
        })
        .await;
}

/// Adds what most requests carry.
pub(crate) trait Bearer {
    /// `authorization: Bearer …`
    fn bearer(self, token: &str) -> Self;
}

impl Bearer for RequestBuilder {
    fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }
}

/// Checks that a reply is the refusal of this kind.
pub(crate) fn assert_refused(reply: &Reply, status: u16, kind: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    let problem = reply.json();
    assert_eq!(problem["status"], status, "{problem}");
    assert!(problem["type"].is_string(), "{problem}");
    assert_eq!(problem["kind"], kind, "{problem}");
    // RFC 9110 section 15.5.2.
    assert!(
        status != 401 || reply.header("www-authenticate").is_some(),
        "{reply:?}"
    );
}

/// Sends so many requests with this token at the same time, each over a connection of its own so
/// that all workers get some.
pub(crate) fn send_all(client: &HttpClient, token: &str, requests: usize) -> JoinSet<Reply> {
    let mut replies = JoinSet::new();
    for _ in 0..requests {
        replies.spawn(client.fresh().get("/").bearer(token).send());
    }
    replies
}

/// Checks the statuses of replies.
pub(crate) async fn assert_all(replies: JoinSet<Reply>, status: u16) {
    for reply in replies.join_all().await {
        assert_eq!(reply.status, status, "{reply:?}");
    }
}

/// Waits until good tokens are accepted; until then they must get no answer but 503.
pub(crate) async fn wait_for_good(envoy: &Envoy, idp: &Idp) {
    wait_for("the first good reply", async || {
        let reply = envoy.http1().get("/").bearer(&idp.token()).send().await;
        match reply.status.as_u16() {
            200 => Some(()),
            _ => {
                assert_refused(&reply, 503, "issuer-unavailable");
                None
            }
        }
    })
    .await;
}

/// Waits until a fetch of a provider's keys had this result.
pub(crate) async fn wait_for_fetches(envoy: &Envoy, provider: &str, result: &str) {
    wait_for(
        &format!("a fetch of {provider} that is {result}"),
        async || {
            let labels = [("provider", provider), ("result", result)];
            (fetches(envoy, &labels).await >= 1.0).then_some(())
        },
    )
    .await;
}

/// Claims of [`ISSUER`] that are accepted, and others.
pub(crate) fn claims(others: Value) -> Value {
    let now = unix_time();
    let mut claims = json!({
        "iss": ISSUER,
        "sub": "alice",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 3_600,
    });
    merge(&mut claims, &others);
    claims
}

/// A document in which [`ISSUER`] has these keys.
pub(crate) fn document(algorithms: Value, keys: &[Value]) -> Value {
    json!({ "jwt_authz": { "providers": [{
        "name": "idp",
        "issuer": ISSUER,
        "audiences": AUDIENCE,
        "algorithms": algorithms,
        "jwks": { "inline": { "keys": keys } },
    }]}})
}

/// The APIs of some tests: a first part of a path each.
pub(crate) fn apis() -> Value {
    json!(
        ["accounts", "payments", "status"]
            .map(|name| { json!({ "name": name, "match": [{ "path": format!("/{name}/**") }] }) })
    )
}
