//! What a configuration may say, and how mistakes in it are reported.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn mistakes(config: &Value) -> Vec<String> {
    let errors = Plugin::start(config)
        .err()
        .expect("a configuration with mistakes");
    errors.iter().map(ToString::to_string).collect()
}

fn assert_mistakes(config: &Value, expected: &[&str]) {
    let found = mistakes(config);
    for expected in expected {
        assert!(
            found.iter().any(|message| message.starts_with(expected)),
            "{expected}\nnot in\n{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn the_documented_example_is_valid() {
    start(&json!({
        "apis": [
            { "name": "accounts-v1", "match": [{ "hosts": ["api.bank.example"], "path": "/v1/accounts/**", "methods": ["GET", "POST"] }] },
            { "name": "payments-v2", "match": [{ "path": "/v2/payments/**" }] },
        ],
        "usage_plan": {
            "key": { "header": "x-api-key", "query": "api_key" },
            "plans": {
                "gold": { "throttle": { "rate": "1000/s", "burst": 2000 }, "quota": { "limit": 1e7, "period": "month" }, "apis": ["accounts-v1", "payments-v2"] },
                "bronze": { "throttle": { "rate": "10/s", "burst": 20, "methods": { "POST /v1/accounts/**": "1/s" } }, "quota": { "limit": 10000, "period": "day" } },
            },
            "consumers": [
                { "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256("k"), "expires": "2027-06-30T00:00:00Z" }] },
            ],
        },
    }));
}

#[test]
fn shapes_are_checked() {
    assert_mistakes(
        &config(
            json!({
                "throttle": { "rate": "fast", "burst": 0, "methods": { "GET": { "rate": 5 }, "post /x": "1/s" } },
                "quota": { "limit": "many", "period": "fortnight" },
                "aps": [],
            }),
            json!({ "mode": "dry", "key": { "headers": "x" } }),
        ),
        &[
            "usage_plan.mode: unknown value \"dry\", expected one of enforce, shadow",
            "usage_plan.key.headers: unknown field, did you mean \"header\"?",
            "usage_plan.plans.gold.aps: unknown field, did you mean \"apis\"?",
            "usage_plan.plans.gold.quota.limit: found text, expected a whole number",
            "usage_plan.plans.gold.quota.period: unknown period \"fortnight\", expected one of minute, hour, day, week, month, year",
            "usage_plan.plans.gold.throttle.burst: found 0, expected 1 to 4294967295",
            "usage_plan.plans.gold.throttle.methods.GET.rate: the rate \"5\" has no period, write \"5/s\"",
            "usage_plan.plans.gold.throttle.methods[\"post /x\"]: methods are case-sensitive, write \"POST\"",
            "usage_plan.plans.gold.throttle.rate: \"fast\" is not a rate",
        ],
    );
}

#[test]
fn names_must_exist() {
    assert_mistakes(
        &config(
            json!({ "apis": ["accounts-v1", "acounts-v1"] }),
            json!({
                "consumers": [
                    { "id": "acme", "plan": "golf", "keys": [] },
                    { "id": "acme", "plan": "gold", "keys": [] },
                    { "id": "a b", "plan": "gold" },
                ],
            }),
        ),
        &["usage_plan.consumers[2].id: found \"a b\", expected a name"],
    );
    assert_mistakes(
        &config(
            json!({ "apis": ["accounts-v1", "acounts-v1"] }),
            json!({
                "anonymous": { "plan": "silver" },
                "consumers": [
                    { "id": "acme", "plan": "golf", "keys": [] },
                    { "id": "acme", "plan": "gold", "keys": [] },
                ],
            }),
        ),
        &[
            "usage_plan.plans.gold.apis[1]: unknown API \"acounts-v1\", did you mean \"accounts-v1\"?",
            "usage_plan.consumers[0].plan: unknown plan \"golf\", did you mean \"gold\"?",
            "usage_plan.consumers[1].id: \"acme\" is already the id of usage_plan.consumers[0]",
            "usage_plan.anonymous.plan: unknown plan \"silver\", expected gold",
        ],
    );
}

#[test]
fn keys_are_checked_and_not_repeated() {
    let config = config(
        json!({}),
        json!({ "consumers": [{ "id": "acme", "plan": "gold", "keys": [
            key("a"),
            key("a"),
            {},
            { "sha256": sha256("b"), "hmac_sha256": sha256("b") },
            { "hmac_sha256": sha256("c") },
            { "sha256": sha256("d"), "not_before": "2026-01-02T00:00:00Z", "expires": "2026-01-02T00:00:00Z" },
        ]}] }),
    );
    assert_mistakes(
        &config,
        &[
            "usage_plan.consumers[0].keys[1]: is the same key as usage_plan.consumers[0].keys[0]",
            "usage_plan.consumers[0].keys[2]: found no digest, expected sha256 or hmac_sha256",
            "usage_plan.consumers[0].keys[3]: found sha256 and hmac_sha256, expected one of them",
            "usage_plan.consumers[0].keys[4].hmac_sha256: needs the pepper",
            "usage_plan.consumers[0].keys[5].expires: is not after not_before",
        ],
    );
    let secret = "sk_live_4242424242424242";
    let pasted = super::config(
        json!({}),
        json!({ "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "sha256": secret }] }] }),
    );
    let found = mistakes(&pasted).join("\n");
    assert!(
        found.contains("expected the 64 hexadecimal digits") && !found.contains(secret),
        "{found}"
    );
}

#[test]
fn limits_are_checked() {
    assert_mistakes(
        &config(
            json!({
                "throttle": { "rate": "10r/s burst=20", "burst": 5, "methods": { "GET /a/{x}": "1/s", "GET /a/*": "1/s" } },
                "quota": [
                    { "limit": 1, "period": "day", "anchor_day": 3 },
                    { "limit": 1, "period": "day", "offset": 2 },
                    { "limit": 1, "period": "hour" },
                    { "limit": 2, "period": "hour" },
                ],
            }),
            json!({ "retry_after_max": "10ms" }),
        ),
        &[
            "usage_plan.plans.gold.throttle.burst: the rate already has a burst",
            "usage_plan.plans.gold.throttle.methods",
            "usage_plan.plans.gold.quota[0]",
            "usage_plan.plans.gold.quota[1].offset: found 2, expected at most the quota's limit, 1",
            "usage_plan.plans.gold.quota[3].name: a second quota is named \"hour\"",
            "usage_plan.consumers[0].since: is missing",
            "usage_plan.retry_after_max: is less than 1s",
        ],
    );
    let anonymous = json!({
        "anonymous": { "plan": "gold" },
        "consumers": [{ "id": "a", "plan": "gold", "since": "2026-01-01T00:00:00Z" }],
    });
    let plan = json!({ "quota": { "limit": 5, "period": "day", "offset": 1 } });
    assert_mistakes(
        &config(plan, anonymous),
        &["usage_plan.anonymous.plan: has a quota with an offset"],
    );
    let far =
        json!({ "quota": { "limit": 5, "period": "year", "anchor_day": 300, "anchor_month": 13 } });
    assert_mistakes(
        &config(far, json!({})),
        &[
            "usage_plan.plans.gold.quota.anchor_day: found 300, expected 1 to 31",
            "usage_plan.plans.gold.quota.anchor_month: found 13, expected 1 to 12",
        ],
    );
    let offset = config(
        json!({ "quota": { "limit": 5, "period": "day", "offset": 1 } }),
        json!({}),
    );
    assert_mistakes(&offset, &["usage_plan.consumers[0].since: is missing"]);
}

#[test]
fn nothing_is_not_a_limit() {
    assert_mistakes(
        &config(
            json!({ "apis": null, "throttle": null, "quota": null }),
            json!({ "anonymous": null }),
        ),
        &[
            "usage_plan.anonymous: found nothing",
            "usage_plan.plans.gold.apis: found nothing",
            "usage_plan.plans.gold.quota: found nothing",
            "usage_plan.plans.gold.throttle: found nothing",
        ],
    );
}

#[test]
fn names_of_headers_and_cookies_are_checked() {
    assert_mistakes(
        &config(
            json!({}),
            json!({
                "key": { "header": "Cookie", "query": "", "cookie": "a=b", "realm": "ä" },
                "identity": { "prefix": "x-forwarded-" },
            }),
        ),
        &[
            "usage_plan.key.realm: expected printable ASCII",
            "usage_plan.key.header: cookie has a meaning of its own",
            "usage_plan.key.query: is empty",
            "usage_plan.key.cookie: is not a cookie's name",
            "usage_plan.identity.prefix: found \"x-forwarded-\"",
        ],
    );
    for prefix in ["x-consumer", "consumer-", "x-", "content-"] {
        let found = mistakes(&config(
            json!({}),
            json!({ "identity": { "prefix": prefix } }),
        ));
        assert_eq!(found.len(), 1, "{prefix}: {found:?}");
    }
}

#[test]
fn no_mistake_repeats_what_may_be_a_secret() {
    let secret = "sk_live_4242424242424242";
    let consumer =
        |keys: Value| json!({ "consumers": [{ "id": "a", "plan": "gold", "keys": keys }] });
    for merged in [
        consumer(json!(secret)),
        consumer(json!([secret])),
        consumer(json!([{ "sha256": secret }])),
        consumer(json!([{ secret: 1 }])),
        consumer(json!([{ "sha256": sha256("a"), "expires": secret }])),
        json!({ "consumers": [secret] }),
        json!({ "key": secret }),
        json!({ "key": { "pepper": secret } }),
        json!({ "key": { "pepper": { "env": secret } } }),
    ] {
        let found = mistakes(&config(json!({}), merged.clone())).join("\n");
        assert!(
            !found.is_empty() && !found.contains(secret),
            "{merged}: {found}"
        );
    }
}

#[test]
fn a_section_that_would_refuse_everybody_is_a_mistake() {
    assert_mistakes(
        &json!({ "usage_plan": { "plans": { "gold": {} } } }),
        &["usage_plan: neither consumers nor an anonymous plan nor one for tokens are given"],
    );
}

#[test]
fn sections_of_other_plugins_are_named() {
    let mut other = config(json!({}), json!({}));
    other["jwt_authz"] = json!({});
    other["usage_plam"] = json!({});
    assert_mistakes(
        &other,
        &[
            "jwt_authz: test.wasm has no such section, expected one of apis, hosts, paths, limit_headers, telemetry, usage_plan, access; if this is a policy of another plugin, load tollgate.wasm, which has all, or jwt-authz.wasm",
            "usage_plam: test.wasm has no such section, did you mean \"usage_plan\"?",
        ],
    );
}

#[test]
fn what_a_store_cannot_keep_is_refused() {
    let redis = json!({
        "redis_http": { "cluster": "webdis", "url": "http://webdis/", "dialect": "webdis" },
        "envoys": 3,
        "strict": true,
    });
    assert_mistakes(
        &config(
            json!({ "quota": { "limit": 10, "period": "day" } }),
            json!({ "store": redis, "on_contention": "allow" }),
        ),
        &["usage_plan.on_contention: lets requests pass uncounted"],
    );
    let rls = json!({
        "rls": { "cluster": "limitador", "profile": "limitador" },
        "envoys": 3,
    });
    let since = json!([{
        "id": "acme",
        "plan": "gold",
        "since": "2026-11-01T00:00:00Z",
        "keys": [key("acme-key")],
    }]);
    assert_mistakes(
        &config(
            json!({ "quota": { "limit": 10, "period": "day", "offset": 5 } }),
            json!({ "store": rls, "consumers": since }),
        ),
        &["usage_plan.plans.gold.quota.offset: can't be kept by this store"],
    );
    let claim = config(
        json!({ "quota": { "limit": 10, "period": "day" } }),
        json!({ "store": rls, "token": { "plan_claim": "plan" } }),
    );
    let found = mistakes(&claim);
    assert!(
        found
            .iter()
            .any(|message| message.starts_with("usage_plan.token.plan_claim: lets a consumer be")),
        "{found:#?}"
    );
}
