//! Problems as XML (RFC 9457 appendix B).

use serde_json::Value;

use crate::document::Document;
use crate::escape::push_xml;

/// Writes `application/problem+xml`. A list is elements named `i`, an object is an element for each
/// member; what is null or empty is an empty element. A member whose name can't be an element's is
/// left out.
pub(crate) fn write(document: &Document<'_>, language: &str) -> String {
    let mut out = String::with_capacity(512);
    out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str("<problem xmlns=\"urn:ietf:rfc:7807\" xml:lang=\"");
    push_xml(&mut out, language);
    out.push_str("\">");
    push_text(&mut out, "type", &document.type_uri);
    push_text(&mut out, "title", &document.title);
    push_text(&mut out, "status", &document.status.to_string());
    push_text(&mut out, "detail", &document.detail);
    if let Some(uri) = &document.instance {
        push_text(&mut out, "instance", uri);
    }
    push_text(&mut out, "kind", document.kind);
    for (name, value) in document.extensions() {
        push_member(&mut out, name, value);
    }
    out.push_str("</problem>\n");
    out
}

fn push_text(out: &mut String, name: &str, text: &str) {
    push_element(out, name, |out| push_xml(out, text));
}

fn push_member(out: &mut String, name: &str, value: &Value) {
    if is_element_name(name) {
        push_element(out, name, |out| push_value(out, value));
    }
}

fn push_element(out: &mut String, name: &str, content: impl FnOnce(&mut String)) {
    out.extend(["<", name, ">"]);
    content(out);
    out.extend(["</", name, ">"]);
}

/// Recurses as deep as the value does, and values come from code or from a configuration, whose
/// depth is limited.
fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => push_xml(out, text),
        Value::Array(items) => {
            for item in items {
                push_element(out, "i", |out| push_value(out, item));
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                push_member(out, name, value);
            }
        }
    }
}

/// Whether a name can be an element's: a name without colon (NCName of Namespaces in XML), and none
/// that XML reserves for itself.
fn is_element_name(name: &str) -> bool {
    let mut chars = name.chars();
    let is_reserved = name
        .as_bytes()
        .get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"xml"));
    !is_reserved && chars.next().is_some_and(starts_name) && chars.all(continues_name)
}

/// NameStartChar of XML 1.0 section 2.3, without the colon.
fn starts_name(c: char) -> bool {
    matches!(c,
        'A'..='Z' | 'a'..='z' | '_'
        | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
        | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
        | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

/// NameChar of XML 1.0 section 2.3, without the colon.
fn continues_name(c: char) -> bool {
    starts_name(c)
        || matches!(c,
            '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
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
    fn a_problem_is_written_as_the_rfc_has_it() {
        let mut document = Document::new(&CREDENTIALS_MISSING, "No <key>.");
        document.instance = Some("urn:uuid:1".into());
        document.extend("violated-policies", Cow::Owned(json!(["day", "a&b"])));
        document.extend(
            "limit",
            Cow::Owned(json!({"no name": 1, "of": null, "on": true, "rate": 1.5})),
        );
        document.extend("xml_version", Cow::Owned(json!(1)));
        document.extend("a:b", Cow::Owned(json!(1)));
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
            <problem xmlns=\"urn:ietf:rfc:7807\" xml:lang=\"de-CH\"><type>about:blank</type>\
            <title>Unauthorized</title><status>401</status><detail>No &lt;key&gt;.</detail>\
            <instance>urn:uuid:1</instance><kind>credentials-missing</kind>\
            <violated-policies><i>day</i><i>a&amp;b</i></violated-policies>\
            <limit><of></of><on>true</on><rate>1.5</rate></limit></problem>\n";
        assert_eq!(write(&document, "de-CH"), expected);
    }

    /// What XML can say of a text.
    fn visible(text: &str) -> String {
        let is_char = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        text.chars()
            .map(|c| if is_char(c) { c } else { '\u{fffd}' })
            .collect()
    }

    proptest! {
        #[test]
        fn it_is_well_formed_and_says_what_the_document_says(document in any_document()) {
            let xml = write(&document, "en");
            let read = roxmltree::Document::parse(&xml).unwrap();
            let root = read.root_element();
            prop_assert_eq!(root.tag_name().name(), "problem");
            let child = |name: &str| {
                let found = root.children().find(|node| {
                    node.tag_name().name() == name
                        && node.tag_name().namespace() == Some("urn:ietf:rfc:7807")
                });
                found.map(|node| node.text().unwrap_or_default().to_owned())
            };
            prop_assert_eq!(child("type"), Some(visible(&document.type_uri)));
            prop_assert_eq!(child("title"), Some(visible(&document.title)));
            prop_assert_eq!(child("status"), Some(document.status.to_string()));
            prop_assert_eq!(child("detail"), Some(visible(&document.detail)));
            prop_assert_eq!(child("instance"), document.instance.as_deref().map(visible));
            for (name, value) in document.extensions() {
                match value {
                    _ if !is_element_name(name) => prop_assert_eq!(child(name), None),
                    Value::String(text) => prop_assert_eq!(child(name), Some(visible(text))),
                    _ => prop_assert!(child(name).is_some()),
                }
            }
        }

        #[test]
        fn a_name_is_an_elements_exactly_if_a_reader_takes_it(
            name in "[a-zA-Z_.:0-9·ü\u{300}\u{37e}\u{2c00}\u{fffe}<&/ -]{0,5}"
        ) {
            let xml = format!("<{name}></{name}>");
            let reads = roxmltree::Document::parse(&xml)
                .is_ok_and(|read| read.root_element().tag_name().name() == name);
            let is_reserved = name.to_ascii_lowercase().starts_with("xml");
            prop_assert_eq!(is_element_name(&name), reads && !is_reserved, "{:?}", name);
        }
    }
}
