//! JSON text: checking it, and finding values in what was checked.
//!
//! Of objects that have a key twice, readers disagree about which value counts (RFC 8259 section 4),
//! and a configuration would say something else than its author thinks. So they are refused.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Number};

use super::Checked;
use super::pieces::{Feed, Pieces};

/// Reads a text from the beginning to the end.
pub(super) fn check(pieces: &mut Pieces<'_>) -> Result<Checked, serde_json::Error> {
    read(pieces, Strict { keeps_text: false }).map(|value| value.checked())
}

fn read(pieces: &mut Pieces<'_>, strict: Strict) -> Result<Read, serde_json::Error> {
    let mut deserializer = Deserializer::from_reader(Feed { pieces, at: 0 });
    let value = strict.deserialize(&mut deserializer)?;
    deserializer.end().map(|()| value)
}

/// What was read: all of a value that is small.
enum Read {
    Scalar(Scalar),
    /// A list or an object.
    Container(Checked),
}

/// A value other than a list or an object.
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
}

impl Read {
    fn checked(&self) -> Checked {
        match self {
            Read::Scalar(scalar) => Checked {
                has_null: matches!(scalar, Scalar::Null),
            },
            Read::Container(checked) => *checked,
        }
    }

    fn scalar(self) -> Option<Scalar> {
        match self {
            Read::Scalar(scalar) => Some(scalar),
            Read::Container(_) => None,
        }
    }
}

/// Reads any value. There is one of this for the whole text and for single values, so that the code
/// that reads JSON is in a plugin once.
#[derive(Clone, Copy)]
struct Strict {
    /// Otherwise, text is read as empty.
    keeps_text: bool,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Read;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Read, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        Ok(Read::Scalar(Scalar::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Read, E> {
        Ok(Read::Scalar(Scalar::Bool(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Read, E> {
        Ok(Read::Scalar(Scalar::Number(value.into())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Read, E> {
        Ok(Read::Scalar(Scalar::Number(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Read, E> {
        let number = Number::from_f64(value);
        Ok(Read::Scalar(number.map_or(Scalar::Null, Scalar::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Read, E> {
        let kept = if self.keeps_text { value } else { "" };
        Ok(Read::Scalar(Scalar::Text(kept.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Read, A::Error> {
        let mut checked = Checked::default();
        while let Some(item) = items.next_element_seed(self)? {
            checked = checked.and(item.checked());
        }
        Ok(Read::Container(checked))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Read, A::Error> {
        let mut checked = Checked::default();
        let mut keys = BTreeSet::new();
        while let Some((key, member)) = members.next_entry_seed(PhantomData::<String>, self)? {
            if !keys.insert(key) {
                return Err(A::Error::custom("an object has the same key twice"));
            }
            checked = checked.and(member.checked());
        }
        Ok(Read::Container(checked))
    }
}

/// Where the long lists and objects of a text end, once that is known.
///
/// Whoever wants one member of an object has to get past the others. Thanks to this, that costs the
/// length of the text only once, and not once for each level.
#[derive(Debug)]
pub(super) struct Extents {
    /// Sorted by where they begin.
    known: Vec<(usize, Extent)>,
    /// From how many bytes on a list or an object is long.
    long: usize,
}

/// What is long. Much longer, and getting past it would cost too often; much shorter, and remembering
/// it would cost too much.
pub(super) const LONG: usize = 1 << 12;

impl Extents {
    pub(super) fn of_length(long: usize) -> Self {
        Extents {
            known: Vec::new(),
            long,
        }
    }

    fn find(&self, start: usize) -> Option<Extent> {
        let index = self.known.binary_search_by_key(&start, |(start, _)| *start);
        index
            .ok()
            .and_then(|index| self.known.get(index))
            .map(|(_, extent)| *extent)
    }

    /// Adds one that is not there, if it is long. It may hold others, but none of them holds it.
    fn add(&mut self, start: usize, extent: Extent) {
        if extent.end.saturating_sub(start) < self.long {
            return;
        }
        let before = self.known.partition_point(|(other, _)| *other < start);
        let inner = self.known.split_off(before);
        self.known.push((start, extent));
        self.known.extend(inner);
    }
}

/// The extent of a list or an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// The place behind it.
    end: usize,
    /// How many items or members it has.
    pub(super) count: usize,
}

/// A text that was [checked](check). What would not be found in such a text is `None`.
pub(super) struct Finder<'r, 'a> {
    pub(super) pieces: &'r mut Pieces<'a>,
    pub(super) extents: &'r mut Extents,
}

impl Finder<'_, '_> {
    /// The place of the value that begins there, behind white space.
    pub(super) fn skip_space(&mut self, mut at: usize) -> usize {
        loop {
            let rest = self.pieces.rest(at);
            let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            match rest.iter().position(|byte| !is_space(byte)) {
                Some(skipped) => return at.saturating_add(skipped),
                None if rest.is_empty() => return at,
                None => at = at.saturating_add(rest.len()),
            }
        }
    }

    /// The extent of the list or object at a place.
    pub(super) fn extent(&mut self, start: usize) -> Option<Extent> {
        if let Some(extent) = self.extents.find(start) {
            return Some(extent);
        }
        let mut open: Vec<Open> = Vec::new();
        let mut at = start;
        loop {
            at = self.skip_space(at);
            let byte = self.pieces.byte(at)?;
            if let Some(inner) = open.last_mut() {
                match byte {
                    b',' => inner.commas = inner.commas.saturating_add(1),
                    b'}' | b']' => {}
                    _ => inner.is_empty = false,
                }
            }
            let next = at.saturating_add(1);
            match byte {
                b'{' | b'[' => open.push(Open {
                    start: at,
                    commas: 0,
                    is_empty: true,
                }),
                b'}' | b']' => {
                    let closed = open.pop()?;
                    let extent = closed.extent(next);
                    self.extents.add(closed.start, extent);
                    if open.is_empty() {
                        return Some(extent);
                    }
                }
                _ => {}
            }
            at = match byte {
                b'"' => self.end_of_text(at)?,
                _ => next,
            };
        }
    }

    /// The next item of a list, given the place behind its bracket or its last item, and the place
    /// behind it.
    pub(super) fn item(&mut self, at: usize) -> Option<(usize, usize)> {
        let mut at = self.skip_space(at);
        if self.pieces.byte(at)? == b',' {
            at = self.skip_space(at.saturating_add(1));
        }
        match self.pieces.byte(at)? {
            b']' => None,
            _ => Some((at, self.end(at)?)),
        }
    }

    /// The members of the object at a place, with the places of their values.
    pub(super) fn members(&mut self, start: usize) -> Option<Vec<(String, usize)>> {
        let mut members = Vec::new();
        let mut at = start;
        loop {
            // Behind the brace or a comma.
            at = self.skip_space(at.saturating_add(1));
            if self.pieces.byte(at)? == b'}' {
                return Some(members);
            }
            let end = self.end_of_text(at)?;
            let name = self.text(at..end)?;
            let colon = self.skip_space(end);
            let value = self.skip_space(colon.saturating_add(1));
            members.push((name, value));
            let end = self.end(value)?;
            at = self.skip_space(end);
            if self.pieces.byte(at)? == b'}' {
                return Some(members);
            }
        }
    }

    /// The value at a place that is neither a list nor an object.
    pub(super) fn scalar(&mut self, at: usize) -> Option<Scalar> {
        let end = self.end(at)?;
        match self.pieces.byte(at)? {
            b'n' => Some(Scalar::Null),
            b't' => Some(Scalar::Bool(true)),
            b'f' => Some(Scalar::Bool(false)),
            b'"' => self.text(at..end).map(Scalar::Text),
            _ => self.read(at..end),
        }
    }

    /// Reads a value as it was when it was checked.
    fn read(&mut self, value: Range<usize>) -> Option<Scalar> {
        let value = self.pieces.bytes(value)?;
        read(&mut Pieces::whole(&value), Strict { keeps_text: true })
            .ok()?
            .scalar()
    }

    /// The place behind the value at a place.
    fn end(&mut self, start: usize) -> Option<usize> {
        match self.pieces.byte(start)? {
            b'"' => self.end_of_text(start),
            b'{' | b'[' => self.extent(start).map(|extent| extent.end),
            _ => Some(self.end_of_word(start)),
        }
    }

    /// The place behind the number or name at a place.
    fn end_of_word(&mut self, mut at: usize) -> usize {
        loop {
            let rest = self.pieces.rest(at);
            let is_over = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t'..=b'\r');
            match rest.iter().position(is_over) {
                Some(length) => return at.saturating_add(length),
                None if rest.is_empty() => return at,
                None => at = at.saturating_add(rest.len()),
            }
        }
    }

    /// The place behind the text whose first quotation mark is at a place.
    fn end_of_text(&mut self, start: usize) -> Option<usize> {
        let mut at = start.saturating_add(1);
        loop {
            let rest = self.pieces.rest(at);
            let special = |byte: &&u8| matches!(byte, b'"' | b'\\');
            match rest.iter().enumerate().find(|(_, byte)| special(byte)) {
                Some((length, b'"')) => return Some(at.saturating_add(length).saturating_add(1)),
                // What is escaped is no end, and no more than a byte of it could look like one.
                Some((length, _)) => at = at.saturating_add(length).saturating_add(2),
                None if rest.is_empty() => return None,
                None => at = at.saturating_add(rest.len()),
            }
        }
    }

    /// The text in this range, quotation marks included.
    fn text(&mut self, quoted: Range<usize>) -> Option<String> {
        let inner = quoted.start.saturating_add(1)..quoted.end.saturating_sub(1);
        let bytes = self.pieces.bytes(inner)?;
        match bytes.contains(&b'\\') {
            false => String::from_utf8(bytes).ok(),
            true => match self.read(quoted)? {
                Scalar::Text(text) => Some(text),
                _ => None,
            },
        }
    }
}

/// A list or an object whose end is not found yet.
struct Open {
    start: usize,
    commas: usize,
    is_empty: bool,
}

impl Open {
    fn extent(&self, end: usize) -> Extent {
        Extent {
            end,
            count: match self.is_empty {
                true => 0,
                false => self.commas.saturating_add(1),
            },
        }
    }
}
