use tollgate_core::apis::{ApiConfig, HostOptions};
use tollgate_core::config::Document;
use tollgate_core::target::PathOptions;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

mod loops;

const APIS: &str = r#"[
    {"name": "v1", "match": {"path": ["/v1/accounts/{id}", "/v1/accounts/**"]}},
    {"name": "v2", "match": {"path": "/v2/**"}},
    {"name": "one", "match": {"path": "/one/{id}"}},
    {"name": "rest", "match": {"path": "/**"}}
]"#;

fn read(sunset: &str) -> (Result<LifecycleTable, String>, ApiTable) {
    read_with(APIS, sunset)
}

fn read_with(apis: &str, sunset: &str) -> (Result<LifecycleTable, String>, ApiTable) {
    let text = format!(r#"{{"apis": {apis}, "sunset": {sunset}}}"#);
    let mut document = Document::parse(text.as_bytes()).unwrap();
    let mut errors = ConfigErrors::default();
    let apis: Vec<ApiConfig> = document.take("apis", &mut errors).unwrap().unwrap();
    let apis = ApiTable::compile(
        apis,
        HostOptions::default(),
        PathOptions::default(),
        &mut errors,
    );
    let table = match document.take::<Vec<VersionConfig>>("sunset", &mut errors) {
        Ok(configs) => LifecycleTable::compile(&configs.unwrap(), "sunset", &apis, &mut errors),
        Err(_) => LifecycleTable::default(),
    };
    (
        errors
            .is_empty()
            .then_some(table)
            .ok_or_else(|| errors.to_string()),
        apis,
    )
}

const DATES: &str = r#""deprecated": "2026-09-15T00:00:00Z", "sunset": "2027-03-15T00:00:00Z""#;

#[test]
fn the_whole_example_is_read() {
    let (table, apis) = read(
        r#"[{
            "api": "v1",
            "version": [{"header": "x-api-version", "value": ["1", "1.0"]},
                        {"media_type": "application/vnd.bank.v1+json"}],
            "deprecated": "2026-09-15T00:00:00Z",
            "sunset": "2027-03-15T00:00:00Z",
            "successor": "/v2/accounts/**",
            "latest": "https://api.bank.example/v3",
            "docs": "https://dev.bank.example/v2",
            "after_sunset": "redirect",
            "brownouts": [
                {"at": "0 9 * * MON", "for": "15m", "utc_offset": "+01:00", "answer": "unavailable"},
                {"ramp": {"period": "1h", "first": "1m", "last": "30m"}, "from": "2027-03-01T00:00:00Z"}
            ],
            "grace": {"acme": "2027-06-30T00:00:00Z"},
            "legacy_deprecation_true": true,
            "mode": "shadow"
        }]"#
        // The more specific template has no rest.
        .replace("/v2/accounts/**", "/v2/accounts")
        .as_str(),
    );
    let table = table.unwrap();
    assert!(table.has_grace());
    let life = table.iter().next().unwrap();
    assert_eq!(life.after_sunset(), AfterSunset::Redirect);
    assert_eq!(life.mode(), tollgate_core::policy::Mode::Shadow);
    let find = |api, name: &str, value: &str| {
        let headers = Headers::from_pairs([(name, value)]);
        table.find(apis.id(api).unwrap(), &headers, None).is_some()
    };
    assert!(find("v1", "x-api-version", "1.0"));
    assert!(find("v1", "accept", "application/vnd.bank.v1+json"));
    assert!(!find("v1", "x-api-version", "2"));
    assert!(!find("v2", "x-api-version", "1"));
}

#[test]
fn a_narrower_version_goes_first() {
    let (table, apis) = read(&format!(
        r#"[{{"apis": ["v1", "v2"], {DATES}}},
            {{"api": "v1", "version": {{"query": "v", "value": "2"}}, "deprecated": "2027-01-01T00:00:00Z"}},
            {{"api": "v1", "version": {{"query": "v", "value": "3"}}, "sunset": "2027-01-01T00:00:00Z"}}]"#
    ));
    let table = table.unwrap();
    let find = |api, query: Option<&str>| {
        let api = apis.id(api).unwrap();
        let life = table
            .find(api, &Headers::default(), query.map(str::as_bytes))
            .unwrap();
        (life.deprecation().is_some(), life.sunset(None).is_some())
    };
    assert_eq!(find("v1", None), (true, true));
    assert_eq!(find("v1", Some("v=1")), (true, true));
    assert_eq!(find("v1", Some("v=2")), (true, false));
    assert_eq!(find("v1", Some("v=3")), (false, true));
    assert_eq!(find("v2", Some("v=3")), (true, true));
    assert!(
        table
            .find(apis.id("rest").unwrap(), &Headers::default(), None)
            .is_none()
    );
    assert!(
        table
            .find(apis.id("one").unwrap(), &Headers::default(), None)
            .is_none()
    );
}

#[test]
fn the_version_that_a_client_prefers_counts() {
    let (table, apis) = read(
        r#"[{"api": "v1", "version": [{"media_type": "a/v1"}, {"header": "v", "value": "1"}],
             "sunset": "2027-01-01T00:00:00Z"},
            {"api": "v1", "version": {"media_type": "a/v2"}}]"#,
    );
    let table = table.unwrap();
    let api = apis.id("v1").unwrap();
    for (headers, expected) in [
        (&[("accept", "a/v1")][..], Some(0)),
        (&[("accept", "a/v2, a/v1")], Some(1)),
        (&[("accept", "a/v1;q=0.5, a/v2")], Some(1)),
        (&[("accept", "a/v1;q=0.5, a/v2;q=0.4")], Some(0)),
        (&[("accept", "a/v1;q=0.5, a/v3")], Some(0)),
        (&[("accept", "*/*")], None),
        // What is named elsewhere counts as well.
        (&[("accept", "a/v2"), ("v", "1")], Some(0)),
        (&[("accept", "a/v2"), ("content-type", "a/v1")], Some(0)),
        (&[("accept", "a/v1"), ("content-type", "a/v2")], Some(0)),
    ] {
        let headers = Headers::from_pairs(headers.iter().copied());
        assert_eq!(
            table.find_place(api, &headers, None),
            expected,
            "{headers:?}"
        );
    }
    // One that lives on has no date to tell.
    let life = table.get(1).unwrap();
    assert!(life.deprecation().is_none() && life.sunset(None).is_none());
}

#[test]
fn a_named_version_goes_before_the_default_wherever_they_stand() {
    let default = r#"{"api": "v1", "version": {"header": "v", "value": "1", "default": true}, "sunset": "2027-01-01T00:00:00Z"}"#;
    let named = r#"{"api": "v1", "version": [{"media_type": "a/v2"}, {"header": "w", "value": "2"},
        {"query": "w", "value": "2"}]}"#;
    let all = r#"{"api": "v1", "sunset": "2028-01-01T00:00:00Z"}"#;
    for (versions, places) in [
        ([default, named, all], [0, 1, 2]),
        ([named, default, all], [1, 0, 2]),
        ([all, named, default], [2, 1, 0]),
    ] {
        let (table, apis) = read(&format!("[{}]", versions.join(", ")));
        let (table, api) = (table.unwrap(), apis.id("v1").unwrap());
        let [default, named, all] = places;
        for (headers, query, expected) in [
            (&[][..], None, default),
            (&[("accept", "text/html, */*")], None, default),
            (&[("w", "3")], Some("w=3"), default),
            (&[("v", "1")], None, default),
            (&[("v", "3")], None, all),
            (&[("accept", "a/v2, */*;q=0.1")], None, named),
            (&[("content-type", "a/v2")], None, named),
            (&[("w", "2")], None, named),
            (&[], Some("w=2"), named),
            (&[("v", "3"), ("w", "2")], None, named),
        ] {
            let headers = Headers::from_pairs(headers.iter().copied());
            assert_eq!(
                table.find_place(api, &headers, query.map(str::as_bytes)),
                Some(expected),
                "{headers:?} {query:?} of {versions:?}"
            );
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_a_cure() {
    for (fields, expected) in [
        (r#""sunset": "2027-03-15T00:00:00Z""#.to_owned(), "sunset[0]: the field \"api\" is missing, add it, or \"apis\""),
        (format!(r#""api": "v1", "apis": ["v2"], {DATES}"#), "sunset[0].apis: found with api"),
        (format!(r#""apis": [], {DATES}"#), "sunset[0].apis: the list is empty"),
        (format!(r#""api": "v3", {DATES}"#), "sunset[0].api: unknown API \"v3\""),
        (format!(r#""apis": ["v1", "v1"], {DATES}"#), "sunset[0].apis[1]: \"v1\" is there twice"),
        (r#""api": "v1""#.to_owned(), "sunset[0]: found neither deprecated nor sunset"),
        (
            r#""api": "v1", "deprecated": "2027-01-01T00:00:01Z", "sunset": "2027-01-01T00:00:00Z""#.to_owned(),
            "sunset[0].sunset: is before deprecated",
        ),
        (
            r#""api": "v1", "sunset": "2027-01-01T00:00:00.001Z""#.to_owned(),
            "sunset[0].sunset: has a fraction of a second",
        ),
        (
            format!(r#""api": "v1", {DATES}, "grace": {{"acme": "2027-03-15T00:00:00Z"}}"#),
            "sunset[0].grace.acme: is not after sunset",
        ),
        (
            r#""api": "v1", "deprecated": "2027-01-01T00:00:00Z", "grace": {"acme": "2027-03-15T00:00:00Z"}"#.to_owned(),
            "sunset[0].grace: does nothing without sunset",
        ),
        (
            r#""api": "v1", "sunset": "2027-01-01T00:00:00Z", "brownouts": [{"at": "0 9 * * *", "for": "1h"}]"#.to_owned(),
            "sunset[0].brownouts: expected some time between deprecated and sunset",
        ),
        (
            format!(r#""api": "v1", {DATES}, "brownouts": [{{"at": "0 9 * * *"}}]"#),
            "sunset[0].brownouts[0]: the field \"for\" is missing",
        ),
        (
            r#""api": "v1", "sunset": "2027-01-01T00:00:00Z", "legacy_deprecation_true": true"#.to_owned(),
            "sunset[0].legacy_deprecation_true: does nothing without deprecated",
        ),
        (
            r#""api": "v1", "deprecated": "2027-01-01T00:00:00Z", "after_sunset": "pass""#.to_owned(),
            "sunset[0].after_sunset: does nothing without sunset",
        ),
        (
            format!(r#""api": "v1", {DATES}, "after_sunset": "redirect""#),
            "sunset[0].after_sunset: there is no successor to redirect to",
        ),
        (
            format!(r#""api": "v1", {DATES}, "successor": "/v2/{{id}}""#),
            "sunset[0].successor: can't be computed from the path \"/v1/accounts/**\" of \"v1\": nothing is captured for {id}",
        ),
        (
            format!(r#""api": "one", {DATES}, "latest": "https://a.example/{{**}}""#),
            "sunset[0].latest: can't be computed from the path \"/one/{id}\" of \"one\": nothing is captured for **",
        ),
        (
            format!(r#""api": "one", {DATES}, "successor": "/one/{{id}}""#),
            "sunset[0].successor: leads back to \"one\", which is what ends",
        ),
        (
            format!(r#""api": "one", {DATES}, "latest": "/one/latest""#),
            "sunset[0].latest: leads back to \"one\"",
        ),
        (
            format!(r#""api": "one", "version": {{"header": "v", "value": "1"}}, {DATES}, "successor": "/one/{{id}}", "after_sunset": "redirect""#),
            "sunset[0].successor: leads back to this version of \"one\", and a redirect can't change headers",
        ),
        (
            format!(r#""api": "one", "version": {{"query": "v", "value": "1", "default": true}}, {DATES}, "successor": "/one/{{id}}", "after_sunset": "redirect""#),
            "sunset[0].successor: leads back to this version of \"one\"",
        ),
        (
            format!(r#""api": "v1", "version": {{"value": "1"}}, {DATES}"#),
            "sunset[0].version: expected exactly one of header, query and media_type",
        ),
        (
            format!(r#""api": "v1", "version": {{"header": "v"}}, {DATES}"#),
            "sunset[0].version: the field \"value\" is missing",
        ),
        (
            format!(r#""api": "v1", "version": [{{"header": "v", "value": "1"}}, {{"header": "v", "value": " 1"}}], {DATES}"#),
            "sunset[0].version[1].value: found \" 1\" with space around it",
        ),
        (
            format!(r#""api": "v1", "version": {{"media_type": "a/b", "value": "1"}}, {DATES}"#),
            "sunset[0].version.media_type: found with value or default",
        ),
    ] {
        let error = read(&format!("[{{{fields}}}]")).0.unwrap_err();
        assert!(error.starts_with(expected), "{fields}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn successors_that_lead_somewhere_else_are_allowed() {
    for fields in [
        format!(r#""api": "rest", {DATES}, "successor": "/v2/{{**}}""#),
        format!(r#""api": "v1", {DATES}, "successor": "/unknown""#),
        format!(
            r#""api": "one", {DATES}, "successor": "https://a.example/one/{{id}}", "after_sunset": "redirect""#
        ),
        format!(
            r#""api": "one", "version": {{"header": "v", "value": "1"}}, {DATES}, "successor": "/one/{{id}}""#
        ),
        format!(
            r#""api": "one", "version": {{"query": "v", "value": "1"}}, {DATES}, "successor": "/one/{{id}}?v=2", "after_sunset": "redirect""#
        ),
    ] {
        let (table, _) = read(&format!("[{{{fields}}}]"));
        assert!(table.is_ok(), "{fields}: {}", table.unwrap_err());
    }
}

#[test]
fn a_successor_leads_back_by_host_and_method_too() {
    for (own, other, successor, leads_back) in [
        (
            r#"{"hosts": "a.example", "path": "/**"}"#,
            r#"{"hosts": "b.example", "path": "/**"}"#,
            "/v2",
            true,
        ),
        (
            r#"{"hosts": "*.a.example", "path": "/**"}"#,
            r#"{"path": "/**"}"#,
            "/v2",
            true,
        ),
        (
            r#"{"methods": "GET", "path": "/**"}"#,
            r#"{"methods": "POST", "path": "/**"}"#,
            "/v2",
            true,
        ),
        (
            r#"{"path": "/**"}"#,
            r#"{"methods": "GET", "path": "/v2/**"}"#,
            "/v2",
            true,
        ),
        (
            r#"{"path": "/**"}"#,
            r#"{"hosts": "b.example", "path": "/v2/**"}"#,
            "/v2",
            true,
        ),
        (
            r#"{"methods": "GET", "path": "/**"}"#,
            r#"{"path": "/v2/**"}"#,
            "/v2",
            false,
        ),
        (
            r#"{"path": "/v1/**"}"#,
            r#"{"path": "/v2/**"}"#,
            "/v2",
            false,
        ),
        (r#"{"path": "/*"}"#, r#"{"path": "/x"}"#, "/y", true),
    ] {
        let apis = format!(
            r#"[{{"name": "own", "match": {own}}}, {{"name": "other", "match": {other}}}]"#
        );
        let sunset = format!(r#"[{{"api": "own", {DATES}, "successor": "{successor}"}}]"#);
        let error = read_with(&apis, &sunset).0.err();
        let expected = "sunset[0].successor: leads back to \"own\"";
        assert_eq!(
            error
                .as_ref()
                .is_some_and(|error| error.starts_with(expected)),
            leads_back,
            "{own} {other}: {error:?}"
        );
        assert_eq!(error.is_some(), leads_back);
    }
}

#[test]
fn versions_of_an_api_are_told_apart() {
    let v = |value: &str| format!(r#""version": {{"header": "v", "value": {value}}}"#);
    for (first, second, clash) in [
        (
            r#""api": "v1""#.to_owned(),
            r#""apis": ["v2", "v1"]"#.to_owned(),
            true,
        ),
        (
            r#""api": "v1""#.to_owned(),
            r#""api": "v2""#.to_owned(),
            false,
        ),
        (
            r#""api": "v1""#.to_owned(),
            format!(r#""api": "v1", {}"#, v("\"1\"")),
            false,
        ),
        (
            format!(r#""api": "v1", {}"#, v("\"1\"")),
            format!(r#""api": "v1", {}"#, v("\"2\"")),
            false,
        ),
        (
            format!(r#""api": "v1", {}"#, v("\"1\"")),
            format!(r#""api": "v1", {}"#, v("[\"2\", \"1\"]")),
            true,
        ),
    ] {
        let error = read(&format!("[{{{first}, {DATES}}}, {{{second}, {DATES}}}]"))
            .0
            .err();
        let expected = "sunset[1]: requests for \"v1\" that this is about may be for sunset[0] too";
        assert_eq!(
            error.is_some_and(|error| error.starts_with(expected)),
            clash,
            "{first} {second}"
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let error = read(
        r#"[{"api": "v3", "deprecated": "2027-01-01T00:00:01Z", "sunset": "2027-01-01T00:00:00Z",
             "version": {"header": "v"}, "after_sunset": "redirect",
             "grace": {"acme": "2026-01-01T00:00:00.5Z"}},
            {"api": "one", "successor": "/a/{b}"}]"#,
    )
    .0
    .unwrap_err();
    for expected in [
        "sunset[0].api:",
        "sunset[0].sunset:",
        "sunset[0].version:",
        "sunset[0].after_sunset:",
        "sunset[0].grace.acme:",
        "sunset[1]:",
        "sunset[1].successor:",
    ] {
        assert!(error.contains(expected), "{expected} in\n{error}");
    }
    let error = read(
        r#"[{"api": "v1", "docs": "dev", "successor": "v2", "brownouts": [{"at": "9", "answer": "no"}],
             "sunset": "soon", "unknown": 1}]"#,
    )
    .0
    .unwrap_err();
    assert_eq!(error.lines().count(), 6, "{error}");
}
