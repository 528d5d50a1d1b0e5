//! Penalty pages against a slow model of each client by itself, and what must hold when the clock
//! steps and when a page is full of clients.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tollgate_gcra::{Admitted, FULL};
use tollgate_rate_table::{Denied, PenaltyBucket, PenaltyPage};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::{SECOND, START, bucket, client, count, nanos};

fn limits() -> impl Strategy<Value = PenaltyBucket> {
    let seconds = || (1..30 * SECOND).prop_map(nanos);
    (1..5_u32, 1..6_u32, seconds(), seconds()).prop_map(
        |(burst, after, within_ns, block_for_ns)| PenaltyBucket {
            bucket: bucket(SECOND, burst),
            after: count(after),
            within_ns,
            block_for_ns,
        },
    )
}

/// Requests of some client each, and how long before each.
fn requests(clients: u32, most: usize) -> impl Strategy<Value = Vec<(u32, u64)>> {
    let pause = prop_oneof![
        8 => 0..SECOND / 4,
        2 => 0..5 * SECOND,
        1 => 0..60 * SECOND,
    ];
    prop::collection::vec((0..clients, pause), 0..most)
}

/// A client that remembers every denial.
struct Model {
    tat: u64,
    denials: Vec<u64>,
    blocked_until: u64,
}

impl Model {
    fn new() -> Self {
        Model {
            tat: FULL,
            denials: Vec::new(),
            blocked_until: 0,
        }
    }

    fn charge(&mut self, limit: &PenaltyBucket, now: u64) -> Result<Admitted, Denied> {
        if now < self.blocked_until {
            let remaining_ns = self.blocked_until - now;
            return Err(Denied::Blocked { remaining_ns });
        }
        let refused = match limit.bucket.check(self.tat, now, 1) {
            Ok(admitted) => {
                self.tat = admitted.tat;
                return Ok(admitted);
            }
            Err(refused) => refused,
        };
        // Those within `within` of the first count, and the first that does not begins anew.
        if self
            .denials
            .first()
            .is_some_and(|first| now - first >= limit.within_ns.get())
        {
            self.denials.clear();
        }
        self.denials.push(now);
        if self.denials.len() < limit.after.get() as usize {
            return Err(Denied::Refused(refused));
        }
        self.denials.clear();
        let remaining_ns = limit.block_for_ns.get();
        self.blocked_until = now + remaining_ns;
        Err(Denied::Penalized { remaining_ns })
    }
}

/// The remaining time of a block that a decision reports.
fn block(decision: Result<Admitted, Denied>) -> Option<u64> {
    match decision {
        Err(Denied::Penalized { remaining_ns } | Denied::Blocked { remaining_ns }) => {
            Some(remaining_ns)
        }
        Ok(_) | Err(Denied::Refused(_)) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_page_with_room_knows_each_client(limit in limits(), requests in requests(8, 300)) {
        let (mut page, mut now) = (PenaltyPage::empty(), START);
        let mut models: BTreeMap<u32, Model> = BTreeMap::new();
        for (who, pause) in requests {
            now += pause;
            let before = page.clone();
            let charged = page.charge(&limit, client(who), now, 1);
            let model = models.entry(who).or_insert_with(Model::new);
            prop_assert_eq!(charged.decision, model.charge(&limit, now));
            prop_assert_eq!(before.peek(&limit, client(who), now, 1), charged.decision);
            prop_assert_eq!(charged.evicted, None);
            prop_assert_eq!(charged.changed, page != before);
            if matches!(charged.decision, Err(Denied::Blocked { .. })) {
                prop_assert_eq!(page, before.clone());
                page = before;
            }
        }
    }

    /// Whatever the clock does, a block lasts no longer from now than a block lasts, and a client
    /// that waits as told is no longer blocked.
    #[test]
    fn a_block_ends(
        limit in limits(),
        requests in prop::collection::vec((0..SECOND, 0..3600 * SECOND, 0..8_u32), 0..300),
    ) {
        let (mut page, mut now) = (PenaltyPage::empty(), START);
        for (pause, step, kind) in requests {
            now = match kind {
                0 => now - step,
                1 => now + step,
                _ => now + pause,
            };
            let charged = page.charge(&limit, client(1), now, 1);
            if let Some(remaining_ns) = block(charged.decision) {
                prop_assert!(remaining_ns <= limit.block_for_ns.get());
                let later = page.peek(&limit, client(1), now + remaining_ns, 0);
                prop_assert!(later.is_ok());
            }
        }
    }

    #[test]
    fn a_blocked_client_is_forgotten_after_all_others(requests in requests(150, 100)) {
        let limit = PenaltyBucket {
            bucket: bucket(60 * SECOND, 1),
            after: count(1),
            within_ns: nanos(SECOND),
            block_for_ns: nanos(900 * SECOND),
        };
        let (mut page, mut now) = (PenaltyPage::empty(), START);
        // Nearly as many clients are blocked as there are slots, so that the others crowd the rest.
        for who in 150..210 {
            for _ in 0..2 {
                let _ = page.charge(&limit, client(who), now, 1);
            }
        }
        for (who, pause) in requests {
            now += pause / 100;
            let remaining = |page: &PenaltyPage, who| block(page.peek(&limit, client(who), now, 0));
            let before = page.clone();
            let charged = page.charge(&limit, client(who), now, 1);
            let Some(debt) = charged.evicted else {
                continue;
            };
            let freed = (0..210).find(|who| {
                remaining(&before, *who).is_some() && remaining(&page, *who).is_none()
            });
            prop_assert_eq!(freed.is_some(), debt.blocked_ns > 0);
            if freed.is_some() {
                // Then all 64 were blocked, none of them for less.
                let blocks = (0..210).filter_map(|who| remaining(&before, who));
                prop_assert_eq!(blocks.clone().count(), 64);
                prop_assert_eq!(blocks.min(), Some(debt.blocked_ns));
            }
        }
    }

    #[test]
    fn any_bytes_and_any_integers_are_taken(
        limit in limits(),
        body in prop::collection::vec(any::<u8>(), PenaltyPage::BYTES),
        mine in prop::array::uniform32(any::<u8>()),
        now in prop_oneof![Just(0), any::<u64>(), Just(u64::MAX)],
        cost in any::<u32>(),
    ) {
        // A slot of the client's own is among those made up.
        let mut page = PenaltyPage::empty();
        let _ = page.charge(&limit, client(1), START, 1);
        let mut bytes = page.into_bytes();
        bytes[16..48].copy_from_slice(&mine);
        bytes[48..].copy_from_slice(&body[48..]);
        let mut page = PenaltyPage::from_bytes(bytes);
        for who in 0..3 {
            let decision = page.charge(&limit, client(who), now, cost).decision;
            prop_assert!(block(decision).is_none_or(|ns| ns <= limit.block_for_ns.get()));
            let _ = page.refund(&limit, client(who), now, cost);
        }
    }
}

/// One request a second, blocked for a minute after three denials within ten seconds.
fn strict() -> PenaltyBucket {
    PenaltyBucket {
        bucket: bucket(SECOND, 1),
        after: count(3),
        within_ns: nanos(10 * SECOND),
        block_for_ns: nanos(60 * SECOND),
    }
}

/// A page on which the client 1 has been blocked at `START`.
fn with_a_blocked_client() -> PenaltyPage {
    let mut page = PenaltyPage::empty();
    let mut charge = || page.charge(&strict(), client(1), START, 1).decision;
    assert!(charge().is_ok());
    for _ in 0..2 {
        assert!(matches!(charge(), Err(Denied::Refused(_))));
    }
    let remaining_ns = 60 * SECOND;
    assert_eq!(charge(), Err(Denied::Penalized { remaining_ns }));
    assert_eq!(charge(), Err(Denied::Blocked { remaining_ns }));
    page
}

#[test]
fn denials_block_a_client_for_a_while_and_no_other() {
    let mut page = with_a_blocked_client();
    let mut charge = |who, now| page.charge(&strict(), client(who), now, 1).decision;
    assert!(charge(2, START).is_ok());
    let last = START + 60 * SECOND - 1;
    assert_eq!(charge(1, last), Err(Denied::Blocked { remaining_ns: 1 }));
    assert!(charge(1, last + 1).is_ok());
    // The count of denials begins anew.
    assert!(matches!(charge(1, last + 1), Err(Denied::Refused(_))));
}

#[test]
fn denials_too_far_apart_do_not_add_up() {
    let mut page = PenaltyPage::empty();
    let mut now = START;
    assert!(page.charge(&strict(), client(1), now, 1).decision.is_ok());
    for _ in 0..10 {
        for _ in 0..2 {
            // More than a full bucket holds.
            let decision = page.charge(&strict(), client(1), now, 2).decision;
            assert!(matches!(decision, Err(Denied::Refused(_))));
        }
        now += 10 * SECOND;
    }
}

#[test]
fn a_clock_that_steps_back_does_not_lengthen_a_block() {
    let mut page = with_a_blocked_client();
    let earlier = START - 3600 * SECOND;
    let charged = page.charge(&strict(), client(1), earlier, 1);
    let remaining_ns = 60 * SECOND;
    assert_eq!(charged.decision, Err(Denied::Blocked { remaining_ns }));
    assert!(charged.changed);
    assert!(
        page.charge(&strict(), client(1), earlier + remaining_ns, 1)
            .decision
            .is_ok()
    );
}

#[test]
fn a_clock_that_steps_back_does_not_make_denials_count_longer() {
    let mut page = PenaltyPage::empty();
    let mut charge = |now, cost| page.charge(&strict(), client(1), now, cost).decision;
    let earlier = START - 3600 * SECOND;
    for now in [START, earlier, earlier + 10 * SECOND, earlier + 10 * SECOND] {
        assert!(matches!(charge(now, 2), Err(Denied::Refused(_))));
    }
    let penalized = charge(earlier + 10 * SECOND, 2);
    assert!(matches!(penalized, Err(Denied::Penalized { .. })));
}

#[test]
fn a_block_that_was_over_stays_over_when_the_clock_steps_back() {
    let mut page = with_a_blocked_client();
    let later = START + 3600 * SECOND;
    assert!(page.charge(&strict(), client(1), later, 1).decision.is_ok());
    assert!(
        page.charge(&strict(), client(1), START + 1, 0)
            .decision
            .is_ok()
    );
}

#[test]
fn a_refund_gives_tokens_back_and_leaves_denials() {
    let mut page = PenaltyPage::empty();
    for _ in 0..3 {
        let _ = page.charge(&strict(), client(1), START, 1);
    }
    assert!(page.refund(&strict(), client(1), START, 1));
    assert!(page.charge(&strict(), client(1), START, 1).decision.is_ok());
    let decision = page.charge(&strict(), client(1), START, 1).decision;
    assert!(matches!(decision, Err(Denied::Penalized { .. })));
}

#[test]
fn blocked_clients_crowd_out_nobody() {
    let mut page = PenaltyPage::empty();
    let limit = PenaltyBucket {
        after: count(1),
        ..strict()
    };
    for who in 0..64 {
        for _ in 0..2 {
            let _ = page.charge(&limit, client(who), START + u64::from(who), 1);
        }
    }
    let charged = page.charge(&limit, client(64), START + 100, 1);
    assert!(charged.decision.is_ok());
    // The block that would have ended first.
    assert_eq!(charged.evicted.unwrap().blocked_ns, 60 * SECOND - 100);
    let blocked = (0..64).filter(|who| page.peek(&limit, client(*who), START + 100, 0).is_err());
    assert_eq!(blocked.count(), 63);
}

#[test]
fn a_denied_request_takes_nobody_s_slot() {
    let mut page = PenaltyPage::empty();
    for who in 0..64 {
        assert!(page.charge(&strict(), client(who), START, 1).changed);
    }
    // More than a full bucket holds: a denial that would be remembered if there were room.
    let charged = page.charge(&strict(), client(64), START, 2);
    assert!(matches!(charged.decision, Err(Denied::Refused(_))));
    assert_eq!((charged.evicted, charged.changed), (None, false));
}
