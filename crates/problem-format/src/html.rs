//! Problems as a small page, for people who followed a link.

use crate::document::{ABOUT_BLANK, Document};
use crate::escape::push_html;
use crate::text::value_text;

/// A `content-security-policy` under which the page looks as it should and can do nothing.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page up to the value of `lang`, and on to the title.
const HEAD: [&str; 2] = [
    "<!DOCTYPE html>\n<html lang=\"",
    "\">\n<head>\n<meta charset=\"utf-8\">\n\
     <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
     <meta name=\"robots\" content=\"noindex\">\n<title>",
];

/// From the title on to the heading.
const STYLE: &str = "</title>\n<style>\n\
    :root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }\n\
    body { max-width: 40rem; margin: 10vh auto; padding: 0 1rem; overflow-wrap: anywhere; }\n\
    h1 { font-size: 1.5rem; }\n\
    dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: 0.875rem; }\n\
    dd { margin: 0; }\n\
    </style>\n</head>\n<body>\n<main>\n<h1>";

/// Writes a page that loads nothing and runs nothing. The members are named as in JSON, so that
/// what a person quotes is what the operator searches for.
pub(crate) fn write(document: &Document<'_>, language: &str) -> String {
    let mut out = String::with_capacity(2048);
    let heading = format!("{} {}", document.status, document.title);
    let [before_language, before_title] = HEAD;
    out.push_str(before_language);
    push_html(&mut out, language);
    out.push_str(before_title);
    push_html(&mut out, &heading);
    out.push_str(STYLE);
    push_html(&mut out, &heading);
    out.push_str("</h1>\n<p>");
    push_html(&mut out, &document.detail);
    out.push_str("</p>\n<dl>\n");
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
    out.push_str("</dl>\n</main>\n</body>\n</html>\n");
    out
}

fn push_member(out: &mut String, name: &str, value: &str) {
    out.push_str("<dt>");
    push_html(out, name);
    out.push_str("</dt><dd>");
    let is_link = ["https://", "http://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    if is_link {
        out.push_str("<a rel=\"noreferrer\" href=\"");
        push_html(out, value);
        out.push_str("\">");
        push_html(out, value);
        out.push_str("</a>");
    } else {
        push_html(out, value);
    }
    out.push_str("</dd>\n");
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
    fn a_problem_is_a_page() {
        let mut document = Document::new(&CREDENTIALS_MISSING, "Send a <key> & \"smile\".");
        document.type_uri = "https://errors.bank.example/?a=1&b=\"x".into();
        document.extend("support", Cow::Owned(json!("javascript:alert(1)")));
        let page = write(&document, "de");
        assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"de\">"));
        assert!(page.contains("<title>401 Unauthorized</title>"));
        assert!(page.contains("<h1>401 Unauthorized</h1>"));
        assert!(page.contains("<p>Send a &lt;key&gt; &amp; &quot;smile&quot;.</p>"));
        assert!(page.contains("href=\"https://errors.bank.example/?a=1&amp;b=&quot;x\">"));
        assert!(page.contains("<dt>support</dt><dd>javascript:alert(1)</dd>"));
        assert!(page.ends_with("</html>\n"));
    }

    /// The tags of a page with their attributes.
    fn tags(page: &str) -> Vec<&str> {
        page.split('<')
            .skip(1)
            .map(|piece| piece.split('>').next().unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn input_is_never_markup(document in any_document(), language in crate::testing::any_text()) {
            let page = write(&document, &language);
            let known = [
                "!DOCTYPE html", "html lang=\"", "head", "/head", "meta charset=\"utf-8\"",
                "meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"",
                "meta name=\"robots\" content=\"noindex\"", "title", "/title", "style", "/style",
                "body", "/body", "main", "/main", "h1", "/h1", "p", "/p", "dl", "/dl", "dt", "/dt",
                "dd", "/dd", "/a", "/html",
            ];
            for tag in tags(&page) {
                // Of the two tags with input, the quotes show that it stays within its attribute.
                let link = "a rel=\"noreferrer\" href=\"http";
                let holds_input = tag.starts_with(link) && tag.matches('"').count() == 4
                    || tag.starts_with("html lang=\"") && tag.matches('"').count() == 2;
                prop_assert!(known.contains(&tag) || holds_input, "{}", tag);
            }
            prop_assert_eq!(page.matches("<dt>").count(), page.matches("</dd>").count());
            prop_assert!(!page.contains('\0'));
        }
    }
}
