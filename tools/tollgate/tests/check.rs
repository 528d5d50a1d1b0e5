//! `tollgate check`, as it is run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests want to fail loudly"
)]
#![allow(
    clippy::string_slice,
    reason = "a test that cuts within a character shall fail"
)]

mod common;

use std::process::Command;

use common::{run, tollgate, tollgate_on};
use serde_json::Value;

const WRONG: &str = r#"apis:
- name: accounts-v1
  match: [{ path: "/v1/accounts/*.json" }]
usage_plan:
  plans:
    gold:
      quota: { limit: 10000, period: fortnight }
      burst: 20
  consumers:
  - { id: acme, plan: silver, keys: [{ sha256: my-live-key-0123456789 }] }
"#;

/// The plugin's configuration in a filter of Envoy's.
fn filter(plugin: &str, configuration: &str) -> String {
    format!(
        r#"resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  filter_chains:
  - filters:
    - typed_config:
        http_filters:
        - typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
            config:
              vm_config:
                code: {{ local: {{ filename: /etc/envoy/{plugin} }} }}
              configuration:
{configuration}
"#
    )
}

fn structure(value: &str) -> String {
    format!(
        "                \"@type\": type.googleapis.com/google.protobuf.Struct\n                value: {value}"
    )
}

fn text(value: &str) -> String {
    format!(
        "                \"@type\": type.googleapis.com/google.protobuf.StringValue\n                value: {value}"
    )
}

fn mistakes(document: &str, arguments: &[&str]) -> Vec<(String, u64, u64)> {
    let all = [&["check", "-", "--format", "json"], arguments].concat();
    let ran = tollgate_on(document, &all);
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    let mistakes = report["files"][0]["mistakes"].as_array().unwrap().iter();
    let place = |mistake: &Value| {
        (
            mistake["path"].as_str().unwrap().to_owned(),
            mistake["line"].as_u64().unwrap(),
            mistake["column"].as_u64().unwrap(),
        )
    };
    mistakes.map(place).collect()
}

#[test]
fn all_mistakes_are_shown_where_they_are() {
    let ran = tollgate_on(WRONG, &["check", "-"]);
    assert_eq!(ran.code, 1);
    for expected in [
        "error: usage_plan.plans.gold.quota.period: unknown period \"fortnight\"",
        " --> <stdin>:7:38",
        "7 |       quota: { limit: 10000, period: fortnight }",
        "^^^^^^^^^ expected one of minute, hour, day, week, month, year",
        " --> <stdin>:8:7",
        "^^^^^ expected one of throttle, quota, apis",
        " --> <stdin>:3:19",
        "--> <stdin>:10:48",
        "<stdin>: 4 mistakes",
    ] {
        assert!(
            ran.out.contains(expected),
            "{expected}\nnot in\n{}",
            ran.out
        );
    }
    assert!(!ran.out.contains('\u{1b}'), "{}", ran.out);
}

#[test]
fn what_may_be_a_key_is_not_shown() {
    let keys = "  - { id: bolt, plan: gold, keys: sk_live_4242 }\n  - { id: curio, plan: [x], keys: [{ sk_live_4242424242424242: 1, sha256: sk_live_4242 }] }\n";
    let ran = tollgate_on(&format!("{WRONG}{keys}"), &["check", "-"]);
    assert_eq!(ran.code, 1);
    for secret in ["my-live-key", "sk_live"] {
        assert!(!ran.out.contains(secret), "{}", ran.out);
        assert!(!ran.err.contains(secret), "{}", ran.err);
    }
    assert!(ran.out.contains("****"), "{}", ran.out);
}

#[test]
fn the_report_for_programs_has_lines_and_columns() {
    assert_eq!(
        mistakes(WRONG, &[]),
        [
            ("apis[0].match[0].path".to_owned(), 3, 19),
            ("usage_plan.plans.gold.quota.period".to_owned(), 7, 38),
            ("usage_plan.plans.gold.burst".to_owned(), 8, 7),
            ("usage_plan.consumers[0].keys[0].sha256".to_owned(), 10, 48),
        ]
    );
    let good = tollgate(&["check", "--format", "json", "envoy/tollgate.yaml"]);
    let report: Value = serde_json::from_str(&good.out).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["files"][0]["sections"][0]["plugin"], "tollgate.wasm");
}

#[test]
fn a_struct_in_envoys_yaml_is_read_as_envoy_reads_it() {
    // 10000000000 has more than 32 bits, and on is a truth value: Envoy's own log says the same.
    let limits = filter(
        "usage-plan.wasm",
        &structure(
            "{ usage_plan: { mode: on, anonymous: { plan: a }, plans: { a: { quota: { limit: 10000000000, period: day } } } } }",
        ),
    );
    let paths: Vec<String> = mistakes(&limits, &[])
        .into_iter()
        .map(|found| found.0)
        .collect();
    assert_eq!(paths, ["usage_plan.mode", "usage_plan.plans.a.quota.limit"]);
    let fits = limits
        .replace("10000000000", "2147483647")
        .replace("mode: on, ", "");
    assert_eq!(mistakes(&fits, &[]), []);
}

#[test]
fn json_in_a_string_value_is_read_and_pointed_into() {
    let document = r#"{"usage_plan": {"anonymous": {"plan": "a"}, "plans": {"a": {"quota": {"limit": 10000000000, "period": "dya"}}}}}"#;
    let quoted = filter("usage-plan.wasm", &text(&format!("'{document}'")));
    let found = mistakes(&quoted, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    let (path, line, column) = &found[0];
    assert_eq!(path, "usage_plan.plans.a.quota.period");
    let shown = quoted.lines().nth(*line as usize - 1).unwrap();
    assert!(
        shown[*column as usize - 1..].starts_with("\"dya\""),
        "{shown}"
    );
    let broken = filter("usage-plan.wasm", &text("'{'"));
    assert_eq!(mistakes(&broken, &[])[0].0, "");
}

#[test]
fn sections_are_found_in_the_resources_of_kubernetes() {
    let plugin = "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
spec:
  url: oci://registry.bank.example/mesh/request-id:1
  pluginConfig:
    request_id: { format: uuid8 }
";
    assert_eq!(
        mistakes(plugin, &[]),
        [("request_id.format".to_owned(), 6, 27)]
    );
    let policy = "apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyExtensionPolicy
spec:
  wasm:
  - name: other
    code: { type: HTTP, http: { url: https://files.bank.example/other.wasm } }
    config: { anything: 1 }
  - name: tollgate
    code: { type: Image, image: { url: registry.bank.example/tollgate:1 } }
    config:
      request_id: { echo: perhaps }
";
    assert_eq!(
        mistakes(policy, &[]),
        [("request_id.echo".to_owned(), 11, 27)]
    );
    let both = format!("{plugin}---\n{policy}---\nrequest_id: {{ fromat: uuid7 }}\n");
    let lines: Vec<u64> = mistakes(&both, &[])
        .into_iter()
        .map(|found| found.1)
        .collect();
    assert_eq!(lines, [6, 18, 20]);
}

#[test]
fn an_envoy_filter_of_istio_is_read_by_kubernetes() {
    let resource = "apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    patch:
      operation: INSERT_BEFORE
      value:
        name: tollgate
        typed_config:
          \"@type\": type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
          value:
            config:
              vm_config: { code: { local: { filename: /filters/usage-plan.wasm } } }
              configuration:
                \"@type\": type.googleapis.com/google.protobuf.Struct
                value:
                  usage_plan:
                    anonymous: { plan: a }
                    plans: { a: { quota: { limit: 10000000000, period: dya } } }
";
    let path = "usage_plan.plans.a.quota.period".to_owned();
    assert_eq!(mistakes(resource, &[]), [(path, 21, 72)]);
}

#[test]
fn a_plugin_refuses_what_is_another_ones() {
    let ran = tollgate_on(
        "rate_limit: []\n",
        &["check", "-", "--plugin", "request-id"],
    );
    assert_eq!(ran.code, 1);
    assert!(
        ran.out
            .contains("rate_limit: request-id.wasm has no such section"),
        "{}",
        ran.out
    );
    let ran = tollgate_on(
        "request_id: {}\n",
        &["check", "-", "--plugin", "request-id.wasm"],
    );
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "<stdin>: good for request-id.wasm\n")
    );
}

#[test]
fn a_pepper_must_be_handed_over() {
    let document = "{ usage_plan: { key: { pepper: { env: PEPPER } }, plans: { a: {} }, consumers: [{ id: b, plan: a, keys: [{ hmac_sha256: \"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843\" }] }] } }";
    let without = filter("usage-plan.wasm", &structure(document));
    let found = mistakes(&without, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0.starts_with("usage_plan.key.pepper"), "{found:?}");
    let with = without.replace(
        "vm_config:",
        "vm_config:\n                environment_variables: { host_env_keys: [PEPPER] }",
    );
    assert_eq!(mistakes(&with, &[]), []);
}

#[test]
fn what_can_t_be_read_is_not_called_wrong() {
    let missing = tollgate(&["check", "no-such-file.yaml", "envoy/tollgate.yaml"]);
    assert_eq!(missing.code, 2);
    assert!(
        missing.err.contains("no-such-file.yaml can't be read"),
        "{}",
        missing.err
    );
    assert!(
        missing.out.contains("envoy/tollgate.yaml: good"),
        "{}",
        missing.out
    );
    let nothing = tollgate_on("static_resources: {}\n", &["check", "-"]);
    assert_eq!(nothing.code, 2);
    assert!(
        nothing
            .err
            .contains("no configuration of a Tollgate plugin"),
        "{}",
        nothing.err
    );
    assert_eq!(tollgate(&["check"]).code, 2);
    assert_eq!(
        tollgate_on("", &["check", "-", "--plugin", "tolgate"]).code,
        2
    );
    let broken = tollgate_on("request_id: {}\na: [1\nb: 2\n", &["check", "-"]);
    assert_eq!(broken.code, 1);
    assert!(broken.out.contains("--> <stdin>:"), "{}", broken.out);
}

#[test]
fn colours_are_for_terminals() {
    let check = |name: &str, value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        run(command.args(["check", "-"]).env(name, value), WRONG).out
    };
    assert!(check("CLICOLOR_FORCE", "1").contains('\u{1b}'));
    assert!(!check("NO_COLOR", "1").contains('\u{1b}'));
}
