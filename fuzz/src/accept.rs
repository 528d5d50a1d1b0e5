//! Header fields that clients and upstreams write: `Accept`, and those of an API's end.

use std::cell::RefCell;

use serde_json::json;
use tollgate_core::time::Timestamp;
use tollgate_lifecycle::{
    Deprecation, MediaRange, Merged, Sunset, merge_deprecation, merge_sunset,
};
use tollgate_problem_format::{MediaType, choose};
use tollgate_testkit::{Gateway, Reply, Request};

use crate::setup::START;

type Plugin = Gateway<
    tollgate_core::chain!(
        tollgate_request_id::RequestId,
        tollgate_problem_details::ProblemDetails,
        tollgate_rate_limit::RateLimit,
    ),
>;

thread_local! {
    static PLUGIN: RefCell<Plugin> = RefCell::new(
        Gateway::start(&json!({
            "request_id": {},
            "problem_details": {},
            "rate_limit": [{ "name": "none", "key": "global", "rate": "1/d", "cost": 1 }],
        }))
        .unwrap_or_else(|errors| panic!("{errors}")),
    );
}

/// Lines are values of a field.
pub fn check(bytes: &[u8]) {
    let values: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    check_choice(&values);
    check_document(&values);
    check_dates(&values);
    if let Err(error) = String::from_utf8_lossy(bytes).parse::<MediaRange>() {
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
}

/// Values in several fields mean what they mean in one, in any number of empty elements.
fn check_choice(values: &[&[u8]]) {
    let chosen = choose(values.iter().copied());
    // A quote that is open at the end of a field would swallow the next.
    let balanced = values.iter().all(|value| !value.contains(&b'"'));
    if balanced {
        let joined = values.join(&b", "[..]);
        assert_eq!(choose([joined.as_slice()].into_iter()), chosen);
        let spaced = [b" ,\t,", joined.as_slice(), b",, "].concat();
        assert_eq!(choose([spaced.as_slice()].into_iter()), chosen);
    }
    let anything = values.iter().copied().chain([b"*/*;q=0.001".as_slice()]);
    if chosen != MediaType::ProblemJson && balanced {
        assert_eq!(choose(anything), chosen, "a fallback is no wish");
    }
}

/// A problem is well-formed in whatever type was chosen.
fn check_document(values: &[&[u8]]) {
    let mut request = Request::get("/");
    for value in values {
        request = request.header("accept", value);
    }
    let reply = PLUGIN.with_borrow(|plugin| {
        plugin.send(Request::get("/"));
        plugin.send(request)
    });
    assert_eq!(reply.status, 429, "{reply:?}");
    well_formed(&reply);
}

/// Checks that the body of a refusal is what its `content-type` says, and its fields are fields.
pub fn well_formed(reply: &Reply) {
    for (name, value) in &reply.headers {
        assert!(!value.contains(char::is_control), "{name}: {value:?}");
    }
    for name in ["ratelimit", "ratelimit-policy"] {
        if let Some(value) = reply.header(name) {
            let list = sfv::Parser::new(value).parse::<sfv::List>();
            assert!(list.is_ok_and(|list| !list.is_empty()), "{name}: {value}");
        }
    }
    if reply.upstream.is_some() || reply.body.is_empty() {
        return;
    }
    let text = std::str::from_utf8(&reply.body).expect("a body in UTF-8");
    match reply.header("content-type") {
        Some("application/problem+json" | "application/json") => {
            assert_eq!(reply.problem()["status"], reply.status);
        }
        Some("application/problem+xml") => {
            assert!(roxmltree::Document::parse(text).is_ok(), "{text}");
        }
        Some("text/html; charset=utf-8") => assert!(text.starts_with("<!"), "{text}"),
        Some("text/plain; charset=utf-8") => assert!(!text.contains('<'), "{text}"),
        other => panic!("a body of the type {other:?}"),
    }
}

/// Of two dates the earlier one stays, and merging what came of it changes nothing.
fn check_dates(values: &[&[u8]]) {
    let at = Timestamp::from_seconds(1_800_000_000);
    let sunset = Sunset::new(at);
    if let Merged::Set(value) = merge_sunset(&sunset, &sunset, values) {
        let once = [value.as_bytes()];
        assert_eq!(
            merge_sunset(&sunset, &sunset, &once),
            Merged::Keep,
            "{value}"
        );
    }
    for deprecation in [Deprecation::new(at), Deprecation::legacy(START)] {
        if let Merged::Set(value) = merge_deprecation(&deprecation, START, values) {
            let once = [value.as_bytes()];
            let again = merge_deprecation(&deprecation, START, &once);
            assert_eq!(again, Merged::Keep, "{value}");
        }
    }
}
