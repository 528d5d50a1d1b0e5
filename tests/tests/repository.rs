//! What belongs to a policy is complete: this lists what a new one has forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tollgate_core::chain::Chain;
use tollgate_core::plugin::{Bare, Plugin};
use tollgate_plugins::Tollgate;
use tollgate_tests::repository;

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(repository().join(folder)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The policy that decides on credentials has no plugin of its own: it is in each that checks some.
const IN_EVERY_PLUGIN: &str = "access";

#[test]
fn every_policy_has_all_that_belongs_to_it() {
    let full = read("crates/plugins/src/lib.rs");
    let readme = read("README.md");
    let index = read("docs/README.md");
    let mut missing = Vec::new();
    for policy in names("policies") {
        let section = policy.replace('-', "_");
        let alone = policy != IN_EVERY_PLUGIN;
        let needs = [
            (
                format!("filters/{policy}"),
                !alone
                    || repository()
                        .join(format!("filters/{policy}/Cargo.toml"))
                        .is_file(),
            ),
            (
                format!("envoy/{policy}.yaml"),
                !alone || repository().join(format!("envoy/{policy}.yaml")).is_file(),
            ),
            (
                format!("docs/{policy}.md"),
                repository().join(format!("docs/{policy}.md")).is_file(),
            ),
            (
                "a place in crates/plugins".to_owned(),
                full.contains(&format!("tollgate_{section}::")),
            ),
            (
                "its plugin in README.md".to_owned(),
                !alone || readme.contains(&format!("`{policy}.wasm`")),
            ),
            (
                "its page in docs/README.md".to_owned(),
                index.contains(&format!("({policy}.md)")),
            ),
        ];
        let lacks = needs.into_iter().filter(|(_, there)| !there);
        missing.extend(lacks.map(|(what, _)| format!("{policy} lacks {what}")));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// `type_base: …/problems.md#` leads to the heading of the kind.
#[test]
fn every_kind_has_a_heading_that_its_type_can_lead_to() {
    type Full = Chain<<Tollgate as Plugin>::Policies<Bare>>;
    let page = read("docs/problems.md");
    let headings: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
        .collect();
    let kinds: BTreeSet<&str> = Full::kinds().iter().map(|kind| kind.name).collect();
    assert!(kinds.len() > 60, "{kinds:?}");
    for kind in &kinds {
        let found = headings.iter().filter(|heading| *heading == kind).count();
        assert_eq!(found, 1, "headings of docs/problems.md for {kind}");
        let row = format!("| [`{kind}`](#{kind}) |");
        assert!(page.contains(&row), "docs/problems.md lacks {row}");
    }
    // No page is about what there is no more.
    let is_kind = |heading: &&str| heading.contains('-') && !heading.contains(' ');
    for heading in headings.iter().copied().filter(is_kind) {
        assert!(kinds.contains(heading), "there is no kind {heading}");
    }
}

#[test]
fn every_envoy_configuration_has_a_tag_for_each_label() {
    let folder = repository().join("envoy");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = read(&path);
        for label in tollgate_core::telemetry::LABELS {
            let tag = format!("{{ tag_name: {label}, regex: '({label}=\\.=(.*?);\\.;)' }}");
            assert!(text.contains(&tag), "{} lacks {tag}", path.display());
        }
    }
}

#[test]
fn every_plugin_is_of_a_policy_or_of_all() {
    let mut expected = names("policies");
    expected.retain(|policy| policy != IN_EVERY_PLUGIN);
    expected.push("tollgate".to_owned());
    expected.sort();
    assert_eq!(names("filters"), expected);
}

#[test]
fn every_dependency_has_its_reason() {
    let reasons = read("CONTRIBUTING.md");
    let manifest = read("Cargo.toml");
    let (_, section) = manifest.split_once("[workspace.dependencies]").unwrap();
    let section = section.split("\n[").next().unwrap();
    let dependencies = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with('#') && !name.starts_with("tollgate-"));
    let unexplained: Vec<&str> = dependencies
        .filter(|name| {
            !reasons
                .lines()
                .any(|line| line.starts_with('|') && line.contains(name))
        })
        .collect();
    assert!(
        unexplained.is_empty(),
        "no line in CONTRIBUTING.md for {unexplained:?}"
    );
}
