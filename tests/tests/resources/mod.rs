//! The resources of Istio and Envoy Gateway that `envoy/` has, as their definitions (CRDs) read them:
//! every field, every value of an enumeration, and the limits that `envoy/` could break.
//!
//! Written from istio/api at b8f8791d9 and envoyproxy/gateway at d32f282942. Fields that `envoy/` does
//! not use are left out, so one that is added here has to be looked up first.
#![allow(dead_code, reason = "what is only read is checked by being read")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A resource, by its `kind`.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub(crate) enum Resource {
    WasmPlugin(Envelope<WasmPluginSpec>),
    TrafficExtension(Envelope<TrafficExtensionSpec>),
    ServiceEntry(Envelope<ServiceEntrySpec>),
    DestinationRule(Envelope<DestinationRuleSpec>),
    EnvoyExtensionPolicy(Envelope<EnvoyExtensionPolicySpec>),
    EnvoyProxy(Envelope<EnvoyProxySpec>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Envelope<S> {
    pub(crate) api_version: String,
    pub(crate) metadata: Metadata,
    pub(crate) spec: S,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
}

/// A plugin as any of the resources has it.
pub(crate) struct Plugin<'a> {
    pub(crate) name: &'a str,
    pub(crate) url: &'a str,
    /// The names of the variables that it gets.
    pub(crate) environment: Vec<&'a str>,
    pub(crate) config: &'a Value,
}

impl Resource {
    pub(crate) fn api_version(&self) -> &str {
        match self {
            Resource::WasmPlugin(resource) => &resource.api_version,
            Resource::TrafficExtension(resource) => &resource.api_version,
            Resource::ServiceEntry(resource) => &resource.api_version,
            Resource::DestinationRule(resource) => &resource.api_version,
            Resource::EnvoyExtensionPolicy(resource) => &resource.api_version,
            Resource::EnvoyProxy(resource) => &resource.api_version,
        }
    }

    /// The API version that its definition has.
    pub(crate) fn defined_version(&self) -> &'static str {
        match self {
            Resource::WasmPlugin(_) | Resource::TrafficExtension(_) => {
                "extensions.istio.io/v1alpha1"
            }
            Resource::ServiceEntry(_) | Resource::DestinationRule(_) => "networking.istio.io/v1",
            Resource::EnvoyExtensionPolicy(_) | Resource::EnvoyProxy(_) => {
                "gateway.envoyproxy.io/v1alpha1"
            }
        }
    }

    pub(crate) fn plugins(&self) -> Vec<Plugin<'_>> {
        match self {
            Resource::WasmPlugin(resource) => {
                vec![resource.spec.wasm.plugin(&resource.metadata.name)]
            }
            Resource::TrafficExtension(resource) => {
                vec![resource.spec.wasm.plugin(&resource.metadata.name)]
            }
            Resource::EnvoyExtensionPolicy(resource) => {
                resource.spec.wasm.iter().map(Wasm::plugin).collect()
            }
            Resource::ServiceEntry(_) | Resource::DestinationRule(_) | Resource::EnvoyProxy(_) => {
                Vec::new()
            }
        }
    }

    /// What the definitions demand beside the shape.
    pub(crate) fn check(&self) {
        assert_eq!(self.api_version(), self.defined_version());
        match self {
            Resource::WasmPlugin(resource) => {
                resource.spec.place.check();
                resource.spec.wasm.check();
            }
            Resource::TrafficExtension(resource) => {
                resource.spec.place.check();
                resource.spec.wasm.check();
            }
            Resource::EnvoyExtensionPolicy(resource) => {
                assert!(resource.spec.wasm.len() <= 16);
                assert!(!resource.spec.target_refs.is_empty());
            }
            Resource::ServiceEntry(_) | Resource::DestinationRule(_) | Resource::EnvoyProxy(_) => {}
        }
    }
}

/// `extensions.istio.io/v1alpha1` WasmPlugin.
#[derive(Debug)]
pub(crate) struct WasmPluginSpec {
    pub(crate) place: Place,
    pub(crate) wasm: WasmConfig,
}

// Serde does not refuse unknown fields of flattened structs, so the fields are dealt out by hand.
impl<'de> Deserialize<'de> for WasmPluginSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut place = serde_json::Map::deserialize(deserializer)?;
        let of_place = ["selector", "targetRefs", "match", "phase", "priority"];
        let mut wasm = place.clone();
        place.retain(|field, _| of_place.contains(&field.as_str()));
        wasm.retain(|field, _| !of_place.contains(&field.as_str()));
        Ok(WasmPluginSpec {
            place: serde_json::from_value(place.into()).map_err(serde::de::Error::custom)?,
            wasm: serde_json::from_value(wasm.into()).map_err(serde::de::Error::custom)?,
        })
    }
}

/// `extensions.istio.io/v1alpha1` TrafficExtension, with a plugin.
#[derive(Debug)]
pub(crate) struct TrafficExtensionSpec {
    pub(crate) place: Place,
    pub(crate) wasm: WasmConfig,
}

impl<'de> Deserialize<'de> for TrafficExtensionSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut place = serde_json::Map::deserialize(deserializer)?;
        let wasm = place.remove("wasm").unwrap_or_default();
        Ok(TrafficExtensionSpec {
            place: serde_json::from_value(place.into()).map_err(serde::de::Error::custom)?,
            wasm: serde_json::from_value(wasm).map_err(serde::de::Error::custom)?,
        })
    }
}

/// Where a plugin goes: what WasmPlugin and TrafficExtension have in common.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Place {
    pub(crate) selector: Option<Selector>,
    pub(crate) target_refs: Option<Vec<TargetRef>>,
    #[serde(default)]
    pub(crate) r#match: Vec<TrafficSelector>,
    pub(crate) phase: Option<Phase>,
    pub(crate) priority: Option<i32>,
}

impl Place {
    fn check(&self) {
        assert!(self.selector.is_none() || self.target_refs.is_none());
        assert!(
            self.target_refs
                .as_ref()
                .is_none_or(|refs| refs.len() <= 16)
        );
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetRef {
    #[serde(default)]
    pub(crate) group: String,
    pub(crate) kind: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrafficSelector {
    mode: Option<Mode>,
    #[serde(default)]
    ports: Vec<PortSelector>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Mode {
    Client,
    Server,
    ClientAndServer,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortSelector {
    number: std::num::NonZeroU16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Phase {
    Authn,
    Authz,
    Stats,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WasmConfig {
    url: String,
    sha256: Option<String>,
    image_pull_policy: Option<PullPolicy>,
    image_pull_secret: Option<String>,
    plugin_config: Value,
    plugin_name: Option<String>,
    pub(crate) fail_strategy: Option<FailStrategy>,
    #[serde(default)]
    vm_config: VmConfig,
}

impl WasmConfig {
    fn plugin<'a>(&'a self, name: &'a str) -> Plugin<'a> {
        Plugin {
            name,
            url: self.url.strip_prefix("oci://").expect("an image"),
            environment: self.vm_config.env.iter().map(|env| &*env.name).collect(),
            config: &self.plugin_config,
        }
    }

    fn check(&self) {
        let digest = |text: &String| {
            let hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            text.len() == 64 && text.chars().all(hex)
        };
        assert!(self.sha256.as_ref().is_none_or(digest));
        for env in &self.vm_config.env {
            let inline = !matches!(env.value_from, Some(ValueFrom::Host));
            assert_eq!(inline, env.value.is_some(), "{}", env.name);
        }
    }
}

#[derive(Debug, Deserialize)]
enum PullPolicy {
    IfNotPresent,
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum FailStrategy {
    #[serde(rename = "FAIL_CLOSE")]
    Close,
    #[serde(rename = "FAIL_OPEN")]
    Open,
    #[serde(rename = "FAIL_RELOAD")]
    Reload,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct VmConfig {
    env: Vec<EnvVar>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnvVar {
    name: String,
    value: Option<String>,
    value_from: Option<ValueFrom>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ValueFrom {
    Inline,
    Host,
}

/// `networking.istio.io/v1` ServiceEntry.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceEntrySpec {
    pub(crate) export_to: Vec<String>,
    pub(crate) hosts: Vec<String>,
    location: Location,
    resolution: Resolution,
    pub(crate) ports: Vec<ServicePort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Location {
    MeshExternal,
    MeshInternal,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Resolution {
    None,
    Static,
    Dns,
    DnsRoundRobin,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServicePort {
    pub(crate) number: u16,
    name: String,
    protocol: String,
    target_port: Option<u16>,
}

/// `networking.istio.io/v1` DestinationRule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DestinationRuleSpec {
    pub(crate) host: String,
    export_to: Vec<String>,
    pub(crate) traffic_policy: TrafficPolicy,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TrafficPolicy {
    connection_pool: ConnectionPool,
    pub(crate) tls: Tls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionPool {
    tcp: Tcp,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Tcp {
    connect_timeout: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Tls {
    mode: TlsMode,
    pub(crate) sni: String,
    pub(crate) subject_alt_names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum TlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

/// `gateway.envoyproxy.io/v1alpha1` EnvoyExtensionPolicy.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EnvoyExtensionPolicySpec {
    target_refs: Vec<TargetRef>,
    wasm: Vec<Wasm>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wasm {
    name: String,
    code: Code,
    config: Value,
    #[serde(default)]
    fail_open: bool,
    #[serde(default)]
    env: HostEnv,
}

impl Wasm {
    fn plugin(&self) -> Plugin<'_> {
        assert!(!self.fail_open, "{} would let everybody in", self.name);
        let Code::Image { image } = &self.code;
        Plugin {
            name: &self.name,
            url: &image.url,
            environment: self.env.host_keys.iter().map(String::as_str).collect(),
            config: &self.config,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Code {
    Image { image: Image },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    url: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HostEnv {
    host_keys: Vec<String>,
}

/// `gateway.envoyproxy.io/v1alpha1` EnvoyProxy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvoyProxySpec {
    provider: Provider,
    pub(crate) bootstrap: Bootstrap,
}

/// Only the outline: the container's variables are Kubernetes' own.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Provider {
    Kubernetes { kubernetes: Kubernetes },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kubernetes {
    envoy_deployment: Value,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(crate) enum Bootstrap {
    Merge { value: String },
}
