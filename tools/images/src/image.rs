//! One plugin as an image.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use anyhow::Context as _;
use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, HistoryBuilder, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, RootFsBuilder, Sha256Digest,
};
use serde_json::json;

use crate::sha256;

/// The one file in the image. Istio and Envoy Gateway look for this name.
const FILE: &str = "plugin.wasm";

/// Of all our plugins.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a plugin was made from, and when.
#[derive(Clone, Debug)]
pub struct Origin {
    seconds: u64,
    created: String,
    revision: String,
}

impl Origin {
    /// From seconds since 1970, and the name of a commit.
    ///
    /// # Errors
    ///
    /// When the time lies before 1970 or behind the year 9999.
    pub fn new(seconds: i64, revision: String) -> anyhow::Result<Self> {
        let invalid = || format!("found the time {seconds}, expected seconds since 1970");
        Ok(Self {
            seconds: u64::try_from(seconds).with_context(invalid)?,
            created: Timestamp::from_second(seconds)
                .with_context(invalid)?
                .to_string(),
            revision,
        })
    }

    /// When, in the form of RFC 3339.
    pub(crate) fn created(&self) -> &str {
        &self.created
    }
}

/// An image that was written.
#[derive(Clone, Debug)]
pub struct Image {
    /// Of the manifest: `sha256:…`. It is how a registry knows the image.
    pub digest: String,
    /// The image as one file, for `docker load`.
    pub archive: PathBuf,
}

/// Writes `<out>/<name>/`, an OCI image layout, and `<out>/<name>.tar`, the same as one file.
///
/// The image has the layout that Istio calls compatible: one layer, `tar+gzip`, in which the plugin
/// is `plugin.wasm`. Its system is Linux, since Docker refuses to load images for other systems;
/// nothing in it is ever run there.
///
/// # Errors
///
/// When a file can't be written.
pub fn write_image(out: &Path, name: &str, wasm: &[u8], origin: &Origin) -> anyhow::Result<Image> {
    let layer = layer(wasm, origin)?;
    let mut files = Files::default();
    let layer_blob = files.blob(MediaType::ImageLayerGzip, gzip(&layer)?)?;
    let config = config(name, &layer, origin)?;
    let config_blob = files.blob(MediaType::ImageConfig, config.to_string()?.into_bytes())?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config_blob.clone())
        .layers(vec![layer_blob.clone()])
        .annotations(annotations(name, origin))
        .build()?;
    let manifest = sorted(&manifest.to_string()?)?;
    let manifest_blob = files.blob(MediaType::ImageManifest, manifest)?;
    let digest = manifest_blob.digest().to_string();
    files.index(name, manifest_blob, &config_blob, &layer_blob)?;

    let archive = out.join(format!("{name}.tar"));
    files.write_folder(&out.join(name))?;
    write(&archive, &files.to_tar(origin)?)?;
    Ok(Image { digest, archive })
}

/// The layer before it is compressed: one file, of nobody in particular.
fn layer(wasm: &[u8], origin: &Origin) -> anyhow::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, FILE, wasm, origin)?;
    Ok(layer.into_inner()?)
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    contents: &[u8],
    origin: &Origin,
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(contents.len().try_into()?);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(origin.seconds);
    Ok(archive.append_data(&mut header, path, contents)?)
}

/// Without a name, a time or a system in its header.
fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    const UNKNOWN_SYSTEM: u8 = 255;
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .operating_system(UNKNOWN_SYSTEM)
        .write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn config(
    name: &str,
    layer: &[u8],
    origin: &Origin,
) -> anyhow::Result<oci_spec::image::ImageConfiguration> {
    let root = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(vec![format!("sha256:{}", sha256(layer))])
        .build()?;
    let history = HistoryBuilder::default()
        .created(origin.created())
        .created_by(format!("tollgate-images {name}"))
        .build()?;
    let config = ImageConfigurationBuilder::default()
        .created(origin.created())
        .architecture(Arch::Wasm)
        .os(Os::Linux)
        .config(ConfigBuilder::default().build()?)
        .rootfs(root)
        .history(vec![history])
        .build()?;
    Ok(config)
}

fn annotations(name: &str, origin: &Origin) -> HashMap<String, String> {
    let annotation = |name: &str, value: &str| {
        let name = format!("org.opencontainers.image.{name}");
        (name, value.to_owned())
    };
    HashMap::from([
        annotation("title", &format!("Tollgate {name}")),
        annotation("licenses", "Apache-2.0"),
        annotation("version", VERSION),
        annotation("revision", &origin.revision),
        annotation("created", origin.created()),
    ])
}

/// The same JSON with its members in the order of their names, whatever order a map had.
fn sorted(json: &str) -> anyhow::Result<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_str(json)?;
    Ok(value.to_string().into_bytes())
}

/// The files of an image layout, in the order in which they are written.
#[derive(Default)]
struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    /// Adds contents under the name of their digest.
    fn blob(&mut self, media_type: MediaType, contents: Vec<u8>) -> anyhow::Result<Descriptor> {
        let digest = sha256(&contents);
        let descriptor = DescriptorBuilder::default()
            .media_type(media_type)
            .digest(Sha256Digest::from_str(&digest)?)
            .size(u64::try_from(contents.len())?)
            .build()?;
        self.0.push((format!("blobs/sha256/{digest}"), contents));
        Ok(descriptor)
    }

    /// Adds what leads to the blobs: `index.json` as OCI has it, `manifest.json` for Docker.
    fn index(
        &mut self,
        name: &str,
        mut manifest: Descriptor,
        config: &Descriptor,
        layer: &Descriptor,
    ) -> anyhow::Result<()> {
        let reference = ("org.opencontainers.image.ref.name", VERSION);
        let (key, value) = (reference.0.to_owned(), reference.1.to_owned());
        manifest.set_annotations(Some(HashMap::from([(key, value)])));
        let index = ImageIndexBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageIndex)
            .manifests(vec![manifest])
            .build()?;
        let path = |blob: &Descriptor| format!("blobs/sha256/{}", blob.digest().digest());
        let docker = json!([{
            "Config": path(config),
            "RepoTags": [format!("tollgate/{name}:{VERSION}")],
            "Layers": [path(layer)],
        }]);
        let layout = json!({ "imageLayoutVersion": "1.0.0" });
        for (name, contents) in [
            ("index.json", sorted(&index.to_string()?)?),
            ("manifest.json", docker.to_string().into_bytes()),
            ("oci-layout", layout.to_string().into_bytes()),
        ] {
            self.0.push((name.to_owned(), contents));
        }
        Ok(())
    }

    /// Writes them in place of what was there.
    fn write_folder(&self, folder: &Path) -> anyhow::Result<()> {
        let shown = || folder.display().to_string();
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(shown)?;
        }
        fs::create_dir_all(folder.join("blobs/sha256")).with_context(shown)?;
        for (name, contents) in &self.0 {
            write(&folder.join(name), contents)?;
        }
        Ok(())
    }

    fn to_tar(&self, origin: &Origin) -> anyhow::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, contents) in &self.0 {
            append(&mut archive, name, contents, origin)?;
        }
        Ok(archive.into_inner()?)
    }
}

fn write(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    fs::write(path, contents).with_context(|| path.display().to_string())
}
