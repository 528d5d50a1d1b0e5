//! The request target: what a client asked for, in the one spelling that is judged and forwarded.
//!
//! A rule about a path is worth nothing if another spelling of the path walks around it. Servers
//! agree on little here: some merge slashes, some decode `%2F`, some drop `;parameters`, some do so
//! before they resolve `..` and some after. So a path is handled in three ways:
//!
//! - What can be settled, is: the **forwarded form** ([`RequestTarget::path`]) has no dot segments,
//!   no empty segments, and no escape of a character that needs none. Where it differs from what
//!   the client sent, the request is [rewritten](RequestTarget::rewritten), so the upstream sees
//!   what was judged.
//! - What no honest client sends is [refused](AmbiguousRequest).
//! - What some servers read in one way and some in another, both of them rightly, has several
//!   [readings](RequestTarget::readings), which must all lead to the same rule.
//!
//! Upper and lower case are different paths, as RFC 3986 §6.2.2.1 has it, unless the configuration
//! [says otherwise](LetterCase). An escape is decoded once: `%252e` is the three characters `%2e`,
//! not a dot.

mod ambiguous;

use std::borrow::Cow;
use std::fmt;

use deserr::Deserr;
use percent_encoding::percent_encode_byte;

pub use ambiguous::AmbiguousRequest;

use crate::config::ConfigErrors;

/// The `paths` section: how paths are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct PathOptions {
    /// What becomes of a path with an escaped slash, `%2F`.
    #[deserr(default)]
    pub escaped_slashes: EscapedSlashes,
    /// Whether upper and lower case are different paths. It must be so for the upstreams too.
    #[deserr(default)]
    pub letter_case: LetterCase,
}

/// What becomes of a path with an escaped slash, `%2F`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum EscapedSlashes {
    /// It is refused: whether `%2F` ends a segment is decided differently by each server.
    #[default]
    Reject,
    /// It is let through for APIs that carry slashes in a segment (`/projects/group%2Fname`), and
    /// read in both ways.
    Keep,
}

/// Whether upper and lower case are different paths.
///
/// To most servers they are. To some they are not (IIS, and Express unless told otherwise), and
/// there `/V1/Admin` walks around an exact rule about `/v1/admin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum LetterCase {
    /// They are (RFC 3986 §6.2.2.1).
    #[default]
    Exact,
    /// They are not: rules are compared in lower case. What is forwarded keeps its case. Only the
    /// letters of ASCII have a case here: `/CAFÉ` is `/cafÉ`, but not `/café`.
    Ignore,
}

impl LetterCase {
    /// Brings a text in match form, or a part of one, into the case in which rules are compared.
    pub(crate) fn fold(self, text: Cow<'_, str>) -> Cow<'_, str> {
        match self {
            LetterCase::Ignore if text.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                let mut folded = text.into_owned();
                folded.make_ascii_lowercase();
                Cow::Owned(folded)
            }
            _ => text,
        }
    }

    /// Whether two texts in match form, folded or not, are the same.
    pub(crate) fn same(self, a: &str, b: &str) -> bool {
        match self {
            LetterCase::Exact => a == b,
            LetterCase::Ignore => a.eq_ignore_ascii_case(b),
        }
    }
}

/// What a request asks for: the path in its forwarded form, its readings, and the query.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestTarget<'a> {
    /// The forwarded form; `*` or empty if the request is for no path.
    path: Cow<'a, [u8]>,
    query: Option<&'a [u8]>,
    /// Whether `path` and `query` together are something else than what the client sent.
    changed: bool,
    /// The folded match form: two paths that mean the same are equal in it.
    literal: Cow<'a, str>,
    /// What servers might read that strip parameters or decode slashes, in the same form.
    others: Vec<String>,
    letter_case: LetterCase,
}

impl<'a> RequestTarget<'a> {
    /// Reads Envoy's `:path`, which holds the request target (RFC 9112 §3.2):
    ///
    /// - A path, perhaps with a query. Nothing is allocated if the path is in its forwarded form
    ///   and has no character that can be written in two ways. (Where letter case is ignored, a
    ///   capital is one.)
    /// - `http://host/path`: it is rewritten to the path alone, so that `:authority` decides about
    ///   the host for everybody.
    /// - `*`, of `OPTIONS *`, and nothing at all, of `CONNECT`: there is no path. Only rules that
    ///   take every path apply.
    pub fn parse(raw: &'a [u8], options: &PathOptions) -> Result<Self, AmbiguousRequest> {
        if raw.is_empty() || raw == b"*" {
            return Ok(RequestTarget::unread(raw));
        }
        let (origin, absolute) = match raw.first() {
            Some(b'/') => (raw, false),
            _ => (
                after_authority(raw).ok_or(AmbiguousRequest::NotAPath)?,
                true,
            ),
        };
        let (raw_path, query) = split_query(origin);
        check_query(query.unwrap_or_default())?;
        // An absolute URL may have no path: it asks for the root (RFC 9110 §4.2.3).
        let raw_path = if raw_path.is_empty() {
            b"/".as_slice()
        } else {
            raw_path
        };
        if let Some(literal) = canonical(raw_path) {
            return Ok(RequestTarget {
                path: Cow::Borrowed(raw_path),
                query,
                changed: absolute,
                literal: options.letter_case.fold(Cow::Borrowed(literal)),
                others: Vec::new(),
                letter_case: options.letter_case,
            });
        }
        let path = forwarded_form(raw_path, options.escaped_slashes)?;
        let literal = match_form(&path);
        let fold = |reading| options.letter_case.fold(Cow::Owned(reading));
        let others = other_readings(&literal).into_iter();
        Ok(RequestTarget {
            changed: absolute || path.as_bytes() != raw_path,
            others: others.map(|reading| fold(reading).into_owned()).collect(),
            literal: fold(literal),
            path: Cow::Owned(path.into_bytes()),
            query,
            letter_case: options.letter_case,
        })
    }

    /// Takes `:path` as it is, unread, for a gateway without rules about paths. It is never
    /// rewritten, and only rules that take every path apply to it.
    pub fn unread(raw: &'a [u8]) -> Self {
        let (path, query) = split_query(raw);
        RequestTarget {
            path: Cow::Borrowed(path),
            query,
            changed: false,
            literal: Cow::Borrowed(""),
            others: Vec::new(),
            letter_case: LetterCase::default(),
        }
    }

    /// The path in the form in which the upstream gets it, without the query. It is ASCII, unless
    /// the target was not [read](RequestTarget::unread).
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// What follows the first `?`, as the client sent it.
    pub fn query(&self) -> Option<&'a [u8]> {
        self.query
    }

    /// The `:path` to be forwarded in place of the client's, if it is a different one.
    pub fn rewritten(&self) -> Option<Vec<u8>> {
        self.changed.then(|| {
            let mut target = self.path.to_vec();
            if let Some(query) = self.query {
                target.push(b'?');
                target.extend_from_slice(query);
            }
            target
        })
    }

    /// The paths that servers might take this one for, each in match form; mostly just one. They
    /// are in lower case where letter case is ignored.
    ///
    /// The first is the path itself, read literally. Others follow if it has parameters
    /// (`/a;v=1/b`), which some servers strip from each segment, or kept slashes (`/a%2Fb`), which
    /// some take for separators. A request for no path has an empty reading.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.literal).chain(self.others.iter().map(String::as_str))
    }

    /// The path, read literally, in match form; empty if the request is for no path.
    pub(crate) fn literal(&self) -> &str {
        &self.literal
    }

    /// How the literals of a template are compared with the path.
    pub(crate) fn letter_case(&self) -> LetterCase {
        self.letter_case
    }

    /// The one answer that `find` gives for every reading.
    pub(crate) fn agree<T: PartialEq>(
        &self,
        mut find: impl FnMut(&str) -> T,
    ) -> Result<T, AmbiguousRequest> {
        let answer = find(&self.literal);
        match self.others.iter().all(|reading| find(reading) == answer) {
            true => Ok(answer),
            false => Err(AmbiguousRequest::PathReadings),
        }
    }
}

impl fmt::Debug for RequestTarget<'_> {
    /// Without the query, which may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestTarget")
            .field("path", &self.path.escape_ascii().to_string())
            .field("changed", &self.changed)
            .field("readings", &self.readings().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What follows the authority of an absolute URL: `/path?query` or parts of it.
fn after_authority(raw: &[u8]) -> Option<&[u8]> {
    let scheme_end = raw.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = raw.split_at_checked(scheme_end)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\');
    (!authority.is_empty() && authority.iter().all(plain)).then_some(rest)
}

fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    (parts.next().unwrap_or_default(), parts.next())
}

/// A query is the application's business, but what can't be part of one is refused.
fn check_query(query: &[u8]) -> Result<(), AmbiguousRequest> {
    query.iter().try_for_each(|byte| match byte {
        b'#' => Err(AmbiguousRequest::Fragment),
        0..=0x1f | 0x7f => Err(AmbiguousRequest::ControlCharacter),
        _ => Ok(()),
    })
}

/// The path as text if its forwarded form and its only reading are the path itself. Most are: this
/// is one pass that allocates nothing. It may say no to such a path, but never yes to another.
fn canonical(path: &[u8]) -> Option<&str> {
    let mut rest = path;
    loop {
        rest = match rest {
            [] => return std::str::from_utf8(path).ok(),
            [b'/', b'/', ..]
            | [b'/', b'.']
            | [b'/', b'.', b'/', ..]
            | [b'/', b'.', b'.']
            | [b'/', b'.', b'.', b'/', ..] => return None,
            [b'%', high, low, rest @ ..] if is_settled_escape(*high, *low) => rest,
            [byte, rest @ ..] if *byte == b'/' || is_plain(*byte) => rest,
            _ => return None,
        };
    }
}

/// Whether an escape stays as it is in every form, whatever stands next to it.
fn is_settled_escape(high: u8, low: u8) -> bool {
    let upper = |digit: u8| digit.is_ascii_digit() || matches!(digit, b'A'..=b'F');
    let decoded = decode_hex(high, low).filter(|_| upper(high) && upper(low));
    decoded.is_some_and(|byte| match byte {
        b'/' | b'\\' => false,
        // Lead bytes that might begin an overlong encoding.
        0xc0 | 0xc1 | 0xe0 | 0xf0 => false,
        byte => !byte.is_ascii_control() && !is_segment_char(byte),
    })
}

fn decode_hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// RFC 3986 §2.3: characters whose escape means the same as they do.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §3.3, `pchar`: what a segment can hold without an escape. The match form escapes
/// everything else.
pub(crate) fn is_segment_char(byte: u8) -> bool {
    is_plain(byte) || byte == b';'
}

/// A character of a segment that can't begin a parameter.
fn is_plain(byte: u8) -> bool {
    // Every byte of every path is looked up, so a table pays.
    PLAIN.get(usize::from(byte)).is_some_and(|plain| *plain)
}

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler: a mistake is a compile error"
)]
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 0x7f {
        plain[byte as usize] = is_unreserved(byte)
            || matches!(
                byte,
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'='
            )
            || matches!(byte, b':' | b'@');
        byte += 1;
    }
    plain
};

/// The form in which the upstream gets a path that begins with a slash: empty and dot segments
/// removed (RFC 3986 §5.2.4), escapes as [`push_segment`] has them.
fn forwarded_form(path: &[u8], slashes: EscapedSlashes) -> Result<String, AmbiguousRequest> {
    let mut form = String::with_capacity(path.len());
    let mut directory = false;
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        let start = form.len();
        form.push('/');
        push_segment(&mut form, segment, slashes)?;
        directory = true;
        match form.get(start..).unwrap_or_default() {
            "/" | "/." => shorten(&mut form, start),
            "/.." => {
                shorten(&mut form, start);
                let parent = form.rfind('/').ok_or(AmbiguousRequest::AboveRoot)?;
                shorten(&mut form, parent);
            }
            segment if has_disguised_dots(segment) => {
                return Err(AmbiguousRequest::DisguisedDotSegment);
            }
            _ => directory = false,
        }
    }
    if directory {
        form.push('/');
    }
    Ok(form)
}

/// `String::truncate` panics within a character, and though all here are of one byte, the plugin
/// would carry that panic.
fn shorten(form: &mut String, length: usize) {
    while form.len() > length {
        form.pop();
    }
}

/// Writes a segment with its escapes in upper case, none of unreserved characters, and with raw
/// bytes escaped that are not printable ASCII.
fn push_segment(
    form: &mut String,
    segment: &[u8],
    slashes: EscapedSlashes,
) -> Result<(), AmbiguousRequest> {
    let mut rest = segment;
    let mut previous = 0;
    loop {
        let (byte, escaped) = match rest {
            [] => return Ok(()),
            [b'%', high, low, tail @ ..] => {
                rest = tail;
                (
                    decode_hex(*high, *low).ok_or(AmbiguousRequest::MalformedEscape)?,
                    true,
                )
            }
            [b'%', ..] => return Err(AmbiguousRequest::MalformedEscape),
            [byte, tail @ ..] => {
                rest = tail;
                (*byte, false)
            }
        };
        check_byte(byte, escaped, previous, slashes)?;
        previous = byte;
        let plain = if escaped {
            is_unreserved(byte)
        } else {
            byte.is_ascii_graphic()
        };
        match plain {
            true => form.push(char::from(byte)),
            false => form.push_str(percent_encode_byte(byte)),
        }
    }
}

/// Refuses what can't be settled by writing it in another way.
fn check_byte(
    byte: u8,
    escaped: bool,
    previous: u8,
    slashes: EscapedSlashes,
) -> Result<(), AmbiguousRequest> {
    match (previous, byte) {
        (_, 0..=0x1f | 0x7f) => Err(AmbiguousRequest::ControlCharacter),
        (_, b'\\') => Err(AmbiguousRequest::Backslash),
        (_, b'#') if !escaped => Err(AmbiguousRequest::Fragment),
        (_, b'/') if slashes == EscapedSlashes::Reject => Err(AmbiguousRequest::EscapedSlash),
        (0xc0 | 0xc1, 0x80..=0xbf) | (0xe0, 0x80..=0x9f) | (0xf0, 0x80..=0x8f) => {
            Err(AmbiguousRequest::OverlongEncoding)
        }
        _ => Ok(()),
    }
}

/// Whether a server that strips parameters or decodes slashes finds a dot segment in a segment that
/// is none as it stands.
fn has_disguised_dots(segment: &str) -> bool {
    let segment = segment.strip_prefix('/').unwrap_or(segment);
    segment.split("%2F").any(|piece| {
        let name = piece.split("%3B").next().unwrap_or_default();
        matches!(name.split(';').next(), Some("." | ".."))
    })
}

/// The form in which paths that mean the same are equal: every escape decoded that is one of a
/// character a segment can hold, everything else escaped. Two stay escaped because they would
/// change the structure: `%2F` and `%25`.
fn match_form(forwarded: &str) -> String {
    let mut form = String::with_capacity(forwarded.len());
    let mut rest = forwarded.as_bytes();
    loop {
        let byte = match rest {
            [] => return form,
            [b'%', high, low, tail @ ..] => {
                rest = tail;
                decode_hex(*high, *low).unwrap_or(b'%')
            }
            [b'/', tail @ ..] => {
                form.push('/');
                rest = tail;
                continue;
            }
            [byte, tail @ ..] => {
                rest = tail;
                *byte
            }
        };
        match is_segment_char(byte) {
            true => form.push(char::from(byte)),
            false => form.push_str(percent_encode_byte(byte)),
        }
    }
}

/// Whether a segment of a path, read literally, is this one in match form.
pub(crate) fn is_match_segment(segment: &str, literal: &str, letter_case: LetterCase) -> bool {
    // What has nothing to be decoded or escaped is its own match form.
    match segment.bytes().all(is_segment_char) {
        true => letter_case.same(segment, literal),
        false => match_segment(segment).is_ok_and(|segment| letter_case.same(&segment, literal)),
    }
}

/// A segment of a path in match form, for a template to compare with. Dot segments are the caller's
/// business.
pub(crate) fn match_segment(segment: &str) -> Result<String, AmbiguousRequest> {
    let mut forwarded = String::with_capacity(segment.len());
    push_segment(&mut forwarded, segment.as_bytes(), EscapedSlashes::Reject)?;
    Ok(match_form(&forwarded))
}

/// What servers read that strip parameters, decode slashes, or do both in either order.
fn other_readings(literal: &str) -> Vec<String> {
    let mut readings = Vec::new();
    if literal.contains(';') || literal.contains("%2F") {
        for reading in [
            strip_parameters(literal),
            split_slashes(literal),
            strip_parameters(&split_slashes(literal)),
            split_slashes(&strip_parameters(literal)),
        ] {
            if reading != literal && !readings.contains(&reading) {
                readings.push(reading);
            }
        }
    }
    readings
}

fn strip_parameters(path: &str) -> String {
    let names = path
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default());
    join_segments(names)
}

fn split_slashes(path: &str) -> String {
    join_segments(path.split('/').flat_map(|segment| segment.split("%2F")))
}

/// Joins what is not empty; servers that get empty segments here merge the slashes.
fn join_segments<'s>(segments: impl Iterator<Item = &'s str>) -> String {
    let mut path = String::new();
    for segment in segments.filter(|segment| !segment.is_empty()) {
        path.push('/');
        path.push_str(segment);
    }
    if path.is_empty() {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests;
