//! `tollgate import`, `export`, `key`, `schema` and `completions`, as they are run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests want to fail loudly"
)]

mod common;

use std::process::Command;

use common::{Ran, fixture, run, tollgate, tollgate_on};
use serde_json::Value;

/// Imports, and reads what came out as `check` does.
fn import(arguments: &[&str]) -> (Ran, Value) {
    let ran = tollgate(&[&["import"], arguments].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let checked = tollgate_on(&ran.out, &["check", "-"]);
    assert_eq!(checked.code, 0, "{}\n{}", checked.out, ran.out);
    let document = tollgate_cli::section::find(&ran.out, None)
        .unwrap()
        .remove(0);
    let document = serde_json::from_slice(&document.document).unwrap();
    (ran, document)
}

fn assert_listed(ran: &Ran, expected: &[&str]) {
    // Comments are broken into lines.
    let comments = ran.out.lines().filter_map(|line| line.strip_prefix('#'));
    let comments = comments.map(str::trim).collect::<Vec<_>>().join(" ");
    for expected in expected {
        assert!(ran.err.contains(expected), "{expected} not in\n{}", ran.err);
        assert!(comments.contains(expected), "{expected} not in\n{comments}");
    }
}

#[test]
fn kong_is_imported() {
    let (ran, document) = import(&["kong", &fixture("kong.yml")]);
    for secret in ["acme-kong-key", "bolt-kong-key", "a-shared-kong-secret"] {
        assert!(
            !ran.out.contains(secret) && !ran.err.contains(secret),
            "{secret}"
        );
    }
    let names: Vec<&str> = document["apis"]
        .as_array()
        .unwrap()
        .iter()
        .map(|api| api["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["accounts-v1", "payments-v2", "accounts-v0", "status"]
    );
    assert_eq!(document["request_id"]["header"], "X-Request-ID");
    assert_eq!(document["rate_limit"][0]["rate"], "60/m");
    let plans = &document["usage_plan"]["plans"];
    assert_eq!(plans["plan-1"]["throttle"], "10/s");
    assert_eq!(plans["plan-2"]["quota"][0]["limit"], 1_000_000.0);
    assert_eq!(
        plans["plan-2"]["apis"],
        serde_json::json!(["accounts-v1", "accounts-v0", "status"])
    );
    let consumers = &document["usage_plan"]["consumers"];
    assert_eq!(
        consumers[0]["keys"][0]["sha256"],
        tollgate_cli::key::sha256("acme-kong-key")
    );
    assert_eq!(consumers[2]["clients"][0]["provider"], "curio-jwt");
    assert_eq!(document["sunset"][0]["api"], "accounts-v0");
    assert_listed(
        &ran,
        &[
            "consumer dune: tokens signed by HS256 with a shared secret",
            "the plugin cors: see Envoy's cors filter",
            "rate-limiting: Kong counts in fixed windows",
            "route accounts-search: the path",
        ],
    );
}

#[test]
fn a_document_of_kong_s_decides_as_kong_did() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("document.yaml");
    std::fs::write(&path, import(&["kong", &fixture("kong.yml")]).0.out).unwrap();
    let explain = |request: &str, key: &str| {
        let key = format!("x-api-key: {key}");
        let path = path.to_str().unwrap();
        let ran = tollgate(&[
            "explain",
            path,
            "--request",
            request,
            "-H",
            &key,
            "--format",
            "json",
        ]);
        let found: Value = serde_json::from_str(&ran.out).unwrap();
        found["answer"]["kind"].as_str().map(str::to_owned)
    };
    let accounts = "GET https://api.bank.example/v1/accounts/7";
    assert_eq!(explain(accounts, "acme-kong-key"), None);
    assert_eq!(
        explain(accounts, "nobody").as_deref(),
        Some("api-key-unknown")
    );
    assert_eq!(explain("GET https://x.example/status", "").as_deref(), None);
    // The route whose path has no equivalent is not open.
    let search = "GET https://api.bank.example/v1/search/7";
    assert!(explain(search, "acme-kong-key").is_some());
}

#[test]
fn usage_plans_of_aws_are_imported() {
    let gold = format!("gold01={}", fixture("aws/gold-keys.json"));
    let bronze = format!("bronze={}", fixture("aws/bronze-keys.json"));
    let (plans, keys) = (
        fixture("aws/usage-plans.json"),
        fixture("aws/api-keys.json"),
    );
    let (ran, document) = import(&["aws", &plans, &keys, &gold, &bronze]);
    assert!(!ran.out.contains("aws-key-0123456789"), "{}", ran.out);
    let plan = &document["usage_plan"]["plans"]["Gold"];
    assert_eq!(plan["quota"]["offset"], 500.0);
    assert_eq!(
        plan["throttle"]["methods"]["GET /prod/accounts/{id}"]["rate"],
        "50/s"
    );
    assert_eq!(
        plan["throttle"]["methods"]["/prod/files/**"]["rate"],
        "30/m"
    );
    let consumers = document["usage_plan"]["consumers"].as_array().unwrap();
    assert_eq!(consumers.len(), 2);
    assert_eq!(consumers[0]["since"], "2026-02-03T04:05:06Z");
    assert_eq!(
        consumers[1]["keys"][0]["sha256"],
        tollgate_cli::key::sha256("bolt-aws-key-0123456789")
    );
    assert_listed(
        &ran,
        &[
            "key curio: it is disabled, and left out",
            "key dune: it is on no plan that was given",
            "throttles and quotas of AWS are best effort",
        ],
    );
    // Without the keys of the plans, stages tell them; one that is not told is left out.
    let (ran, document) = import(&["aws", &plans, &keys]);
    assert_eq!(
        document["usage_plan"]["consumers"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_listed(&ran, &["key bolt: it is on several plans"]);
}

#[test]
fn limits_of_nginx_are_imported() {
    let (ran, document) = import(&["nginx", &fixture("nginx.conf")]);
    let limits = document["rate_limit"].as_array().unwrap();
    let limit = |name: &str| limits.iter().find(|limit| limit["name"] == name).unwrap();
    assert_eq!(limit("perip")["rate"], "10r/s burst=20");
    assert_eq!(
        limit("perip")["apis"],
        serde_json::json!(["api.bank.example"])
    );
    assert_eq!(
        limit("perip-2")["apis"],
        serde_json::json!(["api.bank.example-login"])
    );
    assert_eq!(limit("addr")["concurrent"], 10.0);
    assert_eq!(limit("perkey")["key"]["header"], "x-api-key");
    assert_eq!(limit("perkey")["mode"], "shadow");
    assert_listed(
        &ran,
        &[
            "the zone peruri (line 8)",
            "limit_req zone=perip without nodelay",
            "a zone that is used with several bursts is one bucket in NGINX",
            "location ~ \\.php$ (line 27)",
        ],
    );
}

#[test]
fn a_burst_of_nginx_admits_as_many_as_nginx() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("document.yaml");
    std::fs::write(&path, import(&["nginx", &fixture("nginx.conf")]).0.out).unwrap();
    let path = path.to_str().unwrap();
    let request = "GET https://api.bank.example/";
    let arguments = [
        "explain",
        path,
        "--request",
        request,
        "--repeat",
        "30",
        "--format",
        "json",
    ];
    let found: Value = serde_json::from_str(&tollgate(&arguments).out).unwrap();
    // One, and the 20 of the burst.
    assert_eq!(found["repetitions"][0]["to"], 21);
}

#[test]
fn what_can_t_be_imported_is_said() {
    let nothing = tollgate_on("http { }", &["import", "nginx", "-"]);
    assert_eq!(nothing.code, 2);
    assert!(
        nothing.err.contains("nothing in it has an equivalent"),
        "{}",
        nothing.err
    );
    assert_eq!(tollgate_on("http {", &["import", "nginx", "-"]).code, 2);
    assert_eq!(tollgate_on("[]", &["import", "kong", "-"]).code, 2);
    assert_eq!(tollgate(&["import", "aws", "no-such-file"]).code, 2);
}

#[test]
fn every_configuration_becomes_a_wasm_plugin() {
    let plugins = [
        "jwt-authz",
        "problem-details",
        "rate-limit",
        "request-id",
        "sunset",
        "tollgate",
        "usage-plan",
    ];
    for plugin in plugins {
        let file = format!("envoy/{plugin}.yaml");
        let url = format!("oci://registry.bank.example/mesh/{plugin}:1");
        let digest = "a".repeat(64);
        let ran = tollgate(&["export", "istio", &file, "--url", &url, "--sha256", &digest]);
        assert_eq!(ran.code, 0, "{plugin}: {}", ran.err);
        let sections = tollgate_cli::section::find(&ran.out, None).unwrap();
        assert_eq!(sections.len(), 1);
        assert_eq!(sections[0].plugin, format!("{plugin}.wasm"));
        let original = std::fs::read_to_string(common::repository().join(&file)).unwrap();
        let original = tollgate_cli::section::find(&original, None)
            .unwrap()
            .remove(0);
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(
            json(&sections[0].document),
            json(&original.document),
            "{plugin}"
        );
        for line in [
            "kind: WasmPlugin",
            "phase: AUTHN",
            "failStrategy: FAIL_RELOAD",
        ] {
            assert!(ran.out.contains(line), "{}", ran.out);
        }
    }
    let bad = [
        "export",
        "istio",
        "envoy/sunset.yaml",
        "--url",
        "oci://x/sunset",
        "--sha256",
        "12",
    ];
    assert_eq!(tollgate(&bad).code, 2);
}

#[test]
fn a_wasm_plugin_is_handed_its_pepper() {
    let document = "usage_plan: { key: { pepper: { env: TOLLGATE_PEPPER } }, plans: { a: {} }, anonymous: { plan: a } }";
    let arguments = [
        "export",
        "istio",
        "-",
        "--url",
        "oci://x/tollgate",
        "--namespace",
        "mesh",
        "--selector",
        "app=gateway",
    ];
    let ran = tollgate_on(document, &arguments);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for expected in [
        "name: TOLLGATE_PEPPER",
        "valueFrom: HOST",
        "namespace: mesh",
        "app: gateway",
    ] {
        assert!(ran.out.contains(expected), "{}", ran.out);
    }
}

#[test]
fn a_new_key_fits_its_digest() {
    let made = tollgate(&["key", "new", "--prefix", "bank_live_"]);
    let mut lines = made.out.lines();
    let (key, line) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(key.starts_with("bank_live_") && key.len() == 53, "{key}");
    let hashed = tollgate_on(&format!("{key}\n"), &["key", "hash"]);
    assert_eq!(hashed.out.trim_end(), line);
    assert_eq!(
        line,
        format!("- {{ sha256: \"{}\" }}", tollgate_cli::key::sha256(key))
    );
}

#[test]
fn a_pepper_comes_from_the_environment() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .args(["key", "hash", "--pepper-env", "PEPPER"])
        .env("PEPPER", "Jefe");
    let ran = run(&mut command, "what do ya want for nothing?");
    // RFC 4231 section 4.3.
    let digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(ran.out, format!("- {{ hmac_sha256: \"{digest}\" }}\n"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .args(["key", "hash", "--pepper-env", "PEPPER"])
        .env_remove("PEPPER");
    assert_eq!(run(&mut command, "key").code, 2);
    assert_eq!(tollgate_on("", &["key", "hash"]).code, 2);
    assert_eq!(tollgate(&["key", "hash", "a-key"]).code, 2);
}

#[test]
fn what_is_printed_for_other_programs_is_whole() {
    assert_eq!(tollgate(&["schema"]).out, tollgate_cli::schema::TEXT);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = tollgate(&["completions", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("explain"), "{shell}");
    }
    let version = tollgate(&["--version"]).out;
    assert_eq!(version, format!("tollgate {}\n", env!("CARGO_PKG_VERSION")));
}
