//! What docs/cli.md shows is what the commands do.
//!
//! Every block of `sh` is run. The block of `text` behind it, if there is one, is how its output
//! begins.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "helpers of tests want to fail loudly"
)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{fixture, repository, run, yaml_files};

/// A block of the page, and the file that a comment says it is.
struct Block {
    word: String,
    text: String,
    file: Option<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut file = None;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let name = line
            .strip_prefix("<!-- file ")
            .and_then(|rest| rest.strip_suffix(" -->"));
        if let Some(name) = name {
            file = Some(name.to_owned());
        } else if let Some(word) = line.strip_prefix("```") {
            let text = lines.by_ref().take_while(|line| *line != "```");
            blocks.push(Block {
                word: word.to_owned(),
                text: text.flat_map(|line| [line, "\n"]).collect(),
                file: file.take(),
            });
        }
    }
    blocks
}

/// The files that the page speaks of.
fn lay_out(folder: &Path) {
    let copy = |from: &str, to: &str| {
        fs::copy(repository().join(from), folder.join(to)).unwrap();
    };
    for name in ["kong.yml", "nginx.conf"] {
        copy(&fixture(name), name);
    }
    for name in [
        "usage-plans.json",
        "api-keys.json",
        "gold-keys.json",
        "bronze-keys.json",
    ] {
        copy(&fixture(&format!("aws/{name}")), name);
    }
    for path in yaml_files("envoy") {
        if let Ok(name) = path.strip_prefix(repository()) {
            let name = name.to_str().unwrap();
            fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            copy(name, name);
        }
    }
}

#[test]
#[cfg(unix)]
fn every_command_does_what_the_page_shows() {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    let binary = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().unwrap();
    let path = std::env::join_paths(
        [binary.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var("PATH").unwrap())),
    )
    .unwrap();
    let page = fs::read_to_string(repository().join("docs/cli.md")).unwrap();
    let blocks = blocks(&page);
    let mut commands = 0;
    for (index, block) in blocks.iter().enumerate() {
        if let Some(file) = &block.file {
            fs::write(folder.path().join(file), &block.text).unwrap();
        }
        if block.word != "sh" {
            continue;
        }
        commands += 1;
        let script = format!("cd '{}'\n{}", folder.path().display(), block.text);
        let ran = run(
            Command::new("sh").args(["-c", &script]).env("PATH", &path),
            "",
        );
        // The one that shows mistakes finds some.
        let expected = if block.text.contains("check tollgate.yaml") {
            1
        } else {
            0
        };
        assert_eq!(ran.code, expected, "{}\n{}", block.text, ran.err);
        if let Some(shown) = blocks.get(index + 1).filter(|block| block.word == "text")
            && !shown.text.starts_with('#')
        {
            assert!(
                ran.out.starts_with(&shown.text),
                "{}\n{}",
                block.text,
                ran.out
            );
        }
    }
    assert!(commands >= 9, "{commands}");
}
