//! Templates of paths: `/v1/accounts/{id}/**`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::config::quote;
use crate::order;
use crate::target::{AmbiguousRequest, LetterCase, match_segment};

/// A set of paths, written as one path with wildcards for whole segments:
///
/// | segment | takes |
/// |---|---|
/// | `accounts` | itself, in whatever spelling of escapes |
/// | `*` or `{name}` | any one segment |
/// | `**`, `{**}` or `{name=**}`, at the end | any number of segments, none too |
///
/// So `/v1/**` takes `/v1`, `/v1/` and `/v1/a/b`, and `/**` takes every request, also those for no
/// path (`OPTIONS *`, `CONNECT`). A trailing slash makes no difference, and upper and lower case
/// make one unless [they are ignored](LetterCase).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub(super) segments: Vec<Segment>,
    /// What takes the segments behind `segments`, if they may be there.
    pub(super) rest: Option<Wildcard>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// In match form.
    Literal(String),
    One(Wildcard),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wildcard {
    pub(super) name: Option<String>,
}

/// The most segments of a template, a `**` not counted. The router can't hold more than 25
/// wildcards, and a template may have to be laid out with one more segment than the deepest has.
const MOST_SEGMENTS: usize = 24;

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Template, InvalidTemplate> {
        parse(text).map_err(|fault| InvalidTemplate {
            text: text.to_owned(),
            fault,
        })
    }

    /// `/**`.
    pub const fn everything() -> Template {
        Template {
            segments: Vec::new(),
            rest: Some(Wildcard { name: None }),
        }
    }

    /// The template in the letter case in which it is compared with paths.
    pub(super) fn folded(mut self, letter_case: LetterCase) -> Template {
        for segment in &mut self.segments {
            if let Segment::Literal(text) = segment {
                *text = letter_case
                    .fold(Cow::Owned(std::mem::take(text)))
                    .into_owned();
            }
        }
        self
    }

    /// The number of segments that it takes at least.
    pub(super) fn depth(&self) -> usize {
        self.segments.len()
    }

    /// Whether it is `/**`.
    pub(super) fn takes_everything(&self) -> bool {
        self.segments.is_empty() && self.rest.is_some()
    }

    /// Whether it can take paths of so many segments.
    pub(super) fn takes_depth(&self, depth: usize) -> bool {
        match self.rest {
            Some(_) => depth >= self.depth(),
            None => depth == self.depth(),
        }
    }

    /// The router's route for those of its paths that have so many segments: wildcards are named by
    /// their position, and as many follow as are missing.
    pub(super) fn route(&self, depth: usize) -> String {
        let mut route = String::new();
        for position in 0..depth {
            match self.segments.get(position) {
                Some(Segment::Literal(text)) => {
                    route.push('/');
                    route.push_str(text);
                }
                Some(Segment::One(_)) | None => route.push_str(&format!("/{{p{position}}}")),
            }
        }
        if route.is_empty() {
            "/".to_owned()
        } else {
            route
        }
    }

    /// The same template without names: two templates take the same paths if this is equal.
    pub(super) fn shape(&self) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(_) => segment.clone(),
            Segment::One(_) => Segment::One(Wildcard::default()),
        });
        let rest = self.rest.as_ref().map(|_| Wildcard::default());
        Template {
            segments: segments.collect(),
            rest,
        }
        .to_string()
    }

    /// Orders templates that take a path in common: the more specific is `Less`.
    pub(super) fn cmp_specificity(&self, other: &Template) -> Ordering {
        self.ranks().cmp(other.ranks())
    }

    fn ranks(&self) -> impl Iterator<Item = (u8, &str)> {
        let end = if self.rest.is_some() { 3 } else { 2 };
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => (0, text.as_str()),
            Segment::One(_) => (1, ""),
        });
        segments.chain([(end, "")])
    }
}

/// The text is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTemplate {
    text: String,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    NoSlash,
    Query,
    Space,
    EmptySegment,
    DotSegment,
    Parameter,
    Ambiguous(AmbiguousRequest),
    RestNotLast,
    PartOfSegment(String),
    BadName(String),
    RepeatedName(String),
    Colon(String),
    TooDeep,
}

impl fmt::Display for InvalidTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the path {} ", quote(&self.text))?;
        match &self.fault {
            Fault::NoSlash => f.write_str("does not begin with a slash, write it as \"/v1/**\""),
            Fault::Query => f.write_str(
                "has a query or fragment, leave it out, or write the character as %3F or %23",
            ),
            Fault::Space => f.write_str("has a space, write it as %20"),
            Fault::EmptySegment => f.write_str("has two slashes in a row, write one"),
            Fault::DotSegment => f.write_str("has a dot segment, write the path to which it leads"),
            Fault::Parameter => f.write_str(
                "has a parameter (;), which some servers strip; write the path without it",
            ),
            Fault::Ambiguous(reason) => write!(
                f,
                "would be refused in a request, write it in another way: {}",
                reason.explanation()
            ),
            Fault::RestNotLast => f.write_str(
                "has a ** before its end, write * for one segment, or end the path with the **",
            ),
            Fault::PartOfSegment(segment) => write!(
                f,
                "has a wildcard for a part of the segment {}, write * or {{name}} for the whole \
                 segment, or %2A, %7B and %7D for the characters",
                quote(segment)
            ),
            Fault::BadName(segment) => write!(
                f,
                "has the wildcard {}, expected {{name}} for one segment or {{name=**}} for the \
                 rest, with a name of letters, digits and _ that does not begin with a digit",
                quote(segment)
            ),
            Fault::RepeatedName(name) => {
                write!(
                    f,
                    "has the name {} twice, give each wildcard its own",
                    quote(name)
                )
            }
            Fault::Colon(segment) => write!(
                f,
                "has the segment {}, write {{name}} for a wildcard, or %3A for the colon",
                quote(segment)
            ),
            Fault::TooDeep => write!(
                f,
                "has more than {MOST_SEGMENTS} segments, write ** for those at the end"
            ),
        }
    }
}

impl std::error::Error for InvalidTemplate {}

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        Template::parse(text)
    }
}

fn parse(text: &str) -> Result<Template, Fault> {
    let path = text.strip_prefix('/').ok_or(Fault::NoSlash)?;
    if path.contains(['?', '#']) {
        return Err(Fault::Query);
    }
    if path.contains(char::is_whitespace) {
        return Err(Fault::Space);
    }
    let mut template = Template {
        segments: Vec::new(),
        rest: None,
    };
    if path.is_empty() {
        return Ok(template);
    }
    for segment in path.strip_suffix('/').unwrap_or(path).split('/') {
        if template.rest.is_some() {
            return Err(Fault::RestNotLast);
        }
        match read_segment(segment)? {
            Read::One(segment) => template.segments.push(segment),
            Read::Rest(wildcard) => template.rest = Some(wildcard),
        }
    }
    check_names(&template)?;
    match template.depth() {
        0..=MOST_SEGMENTS => Ok(template),
        _ => Err(Fault::TooDeep),
    }
}

enum Read {
    One(Segment),
    Rest(Wildcard),
}

fn read_segment(segment: &str) -> Result<Read, Fault> {
    let inner = segment
        .strip_prefix('{')
        .and_then(|inner| inner.strip_suffix('}'));
    match (segment, inner) {
        ("", _) => Err(Fault::EmptySegment),
        ("*", _) => Ok(Read::One(Segment::One(Wildcard::default()))),
        ("**" | "{**}", _) => Ok(Read::Rest(Wildcard::default())),
        (_, Some(inner)) if !inner.contains(['{', '}']) => match inner.strip_suffix("=**") {
            Some(name) => Ok(Read::Rest(read_name(segment, name)?)),
            None => Ok(Read::One(Segment::One(read_name(segment, inner)?))),
        },
        _ if segment.contains(['*', '{', '}']) => Err(Fault::PartOfSegment(segment.to_owned())),
        _ if segment.starts_with(':') => Err(Fault::Colon(segment.to_owned())),
        _ => read_literal(segment).map(|text| Read::One(Segment::Literal(text))),
    }
}

fn read_literal(segment: &str) -> Result<String, Fault> {
    let text = match_segment(segment).map_err(Fault::Ambiguous)?;
    match text.as_str() {
        "." | ".." => Err(Fault::DotSegment),
        _ if text.contains(';') => Err(Fault::Parameter),
        _ => Ok(text),
    }
}

fn read_name(segment: &str, name: &str) -> Result<Wildcard, Fault> {
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match valid {
        true => Ok(Wildcard {
            name: Some(name.to_owned()),
        }),
        false => Err(Fault::BadName(segment.to_owned())),
    }
}

fn check_names(template: &Template) -> Result<(), Fault> {
    let ones = template
        .segments
        .iter()
        .filter_map(|segment| match segment {
            Segment::One(wildcard) => Some(wildcard),
            Segment::Literal(_) => None,
        });
    let mut names: Vec<&str> = ones
        .chain(&template.rest)
        .filter_map(|wildcard| wildcard.name.as_deref())
        .collect();
    order::sort(&mut names);
    let repeated = names.iter().zip(names.iter().skip(1)).find(|(a, b)| a == b);
    repeated.map_or(Ok(()), |(name, _)| {
        Err(Fault::RepeatedName((*name).to_owned()))
    })
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            write!(f, "/{segment}")?;
        }
        match &self.rest {
            Some(Wildcard { name: Some(name) }) => write!(f, "/{{{name}=**}}"),
            Some(Wildcard { name: None }) => f.write_str("/**"),
            None if self.segments.is_empty() => f.write_str("/"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Segment::Literal(text) => {
                let (colon, text) = match text.strip_prefix(':') {
                    Some(text) => ("%3A", text),
                    None => ("", text.as_str()),
                };
                write!(f, "{colon}{}", text.replace('*', "%2A"))
            }
            Segment::One(Wildcard { name: Some(name) }) => write!(f, "{{{name}}}"),
            Segment::One(Wildcard { name: None }) => f.write_str("*"),
        }
    }
}

crate::deserr_from_str!(Template);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    #[test]
    fn templates_are_shown_in_one_spelling() {
        for (text, shown) in [
            ("/", "/"),
            ("/**", "/**"),
            ("/{**}", "/**"),
            ("/v1/accounts/", "/v1/accounts"),
            ("/v1/*/{id}/{path=**}", "/v1/*/{id}/{path=**}"),
            ("/caf\u{e9}/%7euser/a%3ab", "/caf%C3%A9/~user/a:b"),
            ("/%2A/a%2a/%3Ax:y/%7Bz%7D", "/%2A/a%2A/%3Ax:y/%7Bz%7D"),
            ("/x:cancel", "/x:cancel"),
        ] {
            assert_eq!(template(text).to_string(), shown, "{text}");
            assert_eq!(template(shown), template(text), "{text}");
        }
    }

    #[test]
    fn a_misspelt_template_is_refused_with_a_cure() {
        let deep = "/a".repeat(25);
        for (text, expected) in [
            ("v1/accounts", "does not begin with a slash, write it as"),
            ("", "does not begin with a slash"),
            ("**", "does not begin with a slash"),
            ("/v1?a=b", "has a query or fragment, leave it out"),
            ("/v1#a", "has a query or fragment"),
            ("/v1 ", "has a space, write it as %20"),
            ("/v1//a", "has two slashes in a row, write one"),
            ("//", "has two slashes in a row"),
            (
                "/v1/../a",
                "has a dot segment, write the path to which it leads",
            ),
            ("/v1/%2e", "has a dot segment"),
            ("/v1;a=b", "has a parameter (;), which some servers strip"),
            ("/v1%3Ba", "has a parameter (;)"),
            ("/a%2Fb", "would be refused in a request"),
            (
                "/a%",
                "a percent sign that two hexadecimal digits do not follow",
            ),
            ("/a\\b", "has a backslash"),
            ("/**/a", "has a ** before its end, write * for one segment"),
            ("/{path=**}/a", "has a ** before its end"),
            ("/**/**", "has a ** before its end"),
            (
                "/*.json",
                "a part of the segment \"*.json\", write * or {name}",
            ),
            ("/img-{id}", "a part of the segment \"img-{id}\""),
            ("/{a}{b}", "a part of the segment \"{a}{b}\""),
            ("/{a", "a part of the segment \"{a\""),
            ("/***", "a part of the segment \"***\""),
            ("/{}", "has the wildcard \"{}\", expected {name}"),
            ("/{*rest}", "has the wildcard \"{*rest}\", expected {name}"),
            ("/{1a}", "that does not begin with a digit"),
            ("/{a-b}", "has the wildcard \"{a-b}\""),
            ("/{=**}", "has the wildcard \"{=**}\""),
            (
                "/{id}/{id}",
                "has the name \"id\" twice, give each wildcard its own",
            ),
            ("/{id}/{id=**}", "has the name \"id\" twice"),
            (
                "/users/:id",
                "has the segment \":id\", write {name} for a wildcard",
            ),
            (
                &deep,
                "has more than 24 segments, write ** for those at the end",
            ),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn templates_are_read_back(text in "(/([a-b*:.%\u{e9}]{1,2}|\\{[a-c]\\}|\\*|%2[aA]|%3A)){0,4}(/\\*\\*)?") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
            }
        }

        #[test]
        fn no_text_panics(text in "[/*{}a=%2f;.]{0,12}|\\PC*") {
            let _ = Template::parse(&text);
        }
    }
}
