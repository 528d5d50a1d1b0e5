//! Where a token may be, and that it goes no further.

use tollgate_testkit::Seen;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// The policy with these places.
fn at(places: Value) -> Plugin {
    start(&config(json!({ "token": places }), json!({})))
}

fn everywhere(more: Value) -> Value {
    with(
        json!({
            "headers": ["authorization", "x-token", { "name": "x-auth", "scheme": "Token" }],
            "query": ["access_token", "jwt"],
            "cookies": ["session", "jwt"],
        }),
        more,
    )
}

/// A request that carries the token, in each place.
fn requests(token: &str) -> Vec<Request> {
    vec![
        bearer("/a?b=c", token),
        Request::get("/a?b=c").header("x-token", token),
        Request::get("/a?b=c").header("x-auth", format!("token   {token} ")),
        Request::get(&format!("/a?access%5Ftoken={token}&b=c")),
        Request::get(&format!("/a?b=c&jwt={token}")),
        Request::get("/a?b=c").header("cookie", format!("a=b; session={token}; c=d")),
        Request::get("/a?b=c").header("cookie", format!("jwt=\"{token}\"")),
    ]
}

fn holds(seen: &Seen, text: &str) -> bool {
    let mut headers = seen.0.iter();
    headers.any(|(_, value)| String::from_utf8_lossy(value).contains(text))
}

#[test]
fn a_token_is_found_in_each_place_and_taken_out() {
    let plugin = at(everywhere(json!({})));
    let token = token(json!({}));
    for request in requests(&token) {
        let reply = plugin.send(request.clone());
        assert_eq!(reply.status, 200, "{request:?}");
        let upstream = reply.upstream.unwrap();
        assert!(!holds(&upstream, &token), "{upstream:?}");
        assert_eq!(upstream.header(":path").as_deref(), Some("/a?b=c"));
        assert_eq!(upstream.all("authorization").len(), 0);
    }
    let cookie = Request::get("/").header("cookie", format!("a=b; session={token}; c=d"));
    let upstream = plugin.send(cookie).upstream.unwrap();
    assert_eq!(upstream.header("cookie").as_deref(), Some("a=b; c=d"));
}

#[test]
fn authorization_is_looked_at_unless_another_place_is_named() {
    let token = token(json!({}));
    for (places, statuses) in [
        (json!({}), [200, 401]),
        (json!({ "headers": "X-Token" }), [401, 200]),
        (
            json!({ "headers": ["authorization", "x-token"] }),
            [200, 200],
        ),
        (json!({ "query": "jwt" }), [401, 401]),
        (
            json!({ "headers": { "name": "authorization", "scheme": "DPoP" } }),
            [401, 401],
        ),
    ] {
        let plugin = at(places.clone());
        let found = [
            send(&plugin, &token).status,
            plugin
                .send(Request::get("/").header("x-token", &token))
                .status,
        ];
        assert_eq!(found, statuses, "{places}");
    }
}

#[test]
fn the_scheme_that_is_read_is_asked_for() {
    let scheme = |name: &str, scheme: &str| json!({ "name": name, "scheme": scheme });
    for (places, expected) in [
        (json!({}), "Bearer"),
        (
            json!({ "headers": scheme("Authorization", "DPoP") }),
            "DPoP",
        ),
        (
            json!({ "headers": ["x-token", scheme("authorization", "DPoP")] }),
            "DPoP",
        ),
        (
            json!({ "headers": scheme("x-token", "Token"), "query": "jwt" }),
            "Bearer",
        ),
    ] {
        let reply = at(places.clone()).send(Request::get("/"));
        refused(&reply, 401, "credentials-missing");
        assert_eq!(
            challenges(&reply),
            [format!("{expected} realm=\"api\"")],
            "{places}"
        );
    }
    let plugin = at(json!({ "headers": scheme("authorization", "DPoP") }));
    let reply = plugin.send(Request::get("/").header("authorization", "DPoP x"));
    refused(&reply, 401, "token-malformed");
    let [challenge] = challenges(&reply)[..] else {
        panic!("{reply:?}");
    };
    assert!(challenge.starts_with("DPoP realm=\"api\", error=\"invalid_token\""));
}

#[test]
fn the_scheme_is_read_in_any_letter_case_and_told_from_others() {
    let plugin = at(json!({}));
    let token = token(json!({}));
    let send = |value: String| plugin.send(Request::get("/").header("authorization", value));
    for good in [format!("bearer {token}"), format!("BEARER  {token} ")] {
        assert_eq!(send(good).status, 200);
    }
    for other in [
        format!("Bearer{token}"),
        format!("Basic {token}"),
        token.clone(),
        String::new(),
    ] {
        refused(&send(other), 401, "credentials-missing");
    }
    // What is none of ours is left for whom it is for.
    let plugin = start(&with(
        config(json!({}), json!({})),
        json!({ "access": [{ "require": { "any_of": ["jwt", "anonymous"] } }] }),
    ));
    let basic = Request::get("/").header("authorization", "Basic YTpi");
    let upstream = plugin.send(basic).upstream.unwrap();
    assert_eq!(
        upstream.header("authorization").as_deref(),
        Some("Basic YTpi")
    );
}

#[test]
fn more_than_one_token_is_a_bad_request() {
    let plugin = at(everywhere(json!({})));
    let token = token(json!({}));
    let sentence = "More than one token was sent; send exactly one.";
    for first in requests(&token) {
        for more in [
            first.clone().header("x-token", "x"),
            first.clone().header("authorization", "Bearer x"),
            first.header("cookie", "session=x"),
        ] {
            let reply = plugin.send(more.clone());
            // A second cookie or header beside another of its name, too.
            refused(&reply, 400, "token-repeated");
            assert_eq!(reply.problem()["detail"], sentence);
            assert_eq!(
                challenges(&reply),
                [format!(
                    "Bearer realm=\"api\", error=\"invalid_request\", \
                     error_description=\"{sentence}\""
                )]
            );
            assert!(!holds(&reply.logged, &token), "{more:?}");
        }
    }
    let twice = Request::get(&format!("/?jwt={token}&jwt={token}"));
    refused(&plugin.send(twice), 400, "token-repeated");
    // An authorization of another scheme beside ours is one too many as well.
    let two = bearer("/", &token).header("authorization", "Basic YTpi");
    refused(&plugin.send(two), 400, "token-repeated");
}

#[test]
fn a_token_that_is_announced_and_missing_is_a_bad_request() {
    let plugin = at(everywhere(json!({})));
    let sentence = "A token was announced and is missing.";
    for request in [
        Request::get("/").header("authorization", "Bearer"),
        Request::get("/").header("authorization", "Bearer   "),
        Request::get("/").header("x-token", ""),
        Request::get("/?jwt="),
        Request::get("/?jwt"),
        Request::get("/").header("cookie", "session="),
    ] {
        let reply = plugin.send(request.clone());
        refused(&reply, 400, "token-empty");
        assert_eq!(
            challenges(&reply),
            [format!(
                "Bearer realm=\"api\", error=\"invalid_request\", error_description=\"{sentence}\""
            )],
            "{request:?}"
        );
    }
}

#[test]
fn a_token_of_a_refused_request_is_in_no_access_log() {
    let plugin = start(&with(
        config(json!({ "token": everywhere(json!({})) }), json!({})),
        json!({
            "apis": [{ "name": "a", "match": [{ "path": "/a" }] }],
            "access": [{ "apis": ["a"], "require": "jwt", "scopes": "write" }],
        }),
    ));
    let good = token(json!({ "scope": "read" }));
    let expired = token(json!({ "exp": START - 60 }));
    for (token, status) in [(good, 403), (expired, 401)] {
        for request in requests(&token) {
            let reply = plugin.send(request);
            assert_eq!(reply.status, status);
            assert!(!holds(&reply.logged, &token));
        }
    }
    // Nor where the request was refused before anybody looked at the token.
    let ambiguous = plugin.send(Request::get("/a%2Fb?jwt=secret"));
    refused(&ambiguous, 400, "request-ambiguous");
    assert_eq!(ambiguous.logged.header(":path").as_deref(), Some("/a%2Fb"));
}

#[test]
fn a_token_may_be_left_for_the_upstream() {
    let plugin = at(everywhere(json!({ "strip": false })));
    let token = token(json!({}));
    for request in requests(&token) {
        let reply = plugin.send(request.clone());
        let upstream = reply.upstream.unwrap();
        for name in [":path", "authorization", "x-token", "x-auth", "cookie"] {
            assert_eq!(upstream.all(name), request.header_values(name));
        }
    }
}

#[test]
fn cookies_of_token_and_key_are_both_taken_out() {
    let plugin: Gateway<WithPlans> = start_on(
        &process(),
        &with(
            config(json!({ "token": { "cookies": "session" } }), json!({})),
            json!({ "usage_plan": plans::acme(json!({ "key": { "cookie": "key" } })) }),
        ),
    );
    let token = token(json!({ "client_id": "acme" }));
    for (cookies, left) in [
        (
            format!("a=b; session={token}; key=acme-key; c=d"),
            Some("a=b; c=d"),
        ),
        (format!("key=acme-key; a=b; session={token}"), Some("a=b")),
        (format!("key=acme-key; session={token}"), None),
    ] {
        let reply = plugin.send(Request::get("/").header("cookie", cookies));
        assert_eq!(reply.status, 200, "{reply:?}");
        let upstream = reply.upstream.unwrap();
        assert_eq!(upstream.header("cookie").as_deref(), left);
    }
    let apart = Request::get("/")
        .header("cookie", format!("session={token}; a=b"))
        .header("cookie", "c=d; key=acme-key");
    let upstream = plugin.send(apart).upstream.unwrap();
    assert_eq!(upstream.header("cookie").as_deref(), Some("a=b; c=d"));
}

#[test]
fn a_place_may_hold_any_bytes() {
    let plugin = at(everywhere(json!({})));
    for bytes in [
        &b"\xff\xfe"[..],
        b"\0",
        b"...",
        b"\xc3\xa9.a.b",
        &[b'.'; 40_000],
    ] {
        let request = Request::get("/").header("x-token", bytes);
        assert_eq!(plugin.send(request).status, 401);
        let request = Request::get("/").header("authorization", [b"Bearer ", bytes].concat());
        assert_eq!(plugin.send(request).status, 401);
    }
}
