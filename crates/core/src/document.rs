//! A configuration document, out of which each policy takes its section.
//!
//! A document may be long: a hundred thousand API keys are 12 MB of text, and WebAssembly's memory
//! never shrinks. So the text stays where the host keeps it ([`Text`]), and is read by pieces. Once
//! from the beginning to the end, which finds all that no section can be read without: that it is
//! JSON, that no object has a key twice, and where nothing is given. Then section by section, each
//! value when it is asked for, so that nothing is held but a piece of the text and what a section
//! becomes.

mod json;
mod pieces;
mod value;
mod wire;

use std::cell::RefCell;

use deserr::{IntoValue, Map as _, Value, ValuePointerRef};

use crate::config::{ConfigErrors, Rejected, key_path};
use json::Extents;
use pieces::Pieces;
pub use pieces::Text;
use value::{Node, Place, Reader};

/// A checked document from which each policy takes its section.
#[derive(Debug)]
pub struct Document<'a> {
    reader: RefCell<Reader<'a>>,
    /// Those that nobody has taken, sorted by name.
    sections: Vec<(String, Place)>,
}

/// What the first reading of a text finds.
#[derive(Clone, Copy, Debug, Default)]
struct Checked {
    /// Whether a null is in it.
    has_null: bool,
}

impl Checked {
    /// What is found in both.
    fn and(self, other: Checked) -> Checked {
        Checked {
            has_null: self.has_null || other.has_null,
        }
    }
}

/// How many objects and lists may lie inside one another.
const MOST_NESTED: usize = 127;

impl<'a> Document<'a> {
    /// Reads a document as a host hands it over: JSON text, from Istio, Envoy Gateway or a
    /// `google.protobuf.StringValue`; or a `google.protobuf.Struct` in its wire form, which Envoy
    /// passes on as it is.
    ///
    /// A Struct holds every number as a double, and on its way through JSON `10000000` may become
    /// `1e+07`: doubles without a fraction are integers here.
    pub fn parse(text: &'a [u8]) -> Result<Self, ConfigErrors> {
        Self::of(Pieces::whole(text), json::LONG)
    }

    /// Reads a document as [`parse`](Self::parse) does, a piece of it at a time.
    pub fn read(text: &'a dyn Text) -> Result<Self, ConfigErrors> {
        Self::of(Pieces::of(text), json::LONG)
    }

    /// Reads a document, and remembers the ends of what has at least `long` bytes.
    fn of(mut pieces: Pieces<'a>, long: usize) -> Result<Self, ConfigErrors> {
        let (root, checked) = check(&mut pieces).map_err(refuse)?;
        let mut reader = RefCell::new(Reader::new(pieces, Extents::of_length(long)));
        let mut errors = ConfigErrors::default();
        let sections = match Node::new(&reader, root).into_value() {
            Value::Map(sections) => {
                if checked.has_null {
                    for (name, section) in sections.clone().into_iter() {
                        refuse_nulls(section, &key_path("", &name), &mut errors);
                    }
                }
                Ok(sections.into_places())
            }
            other => Err(kind(&other)),
        };
        if reader.get_mut().has_failed() {
            return Err(refuse(UNREADABLE));
        }
        let sections = sections
            .map_err(|kind| refuse(format!("the configuration is {kind}, expected an object")))?;
        match errors.is_empty() {
            true => Ok(Document { reader, sections }),
            false => Err(errors),
        }
    }

    /// Whether the document has the section `name`, and nobody has taken it yet.
    pub fn has(&self, name: &str) -> bool {
        self.sections.iter().any(|(section, _)| section == name)
    }

    /// Takes the section `name`, or nothing if the document has none. Its mistakes are recorded.
    pub fn take<T: deserr::Deserr<ConfigErrors>>(
        &mut self,
        name: &str,
        errors: &mut ConfigErrors,
    ) -> Result<Option<T>, Rejected> {
        let Some(place) = value::remove(&mut self.sections, name) else {
            return Ok(None);
        };
        let section = Node::new(&self.reader, place).into_value();
        let origin = ValuePointerRef::Origin;
        let taken = T::deserialize_from_value(section, origin.push_key(name));
        // What is missing would look like other mistakes.
        if self.reader.get_mut().has_failed() {
            return Err(errors.add(name, UNREADABLE));
        }
        taken.map(Some).map_err(|mistakes| errors.append(mistakes))
    }

    /// The names of the sections that nobody has taken.
    pub fn remaining(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|(name, _)| name.as_str())
    }
}

const UNREADABLE: &str = "the host did not hand over all of the configuration: load it again";

fn refuse(message: impl Into<String>) -> ConfigErrors {
    let mut errors = ConfigErrors::default();
    errors.add("", message);
    errors
}

/// Reads the text once, and gives what it holds.
fn check(pieces: &mut Pieces<'_>) -> Result<(Place, Checked), String> {
    if pieces.is_blank() {
        return Err(
            "the configuration is empty, expected an object with a section for each policy"
                .to_owned(),
        );
    }
    match json::check(pieces) {
        Ok(checked) => Ok((Place::json(), checked)),
        Err(error) => match wire::check(pieces) {
            Some(checked) => Ok((Place::wire(pieces), checked)),
            None if pieces.has_failed() => Err(UNREADABLE.to_owned()),
            None => Err(format!(
                "the configuration is not JSON: {error}; in Envoy write it as a \
                 google.protobuf.Struct, or as JSON in a google.protobuf.StringValue"
            )),
        },
    }
}

fn kind<V: IntoValue>(value: &Value<V>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Boolean(_) => "a boolean",
        Value::Integer(_) | Value::NegativeInteger(_) | Value::Float(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Map(_) => "an object",
    }
}

/// Records every null. In YAML a field whose items are commented out is null, and where it is
/// optional that would silently mean all or no limit.
fn refuse_nulls(node: Node<'_, '_>, path: &str, errors: &mut ConfigErrors) {
    match node.into_value() {
        Value::Null => {
            errors.add(
                path,
                "found nothing: give it a value, or leave the field out",
            );
        }
        Value::Sequence(items) => {
            for (index, item) in items.enumerate() {
                refuse_nulls(item, &format!("{path}[{index}]"), errors);
            }
        }
        Value::Map(members) => {
            for (name, member) in members.into_iter() {
                refuse_nulls(member, &key_path(path, &name), errors);
            }
        }
        Value::Boolean(_)
        | Value::Integer(_)
        | Value::NegativeInteger(_)
        | Value::Float(_)
        | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests;
