//! Scopes: what a token allows its client to do (RFC 6749 section 3.3).

use std::fmt;
use std::str::FromStr;

use deserr::{Deserr, IntoValue, Value as ConfigValue, ValuePointerRef};
use serde_json::{Map, Value};
use tollgate_core::config::{ConfigErrors, OneOrMany, display_path, quote};
use tollgate_core::deserr_from_str;

/// The most scopes that are read from a token, repeated ones counted. Those after them are as if
/// they were not there.
pub const MAX_SCOPES: usize = 256;

/// The scopes that a token has: a view of its claims, for it is asked about one or two of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scopes<'a> {
    claims: [Option<&'a Value>; 2],
}

/// The scopes of a token: those of its claims `scope` (RFC 8693 section 4.2, RFC 9068 section
/// 2.2.3) and `scp` (Microsoft, Okta) together. Either may be a text with a space between scopes, or
/// a list of texts with one scope each.
///
/// What can't be a scope is left out: a text in a list that has a space in it grants nothing.
pub fn scopes(claims: &Map<String, Value>) -> Scopes<'_> {
    Scopes {
        claims: ["scope", "scp"].map(|name| claims.get(name)),
    }
}

impl<'c> Scopes<'c> {
    /// Whether the token has this scope, compared byte by byte.
    pub fn contains(&self, scope: &str) -> bool {
        self.iter().any(|token| token == scope)
    }

    /// Whether the token has all of these scopes; true if there are none.
    pub fn contains_all<'a>(&self, scopes: impl IntoIterator<Item = &'a str>) -> bool {
        scopes.into_iter().all(|scope| self.contains(scope))
    }

    /// Whether the token has one of these scopes; false if there are none.
    pub fn contains_any<'a>(&self, scopes: impl IntoIterator<Item = &'a str>) -> bool {
        scopes.into_iter().any(|scope| self.contains(scope))
    }

    /// The scopes in the order of the claims, repeated where they are.
    pub fn iter(&self) -> impl Iterator<Item = &'c str> {
        self.claims
            .into_iter()
            .flatten()
            .flat_map(|claim| {
                let text = claim.as_str().unwrap_or_default().split(' ');
                let list = claim.as_array().map(Vec::as_slice).unwrap_or_default();
                text.chain(list.iter().filter_map(Value::as_str))
            })
            .filter(|token| is_scope_token(token))
            .take(MAX_SCOPES)
    }
}

/// A configured scope: a scope-token (RFC 6749 section 3.3), which is printable ASCII without space,
/// `"` and `\`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeToken(Box<str>);

impl ScopeToken {
    /// The scope as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_scope_token(text: &str) -> bool {
    let in_token = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    !text.is_empty() && text.bytes().all(in_token)
}

/// The text can't be a [`ScopeToken`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidScopeToken(String);

impl fmt::Display for InvalidScopeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected one scope as accounts:read: printable ASCII without space, \" and \
             \\; write several as a list",
            quote(&self.0)
        )
    }
}

impl std::error::Error for InvalidScopeToken {}

impl FromStr for ScopeToken {
    type Err = InvalidScopeToken;

    fn from_str(text: &str) -> Result<Self, InvalidScopeToken> {
        is_scope_token(text)
            .then(|| ScopeToken(text.into()))
            .ok_or_else(|| InvalidScopeToken(text.to_owned()))
    }
}

deserr_from_str!(ScopeToken);

/// Which scopes a token must have: `accounts:read`, `[accounts:read, payments:write]` or
/// `{ all_of: […] }` for all of them, `{ any_of: […] }` for at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeRule {
    quantifier: Quantifier,
    /// Never empty.
    tokens: Box<[ScopeToken]>,
    challenge: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    All,
    Any,
}

impl ScopeRule {
    /// Whether a token with these scopes has what the rule asks for.
    pub fn is_satisfied(&self, scopes: &Scopes<'_>) -> bool {
        let wanted = self.tokens.iter().map(ScopeToken::as_str);
        match self.quantifier {
            Quantifier::All => scopes.contains_all(wanted),
            Quantifier::Any => scopes.contains_any(wanted),
        }
    }

    /// The value of `scope` in a `WWW-Authenticate` challenge (RFC 6750 section 3): the rule's
    /// scopes with spaces between. It needs no escapes between quotes.
    ///
    /// A challenge can't say that one of them is enough; a client that asks for all it names is let
    /// through either way.
    pub fn challenge(&self) -> &str {
        &self.challenge
    }

    fn new(quantifier: Quantifier, tokens: Vec<ScopeToken>) -> Result<Self, String> {
        if tokens.is_empty() {
            return Err("is empty, expected at least one scope as accounts:read".to_owned());
        }
        let mut names: Vec<&str> = Vec::with_capacity(tokens.len());
        for token in &tokens {
            if names.contains(&token.as_str()) {
                return Err(format!("names {} twice, remove one", quote(token.as_str())));
            }
            names.push(token.as_str());
        }
        Ok(ScopeRule {
            quantifier,
            challenge: names.join(" ").into(),
            tokens: tokens.into(),
        })
    }
}

impl fmt::Display for ScopeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.challenge())
    }
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct RuleObject {
    #[deserr(default)]
    all_of: Option<OneOrMany<ScopeToken>>,
    #[deserr(default)]
    any_of: Option<OneOrMany<ScopeToken>>,
}

impl Deserr<ConfigErrors> for ScopeRule {
    fn deserialize_from_value<V: IntoValue>(
        value: ConfigValue<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        let (place, rule) = if matches!(value, ConfigValue::Map(_)) {
            let object = RuleObject::deserialize_from_value(value, location)?;
            match (object.all_of, object.any_of) {
                (Some(OneOrMany(tokens)), None) => (
                    location.push_key("all_of"),
                    ScopeRule::new(Quantifier::All, tokens),
                ),
                (None, Some(OneOrMany(tokens))) => (
                    location.push_key("any_of"),
                    ScopeRule::new(Quantifier::Any, tokens),
                ),
                _ => (
                    location,
                    Err("expected exactly one of all_of, any_of".to_owned()),
                ),
            }
        } else {
            let OneOrMany(tokens) = OneOrMany::deserialize_from_value(value, location)?;
            (location, ScopeRule::new(Quantifier::All, tokens))
        };
        rule.map_err(|message| {
            let mut errors = ConfigErrors::default();
            errors.add(display_path(place), message);
            errors
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::testing::{claims, mistakes, read};

    #[test]
    fn scopes_are_read_from_both_claims_in_both_forms() {
        for (found, expected) in [
            (json!({}), &[][..]),
            (json!({ "scope": "b a" }), &["b", "a"]),
            (json!({ "scope": " a  b " }), &["a", "b"]),
            (json!({ "scope": ["a", "b"] }), &["a", "b"]),
            (json!({ "scp": "a b" }), &["a", "b"]),
            (json!({ "scp": ["a", "b"] }), &["a", "b"]),
            (
                json!({ "scope": "a b", "scp": ["b", "c"] }),
                &["a", "b", "b", "c"],
            ),
            (json!({ "scope": "a\tb c" }), &["c"]),
            (json!({ "scope": "a\"b c\\ é a\u{a0}b d" }), &["d"]),
            (json!({ "scope": ["a b", "", "c", 1, null, ["d"]] }), &["c"]),
            (json!({ "scope": "" }), &[]),
            (json!({ "scope": 1, "scp": { "a": true } }), &[]),
            (json!({ "scope": null, "scp": "a" }), &["a"]),
            (json!({ "scopes": "a", "SCOPE": "b" }), &[]),
            (
                json!({ "scope": "https://bank.example/read accounts:read !" }),
                &["https://bank.example/read", "accounts:read", "!"],
            ),
        ] {
            let claims = claims(found.clone());
            let scopes = scopes(&claims);
            assert_eq!(scopes.iter().collect::<Vec<_>>(), expected, "{found}");
        }
    }

    #[test]
    fn scopes_are_compared_whole() {
        let claims = claims(json!({ "scope": "accounts:read Payments" }));
        let scopes = scopes(&claims);
        assert!(scopes.contains("accounts:read"));
        for absent in ["accounts", "accounts:read ", "payments", "", " "] {
            assert!(!scopes.contains(absent), "{absent:?}");
        }
        assert!(scopes.contains_all([]));
        assert!(!scopes.contains_any([]));
        assert!(scopes.contains_any(["x", "Payments"]));
        assert!(!scopes.contains_all(["x", "Payments"]));
    }

    #[test]
    fn scopes_beyond_the_bound_are_not_there() {
        let many: Vec<String> = (0..=MAX_SCOPES).map(|scope| format!("s{scope}")).collect();
        let claims = claims(json!({ "scope": many.join(" "), "scp": "other" }));
        let scopes = scopes(&claims);
        assert_eq!(scopes.iter().count(), MAX_SCOPES);
        assert!(scopes.contains("s255"));
        assert!(!scopes.contains("s256"));
        assert!(!scopes.contains("other"));
    }

    #[test]
    fn a_rule_asks_for_all_or_for_one() {
        for (rule, satisfied, unsatisfied, challenge) in [
            (json!("a"), "a b", "b", "a"),
            (json!(["b", "a"]), "a b c", "a c", "b a"),
            (json!({ "all_of": ["a", "b"] }), "b a", "b", "a b"),
            (json!({ "any_of": ["a", "b"] }), "b", "c", "a b"),
            (json!({ "any_of": "a" }), "a", "", "a"),
        ] {
            let parsed: ScopeRule = read(rule.clone()).unwrap();
            let check = |text: &str| {
                let claims = claims(json!({ "scope": text }));
                parsed.is_satisfied(&scopes(&claims))
            };
            assert!(check(satisfied), "{rule}");
            assert!(!check(unsatisfied), "{rule}");
            assert!(!parsed.is_satisfied(&Scopes::default()), "{rule}");
            assert_eq!(parsed.challenge(), challenge);
            assert_eq!(parsed.to_string(), challenge);
        }
    }

    #[test]
    fn a_rule_that_asks_for_nothing_or_for_no_scope_is_refused() {
        for (rule, expected) in [
            (json!([]), "here: is empty, expected at least one scope"),
            (json!({ "any_of": [] }), "here.any_of: is empty"),
            (json!({ "all_of": [] }), "here.all_of: is empty"),
            (json!({}), "here: expected exactly one of all_of, any_of"),
            (
                json!({ "all_of": ["a"], "any_of": ["b"] }),
                "here: expected exactly one of all_of, any_of",
            ),
            (json!(["a", "a"]), "here: names \"a\" twice, remove one"),
            (json!("a b"), "here: found \"a b\", expected one scope as"),
            (json!(["a", ""]), "here[1]: found \"\", expected one scope"),
            (json!(["é"]), "here[0]: found \"é\", expected one scope"),
            (json!(["a", 1]), "here[1]: found the number 1"),
            (json!({ "anyof": ["a"] }), "here.anyof: unknown field, did"),
        ] {
            let found = mistakes::<ScopeRule>(rule.clone());
            assert!(found.starts_with(expected), "{rule}: {found}");
        }
        let both = mistakes::<ScopeRule>(json!({ "any_of": ["a b", "c", "\""] }));
        assert_eq!(both.lines().count(), 2, "{both}");
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_scope_is_made_up(scope in any::<String>(), scp in proptest::collection::vec(any::<String>(), 0..9)) {
            let claims = Map::from_iter([
                ("scope".to_owned(), scope.clone().into()),
                ("scp".to_owned(), scp.clone().into()),
            ]);
            for found in scopes(&claims).iter() {
                prop_assert!(found.parse::<ScopeToken>().is_ok());
                prop_assert!(scope.split(' ').any(|token| token == found) || scp.iter().any(|token| token == found));
            }
        }
    }
}
