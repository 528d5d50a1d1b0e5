//! Access rules on the real Envoy: tokens, API keys and client certificates, any or all of them, and
//! what they grant.

mod common;
mod idp;

use common::sha256;
use http::Method;
use idp::{Bearer, CHALLENGE, apis, assert_refused, claims, document, gateway};
use serde_json::{Value, json};
use tollgate_tests::{
    Algorithm, EchoUpstream, Reply, RequestBuilder, SigningKey, http2_cluster, merge,
};

const API_KEY_CHALLENGE: &str = "ApiKey realm=\"api\"";

/// Who signs the tokens of these tests.
struct Signer(SigningKey);

impl Signer {
    fn new() -> Self {
        Self(SigningKey::new(Algorithm::ES256))
    }

    /// A good token with more claims.
    fn token(&self, others: Value) -> String {
        self.0.token("first", claims(others))
    }

    /// The section that accepts its tokens.
    fn section(&self) -> Value {
        document(json!("ES256"), &[self.0.jwk("first")])["jwt_authz"].take()
    }
}

/// Two consumers with a key each, on plans of their own.
fn usage_plan() -> Value {
    json!({
        "plans": { "gold": {}, "bronze": {} },
        "consumers": [
            { "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256("acme-key") }] },
            {
                "id": "umbrella",
                "plan": "bronze",
                "keys": [{ "sha256": sha256("umbrella-key") }],
                "clients": ["umbrella-app", { "provider": "idp", "id": "umbrella-web" }],
            },
        ],
    })
}

fn challenges(reply: &Reply) -> Vec<&str> {
    reply.header_values("www-authenticate")
}

/// Adds an API key.
fn key(request: RequestBuilder, key: &str) -> RequestBuilder {
    request.header("x-api-key", key)
}

#[tokio::test]
async fn without_rules_everything_is_needed() {
    let upstream = EchoUpstream::start().await;
    let signer = Signer::new();
    let document = json!({ "jwt_authz": signer.section(), "usage_plan": usage_plan() });
    let envoy = gateway("tollgate", &upstream, document)
        .start()
        .await
        .unwrap();
    let token = signer.token(json!({ "client_id": "acme" }));
    for client in [envoy.http1(), envoy.http2()] {
        let reply = client.get("/").send().await;
        assert_refused(&reply, 401, "credentials-missing");
        // A field each, so that no parser has to take them apart.
        assert_eq!(challenges(&reply), [CHALLENGE, API_KEY_CHALLENGE]);
        assert_eq!(
            reply.json()["detail"],
            "This API needs a bearer token and an API key, and not all of it was sent."
        );
        for request in [
            client.get("/").bearer(&token),
            key(client.get("/"), "acme-key"),
        ] {
            let reply = request.send().await;
            assert_refused(&reply, 401, "credentials-missing");
            assert_eq!(challenges(&reply), [CHALLENGE, API_KEY_CHALLENGE]);
        }
        let reply = key(client.get("/").bearer(&token), "guess").send().await;
        assert_refused(&reply, 401, "api-key-unknown");
        assert_eq!(challenges(&reply), [API_KEY_CHALLENGE, CHALLENGE]);

        let expired = signer.token(json!({ "exp": 1 }));
        let reply = key(client.get("/").bearer(&expired), "acme-key")
            .send()
            .await;
        assert_refused(&reply, 401, "token-expired");
        let challenge = format!(
            "{CHALLENGE}, error=\"invalid_token\", error_description=\"The token has expired.\""
        );
        assert_eq!(challenges(&reply), [challenge.as_str(), API_KEY_CHALLENGE]);

        let reply = key(client.get("/").bearer(&token), "acme-key").send().await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.echo().header("x-consumer-id"), Some("acme"));
        for name in ["authorization", "x-api-key"] {
            assert_eq!(reply.echo().header(name), None);
        }
        // One client's token with another's key.
        for claims in [
            json!({ "client_id": "umbrella-app" }),
            json!({ "azp": "nobody" }),
            json!({}),
        ] {
            let request = client.get("/").bearer(&signer.token(claims));
            let reply = key(request, "acme-key").send().await;
            assert_refused(&reply, 403, "client-mismatch");
        }
    }
    let raw = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut client = envoy.raw().await;
    client.send(raw).await;
    let reply = client.read_reply().await;
    assert_eq!(reply.header_values("www-authenticate").count(), 2);
}

#[tokio::test]
async fn one_of_several_is_enough() {
    let upstream = EchoUpstream::start().await;
    let signer = Signer::new();
    let document = json!({
        "apis": apis(),
        "jwt_authz": signer.section(),
        "usage_plan": usage_plan(),
        "access": [
            { "apis": ["status"], "require": "anonymous" },
            { "apis": ["payments"], "require": { "any_of": [
                { "all_of": [{ "jwt": { "scopes": "payments:write" } }, "api_key"] },
                { "jwt": { "scopes": "payments:admin" } },
            ]}},
            { "require": { "any_of": ["jwt", "api_key"] } },
        ],
    });
    let envoy = gateway("tollgate", &upstream, document)
        .start()
        .await
        .unwrap();
    let client = envoy.http1();
    let token = |scope: &str| signer.token(json!({ "client_id": "acme", "scope": scope }));
    let expired = signer.token(json!({ "exp": 1 }));
    let (write, admin) = (token("a payments:write"), token("payments:admin b"));
    let found = signer.token(json!({ "client_id": "umbrella-app", "scope": "payments:write" }));
    for (what, request, status, kind) in [
        ("nothing at all", client.get("/status"), 200, ""),
        // What nobody asks for is not looked at.
        ("a bad token", client.get("/status").bearer("x"), 200, ""),
        (
            "a token",
            client.get("/accounts").bearer(&token("")),
            200,
            "",
        ),
        ("a key", key(client.get("/accounts"), "acme-key"), 200, ""),
        (
            "both",
            key(client.get("/accounts").bearer(&write), "acme-key"),
            200,
            "",
        ),
        // Whoever has two needs only one.
        (
            "a good key",
            key(client.get("/accounts").bearer(&expired), "acme-key"),
            200,
            "",
        ),
        (
            "a good token",
            key(client.get("/accounts").bearer(&write), "guess"),
            200,
            "",
        ),
        ("none", client.get("/accounts"), 401, "credentials-missing"),
        (
            "an old token",
            client.get("/accounts").bearer(&expired),
            401,
            "token-expired",
        ),
        (
            "a bad key",
            key(client.get("/accounts"), "guess"),
            401,
            "api-key-unknown",
        ),
        ("an admin", client.get("/payments").bearer(&admin), 200, ""),
        (
            "write and a key",
            key(client.get("/payments").bearer(&write), "acme-key"),
            200,
            "",
        ),
        (
            "somebody else's token and a key",
            key(client.get("/payments").bearer(&found), "acme-key"),
            403,
            "client-mismatch",
        ),
        (
            "write alone",
            client.get("/payments").bearer(&write),
            403,
            "scope-insufficient",
        ),
        (
            "a key alone",
            key(client.get("/payments"), "acme-key"),
            401,
            "credentials-missing",
        ),
    ] {
        let reply = request.send().await;
        match status {
            200 => assert_eq!(reply.status, 200, "{what}: {reply:?}"),
            _ => assert_refused(&reply, status, kind),
        }
    }
    assert_eq!(upstream.count(), 9);
}

#[tokio::test]
async fn methods_need_their_scopes() {
    let upstream = EchoUpstream::start().await;
    let signer = Signer::new();
    let document = json!({
        "apis": apis(),
        "jwt_authz": signer.section(),
        "access": [
            { "apis": ["accounts"], "methods": ["GET", "HEAD"], "scopes": "accounts:read" },
            {
                "apis": ["accounts"],
                "scopes": ["accounts:read", "accounts:write"],
                "allow_preflight": true,
            },
            { "apis": ["payments"], "scopes": { "any_of": ["payments", "admin"] } },
            { "apis": ["status"], "claims": [
                { "claim": ["realm_access", "roles"], "contains": "operator" },
                { "claim": "tier", "one_of": ["gold", "silver"] },
            ]},
        ],
    });
    let envoy = gateway("jwt-authz", &upstream, document)
        .start()
        .await
        .unwrap();
    let client = envoy.http2();
    let scopes = |scopes: Value| signer.token(json!({ "scope": scopes }));
    let read = scopes(json!("accounts:read openid"));
    let write = scopes(json!(["accounts:read", "accounts:write"]));
    let insufficient = |reply: &Reply, scope: &str| {
        assert_refused(reply, 403, "scope-insufficient");
        let challenge = format!(
            "{CHALLENGE}, error=\"insufficient_scope\", error_description=\"The token lacks a \
             scope that this API needs\", scope=\"{scope}\""
        );
        assert_eq!(challenges(reply), [challenge.as_str()]);
        assert_eq!(reply.json()["scope"], scope);
    };
    let send = async |method: Method, path: &str, token: &str| {
        client.request(method, path).bearer(token).send().await
    };
    assert_eq!(send(Method::GET, "/accounts/1", &read).await.status, 200);
    assert_eq!(send(Method::HEAD, "/accounts/1", &read).await.status, 200);
    for method in [Method::POST, Method::DELETE, Method::OPTIONS, Method::TRACE] {
        let reply = send(method, "/accounts/1", &read).await;
        insufficient(&reply, "accounts:read accounts:write");
    }
    assert_eq!(send(Method::POST, "/accounts/1", &write).await.status, 200);
    for token in [
        scopes(json!("accounts:reader ACCOUNTS:READ")),
        scopes(json!("accounts:read,accounts:write")),
        scopes(json!(["accounts:read accounts:write"])),
        scopes(json!({ "accounts:read": true })),
        signer.token(json!({})),
    ] {
        insufficient(
            &send(Method::GET, "/accounts/1", &token).await,
            "accounts:read",
        );
    }
    for scope in ["payments", "admin x"] {
        let reply = send(Method::PUT, "/payments", &scopes(json!(scope))).await;
        assert_eq!(reply.status, 200);
    }
    let reply = send(Method::PUT, "/payments", &read).await;
    assert_eq!(reply.status, 403);

    let operator = json!({ "realm_access": { "roles": ["a", "operator"] }, "tier": "gold" });
    let reply = send(Method::GET, "/status", &signer.token(operator.clone())).await;
    assert_eq!(reply.status, 200);
    for claims in [
        json!({ "tier": "lead" }),
        json!({ "tier": ["gold"] }),
        json!({ "realm_access": { "roles": "operator" } }),
        json!({ "realm_access": { "roles": ["operators"] } }),
        json!({ "realm_access": null }),
    ] {
        let mut changed = operator.clone();
        merge(&mut changed, &claims);
        let reply = send(Method::GET, "/status", &signer.token(changed)).await;
        assert_refused(&reply, 403, "claims-insufficient");
    }

    let preflight = |path: &str| {
        client
            .request(Method::OPTIONS, path)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "DELETE")
    };
    assert_eq!(preflight("/accounts/1").send().await.status, 200);
    assert_eq!(preflight("/payments").send().await.status, 401);
    let simple = client
        .request(Method::OPTIONS, "/accounts/1")
        .header("origin", "https://a.example");
    assert_eq!(simple.send().await.status, 401);
    // What no rule is about needs a token all the same.
    assert_eq!(client.get("/elsewhere").send().await.status, 401);
    assert_eq!(send(Method::GET, "/elsewhere", &read).await.status, 200);
}

#[tokio::test]
async fn a_token_leads_to_a_plan() {
    let upstream = EchoUpstream::start().await;
    let signer = Signer::new();
    let mut plans = usage_plan();
    plans["plans"] = json!({
        "gold": { "quota": { "limit": 3, "period": "year" } },
        "bronze": { "quota": { "limit": 2, "period": "year" } },
        "free": { "quota": { "limit": 1, "period": "year" }, "apis": ["status"] },
    });
    plans["token"] = json!({ "plan_claim": ["subscription", "plan"], "plan": "free" });
    let document = json!({
        "apis": apis(),
        "jwt_authz": signer.section(),
        "usage_plan": plans,
        "access": [{ "require": { "any_of": ["jwt", "api_key"] } }],
    });
    let envoy = gateway("tollgate", &upstream, document)
        .concurrency(4)
        .start()
        .await
        .unwrap();
    let send = async |claims: Value, path: &str| {
        let request = envoy.http1().get(path).bearer(&signer.token(claims));
        request.send().await
    };
    let subscribed =
        |client: &str, plan: &str| json!({ "client_id": client, "subscription": { "plan": plan } });
    // A client of the issuer's that is no consumer: its own quota, on the plan that it claims.
    for (client, plan, limit) in [
        ("app-1", "gold", 3),
        ("app-2", "gold", 3),
        ("app-3", "bronze", 2),
    ] {
        for _ in 0..limit {
            let reply = send(subscribed(client, plan), "/accounts").await;
            assert_eq!(reply.status, 200, "{client}: {reply:?}");
            assert_eq!(reply.echo().header("x-consumer-plan"), Some(plan));
            assert_eq!(reply.echo().header("x-consumer-id"), None);
        }
        let reply = send(subscribed(client, plan), "/accounts").await;
        assert_refused(&reply, 429, "quota-exceeded");
    }
    assert_refused(
        &send(subscribed("app-4", "lead"), "/status").await,
        403,
        "plan-missing",
    );
    let odd = json!({ "client_id": "app-4", "subscription": { "plan": ["gold"] } });
    assert_refused(&send(odd, "/status").await, 403, "plan-missing");
    // Without a claim, the plan for everybody else, by client or else by subject.
    for who in [
        json!({ "client_id": "app-5" }),
        json!({ "sub": "bob" }),
        json!({ "azp": "app-6" }),
    ] {
        assert_refused(
            &send(who.clone(), "/accounts").await,
            403,
            "api-not-in-plan",
        );
        assert_eq!(send(who.clone(), "/status").await.status, 200);
        assert_refused(&send(who.clone(), "/status").await, 429, "quota-exceeded");
    }
    // A consumer has one quota, whether it comes with its key or as one of its clients.
    let reply = send(json!({ "client_id": "umbrella-web" }), "/accounts").await;
    assert_eq!(reply.echo().header("x-consumer-id"), Some("umbrella"));
    assert_eq!(reply.echo().header("x-consumer-plan"), Some("bronze"));
    let reply = key(envoy.http1().get("/accounts"), "umbrella-key")
        .send()
        .await;
    assert_eq!(reply.status, 200);
    let reply = send(json!({ "client_id": "umbrella-app" }), "/accounts").await;
    assert_refused(&reply, 429, "quota-exceeded");
}

#[tokio::test]
async fn a_grpc_call_is_refused_in_its_own_words() {
    let upstream = EchoUpstream::start().await;
    let signer = Signer::new();
    let document = json!({
        "jwt_authz": signer.section(),
        "access": [{ "scopes": "accounts:read" }],
    });
    let envoy = gateway("tollgate", &upstream, document)
        .cluster(http2_cluster("grpc", upstream.address()))
        .route(json!({ "match": { "prefix": "/bank." }, "route": { "cluster": "grpc" } }))
        .start()
        .await
        .unwrap();
    let call = || envoy.http2().grpc("/bank.Accounts/List", b"");
    let good = signer.token(json!({ "scope": "accounts:read" }));
    let reply = call().bearer(&good).send().await;
    assert_eq!(reply.grpc_status(), Some(0), "{reply:?}");
    for (token, status, message) in [
        (
            None,
            16,
            "This API needs a bearer token, and none was sent.",
        ),
        (
            Some(signer.token(json!({ "exp": 1 }))),
            16,
            "The token has expired.",
        ),
        (
            Some(signer.token(json!({}))),
            7,
            "The token lacks a scope that this API needs.",
        ),
    ] {
        let mut request = call();
        if let Some(token) = &token {
            request = request.bearer(token);
        }
        let reply = request.send().await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.grpc_status(), Some(status));
        assert_eq!(reply.grpc_message().as_deref(), Some(message));
        assert_eq!(challenges(&reply).len(), 1);
    }
}

#[tokio::test]
async fn rules_that_are_tried_out_are_counted() {
    let upstream = EchoUpstream::start().await;
    let signer = Signer::new();
    let document = json!({
        "apis": apis(),
        "jwt_authz": signer.section(),
        "access": [
            { "apis": ["accounts"], "scopes": "accounts:read", "mode": "shadow" },
            { "require": "jwt" },
        ],
    });
    let envoy = gateway("tollgate", &upstream, document)
        .start()
        .await
        .unwrap();
    let client = envoy.http1();
    assert_eq!(client.get("/accounts").send().await.status, 200);
    let token = signer.token(json!({}));
    assert_eq!(
        client.get("/accounts").bearer(&token).send().await.status,
        200
    );
    assert_eq!(client.get("/payments").send().await.status, 401);
    let log = envoy.wait_for_access_log(3).await;
    let seen: Vec<_> = log
        .iter()
        .map(|entry| {
            (
                entry.decision.as_deref().unwrap(),
                entry.reason.as_deref().unwrap(),
                entry.status,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("would_deny", "credentials-missing", 200),
            ("would_deny", "scope-insufficient", 200),
            ("deny", "credentials-missing", 401),
        ]
    );
}
