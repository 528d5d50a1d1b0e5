//! Claims that are handed on to the upstream as headers.

use deserr::Deserr;
use serde_json::{Map, Value};
use tollgate_core::config::{ConfigErrors, Rejected, quote};
use tollgate_core::headers::{FieldName, HeaderName};

use crate::path::ClaimPath;
use crate::render::{self, RefusedClaim, Separator};

/// A claim and the header that it becomes: `{ claim: sub, header: x-claim-sub }`.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct ClaimToHeader {
    /// Where the claim is.
    pub claim: ClaimPath,
    /// The header. Whatever the client sends in it, or in one with a name that servers may take for
    /// it, does not reach the upstream.
    pub header: FieldName,
    /// How the value is written.
    #[deserr(default)]
    pub format: Format,
    /// What stands between the items of a list in the format `text`; a comma if absent.
    #[deserr(default)]
    pub separator: Option<Separator>,
}

/// How the value of a claim is written as the value of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Format {
    /// A text as it is, in UTF-8; a number, true and false as in JSON; the items of a list joined by
    /// the separator. Null, an empty text and an empty list become no header. What could be read as
    /// another list, or as another header, is refused; but a text that is no list may have the
    /// separator in it, so an upstream that splits the header needs a claim that is always a list.
    #[default]
    Text,
    /// Any value but null as JSON, so that a text is in quotes. It is printable ASCII: the rest is
    /// escaped, as `\u00e9`.
    Json,
}

/// How long the values of headers may be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// One value.
    pub header: usize,
    /// All values together, names not counted.
    pub total: usize,
}

impl Default for Caps {
    /// 4 KiB for one, 16 KiB for all.
    fn default() -> Self {
        Caps {
            header: 4 << 10,
            total: 16 << 10,
        }
    }
}

/// Which claims become which headers.
///
/// The upstream believes these headers, so all that [`reserves`](Self::reserves) finds in a request
/// have to be removed from it first, whether there is a token or not.
#[derive(Clone, Debug, Default)]
pub struct ClaimsToHeaders {
    rules: Vec<Rule>,
    caps: Caps,
}

#[derive(Clone, Debug)]
struct Rule {
    claim: ClaimPath,
    header: FieldName,
    style: Style,
}

#[derive(Clone, Copy, Debug)]
enum Style {
    Text(Separator),
    Json,
}

impl ClaimsToHeaders {
    /// Checks the list that stands at `path` in the configuration. Every mistake is recorded.
    pub fn compile(
        config: Vec<ClaimToHeader>,
        caps: Caps,
        path: &str,
        errors: &mut ConfigErrors,
    ) -> Result<Self, Rejected> {
        let mut rules: Vec<Rule> = Vec::with_capacity(config.len());
        let mut verdict = Ok(());
        for (index, rule) in config.into_iter().enumerate() {
            if let Err(message) = check_target(&rule.header, &rules, path) {
                verdict = Err(errors.add(format!("{path}[{index}].header"), message));
            }
            let style = match (rule.format, rule.separator) {
                (Format::Text, separator) => Style::Text(separator.unwrap_or_default()),
                (Format::Json, None) => Style::Json,
                (Format::Json, Some(_)) => {
                    verdict = Err(errors.add(
                        format!("{path}[{index}].separator"),
                        "has no use with format: json, remove one of them",
                    ));
                    Style::Json
                }
            };
            rules.push(Rule {
                claim: rule.claim,
                header: rule.header,
                style,
            });
        }
        verdict.map(|()| ClaimsToHeaders { rules, caps })
    }

    /// The headers that claims become, in the order of the list. A claim that is not there, or that
    /// has nothing to say in its format, is not among them; one that must not be handed on is, with
    /// the reason.
    ///
    /// Values have no control characters, nor white space at their ends, and keep to the caps. A
    /// claim that is refused takes nothing from what is left for those after it.
    pub fn render(
        &self,
        claims: &Map<String, Value>,
    ) -> Vec<(HeaderName, Result<Vec<u8>, RefusedClaim>)> {
        let mut left = self.caps.total;
        let render = |rule: &Rule| {
            let value = rule.render(claims, self.caps.header)?.and_then(|value| {
                left = left
                    .checked_sub(value.len())
                    .ok_or(RefusedClaim::TooLongInAll)?;
                Ok(value)
            });
            Some((rule.header.to_header_name(), value))
        };
        self.rules.iter().filter_map(render).collect()
    }

    /// Whether a header of a request is one of these, or may be taken for one by a server: see
    /// [`is_same_header`].
    pub fn reserves(&self, name: &[u8]) -> bool {
        self.targets()
            .any(|target| is_same_header(name, target.as_str()))
    }

    /// The headers that claims may become, in the order of the list.
    pub fn targets(&self) -> impl Iterator<Item = &FieldName> {
        self.rules.iter().map(|rule| &rule.header)
    }
}

impl Rule {
    fn render(
        &self,
        claims: &Map<String, Value>,
        longest: usize,
    ) -> Option<Result<Vec<u8>, RefusedClaim>> {
        let claim = self.claim.find(claims)?;
        match self.style {
            Style::Text(separator) => render::text(claim, separator, longest),
            Style::Json => render::json(claim, longest),
        }
    }
}

fn check_target(header: &FieldName, others: &[Rule], path: &str) -> Result<(), String> {
    check_header(header)?;
    let name = header.as_str();
    let first = others
        .iter()
        .position(|other| is_same_header(name.as_bytes(), other.header.as_str()));
    match first {
        Some(first) => Err(format!(
            "servers may take {} for the header of {path}[{first}], choose another",
            quote(name)
        )),
        None => Ok(()),
    }
}

/// Checks that a header can carry what a token says: it has no meaning of its own.
///
/// # Errors
/// What is wrong, and how to mend it.
pub fn check_header(header: &FieldName) -> Result<(), String> {
    let name = header.as_str();
    let is_taken = TAKEN_HEADERS
        .iter()
        .any(|taken| is_same_header(name.as_bytes(), taken))
        || TAKEN_PREFIXES.iter().any(|prefix| {
            plain_bytes(name.as_bytes())
                .take(prefix.len())
                .eq(prefix.bytes())
        });
    match is_taken {
        true => Err(format!(
            "{} has a meaning of its own, choose another, as x-claim-sub",
            quote(name)
        )),
        false => Ok(()),
    }
}

/// Headers that no claim may become: with a value of a token's, or when what the client sent is
/// removed, a request would be another, or be broken.
const TAKEN_HEADERS: [&str; 29] = [
    "accept",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "dpop",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "www-authenticate",
    "x-http-method-override",
    "x-real-ip",
    "x-request-id",
];

/// Beginnings of such headers, as [`plain_bytes`] writes them.
const TAKEN_PREFIXES: [&str; 9] = [
    "accept-",
    "access-control-",
    "content-",
    "grpc-",
    "if-",
    "proxy-",
    "sec-",
    "x-envoy-",
    "x-forwarded-",
];

/// Whether servers may take the header `name` for `target`. Those that pass headers on as variables
/// (CGI, RFC 3875 section 4.1.18) make the same of upper and lower case, and of every character that
/// is no letter or digit: `X_Claim_Sub` is `x-claim-sub` to them.
///
/// A pseudo-header (`:path`) is the same as no other.
pub fn is_same_header(name: &[u8], target: &str) -> bool {
    !name.starts_with(b":") && plain_bytes(name).eq(plain_bytes(target.as_bytes()))
}

/// A name in lower case, with a hyphen for whatever is no letter or digit.
fn plain_bytes(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => byte.to_ascii_lowercase(),
        _ => b'-',
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::testing::{claims, mistakes, read};

    fn compile(config: Value, caps: Caps) -> Result<ClaimsToHeaders, String> {
        let mut errors = ConfigErrors::default();
        let config = read(config).map_err(|errors| errors.to_string())?;
        ClaimsToHeaders::compile(config, caps, "list", &mut errors).map_err(|_| errors.to_string())
    }

    fn render(
        rules: &ClaimsToHeaders,
        found: Value,
    ) -> Vec<(String, Result<String, RefusedClaim>)> {
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
        rules
            .render(&claims(found))
            .into_iter()
            .map(|(name, value)| (name.to_string(), value.map(text)))
            .collect()
    }

    #[test]
    fn claims_become_headers_in_their_format() {
        let rules = compile(
            json!([
                { "claim": "sub", "header": "X-Claim-Sub" },
                { "claim": ["realm_access", "roles"], "header": "x-roles" },
                { "claim": "groups", "header": "x-groups", "separator": "|" },
                { "claim": "address", "header": "x-address", "format": "json" },
                { "claim": "/realm_access/roles", "header": "x-roles-json", "format": "json" },
                { "claim": "absent", "header": "x-absent" },
                { "claim": "address", "header": "x-address-text", "format": "text" },
            ]),
            Caps::default(),
        )
        .unwrap();
        let headers = render(
            &rules,
            json!({
                "sub": "alice",
                "realm_access": { "roles": ["teller", "auditor"] },
                "groups": ["a,b", "c"],
                "address": { "city": "Zürich" },
            }),
        );
        let expected = [
            ("x-claim-sub", Ok("alice")),
            ("x-roles", Ok("teller,auditor")),
            ("x-groups", Ok("a,b|c")),
            ("x-address", Ok(r#"{"city":"Z\u00fcrich"}"#)),
            ("x-roles-json", Ok(r#"["teller","auditor"]"#)),
            ("x-address-text", Err(RefusedClaim::Object)),
        ]
        .map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(headers, expected);
        assert_eq!(rules.targets().count(), 7);
        assert!(render(&rules, json!({})).is_empty());
    }

    #[test]
    fn values_keep_to_the_caps() {
        let caps = Caps {
            header: 5,
            total: 8,
        };
        let rules = compile(
            json!([
                { "claim": "a", "header": "x-a" },
                { "claim": "b", "header": "x-b" },
                { "claim": "c", "header": "x-c", "format": "json" },
            ]),
            caps,
        )
        .unwrap();
        let reasons = |found: Value| -> Vec<_> {
            render(&rules, found)
                .into_iter()
                .map(|(_, value)| value.err())
                .collect()
        };
        assert_eq!(
            reasons(json!({ "a": "12345", "b": "123" })),
            [None, None],
            "exactly all"
        );
        assert_eq!(
            reasons(json!({ "a": "123456", "b": "12345", "c": 123 })),
            [Some(RefusedClaim::TooLong), None, None],
            "what is refused takes nothing"
        );
        assert_eq!(
            reasons(json!({ "a": "12345", "b": "1234", "c": [1] })),
            [None, Some(RefusedClaim::TooLongInAll), None],
            "a shorter one may still fit"
        );
    }

    #[test]
    fn headers_that_mean_something_else_are_refused() {
        for taken in [
            "Connection",
            "content-length",
            "content_length",
            "Content-Type",
            "host",
            "te",
            "transfer-encoding",
            "Transfer_Encoding",
            "authorization",
            "proxy-authorization",
            "cookie",
            "x-forwarded-for",
            "x_forwarded.client_cert",
            "x-envoy-original-path",
            "x-request-id",
            "traceparent",
            "grpc-timeout",
            "if-match",
        ] {
            let found = compile(
                json!([{ "claim": "sub", "header": taken }]),
                Caps::default(),
            )
            .unwrap_err();
            assert!(found.starts_with("list[0].header: "), "{taken}: {found}");
            assert!(found.contains("choose another"), "{taken}: {found}");
        }
        for free in ["x-claim-sub", "x-forwarded", "x-user", "subject", "tenant"] {
            let config = json!([{ "claim": "sub", "header": free }]);
            assert!(compile(config, Caps::default()).is_ok(), "{free}");
        }
    }

    #[test]
    fn every_mistake_of_a_list_is_reported() {
        let found = compile(
            json!([
                { "claim": "sub", "header": "x-sub" },
                { "claim": "sub", "header": "host" },
                { "claim": "name", "header": "X_Sub" },
                { "claim": "a", "header": "x-a", "format": "json", "separator": ";" },
            ]),
            Caps::default(),
        )
        .unwrap_err();
        assert_eq!(
            found,
            "list[1].header: \"host\" has a meaning of its own, choose another, as x-claim-sub\n\
             list[2].header: servers may take \"x_sub\" for the header of list[0], choose another\n\
             list[3].separator: has no use with format: json, remove one of them"
        );
        for (rule, expected) in [
            (
                json!({ "claim": "sub" }),
                "here: the field \"header\" is missing",
            ),
            (
                json!({ "header": "x-sub" }),
                "here: the field \"claim\" is missing",
            ),
            (
                json!({ "claim": "sub", "header": ":path" }),
                "here.header: found \":path\", expected a header's name",
            ),
            (
                json!({ "claim": "sub", "header": "x-a", "format": "jsn" }),
                "here.format: unknown value \"jsn\", did you mean \"json\"?",
            ),
            (
                json!({ "claim": "sub", "header": "x-a", "separator": "::" }),
                "here.separator: found \"::\", expected one character",
            ),
            (
                json!({ "claim": "sub", "header": "x-a", "array": "join" }),
                "here.array: unknown field",
            ),
        ] {
            let found = mistakes::<ClaimToHeader>(rule.clone());
            assert!(found.starts_with(expected), "{rule}: {found}");
        }
    }

    #[test]
    fn every_spelling_of_a_header_is_found() {
        for (name, same) in [
            (&b"x-claim-sub"[..], true),
            (b"X-Claim-Sub", true),
            (b"x_claim_sub", true),
            (b"x-claim_sub", true),
            (b"x.claim!sub", true),
            (b"x\xffclaim-sub", true),
            (b"x-claim-sub-", false),
            (b"x-claim-su", false),
            (b"xclaimsub", false),
            (b"x--claim-sub", false),
            (b"", false),
        ] {
            assert_eq!(is_same_header(name, "x-claim-sub"), same, "{name:?}");
        }
        assert!(!is_same_header(b":path", "-path"));
        let rules = compile(
            json!([{ "claim": "sub", "header": "-path" }, { "claim": "a", "header": "x_a" }]),
            Caps::default(),
        )
        .unwrap();
        assert!(rules.reserves(b"X-A") && rules.reserves(b"_path"));
        assert!(!rules.reserves(b":path") && !rules.reserves(b"x-b"));
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod properties {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::{any_claims, read};

    proptest! {
        #[test]
        fn values_are_clean_and_keep_to_the_caps(
            claims in any_claims(),
            names in proptest::collection::vec(("[ab0-2]{1,2}", any::<bool>()), 1..6),
            header in 0..100_usize,
            total in 0..200_usize,
        ) {
            let config = names.iter().enumerate().map(|(index, (name, is_json))| json!({
                "claim": name,
                "header": format!("x-{index}"),
                "format": if *is_json { "json" } else { "text" },
            }));
            let config = read(Value::Array(config.collect())).unwrap();
            let caps = Caps { header, total };
            let rules = ClaimsToHeaders::compile(config, caps, "", &mut ConfigErrors::default());
            let mut left = total;
            for (name, value) in rules.unwrap().render(&claims) {
                let Ok(value) = value else { continue };
                let text = std::str::from_utf8(&value).unwrap();
                prop_assert!(!text.contains(char::is_control));
                prop_assert_eq!(text.trim(), text);
                prop_assert!(!text.is_empty() && text.len() <= header);
                left = left.checked_sub(text.len()).unwrap();

                let index: usize = name.strip_prefix("x-").unwrap().parse().unwrap();
                let (claim, is_json) = &names[index];
                if *is_json {
                    prop_assert!(text.is_ascii());
                    prop_assert!(serde_json::from_str::<Value>(text).is_ok());
                } else if let Value::Array(items) = &claims[claim] {
                    prop_assert_eq!(text.split(',').count(), items.len());
                }
            }
        }
    }
}
