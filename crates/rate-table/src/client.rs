//! Who a client is to a table: a page and a tag, which nobody can aim without the seed.

use std::hash::Hasher;
use std::num::NonZeroU64;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::size::TableSize;

/// The secret under which clients are hashed: 128 random bits that all users of a table share.
///
/// Whoever knows it can make up clients that fill a page. It has no `Debug`, so that it does not
/// reach a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; 16]);

impl Seed {
    /// A seed of bytes that nobody can guess.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Seed(bytes)
    }

    /// The bytes, to share them with other users of the table.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Hashes a client by what tells it apart, part by part: `("ab", "c")` is another client than
    /// `("a", "bc")`.
    ///
    /// The name of the limit makes a good first part: the clients of one limit then share pages
    /// with others than those of another, so that it is not the same clients who are unlucky.
    pub fn client<P: AsRef<[u8]>>(&self, parts: impl IntoIterator<Item = P>) -> ClientHash {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        for part in parts {
            let part = part.as_ref();
            // A length is at most 64 bits on every machine.
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            hasher.write(&length.to_le_bytes());
            hasher.write(part);
        }
        let hash = hasher.finish128();
        ClientHash {
            place: hash.h1,
            // One tag of 2^64 is taken by two hashes instead of one.
            tag: NonZeroU64::new(hash.h2).unwrap_or(NonZeroU64::MIN),
        }
    }
}

/// A client as tables know it: 128 bits of SipHash-2-4 of who it is.
///
/// Half of them choose the page, the other half is the tag by which the client's slot in the page is
/// found. Two clients of a page are taken for one with a probability of 2⁻⁶⁴.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientHash {
    place: u64,
    tag: NonZeroU64,
}

impl ClientHash {
    /// The client's page in a table, counted from 0.
    ///
    /// All pages are equally likely, to one part in 2⁴⁵.
    pub fn page(self, table: TableSize) -> u32 {
        let pages = u64::from(table.pages().get());
        let scaled = u128::from(self.place).saturating_mul(u128::from(pages)) >> 64;
        // A fraction below one of a number of 32 bits.
        u32::try_from(scaled).unwrap_or_default()
    }

    /// What tells it apart from the other clients of its page. Never zero, which is the tag of an
    /// empty slot.
    pub fn tag(self) -> NonZeroU64 {
        self.tag
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::num::NonZeroU32;

    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const SEED: Seed = Seed::from_bytes([7; 16]);

    #[test]
    fn parts_are_kept_apart() {
        let clients: [&[&str]; 9] = [
            &[],
            &[""],
            &["", ""],
            &["abc"],
            &["ab", "c"],
            &["a", "bc"],
            &["", "abc"],
            &["abc", ""],
            &["\x03\0\0\0\0\0\0\0abc"],
        ];
        let hashes: HashSet<_> = clients
            .into_iter()
            .map(|parts| SEED.client(parts))
            .collect();
        assert_eq!(hashes.len(), clients.len());
    }

    /// The first is the first of the vectors that SipHash's authors published for 128 bits, the
    /// other was computed by another implementation.
    #[test]
    fn the_hash_is_siphash_of_lengths_and_parts() {
        let seed = Seed::from_bytes(std::array::from_fn(|i| i as u8));
        for (parts, place, tag) in [
            (&[][..], 0xe6a8_25ba_047f_81a3, 0x9302_55c7_1472_f66d),
            (&["ab", "c"], 0x081b_40fa_029b_24bc, 0x2008_7826_57b9_e654),
        ] {
            let client = seed.client(parts);
            assert_eq!((client.place, client.tag.get()), (place, tag));
        }
    }

    #[test]
    fn another_seed_is_another_client() {
        let other = Seed::from_bytes([8; 16]);
        assert_ne!(SEED.client(["a"]), other.client(["a"]));
    }

    #[test]
    fn the_page_is_within_the_table() {
        for max_clients in [1, 33, 1_000_000] {
            let table = TableSize::for_clients(NonZeroU32::new(max_clients).unwrap()).unwrap();
            let last = table.pages().get() - 1;
            for (place, page) in [(0, 0), (u64::MAX, last)] {
                let tag = NonZeroU64::MIN;
                assert_eq!(ClientHash { place, tag }.page(table), page);
            }
        }
    }
}
