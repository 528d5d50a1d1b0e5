//! With the system's Redis and Webdis. Without them, `make e2e` leaves out tests with this module's
//! name.

use serde_json::{Value, json};
use tollgate_tests::{EchoUpstream, Envoy, Redis, RedisReply, Webdis, cluster, wait_for};

use super::{count, document, flood, gateway, gateways};

fn engine() -> Value {
    json!({ "redis_http": { "cluster": "store", "url": "http://webdis/", "dialect": "webdis" } })
}

/// What the store has booked for the only consumer, in the only window.
async fn booked(redis: &Redis) -> usize {
    let RedisReply::Array(keys) = redis.command(&["KEYS", "tollgate:*"]).await else {
        panic!("KEYS gives an array");
    };
    let mut sum = 0;
    for key in keys {
        let RedisReply::Text(key) = key else {
            panic!("a key is a text");
        };
        match redis.command(&["HGET", &key, "total"]).await {
            RedisReply::Text(total) => sum += total.parse::<usize>().unwrap(),
            other => panic!("a counter has a total: {other:?}"),
        }
    }
    sum
}

async fn wait_until_booked(redis: &Redis, expected: usize) {
    let what = format!("{expected} requests in the store");
    wait_for(&what, async || {
        (booked(redis).await == expected).then_some(())
    })
    .await;
}

async fn one(envoy: &Envoy) -> u16 {
    let request = envoy
        .http1()
        .get("/accounts")
        .header("x-api-key", "acme-key");
    request.send().await.status.as_u16()
}

/// Uses what is left of a quota when `admitted` requests of it were: what one Envoy was granted and
/// does not need is booked, and the others get it later. Then all refuse, and no more was admitted.
async fn use_up(envoys: &[Envoy], mut admitted: usize, limit: usize) {
    wait_for("the last of what was granted", async || {
        for envoy in envoys {
            admitted += usize::from(one(envoy).await == 200);
        }
        (admitted >= limit).then_some(())
    })
    .await;
    for envoy in envoys {
        for _ in 0..20 {
            assert_eq!(one(envoy).await, 429);
        }
    }
    assert_eq!(admitted, limit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_quota_of_three_envoys_is_used_up_to_the_last_request() {
    const LIMIT: usize = 30_000;
    let (redis, upstream) = (Redis::start().await, EchoUpstream::start().await);
    let webdis = Webdis::start(&redis).await;
    let plan = json!({ "quota": { "limit": LIMIT, "period": "year" } });
    // Nobody is turned away because the machine is busy.
    let patient = json!({ "strict": true, "timeout": "10s", "stale_for": "30s" });
    let document = document(plan, engine(), patient);
    let store = cluster("store", webdis.address());
    let envoys = gateways(3, &upstream, &store, &document).await;
    let statuses = flood(&envoys, 11_000).await;
    let admitted = count(&statuses, 200);
    assert_eq!(admitted + count(&statuses, 429), 33_000, "{statuses:?}");
    use_up(&envoys, admitted, LIMIT).await;
    assert_eq!(upstream.count(), LIMIT);
    wait_until_booked(&redis, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adaptive_quota_of_three_envoys_is_not_exceeded_and_all_is_booked() {
    const LIMIT: usize = 30_000;
    let (redis, upstream) = (Redis::start().await, EchoUpstream::start().await);
    let webdis = Webdis::start(&redis).await;
    let plan = json!({
        "throttle": { "rate": "4000/s", "burst": 200 },
        "quota": { "limit": LIMIT, "period": "year" },
    });
    let document = document(plan, engine(), json!({ "stale_for": "2200ms" }));
    let store = cluster("store", webdis.address());
    let envoys = gateways(3, &upstream, &store, &document).await;
    let mut admitted = 0;
    // Some are turned away by the throttle.
    wait_for("the end of the quota", async || {
        admitted += count(&flood(&envoys, 2_000).await, 200);
        (booked(&redis).await >= LIMIT).then_some(())
    })
    .await;
    use_up(&envoys, admitted, LIMIT).await;
    assert_eq!(upstream.count(), LIMIT);
    wait_until_booked(&redis, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_is_killed_takes_little_with_it() {
    let (redis, upstream) = (Redis::start().await, EchoUpstream::start().await);
    let webdis = Webdis::start(&redis).await;
    let plan = json!({
        "throttle": { "rate": "100/s", "burst": 50 },
        "quota": { "limit": 1_000_000_000, "period": "year" },
    });
    let document = document(plan, engine(), json!({}));
    let store = cluster("store", webdis.address());
    let envoys = gateways(1, &upstream, &store, &document).await;
    let mut admitted = 0;
    while admitted < 500 {
        admitted += count(&flood(&envoys, 200).await, 200);
    }
    // Dropping it kills it.
    drop(envoys);
    let booked = booked(&redis).await;
    // A burst, and what the rate admits until usage that is 100 ms old has been told.
    let unreported = admitted - booked;
    assert!(unreported <= 50 + 100, "{unreported} of {admitted}");
    assert!(booked > 0);
    // Another one goes on where the store is.
    let envoy = gateway(&upstream, &store, &document).start().await.unwrap();
    assert_eq!(one(&envoy).await, 200);
    wait_until_booked(&redis, booked + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_die_and_come_back_and_nothing_is_lost() {
    let (mut redis, upstream) = (Redis::durable().await, EchoUpstream::start().await);
    let webdis = Webdis::start(&redis).await;
    let plan = json!({
        "quota": { "limit": 1_000_000_000, "period": "year" },
        "on_store_failure": "allow",
    });
    let document = document(plan, engine(), json!({ "timeout": "200ms" }));
    let store = cluster("store", webdis.address());
    let envoys = gateways(2, &upstream, &store, &document).await;
    let mut admitted = 0;
    let mut send = async || {
        let statuses = flood(&envoys, 500).await;
        assert_eq!(count(&statuses, 200), 1_000, "{statuses:?}");
        admitted += 1_000;
    };
    send().await;
    redis.kill();
    send().await;
    send().await;
    redis.restart().await;
    send().await;
    wait_until_booked(&redis, admitted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_in_any_way_is_no_clients_error() {
    let (redis, upstream) = (Redis::start().await, EchoUpstream::start().await);
    let mut webdis = Webdis::start(&redis).await;
    let plan = json!({
        "quota": { "limit": 1_000_000_000, "period": "year" },
        "on_store_failure": "allow",
    });
    let document = document(plan, engine(), json!({ "timeout": "100ms" }));
    let store = cluster("store", webdis.address());
    let envoys = gateways(2, &upstream, &store, &document).await;
    let mut admitted = 0;
    let mut send = async || {
        let statuses = flood(&envoys, 300).await;
        assert_eq!(count(&statuses, 200), 600, "{statuses:?}");
        admitted += 600;
    };
    send().await;
    redis.freeze();
    wait_for("an Envoy that leaves the store alone", async || {
        send().await;
        let told = envoys[0].log();
        told.contains("usage_plan.store: does not answer")
            .then_some(())
    })
    .await;
    send().await;
    redis.thaw();
    send().await;
    envoys[0]
        .wait_for_log("usage_plan.store: answers again")
        .await;
    webdis.kill();
    send().await;
    send().await;
    webdis.restart().await;
    send().await;
    assert!(matches!(
        redis.command(&["SCRIPT", "FLUSH"]).await,
        RedisReply::Text(_)
    ));
    send().await;
    wait_until_booked(&redis, admitted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_no_store_is_what_the_plan_says() {
    let upstream = EchoUpstream::start().await;
    // It answers what it was asked, as no store does.
    let other = EchoUpstream::start().await;
    let store = cluster("store", other.address());
    for (on_failure, expected) in [("deny", 503), ("allow", 200)] {
        let plan = json!({
            "quota": { "limit": 1_000, "period": "year" },
            "on_store_failure": on_failure,
        });
        let document = document(plan, engine(), json!({ "timeout": "100ms" }));
        let envoy = gateway(&upstream, &store, &document).start().await.unwrap();
        let reply = envoy
            .http1()
            .get("/accounts")
            .header("x-api-key", "acme-key");
        let reply = reply.send().await;
        assert_eq!(reply.status, expected, "{on_failure}");
        if expected == 503 {
            assert_eq!(reply.json()["kind"], "usage-unavailable");
        }
        envoy.wait_for_log("usage_plan.store: ").await;
    }
}
