//! The text of a document, of which a piece is at hand.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

/// The text of a document, where the host keeps it.
pub trait Text {
    /// How many bytes it has.
    fn size(&self) -> usize;

    /// The bytes from `start` on: `most` of them, or as many as there are. `None` if the host does
    /// not hand them over.
    fn piece(&self, start: usize, most: usize) -> Option<Vec<u8>>;

    /// How many bytes it is asked for, and held, at a time: 64 KiB. Others are for tests.
    fn piece_size(&self) -> usize {
        1 << 16
    }
}

/// A text and the piece of it that is at hand.
pub(super) struct Pieces<'a> {
    /// Nothing if the piece is all of it.
    text: Option<&'a dyn Text>,
    size: usize,
    /// How long a piece is.
    length: usize,
    piece: Cow<'a, [u8]>,
    /// Where the piece begins.
    start: usize,
    failed: bool,
}

impl fmt::Debug for Pieces<'_> {
    /// Without the text, which may have secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pieces({} bytes)", self.size)
    }
}

impl<'a> Pieces<'a> {
    pub(super) fn whole(text: &'a [u8]) -> Self {
        Pieces {
            text: None,
            size: text.len(),
            length: text.len(),
            piece: Cow::Borrowed(text),
            start: 0,
            failed: false,
        }
    }

    pub(super) fn of(text: &'a dyn Text) -> Self {
        Pieces {
            text: Some(text),
            size: text.size(),
            length: text.piece_size().max(1),
            piece: Cow::Borrowed(&[]),
            start: 0,
            failed: false,
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether the host has not handed over what it should have.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether there is nothing but white space.
    pub(super) fn is_blank(&mut self) -> bool {
        let mut at = 0_usize;
        loop {
            let rest = self.rest(at);
            if !rest.iter().all(u8::is_ascii_whitespace) {
                return false;
            }
            if rest.is_empty() {
                return !self.failed;
            }
            at = at.saturating_add(rest.len());
        }
    }

    /// What is at hand from a place on: at least a byte, except at the end of the text.
    pub(super) fn rest(&mut self, at: usize) -> &[u8] {
        if !self.holds(at) {
            self.fetch(at);
        }
        let skipped = at.checked_sub(self.start);
        let rest = skipped.and_then(|skipped| self.piece.get(skipped..));
        rest.unwrap_or_default()
    }

    pub(super) fn byte(&mut self, at: usize) -> Option<u8> {
        self.rest(at).first().copied()
    }

    pub(super) fn bytes(&mut self, range: Range<usize>) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(range.len());
        let mut at = range.start;
        while at < range.end {
            let most = range.end.saturating_sub(at);
            let rest = self.rest(at);
            let part = rest.get(..most).unwrap_or(rest);
            if part.is_empty() {
                return None;
            }
            bytes.extend_from_slice(part);
            at = at.saturating_add(part.len());
        }
        Some(bytes)
    }

    fn holds(&self, at: usize) -> bool {
        at.checked_sub(self.start)
            .is_some_and(|skipped| skipped < self.piece.len())
    }

    #[cold]
    fn fetch(&mut self, at: usize) {
        let Some(text) = self.text.filter(|_| at < self.size) else {
            return;
        };
        // Given back before the next one is asked for, which then takes its place.
        self.piece = Cow::Borrowed(&[]);
        // What is skipped to find its end is read right afterwards, so a part lies before the place.
        self.start = at.saturating_sub(self.length >> 4);
        let most = self.length.min(self.size.saturating_sub(self.start));
        let piece = text.piece(self.start, most);
        self.piece = piece
            .filter(|piece| piece.len() <= most)
            .unwrap_or_default()
            .into();
        self.failed |= !self.holds(at);
    }
}

/// Reads a text from its beginning.
pub(super) struct Feed<'p, 'a> {
    pub(super) pieces: &'p mut Pieces<'a>,
    pub(super) at: usize,
}

impl Read for Feed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pieces.rest(self.at).read(buffer)?;
        self.at = self.at.saturating_add(count);
        Ok(count)
    }
}
