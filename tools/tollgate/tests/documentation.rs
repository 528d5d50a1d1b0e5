//! Every configuration in README.md, docs/ and envoy/ is one that `check` takes, or refuses where
//! the page says so.
//!
//! A block that begins with the line ```` ```yaml ```` is a document, or has one in it. A second
//! word says what else it is: `refused` is a document that has mistakes, and all others are pieces
//! of Envoy's configuration without any of ours. Where a block names what is defined elsewhere, a
//! comment before it, which is not shown, has the rest:
//!
//! ```text
//! <!-- with
//! apis: [{ name: accounts-v1, match: {} }]
//! -->
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests want to fail loudly"
)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::repository;
use tollgate_cli::Outcome;
use tollgate_cli::check::check;
use tollgate_cli::input::Input;

/// A block of YAML in a page.
struct Block {
    place: String,
    /// What the fence says behind `yaml`.
    word: String,
    text: String,
}

/// The blocks of a page, each with what a comment in front of it adds.
fn blocks(name: &str, page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut with = String::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line == "<!-- with" {
            with = until(&mut lines, "-->");
        } else if let Some(word) = line.strip_prefix("```yaml") {
            let text = until(&mut lines, "```");
            blocks.push(Block {
                place: format!("{name}:{}", number + 1),
                word: word.trim().to_owned(),
                text: format!("{text}{}", std::mem::take(&mut with)),
            });
        } else if line.starts_with("```") {
            until(&mut lines, "```");
        }
    }
    blocks
}

fn until<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>, end: &str) -> String {
    let text = lines.map(|(_, line)| line).take_while(|line| *line != end);
    text.flat_map(|line| [line, "\n"]).collect()
}

fn pages() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(repository().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    paths.push(repository().join("README.md"));
    paths.sort();
    let named = paths.into_iter().map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    });
    named.collect()
}

#[test]
fn every_block_is_what_its_page_says() {
    let mut wrong = Vec::new();
    let mut good = 0;
    for (name, page) in pages() {
        for Block { place, word, text } in blocks(&name, &page) {
            let input = Input {
                name: place.clone(),
                text,
            };
            let checked = check(input, None);
            let expected = match word.as_str() {
                "" => Outcome::Good,
                "refused" => Outcome::Bad,
                // A piece of Envoy's: it may have a filter of ours in it.
                _ if checked.outcome() == Outcome::Good => Outcome::Good,
                _ => Outcome::Unusable,
            };
            good += usize::from(checked.outcome() == Outcome::Good);
            if checked.outcome() != expected {
                wrong.push(format!(
                    "{place}: expected {expected:?}\n{}",
                    checked.report()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(good > 50, "{good}");
}

#[test]
fn every_envoy_configuration_is_good() {
    for path in common::yaml_files("envoy") {
        let input = Input {
            name: path.display().to_string(),
            text: fs::read_to_string(&path).unwrap(),
        };
        let checked = check(input, None);
        // These are for the control plane, and hold nothing of ours.
        let has_ours = !path.ends_with("istio/mesh-values.yaml");
        let expected = match has_ours {
            true => Outcome::Good,
            false => Outcome::Unusable,
        };
        let report = checked.report();
        assert_eq!(
            checked.outcome(),
            expected,
            "{}
{report}",
            path.display()
        );
        let file = path.with_extension("wasm");
        let plugin = file.file_name().unwrap().to_str().unwrap();
        let of_its_name = tollgate_plugins::FILES.contains(&plugin);
        let mut sections = checked.sections.iter();
        let has = sections.any(|section| section.plugin == plugin);
        assert!(has || !of_its_name, "{plugin}");
    }
}

#[test]
fn blocks_are_found_with_what_completes_them() {
    let page = "<!-- with\nb: 2\n-->\n\n```yaml\na: 1\n```\n```sh\n```yaml\n```\n```yaml refused\nc: 3\n```\n";
    let found = blocks("page", page);
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].text.as_str(), found[0].place.as_str()),
        ("a: 1\nb: 2\n", "page:5")
    );
    assert_eq!(
        (found[1].text.as_str(), found[1].word.as_str()),
        ("c: 3\n", "refused")
    );
}
