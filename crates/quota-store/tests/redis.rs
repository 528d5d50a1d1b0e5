//! Requests as the HTTP fronts want them, and answers as they give them.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail by a panic"
)]

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate_quota_store::redis::{
    Answer, Credentials, Dialect, Endpoint, Nonce, RedisHttp, SCRIPT, SCRIPT_SHA1, Script,
};
use tollgate_quota_store::{
    ConsumerTag, CounterKey, EnvoyId, Exchange, KeyPrefix, MAX_COUNT, Outcome, RedisError,
    StoreError,
};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// The nonce of every call here.
const NONCE: Nonce = Nonce(0xc0ffee);

const NOVEMBER: i64 = 1_793_491_200;
const DECEMBER: i64 = 1_796_083_200;

fn store(dialect: Dialect) -> RedisHttp {
    let endpoint = Endpoint::new("quota.example:7379", "", Credentials::None).unwrap();
    RedisHttp::new(dialect, endpoint)
}

fn exchange(consumer: &str, consumed: u64, want: u64) -> Exchange {
    let consumer = ConsumerTag::new("test", consumer);
    Exchange {
        key: CounterKey::new(&KeyPrefix::default(), consumer, "month", NOVEMBER),
        envoy: EnvoyId(0xabc),
        seq: 3,
        consumed,
        want,
        limit: 1000,
        expires_at: DECEMBER,
    }
}

fn outcome(seq: u64, upto: u64, total: u64) -> Result<Outcome, StoreError> {
    Ok(Outcome {
        seq,
        upto,
        total,
        previous: 2,
    })
}

fn results(answer: Answer) -> Vec<Result<Outcome, StoreError>> {
    match answer {
        Answer::Results(results) => results,
        Answer::ScriptUnknown => panic!("the script is known"),
    }
}

fn redis_errors(answer: Answer) -> Vec<RedisError> {
    let error = |result| match result {
        Err(StoreError::Redis { error, .. }) => error,
        other => panic!("no error of Redis: {other:?}"),
    };
    results(answer).into_iter().map(error).collect()
}

// The digest needs a library that is built for this machine alone.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn the_digest_is_the_scripts() {
    use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, SCRIPT.as_bytes());
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        SCRIPT_SHA1, hex,
        "SCRIPT_SHA1 in src/redis.rs is to be changed"
    );
}

#[test]
fn webdis_gets_words_divided_by_slashes() {
    let request = store(Dialect::Webdis).encode(
        &[exchange("acme", 40, 10), exchange("bolt", 1, 0)],
        NONCE,
        Script::ByDigest,
    );
    let (acme, bolt) = (
        ConsumerTag::new("test", "acme"),
        ConsumerTag::new("test", "bolt"),
    );
    assert_eq!((request.method, request.path.as_str()), ("POST", "/"));
    assert_eq!(request.authority, "quota.example:7379");
    assert_eq!(
        request.body,
        format!(
            "EVALSHA/{SCRIPT_SHA1}/2/tollgate%3A%7B{acme}%7D%3Amonth%3A2026-11-01\
             /tollgate%3A%7B{bolt}%7D%3Amonth%3A2026-11-01\
             /0000000000000abc/3/40/10/1000/1796083200/0000000000000abc/3/1/0/1000/1796083200\
             /c0ffee"
        )
    );
}

#[test]
fn webdis_gets_the_script_in_full_as_one_word() {
    let request = store(Dialect::Webdis).encode(&[exchange("acme", 40, 10)], NONCE, Script::InFull);
    let words: Vec<&str> = request.body.split('/').collect();
    assert_eq!((words[0], words[2], words.len()), ("EVAL", "1", 11));
    let script = percent_encoding::percent_decode_str(words[1])
        .decode_utf8()
        .unwrap();
    assert_eq!(script, SCRIPT);
}

#[test]
fn upstash_gets_a_command_for_each_consumer() {
    let batch = [
        exchange("acme", 40, 10),
        exchange("acme", 41, 10),
        exchange("bolt", 1, 0),
    ];
    let request = store(Dialect::Upstash).encode(&batch, NONCE, Script::ByDigest);
    assert_eq!(
        (request.method, request.path.as_str()),
        ("POST", "/pipeline")
    );
    let key = |consumer| {
        let consumer = ConsumerTag::new("test", consumer);
        format!("tollgate:{{{consumer}}}:month:2026-11-01")
    };
    let words = |consumed: &str, want: &str| {
        [
            "0000000000000abc",
            "3",
            consumed,
            want,
            "1000",
            "1796083200",
        ]
        .map(str::to_owned)
    };
    let mut acme = vec!["EVALSHA".to_owned(), SCRIPT_SHA1.to_owned(), "2".to_owned()];
    acme.extend([key("acme"), key("acme")]);
    acme.extend(words("40", "10").into_iter().chain(words("41", "10")));
    let mut bolt = vec!["EVALSHA".to_owned(), SCRIPT_SHA1.to_owned(), "1".to_owned()];
    bolt.push(key("bolt"));
    acme.push("c0ffee".to_owned());
    bolt.extend(words("1", "0"));
    bolt.push("c0ffee".to_owned());
    let sent: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(sent, json!([acme, bolt]));
}

#[test]
fn numbers_beyond_those_that_lua_can_count_become_the_largest() {
    let mut exchange = exchange("acme", u64::MAX, u64::MAX);
    exchange.expires_at = i64::MAX;
    let request = store(Dialect::Webdis).encode(&[exchange], NONCE, Script::ByDigest);
    let end = format!("/3/{MAX_COUNT}/{MAX_COUNT}/1000/253402300799/{NONCE}");
    assert!(request.body.ends_with(&end), "{}", request.body);
}

#[test]
fn answers_of_webdis_are_read() {
    let batch = [exchange("acme", 40, 10), exchange("bolt", 1, 0)];
    let read =
        |status, body: &str| store(Dialect::Webdis).decode(&batch, NONCE, status, body.as_bytes());
    for command in ["EVALSHA", "EVAL"] {
        let body = json!({ command: ["3 45 900 2 c0ffee", "3 1 2000 2 c0ffee"] }).to_string();
        assert_eq!(
            results(read(200, &body)),
            [outcome(3, 45, 900), outcome(3, 1, 2000)]
        );
    }
    let body = json!({ "EVALSHA": [false, "NOSCRIPT No matching script. Please use EVAL."] });
    assert_eq!(read(200, &body.to_string()), Answer::ScriptUnknown);
    let body = json!({ "EVALSHA": [false, "NOAUTH Authentication required."] });
    assert_eq!(
        redis_errors(read(200, &body.to_string())),
        [RedisError::AuthenticationRequired; 2]
    );
    let forbidden = results(read(403, "{\"error\":\"Forbidden\"}"));
    assert!(!forbidden[0].as_ref().unwrap_err().is_transient());
    let unavailable = results(read(503, ""));
    assert!(unavailable[1].as_ref().unwrap_err().is_transient());
}

#[test]
fn answers_of_upstash_are_read_command_by_command() {
    let batch = [
        exchange("acme", 40, 10),
        exchange("acme", 41, 10),
        exchange("bolt", 1, 0),
    ];
    let read = |status, body: Value| {
        store(Dialect::Upstash).decode(&batch, NONCE, status, body.to_string().as_bytes())
    };
    let good = json!([{ "result": ["3 45 900 2 c0ffee", "4 9 900 2 c0ffee"] }, { "result": ["3 1 2000 2 c0ffee"] }]);
    assert_eq!(
        results(read(200, good)),
        [outcome(3, 45, 900), outcome(4, 9, 900), outcome(3, 1, 2000)]
    );
    let half = json!([{ "result": ["3 45 900 2 c0ffee", "4 9 900 2 c0ffee"] }, { "error": "LOADING Redis is …" }]);
    let half = results(read(200, half));
    assert_eq!(half[1], outcome(4, 9, 900));
    assert!(half[2].as_ref().unwrap_err().is_transient());
    let unknown = json!([{ "result": ["3 45 900 2 c0ffee", "4 9 900 2 c0ffee"] }, { "error": "NOSCRIPT No …" }]);
    assert_eq!(read(200, unknown), Answer::ScriptUnknown);
    let wrong = json!({ "error": "WRONGPASS invalid or missing auth token" });
    assert_eq!(
        redis_errors(read(400, wrong.clone())),
        [RedisError::AuthenticationFailed; 3]
    );
    let refused = results(read(401, wrong));
    assert!(!refused[0].as_ref().unwrap_err().is_transient());
}

#[test]
fn a_counter_that_fails_leaves_the_others_their_results() {
    let batch = [exchange("acme", 40, 10), exchange("bolt", 1, 0)];
    let wrong_type = "!WRONGTYPE Operation against a key holding the wrong kind of value";
    let body = json!({ "EVALSHA": [wrong_type, "3 1 1 2 c0ffee"] }).to_string();
    let results = results(store(Dialect::Webdis).decode(&batch, NONCE, 200, body.as_bytes()));
    let error = results[0].clone().unwrap_err();
    assert!(
        error.to_string().contains("lies under a counter's key"),
        "{error}"
    );
    assert!(!error.is_transient());
    assert_eq!(results[1], outcome(3, 1, 1));
}

#[test]
fn a_script_that_was_sent_and_is_unknown_is_an_error_for_all() {
    let batch = [exchange("acme", 40, 10), exchange("bolt", 1, 0)];
    let results = Answer::ScriptUnknown.into_results(&batch);
    assert_eq!(results.len(), 2);
    assert!(results[0].as_ref().unwrap_err().is_transient());
}

#[test]
fn what_the_script_cannot_have_said_is_no_outcome() {
    let batch = [exchange("acme", 40, 10)];
    for reply in [
        "",
        "3 45 900 2",
        "3 45 900 2 c0ffee 1",
        "3",
        "3 45",
        "3 45 900 1 1 c0ffee",
        "3 45 900 c0ffee",
        "3 45 900 4 c0ffee",
        "3 45 -1 2 c0ffee",
        "+3 45 900 2 c0ffee",
        "3 39 900 2 c0ffee",
        "3 51 900 2 c0ffee",
        "2 45 900 1 c0ffee",
        "3 4.5e1 900 2 c0ffee",
        " 3 45 900 2 c0ffee",
        "3  45 900 2 c0ffee",
        "3 45 18446744073709551616 2 c0ffee",
    ] {
        let body = json!({ "EVALSHA": [reply] }).to_string();
        let results = results(store(Dialect::Webdis).decode(&batch, NONCE, 200, body.as_bytes()));
        assert!(
            matches!(results[0], Err(StoreError::Garbled(_))),
            "{reply:?}: {results:?}"
        );
    }
}

/// Webdis writes an answer to whichever connection has the socket's number by then.
#[test]
fn an_answer_to_another_call_is_none() {
    let batch = [exchange("acme", 40, 10)];
    for nonce in ["c0ffef", "0c0ffee", "C0FFEE", ""] {
        let body = json!({ "EVALSHA": [format!("3 45 900 2 {nonce}")] }).to_string();
        let answer = store(Dialect::Webdis).decode(&batch, NONCE, 200, body.as_bytes());
        assert_eq!(results(answer), [Err(StoreError::OfAnotherCall)]);
    }
}

#[test]
fn an_answer_to_a_later_exchange_is_stale() {
    let exchange = exchange("acme", 40, 10);
    let later = Outcome {
        seq: 4,
        upto: 0,
        total: 7,
        previous: 4,
    };
    assert!(later.is_stale(&exchange));
    assert!(!Outcome { seq: 3, ..later }.is_stale(&exchange));
}

#[test]
fn errors_of_redis_are_told_apart() {
    for (message, error, transient) in [
        (
            "NOAUTH Authentication required.",
            RedisError::AuthenticationRequired,
            false,
        ),
        (
            "ERR Protocol error: unauthenticated multibulk length",
            RedisError::AuthenticationRequired,
            false,
        ),
        (
            "WRONGPASS invalid username-password pair",
            RedisError::AuthenticationFailed,
            false,
        ),
        (
            "ERR invalid password",
            RedisError::AuthenticationFailed,
            false,
        ),
        (
            "NOPERM this user has no permissions to run",
            RedisError::Forbidden,
            false,
        ),
        (
            "READONLY You can't write against a read only replica.",
            RedisError::ReadOnly,
            true,
        ),
        (
            "ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -READONLY You \
          can't write against a read only replica.",
            RedisError::ReadOnly,
            true,
        ),
        (
            "LOADING Redis is loading the dataset in memory",
            RedisError::Loading,
            true,
        ),
        (
            "BUSY Redis is busy running a script.",
            RedisError::Busy,
            true,
        ),
        (
            "CLUSTERDOWN Hash slot not served",
            RedisError::NotReady,
            true,
        ),
        (
            "MASTERDOWN Link with MASTER is down",
            RedisError::NotReady,
            true,
        ),
        ("MOVED 3999 127.0.0.1:6381", RedisError::Cluster, false),
        (
            "CROSSSLOT Keys in request don't hash to the same slot",
            RedisError::Cluster,
            false,
        ),
        (
            "OOM command not allowed when used memory > 'maxmemory'.",
            RedisError::OutOfMemory,
            true,
        ),
        (
            "MISCONF Redis is configured to save RDB snapshots",
            RedisError::Disk,
            true,
        ),
        (
            "ERR unknown command 'EVALSHA'",
            RedisError::UnknownCommand,
            false,
        ),
        ("ERR something new", RedisError::Other, true),
        ("", RedisError::Other, true),
    ] {
        let batch = [exchange("acme", 40, 10)];
        let body = json!({ "EVALSHA": [false, message] }).to_string();
        let answer = store(Dialect::Webdis).decode(&batch, NONCE, 200, body.as_bytes());
        let result = results(answer).remove(0).unwrap_err();
        assert_eq!(result.is_transient(), transient, "{message}");
        match result {
            StoreError::Redis { error: found, .. } => assert_eq!(found, error, "{message}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_store_says_is_cut_and_made_printable() {
    let batch = [exchange("acme", 40, 10)];
    let body = [b"\x1b[31m\n".as_slice(), &[b'x'; 10_000]].concat();
    let results = results(store(Dialect::Webdis).decode(&batch, NONCE, 500, &body));
    let sentence = results[0].clone().unwrap_err().to_string();
    assert!(
        sentence.len() < 300 && sentence.contains("?[31m?xxx"),
        "{sentence}"
    );
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Webdis), Just(Dialect::Upstash)]
}

/// JSON that resembles an answer.
fn answer_like() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[0-9]{1,3} [0-9]{1,3} [0-9]{1,3}".prop_map(Value::from),
        "![A-Z]{2,9} .*".prop_map(Value::from),
        "(NOSCRIPT|NOAUTH|ERR).*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        let key = prop_oneof!["EVALSHA", "EVAL", "result", "error", ".*"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(key, inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        dialect in dialect(),
        size in 0..4_usize,
        status in any::<u16>(),
        body in any::<Vec<u8>>(),
    ) {
        let batch = vec![exchange("acme", 40, 10); size];
        let answer = store(dialect).decode(&batch, NONCE, status, &body);
        prop_assert_eq!(answer.into_results(&batch).len(), size);
    }

    #[test]
    fn any_json_is_read_without_panic(
        dialect in dialect(),
        size in 0..4_usize,
        status in prop_oneof![Just(200_u16), Just(400), any::<u16>()],
        body in answer_like(),
    ) {
        let batch: Vec<Exchange> = ["a", "a", "b", "c"]
            .into_iter()
            .take(size)
            .map(|consumer| exchange(consumer, 40, 10))
            .collect();
        let answer = store(dialect).decode(&batch, NONCE, status, body.to_string().as_bytes());
        let results = answer.into_results(&batch);
        prop_assert_eq!(results.len(), size);
        for outcome in results.into_iter().flatten() {
            prop_assert!(outcome.seq > 3 || (40..=50).contains(&outcome.upto));
        }
    }
}
