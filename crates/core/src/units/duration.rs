//! Durations: `1h30m`, `90s`, `500ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{deserr_quantity, take_number, take_word};
use crate::config::quote;

/// A duration as it is configured: whole numbers with the units `d`, `h`, `m`, `s`, `ms` and `us`,
/// each at most once, in any order, with or without spaces between.
///
/// The shape is that of Gateway API's durations (GEP-2257), with days and microseconds added. A day
/// is always 24 hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// The units and their length in microseconds, longest first.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

impl Span {
    /// The duration, in whole microseconds.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        span.0
    }
}

impl From<Duration> for Span {
    /// Drops what is finer than a microsecond, and caps what is longer than 584,000 years.
    fn from(duration: Duration) -> Span {
        Span(Duration::from_micros(
            u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        ))
    }
}

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidSpan {
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
    },
    /// A unit that comes twice.
    RepeatedUnit {
        /// The whole text.
        text: String,
        /// The unit.
        unit: &'static str,
    },
    /// More than can be counted.
    TooLong(String),
    /// Anything else.
    Malformed(String),
}

impl fmt::Display for InvalidSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUnit(text) => write!(
                f,
                "the duration {} has no unit, write \"{text}s\" for seconds (units: {UNIT_NAMES})",
                quote(text)
            ),
            Self::Fraction(text) => write!(
                f,
                "{} is not made of whole numbers, write the fraction with a smaller unit, as \
                 \"1h30m\" or \"1s500ms\"",
                quote(text)
            ),
            Self::UnknownUnit { text, unit } => write!(
                f,
                "the duration {} has the unknown unit {}, expected one of {UNIT_NAMES}",
                quote(text),
                quote(unit)
            ),
            Self::RepeatedUnit { text, unit } => write!(
                f,
                "the duration {} has the unit \"{unit}\" twice, write their sum",
                quote(text)
            ),
            Self::TooLong(text) => write!(
                f,
                "the duration {} is too long to be counted, write a shorter one",
                quote(text)
            ),
            Self::Malformed(text) => write!(
                f,
                "{} is not a duration, expected whole numbers with units as in \"90s\", \"500ms\" \
                 or \"1h30m\" (units: {UNIT_NAMES})",
                quote(text)
            ),
        }
    }
}

impl std::error::Error for InvalidSpan {}

const UNIT_NAMES: &str = "d, h, m, s, ms, us";

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let text = text.trim();
        let mut total: u64 = 0;
        let mut seen = Vec::new();
        let mut rest = text;
        while let Some((number, tail)) = take_number(rest) {
            let (word, tail) = take_word(tail.trim_start());
            let &(unit, micros) = UNITS
                .iter()
                .find(|(unit, _)| *unit == word)
                .ok_or_else(|| misspelt(text, word, tail))?;
            if seen.contains(&unit) {
                let text = text.to_owned();
                return Err(InvalidSpan::RepeatedUnit { text, unit });
            }
            seen.push(unit);
            total = number
                .and_then(|number| number.checked_mul(micros))
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| InvalidSpan::TooLong(text.to_owned()))?;
            rest = tail.trim_start();
        }
        if seen.is_empty() || !rest.is_empty() {
            return Err(InvalidSpan::Malformed(text.to_owned()));
        }
        Ok(Span(Duration::from_micros(total)))
    }
}

/// What is wrong with a number that `word` and then `tail` follow.
fn misspelt(text: &str, word: &str, tail: &str) -> InvalidSpan {
    let whole = text.to_owned();
    match tail.chars().next() {
        _ if !word.is_empty() => InvalidSpan::UnknownUnit {
            text: whole,
            unit: word.to_owned(),
        },
        Some('.' | ',') => InvalidSpan::Fraction(whole),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => InvalidSpan::NoUnit(whole),
        _ => InvalidSpan::Malformed(whole),
    }
}

impl fmt::Display for Span {
    /// Units from the longest to the shortest, each as large as it can be: `1h30m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, micros) in UNITS {
            let count = rest.checked_div(micros).unwrap_or_default();
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
            rest = rest.checked_rem(micros).unwrap_or_default();
        }
        Ok(())
    }
}

deserr_quantity!(Span);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn spellings_and_their_length() {
        for (text, micros) in [
            ("90s", 90_000_000),
            ("1h30m", 5_400_000_000),
            ("30m 1h", 5_400_000_000),
            (" 1 h  30 m ", 5_400_000_000),
            ("500ms", 500_000),
            ("250us", 250),
            ("1m1ms", 60_001_000),
            ("1d", 86_400_000_000),
            ("0s", 0),
            ("007s", 7_000_000),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.get(), Duration::from_micros(micros), "{text}");
        }
    }

    #[test]
    fn a_misspelt_duration_is_refused_with_a_cure() {
        for (text, expected) in [
            ("90", "the duration \"90\" has no unit, write \"90s\""),
            (
                "",
                "\"\" is not a duration, expected whole numbers with units",
            ),
            ("s", "\"s\" is not a duration"),
            ("1h30", "\"1h30\" is not a duration"),
            ("-5s", "\"-5s\" is not a duration"),
            ("5s!", "\"5s!\" is not a duration"),
            ("5 s,", "\"5 s,\" is not a duration"),
            (
                "1.5h",
                "\"1.5h\" is not made of whole numbers, write the fraction",
            ),
            ("1,5h", "\"1,5h\" is not made of whole numbers"),
            (
                "5min",
                "the unknown unit \"min\", expected one of d, h, m, s, ms, us",
            ),
            ("5H", "the unknown unit \"H\""),
            ("1s 2s", "has the unit \"s\" twice, write their sum"),
            ("99999999999999999999s", "too long to be counted"),
            ("18446744073709551615d", "too long to be counted"),
            ("18446744073709551615us 1s", "too long to be counted"),
        ] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_duration_is_shown_with_the_largest_units() {
        for (micros, expected) in [
            (0, "0s"),
            (90_000_000, "1m30s"),
            (86_400_000_000, "1d"),
            (1_001_001, "1s1ms1us"),
        ] {
            assert_eq!(
                Span::from(Duration::from_micros(micros)).to_string(),
                expected
            );
        }
    }

    proptest! {
        #[test]
        fn every_duration_is_read_back(micros: u64) {
            let span = Span::from(Duration::from_micros(micros));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "[0-9dhmsu. \u{b5}-]{0,12}|\\PC*") {
            let _ = text.parse::<Span>();
        }
    }
}
