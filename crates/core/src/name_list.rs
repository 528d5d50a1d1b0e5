//! A long list of names.

use std::fmt;

use crate::order;

/// Names in the order in which they were listed, found by their place or by their text. One takes
/// its own bytes and eight more.
#[derive(Default)]
pub struct NameList {
    /// All of them, one behind the other.
    text: Box<str>,
    /// Where each ends.
    ends: Box<[u32]>,
    /// Their places, sorted by name; of the same name, the first place is first.
    sorted: Box<[u32]>,
}

impl NameList {
    /// The name at a place.
    pub fn get(&self, place: u32) -> Option<&str> {
        let place = usize::try_from(place).ok()?;
        name(&self.text, &self.ends, place)
    }

    /// The place of a name; the first one if it is listed several times.
    pub fn find(&self, name: &str) -> Option<u32> {
        let before = self
            .sorted
            .partition_point(|place| self.get(*place) < Some(name));
        let place = *self.sorted.get(before)?;
        (self.get(place)? == name).then_some(place)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The names in the order in which they were listed.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|place| name(&self.text, &self.ends, place))
    }

    /// Whether a name is listed several times.
    pub fn has_repeated(&self) -> bool {
        let mut pairs = self.sorted.iter().zip(self.sorted.iter().skip(1));
        pairs.any(|(a, b)| self.get(*a) == self.get(*b))
    }
}

impl fmt::Debug for NameList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn name<'a>(text: &'a str, ends: &[u32], place: usize) -> Option<&'a str> {
    let end = |place: usize| usize::try_from(*ends.get(place)?).ok();
    let start = match place.checked_sub(1) {
        Some(before) => end(before)?,
        None => 0,
    };
    text.get(start..end(place)?)
}

/// A [`NameList`] that is being written.
#[derive(Debug, Default)]
pub struct NameListBuilder {
    text: String,
    ends: Vec<u32>,
}

/// The list has 4 GiB of names.
#[derive(Debug)]
pub struct ListFull;

impl NameListBuilder {
    /// An empty list with room for some names.
    pub fn with_capacity(names: usize) -> Self {
        NameListBuilder {
            text: String::new(),
            ends: Vec::with_capacity(names),
        }
    }

    /// How many names are listed.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a name, and gives its place.
    pub fn push(&mut self, name: &str) -> Result<u32, ListFull> {
        let place = u32::try_from(self.ends.len()).map_err(|_| ListFull)?;
        let end = self.text.len().saturating_add(name.len());
        let end = u32::try_from(end).map_err(|_| ListFull)?;
        if self.text.capacity().saturating_sub(self.text.len()) < name.len() {
            self.text
                .reserve_exact(gentle_growth(self.text.len()).max(name.len()));
        }
        self.text.push_str(name);
        self.ends.push(end);
        Ok(place)
    }

    /// The finished list.
    pub fn build(self) -> NameList {
        let (text, ends) = (self.text.into_boxed_str(), self.ends.into_boxed_slice());
        let get = |place| name(&text, &ends, place);
        // Of those that are the same, the first stays the first.
        let sorted = order::places(ends.len(), &|a, b| get(a).cmp(&get(b)));
        NameList {
            text,
            ends,
            sorted: sorted.into_boxed_slice(),
        }
    }
}

/// By how much a long list grows. Doubled, it would take three times its size while it is moved, and
/// WebAssembly's memory never shrinks.
pub fn gentle_growth(length: usize) -> usize {
    (length >> 3).saturating_add(64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn list(names: &[String]) -> NameList {
        let mut list = NameListBuilder::with_capacity(1);
        for name in names {
            list.push(name).unwrap();
        }
        assert_eq!(list.len(), names.len());
        list.build()
    }

    proptest! {
        #[test]
        fn names_are_found_by_place_and_by_text(names in proptest::collection::vec("[a-c]{0,2}", 0..20)) {
            let list = list(&names);
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
            prop_assert_eq!(list.get(names.len() as u32), None);
            let first = |name: &str| names.iter().position(|other| other == name).map(|at| at as u32);
            for name in ["", "a", "b", "cc", "d"] {
                prop_assert_eq!(list.find(name), first(name));
            }
            let mut all = (0..).zip(&names);
            prop_assert_eq!(list.has_repeated(), all.any(|(place, name)| first(name) != Some(place)));
        }
    }
}
