//! `SHA256SUMS`: what was written.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::sha256;

/// The lines of a `SHA256SUMS`, for `sha256sum -c`. The digests of images are in comments, because
/// they are not of one file.
#[derive(Clone, Debug, Default)]
pub struct Sums(String);

impl Sums {
    /// Notes the digest of an image.
    pub fn image(&mut self, name: &str, digest: &str) {
        let _ = writeln!(self.0, "# {name}: {digest}");
    }

    /// Adds a file, which lies in `folder`.
    ///
    /// # Errors
    ///
    /// When it can't be read, or lies elsewhere.
    pub fn file(&mut self, folder: &Path, file: &Path) -> anyhow::Result<()> {
        let contents = fs::read(file).with_context(|| file.display().to_string())?;
        let name = file.strip_prefix(folder)?.display();
        let _ = writeln!(self.0, "{}  {name}", sha256(&contents));
        Ok(())
    }

    /// Writes `<folder>/SHA256SUMS`.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join("SHA256SUMS");
        fs::write(&path, &self.0).with_context(|| path.display().to_string())
    }
}
