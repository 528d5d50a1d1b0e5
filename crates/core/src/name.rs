//! Names that the configuration gives to consumers, plans and APIs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A name: 1 to 128 letters, digits and `. _ - : @ / +`, beginning with a letter or digit.
///
/// It becomes a metric's label, a header's value and part of a key of shared state, so it has
/// nothing that would need escaping in one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

const LONGEST: usize = 128;

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as shared text.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// The text can't be a name.
#[derive(Debug)]
pub struct InvalidName(String);

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "found {}, expected a name: 1 to {LONGEST} letters, digits and . _ - : @ / + that begin \
             with a letter or digit",
            crate::config::quote(&self.0)
        )
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let follows = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@/+".contains(&byte);
        let valid = text.len() <= LONGEST
            && text
                .bytes()
                .next()
                .is_some_and(|first| first.is_ascii_alphanumeric())
            && text.bytes().all(follows);
        if valid {
            Ok(Name(text.into()))
        } else {
            Err(InvalidName(text.to_owned()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::deserr_from_str!(Name);

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn names_need_no_escaping_anywhere() {
        for good in [
            "acme",
            "a",
            "0190-b",
            "mobile@bank.example",
            "org/team:app",
            &"a".repeat(128),
        ] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "_other",
            "a b",
            "a;b",
            "a=b",
            "ä",
            "a\n",
            "-a",
            &"a".repeat(129),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
