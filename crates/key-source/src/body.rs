//! The shared entry with the keys as they were received.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// Names what the entry is, and the version of its layout.
const MAGIC: [u8; 4] = *b"TKB1";

/// Tells one body from another: 128 bits of SipHash under the fingerprint of the source. It is no
/// protection from whoever writes the shared state or is the issuer; neither has need of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u8; 16]);

impl Digest {
    pub(crate) fn of(fingerprint: &[u8; 16], body: &[u8]) -> Digest {
        let mut hasher = SipHasher24::new_with_key(fingerprint);
        hasher.write(body);
        Digest(hasher.finish128().as_bytes())
    }
}

/// The entry: what it is, the digest of the body, the body.
pub(crate) fn encode(digest: Digest, body: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &digest.0, body].concat()
}

/// The body in an entry and its digest, unless it is something else, damaged, or of another source.
pub(crate) fn decode<'a>(fingerprint: &[u8; 16], entry: &'a [u8]) -> Option<(Digest, &'a [u8])> {
    let rest = entry.strip_prefix(&MAGIC)?;
    let (digest, body) = rest.split_first_chunk()?;
    let digest = Digest(*digest);
    (Digest::of(fingerprint, body) == digest).then_some((digest, body))
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_body_comes_back_and_a_damaged_one_does_not() {
        let (mine, other) = ([1; 16], [2; 16]);
        let digest = Digest::of(&mine, b"keys");
        let entry = encode(digest, b"keys");
        assert_eq!(decode(&mine, &entry), Some((digest, &b"keys"[..])));
        assert_eq!(decode(&other, &entry), None);
        for at in 0..entry.len() {
            let mut damaged = entry.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&mine, &damaged), None);
            assert_eq!(decode(&mine, &entry[..at]), None);
        }
    }
}
