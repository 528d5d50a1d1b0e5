//! What a plugin is made of, as CycloneDX 1.5 in JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr as _;

use anyhow::{Context as _, bail};
use cargo_lock::Lockfile;
use serde_json::{Value, json};

use crate::image::Origin;
use crate::sha256;

/// What the plugins are built for.
const TARGET: &str = "wasm32-wasip1";

/// The crates that are compiled into a plugin, and which of them needs which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sbom {
    /// The plugin's own crate.
    root: Crate,
    /// What each crate needs, of the root too. Every crate that is needed is also a key.
    needs: BTreeMap<Crate, BTreeSet<Crate>>,
    /// SHA-256 of the packages that come from a registry.
    checksums: BTreeMap<(String, String), String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    /// An SPDX expression; empty if none is stated.
    license: String,
}

impl Sbom {
    /// Asks cargo for the crates of the plugin of this name: those that its build for wasm32 uses,
    /// with the features that it turns on. What only runs while it is built is not in it.
    ///
    /// # Errors
    ///
    /// When cargo fails, or says something that is not understood.
    pub fn of_filter(name: &str) -> anyhow::Result<Self> {
        let package = format!("{name}-filter");
        let output = Command::new("cargo")
            .args([
                "tree",
                "--locked",
                "--package",
                &package,
                "--target",
                TARGET,
            ])
            .args(["--edges", "normal,no-proc-macro", "--prefix", "depth"])
            .args(["--format", " {p} | {l}"])
            .output()
            .context("cannot run cargo")?;
        if !output.status.success() {
            bail!(
                "cargo tree: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let lock = Command::new("cargo")
            .args(["locate-project", "--workspace", "--message-format", "plain"])
            .output()
            .context("cannot run cargo")?;
        let manifest = String::from_utf8(lock.stdout)?;
        let lock = Path::new(manifest.trim()).with_file_name("Cargo.lock");
        let lock = fs::read_to_string(&lock).with_context(|| lock.display().to_string())?;
        Self::parse(&String::from_utf8(output.stdout)?, &lock)
    }

    /// Reads what `cargo tree` prints with depths, and a `Cargo.lock`.
    fn parse(tree: &str, lock: &str) -> anyhow::Result<Self> {
        let mut sbom = Self::default();
        let mut path: Vec<Crate> = Vec::new();
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let unknown = || format!("cargo tree: {line:?} is not understood");
            let (depth, package) = line.split_once(' ').with_context(unknown)?;
            let depth = usize::from_str(depth).with_context(unknown)?;
            let package = Crate::parse(package).with_context(unknown)?;
            path.truncate(depth);
            match path.last() {
                None => sbom.root = package.clone(),
                Some(parent) => {
                    sbom.needs
                        .entry(parent.clone())
                        .or_default()
                        .insert(package.clone());
                }
            }
            sbom.needs.entry(package.clone()).or_default();
            path.push(package);
        }
        let lock = Lockfile::from_str(lock).context("Cargo.lock")?;
        sbom.checksums = lock
            .packages
            .into_iter()
            .filter_map(|package| {
                let key = (package.name.to_string(), package.version.to_string());
                Some((key, package.checksum?.to_string()))
            })
            .collect();
        Ok(sbom)
    }

    /// Writes `<out>/<name>.cdx.json`.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub fn write(
        &self,
        out: &Path,
        name: &str,
        wasm: &[u8],
        origin: &Origin,
    ) -> anyhow::Result<PathBuf> {
        let path = out.join(format!("{name}.cdx.json"));
        let mut text = serde_json::to_string_pretty(&self.to_json(name, wasm, origin))?;
        text.push('\n');
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    fn to_json(&self, name: &str, wasm: &[u8], origin: &Origin) -> Value {
        let others = self.needs.keys().filter(|package| **package != self.root);
        let needs = self.needs.iter().map(|(package, needs)| {
            let needs: Vec<String> = needs.iter().map(Crate::url).collect();
            json!({ "ref": package.url(), "dependsOn": needs })
        });
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "timestamp": origin.created(),
                "component": {
                    "type": "application",
                    "bom-ref": self.root.url(),
                    "name": format!("{name}.wasm"),
                    "version": self.root.version,
                    "licenses": self.root.licenses(),
                    "hashes": [{ "alg": "SHA-256", "content": sha256(wasm) }],
                },
            },
            "components": others.map(|it| self.component(it)).collect::<Vec<_>>(),
            "dependencies": needs.collect::<Vec<_>>(),
        })
    }

    fn component(&self, package: &Crate) -> Value {
        let mut component = json!({
            "type": "library",
            "bom-ref": package.url(),
            "purl": package.url(),
            "name": package.name,
            "version": package.version,
            "licenses": package.licenses(),
        });
        let key = (package.name.clone(), package.version.clone());
        if let (Some(checksum), Some(component)) =
            (self.checksums.get(&key), component.as_object_mut())
        {
            let hashes = json!([{ "alg": "SHA-256", "content": checksum }]);
            component.insert("hashes".to_owned(), hashes);
        }
        component
    }
}

impl Crate {
    /// Reads `name v1.2.3 (/path) | MIT OR Apache-2.0`, with `(*)` at the end where the same crate
    /// was shown before.
    fn parse(text: &str) -> Option<Self> {
        let (package, license) = text.split_once(" | ")?;
        let mut words = package.split_whitespace();
        Some(Self {
            name: words.next()?.to_owned(),
            version: words.next()?.strip_prefix('v')?.to_owned(),
            license: license.trim_end_matches("(*)").trim().to_owned(),
        })
    }

    /// A package URL (purl).
    fn url(&self) -> String {
        // Build metadata of a version, as in 1.0.0+2, has to be escaped.
        format!(
            "pkg:cargo/{}@{}",
            self.name,
            self.version.replace('+', "%2B")
        )
    }

    fn licenses(&self) -> Value {
        // Some old packages write MIT/Apache-2.0 for a choice.
        match self.license.replace('/', " OR ").as_str() {
            "" => json!([]),
            expression => json!([{ "expression": expression }]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0 sunset-filter v0.1.0 (/src/filters/sunset) | Apache-2.0
1 tollgate-core v0.1.0 (/src/crates/core) | Apache-2.0
2 jiff v0.2.43 | Unlicense OR MIT
1 jiff v0.2.43 | Unlicense OR MIT (*)
1 wasi v0.11.0+wasi-snapshot | MIT/Apache-2.0
";

    const LOCK: &str = r#"
version = 4

[[package]]
name = "jiff"
version = "0.2.43"
source = "registry+https://example.org/index"
checksum = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
"#;

    fn document() -> Value {
        let origin = Origin::new(1_700_000_000, "0123".to_owned()).unwrap();
        let sbom = Sbom::parse(TREE, LOCK).unwrap();
        sbom.to_json("sunset", b"\0asm", &origin)
    }

    #[test]
    fn every_crate_is_a_component_once() {
        let document = document();
        let urls: Vec<&str> = document["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["purl"].as_str().unwrap())
            .collect();
        let wasi = "pkg:cargo/wasi@0.11.0%2Bwasi-snapshot";
        assert_eq!(
            urls,
            [
                "pkg:cargo/jiff@0.2.43",
                "pkg:cargo/tollgate-core@0.1.0",
                wasi
            ]
        );
        let jiff = &document["components"][0];
        assert_eq!(jiff["hashes"][0]["content"], "a".repeat(64));
        assert_eq!(document["components"][1].get("hashes"), None);
        assert_eq!(
            document["components"][2]["licenses"],
            json!([{ "expression": "MIT OR Apache-2.0" }])
        );
    }

    #[test]
    fn who_needs_whom_is_told() {
        let document = document();
        let root = document["metadata"]["component"]["bom-ref"].clone();
        assert_eq!(root, "pkg:cargo/sunset-filter@0.1.0");
        let dependencies = document["dependencies"].as_array().unwrap();
        assert_eq!(dependencies.len(), 4);
        let of = |url: &str| &dependencies.iter().find(|it| it["ref"] == url).unwrap()["dependsOn"];
        assert_eq!(
            of("pkg:cargo/sunset-filter@0.1.0"),
            &json!([
                "pkg:cargo/jiff@0.2.43",
                "pkg:cargo/tollgate-core@0.1.0",
                "pkg:cargo/wasi@0.11.0%2Bwasi-snapshot",
            ])
        );
        assert_eq!(
            of("pkg:cargo/tollgate-core@0.1.0"),
            &json!(["pkg:cargo/jiff@0.2.43"])
        );
        assert_eq!(of("pkg:cargo/jiff@0.2.43"), &json!([]));
    }

    #[test]
    fn what_cargo_does_not_say_is_refused() {
        for tree in ["x", "0 name | MIT", "zero name v1 | MIT"] {
            let error = Sbom::parse(tree, LOCK).unwrap_err();
            assert!(error.to_string().contains("not understood"), "{error}");
        }
    }
}
