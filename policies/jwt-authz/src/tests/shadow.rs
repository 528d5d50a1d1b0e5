//! In shadow mode nothing is refused, everything is counted, and nothing is taken away.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn shadow() -> Value {
    config(
        json!({ "mode": "shadow", "token": { "headers": "authorization", "query": "jwt" } }),
        json!({ "claims_to_headers": [{ "claim": "sub", "header": "x-subject" }] }),
    )
}

/// The decision that the request's access log shows, and its reason.
fn decision(plugin: &Plugin) -> (String, String) {
    let state = plugin.host.filter_state.borrow();
    let of = |key: &str| state.get(key).cloned().unwrap_or_default();
    (of("tollgate_decision"), of("tollgate_reason"))
}

#[test]
fn nothing_is_refused_and_everything_counted() {
    let plugin = start(&shadow());
    for (request, reason) in [
        (Request::get("/"), "credentials-missing"),
        (
            Request::get("/").header("authorization", "Bearer"),
            "token-empty",
        ),
        (bearer("/?jwt=x", "x"), "token-repeated"),
        (bearer("/", "x.y.z"), "token-malformed"),
        (
            bearer("/", &token(json!({ "exp": START - 60 }))),
            "token-expired",
        ),
        (bearer("/", &K2.sign(&claims(json!({})))), "key-unknown"),
    ] {
        assert_eq!(plugin.send(request).status, 200, "{reason}");
        let told = ("would_deny".to_owned(), reason.to_owned());
        assert_eq!(decision(&plugin), told);
    }
    assert_eq!(send(&plugin, &token(json!({}))).status, 200);
    assert_eq!(decision(&plugin).0, "allow");
}

#[test]
fn the_token_stays_for_whom_it_is_still_for() {
    let plugin = start(&shadow());
    let token = token(json!({}));
    let authorization = Some(format!("Bearer {token}"));
    let upstream = send(&plugin, &token).upstream.unwrap();
    assert_eq!(upstream.header("authorization"), authorization);
    let path = format!("/?jwt={token}");
    let upstream = plugin.send(Request::get(&path)).upstream.unwrap();
    assert_eq!(upstream.header(":path"), Some(path));
}

#[test]
fn identity_is_set_and_not_forged() {
    let plugin = start(&shadow());
    let send = |token: &str| {
        let request = bearer("/", token).header("x_subject", "forged");
        let request = request.header("x-subject", "forged");
        plugin.send(request).upstream.unwrap()
    };
    let upstream = send(&token(json!({})));
    assert_eq!(upstream.header("x-subject").as_deref(), Some("alice"));
    assert_eq!(upstream.header("x_subject"), None);
    let upstream = send("x.y.z");
    assert_eq!(upstream.header("x-subject"), None);
    assert_eq!(upstream.header("x_subject"), None);
}

#[test]
fn an_issuer_that_is_down_refuses_nothing() {
    for more in [json!({}), json!({ "max_wait": "0s" })] {
        let plugin = start(&config(json!({ "mode": "shadow" }), published(more)));
        // Nor does it keep anybody waiting; the keys are fetched all the same.
        assert_eq!(send(&plugin, &token(json!({}))).status, 200);
        let told = ("would_deny".to_owned(), "issuer-unavailable".to_owned());
        assert_eq!(decision(&plugin), told);
        plugin.tick();
        publish(&plugin, &[K1]);
        assert_eq!(send(&plugin, &token(json!({}))).status, 200);
        assert_eq!(decision(&plugin).0, "allow");
    }
}

#[test]
fn a_token_that_is_only_tried_out_costs_nobody_the_request() {
    let plugin: Gateway<WithPlans> = start_on(
        &process(),
        &with(
            shadow(),
            json!({
                "usage_plan": plans::acme(json!({})),
                "access": [{ "require": { "all_of": ["jwt", "api_key"] }, "scopes": "read" }],
            }),
        ),
    );
    let decision = || {
        let state = plugin.host.filter_state.borrow();
        let of = |key: &str| state.get(key).cloned().unwrap_or_default();
        (of("tollgate_decision"), of("tollgate_reason"))
    };
    let with_key = |request: Request| request.header("x-api-key", "acme-key");
    let of = |more: Value| with_key(bearer("/", &token(more)));
    for (request, reason) in [
        (with_key(Request::get("/")), "credentials-missing"),
        (of(json!({ "exp": START - 60 })), "token-expired"),
        (of(json!({ "client_id": "acme" })), "scope-insufficient"),
        (
            of(json!({ "client_id": "other", "scope": "read" })),
            "client-mismatch",
        ),
    ] {
        let reply = plugin.send(request);
        assert_eq!(reply.status, 200, "{reason}: {}", reply.kind());
        assert_eq!(decision(), ("would_deny".to_owned(), reason.to_owned()));
    }
    // The key is needed all the same.
    let reply = plugin.send(bearer("/", &token(json!({ "scope": "read" }))));
    refused(&reply, 401, "credentials-missing");
}
