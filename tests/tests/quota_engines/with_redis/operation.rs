//! What the documentation says about running Redis.

use tollgate_quota_store::RedisError;
use tollgate_tests::Redis;

use super::*;

#[tokio::test]
async fn a_log_on_disk_keeps_what_was_acknowledged() {
    let mut redis = Redis::durable().await;
    let mut connection = redis.connect().await;
    let mut booked = 0;
    for seq in 1..=50 {
        let results = directly(&mut connection, &[exchange("acme", seq, seq * 7, 3, 1000)]).await;
        booked = results[0].as_ref().unwrap().upto;
    }
    assert_eq!(booked, 353);
    redis.kill();
    redis.restart().await;

    let mut connection = redis.connect().await;
    let repeated = exchange("acme", 50, 350, 3, 1000);
    let next = exchange("acme", 51, 351, 0, 1000);
    assert_eq!(
        directly(&mut connection, &[repeated, next]).await,
        [outcome(50, 353, 353), outcome(51, 351, 351)]
    );
    let end = redis
        .command(&["EXPIRETIME", counter("acme").as_str()])
        .await;
    assert_eq!(end, RedisReply::Integer(FAR));
}

#[tokio::test]
async fn without_a_log_running_envoys_bring_back_what_they_have_used() {
    let mut redis = Redis::start().await;
    directly(
        &mut redis.connect().await,
        &[exchange("acme", 1, 40, 0, 100)],
    )
    .await;
    redis.kill();
    redis.restart().await;
    let batch = [exchange("acme", 2, 41, 0, 100)];
    let results = directly(&mut redis.connect().await, &batch).await;
    assert_eq!(results, [outcome(2, 41, 41)]);
}

#[tokio::test]
async fn a_quota_may_be_given_anew_by_hand() {
    let redis = Redis::start().await;
    let mut connection = redis.connect().await;
    directly(&mut connection, &[exchange("acme", 1, 90, 10, 100)]).await;
    redis
        .command(&["HSET", counter("acme").as_str(), "total", "0"])
        .await;
    for (exchange, expected) in [
        (exchange("acme", 2, 95, 50, 100), outcome(2, 145, 45)),
        // What it had wished for is given back: never below nothing.
        (exchange("acme", 3, 96, 0, 100), outcome(3, 96, 0)),
    ] {
        assert_eq!(directly(&mut connection, &[exchange]).await, [expected]);
    }
}

#[tokio::test]
async fn the_access_control_in_the_documentation_suffices_and_holds() {
    let redis = Redis::start().await;
    let rules = "ACL SETUSER tollgate on >secret ~tollgate:* -@all +evalsha +eval +hmget +hset \
                 +expireat";
    let rules: Vec<&str> = rules.split(' ').collect();
    assert_eq!(redis.command(&rules).await, text("OK"));
    let mut connection = redis.connect().await;
    let login = connection.command(&["AUTH", "tollgate", "secret"]).await;
    assert_eq!(login, text("OK"));

    let allowed = directly(&mut connection, &[exchange("acme", 1, 1, 0, 10)]).await;
    assert_eq!(allowed, [outcome(1, 1, 1)]);
    let elsewhere = Exchange {
        key: CounterKey::new(
            &"other:".parse().unwrap(),
            ConsumerTag::new("test", "acme"),
            "month",
            0,
        ),
        ..exchange("acme", 1, 1, 0, 10)
    };
    let refused = directly(&mut connection, &[elsewhere]).await;
    assert_eq!(error(&refused[0]), (RedisError::Forbidden, false));
    let script = "return redis.call('FLUSHALL')";
    let flush = connection.command(&["EVAL", script, "0"]).await;
    assert!(matches!(flush, RedisReply::Error(_)), "{flush:?}");
}

#[tokio::test]
async fn errors_of_a_real_redis_are_told_apart() {
    let redis = Redis::start().await;
    let mut connection = redis.connect().await;
    for (settings, undo, expected) in [
        (
            ["REPLICAOF", "127.0.0.1", "1"].as_slice(),
            ["REPLICAOF", "NO", "ONE"].as_slice(),
            (RedisError::ReadOnly, true),
        ),
        (
            &["CONFIG", "SET", "maxmemory", "1"],
            &["CONFIG", "SET", "maxmemory", "0"],
            (RedisError::OutOfMemory, true),
        ),
        (
            &["CONFIG", "SET", "min-replicas-to-write", "1"],
            &["CONFIG", "SET", "min-replicas-to-write", "0"],
            (RedisError::NotReady, true),
        ),
        (
            &["ACL", "SETUSER", "default", "-eval", "-hset"],
            &["ACL", "SETUSER", "default", "+@all"],
            (RedisError::Forbidden, false),
        ),
    ] {
        assert_eq!(redis.command(settings).await, text("OK"), "{settings:?}");
        let results = directly(&mut connection, &[exchange("acme", 1, 1, 0, 10)]).await;
        assert_eq!(error(&results[0]), expected, "{settings:?}: {results:?}");
        assert_eq!(redis.command(undo).await, text("OK"));
    }
    let results = directly(&mut connection, &[exchange("acme", 1, 1, 0, 10)]).await;
    assert_eq!(results, [outcome(1, 1, 1)], "nothing was booked meanwhile");
}

fn error(result: &Result<Outcome, StoreError>) -> (RedisError, bool) {
    match result {
        Err(StoreError::Redis { error, .. }) => {
            (*error, result.as_ref().unwrap_err().is_transient())
        }
        other => panic!("no error of Redis: {other:?}"),
    }
}

/// The figures of the documentation: `cargo test -p tollgate-tests --test quota_engines memory --
/// --nocapture` prints them.
#[tokio::test]
async fn memory_is_as_documented() {
    let redis = Redis::start().await;
    let mut connection = redis.connect().await;
    for (envoys, most) in [
        (1_u64, 300),
        (3, 350),
        (10, 600),
        (100, 5_000),
        (1000, 100_000),
    ] {
        let consumer = format!("with {envoys}");
        for envoy in 1..=envoys {
            let exchange = Exchange {
                // As random as they are in earnest: small ones would take less.
                envoy: EnvoyId(envoy.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                ..exchange(&consumer, 1_000_000 + envoy, 1_000_000, 1000, 100_000_000)
            };
            directly(&mut connection, &[exchange]).await[0]
                .clone()
                .unwrap();
        }
        let key = counter(&consumer);
        let usage = redis.command(&["MEMORY", "USAGE", key.as_str()]).await;
        let RedisReply::Integer(usage) = usage else {
            panic!("no figure: {usage:?}");
        };
        println!("a counter that {envoys} Envoys have met: {usage} bytes");
        assert!(usage <= most, "{envoys} Envoys: {usage} bytes");
    }
}
