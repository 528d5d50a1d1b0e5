//! Where a claim is.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use deserr::{Deserr, IntoValue, Sequence as _, Value as ConfigValue, ValuePointerRef};
use serde_json::{Map, Value};
use tollgate_core::config::{ConfigErrors, display_path, quote};

/// The most names and indices in a path.
pub const MAX_DEPTH: usize = 16;

/// Where a claim is, written in one of three ways:
///
/// - A text is one name, as it is: `sub`, `https://bank.example/roles`. `realm_access.roles` is one
///   name too, with a dot in it.
/// - A list leads into nested objects and lists: `[realm_access, roles, 0]`.
/// - A text that begins with `/` is a JSON Pointer (RFC 6901): `/realm_access/roles/0`.
///
/// In an object a step of a path is a name, in a list an index from 0; no step goes anywhere else.
/// Paths are equal if they lead to the same place in all claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    /// Never empty.
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// What it is in an object; never empty.
    name: Box<str>,
    /// What it is in a list, if the name is a number without leading zeros.
    index: Option<usize>,
}

impl ClaimPath {
    /// The claim at this path; `None` if there is none. A claim that is null is there.
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.steps.split_first()?;
        rest.iter()
            .try_fold(claims.get(&*first.name)?, |found, step| match found {
                Value::Object(members) => members.get(&*step.name),
                Value::Array(items) => items.get(step.index?),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            })
    }

    fn new(names: Vec<String>) -> Result<Self, InvalidClaimPath> {
        if names.len() > MAX_DEPTH {
            return Err(InvalidClaimPath::TooDeep(names.len()));
        }
        if names.is_empty() {
            return Err(InvalidClaimPath::Empty);
        }
        if let Some(place) = names.iter().position(String::is_empty) {
            return Err(InvalidClaimPath::EmptyName(place));
        }
        let steps = names.into_iter().map(|name| Step {
            index: index(&name),
            name: name.into(),
        });
        Ok(ClaimPath {
            steps: steps.collect(),
        })
    }
}

/// Reads an index (RFC 6901 section 4).
fn index(text: &str) -> Option<usize> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// The text or list can't be a [`ClaimPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidClaimPath {
    /// It has no name at all.
    Empty,
    /// The name at this place, from 0, is empty.
    EmptyName(usize),
    /// It has so many names, more than [`MAX_DEPTH`].
    TooDeep(usize),
    /// This part of a JSON Pointer has a `~` that is neither `~0` nor `~1`.
    Escape(String),
}

impl fmt::Display for InvalidClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidClaimPath::Empty => f.write_str(
                "is empty, expected a claim: a name as sub, a list as [realm_access, roles], or a \
                 JSON Pointer as /realm_access/roles",
            ),
            InvalidClaimPath::EmptyName(place) => write!(
                f,
                "found an empty name at place {} of the path, expected names of claims as in \
                 /realm_access/roles",
                place.saturating_add(1)
            ),
            InvalidClaimPath::TooDeep(names) => {
                write!(
                    f,
                    "found a path of {names} names, expected at most {MAX_DEPTH}"
                )
            }
            InvalidClaimPath::Escape(part) => write!(
                f,
                "found a lone ~ in {}, in a JSON Pointer write ~ as ~0 and / as ~1",
                quote(part)
            ),
        }
    }
}

impl std::error::Error for InvalidClaimPath {}

impl FromStr for ClaimPath {
    type Err = InvalidClaimPath;

    /// Reads a name, or a JSON Pointer.
    fn from_str(text: &str) -> Result<Self, InvalidClaimPath> {
        match text.strip_prefix('/') {
            None if text.is_empty() => Err(InvalidClaimPath::Empty),
            None => ClaimPath::new(vec![text.to_owned()]),
            Some(pointer) => ClaimPath::new(
                pointer
                    .split('/')
                    .map(unescape)
                    .collect::<Result<_, InvalidClaimPath>>()?,
            ),
        }
    }
}

/// Undoes the escapes of a JSON Pointer (RFC 6901 section 4).
fn unescape(part: &str) -> Result<String, InvalidClaimPath> {
    let mut pieces = part.split('~');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escaped, rest) = match piece.as_bytes().first() {
            Some(b'0') => ('~', piece.get(1..)),
            Some(b'1') => ('/', piece.get(1..)),
            _ => return Err(InvalidClaimPath::Escape(part.to_owned())),
        };
        name.push(escaped);
        name.push_str(rest.unwrap_or_default());
    }
    Ok(name)
}

impl fmt::Display for ClaimPath {
    /// Writes the path as a text that is read as the same path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &*self.steps
            && !only.name.starts_with('/')
        {
            return f.write_str(&only.name);
        }
        for step in &self.steps {
            f.write_char('/')?;
            for character in step.name.chars() {
                match character {
                    '~' => f.write_str("~0")?,
                    '/' => f.write_str("~1")?,
                    other => f.write_char(other)?,
                }
            }
        }
        Ok(())
    }
}

impl Deserr<ConfigErrors> for ClaimPath {
    fn deserialize_from_value<V: IntoValue>(
        value: ConfigValue<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let parsed = match value {
            ConfigValue::String(text) => text.parse(),
            ConfigValue::Sequence(items) => {
                let mut names = Vec::with_capacity(items.len());
                for (place, item) in items.into_iter().enumerate() {
                    match item.into_value() {
                        ConfigValue::String(name) => names.push(name),
                        // The claims of a token are an object, never a list.
                        ConfigValue::Integer(index) if place > 0 => names.push(index.to_string()),
                        _ => {
                            let expected = match place {
                                0 => "expected the name of a claim",
                                _ => "expected a name, or an index from 0",
                            };
                            errors.add(display_path(location.push_index(place)), expected);
                        }
                    }
                }
                if !errors.is_empty() {
                    return Err(errors);
                }
                ClaimPath::new(names)
            }
            _ => {
                errors.add(
                    display_path(location),
                    "expected a claim: a name as sub, a list as [realm_access, roles], or a JSON \
                     Pointer as /realm_access/roles",
                );
                return Err(errors);
            }
        };
        parsed.map_err(|error| {
            errors.add(display_path(location), error.to_string());
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
    fn a_path_leads_to_a_claim_or_nowhere() {
        let claims = claims(json!({
            "sub": "alice",
            "https://bank.example/roles": ["a"],
            "realm_access.roles": "dotted",
            "realm_access": { "roles": ["teller", "auditor"], "": "unnamed", "0": "zero" },
            "/slash": 1,
            "a/b~c": { "d": 2 },
            "~1": 3,
            "null": null,
        }));
        for (path, expected) in [
            (json!("sub"), Some(json!("alice"))),
            (json!("https://bank.example/roles"), Some(json!(["a"]))),
            (json!("realm_access.roles"), Some(json!("dotted"))),
            (
                json!(["realm_access", "roles"]),
                Some(json!(["teller", "auditor"])),
            ),
            (
                json!("/realm_access/roles"),
                Some(json!(["teller", "auditor"])),
            ),
            (json!(["realm_access", "roles", 1]), Some(json!("auditor"))),
            (
                json!(["realm_access", "roles", "1"]),
                Some(json!("auditor")),
            ),
            (json!("/realm_access/roles/0"), Some(json!("teller"))),
            (json!("/realm_access/0"), Some(json!("zero"))),
            (json!("/realm_access/roles/2"), None),
            (json!("/realm_access/roles/00"), None),
            (json!("/realm_access/roles/+1"), None),
            (json!("/realm_access/roles/-"), None),
            (json!("/realm_access/roles/18446744073709551616"), None),
            (json!("/realm_access/roles/0/x"), None),
            (json!("/sub/0"), None),
            (json!(["/slash"]), Some(json!(1))),
            (json!("/~1slash"), Some(json!(1))),
            (json!("/slash"), None),
            (json!("/a~1b~0c/d"), Some(json!(2))),
            (json!("/~01"), Some(json!(3))),
            (json!("a/b~c"), Some(json!({ "d": 2 }))),
            (json!("null"), Some(json!(null))),
            (json!("/null/x"), None),
            (json!("Sub"), None),
        ] {
            let parsed: ClaimPath = read(path.clone()).unwrap();
            assert_eq!(parsed.find(&claims), expected.as_ref(), "{path}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{path}");
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_by_its_form_is_refused() {
        let deep: Vec<String> = vec!["a".to_owned(); MAX_DEPTH + 1];
        for (path, expected) in [
            (json!(""), "here: is empty, expected a claim: a name as sub"),
            (json!([]), "here: is empty, expected a claim: a name as sub"),
            (json!("/"), "here: found an empty name at place 1"),
            (json!("/a//b"), "here: found an empty name at place 2"),
            (json!("/a/"), "here: found an empty name at place 2"),
            (json!(["a", ""]), "here: found an empty name at place 2"),
            (json!("/a~2"), "here: found a lone ~ in \"a~2\""),
            (json!("/a/b~"), "here: found a lone ~ in \"b~\""),
            (json!([0, "a"]), "here[0]: expected the name of a claim"),
            (json!(["a", -1]), "here[1]: expected a name, or an index"),
            (json!(["a", ["b"]]), "here[1]: expected a name, or an index"),
            (json!(7), "here: expected a claim: a name as sub"),
            (json!({ "a": 1 }), "here: expected a claim: a name as sub"),
            (json!(deep), "here: found a path of 17 names"),
            (
                json!(format!("/{}", deep.join("/"))),
                "here: found a path of 17 names",
            ),
        ] {
            let found = mistakes::<ClaimPath>(path.clone());
            assert!(found.starts_with(expected), "{path}: {found}");
        }
        let both = mistakes::<ClaimPath>(json!([true, "a", null]));
        assert_eq!(both.lines().count(), 2, "{both}");
    }

    #[test]
    fn the_deepest_path_is_read() {
        let deep = vec!["a"; MAX_DEPTH];
        let path: ClaimPath = read(json!(deep)).unwrap();
        assert_eq!(path.to_string(), "/a".repeat(MAX_DEPTH));
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::any_claims;

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same_path(text in prop_oneof![any::<String>(), "/[ab/~0-2]{0,9}"]) {
            if let Ok(path) = text.parse::<ClaimPath>() {
                prop_assert_eq!(path.to_string().parse::<ClaimPath>(), Ok(path));
            }
        }

        #[test]
        fn a_pointer_leads_where_serde_json_says(claims in any_claims(), text in "(/[ab/~0-2]{1,2}){1,4}") {
            if let Ok(path) = text.parse::<ClaimPath>() {
                let root = Value::Object(claims.clone());
                prop_assert_eq!(path.find(&claims), root.pointer(&text));
            }
        }
    }
}
