//! One ledger at a time.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::{MS, NO_JITTER, OPENS, SECOND, settings};
use crate::model::Counter;
use crate::{
    Decision, Due, Ledger, Mode, Outage, RateBound, Reply, Settings, Settled, Terms, Window,
};

/// The Envoy whose ledger is looked at.
const SELF: u64 = 1;
const OTHER: u64 = 2;

fn terms(mode: Mode, limit: u64) -> Terms {
    Terms::new(settings(mode, 2, limit))
}

/// An exchange in which nothing gets lost.
fn exchange(ledger: &mut Ledger, store: &mut Counter, terms: &Terms, waiting: u64, now: u64) {
    let request = ledger.begin(terms, waiting, now, SECOND).unwrap();
    let reply = store.exchange(SELF, &request);
    assert_eq!(ledger.settle(terms, reply, now, NO_JITTER), Settled::Done);
}

/// A counter of which another Envoy has used some.
fn used_by_other(used: u64) -> Counter {
    let mut store = Counter::default();
    use_by_other(used, &mut store);
    store
}

fn use_by_other(used: u64, store: &mut Counter) {
    let mut other = Ledger::new(OPENS);
    other.consume(used, OPENS);
    let terms = terms(Mode::Adaptive, u64::MAX);
    store.exchange(OTHER, &other.begin(&terms, 0, OPENS, 1).unwrap());
}

/// A ledger that knows that the quota is spent.
fn spent(limit: u64) -> (Ledger, Counter) {
    let (mut ledger, mut store) = (Ledger::new(OPENS), used_by_other(limit));
    let terms = terms(Mode::Adaptive, limit);
    exchange(&mut ledger, &mut store, &terms, 1, OPENS);
    (ledger, store)
}

#[test]
fn a_new_window_needs_no_question_while_the_limit_is_far() {
    let ledger = Ledger::new(OPENS);
    assert_eq!(
        ledger.decide(&terms(Mode::Adaptive, 200), 1, OPENS),
        Decision::Admit
    );
    // In the first minute, two Envoys may have used 2 · (5 + 10 · 60) and more: this one may be a run
    // that took the place of another.
    let later = OPENS + 60 * SECOND;
    assert_eq!(
        ledger.decide(&terms(Mode::Adaptive, 1_200), 1, later),
        Decision::Ask
    );
    assert_eq!(
        ledger.decide(&terms(Mode::Adaptive, 1_400), 1, later),
        Decision::Admit
    );
    assert_eq!(
        ledger.decide(&terms(Mode::Strict, 1_400), 1, OPENS),
        Decision::Ask
    );
}

#[test]
fn one_envoy_alone_reaches_the_limit_with_one_question() {
    let terms = Terms::new(settings(Mode::Adaptive, 1, 10));
    let (mut ledger, mut store) = (Ledger::new(OPENS), Counter::default());
    exchange(&mut ledger, &mut store, &terms, 0, OPENS);
    for _ in 0..10 {
        assert_eq!(ledger.decide(&terms, 1, OPENS), Decision::Admit);
        ledger.consume(1, OPENS);
    }
    assert_eq!(
        ledger.decide(&terms, 1, OPENS),
        Decision::Refuse { peek: false }
    );
}

/// Also one that is alone, with a limit by which it would not have to ask anybody else.
#[test]
fn an_envoy_that_was_restarted_asks_what_it_has_used() {
    for (rate, limit) in [
        (None, 1_000_000),
        (settings(Mode::Adaptive, 1, 1).rate, 1_000),
    ] {
        let terms = Terms::new(Settings {
            rate,
            ..settings(Mode::Adaptive, 1, limit)
        });
        let (mut ledger, mut store) = (Ledger::new(OPENS), used_by_other(limit));
        let now = OPENS + 3_600 * SECOND;
        assert_eq!(ledger.decide(&terms, 1, now), Decision::Ask);
        exchange(&mut ledger, &mut store, &terms, 1, now);
        assert_eq!(
            ledger.decide(&terms, 1, now),
            Decision::Refuse { peek: false }
        );
        assert!(ledger.is_spent(&terms, 1));
    }
}

#[test]
fn an_exchange_that_failed_is_not_repeated_at_once() {
    let terms = terms(Mode::Strict, 10);
    let mut ledger = Ledger::new(OPENS);
    assert!(ledger.may_ask(OPENS));
    let request = ledger.begin(&terms, 1, OPENS, SECOND).unwrap();
    ledger.fail(&terms, request.seq, OPENS, NO_JITTER);
    assert!(!ledger.may_ask(OPENS + 49 * MS));
    assert!(ledger.may_ask(OPENS + 50 * MS));
    // The clock has stepped back.
    assert!(ledger.may_ask(OPENS - SECOND));
}

#[test]
fn without_a_rate_bound_the_store_is_asked_first() {
    let terms = Terms::new(Settings {
        rate: None,
        ..settings(Mode::Adaptive, 2, 1_000)
    });
    let (mut ledger, mut store) = (Ledger::new(OPENS), Counter::default());
    let now = OPENS + SECOND;
    assert_eq!(ledger.decide(&terms, 1, now), Decision::Ask);
    exchange(&mut ledger, &mut store, &terms, 1, now);
    ledger.consume(1, now);
    assert_eq!(ledger.decide(&terms, 1, now), Decision::Admit);

    // The total has grown by 900 in a second, so as much may be gone in half a one.
    use_by_other(900, &mut store);
    exchange(&mut ledger, &mut store, &terms, 1, now + SECOND);
    ledger.consume(1, now + SECOND);
    assert_eq!(
        ledger.decide(&terms, 2, now + SECOND + SECOND / 2),
        Decision::Ask
    );
}

#[test]
fn a_flood_over_the_limit_costs_the_store_one_question_an_interval() {
    let terms = terms(Mode::Adaptive, 100);
    let (mut ledger, mut store) = spent(100);
    let before = ledger.seq;
    for ms in 0..5_500 {
        let now = OPENS + ms * MS;
        match ledger.decide(&terms, 1, now) {
            Decision::Refuse { peek: true } => exchange(&mut ledger, &mut store, &terms, 0, now),
            decision => assert_eq!(decision, Decision::Refuse { peek: false }),
        }
    }
    assert_eq!(ledger.seq - before, 5);
}

#[test]
fn a_refusal_is_not_held_up_by_a_peek_and_old_ones_are_not_believed() {
    let terms = terms(Mode::Adaptive, 100);
    let (mut ledger, _) = spent(100);
    let now = OPENS + SECOND;
    assert_eq!(
        ledger.decide(&terms, 1, now),
        Decision::Refuse { peek: true }
    );
    ledger.begin(&terms, 0, now, SECOND).unwrap();
    assert_eq!(
        ledger.decide(&terms, 1, now),
        Decision::Refuse { peek: false }
    );
    assert_eq!(
        ledger.decide(&terms, 1, OPENS + 60 * SECOND),
        Decision::Ask,
        "what was said a minute ago"
    );
}

#[test]
fn another_limit_counts_at_once() {
    let (ledger, _) = spent(100);
    let now = OPENS + SECOND / 2;
    let at = |limit| ledger.decide(&terms(Mode::Adaptive, limit), 1, now);
    assert_eq!(at(101), Decision::Ask);
    assert_eq!(at(1_000), Decision::Admit);
    assert_eq!(at(10), Decision::Refuse { peek: false });
    assert_eq!(ledger.remaining(&terms(Mode::Adaptive, 10)), 0);
}

#[test]
fn what_can_never_fit_is_refused_and_leaves_the_rest_to_others() {
    let terms = terms(Mode::Strict, 100);
    let (mut ledger, mut store) = (Ledger::new(OPENS), used_by_other(97));
    exchange(&mut ledger, &mut store, &terms, 5, OPENS);
    assert_eq!(
        ledger.decide(&terms, 5, OPENS),
        Decision::Refuse { peek: false }
    );
    assert_eq!(ledger.decide(&terms, 3, OPENS), Decision::Admit);
    let later = OPENS + 2 * 100 * MS;
    assert_eq!(ledger.next_due(&terms, OPENS), Some((later, Due::Release)));
    exchange(&mut ledger, &mut store, &terms, 0, later);
    assert_eq!(store.total(), 97);
}

#[test]
fn requests_wait_for_the_exchange_that_is_under_way() {
    let terms = terms(Mode::Strict, 100);
    let (mut ledger, mut store) = (Ledger::new(OPENS), Counter::default());
    let request = ledger.begin(&terms, 1, OPENS, SECOND).unwrap();
    assert_eq!(ledger.decide(&terms, 1, OPENS), Decision::Wait);
    assert_eq!(ledger.begin(&terms, 1, OPENS, SECOND), None);
    // Nobody waits for ever, and the reply still counts.
    let late = OPENS + SECOND;
    assert_eq!(ledger.decide(&terms, 1, late), Decision::Ask);
    assert_eq!(ledger.due(&terms, late), Some(Due::Retry));
    let reply = store.exchange(SELF, &request);
    assert_eq!(ledger.settle(&terms, reply, late, 0), Settled::Done);
    assert_eq!(ledger.settle(&terms, reply, late, 0), Settled::Late);
    assert_eq!(ledger.decide(&terms, 1, late), Decision::Admit);
}

#[test]
fn an_overtaken_reply_is_not_believed() {
    let terms = terms(Mode::Strict, 100);
    let (mut ledger, mut store) = (Ledger::new(OPENS), Counter::default());
    let first = ledger.begin(&terms, 50, OPENS, SECOND).unwrap();
    ledger.fail(&terms, first.seq, OPENS, 0);
    let second = ledger.begin(&terms, 10, OPENS, SECOND).unwrap();
    let overtaken = store.exchange(SELF, &first);
    assert_eq!(ledger.settle(&terms, overtaken, OPENS, 0), Settled::Late);
    assert_eq!(ledger.decide(&terms, 1, OPENS), Decision::Wait);
    let reply = store.exchange(SELF, &second);
    assert_eq!(ledger.settle(&terms, reply, OPENS, 0), Settled::Done);
    assert_eq!(ledger.decide(&terms, 10, OPENS), Decision::Admit);
    assert_eq!(ledger.decide(&terms, 11, OPENS), Decision::Ask);
}

#[test]
fn a_failed_report_is_told_again_after_a_while() {
    let terms = terms(Mode::Adaptive, 500);
    let mut ledger = Ledger::new(OPENS);
    ledger.consume(3, OPENS);
    let due = OPENS + 100 * MS;
    assert_eq!(ledger.next_due(&terms, OPENS), Some((due, Due::Report)));
    assert!(!ledger.is_settled());
    let request = ledger.begin(&terms, 0, due, SECOND).unwrap();
    ledger.fail(&terms, request.seq, due, NO_JITTER);
    let again = due + 100 * MS;
    assert_eq!(ledger.next_due(&terms, due), Some((again, Due::Retry)));
    exchange(&mut ledger, &mut Counter::default(), &terms, 0, again);
    assert_eq!(ledger.next_due(&terms, again), None);
    assert_eq!(ledger.booked(), 3);
    assert!(ledger.is_settled());
}

#[test]
fn who_can_not_report_uses_no_more_that_is_not_granted() {
    let terms = terms(Mode::Adaptive, 1_000_000);
    let mut ledger = Ledger::new(OPENS);
    ledger.consume(1, OPENS);
    let horizon = OPENS + terms.horizon_ns();
    assert_eq!(ledger.decide(&terms, 1, horizon), Decision::Admit);
    assert_eq!(ledger.decide(&terms, 1, horizon + 1), Decision::Ask);
}

#[test]
fn usage_of_quiet_consumers_is_told_later_if_the_limit_is_very_far() {
    let terms = Terms::new(Settings {
        // In a day, 864,000 are let through by each of two Envoys.
        limit: 1_000_000,
        ..settings(Mode::Adaptive, 2, 0)
    });
    let mut ledger = Ledger::new(OPENS);
    ledger.consume(1, OPENS);
    let (at, _) = ledger.next_due(&terms, OPENS).unwrap();
    assert_eq!((at - OPENS) / SECOND, 30);
    ledger.total = 999_000;
    let (at, _) = ledger.next_due(&terms, OPENS).unwrap();
    assert_eq!((at - OPENS) / SECOND, 6);
    ledger.total = 1_000_000;
    let (at, _) = ledger.next_due(&terms, OPENS).unwrap();
    assert_eq!((at - OPENS) / MS, 100);

    ledger.total = 0;
    ledger.consume(4, OPENS);
    let (at, _) = ledger.next_due(&terms, OPENS).unwrap();
    assert_eq!((at - OPENS) / MS, 100, "it is not quiet");
}

#[test]
fn leases_follow_what_is_used_and_shrink_towards_the_end() {
    let terms = Terms::new(Settings {
        rate: Some(RateBound::per_second(10_000)),
        ..settings(Mode::Strict, 2, 10_000)
    });
    let (mut ledger, mut store) = (Ledger::new(OPENS), Counter::default());
    let mut now = OPENS;
    exchange(&mut ledger, &mut store, &terms, 1, now);
    let mut leases = Vec::new();
    while store.total() < 10_000 {
        // 100 in 10 ms, if there are that many.
        let lease = ledger.upto - ledger.consumed;
        ledger.consume(lease.min(100), now);
        now += 10 * MS;
        if ledger.due(&terms, now) == Some(Due::Refill) || lease == 0 {
            exchange(&mut ledger, &mut store, &terms, 1, now);
            leases.push(ledger.upto - ledger.consumed);
        }
    }
    assert!(leases.iter().max().unwrap() > &500, "{leases:?}");
    assert!(leases.ends_with(&[1]), "{leases:?}");
}

#[test]
fn what_is_known_from_the_future_is_not_known() {
    let terms = terms(Mode::Adaptive, 1_000);
    let (mut ledger, mut store) = (Ledger::new(OPENS), Counter::default());
    let (ahead, now) = (OPENS + 3_600 * SECOND, OPENS + SECOND);
    exchange(&mut ledger, &mut store, &terms, 0, ahead);
    ledger.consume(1, ahead);
    assert_eq!(ledger.age_of_knowledge(now), None);
    assert_eq!(ledger.decide(&terms, 1, now), Decision::Ask);
    assert_eq!(ledger.due(&terms, now), Some(Due::Report));
    // A request from then is nobody's any more.
    ledger.begin(&terms, 1, ahead, SECOND).unwrap();
    assert_eq!(ledger.decide(&terms, 1, now), Decision::Ask);
    exchange(&mut ledger, &mut store, &terms, 1, now);
    assert_eq!(ledger.decide(&terms, 1, now), Decision::Admit);
}

#[test]
fn a_store_that_has_lost_its_data_is_told_again_and_grants_nothing_twice() {
    let terms = terms(Mode::Strict, 100);
    let (mut ledger, mut store) = (Ledger::new(OPENS), used_by_other(90));
    exchange(&mut ledger, &mut store, &terms, 6, OPENS);
    ledger.consume(6, OPENS);

    let mut empty = Counter::default();
    let request = ledger.begin(&terms, 4, OPENS, SECOND).unwrap();
    let reply = empty.exchange(SELF, &request);
    assert_eq!(ledger.settle(&terms, reply, OPENS, 0), Settled::WentBack);
    assert!(empty.upto(SELF) >= 6 + 4, "used and wanted");
    assert_eq!(ledger.remaining(&terms), 4);
    exchange(&mut ledger, &mut empty, &terms, 50, OPENS);
    assert_eq!(ledger.decide(&terms, 4, OPENS), Decision::Admit);
    assert_eq!(
        ledger.decide(&terms, 5, OPENS),
        Decision::Refuse { peek: false }
    );
}

#[test]
fn what_a_lost_ledger_had_booked_is_taken_over() {
    let terms = terms(Mode::Strict, 100);
    let (mut lost, mut store) = (Ledger::new(OPENS), Counter::default());
    exchange(&mut lost, &mut store, &terms, 10, OPENS);
    lost.consume(10, OPENS);
    exchange(&mut lost, &mut store, &terms, 10, OPENS);

    let mut ledger = Ledger::new(OPENS);
    let request = ledger.begin(&terms, 5, OPENS, SECOND).unwrap();
    let reply = store.exchange(SELF, &request);
    assert_eq!(ledger.settle(&terms, reply, OPENS, 0), Settled::Forgotten);
    assert_eq!(ledger.consumed(), store.upto(SELF));
    assert_eq!(ledger.decide(&terms, 1, OPENS), Decision::Ask);
    exchange(&mut ledger, &mut store, &terms, 1, OPENS);
    assert_eq!(ledger.decide(&terms, 1, OPENS), Decision::Admit);
}

#[test]
fn a_store_that_grants_more_than_was_asked_for_is_not_believed() {
    let terms = terms(Mode::Strict, 100);
    let mut ledger = Ledger::new(OPENS);
    let seq = ledger.begin(&terms, 3, OPENS, SECOND).unwrap().seq;
    let reply = Reply {
        seq,
        previous: 0,
        upto: u64::MAX,
        total: 0,
    };
    ledger.settle(&terms, reply, OPENS, 0);
    assert_eq!(ledger.decide(&terms, 3, OPENS), Decision::Admit);
    assert_eq!(ledger.decide(&terms, 4, OPENS), Decision::Ask);
}

#[test]
fn units_given_back_are_nobodys_usage() {
    let terms = terms(Mode::Adaptive, 1_000);
    let mut ledger = Ledger::new(OPENS);
    ledger.consume(3, OPENS);
    ledger.give_back(3);
    assert_eq!(ledger.next_due(&terms, OPENS), None);
    assert_eq!((ledger.consumed(), ledger.unreported()), (0, 0));
    ledger.give_back(1);
    assert_eq!(ledger.consumed(), 0);
}

#[test]
fn alone_an_envoy_does_what_the_policy_says() {
    let terms = terms(Mode::Strict, 100);
    let window = Window {
        opens: OPENS,
        closes: OPENS + 100 * SECOND,
    };
    let half = OPENS + 50 * SECOND;
    let mut ledger = Ledger::new(OPENS);
    // A hundred in a hundred seconds for two Envoys: 25 in half the time, 20 of which are given.
    ledger.consume(19, OPENS);
    let decides =
        |ledger: &Ledger, outage, cost| ledger.decides_alone(outage, &terms, cost, window, half);
    assert!(decides(&ledger, Outage::Allow, 81));
    assert!(!decides(&ledger, Outage::Deny, 1));
    assert!(decides(&ledger, Outage::Safe { percent: 80 }, 1));
    assert!(!decides(&ledger, Outage::Safe { percent: 80 }, 2));
    assert!(decides(&ledger, Outage::Safe { percent: 255 }, 6));
    assert!(!decides(&ledger, Outage::Allow, 82), "known to be spent");

    exchange(&mut ledger, &mut Counter::default(), &terms, 2, OPENS);
    assert!(decides(&ledger, Outage::Deny, 2), "granted before");
}

#[test]
fn what_the_store_does_not_take_back_is_kept_until_it_is_used() {
    let terms = Terms::new(Settings {
        takes_back: false,
        ..settings(Mode::Strict, 3, 100)
    });
    let mut ledger = Ledger::new(OPENS);
    let request = ledger.begin(&terms, 5, OPENS, SECOND).unwrap();
    let reply = Reply {
        seq: request.seq,
        previous: 0,
        upto: 5,
        total: 5,
    };
    ledger.settle(&terms, reply, OPENS, 0);
    ledger.consume(1, OPENS);
    let later = OPENS + 60 * SECOND;
    assert_eq!(ledger.due(&terms, later), None);
    let request = ledger.begin(&terms, 0, later, SECOND).unwrap();
    assert_eq!((request.consumed, request.want), (1, 4));
    assert_eq!(ledger.decide(&terms, 4, later), Decision::Admit);
}
