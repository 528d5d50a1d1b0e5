//! What operators see of fetches.

use std::collections::BTreeMap;

use tollgate_core::host::CalloutId;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// How many fetches had which result.
fn fetches(process: &Process) -> BTreeMap<String, u64> {
    let counters = process.counters().into_iter();
    counters
        .filter_map(|(name, count)| {
            let labels = name.strip_suffix(";.;tollgate_jwks_fetches_total")?;
            let result = labels.strip_prefix("provider=.=idp;.;result=.=")?;
            Some((result.to_owned(), count))
        })
        .collect()
}

/// The next fetch is answered so.
fn answer_next(plugin: &Plugin, status: Option<u16>, body: &[u8]) {
    while plugin.host.callouts.borrow().is_empty() {
        pass(plugin, 1);
    }
    plugin.answer(callout(plugin).id, status, &[], body);
}

#[test]
fn each_fetch_is_counted_by_what_came_of_it() {
    let plugin = start(&fetching(json!({ "refresh": "1s" })));
    let keys = [jwks(&[K1]), jwks(&[K1, K2])].map(|keys| keys.to_string());
    let large = vec![b' '; 70_000];
    let mut expected = BTreeMap::new();
    for (status, body, result) in [
        (Some(500), &b""[..], "status_5xx"),
        (Some(200), keys[0].as_bytes(), "updated"),
        (Some(200), keys[0].as_bytes(), "unchanged"),
        (Some(200), keys[1].as_bytes(), "updated"),
        (None, b"", "no_response"),
        (Some(200), b"{}", "invalid_keys"),
        (Some(200), &large, "too_large"),
        (Some(302), b"", "status_3xx"),
        (Some(404), b"", "status_4xx"),
        (Some(503), b"", "status_503"),
        (Some(504), b"", "status_504"),
        (Some(204), b"", "status_other"),
        (Some(200), keys[1].as_bytes(), "unchanged"),
    ] {
        answer_next(&plugin, status, body);
        *expected.entry(result.to_owned()).or_default() += 1;
        assert_eq!(fetches(&plugin.host.process), expected, "{status:?}");
    }
}

#[test]
fn a_failure_is_logged_once() {
    let plugin = start(&fetching(json!({})));
    answer_next(&plugin, Some(500), b"");
    let warning =
        "keys of idp: status 500, expected 200; there are none to use, next attempt in 1 s";
    let expected = [(log::Level::Warn, warning.to_owned())];
    assert_eq!(plugin.host.logged(), expected);
}

#[test]
fn the_longest_set_may_be_chosen() {
    let set = jwks(&[K1]).to_string();
    let padded = format!("{set}{}", " ".repeat(70_000));
    for (max_size, body, result) in [
        ("64B", &set, "too_large"),
        ("64KiB", &padded, "too_large"),
        ("128KiB", &padded, "updated"),
    ] {
        let plugin = start(&fetching(json!({ "max_size": max_size })));
        answer_next(&plugin, Some(200), body.as_bytes());
        let expected = BTreeMap::from([(result.to_owned(), 1)]);
        assert_eq!(fetches(&plugin.host.process), expected, "{max_size}");
    }
    let two = start(&fetching(json!({ "max_keys": 1 })));
    answer_next(&two, Some(200), jwks(&[K1, K2]).to_string().as_bytes());
    let expected = BTreeMap::from([("invalid_keys".to_owned(), 1)]);
    assert_eq!(fetches(&two.host.process), expected);
}

#[test]
fn a_cluster_that_is_not_known_yet_is_counted_and_tried_again() {
    let plugin = start(&fetching(json!({})));
    plugin.host.clusters.borrow_mut().clear();
    let paused = plugin.submit(bearer("/", &token(json!({})))).paused();
    plugin.tick();
    plugin.tick();
    assert_eq!(
        fetches(&plugin.host.process),
        BTreeMap::from([("not_sent".to_owned(), 1)])
    );
    let paused = plugin.resume(paused).paused();
    plugin.host.clusters.borrow_mut().push("idp".to_owned());
    pass(&plugin, 1);
    publish(&plugin, &[K1]);
    assert_eq!(plugin.resume(paused).reply().status, 200);
}

#[test]
fn discovery_is_counted() {
    let plugin = start(&fetching(
        json!({ "url": null, "discovery": "https://idp.example/metadata" }),
    ));
    let metadata = |issuer: &str| {
        json!({ "issuer": issuer, "jwks_uri": "https://idp.example/keys" }).to_string()
    };
    plugin.tick();
    answer_next(&plugin, Some(200), metadata("other").as_bytes());
    answer_next(&plugin, Some(200), metadata(ISSUER).as_bytes());
    answer_next(&plugin, Some(200), jwks(&[K1]).to_string().as_bytes());
    let expected = ["discovered", "invalid_discovery", "updated"];
    assert_eq!(
        fetches(&plugin.host.process),
        expected.map(|result| (result.to_owned(), 1)).into()
    );
}

#[test]
fn an_answer_that_comes_too_late_is_counted_and_left() {
    let process = process();
    let [slow, quick] = [(); 2].map(|()| start_on::<Alone>(&process, &fetching(json!({}))));
    slow.tick();
    while quick.host.callouts.borrow().is_empty() {
        pass(&quick, 1);
    }
    publish(&quick, &[K2]);
    publish(&slow, &[K1]);
    assert_eq!(
        fetches(&process),
        ["late", "updated"]
            .map(|result| (result.to_owned(), 1))
            .into()
    );
    slow.tick();
    assert_eq!(send(&slow, &K2.sign(&claims(json!({})))).status, 200);
    let paused = slow.submit(bearer("/", &token(json!({})))).paused();
    slow.tick();
    publish(&slow, &[K2]);
    refused(&slow.resume(paused).reply(), 401, "key-unknown");
}

#[test]
fn answers_to_others_are_not_ours() {
    let plugin = start(&fetching(json!({})));
    plugin.tick();
    let sent = callout(&plugin);
    let keys = jwks(&[K2]).to_string();
    plugin.answer(CalloutId(sent.id.0 + 1), Some(200), &[], keys.as_bytes());
    assert!(fetches(&plugin.host.process).is_empty());
    let keys = jwks(&[K1]).to_string();
    plugin.answer(sent.id, Some(200), &[], keys.as_bytes());
    // Once.
    plugin.answer(sent.id, Some(500), &[], b"");
    assert_eq!(
        fetches(&plugin.host.process),
        BTreeMap::from([("updated".to_owned(), 1)])
    );
    assert_eq!(send(&plugin, &token(json!({}))).status, 200);
}

#[test]
fn issuers_are_told_apart() {
    let mut document = fetching(json!({}));
    let partner = provider(with(
        published(json!({ "url": "https://partner.example/keys" })),
        json!({ "name": "partner", "issuer": "https://partner.example/" }),
    ));
    let providers = document["jwt_authz"]["providers"].as_array_mut().unwrap();
    providers.push(partner);
    let process = process();
    let plugin: Plugin = start_on(&process, &document);
    plugin.tick();
    let sent: Vec<Sent> = plugin.host.callouts.borrow_mut().drain(..).collect();
    let urls: Vec<&str> = sent.iter().map(|sent| sent.url.as_str()).collect();
    assert_eq!(
        urls,
        [
            "https://idp.example/jwks.json",
            "https://partner.example/keys"
        ]
    );
    // In the other order.
    for (sent, keys) in sent.iter().zip([&[K1], &[K2]]).rev() {
        let body = jwks(keys).to_string();
        plugin.answer(sent.id, Some(200), &[], body.as_bytes());
    }
    // Another worker has the keys of both from this one.
    let other: Plugin = start_on(&process, &document);
    other.tick();
    no_callout(&other);
    let of_partner = K2.sign(&claims(json!({ "iss": "https://partner.example/" })));
    for worker in [&plugin, &other] {
        assert_eq!(send(worker, &token(json!({}))).status, 200);
        assert_eq!(send(worker, &of_partner).status, 200);
    }
    let counters = plugin.host.process.counters();
    for name in ["idp", "partner"] {
        let counter = format!("provider=.={name};.;result=.=updated;.;tollgate_jwks_fetches_total");
        assert_eq!(counters.get(&counter), Some(&1), "{name}");
    }
}

#[test]
fn the_age_of_keys_is_shown_until_new_ones_come() {
    let age = |plugin: &Plugin| {
        let gauges = plugin.host.process.gauges();
        gauges
            .get("provider=.=idp;.;tollgate_jwks_age_seconds")
            .copied()
    };
    let plugin = start(&fetching(json!({ "refresh": "1m", "stale_for": "2m" })));
    plugin.tick();
    assert_eq!(age(&plugin), None, "there are none yet");
    publish(&plugin, &[K1]);
    pass(&plugin, 40);
    assert_eq!(age(&plugin), Some(40));
    // Other workers show the same, though they have not fetched.
    let other: Plugin = start_on(&plugin.host.process, &fetching(json!({ "refresh": "1m" })));
    other.tick();
    assert_eq!(age(&other), Some(40));
    // It goes on where they are too old to be used.
    pass(&plugin, 960);
    assert_eq!(age(&plugin), Some(1000));
}

#[test]
fn keys_of_the_configuration_have_no_age() {
    let plugin = start(&config(
        json!({}),
        json!({ "jwks": { "inline": jwks(&[K1]) } }),
    ));
    plugin.tick();
    assert_eq!(plugin.host.process.gauges(), BTreeMap::new());
}
