//! `tollgate check` and Envoy say the same of the same file.

use tollgate_cli::check::check;
use tollgate_cli::input::Input;
use tollgate_tests::{Envoy, plugin};

/// What plain scalars mean differs from one reader of YAML to the next; Envoy has rules of its own.
const SCALARS: &str = "[10, -5, +5, 0x10, 0X1f, 010, 08, 0o17, 2147483647, 2147483648, -2147483648, \
    99999999999999999999, 1.5, 1., .5, 1e3, 1_000, on, ON, oN, No, y, N, yes, off, true, True, TRUE, \
    tRue, 'on', \"7\", !!str 7, 12 monkeys, .inf, 10/s, 2027-06-30]";

fn configuration(value: &str) -> String {
    let path = plugin("tollgate");
    format!(
        r#"
static_resources:
  listeners:
  - name: listener
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{ match: {{ prefix: / }}, direct_response: {{ status: 200 }} }}]
          http_filters:
          - name: tollgate
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                vm_config:
                  runtime: envoy.wasm.runtime.v8
                  code: {{ local: {{ filename: {} }} }}
                configuration:
                  "@type": type.googleapis.com/google.protobuf.Struct
                  value: {value}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#,
        path.display()
    )
}

/// The mistakes that Envoy's log has, and those that `check` finds, both sorted.
async fn both(text: &str) -> (Vec<String>, Vec<String>) {
    let output = Envoy::validate_yaml(text).await.output;
    let logged = output
        .lines()
        .filter_map(|line| line.split_once("wasm log: tollgate.wasm: "));
    let logged = logged.map(|(_, mistake)| mistake.to_owned());
    // The first line is their number.
    let mut logged: Vec<String> = logged
        .filter(|line| !line.contains("mistake(s) in the configuration"))
        .collect();
    let input = Input {
        name: "envoy.yaml".to_owned(),
        text: text.to_owned(),
    };
    let found = check(input, None).mistakes.into_iter();
    let mut found: Vec<String> = found
        .map(|mistake| format!("{}: {}", mistake.path, mistake.message))
        .collect();
    logged.sort();
    logged.dedup();
    found.sort();
    found.dedup();
    (logged, found)
}

#[tokio::test]
async fn every_scalar_means_what_it_means_to_envoy() {
    let lists = format!(
        "{{ request_id: {{ accept: {{ from: {SCALARS} }} }}, jwt_authz: {{ providers: {SCALARS} }} }}"
    );
    let (logged, found) = both(&configuration(&lists)).await;
    assert!(logged.len() > 50, "{logged:#?}");
    assert_eq!(logged, found);
}

#[tokio::test]
async fn nothing_is_nothing_to_both() {
    let (logged, found) = both(&configuration(
        "{ request_id: { accept: { from: [~, null, Null, NULL, nULL, ''] } } }",
    ))
    .await;
    assert_eq!(logged.len(), 4, "{logged:#?}");
    assert_eq!(logged, found);
}

#[tokio::test]
async fn both_find_the_same_mistakes() {
    let value = "{ apis: [{ name: a b, match: { path: x } }], telemetri: {}, usage_plan: { plans: { \
                 gold: { throttle: fast, quota: { limit: 10000000000, period: dya } } }, consumers: \
                 [{ id: acme, plan: silver, keys: [{ sha256: abc }] }] } }";
    let (logged, found) = both(&configuration(value)).await;
    assert!(logged.len() >= 6, "{logged:#?}");
    assert_eq!(logged, found);
    let (logged, found) = both(&configuration("{ request_id: {} }")).await;
    assert_eq!((logged.len(), found.len()), (0, 0));
}
