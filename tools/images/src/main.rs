//! `tollgate-images <dist> <out> <plugin>...` packs `<dist>/<plugin>.wasm` into an OCI image, in the
//! layout that Istio and Envoy Gateway load plugins from, and writes a list of what the plugin is
//! made of. It needs no container engine, and the same input gives the same bytes.
//!
//! For each plugin, in `<out>`:
//!
//! | file | what |
//! |---|---|
//! | `<plugin>/` | an OCI image layout, to copy to a registry |
//! | `<plugin>.tar` | the same as one file, for `docker load` |
//! | `<plugin>.cdx.json` | its dependencies, as CycloneDX |
//! | `SHA256SUMS` | digests of the files, for `sha256sum -c`, and of the images |

// A command line talks through its standard streams.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::{Command, ExitCode};
use std::str::FromStr as _;

use anyhow::{Context as _, bail};
use tollgate_images::{Origin, Sbom, Sums, write_image};

const USAGE: &str = "usage: tollgate-images <dist> <out> <plugin>...

Packs <dist>/<plugin>.wasm into an OCI image in <out>, and lists what the plugin is made of.

  SOURCE_DATE_EPOCH   when the image was made, in seconds since 1970; else the time of the commit
  TOLLGATE_REVISION   what it was made from; else the commit";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate-images: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return Ok(());
    }
    let [dist, out, plugins @ ..] = args else {
        bail!("found {} arguments\n{USAGE}", args.len());
    };
    if plugins.is_empty() {
        bail!("no plugin is named\n{USAGE}");
    }
    let (dist, out) = (Path::new(dist), Path::new(out));
    let origin = origin()?;
    let mut sums = Sums::default();
    for plugin in plugins {
        let path = dist.join(format!("{plugin}.wasm"));
        let wasm = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let image = write_image(out, plugin, &wasm, &origin)?;
        let sbom = Sbom::of_filter(plugin)?.write(out, plugin, &wasm, &origin)?;
        println!("{plugin:16}  {}", image.digest);
        sums.image(plugin, &image.digest);
        sums.file(out, &image.archive)?;
        sums.file(out, &sbom)?;
    }
    sums.write(out)
}

/// From the environment, else from the commit that is checked out.
fn origin() -> anyhow::Result<Origin> {
    let environment = |name| std::env::var(name).ok().filter(|it| !it.is_empty());
    let created = match environment("SOURCE_DATE_EPOCH") {
        Some(seconds) => seconds,
        None => git(&["log", "-1", "--format=%ct"]).context("no SOURCE_DATE_EPOCH")?,
    };
    let created = i64::from_str(&created)
        .with_context(|| format!("SOURCE_DATE_EPOCH: found {created:?}, expected seconds"))?;
    let revision = match environment("TOLLGATE_REVISION") {
        Some(revision) => revision,
        None => checked_out().context("no TOLLGATE_REVISION")?,
    };
    Origin::new(created, revision)
}

/// The commit, with a mark when files differ from it.
fn checked_out() -> anyhow::Result<String> {
    let commit = git(&["rev-parse", "HEAD"])?;
    match git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
        true => Ok(commit),
        false => Ok(format!("{commit}-modified")),
    }
}

fn git(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").args(arguments).output();
    let output = output.context("cannot run git")?;
    if !output.status.success() {
        bail!("git: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
