//! Redirects that lead round in a circle.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::{DATES, read_with};

/// Versions that redirect; their APIs, selectors and successors.
fn redirects(versions: &[(&str, &str, &str)]) -> String {
    let versions = versions.iter().map(|(api, version, successor)| {
        let version = match *version {
            "" => String::new(),
            version => format!(r#""version": {version},"#),
        };
        format!(
            r#"{{"api": "{api}", {version} {DATES}, "successor": "{successor}", "after_sunset": "redirect"}}"#
        )
    });
    format!("[{}]", versions.collect::<Vec<_>>().join(","))
}

const CIRCLE_APIS: &str = r#"[
    {"name": "v1", "match": {"path": "/v1/**"}},
    {"name": "v2", "match": {"path": ["/v2/accounts/{id}", "/v2/accounts"]}},
    {"name": "v3", "match": {"path": "/v3/**"}},
    {"name": "one", "match": {"path": "/one/**"}}
]"#;

#[test]
fn a_circle_of_redirects_is_refused_with_the_way_round() {
    let header = |value: &str| format!(r#"{{"header": "v", "value": "{value}"}}"#);
    let (one, two) = (header("1"), header("2"));
    let other = r#"{"header": "w", "value": "1"}"#;
    let query = |value: &str| format!(r#"{{"query": "v", "value": "{value}"}}"#);
    let (query_one, query_two) = (query("1"), query("2"));
    let media = r#"{"media_type": "application/json;version=\"1 0\""}"#;
    for (versions, expected) in [
        (
            &[("v1", "", "/v3/{**}"), ("v3", "", "/v1/{**}")][..],
            Some(
                "sunset[0].successor: leads round in a circle, from \"/v1/~\" (sunset[0]) to \
                 \"/v3/~\" (sunset[1]) and back, and a client would follow it for ever once all \
                 have ended: lead one of them to a version that lives, or write gone there",
            ),
        ),
        // Only a narrow path of the first goes round, and there is a way into the circle.
        (
            &[
                ("one", "", "/v1/{**}"),
                ("v1", "", "/v3/{**}"),
                ("v2", "", "/v1/accounts"),
                ("v3", "", "/v2/accounts"),
            ],
            Some(
                "sunset[1].successor: leads round in a circle, from \"/v1/~\" (sunset[1]) to \
                 \"/v3/~\" (sunset[3]) to \"/v2/accounts\" (sunset[2]) and back",
            ),
        ),
        (&[("v1", "", "/v3/{**}"), ("v3", "", "/one/{**}")], None),
        (
            &[
                ("v1", "", "https://a.example/v3/{**}"),
                ("v3", "", "/v1/{**}"),
            ],
            None,
        ),
        // Headers stay as they are on the way, and may name several versions.
        (
            &[("v1", &one, "/v3/{**}"), ("v3", &one, "/v1/{**}")],
            Some("sunset[0].successor: leads round"),
        ),
        (&[("v1", &one, "/v3/{**}"), ("v3", &two, "/v1/{**}")], None),
        (
            &[("v1", &one, "/v3/{**}"), ("v3", other, "/v1/{**}")],
            Some("sunset[0].successor: leads round"),
        ),
        (
            &[("v1", media, "/v3/{**}"), ("v3", "", "/v1/{**}")],
            Some("sunset[0].successor: leads round"),
        ),
        // Versions of one API by its query.
        (
            &[
                ("one", &query_one, "/one/{**}?v=2"),
                ("one", &query_two, "/one/{**}?v=1"),
            ],
            Some("from \"/one/~?v=1\" (sunset[0]) to \"/one/~?v=2\" (sunset[1]) and back"),
        ),
        (
            &[
                ("one", &query_one, "/one/{**}?v=2"),
                ("one", &query_two, "/one/{**}?v=3"),
            ],
            None,
        ),
    ] {
        let sunset = redirects(versions);
        let error = read_with(CIRCLE_APIS, &sunset).0.err();
        match expected {
            Some(expected) => {
                let error = error.unwrap_or_else(|| panic!("{sunset} is taken"));
                assert!(error.contains(expected), "{error}");
                assert_eq!(error.matches("in a circle").count(), 1, "{error}");
            }
            None => assert_eq!(error, None, "{sunset}"),
        }
    }
    // A circle that is broken at one place.
    let sunset = redirects(&[("v1", "", "/v3/{**}"), ("v3", "", "/v1/{**}")]);
    let broken = sunset.replacen("\"redirect\"", "\"gone\"", 1);
    assert_eq!(read_with(CIRCLE_APIS, &broken).0.err(), None);
}
