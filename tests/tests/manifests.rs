//! The resources for Istio and Envoy Gateway: their shape by the definitions of these, what is in them
//! for us by the plugins themselves.

mod resources;

use std::fs;
use std::path::PathBuf;

use resources::{Bootstrap, FailStrategy, Phase, Resource};
use serde_json::Value;
use tollgate_core::telemetry::LABELS;
use tollgate_tests::{EchoUpstream, Envoy, WasmFilter, plugin, repository};

/// What the demo keys are hashed under.
const PEPPER: &str = "demo-pepper";

/// The one file that is no resource.
const VALUES: &str = "mesh-values.yaml";

fn files() -> Vec<PathBuf> {
    let folders = ["istio", "envoy-gateway"].map(|name| repository().join("envoy").join(name));
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| !file.ends_with(VALUES));
    files.sort();
    files
}

/// The documents of a file: what lies between the lines `---`.
fn documents(file: &PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let documents = text.split("\n---\n");
    documents
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
        .collect()
}

fn resources(file: &PathBuf) -> Vec<Resource> {
    let read = |document: Value| {
        let name = document["metadata"]["name"].clone();
        serde_json::from_value(document)
            .unwrap_or_else(|error| panic!("{}: {name}: {error}", file.display()))
    };
    documents(file).into_iter().map(read).collect()
}

#[test]
fn every_resource_is_as_its_definition_says() {
    let mut kinds = Vec::new();
    for file in files() {
        for resource in resources(&file) {
            resource.check();
            kinds.push(std::mem::discriminant(&resource));
        }
    }
    kinds.dedup();
    assert!(kinds.len() >= 6, "not all kinds are there");
}

#[test]
fn a_field_that_no_definition_has_is_found() {
    let mut mistaken = 0;
    for file in files() {
        for document in documents(&file) {
            for path in [
                "/spec",
                "/spec/wasm",
                "/spec/wasm/0",
                "/spec/trafficPolicy/tls",
            ] {
                let mut document = document.clone();
                let Some(Value::Object(fields)) = document.pointer_mut(path) else {
                    continue;
                };
                fields.insert("failstrategy".to_owned(), "FAIL_RELOAD".into());
                assert!(
                    serde_json::from_value::<Resource>(document).is_err(),
                    "{path}"
                );
                mistaken += 1;
            }
        }
    }
    assert!(mistaken > 10);
}

/// Istio and Envoy Gateway hand the document over as JSON in a string.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_document_is_accepted_by_its_plugin() {
    let upstream = EchoUpstream::start().await;
    // All in one, since most of the time goes into making machine code of the plugins.
    let mut gateway = Envoy::builder().upstream(&upstream).concurrency(1);
    for file in files() {
        let resources = resources(&file);
        let plugins: Vec<_> = resources.iter().flat_map(Resource::plugins).collect();
        assert!(!plugins.is_empty(), "{} has no plugin", file.display());
        for found in plugins {
            let (_, image) = found.url.rsplit_once('/').unwrap();
            let (wasm, version) = image.split_once(':').unwrap();
            assert_eq!(version, env!("CARGO_PKG_VERSION"), "{}", file.display());
            let name = format!("{} of {}", found.name, file.display());
            let mut filter = WasmFilter::new(&name, plugin(wasm));
            filter = filter.configuration_text(&found.config.to_string());
            for variable in found.environment {
                filter = filter.env(variable, PEPPER);
            }
            gateway = gateway.filter(filter);
        }
    }
    if let Err(error) = gateway.start().await {
        let log = error.log().lines();
        let mistakes: Vec<&str> = log.filter(|line| line.contains("[critical]")).collect();
        panic!("{}", mistakes.join("\n"));
    }
}

/// Behind Istio's own filters, a plugin would not see what they refuse.
#[test]
fn every_plugin_comes_before_istio_judges_and_is_reloaded() {
    let mut last: Option<(PathBuf, i32)> = None;
    for file in files() {
        for resource in resources(&file) {
            let (place, wasm) = match &resource {
                Resource::WasmPlugin(resource) => (&resource.spec.place, &resource.spec.wasm),
                Resource::TrafficExtension(resource) => (&resource.spec.place, &resource.spec.wasm),
                _ => continue,
            };
            assert_eq!(place.phase, Some(Phase::Authn), "{}", file.display());
            assert_eq!(wasm.fail_strategy, Some(FailStrategy::Reload));
            let priority = place.priority.expect("a priority");
            if let Some((other, before)) = &last
                && *other == file
            {
                assert!(priority < *before, "{}: not in their order", file.display());
            }
            last = Some((file.clone(), priority));
        }
    }
}

#[test]
fn keys_are_fetched_from_a_cluster_that_is_there() {
    let file = repository().join("envoy/istio/gateway.yaml");
    let resources = resources(&file);
    let mut clusters = Vec::new();
    let mut hosts = Vec::new();
    for resource in &resources {
        match resource {
            Resource::ServiceEntry(entry) => {
                let port = entry.spec.ports[0].number;
                let host = &entry.spec.hosts[0];
                clusters.push(format!("outbound|{port}||{host}"));
                assert_eq!(entry.spec.export_to, ["."]);
            }
            Resource::DestinationRule(rule) => {
                let tls = &rule.spec.traffic_policy.tls;
                assert_eq!(tls.sni, rule.spec.host);
                assert_eq!(tls.subject_alt_names, [&*rule.spec.host]);
                hosts.push(rule.spec.host.clone());
            }
            _ => {}
        }
    }
    for plugin in resources.iter().flat_map(Resource::plugins) {
        let jwks = &plugin.config["jwt_authz"]["providers"][0]["jwks"];
        assert_eq!(jwks["cluster"], clusters[0]);
        assert!(clusters[0].ends_with(&hosts[0]), "{hosts:?}");
    }
}

#[test]
fn proxies_make_labels_of_all_that_we_have() {
    let values = fs::read_to_string(repository().join("envoy/istio").join(VALUES)).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let tags = &values["meshConfig"]["defaultConfig"]["extraStatTags"];
    assert_eq!(*tags, serde_json::json!(LABELS));

    let file = repository().join("envoy/envoy-gateway/gateway.yaml");
    let bootstraps = resources(&file)
        .into_iter()
        .filter_map(|resource| match resource {
            Resource::EnvoyProxy(proxy) => Some(proxy.spec.bootstrap),
            _ => None,
        });
    for bootstrap in bootstraps {
        let Bootstrap::Merge { value } = bootstrap;
        let value: Value = serde_saphyr::from_str(&value).unwrap();
        let tags = value["stats_config"]["stats_tags"].as_array().unwrap();
        let expected = LABELS.map(|label| {
            serde_json::json!({ "tag_name": label, "regex": format!("({label}=\\.=(.*?);\\.;)") })
        });
        assert_eq!(*tags, expected);
    }
}
