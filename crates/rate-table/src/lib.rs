//! Limits for clients that nobody configured, in memory that does not grow.
//!
//! The state that an Envoy's workers share is a map from keys to bytes in which nothing can be
//! deleted, so an entry for each client would be a leak that clients control. Here a limit has a
//! table instead, whose size follows from the configuration ([`TableSize`]): a fixed number of
//! **pages**, an entry each, of [`SLOTS_PER_PAGE`] **slots**. Which page is a client's, and the tag
//! by which its slot there is found, come from a hash of who it is under a secret [`Seed`]
//! ([`ClientHash`]). A request reads one page and writes one page, however many clients there are.
//!
//! There are three kinds of page:
//!
//! | page | for each client | when every slot of it is in use |
//! |---|---|---|
//! | [`RatePage`] | a token bucket | the client nearest to full is forgotten |
//! | [`PenaltyPage`] | and its denials, and how long it is blocked for them | the same, blocked clients last |
//! | [`LeasePage`] | how many requests of it are under way | a further client is told so |
//!
//! # What being forgotten means
//!
//! A slot whose bucket is full again is as good as an empty one, so nothing is lost while the
//! clients of a page that are not full fit its slots. For a table with as many such clients as it
//! was made for, [`SLOTS_PER_PAGE`] tells how rarely they don't.
//!
//! When they don't, somebody is forgotten, and that errs on the side of the clients: the forgotten
//! one gets back what it has used, and nobody is refused for what others did. The bound is on what
//! can be got back:
//!
//! - A client that misses `k` tokens is forgotten only if every other client in its page misses at
//!   least `k`. The page then holds `SLOTS_PER_PAGE · k` used tokens, so whoever wants `k` back has
//!   to have had the `SLOTS_PER_PAGE - 1` others use that many first, and in a page that nobody can
//!   aim at without the seed.
//! - As long as the page stays so, clients that take turns in its one contested slot are not held to
//!   their limit. Keeping it so takes `SLOTS_PER_PAGE - 1` others that use tokens as fast as they
//!   come back, in each such page: to have it in all, more than twice the clients that the table
//!   was made for.
//!
//! Each time is reported, with what it let the client off ([`Charged::evicted`]), to be counted: a
//! table that forgets is too small.
//!
//! # How it is used
//!
//! All is pure: the time, the seed and the page's bytes are arguments, and nothing here fails or
//! panics, whatever they are. The caller reads the page's entry, edits it in place here, and writes
//! it back if it has changed and nobody else has written it since; else it does all that again.
//!
//! ```
//! use std::num::{NonZeroU32, NonZeroU64};
//! use tollgate_gcra::Bucket;
//! use tollgate_rate_table::{RatePage, Seed, TableSize};
//!
//! let table = TableSize::for_clients(NonZeroU32::new(100_000).unwrap()).unwrap();
//! let seed = Seed::from_bytes(*b"sixteen random b");
//! let ten = NonZeroU32::new(10).unwrap();
//! let second = NonZeroU64::new(1_000_000_000).unwrap();
//! let bucket = Bucket::new(ten, second, ten).unwrap();
//! let mut entries = vec![Vec::new(); table.pages().get() as usize];
//!
//! let client = seed.client([b"per-address".as_slice(), &[192, 0, 2, 7]]);
//! let entry = &mut entries[client.page(table) as usize];
//! let mut page = RatePage::from_bytes(std::mem::take(entry));
//! let charged = page.charge(&bucket, client, 1_700_000_000_000_000_000, 1);
//! if charged.changed {
//!     *entry = page.into_bytes();
//! }
//! assert_eq!(charged.decision.unwrap().remaining, 9);
//! assert_eq!(charged.evicted, None);
//! ```

mod client;
mod lease;
mod meter;
mod page;
mod penalty;
mod rate;
mod size;

pub use client::{ClientHash, Seed};
pub use lease::{Lease, LeasePage, LeaseSlot, NoLease};
pub use meter::{Charged, Debt, Meter};
pub use page::{Page, Slot};
pub use penalty::{Denied, PenaltyBucket, PenaltyPage, PenaltySlot};
pub use rate::{RatePage, RateSlot};
pub use size::{InvalidTableSize, MAX_CLIENTS, SLOTS_PER_PAGE, TableSize};
