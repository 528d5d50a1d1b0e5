#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::config::Document;
use crate::target::PathOptions;

fn compile_with(apis: &str, hosts: &str, paths: &str) -> (ApiTable, ConfigErrors) {
    let mut errors = ConfigErrors::default();
    let text = format!(r#"{{"apis": {apis}, "hosts": {hosts}, "paths": {paths}}}"#);
    let mut document = Document::parse(text.as_bytes()).unwrap();
    let configs = document.take::<Vec<ApiConfig>>("apis", &mut errors);
    let hosts = document.take::<HostOptions>("hosts", &mut errors);
    let paths = document.take::<PathOptions>("paths", &mut errors);
    let (hosts, paths) = (hosts.ok().flatten(), paths.ok().flatten());
    let table = configs
        .map(|configs| {
            ApiTable::compile(
                configs.unwrap_or_default(),
                hosts.unwrap_or_default(),
                paths.unwrap_or_default(),
                &mut errors,
            )
        })
        .unwrap_or_else(|_| ApiTable::unreadable());
    (table, errors)
}

fn compile(apis: &str) -> (ApiTable, ConfigErrors) {
    compile_with(apis, "{}", "{}")
}

fn table_with(apis: &str, hosts: &str, paths: &str) -> ApiTable {
    let (table, errors) = compile_with(apis, hosts, paths);
    assert!(errors.is_empty(), "{errors}");
    table
}

fn table(apis: &str) -> ApiTable {
    table_with(apis, "{}", "{}")
}

fn find<'t>(
    table: &'t ApiTable,
    host: &str,
    method: &str,
    path: &str,
) -> Result<Option<&'t str>, AmbiguousRequest> {
    let options = PathOptions {
        letter_case: table.letter_case(),
        ..PathOptions::default()
    };
    let target = RequestTarget::parse(path.as_bytes(), &options)?;
    let api = table.find(Some(host.as_bytes()), method.as_bytes(), &target)?;
    Ok(api.map(|api| table.name(api)))
}

const BANK: &str = r#"[
    {"name": "rest", "match": {"hosts": "*.bank.example"}},
    {"name": "cards", "match": [{"path": ["/v1/cards/**", "/v2/cards/**"]}]},
    {"name": "accounts", "match": [
        {"hosts": ["api.bank.example"], "path": "/v1/accounts/**", "methods": ["GET", "POST"]}
    ]},
    {"name": "transfers", "match": [
        {"hosts": ["api.bank.example"], "path": "/v1/accounts/{id}/transfers", "methods": "POST"}
    ]}
]"#;

#[test]
fn a_request_is_for_the_api_that_fits_most_specifically() {
    let table = table(BANK);
    for (host, method, path, expected) in [
        ("api.bank.example", "GET", "/v1/accounts", Some("accounts")),
        (
            "API.bank.example",
            "GET",
            "/v1//accounts/7/",
            Some("accounts"),
        ),
        (
            "api.bank.example",
            "POST",
            "/v1/accounts/7/transfers",
            Some("transfers"),
        ),
        // Not its method: the less specific path has it.
        (
            "api.bank.example",
            "GET",
            "/v1/accounts/7/transfers",
            Some("accounts"),
        ),
        // Not the method of any: the less specific host has it.
        ("api.bank.example", "DELETE", "/v1/accounts/7", Some("rest")),
        ("api.bank.example", "GET", "/v1/cards/7", Some("rest")),
        ("bank.example", "GET", "/v1/cards/7", Some("cards")),
        ("bank.example", "GET", "/v2/cards", Some("cards")),
        ("bank.example", "GET", "/v3/cards", None),
        ("x.y.bank.example", "OPTIONS", "*", Some("rest")),
        ("", "CONNECT", "", None),
    ] {
        assert_eq!(
            find(&table, host, method, path),
            Ok(expected),
            "{method} {host}{path}"
        );
    }
    let target = RequestTarget::parse(b"/v1/cards/7", &PathOptions::default()).unwrap();
    assert_eq!(table.find(None, b"GET", &target), Ok(table.id("cards")));
}

#[test]
fn a_path_that_may_be_one_api_or_another_is_refused() {
    let table = table(BANK);
    let different = Err(AmbiguousRequest::PathReadings);
    for (host, path, expected) in [
        ("api.bank.example", "/v1/accounts;x/7", different),
        (
            "api.bank.example",
            "/v1/accounts/7;x=1",
            Ok(Some("accounts")),
        ),
        ("api.bank.example", "/v9/accounts;x/7", Ok(Some("rest"))),
        ("bank.example", "/v1/cards;x/7", different),
        ("bank.example", "/v1;x/cards/7", different),
        ("bank.example", "/v9;x/cards/7", Ok(None)),
    ] {
        assert_eq!(find(&table, host, "GET", path), expected, "{host}{path}");
    }
    assert_eq!(
        find(&ApiTable::default(), "a", "GET", "/v1;x/cards"),
        Ok(None)
    );
}

/// APIs that take all methods, and that hosts make a difference to.
const HOSTS: &str = r#"[
    {"name": "api", "match": {"hosts": "api.bank.example"}},
    {"name": "internal", "match": {"hosts": "*.internal.example"}},
    {"name": "health", "match": {"path": "/health", "hosts": ["*", "api.bank.example"]}},
    {"name": "other", "match": {"path": "/other"}}
]"#;

#[test]
fn a_host_that_may_be_one_api_or_another_is_refused() {
    let ambiguous = Err(AmbiguousRequest::HostReadings);
    let strict = table(HOSTS);
    let ignoring = table_with(HOSTS, r#"{"ports": "ignore"}"#, "{}");
    for (authority, path, expected, ignoring_ports) in [
        ("api.bank.example", "/", Ok(Some("api")), Ok(Some("api"))),
        ("API.Bank.Example", "/", Ok(Some("api")), Ok(Some("api"))),
        ("api.bank.example:9", "/", ambiguous, Ok(Some("api"))),
        ("api.bank.example.", "/", ambiguous, ambiguous),
        ("api.bank.example.:9", "/", ambiguous, ambiguous),
        (
            "x.internal.example:9",
            "/other",
            ambiguous,
            Ok(Some("internal")),
        ),
        // Whichever host it is, it is the same API.
        (
            "api.bank.example:9",
            "/health",
            Ok(Some("health")),
            Ok(Some("health")),
        ),
        (
            "api.bank.example.",
            "/health",
            Ok(Some("health")),
            Ok(Some("health")),
        ),
        (
            "www.bank.example:9",
            "/other",
            Ok(Some("other")),
            Ok(Some("other")),
        ),
        ("www.bank.example.", "/none", Ok(None), Ok(None)),
        (
            "internal.example.:9",
            "/other",
            Ok(Some("other")),
            Ok(Some("other")),
        ),
        ("[::1]:9", "/other", Ok(Some("other")), Ok(Some("other"))),
        ("", "/other", Ok(Some("other")), Ok(Some("other"))),
    ] {
        let found = find(&strict, authority, "GET", path);
        assert_eq!(found, expected, "{authority}{path}");
        let found = find(&ignoring, authority, "GET", path);
        assert_eq!(found, ignoring_ports, "{authority}{path}, ports ignored");
    }
}

#[test]
fn what_is_no_host_is_refused_where_hosts_make_a_difference() {
    let (naming, not_naming) = (table(HOSTS), table(r#"[{"name": "a", "match": {}}]"#));
    let long = format!("{}.internal.example", "a".repeat(300));
    for authority in [
        "x@api.bank.example",
        "x:1.internal.example",
        "[::1]x.internal.example",
        "api.bank.example:",
        long.as_str(),
    ] {
        for path in ["/other", "/none"] {
            let refused = Err(AmbiguousRequest::MalformedHost);
            assert_eq!(
                find(&naming, authority, "GET", path),
                refused,
                "{authority}"
            );
        }
        let found = find(&not_naming, authority, "GET", "/other");
        assert_eq!(found, Ok(Some("a")), "{authority}");
    }
}

#[test]
fn a_method_in_lower_case_is_refused_where_methods_make_a_difference() {
    let naming = table(BANK);
    let not_naming = table(r#"[{"name": "a", "match": {"hosts": "h"}}]"#);
    for method in ["post", "Get", "G@T", ""] {
        let refused = Err(AmbiguousRequest::MalformedMethod);
        assert_eq!(
            find(&naming, "other.example", method, "/"),
            refused,
            "{method}"
        );
        assert_eq!(
            find(&not_naming, "h", method, "/"),
            Ok(Some("a")),
            "{method}"
        );
    }
}

#[test]
fn head_is_for_the_api_that_takes_get_unless_one_names_it() {
    let table = table(
        r#"[
            {"name": "read", "match": {"path": ["/a", "/b/**"], "methods": "GET"}},
            {"name": "head", "match": {"path": ["/a", "/b/c", "/**"], "methods": "HEAD"}},
            {"name": "rest", "match": {"path": ["/a", "/b/**"]}},
            {"name": "host", "match": {"hosts": "h", "path": "/**", "methods": "GET"}}
        ]"#,
    );
    for (host, method, path, expected) in [
        ("z", "GET", "/a", "read"),
        ("z", "HEAD", "/a", "head"),
        ("z", "POST", "/a", "rest"),
        ("z", "HEAD", "/b", "read"),
        ("z", "HEAD", "/b/c", "head"),
        ("z", "HEAD", "/d", "head"),
        ("h", "HEAD", "/a", "host"),
        ("h", "POST", "/a", "rest"),
    ] {
        let found = find(&table, host, method, path);
        assert_eq!(found, Ok(Some(expected)), "{method} {host}{path}");
    }
}

#[test]
fn letter_case_leads_around_no_rule_where_it_is_ignored() {
    let apis = r#"[
        {"name": "admin", "match": {"path": ["/v1/Admin/**", "/{a}/admin/x/{Id}"]}},
        {"name": "all", "match": {"path": "/**"}}
    ]"#;
    let ignore = r#"{"letter_case": "ignore"}"#;
    let (exact, folding) = (table(apis), table_with(apis, "{}", ignore));
    for (path, expected) in [
        ("/v1/Admin", Some("admin")),
        ("/v1/admin", Some("all")),
        ("/V1/ADMIN/x", Some("all")),
    ] {
        assert_eq!(find(&exact, "h", "GET", path), Ok(expected), "{path}");
        assert_eq!(
            find(&folding, "h", "GET", path),
            Ok(Some("admin")),
            "{path}"
        );
    }
    let id = folding.id("admin").unwrap();
    let shown = folding.templates(id).iter().map(ToString::to_string);
    let shown: Vec<String> = shown.collect();
    assert_eq!(shown, ["/v1/admin/**", "/{a}/admin/x/{Id}"]);
    assert_eq!(folding.letter_case(), LetterCase::Ignore);
    let (_, errors) = compile_with(
        r#"[{"name": "a", "match": {"path": "/A"}}, {"name": "b", "match": {"path": "/a"}}]"#,
        "{}",
        ignore,
    );
    assert!(
        errors
            .to_string()
            .starts_with("apis[1].match[0]: \"b\" takes /a, which \"a\"")
    );
}

#[test]
fn options_are_read_or_reported() {
    let (_, errors) = compile_with("[]", r#"{"ports": "off"}"#, r#"{"letter_case": "lower"}"#);
    assert_eq!(
        errors.to_string(),
        "hosts.ports: unknown value \"off\", expected one of reject, ignore\n\
         paths.letter_case: unknown value \"lower\", expected one of exact, ignore"
    );
}

#[test]
fn every_mistake_is_recorded_with_its_path() {
    let (table, errors) = compile(
        r#"[
            {"name": "", "match": [{"path": "/a"}]},
            {"name": "a", "match": []},
            {"name": "a", "match": [
                {"path": "b", "hosts": ["x:1", "ok.example", "*.*"], "methods": ["get"]},
                {"path": ["/c", "/*.d"], "methods": []}
            ]}
        ]"#,
    );
    let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "apis[0].name: found \"\", expected a name",
        "apis[1].match: the list is empty, so no request is for this API",
        "apis[2].name: \"a\" is the name of apis[1] too, use another",
        "apis[2].match[0].hosts[0]: the host \"x:1\" has a port",
        "apis[2].match[0].hosts[2]: the host \"*.*\" has a *",
        "apis[2].match[0].path: the path \"b\" does not begin with a slash",
        "apis[2].match[0].methods: methods are case-sensitive, write \"GET\"",
        "apis[2].match[1].path[1]: the path \"/*.d\" has a wildcard for a part",
        "apis[2].match[1].methods: the list is empty, leave methods out to take all",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
    }
    assert_eq!(table.id("a").map(ApiId::index), Some(1));
}

#[test]
fn shapes_that_do_not_fit_are_recorded_too() {
    let (table, errors) = compile(r#"[{"name": 7, "match": [{"paths": "/"}]}, {"name": "b"}]"#);
    let errors = errors.to_string();
    for expected in [
        "apis[0].name: found the number 7, expected text",
        "apis[0].match[0].paths: unknown field, did you mean \"path\"?",
        "apis[1]: the field \"match\" is missing, add it",
    ] {
        assert!(errors.contains(expected), "{expected}\nnot in\n{errors}");
    }
    // What refers to an API is then not reported on top.
    let mut errors = ConfigErrors::default();
    assert!(table.resolve("b", "sunset[0].api", &mut errors).is_err());
    assert!(errors.is_empty());
}

#[test]
fn two_apis_that_take_the_same_requests_are_named() {
    let (_, errors) = compile(
        r#"[
            {"name": "a", "match": [
                {"hosts": ["x.example", "y.example"], "path": "/v1/{id}", "methods": ["GET", "PUT"]},
                {"path": "/v1/{id}"},
                {"path": "/v1/{other}"}
            ]},
            {"name": "b", "match": [
                {"hosts": "X.example", "path": "/v1/*/", "methods": ["POST", "PUT"]},
                {"hosts": "x.example", "path": "/v1/*"},
                {"path": ["/v1/*", "/v2/*"]}
            ]}
        ]"#,
    );
    assert_eq!(
        errors.to_string(),
        "apis[1].match[0]: \"b\" takes PUT /v1/* on x.example, which \"a\" (apis[0]) takes \
         already; give one of them another host, path or method\n\
         apis[1].match[2]: \"b\" takes /v1/*, which \"a\" (apis[0]) takes already; give one of \
         them another host, path or method"
    );
}

#[test]
fn names_are_resolved_or_reported() {
    let table = table(BANK);
    let mut errors = ConfigErrors::default();
    let cards = table
        .resolve("cards", "sunset[0].api", &mut errors)
        .unwrap();
    assert_eq!((cards.index(), table.name(cards)), (1, "cards"));
    assert!(table.resolve("card", "sunset[1].api", &mut errors).is_err());
    assert!(
        ApiTable::default()
            .resolve("a", "access[0]", &mut errors)
            .is_err()
    );
    assert_eq!(
        errors.to_string(),
        "sunset[1].api: unknown API \"card\", did you mean \"cards\"? (expected one of \
         accounts, cards, rest, transfers)\n\
         access[0]: unknown API \"a\": there are none, add them under \"apis\""
    );
    let names: Vec<_> = table.iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["rest", "cards", "accounts", "transfers"]);
}

#[test]
fn the_templates_of_an_api_are_the_most_specific_first() {
    let table = table(
        r#"[{"name": "a", "match": [{"path": ["/**", "/v1/{id}"]}, {"path": "/v1/x", "hosts": "h"}]}]"#,
    );
    let id = table.id("a").unwrap();
    let shown: Vec<String> = table
        .templates(id)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown, ["/v1/x", "/v1/{id}", "/**"]);
}
