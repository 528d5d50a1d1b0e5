//! A page of buckets against a map that forgets nobody, over random schedules in which the clock
//! also steps: the same decisions, and where the page has to forget a client, the right one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tollgate_gcra::{Admitted, Bucket, FULL, Refused};
use tollgate_rate_table::{LeasePage, PenaltyPage, RatePage, SLOTS_PER_PAGE};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::{SECOND, START, bucket, client};

#[derive(Clone, Copy, Debug)]
enum Step {
    Forward(u64),
    Back(u64),
    /// The number of the client, and the cost.
    Charge(u32, u32),
    Refund(u32, u32),
}

/// Steps of at most so many clients.
fn steps(clients: u32, back: bool) -> impl Strategy<Value = Vec<Step>> {
    let clock = prop_oneof![
        8 => (0..3 * SECOND).prop_map(Step::Forward),
        1 => (0..60 * SECOND).prop_map(Step::Forward),
        u32::from(back) => (0..100 * SECOND).prop_map(Step::Back),
    ];
    let step = prop_oneof![
        1 => clock,
        9 => (0..clients, prop_oneof![4 => 1..4_u32, 1 => 0..12_u32])
            .prop_map(|(who, cost)| Step::Charge(who, cost)),
        1 => (0..clients, 0..5_u32).prop_map(|(who, cost)| Step::Refund(who, cost)),
    ];
    prop::collection::vec(step, 0..300)
}

/// The page, and next to it the bucket of every client that has come.
struct Compared {
    bucket: Bucket,
    page: RatePage,
    model: BTreeMap<u32, u64>,
    /// Clients whose bucket was full again since it was charged: their slot may have been given
    /// away, which is nothing unless the clock steps back.
    full_again: BTreeSet<u32>,
    now: u64,
}

impl Compared {
    fn new(bucket: Bucket) -> Self {
        Compared {
            bucket,
            page: RatePage::empty(),
            model: BTreeMap::new(),
            full_again: BTreeSet::new(),
            now: START,
        }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Forward(ns) => self.now += ns,
            Step::Back(ns) => self.now -= ns,
            Step::Charge(who, cost) => self.charge(who, cost)?,
            Step::Refund(who, cost) => self.refund(who, cost)?,
        }
        for (who, tat) in &self.model {
            if self.bucket.is_full(*tat, self.now) {
                self.full_again.insert(*who);
            }
        }
        self.agree()
    }

    fn charge(&mut self, who: u32, cost: u32) -> Result<(), TestCaseError> {
        let tat = self.model.get(&who).copied().unwrap_or(FULL);
        let before = self.page.clone();
        let peeked = before.peek(&self.bucket, client(who), self.now, cost);
        let charged = self.page.charge(&self.bucket, client(who), self.now, cost);

        let expected = self.bucket.check(tat, self.now, cost);
        prop_assert_eq!(charged.decision, expected);
        prop_assert_eq!(peeked, expected);
        prop_assert_eq!(charged.changed, self.page != before);

        let others: Vec<u32> = self.live().filter(|other| *other != who).collect();
        let crowded = others.len() == SLOTS_PER_PAGE && expected.is_ok() && cost > 0;
        prop_assert_eq!(charged.evicted.is_some(), crowded);
        if let Some(debt) = charged.evicted {
            let gone: Vec<u32> = others
                .iter()
                .copied()
                .filter(|other| self.stored(*other) == FULL)
                .collect();
            prop_assert_eq!(gone.len(), 1);
            prop_assert_eq!(self.missing(gone[0]), debt.missing_ns);
            for other in others {
                prop_assert!(self.missing(other) >= debt.missing_ns);
            }
            prop_assert_eq!((debt.blocked_ns, debt.denials), (0, 0));
            self.model.remove(&gone[0]);
        }
        self.set(who, expected.map_or_else(|r| r.tat, |a| a.tat));
        Ok(())
    }

    fn refund(&mut self, who: u32, cost: u32) -> Result<(), TestCaseError> {
        let before = self.page.clone();
        let changed = self.page.refund(&self.bucket, client(who), self.now, cost);
        prop_assert_eq!(changed, self.page != before);
        if let Some(tat) = self.model.get(&who) {
            self.set(who, self.bucket.refund(*tat, self.now, cost));
        }
        Ok(())
    }

    fn set(&mut self, who: u32, tat: u64) {
        self.model.insert(who, tat);
        self.full_again.remove(&who);
    }

    /// Whether the page knows of each client what the model does.
    fn agree(&mut self) -> Result<(), TestCaseError> {
        for (who, tat) in self.model.clone() {
            let stored = self.stored(who);
            if stored == FULL && self.full_again.contains(&who) {
                self.model.remove(&who);
            } else {
                prop_assert_eq!(stored, tat);
            }
        }
        Ok(())
    }

    /// The clients whose bucket is not full.
    fn live(&self) -> impl Iterator<Item = u32> {
        let full = |tat| self.bucket.is_full(tat, self.now);
        self.model
            .iter()
            .filter(move |(_, tat)| !full(**tat))
            .map(|(who, _)| *who)
    }

    fn missing(&self, who: u32) -> u64 {
        let capacity = self.bucket.interval_ns().get() * u64::from(self.bucket.burst().get());
        (self.model[&who].saturating_sub(self.now)).min(capacity)
    }

    /// The TAT that the page has of a client.
    fn stored(&self, who: u32) -> u64 {
        let standing = self.page.peek(&self.bucket, client(who), self.now, 0);
        standing.unwrap().tat
    }
}

fn run(bucket: Bucket, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut compared = Compared::new(bucket);
    steps.iter().try_for_each(|step| compared.step(*step))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_page_with_room_is_a_map(burst in 1..20_u32, steps in steps(64, false)) {
        run(bucket(SECOND, burst), &steps)?;
    }

    #[test]
    fn a_page_without_room_forgets_who_is_nearest_to_full(
        burst in 1..20_u32,
        steps in steps(200, true),
    ) {
        run(bucket(20 * SECOND, burst), &steps)?;
    }

    /// In any time t, burst + t / interval, for each of as many clients as there are slots.
    #[test]
    fn no_client_gets_more_than_burst_and_rate(burst in 1..9_u32, steps in steps(64, false)) {
        let (bucket, mut page, mut now) = (bucket(SECOND, burst), RatePage::empty(), START);
        let mut admitted: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Forward(ns) | Step::Back(ns) => now += ns,
                Step::Refund(..) => {}
                Step::Charge(who, cost) => {
                    let charged = page.charge(&bucket, client(who), now, cost);
                    prop_assert_eq!(charged.evicted, None);
                    if charged.decision.is_ok() {
                        admitted.entry(who).or_default().push((now, u64::from(cost)));
                    }
                }
            }
        }
        for requests in admitted.values() {
            for first in 0..requests.len() {
                let mut sum = 0;
                for (at, cost) in &requests[first..] {
                    sum += cost;
                    prop_assert!(sum <= u64::from(burst) + (at - requests[first].0) / SECOND);
                }
            }
        }
    }

    /// Who comes first makes no difference to anybody while the page has room.
    #[test]
    fn clients_do_not_disturb_each_other(
        requests in prop::collection::vec((0..64_u32, 0..4_u32), 0..300),
    ) {
        let bucket = bucket(SECOND, 5);
        let decisions = |requests: &[(u32, u32)]| {
            let mut page = RatePage::empty();
            let mut decisions: BTreeMap<u32, Vec<Result<Admitted, Refused>>> = BTreeMap::new();
            for (who, cost) in requests {
                let charged = page.charge(&bucket, client(*who), START, *cost);
                decisions.entry(*who).or_default().push(charged.decision);
            }
            decisions
        };
        let mut one_by_one = requests.clone();
        one_by_one.sort_by_key(|(who, _)| *who);
        prop_assert_eq!(decisions(&requests), decisions(&one_by_one));
    }

    #[test]
    fn a_refund_at_once_undoes_a_charge(
        steps in steps(64, false),
        who in 0..64_u32,
        cost in 1..10_u32,
    ) {
        let bucket = bucket(10 * SECOND, 9);
        let mut compared = Compared::new(bucket);
        for step in steps {
            compared.step(step)?;
        }
        let (mut page, now) = (compared.page.clone(), compared.now);
        let standings = |page: &RatePage| {
            let standing = |who| page.peek(&bucket, client(who), now, 0).unwrap();
            (0..64).map(|who| (standing(who).remaining, standing(who).next_in_ns)).collect()
        };
        let before: Vec<_> = standings(&page);
        if page.charge(&bucket, client(who), now, cost).decision.is_ok() {
            prop_assert!(page.refund(&bucket, client(who), now, cost));
        }
        prop_assert_eq!(standings(&page), before);
    }

    #[test]
    fn any_bytes_and_any_integers_are_taken(
        body in prop::collection::vec(any::<u8>(), PenaltyPage::BYTES),
        now in prop_oneof![Just(0), any::<u64>(), Just(u64::MAX)],
        cost in any::<u32>(),
    ) {
        let bucket = bucket(SECOND, 5);
        let mut bytes = RatePage::empty().into_bytes();
        bytes[8..].copy_from_slice(&body[8..RatePage::BYTES]);
        let mut page = RatePage::from_bytes(bytes);
        let charged = page.charge(&bucket, client(1), now, cost);
        prop_assert_eq!(charged.decision.is_ok(), cost <= 5);
        prop_assert_eq!(page.refund(&bucket, client(1), now, cost), (1..=5).contains(&cost));
        let _ = LeasePage::from_bytes(body);
    }
}

#[test]
fn tokens_come_back_early_only_after_the_rest_of_the_page_has_used_as_many() {
    let bucket = bucket(1000 * SECOND, 10);
    let mut page = RatePage::empty();
    let used_up = |page: &RatePage| page.peek(&bucket, client(0), START, 1).is_err();
    assert!(page.charge(&bucket, client(0), START, 10).decision.is_ok());
    // New clients in whatever number forget one another, not the one that has used more.
    for who in 1..10_000 {
        let charged = page.charge(&bucket, client(who), START, 9);
        assert!(charged.decision.is_ok());
        assert_eq!(charged.evicted.is_some(), who >= 64);
        assert!(used_up(&page));
    }
    // It takes 63 others that have used as much. The first slot of equals is then given away.
    for who in 10_000..10_063 {
        let evicted = page.charge(&bucket, client(who), START, 10).evicted;
        assert_eq!(evicted.unwrap().missing_ns, 9 * 1000 * SECOND);
        assert!(used_up(&page));
    }
    let evicted = page.charge(&bucket, client(20_000), START, 1).evicted;
    assert_eq!(evicted.unwrap().missing_ns, 10 * 1000 * SECOND);
    assert!(!used_up(&page));
}

#[test]
fn a_denied_request_takes_nobody_s_slot() {
    let bucket = bucket(1000 * SECOND, 10);
    let mut page = RatePage::empty();
    for who in 0..64 {
        assert!(page.charge(&bucket, client(who), START, 1).changed);
    }
    for cost in [0, 11] {
        let charged = page.charge(&bucket, client(64), START, cost);
        assert_eq!((charged.evicted, charged.changed), (None, false));
        assert_eq!(charged.decision.is_ok(), cost == 0);
    }
    assert!(!page.refund(&bucket, client(64), START, 1));
}
