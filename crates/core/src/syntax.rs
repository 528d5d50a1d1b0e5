//! The pieces that header fields are made of (RFC 9110 section 5.6).

use std::borrow::Cow;

/// What is left to read of a field's value.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

/// `name=value`, or a name alone.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// In the case in which it came.
    pub name: &'a [u8],
    /// Unescaped, if it was quoted.
    pub value: Option<Cow<'a, [u8]>>,
}

impl<'a> Cursor<'a> {
    /// Begins at the beginning of a value.
    pub fn new(field: &'a [u8]) -> Self {
        Cursor { rest: field }
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Goes over white space.
    pub fn skip_space(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// Goes over white space and the commas of empty members (RFC 9110 section 5.6.1.2).
    pub fn skip_empty_members(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b','));
    }

    /// Goes over this byte if it is the next.
    pub fn eat(&mut self, expected: u8) -> bool {
        let rest = self.rest.strip_prefix(&[expected]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Takes what is in front of this byte, and goes over the byte.
    pub fn take_until(&mut self, end: u8) -> Option<&'a [u8]> {
        let position = self.rest.iter().position(|byte| *byte == end)?;
        let (head, tail) = self.rest.split_at_checked(position)?;
        self.rest = tail.get(1..).unwrap_or_default();
        Some(head)
    }

    /// Takes a token.
    pub fn token(&mut self) -> Option<&'a [u8]> {
        let token = self.take_while(is_token_byte);
        (!token.is_empty()).then_some(token)
    }

    /// Takes the next parameter, with the semicolon in front of it. Where one is malformed or none
    /// follows, there is none; [`Cursor::end_member`] tells which.
    pub fn parameter(&mut self) -> Option<Parameter<'a>> {
        loop {
            self.skip_space();
            if !self.eat(b';') {
                return None;
            }
            self.skip_space();
            let Some(name) = self.token() else {
                // An empty one, as in `a;;b=c`.
                continue;
            };
            self.skip_space();
            let value = match self.eat(b'=') {
                true => Some(self.parameter_value()?),
                false => None,
            };
            return Some(Parameter { name, value });
        }
    }

    fn parameter_value(&mut self) -> Option<Cow<'a, [u8]>> {
        self.skip_space();
        match self.rest.first() {
            Some(b'"') => self.quoted(),
            // None at all is an empty one (RFC 8288 appendix B.3).
            _ => Some(Cow::Borrowed(self.token().unwrap_or_default())),
        }
    }

    /// Takes a quoted string, unescaped.
    fn quoted(&mut self) -> Option<Cow<'a, [u8]>> {
        let inner = self.rest.strip_prefix(b"\"")?;
        let mut escaped = false;
        let end = inner.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        })?;
        let (text, tail) = inner.split_at_checked(end)?;
        self.rest = tail.get(1..).unwrap_or_default();
        Some(match text.contains(&b'\\') {
            true => Cow::Owned(unescape(text)),
            false => Cow::Borrowed(text),
        })
    }

    /// Goes over the comma behind a member of a list. Says whether the member ended there; what
    /// follows a malformed one is read all the same.
    pub fn end_member(&mut self) -> bool {
        self.end(false)
    }

    /// The same in a list of links (RFC 8288 section 3), whose `<>` may hold commas.
    pub fn end_link(&mut self) -> bool {
        self.end(true)
    }

    fn end(&mut self, has_links: bool) -> bool {
        self.skip_space();
        let whole = self.is_at_end() || self.rest.first() == Some(&b',');
        self.skip_to_comma(has_links);
        self.eat(b',');
        whole
    }

    /// Goes to the next comma that is in no quoted string, and in a list of links in no `<>`.
    fn skip_to_comma(&mut self, has_links: bool) {
        loop {
            let begins_link = |byte: u8| has_links && byte == b'<';
            self.take_while(|byte| !matches!(byte, b',' | b'"') && !begins_link(byte));
            let skipped = match self.rest.first() {
                Some(b'"') => self.quoted().is_some(),
                Some(b'<') => self.take_until(b'>').is_some(),
                _ => return,
            };
            if !skipped {
                self.rest = &[];
            }
        }
    }

    fn take_while(&mut self, taken: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !taken(*byte));
        let end = end.unwrap_or(self.rest.len());
        let (head, tail) = self.rest.split_at_checked(end).unwrap_or_default();
        self.rest = tail;
        head
    }
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut unescaped = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => unescaped.extend(bytes.next()),
            byte => unescaped.push(*byte),
        }
    }
    unescaped
}

/// Whether tokens may have it (RFC 9110 section 5.6.2, `tchar`).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// `name=value` of each parameter.
    fn parameters(field: &str) -> (Vec<String>, bool) {
        let mut cursor = Cursor::new(field.as_bytes());
        let mut found = Vec::new();
        while let Some(Parameter { name, value }) = cursor.parameter() {
            let name = String::from_utf8_lossy(name);
            let value = value.as_deref().map(String::from_utf8_lossy);
            found.push(match value {
                Some(value) => format!("{name}={value}"),
                None => name.into_owned(),
            });
        }
        (found, cursor.end_member())
    }

    #[test]
    fn parameters_are_tokens_or_quoted() {
        for (field, expected, whole) in [
            ("", vec![], true),
            (";a=b", vec!["a=b"], true),
            ("; a = b ;c", vec!["a=b", "c"], true),
            (
                r#";;a="b;c, \"d\\";e=f,"#,
                vec![r#"a=b;c, "d\"#, "e=f"],
                true,
            ),
            (";a=\"b", vec![], false),
            (";a=", vec!["a="], true),
            (";a=/;b", vec!["a="], false),
            (" x;a=b", vec![], false),
            (";a=b x", vec!["a=b"], false),
        ] {
            let (found, is_whole) = parameters(field);
            assert_eq!(
                (found, is_whole),
                (expected.iter().map(|s| s.to_string()).collect(), whole),
                "{field}"
            );
        }
    }

    #[test]
    fn a_member_ends_at_a_comma_outside_of_quotes() {
        let mut cursor = Cursor::new(b"x y \"a,b\" <c,d>, z");
        assert_eq!(cursor.token(), Some(&b"x"[..]));
        let mut other = cursor.clone();
        assert!(!cursor.end_link());
        cursor.skip_space();
        assert_eq!(cursor.token(), Some(&b"z"[..]));
        assert!(cursor.end_link());
        assert!(cursor.is_at_end());
        // Nothing but a link is in <>.
        assert!(!other.end_member());
        assert_eq!(other.token(), Some(&b"d"[..]));
    }

    proptest! {
        #[test]
        fn every_field_is_read_to_its_end(
            field in prop::collection::vec(any::<u8>(), 0..40),
            is_link: bool,
        ) {
            let mut cursor = Cursor::new(&field);
            for _ in 0..=field.len() {
                while cursor.parameter().is_some() {}
                match is_link {
                    true => cursor.end_link(),
                    false => cursor.end_member(),
                };
            }
            prop_assert!(cursor.is_at_end());
        }
    }
}
