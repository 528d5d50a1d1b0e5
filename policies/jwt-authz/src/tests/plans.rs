//! Callers with a token on a usage plan: `usage_plan.token`, and consumers' `clients`.

use sha2::{Digest as _, Sha256};
use tollgate_testkit::Fault;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

type Plans = Gateway<WithPlans>;

/// A `usage_plan` section: a consumer `acme` with the key `acme-key` on the plan `gold`.
pub(super) fn acme(more: Value) -> Value {
    let digest: String = Sha256::digest(b"acme-key")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let section = json!({
        "plans": { "gold": {} },
        "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "sha256": digest }] }],
    });
    with(section, more)
}

/// How much is left of the quota, by what the client is told.
pub(super) fn remaining(reply: &Reply) -> u64 {
    let told = reply
        .header("ratelimit")
        .unwrap_or_else(|| panic!("{reply:?}"));
    let (_, rest) = told.split_once(";r=").unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Plans of 2, 3 and 100 calls a day, and tokens or keys needed.
fn plans(token: Value, more: Value) -> Plans {
    let day = |limit: u64| json!({ "quota": { "limit": limit, "period": "day" } });
    let section = with(
        acme(json!({
            "plans": { "free": day(2), "silver": day(3), "gold": day(100) },
            "token": token,
        })),
        more,
    );
    start_on(
        &process(),
        &with(
            config(json!({}), json!({})),
            json!({
                "usage_plan": section,
                "access": [{ "require": { "any_of": ["jwt", "api_key"] } }],
            }),
        ),
    )
}

fn call(plugin: &Plans, more: Value) -> Reply {
    plugin.send(bearer("/", &token(more)))
}

/// The consumer and the plan that the upstream is told.
fn caller(reply: Reply) -> (Option<String>, Option<String>) {
    let upstream = reply.upstream.as_ref();
    let upstream = upstream.unwrap_or_else(|| panic!("{}", reply.kind()));
    (
        upstream.header("x-consumer-id"),
        upstream.header("x-consumer-plan"),
    )
}

fn known(consumer: Option<&str>, plan: Option<&str>) -> (Option<String>, Option<String>) {
    (consumer.map(str::to_owned), plan.map(str::to_owned))
}

#[test]
fn a_claim_may_name_the_plan() {
    let plugin = plans(
        json!({ "plan_claim": ["bank", "plan"], "plan": "free" }),
        json!({}),
    );
    let of = |plan: Value| json!({ "client_id": "app", "bank": { "plan": plan } });
    assert_eq!(
        caller(call(&plugin, of(json!("silver")))),
        known(None, Some("silver"))
    );
    assert_eq!(
        caller(call(&plugin, json!({ "client_id": "b" }))),
        known(None, Some("free"))
    );
    // A name of no plan is no way to another one.
    for unknown in [
        json!("platinum"),
        json!(""),
        json!("Silver"),
        json!(7),
        json!(["silver"]),
    ] {
        let reply = call(&plugin, of(unknown.clone()));
        refused(&reply, 403, "plan-missing");
        assert_eq!(reply.header("www-authenticate"), None);
    }
    let empty = K1.sign(&claims(
        json!({ "client_id": "app", "bank": { "plan": null } }),
    ));
    refused(&plugin.send(bearer("/", &empty)), 403, "plan-missing");
    // It goes before the plan of a consumer.
    let acme = json!({ "client_id": "acme", "bank": { "plan": "silver" } });
    assert_eq!(
        caller(call(&plugin, acme)),
        known(Some("acme"), Some("silver"))
    );
    let acme = json!({ "client_id": "acme", "bank": { "plan": "platinum" } });
    refused(&call(&plugin, acme), 403, "plan-missing");
}

#[test]
fn a_client_may_be_a_consumer() {
    let plugin = plans(json!({}), json!({}));
    let of_token = call(&plugin, json!({ "client_id": "acme" }));
    assert_eq!(remaining(&of_token), 99);
    assert_eq!(caller(of_token), known(Some("acme"), Some("gold")));
    // With its key it uses the same quota.
    let of_key = plugin.send(Request::get("/").header("x-api-key", "acme-key"));
    assert_eq!(remaining(&of_key), 98);
    // `azp`, where there is no `client_id`.
    assert_eq!(remaining(&call(&plugin, json!({ "azp": "acme" }))), 97);
    let both = json!({ "client_id": "app", "azp": "acme" });
    refused(&call(&plugin, both), 403, "plan-missing");
    // A subject is no client.
    refused(
        &call(&plugin, json!({ "sub": "acme" })),
        403,
        "plan-missing",
    );
}

#[test]
fn who_has_no_plan_is_refused() {
    let plugin = plans(json!({}), json!({}));
    for client in [
        json!({ "client_id": "app" }),
        json!({ "client_id": 7 }),
        json!({}),
    ] {
        let reply = call(&plugin, client);
        refused(&reply, 403, "plan-missing");
        assert_eq!(
            reply.problem()["detail"],
            "There is no plan for the client that this token was issued to."
        );
    }
}

#[test]
fn each_client_has_a_quota_of_its_own() {
    let plugin = plans(json!({ "plan": "free" }), json!({}));
    for client in ["a", "b"] {
        let client = json!({ "client_id": client });
        assert_eq!(remaining(&call(&plugin, client.clone())), 1);
        assert_eq!(remaining(&call(&plugin, client.clone())), 0);
        refused(&call(&plugin, client), 429, "quota-exceeded");
    }
    // Another token of the same client is no way around; its user does not matter.
    let other_user = json!({ "client_id": "a", "sub": "bob", "jti": "2" });
    refused(&call(&plugin, other_user), 429, "quota-exceeded");
    // Where no client is named, subjects are told apart.
    for subject in ["carol", "dave"] {
        assert_eq!(remaining(&call(&plugin, json!({ "sub": subject }))), 1);
    }
    refused(&call(&plugin, json!({ "sub": null })), 403, "plan-missing");
    // A consumer has its own plan.
    assert_eq!(
        remaining(&call(&plugin, json!({ "client_id": "acme" }))),
        99
    );
}

#[test]
fn all_workers_charge_the_same_quota() {
    let process = process();
    let document = with(
        config(json!({}), json!({})),
        json!({
            "usage_plan": acme(json!({
                "plans": { "gold": {}, "free": { "quota": { "limit": 2, "period": "day" } } },
                "token": { "plan": "free" },
            })),
            "access": [{ "require": "jwt" }],
        }),
    );
    let workers = [(); 3].map(|()| start_on::<WithPlans>(&process, &document));
    let client = json!({ "client_id": "app" });
    let statuses = workers
        .each_ref()
        .map(|worker| call(worker, client.clone()).status);
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn the_claim_that_tells_clients_apart_may_be_chosen() {
    let plugin = plans(
        json!({ "plan": "free", "client_claim": "tenant" }),
        json!({}),
    );
    let of = |client: &str, tenant: Value| json!({ "client_id": client, "tenant": tenant });
    assert_eq!(remaining(&call(&plugin, of("a", json!("t1")))), 1);
    assert_eq!(remaining(&call(&plugin, of("b", json!("t1")))), 0);
    assert_eq!(remaining(&call(&plugin, of("a", json!(7)))), 1);
    refused(&call(&plugin, of("a", json!("t1"))), 429, "quota-exceeded");
    for tenant in [json!(null), json!({ "a": 1 }), json!(["t1"])] {
        refused(&call(&plugin, of("a", tenant)), 403, "plan-missing");
    }
}

#[test]
fn the_client_may_be_named_by_a_claim_of_its_own() {
    let plugin: Plans = start_on(
        &process(),
        &with(
            config(json!({}), json!({ "client_claim": ["app", "id"] })),
            json!({
                "usage_plan": acme(json!({ "token": {} })),
                "access": [{ "require": "jwt" }],
            }),
        ),
    );
    let named = json!({ "client_id": "other", "app": { "id": "acme" } });
    assert_eq!(
        caller(call(&plugin, named)),
        known(Some("acme"), Some("gold"))
    );
    refused(
        &call(&plugin, json!({ "client_id": "acme" })),
        403,
        "plan-missing",
    );
}

#[test]
fn issuers_may_know_a_consumer_by_other_names() {
    let consumers = json!([
        {
            "id": "acme", "plan": "gold",
            "clients": [
                { "provider": "idp", "id": "acme-app" },
                { "provider": "partner", "id": "app-1" },
            ],
        },
        {
            "id": "umbrella", "plan": "silver",
            "clients": [{ "provider": "idp", "id": "app-1" }, { "provider": "idp", "id": "app-2" }],
        },
        { "id": "initech", "plan": "free", "clients": [] },
    ]);
    let mut document = config(json!({}), json!({}));
    let partner = provider(json!({
        "name": "partner", "issuer": "https://partner.example/", "jwks": { "inline": jwks(&[K2]) },
    }));
    let providers = document["jwt_authz"]["providers"].as_array_mut().unwrap();
    providers.push(partner);
    let plugin: Plans = start_on(
        &process(),
        &with(
            document,
            json!({
                "usage_plan": {
                    "plans": { "free": {}, "silver": {}, "gold": {} },
                    "consumers": consumers,
                    "token": {},
                },
                "access": [{ "require": "jwt" }],
            }),
        ),
    );
    let by_partner = |client: &str| {
        let iss = "https://partner.example/";
        let token = K2.sign(&claims(json!({ "iss": iss, "client_id": client })));
        plugin.send(bearer("/", &token))
    };
    let by_idp = |client: &str| call(&plugin, json!({ "client_id": client }));
    let acme = known(Some("acme"), Some("gold"));
    assert_eq!(caller(by_idp("acme-app")), acme);
    assert_eq!(caller(by_partner("app-1")), acme);
    assert_eq!(
        caller(by_idp("app-1")),
        known(Some("umbrella"), Some("silver"))
    );
    let umbrella = known(Some("umbrella"), Some("silver"));
    assert_eq!(caller(by_idp("app-2")), umbrella);
    // One issuer can't make its clients those of another.
    for client in ["acme-app", "app-2", "acme", "umbrella", "initech"] {
        refused(&by_partner(client), 403, "plan-missing");
    }
    for client in ["acme", "umbrella", "initech"] {
        refused(&by_idp(client), 403, "plan-missing");
    }
}

#[test]
fn with_several_issuers_it_is_said_whose_clients_and_plans_count() {
    let mut document = config(json!({}), json!({}));
    let partner = provider(json!({
        "name": "partner", "issuer": "https://partner.example/", "jwks": { "inline": jwks(&[K2]) },
    }));
    let providers = document["jwt_authz"]["providers"].as_array_mut().unwrap();
    providers.push(partner);
    let mistakes = |usage_plan: Value| {
        let document = with(document.clone(), json!({ "usage_plan": usage_plan }));
        let errors = Plans::start(&document).err().unwrap();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let found = mistakes(json!({
        "plans": { "gold": {} },
        "consumers": [
            { "id": "acme", "plan": "gold", "clients": ["app", { "provider": "idb", "id": "app" }] },
        ],
        "token": { "plan_claim": "plan" },
    }));
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].starts_with("usage_plan.consumers[0].clients[0]: names no provider"));
    assert!(found[1].starts_with("usage_plan.consumers[0].clients[1]: unknown provider \"idb\""));
    assert!(found[2].starts_with("usage_plan.token.providers: is missing"));

    let plugin: Plans = start_on(
        &process(),
        &with(
            document.clone(),
            json!({
                "usage_plan": {
                    "plans": { "gold": {}, "free": {} },
                    "token": { "plan_claim": "plan", "providers": ["idp"], "plan": "free" },
                },
                "access": [{ "require": "jwt" }],
            }),
        ),
    );
    let plan = |key: &Key, iss: &str| {
        let token = key.sign(&claims(
            json!({ "iss": iss, "client_id": "a", "plan": "gold" }),
        ));
        caller(plugin.send(bearer("/", &token)))
    };
    assert_eq!(plan(&K1, ISSUER), known(None, Some("gold")));
    assert_eq!(
        plan(&K2, "https://partner.example/"),
        known(None, Some("free"))
    );
}

#[test]
fn issuers_do_not_share_their_clients_quotas() {
    let mut document = config(json!({}), json!({}));
    let partner = provider(json!({
        "name": "partner", "issuer": "https://partner.example/", "jwks": { "inline": jwks(&[K2]) },
    }));
    let providers = document["jwt_authz"]["providers"].as_array_mut().unwrap();
    providers.push(partner);
    let plugin: Plans = start_on(
        &process(),
        &with(
            document,
            json!({
                "usage_plan": {
                    "plans": { "free": { "quota": { "limit": 1, "period": "day" } } },
                    "token": { "plan": "free" },
                },
                "access": [{ "require": "jwt" }],
            }),
        ),
    );
    let app = json!({ "client_id": "app" });
    assert_eq!(call(&plugin, app.clone()).status, 200);
    refused(&call(&plugin, app.clone()), 429, "quota-exceeded");
    let of_partner = with(claims(app), json!({ "iss": "https://partner.example/" }));
    assert_eq!(plugin.send(bearer("/", &K2.sign(&of_partner))).status, 200);
}

#[test]
fn token_and_key_must_be_one_clients() {
    let document = |rule: Value| {
        with(
            config(json!({}), json!({})),
            json!({
                "usage_plan": acme(json!({})),
                "access": [with(json!({ "require": { "all_of": ["jwt", "api_key"] } }), rule)],
            }),
        )
    };
    let send = |plugin: &Plans, more: Value, key: &str| {
        plugin.send(bearer("/", &token(more)).header("x-api-key", key))
    };
    let plugin = start_on(&process(), &document(json!({})));
    let of = |client: &str| json!({ "client_id": client });
    assert_eq!(send(&plugin, of("acme"), "acme-key").status, 200);
    for stolen in [of("other"), of("Acme"), json!({}), json!({ "sub": "acme" })] {
        refused(&send(&plugin, stolen, "acme-key"), 403, "client-mismatch");
    }
    refused(
        &send(&plugin, of("acme"), "other-key"),
        401,
        "api-key-unknown",
    );
    refused(&call(&plugin, of("acme")), 401, "credentials-missing");
    let plugin = start_on(&process(), &document(json!({ "same_client": false })));
    assert_eq!(send(&plugin, of("other"), "acme-key").status, 200);
}

#[test]
fn who_has_a_key_does_not_wait_for_what_a_token_is_checked_with() {
    let document = |require: Value| {
        with(
            fetching(json!({})),
            json!({ "usage_plan": acme(json!({})), "access": [{ "require": require }] }),
        )
    };
    let request = || bearer("/", &token(json!({}))).header("x-api-key", "acme-key");
    let plugin: Plans = start_on(
        &process(),
        &document(json!({ "any_of": ["jwt", "api_key"] })),
    );
    assert_eq!(
        caller(plugin.send(request())),
        known(Some("acme"), Some("gold"))
    );

    let both = json!({ "all_of": ["jwt", "api_key"] });
    let plugin: Plans = start_on(&process(), &document(both));
    let paused = plugin.submit(request()).paused();
    plugin.tick();
    publish(&plugin, &[K1]);
    refused(&plugin.resume(paused).reply(), 403, "client-mismatch");
}

#[test]
fn both_challenges_are_given_where_both_may_be_sent() {
    let plugin = plans(json!({ "plan": "free" }), json!({}));
    let reply = plugin.send(Request::get("/"));
    refused(&reply, 401, "credentials-missing");
    assert_eq!(
        challenges(&reply),
        ["Bearer realm=\"api\"", "ApiKey realm=\"api\""]
    );
    let reply = plugin.send(bearer("/", "x"));
    let [of_token, of_key] = challenges(&reply)[..] else {
        panic!("{reply:?}");
    };
    assert!(of_token.starts_with("Bearer realm=\"api\", error=\"invalid_token\""));
    assert_eq!(of_key, "ApiKey realm=\"api\"");
}

#[test]
fn a_key_goes_before_a_token() {
    let plugin = plans(json!({ "plan_claim": "plan", "plan": "free" }), json!({}));
    let both = bearer("/", &token(json!({ "client_id": "app", "plan": "silver" })));
    let reply = plugin.send(both.header("x-api-key", "acme-key"));
    assert_eq!(caller(reply), known(Some("acme"), Some("gold")));
}

#[test]
fn without_the_section_a_token_has_no_plan_and_no_limits() {
    let plugin: Plans = start_on(
        &process(),
        &with(
            config(json!({}), json!({})),
            json!({
                "usage_plan": acme(json!({
                    "plans": { "gold": { "quota": { "limit": 0, "period": "day" } } },
                })),
                "access": [{ "require": { "any_of": ["jwt", "api_key"] } }],
            }),
        ),
    );
    let reply = call(&plugin, json!({ "client_id": "acme" }));
    assert_eq!(reply.header("ratelimit"), None);
    assert_eq!(caller(reply), known(None, None));
}

#[test]
fn out_of_reach_of_the_shared_data_the_document_decides() {
    for (on_contention, status) in [("deny", 503), ("allow", 200)] {
        let plugin = plans(
            json!({ "plan": "free" }),
            json!({ "on_contention": on_contention }),
        );
        let client = json!({ "client_id": "app" });
        // Where its usage is counted, and then its usage.
        for _ in 0..2 {
            plugin.host.inject([Fault::ReadFails]);
            assert_eq!(
                call(&plugin, client.clone()).status,
                status,
                "{on_contention}"
            );
            assert_eq!(call(&plugin, client.clone()).status, 200);
        }
    }
}

#[test]
fn mistakes_are_told_with_their_paths() {
    let mistakes = |document: &Value| -> Vec<String> {
        let errors = Plans::start(document)
            .err()
            .unwrap_or_else(|| panic!("a document with mistakes: {document}"));
        errors.iter().map(ToString::to_string).collect()
    };
    let section = |more: Value| {
        with(
            config(json!({}), json!({})),
            json!({ "usage_plan": acme(more) }),
        )
    };
    for (more, expected) in [
        (
            json!({ "token": { "plan": "golf" } }),
            "usage_plan.token.plan: unknown plan \"golf\", did you mean \"gold\"?",
        ),
        (
            json!({ "token": { "plan_claim": [] } }),
            "usage_plan.token.plan_claim: ",
        ),
        (
            json!({ "token": { "max_clients": 0 } }),
            "usage_plan.token.max_clients: found 0, expected 1 to ",
        ),
        (
            json!({ "token": { "plans": "gold" } }),
            "usage_plan.token.plans: unknown field, did you mean \"plan\"?",
        ),
        (
            json!({ "consumers": [
                { "id": "acme", "plan": "gold", "clients": ["app"] },
                { "id": "umbrella", "plan": "gold", "clients": ["app"] },
            ] }),
            "usage_plan.consumers[1].clients[0]: \"app\" is a client of usage_plan.consumers[0] too",
        ),
    ] {
        let found = mistakes(&section(more.clone()));
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{expected}\nnot in\n{found:#?}"
        );
    }
    let without_tokens = json!({ "usage_plan": acme(json!({ "token": {} })) });
    let found = mistakes(&without_tokens);
    assert!(
        found[0].starts_with("usage_plan.token: is for callers with tokens, which the jwt_authz"),
        "{found:?}"
    );
}
