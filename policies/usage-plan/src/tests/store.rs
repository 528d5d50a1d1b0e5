//! Quotas that a store keeps.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]

mod model;

use std::time::Duration;

use tollgate_core::time::Timestamp;
use tollgate_testkit::{Clock, Process, Sent, Submitted};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use model::{Envoy, Mood, Webdis};

use super::*;

fn clock() -> Clock {
    Clock::at(Timestamp::from_seconds(1_795_176_000))
}

fn shared(plan: Value, store: Value) -> Value {
    let mut section = json!({
        "redis_http": { "cluster": "webdis", "url": "http://webdis:7379/", "dialect": "webdis" },
        "envoys": 3,
    });
    let fields = section.as_object_mut().unwrap();
    fields.extend(store.as_object().unwrap().clone());
    config(plan, json!({ "store": section }))
}

/// Sends a request and lets it wait for the store as long as need be.
fn call_through(envoy: &Envoy, worker: usize, store: &Webdis) -> Reply {
    let mut submitted = envoy.workers[worker].submit(acme("/v1/accounts"));
    for _ in 0..50 {
        match submitted {
            Submitted::Answered(reply, _) => return reply,
            Submitted::Waiting(paused) => {
                envoy.tick(store, Mood::Answers);
                submitted = envoy.workers[worker].resume(paused);
            }
        }
    }
    panic!("the request waits for ever");
}

/// Sends a request while the store refuses, and gives how often it was looked at while it waited.
fn call_in_vain(envoy: &Envoy, store: &Webdis, clock: &Clock) -> (Reply, usize) {
    let mut submitted = envoy.workers[0].submit(acme("/v1/accounts"));
    let mut looks = 0;
    loop {
        match submitted {
            Submitted::Answered(reply, _) => return (reply, looks),
            Submitted::Waiting(paused) => {
                looks += 1;
                envoy.tick(store, Mood::Refuses);
                clock.advance(Duration::from_millis(100));
                submitted = envoy.workers[0].resume(paused);
            }
        }
    }
}

#[test]
fn several_envoys_share_a_strict_quota_to_the_last_request() {
    let (clock, store) = (clock(), Webdis::default());
    let config = shared(
        json!({ "quota": { "limit": 50, "period": "month" } }),
        json!({ "strict": true }),
    );
    let envoys: Vec<Envoy> = (0..3).map(|_| Envoy::start(&clock, 2, &config)).collect();
    let mut admitted = 0;
    for round in 0..90 {
        clock.advance(Duration::from_millis(40));
        let reply = call_through(&envoys[round % 3], round / 3 % 2, &store);
        admitted += u64::from(reply.status == 200);
    }
    // What an Envoy has left it gives back when it does not need it.
    for _ in 0..200 {
        clock.advance(Duration::from_millis(250));
        for envoy in &envoys {
            envoy.tick(&store, Mood::Answers);
        }
        let reply = call_through(&envoys[0], 0, &store);
        admitted += u64::from(reply.status == 200);
    }
    assert_eq!(admitted, 50);
    assert_eq!(store.total(), 50);
    let keys = store.keys();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].starts_with("tollgate:{") && keys[0].ends_with("}:month:2026-11-01"));
}

#[test]
fn far_from_the_limit_nobody_waits_and_all_is_booked_later() {
    let (clock, store) = (clock(), Webdis::default());
    let plan = json!({
        "throttle": { "rate": "10/s", "burst": 20 },
        "quota": { "limit": 100_000_000, "period": "month" },
    });
    let envoy = Envoy::start(&clock, 2, &shared(plan, json!({})));
    envoy.tick(&store, Mood::Answers);
    // At first, half a month may have been used up by others.
    assert_eq!(call_through(&envoy, 0, &store).status, 200);
    for request in 0..30 {
        clock.advance(Duration::from_millis(100));
        let reply = envoy.workers[request % 2].send(acme("/v1/accounts"));
        assert_eq!(reply.status, 200);
    }
    let calls = store.calls.get();
    for _ in 0..200 {
        clock.advance(Duration::from_millis(250));
        envoy.tick(&store, Mood::Answers);
    }
    assert_eq!(store.total(), 31);
    assert!(store.calls.get() - calls <= 3, "{}", store.calls.get());
    let reply = call(&envoy.workers[0]);
    assert_eq!(
        reply
            .header("ratelimit")
            .map(|field| field.contains("\"month\";r=99999968")),
        Some(true),
        "{reply:?}"
    );
}

#[test]
fn a_spent_quota_is_refused_without_asking_and_looked_at_now_and_then() {
    let (clock, store) = (clock(), Webdis::default());
    let config = shared(
        json!({ "quota": { "limit": 5, "period": "month" } }),
        json!({ "strict": true }),
    );
    let one = Envoy::start(&clock, 1, &config);
    let other = Envoy::start(&clock, 1, &config);
    let statuses: Vec<u16> = (0..7)
        .map(|_| call_through(&one, 0, &store).status)
        .collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    let refused = call_through(&other, 0, &store);
    assert_eq!(
        (refused.status, refused.kind()),
        (429, "quota-exceeded".to_owned())
    );
    assert_eq!(refused.header("retry-after"), Some("907200"));
    let calls = store.calls.get();
    for _ in 0..1000 {
        assert_eq!(other.workers[0].send(acme("/v1/accounts")).status, 429);
        other.tick(&store, Mood::Answers);
    }
    assert_eq!(store.calls.get(), calls);
    clock.advance(Duration::from_secs(5));
    for _ in 0..100 {
        assert_eq!(other.workers[0].send(acme("/v1/accounts")).status, 429);
        other.tick(&store, Mood::Answers);
    }
    assert_eq!(store.calls.get(), calls + 1);
    // The plan grows, and that is seen when it is loaded.
    let larger = shared(
        json!({ "quota": { "limit": 6, "period": "month" } }),
        json!({ "strict": true }),
    );
    let host = other.workers.into_iter().next().unwrap().host;
    let other = Envoy {
        workers: vec![Plugin::on(host, &larger).unwrap()],
    };
    assert_eq!(call_through(&other, 0, &store).status, 200);
    assert_eq!(call_through(&other, 0, &store).status, 429);
}

#[test]
fn answers_that_are_lost_cost_nothing() {
    let (clock, store) = (clock(), Webdis::default());
    let config = shared(
        json!({ "quota": { "limit": 20, "period": "month" } }),
        json!({ "strict": true }),
    );
    let envoy = Envoy::start(&clock, 1, &config);
    assert_eq!(call_through(&envoy, 0, &store).status, 200);
    // The store grants, and nobody hears of it.
    let mut admitted = 1;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        match envoy.workers[0].submit(acme("/v1/accounts")) {
            Submitted::Answered(reply, _) => admitted += u64::from(reply.status == 200),
            Submitted::Waiting(paused) => waiting.push(paused),
        }
        envoy.tick(&store, Mood::Mute);
        clock.advance(Duration::from_millis(500));
    }
    for paused in waiting {
        envoy.workers[0].abandon(paused);
    }
    clock.advance(Duration::from_secs(5));
    for _ in 0..60 {
        clock.advance(Duration::from_millis(300));
        admitted += u64::from(call_through(&envoy, 0, &store).status == 200);
    }
    assert_eq!(admitted, 20);
    assert_eq!(store.total(), 20);
}

#[test]
fn a_store_that_does_not_answer_costs_time_only_until_the_breaker_opens() {
    let (clock, store) = (clock(), Webdis::default());
    let config = shared(
        json!({ "quota": { "limit": 1000, "period": "month" } }),
        json!({ "on_store_failure": "allow" }),
    );
    let envoy = Envoy::start(&clock, 1, &config);
    let mut waited = 0;
    for _ in 0..40 {
        let (reply, looks) = call_in_vain(&envoy, &store, &clock);
        waited += looks;
        assert_eq!(reply.status, 200);
    }
    assert!(waited < 20, "{waited}");
    assert_eq!(store.total(), 0);
    // Then all of it is booked.
    for _ in 0..100 {
        clock.advance(Duration::from_secs(1));
        envoy.tick(&store, Mood::Answers);
    }
    assert_eq!(store.total(), 40);
}

/// A store that does not answer is tried with one call, which has no room for all of these.
#[test]
fn usage_of_many_consumers_outlasts_an_outage() {
    const CONSUMERS: u64 = 250;
    let (clock, store) = (clock(), Webdis::default());
    let mut config = shared(
        json!({ "quota": { "limit": 1_000, "period": "year" } }),
        json!({ "on_store_failure": "allow" }),
    );
    let names = (0..CONSUMERS).map(|number| format!("consumer-{number}"));
    config["usage_plan"]["consumers"] = names
        .clone()
        .map(|name| json!({ "id": name, "plan": "gold", "keys": [key(&name)] }))
        .collect();
    let envoy = Envoy::start(&clock, 1, &config);
    for name in names {
        let request = Request::get("/v1/accounts").header("x-api-key", &name);
        let mut submitted = envoy.workers[0].submit(request);
        while let Submitted::Waiting(paused) = submitted {
            envoy.tick(&store, Mood::Refuses);
            clock.advance(Duration::from_millis(100));
            submitted = envoy.workers[0].resume(paused);
        }
        assert!(matches!(submitted, Submitted::Answered(reply, _) if reply.status == 200));
    }
    // The outage goes on, and nobody sends anything.
    for _ in 0..100 {
        clock.advance(Duration::from_secs(1));
        envoy.tick(&store, Mood::Refuses);
    }
    for _ in 0..100 {
        clock.advance(Duration::from_secs(1));
        envoy.tick(&store, Mood::Answers);
    }
    assert_eq!(store.total(), CONSUMERS);
}

/// All that it had to say may have been said by another one, and nobody may send anything.
#[test]
fn every_worker_notices_that_the_store_answers_again() {
    let (clock, store) = (clock(), Webdis::default());
    let config = shared(
        json!({ "quota": { "limit": 1_000, "period": "year" } }),
        json!({ "on_store_failure": "allow" }),
    );
    let envoy = Envoy::start(&clock, 2, &config);
    let told = |worker: usize, text: &str| {
        let logged = envoy.workers[worker].host.logged();
        logged.iter().any(|(_, line)| line.contains(text))
    };
    while !(told(0, "does not answer") && told(1, "does not answer")) {
        for worker in &envoy.workers {
            let mut submitted = worker.submit(acme("/v1/accounts"));
            while let Submitted::Waiting(paused) = submitted {
                envoy.tick(&store, Mood::Refuses);
                clock.advance(Duration::from_millis(100));
                submitted = worker.resume(paused);
            }
        }
        clock.advance(Duration::from_millis(100));
        envoy.tick(&store, Mood::Refuses);
    }
    for _ in 0..100 {
        clock.advance(Duration::from_secs(1));
        envoy.tick(&store, Mood::Answers);
    }
    assert!(told(0, "answers again") && told(1, "answers again"));
}

/// A counter may be damaged, or a server have no limit for a plan.
#[test]
fn one_bad_counter_is_no_outage() {
    let (clock, store) = (clock(), Webdis::default());
    let config = shared(
        json!({ "quota": { "limit": 1_000, "period": "year" } }),
        json!({ "strict": true }),
    );
    let envoy = Envoy::start(&clock, 1, &config);
    for _ in 0..20 {
        let submitted = envoy.workers[0].submit(acme("/v1/accounts"));
        envoy.tick(&store, Mood::Damaged);
        clock.advance(Duration::from_millis(20));
        envoy.workers[0].abandon(submitted.paused());
    }
    let logged = envoy.workers[0].host.logged();
    let told = |text: &str| logged.iter().any(|(_, line)| line.contains(text));
    assert!(told("lies under a counter's key"), "{logged:?}");
    assert!(!told("left alone"), "{logged:?}");
    // A failed exchange is not repeated for each look of each request.
    assert!(store.calls.get() <= 10, "{}", store.calls.get());
}

#[test]
fn a_spent_quota_stays_spent_in_an_outage() {
    let (clock, store) = (clock(), Webdis::default());
    let plan = json!({ "quota": { "limit": 3, "period": "year" } });
    let envoy = Envoy::start(&clock, 1, &shared(plan, json!({ "strict": true })));
    for expected in [200, 200, 200, 429] {
        assert_eq!(call_through(&envoy, 0, &store).status, expected);
        clock.advance(Duration::from_millis(100));
    }
    for _ in 0..20 {
        clock.advance(Duration::from_secs(3));
        let (reply, _) = call_in_vain(&envoy, &store, &clock);
        assert_eq!(
            (reply.status, reply.kind().as_str()),
            (429, "quota-exceeded")
        );
    }
}

#[test]
fn what_was_used_under_another_plan_is_reported_too() {
    let (clock, store) = (clock(), Webdis::default());
    let plans = json!({
        "gold": {
            "throttle": { "rate": "10/s", "burst": 20 },
            "quota": { "limit": 100_000_000, "period": "month" },
        },
        "silver": { "quota": { "limit": 100_000_000, "period": "day" } },
    });
    let on = |plan: &str| {
        let mut config = shared(json!({}), json!({}));
        config["usage_plan"]["plans"] = plans.clone();
        config["usage_plan"]["consumers"][0]["plan"] = plan.into();
        config
    };
    let envoy = Envoy::start(&clock, 1, &on("gold"));
    for _ in 0..5 {
        assert_eq!(call_through(&envoy, 0, &store).status, 200);
    }
    let host = envoy.workers.into_iter().next().unwrap().host;
    let envoy = Envoy {
        workers: vec![Plugin::on(host, &on("silver")).unwrap()],
    };
    for _ in 0..100 {
        clock.advance(Duration::from_millis(500));
        envoy.tick(&store, Mood::Answers);
    }
    assert_eq!(store.total(), 5);
}

/// Webdis may hand the answer to a call that has stopped waiting to another one.
#[test]
fn an_answer_to_another_call_is_not_believed() {
    let (clock, store) = (clock(), Webdis::default());
    let config = shared(
        json!({ "quota": { "limit": 10, "period": "year" } }),
        json!({ "strict": true }),
    );
    let envoys: Vec<Envoy> = (0..2).map(|_| Envoy::start(&clock, 1, &config)).collect();
    let mut admitted = 0;
    for _ in 0..10 {
        let waiting: Vec<Submitted<_>> = envoys
            .iter()
            .map(|envoy| envoy.workers[0].submit(acme("/v1/accounts")))
            .collect();
        for envoy in &envoys {
            envoy.workers[0].tick();
        }
        // Each gets what the other one has asked for.
        let sent: Vec<Sent> = envoys
            .iter()
            .filter_map(|envoy| envoy.workers[0].host.callouts.borrow_mut().pop_front())
            .collect();
        let answers: Vec<String> = sent.iter().map(|sent| store.answer(sent)).collect();
        let crossed = answers.iter().rev();
        for ((envoy, sent), answer) in envoys.iter().zip(&sent).zip(crossed) {
            envoy.workers[0].answer(sent.id, Some(200), &[], answer.as_bytes());
        }
        for (envoy, mut submitted) in envoys.iter().zip(waiting) {
            while let Submitted::Waiting(paused) = submitted {
                envoy.tick(&store, Mood::Answers);
                clock.advance(Duration::from_millis(100));
                submitted = envoy.workers[0].resume(paused);
            }
            admitted += u64::from(
                matches!(submitted, Submitted::Answered(reply, _) if reply.status == 200),
            );
        }
        clock.advance(Duration::from_millis(300));
    }
    assert!(admitted <= 10, "{admitted}");
    let told = |envoy: &Envoy| {
        let logged = envoy.workers[0].host.logged();
        logged
            .iter()
            .any(|(_, line)| line.contains("to another call"))
    };
    assert!(envoys.iter().all(told));
}

#[test]
fn what_happens_while_the_store_is_out_is_the_plans_choice() {
    for (on_failure, expected) in [("allow", 200), ("deny", 503), ("safe", 200)] {
        let (clock, store) = (clock(), Webdis::default());
        let plan = json!({
            "quota": { "limit": 9000, "period": "month" },
            "on_store_failure": on_failure,
        });
        let envoy = Envoy::start(&clock, 1, &shared(plan, json!({})));
        let (reply, _) = call_in_vain(&envoy, &store, &clock);
        assert_eq!(reply.status, expected, "{on_failure}");
        if expected == 503 {
            assert_eq!(reply.kind(), "usage-unavailable");
            assert_eq!(reply.header("retry-after"), Some("2"));
        }
    }
}

#[test]
fn the_share_of_an_envoy_is_what_it_may_use_while_the_store_is_out() {
    let (clock, store) = (clock(), Webdis::default());
    // A day is half over at noon: 80 % of half of a third of 90 is 12.
    let plan = json!({ "quota": { "limit": 90, "period": "day" } });
    let envoy = Envoy::start(&clock, 1, &shared(plan, json!({})));
    let mut admitted = 0;
    for _ in 0..30 {
        let (reply, _) = call_in_vain(&envoy, &store, &clock);
        admitted += u64::from(reply.status == 200);
    }
    assert_eq!(admitted, 12);
}

#[test]
fn usage_of_a_period_is_booked_to_it_when_it_is_over() {
    let (clock, store) = (clock(), Webdis::default());
    let plan = json!({
        "throttle": { "rate": "10/s", "burst": 20 },
        "quota": { "limit": 10_000_000, "period": "day" },
    });
    let envoy = Envoy::start(&clock, 1, &shared(plan, json!({})));
    let midnight = Timestamp::from_seconds(1_795_219_200);
    clock.set(Timestamp::from_nanos(midnight.as_nanos() - 100_000_000));
    assert_eq!(call_through(&envoy, 0, &store).status, 200);
    for _ in 0..3 {
        assert_eq!(envoy.workers[0].send(acme("/v1/accounts")).status, 200);
    }
    clock.advance(Duration::from_millis(200));
    for _ in 0..2 {
        assert_eq!(call_through(&envoy, 0, &store).status, 200);
    }
    for _ in 0..200 {
        clock.advance(Duration::from_millis(500));
        envoy.tick(&store, Mood::Answers);
    }
    let totals: Vec<(String, u64)> = store
        .keys()
        .into_iter()
        .map(|key| {
            let total = store.counters.borrow()[&key].total();
            (key.rsplit_once(':').unwrap().1.to_owned(), total)
        })
        .collect();
    assert_eq!(
        totals,
        [("2026-11-20".to_owned(), 4), ("2026-11-21".to_owned(), 2)]
    );
}

#[test]
fn what_a_worker_has_left_unreported_another_one_reports() {
    let (clock, store) = (clock(), Webdis::default());
    let plan = json!({
        "throttle": { "rate": "10/s", "burst": 20 },
        "quota": { "limit": 100_000_000, "period": "day" },
    });
    let config = shared(plan, json!({}));
    let envoy = Envoy::start(&clock, 1, &config);
    assert_eq!(call_through(&envoy, 0, &store).status, 200);
    for _ in 0..5 {
        assert_eq!(envoy.workers[0].send(acme("/v1/accounts")).status, 200);
    }
    // The VM dies, and a new one takes its place.
    let host = envoy.workers.into_iter().next().unwrap().host;
    let envoy = Envoy {
        workers: vec![Plugin::on(host, &config).unwrap()],
    };
    for _ in 0..200 {
        clock.advance(Duration::from_millis(500));
        envoy.tick(&store, Mood::Answers);
    }
    assert_eq!(store.total(), 6);
}

#[test]
fn what_was_counted_before_there_was_a_store_is_taken_over() {
    let (clock, store) = (clock(), Webdis::default());
    let plan = json!({ "quota": { "limit": 10, "period": "month" } });
    let alone = Plugin::on(
        Process::new(clock.clone()).worker(),
        &config(plan.clone(), json!({})),
    );
    let alone = alone.unwrap();
    assert_eq!(statuses(&alone, 4), [200; 4]);
    alone.host.clusters.borrow_mut().push("webdis".to_owned());
    let envoy = Envoy {
        workers: vec![Plugin::on(alone.host, &shared(plan, json!({ "strict": true }))).unwrap()],
    };
    let mut admitted = 0;
    for _ in 0..12 {
        clock.advance(Duration::from_millis(300));
        admitted += u64::from(call_through(&envoy, 0, &store).status == 200);
    }
    assert_eq!(admitted, 6);
    assert_eq!(store.total(), 10);
}
