//! Requests that wait for what a token is checked with.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

const AWAITED: Sent<'static> = Sent {
    token: Some("awaited"),
    key: None,
};

fn with_key(key: &str) -> Sent<'_> {
    Sent {
        key: Some(key),
        ..AWAITED
    }
}

fn under(rule: Value) -> Plugin {
    start(&config(json!([rule])))
}

/// What becomes of a request before the keys come; `None` if it waits.
fn at_once(plugin: &Plugin, sent: Sent<'_>) -> Option<(u16, String)> {
    match plugin.submit(request("/accounts/1", sent)) {
        Submitted::Answered(reply, _) => Some(outcome(&reply)),
        Submitted::Waiting(_) => None,
    }
}

#[test]
fn a_request_waits_only_for_what_decides_on_it() {
    let refused = |status, kind: &str| Some((status, kind.to_owned()));
    let passes = Some((200, String::new()));
    for (require, sent, becomes) in [
        (json!("jwt"), AWAITED, None),
        (json!({ "any_of": ["jwt", "anonymous"] }), AWAITED, None),
        (json!({ "any_of": ["jwt", "mtls"] }), AWAITED, None),
        // Another credential is enough.
        (
            json!({ "any_of": ["jwt", "api_key"] }),
            with_key("acme"),
            passes.clone(),
        ),
        (
            json!({ "any_of": ["jwt", "api_key"] }),
            with_key("unknown"),
            None,
        ),
        // What else is needed is missing or wrong, which waiting would not mend.
        (
            json!({ "all_of": ["jwt", "api_key"] }),
            with_key("acme"),
            None,
        ),
        (
            json!({ "all_of": ["jwt", "api_key"] }),
            with_key("unknown"),
            refused(401, "api-key-unknown"),
        ),
        (
            json!({ "all_of": ["jwt", "mtls"] }),
            AWAITED,
            refused(403, "client-certificate-missing"),
        ),
        // It is not looked at.
        (json!("anonymous"), AWAITED, passes.clone()),
        (json!("api_key"), with_key("acme"), passes),
    ] {
        let plugin = under(json!({ "require": require }));
        assert_eq!(at_once(&plugin, sent), becomes, "{require}");
    }
}

#[test]
fn it_is_judged_anew_when_the_keys_have_come() {
    let plugin = under(json!({ "require": { "all_of": ["jwt", "api_key"] } }));
    for (key, becomes) in [("acme", (200, "")), ("globex", (403, "client-mismatch"))] {
        plugin.clock().set(Timestamp::from_seconds(KEYS_COME - 1));
        let paused = plugin
            .submit(request("/accounts/1", with_key(key)))
            .paused();
        let paused = plugin.resume(paused).paused();
        plugin.clock().set(Timestamp::from_seconds(KEYS_COME));
        let reply = plugin.resume(paused).reply();
        assert_eq!(outcome(&reply), (becomes.0, becomes.1.to_owned()));
    }
}

#[test]
fn nobody_waits_for_what_is_tried_out() {
    let tried_out = json!({ "apis": apis(), "jwt_authz": { "mode": "shadow" }, "usage_plan": {} });
    let rule = config(json!([{ "require": "jwt", "mode": "shadow" }]));
    for (document, sent) in [(tried_out, with_key("acme")), (rule, AWAITED)] {
        let plugin = start(&document);
        assert_eq!(at_once(&plugin, sent), Some((200, String::new())));
        let state = plugin.host.filter_state.borrow();
        assert_eq!(state["tollgate_reason"], "issuer-unavailable");
    }
}
