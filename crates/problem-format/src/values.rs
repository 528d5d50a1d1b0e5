//! Values of the configuration that have a syntax of their own.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Value, ValuePointerRef};
use iri_string::types::UriStr;
use oxilangtag::LanguageTag;
use tollgate_core::config::quote;
use tollgate_core::deserr_from_str;
use tollgate_core::headers::{FieldName, HeaderName};

use crate::document::OWN_MEMBERS;

/// The beginning of problem types, behind which a kind's name makes the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeBase(String);

impl TypeBase {
    /// The type of a kind.
    pub fn join(&self, kind: &str) -> String {
        format!("{}{kind}", self.0)
    }
}

/// The text can't be the beginning of problem types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTypeBase(String);

impl fmt::Display for InvalidTypeBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected an absolute URI that ends in one of / # = :, since the kind's name \
             is put behind it, as https://errors.example.com/",
            quote(&self.0)
        )
    }
}

impl FromStr for TypeBase {
    type Err = InvalidTypeBase;

    fn from_str(text: &str) -> Result<Self, InvalidTypeBase> {
        let ends_well = text.ends_with(['/', '#', '=', ':']) && !text.ends_with("://");
        let is_base = ends_well && UriStr::new(&format!("{text}kind")).is_ok();
        match is_base {
            true => Ok(TypeBase(text.to_owned())),
            false => Err(InvalidTypeBase(text.to_owned())),
        }
    }
}

deserr_from_str!(TypeBase);

/// A problem type: an absolute URI, which may have a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeUri(String);

impl TypeUri {
    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is no absolute URI (RFC 3986).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTypeUri(String);

impl fmt::Display for InvalidTypeUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected an absolute URI, as https://errors.example.com/over-limit; \
             escape what a URI can't hold, as %20",
            quote(&self.0)
        )
    }
}

impl FromStr for TypeUri {
    type Err = InvalidTypeUri;

    fn from_str(text: &str) -> Result<Self, InvalidTypeUri> {
        match UriStr::new(text) {
            Ok(_) => Ok(TypeUri(text.to_owned())),
            Err(_) => Err(InvalidTypeUri(text.to_owned())),
        }
    }
}

deserr_from_str!(TypeUri);

/// A text of one line: a title or a detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(String);

impl Line {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is empty, or has a control character, as a line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLine(String);

impl fmt::Display for InvalidLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected a line of text, neither empty nor with control characters",
            quote(&self.0)
        )
    }
}

impl FromStr for Line {
    type Err = InvalidLine;

    fn from_str(text: &str) -> Result<Self, InvalidLine> {
        match text.trim().is_empty() || text.contains(char::is_control) {
            true => Err(InvalidLine(text.to_owned())),
            false => Ok(Line(text.to_owned())),
        }
    }
}

deserr_from_str!(Line);

/// The language of titles and details, as a tag (RFC 5646) in its usual case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language(String);

impl Language {
    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Language {
    fn default() -> Self {
        Language("en".to_owned())
    }
}

/// The text is no language tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLanguage(String);

impl fmt::Display for InvalidLanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected a language tag, as en or de-CH",
            quote(&self.0)
        )
    }
}

impl FromStr for Language {
    type Err = InvalidLanguage;

    fn from_str(text: &str) -> Result<Self, InvalidLanguage> {
        LanguageTag::parse_and_normalize(text)
            .map(|tag| Language(tag.into_inner()))
            .map_err(|_| InvalidLanguage(text.to_owned()))
    }
}

deserr_from_str!(Language);

/// The name of an extension member: a letter, then letters, digits and underscores, three or more
/// characters in all (RFC 9457 section 3.2), and not the name of a member that all problems have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberName(String);

impl MemberName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text can't be the name of an extension member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidMemberName {
    /// It does not keep to the syntax.
    Syntax(String),
    /// All problems have such a member.
    Taken(String),
}

impl fmt::Display for InvalidMemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidMemberName::Syntax(name) => write!(
                f,
                "found {}, expected a member's name of three or more letters, digits and \
                 underscores that begins with a letter, as support_page",
                quote(name)
            ),
            InvalidMemberName::Taken(name) => write!(
                f,
                "every problem has the member {} by itself, choose another name",
                quote(name)
            ),
        }
    }
}

impl FromStr for MemberName {
    type Err = InvalidMemberName;

    fn from_str(text: &str) -> Result<Self, InvalidMemberName> {
        let is_name = text.len() >= 3
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            return Err(InvalidMemberName::Syntax(text.to_owned()));
        }
        match OWN_MEMBERS.contains(&text) {
            true => Err(InvalidMemberName::Taken(text.to_owned())),
            false => Ok(MemberName(text.to_owned())),
        }
    }
}

/// The name of a header that an operator may set on a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideHeader(HeaderName);

impl OverrideHeader {
    /// The name in the form in which headers are set, in lower case.
    pub fn name(&self) -> &HeaderName {
        &self.0
    }
}

/// The text can't be the name of a header that an operator sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidOverrideHeader {
    /// It is no header's name; what is wrong with it.
    Syntax(String),
    /// Another value would break the message or contradict its body.
    Taken(String),
}

impl fmt::Display for InvalidOverrideHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidOverrideHeader::Syntax(message) => f.write_str(message),
            InvalidOverrideHeader::Taken(name) => write!(
                f,
                "the header {} goes with the body or the connection and is set by the gateway, \
                 leave it out",
                quote(name)
            ),
        }
    }
}

impl FromStr for OverrideHeader {
    type Err = InvalidOverrideHeader;

    fn from_str(text: &str) -> Result<Self, InvalidOverrideHeader> {
        let name = text
            .parse::<FieldName>()
            .map_err(|error| InvalidOverrideHeader::Syntax(error.to_string()))?;
        match TAKEN_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("grpc-") {
            true => Err(InvalidOverrideHeader::Taken(text.to_owned())),
            false => Ok(OverrideHeader(name.to_header_name())),
        }
    }
}

/// Headers that frame the message, belong to the connection (RFC 9110 section 7.6.1), describe the
/// body, or are made of what the body was chosen by.
const TAKEN_HEADERS: [&str; 16] = [
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
];

/// The value of a header: printable ASCII, not blank at its ends (RFC 9110 section 5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderText(String);

impl HeaderText {
    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text can't be the value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidHeaderText(String);

impl fmt::Display for InvalidHeaderText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected a header's value of printable ASCII, neither empty nor with blanks \
             at its ends",
            quote(&self.0)
        )
    }
}

impl FromStr for HeaderText {
    type Err = InvalidHeaderText;

    fn from_str(text: &str) -> Result<Self, InvalidHeaderText> {
        let is_value = !text.is_empty()
            && text.trim() == text
            && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        match is_value {
            true => Ok(HeaderText(text.to_owned())),
            false => Err(InvalidHeaderText(text.to_owned())),
        }
    }
}

deserr_from_str!(HeaderText);

/// An HTTP status that says error: 400 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorStatus(u16);

impl ErrorStatus {
    const RANGE: RangeInclusive<u64> = 400..=599;

    /// The status.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl<E: DeserializeError> Deserr<E> for ErrorStatus {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, E> {
        let number = u64::deserialize_from_value(value, location)?;
        let status = u16::try_from(number)
            .ok()
            .filter(|_| Self::RANGE.contains(&number));
        status.map(ErrorStatus).ok_or_else(|| {
            let msg = format!("found {number}, expected the status of an error, 400 to 599");
            let error: ErrorKind<'_, V> = ErrorKind::Unexpected { msg };
            deserr::take_cf_content(E::error(None, error, location))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_base_makes_types_of_kinds() {
        for base in [
            "https://errors.bank.example/",
            "https://bank.example/errors#",
            "https://bank.example/?error=",
            "urn:bank:error:",
        ] {
            let joined = base.parse::<TypeBase>().unwrap().join("no-route");
            assert_eq!(joined, format!("{base}no-route"));
            joined.parse::<TypeUri>().unwrap();
        }
        for base in [
            "https://errors.bank.example",
            "/errors/",
            "https://",
            "",
            "#",
            "https://a b/",
        ] {
            assert!(base.parse::<TypeBase>().is_err(), "{base}");
        }
    }

    #[test]
    fn a_type_is_an_absolute_uri() {
        for uri in [
            "about:blank",
            "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "urn:bank:over-limit",
            "tag:bank.example,2026:over-limit",
        ] {
            assert_eq!(uri.parse::<TypeUri>().unwrap().as_str(), uri);
        }
        for uri in [
            "",
            "over-limit",
            "/a",
            "//bank.example/a",
            "https://bank.example/a b",
            "https://ü/",
        ] {
            let error = uri.parse::<TypeUri>().unwrap_err().to_string();
            assert!(error.contains("expected an absolute URI"), "{error}");
        }
    }

    #[test]
    fn a_line_has_no_control_characters() {
        assert!("Über das Limit".parse::<Line>().is_ok());
        for text in ["", " ", "a\nb", "a\u{7f}", "a\u{85}"] {
            assert!(text.parse::<Line>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_language_is_a_tag() {
        assert_eq!("DE-ch".parse::<Language>().unwrap().as_str(), "de-CH");
        for text in ["", "english language", "e", "de_CH", "\"><script>"] {
            assert!(text.parse::<Language>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn member_names_keep_to_the_rfc() {
        for name in ["support", "Support_2", "abc", "types"] {
            assert_eq!(name.parse::<MemberName>().unwrap().as_str(), name);
        }
        for name in ["", "ab", "2ab", "_ab", "violated-policies", "a b", "übe"] {
            let error = name.parse::<MemberName>().unwrap_err();
            assert!(matches!(error, InvalidMemberName::Syntax(_)), "{name}");
        }
        for name in OWN_MEMBERS {
            let error = name.parse::<MemberName>().unwrap_err();
            assert!(matches!(error, InvalidMemberName::Taken(_)), "{name}");
        }
    }

    #[test]
    fn headers_that_break_the_message_are_refused() {
        let name = |text: &str| text.parse::<OverrideHeader>();
        assert_eq!(name("X-Foo").unwrap().name(), "x-foo");
        for text in [
            "Content-Length",
            "transfer-encoding",
            "Connection",
            "grpc-status",
            "vary",
        ] {
            let error = name(text).unwrap_err().to_string();
            assert!(error.contains("leave it out"), "{error}");
        }
        for text in [":status", "a b", "", "x:y", "ü"] {
            assert!(
                matches!(name(text), Err(InvalidOverrideHeader::Syntax(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn header_values_are_printable() {
        assert!("Bearer realm=\"a b\"".parse::<HeaderText>().is_ok());
        for text in ["", " a", "a ", "a\r\nb: c", "a\0", "ü"] {
            assert!(text.parse::<HeaderText>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_value_panic(text in any::<String>()) {
            let _ = text.parse::<TypeBase>();
            let _ = text.parse::<TypeUri>();
            let _ = text.parse::<Line>();
            let _ = text.parse::<Language>();
            let _ = text.parse::<MemberName>();
            let _ = text.parse::<OverrideHeader>();
            let _ = text.parse::<HeaderText>();
        }
    }
}
