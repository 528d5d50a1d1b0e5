//! What the tests of several modules need.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::Value;

use crate::document::Document;

/// Text with all that markup minds: its own characters, control characters, what is no character.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "([<>&\"']|]]>|<!--|<script>|&amp;|&#0;|[\u{0}-\u{20}]|[\u{7f}-\u{a0}]|[\u{fffd}-\u{ffff}]|[a-z])*",
    ]
}

/// JSON of any shape, few levels deep.
pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any_name(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,8}", "[xX][mM][lL][a-z:]{0,2}", any_text()]
}

/// A problem of which every part may be any text.
pub(crate) fn any_document() -> impl Strategy<Value = Document<'static>> {
    let members = proptest::collection::vec((any_name(), any_value()), 0..4);
    let instance = proptest::option::of(any_text());
    (
        any_text(),
        any_text(),
        400_u16..600,
        any_text(),
        instance,
        members,
    )
        .prop_map(|(type_uri, title, status, detail, instance, members)| {
            let mut document = Document::new(&crate::kinds::REQUEST_REFUSED, detail);
            document.type_uri = type_uri.into();
            document.title = title.into();
            document.status = status;
            document.instance = instance.map(Cow::Owned);
            for (name, value) in members {
                document.extend(name, Cow::Owned(value));
            }
            document
        })
}
