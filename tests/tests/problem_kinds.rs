//! Every kind of problem from every source, in every form, with all the headers that belong to it.

mod common;
mod errors;
mod idp;

use std::collections::BTreeSet;

use common::sha256;
use errors::{Answer, Case, Connection, MEDIA, assert_whole, gateway_with, of_envoy, of_upstream};
use http::Method;
use idp::claims;
use serde_json::{Value, json};
use tollgate_core::chain::Chain;
use tollgate_core::plugin::{Bare, Plugin};
use tollgate_plugins::Tollgate;
use tollgate_tests::{
    Algorithm, EchoUpstream, Envoy, HttpClient, SigningKey, cluster, merge, unix_time, wait_for,
};

/// The chain of the full plugin.
type Full = Chain<<Tollgate as Plugin>::Policies<Bare>>;

/// Kinds that no request can bring about here, and why.
const ELSEWHERE: [(&str, &str); 18] = [
    (
        "gateway-crowded",
        "needs a thousand requests that wait: jwt_waiting",
    ),
    ("gateway-fault", "Envoy would have to fail"),
    ("limit-unavailable", "shared data would have to fail"),
    ("usage-unavailable", "shared data would have to fail"),
    ("client-certificate-not-allowed", "needs TLS: access_mtls"),
    ("upstream-refused", "is for wrap: [upstream_bare_4xx]"),
    ("request-refused", "is for details that nobody knows"),
    (
        "request-malformed",
        "is refused before the plugin, most often",
    ),
    (
        "credentials-invalid",
        "as credentials-missing of Envoy's filters",
    ),
    (
        "upgrade-refused",
        "is refused before the plugin, most often",
    ),
    ("request-timeout", "as upstream-timeout"),
    ("http-version-unsupported", "is refused before the plugin"),
    ("request-headers-too-large", "is refused before the plugin"),
    ("gateway-error", "is for details that nobody knows"),
    ("upstream-response-invalid", "as upstream-reset"),
    ("upstream-overloaded", "as upstream-unavailable"),
    ("gateway-overloaded", "as upstream-unavailable"),
    ("request-too-large", "has a test of its own below"),
];

const APP: &str = "https://app.bank.example";

/// A request that is refused.
struct Refusal {
    kind: &'static str,
    status: u16,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
}

fn refusal(
    kind: &'static str,
    status: u16,
    path: &'static str,
    headers: &[(&'static str, &str)],
) -> Refusal {
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| (*name, (*value).to_owned()));
    Refusal {
        kind,
        status,
        path,
        headers: headers.collect(),
    }
}

/// Refusals of keys, plans, limits and versions.
fn refusals() -> Vec<Refusal> {
    const KEY: &str = "x-api-key";
    vec![
        refusal("request-ambiguous", 400, "/x/open/a%2Fb", &[]),
        refusal("credentials-missing", 401, "/x/keyed/1", &[]),
        refusal(
            "api-key-repeated",
            400,
            "/x/keyed/1",
            &[(KEY, "acme-key"), (KEY, "acme-key")],
        ),
        refusal("api-key-unknown", 401, "/x/keyed/1", &[(KEY, "a-guess")]),
        refusal(
            "api-key-not-yet-valid",
            401,
            "/x/keyed/1",
            &[(KEY, "later-key")],
        ),
        refusal("api-key-expired", 401, "/x/keyed/1", &[(KEY, "old-key")]),
        refusal("api-not-in-plan", 403, "/x/private/1", &[(KEY, "acme-key")]),
        refusal("throttled", 429, "/x/keyed/1", &[(KEY, "slow-key")]),
        refusal("quota-exceeded", 429, "/x/keyed/1", &[(KEY, "poor-key")]),
        refusal("client-certificate-missing", 403, "/x/cert/1", &[]),
        refusal("rate-limited", 429, "/x/limited/1", &[]),
        refusal("rate-limited", 429, "/x/shielded/1", &[]),
        refusal("client-blocked", 429, "/x/blocked/1", &[]),
        refusal("concurrency-limited", 429, "/x/crowded/1", &[]),
        refusal("api-retired", 410, "/x/retired/1", &[]),
        refusal("api-moved", 308, "/x/moved/1", &[]),
        refusal("api-brownout", 410, "/x/dark/1", &[]),
        refusal("api-unavailable", 503, "/x/dim/1", &[]),
    ]
}

/// The keys of the issuer.
struct Keys {
    es: SigningKey,
    rs: SigningKey,
    ps: SigningKey,
}

impl Keys {
    fn new() -> Self {
        let [es, rs, ps] =
            [Algorithm::ES256, Algorithm::RS256, Algorithm::PS256].map(SigningKey::new);
        Keys { es, rs, ps }
    }

    fn token(&self, others: Value) -> String {
        self.es.token("es", claims(others))
    }

    fn with_header(&self, others: Value) -> String {
        let mut header = json!({ "alg": "ES256", "kid": "es" });
        merge(&mut header, &others);
        self.es.token_with_header(header, claims(json!({})))
    }

    /// Refusals of tokens.
    fn refusals(&self) -> Vec<Refusal> {
        let now = unix_time();
        let mut endless = claims(json!({}));
        endless.as_object_mut().unwrap().remove("exp");
        let bad = [
            (
                "algorithm-not-allowed",
                self.ps.token("rs", claims(json!({}))),
            ),
            ("audience-mismatch", self.token(json!({ "aud": "other" }))),
            ("claim-malformed", self.token(json!({ "exp": "soon" }))),
            ("claim-missing", self.es.token("es", endless)),
            (
                "issuer-unknown",
                self.token(json!({ "iss": "https://other.example/" })),
            ),
            (
                "key-ambiguous",
                self.rs
                    .token_with_header(json!({ "alg": "RS256" }), claims(json!({}))),
            ),
            ("key-unfit", self.with_header(json!({ "kid": "rs" }))),
            ("key-unknown", self.with_header(json!({ "kid": "nobody" }))),
            (
                "signature-invalid",
                self.es.successor().token("es", claims(json!({}))),
            ),
            (
                "token-bound",
                self.token(json!({ "cnf": { "jkt": "abc" } })),
            ),
            ("token-encrypted", "a.b.c.d.e".to_owned()),
            ("token-expired", self.token(json!({ "exp": now - 600 }))),
            (
                "token-extension-unsupported",
                self.with_header(json!({ "crit": ["exp"], "exp": 1 })),
            ),
            (
                "token-issued-in-future",
                self.token(json!({ "iat": now + 600 })),
            ),
            (
                "token-lifetime-too-long",
                self.token(json!({ "exp": 1e300 })),
            ),
            ("token-malformed", "a.b".to_owned()),
            (
                "token-not-yet-valid",
                self.token(json!({ "nbf": now + 600 })),
            ),
            ("token-too-long", "x".repeat(17 << 10)),
            (
                "token-type-mismatch",
                self.with_header(json!({ "typ": "logout+jwt" })),
            ),
        ];
        let bearer = |token: &str| format!("Bearer {token}");
        let of_token = |kind, status, path, token: &str| {
            refusal(kind, status, path, &[("authorization", &bearer(token))])
        };
        let good = self.token(json!({}));
        let far = self.token(json!({ "iss": "https://far.example/" }));
        let mut refusals: Vec<Refusal> = bad
            .iter()
            .map(|(kind, token)| of_token(kind, 401, "/x/token/1", token))
            .collect();
        refusals.extend([
            of_token("issuer-unavailable", 503, "/x/token/1", &far),
            of_token("scope-insufficient", 403, "/x/scoped/1", &good),
            of_token("claims-insufficient", 403, "/x/claimed/1", &good),
            of_token("plan-missing", 403, "/x/token/1", &good),
            refusal(
                "token-empty",
                400,
                "/x/token/1",
                &[("authorization", "Bearer")],
            ),
            refusal(
                "token-repeated",
                400,
                "/x/token/1",
                &[
                    ("authorization", &bearer(&good)),
                    ("authorization", &bearer(&good)),
                ],
            ),
            refusal(
                "client-mismatch",
                403,
                "/x/both/1",
                &[("authorization", &bearer(&good)), ("x-api-key", "acme-key")],
            ),
        ]);
        refusals
    }

    fn provider(&self) -> Value {
        json!({
            "name": "idp",
            "issuer": idp::ISSUER,
            "audiences": idp::AUDIENCE,
            "algorithms": ["ES256", "RS256"],
            "max_lifetime": "1d",
            "jwks": { "inline": { "keys": [
                self.es.jwk("es"), self.rs.jwk("rs"), self.rs.jwk("rs-too"),
            ] } },
        })
    }
}

/// Whether a consumer has an end of its own, so that versions are judged late.
#[derive(Clone, Copy, PartialEq)]
enum Grace {
    None,
    Some,
}

/// Everything that this test asks for, in one document.
fn document(keys: &Keys, grace: Grace) -> Value {
    let names = [
        "open", "keyed", "token", "scoped", "claimed", "both", "cert", "private", "limited",
        "shielded", "blocked", "crowded", "retired", "moved", "dark", "dim",
    ];
    let mut apis = vec![json!({ "name": "accounts", "match": { "path": "/accounts/{**}" } })];
    apis.extend(names.map(|name| {
        let path = format!("/x/{name}/{{**}}");
        json!({ "name": name, "match": { "path": path } })
    }));
    let consumer = |id: &str, plan: &str, others: Value| {
        let mut key = json!({ "sha256": sha256(&format!("{id}-key")) });
        merge(&mut key, &others);
        json!({ "id": id, "plan": plan, "keys": [key] })
    };
    let life = |api: &str, others: Value| {
        let mut life = json!({
            "api": api,
            "deprecated": "2020-09-15T00:00:00Z",
            "sunset": "2100-03-15T00:00:00Z",
            "successor": "/v2/{**}",
            "docs": "https://dev.bank.example/v2",
        });
        if grace == Grace::Some {
            life["grace"] = json!({ "old": "2101-03-15T00:00:00Z" });
        }
        merge(&mut life, &others);
        life
    };
    let ends = ["retired", "moved", "dark", "dim"];
    let lives = names.iter().filter(|name| !ends.contains(name));
    let mut lives: Vec<Value> = lives.map(|name| life(name, json!({}))).collect();
    let dark = |answer: &str| {
        json!({ "brownouts": [{
            "from": "2021-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z", "answer": answer,
        }] })
    };
    let over = json!({ "sunset": "2021-03-15T00:00:00Z" });
    let mut moved = over.clone();
    moved["after_sunset"] = "redirect".into();
    lives.extend([
        life("accounts", json!({})),
        life("retired", over),
        life("moved", moved),
        life("dark", dark("gone")),
        life("dim", dark("unavailable")),
    ]);
    let limit = |name: &str, others: Value| {
        let path = format!("/x/{name}/**");
        let mut limit = json!({ "name": name, "key": "global", "match": { "path": path } });
        merge(&mut limit, &others);
        limit
    };
    let rule = |api: &str, require: Value| json!({ "apis": [api], "require": require });
    json!({
        "apis": apis,
        "request_id": {},
        "problem_details": {
            "wrap": ["gateway", "upstream_bare_5xx"],
            "cors": { "allow_origins": [APP], "allow_credentials": true },
        },
        "rate_limit": [
            { "name": "all", "key": "global", "rate": "1000000/s", "burst": 1_000_000, "count": "all" },
            limit("limited", json!({ "rate": "1/day", "burst": 1 })),
            limit("shielded", json!({ "rate": "1/day", "burst": 1, "count": "all" })),
            limit("blocked", json!({
                "rate": "1/day", "burst": 1, "on_exceed": { "block_for": "1d" },
            })),
            limit("crowded", json!({ "concurrent": 1, "lease": "1h" })),
        ],
        "jwt_authz": { "providers": [keys.provider(), {
            "name": "far",
            "issuer": "https://far.example/",
            "audiences": idp::AUDIENCE,
            "algorithms": "ES256",
            "jwks": {
                "cluster": "far", "url": "https://far.example/jwks", "max_wait": "10ms",
            },
        }] },
        "usage_plan": {
            "plans": {
                "gold": { "apis": names.iter().filter(|name| **name != "private").chain(&["accounts"]).collect::<Vec<_>>() },
                "slow": { "throttle": { "rate": "1/day", "burst": 1 } },
                "poor": { "quota": { "limit": 1, "period": "year" } },
            },
            "anonymous": { "plan": "gold" },
            "token": { "plan_claim": "plan", "providers": ["idp"] },
            "consumers": [
                consumer("acme", "gold", json!({})),
                consumer("later", "gold", json!({ "not_before": "2099-01-01T00:00:00Z" })),
                consumer("old", "gold", json!({ "expires": "2020-01-01T00:00:00Z" })),
                consumer("slow", "slow", json!({})),
                consumer("poor", "poor", json!({})),
            ],
        },
        "access": [
            rule("keyed", json!("api_key")),
            rule("private", json!("api_key")),
            rule("token", json!("jwt")),
            rule("scoped", json!({ "any_of": [{ "jwt": { "scopes": "read" } }] })),
            rule("claimed", json!({ "any_of": [{ "jwt": { "claims": [{ "claim": "tier", "one_of": ["gold"] }] } }] })),
            rule("both", json!({ "all_of": ["jwt", "api_key"] })),
            rule("cert", json!("mtls")),
            { "require": "anonymous" },
        ],
        "sunset": lives,
    })
}

/// Checks that every header is there that belongs to an answer, whoever gives it.
fn assert_complete(answer: &Answer, kind: &str, what: &str) {
    assert_eq!(answer.only("x-request-id").len(), 36, "{what}");
    assert_eq!(answer.only("access-control-allow-origin"), APP, "{what}");
    assert_eq!(
        answer.only("access-control-allow-credentials"),
        "true",
        "{what}"
    );
    let exposed = answer.only("access-control-expose-headers").to_lowercase();
    // What can be read in two ways belongs to no API, so it meets no limit and has no life.
    if kind != "request-ambiguous" {
        // A limit that counts all requests is the last that is met if it refuses.
        let limits = ["\"all\";", "\"shielded\";"];
        for name in ["ratelimit", "ratelimit-policy"] {
            let told = answer.only(name);
            let is_told = limits.iter().any(|limit| told.contains(limit));
            assert!(is_told, "{what}: {answer:?}");
        }
        assert_eq!(answer.only("deprecation"), "@1600128000", "{what}");
        assert!(answer.only("sunset").ends_with(" GMT"), "{what}");
        let links = answer.only("link");
        for relation in ["deprecation", "sunset", "successor-version"] {
            assert!(
                links.contains(&format!("rel=\"{relation}\"")),
                "{what}: {links}"
            );
        }
        for name in ["ratelimit", "deprecation", "sunset", "link"] {
            assert!(exposed.contains(name), "{what}: {exposed}");
        }
    }
    let status = answer.status;
    if status == 401 {
        assert!(
            !answer.all("www-authenticate").is_empty(),
            "{what}: {answer:?}"
        );
    }
    let is_ours = !kind.starts_with("upstream-") && kind != "too-many-requests";
    if matches!(status, 429 | 503) && is_ours {
        let seconds: u64 = answer.only("retry-after").parse().unwrap();
        assert!(seconds > 0 && exposed.contains("retry-after"), "{what}");
    }
    if status == 308 {
        assert_eq!(answer.only("location"), "/v2/1", "{what}");
    }
}

/// The code that stands for a status (docs/problems.md).
fn grpc_code(status: u16) -> u32 {
    match status {
        400 => 3,
        401 => 16,
        403 => 7,
        404 | 410 => 12,
        429 => 8,
        500 => 13,
        308 => 2,
        _ => 14,
    }
}

/// Uses up what is to be used up, and lets one request stay.
async fn prepare(envoy: &Envoy, upstream: &EchoUpstream) -> tokio::task::JoinHandle<()> {
    let client = envoy.http1();
    for path in ["/x/limited/1", "/x/shielded/1", "/accounts/limited"] {
        assert_eq!(client.get(path).send().await.status, 200, "{path}");
    }
    for key in ["slow-key", "poor-key"] {
        let request = client.get("/x/keyed/1").header("x-api-key", key);
        assert_eq!(request.send().await.status, 200, "{key}");
    }
    wait_for("the client to be blocked", async || {
        let reply = client.get("/x/blocked/1").send().await;
        (reply.status == 429 && reply.json()["kind"] == "client-blocked").then_some(())
    })
    .await;
    let before = upstream.count();
    let held = envoy
        .http1()
        .get("/x/crowded/1")
        .header("x-echo-hold", "gate");
    let held = tokio::spawn(async move {
        assert_eq!(held.send().await.status, 200);
    });
    upstream.wait_for_count(before + 1).await;
    held
}

#[tokio::test]
async fn every_kind_of_every_source_is_whole_in_every_form() {
    walk(Grace::None).await;
}

#[tokio::test]
async fn every_kind_is_whole_where_versions_are_judged_late() {
    walk(Grace::Some).await;
}

async fn walk(grace: Grace) {
    let upstream = EchoUpstream::start().await;
    let keys = Keys::new();
    let mut refusals = refusals();
    refusals.extend(keys.refusals());
    let cases: Vec<Case> = of_envoy().into_iter().chain(of_upstream()).collect();
    refusals.extend(
        cases
            .iter()
            .map(|case| refusal(case.kind.unwrap(), case.status, case.path, &[])),
    );
    let others = [json!({ "match": { "prefix": "/x/" }, "route": { "cluster": "echo" } })];
    let closed = "127.0.0.1:1".parse().unwrap();
    let envoy = gateway_with(&upstream, &cases, &others, document(&keys, grace))
        .cluster(cluster("far", closed))
        .start()
        .await
        .unwrap();
    let held = prepare(&envoy, &upstream).await;
    for mut connection in [
        Connection::Http1(envoy.raw().await),
        Connection::Http2(envoy.http2()),
    ] {
        for refusal in &refusals {
            for (accept, media) in MEDIA {
                for method in [Method::GET, Method::HEAD] {
                    let mut headers = vec![("origin", APP)];
                    headers.extend(
                        refusal
                            .headers
                            .iter()
                            .map(|(name, value)| (*name, value.as_str())),
                    );
                    headers.extend(accept.map(|accept| ("accept", accept)));
                    let answer = connection.send(&method, refusal.path, &headers).await;
                    if answer.is_last() {
                        connection = Connection::Http1(envoy.raw().await);
                    }
                    let Refusal {
                        kind, status, path, ..
                    } = refusal;
                    let what = format!("{kind} {method} {path} {accept:?}");
                    assert_whole(&answer, &what, (*status, kind), media, &method);
                    let vary = answer.all("vary").join(", ");
                    assert!(
                        vary.contains("accept") && vary.contains("origin"),
                        "{what}: {vary}"
                    );
                    assert_complete(&answer, kind, &what);
                }
            }
        }
    }
    assert_calls_fail_alike(&envoy.http2(), &refusals).await;
    upstream.release("gate", 1);
    held.await.unwrap();
    let seen: BTreeSet<&str> = refusals.iter().map(|refusal| refusal.kind).collect();
    let elsewhere = ELSEWHERE.iter().map(|(kind, _)| *kind);
    let known: BTreeSet<&str> = Full::kinds().iter().map(|kind| kind.name).collect();
    let walked: BTreeSet<&str> = seen.iter().copied().chain(elsewhere).collect();
    assert_eq!(walked, known);
}

async fn assert_calls_fail_alike(client: &HttpClient, refusals: &[Refusal]) {
    for Refusal {
        kind,
        status,
        path,
        headers,
    } in refusals
    {
        let mut call = client.grpc(path, b"hello").header("origin", APP);
        for (name, value) in headers {
            call = call.header(*name, value.as_str());
        }
        let reply = call.send().await;
        let what = format!("{kind} gRPC {path}: {reply:?}");
        assert_eq!(reply.status, 200, "{what}");
        assert_eq!(
            reply.header("content-type"),
            Some("application/grpc"),
            "{what}"
        );
        assert_eq!(reply.grpc_status(), Some(grpc_code(*status)), "{what}");
        assert!(
            reply
                .grpc_message()
                .is_some_and(|message| message.ends_with('.')),
            "{what}"
        );
        assert!(reply.body.is_empty(), "{what}");
        let answer = Answer {
            status: *status,
            ..Answer::of(&reply)
        };
        assert_complete(&answer, kind, &what);
    }
}

#[tokio::test]
async fn a_body_too_large_is_refused_in_every_form() {
    let upstream = EchoUpstream::start().await;
    let keys = Keys::new();
    let others = [json!({ "match": { "prefix": "/x/" }, "route": { "cluster": "echo" } })];
    let closed = "127.0.0.1:1".parse().unwrap();
    let envoy = gateway_with(&upstream, &[], &others, document(&keys, Grace::None))
        .cluster(cluster("far", closed))
        .start()
        .await
        .unwrap();
    for client in [envoy.http1(), envoy.http2()] {
        for (accept, media) in MEDIA {
            let mut request = client.post("/x/open/1").header("origin", APP);
            if let Some(accept) = accept {
                request = request.header("accept", accept);
            }
            let reply = request.body(vec![b'x'; 1 << 16]).send().await;
            let answer = Answer::of(&reply);
            let what = format!("{accept:?}");
            assert_whole(
                &answer,
                &what,
                (413, "request-too-large"),
                media,
                &Method::POST,
            );
            assert_complete(&answer, "request-too-large", &what);
        }
    }
}
