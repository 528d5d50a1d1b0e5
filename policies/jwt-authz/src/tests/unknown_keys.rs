//! Tokens that name a key which is not among those known.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// A token whose key nobody has.
fn unknown(kid: &str) -> String {
    K2.sign_as(&json!({ "alg": "ES256", "kid": kid }), &claims(json!({})))
}

#[test]
fn a_new_key_is_fetched_with_the_first_token_that_names_it() {
    let plugin = start_with_keys(json!({}), &[K1]);
    pass(&plugin, 5);
    no_callout(&plugin);
    let new = K2.sign(&claims(json!({})));
    let paused = plugin.submit(bearer("/", &new)).paused();
    // What other keys sign goes on.
    assert_eq!(send(&plugin, &token(json!({}))).status, 200);
    plugin.tick();
    let second = plugin.submit(bearer("/", &new)).paused();
    let paused = plugin.resume(paused).paused();
    publish(&plugin, &[K2]);
    assert_eq!(plugin.resume(paused).reply().status, 200);
    assert_eq!(plugin.resume(second).reply().status, 200);
    // And the old one is no key any more.
    let old = plugin.submit(bearer("/", &token(json!({})))).reply();
    refused(&old, 401, "key-unknown");
}

#[test]
fn a_key_that_the_issuer_does_not_have_is_looked_for_once() {
    let plugin = start_with_keys(json!({ "cool_down": "10s" }), &[K1]);
    let paused = plugin.submit(bearer("/", &unknown("a"))).paused();
    plugin.tick();
    publish(&plugin, &[K1]);
    refused(&plugin.resume(paused).reply(), 401, "key-unknown");
    for kid in 0..100 {
        refused(
            &send(&plugin, &unknown(&kid.to_string())),
            401,
            "key-unknown",
        );
    }
    refused(&send(&plugin, &unknown("a")), 401, "key-unknown");
    pass(&plugin, 9);
    no_callout(&plugin);

    // After the cool-down one of them, or another, is worth a fetch again: it may be new by now.
    pass(&plugin, 1);
    let paused = plugin.submit(bearer("/", &unknown("b"))).paused();
    let again = plugin.submit(bearer("/", &unknown("a"))).paused();
    plugin.tick();
    let a = Key { kid: "a", ..K2 };
    publish(&plugin, &[K1, a]);
    refused(&plugin.resume(paused).reply(), 401, "key-unknown");
    assert_eq!(plugin.resume(again).reply().status, 200);
}

#[test]
fn many_workers_look_for_many_keys_with_one_fetch() {
    let process = process();
    let workers: Vec<Plugin> = (0..3)
        .map(|_| start_on(&process, &fetching(json!({}))))
        .collect();
    workers[0].tick();
    publish(&workers[0], &[K1]);
    let mut paused = Vec::new();
    for worker in &workers {
        worker.tick();
        for kid in 0..20 {
            let kid = format!("x{kid}");
            paused.push((worker, worker.submit(bearer("/", &unknown(&kid))).paused()));
        }
    }
    let callouts = || -> usize {
        let callouts = workers
            .iter()
            .map(|worker| worker.host.callouts.borrow().len());
        callouts.sum()
    };
    for worker in &workers {
        worker.tick();
    }
    assert_eq!(callouts(), 1);
    publish(&workers[0], &[K1]);
    for worker in &workers {
        worker.tick();
    }
    for (worker, paused) in paused {
        refused(&worker.resume(paused).reply(), 401, "key-unknown");
        worker.tick();
    }
    assert_eq!(callouts(), 0);
}

#[test]
fn while_the_issuer_is_down_a_key_may_be_new() {
    let plugin = start_with_keys(json!({}), &[K1]);
    let new = K2.sign(&claims(json!({})));
    let paused = plugin.submit(bearer("/", &new)).paused();
    plugin.tick();
    fail(&plugin);
    unavailable(&plugin.resume(paused).reply());
    unavailable(&send(&plugin, &new));
    assert_eq!(send(&plugin, &token(json!({}))).status, 200);

    // No answer at all, either.
    let plugin = start_with_keys(json!({ "max_wait": "2s" }), &[K1]);
    let paused = plugin.submit(bearer("/", &new)).paused();
    pass(&plugin, 2);
    unavailable(&plugin.resume(paused).reply());
    publish(&plugin, &[K1, K2]);
    assert_eq!(send(&plugin, &new).status, 200);
}

#[test]
fn a_token_that_is_refused_anyway_makes_no_fetch() {
    let plugin = start_with_keys(json!({}), &[K1]);
    for (claims, header) in [
        (
            json!({ "exp": START - 60 }),
            json!({ "alg": "ES256", "kid": "x" }),
        ),
        (
            json!({ "aud": "other" }),
            json!({ "alg": "ES256", "kid": "x" }),
        ),
        (
            json!({ "iss": "other" }),
            json!({ "alg": "ES256", "kid": "x" }),
        ),
        (json!({}), json!({ "alg": "none", "kid": "x" })),
    ] {
        let token = K2.sign_as(&header, &super::claims(claims));
        assert_eq!(send(&plugin, &token).status, 401);
    }
    // Nor one that names no key.
    let unnamed = K2.sign_as(&json!({ "alg": "ES256" }), &claims(json!({})));
    refused(&send(&plugin, &unnamed), 401, "signature-invalid");
    plugin.tick();
    no_callout(&plugin);
}
