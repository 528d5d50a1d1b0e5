use proptest::prelude::*;
use tollgate_core::apis::{ApiConfig, ApiTable, HostOptions};
use tollgate_core::config::{ConfigErrors, Document};
use tollgate_core::headers::Headers;
use tollgate_core::target::PathOptions;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::compile::LifecycleTable;
use crate::config::VersionConfig;
use crate::link::merge_links;

/// 2026-09-15T00:00:00Z.
const DEPRECATED: u64 = 1_789_430_400;
/// 2027-03-15T00:00:00Z.
const SUNSET: u64 = 1_805_068_800;
/// 2027-06-30T00:00:00Z.
const GRACE: u64 = 1_814_313_600;

const APIS: &str = r#"[{"name": "v1", "match": {"path": "/v1/{**}"}},
                       {"name": "v2", "match": {"path": "/v2/{**}"}}]"#;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// The life of `v1` with these fields.
fn lifecycle(fields: &str) -> (Lifecycle, ApiTable) {
    let text = format!(r#"{{"apis": {APIS}, "sunset": [{{"api": "v1", {fields}}}]}}"#);
    let mut document = Document::parse(text.as_bytes()).unwrap();
    let mut errors = ConfigErrors::default();
    let apis: Vec<ApiConfig> = document.take("apis", &mut errors).unwrap().unwrap();
    let configs: Vec<VersionConfig> = document.take("sunset", &mut errors).unwrap().unwrap();
    let apis = ApiTable::compile(
        apis,
        HostOptions::default(),
        PathOptions::default(),
        &mut errors,
    );
    let table = LifecycleTable::compile(&configs, "sunset", &apis, &mut errors);
    assert!(errors.is_empty(), "{errors}");
    let life = table.find(apis.id("v1").unwrap(), &Headers::default(), None);
    (life.unwrap().clone(), apis)
}

const BOTH: &str = r#""deprecated": "2026-09-15T00:00:00Z", "sunset": "2027-03-15T00:00:00Z""#;

#[test]
fn stages_change_to_the_second_in_either_direction() {
    let (life, _) = lifecycle(&format!(
        r#"{BOTH}, "grace": {{"acme": "2027-06-30T00:00:00Z"}},
           "brownouts": [{{"from": "2027-01-01T00:00:00Z", "for": "12h", "answer": "unavailable"}}]"#
    ));
    const DARK: u64 = 1_798_761_600;
    let brownout = Stage::Brownout {
        until: Some(at(DARK + 43_200)),
        answer: Answer::Unavailable,
    };
    let moments = [
        (0, Stage::Ending, Stage::Ending),
        (DEPRECATED - 1, Stage::Ending, Stage::Ending),
        (DEPRECATED, Stage::Deprecated, Stage::Deprecated),
        (DARK - 1, Stage::Deprecated, Stage::Deprecated),
        (DARK, brownout, Stage::Deprecated),
        (DARK + 43_199, brownout, Stage::Deprecated),
        (DARK + 43_200, Stage::Deprecated, Stage::Deprecated),
        (SUNSET - 1, Stage::Deprecated, Stage::Deprecated),
        (SUNSET, Stage::Retired, Stage::Deprecated),
        (GRACE - 1, Stage::Retired, Stage::Deprecated),
        (GRACE, Stage::Retired, Stage::Retired),
        (u64::MAX, Stage::Retired, Stage::Retired),
    ];
    // Forwards, and back with the clock.
    for (now, everybody, acme) in moments.into_iter().chain(moments.into_iter().rev()) {
        assert_eq!(life.at(at(now), None), everybody, "{now}");
        assert_eq!(life.at(at(now), Some("other")), everybody, "{now}");
        assert_eq!(life.at(at(now), Some("acme")), acme, "{now}");
    }
    // What is finer than a second does not matter.
    let just_before = Timestamp::from_nanos(SUNSET * 1_000_000_000 - 1);
    assert_eq!(life.at(just_before, None), Stage::Deprecated);
}

#[test]
fn a_version_may_have_just_one_of_the_dates() {
    let (life, _) = lifecycle(r#""deprecated": "2026-09-15T00:00:00Z""#);
    assert_eq!(life.at(at(DEPRECATED - 1), None), Stage::Live);
    assert_eq!(life.at(at(u64::MAX), None), Stage::Deprecated);
    assert!(life.sunset(None).is_none());
    let (life, _) = lifecycle(r#""sunset": "2027-03-15T00:00:00Z""#);
    assert_eq!(life.at(at(SUNSET - 1), None), Stage::Ending);
    assert_eq!(life.at(at(SUNSET), None), Stage::Retired);
    assert!(life.deprecation().is_none());
    let same = "2027-03-15T00:00:00Z";
    let (life, _) = lifecycle(&format!(r#""deprecated": "{same}", "sunset": "{same}""#));
    assert_eq!(life.at(at(SUNSET - 1), None), Stage::Ending);
    assert_eq!(life.at(at(SUNSET), None), Stage::Retired);
}

#[test]
fn a_brownout_that_the_end_cuts_off_leads_to_no_service() {
    for (after_sunset, served) in [("gone", false), ("redirect", false), ("pass", true)] {
        let (life, _) = lifecycle(&format!(
            r#"{BOTH}, "successor": "/v2/{{**}}", "after_sunset": "{after_sunset}",
               "brownouts": [{{"from": "2027-03-14T00:00:00Z", "for": "24h"}},
                             {{"from": "2027-03-01T00:00:00Z", "for": "1h"}}]"#
        ));
        let until = |now| match life.at(at(now), None) {
            Stage::Brownout { until, .. } => until,
            stage => panic!("{stage:?}"),
        };
        assert_eq!(until(SUNSET - 1), served.then_some(at(SUNSET)));
        let first = SUNSET - 14 * 86_400;
        assert_eq!(until(first), Some(at(first + 3600)));
    }
}

#[test]
fn the_end_is_told_to_each_as_it_is_for_him() {
    let (life, _) = lifecycle(&format!(
        r#"{BOTH}, "grace": {{"acme": "2027-06-30T00:00:00Z"}}"#
    ));
    assert!(life.has_grace());
    assert_eq!(
        life.deprecation().unwrap().value(at(0)),
        Some("@1789430400")
    );
    let told = |consumer| life.sunset(consumer).unwrap().value().to_owned();
    assert_eq!(told(None), "Mon, 15 Mar 2027 00:00:00 GMT");
    assert_eq!(told(Some("other")), "Mon, 15 Mar 2027 00:00:00 GMT");
    assert_eq!(told(Some("acme")), "Wed, 30 Jun 2027 00:00:00 GMT");
}

#[test]
fn links_lead_to_documentation_and_successors() {
    let (life, apis) = lifecycle(&format!(
        r#"{BOTH}, "docs": "https://dev.example/v2", "successor": "/v2/{{**}}",
           "latest": "https://api.example/latest/{{**}}?v=9""#
    ));
    let templates = apis.templates(apis.id("v1").unwrap());
    let target = RequestTarget::parse(b"/v1/a%20b/c?x=%3E&v=1", &PathOptions::default()).unwrap();
    let elsewhere = life.elsewhere(templates, &target);
    assert_eq!(elsewhere.successor(), Some("/v2/a%20b/c?x=%3E&v=1"));
    let links = life.links(&elsewhere);
    assert_eq!(
        merge_links(links, &[br#"<https://dev.example/v2>; rel="sunset""#]).unwrap(),
        r#"<https://dev.example/v2>; rel="deprecation", </v2/a%20b/c?x=%3E&v=1>; rel="successor-version", <https://api.example/latest/a%20b/c?x=%3E&v=9>; rel="latest-version""#
    );
    // What was not read has no parts.
    let unread = life.elsewhere(templates, &RequestTarget::unread(b"/v1/a"));
    assert_eq!(life.links(&unread).count(), 2);
}

#[test]
fn what_a_client_sends_comes_back_in_links_up_to_a_bound() {
    let (life, apis) = lifecycle(&format!(
        r#"{BOTH}, "successor": "/v2/{{**}}", "latest": "https://api.example/latest/{{**}}""#
    ));
    let templates = apis.templates(apis.id("v1").unwrap());
    let links = |uri_length: usize| {
        let query = "x".repeat(uri_length - "/v2/a?".len());
        let raw = format!("/v1/a?{query}");
        let target = RequestTarget::parse(raw.as_bytes(), &PathOptions::default()).unwrap();
        let elsewhere = life.elsewhere(templates, &target);
        // Whole where it is not a link.
        assert_eq!(elsewhere.successor().unwrap(), format!("/v2/a?{query}"));
        let links = life.links(&elsewhere);
        links.map(|link| link.relation().name()).collect::<Vec<_>>()
    };
    assert_eq!(links(100), ["successor-version", "latest-version"]);
    assert_eq!(links(2048), ["successor-version"]);
    assert!(links(2049).is_empty());
}

#[test]
fn the_parameter_that_names_the_version_stays_behind() {
    let (life, apis) = {
        let text = format!(
            r#""version": {{"query": "v", "value": "1", "default": true}}, {BOTH},
               "successor": "/v1/{{**}}?v=2""#
        );
        lifecycle(&text)
    };
    let templates = apis.templates(apis.id("v1").unwrap());
    for (raw, expected) in [
        (&b"/v1/a?v=1&x=y"[..], "/v1/a?x=y&v=2"),
        (b"/v1/a", "/v1/a?v=2"),
    ] {
        let target = RequestTarget::parse(raw, &PathOptions::default()).unwrap();
        let elsewhere = life.elsewhere(templates, &target);
        assert_eq!(elsewhere.successor(), Some(expected));
    }
}

fn rank(stage: Stage) -> u8 {
    match stage {
        Stage::Live | Stage::Ending => 0,
        Stage::Deprecated | Stage::Brownout { .. } => 1,
        Stage::Retired => 2,
    }
}

proptest! {
    #[test]
    fn stages_follow_one_another_apart_from_brownouts(
        times in prop::collection::vec(DEPRECATED - 10_000..GRACE + 10_000, 2..30),
    ) {
        let (life, _) = lifecycle(&format!(
            r#"{BOTH}, "grace": {{"acme": "2027-06-30T00:00:00Z"}},
               "brownouts": [{{"at": "0 9 * * MON", "for": "15m"}},
                             {{"ramp": {{"period": "1d", "first": "1m", "last": "1h"}}}}]"#
        ));
        let mut sorted = times.clone();
        sorted.sort_unstable();
        for consumer in [None, Some("acme")] {
            let ranks: Vec<u8> =
                sorted.iter().map(|now| rank(life.at(at(*now), consumer))).collect();
            prop_assert!(ranks.is_sorted());
            for now in &times {
                match life.at(at(*now), consumer) {
                    Stage::Live => prop_assert!(false, "its end is known"),
                    Stage::Ending => prop_assert!(*now < DEPRECATED),
                    Stage::Retired => {
                        let end = if consumer.is_some() { GRACE } else { SUNSET };
                        prop_assert!(*now >= end);
                    }
                    Stage::Brownout { until, .. } => {
                        prop_assert!(consumer.is_none());
                        let until = until.unwrap_or(at(SUNSET));
                        prop_assert!(until > at(*now) && until <= at(SUNSET));
                        let is_over = !matches!(life.at(until, consumer), Stage::Brownout { .. });
                        prop_assert!(is_over);
                    }
                    Stage::Deprecated => prop_assert!(*now >= DEPRECATED),
                }
            }
        }
    }
}
