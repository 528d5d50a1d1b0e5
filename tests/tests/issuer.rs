//! The harness's issuer, tokens and client certificates, tried by themselves and with Envoy's own
//! filters.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tollgate_tests::{
    Algorithm, Authority, ClientError, ClientTls, DISCOVERY_PATH, EchoUpstream, Envoy, Fault,
    HttpClient, Issuer, JWKS_PATH, Listener, OVERSIZED_BYTES, Page, Reply, SigningKey, base64url,
    hs256_token, replace_segment, tamper_signature, tls_cluster, wait_for,
};

const HOST: &str = "idp.bank.example";

/// An issuer with one key, and an Envoy that routes everything to it.
struct Setup {
    authority: Authority,
    issuer: Issuer,
    envoy: Envoy,
}

impl Setup {
    async fn start() -> Self {
        let authority = Authority::new("Test");
        let issuer = Issuer::start(&authority, HOST).await;
        issuer.set_keys([key("first")]);
        // One worker, so that connections to the issuer are used again.
        let envoy = Envoy::builder()
            .concurrency(1)
            .cluster(issuer.cluster("idp"))
            .route(json!({
                "match": { "prefix": "/" },
                "route": { "cluster": "idp", "timeout": "60s" },
            }))
            .start()
            .await
            .unwrap();
        Self {
            authority,
            issuer,
            envoy,
        }
    }

    /// A client of the issuer itself.
    fn direct(&self) -> HttpClient {
        let tls = ClientTls::trusting(&self.authority);
        HttpClient::http1(self.issuer.address()).tls(tls).host(HOST)
    }

    /// Clients that reach the issuer, first by itself and then through Envoy.
    fn clients(&self) -> [HttpClient; 2] {
        [self.direct(), self.envoy.http1()]
    }
}

fn key(kid: &str) -> Value {
    SigningKey::new(Algorithm::EdDSA).jwk(kid)
}

fn kids(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let keys = reply.json()["keys"].as_array().unwrap().clone();
    let kids = keys.iter().map(|key| key["kid"].as_str().unwrap());
    kids.map(str::to_owned).collect()
}

#[tokio::test]
async fn documents_are_served_and_fetches_are_recorded() {
    let setup = Setup::start().await;
    let issuer = &setup.issuer;
    for client in setup.clients() {
        let discovery = client.get(DISCOVERY_PATH).send().await;
        assert_eq!(discovery.header("content-type"), Some("application/json"));
        let discovery = discovery.json();
        assert_eq!(discovery["issuer"], issuer.url());
        assert_eq!(discovery["jwks_uri"], issuer.jwks_url());
        assert_eq!(issuer.jwks_url(), format!("https://{HOST}{JWKS_PATH}"));

        let keys = client.get(JWKS_PATH).header("accept", "a/b").send().await;
        assert_eq!(kids(&keys), ["first"]);
        assert_eq!(client.get("/else").send().await.status, 404);
        assert_eq!(client.post(JWKS_PATH).send().await.status, 405);
    }

    issuer.wait_for_count(JWKS_PATH, 4).await;
    assert_eq!(issuer.count(DISCOVERY_PATH), 2);
    assert_eq!(issuer.connections(), 2);
    let fetches = issuer.fetches();
    assert_eq!(fetches.len(), 8);
    for fetch in &fetches {
        assert_eq!(fetch.server_name.as_deref(), Some(HOST));
    }
    assert_eq!(fetches[5].path(), JWKS_PATH);
    assert_eq!(fetches[5].request.header("accept"), Some("a/b"));
}

#[tokio::test]
async fn keys_rotate() {
    let setup = Setup::start().await;
    let issuer = &setup.issuer;
    for client in setup.clients() {
        issuer.set_keys([key("first")]);
        let published = async || kids(&client.get(JWKS_PATH).send().await);
        issuer.add_key(key("second"));
        assert_eq!(published().await, ["first", "second"]);
        issuer.drop_key("first");
        assert_eq!(published().await, ["second"]);
        issuer.set_keys(["a", "b", "c"].map(key));
        assert_eq!(published().await, ["a", "b", "c"]);
        issuer.set_keys([]);
        assert!(published().await.is_empty());
    }
}

#[tokio::test]
async fn headers_and_pages_are_the_tests_own() {
    let setup = Setup::start().await;
    let issuer = &setup.issuer;
    for client in setup.clients() {
        issuer.set_headers(&[
            ("cache-control", "public"),
            ("cache-control", "max-age=300"),
            ("age", "290"),
            ("content-type", "text/html"),
        ]);
        let reply = client.get(JWKS_PATH).send().await;
        // Envoy joins the two.
        let caching = reply.header_values("cache-control").join(",");
        assert_eq!(caching, "public,max-age=300");
        assert_eq!(reply.header("age"), Some("290"));
        assert_eq!(reply.header_values("content-type"), ["text/html"]);
        assert_eq!(kids(&reply), ["first"]);

        issuer.serve(DISCOVERY_PATH, Page::json(&json!({ "issuer": "other" })));
        let reply = client.get(DISCOVERY_PATH).send().await;
        assert_eq!(reply.json(), json!({ "issuer": "other" }));

        issuer.recover();
        let reply = client.get(DISCOVERY_PATH).send().await;
        assert_eq!(reply.json()["issuer"], issuer.url());
        assert_eq!(reply.header("age"), None);
    }
}

#[tokio::test]
async fn answers_go_wrong_as_told() {
    let setup = Setup::start().await;
    let issuer = &setup.issuer;
    for client in setup.clients() {
        let ask = || client.get(JWKS_PATH).send();

        issuer.fail(Fault::Status(500));
        assert_eq!(ask().await.status, 500);

        issuer.fail(Fault::Html);
        let page = ask().await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), Some("text/html"));
        assert!(page.text().starts_with("<!doctype html>"));

        issuer.fail(Fault::Oversized);
        let large = ask().await;
        assert!(large.body.len() > OVERSIZED_BYTES);
        assert_eq!(kids(&large), ["first"]);

        issuer.fail(Fault::Redirect("https://other.example/keys".to_owned()));
        let redirect = ask().await;
        assert_eq!(redirect.status, 302);
        let location = redirect.header("location");
        assert_eq!(location, Some("https://other.example/keys"));

        issuer.fail(Fault::Truncated);
        let error = client.get(JWKS_PATH).try_send().await.unwrap_err();
        let begun = matches!(&error, ClientError::Body { status, .. } if *status == 200);
        assert!(begun, "{error}");

        // A delay has no upper bound that a busy machine keeps.
        let delay = Duration::from_millis(30);
        issuer.fail(Fault::Delay(delay));
        let asked = Instant::now();
        assert_eq!(kids(&ask().await), ["first"]);
        assert!(asked.elapsed() >= delay);

        issuer.recover();
        assert_eq!(kids(&ask().await), ["first"]);
    }
}

#[tokio::test]
async fn one_path_fails_alone() {
    let setup = Setup::start().await;
    let issuer = &setup.issuer;
    issuer.fail_at(JWKS_PATH, Fault::Status(503));
    for client in setup.clients() {
        assert_eq!(client.get(DISCOVERY_PATH).send().await.status, 200);
        assert_eq!(client.get(JWKS_PATH).send().await.status, 503);
    }
    issuer.fail_at(JWKS_PATH, Fault::Close);
    let [direct, through] = setup.clients();
    let error = direct.get(JWKS_PATH).try_send().await.unwrap_err();
    assert!(matches!(error, ClientError::NoReply(_)), "{error}");
    assert_eq!(direct.get(DISCOVERY_PATH).send().await.status, 200);
    let refused = through.get(JWKS_PATH).send().await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("disconnect/reset"), "{refused:?}");
    assert_eq!(through.get(DISCOVERY_PATH).send().await.status, 200);
}

#[tokio::test]
async fn connections_are_closed_at_once() {
    let setup = Setup::start().await;
    let issuer = &setup.issuer;
    let kept = setup.direct();
    assert_eq!(kids(&kept.get(JWKS_PATH).send().await), ["first"]);

    issuer.fail(Fault::Close);
    let error = kept.get(JWKS_PATH).try_send().await.unwrap_err();
    assert!(matches!(error, ClientError::NoReply(_)), "{error}");
    let error = setup.direct().get(JWKS_PATH).try_send().await.unwrap_err();
    assert!(matches!(error, ClientError::Connect(_)), "{error}");
    let through = setup.envoy.http1();
    assert_eq!(through.get(JWKS_PATH).send().await.status, 503);
    assert_eq!(issuer.count(JWKS_PATH), 2, "the others were closed before");
    assert_eq!(issuer.connections(), 3);

    issuer.recover();
    assert_eq!(kids(&through.get(JWKS_PATH).send().await), ["first"]);
}

#[tokio::test]
async fn held_answers_are_those_of_the_moment_they_are_released() {
    let setup = Setup::start().await;
    let issuer = &setup.issuer;
    issuer.fail(Fault::Hold);
    let [direct, through] = setup.clients();
    let (direct, through, ()) = tokio::join!(
        direct.get(JWKS_PATH).send(),
        through.get(JWKS_PATH).send(),
        async {
            issuer.wait_for_count(JWKS_PATH, 2).await;
            issuer.set_keys([key("second")]);
            issuer.recover();
        }
    );
    assert_eq!(kids(&direct), ["second"]);
    assert_eq!(kids(&through), ["second"]);
}

#[tokio::test]
async fn requests_hang_until_the_issuer_is_killed() {
    let setup = Setup::start().await;
    let issuer = &setup.issuer;
    issuer.fail(Fault::Hang);
    let [direct, through] = setup.clients();
    let (direct, through, ()) = tokio::join!(
        direct.get(JWKS_PATH).try_send(),
        through.get(JWKS_PATH).send(),
        async {
            issuer.wait_for_count(JWKS_PATH, 2).await;
            // Does not free those that hang already.
            issuer.recover();
            issuer.kill().await;
        }
    );
    let error = direct.unwrap_err();
    assert!(matches!(error, ClientError::NoReply(_)), "{error}");
    assert_eq!(through.status, 503);
}

#[tokio::test]
async fn an_issuer_dies_and_comes_back_on_its_port() {
    let setup = Setup::start().await;
    let issuer = &setup.issuer;
    let [direct, through] = setup.clients();
    let address = issuer.address();
    for round in 1..=3 {
        assert_eq!(kids(&direct.get(JWKS_PATH).send().await), ["first"]);
        assert_eq!(kids(&through.get(JWKS_PATH).send().await), ["first"]);

        issuer.kill().await;
        issuer.kill().await;
        let other = Issuer::start(&setup.authority, HOST).await;
        assert_ne!(other.address(), address);
        let error = setup.direct().get(JWKS_PATH).try_send().await.unwrap_err();
        assert!(matches!(error, ClientError::Connect(_)), "{error}");
        assert_eq!(through.get(JWKS_PATH).send().await.status, 503);
        assert_eq!(issuer.count(JWKS_PATH), 2 * round);

        issuer.revive();
        issuer.revive();
        assert_eq!(issuer.address(), address);
    }
}

#[tokio::test]
async fn envoy_reaches_only_the_issuer_it_means() {
    let authority = Authority::new("Test");
    let stranger = Authority::new("Stranger");
    let issuer = Issuer::start(&authority, HOST).await;
    let address = issuer.address();
    let route = |cluster: &str| {
        json!({
            "match": { "prefix": format!("/{cluster}") },
            "route": { "cluster": cluster, "prefix_rewrite": JWKS_PATH },
        })
    };
    let other = "idp.other.example";
    let envoy = Envoy::builder()
        .cluster(issuer.cluster("right"))
        .cluster(tls_cluster("stranger", address, HOST, stranger.cert_pem()))
        .cluster(tls_cluster("other", address, other, authority.cert_pem()))
        .route(route("right"))
        .route(route("stranger"))
        .route(route("other"))
        .start()
        .await
        .unwrap();
    let client = envoy.http1();
    assert_eq!(client.get("/right").send().await.status, 200);
    let failures = [
        ("stranger", "envoy_cluster_ssl_fail_verify_error"),
        ("other", "envoy_cluster_ssl_fail_verify_san"),
    ];
    for (cluster, counter) in failures {
        let reply = client.get(&format!("/{cluster}")).send().await;
        assert_eq!(reply.status, 503, "{cluster}");
        let stats = envoy.stats().await;
        let count = stats.get(counter, &[("envoy_cluster_name", cluster)]);
        assert_eq!(count, Some(1.0), "{counter}");
    }
    assert_eq!(issuer.count(JWKS_PATH), 1);
    assert_eq!(issuer.fetches()[0].server_name.as_deref(), Some(HOST));

    let distrusting = HttpClient::http1(address).tls(ClientTls::trusting(&stranger));
    let error = distrusting.host(HOST).get("/").try_send().await;
    assert!(matches!(error, Err(ClientError::Connect(_))), "{error:?}");
}

/// An Envoy that checks tokens with its own filter, by the keys of this issuer.
async fn checking(issuer: &Issuer, upstream: &EchoUpstream, cache: &str) -> Envoy {
    let provider = json!({
        "issuer": issuer.url(),
        "audiences": ["bank-api"],
        "remote_jwks": {
            "http_uri": { "uri": issuer.jwks_url(), "cluster": "idp", "timeout": "10s" },
            "cache_duration": cache,
        },
    });
    let filter = json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3\
                      .JwtAuthentication",
            "providers": { "idp": provider },
            "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "idp" } }],
        },
    });
    Envoy::builder()
        .upstream(upstream)
        .cluster(issuer.cluster("idp"))
        .filter(filter)
        .start()
        .await
        .unwrap()
}

async fn status(envoy: &Envoy, token: &str) -> u16 {
    let request = envoy.http1().get("/");
    let request = request.header("authorization", format!("Bearer {token}"));
    request.send().await.status.as_u16()
}

#[tokio::test]
async fn envoy_accepts_tokens_of_every_algorithm() {
    let authority = Authority::new("Test");
    let issuer = Issuer::start(&authority, HOST).await;
    let keys = Algorithm::ALL.map(SigningKey::new);
    issuer.set_keys(keys.iter().map(|key| key.jwk(key.algorithm().name())));
    let upstream = EchoUpstream::start().await;
    let envoy = checking(&issuer, &upstream, "600s").await;

    let claims = issuer.claims("alice", "bank-api");
    for key in &keys {
        let name = key.algorithm().name();
        let token = key.token(name, claims.clone());
        assert_eq!(status(&envoy, &token).await, 200, "{name}");
        let tampered = tamper_signature(&token);
        assert_eq!(status(&envoy, &tampered).await, 401, "{name}");
        let other = key.successor().token(name, claims.clone());
        assert_eq!(status(&envoy, &other).await, 401, "{name}");
        let unsigned = replace_segment(&token, 2, "");
        assert_eq!(status(&envoy, &unsigned).await, 401, "{name}");
        let rewritten = replace_segment(&token, 1, &base64url(claims.to_string() + " "));
        assert_eq!(status(&envoy, &rewritten).await, 401, "{name}");
    }
    assert_eq!(upstream.count(), keys.len());
    assert!(issuer.count(JWKS_PATH) >= 1);
}

#[tokio::test]
async fn envoy_refuses_tokens_with_something_wrong() {
    let authority = Authority::new("Test");
    let issuer = Issuer::start(&authority, HOST).await;
    let key = SigningKey::new(Algorithm::RS256);
    issuer.set_keys([key.jwk("a")]);
    let upstream = EchoUpstream::start().await;
    let envoy = checking(&issuer, &upstream, "600s").await;
    let claims = issuer.claims("alice", "bank-api");

    let header = json!({ "alg": "RS256" });
    let without_kid = key.token_with_header(header, claims.clone());
    assert_eq!(status(&envoy, &without_kid).await, 200);
    let segments = without_kid.split('.').collect::<Vec<_>>();
    let again = key.sign_segments(segments[0], segments[1]);
    assert_eq!(again, without_kid);

    let mut expired = claims.clone();
    expired["exp"] = json!(claims["iat"].as_i64().unwrap() - 3_600);
    let header = json!({ "alg": "ES256", "kid": "a" });
    let confused = hs256_token(key.public_pem().as_bytes(), "a", claims.clone());
    let refused = [
        key.token("a", expired),
        key.token("unknown", claims.clone()),
        key.token_with_header(header, claims),
        key.token("a", json!("no object")),
        key.sign_segments("!", "!"),
        confused,
    ];
    for token in refused {
        assert_eq!(status(&envoy, &token).await, 401, "{token}");
    }
    assert_eq!(
        status(&envoy, &key.token("a", issuer.claims("alice", "x"))).await,
        403
    );
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn envoy_follows_a_rotation() {
    let authority = Authority::new("Test");
    let issuer = Issuer::start(&authority, HOST).await;
    let old = SigningKey::new(Algorithm::ES256);
    let new_key = old.successor();
    issuer.set_keys([old.jwk("old")]);
    let upstream = EchoUpstream::start().await;
    let envoy = checking(&issuer, &upstream, "0.1s").await;
    let old = old.token("old", issuer.claims("alice", "bank-api"));
    let new = new_key.token("new", issuer.claims("alice", "bank-api"));
    assert_eq!(status(&envoy, &old).await, 200);
    assert_eq!(status(&envoy, &new).await, 401);

    issuer.set_keys([new_key.jwk("new")]);
    wait_for("both workers to know the new key alone", async || {
        // Connections are spread over the workers.
        for _ in 0..8 {
            if status(&envoy, &new).await != 200 || status(&envoy, &old).await != 401 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn envoy_tells_who_a_client_is() {
    let authority = Authority::new("Test");
    let server = authority.server(&["localhost"]);
    let mut route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "echo" } });
    route["request_headers_to_add"] = [
        ("x-uri", "%DOWNSTREAM_PEER_URI_SAN%"),
        ("x-dns", "%DOWNSTREAM_PEER_DNS_SAN%"),
        ("x-subject", "%DOWNSTREAM_PEER_SUBJECT%"),
    ]
    .map(|(name, value)| json!({ "header": { "key": name, "value": value } }))
    .into_iter()
    .collect();
    let upstream = EchoUpstream::start().await;
    let listener = Listener::new()
        .tls(&server)
        .client_authority(authority.cert_pem(), false)
        .route(route);
    let envoy = Envoy::builder()
        .upstream(&upstream)
        .listener(listener)
        .start()
        .await
        .unwrap();
    let anonymous = ClientTls::trusting(&authority);

    let spiffe = "spiffe://bank.example/ns/partners/sa/acme";
    let acme = authority.client_with_names(
        "acme",
        &[spiffe, "https://acme.example/id"],
        &["acme.example", "www.acme.example"],
    );
    for client in [envoy.http1(), envoy.http2()] {
        let known = client.clone().tls(anonymous.clone().identity(&acme));
        let echo = known.get("/").send().await.echo();
        let uris = format!("{spiffe},https://acme.example/id");
        assert_eq!(echo.header("x-uri"), Some(&*uris));
        assert_eq!(echo.header("x-dns"), Some("acme.example,www.acme.example"));
        assert_eq!(echo.header("x-subject"), Some("CN=acme"));

        let echo = client.tls(anonymous.clone()).get("/").send().await.echo();
        for name in ["x-uri", "x-dns", "x-subject"] {
            assert_eq!(echo.header(name), None, "{name}");
        }
    }

    let stranger = Authority::new("Stranger").client("acme", &[spiffe]);
    let stranger = envoy.http1().tls(anonymous.identity(&stranger));
    assert!(stranger.get("/").try_send().await.is_err());
}
