//! Pages that count the requests that clients have under way.

use std::fmt;
use std::num::NonZeroU32;

use crate::client::ClientHash;
use crate::page::{Page, Seat, Slot};

/// A page of leases: each a request under way, counted until it is released or forgotten.
///
/// Whoever holds leases may be killed without releasing them, so none counts for ever. Time passes
/// in **epochs**, each as long as a lease is good for, and a lease counts in the epoch in which it
/// was acquired and in the next: for between one epoch and two, since the caller's clock divided by
/// the length of an epoch is the epoch. A request that takes longer is no longer counted. When the
/// clock steps back, the page's epoch stands still for the time being, and so leases are forgotten
/// that much later.
///
/// A client with a lease that counts never loses its slot.
pub type LeasePage = Page<LeaseSlot>;

/// A request under way, to be released once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it counts until it is released"]
pub struct Lease {
    /// The page's epoch in which it was acquired.
    epoch: u64,
}

/// There is no lease to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLease {
    /// The client has as many as it may have.
    Full {
        /// How many it has.
        held: u32,
    },
    /// The client has none, but its page has room for no further client: in each slot is one that
    /// has. Nothing is known about this client then, and the caller has to decide.
    PageFull,
}

impl fmt::Display for NoLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoLease::Full { held } => write!(f, "the client has {held} requests under way"),
            NoLease::PageFull => write!(f, "the table has no room for another client"),
        }
    }
}

impl std::error::Error for NoLease {}

impl Page<LeaseSlot> {
    /// Takes a lease for a client that has fewer than `limit`. The page has then changed and must be
    /// stored, else it has not.
    ///
    /// `epoch` is the time divided by how long a lease is good for.
    pub fn acquire(
        &mut self,
        client: ClientHash,
        limit: NonZeroU32,
        epoch: u64,
    ) -> Result<Lease, NoLease> {
        let clock = self.clock().advanced(epoch);
        let epoch = clock.epoch;
        let seat = self.seat(client.tag(), |slot: LeaseSlot| slot.held(epoch));
        if let Seat::Taken { .. } = seat {
            return Err(NoLease::PageFull);
        }
        let mut slot = seat.state().at(epoch);
        let held = slot.held(epoch);
        if held >= limit.get() {
            return Err(NoLease::Full { held });
        }
        slot.current = slot.current.saturating_add(1);
        self.set_common([clock.reading, clock.epoch]);
        self.put(seat, client.tag(), slot);
        Ok(Lease { epoch })
    }

    /// Gives a lease back, and says whether the page has changed and must be stored.
    ///
    /// It must be the page that the lease was acquired in, under the same key and of the same
    /// table. A lease that was forgotten meanwhile is ignored.
    #[must_use = "the page must be stored if it has changed"]
    pub fn release(&mut self, client: ClientHash, lease: Lease) -> bool {
        let found = self.find(client.tag());
        let Some((at, slot)) = found.and_then(|(at, slot)| Some((at, slot.without(lease)?))) else {
            return false;
        };
        self.write(at, client.tag(), slot);
        true
    }

    /// How many leases of a client count.
    pub fn held(&self, client: ClientHash, epoch: u64) -> u32 {
        let epoch = self.clock().advanced(epoch).epoch;
        let found = self.find(client.tag());
        found.map_or(0, |(_, slot)| slot.held(epoch))
    }

    fn clock(&self) -> PageClock {
        let [reading, epoch] = self.common();
        PageClock { reading, epoch }
    }
}

/// The epochs of a page. They go on with those of the caller's clock but never back, so that a lease
/// is told by its epoch from all that were acquired at other times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PageClock {
    /// The caller's epoch when the page was last written.
    reading: u64,
    /// The page's epoch then: the same if the clock has never stepped back.
    epoch: u64,
}

impl PageClock {
    fn advanced(self, reading: u64) -> PageClock {
        let forward = reading.saturating_sub(self.reading);
        // Workers read the clock before they write in turn, so one may come late by an epoch that
        // has just ended. Following it back would make the next one end the epoch again.
        let late = reading.saturating_add(1) == self.reading;
        PageClock {
            reading: if late { self.reading } else { reading },
            epoch: self.epoch.wrapping_add(forward),
        }
    }
}

/// The leases of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseSlot {
    /// The page's epoch when the client last acquired one.
    epoch: u64,
    /// The leases acquired in that epoch.
    current: u32,
    /// Those acquired in the epoch before it.
    previous: u32,
}

impl LeaseSlot {
    /// The slot as it is in `epoch`, without the leases that are forgotten by then.
    fn at(self, epoch: u64) -> LeaseSlot {
        let (current, previous) = match epoch.wrapping_sub(self.epoch) {
            0 => (self.current, self.previous),
            1 => (0, self.current),
            _ => (0, 0),
        };
        LeaseSlot {
            epoch,
            current,
            previous,
        }
    }

    fn held(self, epoch: u64) -> u32 {
        let slot = self.at(epoch);
        slot.current.saturating_add(slot.previous)
    }

    /// The slot without a lease, `None` if it has already been forgotten.
    fn without(self, lease: Lease) -> Option<LeaseSlot> {
        match self.epoch.wrapping_sub(lease.epoch) {
            0 => Some(LeaseSlot {
                current: self.current.checked_sub(1)?,
                ..self
            }),
            1 => Some(LeaseSlot {
                previous: self.previous.checked_sub(1)?,
                ..self
            }),
            _ => None,
        }
    }
}

impl Slot for LeaseSlot {
    const KIND: u8 = 3;

    type Words = [u64; 2];
    /// Those of `PageClock`.
    type Common = [u64; 2];

    fn from_words([epoch, counts]: [u64; 2]) -> Self {
        let [a, b, c, d, e, f, g, h] = counts.to_le_bytes();
        LeaseSlot {
            epoch,
            current: u32::from_le_bytes([a, b, c, d]),
            previous: u32::from_le_bytes([e, f, g, h]),
        }
    }

    fn to_words(self) -> [u64; 2] {
        let counts = u64::from(self.previous) << 32 | u64::from(self.current);
        [self.epoch, counts]
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::Seed;

    fn client(number: u32) -> ClientHash {
        Seed::from_bytes([7; 16]).client([number.to_le_bytes()])
    }

    fn limit(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Acquire(u32),
        /// The lease acquired as the how-manieth of those not yet released.
        Release(prop::sample::Index),
        Forward(u64),
        Back(u64),
    }

    fn steps(clients: u32, back: bool) -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..clients).prop_map(Step::Acquire),
            5 => any::<prop::sample::Index>().prop_map(Step::Release),
            1 => (0..4_u64).prop_map(Step::Forward),
            u32::from(back) => (0..6_u64).prop_map(Step::Back),
        ];
        prop::collection::vec(step, 0..300)
    }

    /// The page, and next to it every lease not yet released.
    struct Compared {
        page: LeasePage,
        leases: Vec<(u32, Lease)>,
        now: u64,
    }

    impl Compared {
        fn new() -> Self {
            Compared {
                page: LeasePage::empty(),
                leases: Vec::new(),
                now: 1_000,
            }
        }

        fn step(&mut self, limit: NonZeroU32, step: Step) -> Result<(), TestCaseError> {
            match step {
                Step::Forward(epochs) => self.now += epochs,
                Step::Back(epochs) => self.now -= epochs,
                Step::Acquire(who) => self.acquire(limit, who)?,
                Step::Release(which) if !self.leases.is_empty() => {
                    let (who, lease) = self.leases.swap_remove(which.index(self.leases.len()));
                    let before = self.page.clone();
                    let changed = self.page.release(client(who), lease);
                    prop_assert_eq!(changed, self.page != before);
                }
                Step::Release(_) => {}
            }
            Ok(())
        }

        fn acquire(&mut self, limit: NonZeroU32, who: u32) -> Result<(), TestCaseError> {
            let before = self.page.clone();
            let held = self.live(who);
            match self.page.acquire(client(who), limit, self.now) {
                Ok(lease) => {
                    prop_assert!(held < limit.get());
                    self.leases.push((who, lease));
                }
                Err(NoLease::Full { held: reported }) => {
                    prop_assert!(held >= limit.get());
                    prop_assert_eq!(reported, held);
                    prop_assert_eq!(&self.page, &before);
                }
                Err(NoLease::PageFull) => {
                    prop_assert_eq!(held, 0);
                    let mut others: Vec<u32> = self.leases.iter().map(|(who, _)| *who).collect();
                    others.retain(|who| self.live(*who) > 0);
                    others.sort_unstable();
                    others.dedup();
                    prop_assert_eq!(others.len(), 64);
                    prop_assert_eq!(&self.page, &before);
                }
            }
            Ok(())
        }

        /// How many leases a client has of the last two epochs of the page.
        fn live(&self, who: u32) -> u32 {
            let epoch = self.page.clock().advanced(self.now).epoch;
            let live = |(owner, lease): &&(u32, Lease)| {
                *owner == who && (epoch - 1..=epoch).contains(&lease.epoch)
            };
            self.leases.iter().filter(live).count().try_into().unwrap()
        }

        fn agree(&self, clients: u32) -> Result<(), TestCaseError> {
            for who in 0..clients {
                prop_assert_eq!(self.page.held(client(who), self.now), self.live(who));
            }
            Ok(())
        }

        /// Releases what is left; then no slot counts anything.
        fn release_all(mut self, clients: u32) -> Result<(), TestCaseError> {
            for (who, lease) in self.leases {
                let _ = self.page.release(client(who), lease);
            }
            for who in 0..clients {
                if let Some((_, slot)) = self.page.find(client(who).tag()) {
                    prop_assert_eq!((slot.current, slot.previous), (0, 0));
                }
            }
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_counts_are_the_leases_of_two_epochs(
            limit in (1..4_u32).prop_map(limit),
            steps in steps(6, true),
        ) {
            let mut compared = Compared::new();
            for step in steps {
                compared.step(limit, step)?;
                compared.agree(6)?;
            }
            compared.release_all(6)?;
        }

        #[test]
        fn a_page_without_room_says_so(steps in steps(90, true)) {
            let mut compared = Compared::new();
            // So many that the rest find little room.
            for who in 0..60 {
                compared.step(limit(2), Step::Acquire(who))?;
            }
            for step in steps {
                compared.step(limit(2), step)?;
            }
            compared.agree(90)?;
            compared.release_all(90)?;
        }

        /// With a clock that only goes forward, the page's epochs are the caller's.
        #[test]
        fn epochs_are_those_of_the_clock(steps in steps(6, false)) {
            let mut compared = Compared::new();
            for step in steps {
                compared.step(limit(3), step)?;
                let epoch = compared.page.clock().advanced(compared.now).epoch;
                prop_assert_eq!(epoch, compared.now);
            }
        }

        /// From wherever the clock has stepped to, two epochs on it all is forgotten.
        #[test]
        fn nothing_counts_for_ever(steps in steps(6, true)) {
            let mut compared = Compared::new();
            for step in steps {
                compared.step(limit(3), step)?;
            }
            // The page learns of the time at the next lease.
            let _ = compared.page.acquire(client(6), limit(1), compared.now);
            let reading = compared.page.clock().reading;
            prop_assert!(reading <= compared.now + 1);
            for who in 0..6 {
                prop_assert_eq!(compared.page.held(client(who), reading + 2), 0);
            }
        }

        #[test]
        fn any_bytes_and_any_integers_are_taken(
            body in prop::collection::vec(any::<u8>(), LeasePage::BYTES),
            mine in prop::array::uniform16(any::<u8>()),
            epoch in prop_oneof![Just(0), any::<u64>(), Just(u64::MAX)],
            most in prop_oneof![1..5_u32, Just(u32::MAX)],
        ) {
            let mut page = LeasePage::empty();
            let lease = page.acquire(client(1), limit(1), epoch).unwrap();
            let mut bytes = page.into_bytes();
            bytes[8..24].copy_from_slice(&body[8..24]);
            bytes[32..48].copy_from_slice(&mine);
            bytes[48..].copy_from_slice(&body[48..]);
            let mut page = LeasePage::from_bytes(bytes);
            let held = page.held(client(1), epoch);
            prop_assert_eq!(page.acquire(client(1), limit(most), epoch).is_ok(), held < most);
            let _ = page.release(client(1), lease);
        }
    }

    #[test]
    fn a_lease_counts_until_the_end_of_the_next_epoch() {
        let mut page = LeasePage::empty();
        let lost = page.acquire(client(1), limit(1), 7).unwrap();
        for epoch in [7, 8] {
            let full = NoLease::Full { held: 1 };
            assert_eq!(page.acquire(client(1), limit(1), epoch), Err(full));
        }
        let other = page.acquire(client(1), limit(1), 9).unwrap();
        assert!(!page.release(client(1), lost));
        assert_eq!(page.held(client(1), 9), 1);
        assert!(page.release(client(1), other));
        assert!(!page.release(client(1), other));
        assert_eq!(page.held(client(1), 9), 0);
    }

    #[test]
    fn a_worker_that_comes_late_does_not_end_the_epoch_again() {
        let mut page = LeasePage::empty();
        for epoch in [7, 8, 7, 8, 7, 8] {
            assert!(page.acquire(client(1), limit(9), epoch).is_ok());
        }
        assert_eq!(page.held(client(1), 8), 6);
        assert_eq!(page.held(client(1), 9), 5);
        assert_eq!(page.held(client(1), 10), 0);
    }

    #[test]
    fn a_clock_that_steps_back_forgets_nothing_and_mistakes_no_lease_for_another() {
        let mut page = LeasePage::empty();
        let old = page.acquire(client(1), limit(9), 100).unwrap();
        let new = page.acquire(client(1), limit(9), 10).unwrap();
        assert_eq!(page.held(client(1), 10), 2);
        assert_eq!(page.held(client(1), 11), 2);
        assert_eq!(page.held(client(1), 12), 0);
        // The clock comes by the first lease's epoch again.
        let latest = page.acquire(client(1), limit(9), 100).unwrap();
        assert!(!page.release(client(1), old) && !page.release(client(1), new));
        assert_eq!(page.held(client(1), 100), 1);
        assert!(page.release(client(1), latest));
    }

    #[test]
    fn a_client_that_has_a_lease_keeps_its_slot() {
        let mut page = LeasePage::empty();
        let leases: Vec<_> = (0..64)
            .map(|who| page.acquire(client(who), limit(2), 7).unwrap())
            .collect();
        assert_eq!(
            page.acquire(client(64), limit(2), 8),
            Err(NoLease::PageFull)
        );
        assert!(page.acquire(client(5), limit(2), 8).is_ok());
        assert!(page.release(client(9), leases[9]));
        assert!(page.acquire(client(64), limit(2), 8).is_ok());
        assert_eq!(page.held(client(9), 8), 0);
        assert_eq!(page.held(client(5), 8), 2);
    }
}
