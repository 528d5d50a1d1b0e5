//! Text that is put between the tags of XML and HTML, and into their attributes.

/// Appends text to XML 1.0. What no XML document can hold (section 2.2 of XML) becomes U+FFFD.
pub(crate) fn push_xml(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            // Written as it is, a reader would make a line feed of it (section 2.11).
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => push_plain(out, c),
        }
    }
}

/// Appends text to HTML. A control character, and what is no character, becomes U+FFFD.
pub(crate) fn push_html(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\t' | '\n' => out.push(c),
            c if c.is_control() || is_noncharacter(c) => out.push('\u{fffd}'),
            c => push_plain(out, c),
        }
    }
}

fn push_plain(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        c => out.push(c),
    }
}

fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::testing::any_text;

    fn html(text: &str) -> String {
        let mut out = String::new();
        push_html(&mut out, text);
        out
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(
            html("<a href=\"x\">'&amp;'</a>\0\u{9b}\u{fffe}"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;amp;&#39;&lt;/a&gt;\u{fffd}\u{fffd}\u{fffd}"
        );
        let mut out = String::new();
        push_xml(&mut out, "]]>\r\n\u{1}\u{ffff}ü\u{10ffff}");
        assert_eq!(out, "]]&gt;&#13;\n\u{fffd}\u{fffd}ü\u{10ffff}");
    }

    proptest! {
        #[test]
        fn nothing_of_markup_is_left(text in any_text()) {
            let mut xml = String::new();
            push_xml(&mut xml, &text);
            for out in [html(&text), xml] {
                prop_assert!(!out.contains(['<', '>', '"', '\'']));
                for rest in out.split('&').skip(1) {
                    let entities = ["amp;", "lt;", "gt;", "quot;", "#39;", "#13;"];
                    prop_assert!(entities.iter().any(|entity| rest.starts_with(entity)));
                }
            }
        }
    }
}
