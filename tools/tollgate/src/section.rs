//! Where in a file the documents of our plugins are.

use std::ops::Range;

use tollgate_core::config::ConfigErrors;
use tollgate_core::host::Environment;

use crate::json_text;
use crate::plugin;
use crate::yaml::scalar::{Dialect, Numbers, Reading};
use crate::yaml::{self, InvalidYaml, Node};

/// A document of a plugin's, in a file.
#[derive(Debug)]
pub struct Section {
    /// The file of the plugin that reads it, as `usage-plan.wasm`.
    pub plugin: &'static str,
    /// What it stands in.
    pub form: Form,
    /// What the plugin gets, in bytes.
    pub document: Vec<u8>,
    /// The nodes of the document, if their places are known.
    pub nodes: Option<Node>,
    /// Where the document is, or what should have one.
    pub place: Range<usize>,
    /// The mistakes that keep the document from being what it seems to be.
    pub mistakes: ConfigErrors,
    /// The environment variables that the plugin is given.
    pub variables: Variables,
    /// How the nodes are read.
    pub reading: Reading,
}

/// What a document stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Envoy's filter, as a Struct.
    EnvoyStruct,
    /// Envoy's filter, as JSON in a StringValue.
    EnvoyText,
    /// Istio's WasmPlugin, or the TrafficExtension that supersedes it.
    WasmPlugin,
    /// Envoy Gateway's EnvoyExtensionPolicy.
    EnvoyExtensionPolicy,
    /// Nothing: the file is a document.
    Bare,
}

impl Form {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Form::EnvoyStruct => "Envoy filter with a Struct",
            Form::EnvoyText => "Envoy filter with a StringValue",
            Form::WasmPlugin => "WasmPlugin or TrafficExtension",
            Form::EnvoyExtensionPolicy => "EnvoyExtensionPolicy",
            Form::Bare => "document",
        }
    }
}

/// The environment variables that a plugin is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variables {
    /// Those of these names.
    Named(Vec<String>),
    /// Nothing says which.
    Unknown,
}

/// Every variable that is handed over has some value; which it is, only the gateway's machine knows.
impl Environment for Variables {
    fn variable(&self, name: &str) -> Option<String> {
        let is_given = match self {
            Variables::Named(names) => names.iter().any(|given| given == name),
            Variables::Unknown => true,
        };
        is_given.then(|| std::env::var(name).unwrap_or_else(|_| "a value".to_owned()))
    }
}

/// Finds the documents in a file. `plugin` says whose a document is that does not say so itself.
pub fn find(text: &str, plugin: Option<&'static str>) -> Result<Vec<Section>, InvalidYaml> {
    let documents = yaml::parse(text)?;
    let finder = Finder {
        text,
        plugin,
        is_json: serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
    };
    let mut sections = Vec::new();
    for root in &documents {
        let before = sections.len();
        finder.search(root, &mut sections);
        if sections.len() == before && finder.is_bare(root) {
            sections.push(finder.bare(root));
        }
    }
    Ok(sections)
}

struct Finder<'a> {
    text: &'a str,
    plugin: Option<&'static str>,
    is_json: bool,
}

impl Finder<'_> {
    fn search(&self, root: &Node, sections: &mut Vec<Section>) {
        // An EnvoyFilter of Istio's is read by Kubernetes before Envoy gets it.
        let dialect = match root.get("kind").is_some() && root.get("apiVersion").is_some() {
            true => Dialect::Kubernetes,
            false => Dialect::Envoy,
        };
        root.walk(&mut |node| {
            if is_type(node, WASM_FILTER) {
                let config = node.get("config").or_else(|| node.at(&["value", "config"]));
                sections.extend(config.and_then(|config| self.envoy(node, config, dialect)));
                return false;
            }
            let group = node.text_at(&["apiVersion"]).unwrap_or_default();
            match node.text_at(&["kind"]) {
                Some("WasmPlugin") if group.starts_with("extensions.istio.io/") => {
                    sections.extend(
                        node.get("spec")
                            .and_then(|spec| self.wasm_plugin(node, spec)),
                    );
                    false
                }
                // What supersedes it has the same fields, under wasm.
                Some("TrafficExtension") if group.starts_with("extensions.istio.io/") => {
                    let wasm = node.at(&["spec", "wasm"]);
                    sections.extend(wasm.and_then(|wasm| self.wasm_plugin(node, wasm)));
                    false
                }
                Some("EnvoyExtensionPolicy") if group.starts_with("gateway.envoyproxy.io/") => {
                    let wasm = node.at(&["spec", "wasm"]).map_or(&[][..], Node::items);
                    sections.extend(wasm.iter().filter_map(|item| self.extension(item)));
                    false
                }
                _ => true,
            }
        });
    }

    fn envoy(&self, filter: &Node, config: &Node, dialect: Dialect) -> Option<Section> {
        let code = config.at(&["vm_config", "code"]);
        let file = code.and_then(|code| {
            code.text_at(&["local", "filename"])
                .or_else(|| code.text_at(&["remote", "http_uri", "uri"]))
        });
        let configuration = config.get("configuration");
        let value = configuration.and_then(|configuration| configuration.get("value"));
        let plugin = self.plugin_of(file, value)?;
        let variables = config.at(&["vm_config", "environment_variables"]);
        let variables = Variables::Named(
            [
                names(variables, "host_env_keys"),
                keys(variables, "key_values"),
            ]
            .concat(),
        );
        let reading = self.reading(dialect, Numbers::Doubles);
        let Some(configuration) = configuration else {
            return Some(self.empty(plugin, Form::EnvoyStruct, filter, variables));
        };
        match value {
            Some(value) if is_type(configuration, STRING_VALUE) => {
                Some(self.of_text(plugin, value, variables))
            }
            Some(value) if is_type(configuration, STRUCT) => {
                Some(self.of_nodes(plugin, Form::EnvoyStruct, reading, value, variables))
            }
            _ => {
                let mut section = self.empty(plugin, Form::EnvoyStruct, configuration, variables);
                section.mistakes.add(
                    "",
                    format!(
                        "the configuration has no document, expected \"@type\": {STRUCT} or \
                         {STRING_VALUE}, and a value"
                    ),
                );
                Some(section)
            }
        }
    }

    fn wasm_plugin(&self, resource: &Node, spec: &Node) -> Option<Section> {
        let config = spec.get("pluginConfig");
        let plugin = self.plugin_of(spec.text_at(&["url"]), config)?;
        let env = spec.at(&["vmConfig", "env"]).map_or(&[][..], Node::items);
        let names = env
            .iter()
            .filter_map(|variable| variable.text_at(&["name"]));
        let variables = Variables::Named(names.map(str::to_owned).collect());
        // Istio keeps it as a Struct.
        let reading = self.reading(Dialect::Kubernetes, Numbers::Doubles);
        Some(match config {
            Some(config) => self.of_nodes(plugin, Form::WasmPlugin, reading, config, variables),
            None => self.empty(plugin, Form::WasmPlugin, resource, variables),
        })
    }

    fn extension(&self, item: &Node) -> Option<Section> {
        let url = item
            .text_at(&["code", "image", "url"])
            .or_else(|| item.text_at(&["code", "http", "url"]));
        let config = item.get("config");
        let plugin = self.plugin_of(url, config)?;
        let variables = Variables::Named(names(item.get("env"), "hostKeys"));
        // It goes to Envoy as JSON text.
        let reading = self.reading(Dialect::Kubernetes, Numbers::AsWritten);
        let form = Form::EnvoyExtensionPolicy;
        Some(match config {
            Some(config) => self.of_nodes(plugin, form, reading, config, variables),
            None => self.empty(plugin, form, item, variables),
        })
    }

    fn bare(&self, root: &Node) -> Section {
        let reading = self.reading(Dialect::Envoy, Numbers::Doubles);
        let plugin = self.plugin.unwrap_or(plugin::FULL);
        self.of_nodes(plugin, Form::Bare, reading, root, Variables::Unknown)
    }

    /// Whether a file that holds no configuration of a plugin's may be one itself.
    fn is_bare(&self, root: &Node) -> bool {
        let has = |key: &&str| root.get(key).is_some();
        match root.entries() {
            [] => false,
            _ if has(&"kind") || has(&"@type") => false,
            _ if BOOTSTRAP.iter().any(has) => false,
            _ => self.plugin.is_some() || plugin::sections().iter().any(has),
        }
    }

    /// Whose a configuration is: that of the plugin whose file it goes with; else, if it has a
    /// section of ours, that of the plugin that was named, or the full one.
    fn plugin_of(&self, reference: Option<&str>, config: Option<&Node>) -> Option<&'static str> {
        let by_file = reference.and_then(plugin::of_reference);
        let named = self.plugin.or(Some(plugin::FULL));
        by_file.or_else(|| {
            let config = config?;
            let inner = json_text::nodes(config, self.text);
            let config = inner.as_ref().unwrap_or(config);
            let ours = plugin::sections();
            ours.iter()
                .any(|name| config.get(name).is_some())
                .then_some(named)?
        })
    }

    fn reading(&self, dialect: Dialect, numbers: Numbers) -> Reading {
        let dialect = if self.is_json { Dialect::Json } else { dialect };
        Reading { dialect, numbers }
    }

    fn of_nodes(
        &self,
        plugin: &'static str,
        form: Form,
        reading: Reading,
        node: &Node,
        variables: Variables,
    ) -> Section {
        let mut mistakes = ConfigErrors::default();
        let document = reading.json(node, "", &mut mistakes);
        Section {
            plugin,
            form,
            document: document.to_string().into_bytes(),
            nodes: Some(node.clone()),
            place: node.span.clone(),
            mistakes,
            variables,
            reading,
        }
    }

    fn of_text(&self, plugin: &'static str, value: &Node, variables: Variables) -> Section {
        Section {
            plugin,
            form: Form::EnvoyText,
            document: value.text().unwrap_or_default().as_bytes().to_vec(),
            nodes: json_text::nodes(value, self.text),
            place: value.span.clone(),
            mistakes: ConfigErrors::default(),
            variables,
            reading: Reading::JSON,
        }
    }

    fn empty(&self, plugin: &'static str, form: Form, at: &Node, variables: Variables) -> Section {
        Section {
            plugin,
            form,
            document: Vec::new(),
            nodes: None,
            place: at.span.clone(),
            mistakes: ConfigErrors::default(),
            variables,
            reading: Reading::JSON,
        }
    }
}

const WASM_FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";
const STRING_VALUE: &str = "type.googleapis.com/google.protobuf.StringValue";

/// Fields of Envoy's bootstrap and of discovery responses.
const BOOTSTRAP: [&str; 6] = [
    "static_resources",
    "dynamic_resources",
    "resources",
    "stats_config",
    "admin",
    "node",
];

/// Whether a message is of a type: by itself, or within a TypedStruct.
fn is_type(node: &Node, url: &str) -> bool {
    node.text_at(&["@type"]) == Some(url) || node.text_at(&["type_url"]) == Some(url)
}

fn names(node: Option<&Node>, field: &str) -> Vec<String> {
    let items = node
        .and_then(|node| node.get(field))
        .map_or(&[][..], Node::items);
    items
        .iter()
        .filter_map(Node::text)
        .map(str::to_owned)
        .collect()
}

fn keys(node: Option<&Node>, field: &str) -> Vec<String> {
    let entries = node
        .and_then(|node| node.get(field))
        .map_or(&[][..], Node::entries);
    let keys = entries.iter().filter_map(|(key, _)| key.text());
    keys.map(str::to_owned).collect()
}
