//! Which requests a limit is about.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// Whether a limit on `global` of one request an hour counts this request.
fn counts(limit: Value, request: &Request) -> bool {
    let mut fields = json!({ "name": "one", "key": "global", "rate": "1/h" });
    let limit = limit.as_object().unwrap().clone();
    fields.as_object_mut().unwrap().extend(limit);
    let gateway: Gateway<Alone> = start(&json!({ "apis": apis(), "rate_limit": [fields] }));
    match statuses(&gateway, request, 2)[..] {
        [200, 429] => true,
        [200, 200] => false,
        ref others => panic!("{others:?} to {request:?}"),
    }
}

#[test]
fn a_limit_may_be_about_some_apis() {
    let get = |path: &str| Request::get(path);
    let one = json!({ "apis": ["accounts-v1"] });
    assert!(counts(one.clone(), &get("/v1/accounts/7")));
    assert!(counts(one.clone(), &get("/v1/x/../accounts")));
    assert!(!counts(one.clone(), &get("/v1/payments")));
    assert!(!counts(one, &get("/")));
    let both = json!({ "apis": ["payments-v1", "accounts-v1"] });
    assert!(counts(both.clone(), &get("/v1/accounts/7")));
    assert!(counts(both.clone(), &get("/v1/payments/7")));
    assert!(!counts(both, &get("/")));
    assert!(counts(json!({}), &get("/")));
}

#[test]
fn a_limit_may_be_about_paths_methods_and_hosts() {
    let host = |host: &str| {
        Request::get("/")
            .without(":authority")
            .header(":authority", host)
    };
    let post = |path: &str| Request::new("POST", path);
    let get = |path: &str| Request::get(path);
    for (matches, request, counted) in [
        (json!({ "path": "/v1/**" }), get("/v1/x"), true),
        (json!({ "path": "/v1/**" }), get("/v2/x"), false),
        (
            json!({ "path": "/v1/users/{id}" }),
            get("/v1/users/7"),
            true,
        ),
        (
            json!({ "path": "/v1/users/{id}" }),
            get("/v1/users/7/x"),
            false,
        ),
        (json!({ "methods": "POST" }), post("/"), true),
        (json!({ "methods": "POST" }), get("/"), false),
        (json!({ "methods": ["PUT", "GET"] }), get("/"), true),
        (json!({ "hosts": "a.example" }), host("a.example"), true),
        (json!({ "hosts": "a.example" }), host("A.Example"), true),
        (json!({ "hosts": "a.example" }), host("b.example"), false),
        (json!({ "hosts": ["*.example"] }), host("b.example"), true),
        (json!({ "path": "/x", "methods": "POST" }), post("/x"), true),
        (json!({ "path": "/x", "methods": "POST" }), get("/x"), false),
        (
            json!({ "path": "/x", "methods": "POST" }),
            post("/y"),
            false,
        ),
        (
            json!([{ "path": "/x" }, { "methods": "POST" }]),
            post("/y"),
            true,
        ),
        (
            json!([{ "path": "/x" }, { "methods": "POST" }]),
            get("/x"),
            true,
        ),
        (
            json!([{ "path": "/x" }, { "methods": "POST" }]),
            get("/y"),
            false,
        ),
    ] {
        assert_eq!(
            counts(json!({ "match": matches }), &request),
            counted,
            "{matches} {request:?}"
        );
    }
}

#[test]
fn apis_and_match_must_both_fit() {
    let limit = json!({ "apis": ["accounts-v1"], "match": { "methods": "POST" } });
    assert!(counts(limit.clone(), &Request::new("POST", "/v1/accounts")));
    assert!(!counts(limit.clone(), &Request::get("/v1/accounts")));
    assert!(!counts(limit, &Request::new("POST", "/v1/payments")));
}

/// A path that servers read in two ways could be counted where it is not served; where no limit
/// asks for the path it passes as it came.
#[test]
fn an_ambiguous_path_is_refused_where_a_limit_depends_on_it() {
    let ambiguous = Request::get("/v1/accounts/..%2fx");
    let scoped = |mode: &str| {
        gateway(json!([
            { "name": "one", "key": "global", "rate": "9/h", "match": { "path": "/v1/**" }, "mode": mode },
        ]))
    };
    let reply = scoped("enforce").send(ambiguous.clone());
    assert_eq!(
        (reply.status, reply.kind().as_str()),
        (400, "request-ambiguous")
    );
    assert_eq!(scoped("shadow").send(ambiguous.clone()).status, 200);
    let everywhere = gateway(json!([{ "name": "one", "key": "global", "rate": "9/h" }]));
    let reply = everywhere.send(ambiguous);
    let path = reply.upstream.unwrap().header(":path");
    assert_eq!(path.as_deref(), Some("/v1/accounts/..%2fx"));
}

#[test]
fn exempt_addresses_are_not_counted() {
    for count in ["admitted", "all"] {
        let gateway = gateway(json!([{
            "name": "one", "key": "global", "rate": "1/h", "count": count,
            "exempt": { "addresses": ["10.0.0.0/8", "2001:db8::7"] },
        }]));
        for exempt in ["10.1.2.3", "2001:db8::7", "::ffff:10.0.0.1"] {
            assert_eq!([(); 3].map(|()| from(&gateway, exempt).status), [200; 3]);
        }
        assert_eq!(left(&from(&gateway, "10.1.2.3"), "one"), None);
        assert_eq!(from(&gateway, "192.0.2.1").status, 200);
        for counted in ["192.0.2.2", "2001:db8::8"] {
            assert_eq!(from(&gateway, counted).status, 429);
        }
        assert_eq!(from(&gateway, "10.1.2.3").status, 200);
        // Whoever can't be told is not exempt.
        gateway.host.client_address.set(None);
        assert_eq!(gateway.send(Request::get("/")).status, 429);
    }
}

#[test]
fn exempt_consumers_and_plans_are_not_counted() {
    for (exempt, free, counted) in [
        (
            json!({ "consumers": ["acme"] }),
            vec!["acme"],
            vec!["bolt", "cent"],
        ),
        (
            json!({ "plans": ["gold"] }),
            vec!["acme", "bolt"],
            vec!["cent"],
        ),
        (
            json!({ "plans": ["bronze"], "consumers": ["bolt"] }),
            vec!["bolt", "cent"],
            vec!["acme"],
        ),
    ] {
        let limits = json!([{ "name": "one", "key": "consumer", "rate": "1/h", "exempt": exempt }]);
        let gateway: Gateway<WithPlans> = start(&with_plans(limits, json!({})));
        for key in free {
            assert_eq!(
                statuses(&gateway, &caller(key), 3),
                [200; 3],
                "{key} {exempt}"
            );
        }
        for key in counted {
            assert_eq!(
                statuses(&gateway, &caller(key), 2),
                [200, 429],
                "{key} {exempt}"
            );
        }
    }
}
