//! Keys without `kid` (RFC 7517 section 4.5), and tokens that name one.

use tollgate_testkit::Submitted;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn unnamed(key: Key) -> Value {
    with(key.jwk(), json!({ "kid": null }))
}

fn set(keys: &[Value]) -> Value {
    json!({ "keys": keys })
}

/// A token that names a key `kid`, whoever signs it.
fn naming(kid: &str, key: Key) -> String {
    key.sign_as(&json!({ "alg": "ES256", "kid": kid }), &claims(json!({})))
}

fn start_with(more: Value, keys: &[Value]) -> Plugin {
    let plugin = start(&fetching(more));
    plugin.tick();
    publish_set(&plugin, &set(keys));
    plugin
}

#[test]
fn a_key_without_a_name_verifies_tokens_that_name_one_and_makes_no_fetch() {
    let plugin = start_with(json!({}), &[unnamed(K1)]);
    for kid in 0..20 {
        let token = naming(&format!("kid {kid}"), K1);
        assert_eq!(send(&plugin, &token).status, 200);
        pass(&plugin, 1);
        no_callout(&plugin);
    }

    let written = json!({ "jwks": { "inline": set(&[unnamed(K1)]) } });
    let plugin = start(&config(json!({}), written));
    assert_eq!(send(&plugin, &naming("any", K1)).status, 200);
    refused(&send(&plugin, &naming("any", K2)), 401, "key-unknown");
}

#[test]
fn a_request_that_waits_for_the_first_keys_makes_no_fetch_either() {
    for begun in [false, true] {
        let plugin = start(&fetching(json!({})));
        if begun {
            plugin.tick();
        }
        let paused = plugin.submit(bearer("/", &naming("x", K1))).paused();
        plugin.tick();
        let paused = plugin.resume(paused).paused();
        publish_set(&plugin, &set(&[unnamed(K1)]));
        assert_eq!(plugin.resume(paused).reply().status, 200);
        plugin.tick();
        no_callout(&plugin);
    }
}

#[test]
fn what_it_does_not_verify_may_be_by_a_new_key() {
    for new in [K2.jwk(), unnamed(K2)] {
        let plugin = start_with(json!({}), &[unnamed(K1)]);
        pass(&plugin, 5);
        let paused = plugin.submit(bearer("/", &naming("k2", K2))).paused();
        // What it does verify goes on, under the same name too.
        assert_eq!(send(&plugin, &naming("k2", K1)).status, 200);
        plugin.tick();
        let paused = plugin.resume(paused).paused();
        publish_set(&plugin, &set(&[unnamed(K1), new]));
        assert_eq!(plugin.resume(paused).reply().status, 200);
    }
}

#[test]
fn what_it_does_not_verify_is_looked_for_once() {
    let plugin = start_with(json!({ "cool_down": "10s" }), &[unnamed(K1)]);
    let paused = plugin.submit(bearer("/", &naming("x", K2))).paused();
    plugin.tick();
    publish_set(&plugin, &set(&[unnamed(K1)]));
    refused(&plugin.resume(paused).reply(), 401, "key-unknown");
    for kid in ["x", "y", "z"].repeat(10) {
        refused(&send(&plugin, &naming(kid, K2)), 401, "key-unknown");
        assert_eq!(send(&plugin, &naming(kid, K1)).status, 200);
    }
    pass(&plugin, 9);
    no_callout(&plugin);

    // The key may be new when the cool-down is over. If nobody can be asked, that can't be told.
    pass(&plugin, 1);
    let paused = plugin.submit(bearer("/", &naming("x", K2))).paused();
    plugin.tick();
    fail(&plugin);
    unavailable(&plugin.resume(paused).reply());
    unavailable(&send(&plugin, &naming("y", K2)));
    assert_eq!(send(&plugin, &naming("y", K1)).status, 200);
}

#[test]
fn a_key_with_another_name_is_not_tried() {
    let plugin = start_with(json!({}), &[unnamed(K1), K2.jwk()]);
    let calls = count_signatures(&plugin, None);
    let paused = plugin.submit(bearer("/", &naming("x", K2))).paused();
    assert_eq!(calls.get(), 1, "the one without a name");
    plugin.tick();
    publish_set(&plugin, &set(&[unnamed(K1), K2.jwk()]));
    refused(&plugin.resume(paused).reply(), 401, "key-unknown");
    // Nor is the one without a name for a name that is known.
    refused(&send(&plugin, &naming("k2", K1)), 401, "signature-invalid");
    plugin.tick();
    no_callout(&plugin);
}

#[test]
fn keys_that_are_too_old_are_not_tried_either() {
    let more = json!({ "refresh": "10s", "stale_for": "20s", "timeout": "1s" });
    let plugin = start_with(more, &[unnamed(K1)]);
    for _ in 1..20 {
        pass(&plugin, 1);
        if !plugin.host.callouts.borrow().is_empty() {
            fail(&plugin);
        }
        assert_eq!(send(&plugin, &naming("x", K1)).status, 200);
    }
    plugin.clock().advance(Duration::from_secs(1));
    // It may have to wait for the next attempt, or has not to if that is far.
    if let Submitted::Answered(reply, _) = plugin.submit(bearer("/", &naming("new", K1))) {
        unavailable(&reply);
    }
}
