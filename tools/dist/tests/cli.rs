//! The command as it is run: files in, files out.

// A test fails by panicking, its helpers included.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};

const DECLARES_LOG: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_log") (param i32))
    (func (export "proxy_on_tick") (param i32))
    (@custom "tollgate.callbacks" "proxy_on_log"))"#;

const DECLARES_NOTHING: &str = r#"(module (func (export "proxy_on_tick") (param i32)))"#;

/// An empty directory for the test `name`, with the directories `in` and `out` to be.
fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("in")).unwrap();
    dir
}

fn build(dir: &Path, file: &str, text: &str) {
    fs::write(dir.join("in").join(file), wat::parse_str(text).unwrap()).unwrap();
}

fn dist(dir: &Path, names: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate-dist"))
        .args([dir.join("in"), dir.join("out")])
        .args(names)
        .output()
        .unwrap()
}

fn out_files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("out")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn every_module_is_packaged_and_summed() {
    let dir = scratch("every_module");
    build(&dir, "usage_plan.wasm", DECLARES_LOG);
    build(&dir, "tollgate.wasm", DECLARES_NOTHING);
    fs::write(dir.join("in/usage_plan.d"), "not a module").unwrap();

    let output = dist(&dir, &[]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(
        stderr,
        "warning: tollgate.wasm has no section \"tollgate.callbacks\", \
         so all its callbacks are kept\n"
    );
    let files = ["SHA256SUMS", "tollgate.wasm", "usage-plan.wasm"];
    assert_eq!(out_files(&dir), files);

    let mut expected = String::new();
    for file in &files[1..] {
        let wasm = fs::read(dir.join("out").join(file)).unwrap();
        let digest: String = Sha256::digest(&wasm)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        expected += &format!("# {file}: {} bytes\n{digest}  {file}\n", wasm.len());
    }
    let sums = fs::read_to_string(dir.join("out/SHA256SUMS")).unwrap();
    assert_eq!(sums, expected);

    let stdout = String::from_utf8(output.stdout).unwrap();
    let callbacks: Vec<_> = stdout
        .lines()
        .map(|line| {
            (
                line.split_whitespace().next(),
                line.split_whitespace().last(),
            )
        })
        .collect();
    assert_eq!(
        callbacks,
        [
            (Some("file"), Some("callbacks")),
            (Some("tollgate.wasm"), Some("tick")),
            (Some("usage-plan.wasm"), Some("log")),
        ]
    );
}

#[test]
fn named_modules_alone_are_packaged() {
    let dir = scratch("named_modules");
    build(&dir, "usage_plan.wasm", DECLARES_LOG);
    build(&dir, "left_over.wasm", DECLARES_LOG);
    let output = dist(&dir, &["usage-plan"]);
    assert!(output.status.success());
    assert_eq!(out_files(&dir), ["SHA256SUMS", "usage-plan.wasm"]);
}

#[test]
fn failures_name_the_file_and_write_nothing() {
    let dir = scratch("failures");
    build(&dir, "good.wasm", DECLARES_LOG);
    fs::write(dir.join("in/bad.wasm"), "not a module").unwrap();
    for names in [&["good", "absent"][..], &["good", "bad"], &[]] {
        let output = dist(&dir, names);
        assert!(!output.status.success());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let culprit = format!("{}.wasm: ", names.last().unwrap_or(&"bad"));
        assert!(stderr.contains(&culprit), "{stderr}");
        assert!(!dir.join("out").exists());
    }
}
