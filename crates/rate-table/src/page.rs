//! A page: slots of clients in one string of bytes, what all kinds of page have in common.
//!
//! Layout, in words of 8 bytes, little-endian: a word that tells version and kind; what the kind
//! keeps for the whole page; the slots, each a tag (0 for an empty slot) and the client's state.

use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::slice::ChunksExact;

use crate::size::SLOTS_PER_PAGE;

/// The slots of some clients, edited in the bytes of the entry that keeps them.
///
/// The kinds are [`RatePage`](crate::RatePage), [`PenaltyPage`](crate::PenaltyPage) and
/// [`LeasePage`](crate::LeasePage).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<S> {
    bytes: Vec<u8>,
    slots: PhantomData<S>,
}

/// What a kind of page keeps of a client. The default is a client that has never come.
pub trait Slot: Copy + Default + PartialEq {
    /// Tells the kinds of page apart.
    const KIND: u8;

    /// The state as words.
    type Words: Words;

    /// What is kept once for the whole page.
    type Common: Words;

    /// Reads what [`to_words`](Self::to_words) has written.
    fn from_words(words: Self::Words) -> Self;

    /// The state as it is stored.
    fn to_words(self) -> Self::Words;
}

/// A fixed number of words.
pub trait Words: Copy + Default + AsRef<[u64]> + AsMut<[u64]> {}

impl<W: Copy + Default + AsRef<[u64]> + AsMut<[u64]>> Words for W {}

type Word = [u8; 8];

const WORD: usize = size_of::<Word>();

/// To be raised when the layout changes.
const VERSION: u8 = 1;

impl<S: Slot> Page<S> {
    /// The bytes of a page.
    pub const BYTES: usize = WORD * (Self::HEAD_WORDS + SLOTS_PER_PAGE * Self::SLOT_WORDS);

    /// The bytes of a page for one client.
    pub const BYTES_OF_ONE: usize = WORD * (Self::HEAD_WORDS + Self::SLOT_WORDS);

    const HEAD_WORDS: usize = 1 + size_of::<S::Common>() / WORD;

    const SLOT_WORDS: usize = 1 + size_of::<S::Words>() / WORD;

    const MARK: Word = [VERSION, S::KIND, 0, 0, 0, 0, 0, 0];

    /// Takes the bytes of an entry for a page, to be edited in place.
    ///
    /// Bytes that are not a page of this kind and version are taken for an empty page, and those of
    /// an absent entry, none, too.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self::of_size(bytes, Self::BYTES)
    }

    /// The same for an entry that a client has for itself: a page of one slot, which is never taken
    /// from it. For clients whose number is known.
    pub fn of_one_client(bytes: Vec<u8>) -> Self {
        Self::of_size(bytes, Self::BYTES_OF_ONE)
    }

    fn of_size(mut bytes: Vec<u8>, size: usize) -> Self {
        if bytes.len() != size || !bytes.starts_with(&Self::MARK) {
            bytes.clear();
            bytes.reserve_exact(size);
            bytes.extend_from_slice(&Self::MARK);
            bytes.resize(size, 0);
        }
        Page {
            bytes,
            slots: PhantomData,
        }
    }

    /// A page without clients.
    pub fn empty() -> Self {
        Self::from_bytes(Vec::new())
    }

    /// The page as it is to be stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The page as it is to be stored.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The client's slot, if it has one, and what it says.
    pub(crate) fn find(&self, tag: NonZeroU64) -> Option<(usize, S)> {
        let tag = tag.get().to_le_bytes();
        let at = self.slots().position(|slot| slot.first() == Some(&tag))?;
        let state = self.slots().nth(at).and_then(occupant)?;
        Some((at, state))
    }

    /// Finds the slot for a client: its own, or else one that owes nothing, or else the one that
    /// owes least. What a slot owes is `debt`, for which the default is nothing.
    pub(crate) fn seat<D: Ord + Default>(
        &self,
        tag: NonZeroU64,
        debt: impl Fn(S) -> D,
    ) -> Seat<S, D> {
        if let Some((at, state)) = self.find(tag) {
            return Seat::Own { at, state };
        }
        let mut least: Option<(usize, D)> = None;
        for (at, slot) in self.slots().enumerate() {
            let debt = occupant(slot).map_or_else(D::default, &debt);
            if debt == D::default() {
                return Seat::Free { at };
            }
            if least.as_ref().is_none_or(|(_, least)| debt < *least) {
                least = Some((at, debt));
            }
        }
        match least {
            Some((at, debt)) => Seat::Taken { at, debt },
            // A page has slots, so there is one that owes least.
            None => Seat::Free { at: 0 },
        }
    }

    /// Puts a client into the seat found for it. Returns what whoever sat there owed.
    pub(crate) fn put<D>(&mut self, seat: Seat<S, D>, tag: NonZeroU64, state: S) -> Option<D> {
        let (at, evicted) = match seat {
            Seat::Own { at, .. } | Seat::Free { at } => (at, None),
            Seat::Taken { at, debt } => (at, Some(debt)),
        };
        self.write(at, tag, state);
        evicted
    }

    /// Writes the slot of a client.
    pub(crate) fn write(&mut self, at: usize, tag: NonZeroU64, state: S) {
        let state = state.to_words();
        let words = [tag.get()]
            .into_iter()
            .chain(state.as_ref().iter().copied());
        let (all, _) = self.bytes.as_chunks_mut();
        let slots = all.get_mut(Self::HEAD_WORDS..).unwrap_or_default();
        if let Some(slot) = slots.chunks_exact_mut(Self::SLOT_WORDS).nth(at) {
            write_words(slot, words);
        }
    }

    /// What the page keeps for all its clients.
    pub(crate) fn common(&self) -> S::Common {
        read_words(self.words().get(1..).unwrap_or_default())
    }

    pub(crate) fn set_common(&mut self, common: S::Common) {
        let (all, _) = self.bytes.as_chunks_mut();
        let behind_mark = all.get_mut(1..).unwrap_or_default();
        write_words(behind_mark, common.as_ref().iter().copied());
    }

    fn slots(&self) -> ChunksExact<'_, Word> {
        let slots = self.words().get(Self::HEAD_WORDS..).unwrap_or_default();
        slots.chunks_exact(Self::SLOT_WORDS)
    }

    fn words(&self) -> &[Word] {
        self.bytes.as_chunks().0
    }
}

/// The slot of a page that a client has or may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat<S, D> {
    /// The client has a slot.
    Own { at: usize, state: S },
    /// Nobody needs this one.
    Free { at: usize },
    /// Every slot is needed, this one least.
    Taken { at: usize, debt: D },
}

impl<S: Slot, D> Seat<S, D> {
    /// What the page keeps of the client.
    pub(crate) fn state(&self) -> S {
        match self {
            Seat::Own { state, .. } => *state,
            Seat::Free { .. } | Seat::Taken { .. } => S::default(),
        }
    }
}

/// The state in a slot that is not empty.
fn occupant<S: Slot>(slot: &[Word]) -> Option<S> {
    let (tag, state) = slot.split_first()?;
    (*tag != Word::default()).then(|| S::from_words(read_words(state)))
}

fn read_words<W: Words>(from: &[Word]) -> W {
    let mut words = W::default();
    for (word, bytes) in words.as_mut().iter_mut().zip(from) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

fn write_words(to: &mut [Word], words: impl IntoIterator<Item = u64>) {
    for (bytes, word) in to.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::{LeasePage, PenaltyPage, RatePage, RateSlot};

    fn tag(n: u64) -> NonZeroU64 {
        NonZeroU64::new(n).unwrap()
    }

    fn debt(slot: RateSlot) -> u64 {
        slot.to_words()[0]
    }

    fn owing(debt: u64) -> RateSlot {
        RateSlot::from_words([debt])
    }

    fn put(page: &mut RatePage, n: u64, owed: u64) -> Option<u64> {
        page.put(page.seat(tag(n), debt), tag(n), owing(owed))
    }

    fn owed(page: &RatePage, n: u64) -> Option<u64> {
        page.find(tag(n)).map(|(_, slot)| debt(slot))
    }

    /// A page in which the client `n` owes `n`.
    fn full_page() -> RatePage {
        let mut page = RatePage::empty();
        for n in 1..=64 {
            assert_eq!(put(&mut page, n, n), None);
        }
        page
    }

    #[test]
    fn a_client_keeps_its_slot() {
        let mut page = full_page();
        for n in (1..=64).rev() {
            assert_eq!(owed(&page, n), Some(n));
            assert_eq!(put(&mut page, n, n + 100), None);
            assert_eq!(owed(&page, n), Some(n + 100));
        }
        assert_eq!(owed(&page, 65), None);
    }

    #[test]
    fn a_slot_that_owes_nothing_is_taken_before_any_other() {
        let mut page = full_page();
        put(&mut page, 33, 0);
        assert_eq!(put(&mut page, 65, 1), None);
        assert_eq!(owed(&page, 33), None);
        assert_eq!(put(&mut page, 66, 1), Some(1));
    }

    #[test]
    fn the_slot_that_owes_least_is_taken_from_its_owner() {
        let mut page = full_page();
        for n in 1..=64 {
            let seat = page.seat(tag(n + 64), debt);
            assert!(matches!(seat, Seat::Taken { debt, .. } if debt == n));
            assert_eq!(seat.state(), RateSlot::default());
            assert_eq!(put(&mut page, n + 64, 1000), Some(n));
            assert_eq!(owed(&page, n), None);
        }
    }

    #[test]
    fn what_is_not_such_a_page_is_an_empty_one() {
        let bytes = full_page().into_bytes();
        let mut other_version = bytes.clone();
        other_version[0] += 1;
        let longer = [bytes.as_slice(), &[0]].concat();
        let mut lease_mark = bytes.clone();
        lease_mark[..8].copy_from_slice(&LeasePage::empty().as_bytes()[..8]);
        for unreadable in [
            vec![],
            vec![1],
            bytes[..bytes.len() - 1].to_vec(),
            longer,
            other_version,
            lease_mark,
            PenaltyPage::empty().into_bytes(),
        ] {
            assert_eq!(RatePage::from_bytes(unreadable), RatePage::empty());
        }
        assert_eq!(RatePage::from_bytes(bytes), full_page());
    }

    #[test]
    fn a_page_of_one_client_is_no_other_page() {
        let mut page = RatePage::of_one_client(Vec::new());
        assert_eq!(put(&mut page, 1, 5), None);
        assert_eq!(page.as_bytes().len(), RatePage::BYTES_OF_ONE);
        let bytes = page.clone().into_bytes();
        assert_eq!(RatePage::of_one_client(bytes.clone()), page);
        assert_eq!(RatePage::from_bytes(bytes), RatePage::empty());
        let empty = RatePage::of_one_client(Vec::new());
        assert_eq!(RatePage::of_one_client(full_page().into_bytes()), empty);
    }

    #[test]
    fn a_page_is_edited_where_it_is() {
        let bytes = full_page().into_bytes();
        let place = bytes.as_ptr();
        let mut page = RatePage::from_bytes(bytes);
        put(&mut page, 100, 100);
        assert_eq!(page.as_bytes().as_ptr(), place);
    }

    #[test]
    fn the_common_words_do_not_touch_the_slots() {
        let mut page = LeasePage::empty();
        page.set_common([u64::MAX, u64::MAX]);
        assert_eq!(page.common(), [u64::MAX, u64::MAX]);
        assert_eq!(page.as_bytes()[8..24], [255; 16]);
        assert!(page.as_bytes()[24..].iter().all(|byte| *byte == 0));
    }
}
