//! What the documentation says about running Redis.

use tollgate_quota_store::RedisError;
use tollgate_quota_store::redis::{MAX_BATCH, SCRIPT, SCRIPT_SHA1};
use tollgate_tests::Redis;

use super::*;

#[tokio::test]
async fn a_log_on_disk_keeps_what_was_acknowledged() {
    let mut redis = Redis::durable().await;
    let mut connection = redis.connect().await;
    let mut upto = 0;
    for seq in 1..=50 {
        let results = directly(&mut connection, &[exchange("acme", seq, seq * 7, 3, 1000)]).await;
        (_, upto, _) = results[0].clone().unwrap();
    }
    assert_eq!(upto, 353);
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

fn error(result: &Result<Booked, StoreError>) -> (RedisError, bool) {
    match result {
        Err(StoreError::Redis { error, .. }) => {
            (*error, result.as_ref().unwrap_err().is_transient())
        }
        other => panic!("no error of Redis: {other:?}"),
    }
}

/// `cargo test -p tollgate-tests --test quota_engines figures -- --nocapture` prints them.
#[tokio::test]
async fn the_figures_of_the_documentation_are_about_right() {
    let redis = Redis::start().await;
    let mut connection = redis.connect().await;
    let sizes = [
        (1_u64, 200),
        (3, 250),
        (10, 600),
        (100, 5_000),
        (1000, 120_000),
    ];
    for (envoys, most) in sizes {
        let consumer = format!("met by {envoys}");
        for envoy in 1..=envoys {
            let exchange = busy(&consumer, envoy);
            directly(&mut connection, &[exchange]).await[0]
                .clone()
                .unwrap();
        }
        let key = counter(&consumer);
        let usage = redis.command(&["MEMORY", "USAGE", key.as_str()]).await;
        let RedisReply::Integer(usage) = usage else {
            panic!("no figure: {usage:?}");
        };
        println!("a counter met by {envoys} Envoys: {usage} bytes");
        assert!(usage <= most, "{envoys} Envoys: {usage} bytes");
    }

    let script = connection.command(&["SCRIPT", "LOAD", SCRIPT]).await;
    assert_eq!(script, text(SCRIPT_SHA1));
    let before = info(&redis, "memory", "used_memory").await;
    let batches = 1000;
    for batch in 0..batches {
        let consumers = (0..MAX_BATCH).map(|at| busy(&format!("{batch} {at}"), 1));
        let batch: Vec<Exchange> = consumers.collect();
        let words = in_one_command(&batch, Script::ByDigest);
        let replies = connection.command(&words).await;
        assert!(matches!(replies, RedisReply::Array(_)), "{replies:?}");
    }
    let grown = info(&redis, "memory", "used_memory").await - before;
    let each = grown / (f64::from(batches) * 100.0);
    println!("each of {batches}00 counters met by one Envoy: {each:.0} bytes");
    assert!(each < 300.0, "{each}");
    let usec = redis.command(&["INFO", "commandstats"]).await;
    let RedisReply::Text(stats) = usec else {
        panic!("no figure: {usec:?}");
    };
    let mut lines = stats.lines();
    println!(
        "{}",
        lines
            .find(|line| line.starts_with("cmdstat_evalsha"))
            .unwrap()
    );
}

/// An exchange of an Envoy with numbers as large as they are in earnest.
fn busy(consumer: &str, envoy: u64) -> Exchange {
    Exchange {
        envoy: EnvoyId(envoy.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        ..exchange(consumer, 1_000_000 + envoy, 1_000_000, 1000, 100_000_000)
    }
}

async fn info(redis: &Redis, section: &str, name: &str) -> f64 {
    let info = redis.command(&["INFO", section]).await;
    let RedisReply::Text(info) = info else {
        panic!("no figure: {info:?}");
    };
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(found, _)| *found == name).unwrap();
    value.parse().unwrap()
}
