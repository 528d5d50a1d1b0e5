//! Media types and their weights, as `Accept` and `Content-Type` have them (RFC 9110 sections 8.3
//! and 12.5.1).

use crate::syntax::{Cursor, Parameter};

/// The weight of what has none, and the greatest that there is, in thousandths.
pub const MOST: u16 = 1000;

/// A member of `Accept`, or the value of `Content-Type`: `text/html;level=1;q=0.5`, `text/*`, `*/*`.
#[derive(Debug)]
pub struct MediaRange<'a> {
    /// `text`, or `*`; in the case in which it came.
    pub kind: &'a [u8],
    /// `html`, or `*`.
    pub subtype: &'a [u8],
    /// In their order, the weight among them.
    pub parameters: Vec<Parameter<'a>>,
}

/// Reads a list. A member that is malformed is `None`, and spoils no other.
pub fn media_ranges(field: &[u8]) -> impl Iterator<Item = Option<MediaRange<'_>>> {
    let mut cursor = Cursor::new(field);
    std::iter::from_fn(move || {
        cursor.skip_empty_members();
        if cursor.is_at_end() {
            return None;
        }
        let range = MediaRange::read(&mut cursor);
        // Goes on to the next one in any case.
        let is_whole = cursor.end_member();
        Some(range.filter(|_| is_whole))
    })
}

impl<'a> MediaRange<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        let kind = cursor.token()?;
        let subtype = cursor.eat(b'/').then(|| cursor.token())??;
        let parameters = std::iter::from_fn(|| cursor.parameter()).collect();
        (kind != b"*" || subtype == b"*").then_some(MediaRange {
            kind,
            subtype,
            parameters,
        })
    }

    /// The weight in thousandths (RFC 9110 section 12.4.2); the least of several. What is no weight
    /// lowers nothing: who writes it wants the type all the same.
    pub fn weight(&self) -> u16 {
        let weights = self.parameters.iter().filter(|it| it.is_weight());
        let weights = weights.map(|q| weight(q.value.as_deref().unwrap_or_default()));
        weights.min().unwrap_or(MOST)
    }
}

impl Parameter<'_> {
    /// Whether it is the weight of a media range.
    pub fn is_weight(&self) -> bool {
        self.name.eq_ignore_ascii_case(b"q")
    }
}

fn weight(text: &[u8]) -> u16 {
    let (whole, fraction) = match text.split_first() {
        Some((whole @ (b'0' | b'1'), [])) => (whole, &[][..]),
        Some((whole @ (b'0' | b'1'), [b'.', fraction @ ..])) => (whole, fraction),
        _ => return MOST,
    };
    if *whole == b'1' || fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return MOST;
    }
    let digits = fraction.iter().map(|digit| u16::from(digit & 0x0f));
    let thousandths = digits.zip([100_u16, 10, 1]);
    thousandths
        .map(|(digit, unit)| digit.saturating_mul(unit))
        .fold(0, u16::saturating_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// `type/subtype weight` of each member, `-` for one that is malformed.
    fn read(field: &str) -> String {
        let members = media_ranges(field.as_bytes()).map(|range| match range {
            Some(range) => format!(
                "{}/{} {}",
                String::from_utf8_lossy(range.kind),
                String::from_utf8_lossy(range.subtype),
                range.weight()
            ),
            None => "-".to_owned(),
        });
        members.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_member_that_is_malformed_spoils_no_other() {
        for (field, expected) in [
            ("", ""),
            (" , ,text/html\t,", "text/html 1000"),
            ("text/html;;q=0.9, */*;q=0", "text/html 900, */* 0"),
            ("text/html, x/y;a=b~c", "text/html 1000, x/y 1000"),
            ("text/html;a=\",;\\\"\";q=0.001", "text/html 1"),
            ("*; q=.2, text/*", "-, text/* 1000"),
            ("*/json, a/b", "-, a/b 1000"),
            ("text, text/html plain, a/b", "-, -, a/b 1000"),
            ("\u{fc}, a/b", "-, a/b 1000"),
            ("a<b, text/html", "-, text/html 1000"),
            ("a/b;c=\", text/html", "-"),
            ("a/b;q=1;Q=0.5", "a/b 500"),
            (
                "a/b;q=2, a/b;q=, a/b;q, a/b;q=0.1234",
                "a/b 1000, a/b 1000, a/b 1000, a/b 1000",
            ),
        ] {
            assert_eq!(read(field), expected, "{field:?}");
        }
    }

    proptest! {
        #[test]
        fn weights_are_thousandths(weight in 0_u16..=1000) {
            let text = format!("a/b;q={}.{:03}", weight / 1000, weight % 1000);
            prop_assert_eq!(read(&text), format!("a/b {weight}"));
        }

        #[test]
        fn every_field_is_read_to_its_end(field in prop::collection::vec(any::<u8>(), 0..60)) {
            let commas = field.iter().filter(|byte| **byte == b',').count();
            prop_assert!(media_ranges(&field).count() <= commas.saturating_add(1));
        }
    }
}
