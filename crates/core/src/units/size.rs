//! Amounts of memory: `64KiB`, `1MiB`.

use std::fmt;
use std::str::FromStr;

use super::{deserr_quantity, take_number, take_word};
use crate::config::quote;

/// A number of bytes as it is configured: a whole number and a unit, with or without a space
/// between.
///
/// `KiB`, `MiB` and `GiB` are powers of 1024 (IEC 80000-13), `kB`, `MB` and `GB` powers of 1000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// The units and their number of bytes, largest first.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

const UNIT_NAMES: &str = "B, KiB, MiB, GiB, kB, MB, GB";

impl Size {
    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Size {
        Size(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory, capped at what can be addressed.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The text is not a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidSize {
    /// A number without a unit.
    NoUnit(String),
    /// A number with a fraction.
    Fraction(String),
    /// A unit that there is not.
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The unit found in it.
        unit: String,
        /// The unit probably meant.
        meant: Option<&'static str>,
    },
    /// More than can be counted.
    TooLarge(String),
    /// Anything else.
    Malformed(String),
}

impl fmt::Display for InvalidSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUnit(text) => write!(
                f,
                "the size {} has no unit, write \"{text}B\" for bytes (units: {UNIT_NAMES})",
                quote(text)
            ),
            Self::Fraction(text) => write!(
                f,
                "{} is not a whole number, write the size with a smaller unit",
                quote(text)
            ),
            Self::UnknownUnit { text, unit, meant } => {
                write!(
                    f,
                    "the size {} has the unknown unit {}",
                    quote(text),
                    quote(unit)
                )?;
                match meant {
                    Some(meant) => {
                        write!(f, ", did you mean {meant}? (expected one of {UNIT_NAMES})")
                    }
                    None => write!(f, ", expected one of {UNIT_NAMES}"),
                }
            }
            Self::TooLarge(text) => write!(
                f,
                "the size {} is too large to be counted, write a smaller one",
                quote(text)
            ),
            Self::Malformed(text) => write!(
                f,
                "{} is not a size, expected a whole number with a unit as in \"64KiB\" (units: \
                 {UNIT_NAMES})",
                quote(text)
            ),
        }
    }
}

impl std::error::Error for InvalidSize {}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let text = text.trim();
        let whole = || text.to_owned();
        let (number, tail) = take_number(text).ok_or_else(|| InvalidSize::Malformed(whole()))?;
        let (unit, rest) = take_word(tail.trim_start());
        match (unit, rest.chars().next()) {
            ("", None) => return Err(InvalidSize::NoUnit(whole())),
            ("", Some('.' | ',')) => return Err(InvalidSize::Fraction(whole())),
            ("", Some(_)) | (_, Some(_)) => return Err(InvalidSize::Malformed(whole())),
            (_, None) => {}
        }
        let (_, bytes) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| InvalidSize::UnknownUnit {
                text: whole(),
                unit: unit.to_owned(),
                meant: meant_unit(unit),
            })?;
        number
            .and_then(|number| number.checked_mul(*bytes))
            .map(Size)
            .ok_or_else(|| InvalidSize::TooLarge(whole()))
    }
}

/// The unit that people mean who write `unit`. `KB` and `K` stand for 1024 with most of them, and
/// for 1000 with some: nobody is taken at a word that can be read in two ways.
fn meant_unit(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => Some("B"),
        "k" | "kb" | "ki" | "kib" => Some("KiB"),
        "m" | "mb" | "mi" | "mib" => Some("MiB"),
        "g" | "gb" | "gi" | "gib" => Some("GiB"),
        _ => None,
    }
}

impl fmt::Display for Size {
    /// The largest unit of which it is a whole number: `64KiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find_map(|(unit, bytes)| {
            let count = self.0.checked_div(*bytes)?;
            (count > 0 && count.checked_mul(*bytes) == Some(self.0)).then_some((count, unit))
        });
        match whole {
            Some((count, unit)) => write!(f, "{count}{unit}"),
            None => write!(f, "{}B", self.0),
        }
    }
}

deserr_quantity!(Size);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn spellings_and_their_bytes() {
        for (text, bytes) in [
            ("512B", 512),
            ("64KiB", 65_536),
            (" 1 MiB ", 1_048_576),
            ("2GiB", 2_147_483_648),
            ("64kB", 64_000),
            ("1MB", 1_000_000),
            ("1GB", 1_000_000_000),
            ("0B", 0),
        ] {
            assert_eq!(text.parse::<Size>().unwrap().bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn a_misspelt_size_is_refused_with_a_cure() {
        for (text, expected) in [
            ("64KB", "unknown unit \"KB\", did you mean KiB?"),
            ("64K", "did you mean KiB?"),
            ("64Mb", "did you mean MiB?"),
            ("64bytes", "did you mean B?"),
            ("64TiB", "unknown unit \"TiB\", expected one of B, KiB, MiB"),
            ("64", "the size \"64\" has no unit, write \"64B\""),
            (
                "1.5MiB",
                "\"1.5MiB\" is not a whole number, write the size with a smaller unit",
            ),
            ("", "\"\" is not a size"),
            ("-1B", "\"-1B\" is not a size"),
            ("1MiB2KiB", "\"1MiB2KiB\" is not a size"),
            ("99999999999GiB", "too large to be counted"),
            ("99999999999999999999B", "too large to be counted"),
        ] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_size_is_shown_with_the_largest_unit() {
        for (bytes, expected) in [
            (0, "0B"),
            (1_000, "1kB"),
            (1_001, "1001B"),
            (1_024_000, "1000KiB"),
            (1_048_576, "1MiB"),
        ] {
            assert_eq!(Size::from_bytes(bytes).to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn every_size_is_read_back(bytes: u64, shift in 0u32..40) {
            let size = Size::from_bytes((bytes >> shift) << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_panics(text in "[0-9kKMiB. -]{0,12}|\\PC*") {
            let _ = text.parse::<Size>();
        }
    }
}
