//! What a configuration may say, and how mistakes in it are reported.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn assert_mistakes(limits: Value, expected: &[&str]) {
    let config = json!({ "apis": apis(), "rate_limit": limits, "nobody": {} });
    let errors = Gateway::<Alone>::start(&config)
        .err()
        .expect("a configuration with mistakes");
    let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for expected in expected {
        assert!(
            found.iter().any(|message| message.starts_with(expected)),
            "{expected}\nnot in\n{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

/// A limit with these fields beside its name and key.
fn limit(fields: Value) -> Value {
    let mut limit = json!({ "name": "one", "key": "global" });
    let fields = fields.as_object().unwrap().clone();
    limit.as_object_mut().unwrap().extend(fields);
    json!([limit])
}

#[test]
fn the_documented_example_is_valid() {
    gateway(json!([
        { "name": "per-address", "key": "client_address", "rate": "2000 / 5m", "count": "all",
          "on_exceed": { "block_for": "10m" } },
        { "name": "per-consumer", "key": "consumer", "rate": "100/s", "burst": 200 },
        { "name": "uploads", "key": "consumer",
          "match": { "path": "/v1/uploads/**", "methods": "POST" }, "concurrent": 4 },
    ]));
}

#[test]
fn everything_may_be_said() {
    let full = json!([
        { "name": "a", "key": ["client_address", { "header": "x-user" }, { "query": "q" }, { "cookie": "c" },
            "route", "api", "consumer", "plan", "global",
            { "client_address": { "ipv4_prefix": 24, "ipv6_prefix": 48 } }],
          "rate": "100/s", "burst": 1e2, "smoothing": false, "apis": ["accounts-v1"],
          "match": [{ "path": "/v1/**", "methods": ["GET"], "hosts": ["a.example"] }],
          "exempt": { "addresses": ["10.0.0.0/8"], "consumers": ["acme"], "plans": ["gold"] },
          "cost": { "default": 1, "methods": { "POST": 2 },
            "header": { "name": "x-cost", "from": ["10.0.0.0/8"], "max": 10 } },
          "count": "admitted", "on_exceed": { "block_for": "10m", "after": 5, "within": "1m" },
          "max_clients": 1e6, "namespace": "shared", "retry_after_max": "1h",
          "retry_after_jitter": "5s", "on_contention": "allow", "mode": "shadow" },
        { "name": "b", "key": "consumer", "concurrent": 5, "lease": "1m", "count": "admitted" },
    ]);
    start::<Alone>(&json!({ "apis": apis(), "rate_limit": full, "nobody": {} }));
}

#[test]
fn all_mistakes_in_shape_are_reported_at_once() {
    assert_mistakes(
        json!([
            { "name": "a b", "key": "client_adress", "rate": "fast", "burst": 0, "smothing": true },
            { "key": "global", "rate": "1/s", "mode": "dry", "count": "some", "on_contention": "maybe" },
            { "name": "c", "rate": "1/s", "max_clients": 0, "concurrent": -1, "lease": "soon" },
            { "name": "d", "key": [{ "header": "x y" }, { "headr": "x" }, {}, { "query": "q", "cookie": "c" }],
              "rate": "1/s" },
            { "name": "e", "key": { "client_address": { "ipv4_prefix": 33, "ipv6_prefix": 129 } }, "rate": "1/s" },
            { "name": "f", "key": "global", "rate": "0/s", "exempt": { "addresses": ["10.1.2.3/8"], "consumer": [] } },
            { "name": "g", "key": "global", "rate": "1/s", "cost": { "methods": { "post": 1 },
              "header": { "name": "x", "from": ["all"], "max": 0 } } },
            { "name": "h", "key": "global", "rate": "1/s", "on_exceed": { "after": 0, "block": "1m" } },
            { "name": "i", "key": "global", "rate": "1/s", "cost": -1 },
        ]),
        &[
            "rate_limit[0].name: found \"a b\", expected a name",
            "rate_limit[0].key: unknown key \"client_adress\", did you mean \"client_address\"?",
            "rate_limit[0].rate: \"fast\" is not a rate",
            "rate_limit[0].burst: found 0, expected 1 to 4294967295",
            "rate_limit[0].smothing: unknown field, did you mean \"smoothing\"?",
            "rate_limit[1]: the field \"name\" is missing",
            "rate_limit[1].mode: unknown value \"dry\", expected one of enforce, shadow",
            "rate_limit[1].count: unknown value \"some\", expected one of admitted, all",
            "rate_limit[1].on_contention: unknown value \"maybe\", expected one of deny, allow",
            "rate_limit[2]: the field \"key\" is missing",
            "rate_limit[2].max_clients: found 0, expected 1 to 4294967295",
            "rate_limit[2].concurrent: found the number -1, expected a whole number",
            "rate_limit[2].lease: \"soon\" is not a duration",
            "rate_limit[3].key[0].header: ",
            "rate_limit[3].key[1].headr: unknown field, did you mean \"header\"?",
            "rate_limit[3].key[2]: expected exactly one of client_address, header, query, cookie",
            "rate_limit[3].key[3]: expected exactly one of client_address, header, query, cookie",
            "rate_limit[4].key.client_address.ipv4_prefix: found 33, expected 0 to 32",
            "rate_limit[4].key.client_address.ipv6_prefix: found 129, expected 0 to 128",
            "rate_limit[5].rate: a rate of 0 as in \"0/s\" admits nothing",
            "rate_limit[5].exempt.addresses[0]: found \"10.1.2.3/8\", expected a network",
            "rate_limit[5].exempt.consumer: unknown field, did you mean \"consumers\"?",
            "rate_limit[6].cost.methods.post: methods are case-sensitive, write \"POST\"",
            "rate_limit[6].cost.header.from[0]: found \"all\", expected a network",
            "rate_limit[6].cost.header.max: found 0, expected 1 to 4294967295",
            "rate_limit[7].on_exceed.after: found 0, expected 1 to 4294967295",
            "rate_limit[7].on_exceed.block: unknown field, expected one of block_for, after, within",
            "rate_limit[7].on_exceed: the field \"block_for\" is missing",
            "rate_limit[8].cost: found the number -1, expected a whole number",
        ],
    );
}

#[test]
fn all_mistakes_in_meaning_are_reported_at_once() {
    assert_mistakes(
        json!([
            { "name": "a", "key": [], "max_clients": 20_000_000 },
            { "name": "a", "key": "global", "rate": "1/s", "concurrent": 1 },
            { "name": "c", "key": "global", "rate": "1/s burst=2", "burst": 2, "lease": "1m" },
            { "name": "d", "key": "global", "rate": "1/s", "burst": 2, "smoothing": true },
            { "name": "e", "key": "global", "rate": "1/s burst=2", "smoothing": true },
            { "name": "f", "key": "global", "concurrent": 1, "burst": 2, "smoothing": true, "cost": 2,
              "count": "all", "on_exceed": { "block_for": "1m" }, "lease": "0s" },
            { "name": "g", "key": "consumer", "rate": "1/s", "count": "all" },
            { "name": "h", "key": ["plan", "client_address"], "rate": "1/s", "count": "all" },
            { "name": "i", "key": "global", "rate": "1/s", "count": "all", "exempt": { "plans": ["gold"] } },
            { "name": "j", "key": "global", "rate": "1/s", "apis": ["acounts-v1", "payments-v1", "x"] },
            { "name": "k", "key": "global", "rate": "1/s", "match": [{ "path": "v1" }, { "methods": "get" }] },
            { "name": "l", "key": "global", "rate": "1/s", "on_exceed": { "block_for": "0s", "within": "0s" } },
            { "name": "m", "key": "global", "rate": "2000000/s" },
            { "name": "n", "key": "global", "rate": "1 / 400d", "burst": 4294967295_u32 },
        ]),
        &[
            "rate_limit[0]: limits nothing: add a rate, or concurrent",
            "rate_limit[0].key: is empty: write global",
            "rate_limit[0].max_clients: a table for 20000000 clients is too large",
            "rate_limit[1].name: \"a\" is the name of another limit too",
            "rate_limit[1]: has a rate and concurrent: make two limits of it",
            "rate_limit[2].burst: the rate already has a burst",
            "rate_limit[2].lease: is for concurrent only",
            "rate_limit[3].smoothing: is a burst of 1, and a burst is given too",
            "rate_limit[4].smoothing: is a burst of 1, and a burst is given too",
            "rate_limit[5].burst: is for a rate only",
            "rate_limit[5].smoothing: is for a rate only",
            "rate_limit[5].on_exceed: is for a rate only",
            "rate_limit[5].cost: is for a rate only",
            "rate_limit[5].count: is for a rate only",
            "rate_limit[5].lease: expected a time above 0",
            "rate_limit[6].count: all requests are counted before it is known who calls",
            "rate_limit[7].count: all requests are counted before it is known who calls",
            "rate_limit[8].count: all requests are counted before it is known who calls",
            "rate_limit[9].apis[0]: unknown API \"acounts-v1\", did you mean \"accounts-v1\"?",
            "rate_limit[9].apis[2]: unknown API \"x\"",
            "rate_limit[10].match[0].path: ",
            "rate_limit[10].match[1].methods: ",
            "rate_limit[11].on_exceed.block_for: expected a time above 0",
            "rate_limit[11].on_exceed.within: expected a time above 0",
            "rate_limit[12].rate: ",
            "rate_limit[13].rate: ",
        ],
    );
}

#[test]
fn a_limit_about_nothing_is_a_mistake() {
    assert_mistakes(json!([]), &["rate_limit: the list is empty: add a limit"]);
    assert_mistakes(
        limit(json!({ "rate": "1/s", "match": [] })),
        &["rate_limit[0].match: is empty: leave it out for a limit on all requests"],
    );
    assert_mistakes(
        limit(json!({ "rate": "1/s", "apis": [] })),
        &["rate_limit[0].apis: is empty: leave it out for a limit on all requests"],
    );
}

#[test]
fn a_key_part_must_have_a_name() {
    assert_mistakes(
        json!([{ "name": "one", "key": [{ "query": "" }, { "cookie": "" }], "rate": "1/s" }]),
        &[
            "rate_limit[0].key[0].query: is empty, expected a name",
            "rate_limit[0].key[1].cookie: is empty, expected a name",
        ],
    );
}

#[test]
fn who_calls_must_be_found_out_by_somebody() {
    for limit in [
        json!({ "key": "consumer" }),
        json!({ "key": ["client_address", "plan"] }),
        json!({ "key": "global", "exempt": { "consumers": ["acme"] } }),
    ] {
        let mut limit = limit;
        limit["name"] = json!("one");
        limit["rate"] = json!("1/s");
        let config = json!({ "rate_limit": [limit] });
        let errors = Gateway::<Alone>::start(&config).err().unwrap().to_string();
        assert!(errors.contains("nothing finds out who calls"), "{errors}");
    }
}

#[test]
fn a_rate_may_be_given_with_its_burst() {
    let limit = |rate: Value| json!([{ "name": "one", "key": "global", "rate": rate }]);
    let gateway = gateway(limit(json!({ "rate": "1/h", "burst": 3 })));
    let statuses = [(); 4].map(|()| gateway.send(Request::get("/")).status);
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_mistakes(
        limit(json!({ "rate": "1r/s burst=2", "burst": 3 })),
        &["rate_limit[0].rate.burst: the rate already has a burst"],
    );
    assert_mistakes(
        limit(json!({ "rat": "1/s" })),
        &[
            "rate_limit[0].rate.rat: unknown field, did you mean \"rate\"?",
            "rate_limit[0].rate: the field \"rate\" is missing",
        ],
    );
    let mut twice = limit(json!({ "rate": "1/s", "burst": 3 }));
    twice[0]["burst"] = json!(3);
    assert_mistakes(
        twice,
        &["rate_limit[0].burst: the rate already has a burst"],
    );
}

#[test]
fn a_claim_needs_somebody_who_checks_tokens() {
    let mut limit = json!([{ "name": "one", "key": { "claim": "sub" }, "rate": "1/s" }]);
    assert_mistakes(
        limit.clone(),
        &["rate_limit[0].key: a claim is named, but nothing checks tokens"],
    );
    limit[0]["count"] = json!("all");
    assert_mistakes(
        limit,
        &[
            "rate_limit[0].count: all requests are counted before a token is checked",
            "rate_limit[0].key: a claim is named, but nothing checks tokens",
        ],
    );
}
