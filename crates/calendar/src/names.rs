//! The periods and weekdays, by name.

use std::fmt;
use std::str::FromStr;

/// Declares an enum whose variants are written by a name each, and the error of its `FromStr`.
macro_rules! named {
    (
        $(#[$doc:meta])*
        $Name:ident as $noun:literal, else $Invalid:ident {
            $($(#[$variant_doc:meta])* $Variant:ident = $text:literal,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Name {
            $($(#[$variant_doc])* $Variant,)+
        }

        impl $Name {
            /// All of them, in the order of [`NAMES`](Self::NAMES).
            pub const ALL: &'static [$Name] = &[$($Name::$Variant),+];

            /// How they are written.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// How it is written.
            pub fn name(self) -> &'static str {
                match self {
                    $($Name::$Variant => $text,)+
                }
            }
        }

        impl FromStr for $Name {
            type Err = $Invalid;

            fn from_str(text: &str) -> Result<$Name, $Invalid> {
                match text {
                    $($text => Ok($Name::$Variant),)+
                    _ => Err($Invalid { found: Quote::new(text) }),
                }
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        #[doc = concat!("A text that names no ", $noun, ".")]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $Invalid {
            found: Quote,
        }

        impl fmt::Display for $Invalid {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let names = $Name::NAMES.join(", ");
                write!(f, "unknown {} {}, expected one of {names}", $noun, self.found)
            }
        }

        impl std::error::Error for $Invalid {}
    };
}

named! {
    /// How long the windows of a quota are.
    Period as "period", else InvalidPeriod {
        /// From second 0 of a minute.
        Minute = "minute",
        /// From minute 0 of an hour.
        Hour = "hour",
        /// From midnight.
        Day = "day",
        /// From midnight on the day that weeks start with.
        Week = "week",
        /// From midnight on the anchor day of a month.
        Month = "month",
        /// From midnight on the anchor day of the anchor month.
        Year = "year",
    }
}

named! {
    /// A day of the week, from Monday as in ISO 8601.
    Weekday as "weekday", else InvalidWeekday {
        /// The first day of the week in ISO 8601.
        Monday = "monday",
        /// The second.
        Tuesday = "tuesday",
        /// The third.
        Wednesday = "wednesday",
        /// The fourth.
        Thursday = "thursday",
        /// The fifth.
        Friday = "friday",
        /// The sixth.
        Saturday = "saturday",
        /// The last.
        Sunday = "sunday",
    }
}

/// The beginning of a found text, quoted for an error message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quote(String);

impl Quote {
    /// More of it than this would hide the rest of the message.
    const LONGEST: usize = 48;

    pub(crate) fn new(text: &str) -> Quote {
        Quote(match text.char_indices().nth(Quote::LONGEST) {
            Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
            None => format!("{text:?}"),
        })
    }
}

impl fmt::Display for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for (period, name) in Period::ALL.iter().zip(Period::NAMES) {
            assert_eq!(period.to_string(), *name);
            assert_eq!(name.parse::<Period>().as_ref(), Ok(period));
        }
        for (day, name) in Weekday::ALL.iter().zip(Weekday::NAMES) {
            assert_eq!(day.to_string(), *name);
            assert_eq!(name.parse::<Weekday>().as_ref(), Ok(day));
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = "fortnight".parse::<Period>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown period \"fortnight\", expected one of minute, hour, day, week, month, year"
        );
        let error = "Monday".parse::<Weekday>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown weekday \"Monday\", expected one of monday, tuesday, wednesday, thursday, \
             friday, saturday, sunday"
        );
        for bad in ["", "days", " day", "Day"] {
            assert!(bad.parse::<Period>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_long_text_is_shortened_in_the_error() {
        let error = "é\n".repeat(100).parse::<Period>().unwrap_err();
        let quoted = format!("\"{}\"…,", "é\\n".repeat(24));
        assert!(error.to_string().contains(&quoted), "{error}");
    }
}
