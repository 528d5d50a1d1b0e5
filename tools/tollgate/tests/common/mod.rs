//! Running the binary.

#![allow(missing_docs, unreachable_pub, reason = "for tests only")]
#![allow(dead_code, reason = "each test file uses some of it")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the binary did.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A command of the binary, with no colours and nothing on standard input.
pub fn tollgate(arguments: &[&str]) -> Ran {
    run(
        Command::new(env!("CARGO_BIN_EXE_tollgate")).args(arguments),
        "",
    )
}

/// The same with a text on standard input.
pub fn tollgate_on(text: &str, arguments: &[&str]) -> Ran {
    run(
        Command::new(env!("CARGO_BIN_EXE_tollgate")).args(arguments),
        text,
    )
}

/// Runs a command with a text on standard input.
pub fn run(command: &mut Command, text: &str) -> Ran {
    let mut child = command
        .current_dir(repository())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that reads nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the tests, from the repository's root.
pub fn fixture(name: &str) -> String {
    format!("tools/tollgate/tests/fixtures/{name}")
}

/// The YAML files below a folder of the repository.
pub fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
