//! What must hold of each request, judged by what was sent alone.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;
use tollgate_testkit::{Reply, Seen};

use crate::setup::{ACME_KEY, CURIO_KEY, GOOD_TOKENS};

/// What a request carries anywhere, in any spelling.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried {
    acme_key: bool,
    curio_key: bool,
    token: bool,
}

impl Carried {
    pub(super) fn by(headers: &[(String, Vec<u8>)]) -> Self {
        let mut carried = Carried::default();
        for (_, value) in headers {
            let spaced: Vec<u8> = value
                .iter()
                .map(|b| if *b == b'+' { b' ' } else { *b })
                .collect();
            for text in [
                value.clone(),
                percent_decode(value).collect(),
                percent_decode(&spaced).collect(),
            ] {
                carried.acme_key |= contains(&text, ACME_KEY);
                carried.curio_key |= contains(&text, CURIO_KEY);
                carried.token |= GOOD_TOKENS.iter().any(|token| contains(&text, token));
            }
        }
        carried
    }

    fn key(self) -> bool {
        self.acme_key || self.curio_key
    }
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len())
        .any(|window| window == part.as_bytes())
}

/// Where a request may end up, by the first segment that a server can read from what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    Open,
    Tokens,
    Keys,
    Either,
    Rest,
}

fn area(path: &[u8]) -> Area {
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let decoded: Vec<u8> = percent_decode(path).collect();
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in decoded.split(|byte| *byte == b'/') {
        let segment = segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    match segments.as_slice() {
        [b"open" | b"old" | b"ended", ..] => Area::Open,
        [b"tokens", ..] => Area::Tokens,
        [b"keys", ..] | [b"v1", b"keys", _] => Area::Keys,
        [b"either", ..] => Area::Either,
        _ => Area::Rest,
    }
}

/// Headers that tell an upstream who calls. Servers take other characters for hyphens.
fn identity(name: &str) -> Option<&'static str> {
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    ["x-consumer-id", "x-consumer-plan", "x-subject", "x-payload"]
        .into_iter()
        .find(|known| *known == name)
        .or_else(|| name.starts_with("x-consumer-").then_some("x-consumer-"))
}

/// Checks what became of a request that carried this.
pub(super) fn check(carried: Carried, reply: &Reply) {
    crate::accept::well_formed(reply);
    assert!((200..600).contains(&reply.status), "{reply:?}");
    stripped(&reply.logged);
    match &reply.upstream {
        Some(seen) => admitted(carried, seen),
        None => {
            assert!(reply.details.starts_with("tollgate{"), "{reply:?}");
            let text = String::from_utf8_lossy(&reply.body);
            for secret in [ACME_KEY, CURIO_KEY]
                .into_iter()
                .chain(GOOD_TOKENS.iter().map(String::as_str))
            {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}

fn admitted(carried: Carried, seen: &Seen) {
    let path = seen.all(":path").pop().unwrap_or_default();
    let area = area(path.as_bytes());
    let enough = match area {
        Area::Open => true,
        Area::Tokens => carried.token,
        Area::Keys => carried.key(),
        Area::Either => carried.token || carried.key(),
        Area::Rest => carried.token && carried.key(),
    };
    assert!(enough, "{carried:?} let into {area:?}: {seen:?}");
    told(carried, seen);
}

/// Identity is what the gateway found out, in one header each.
fn told(carried: Carried, seen: &Seen) {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &seen.0 {
        let Some(header) = identity(name) else {
            continue;
        };
        assert_eq!(name, header, "a disguised identity is forwarded: {seen:?}");
        let value = String::from_utf8_lossy(value).into_owned();
        assert!(found.insert(header, value).is_none(), "{name} comes twice");
    }
    for (header, value) in found {
        let allowed = match header {
            "x-consumer-id" => match value.as_str() {
                "acme" => carried.acme_key,
                "curio" => carried.curio_key || carried.token,
                _ => false,
            },
            "x-consumer-plan" => match value.as_str() {
                "gold" => carried.acme_key,
                "free" => carried.curio_key || carried.token,
                _ => false,
            },
            "x-subject" => carried.token && matches!(value.as_str(), "alice" | "bob" | "robot"),
            "x-payload" => carried.token && GOOD_TOKENS.iter().any(|token| token.contains(&value)),
            _ => false,
        };
        assert!(allowed, "{header}: {value} for {carried:?}");
    }
}

/// No credential is left where it was looked for.
fn stripped(logged: &Seen) {
    assert!(logged.all("x-api-key").is_empty(), "{logged:?}");
    for path in logged.all(":path") {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            assert!(name != "api_key" && name != "access_token", "{path}");
        }
    }
    for cookies in logged.all("cookie") {
        for pair in cookies.split(';') {
            let name = pair.split_once('=').map(|(name, _)| name.trim());
            assert!(!matches!(name, Some("key" | "token")), "{cookies}");
        }
    }
}
