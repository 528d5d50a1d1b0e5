//! With the system's Redis and Webdis. Without them, `make e2e` leaves out tests with this module's
//! name.

mod fronts;
mod operation;
mod script;

use percent_encoding::percent_decode_str;
use serde_json::json;
use tollgate_quota_store::redis::{
    Answer, Credentials, Dialect, Endpoint, Nonce, RedisHttp, Script,
};
use tollgate_quota_store::{
    ConsumerTag, CounterKey, EnvoyId, Exchange, KeyPrefix, Outcome, StoreError,
};
use tollgate_tests::{RedisConnection, RedisReply, unix_time};

/// `seq`, `upto` and `total` of an outcome, which are what most tests are about.
type Booked = (u64, u64, u64);

type Results = Vec<Result<Booked, StoreError>>;

/// The nonce of every call here.
const NONCE: Nonce = Nonce(0xc0ffee);

/// 2100-01-01T00:00:00Z, at which no test is run.
const FAR: i64 = 4_102_444_800;

fn counter(consumer: &str) -> CounterKey {
    let consumer = ConsumerTag::new("test", consumer);
    CounterKey::new(&KeyPrefix::default(), consumer, "month", 1_793_491_200)
}

/// An exchange of the Envoy 1 with plenty of time.
fn exchange(consumer: &str, seq: u64, consumed: u64, want: u64, limit: u64) -> Exchange {
    Exchange {
        key: counter(consumer),
        envoy: EnvoyId(1),
        seq,
        consumed,
        want,
        limit,
        expires_at: FAR,
    }
}

fn outcome(seq: u64, upto: u64, total: u64) -> Result<Booked, StoreError> {
    Ok((seq, upto, total))
}

fn booked(results: Vec<Result<Outcome, StoreError>>) -> Results {
    let booked = |outcome: Outcome| (outcome.seq, outcome.upto, outcome.total);
    results
        .into_iter()
        .map(|result| result.map(booked))
        .collect()
}

/// Makes exchanges with Redis itself, without HTTP, all by one command.
async fn directly(connection: &mut RedisConnection, batch: &[Exchange]) -> Results {
    booked(outcomes(connection, batch).await)
}

/// Likewise, with all that is answered.
async fn outcomes(
    connection: &mut RedisConnection,
    batch: &[Exchange],
) -> Vec<Result<Outcome, StoreError>> {
    let answer = match connection
        .command(&in_one_command(batch, Script::InFull))
        .await
    {
        RedisReply::Error(error) => json!([false, error]),
        RedisReply::Array(replies) => json!(texts(replies)),
        other => panic!("no answer to EVAL: {other:?}"),
    };
    let answer = json!({ "EVAL": answer }).to_string();
    match store().decode(batch, NONCE, 200, answer.as_bytes()) {
        Answer::Results(results) => results,
        Answer::ScriptUnknown => panic!("the script was sent"),
    }
}

/// The words that Webdis would send.
fn in_one_command(batch: &[Exchange], script: Script) -> Vec<String> {
    let body = store().encode(batch, NONCE, script).body;
    let decode = |word| percent_decode_str(word).decode_utf8().unwrap().into_owned();
    body.split('/').map(decode).collect()
}

fn store() -> RedisHttp {
    let endpoint = Endpoint::new("none", "", Credentials::None).unwrap();
    RedisHttp::new(Dialect::Webdis, endpoint)
}

fn texts(replies: Vec<RedisReply>) -> Vec<String> {
    let text = |reply| match reply {
        RedisReply::Text(text) => text,
        other => panic!("no text: {other:?}"),
    };
    replies.into_iter().map(text).collect()
}

fn text(text: &str) -> RedisReply {
    RedisReply::Text(text.to_owned())
}
