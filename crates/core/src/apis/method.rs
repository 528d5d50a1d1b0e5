//! Methods of requests.

use std::fmt;
use std::str::FromStr;

use crate::config::quote;
use crate::target::AmbiguousRequest;

/// A method: a token (RFC 9110 §9.1) without lower-case letters.
///
/// Methods are compared byte by byte. A rule that names `GET` takes `HEAD` too, unless one for the
/// same paths names `HEAD`: it is a GET without the body (RFC 9110 §9.3.2), and many servers answer
/// it with what they have for GET.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(Box<str>);

impl Method {
    /// `HEAD`.
    pub(super) fn head() -> Method {
        Method("HEAD".into())
    }

    /// The method as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a rule that names this method is for a request with that one: `GET` takes `HEAD` too.
    pub fn takes(&self, method: &[u8]) -> bool {
        self.as_str().as_bytes() == method || (self.as_str() == "GET" && method == b"HEAD")
    }

    /// Whether a rule that names this method is also for the other, which it does not name.
    pub(super) fn implies(&self, other: &Method) -> bool {
        (self.as_str(), other.as_str()) == ("GET", "HEAD")
    }
}

/// A method that nobody has a use for, and that no document names.
pub(super) const UNNAMED: &str = "-";

/// Refuses the method of a request, where rules name methods, if a server behind might take it for
/// another. Such servers are not right to ignore the case of `post`, but HTTP/2 brings it to them.
pub fn check_method(method: &[u8]) -> Result<(), AmbiguousRequest> {
    let valid = |byte: &u8| is_token_char(*byte) && !byte.is_ascii_lowercase();
    match !method.is_empty() && method.iter().all(valid) {
        true => Ok(()),
        false => Err(AmbiguousRequest::MalformedMethod),
    }
}

/// The text is not a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidMethod {
    /// It has lower-case letters.
    LowerCase(String),
    /// It is meant to stand for all methods.
    Wildcard(String),
    /// It is not a token.
    NoToken(String),
}

impl fmt::Display for InvalidMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LowerCase(text) => write!(
                f,
                "methods are case-sensitive, write \"{}\" instead of {}",
                text.to_ascii_uppercase(),
                quote(text)
            ),
            Self::Wildcard(text) => write!(
                f,
                "{} is not a method; leave the method out to take all of them",
                quote(text)
            ),
            Self::NoToken(text) => write!(
                f,
                "{} is not a method, expected one such as \"GET\" or \"POST\"",
                quote(text)
            ),
        }
    }
}

impl std::error::Error for InvalidMethod {}

impl FromStr for Method {
    type Err = InvalidMethod;

    fn from_str(text: &str) -> Result<Self, InvalidMethod> {
        match text {
            "*" | "ANY" | "ALL" | "any" | "all" => Err(InvalidMethod::Wildcard(text.to_owned())),
            _ if text.is_empty() || !text.bytes().all(is_token_char) => {
                Err(InvalidMethod::NoToken(text.to_owned()))
            }
            _ if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                Err(InvalidMethod::LowerCase(text.to_owned()))
            }
            _ => Ok(Method(text.into())),
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::deserr_from_str!(Method);

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn methods_of_requests_are_held_to_the_same_form() {
        for good in ["GET", "PROPFIND", "M-SEARCH", "X1", "FOO"] {
            assert_eq!(check_method(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "",
            "post",
            "Post",
            "POSt",
            "GET ",
            "GET\0",
            "P\u{d6}ST",
            "G@T",
        ] {
            let refused = Err(AmbiguousRequest::MalformedMethod);
            assert_eq!(check_method(bad.as_bytes()), refused, "{bad}");
        }
    }

    #[test]
    fn methods_are_upper_case_tokens() {
        for good in ["GET", "POST", "M-SEARCH", "VERSION_CONTROL", "X1"] {
            assert_eq!(good.parse::<Method>().unwrap().to_string(), good);
        }
        for (bad, expected) in [
            (
                "get",
                "methods are case-sensitive, write \"GET\" instead of \"get\"",
            ),
            ("Post", "write \"POST\""),
            ("*", "leave the method out to take all of them"),
            ("ANY", "leave the method out"),
            ("", "\"\" is not a method, expected one such as"),
            ("GET,POST", "\"GET,POST\" is not a method"),
            ("GET /a", "is not a method"),
            ("GÉT", "is not a method"),
        ] {
            let error = bad.parse::<Method>().unwrap_err().to_string();
            assert!(error.contains(expected), "{bad:?}: {error}");
        }
    }
}
