//! The same through HTTP: Webdis, and a stand-in for the REST interface of Upstash.

use std::net::SocketAddr;

use tollgate_quota_store::RedisError;
use tollgate_quota_store::redis::MAX_BATCH;
use tollgate_tests::{HttpClient, Redis, RedisRest, Webdis, wait_for};

use super::*;

/// A store behind an HTTP front.
struct Front {
    client: HttpClient,
    store: RedisHttp,
}

impl Front {
    fn new(dialect: Dialect, address: SocketAddr, credentials: Credentials) -> Self {
        let endpoint = Endpoint::new(&address.to_string(), "", credentials).unwrap();
        Self {
            client: HttpClient::http1(address),
            store: RedisHttp::new(dialect, endpoint),
        }
    }

    fn webdis(webdis: &Webdis) -> Self {
        Self::new(Dialect::Webdis, webdis.address(), Credentials::None)
    }

    fn upstash(front: &RedisRest, token: &str) -> Self {
        let token = token.to_owned();
        Self::new(
            Dialect::Upstash,
            front.address(),
            Credentials::Bearer { token },
        )
    }

    async fn send(&self, batch: &[Exchange], script: Script) -> Answer {
        let request = self.store.encode(batch, NONCE, script);
        let method = request.method.parse().unwrap();
        let sent = self.client.request(method, &request.path);
        let sent = request.headers.iter().fold(sent, |sent, (name, value)| {
            sent.header(*name, value.as_str())
        });
        let reply = sent
            .host(&request.authority)
            .body(request.body)
            .send()
            .await;
        self.store
            .decode(batch, NONCE, reply.status.into(), &reply.body)
    }

    /// As a gateway does it: by the digest, and in full when that is unknown.
    async fn exchange(&self, batch: &[Exchange]) -> Results {
        match self.send(batch, Script::ByDigest).await {
            Answer::Results(results) => booked(results),
            Answer::ScriptUnknown => {
                let answer = self.send(batch, Script::InFull).await;
                booked(answer.into_results(batch))
            }
        }
    }
}

/// What holds of any front.
async fn check_script_is_sent_once(redis: &Redis, front: &Front) {
    let batch = [
        exchange("acme", 1, 40, 10, 1000),
        exchange("bolt", 1, 1, 0, 10),
    ];
    let unknown = front.send(&batch, Script::ByDigest).await;
    assert_eq!(unknown, Answer::ScriptUnknown);
    let expected = vec![outcome(1, 50, 50), outcome(1, 1, 1)];
    let in_full = front.send(&batch, Script::InFull).await;
    assert_eq!(booked(in_full.into_results(&batch)), expected);
    let by_digest = front.send(&batch, Script::ByDigest).await;
    assert_eq!(booked(by_digest.into_results(&batch)), expected);

    assert_eq!(redis.command(&["SCRIPT", "FLUSH"]).await, text("OK"));
    assert_eq!(
        front.send(&batch, Script::ByDigest).await,
        Answer::ScriptUnknown
    );
    assert_eq!(front.exchange(&batch).await, expected);
}

async fn check_full_batch(redis: &Redis, front: &Front) {
    // Each consumer twice, so that they share a command where commands are by consumer.
    let batch: Vec<Exchange> = (0..MAX_BATCH)
        .map(|at| {
            let consumer = format!("consumer {}", at / 2);
            let seq = u64::try_from(at % 2).unwrap() + 1;
            exchange(&consumer, seq, seq * 10, 0, 1000)
        })
        .collect();
    let expected: Results = batch
        .iter()
        .map(|exchange| outcome(exchange.seq, exchange.consumed, exchange.consumed))
        .collect();
    assert_eq!(front.exchange(&batch).await, expected);
    let counters = i64::try_from(MAX_BATCH / 2).unwrap();
    assert_eq!(
        redis.command(&["DBSIZE"]).await,
        RedisReply::Integer(counters)
    );
}

#[tokio::test]
async fn webdis_is_sent_the_script_once() {
    let redis = Redis::start().await;
    let webdis = Webdis::start(&redis).await;
    check_script_is_sent_once(&redis, &Front::webdis(&webdis)).await;
}

#[tokio::test]
async fn webdis_takes_a_full_batch() {
    let redis = Redis::start().await;
    let webdis = Webdis::start(&redis).await;
    check_full_batch(&redis, &Front::webdis(&webdis)).await;
}

#[tokio::test]
async fn upstash_is_sent_the_script_once() {
    let redis = Redis::start().await;
    let front = RedisRest::start(&redis, "s3cret").await;
    check_script_is_sent_once(&redis, &Front::upstash(&front, "s3cret")).await;
}

#[tokio::test]
async fn upstash_takes_a_full_batch() {
    let redis = Redis::start().await;
    let front = RedisRest::start(&redis, "s3cret").await;
    check_full_batch(&redis, &Front::upstash(&front, "s3cret")).await;
}

#[tokio::test]
async fn names_of_quotas_arrive_as_they_are() {
    let redis = Redis::start().await;
    let webdis = Webdis::start(&redis).await;
    let front = Front::webdis(&webdis);
    let consumer = ConsumerTag::new("test", "acme");
    for quota in ["a/b", "a.json", "ä b?c#d%e+f", "{x}", "\"'\\"] {
        let key = CounterKey::new(&KeyPrefix::default(), consumer, quota, 0);
        let batch = [Exchange {
            key: key.clone(),
            ..exchange("acme", 1, 1, 0, 10)
        }];
        assert_eq!(front.exchange(&batch).await, [outcome(1, 1, 1)], "{quota}");
        let exists = redis.command(&["EXISTS", key.as_str()]).await;
        assert_eq!(exists, RedisReply::Integer(1), "{quota}");
    }
}

#[tokio::test]
async fn a_missing_password_is_told() {
    let redis = Redis::with_password("secret").await;
    let with = Webdis::start(&redis).await;
    let batch = [exchange("acme", 1, 1, 0, 10)];
    // It logs in after it has begun to listen.
    let front = Front::webdis(&with);
    wait_for("Webdis to log in", async || {
        (front.exchange(&batch).await == [outcome(1, 1, 1)]).then_some(())
    })
    .await;

    let without = Webdis::with(&redis, json!({ "redis_auth": null })).await;
    let results = Front::webdis(&without).exchange(&batch).await;
    let error = results[0].clone().unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert!(
        error.to_string().starts_with("Redis asks for a password"),
        "{error}"
    );
}

#[tokio::test]
async fn webdis_is_content_with_the_access_that_the_documentation_gives_it() {
    let redis = Redis::start().await;
    let rules = "ACL SETUSER default on resetpass >secret resetkeys ~tollgate:* resetchannels \
                 -@all +evalsha +eval +hmget +hset +expireat";
    let rules: Vec<&str> = rules.split(' ').collect();
    assert_eq!(redis.command(&rules).await, text("OK"));
    let webdis = Webdis::with(&redis, json!({ "redis_auth": "secret" })).await;
    let front = Front::webdis(&webdis);
    wait_for("Webdis to log in", async || {
        let results = front.exchange(&[exchange("acme", 1, 1, 0, 10)]).await;
        (results == [outcome(1, 1, 1)]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_front_that_refuses_us_is_told() {
    let redis = Redis::start().await;
    let batch = [exchange("acme", 1, 1, 0, 10)];
    let acl = json!({ "acl": [{ "disabled": ["*"] }] });
    let webdis = Webdis::with(&redis, acl).await;
    let error = Front::webdis(&webdis)
        .exchange(&batch)
        .await
        .remove(0)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("status 403; the HTTP front must allow"),
        "{error}"
    );

    let front = RedisRest::start(&redis, "s3cret").await;
    let error = Front::upstash(&front, "wrong")
        .exchange(&batch)
        .await
        .remove(0)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("status 401; check the credentials"),
        "{error}"
    );
}

#[tokio::test]
async fn basic_authentication_opens_webdis() {
    let redis = Redis::start().await;
    let acl = json!({ "acl": [
        { "disabled": ["*"] },
        { "http_basic_auth": "tollgate:pass word", "enabled": ["EVALSHA", "EVAL"] },
    ] });
    let webdis = Webdis::with(&redis, acl).await;
    let batch = [exchange("acme", 1, 1, 0, 10)];
    let with = |password: &str| {
        let credentials = Credentials::Basic {
            user: "tollgate".to_owned(),
            password: password.to_owned(),
        };
        Front::new(Dialect::Webdis, webdis.address(), credentials)
    };
    assert_eq!(with("pass word").exchange(&batch).await, [outcome(1, 1, 1)]);
    let refused = with("wrong").exchange(&batch).await.remove(0).unwrap_err();
    assert!(
        matches!(refused, StoreError::Http { status: 403, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_dead_redis_is_a_matter_of_time() {
    let mut redis = Redis::durable().await;
    let webdis = Webdis::start(&redis).await;
    let front = Front::webdis(&webdis);
    let batch = [exchange("acme", 1, 40, 0, 100)];
    assert_eq!(front.exchange(&batch).await, [outcome(1, 40, 40)]);

    redis.kill();
    let error = front.exchange(&batch).await.remove(0).unwrap_err();
    assert!(error.is_transient(), "{error}");
    redis.restart().await;
    let results = wait_for("Webdis to connect anew", async || {
        let results = front.exchange(&[exchange("acme", 2, 41, 0, 100)]).await;
        results[0].is_ok().then_some(results)
    })
    .await;
    assert_eq!(results, [outcome(2, 41, 41)]);
}

#[tokio::test]
async fn a_counter_that_fails_is_the_only_one_through_webdis() {
    let redis = Redis::start().await;
    let webdis = Webdis::start(&redis).await;
    redis
        .command(&["SET", counter("string").as_str(), "7"])
        .await;
    let batch = ["string", "acme"].map(|consumer| exchange(consumer, 1, 1, 0, 10));
    let results = Front::webdis(&webdis).exchange(&batch).await;
    assert!(
        matches!(
            results[0],
            Err(StoreError::Redis {
                error: RedisError::WrongType,
                ..
            })
        ),
        "{results:?}"
    );
    assert_eq!(results[1], outcome(1, 1, 1));
}

#[tokio::test]
async fn a_cluster_takes_a_command_for_each_consumer() {
    let redis = Redis::cluster().await;
    let batch = ["acme", "acme", "bolt", "chip"].map(|consumer| exchange(consumer, 1, 1, 0, 10));
    let front = RedisRest::start(&redis, "s3cret").await;
    let results = Front::upstash(&front, "s3cret").exchange(&batch).await;
    assert_eq!(results, vec![outcome(1, 1, 1); 4]);

    // All consumers at once, as Webdis is asked, are in no single node.
    let webdis = Webdis::start(&redis).await;
    for result in Front::webdis(&webdis).exchange(&batch).await {
        let error = result.unwrap_err();
        assert!(!error.is_transient());
        assert!(
            error.to_string().contains("with the dialect upstash"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_rules_for_webdis_let_nothing_else_through() {
    let redis = Redis::start().await;
    let webdis = Webdis::start(&redis).await;
    let client = HttpClient::http1(webdis.address());
    for command in [
        "GET/a",
        "FLUSHALL",
        "CONFIG/GET/requirepass",
        "SCRIPT/FLUSH",
    ] {
        assert_eq!(
            client.post("/").body(command).send().await.status,
            403,
            "{command}"
        );
        let path = format!("/{command}");
        assert_eq!(client.get(&path).send().await.status, 403, "{command}");
    }
    assert_eq!(
        client
            .post("/")
            .body("EVAL/return%201/0")
            .send()
            .await
            .status,
        200
    );
}
