//! Rates: `100/s`, `2000 / 5m`, `10r/s burst=20`, `12pm`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::{Span, deserr_quantity, take_number, take_word};
use crate::config::quote;

/// So many requests in so much time, in any of these spellings:
///
/// | spelling | meaning |
/// |---|---|
/// | `100/s`, `100 / 1s`, `2000 / 5m` | requests in a duration, or in one of a unit |
/// | `100/sec`, `100/min`, `100/hour`, `100/day` | the units spelt out (`second`, `minute` too) |
/// | `10r/s`, `600r/m` | NGINX's `limit_req_zone`: a second or a minute |
/// | `10ps`, `12pm` | Apigee's SpikeArrest: per second, per minute |
///
/// Behind each, `burst=N` says how many are admitted at once. Without it the spellings of NGINX and
/// Apigee admit one, as they do there, and ours admit the number of requests: `100/s` a hundred.
///
/// NGINX's own `burst` counts the requests *beyond* the first, so behind `r/s` and `r/m`, and only
/// there, `burst=20` means 21 at once, as it does there. Its word `nodelay` is understood and changes
/// nothing, for requests are never delayed here.
///
/// [`Rate`]'s `Display` writes the first spelling, with a burst as we count it wherever the spelling
/// alone would admit another number: what is read back admits the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// The number of requests.
    pub requests: NonZeroU32,
    /// The time in which they may be made; a parsed one is never zero.
    pub per: Duration,
    /// How many are admitted at once, if it was written with the rate.
    pub burst: Option<NonZeroU32>,
    /// How many are admitted at once, if nobody says otherwise: 1 in the spellings of NGINX and
    /// Apigee, `requests` in ours.
    pub default_burst: NonZeroU32,
}

impl Rate {
    /// How many are admitted at once, unless something beside the rate says otherwise.
    pub fn burst_or_default(&self) -> NonZeroU32 {
        self.burst.unwrap_or(self.default_burst)
    }
}

/// The text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidRate {
    /// No request at all.
    Zero(String),
    /// A number without a period.
    NoPeriod(String),
    /// A period of no time, or what is not a duration.
    BadPeriod {
        /// The whole text.
        text: String,
        /// The period found in it.
        period: String,
    },
    /// A number with a fraction.
    Fraction(String),
    /// More requests than can be counted.
    TooMany(String),
    /// A burst that admits nothing, or is not a number.
    BadBurst {
        /// The whole text.
        text: String,
        /// The burst found in it.
        burst: String,
    },
    /// A word behind the rate that means nothing here.
    UnknownWord {
        /// The whole text.
        text: String,
        /// The word.
        word: String,
    },
    /// Anything else.
    Malformed(String),
}

impl fmt::Display for InvalidRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero(text) => write!(
                f,
                "a rate of 0 as in {} admits nothing; to refuse everything, take away the route or \
                 the plan's access to the API, otherwise write at least 1",
                quote(text)
            ),
            Self::NoPeriod(text) => write!(
                f,
                "the rate {} has no period, write {} for so many a second",
                quote(text),
                quote(&format!("{text}/s"))
            ),
            Self::BadPeriod { text, period } => write!(
                f,
                "the rate {} has the period {}, expected s, min, hour, day or a duration above 0 \
                 such as \"5m\"",
                quote(text),
                quote(period)
            ),
            Self::Fraction(text) => write!(
                f,
                "the rate {} is not a whole number of requests, write it with a longer period, as \
                 \"1 / 2s\" for 0.5/s",
                quote(text)
            ),
            Self::TooMany(text) => write!(
                f,
                "the rate {} is above {} requests, write it with a shorter period",
                quote(text),
                u32::MAX
            ),
            Self::BadBurst { text, burst } => write!(
                f,
                "the rate {} has the burst {}, expected how many are admitted at once, 1 to {}",
                quote(text),
                quote(burst),
                u32::MAX
            ),
            Self::UnknownWord { text, word } => write!(
                f,
                "the rate {} is followed by {}, expected nothing or \"burst=20\"; requests are \
                 never delayed here",
                quote(text),
                quote(word)
            ),
            Self::Malformed(text) => write!(
                f,
                "{} is not a rate, expected requests and a period as in \"100/s\", \"2000 / 5m\", \
                 \"10r/s burst=20\" or \"12pm\"",
                quote(text)
            ),
        }
    }
}

impl std::error::Error for InvalidRate {}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let text = text.trim();
        let (number, tail) =
            take_number(text).ok_or_else(|| InvalidRate::Malformed(text.to_owned()))?;
        let (dialect, period, words) = split(text, tail.trim_start())?;
        let requests = number
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| InvalidRate::TooMany(text.to_owned()))?;
        let requests =
            NonZeroU32::new(requests).ok_or_else(|| InvalidRate::Zero(text.to_owned()))?;
        let per = read_period(dialect, period).ok_or_else(|| InvalidRate::BadPeriod {
            text: text.to_owned(),
            period: period.to_owned(),
        })?;
        let burst = read_words(dialect, text, words)?;
        Ok(Rate {
            requests,
            per,
            burst,
            default_burst: match dialect {
                Dialect::Own => requests,
                Dialect::Nginx | Dialect::Apigee => NonZeroU32::MIN,
            },
        })
    }
}

/// Whose spelling it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Own,
    Nginx,
    Apigee,
}

/// Takes what follows the number apart: whose spelling it is, the period, and the words behind it.
fn split<'t>(text: &str, tail: &'t str) -> Result<(Dialect, &'t str, &'t str), InvalidRate> {
    // A period may hold spaces, so it ends where a word begins that no duration begins with.
    let words = ["burst", "nodelay", "delay"];
    let end = words
        .iter()
        .filter_map(|word| tail.find(word))
        .min()
        .unwrap_or(tail.len());
    let (head, words) = tail.split_at_checked(end).unwrap_or((tail, ""));
    let head = head.trim();
    if let Some(period) = head.strip_prefix('/') {
        return Ok((Dialect::Own, period.trim_start(), words));
    }
    if let Some(period) = head.strip_prefix('r')
        && let Some(period) = period.trim_start().strip_prefix('/')
    {
        return Ok((Dialect::Nginx, period.trim_start(), words));
    }
    match (head, take_word(head)) {
        ("", _) => Err(InvalidRate::NoPeriod(text.to_owned())),
        ("ps" | "pm", _) => Ok((Dialect::Apigee, head, words)),
        (_, ("", rest)) if rest.starts_with(['.', ',']) => {
            Err(InvalidRate::Fraction(text.to_owned()))
        }
        _ => Err(InvalidRate::Malformed(text.to_owned())),
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn read_period(dialect: Dialect, period: &str) -> Option<Duration> {
    let unit = match (dialect, period) {
        (Dialect::Apigee, "ps") => SECOND,
        (Dialect::Apigee, "pm") => MINUTE,
        (Dialect::Nginx | Dialect::Own, "s") => SECOND,
        (Dialect::Nginx | Dialect::Own, "m") => MINUTE,
        (Dialect::Own, "sec" | "second") => SECOND,
        (Dialect::Own, "min" | "minute") => MINUTE,
        (Dialect::Own, "h" | "hour") => HOUR,
        (Dialect::Own, "d" | "day") => DAY,
        (Dialect::Own, span) => span.parse::<Span>().ok()?.get(),
        _ => return None,
    };
    (!unit.is_zero()).then_some(unit)
}

fn read_words(
    dialect: Dialect,
    text: &str,
    words: &str,
) -> Result<Option<NonZeroU32>, InvalidRate> {
    let mut burst = None;
    for word in words.split_whitespace() {
        match word.strip_prefix("burst=") {
            Some(number) if burst.is_none() => {
                let read = read_burst(dialect, number);
                burst = Some(read.ok_or_else(|| InvalidRate::BadBurst {
                    text: text.to_owned(),
                    burst: number.to_owned(),
                })?);
            }
            None if word == "nodelay" => {}
            _ => {
                return Err(InvalidRate::UnknownWord {
                    text: text.to_owned(),
                    word: word.to_owned(),
                });
            }
        }
    }
    Ok(burst)
}

fn read_burst(dialect: Dialect, number: &str) -> Option<NonZeroU32> {
    let (number, "") = take_number(number)? else {
        return None;
    };
    let number = u32::try_from(number?).ok()?;
    match dialect {
        Dialect::Nginx => NonZeroU32::MIN.checked_add(number),
        Dialect::Own | Dialect::Apigee => NonZeroU32::new(number),
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.requests)?;
        match self.per {
            SECOND => f.write_str("s")?,
            MINUTE => f.write_str("min")?,
            HOUR => f.write_str("hour")?,
            DAY => f.write_str("day")?,
            other => write!(f, "{}", Span::from(other))?,
        }
        match (self.burst, self.burst_or_default()) {
            (None, burst) if burst == self.requests => Ok(()),
            (_, burst) => write!(f, " burst={burst}"),
        }
    }
}

deserr_quantity!(Rate);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn rate(requests: u32, secs: u64, burst: Option<u32>) -> Rate {
        Rate {
            requests: NonZeroU32::new(requests).unwrap(),
            per: Duration::from_secs(secs),
            burst: burst.map(|burst| NonZeroU32::new(burst).unwrap()),
            default_burst: NonZeroU32::new(requests).unwrap(),
        }
    }

    /// A rate of another dialect.
    fn foreign(requests: u32, secs: u64, burst: Option<u32>) -> Rate {
        Rate {
            default_burst: NonZeroU32::MIN,
            ..rate(requests, secs, burst)
        }
    }

    #[test]
    fn every_spelling_is_understood() {
        for (text, expected) in [
            ("100/s", rate(100, 1, None)),
            ("100 / 1s", rate(100, 1, None)),
            ("  100/ sec ", rate(100, 1, None)),
            ("100/second", rate(100, 1, None)),
            ("2000 / 5m", rate(2000, 300, None)),
            ("2000/1h30m", rate(2000, 5400, None)),
            ("2000/1h 30m burst=5", rate(2000, 5400, Some(5))),
            ("100/m", rate(100, 60, None)),
            ("100/min", rate(100, 60, None)),
            ("100/minute", rate(100, 60, None)),
            ("100/hour", rate(100, 3600, None)),
            ("100/day", rate(100, 86_400, None)),
            ("100/1d", rate(100, 86_400, None)),
            ("10ps", foreign(10, 1, None)),
            ("12pm", foreign(12, 60, None)),
            ("12 pm burst=3", foreign(12, 60, Some(3))),
            ("10r/s", foreign(10, 1, None)),
            ("600r/m", foreign(600, 60, None)),
            ("100/s burst=50", rate(100, 1, Some(50))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_burst_of_nginx_counts_the_requests_beyond_the_first() {
        for (text, expected) in [
            ("10r/s burst=20", foreign(10, 1, Some(21))),
            ("10r/s burst=20 nodelay", foreign(10, 1, Some(21))),
            ("10 r/s   nodelay burst=0", foreign(10, 1, Some(1))),
            ("10/s burst=20", rate(10, 1, Some(20))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        let shown = rate(10, 1, Some(21)).to_string();
        assert_eq!(shown, "10/s burst=21");
    }

    #[test]
    fn each_dialect_admits_at_once_what_it_does_at_home() {
        for (text, burst, shown) in [
            ("100/s", 100, "100/s"),
            ("2000 / 5m", 2000, "2000/5m"),
            ("100/s burst=100", 100, "100/s burst=100"),
            ("100/s burst=50", 50, "100/s burst=50"),
            ("10r/s", 1, "10/s burst=1"),
            ("10r/s nodelay", 1, "10/s burst=1"),
            ("10r/s burst=20", 21, "10/s burst=21"),
            ("600r/m", 1, "600/min burst=1"),
            ("1r/s", 1, "1/s"),
            ("10ps", 1, "10/s burst=1"),
            ("12pm", 1, "12/min burst=1"),
            ("12pm burst=12", 12, "12/min burst=12"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.burst_or_default().get(), burst, "{text}");
            assert_eq!(rate.burst.is_some(), text.contains("burst="), "{text}");
            assert_eq!(rate.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_misspelt_rate_is_refused_with_a_cure() {
        for (text, expected) in [
            (
                "0/s",
                "a rate of 0 as in \"0/s\" admits nothing; to refuse everything",
            ),
            ("100", "the rate \"100\" has no period, write \"100/s\""),
            ("1 burst=\u{1}", "write \"1 burst=\\u{1}/s\""),
            ("100/", "has the period \"\", expected s, min, hour, day"),
            ("100/0s", "has the period \"0s\""),
            ("100/fortnight", "has the period \"fortnight\""),
            ("10r/h", "has the period \"h\""),
            (
                "0.5/s",
                "is not a whole number of requests, write it with a longer period",
            ),
            ("4294967296/s", "is above 4294967295 requests"),
            ("99999999999999999999/s", "is above 4294967295 requests"),
            (
                "100/s burst=0",
                "has the burst \"0\", expected how many are admitted at once",
            ),
            ("100/s burst=many", "has the burst \"many\""),
            ("10r/s burst=4294967295", "has the burst \"4294967295\""),
            (
                "10r/s burst=5 delay=3",
                "is followed by \"delay=3\", expected nothing",
            ),
            ("10r/s burst=5 burst=6", "is followed by \"burst=6\""),
            ("10r/s burst 5", "is followed by \"burst\""),
            ("100 requests", "\"100 requests\" is not a rate"),
            ("12ph", "\"12ph\" is not a rate"),
            ("", "\"\" is not a rate"),
            ("-1/s", "\"-1/s\" is not a rate"),
            ("a/s", "\"a/s\" is not a rate"),
        ] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_rate_is_read_back(
            requests: NonZeroU32,
            micros in 1u64..,
            burst: Option<NonZeroU32>,
            foreign: bool,
        ) {
            let default_burst = if foreign { NonZeroU32::MIN } else { requests };
            let rate = Rate { requests, per: Duration::from_micros(micros), burst, default_burst };
            let again: Rate = rate.to_string().parse().unwrap();
            prop_assert_eq!((again.requests, again.per), (rate.requests, rate.per));
            prop_assert_eq!(again.burst_or_default(), rate.burst_or_default());
            prop_assert_eq!(again.to_string(), rate.to_string());
            if !foreign {
                prop_assert_eq!(again, rate);
            }
        }

        #[test]
        fn no_text_panics(text in "[0-9]{0,3} ?[rpsm/ ]{0,4}( ?(burst=|nodelay)[0-9]*)?|\\PC*") {
            let _ = text.parse::<Rate>();
        }
    }
}
