use proptest::prelude::*;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

const REJECT: PathOptions = PathOptions {
    escaped_slashes: EscapedSlashes::Reject,
    letter_case: LetterCase::Exact,
};
const KEEP: PathOptions = PathOptions {
    escaped_slashes: EscapedSlashes::Keep,
    letter_case: LetterCase::Exact,
};
const IGNORE: PathOptions = PathOptions {
    escaped_slashes: EscapedSlashes::Keep,
    letter_case: LetterCase::Ignore,
};

fn parse(raw: &str) -> Result<RequestTarget<'_>, AmbiguousRequest> {
    RequestTarget::parse(raw.as_bytes(), &REJECT)
}

fn path(target: &RequestTarget<'_>) -> String {
    String::from_utf8(target.path().to_vec()).unwrap()
}

/// Spellings that are settled: what the client sends, the path that is forwarded, the readings.
const SETTLED: &[(&str, &str, &[&str])] = &[
    ("/", "/", &["/"]),
    ("/v1/accounts", "/v1/accounts", &["/v1/accounts"]),
    ("/v1/accounts/", "/v1/accounts/", &["/v1/accounts/"]),
    // Empty segments.
    ("//", "/", &["/"]),
    ("//v1", "/v1", &["/v1"]),
    (
        "//evil.example/v1",
        "/evil.example/v1",
        &["/evil.example/v1"],
    ),
    (
        "/v1//accounts///7//",
        "/v1/accounts/7/",
        &["/v1/accounts/7/"],
    ),
    // Dot segments.
    ("/.", "/", &["/"]),
    ("/./v1", "/v1", &["/v1"]),
    ("/v1/.", "/v1/", &["/v1/"]),
    ("/v1/./a", "/v1/a", &["/v1/a"]),
    ("/v1/a/..", "/v1/", &["/v1/"]),
    ("/v1/..", "/", &["/"]),
    ("/v1/public/../admin", "/v1/admin", &["/v1/admin"]),
    ("/v1/public/..//../admin", "/admin", &["/admin"]),
    ("/v1/%2e/a", "/v1/a", &["/v1/a"]),
    ("/v1/public/%2e%2E/admin", "/v1/admin", &["/v1/admin"]),
    ("/v1/public/.%2e/admin", "/v1/admin", &["/v1/admin"]),
    ("/v1/;x/../a", "/v1/a", &["/v1/a"]),
    // Dots that are no dot segments.
    ("/.well-known/x", "/.well-known/x", &["/.well-known/x"]),
    ("/v1/.../a", "/v1/.../a", &["/v1/.../a"]),
    ("/v1/..a", "/v1/..a", &["/v1/..a"]),
    ("/v1/a..", "/v1/a..", &["/v1/a.."]),
    // Escapes of unreserved characters, and in lower case.
    ("/v1/%61dmin", "/v1/admin", &["/v1/admin"]),
    ("/%7euser/%2D%5f", "/~user/-_", &["/~user/-_"]),
    ("/caf%c3%a9", "/caf%C3%A9", &["/caf%C3%A9"]),
    // Decoded once, no more.
    (
        "/v1/%252e%252e/admin",
        "/v1/%252e%252e/admin",
        &["/v1/%252e%252e/admin"],
    ),
    ("/v1/%252Fadmin", "/v1/%252Fadmin", &["/v1/%252Fadmin"]),
    ("/v1/%25%32%65", "/v1/%252e", &["/v1/%252e"]),
    // Two spellings that servers take for the same, forwarded as they came.
    ("/a%2Bb%3a%40", "/a%2Bb%3A%40", &["/a+b:@"]),
    ("/a+b:@", "/a+b:@", &["/a+b:@"]),
    (
        "/{id}|^`\"<>[]",
        "/{id}|^`\"<>[]",
        &["/%7Bid%7D%7C%5E%60%22%3C%3E%5B%5D"],
    ),
    ("/%7Bid%7D", "/%7Bid%7D", &["/%7Bid%7D"]),
    ("/a%3Fb%23c", "/a%3Fb%23c", &["/a%3Fb%23c"]),
    // What is no character of a path, and other alphabets.
    ("/a b", "/a%20b", &["/a%20b"]),
    ("/café", "/caf%C3%A9", &["/caf%C3%A9"]),
    ("/caf%E9", "/caf%E9", &["/caf%E9"]),
    ("/%E3%81%82", "/%E3%81%82", &["/%E3%81%82"]),
    ("/／admin", "/%EF%BC%8Fadmin", &["/%EF%BC%8Fadmin"]),
    // Parameters of segments.
    (
        "/v1;jsessionid=7/a",
        "/v1;jsessionid=7/a",
        &["/v1;jsessionid=7/a", "/v1/a"],
    ),
    ("/v1/admin;", "/v1/admin;", &["/v1/admin;", "/v1/admin"]),
    (
        "/v1/admin%3bx=1",
        "/v1/admin%3Bx=1",
        &["/v1/admin;x=1", "/v1/admin"],
    ),
    (
        "/v1/;x/admin",
        "/v1/;x/admin",
        &["/v1/;x/admin", "/v1/admin"],
    ),
    ("/;", "/;", &["/;", "/"]),
    // Absolute URLs.
    ("http://api.example", "/", &["/"]),
    ("HTTPS://u@api.example:8443/v1//a", "/v1/a", &["/v1/a"]),
    ("http://api.example/v1/a/../b", "/v1/b", &["/v1/b"]),
    ("http://api.example/a%2Bb", "/a%2Bb", &["/a+b"]),
    // No path at all.
    ("*", "*", &[""]),
    ("", "", &[""]),
];

#[test]
fn what_can_be_settled_is() {
    for (raw, forwarded, readings) in SETTLED {
        let target = parse(raw).unwrap();
        assert_eq!(path(&target), *forwarded, "{raw}");
        assert_eq!(target.readings().collect::<Vec<_>>(), *readings, "{raw}");
        let rewritten = target.rewritten();
        assert_eq!(
            rewritten,
            (raw != forwarded).then(|| forwarded.as_bytes().to_vec()),
            "{raw}"
        );
    }
}

#[test]
fn what_no_honest_client_sends_is_refused() {
    use AmbiguousRequest::*;
    for (raw, expected) in [
        ("/v1/..;/admin", DisguisedDotSegment),
        ("/v1/..;x=1/admin", DisguisedDotSegment),
        ("/v1/.;/admin", DisguisedDotSegment),
        ("/v1/%2e%2e;/admin", DisguisedDotSegment),
        ("/v1/%2e%2e%3b/admin", DisguisedDotSegment),
        ("/v1/..%3B", DisguisedDotSegment),
        ("/v1/..;/../admin", DisguisedDotSegment),
        ("/..", AboveRoot),
        ("/../", AboveRoot),
        ("//..", AboveRoot),
        ("/v1/../../admin", AboveRoot),
        ("/%2e%2e/admin", AboveRoot),
        ("/./../admin", AboveRoot),
        ("/v1%2fadmin", EscapedSlash),
        ("/v1/a%2F..", EscapedSlash),
        ("/v1/..%2fadmin", EscapedSlash),
        ("/v1%5cadmin", Backslash),
        ("/v1/..%5Cadmin", Backslash),
        ("/v1\\admin", Backslash),
        ("/v1/%", MalformedEscape),
        ("/v1/%2", MalformedEscape),
        ("/v1/%zz", MalformedEscape),
        ("/v1/%u002e", MalformedEscape),
        ("/v1/%%32%65", MalformedEscape),
        ("/v1/%+1", MalformedEscape),
        ("/v1/a%00.png", ControlCharacter),
        ("/v1/a%0d%0aX:y", ControlCharacter),
        ("/v1/a\tb", ControlCharacter),
        ("/v1/%7F", ControlCharacter),
        ("/v1?a=\u{1}", ControlCharacter),
        ("/v1/%c0%ae%c0%ae/admin", OverlongEncoding),
        ("/v1/%c0%af", OverlongEncoding),
        ("/v1/%C0%AE", OverlongEncoding),
        ("/v1/%C1%9C", OverlongEncoding),
        ("/v1/%e0%80%ae", OverlongEncoding),
        ("/v1/%E0%80%AE", OverlongEncoding),
        ("/v1/%F0%80%80%AE", OverlongEncoding),
        ("/v1/%f0%80%80%ae", OverlongEncoding),
        ("/v1#fragment", Fragment),
        ("/v1?a#fragment", Fragment),
        ("v1/accounts", NotAPath),
        ("?a", NotAPath),
        ("*/v1", NotAPath),
        ("**", NotAPath),
        ("#", NotAPath),
        ("\\v1", NotAPath),
        ("api.example:443", NotAPath),
        ("http:/v1", NotAPath),
        ("http://", NotAPath),
        ("http:///v1", NotAPath),
        ("http://api.example\\v1", NotAPath),
        ("http://api.example#/v1", NotAPath),
        ("ftp://api.example/v1", NotAPath),
    ] {
        assert_eq!(parse(raw).unwrap_err(), expected, "{raw}");
    }
    let raw_overlong = RequestTarget::parse(b"/v1/\xc0\xae\xc0\xae/admin", &REJECT);
    assert_eq!(raw_overlong.unwrap_err(), OverlongEncoding);
}

#[test]
fn kept_slashes_are_read_in_every_way() {
    for (raw, readings) in [
        (
            "/projects/a%2fb",
            &["/projects/a%2Fb", "/projects/a/b"] as &[&str],
        ),
        ("/a%2F%2Fb", &["/a%2F%2Fb", "/a/b"]),
        ("/%2F", &["/%2F", "/"]),
        ("/a;x%2Fb", &["/a;x%2Fb", "/a", "/a;x/b", "/a/b"]),
        (
            "/a%2Fb;x%2Fc",
            &["/a%2Fb;x%2Fc", "/a%2Fb", "/a/b;x/c", "/a/b/c", "/a/b"],
        ),
    ] {
        let target = RequestTarget::parse(raw.as_bytes(), &KEEP).unwrap();
        assert_eq!(target.readings().collect::<Vec<_>>(), readings, "{raw}");
    }
    for raw in [
        "/v1/a%2F..",
        "/v1/..%2Fadmin",
        "/v1/a%2f.%2Fb",
        "/v1/a%2F%2e%2e;x",
        "/%2F..",
    ] {
        let error = RequestTarget::parse(raw.as_bytes(), &KEEP).unwrap_err();
        assert_eq!(error, AmbiguousRequest::DisguisedDotSegment, "{raw}");
    }
}

#[test]
fn the_query_is_left_alone() {
    for (raw, query, rewritten) in [
        ("/v1?a=b", Some("a=b"), None),
        ("/v1?", Some(""), None),
        ("/v1", None, None),
        (
            "//v1?a=../%2e%00?b\\%zz//",
            Some("a=../%2e%00?b\\%zz//"),
            Some("/v1?a=../%2e%00?b\\%zz//"),
        ),
        ("//v1?", Some(""), Some("/v1?")),
        ("http://api.example?a", Some("a"), Some("/?a")),
    ] {
        let target = parse(raw).unwrap();
        assert_eq!(target.query(), query.map(str::as_bytes), "{raw}");
        assert_eq!(
            target.rewritten(),
            rewritten.map(|path| path.as_bytes().to_vec()),
            "{raw}"
        );
    }
}

#[test]
fn a_clean_path_is_borrowed() {
    for raw in [
        "/",
        "/v1/accounts/7?x=1",
        "/a.b/~x/!$&'()*+,=:@",
        "/caf%C3%A9/a%20b%25",
    ] {
        let target = parse(raw).unwrap();
        assert!(matches!(target.path, Cow::Borrowed(_)), "{raw}");
        assert!(matches!(target.literal, Cow::Borrowed(_)), "{raw}");
        assert_eq!(target.others.capacity(), 0);
    }
}

#[test]
fn letter_case_is_folded_for_rules_and_kept_for_upstreams() {
    for (raw, forwarded, readings) in [
        ("/V1/Accounts", "/V1/Accounts", &["/v1/accounts"] as &[&str]),
        ("//V1/%41dmin", "/V1/Admin", &["/v1/admin"]),
        ("/CAF%C3%89/A%2bB", "/CAF%C3%89/A%2BB", &["/caf%c3%89/a+b"]),
        ("/A;V=1/B", "/A;V=1/B", &["/a;v=1/b", "/a/b"]),
        ("/A%2FB", "/A%2FB", &["/a%2fb", "/a/b"]),
        ("HTTP://H/A?Q=X", "/A", &["/a"]),
        ("*", "*", &[""]),
    ] {
        let target = RequestTarget::parse(raw.as_bytes(), &IGNORE).unwrap();
        assert_eq!(path(&target), forwarded, "{raw}");
        assert_eq!(target.readings().collect::<Vec<_>>(), readings, "{raw}");
    }
    let clean = RequestTarget::parse(b"/v1/accounts/7?Q=X", &IGNORE).unwrap();
    assert!(matches!(clean.literal, Cow::Borrowed(_)));
    assert_eq!(clean.rewritten(), None);
    assert_eq!(clean.query(), Some(b"Q=X".as_slice()));
}

#[test]
fn letter_case_is_that_of_the_configuration() {
    assert!(LetterCase::Ignore.same("/A%C3%a9", "/a%c3%A9"));
    assert!(!LetterCase::Exact.same("/A", "/a"));
    assert_eq!(LetterCase::Exact.fold("/A".into()), "/A");
    assert_eq!(LetterCase::Ignore.fold("/A%C3".into()), "/a%c3");
    let same = LetterCase::Ignore.fold("/a%20".into());
    assert!(matches!(same, Cow::Borrowed("/a%20")));
}

#[test]
fn an_unread_target_is_left_as_it_is() {
    let target = RequestTarget::unread(b"/v1/..;//\xff?key=secret");
    assert_eq!(target.path(), b"/v1/..;//\xff");
    assert_eq!(target.query(), Some(b"key=secret".as_slice()));
    assert_eq!(target.rewritten(), None);
    assert_eq!(target.readings().collect::<Vec<_>>(), [""]);
    assert!(!format!("{target:?}").contains("secret"));
}

#[test]
fn readings_must_agree() {
    let target = parse("/v1;x/admin").unwrap();
    assert_eq!(target.agree(|reading| reading.starts_with("/v1")), Ok(true));
    let differ = target.agree(|reading| reading.starts_with("/v1/"));
    assert_eq!(differ, Err(AmbiguousRequest::PathReadings));
}

/// Paths made of the pieces that matter.
fn tricky() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", ".", "..", ";", ";x=1", "%2e", "%2E", "%2f", "%2F", "%3b", "%25", "%252e",
        "%41", "%2b", "+", "%20", " ", "é", "%c3%a9", "%C0", "%ae", "%AE", "a", "b", "{", "%7b",
        "\\", "%5c", "%00", "%", "#", "?", "*", "%2A", "~",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// RFC 3986 §5.2.4, in words: split, drop, pop, join.
fn resolve_dots(path: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for segment in &segments {
        match *segment {
            "" | "." => {}
            ".." => kept.pop().map(drop)?,
            other => kept.push(other),
        }
    }
    let directory = matches!(*segments.last()?, "" | "." | "..");
    let slash = if directory && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    Some(format!("/{}{slash}", kept.join("/")))
}

proptest! {
    #[test]
    fn no_bytes_panic(raw: Vec<u8>, keep: bool) {
        let _ = RequestTarget::parse(&raw, if keep { &KEEP } else { &REJECT });
    }

    #[test]
    fn the_forwarded_form_is_judged_the_same_and_left_alone(raw in tricky(), keep: bool) {
        let options = if keep { KEEP } else { REJECT };
        if let Ok(target) = RequestTarget::parse(raw.as_bytes(), &options) {
            let forwarded = target.rewritten().unwrap_or(raw.clone().into_bytes());
            let again = RequestTarget::parse(&forwarded, &options).unwrap();
            prop_assert_eq!(again.rewritten(), None);
            prop_assert_eq!(again.path(), target.path());
            prop_assert_eq!(again.query(), target.query());
            prop_assert!(again.readings().eq(target.readings()));
        }
    }

    #[test]
    fn readings_differ_in_letter_case_alone_where_it_is_ignored(raw in tricky()) {
        let exact = RequestTarget::parse(raw.as_bytes(), &KEEP);
        let folded = RequestTarget::parse(raw.as_bytes(), &IGNORE);
        prop_assert_eq!(exact.as_ref().err(), folded.as_ref().err());
        if let (Ok(exact), Ok(folded)) = (exact, folded) {
            prop_assert_eq!(exact.rewritten(), folded.rewritten());
            let lower: Vec<String> = exact.readings().map(str::to_ascii_lowercase).collect();
            prop_assert!(folded.readings().eq(lower.iter().map(String::as_str)));
        }
    }

    #[test]
    fn no_form_has_anything_to_climb_with(raw in tricky(), keep: bool) {
        let options = if keep { KEEP } else { REJECT };
        if let Ok(target) = RequestTarget::parse(raw.as_bytes(), &options) {
            for form in target.readings().map(str::to_owned).chain([path(&target)]) {
                prop_assert!(form.starts_with('/') && form.is_ascii(), "{}", form);
                prop_assert!(!form.contains("//") && !form.contains('\\'), "{}", form);
                for segment in form.split('/') {
                    prop_assert!(!matches!(segment, "." | ".."), "{}", form);
                }
            }
        }
    }

    #[test]
    fn the_fast_pass_agrees_with_the_slow_one(raw in tricky()) {
        if let Some(literal) = canonical(raw.as_bytes()) {
            let forwarded = forwarded_form(raw.as_bytes(), EscapedSlashes::Reject).unwrap();
            prop_assert_eq!(&forwarded, &raw);
            prop_assert_eq!(match_form(&forwarded), literal);
            prop_assert!(other_readings(literal).is_empty());
        }
    }

    #[test]
    fn dots_are_resolved_as_the_rfc_has_it(
        segments in prop::collection::vec(prop::sample::select(vec!["", ".", "..", "a", "b"]), 1..8),
    ) {
        let raw = format!("/{}", segments.join("/"));
        let forwarded = parse(&raw).ok().map(|target| path(&target));
        prop_assert_eq!(forwarded, resolve_dots(&raw));
    }
}
