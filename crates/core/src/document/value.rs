//! Values that are read when `deserr` asks for them.

use std::cell::RefCell;
use std::ops::Range;
use std::vec;

use deserr::{IntoValue, Value, ValueKind};
use serde_json::Number;

use super::json::{self, Extents, Scalar};
use super::pieces::Pieces;
use super::wire::{self, Kind};
use crate::order;

/// A text that was checked, and what is known of it.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pieces: Pieces<'a>,
    extents: Extents,
    /// Whether something was not found that was there before.
    is_lost: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(pieces: Pieces<'a>, extents: Extents) -> Self {
        Reader {
            pieces,
            extents,
            is_lost: false,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.is_lost || self.pieces.has_failed()
    }

    fn json(&mut self) -> json::Finder<'_, 'a> {
        json::Finder {
            pieces: &mut self.pieces,
            extents: &mut self.extents,
        }
    }

    fn wire(&mut self) -> wire::Finder<'_, 'a> {
        wire::Finder {
            pieces: &mut self.pieces,
        }
    }

    fn content(&mut self, place: &Place) -> Option<Content> {
        match place {
            Place::Json(at) => self.json_content(*at),
            Place::Wire(range) => {
                let kind = self.wire().kind(range.clone())?;
                self.wire_content(kind)
            }
            Place::WireRoot(fields) => self.wire_content(Kind::Object(fields.clone())),
        }
    }

    fn json_content(&mut self, at: usize) -> Option<Content> {
        let at = self.json().skip_space(at);
        Some(match self.pieces.byte(at)? {
            b'[' => Content::List {
                next: Next::Json(at.saturating_add(1)),
                count: self.json().extent(at)?.count,
            },
            b'{' => {
                let members = self.json().members(at)?.into_iter();
                Content::object(members.map(|(name, at)| (name, Place::Json(at))))
            }
            _ => match self.json().scalar(at)? {
                Scalar::Null => Content::Null,
                Scalar::Bool(value) => Content::Bool(value),
                Scalar::Number(number) => Content::Number(restore_integer(number)),
                Scalar::Text(text) => Content::Text(text),
            },
        })
    }

    fn wire_content(&mut self, kind: Kind) -> Option<Content> {
        Some(match kind {
            Kind::Null => Content::Null,
            Kind::Bool(value) => Content::Bool(value),
            Kind::Number(number) => Content::Number(restore_integer(Number::from_f64(number)?)),
            Kind::Text(bytes) => Content::Text(self.wire().text(bytes)?),
            Kind::List(items) => Content::List {
                count: self.wire().count(items.clone())?,
                next: Next::Wire(items),
            },
            Kind::Object(fields) => {
                let members = self.wire().members(fields)?.into_iter();
                Content::object(members.map(|(name, range)| (name, Place::Wire(range))))
            }
        })
    }

    /// The next item of a list; nothing at its end.
    fn item(&mut self, next: &mut Next) -> Option<Place> {
        match next {
            Next::Json(at) => {
                let (item, end) = self.json().item(*at)?;
                *at = end;
                Some(Place::Json(item))
            }
            Next::Wire(items) => self.wire().item(items).map(Place::Wire),
        }
    }
}

/// Where a value is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In JSON text, where it or white space before it begins.
    Json(usize),
    /// In the wire form, a Value.
    Wire(Range<usize>),
    /// In the wire form, the Struct that is the document.
    WireRoot(Range<usize>),
}

impl Place {
    /// Where nothing is, which is read as null.
    const NOWHERE: Place = Place::Json(usize::MAX);

    fn start(&self) -> usize {
        match self {
            Place::Json(at) => *at,
            Place::Wire(range) | Place::WireRoot(range) => range.start,
        }
    }

    /// All of a JSON text.
    pub(super) fn json() -> Self {
        Place::Json(0)
    }

    /// All of a Struct.
    pub(super) fn wire(pieces: &Pieces<'_>) -> Self {
        Place::WireRoot(0..pieces.size())
    }
}

/// Where a list goes on.
#[derive(Clone, Debug)]
enum Next {
    Json(usize),
    Wire(Range<usize>),
}

/// A value, read as far as it has to be to know what it is.
enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List { next: Next, count: usize },
    Object(Vec<Member>),
}

impl Content {
    /// An object with these members. Of one that is there twice, the last counts, as in every map
    /// of protobuf; in JSON there is none.
    ///
    /// They are read by name, since a Struct has them in any order and mistakes should not change
    /// places; many of them as they lie, so that each piece of the text is fetched once.
    fn object(members: impl DoubleEndedIterator<Item = (String, Place)>) -> Self {
        let mut members: Vec<_> = members.rev().collect();
        order::sort_by(&mut members, |(a, _), (b, _)| a.cmp(b));
        members.dedup_by(|(a, _), (b, _)| a == b);
        if members.len() > MANY {
            order::sort_by(&mut members, |(_, a), (_, b)| a.start().cmp(&b.start()));
        }
        Content::Object(members)
    }
}

type Member = (String, Place);

/// More members than any section has fields.
const MANY: usize = 64;

/// Above 2^53 a double no longer tells one integer from the next.
const LARGEST_EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;

fn restore_integer(number: Number) -> Number {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(double) if double.fract() == 0.0 && double.abs() <= LARGEST_EXACT_DOUBLE => {
            // In range by the check above, so the cast is exact.
            Number::from(double as i64)
        }
        _ => number,
    }
}

/// A value that is not read yet.
#[derive(Clone, Debug)]
pub(super) struct Node<'d, 'a> {
    reader: &'d RefCell<Reader<'a>>,
    place: Place,
}

impl<'d, 'a> Node<'d, 'a> {
    pub(super) fn new(reader: &'d RefCell<Reader<'a>>, place: Place) -> Self {
        Node { reader, place }
    }

    /// What it is. Nothing where the host does not hand it over once more; that is remembered.
    fn content(&self) -> Content {
        // Nothing that reads calls back, so it can't be borrowed already.
        let Ok(mut reader) = self.reader.try_borrow_mut() else {
            return Content::Null;
        };
        let content = reader.content(&self.place);
        reader.is_lost |= content.is_none();
        content.unwrap_or(Content::Null)
    }
}

impl<'d, 'a> IntoValue for Node<'d, 'a> {
    type Sequence = Items<'d, 'a>;
    type Map = Members<'d, 'a>;

    fn kind(&self) -> ValueKind {
        self.clone().into_value().kind()
    }

    fn into_value(self) -> Value<Self> {
        match self.content() {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Boolean(value),
            Content::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => Value::Integer(number),
                (None, Some(number)) => Value::NegativeInteger(number),
                (None, None) => number.as_f64().map_or(Value::Null, Value::Float),
            },
            Content::Text(text) => Value::String(text),
            Content::List { next, count } => Value::Sequence(Items {
                reader: self.reader,
                next,
                left: count,
            }),
            Content::Object(members) => Value::Map(Members {
                reader: self.reader,
                members,
            }),
        }
    }
}

/// The items of a list, each read when it is its turn.
#[derive(Debug)]
pub(super) struct Items<'d, 'a> {
    reader: &'d RefCell<Reader<'a>>,
    next: Next,
    left: usize,
}

impl<'d, 'a> deserr::Sequence for Items<'d, 'a> {
    type Value = Node<'d, 'a>;
    type Iter = Self;

    fn len(&self) -> usize {
        self.left
    }

    fn into_iter(self) -> Self {
        self
    }
}

impl<'d, 'a> Iterator for Items<'d, 'a> {
    type Item = Node<'d, 'a>;

    /// As many as were counted, whatever becomes of the text: who has asked how many there are may
    /// rely on it.
    fn next(&mut self) -> Option<Node<'d, 'a>> {
        self.left = self.left.checked_sub(1)?;
        let place = self.reader.try_borrow_mut().ok().and_then(|mut reader| {
            let place = reader.item(&mut self.next);
            reader.is_lost |= place.is_none();
            place
        });
        Some(Node::new(self.reader, place.unwrap_or(Place::NOWHERE)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// The members of an object, in the order in which they are read.
#[derive(Clone, Debug)]
pub(super) struct Members<'d, 'a> {
    reader: &'d RefCell<Reader<'a>>,
    members: Vec<(String, Place)>,
}

impl Members<'_, '_> {
    pub(super) fn into_places(self) -> Vec<(String, Place)> {
        self.members
    }
}

impl<'d, 'a> deserr::Map for Members<'d, 'a> {
    type Value = Node<'d, 'a>;
    type Iter = MembersIter<'d, 'a>;

    fn len(&self) -> usize {
        self.members.len()
    }

    fn remove(&mut self, name: &str) -> Option<Node<'d, 'a>> {
        remove(&mut self.members, name).map(|place| Node::new(self.reader, place))
    }

    fn into_iter(self) -> MembersIter<'d, 'a> {
        MembersIter {
            reader: self.reader,
            members: self.members.into_iter(),
        }
    }
}

/// Takes a member out of those of an object.
pub(super) fn remove(members: &mut Vec<(String, Place)>, name: &str) -> Option<Place> {
    let mut found = None;
    members.retain(|(known, place)| {
        let is_it = known == name;
        if is_it {
            found = Some(place.clone());
        }
        !is_it
    });
    found
}

/// See [`Members`].
#[derive(Debug)]
pub(super) struct MembersIter<'d, 'a> {
    reader: &'d RefCell<Reader<'a>>,
    members: vec::IntoIter<(String, Place)>,
}

impl<'d, 'a> Iterator for MembersIter<'d, 'a> {
    type Item = (String, Node<'d, 'a>);

    fn next(&mut self) -> Option<(String, Node<'d, 'a>)> {
        let (name, place) = self.members.next()?;
        Some((name, Node::new(self.reader, place)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.members.size_hint()
    }
}
