//! A snapshot of one header map, read from the host once and then looked at without copying.

use std::fmt;

use crate::text::Text;

/// The headers of a request as they arrived: order and repetition kept, values as raw bytes.
///
/// Names are lower-case, as HTTP/2 demands and Envoy delivers for HTTP/1.1 too. Values need not be
/// UTF-8.
#[derive(Clone, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    name_start: u32,
    name_end: u32,
    value_start: u32,
    value_end: u32,
}

/// A serialised header map that does not follow the proxy-wasm format.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidHeaderMap;

impl fmt::Display for InvalidHeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host handed over a header map that does not follow the proxy-wasm format")
    }
}

impl Headers {
    /// Takes over a map in proxy-wasm's serialised form: the count, then the lengths of each name
    /// and value, then each name and value with a NUL behind it; all integers 32-bit little-endian.
    pub fn from_wire(bytes: Vec<u8>) -> Result<Headers, InvalidHeaderMap> {
        if bytes.is_empty() {
            return Ok(Headers::default());
        }
        let entries = index(&bytes).ok_or(InvalidHeaderMap)?;
        Ok(Headers { bytes, entries })
    }

    /// Puts a map together from names and values; names are lower-cased.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in pairs {
            let name_start = headers.end();
            headers
                .bytes
                .extend(name.as_ref().iter().map(u8::to_ascii_lowercase));
            let value_start = headers.end();
            headers.bytes.extend_from_slice(value.as_ref());
            let value_end = headers.end();
            headers.entries.push(Entry {
                name_start,
                name_end: value_start,
                value_start,
                value_end,
            });
        }
        headers
    }

    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// The first value of a header, given by its lower-case name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// Every value of a header that may be repeated, given by its lower-case name.
    pub fn get_all<'a, 'n>(
        &'a self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        // Most names are of another length, which is told without looking at them.
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        self.entries
            .iter()
            .filter(move |entry| {
                entry.name_end.wrapping_sub(entry.name_start) == length
                    && self.slice(entry.name_start, entry.name_end) == name.as_bytes()
            })
            .map(|entry| self.slice(entry.value_start, entry.value_end))
    }

    /// The first value of a header if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Names and values in the order in which they arrived, pseudo-headers included.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|entry| {
            (
                self.slice(entry.name_start, entry.name_end),
                self.slice(entry.value_start, entry.value_end),
            )
        })
    }

    /// How many headers there are, repetitions counted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no header at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn slice(&self, start: u32, end: u32) -> &[u8] {
        self.bytes
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }
}

impl fmt::Debug for Headers {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                self.iter()
                    .map(|(name, _)| String::from_utf8_lossy(name).into_owned()),
            )
            .finish()
    }
}

fn index(bytes: &[u8]) -> Option<Vec<Entry>> {
    let (count, mut lengths) = split_u32(bytes)?;
    let table = (count as usize).checked_mul(8)?;
    let mut position = u32::try_from(table.checked_add(4)?).ok()?;
    // The table of lengths must be there before memory is reserved for what it promises.
    if position as usize > bytes.len() {
        return None;
    }
    let mut entries = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (name_length, rest) = split_u32(lengths)?;
        let (value_length, rest) = split_u32(rest)?;
        lengths = rest;
        let name_start = position;
        let name_end = name_start.checked_add(name_length)?;
        let value_start = name_end.checked_add(1)?;
        let value_end = value_start.checked_add(value_length)?;
        position = value_end.checked_add(1)?;
        entries.push(Entry {
            name_start,
            name_end,
            value_start,
            value_end,
        });
    }
    (position as usize <= bytes.len()).then_some(entries)
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (integer, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*integer), rest))
}

/// Serialises names and values the way [`Headers::from_wire`] reads them.
pub fn to_wire<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let bytes = |(name, value): &(N, V)| name.as_ref().len().saturating_add(value.as_ref().len());
    // The lengths, and a NUL behind each name and value.
    let around = pairs.len().saturating_mul(10).saturating_add(4);
    let size = pairs.iter().map(bytes).fold(around, usize::saturating_add);
    let mut wire = Vec::with_capacity(size);
    wire.extend_from_slice(&u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (name, value) in pairs {
        wire.extend_from_slice(&length(name.as_ref()));
        wire.extend_from_slice(&length(value.as_ref()));
    }
    for (name, value) in pairs {
        wire.extend_from_slice(name.as_ref());
        wire.push(0);
        wire.extend_from_slice(value.as_ref());
        wire.push(0);
    }
    wire
}

/// What is to be changed in the request before the upstream sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestEdits(Vec<RequestEdit>);

/// One change of the request's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestEdit {
    /// Set the header to this one value, whatever was there.
    Set(HeaderName, HeaderValue),
    /// Remove the header and all its repetitions.
    Remove(HeaderName),
}

/// The name of a header, lower-case.
pub type HeaderName = Text;

/// The value of a header, which need not be UTF-8.
#[derive(Clone)]
pub enum HeaderValue {
    /// Text.
    Text(Text),
    /// What a client has sent.
    Bytes(Vec<u8>),
}

impl HeaderValue {
    /// A value that is set for many requests.
    pub fn shared(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => HeaderValue::Text(Text::from(text).shared()),
            Err(error) => HeaderValue::Bytes(error.into_bytes()),
        }
    }

    /// The value.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            HeaderValue::Text(text) => text.as_bytes(),
            HeaderValue::Bytes(bytes) => bytes,
        }
    }
}

impl<T: Into<Text>> From<T> for HeaderValue {
    fn from(text: T) -> Self {
        HeaderValue::Text(text.into())
    }
}

impl From<Vec<u8>> for HeaderValue {
    fn from(bytes: Vec<u8>) -> Self {
        HeaderValue::Bytes(bytes)
    }
}

impl PartialEq for HeaderValue {
    fn eq(&self, other: &HeaderValue) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for HeaderValue {}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_bytes().escape_ascii().to_string(), f)
    }
}

/// A header's name as a configuration gives it: a token (RFC 9110 section 5.1), kept lower-case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(HeaderName);

impl FieldName {
    /// A name that the code gives, as a default: lower-case already.
    pub const fn from_static(name: &'static str) -> Self {
        FieldName(HeaderName::from_static(name))
    }

    /// The name, lower-case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in the form in which headers are set and removed.
    pub fn to_header_name(&self) -> HeaderName {
        self.0.clone()
    }
}

/// The text can't be the name of a header.
#[derive(Debug)]
pub struct InvalidFieldName(String);

impl fmt::Display for InvalidFieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected a header's name as x-api-key: letters, digits and !#$%&'*+-.^_`|~",
            crate::config::quote(&self.0)
        )
    }
}

impl std::str::FromStr for FieldName {
    type Err = InvalidFieldName;

    fn from_str(text: &str) -> Result<Self, InvalidFieldName> {
        let in_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || !text.bytes().all(in_token) {
            return Err(InvalidFieldName(text.to_owned()));
        }
        Ok(FieldName(
            HeaderName::from(text.to_ascii_lowercase()).shared(),
        ))
    }
}

crate::deserr_from_str!(FieldName);

/// As many as a plugin with all policies makes.
const TYPICAL_EDITS: usize = 8;

impl RequestEdits {
    /// Sets a header to one value, replacing every value that the client sent.
    pub fn set(&mut self, name: impl Into<HeaderName>, value: impl Into<HeaderValue>) {
        self.push(RequestEdit::Set(name.into(), value.into()));
    }

    /// Removes a header and all its repetitions.
    pub fn remove(&mut self, name: impl Into<HeaderName>) {
        let name = name.into();
        let edit = RequestEdit::Remove(name);
        if !self.0.contains(&edit) {
            self.push(edit);
        }
    }

    fn push(&mut self, edit: RequestEdit) {
        if self.0.is_empty() {
            self.0.reserve(TYPICAL_EDITS);
        }
        self.0.push(edit);
    }

    /// What a header was last changed to: its value, or nothing if it is removed. `None` if it is
    /// not changed.
    pub fn last(&self, name: &str) -> Option<Option<&[u8]>> {
        self.0.iter().rev().find_map(|edit| match edit {
            RequestEdit::Set(changed, value) if changed == name => Some(Some(value.as_bytes())),
            RequestEdit::Remove(changed) if changed == name => Some(None),
            _ => None,
        })
    }

    /// The changes in the order in which they are to be made.
    pub fn iter(&self) -> impl Iterator<Item = &RequestEdit> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    proptest! {
        #[test]
        fn the_wire_form_round_trips(
            pairs in proptest::collection::vec(("[a-z:-]{0,12}", proptest::collection::vec(any::<u8>(), 0..40)), 0..12)
        ) {
            let headers = Headers::from_wire(to_wire(&pairs)).unwrap();
            let read: Vec<_> = headers
                .iter()
                .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec()))
                .collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn no_bytes_of_a_host_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(headers) = Headers::from_wire(bytes) {
                let _ = headers.iter().count();
            }
        }
    }

    #[test]
    fn a_map_that_promises_more_than_it_holds_is_refused() {
        let mut wire = to_wire(&[("a", "b")]);
        wire.truncate(wire.len() - 1);
        assert_eq!(Headers::from_wire(wire).unwrap_err(), InvalidHeaderMap);
        assert!(Headers::from_wire(vec![0xff; 4]).is_err());
        assert!(Headers::from_wire(Vec::new()).unwrap().is_empty());
    }

    #[test]
    fn repetitions_are_kept_and_values_are_bytes() {
        let headers = Headers::from_pairs([("A", &b"1"[..]), ("b", b"\xff"), ("a", b"2")]);
        assert_eq!(headers.get_all("a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(headers.get("b"), Some(&b"\xff"[..]));
        assert_eq!(headers.get_str("b"), None);
        assert_eq!(headers.get("c"), None);
    }

    #[test]
    fn values_stay_out_of_debug_output() {
        let headers = Headers::from_pairs([("x-api-key", "secret")]);
        assert_eq!(format!("{headers:?}"), "[\"x-api-key\"]");
    }

    #[test]
    fn a_header_is_removed_once() {
        let mut edits = RequestEdits::default();
        edits.remove("a");
        edits.remove("a");
        assert_eq!(edits.iter().count(), 1);
    }
}
