//! No key and no token is in anything that is written while the gateway runs.

mod common;
mod idp;

use common::sha256;
use idp::{Bearer as _, Idp};
use serde_json::json;
use tollgate_tests::{
    Algorithm, EchoUpstream, HttpClient, RequestBuilder, SigningKey, plugin, tamper_signature,
    wasm_filter,
};

/// Keys, each unlike anything else that is written. The first is good, the second has expired.
const KEYS: [&str; 4] = [
    "vi9Lheil5aeR",
    "Oor4ahz3eesh",
    "nu6Shoh2Aeth",
    "eeXa7aeneech",
];

/// The secret under which some keys are digested.
const PEPPER: &str = "ohquoo2aiPh5ahg0Eithoe4voo7uic1u";

/// A request with a secret in each place where one may be.
fn requests(client: &HttpClient, key: &str, token: &str) -> Vec<RequestBuilder> {
    let mut requests = Vec::new();
    for path in [
        "/keys",
        "/tokens",
        "/both",
        "/open",
        "/ended",
        "/keys/..%2fa",
        "/no-upstream",
    ] {
        let get = |query: &str| client.get(&format!("{path}{query}"));
        requests.extend([
            get("").header("x-api-key", key),
            get("").bearer(token),
            get("").header("x-api-key", key).bearer(token),
            get("").header("x-api-key", key).header("x-api-key", key),
            get("").header("x-token", token),
            get("").header("cookie", format!("a=b; key={key}; token={token}")),
            get(&format!("?api_key={key}&access_token={token}&page=2")),
            get(&format!(
                "?api%5Fkey={key}&access_token={token}&access_token={token}"
            )),
            get("")
                .header("x-api-key", key)
                .header("accept", "text/html"),
            client
                .grpc(path, b"x")
                .header("x-api-key", key)
                .bearer(token),
        ]);
    }
    requests
}

#[tokio::test]
async fn no_secret_is_in_anything_that_is_written() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let keys = |key: &str| json!({ "sha256": sha256(key) });
    let mut document = idp.document(json!({}));
    document["jwt_authz"]["token"] = json!({
        "headers": ["authorization", "x-token"],
        "query": "access_token",
        "cookies": "token",
    });
    document["apis"] = json!(
        ["keys", "tokens", "both", "open", "ended"]
            .map(|name| json!({ "name": name, "match": [{ "path": format!("/{name}/**") }] }))
    );
    document["request_id"] = json!({});
    document["problem_details"] = json!({});
    document["rate_limit"] = json!([
        { "name": "all", "key": "global", "rate": "1000/s", "count": "all" },
        { "name": "by-key", "key": { "header": "x-api-key" }, "rate": "6/h" },
        { "name": "by-query", "key": { "query": "api_key" }, "rate": "6/h" },
    ]);
    document["usage_plan"] = json!({
        "key": { "header": "x-api-key", "query": "api_key", "cookie": "key",
            "pepper": { "env": "TOLLGATE_PEPPER" } },
        "plans": { "gold": { "quota": { "limit": 20, "period": "year" } } },
        "consumers": [{ "id": "acme", "plan": "gold", "clients": [], "keys": [
            keys(KEYS[0]),
            { "sha256": sha256(KEYS[1]), "expires": "2020-01-01T00:00:00Z" },
        ]}],
    });
    document["access"] = json!([
        { "apis": ["open", "ended"], "require": "anonymous" },
        { "apis": ["keys"], "require": "api_key" },
        { "apis": ["tokens"], "require": "jwt" },
        { "require": { "all_of": ["jwt", "api_key"] }, "same_client": false },
    ]);
    document["sunset"] = json!([{ "api": "ended", "sunset": "2020-01-01T00:00:00Z" }]);
    let filter = tollgate_tests::WasmFilter::new("tollgate", plugin("tollgate"));
    let filter = filter
        .configuration(document.clone())
        .env("TOLLGATE_PEPPER", PEPPER);
    let envoy = tollgate_tests::Envoy::builder()
        .upstream(&upstream)
        .cluster(idp.issuer.cluster("idp"))
        .filter(filter)
        .route(json!({ "match": { "prefix": "/no-upstream" }, "route": { "cluster": "nowhere" } }))
        // Envoy itself logs all headers at this level, so it is that of the plugins alone.
        .arg("--component-log-level")
        .arg("wasm:trace")
        .map_listener(|listener| {
            let fields = ["authorization", "cookie", "x-token", "x-api-key", "referer"];
            let listener = fields.into_iter().fold(listener, |listener, name| {
                listener.log_field(name, &format!("%REQ({name})%"))
            });
            let listener = listener.log_field("sent", "%REQ(:PATH)%");
            listener.connection_manager(json!({ "route_config": { "validate_clusters": false } }))
        })
        .start()
        .await
        .unwrap();

    let good = idp.token();
    let stranger = SigningKey::new(Algorithm::ES256);
    let tokens = [
        good.clone(),
        tamper_signature(&good),
        idp.token_with(json!({ "exp": 1 })),
        stranger.token("nobody", idp.claims()),
        stranger.token("first", idp.claims()),
    ];
    let mut written = Vec::new();
    let mut sent = 0;
    for client in [envoy.http1(), envoy.http2()] {
        for key in KEYS {
            for token in &tokens {
                for request in requests(&client, key, token) {
                    let reply = request.send().await;
                    sent += 1;
                    // The upstream's answer repeats what it got, which is what is to be checked.
                    written.push(format!("{:?} {:?}", reply.headers, reply.body));
                }
            }
        }
    }
    written.push(format!("{:?}", envoy.wait_for_access_log(sent).await));
    for page in [
        "/stats",
        "/stats/prometheus",
        "/listeners?format=json",
        "/clusters",
    ] {
        written.push(envoy.admin_get(page).await);
    }
    // A document with secrets where digests belong is refused without repeating them.
    let mut wrong = document;
    wrong["usage_plan"]["consumers"][0]["keys"] = json!([{ "sha256": KEYS[0] }, KEYS[1]]);
    wrong["usage_plan"]["key"]["pepper"] = json!(PEPPER);
    wrong["jwt_authz"]["token"] = json!(good);
    let refused = tollgate_tests::Envoy::builder()
        .filter(wasm_filter("tollgate", plugin("tollgate"), wrong))
        .start()
        .await
        .err()
        .expect("a wrong document");
    let mistakes = refused
        .log()
        .lines()
        .filter(|line| line.contains("tollgate.wasm: "));
    written.extend(mistakes.map(str::to_owned));
    written.extend([envoy.log(), envoy.stdout()]);

    assert!(written.iter().any(|text| text.contains("api-key-expired")));
    assert!(
        written
            .iter()
            .any(|text| text.contains("signature-invalid"))
    );
    let secrets = KEYS.into_iter().chain([PEPPER]);
    let parts = tokens.iter().flat_map(|token| token.split('.').skip(1));
    for secret in secrets.chain(parts) {
        if let Some(text) = written.iter().find(|text| text.contains(secret)) {
            let at = text.find(secret).unwrap_or_default();
            let around: String = text
                .chars()
                .skip(at.saturating_sub(300))
                .take(600)
                .collect();
            panic!("{secret} is in: {around}");
        }
    }
}
