//! `tollgate explain`, as it is run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests want to fail loudly"
)]

mod common;

use common::{Ran, repository, tollgate, tollgate_on};
use serde_json::Value;

const REQUEST: &str = "GET https://api.bank.example/v1/accounts/7";

fn explain(request: &str, arguments: &[&str]) -> Value {
    let ran = explain_text(request, &[arguments, &["--format", "json"]].concat());
    serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err))
}

fn explain_text(request: &str, arguments: &[&str]) -> Ran {
    let all = ["explain", "envoy/tollgate.yaml", "--request", request];
    tollgate(&[&all, arguments].concat())
}

const KEY: [&str; 2] = ["-H", "x-api-key: bolt-demo-key"];

#[test]
fn an_admitted_request_is_followed_to_the_upstream() {
    let found = explain(
        REQUEST,
        &[&KEY[..], &["--client-address", "198.51.100.7"]].concat(),
    );
    assert_eq!(found["answer"]["forwarded"], true);
    assert_eq!(found["plugin"], "tollgate.wasm");
    let api = found["apis"]
        .as_array()
        .unwrap()
        .iter()
        .find(|api| api["matches"] == true);
    assert_eq!(api.unwrap()["name"], "accounts-v1");
    let why: Vec<&str> = found["apis"]
        .as_array()
        .unwrap()
        .iter()
        .map(|api| api["why"].as_str().unwrap())
        .collect();
    assert!(why.contains(&"its path is not /v1/payments/**"), "{why:?}");
    let limits: Vec<(&str, u64)> = found["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| {
            (
                limit["name"].as_str().unwrap(),
                limit["remaining"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        limits,
        [("per-address", 1999), ("throttle", 3), ("day", 9999)]
    );
    let upstream = found["upstream"].as_array().unwrap();
    let header = |name: &str| upstream.iter().find(|header| header["name"] == name);
    assert_eq!(header("x-consumer-id").unwrap()["value"], "bolt");
    assert!(header("x-api-key").is_none());
    let steps: Vec<(&str, &str)> = found["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            (
                step["step"].as_str().unwrap(),
                step["policy"].as_str().unwrap(),
            )
        })
        .collect();
    for expected in [
        ("identify", "request_id"),
        ("shield", "rate_limit"),
        ("require", "access"),
        ("authenticate", "usage_plan"),
        ("charge", "usage_plan"),
    ] {
        assert!(steps.contains(&expected), "{expected:?} not in {steps:?}");
    }
}

#[test]
fn a_refusal_is_explained() {
    for (request, arguments, status, kind) in [
        (REQUEST, &[][..], 401, "credentials-missing"),
        (
            REQUEST,
            &["-H", "x-api-key: nobody"],
            401,
            "api-key-unknown",
        ),
        (
            "POST https://api.bank.example/v1/payments/9",
            &KEY,
            403,
            "api-not-in-plan",
        ),
        (
            "GET https://api.bank.example/v0/accounts/7",
            &KEY,
            410,
            "api-retired",
        ),
        (
            "GET https://api.bank.example/v1/accounts/..%2f7",
            &KEY,
            400,
            "request-ambiguous",
        ),
    ] {
        let found = explain(request, arguments);
        let answer = &found["answer"];
        assert_eq!(answer["status"], status, "{request}: {answer}");
        assert_eq!(answer["kind"], kind, "{request}: {answer}");
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["kind"], kind);
        assert!(found["upstream"].is_null());
    }
}

#[test]
fn repetitions_use_limits_up_and_time_fills_them() {
    let at = ["--at", "2026-11-21T00:00:00Z"];
    let found = explain(REQUEST, &[&KEY[..], &at, &["--repeat", "6"]].concat());
    assert_eq!(found["answer"]["kind"], "throttled");
    let runs = &found["repetitions"];
    assert_eq!(
        (&runs[0]["to"], &runs[0]["outcome"]),
        (&4.into(), &"forwarded".into())
    );
    assert_eq!(runs[1]["from"], 5);
    let slow = [&KEY[..], &at, &["--repeat", "6", "--every", "500ms"]].concat();
    assert_eq!(explain(REQUEST, &slow)["answer"]["forwarded"], true);
}

#[test]
fn time_decides_what_has_expired() {
    let key = ["-H", "x-api-key: acme-demo-key-of-2025"];
    let before = explain(
        REQUEST,
        &[&key[..], &["--at", "2025-12-31T23:59:59Z"]].concat(),
    );
    assert_eq!(before["answer"]["forwarded"], true);
    let after = explain(
        REQUEST,
        &[&key[..], &["--at", "2026-01-01T00:00:00Z"]].concat(),
    );
    assert_eq!(after["answer"]["kind"], "api-key-expired");
}

#[test]
fn keys_of_issuers_come_from_files() {
    // The key and the token of RFC 7515 appendix A.3, whose issuer is joe.
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let set = write(
        "jwks.json",
        r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256",
            "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#,
    );
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    for jwks in [
        "url: https://idp.example/jwks",
        "discovery: https://idp.example/.well-known/openid-configuration",
    ] {
        let document = write(
            "document.yaml",
            &format!(
                "jwt_authz:\n  providers:\n  - {{ name: idp, issuer: joe, any_audience: true, algorithms: ES256, jwks: {{ cluster: idp, {jwks} }} }}\n"
            ),
        );
        let authorization = format!("authorization: Bearer {token}");
        let ask = |more: &[&str]| {
            let all = [
                "explain",
                &document,
                "--request",
                REQUEST,
                "-H",
                &authorization,
            ];
            let ran = tollgate(&[&all[..], &["--format", "json"], more].concat());
            serde_json::from_str::<Value>(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err))
        };
        let given = format!("idp={set}");
        let good = ask(&["--jwks", &given, "--at", "2011-03-22T18:00:00Z"]);
        assert_eq!(good["answer"]["forwarded"], true, "{jwks}: {good}");
        let late = ask(&["--jwks", &given]);
        assert_eq!(late["answer"]["kind"], "token-expired", "{jwks}");
        let unknown = ask(&["--at", "2011-03-22T18:00:00Z"]);
        assert_eq!(unknown["answer"]["kind"], "issuer-unavailable", "{jwks}");
        assert_eq!(unknown["missing_keys"][0], "idp", "{jwks}");
    }
}

#[test]
fn the_text_says_the_same() {
    let ran = explain_text(REQUEST, &KEY);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for expected in [
        "GET api.bank.example/v1/accounts/7\n",
        "  this accounts-v1: its match is the most specific\n",
        "consumer bolt",
        "  per-address: 1999 of 2000 left",
        "  forwarded; the upstream's answer gets\n",
        "The upstream sees\n",
        "  x-consumer-plan: bronze\n",
    ] {
        assert!(
            ran.out.contains(expected),
            "{expected:?} not in\n{}",
            ran.out
        );
    }
    assert!(!ran.out.contains("bolt-demo-key"), "{}", ran.out);
}

#[test]
fn what_is_asked_wrongly_is_said() {
    for (arguments, expected) in [
        (
            ["--request", "/v1", "--at", "2026-01-01T00:00:00Z"],
            "--request: expected",
        ),
        (["--request", REQUEST, "--at", "today"], "--at: "),
        (
            ["--request", REQUEST, "--jwks", "nobody=x"],
            "no provider \"nobody\"",
        ),
        (
            ["--request", REQUEST, "-H", "x-api-key"],
            "-H: expected a header",
        ),
        (
            ["--request", REQUEST, "--plugin", "sunset"],
            "no configuration of sunset.wasm",
        ),
    ] {
        let ran = tollgate(&[&["explain", "envoy/tollgate.yaml"], &arguments[..]].concat());
        assert_eq!(ran.code, 2, "{arguments:?}");
        assert!(ran.err.contains(expected), "{}", ran.err);
    }
    let wrong = tollgate_on(
        "request_id: { echo: 1 }",
        &["explain", "-", "--request", REQUEST],
    );
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("request_id.echo"), "{}", wrong.err);
    assert!(repository().join("envoy/tollgate.yaml").is_file());
}
