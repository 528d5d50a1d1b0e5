//! Tokens that were found good are not verified again, as long as nothing has changed.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// The policy with this cache.
fn caching(cache: Value) -> Plugin {
    start(&config(json!({ "cache": cache }), json!({})))
}

fn numbered(number: u32) -> String {
    token(json!({ "jti": number.to_string() }))
}

#[test]
fn a_token_that_was_seen_is_not_verified_again() {
    let plugin = caching(json!({}));
    let calls = count_signatures(&plugin, Some(true));
    let first = token(json!({}));
    for _ in 0..5 {
        assert_eq!(send(&plugin, &first).status, 200);
    }
    assert_eq!(calls.get(), 1);
    assert_eq!(send(&plugin, &numbered(1)).status, 200);
    assert_eq!(calls.get(), 2);
    // Nor does it matter where it is sent.
    let plugin = start(&config(
        json!({ "token": { "headers": ["authorization", "x-token"] } }),
        json!({}),
    ));
    let calls = count_signatures(&plugin, Some(true));
    send(&plugin, &first);
    assert_eq!(
        plugin
            .send(Request::get("/").header("x-token", &first))
            .status,
        200
    );
    assert_eq!(calls.get(), 1);
}

#[test]
fn other_bytes_are_another_token() {
    let plugin = start(&config(json!({}), json!({})));
    let good = token(json!({}));
    assert_eq!(send(&plugin, &good).status, 200);
    let (input, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[10] ^= 1;
    let forged = format!("{input}.{}", base64url(&bytes));
    refused(&send(&plugin, &forged), 401, "signature-invalid");
    let mut shorter = good.clone();
    shorter.pop();
    assert_eq!(send(&plugin, &shorter).status, 401);
    assert_eq!(send(&plugin, &format!("{good}A")).status, 401);
    assert_eq!(send(&plugin, &good).status, 200);
}

#[test]
fn what_is_refused_is_not_remembered() {
    let plugin = caching(json!({}));
    let calls = count_signatures(&plugin, Some(false));
    let token = token(json!({}));
    for _ in 0..3 {
        refused(&send(&plugin, &token), 401, "signature-invalid");
    }
    assert_eq!(calls.get(), 3);
    let calls = count_signatures(&plugin, Some(true));
    assert_eq!(send(&plugin, &token).status, 200);
    assert_eq!(calls.get(), 1);
}

#[test]
fn a_remembered_token_expires() {
    let plugin = caching(json!({}));
    let calls = count_signatures(&plugin, Some(true));
    let token = token(json!({ "exp": START + 10 }));
    let at = |second: u64| {
        plugin.clock().set(Timestamp::from_seconds(START + second));
        send(&plugin, &token)
    };
    assert_eq!(at(0).status, 200);
    assert_eq!(at(69).status, 200);
    refused(&at(70), 401, "token-expired");
    assert_eq!(calls.get(), 1);
}

#[test]
fn a_remembered_token_is_verified_again_after_a_while() {
    let plugin = caching(json!({ "ttl": "10s" }));
    let calls = count_signatures(&plugin, Some(true));
    let token = token(json!({}));
    for (second, verified) in [(0, 1), (9, 1), (10, 2), (19, 2), (20, 3)] {
        plugin.clock().set(Timestamp::from_seconds(START + second));
        assert_eq!(send(&plugin, &token).status, 200);
        assert_eq!(calls.get(), verified, "{second}");
    }
}

#[test]
fn a_clock_that_steps_back_makes_nothing_last_longer() {
    let plugin = caching(json!({ "ttl": "10s" }));
    let calls = count_signatures(&plugin, Some(true));
    let token = token(json!({}));
    assert_eq!(send(&plugin, &token).status, 200);
    plugin.clock().set(Timestamp::from_seconds(START - 1));
    assert_eq!(send(&plugin, &token).status, 200);
    assert_eq!(calls.get(), 2);
    // Before a token was issued it is not accepted, remembered or not.
    plugin.clock().set(Timestamp::from_seconds(START - 61));
    refused(&send(&plugin, &token), 401, "token-issued-in-future");
}

#[test]
fn other_keys_make_all_tokens_be_verified_again() {
    let plugin = start_with_keys(json!({ "refresh": "30s" }), &[K1, K2]);
    let calls = count_signatures(&plugin, Some(true));
    let tokens = [token(json!({})), K2.sign(&claims(json!({})))];
    let send_both = || tokens.each_ref().map(|token| send(&plugin, token).status);
    let refresh = |keys: &[Key]| {
        while plugin.host.callouts.borrow().is_empty() {
            pass(&plugin, 1);
        }
        publish(&plugin, keys);
    };
    assert_eq!(send_both(), [200, 200]);
    refresh(&[K1, K2]);
    assert_eq!(send_both(), [200, 200]);
    assert_eq!(calls.get(), 2, "the same keys as before");
    refresh(&[K2, K1]);
    assert_eq!(send_both(), [200, 200]);
    assert_eq!(calls.get(), 4);

    // A key that is withdrawn takes its tokens with it, though the worker knows them.
    refresh(&[K1]);
    assert_eq!(send(&plugin, &tokens[0]).status, 200);
    let paused = plugin.submit(bearer("/", &tokens[1])).paused();
    plugin.tick();
    publish(&plugin, &[K1]);
    refused(&plugin.resume(paused).reply(), 401, "key-unknown");
}

#[test]
fn the_number_of_tokens_is_bounded() {
    // Two halves of two: what is used stays, and what is not is forgotten.
    let plugin = caching(json!({ "max_tokens": 4 }));
    let calls = count_signatures(&plugin, Some(true));
    let favourite = numbered(0);
    send(&plugin, &favourite);
    for number in 1..20 {
        send(&plugin, &numbered(number));
        send(&plugin, &favourite);
    }
    assert_eq!(calls.get(), 20);
    send(&plugin, &numbered(1));
    assert_eq!(calls.get(), 21);

    let none = caching(json!({ "max_tokens": 0 }));
    let calls = count_signatures(&none, Some(true));
    send(&none, &favourite);
    send(&none, &favourite);
    assert_eq!(calls.get(), 2);

    // Too long to be remembered.
    let small = caching(json!({ "max_size": "64B" }));
    let calls = count_signatures(&small, Some(true));
    send(&small, &favourite);
    send(&small, &favourite);
    assert_eq!(calls.get(), 2);
}

#[test]
fn each_worker_remembers_for_itself() {
    let process = process();
    let [one, other] = [(); 2].map(|()| start_on::<Alone>(&process, &config(json!({}), json!({}))));
    let calls = [&one, &other].map(|worker| count_signatures(worker, Some(true)));
    let token = token(json!({}));
    for worker in [&one, &other, &one] {
        assert_eq!(send(worker, &token).status, 200);
    }
    assert_eq!(calls.map(|calls| calls.get()), [1, 1]);
}
