//! Images as those read them who load plugins: by the rules of Istio (`pkg/wasm/imagefetcher.go`),
//! which Envoy Gateway has taken over, and by those of `docker load`.

// A test fails by panicking, its helpers included.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;
use tempfile::TempDir;
use tollgate_images::{Image, Origin, Sbom, Sums, sha256, write_image};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn wasm() -> Vec<u8> {
    let numbers =
        (0_u32..50_000).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes());
    b"\0asm\x01\0\0\0".iter().copied().chain(numbers).collect()
}

fn written() -> (TempDir, Image) {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::new(1_700_000_000, "0123abc".to_owned()).unwrap();
    let image = write_image(folder.path(), "sunset", &wasm(), &origin).unwrap();
    (folder, image)
}

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The contents that a descriptor leads to, which have its size and its digest.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let digest = digest.strip_prefix("sha256:").unwrap();
    let contents = fs::read(layout.join("blobs/sha256").join(digest)).unwrap();
    assert_eq!(sha256(&contents), digest);
    assert_eq!(descriptor["size"], contents.len());
    contents
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut unpacked).unwrap();
    unpacked
}

fn file_in(tar: &[u8], name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(tar);
    let mut entries = archive.entries().unwrap().map(|entry| entry.unwrap());
    let mut entry = entries
        .find(|entry| entry.path().unwrap().file_name().unwrap() == name)
        .unwrap();
    let mut contents = Vec::new();
    entry.read_to_end(&mut contents).unwrap();
    contents
}

#[test]
fn istio_finds_the_plugin_in_the_last_layer() {
    let (folder, image) = written();
    let layout = folder.path().join("sunset");
    assert_eq!(
        json(layout.join("oci-layout"))["imageLayoutVersion"],
        "1.0.0"
    );
    let index = json(layout.join("index.json"));
    // With several, a client would have to choose one by its own system.
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(index["manifests"][0]["digest"], image.digest.as_str());

    let manifest: Value = serde_json::from_slice(&blob(&layout, &index["manifests"][0])).unwrap();
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.oci.image.config.v1+json"
    );
    let layers = manifest["layers"].as_array().unwrap();
    // Two layers are taken for an artifact, which has other rules.
    assert_ne!(layers.len(), 2);
    let last = layers.last().unwrap();
    assert_eq!(last["mediaType"], LAYER);
    let layer = gunzip(&blob(&layout, last));
    assert_eq!(file_in(&layer, "plugin.wasm"), wasm());

    let config: Value = serde_json::from_slice(&blob(&layout, &manifest["config"])).unwrap();
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        format!("sha256:{}", sha256(&layer))
    );
    let annotation = |name| &manifest["annotations"][format!("org.opencontainers.image.{name}")];
    assert_eq!(annotation("licenses"), "Apache-2.0");
    assert_eq!(annotation("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(annotation("revision"), "0123abc");
    assert_eq!(annotation("created"), "2023-11-14T22:13:20Z");
}

#[test]
fn docker_finds_it_in_the_archive() {
    let (_folder, image) = written();
    let archive = fs::read(&image.archive).unwrap();
    let manifest: Value = serde_json::from_slice(&file_in(&archive, "manifest.json")).unwrap();
    let by_path = |path: &Value| {
        let path = Path::new(path.as_str().unwrap());
        file_in(&archive, path.file_name().unwrap().to_str().unwrap())
    };
    let tag = format!("tollgate/sunset:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest[0]["RepoTags"][0], tag);
    let layer = gunzip(&by_path(&manifest[0]["Layers"][0]));
    assert_eq!(file_in(&layer, "plugin.wasm"), wasm());
    let config: Value = serde_json::from_slice(&by_path(&manifest[0]["Config"])).unwrap();
    assert_eq!(config["os"], "linux");
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        format!("sha256:{}", sha256(&layer))
    );
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (first_folder, first) = written();
    let (second_folder, second) = written();
    assert_eq!(first.digest, second.digest);
    assert_eq!(
        fs::read(first.archive).unwrap(),
        fs::read(second.archive).unwrap()
    );
    for file in ["index.json", "manifest.json", "oci-layout"] {
        let read = |folder: &TempDir| fs::read(folder.path().join("sunset").join(file)).unwrap();
        assert_eq!(read(&first_folder), read(&second_folder), "{file}");
    }
}

#[test]
fn another_plugin_gives_another_digest() {
    let (folder, first) = written();
    let origin = Origin::new(1_700_000_000, "0123abc".to_owned()).unwrap();
    let other = write_image(folder.path(), "sunset", b"\0asm\x01\0\0\0", &origin).unwrap();
    assert_ne!(first.digest, other.digest);
    // What was there is gone: a config, a layer, a manifest.
    let blobs = fs::read_dir(folder.path().join("sunset/blobs/sha256")).unwrap();
    assert_eq!(blobs.count(), 3);
}

#[test]
fn times_that_are_none_are_refused() {
    for seconds in [-1, i64::MAX] {
        let error = Origin::new(seconds, String::new()).unwrap_err();
        assert!(
            error.to_string().contains("expected seconds since 1970"),
            "{error}"
        );
    }
}

#[test]
fn the_real_dependencies_of_a_plugin_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::new(1_700_000_000, "0123abc".to_owned()).unwrap();
    let list = |plugin| {
        let sbom = Sbom::of_filter(plugin).unwrap();
        json(sbom.write(folder.path(), plugin, &wasm(), &origin).unwrap())
    };
    let names = |sbom: &Value| -> Vec<String> {
        let components = sbom["components"].as_array().unwrap();
        let names = components
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned());
        names.collect()
    };
    let (small, full) = (list("request-id"), list("tollgate"));
    for name in ["proxy-wasm", "tollgate-core", "serde_json"] {
        assert!(names(&small).iter().any(|it| it == name), "{name}");
    }
    // A policy of its own only, nothing of tests, and no macros, which run while it is built.
    for name in [
        "tollgate-usage-plan",
        "jsonwebtoken",
        "proptest",
        "deserr-internal",
        "syn",
    ] {
        assert!(!names(&small).iter().any(|it| it == name), "{name}");
    }
    assert!(names(&full).len() > names(&small).len());
    for component in full["components"].as_array().unwrap() {
        assert_ne!(component["licenses"], serde_json::json!([]), "{component}");
        let name = component["name"].as_str().unwrap();
        let ours = name.starts_with("tollgate-");
        assert_eq!(component.get("hashes").is_none(), ours, "{component}");
    }
    assert_eq!(
        full["metadata"]["component"]["hashes"][0]["content"],
        sha256(&wasm())
    );
}

#[test]
fn sums_are_what_sha256sum_reads() {
    let (folder, image) = written();
    let mut sums = Sums::default();
    sums.image("sunset", &image.digest);
    sums.file(folder.path(), &image.archive).unwrap();
    sums.write(folder.path()).unwrap();
    let archive = fs::read(&image.archive).unwrap();
    assert_eq!(
        fs::read_to_string(folder.path().join("SHA256SUMS")).unwrap(),
        format!(
            "# sunset: {}\n{}  sunset.tar\n",
            image.digest,
            sha256(&archive)
        )
    );
}
