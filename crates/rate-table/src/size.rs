//! How large a table must be.

use std::fmt;
use std::num::NonZeroU32;

/// The slots of a page.
///
/// A table has two for each client that it is made for, so that a page is half full on average.
/// How many of `n` clients hash to a page is binomial with a mean of at most 32, and the tail of
/// that lies below Poisson's: **a page of a table that holds as many live clients as it was made
/// for has more of them than slots with a probability below 2.1 · 10⁻⁷**. At most
/// one table in 150 has such a page if made for a million clients, one in nine if made for
/// [`MAX_CLIENTS`], and it has two clients too many on average.
///
/// More slots would make pages fuller at the same risk, and each request copy more bytes.
pub const SLOTS_PER_PAGE: usize = 64;

/// The clients that a page is made for: half its slots.
const CLIENTS_PER_PAGE: u32 = 32;

/// The most clients that a table is made for: 2²⁴, some 16.8 million.
///
/// Buckets for that many take 541 MB.
pub const MAX_CLIENTS: u32 = 1 << 24;

/// How many pages a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableSize {
    pages: NonZeroU32,
}

impl TableSize {
    /// The size for `max_clients` that are live at once: whose bucket is not full, who are blocked
    /// or have denials that count, or who have a request under way.
    ///
    /// With more of them the table goes on, and forgets: with twice as many about one in twenty.
    pub fn for_clients(max_clients: NonZeroU32) -> Result<TableSize, InvalidTableSize> {
        if max_clients.get() > MAX_CLIENTS {
            return Err(InvalidTableSize { max_clients });
        }
        let pages = max_clients.get().div_ceil(CLIENTS_PER_PAGE);
        // Nothing above zero is rounded up to zero.
        let pages = NonZeroU32::new(pages).unwrap_or(NonZeroU32::MIN);
        Ok(TableSize { pages })
    }

    /// The number of pages.
    pub fn pages(self) -> NonZeroU32 {
        self.pages
    }

    /// The bytes of the table once every page is in use, for pages of `page_bytes` such as
    /// [`RatePage::BYTES`](crate::RatePage::BYTES).
    ///
    /// The keys and the bookkeeping of whatever keeps the pages come on top.
    pub fn bytes(self, page_bytes: usize) -> u64 {
        let page_bytes = u64::try_from(page_bytes).unwrap_or(u64::MAX);
        u64::from(self.pages.get()).saturating_mul(page_bytes)
    }
}

/// A table for more clients than [`MAX_CLIENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTableSize {
    /// The clients asked for.
    pub max_clients: NonZeroU32,
}

impl fmt::Display for InvalidTableSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a table for {} clients is too large, expected at most {MAX_CLIENTS}: count only those \
             that are limited at the same time, not all who ever come",
            self.max_clients
        )
    }
}

impl std::error::Error for InvalidTableSize {}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::{LeasePage, PenaltyPage, RatePage};

    fn size(max_clients: u32) -> Result<TableSize, InvalidTableSize> {
        TableSize::for_clients(NonZeroU32::new(max_clients).unwrap())
    }

    #[test]
    fn a_table_has_two_slots_for_each_client() {
        for (max_clients, pages) in [
            (1, 1),
            (32, 1),
            (33, 2),
            (64, 2),
            (1_000_000, 31_250),
            (MAX_CLIENTS, 524_288),
        ] {
            assert_eq!(size(max_clients).unwrap().pages().get(), pages);
        }
    }

    #[test]
    fn a_table_for_too_many_is_refused_with_the_bound() {
        let error = size(16_777_217).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a table for 16777217 clients is too large, expected at most 16777216: count only \
             those that are limited at the same time, not all who ever come"
        );
        assert!(size(u32::MAX).is_err());
    }

    #[test]
    fn the_bytes_of_a_table_follow_from_its_size() {
        assert_eq!(RatePage::BYTES, 8 + 64 * 16);
        assert_eq!(PenaltyPage::BYTES, 8 + 64 * 40);
        assert_eq!(LeasePage::BYTES, 24 + 64 * 24);
        let million = size(1_000_000).unwrap();
        assert_eq!(million.bytes(RatePage::BYTES), 32_250_000);
        assert_eq!(
            size(MAX_CLIENTS).unwrap().bytes(RatePage::BYTES),
            541_065_216
        );
    }
}
