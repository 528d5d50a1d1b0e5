//! Where an HTTP front is, and what is shown to it.

#![allow(clippy::unwrap_used, reason = "a test may fail by a panic")]

use tollgate_quota_store::redis::{
    Credentials, Dialect, Endpoint, HttpRequest, Nonce, RedisHttp, Script,
};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn credentials_go_into_a_header_and_into_nothing_else() {
    let request = |path: &str, credentials| -> HttpRequest {
        let endpoint = Endpoint::new("quota.example", path, credentials).unwrap();
        RedisHttp::new(Dialect::Upstash, endpoint).encode(&[], Nonce(1), Script::ByDigest)
    };
    let authorization = |request: &HttpRequest| {
        let mut headers = request.headers.iter();
        let found = headers.find(|(name, _)| *name == "authorization");
        found.map(|(_, value)| value.clone())
    };
    let bearer = request(
        "/redis/",
        Credentials::Bearer {
            token: "s3cret".into(),
        },
    );
    assert_eq!(bearer.path, "/redis/pipeline");
    assert_eq!(authorization(&bearer).unwrap(), "Bearer s3cret");
    assert!(!format!("{bearer:?}").contains("s3cret"));
    let basic = Credentials::Basic {
        user: "Aladdin".into(),
        password: "open sesame".into(),
    };
    // The example of RFC 7617 section 2.
    assert_eq!(
        authorization(&request("", basic)).unwrap(),
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
    assert_eq!(authorization(&request("/", Credentials::None)), None);
}

#[test]
fn endpoints_that_make_no_request_are_refused() {
    for authority in [
        "",
        "user@host",
        "host:port",
        "host:99999",
        "http://host",
        "a b",
        "host/",
    ] {
        assert!(
            Endpoint::new(authority, "", Credentials::None).is_err(),
            "{authority}"
        );
    }
    for authority in [
        "host",
        "host:80",
        "127.0.0.1:7379",
        "[::1]:7379",
        "a_b.default.svc",
    ] {
        assert!(
            Endpoint::new(authority, "", Credentials::None).is_ok(),
            "{authority}"
        );
    }
    for path in ["redis", "/a?b", "/a b", "/ä", "/a#b"] {
        assert!(
            Endpoint::new("host", path, Credentials::None).is_err(),
            "{path}"
        );
    }
    let refused = |credentials| {
        Endpoint::new("host", "", credentials)
            .err()
            .unwrap()
            .to_string()
    };
    for token in ["", "a b", "a\n", "ä"] {
        let token = token.to_owned();
        assert!(refused(Credentials::Bearer { token }).starts_with("found a token"));
    }
    for (user, password) in [("a:b", "c"), ("a", "b\n")] {
        let (user, password) = (user.to_owned(), password.to_owned());
        assert!(refused(Credentials::Basic { user, password }).starts_with("found a user"));
    }
}
