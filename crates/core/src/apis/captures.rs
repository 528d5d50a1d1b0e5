//! What the wildcards of a template take of a path, and templates filled with it.

use std::fmt;

use percent_encoding::percent_encode_byte;

use super::Template;
use super::template::{Segment, Wildcard};
use crate::target::{RequestTarget, is_match_segment, is_segment_char};

impl Template {
    /// What the wildcards take of a path, in the spelling and letter case in which the upstream
    /// gets it. Nothing if the template does not take the path, read literally.
    ///
    /// This is for the few requests whose parts are needed (a link to a successor, say); it is not
    /// how requests are matched.
    pub fn captures<'a>(&'a self, target: &'a RequestTarget<'_>) -> Option<Captures<'a>> {
        let mut captures = Captures {
            segments: Vec::new(),
            rest: "",
            ends_in_slash: false,
        };
        if target.literal().is_empty() {
            return self.takes_everything().then_some(captures);
        }
        let mut rest = std::str::from_utf8(target.path()).ok()?.strip_prefix('/')?;
        captures.ends_in_slash = rest.ends_with('/') && self.ends_in_wildcard();
        for segment in &self.segments {
            let (head, tail) = rest.split_once('/').unwrap_or((rest, ""));
            rest = tail;
            match segment {
                _ if head.is_empty() => return None,
                Segment::One(wildcard) => captures.segments.push((wildcard.name.as_deref(), head)),
                Segment::Literal(text) => {
                    is_match_segment(head, text, target.letter_case()).then_some(())?;
                }
            }
        }
        captures.rest = rest;
        (rest.is_empty() || self.rest.is_some()).then_some(captures)
    }

    /// The path that comes out when the wildcards of this template are filled from captures of
    /// another: `{name}` from the one of that name, the first `*` from the first nameless one and so
    /// on, and `**`, whatever its name, from `**`. Where both end in a wildcard, a slash at the end is
    /// kept: a link that is relative to the one path is then resolved alike against the other (RFC
    /// 3986 section 5.2.3).
    ///
    /// It is a path as RFC 3986 has it: a raw `>` or `"` of the request, which a header that holds
    /// the path would end at, is escaped.
    ///
    /// Fails only if [`Template::check_fill`] does for that other template.
    pub fn fill(&self, captures: &Captures<'_>) -> Result<String, MissingCapture> {
        let mut path = String::new();
        self.fill_into(captures, &mut path)?;
        Ok(path)
    }

    /// The same, behind what `path` has already.
    pub fn fill_into(
        &self,
        captures: &Captures<'_>,
        path: &mut String,
    ) -> Result<(), MissingCapture> {
        let begin = path.len();
        let mut nameless = captures.segments.iter().filter(|(name, _)| name.is_none());
        for segment in &self.segments {
            let text = match segment {
                Segment::Literal(text) => Some(text.as_str()),
                Segment::One(Wildcard { name: Some(name) }) => captures.get(name),
                Segment::One(Wildcard { name: None }) => nameless.next().map(|(_, text)| *text),
            };
            path.push('/');
            let missing = || MissingCapture {
                wildcard: segment.to_string(),
            };
            push_uri_path(path, text.ok_or_else(missing)?);
        }
        if self.rest.is_some() && !captures.rest.is_empty() {
            path.push('/');
            push_uri_path(path, captures.rest);
        }
        let has_slash = path.len() > begin && path.ends_with('/');
        let takes_slash = captures.ends_in_slash && self.ends_in_wildcard();
        if path.len() == begin || (takes_slash && !has_slash) {
            path.push('/');
        }
        Ok(())
    }

    /// Checks that every wildcard of this template can be filled from captures of `source`.
    pub fn check_fill(&self, source: &Template) -> Result<(), MissingCapture> {
        let ones = source.segments.iter().filter_map(|segment| match segment {
            Segment::One(wildcard) => Some((wildcard.name.as_deref(), "_")),
            Segment::Literal(_) => None,
        });
        self.fill(&Captures {
            segments: ones.collect(),
            rest: "",
            ends_in_slash: false,
        })?;
        match (&self.rest, &source.rest) {
            (Some(_), None) => Err(MissingCapture {
                wildcard: "**".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn ends_in_wildcard(&self) -> bool {
        self.rest.is_some() || matches!(self.segments.last(), Some(Segment::One(_)))
    }
}

/// Writes a part of a forwarded path with what no URI has escaped.
fn push_uri_path(path: &mut String, part: &str) {
    let stays = |byte: u8| matches!(byte, b'/' | b'%') || is_segment_char(byte);
    if part.bytes().all(stays) {
        path.push_str(part);
        return;
    }
    for byte in part.bytes() {
        match stays(byte) {
            true => path.push(char::from(byte)),
            false => path.push_str(percent_encode_byte(byte)),
        }
    }
}

/// What the wildcards of a template took of a path, from left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captures<'a> {
    segments: Vec<(Option<&'a str>, &'a str)>,
    rest: &'a str,
    /// Whether the last wildcard is followed by a slash, at the end of the path.
    ends_in_slash: bool,
}

impl<'a> Captures<'a> {
    /// The segment that `{name}` took.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.segments
            .iter()
            .find(|(found, _)| *found == Some(name))
            .map(|(_, text)| *text)
    }

    /// The segments that `**` took, with the slashes between and a trailing one, but none in front.
    pub fn rest(&self) -> &'a str {
        self.rest
    }
}

/// A template has a wildcard that can't be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingCapture {
    wildcard: String,
}

impl fmt::Display for MissingCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nothing is captured for {}, write the same wildcard where it comes from",
            self.wildcard
        )
    }
}

impl std::error::Error for MissingCapture {}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::target::{EscapedSlashes, LetterCase, PathOptions};

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    fn target(raw: &str) -> RequestTarget<'_> {
        let options = PathOptions {
            escaped_slashes: EscapedSlashes::Keep,
            ..PathOptions::default()
        };
        RequestTarget::parse(raw.as_bytes(), &options).unwrap()
    }

    #[test]
    fn wildcards_capture_what_they_take() {
        let accounts = template("/v1/{kind}/*/{rest=**}");
        let request = target("//v1/acc%6funts/a%2Bb%2Fc/x/./y%20z/");
        let captures = accounts.captures(&request).unwrap();
        assert_eq!(captures.get("kind"), Some("accounts"));
        assert_eq!(captures.get("rest"), None);
        assert_eq!(captures.rest(), "x/y%20z/");
        let successor = template("/v2/*/{kind}/{**}");
        assert_eq!(successor.check_fill(&accounts), Ok(()));
        assert_eq!(
            successor.fill(&captures).unwrap(),
            "/v2/a%2Bb%2Fc/accounts/x/y%20z/"
        );
    }

    #[test]
    fn captures_keep_the_letter_case_that_rules_ignore() {
        let options = PathOptions {
            letter_case: LetterCase::Ignore,
            ..PathOptions::default()
        };
        let parse = |raw: &'static [u8]| RequestTarget::parse(raw, &options).unwrap();
        let (template, request) = (template("/V1/Caf\u{e9}/{id}"), parse(b"/v1/CAF%C3%A9/Ab"));
        let captures = template.captures(&request).unwrap();
        assert_eq!(captures.get("id"), Some("Ab"));
        let again = template.fill(&captures).unwrap();
        assert_eq!(again, "/V1/Caf%C3%A9/Ab");
        let other = parse(b"/v1/CAF%C3%89/Ab");
        assert!(template.captures(&other).is_none());
        assert!(template.captures(&target("/v1/CAF%C3%A9/Ab")).is_none());
    }

    #[test]
    fn nothing_is_captured_from_a_path_that_is_not_taken() {
        for (text, raw, taken) in [
            ("/v1/*", "/v1/a", true),
            ("/v1/*", "/v1/a/", true),
            ("/v1/*", "/v1", false),
            ("/v1/*", "/v1/", false),
            ("/v1/*", "/v1/a/b", false),
            ("/v1/**", "/v1", true),
            ("/v1/**", "/v1/", true),
            ("/v1/**", "/v2/a", false),
            ("/a+b", "/a%2bb", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/**", "/", true),
            ("/**", "*", true),
            ("/", "*", false),
            ("/*", "", false),
        ] {
            let taken_by = template(text);
            assert_eq!(
                taken_by.captures(&target(raw)).is_some(),
                taken,
                "{text} {raw}"
            );
        }
        assert!(
            template("/a")
                .captures(&RequestTarget::unread(b"/a"))
                .is_none()
        );
    }

    #[test]
    fn a_template_is_filled_from_what_another_captures_or_not_at_all() {
        for (successor, source, raw, expected) in [
            (
                "/v2/accounts/{**}",
                "/v1/accounts/**",
                "/v1/accounts",
                Some("/v2/accounts"),
            ),
            (
                "/v2/accounts/{**}",
                "/v1/accounts/**",
                "/v1/accounts/7",
                Some("/v2/accounts/7"),
            ),
            ("/**", "/v1/**", "/v1/", Some("/")),
            ("/**", "/v1/**", "/v1/a/", Some("/a/")),
            ("/v2/**", "/v1/**", "/v1/", Some("/v2/")),
            ("/v2/**", "/v1/**", "/v1", Some("/v2")),
            ("/v2/{id}", "/v1/{id}", "/v1/7/", Some("/v2/7/")),
            ("/v2/{id}", "/v1/{id}", "/v1/7", Some("/v2/7")),
            ("/{id}/v2", "/v1/{id}", "/v1/7/", Some("/7/v2")),
            ("/**", "/**", "/", Some("/")),
            ("/v2", "/v1/**", "/v1/a", Some("/v2")),
            (
                "/v2/*/**",
                "/*/**",
                "/a>b%3E/\">/c",
                Some("/v2/a%3Eb%3E/%22%3E/c"),
            ),
            ("/{b}/{a}", "/{a}/{b}", "/x/y", Some("/y/x")),
            ("/v2/{id}", "/v1/*", "/v1/7", None),
            ("/v2/*/*", "/v1/*", "/v1/7", None),
            ("/v2/**", "/v1/*", "/v1/7", None),
            ("/v2/*", "/v1/**", "/v1/7", None),
        ] {
            let (successor, source) = (template(successor), template(source));
            let request = target(raw);
            let captures = source.captures(&request).unwrap();
            assert_eq!(successor.check_fill(&source).is_ok(), expected.is_some());
            if let Some(expected) = expected {
                assert_eq!(successor.fill(&captures).unwrap(), expected);
            }
        }
        let missing = template("/v2/{id}")
            .check_fill(&template("/v1/*"))
            .unwrap_err();
        assert!(missing.to_string().contains("nothing is captured for {id}"));
    }
}
