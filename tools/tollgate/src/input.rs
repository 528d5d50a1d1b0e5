//! Files, and standard input.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

/// A text, and the name under which its mistakes are reported.
pub struct Input {
    /// Its name.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Reads a file, or standard input for `-`.
pub fn read(path: &Path) -> anyhow::Result<Input> {
    let (name, bytes) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.context("standard input can't be read")?;
        ("<stdin>".to_owned(), bytes)
    } else {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).with_context(|| format!("{name} can't be read"))?;
        (name, bytes)
    };
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8"))?;
    // Editors of some systems begin a file so.
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    Ok(Input { name, text })
}
