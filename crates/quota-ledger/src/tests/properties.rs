//! What holds whatever happens.

use proptest::prelude::*;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::settings;
use super::world::{Event, World, events, events_with};
use crate::{LEDGER_SIZE, Ledger, Mode, Outage, Reply, Settings, Terms, Window};

const CRASH: Event = Event::Crash { envoy: 0 };

fn unthrottled(mode: Mode, envoys: u32, limit: u64) -> Settings {
    Settings {
        rate: None,
        ..settings(mode, envoys, limit)
    }
}

/// Lets one Envoy ask for all that is left, and answers what was left.
fn drain(world: &mut World, envoy: usize) -> u64 {
    let before = world.admitted;
    for _ in 0..5 {
        world.flush();
        // Until the throttle is full again, and what is known is to be looked at anew.
        world.pass(2_000_000_000);
        while world.serve(envoy, 1) {
            world.pass(1_000_000_000);
        }
    }
    world.flush();
    world.admitted - before
}

proptest! {
    #[test]
    fn strict_never_admits_over_the_limit(
        envoys in 1_u32..5,
        limit in 0_u64..150,
        events in events_with(vec![CRASH]),
    ) {
        let mut world = World::new(unthrottled(Mode::Strict, envoys, limit), false);
        for event in events {
            world.happen(event);
            prop_assert!(world.admitted <= limit);
            prop_assert!(world.store.total() <= limit);
            for envoy in &world.envoys {
                prop_assert!(envoy.ledger.consumed() <= world.store.upto(envoy.id));
            }
        }
    }

    #[test]
    fn adaptive_never_admits_over_the_limit_if_usage_is_booked_in_time(
        envoys in 1_u32..5,
        limit in 0_u64..400,
        events in events(),
    ) {
        let mut world = World::new(settings(Mode::Adaptive, envoys, limit), true);
        for event in events {
            world.happen(event);
            prop_assert!(world.admitted <= limit, "{} of {limit}", world.admitted);
        }
    }

    #[test]
    fn each_crash_and_each_envoy_cut_off_costs_no_more_than_what_it_had_not_told(
        envoys in 1_u32..5,
        limit in 0_u64..400,
        events in events_with(vec![CRASH]),
    ) {
        let settings = settings(Mode::Adaptive, envoys, limit);
        let mut world = World::new(settings, false);
        let rate = settings.rate.unwrap();
        let each = rate.units_in(world.terms.horizon_ns() + settings.skew_ns);
        for event in events {
            world.happen(event);
            let silent = u64::from(envoys) + world.crashes;
            prop_assert!(world.admitted <= limit + silent * each);
            prop_assert!(world.untold <= world.crashes * each);
        }
    }

    #[test]
    fn what_is_booked_in_the_end_is_what_was_admitted(
        strict: bool,
        throttled: bool,
        envoys in 1_u32..5,
        limit in 0_u64..400,
        events in events_with(vec![CRASH, Event::Save, Event::Restore]),
    ) {
        let mode = if strict { Mode::Strict } else { Mode::Adaptive };
        let mut settings = settings(mode, envoys, limit);
        settings.rate = settings.rate.filter(|_| throttled);
        let mut world = World::new(settings, false);
        let loses_data = events.iter().any(|event| matches!(event, Event::Restore));
        for event in events {
            world.happen(event);
        }
        world.flush();
        if !loses_data {
            prop_assert_eq!(world.booked(), world.consumed());
            prop_assert!(world.store.total() >= world.admitted - world.untold);
        } else {
            // Who has nothing to say has not heard of the loss yet.
            for envoy in 0..envoys {
                world.settle(envoy as usize);
            }
            world.flush();
            prop_assert_eq!(world.booked(), world.consumed());
        }
        if world.crashes == 0 {
            prop_assert_eq!(world.store.total(), world.consumed());
        }
    }

    #[test]
    fn whoever_has_demand_gets_all_that_is_left(
        strict: bool,
        envoys in 1_u32..5,
        limit in 0_u64..200,
        events in events(),
        last in 0_usize..4,
    ) {
        let mode = if strict { Mode::Strict } else { Mode::Adaptive };
        let mut world = World::new(settings(mode, envoys, limit), true);
        for event in events {
            world.happen(event);
        }
        drain(&mut world, last % envoys as usize);
        prop_assert_eq!(world.admitted, limit);
        prop_assert_eq!(world.store.total(), limit);
    }

    #[test]
    fn any_bytes_are_a_ledger_that_does_not_panic(
        words in prop::array::uniform19(prop_oneof![
            any::<u64>(), Just(0), Just(u64::MAX), 0_u64..100
        ]),
        settings in any_settings(),
        reply in any::<[u64; 4]>(),
        (now, cost, deadline, jitter) in any::<(u64, u64, u64, u32)>(),
        window in any::<[u64; 2]>(),
        percent: u8,
    ) {
        let mut bytes = [0; LEDGER_SIZE];
        for (chunk, word) in bytes.chunks_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let mut ledger = Ledger::from_bytes(&bytes);
        prop_assert_eq!(ledger.to_bytes(), bytes);
        let terms = Terms::new(settings);
        let [opens, closes] = window;
        let window = Window { opens, closes };
        ledger.decide(&terms, cost, now);
        ledger.decides_alone(Outage::Safe { percent }, &terms, cost, window, now);
        ledger.consume(cost, now);
        ledger.next_due(&terms, now);
        ledger.begin(&terms, cost, now, deadline);
        let [seq, previous, upto, total] = reply;
        let reply = Reply { seq, previous, upto, total };
        ledger.settle(&terms, reply, now, jitter);
        let seq = ledger.seq;
        ledger.settle(&terms, Reply { seq, ..reply }, now, jitter);
        ledger.fail(&terms, seq, now, jitter);
        ledger.give_back(cost);
        ledger.due(&terms, now);
        ledger.remaining(&terms);
    }
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let integers = any::<[u64; 8]>();
    (integers, any::<[bool; 2]>(), 1_u32..).prop_map(|(integers, [strict, bounded], envoys)| {
        let [
            limit,
            burst,
            units,
            period_ns,
            interval,
            stale_ns,
            skew_ns,
            peek,
        ] = integers;
        Settings {
            limit,
            mode: if strict { Mode::Strict } else { Mode::Adaptive },
            envoys: envoys.try_into().unwrap(),
            rate: bounded.then_some(crate::RateBound {
                burst,
                units,
                period_ns,
            }),
            report_interval_ns: interval,
            stale_ns,
            skew_ns,
            peek_interval_ns: peek,
            takes_back: true,
        }
    })
}
