//! Keys that were found before: a key in use is digested once, and not for each of its requests.

use std::cell::RefCell;

use siphasher::sip128::{Hash128, SipHasher24};
use tollgate_core::host::Host;

use crate::keys::KeyRecord;

/// The keys that one worker has found last, each as 128 bits of SipHash-2-4 under a secret that the
/// worker has made for itself.
///
/// A key is taken for another if their hashes are equal. Who does not know the secret can't bring
/// that about, and meets it by chance once in 2¹²⁸ attempts for each key that is remembered. The
/// secret and the hashes stay in the worker's memory; the keys are not kept at all.
///
/// Each hash has one slot, so nothing is searched and nothing grows. Only keys that exist take
/// slots: guessing keys makes nobody else's forgotten.
pub(crate) struct Recognised {
    secret: RefCell<Option<[u8; 16]>>,
    slots: RefCell<Box<[Option<Slot>]>>,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: Hash128,
    record: KeyRecord,
}

/// The most slots: 48 KiB of each worker.
const MOST_SLOTS: usize = 1024;

impl Recognised {
    /// Room for some of so many keys.
    pub(crate) fn new(keys: usize) -> Self {
        let slots = keys.min(MOST_SLOTS).next_power_of_two();
        Recognised {
            secret: RefCell::new(None),
            slots: RefCell::new(vec![None; slots].into_boxed_slice()),
        }
    }

    /// What is known of a key, which `find` finds if it is not remembered.
    pub(crate) fn find<H: Host>(
        &self,
        key: &[u8],
        host: &H,
        find: impl FnOnce() -> Option<KeyRecord>,
    ) -> Option<KeyRecord> {
        let (Ok(mut secret), Ok(mut slots)) =
            (self.secret.try_borrow_mut(), self.slots.try_borrow_mut())
        else {
            return find();
        };
        let secret = secret.get_or_insert_with(|| {
            let mut secret = [0; 16];
            host.fill_random(&mut secret);
            secret
        });
        let hash = SipHasher24::new_with_key(secret).hash(key);
        let Some(slot) = place(hash, slots.len()).and_then(|place| slots.get_mut(place)) else {
            return find();
        };
        match slot {
            Some(slot) if slot.hash == hash => Some(slot.record),
            slot => {
                let record = find()?;
                *slot = Some(Slot { hash, record });
                Some(record)
            }
        }
    }
}

fn place(hash: Hash128, slots: usize) -> Option<usize> {
    let slots = u64::try_from(slots).ok()?;
    usize::try_from(hash.h1.checked_rem(slots)?).ok()
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use tollgate_core::time::Timestamp;
    use tollgate_testkit::{Clock, Process};
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::keys::Term;

    /// The record of a key, if there are so many: keys are their numbers.
    fn look_up(key: u32, keys: u32) -> Option<KeyRecord> {
        (key < keys).then_some(KeyRecord {
            consumer: key,
            term: Term::ALWAYS,
        })
    }

    #[test]
    fn a_key_is_looked_up_once() {
        let host = Process::new(Clock::at(Timestamp::default())).worker();
        let recognised = Recognised::new(1);
        let lookups = Cell::new(0);
        for _ in 0..3 {
            let found = recognised.find(b"key", &host, || {
                lookups.set(lookups.get() + 1);
                look_up(0, 1)
            });
            assert_eq!(found.map(|record| record.consumer), Some(0));
        }
        assert_eq!(lookups.get(), 1);
    }

    #[test]
    fn an_unknown_key_is_looked_up_each_time_and_pushes_nobody_out() {
        let host = Process::new(Clock::at(Timestamp::default())).worker();
        let recognised = Recognised::new(1);
        recognised.find(b"key", &host, || look_up(0, 1));
        let lookups = Cell::new(0);
        for _ in 0..3 {
            let found = recognised.find(b"guess", &host, || {
                lookups.set(lookups.get() + 1);
                None
            });
            assert!(found.is_none());
        }
        assert_eq!(lookups.get(), 3);
        let found = recognised.find(b"key", &host, || panic!("it is remembered"));
        assert_eq!(found.map(|record| record.consumer), Some(0));
    }

    #[test]
    fn its_room_is_bounded() {
        for (keys, slots) in [(0, 1), (1, 1), (3, 4), (1_000, 1_024), (1_000_000, 1_024)] {
            assert_eq!(Recognised::new(keys).slots.borrow().len(), slots, "{keys}");
        }
        let slot = std::mem::size_of::<Option<Slot>>();
        assert!(slot * MOST_SLOTS <= 48 << 10, "{slot}");
    }

    proptest! {
        /// Whatever was asked before, the answer is the one that looking it up would give.
        #[test]
        fn it_answers_as_the_table_does(
            asked in prop::collection::vec(0..24_u32, 0..200),
            keys in 0..20_u32,
            room in 0..8_usize,
        ) {
            let host = Process::new(Clock::at(Timestamp::default())).worker();
            let recognised = Recognised::new(room);
            for key in asked {
                let found = recognised.find(&key.to_le_bytes(), &host, || look_up(key, keys));
                prop_assert_eq!(
                    found.map(|record| record.consumer),
                    look_up(key, keys).map(|record| record.consumer)
                );
            }
        }
    }
}
