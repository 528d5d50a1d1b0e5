//! Paths: one spelling is judged and forwarded, and no server behind can take it for another API.

use std::sync::LazyLock;

use percent_encoding::percent_decode;
use serde_json::json;
use tollgate_core::apis::{ApiConfig, ApiTable, HostOptions};
use tollgate_core::config::{ConfigErrors, Document};
use tollgate_core::target::{EscapedSlashes, LetterCase, PathOptions, RequestTarget};

/// Templates whose boundaries an odd spelling would cross.
const APIS: [(&str, &str); 6] = [
    ("admin", "/admin/**"),
    ("a-b", "/a/{x}/b"),
    ("a", "/a/**"),
    ("exact", "/v1/e+t"),
    ("deep", "/v1/*/d/**"),
    ("root", "/"),
];

struct Gate {
    options: PathOptions,
    apis: ApiTable,
}

static GATES: LazyLock<Vec<Gate>> = LazyLock::new(|| {
    let mut gates = Vec::new();
    for escaped_slashes in [EscapedSlashes::Reject, EscapedSlashes::Keep] {
        for letter_case in [LetterCase::Exact, LetterCase::Ignore] {
            let options = PathOptions {
                escaped_slashes,
                letter_case,
            };
            gates.push(Gate {
                options,
                apis: apis(options),
            });
        }
    }
    gates
});

fn apis(options: PathOptions) -> ApiTable {
    let list = APIS.map(|(name, path)| {
        json!({ "name": name, "match": [{ "hosts": ["api.example", "*"], "path": path }] })
    });
    let text = json!({ "apis": list }).to_string();
    let mut document = Document::parse(text.as_bytes()).expect("a document");
    let mut errors = ConfigErrors::default();
    let configs = document.take::<Vec<ApiConfig>>("apis", &mut errors);
    let configs = configs.ok().flatten().expect("APIs");
    let table = ApiTable::compile(configs, HostOptions::default(), options, &mut errors);
    assert!(errors.is_empty(), "{errors}");
    table
}

/// `path`, or `host LF path`.
pub fn check(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let first = parts.next().unwrap_or_default();
    let (host, path) = match parts.next() {
        Some(path) => (Some(first), path),
        None => (None, first),
    };
    for gate in GATES.iter() {
        check_path(gate, host, path);
    }
}

fn check_path(gate: &Gate, host: Option<&[u8]>, raw: &[u8]) {
    let Ok(target) = RequestTarget::parse(raw, &gate.options) else {
        return;
    };
    let whole = target.rewritten().unwrap_or_else(|| raw.to_vec());
    let Some(again) = RequestTarget::parse(&whole, &gate.options).ok() else {
        panic!(
            "what is forwarded would be refused: {}",
            whole.escape_ascii()
        );
    };
    assert_eq!(again.path(), target.path(), "{target:?}");
    assert!(again.rewritten().is_none(), "{target:?} is rewritten twice");
    assert!(again.readings().eq(target.readings()), "{target:?}");
    assert_eq!(again.query(), target.query());
    if raw.is_empty() || raw == b"*" {
        return;
    }
    settled(target.path());

    let found = gate.apis.find(host, b"GET", &target);
    let Ok(api) = gate.apis.find(None, b"GET", &target) else {
        assert!(found.is_err());
        return;
    };
    // All of these APIs are of any host: a host can only make a request one to refuse.
    assert!(found.is_err() || found == Ok(api), "{target:?}");
    let name = api.map(|api| gate.apis.name(api));
    for (reader, segments) in readers(target.path(), &gate.options) {
        let read = route(&segments, gate.options.letter_case);
        assert_eq!(
            read,
            name,
            "{reader} reads {} as {segments:?}",
            target.path().escape_ascii()
        );
    }
}

/// What is forwarded has nothing left to settle.
fn settled(path: &[u8]) {
    assert!(path.starts_with(b"/"), "{}", path.escape_ascii());
    assert!(
        path.iter().all(u8::is_ascii_graphic),
        "{}",
        path.escape_ascii()
    );
    assert!(!path.contains(&b'\\') && !path.contains(&b'#') && !path.contains(&b'?'));
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        assert!(!segment.is_empty() || last, "{}", path.escape_ascii());
        let decoded: Vec<u8> = percent_decode(segment).collect();
        assert!(
            decoded != b"." && decoded != b"..",
            "{}",
            path.escape_ascii()
        );
    }
}

type Segments = Vec<Vec<u8>>;

/// The path as servers read it that have nothing of ours: each decodes once, resolves dots and
/// merges slashes; some strip parameters, some take `%2F` for a slash, in either order.
fn readers(path: &[u8], options: &PathOptions) -> Vec<(&'static str, Segments)> {
    let split = |path: &[u8]| -> Segments {
        path.split(|byte| *byte == b'/')
            .map(<[u8]>::to_vec)
            .collect()
    };
    let decode = |bytes: &[u8]| -> Vec<u8> { percent_decode(bytes).collect() };
    let strip = |segment: &Vec<u8>| -> Vec<u8> {
        segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .to_vec()
    };
    let by_segment: Segments = split(path).iter().map(|segment| decode(segment)).collect();
    let stripped: Segments = split(path)
        .iter()
        .map(|segment| decode(&strip(segment)))
        .collect();
    let mut readers = vec![
        ("a server", by_segment),
        ("a server without parameters", stripped),
    ];
    if options.escaped_slashes == EscapedSlashes::Keep {
        let whole = split(&decode(path));
        let then_stripped = whole.iter().map(strip).collect();
        readers.push(("a server that decodes first", whole));
        readers.push((
            "a server that decodes first, without parameters",
            then_stripped,
        ));
    }
    readers
        .into_iter()
        .map(|(name, segments)| (name, resolve(segments)))
        .collect()
}

/// Removes dot segments and empty ones.
fn resolve(segments: Segments) -> Segments {
    let mut resolved = Vec::new();
    for segment in segments {
        match segment.as_slice() {
            b"" | b"." => {}
            b".." => drop(resolved.pop()),
            _ => resolved.push(segment),
        }
    }
    resolved
}

/// The routes of [`APIS`], written out by hand.
fn route(segments: &[Vec<u8>], case: LetterCase) -> Option<&'static str> {
    let lower: Vec<Vec<u8>> = segments
        .iter()
        .map(|segment| match case {
            LetterCase::Exact => segment.clone(),
            LetterCase::Ignore => segment.to_ascii_lowercase(),
        })
        .collect();
    let segments: Vec<&[u8]> = lower.iter().map(Vec::as_slice).collect();
    match segments.as_slice() {
        [] => Some("root"),
        [b"admin", ..] => Some("admin"),
        [b"a", _, b"b"] => Some("a-b"),
        [b"a", ..] => Some("a"),
        [b"v1", b"e+t"] => Some("exact"),
        [b"v1", _, b"d", ..] => Some("deep"),
        _ => None,
    }
}
