//! Documents under construction, with their fields in order.

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

/// A value of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Out {
    Map(Vec<(String, Out)>),
    List(Vec<Out>),
    Text(String),
    Number(u64),
    Truth(bool),
}

impl Out {
    pub(crate) fn text(text: impl Into<String>) -> Out {
        Out::Text(text.into())
    }

    pub(crate) fn map<N: Into<String>>(entries: impl IntoIterator<Item = (N, Out)>) -> Out {
        let entries = entries.into_iter();
        Out::Map(entries.map(|(name, value)| (name.into(), value)).collect())
    }

    pub(crate) fn texts<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Out {
        Out::List(items.into_iter().map(Out::text).collect())
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Out::Map(entries) => entries.is_empty(),
            Out::List(items) => items.is_empty(),
            Out::Text(_) | Out::Number(_) | Out::Truth(_) => false,
        }
    }

    /// Adds a field to a mapping, if the value is there and not empty.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Option<Out>>) -> Out {
        if let Out::Map(entries) = &mut self
            && let Some(value) = value.into().filter(|value| !value.is_empty())
        {
            entries.push((name.to_owned(), value));
        }
        self
    }
}

impl Serialize for Out {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Out::Text(text) => serializer.serialize_str(text),
            Out::Number(number) => serializer.serialize_u64(*number),
            Out::Truth(truth) => serializer.serialize_bool(*truth),
            Out::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Out::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (name, value) in entries {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// Writes YAML that every reader takes for the same.
pub(crate) fn to_yaml(value: &Out) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}
