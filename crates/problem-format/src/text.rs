//! Problems as a few lines of text, for people.

use serde_json::Value;

use crate::document::{ABOUT_BLANK, Document};

/// Writes the status and title, the detail, and a line for each other member.
pub(crate) fn write(document: &Document<'_>) -> String {
    let mut out = String::with_capacity(256);
    out.push_str(&document.status.to_string());
    out.push(' ');
    push_line(&mut out, &document.title);
    if !document.detail.is_empty() {
        out.push('\n');
        push_line(&mut out, &document.detail);
    }
    out.push('\n');
    push_member(&mut out, "kind", document.kind);
    if document.type_uri != ABOUT_BLANK {
        push_member(&mut out, "type", &document.type_uri);
    }
    if let Some(uri) = &document.instance {
        push_member(&mut out, "instance", uri);
    }
    for (name, value) in document.extensions() {
        push_member(&mut out, name, &value_text(value));
    }
    out
}

/// A value as people read it: a text without quotes, all else as JSON.
pub(crate) fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn push_member(out: &mut String, name: &str, value: &str) {
    push_visible(out, name);
    out.push_str(": ");
    push_line(out, value);
}

fn push_line(out: &mut String, text: &str) {
    push_visible(out, text);
    out.push('\n');
}

/// A line feed in a value would begin a line that looks like another member.
fn push_visible(out: &mut String, text: &str) {
    let visible = |c: char| match c {
        '\u{2028}' | '\u{2029}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    out.extend(text.chars().map(visible));
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use serde_json::json;
    use tollgate_core::problem::CREDENTIALS_MISSING;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::testing::any_document;

    #[test]
    fn a_problem_is_a_few_lines() {
        let mut document = Document::new(&CREDENTIALS_MISSING, "This API needs\na key.");
        document.instance = Some("urn:uuid:1".into());
        document.extend("support", Cow::Owned(json!("https://bank.example/")));
        document.extend("violated-policies", Cow::Owned(json!(["day"])));
        assert_eq!(
            write(&document),
            "401 Unauthorized\n\nThis API needs a key.\n\nkind: credentials-missing\n\
             instance: urn:uuid:1\nsupport: https://bank.example/\nviolated-policies: [\"day\"]\n"
        );
        document.type_uri = "https://errors.bank.example/credentials-missing".into();
        document.detail = "".into();
        assert!(write(&document).starts_with(
            "401 Unauthorized\n\nkind: credentials-missing\ntype: https://errors.bank.example/"
        ));
    }

    proptest! {
        #[test]
        fn a_value_is_one_line(document in any_document()) {
            let text = write(&document);
            prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
            let optional = [
                (!document.detail.is_empty(), 2),
                (document.type_uri != ABOUT_BLANK, 1),
                (document.instance.is_some(), 1),
                (true, document.extensions().count()),
            ];
            let beside = optional.iter().filter(|(is_there, _)| *is_there);
            let lines: usize = [3].iter().chain(beside.map(|(_, lines)| lines)).sum();
            prop_assert_eq!(text.matches('\n').count(), lines);
        }
    }
}
