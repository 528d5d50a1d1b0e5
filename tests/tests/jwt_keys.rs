//! An issuer's keys on the real Envoy: fetched over HTTPS by one worker for all, from a server that
//! rotates them, is slow, goes wrong in many ways, or dies.

mod idp;

use std::time::Duration;

use idp::{
    Bearer, CHALLENGE, Idp, assert_all, assert_refused, fetches, gateway, send_all,
    wait_for_active, wait_for_fetches, wait_for_good,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tollgate_tests::{
    Algorithm, Authority, DISCOVERY_PATH, EchoUpstream, Envoy, Fault, Issuer, JWKS_PATH, Listener,
    Load, Page, SigningKey, merge, plugin, wait_for, wasm_filter,
};

/// Far longer than any test takes: what is due after it never is.
const NEVER: &str = "1h";

/// A gateway that accepts the tokens of all of these issuers, `idp0` and so on.
async fn gateway_of_all(
    upstream: &EchoUpstream,
    idps: &[Idp],
    jwks: impl Fn(&Idp) -> Value,
) -> Envoy {
    let named = |(index, idp)| (format!("idp{index}"), idp);
    let providers = idps.iter().enumerate().map(named).map(|(name, idp)| {
        let mut provider = idp.provider(jwks(idp));
        merge(
            &mut provider,
            &json!({ "name": name, "jwks": { "cluster": name } }),
        );
        // Some have another place for their keys.
        if provider["jwks"]["url"].is_null() {
            provider["jwks"].as_object_mut().unwrap().remove("url");
        }
        provider
    });
    let providers: Vec<Value> = providers.collect();
    let document = json!({ "jwt_authz": { "providers": providers, "cache": { "max_tokens": 0 } } });
    let mut builder = gateway("tollgate", upstream, document);
    for (name, idp) in idps.iter().enumerate().map(named) {
        builder = builder.cluster(idp.issuer.cluster(&name));
    }
    builder.start().await.unwrap()
}

#[tokio::test]
async fn one_fetch_serves_all_workers() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let document = idp.document(json!({}));
    let envoy = idp
        .gateway(&upstream, document)
        .concurrency(4)
        .start()
        .await
        .unwrap();
    assert_all(send_all(&envoy.http1(), &idp.token(), 40), 200).await;
    assert_eq!(idp.issuer.count(JWKS_PATH), 1);
    let fetch = &idp.issuer.fetches()[0];
    assert_eq!(fetch.server_name.as_deref(), Some(idp.issuer.host()));
    assert_eq!(fetch.request.header("host"), Some(idp.issuer.host()));
    assert_eq!(
        fetch.request.header("accept"),
        Some("application/jwk-set+json, application/json")
    );
    let labels = [("provider", "idp"), ("result", "updated")];
    assert_eq!(fetches(&envoy, &labels).await, 1.0);
}

#[tokio::test]
async fn without_keys_there_is_503_and_never_401() {
    let upstream = EchoUpstream::start().await;
    let mut idps = Vec::new();
    for index in 0..3 {
        idps.push(Idp::called(&format!("idp{index}.bank.example")).await);
    }
    // It does not answer while a request is willing to wait; it fails; nobody listens there.
    idps[0].issuer.fail(Fault::Hang);
    idps[1].issuer.fail(Fault::Status(500));
    idps[2].issuer.kill().await;
    let jwks = json!({ "timeout": "1m", "max_wait": "300ms" });
    let envoy = gateway_of_all(&upstream, &idps, |_| jwks.clone()).await;
    for idp in &idps {
        let mut replies = send_all(&envoy.http1(), &idp.token(), 20);
        let unknown = idp.key.token("unknown", idp.claims());
        replies.spawn(envoy.http2().get("/").bearer(&unknown).send());
        for reply in replies.join_all().await {
            assert_refused(&reply, 503, "issuer-unavailable");
            let retry_after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&retry_after), "{retry_after}");
        }
    }
    // Whoever sends nothing, or something that no key would make better, is told so.
    let reply = envoy.http1().get("/").send().await;
    assert_refused(&reply, 401, "credentials-missing");
    let reply = envoy.http1().get("/").bearer("a.b.c").send().await;
    assert_refused(&reply, 401, "token-malformed");

    idps[1].issuer.recover();
    idps[2].issuer.revive();
    for idp in &idps[1..] {
        wait_for_good(&envoy, idp).await;
    }
}

#[tokio::test]
async fn no_good_token_is_refused_while_the_issuer_fails() {
    let upstream = EchoUpstream::start().await;
    // A provider for each fault, and how its fetches are counted then.
    let faults = [
        (Fault::Status(500), "status_5xx"),
        (Fault::Status(404), "status_4xx"),
        (Fault::Status(204), "status_other"),
        (
            Fault::Redirect("https://other.example/keys".to_owned()),
            "status_3xx",
        ),
        (Fault::Html, "invalid_keys"),
        (Fault::Truncated, "no_response"),
        (Fault::Oversized, "too_large"),
        (Fault::Close, "status_503"),
        (Fault::Hang, "status_504"),
        (Fault::Delay(Duration::from_secs(30)), "status_504"),
    ];
    let mut idps = Vec::new();
    for index in 0..faults.len() + 2 {
        idps.push(Idp::called(&format!("idp{index}.bank.example")).await);
    }
    let (empty, dead) = (faults.len(), faults.len() + 1);
    let jwks = json!({ "refresh": "1s", "timeout": "1s", "max_wait": "100ms" });
    let envoy = gateway_of_all(&upstream, &idps, |_| jwks.clone()).await;
    let good = async || {
        for idp in &idps {
            assert_all(send_all(&envoy.http1(), &idp.token(), 3), 200).await;
        }
    };
    for idp in &idps {
        wait_for_good(&envoy, idp).await;
    }
    good().await;

    for (idp, (fault, _)) in idps.iter().zip(&faults) {
        idp.issuer.fail(fault.clone());
    }
    idps[empty].issuer.set_keys([]);
    idps[dead].issuer.kill().await;
    let failed = |index: usize| match faults.get(index) {
        Some((_, result)) => result,
        None if index == empty => "invalid_keys",
        None => "status_503",
    };
    let names: Vec<String> = (0..idps.len()).map(|index| format!("idp{index}")).collect();
    wait_for(
        "two failures of each issuer, with good tokens all along",
        async || {
            good().await;
            let stats = envoy.stats().await;
            let count = |index: usize| {
                let labels = [
                    ("provider", names[index].as_str()),
                    ("result", failed(index)),
                ];
                stats.sum("tollgate_jwks_fetches_total", &labels)
            };
            let behind: Vec<usize> = (0..idps.len())
                .filter(|index| count(*index) < 2.0)
                .collect();
            behind.is_empty().then_some(())
        },
    )
    .await;
    good().await;
    // Nothing of what came instead of keys is in the log but its kind.
    assert!(!envoy.log().contains("<title>"), "{}", envoy.log());

    // A key that is not known can't be told from one that is new, as long as nobody can be asked.
    let unknown = idps[dead].key.token("unknown", idps[dead].claims());
    let reply = envoy.http1().get("/").bearer(&unknown).send().await;
    assert_refused(&reply, 503, "issuer-unavailable");
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn keys_expire_only_after_the_stale_limit() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let jwks = json!({ "refresh": "1s", "stale_for": "2s", "timeout": "1s", "max_wait": "100ms" });
    let envoy = idp
        .gateway(&upstream, idp.document(jwks))
        .start()
        .await
        .unwrap();
    wait_for_good(&envoy, &idp).await;
    idp.issuer.kill().await;
    let expired = wait_for("the keys to expire", async || {
        let reply = envoy.http1().get("/").bearer(&idp.token()).send().await;
        (reply.status != 200).then_some(reply)
    });
    assert_refused(&expired.await, 503, "issuer-unavailable");
    idp.issuer.revive();
    wait_for_good(&envoy, &idp).await;
}

#[tokio::test]
async fn a_new_key_is_accepted_with_the_first_token_that_names_it() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let jwks = json!({ "refresh": NEVER, "cool_down": NEVER, "timeout": "1m", "max_wait": "1m" });
    let document = idp.document(jwks);
    let envoy = idp
        .gateway(&upstream, document)
        .concurrency(4)
        .start()
        .await
        .unwrap();
    assert_all(send_all(&envoy.http1(), &idp.token(), 20), 200).await;
    assert_eq!(idp.issuer.count(JWKS_PATH), 1);

    let second = SigningKey::new(Algorithm::EdDSA);
    idp.issuer.add_key(second.jwk("second"));
    idp.issuer.fail(Fault::Hold);
    let replies = send_all(&envoy.http1(), &second.token("second", idp.claims()), 20);
    idp.issuer.wait_for_count(JWKS_PATH, 2).await;
    wait_for_active(&envoy, 20).await;
    // Meanwhile the other key is as good as before.
    assert_all(send_all(&envoy.http1(), &idp.token(), 20), 200).await;
    idp.issuer.recover();
    assert_all(replies, 200).await;
    assert_all(send_all(&envoy.http1(), &idp.token(), 20), 200).await;
    assert_eq!(idp.issuer.count(JWKS_PATH), 2);
}

#[tokio::test]
async fn a_key_that_was_removed_is_accepted_no_more() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let mut document = idp.document(json!({ "refresh": "1s" }));
    // Remembered tokens must not outlive their key.
    document["jwt_authz"]["cache"] = json!({ "max_tokens": 1000, "ttl": "1h" });
    let envoy = idp.gateway(&upstream, document).start().await.unwrap();
    let token = idp.token();
    assert_all(send_all(&envoy.http1(), &token, 20), 200).await;
    let second = SigningKey::new(Algorithm::ES256);
    idp.issuer.set_keys([second.jwk("second")]);
    let fetched = idp.issuer.count(JWKS_PATH);
    idp.issuer.wait_for_count(JWKS_PATH, fetched + 1).await;
    let removed = wait_for("the key to be gone on all workers", async || {
        let replies = send_all(&envoy.http1(), &token, 20).join_all().await;
        replies
            .iter()
            .all(|reply| reply.status == 401)
            .then_some(replies)
    });
    assert_refused(&removed.await[0], 401, "key-unknown");
    let token = second.token("second", idp.claims());
    assert_all(send_all(&envoy.http1(), &token, 20), 200).await;

    // The same name, another key.
    let third = SigningKey::new(Algorithm::ES256);
    idp.issuer.set_keys([third.jwk("second")]);
    let replaced = wait_for("the key to be another on all workers", async || {
        let replies = send_all(&envoy.http1(), &token, 20).join_all().await;
        replies
            .iter()
            .all(|reply| reply.status == 401)
            .then_some(replies)
    });
    assert_refused(&replaced.await[0], 401, "signature-invalid");
}

#[tokio::test]
async fn unknown_keys_cost_the_issuer_one_fetch_for_all() {
    const REQUESTS: usize = 1_000;
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let jwks = json!({ "refresh": NEVER, "cool_down": NEVER });
    let document = idp.document(jwks);
    let envoy = idp
        .gateway(&upstream, document)
        .concurrency(4)
        .start()
        .await
        .unwrap();
    assert_all(send_all(&envoy.http1(), &idp.token(), 20), 200).await;
    let (good, claims) = (idp.token(), idp.claims());
    let load = Load::new(&envoy.http1())
        .requests(REQUESTS + REQUESTS / 10)
        .connections(16);
    let report = load.run(move |client, index| match index % 11 {
        0 => client.get("/").bearer(&good),
        _ => {
            let header = json!({ "alg": "ES256", "kid": format!("guess-{index}") });
            let token = SigningKey::new(Algorithm::EdDSA).token_with_header(header, claims.clone());
            client.get("/").bearer(&token)
        }
    });
    let statuses = report.await.by_status();
    assert_eq!(
        statuses.into_iter().collect::<Vec<_>>(),
        [(200, REQUESTS / 10), (401, REQUESTS)]
    );
    assert_eq!(
        idp.issuer.count(JWKS_PATH),
        2,
        "one at the start, one for them all"
    );
}

#[tokio::test]
async fn after_the_cool_down_an_unknown_key_is_looked_for_again() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let jwks = json!({ "refresh": NEVER, "cool_down": "1s" });
    let envoy = idp
        .gateway(&upstream, idp.document(jwks))
        .start()
        .await
        .unwrap();
    let guess = idp.key.token("guess", idp.claims());
    let reply = envoy.http1().get("/").bearer(&guess).send().await;
    assert_refused(&reply, 401, "key-unknown");
    assert_eq!(
        reply.header("www-authenticate").unwrap(),
        format!(
            "{CHALLENGE}, error=\"invalid_token\", error_description=\"The token is signed with a \
             key that its issuer does not publish.\""
        )
    );
    let fetched = idp.issuer.count(JWKS_PATH);
    let second = SigningKey::new(Algorithm::ES256);
    idp.issuer.add_key(second.jwk("second"));
    let token = second.token("second", idp.claims());
    let asked = Instant::now();
    wait_for("the new key", async || {
        let reply = envoy.http1().get("/").bearer(&token).send().await;
        (reply.status == 200).then_some(())
    })
    .await;
    // Searches are a cool-down apart, however many requests there were.
    let searches = idp.issuer.count(JWKS_PATH) - fetched;
    assert!(
        searches as u64 <= asked.elapsed().as_secs() + 1,
        "{searches}"
    );
}

#[tokio::test]
async fn a_key_may_be_published_after_its_first_token() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let jwks = json!({ "refresh": NEVER, "cool_down": "1s" });
    let envoy = idp
        .gateway(&upstream, idp.document(jwks))
        .start()
        .await
        .unwrap();
    assert_all(send_all(&envoy.http1(), &idp.token(), 10), 200).await;
    let second = SigningKey::new(Algorithm::ES256);
    let token = second.token("second", idp.claims());
    for reply in send_all(&envoy.http1(), &token, 10).join_all().await {
        assert_refused(&reply, 401, "key-unknown");
    }
    idp.issuer.add_key(second.jwk("second"));
    wait_for("the new key on all workers", async || {
        let replies = send_all(&envoy.http1(), &token, 10).join_all().await;
        replies
            .iter()
            .all(|reply| reply.status == 200)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_are_found_by_the_issuers_metadata() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let discovery = format!("{}{DISCOVERY_PATH}", idp.issuer.url());
    let mut document = idp.document(json!({ "discovery": discovery, "refresh": "1s" }));
    document["jwt_authz"]["providers"][0]["jwks"]
        .as_object_mut()
        .unwrap()
        .remove("url");
    let envoy = idp
        .gateway(&upstream, document.clone())
        .concurrency(4)
        .start()
        .await
        .unwrap();
    assert_all(send_all(&envoy.http1(), &idp.token(), 20), 200).await;
    let fetched = idp.issuer.count(JWKS_PATH);
    idp.issuer.wait_for_count(JWKS_PATH, fetched + 1).await;
    assert_eq!(
        idp.issuer.count(DISCOVERY_PATH),
        1,
        "the location is remembered"
    );
    assert_all(send_all(&envoy.http1(), &idp.token(), 20), 200).await;

    // Metadata of another issuer, and such as send us elsewhere.
    let mut idps = Vec::new();
    for index in 0..5 {
        let idp = Idp::called(&format!("idp{index}.bank.example")).await;
        let (url, keys) = (idp.issuer.url(), idp.issuer.jwks_url());
        let metadata = match index {
            0 => json!({ "issuer": "https://other.example", "jwks_uri": keys }),
            1 => json!({ "issuer": format!("{url}/"), "jwks_uri": keys }),
            2 => json!({ "issuer": url, "jwks_uri": "https://other.example/keys" }),
            3 => json!({ "issuer": url, "jwks_uri": keys.replace("https", "http") }),
            _ => json!({ "issuer": url }),
        };
        idp.issuer.serve(DISCOVERY_PATH, Page::json(&metadata));
        idps.push(idp);
    }
    let discover = |idp: &Idp| {
        json!({
            "url": null,
            "discovery": format!("{}{DISCOVERY_PATH}", idp.issuer.url()),
            "max_wait": "100ms",
        })
    };
    let envoy = gateway_of_all(&upstream, &idps, discover).await;
    for (index, idp) in idps.iter().enumerate() {
        wait_for_fetches(&envoy, &format!("idp{index}"), "invalid_discovery").await;
        let reply = envoy.http1().get("/").bearer(&idp.token()).send().await;
        assert_refused(&reply, 503, "issuer-unavailable");
        assert_eq!(idp.issuer.count(JWKS_PATH), 0, "{index}");
    }
}

#[tokio::test]
async fn the_issuers_certificate_is_checked() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let impostor = Issuer::start(&Authority::new("Other"), idp.issuer.host()).await;
    impostor.set_keys([idp.key.jwk("first")]);
    let mut cluster = idp.issuer.cluster("idp");
    let endpoint = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    endpoint["address"]["socket_address"]["port_value"] = json!(impostor.address().port());
    let document = idp.document(json!({ "max_wait": "200ms" }));
    let envoy = gateway("tollgate", &upstream, document)
        .cluster(cluster)
        .start()
        .await
        .unwrap();
    let reply = envoy.http1().get("/").bearer(&idp.token()).send().await;
    assert_refused(&reply, 503, "issuer-unavailable");
    wait_for_fetches(&envoy, "idp", "status_503").await;
    assert!(impostor.connections() > 0);
    assert!(impostor.fetches().is_empty());
}

#[tokio::test]
async fn configuration_updates_keep_the_keys() {
    let upstream = EchoUpstream::start().await;
    let idp = Idp::start().await;
    let document = |realm: String| {
        let mut document = idp.document(json!({ "refresh": NEVER }));
        document["jwt_authz"]["token"] = json!({ "realm": realm });
        document
    };
    let mut envoy = idp
        .gateway(&upstream, document("api".to_owned()))
        .concurrency(4)
        .dynamic_listener()
        .start()
        .await
        .unwrap();
    assert_all(send_all(&envoy.http1(), &idp.token(), 20), 200).await;
    assert_eq!(idp.issuer.count(JWKS_PATH), 1);
    // What is not fetched need not be there.
    idp.issuer.kill().await;
    for version in 0..5 {
        let document = document(format!("version {version}"));
        let filter = wasm_filter("tollgate", plugin("tollgate"), document);
        envoy
            .update_listener(&Listener::new().filter(filter))
            .await
            .unwrap();
        assert_all(send_all(&envoy.http1(), &idp.token(), 20), 200).await;
        let refused = envoy.http1().get("/").send().await;
        let challenge = format!("Bearer realm=\"version {version}\"");
        assert_eq!(refused.header("www-authenticate"), Some(challenge.as_str()));
    }
    assert_eq!(fetches(&envoy, &[]).await, 1.0);

    // Another place for the keys is another source: what was fetched from the first is not used.
    idp.issuer.revive();
    idp.issuer.serve(
        "/elsewhere",
        Page::json(&json!({
            "keys": [SigningKey::new(Algorithm::ES256).jwk("first")],
        })),
    );
    let mut elsewhere = document("api".to_owned());
    elsewhere["jwt_authz"]["providers"][0]["jwks"]["url"] =
        json!(format!("{}/elsewhere", idp.issuer.url()));
    let filter = wasm_filter("tollgate", plugin("tollgate"), elsewhere);
    envoy
        .update_listener(&Listener::new().filter(filter))
        .await
        .unwrap();
    for reply in send_all(&envoy.http1(), &idp.token(), 20).join_all().await {
        assert_refused(&reply, 401, "signature-invalid");
    }
    assert_eq!(idp.issuer.count("/elsewhere"), 1);
    assert_eq!(idp.issuer.count(JWKS_PATH), 1);
}
