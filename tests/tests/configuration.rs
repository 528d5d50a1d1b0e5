//! Configurations on the real Envoy: what is shipped is valid, what is wrong is refused with all
//! its mistakes in the log.

mod common;

use common::sha256;
use serde_json::{Value, json};
use tollgate_tests::{Authority, ConfigFile, EchoUpstream, Envoy, WasmFilter, plugin, repository};

/// Starts a plugin with a configuration that is refused, and gives Envoy's log.
async fn refused(filter: WasmFilter) -> String {
    let upstream = EchoUpstream::start().await;
    let started = Envoy::builder()
        .upstream(&upstream)
        .filter(filter)
        .start()
        .await;
    started
        .err()
        .expect("a refused configuration")
        .log()
        .to_owned()
}

fn filter(name: &str, document: Value) -> WasmFilter {
    WasmFilter::new(name, plugin(name)).configuration(document)
}

async fn start(upstream: &EchoUpstream, filter: WasmFilter) -> Envoy {
    let envoy = Envoy::builder().upstream(upstream).filter(filter);
    envoy.start().await.unwrap()
}

#[tokio::test]
async fn every_file_in_envoy_is_valid() {
    let authority = Authority::new("Test");
    let server = authority.server(&["localhost"]);
    let mut files = 0;
    for entry in std::fs::read_dir(repository().join("envoy")).unwrap() {
        let path = entry.unwrap().path();
        // The folders are for others who write Envoy's configuration: see manifests.rs.
        if path.is_dir() {
            continue;
        }
        let config = ConfigFile::load(&path)
            .built_plugins()
            .certificates(&authority, &server);
        let validation = Envoy::validate(&config.into_value()).await;
        assert!(
            validation.success,
            "{}\n{}",
            path.display(),
            validation.output
        );
        files += 1;
    }
    assert!(files >= 3, "found {files} files");
}

#[tokio::test]
async fn all_mistakes_are_in_the_log_with_their_paths() {
    let document = json!({
        "apis": [{ "name": "accounts", "match": [{ "path": "/accounts/*.json" }] }],
        "request_id": { "format": "uuid8" },
        "usage_plan": {
            "plans": { "gold": { "quota": { "limit": 5, "period": "fortnight" }, "burst": 3 } },
            "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "sha256": "live-key" }] }],
        },
        "usage_plam": {},
    });
    let log = refused(filter("tollgate", document)).await;
    for expected in [
        "apis[0].match[0].path",
        "request_id.format: unknown value \"uuid8\", did you mean \"uuid7\"?",
        "usage_plan.plans.gold.quota.period: unknown period \"fortnight\", expected one of minute, hour, day, week, month, year",
        "usage_plan.plans.gold.burst: unknown field",
        "usage_plan.consumers[0].keys[0].sha256: found 8 characters, expected the 64 hexadecimal digits",
        "usage_plam: tollgate.wasm has no such section, did you mean \"usage_plan\"?",
    ] {
        assert!(log.contains(expected), "{expected}\nnot in\n{log}");
    }
    assert!(!log.contains("live-key"), "{log}");
}

#[tokio::test]
async fn what_is_no_configuration_is_refused_with_a_cure() {
    let text =
        |text: &str| WasmFilter::new("tollgate", plugin("tollgate")).configuration_text(text);
    for (filter, expected) in [
        (
            WasmFilter::new("tollgate", plugin("tollgate")),
            "the configuration is empty",
        ),
        (filter("tollgate", json!({})), "the configuration is empty"),
        (text(""), "the configuration is empty"),
        (
            text("{}"),
            "no policy is configured, so tollgate.wasm would do nothing: add a section, request_id or problem_details or rate_limit or jwt_authz or usage_plan or access or sunset",
        ),
        (text("request_id: {}"), "the configuration is not JSON"),
        (
            text("[]"),
            "the configuration is a list, expected an object",
        ),
        (text("\u{0}"), "the configuration is not JSON"),
        (
            filter("request-id", json!({ "request_id": {}, "usage_plan": {} })),
            "usage_plan: request-id.wasm has no such section, expected one of apis, hosts, paths, limit_headers, \
             telemetry, request_id; if this is a policy of another plugin, load tollgate.wasm, which has all, or usage-plan.wasm",
        ),
    ] {
        let log = refused(filter).await;
        assert!(log.contains(expected), "{expected}\nnot in\n{log}");
    }
}

#[tokio::test]
async fn a_configuration_may_be_json_or_a_struct() {
    let upstream = EchoUpstream::start().await;
    let document = json!({ "usage_plan": {
        "plans": { "gold": { "quota": { "limit": 10_000_000, "period": "month" } } },
        "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256("acme-key") }] }],
    }});
    let as_json = document.to_string().replace("10000000", "1e+07");
    for filter in [
        filter("usage-plan", document),
        WasmFilter::new("usage-plan", plugin("usage-plan")).configuration_text(&as_json),
    ] {
        let envoy = start(&upstream, filter).await;
        let reply = envoy
            .http1()
            .get("/")
            .header("x-api-key", "acme-key")
            .send()
            .await;
        assert!(
            reply
                .header("ratelimit")
                .unwrap()
                .starts_with("\"month\";r=9999999;")
        );
    }
}

/// How many bytes of a document a plugin holds at a time.
const PIECE: usize = 1 << 16;

/// Longer than a piece, in any form.
fn long_note() -> String {
    "€𝄞".repeat(PIECE / 6)
}

/// A document of many pieces. Those whose key is unknown are told [`long_note`].
fn long_document() -> Value {
    let consumers = (0..5_000).map(|number| {
        let key = sha256(&format!("key-{number}"));
        json!({ "id": format!("consumer-{number}"), "plan": "gold", "keys": [{ "sha256": key }] })
    });
    json!({
        "problem_details": {
            "overrides": { "api-key-unknown": { "members": { "note": long_note() } } },
        },
        "usage_plan": { "plans": { "gold": {} }, "consumers": consumers.collect::<Value>() },
    })
}

/// With escapes for what needs none, so that pieces end inside them.
fn escaped(document: &Value) -> String {
    let text = document
        .to_string()
        .replace('€', r"\u20ac")
        .replace('𝄞', r"\ud834\udd1e")
        .replace("\"consumer-", r#""\u0063onsumer-"#);
    let (before, after) = text.split_at(PIECE);
    assert!(!before.ends_with(r"\u20ac") && !before.ends_with(r"\udd1e"));
    assert!(!after.starts_with('"'));
    text
}

#[tokio::test]
async fn a_document_of_many_pieces_is_read_to_its_end() {
    let upstream = EchoUpstream::start().await;
    let document = long_document();
    let text = escaped(&document);
    assert!(document.to_string().len() > 8 * PIECE);
    for filter in [
        filter("tollgate", document),
        WasmFilter::new("tollgate", plugin("tollgate")).configuration_text(&text),
    ] {
        let envoy = start(&upstream, filter).await;
        let ask = async |key: &str| {
            let request = envoy.http1().get("/").header("x-api-key", key);
            request.send().await
        };
        for number in [0, 2_500, 4_999] {
            let reply = ask(&format!("key-{number}")).await;
            assert_eq!(reply.status, 200, "{number}");
            let consumer = format!("consumer-{number}");
            assert_eq!(reply.echo().header("x-consumer-id"), Some(&*consumer));
        }
        let refused = ask("key-5000").await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.json()["note"], long_note());
    }
}

#[tokio::test]
async fn mistakes_at_the_end_of_many_pieces_are_told_with_their_places() {
    let mut document = long_document();
    let consumers = &mut document["usage_plan"]["consumers"];
    consumers[4_998]["plans"] = json!("gold");
    consumers[4_999]["keys"][0]["sha256"] = json!("live-key");
    let by_text =
        |text: &str| WasmFilter::new("tollgate", plugin("tollgate")).configuration_text(text);
    let as_text = by_text(&escaped(&document));
    for filter in [filter("tollgate", document), as_text] {
        let log = refused(filter).await;
        for expected in [
            "usage_plan.consumers[4998].plans: unknown field",
            "usage_plan.consumers[4999].keys[0].sha256: found 8 characters",
        ] {
            assert!(log.contains(expected), "{expected}\nnot in\n{log}");
        }
    }
    let mut cut_off = escaped(&long_document());
    cut_off.pop();
    let expected = format!(
        "EOF while parsing an object at line 1 column {}",
        cut_off.len()
    );
    let log = refused(by_text(&cut_off)).await;
    assert!(log.contains(&expected), "{expected}\nnot in\n{log}");
}
