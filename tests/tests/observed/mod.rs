//! Gateways whose traffic brings about all that is shown of them.

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate_tests::{
    EchoUpstream, Envoy, Listener, Reply, RequestBuilder, cluster, plugin, test_plugin, unix_time,
    wasm_filter,
};

use crate::common::sha256;
use crate::idp::{Bearer as _, Idp};

/// How many clients the tables are made for.
const TABLE: usize = 32;

/// How many requests are under way: more than the table of their limit holds.
const HELD: usize = 4 * TABLE;

/// Gateways, and what is behind them.
pub(crate) struct Observed {
    /// With the full plugin.
    pub(crate) gateway: Envoy,
    /// With one that dies when it is asked to.
    pub(crate) mortal: Envoy,
    /// With quotas in a store that does not answer.
    pub(crate) stored: Envoy,
    idp: Idp,
    _upstream: EchoUpstream,
    /// Requests that stay under way.
    _held: JoinSet<()>,
    round: usize,
}

impl Observed {
    pub(crate) async fn start() -> Self {
        let upstream = EchoUpstream::start().await;
        let idp = Idp::start().await;
        let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        let gateway = Envoy::builder()
            .upstream(&upstream)
            .filter(wasm_filter("tollgate", plugin("tollgate"), document(&idp)))
            .cluster(idp.issuer.cluster("idp"))
            .cluster(cluster("down", nobody))
            .dynamic_listener()
            .start()
            .await
            .unwrap();
        let mortal = Envoy::builder()
            .upstream(&upstream)
            .filter(wasm_filter(
                "mortal",
                test_plugin("trap"),
                json!({ "trap": {} }),
            ))
            .concurrency(1)
            .start()
            .await
            .unwrap();
        let stored = Envoy::builder()
            .upstream(&upstream)
            .filter(wasm_filter(
                "stored",
                plugin("usage-plan"),
                stored_document(),
            ))
            .cluster(cluster("down", nobody))
            .start()
            .await
            .unwrap();
        let mut held = JoinSet::new();
        for number in 0..HELD {
            let request = gateway.http1().get("/held");
            let request = request.header("x-held", number.to_string());
            let request = request.header("x-echo-hold", "for ever");
            held.spawn(async {
                let _ = request.try_send().await;
            });
        }
        gateway
            .wait_for_stats("a full table", |stats| {
                stats.sum("tollgate_uncounted_total", &[]) > 0.0
            })
            .await;
        Self {
            gateway,
            mortal,
            stored,
            idp,
            _upstream: upstream,
            _held: held,
            round: 0,
        }
    }

    /// Sends a request for each outcome.
    pub(crate) async fn send(&mut self) {
        self.round += 1;
        let client = self.gateway.http1();
        let acme = |path: &str| client.get(path).header("x-api-key", "acme-key");
        assert_status(acme("/accounts/1"), 200).await;
        assert_status(acme("/old/1"), 200).await;
        assert_status(client.get("/accounts/1").header("x-api-key", "other"), 401).await;
        // The second at the latest.
        let curio = || client.get("/accounts/1").header("x-api-key", "curio-key");
        curio().send().await;
        assert_status(curio(), 429).await;
        assert_status(client.get("/tokens").bearer(&self.idp.token()), 200).await;
        let of_nobody = json!({ "iss": "https://nobody.example/" });
        let token = self.idp.token_with(of_nobody);
        assert_status(client.get("/tokens").bearer(&token), 503).await;
        // All that no other request has: they are more than the table holds.
        for number in 0..=TABLE {
            let own = format!("{}-{number}", self.round);
            assert_status(client.get("/flood").header("x-client", own), 200).await;
        }
        client.get("/flood").send().await;
        assert_status(client.get("/flood"), 429).await;
        assert_status(client.get("/tried"), 200).await;
        let stored = self.stored.http1().get("/").header("x-api-key", "acme-key");
        assert_status(stored, 200).await;
        assert_status(self.mortal.http1().get("/").header("x-trap", "1"), 503).await;
    }

    /// Has an update refused.
    pub(crate) async fn refuse_update(&mut self) {
        let wrong = wasm_filter("tollgate", plugin("tollgate"), json!({}));
        let wrong = Listener::new().filter(wrong);
        let update = self.gateway.update_listener(&wrong).await;
        update.expect_err("an update that is refused");
    }
}

async fn assert_status(request: RequestBuilder, status: u16) -> Reply {
    let reply = request.send().await;
    assert_eq!(reply.status, status, "{reply:?}");
    reply
}

/// Quotas in a store.
fn stored_document() -> Value {
    json!({ "usage_plan": {
        "store": {
            "redis_http": { "cluster": "down", "url": "http://redis.example/", "dialect": "webdis" },
            "envoys": 2,
            "on_store_failure": "allow",
        },
        "plans": { "gold": { "quota": { "limit": 1_000_000, "period": "month" } } },
        "consumers": [
            { "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256("acme-key") }] },
        ],
    } })
}

/// A document with every section that counts something but a store.
fn document(idp: &Idp) -> Value {
    let in_a_week = jiff::Timestamp::from_second(unix_time() + 7 * 86_400).unwrap();
    let in_a_week = in_a_week.to_string();
    let key = |key: &str| json!([{ "sha256": sha256(key) }]);
    let mut nobody = idp.provider(json!({ "cluster": "down" }));
    nobody["name"] = json!("nobody");
    nobody["issuer"] = json!("https://nobody.example/");
    let free = ["/flood", "/tried", "/held"].map(|path| json!({ "path": path }));
    json!({
        "apis": [
            { "name": "accounts", "match": [{ "path": "/accounts/**" }] },
            { "name": "old", "match": [{ "path": "/old/**" }] },
            { "name": "tokens", "match": [{ "path": "/tokens" }] },
            { "name": "free", "match": free },
        ],
        "rate_limit": [
            { "name": "flood", "match": { "path": "/flood" }, "key": { "header": "x-client" },
              "rate": "1/day", "max_clients": TABLE },
            { "name": "tried", "match": { "path": "/tried" }, "key": "global",
              "rate": "1/day", "mode": "shadow" },
            { "name": "held", "match": { "path": "/held" }, "key": { "header": "x-held" },
              "concurrent": 1, "max_clients": TABLE },
        ],
        "jwt_authz": {
            "providers": [idp.provider(json!({})), nobody],
            "cache": { "max_tokens": 0 },
        },
        "access": [
            { "apis": ["tokens"], "require": "jwt" },
            { "apis": ["free"], "require": "anonymous" },
            { "require": "api_key" },
        ],
        "sunset": [{ "api": "old", "deprecated": "2020-09-15T00:00:00Z", "sunset": in_a_week }],
        "usage_plan": {
            "plans": {
                "gold": { "quota": { "limit": 1_000_000, "period": "month" } },
                "trial": { "quota": { "limit": 1, "period": "year" } },
                "public": { "throttle": "100000/s" },
            },
            "token": { "plan": "public" },
            "anonymous": { "plan": "public" },
            "consumers": [
                { "id": "acme", "plan": "gold", "keys": key("acme-key") },
                { "id": "curio", "plan": "trial", "keys": key("curio-key") },
            ],
        },
    })
}
