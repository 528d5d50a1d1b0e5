//! `google.protobuf.Struct` in its wire form.
//!
//! ```text
//! Struct    { map<string, Value> fields = 1; }, each entry of which is { string = 1; Value = 2; }
//! ListValue { repeated Value values = 1; }
//! Value     { null = 1; double = 2; string = 3; bool = 4; Struct = 5; ListValue = 6; }, one of them
//! ```
//!
//! What readers of protobuf may merge, a field that is written twice in an entry or a Value, is refused:
//! nobody writes it, and settings would vanish silently.

use std::ops::Range;

use super::pieces::Pieces;
use super::{Checked, MOST_NESTED};

/// Reads a Struct from the beginning to the end; `None` if it is none.
pub(super) fn check(pieces: &mut Pieces<'_>) -> Option<Checked> {
    let all = 0..pieces.size();
    Finder { pieces }.check_struct(all, MOST_NESTED)
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number(f64),
    /// Its bytes.
    Text(Range<usize>),
    /// A Struct.
    Object(Range<usize>),
    /// A ListValue.
    List(Range<usize>),
}

/// What a field holds.
enum Content {
    Varint(u64),
    Double(f64),
    Bytes(Range<usize>),
    /// What no field of these messages has.
    Other,
}

/// Finds values in the wire form. What is not as it should be is `None`.
pub(super) struct Finder<'r, 'a> {
    pub(super) pieces: &'r mut Pieces<'a>,
}

impl Finder<'_, '_> {
    fn check_struct(&mut self, mut fields: Range<usize>, depth: usize) -> Option<Checked> {
        let depth = depth.checked_sub(1)?;
        let mut checked = Checked::default();
        while !fields.is_empty() {
            if let Some(entry) = self.element(&mut fields)? {
                let (name, value) = self.entry(entry)?;
                self.text(name)?;
                checked = checked.and(self.check_value(value, depth)?);
            }
        }
        Some(checked)
    }

    fn check_list(&mut self, mut items: Range<usize>, depth: usize) -> Option<Checked> {
        let depth = depth.checked_sub(1)?;
        let mut checked = Checked::default();
        while !items.is_empty() {
            if let Some(item) = self.element(&mut items)? {
                checked = checked.and(self.check_value(item, depth)?);
            }
        }
        Some(checked)
    }

    fn check_value(&mut self, value: Range<usize>, depth: usize) -> Option<Checked> {
        match self.kind(value)? {
            Kind::Null => Some(Checked { has_null: true }),
            Kind::Bool(_) | Kind::Number(_) => Some(Checked::default()),
            Kind::Text(bytes) => self.text(bytes).map(|_| Checked::default()),
            Kind::Object(fields) => self.check_struct(fields, depth),
            Kind::List(items) => self.check_list(items, depth),
        }
    }

    /// The value in a range.
    pub(super) fn kind(&mut self, mut value: Range<usize>) -> Option<Kind> {
        let mut kind = None;
        while !value.is_empty() {
            let found = match self.field(&mut value)? {
                (1, Content::Varint(_)) => Kind::Null,
                // JSON has neither infinities nor NaN; as null they are refused.
                (2, Content::Double(number)) if !number.is_finite() => Kind::Null,
                (2, Content::Double(number)) => Kind::Number(number),
                (3, Content::Bytes(text)) => Kind::Text(text),
                (4, Content::Varint(bool)) => Kind::Bool(bool != 0),
                (5, Content::Bytes(fields)) => Kind::Object(fields),
                (6, Content::Bytes(items)) => Kind::List(items),
                (1..=6, _) => return None,
                _ => continue,
            };
            if kind.replace(found).is_some() {
                return None;
            }
        }
        Some(kind.unwrap_or(Kind::Null))
    }

    /// How many items a list has.
    pub(super) fn count(&mut self, mut items: Range<usize>) -> Option<usize> {
        let mut count = 0_usize;
        while !items.is_empty() {
            if self.element(&mut items)?.is_some() {
                count = count.saturating_add(1);
            }
        }
        Some(count)
    }

    /// The next item of a list; nothing at its end.
    pub(super) fn item(&mut self, items: &mut Range<usize>) -> Option<Range<usize>> {
        while items.start < items.end {
            if let Some(item) = self.element(items)? {
                return Some(item);
            }
        }
        None
    }

    /// The members of a Struct.
    pub(super) fn members(
        &mut self,
        mut fields: Range<usize>,
    ) -> Option<Vec<(String, Range<usize>)>> {
        let mut members = Vec::new();
        while !fields.is_empty() {
            if let Some(entry) = self.element(&mut fields)? {
                let (name, value) = self.entry(entry)?;
                members.push((self.text(name)?, value));
            }
        }
        Some(members)
    }

    pub(super) fn text(&mut self, bytes: Range<usize>) -> Option<String> {
        String::from_utf8(self.pieces.bytes(bytes)?).ok()
    }

    /// The next entry or item; `Some(None)` if there is something else.
    #[allow(clippy::option_option, reason = "not there, and not readable, differ")]
    fn element(&mut self, elements: &mut Range<usize>) -> Option<Option<Range<usize>>> {
        match self.field(elements)? {
            (1, Content::Bytes(element)) => Some(Some(element)),
            (1, _) => None,
            _ => Some(None),
        }
    }

    /// The name and the value of an entry.
    fn entry(&mut self, mut entry: Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
        let (mut name, mut value) = (None, None);
        while !entry.is_empty() {
            let before = match self.field(&mut entry)? {
                (1, Content::Bytes(bytes)) => name.replace(bytes),
                (2, Content::Bytes(bytes)) => value.replace(bytes),
                (1 | 2, _) => return None,
                _ => None,
            };
            if before.is_some() {
                return None;
            }
        }
        Some((name.unwrap_or(0..0), value.unwrap_or(0..0)))
    }

    /// The next field of a message, by its number; the message is then what follows.
    fn field(&mut self, message: &mut Range<usize>) -> Option<(u64, Content)> {
        let tag = self.varint(message)?;
        let content = match tag & 7 {
            0 => Content::Varint(self.varint(message)?),
            1 => {
                let bytes = self.pieces.bytes(take(message, 8)?)?;
                Content::Double(f64::from_le_bytes(bytes.try_into().ok()?))
            }
            2 => {
                let length = usize::try_from(self.varint(message)?).ok()?;
                Content::Bytes(take(message, length)?)
            }
            5 => {
                take(message, 4)?;
                Content::Other
            }
            // Groups are of old, and 6 and 7 of nobody.
            _ => return None,
        };
        match tag >> 3 {
            0 | FIELDS.. => None,
            number => Some((number, content)),
        }
    }

    fn varint(&mut self, message: &mut Range<usize>) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let at = take(message, 1)?.start;
            let byte = self.pieces.byte(at)?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits.checked_shl(shift)?;
            if shifted >> shift != bits {
                return None;
            }
            value |= shifted;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

/// One more than the number that a field may have.
const FIELDS: u64 = 1 << 29;

/// Splits the first bytes off.
fn take(message: &mut Range<usize>, length: usize) -> Option<Range<usize>> {
    let end = message.start.checked_add(length)?;
    if end > message.end {
        return None;
    }
    let taken = message.start..end;
    message.start = end;
    Some(taken)
}
