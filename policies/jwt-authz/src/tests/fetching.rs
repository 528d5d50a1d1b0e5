//! Keys that are fetched: requests that wait for them, an issuer that is down, several workers.

use tollgate_testkit::Submitted;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

#[test]
fn the_first_requests_wait_for_the_keys() {
    let plugin = start(&fetching(json!({ "timeout": "3s" })));
    let good = plugin.submit(bearer("/", &token(json!({})))).paused();
    let forged = K2.sign_as(&json!({ "alg": "ES256", "kid": "k1" }), &claims(json!({})));
    let forged = plugin.submit(bearer("/", &forged)).paused();
    // What is wrong whatever the keys are needs none.
    let expired = token(json!({ "exp": START - 60 }));
    refused(&send(&plugin, &expired), 401, "token-expired");
    refused(&send(&plugin, "x.y.z"), 401, "token-malformed");
    refused(&plugin.send(Request::get("/")), 401, "credentials-missing");

    assert_eq!(plugin.tick(), Some(Duration::from_secs(1)));
    let sent = callout(&plugin);
    assert_eq!(sent.cluster, "idp");
    assert_eq!(sent.url, "https://idp.example/jwks.json");
    assert_eq!(sent.timeout, Duration::from_secs(3));
    let good = plugin.resume(good).paused();
    let forged = plugin.resume(forged).paused();
    plugin.tick();
    no_callout(&plugin);

    let keys = jwks(&[K1]).to_string();
    plugin.answer(sent.id, Some(200), &[], keys.as_bytes());
    let reply = plugin.resume(good).reply();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.upstream.unwrap().header("authorization"), None);
    refused(&plugin.resume(forged).reply(), 401, "signature-invalid");
    assert_eq!(send(&plugin, &token(json!({}))).status, 200);
}

#[test]
fn a_token_may_expire_while_its_request_waits() {
    let plugin = start(&fetching(json!({})));
    let last = token(json!({ "exp": START - 59 }));
    let paused = plugin.submit(bearer("/", &last)).paused();
    pass(&plugin, 1);
    publish(&plugin, &[K1]);
    refused(&plugin.resume(paused).reply(), 401, "token-expired");
}

#[test]
fn a_request_does_not_wait_for_ever() {
    let plugin = start(&fetching(json!({ "max_wait": "3s" })));
    let mut paused = plugin.submit(bearer("/", &token(json!({})))).paused();
    for _ in 0..2 {
        pass(&plugin, 1);
        paused = plugin.resume(paused).paused();
    }
    pass(&plugin, 1);
    let reply = plugin.resume(paused).reply();
    unavailable(&reply);
    assert_eq!(
        reply.problem()["detail"],
        "The token can't be checked at the moment."
    );
    // The next one waits anew, as the answer may come at any time.
    let paused = plugin.submit(bearer("/", &token(json!({})))).paused();
    publish(&plugin, &[K1]);
    assert_eq!(plugin.resume(paused).reply().status, 200);
}

#[test]
fn nobody_waits_for_an_issuer_that_is_known_to_be_down() {
    let plugin = start(&fetching(json!({})));
    plugin.tick();
    let paused = plugin.submit(bearer("/", &token(json!({})))).paused();
    fail(&plugin);
    // The next attempt comes within the time that a request may wait.
    let paused = plugin.resume(paused).paused();
    pass(&plugin, 1);
    publish(&plugin, &[K1]);
    assert_eq!(plugin.resume(paused).reply().status, 200);

    let plugin = start(&fetching(json!({})));
    plugin.tick();
    for _ in 0..6 {
        while plugin.host.callouts.borrow().is_empty() {
            pass(&plugin, 1);
        }
        fail(&plugin);
    }
    let reply = send(&plugin, &token(json!({})));
    unavailable(&reply);
    let retry_after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!(retry_after >= 5, "{retry_after}");
    // Bad tokens are bad all the same.
    let expired = token(json!({ "exp": START - 60 }));
    refused(&send(&plugin, &expired), 401, "token-expired");
}

#[test]
fn good_tokens_pass_while_the_issuer_is_down() {
    let plugin = start_with_keys(json!({ "refresh": "30s", "stale_for": "1m" }), &[K1]);
    let mut failures = 0;
    for second in 1..60 {
        pass(&plugin, 1);
        if !plugin.host.callouts.borrow().is_empty() {
            fail(&plugin);
            failures += 1;
        }
        // One that the worker has not seen before, too.
        let fresh = token(json!({ "jti": second.to_string() }));
        assert_eq!(send(&plugin, &fresh).status, 200, "{second}");
    }
    assert!((3..10).contains(&failures), "{failures}");
    let seen = token(json!({}));
    assert_eq!(send(&plugin, &seen).status, 200);

    // Keys of a minute ago are too old. That is nothing that the client could mend.
    pass(&plugin, 1);
    for token in [seen, token(json!({ "jti": "new" }))] {
        unavailable(&settle(&plugin, plugin.submit(bearer("/", &token))));
    }
}

/// Lets time pass without an answer of the issuer until the request is answered.
fn settle(plugin: &Plugin, mut submitted: Submitted<Alone>) -> Reply {
    for _ in 0..6 {
        submitted = match submitted {
            Submitted::Answered(reply, _) => return reply,
            Submitted::Waiting(paused) => {
                pass(plugin, 1);
                plugin.resume(paused)
            }
        };
    }
    submitted.reply()
}

#[test]
fn garbage_replaces_no_keys() {
    let large = vec![b' '; (64 << 10) + 1];
    let private = json!({ "keys": [with(K2.jwk(), json!({ "d": "AAAA" }))] }).to_string();
    let other = jwks(&[K2]).to_string();
    let plugin = start_with_keys(json!({ "refresh": "30s" }), &[K1]);
    for (status, body) in [
        (Some(200), &b""[..]),
        (Some(200), b"<html>"),
        (Some(200), b"{\"keys\":[]}"),
        (Some(200), private.as_bytes()),
        (Some(200), &large),
        (Some(301), other.as_bytes()),
        (Some(500), other.as_bytes()),
        (None, other.as_bytes()),
    ] {
        while plugin.host.callouts.borrow().is_empty() {
            pass(&plugin, 1);
        }
        plugin.answer(callout(&plugin).id, status, &[], body);
        let next = token(json!({ "exp": START + 3600, "jti": body.len().to_string() }));
        assert_eq!(send(&plugin, &next).status, 200, "{status:?}");
    }
}

#[test]
fn one_fetch_serves_all_workers() {
    let process = process();
    let workers: Vec<Plugin> = (0..4)
        .map(|_| start_on(&process, &fetching(json!({}))))
        .collect();
    let paused: Vec<_> = workers
        .iter()
        .map(|worker| worker.submit(bearer("/", &token(json!({})))).paused())
        .collect();
    for worker in &workers {
        worker.tick();
    }
    let [first, others @ ..] = workers.as_slice() else {
        panic!("no worker");
    };
    for other in others {
        no_callout(other);
    }
    publish(first, &[K1]);
    for (worker, paused) in workers.iter().zip(paused) {
        worker.tick();
        no_callout(worker);
        assert_eq!(worker.resume(paused).reply().status, 200);
    }

    // A key that one of them meets first is fetched once for all, too.
    let paused: Vec<_> = workers
        .iter()
        .map(|worker| {
            worker
                .submit(bearer("/", &K2.sign(&claims(json!({})))))
                .paused()
        })
        .collect();
    let count = |workers: &[Plugin]| -> usize {
        workers
            .iter()
            .map(|worker| worker.host.callouts.borrow().len())
            .sum()
    };
    for worker in workers.iter().rev() {
        worker.tick();
    }
    assert_eq!(count(&workers), 1);
    publish(&workers[3], &[K1, K2]);
    for (worker, paused) in workers.iter().zip(paused) {
        worker.tick();
        assert_eq!(worker.resume(paused).reply().status, 200);
    }
    assert_eq!(count(&workers), 0);
}

#[test]
fn a_worker_that_dies_is_replaced() {
    let process = process();
    let [dead, other] = [(); 2].map(|()| start_on::<Alone>(&process, &fetching(json!({}))));
    dead.tick();
    let unanswered = callout(&dead);
    drop(dead);
    let mut fetched_after = 0;
    while other.host.callouts.borrow().is_empty() {
        pass(&other, 1);
        fetched_after += 1;
        assert!(fetched_after <= 7, "the time-out and two seconds");
    }
    // An answer for somebody else is none.
    let keys = jwks(&[K2]).to_string();
    other.answer(unanswered.id, Some(200), &[], keys.as_bytes());
    publish(&other, &[K1]);
    assert_eq!(send(&other, &token(json!({}))).status, 200);
}

#[test]
fn a_client_that_goes_while_it_waits_leaves_nothing_behind() {
    let plugin = start(&fetching(json!({})));
    let gone = plugin.submit(bearer("/", &token(json!({})))).paused();
    plugin.abandon(gone);
    plugin.tick();
    let gone = plugin.submit(bearer("/", &token(json!({})))).paused();
    let stays = plugin.submit(bearer("/", &token(json!({})))).paused();
    let gone = plugin.resume(gone).paused();
    plugin.abandon(gone);
    publish(&plugin, &[K1]);
    assert_eq!(plugin.resume(stays).reply().status, 200);
    assert_eq!(send(&plugin, &token(json!({}))).status, 200);
}

#[test]
fn a_request_that_waits_is_charged_once() {
    let plugin: Gateway<WithPlans> = start_on(
        &process(),
        &with(
            fetching(json!({})),
            json!({
                "usage_plan": plans::acme(json!({
                    "plans": { "gold": { "quota": { "limit": 10, "period": "day" } } },
                    "token": {},
                })),
                "access": [{ "require": { "any_of": ["jwt", "api_key"] } }],
            }),
        ),
    );
    let token = token(json!({ "client_id": "acme" }));
    let paused = plugin.submit(bearer("/", &token)).paused();
    let gone = plugin.submit(bearer("/", &token)).paused();
    plugin.tick();
    let paused = plugin.resume(paused).paused();
    plugin.abandon(gone);
    publish(&plugin, &[K1]);
    let reply = plugin.resume(paused).reply();
    assert_eq!(plans::remaining(&reply), 9);
}

#[test]
fn keys_are_found_by_the_issuers_metadata() {
    let discovery = json!({
        "url": null, "discovery": "https://idp.example/.well-known/openid-configuration",
    });
    let plugin = start(&fetching(discovery.clone()));
    let paused = plugin.submit(bearer("/", &token(json!({})))).paused();
    plugin.tick();
    let sent = callout(&plugin);
    assert_eq!(
        sent.url,
        "https://idp.example/.well-known/openid-configuration"
    );
    let metadata = json!({ "issuer": ISSUER, "jwks_uri": "https://idp.example/keys" });
    let metadata = metadata.to_string();
    plugin.answer(sent.id, Some(200), &[], metadata.as_bytes());
    let paused = plugin.resume(paused).paused();
    assert_eq!(
        plugin.host.callouts.borrow()[0].url,
        "https://idp.example/keys"
    );
    publish(&plugin, &[K1]);
    assert_eq!(plugin.resume(paused).reply().status, 200);

    // They may send us to another host if the document says so.
    let elsewhere = json!({ "issuer": ISSUER, "jwks_uri": "https://keys.example/idp" });
    let elsewhere = elsewhere.to_string();
    let plugin = start(&fetching(with(
        discovery.clone(),
        json!({ "jwks_host": "keys.example" }),
    )));
    plugin.tick();
    plugin.answer(callout(&plugin).id, Some(200), &[], elsewhere.as_bytes());
    assert_eq!(callout(&plugin).url, "https://keys.example/idp");

    // The metadata of somebody else are not followed.
    for metadata in [
        json!({ "issuer": "https://evil.example/", "jwks_uri": "https://idp.example/keys" }),
        json!({ "issuer": ISSUER, "jwks_uri": "https://evil.example/keys" }),
        json!({ "issuer": ISSUER, "jwks_uri": "http://idp.example/keys" }),
    ] {
        let plugin = start(&fetching(discovery.clone()));
        plugin.tick();
        let metadata = metadata.to_string();
        plugin.answer(callout(&plugin).id, Some(200), &[], metadata.as_bytes());
        no_callout(&plugin);
    }
}

#[test]
fn keys_that_are_written_down_need_nobody() {
    let plugin = start(&config(json!({}), json!({})));
    assert_eq!(plugin.tick(), None);
    no_callout(&plugin);
    assert_eq!(send(&plugin, &token(json!({}))).status, 200);
    assert_eq!(plugin.host.process.shared_keys().len(), 0);
}
