//! API keys, wherever they are sent: found exactly once, and gone from what goes on.

use arbitrary::{Arbitrary, Unstructured};
use serde_json::json;
use tollgate_core::headers::{FieldName, Headers};
use tollgate_core::places::{HeaderPlace, Places, Presented};
use tollgate_testkit::{Gateway, Request, Seen};

use crate::setup::{ACME_KEY, sha256};

type Plugin =
    Gateway<tollgate_core::chain!(tollgate_usage_plan::UsagePlan, tollgate_access::Access)>;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    query: Option<&'a [u8]>,
    headers: Vec<(Name, Value<'a>)>,
}

#[derive(Arbitrary, Debug)]
enum Name {
    ApiKey,
    Cookie,
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Key,
    Cookie(&'a [u8]),
    Bytes(&'a [u8]),
}

thread_local! {
    static PLUGIN: Plugin = Gateway::start(&json!({ "usage_plan": {
        "key": {
            "header": "x-api-key",
            "query": "api_key",
            "cookie": "key",
        },
        "plans": { "gold": {} },
        "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256(ACME_KEY) }] }],
    }}))
    .unwrap_or_else(|errors| panic!("{errors}"));
}

/// A key is taken where it is sent once, and no reader behind the gateway finds it any more.
pub fn check(bytes: &[u8]) {
    let Ok(input) = Input::arbitrary(&mut Unstructured::new(bytes)) else {
        return;
    };
    let path = match input.query {
        Some(query) => format!("/a?{}", String::from_utf8_lossy(query)),
        None => "/a".to_owned(),
    };
    let mut request = Request::get(&path);
    for (name, value) in &input.headers {
        request = request.header(name.text(), value.bytes());
    }
    let before = Seen(
        [":path", "x-api-key", "cookie"]
            .into_iter()
            .flat_map(|name| values(&input, &path, name))
            .collect(),
    );
    let reply = PLUGIN.with(|plugin| plugin.send(request));
    let expected = presented(&before, |found| match found {
        Presented::Nothing => 401,
        Presented::One(key) if key == ACME_KEY.as_bytes() => 200,
        // An empty one, or one that nobody has.
        Presented::One(_) => 401,
        Presented::Several => 400,
    });
    let fragment = path.contains(['#', '\0']) || path.bytes().any(|byte| byte.is_ascii_control());
    assert!(
        reply.status == expected || (fragment && reply.status == 400),
        "{} instead of {expected}: {path:?} {before:?}",
        reply.status
    );
    presented(&reply.logged, |found| {
        assert_eq!(found, Presented::Nothing, "left in {:?}", reply.logged);
    });
    assert_eq!(
        by_other_readers(&reply.logged),
        0,
        "left in {:?}",
        reply.logged
    );
}

impl Name {
    fn text(&self) -> &'static str {
        match self {
            Name::ApiKey => "x-api-key",
            Name::Cookie => "cookie",
        }
    }
}

impl Value<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Value::Key => ACME_KEY.into(),
            Value::Cookie(bytes) => [b"key=", *bytes].concat(),
            Value::Bytes(bytes) => bytes.to_vec(),
        }
    }
}

fn values(input: &Input<'_>, path: &str, name: &str) -> Vec<(String, Vec<u8>)> {
    match name {
        ":path" => vec![(name.to_owned(), path.into())],
        _ => input
            .headers
            .iter()
            .filter(|(found, _)| found.text() == name)
            .map(|(_, value)| (name.to_owned(), value.bytes()))
            .collect(),
    }
}

/// What a second look finds.
fn presented<T>(seen: &Seen, judge: impl FnOnce(Presented<'_>) -> T) -> T {
    let places = Places {
        headers: vec![HeaderPlace {
            name: FieldName::from_static("x-api-key"),
            scheme: None,
        }],
        query: vec!["api_key".to_owned()],
        cookies: vec!["key".to_owned()],
    };
    let headers = Headers::from_pairs(seen.0.iter().map(|(name, value)| (name.as_str(), value)));
    let path = headers.get(":path").unwrap_or_default().to_vec();
    judge(places.find(&headers, &path))
}

/// How many keys are found by readers that have nothing of ours: a form's parser for the query, and
/// for cookies a split at every semicolon.
fn by_other_readers(seen: &Seen) -> usize {
    let all = |name: &'static str| {
        let values = seen.0.iter().filter(move |(found, _)| found == name);
        values.map(|(_, value)| value.as_slice())
    };
    let query = all(":path").flat_map(|path| {
        let mut parts = path.splitn(2, |byte| *byte == b'?');
        form_urlencoded::parse(parts.nth(1).unwrap_or_default())
            .filter(|(name, _)| name == "api_key")
    });
    let cookies = all("cookie")
        .flat_map(|value| value.split(|byte| *byte == b';'))
        .filter(|pair| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            name.trim_ascii() == b"key" && pair.contains(&b'=')
        });
    query.count() + cookies.count() + all("x-api-key").count()
}
