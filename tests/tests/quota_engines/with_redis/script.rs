//! The script, against a model that books one by one.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tollgate_quota_store::MAX_COUNT;
use tollgate_tests::Redis;

use super::*;

#[derive(Default)]
struct Model {
    total: u64,
    /// Of each Envoy, its last exchange and what is booked for it.
    envoys: HashMap<u64, (u64, u64)>,
}

impl Model {
    fn exchange(&mut self, exchange: &Exchange) -> Outcome {
        let (seq, upto) = self.envoys.entry(exchange.envoy.0).or_default();
        let previous = *seq;
        if exchange.seq > *seq {
            *seq = exchange.seq;
            let wished = exchange.consumed + exchange.want;
            while *upto > wished {
                *upto -= 1;
                self.total -= 1;
            }
            while *upto < exchange.consumed {
                *upto += 1;
                self.total += 1;
            }
            while *upto < wished && self.total < exchange.limit {
                *upto += 1;
                self.total += 1;
            }
        }
        let (seq, upto) = (*seq, *upto);
        let total = self.total;
        let sum: u64 = self.envoys.values().map(|(_, upto)| upto).sum();
        assert_eq!(total, sum);
        Outcome {
            seq,
            upto,
            total,
            previous,
        }
    }
}

/// Whether it is about the second counter, and the exchange's envoy, seq, consumed, want and limit.
type Said = (bool, u64, u64, u64, u64, u64);

/// Batches of exchanges of three Envoys about two counters; sequence numbers go up, and stay, and
/// down.
fn batches() -> impl Strategy<Value = Vec<Vec<Said>>> {
    let limit = prop_oneof![Just(30_u64), 0..60_u64];
    let exchange = (
        any::<bool>(),
        1..4_u64,
        1..12_u64,
        0..40_u64,
        0..40_u64,
        limit,
    );
    proptest::collection::vec(proptest::collection::vec(exchange, 1..6), 1..12)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_books_as_a_model_that_books_one_by_one() {
    let redis = Redis::start().await;
    let mut runner = TestRunner::new(Config::with_cases(200));
    let result = block_in_place(|| {
        runner.run(&batches(), |batches| {
            Handle::current().block_on(check(&redis, batches))
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

async fn check(redis: &Redis, batches: Vec<Vec<Said>>) -> Result<(), TestCaseError> {
    let mut connection = redis.connect().await;
    connection.command(&["FLUSHALL"]).await;
    let mut models = [Model::default(), Model::default()];
    for batch in batches {
        let batch: Vec<(usize, Exchange)> = batch
            .into_iter()
            .map(|(second, envoy, seq, consumed, want, limit)| {
                let consumer = if second { "second" } else { "first" };
                let exchange = Exchange {
                    envoy: EnvoyId(envoy),
                    ..exchange(consumer, seq, consumed, want, limit)
                };
                (usize::from(second), exchange)
            })
            .collect();
        let expected: Vec<Outcome> = batch
            .iter()
            .map(|(counter, exchange)| models[*counter].exchange(exchange))
            .collect();
        let exchanges: Vec<Exchange> = batch.into_iter().map(|(_, exchange)| exchange).collect();
        for ((exchange, found), expected) in exchanges
            .iter()
            .zip(outcomes(&mut connection, &exchanges).await)
            .zip(expected)
        {
            let consistent = expected.seq != exchange.seq
                || (exchange.consumed..=exchange.consumed + exchange.want).contains(&expected.upto);
            match consistent {
                true => prop_assert_eq!(found, Ok(expected)),
                // Another exchange had this number: not what an Envoy does, and noticed.
                false => prop_assert!(matches!(found, Err(StoreError::Garbled(_)))),
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_rule_has_its_row() {
    let redis = Redis::start().await;
    let mut connection = redis.connect().await;
    for (what, seq, consumed, want, limit, expected) in [
        ("a wish that fits", 1, 0, 40, 100, outcome(1, 40, 40)),
        ("the same again", 1, 0, 40, 100, outcome(1, 40, 40)),
        ("used, and a new wish", 2, 40, 40, 100, outcome(2, 80, 80)),
        ("an old one, too late", 1, 0, 40, 100, outcome(2, 80, 80)),
        (
            "a wish that fits in part",
            3,
            80,
            40,
            100,
            outcome(3, 100, 100),
        ),
        (
            "a wish when all is spent",
            4,
            100,
            40,
            100,
            outcome(4, 100, 100),
        ),
        (
            "more was used than there is",
            5,
            130,
            40,
            100,
            outcome(5, 130, 130),
        ),
        ("the limit is raised", 6, 130, 40, 150, outcome(6, 150, 150)),
        ("some is given back", 7, 130, 5, 150, outcome(7, 135, 135)),
        ("all is given back", 8, 130, 0, 150, outcome(8, 130, 130)),
        ("the limit is lowered", 9, 131, 10, 50, outcome(9, 131, 131)),
        ("a limit of none", 10, 131, 1, 0, outcome(10, 131, 131)),
        (
            "a jump of the number",
            500,
            131,
            1,
            1000,
            outcome(500, 132, 132),
        ),
    ] {
        let batch = [exchange("acme", seq, consumed, want, limit)];
        assert_eq!(
            directly(&mut connection, &batch).await,
            [expected],
            "{what}"
        );
    }
    let other = Exchange {
        envoy: EnvoyId(2),
        ..exchange("acme", 1, 0, 10, 135)
    };
    let results = directly(&mut connection, &[other]).await;
    assert_eq!(results, [outcome(1, 3, 135)], "what another Envoy leaves");
}

#[tokio::test]
async fn it_tells_which_exchange_it_knew_before() {
    let redis = Redis::start().await;
    let mut connection = redis.connect().await;
    let mut previous = async |seq| {
        let batch = [exchange("acme", seq, seq, 0, 100)];
        let results = outcomes(&mut connection, &batch).await;
        results[0].as_ref().unwrap().previous
    };
    for (seq, expected) in [(1, 0), (1, 1), (2, 1), (7, 2), (3, 7), (8, 7)] {
        assert_eq!(previous(seq).await, expected, "{seq}");
    }
    redis.command(&["DEL", counter("acme").as_str()]).await;
    assert_eq!(previous(9).await, 0, "it has lost what it knew");
}

#[tokio::test]
async fn numbers_are_exact_up_to_the_largest() {
    let redis = Redis::start().await;
    let mut connection = redis.connect().await;
    let most = MAX_COUNT;
    let other = |exchange| Exchange {
        envoy: EnvoyId(u64::MAX),
        ..exchange
    };
    for (exchange, expected) in [
        (
            exchange("a", most - 1, most - 1, 0, 0),
            outcome(most - 1, most - 1, most - 1),
        ),
        // 2^53 is the first number after which doubles leave some out.
        (
            other(exchange("a", most, most, 0, most)),
            outcome(most, most, 2 * most - 1),
        ),
        (
            exchange("b", most, most, most, most),
            outcome(most, most, most),
        ),
        (
            exchange("c", 1, 0, most, most - 1),
            outcome(1, most - 1, most - 1),
        ),
        (exchange("c", 2, 1, most, most), outcome(2, most, most)),
        (
            exchange("d", 1, most / 3, 1, most),
            outcome(1, most / 3 + 1, most / 3 + 1),
        ),
    ] {
        let results = directly(&mut connection, std::slice::from_ref(&exchange)).await;
        assert_eq!(results, [expected], "{exchange:?}");
    }
    let stored = redis
        .command(&["HGET", counter("a").as_str(), "total"])
        .await;
    assert_eq!(stored, text("9007199254740991"));
}

#[tokio::test]
async fn a_counter_ends_at_its_second() {
    let redis = Redis::start().await;
    let mut connection = redis.connect().await;
    let key = counter("acme");
    for (seq, expires_at) in [(1, FAR), (2, FAR - 86_400), (3, FAR + 1)] {
        let exchange = Exchange {
            expires_at,
            ..exchange("acme", seq, 0, 1, 1)
        };
        directly(&mut connection, &[exchange]).await[0]
            .clone()
            .unwrap();
        let end = redis.command(&["EXPIRETIME", key.as_str()]).await;
        assert_eq!(end, RedisReply::Integer(expires_at));
    }
}

#[tokio::test]
async fn what_comes_after_the_end_is_answered_and_leaves_nothing() {
    let redis = Redis::start().await;
    let mut connection = redis.connect().await;
    for expires_at in [i64::MIN, -1, 0, unix_time() - 1] {
        let late = Exchange {
            expires_at,
            ..exchange("acme", 7, 5, 0, 10)
        };
        assert_eq!(directly(&mut connection, &[late]).await, [outcome(7, 5, 5)]);
        assert_eq!(redis.command(&["DBSIZE"]).await, RedisReply::Integer(0));
    }
    let never = Exchange {
        expires_at: i64::MAX,
        ..exchange("acme", 7, 5, 0, 10)
    };
    assert_eq!(
        directly(&mut connection, &[never]).await,
        [outcome(7, 5, 5)]
    );
}

#[tokio::test]
async fn what_is_no_counter_keeps_nobody_else_from_being_counted() {
    let redis = Redis::start().await;
    let mut connection = redis.connect().await;
    redis
        .command(&["SET", counter("string").as_str(), "7"])
        .await;
    let damaged = [
        ("total", "many"),
        ("0000000000000001", "1"),
        ("0000000000000001", "-1 1"),
    ];
    for (at, (field, value)) in damaged.into_iter().enumerate() {
        let key = counter(&format!("damaged {at}"));
        redis.command(&["HSET", key.as_str(), field, value]).await;
    }
    let consumers = [
        "first",
        "string",
        "damaged 0",
        "damaged 1",
        "damaged 2",
        "last",
    ];
    let batch = consumers.map(|consumer| exchange(consumer, 1, 1, 0, 10));
    let results = directly(&mut connection, &batch).await;
    assert_eq!(results[0], outcome(1, 1, 1));
    assert_eq!(results[5], outcome(1, 1, 1));
    for result in &results[1..5] {
        let error = result.clone().unwrap_err();
        assert!(!error.is_transient());
        assert!(
            error.to_string().contains("choose another key prefix"),
            "{error}"
        );
    }
    let untouched = redis.command(&["GET", counter("string").as_str()]).await;
    assert_eq!(untouched, text("7"));
}
