//! A fixed offset from UTC.

use std::fmt;
use std::str::FromStr;

use crate::names::Quote;

/// By how much a clock on the wall is ahead of UTC: whole minutes from −12:00 to +14:00, which are
/// the offsets in civil use.
///
/// Written `Z` or `UTC`, or as in ISO 8601 with a sign and two digits each for hours and minutes:
/// `+02:00`, `-0530`, `+02`. Shown as `Z` or `+02:00`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcOffset {
    minutes: i16,
}

impl UtcOffset {
    /// No offset.
    pub const UTC: UtcOffset = UtcOffset { minutes: 0 };

    /// −12:00, where the date line is behind.
    const MIN_MINUTES: i16 = -12 * 60;

    /// +14:00, the Line Islands of Kiribati.
    const MAX_MINUTES: i16 = 14 * 60;

    /// By how many seconds a clock on the wall is ahead of UTC.
    pub fn seconds(self) -> i64 {
        i64::from(self.minutes).saturating_mul(60)
    }
}

impl FromStr for UtcOffset {
    type Err = InvalidUtcOffset;

    fn from_str(text: &str) -> Result<UtcOffset, InvalidUtcOffset> {
        let minutes = match text {
            "Z" | "UTC" => Some(0),
            _ => parse_minutes(text.as_bytes()),
        };
        let Some(minutes) = minutes else {
            return Err(InvalidUtcOffset::new(text, Fault::Malformed));
        };
        if !(UtcOffset::MIN_MINUTES..=UtcOffset::MAX_MINUTES).contains(&minutes) {
            return Err(InvalidUtcOffset::new(text, Fault::OutOfRange));
        }
        Ok(UtcOffset { minutes })
    }
}

/// Reads `±hh`, `±hhmm` and `±hh:mm`.
fn parse_minutes(text: &[u8]) -> Option<i16> {
    let (sign, tens, ones, minutes) = match text {
        [sign, tens, ones] => (sign, tens, ones, 0),
        [sign, tens, ones, b':', minutes @ ..] | [sign, tens, ones, minutes @ ..] => {
            (sign, tens, ones, two_digits(minutes)?)
        }
        _ => return None,
    };
    let hours = two_digits(&[*tens, *ones])?;
    if minutes > 59 {
        return None;
    }
    let distance = hours.saturating_mul(60).saturating_add(minutes);
    match sign {
        b'+' => Some(distance),
        b'-' => Some(distance.saturating_neg()),
        _ => None,
    }
}

fn two_digits(text: &[u8]) -> Option<i16> {
    let [tens, ones] = text else {
        return None;
    };
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(10)
            .and_then(|digit| i16::try_from(digit).ok())
    };
    Some(digit(tens)?.saturating_mul(10).saturating_add(digit(ones)?))
}

impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.minutes {
            0 => return f.write_str("Z"),
            1.. => '+',
            _ => '-',
        };
        let distance = self.minutes.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", distance / 60, distance % 60)
    }
}

/// A text that is no offset from UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUtcOffset {
    found: Quote,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Malformed,
    OutOfRange,
}

impl InvalidUtcOffset {
    fn new(text: &str, fault: Fault) -> InvalidUtcOffset {
        let found = Quote::new(text);
        InvalidUtcOffset { found, fault }
    }
}

impl fmt::Display for InvalidUtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.found;
        match self.fault {
            Fault::Malformed => write!(
                f,
                "{found} is not a UTC offset, expected one like +02:00, or Z; time zones with a \
                 name are not supported"
            ),
            Fault::OutOfRange => write!(
                f,
                "the UTC offset {found} is out of range, expected -12:00 to +14:00"
            ),
        }
    }
}

impl std::error::Error for InvalidUtcOffset {}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn the_forms_of_iso_8601_are_read() {
        for (text, minutes) in [
            ("Z", 0),
            ("UTC", 0),
            ("+00:00", 0),
            ("-00:00", 0),
            ("+02:00", 120),
            ("-0530", -330),
            ("+02", 120),
            ("-12:00", -720),
            ("+14:00", 840),
            ("+05:45", 345),
            ("-00:30", -30),
        ] {
            let offset: UtcOffset = text.parse().unwrap();
            assert_eq!(offset, UtcOffset { minutes }, "{text}");
            assert_eq!(offset.seconds(), i64::from(minutes) * 60);
        }
    }

    #[test]
    fn every_offset_is_read_back() {
        for minutes in UtcOffset::MIN_MINUTES..=UtcOffset::MAX_MINUTES {
            let offset = UtcOffset { minutes };
            assert_eq!(offset.to_string().parse(), Ok(offset));
        }
    }

    #[test]
    fn an_offset_in_no_civil_use_is_refused_with_the_range() {
        for text in ["+14:01", "-12:01", "+99:00", "-9959"] {
            let expected =
                format!("the UTC offset \"{text}\" is out of range, expected -12:00 to +14:00");
            let error = text.parse::<UtcOffset>().unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_offset_is_refused_with_an_example() {
        for text in [
            "",
            "z",
            "utc",
            "+",
            "+2",
            "+2:00",
            "02:00",
            "+02:",
            "+02:0",
            "+02:000",
            "+02:60",
            "+020",
            "+02000",
            "+02:00:00",
            "+ 2:00",
            "+-2:00",
            " +02",
            "\u{2212}02:00",
            "+0\u{e9}",
        ] {
            let error = text.parse::<UtcOffset>().unwrap_err();
            assert_eq!(error.fault, Fault::Malformed, "{text:?}");
        }
        let error = "Europe/Berlin".parse::<UtcOffset>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"Europe/Berlin\" is not a UTC offset, expected one like +02:00, or Z; time zones \
             with a name are not supported"
        );
    }
}
