//! `tollgate-dist <in-dir> <out-dir> [<plugin>...]` turns built plugins into the files that are
//! shipped: `<in-dir>/usage_plan.wasm` becomes `<out-dir>/usage-plan.wasm`, without the callbacks
//! that the plugin does not need. `<out-dir>/SHA256SUMS` lists what was written, for
//! `sha256sum -c`. Without names, every module in `<in-dir>` is taken.

// A command line talks through its standard streams.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod callbacks;
mod package;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::package::{Package, package};

const USAGE: &str = "usage: tollgate-dist <in-dir> <out-dir> [<plugin>...]

Packages <in-dir>/usage_plan.wasm as <out-dir>/usage-plan.wasm and writes <out-dir>/SHA256SUMS.
Without the name of a plugin, packages every .wasm file in <in-dir>.";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> anyhow::Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let [in_dir, out_dir, names @ ..] = args else {
        bail!("found {} arguments\n{USAGE}", args.len());
    };
    let (in_dir, out_dir) = (Path::new(in_dir), Path::new(out_dir));
    let names = match names {
        [] => discover(in_dir)?,
        names => names.iter().map(plugin_name).collect::<Result<_, _>>()?,
    };

    let files = package_all(in_dir, names)?;
    fs::create_dir_all(out_dir).with_context(|| out_dir.display().to_string())?;
    for file in &files {
        replace(&out_dir.join(&file.name), &file.package.wasm)?;
    }
    replace(&out_dir.join("SHA256SUMS"), sums(&files).as_bytes())?;

    for file in files.iter().filter(|file| !file.package.declared) {
        eprintln!(
            "warning: {} has no section {:?}, so all its callbacks are kept",
            file.name,
            callbacks::SECTION
        );
    }
    print!("{}", table(&files));
    Ok(())
}

/// A file to ship.
struct File {
    /// `usage-plan.wasm`
    name: String,
    package: Package,
    /// Bytes of the module as it was built.
    built: usize,
}

/// The plugins of which a module lies in `dir`, by name.
fn discover(dir: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| dir.display().to_string())?.path();
        if let (Some(stem), Some(true)) =
            (path.file_stem(), path.extension().map(|it| it == "wasm"))
        {
            names.push(plugin_name(&stem.to_owned())?);
        }
    }
    if names.is_empty() {
        bail!("{}: no .wasm file, build the plugins first", dir.display());
    }
    Ok(names)
}

/// The name of a plugin, `usage-plan`, from that or from the name of its library, `usage_plan`.
fn plugin_name(name: &OsString) -> anyhow::Result<String> {
    match name.to_str() {
        Some(name) => Ok(name.replace('_', "-")),
        None => bail!("{}: not UTF-8", name.display()),
    }
}

fn package_all(in_dir: &Path, mut names: Vec<String>) -> anyhow::Result<Vec<File>> {
    names.sort();
    names.dedup();
    let files = names.into_iter().map(|name| {
        let path = in_dir.join(format!("{}.wasm", name.replace('-', "_")));
        let built = fs::read(&path).with_context(|| path.display().to_string())?;
        let package = package(&built).with_context(|| path.display().to_string())?;
        Ok(File {
            name: format!("{name}.wasm"),
            package,
            built: built.len(),
        })
    });
    files.collect()
}

/// Writes a file so that a reader sees either the old contents or the new.
fn replace(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    fs::write(&partial, contents)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| path.display().to_string())
}

/// The contents of `SHA256SUMS`: for each file its size in a comment, and a line for
/// `sha256sum -c`.
fn sums(files: &[File]) -> String {
    let mut sums = String::new();
    for File { name, package, .. } in files {
        let _ = writeln!(sums, "# {name}: {} bytes", package.wasm.len());
        for byte in Sha256::digest(&package.wasm) {
            let _ = write!(sums, "{byte:02x}");
        }
        let _ = writeln!(sums, "  {name}");
    }
    sums
}

fn table(files: &[File]) -> String {
    let width = files.iter().map(|file| file.name.len()).max().unwrap_or(0);
    let mut table = format!(
        "{:width$}  {:>8}  {:>8}  callbacks\n",
        "file", "built", "shipped"
    );
    for File {
        name,
        package,
        built,
    } in files
    {
        let callbacks: Vec<&str> = package
            .callbacks
            .iter()
            .map(|it| it.strip_prefix("proxy_on_").unwrap_or(it))
            .collect();
        let callbacks = match callbacks.as_slice() {
            [] => "none".to_owned(),
            some => some.join(" "),
        };
        let shipped = package.wasm.len();
        let _ = writeln!(
            table,
            "{name:width$}  {built:>8}  {shipped:>8}  {callbacks}"
        );
    }
    table
}
