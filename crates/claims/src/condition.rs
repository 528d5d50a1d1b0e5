//! What a claim must be for a request to be let through.

use deserr::{Deserr, IntoValue, Value as ConfigValue, ValuePointerRef};
use serde_json::{Map, Value};
use tollgate_core::config::{ConfigErrors, display_path};

use crate::path::ClaimPath;
use crate::scalar::Scalar;

/// A claim and what it must be, exactly one of
///
/// - `{ claim: tenant, equals: acme }`: this value;
/// - `{ claim: tier, one_of: [gold, silver] }`: one of these values;
/// - `{ claim: [realm_access, roles], contains: teller }`: a list in which this value is.
///
/// Values are compared by type and value, as [`Scalar::equals`] says. A text is no list: that
/// `contains` fits a part of it would let through who should not be, so it fits none; scopes in a
/// text are what [`ScopeRule`](crate::ScopeRule) is for. A claim that is missing or null satisfies
/// nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimCondition {
    claim: ClaimPath,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Equals(Scalar),
    OneOf(Vec<Scalar>),
    Contains(Scalar),
}

impl ClaimCondition {
    /// Whether the claims are as the condition asks.
    pub fn is_satisfied(&self, claims: &Map<String, Value>) -> bool {
        let Some(claim) = self.claim.find(claims) else {
            return false;
        };
        match &self.test {
            Test::Equals(value) => value.equals(claim),
            Test::OneOf(values) => values.iter().any(|value| value.equals(claim)),
            Test::Contains(value) => claim
                .as_array()
                .is_some_and(|items| items.iter().any(|item| value.equals(item))),
        }
    }

    /// The claim that it is about.
    pub fn claim(&self) -> &ClaimPath {
        &self.claim
    }
}

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct ConditionObject {
    claim: ClaimPath,
    #[deserr(default)]
    equals: Option<Scalar>,
    #[deserr(default)]
    one_of: Option<Vec<Scalar>>,
    #[deserr(default)]
    contains: Option<Scalar>,
}

impl Deserr<ConfigErrors> for ClaimCondition {
    fn deserialize_from_value<V: IntoValue>(
        value: ConfigValue<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        let object = ConditionObject::deserialize_from_value(value, location)?;
        let mut errors = ConfigErrors::default();
        if object.one_of.as_ref().is_some_and(Vec::is_empty) {
            let place = display_path(location.push_key("one_of"));
            errors.add(place, "is empty, so that no claim would do: add a value");
        }
        let tests = [
            object.equals.map(Test::Equals),
            object.one_of.map(Test::OneOf),
            object.contains.map(Test::Contains),
        ];
        let mut tests = tests.into_iter().flatten();
        match (tests.next(), tests.next()) {
            (Some(test), None) if errors.is_empty() => Ok(ClaimCondition {
                claim: object.claim,
                test,
            }),
            (Some(_), None) => Err(errors),
            _ => {
                errors.add(
                    display_path(location),
                    "expected exactly one of equals, one_of, contains; for several conditions \
                     write several",
                );
                Err(errors)
            }
        }
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
    fn a_condition_holds_or_does_not() {
        let claims = claims(json!({
            "tenant": "acme",
            "level": 3,
            "verified": true,
            "roles": ["teller", 7, null, ["nested"]],
            "text": "teller auditor",
            "nothing": null,
            "realm": { "roles": ["auditor"] },
        }));
        for (condition, satisfied) in [
            (json!({ "claim": "tenant", "equals": "acme" }), true),
            (json!({ "claim": "tenant", "equals": "Acme" }), false),
            (json!({ "claim": "tenant", "equals": "acm" }), false),
            (json!({ "claim": "level", "equals": 3 }), true),
            (json!({ "claim": "level", "equals": 3.0 }), true),
            (json!({ "claim": "level", "equals": "3" }), false),
            (json!({ "claim": "verified", "equals": true }), true),
            (json!({ "claim": "verified", "equals": "true" }), false),
            (json!({ "claim": "roles", "equals": "teller" }), false),
            (json!({ "claim": "absent", "equals": "" }), false),
            (json!({ "claim": "nothing", "equals": "" }), false),
            (json!({ "claim": "nothing", "equals": false }), false),
            (json!({ "claim": "tenant", "one_of": ["x", "acme"] }), true),
            (json!({ "claim": "tenant", "one_of": ["x", "y"] }), false),
            (json!({ "claim": "level", "one_of": ["3", 3] }), true),
            (json!({ "claim": "roles", "one_of": ["teller"] }), false),
            (json!({ "claim": "absent", "one_of": ["acme"] }), false),
            (json!({ "claim": "roles", "contains": "teller" }), true),
            (json!({ "claim": "roles", "contains": 7 }), true),
            (json!({ "claim": "roles", "contains": "7" }), false),
            (json!({ "claim": "roles", "contains": "tell" }), false),
            (json!({ "claim": "roles", "contains": "nested" }), false),
            (json!({ "claim": "text", "contains": "teller" }), false),
            (json!({ "claim": "tenant", "contains": "acme" }), false),
            (json!({ "claim": "realm", "contains": "roles" }), false),
            (
                json!({ "claim": ["realm", "roles"], "contains": "auditor" }),
                true,
            ),
            (json!({ "claim": "/roles/0", "equals": "teller" }), true),
            (json!({ "claim": "absent", "contains": "teller" }), false),
        ] {
            let parsed: ClaimCondition = read(condition.clone()).unwrap();
            assert_eq!(parsed.is_satisfied(&claims), satisfied, "{condition}");
            assert!(!parsed.is_satisfied(&Map::new()), "{condition}");
        }
    }

    #[test]
    fn a_condition_asks_one_thing_of_one_claim() {
        for (condition, expected) in [
            (
                json!({ "claim": "a" }),
                "here: expected exactly one of equals, one_of, contains",
            ),
            (
                json!({ "claim": "a", "equals": 1, "contains": 1 }),
                "here: expected exactly one of equals, one_of, contains",
            ),
            (
                json!({ "equals": 1 }),
                "here: the field \"claim\" is missing",
            ),
            (
                json!({ "claim": "a", "one_of": [] }),
                "here.one_of: is empty, so that no claim would do",
            ),
            (
                json!({ "claim": "a", "equals": [1] }),
                "here.equals: expected a single value",
            ),
            (
                json!({ "claim": "a", "one_of": ["b", {}] }),
                "here.one_of[1]: expected a single value",
            ),
            (
                json!({ "claim": "a", "one_of": "b" }),
                "here.one_of: found text, expected a list",
            ),
            (
                json!({ "claim": "a", "equal": 1 }),
                "here.equal: unknown field, did you mean \"equals\"?",
            ),
            (json!("a"), "here: found text, expected an object"),
        ] {
            let found = mistakes::<ClaimCondition>(condition.clone());
            assert!(found.starts_with(expected), "{condition}: {found}");
        }
        let many = mistakes::<ClaimCondition>(json!({ "claim": "", "one_of": [[], {}] }));
        assert_eq!(many.lines().count(), 3, "{many}");
    }
}
