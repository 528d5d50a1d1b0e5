//! The images of the plugins that are shipped, read by the rules of Istio, hold those very plugins.

use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;
use tollgate_images::{Origin, sha256, write_image};
use tollgate_tests::{plugin, repository};

/// What a descriptor of an image layout leads to.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let (algorithm, digest) = descriptor["digest"]
        .as_str()
        .unwrap()
        .split_once(':')
        .unwrap();
    let contents = std::fs::read(layout.join("blobs").join(algorithm).join(digest)).unwrap();
    assert_eq!(sha256(&contents), digest);
    contents
}

/// The file `plugin.wasm` in the last layer, which must be `tar+gzip`.
fn plugin_in(layout: &Path) -> Vec<u8> {
    let index = std::fs::read(layout.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let manifest: Value = serde_json::from_slice(&blob(layout, &index["manifests"][0])).unwrap();
    let last = manifest["layers"].as_array().unwrap().last().unwrap();
    assert_eq!(
        last["mediaType"],
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
    let layer = blob(layout, last);
    let mut archive = tar::Archive::new(GzDecoder::new(layer.as_slice()));
    let mut entries = archive.entries().unwrap().map(|entry| entry.unwrap());
    let mut entry = entries
        .find(|entry| entry.path().unwrap().file_name().unwrap() == "plugin.wasm")
        .unwrap();
    let mut wasm = Vec::new();
    entry.read_to_end(&mut wasm).unwrap();
    wasm
}

#[test]
fn the_image_of_a_plugin_holds_that_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::new(0, String::new()).unwrap();
    let mut plugins = 0;
    for entry in std::fs::read_dir(repository().join("filters")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let wasm = std::fs::read(plugin(&name)).unwrap();
        write_image(folder.path(), &name, &wasm, &origin).unwrap();
        assert!(plugin_in(&folder.path().join(&name)) == wasm, "{name}");
        plugins += 1;
    }
    assert!(plugins > 1);
}
