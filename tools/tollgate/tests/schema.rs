//! The JSON Schema says what the plugins' own types accept.
//!
//! The schema is written by hand, because its words are. Here it is walked from its root, and at
//! every place the types are asked: an unknown field makes them list the fields that they have and
//! those that are missing, an unknown word the words.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests want to fail loudly"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use common::repository;
use serde_json::{Value, json};
use tollgate_cli::plugin;
use tollgate_cli::section::{self, Variables};
use tollgate_core::config::{ConfigError, key_path};

const UNKNOWN: &str = "zzzzzz";

fn schema() -> Value {
    serde_json::from_str(tollgate_cli::schema::TEXT).unwrap()
}

#[derive(Clone)]
enum Step {
    Key(String),
    First,
}

/// A place in a document.
#[derive(Clone, Default)]
struct Place(Vec<Step>);

impl Place {
    fn key(&self, name: &str) -> Place {
        let mut steps = self.0.clone();
        steps.push(Step::Key(name.to_owned()));
        Place(steps)
    }

    fn first(&self) -> Place {
        let mut steps = self.0.clone();
        steps.push(Step::First);
        Place(steps)
    }

    fn path(&self) -> String {
        self.0.iter().fold(String::new(), |path, step| match step {
            Step::Key(name) => key_path(&path, name),
            Step::First => format!("{path}[0]"),
        })
    }

    /// The document that has nothing but this value at this place.
    fn document(&self, value: Value) -> Value {
        self.0.iter().rev().fold(value, |value, step| match step {
            Step::Key(name) => json!({ name: value }),
            Step::First => json!([value]),
        })
    }

    /// What the types say about the value at this place.
    fn mistakes(&self, value: Value) -> Vec<ConfigError> {
        let document = self.document(value).to_string();
        let errors = plugin::configure(plugin::FULL, document.as_bytes(), &Variables::Unknown);
        errors.iter().cloned().collect()
    }

    /// The mistakes at this very place.
    fn own_mistakes(&self, value: Value) -> Vec<String> {
        let path = self.path();
        let own = self
            .mistakes(value)
            .into_iter()
            .filter(|error| error.path == path);
        own.map(|error| error.message).collect()
    }
}

/// Walks the schema, and keeps what does not fit.
struct Walk {
    schema: Value,
    wrong: Vec<String>,
    objects: usize,
    words: usize,
    examples: usize,
}

impl Walk {
    fn node(&mut self, node: &Value, place: &Place, within: &[String]) {
        if let Some(name) = node["$ref"].as_str() {
            // What contains itself is walked once.
            if within.iter().filter(|outer| *outer == name).count() > 1 {
                return;
            }
            let pointer = name.strip_prefix('#').unwrap();
            let target = self.schema.pointer(pointer).cloned();
            let Some(target) = target else {
                self.wrong.push(format!("{name} leads nowhere"));
                return;
            };
            let within = [within, &[name.to_owned()]].concat();
            return self.node(&target, place, &within);
        }
        for variant in node["anyOf"].as_array().into_iter().flatten() {
            self.node(variant, place, within);
        }
        if let Some(words) = node["enum"].as_array() {
            self.words(words, place);
        }
        for example in node["examples"].as_array().into_iter().flatten() {
            self.examples += 1;
            let mistakes = place.own_mistakes(example.clone());
            let refused = mistakes
                .iter()
                .filter(|message| !is_about_the_rest(message));
            for message in refused {
                self.wrong.push(format!(
                    "{}: the example {example}: {message}",
                    place.path()
                ));
            }
        }
        match node["type"].as_str() {
            Some("object") => self.object(node, place, within),
            Some("array") => self.node(&node["items"], &place.first(), within),
            Some("boolean") => self.kind(place, json!(true), json!("true")),
            Some("integer") => self.kind(place, json!(1), json!("one")),
            Some("string") if node["enum"].is_null() => self.kind(place, json!("x"), json!(true)),
            _ => {}
        }
    }

    fn object(&mut self, node: &Value, place: &Place, within: &[String]) {
        if let Some(values) = node["additionalProperties"].as_object() {
            let values = Value::Object(values.clone());
            return self.node(&values, &place.key("GET"), within);
        }
        let Some(properties) = node["properties"].as_object() else {
            return;
        };
        self.objects += 1;
        let written: BTreeSet<String> = properties.keys().cloned().collect();
        let (fields, missing) = self.fields(place);
        if written != fields {
            let path = place.path();
            self.wrong.push(format!(
                "{path}: the schema has {written:?}, the types {fields:?}"
            ));
        }
        let required: BTreeSet<String> = node["required"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        if required != missing {
            let path = place.path();
            self.wrong.push(format!(
                "{path}: the schema requires {required:?}, the types {missing:?}"
            ));
        }
        if node["additionalProperties"] != json!(false) {
            self.wrong
                .push(format!("{}: takes unknown fields", place.path()));
        }
        for (name, property) in properties {
            self.node(property, &place.key(name), within);
        }
    }

    /// The fields that the types have at a place, and those that must be there.
    fn fields(&self, place: &Place) -> (BTreeSet<String>, BTreeSet<String>) {
        let mistakes = place.mistakes(json!({ UNKNOWN: 1 }));
        let unknown = place.key(UNKNOWN).path();
        let listed = mistakes.iter().find(|error| error.path == unknown);
        let fields = listed
            .map(|error| listed_in(&error.message))
            .unwrap_or_default();
        let path = place.path();
        let missing = mistakes
            .iter()
            .filter(|error| error.path == path)
            .filter_map(|error| {
                let rest = error.message.strip_prefix("the field \"")?;
                Some(rest.split_once("\" is missing")?.0.to_owned())
            });
        (fields, missing.collect())
    }

    fn words(&mut self, words: &[Value], place: &Place) {
        self.words += 1;
        let path = place.path();
        for word in words {
            let mistakes = place.own_mistakes(word.clone());
            for message in mistakes
                .iter()
                .filter(|message| !is_about_the_rest(message))
            {
                self.wrong
                    .push(format!("{path}: the word {word}: {message}"));
            }
        }
        let refusals = place.own_mistakes(json!(UNKNOWN));
        let Some(refusal) = refusals.first() else {
            self.wrong.push(format!("{path}: any word is taken"));
            return;
        };
        let known = listed_in(refusal);
        let written: BTreeSet<String> = words
            .iter()
            .map(|word| word.as_str().unwrap().to_owned())
            .collect();
        if known != written {
            self.wrong.push(format!(
                "{path}: the schema has {written:?}, the types say {refusal}"
            ));
        }
    }

    /// Checks that a value of a kind is taken as one, and one of another kind is not.
    fn kind(&mut self, place: &Place, good: Value, bad: Value) {
        let path = place.path();
        let found = match good {
            Value::Bool(_) => "found true, expected",
            Value::Number(_) => "found the number 1, expected",
            _ => "found text, expected",
        };
        for message in place.own_mistakes(good) {
            if message.starts_with(found) {
                self.wrong.push(format!("{path}: {message}"));
            }
        }
        if place.own_mistakes(bad.clone()).is_empty() {
            self.wrong.push(format!("{path}: {bad} is taken"));
        }
    }
}

/// Whether a mistake is not about the value that was put there, but about what it goes with.
fn is_about_the_rest(message: &str) -> bool {
    let starts = [
        "unknown API",
        "unknown plan",
        "does nothing without",
        "there is no successor",
        "is about a store, and there is none",
    ];
    let parts = ["is missing, add it", "which the document lacks"];
    starts.iter().any(|start| message.starts_with(start))
        || parts.iter().any(|part| message.contains(part))
}

/// The words of `…, expected one of a, b, c`, or of `…, expected a`.
fn listed_in(message: &str) -> BTreeSet<String> {
    let list = message
        .split_once("expected one of ")
        .or_else(|| message.split_once("expected "))
        .map_or("", |(_, list)| list);
    // Other forms may follow: `…, or { header: … }`.
    let list = list.split([';', '{', '(']).next().unwrap_or_default();
    let list = list.trim_end_matches(", or ");
    let words = list.split([',', ' ']).map(str::trim);
    words
        .filter(|word| !word.is_empty() && *word != "or" && *word != "and")
        .map(|word| word.trim_matches(['"', '.', ')']).to_owned())
        .collect()
}

#[test]
fn the_schema_has_what_the_types_have() {
    let schema = schema();
    let mut walk = Walk {
        schema: schema.clone(),
        wrong: Vec::new(),
        objects: 0,
        words: 0,
        examples: 0,
    };
    walk.node(&schema, &Place::default(), &[]);
    assert!(walk.wrong.is_empty(), "{}", walk.wrong.join("\n"));
    // The walk has been somewhere.
    assert!(walk.objects > 40 && walk.words > 20 && walk.examples > 40);
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

#[test]
fn the_schema_is_one() {
    jsonschema::draft202012::meta::validate(&schema()).unwrap();
}

#[test]
fn every_document_of_ours_is_valid() {
    let validator = validator();
    let mut documents = 0;
    let mut wrong = Vec::new();
    let mut check = |name: &str, text: &str| {
        let Ok(sections) = section::find(text, None) else {
            return;
        };
        for section in sections {
            let Ok(document) = serde_json::from_slice::<Value>(&section.document) else {
                continue;
            };
            documents += 1;
            let mistakes = plugin::configure(section.plugin, &section.document, &section.variables);
            let errors: Vec<String> = validator
                .iter_errors(&document)
                .map(|error| error.to_string())
                .collect();
            if mistakes.is_empty() && !errors.is_empty() {
                wrong.push(format!("{name}: {}", errors.join("; ")));
            }
        }
    };
    for path in common::yaml_files("envoy") {
        check(
            &path.display().to_string(),
            &fs::read_to_string(&path).unwrap(),
        );
    }
    let mut pages: Vec<PathBuf> = fs::read_dir(repository().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.push(repository().join("README.md"));
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|ext| ext == "md"))
    {
        let text = fs::read_to_string(page).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            check(
                &page.display().to_string(),
                block.split("```").next().unwrap(),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(documents > 40, "{documents}");
}

#[test]
fn what_is_wrong_is_refused_by_the_schema_too() {
    let validator = validator();
    for document in [
        json!({}),
        json!({ "usage_plans": {} }),
        json!({ "apis": [{ "name": "a b", "match": {} }] }),
        json!({ "apis": [{ "match": {} }] }),
        json!({ "usage_plan": { "plans": { "gold": { "throttle": { "burst": 1 } } } } }),
        json!({ "usage_plan": { "consumers": [{ "id": "a", "plan": "b", "keys": [{ "sha256": "secret" }] }] } }),
        json!({ "access": [{ "require": { "any_of": [{ "jwt": {}, "mtls": {} }] } }] }),
        json!({ "rate_limit": [{ "name": "a", "key": "ip" }] }),
        json!({ "problem_details": { "overrides": { "throttled": { "status": 200 } } } }),
    ] {
        assert!(!validator.is_valid(&document), "{document}");
        let text = document.to_string();
        let errors = plugin::configure(plugin::FULL, text.as_bytes(), &Variables::Unknown);
        assert!(!errors.is_empty(), "{document}");
    }
}
