//! Plugins as OCI images, and what they are made of. The same input gives the same bytes: there is
//! no clock, no random number and no unordered map in it.

mod image;
mod sbom;
mod sums;

pub use image::{Image, Origin, write_image};
pub use sbom::Sbom;
pub use sums::Sums;

use sha2::{Digest as _, Sha256};

/// The SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
