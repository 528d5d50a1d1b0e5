//! `tollgate export`: a document, as another system takes it.

use std::io::Write;

use anyhow::Context as _;
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::{Value as Json, json};
use tollgate_core::config::{ConfigErrors, Document};
use tollgate_usage_plan::{UsagePlanConfig, ratelimit_config};

use crate::args::{ExportCommand, IstioArguments};
use crate::check;
use crate::explain::{named, only_section};
use crate::input::{self, Input};
use crate::section::Section;
use crate::yaml::scalar::Reading;
use crate::yaml::{Node, Value};
use crate::{Outcome, note};

/// Exports.
pub fn run(command: &ExportCommand, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let (file, plugin) = match command {
        ExportCommand::Istio(arguments) => (&arguments.file, &arguments.plugin),
        ExportCommand::Ratelimit(arguments) => (&arguments.file, &arguments.plugin),
    };
    let checked = check::check(input::read(file)?, named(plugin)?);
    if !checked.mistakes.is_empty() {
        write!(anstream::stderr(), "{}\n\n", checked.report())?;
        note("mend the configuration first");
        return Ok(Outcome::Bad);
    }
    let section = only_section(&checked, plugin)?;
    let exported = match command {
        ExportCommand::Istio(arguments) => {
            let manifest = istio(section, arguments)?;
            verify(&manifest, section)?;
            manifest
        }
        ExportCommand::Ratelimit(_) => match ratelimit(section)? {
            Ok(config) => config,
            Err(mistake) => {
                note(&mistake.to_string());
                return Ok(Outcome::Bad);
            }
        },
    };
    out.write_all(exported.as_bytes())?;
    Ok(Outcome::Good)
}

/// The configuration of envoyproxy/ratelimit; or why it can't keep the plans' quotas.
fn ratelimit(section: &Section) -> anyhow::Result<Result<String, impl std::fmt::Display>> {
    let mut document = Document::parse(&section.document).map_err(|mistakes| one(&mistakes))?;
    let mut mistakes = ConfigErrors::default();
    let plans = document
        .take::<UsagePlanConfig>("usage_plan", &mut mistakes)
        .map_err(|_| one(&mistakes))?;
    let plans = plans.context("the document has no section usage_plan, so there are no quotas")?;
    Ok(ratelimit_config(&plans))
}

/// Mistakes that a check should have found before.
fn one(mistakes: &ConfigErrors) -> anyhow::Error {
    anyhow::anyhow!("{mistakes}")
}

/// A WasmPlugin (extensions.istio.io/v1alpha1).
fn istio(section: &Section, arguments: &IstioArguments) -> anyhow::Result<String> {
    let stem = section
        .plugin
        .strip_suffix(".wasm")
        .unwrap_or(section.plugin);
    let mut metadata = vec![("name", json!(arguments.name.as_deref().unwrap_or(stem)))];
    metadata.extend(
        arguments
            .namespace
            .as_ref()
            .map(|namespace| ("namespace", json!(namespace))),
    );
    let mut spec = Vec::new();
    if !arguments.selector.is_empty() {
        let labels = arguments.selector.iter().map(|label| {
            let (name, value) = label
                .split_once('=')
                .context("--selector: expected LABEL=VALUE")?;
            Ok((name.to_owned(), json!(value)))
        });
        let labels: serde_json::Map<String, Json> = labels.collect::<anyhow::Result<_>>()?;
        spec.push(("selector", Field::Json(json!({ "matchLabels": labels }))));
    }
    spec.push(("url", Field::Json(json!(arguments.url))));
    spec.extend(
        arguments
            .sha256
            .as_ref()
            .map(|digest| ("sha256", Field::Json(json!(digest)))),
    );
    let secret = arguments.image_pull_secret.as_ref();
    spec.extend(secret.map(|secret| ("imagePullSecret", Field::Json(json!(secret)))));
    // In front of Istio's own authentication and authorisation, and so around their refusals.
    spec.push(("phase", Field::Json(json!("AUTHN"))));
    spec.push(("failStrategy", Field::Json(json!("FAIL_RELOAD"))));
    let document: Json = serde_json::from_slice(&section.document)?;
    let secrets = [
        "/usage_plan/key/pepper/env",
        "/usage_plan/store/redis_http/authorization/env",
    ];
    let variables = secrets.iter().filter_map(|place| document.pointer(place));
    let variables: Vec<Json> = variables
        .map(|name| json!({ "name": name, "valueFrom": "HOST" }))
        .collect();
    if !variables.is_empty() {
        spec.push(("vmConfig", Field::Json(json!({ "env": variables }))));
    }
    let config = match &section.nodes {
        Some(node) => Field::Node(node, section.reading),
        None => Field::Json(document.clone()),
    };
    spec.push(("pluginConfig", config));
    let manifest = Fields(vec![
        (
            "apiVersion",
            Field::Json(json!("extensions.istio.io/v1alpha1")),
        ),
        ("kind", Field::Json(json!("WasmPlugin"))),
        (
            "metadata",
            Field::Fields(Fields(
                metadata
                    .into_iter()
                    .map(|(name, value)| (name, Field::Json(value)))
                    .collect(),
            )),
        ),
        ("spec", Field::Fields(Fields(spec))),
    ]);
    Ok(serde_saphyr::to_string(&manifest)?)
}

/// Reads the manifest back: the plugin must get the same document from it.
fn verify(manifest: &str, section: &Section) -> anyhow::Result<()> {
    let input = Input {
        name: "<exported>".to_owned(),
        text: manifest.to_owned(),
    };
    let again = check::check(input, Some(section.plugin));
    let [exported] = again.sections.as_slice() else {
        anyhow::bail!("the manifest holds no configuration: this is a fault of tollgate's");
    };
    let before: Json = serde_json::from_slice(&section.document)?;
    let after: Json = serde_json::from_slice(&exported.document)?;
    match again.mistakes.is_empty() && same(&before, &after) {
        true => Ok(()),
        false => {
            anyhow::bail!("the manifest would say something else: this is a fault of tollgate's")
        }
    }
}

/// Whether two documents are the same to a plugin: 1 and 1.0 are.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Fields in their order.
struct Fields<'a>(Vec<(&'static str, Field<'a>)>);

enum Field<'a> {
    Json(Json),
    /// A document, in the order in which it was written.
    Node(&'a Node, Reading),
    Fields(Fields<'a>),
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, field) in &self.0 {
            map.serialize_entry(name, field)?;
        }
        map.end()
    }
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Json(value) => value.serialize(serializer),
            Field::Fields(fields) => fields.serialize(serializer),
            Field::Node(node, reading) => match &node.value {
                Value::Map(entries) => {
                    let mut map = serializer.serialize_map(Some(entries.len()))?;
                    for (key, value) in entries {
                        let key = key.text().unwrap_or_default();
                        map.serialize_entry(key, &Field::Node(value, *reading))?;
                    }
                    map.end()
                }
                Value::List(items) => {
                    let mut list = serializer.serialize_seq(Some(items.len()))?;
                    for item in items {
                        list.serialize_element(&Field::Node(item, *reading))?;
                    }
                    list.end()
                }
                Value::Scalar(_) => {
                    let value = reading.json(node, "", &mut ConfigErrors::default());
                    whole(value).serialize(serializer)
                }
            },
        }
    }
}

/// A number without a fraction, as a whole one.
fn whole(value: Json) -> Json {
    match value.as_f64() {
        Some(number) if value.is_f64() && number.fract() == 0.0 && number.abs() < 9e15 => {
            Json::from(number as i64)
        }
        _ => value,
    }
}
