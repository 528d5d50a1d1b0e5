//! What the tests of several modules need.

use deserr::{Deserr, IntoValue, ValuePointerRef};
use serde_json::{Map, Value};
use tollgate_core::config::ConfigErrors;

/// Reads a configured value as the field `here`.
pub(crate) fn read<T: Deserr<ConfigErrors>>(value: Value) -> Result<T, ConfigErrors> {
    T::deserialize_from_value(value.into_value(), ValuePointerRef::Origin.push_key("here"))
}

/// What is wrong with a configured value; empty if nothing is.
pub(crate) fn mistakes<T: Deserr<ConfigErrors>>(value: Value) -> String {
    read::<T>(value).map_or_else(|errors| errors.to_string(), |_| String::new())
}

/// The members of a JSON object.
pub(crate) fn claims(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(claims) => claims,
        other => panic!("{other} is no object"),
    }
}

/// Claims of all kinds, with names that paths are likely to hit.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn any_claims() -> impl proptest::strategy::Strategy<Value = Map<String, Value>> {
    use proptest::prelude::*;

    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        "[a-z]{60,90}".prop_map(Value::from),
    ];
    let name = || "[ab/~0-2]{0,2}";
    let value = leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    proptest::collection::btree_map(name(), value, 0..6)
        .prop_map(|members| members.into_iter().collect())
}
