//! Times by the clock and the calendar, as crontab(5) has them: `0 9 * * MON`.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use tollgate_calendar::{UtcOffset, Window};
use tollgate_core::config::quote;

/// Minutes in which something begins, in the five fields of POSIX crontab: minute, hour, day of the
/// month, month, day of the week.
///
/// A field is `*`, or a list of numbers and ranges, `1-5,10`; both `*` and a range may have a step,
/// `*/15`. Months and days of the week may be given by the first three letters of their English
/// names; Sunday is 0 and 7.
///
/// If neither the day of the month nor that of the week begins with `*`, a day that fits one of them
/// is enough, otherwise it must fit both: so do POSIX and the crontabs in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cron {
    /// A bit for each value, as in the other fields.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Bits 0 to 6, from Sunday.
    weekdays: u64,
    /// Whether one of `days` and `weekdays` is enough.
    either_day: bool,
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

impl Cron {
    /// The instants in `within` at which something begins, the earliest first, in seconds since the
    /// Unix epoch.
    pub fn times(self, within: Window, offset: UtcOffset) -> impl Iterator<Item = i64> {
        let to_utc = move |wall: i64| wall.saturating_sub(offset.seconds());
        let first = within.start.saturating_add(offset.seconds());
        days_from(first)
            .take_while(move |(_, midnight)| to_utc(*midnight) < within.end)
            .filter(move |(date, _)| self.has_day(*date))
            .flat_map(move |(_, midnight)| self.minutes_of_day(midnight))
            .map(to_utc)
            .skip_while(move |at| *at < within.start)
            .take_while(move |at| *at < within.end)
    }

    fn has_day(self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let fits = match self.either_day {
            true => day || weekday,
            false => day && weekday,
        };
        fits && has(self.months, date.month())
    }

    fn minutes_of_day(self, midnight: i64) -> impl Iterator<Item = i64> {
        let at = |start: i64, count: i8, length: i64| {
            start.saturating_add(i64::from(count).saturating_mul(length))
        };
        (0..24)
            .filter(move |hour| has(self.hours, *hour))
            .map(move |hour| at(midnight, hour, HOUR))
            .flat_map(move |start| {
                (0..60)
                    .filter(move |minute| has(self.minutes, *minute))
                    .map(move |minute| at(start, minute, MINUTE))
            })
    }
}

fn has(bits: u64, value: i8) -> bool {
    let bit = u32::try_from(value)
        .ok()
        .and_then(|value| 1_u64.checked_shl(value));
    bit.is_some_and(|bit| bits & bit != 0)
}

/// The days from the one that contains an instant, each with its midnight; instants are counted in
/// seconds on the clock on the wall as if it were UTC.
fn days_from(wall: i64) -> impl Iterator<Item = (Date, i64)> {
    const EPOCH: Date = Date::constant(1970, 1, 1);
    let first = Timestamp::from_second(wall).ok();
    let first = first.map(|first| Offset::UTC.to_datetime(first).date());
    std::iter::successors(first, |date| date.tomorrow().ok())
        .map(|date| (date, date.duration_since(EPOCH).as_secs()))
}

/// The text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidCron {
    text: String,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    Fields(usize),
    Nickname,
    Field(&'static Field, String, FieldFault),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum FieldFault {
    Malformed,
    Inverted,
    StepOfNothing,
    StepTooLong,
}

impl fmt::Display for InvalidCron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = quote(&self.text);
        match &self.fault {
            Fault::Fields(6 | 7) => write!(
                f,
                "{text} has more than five fields, expected minute, hour, day of month, month and \
                 day of week: leave seconds and years out"
            ),
            Fault::Fields(count) => write!(
                f,
                "{text} has {count} fields, expected five as in \"0 9 * * MON\": minute, hour, day \
                 of month, month, day of week"
            ),
            Fault::Nickname => write!(
                f,
                "{text} is a nickname, write the five fields, as \"0 0 * * *\" for every midnight"
            ),
            Fault::Field(field, part, fault) => {
                let Field {
                    name, first, last, ..
                } = field;
                let part = quote(part);
                write!(f, "the {name} of {text} has {part}, ")?;
                match fault {
                    FieldFault::Malformed => write!(
                        f,
                        "expected *, a number from {first} to {last}{}, a range as {first}-{last}, \
                         or one of the last two with a step as */2",
                        if field.names.is_empty() {
                            ""
                        } else {
                            " or a name of three letters"
                        },
                    ),
                    FieldFault::Inverted => f.write_str(
                        "which ends before it begins: write two ranges, with a comma between",
                    ),
                    FieldFault::StepOfNothing => write!(
                        f,
                        "a step that has nothing to go over: write the range, as 5-{last}/15",
                    ),
                    FieldFault::StepTooLong => f.write_str(
                        "a step that leads nowhere: leave it out, or write a shorter one",
                    ),
                }
            }
        }
    }
}

impl std::error::Error for InvalidCron {}

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        parse(text).map_err(|fault| InvalidCron {
            text: text.to_owned(),
            fault,
        })
    }
}

tollgate_core::deserr_from_str!(Cron);

fn parse(text: &str) -> Result<Cron, Fault> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let &[minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err(match text.trim_start().starts_with('@') {
            true => Fault::Nickname,
            false => Fault::Fields(fields.len()),
        });
    };
    let weekdays = WEEKDAY.parse(weekday)?;
    Ok(Cron {
        minutes: MINUTES.parse(minute)?,
        hours: HOURS.parse(hour)?,
        days: DAY.parse(day)?,
        months: MONTH.parse(month)?,
        // Bit 7 is Sunday too.
        weekdays: (weekdays | weekdays >> 7) & 0x7f,
        either_day: !day.starts_with('*') && !weekday.starts_with('*'),
    })
}

/// What one of the five fields may hold.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// Of the values from `first` on.
    names: &'static [&'static str],
}

const MINUTES: &Field = &Field {
    name: "minute",
    first: 0,
    last: 59,
    names: &[],
};
const HOURS: &Field = &Field {
    name: "hour",
    first: 0,
    last: 23,
    names: &[],
};
const DAY: &Field = &Field {
    name: "day of month",
    first: 1,
    last: 31,
    names: &[],
};
const MONTH: &Field = &Field {
    name: "month",
    first: 1,
    last: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAY: &Field = &Field {
    name: "day of week",
    first: 0,
    last: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"],
};

impl Field {
    fn parse(&'static self, text: &str) -> Result<u64, Fault> {
        text.split(',').try_fold(0, |bits, part| {
            let fault = |fault| Fault::Field(self, part.to_owned(), fault);
            Ok(bits | self.parse_part(part).map_err(fault)?)
        })
    }

    /// Reads `*`, `5`, `1-5`, `*/15` or `10-50/15`.
    fn parse_part(&self, part: &str) -> Result<u64, FieldFault> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step).ok_or(FieldFault::Malformed)?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.first, self.last),
            Some((first, last)) => (self.value(first)?, self.last_value(last)?),
            None if step.is_some() => {
                self.value(range)?;
                return Err(FieldFault::StepOfNothing);
            }
            None => {
                let value = self.value(range)?;
                (value, value)
            }
        };
        if last < first {
            return Err(FieldFault::Inverted);
        }
        if step.is_some_and(|step| step == 0 || step > last.saturating_sub(first)) {
            return Err(FieldFault::StepTooLong);
        }
        let values = (first..=last).step_by(usize::try_from(step.unwrap_or(1)).unwrap_or(1));
        Ok(values
            .filter_map(|value| 1_u64.checked_shl(value))
            .fold(0, |bits, bit| bits | bit))
    }

    /// The end of a range, where Sunday is the last day: `FRI-SUN`.
    fn last_value(&self, text: &str) -> Result<u32, FieldFault> {
        let last = self.names.last();
        match last.is_some_and(|name| text.eq_ignore_ascii_case(name)) {
            true => Ok(self.last),
            false => self.value(text),
        }
    }

    fn value(&self, text: &str) -> Result<u32, FieldFault> {
        let names = (self.first..).zip(self.names);
        let named = names
            .clone()
            .find(|(_, name)| text.eq_ignore_ascii_case(name));
        named
            .map(|(value, _)| value)
            .or_else(|| number(text))
            .filter(|value| (self.first..=self.last).contains(value))
            .ok_or(FieldFault::Malformed)
    }
}

/// Reads decimal digits, and no sign.
fn number(text: &str) -> Option<u32> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may fail by a panic")]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn instant(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn times(cron: &str, offset: &str, from: &str, until: &str) -> Vec<String> {
        let window = Window {
            start: instant(from),
            end: instant(until),
        };
        let cron: Cron = cron.parse().unwrap();
        cron.times(window, offset.parse().unwrap())
            .map(|at| Timestamp::from_second(at).unwrap().to_string())
            .collect()
    }

    #[test]
    fn schedules_and_their_times() {
        for (cron, offset, from, until, expected) in [
            (
                "0 9 * * MON",
                "Z",
                "2026-11-20T00:00:00Z",
                "2026-12-07T09:00:00Z",
                vec!["2026-11-23T09:00:00Z", "2026-11-30T09:00:00Z"],
            ),
            (
                "0 9 * * mon",
                "+02:00",
                "2026-11-23T07:00:00Z",
                "2026-11-30T07:00:00Z",
                vec!["2026-11-23T07:00:00Z"],
            ),
            // A local Monday that begins on a Sunday in UTC, and one that ends on a Tuesday.
            (
                "30 0 * * 1",
                "+05:30",
                "2026-11-22T00:00:00Z",
                "2026-11-25T00:00:00Z",
                vec!["2026-11-22T19:00:00Z"],
            ),
            (
                "30 23 * * 1",
                "-08:00",
                "2026-11-22T00:00:00Z",
                "2026-11-25T00:00:00Z",
                vec!["2026-11-24T07:30:00Z"],
            ),
            (
                "*/20 10-11 29 2 *",
                "Z",
                "2027-01-01T00:00:00Z",
                "2028-02-29T11:00:01Z",
                vec![
                    "2028-02-29T10:00:00Z",
                    "2028-02-29T10:20:00Z",
                    "2028-02-29T10:40:00Z",
                    "2028-02-29T11:00:00Z",
                ],
            ),
            // Either day is enough.
            (
                "0 0 13 * FRI",
                "Z",
                "2026-11-10T00:00:00Z",
                "2026-11-21T00:00:00Z",
                vec!["2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"],
            ),
            // Both are needed.
            (
                "0 0 */10 * SUN",
                "Z",
                "2026-01-01T00:00:00Z",
                "2026-04-01T00:00:00Z",
                vec![
                    "2026-01-11T00:00:00Z",
                    "2026-02-01T00:00:00Z",
                    "2026-03-01T00:00:00Z",
                ],
            ),
            (
                "0 0 * * FRI-SUN,0",
                "Z",
                "2026-11-19T00:00:00Z",
                "2026-11-24T00:00:00Z",
                vec![
                    "2026-11-20T00:00:00Z",
                    "2026-11-21T00:00:00Z",
                    "2026-11-22T00:00:00Z",
                ],
            ),
            (
                "0 0 30 FEB *",
                "Z",
                "2026-01-01T00:00:00Z",
                "2126-01-01T00:00:00Z",
                vec![],
            ),
        ] {
            assert_eq!(
                times(cron, offset, from, until),
                expected,
                "{cron} {offset}"
            );
        }
    }

    #[test]
    fn a_misspelt_schedule_is_refused_with_a_cure() {
        for (text, expected) in [
            ("", "\"\" has 0 fields, expected five as in \"0 9 * * MON\""),
            ("0 9 * *", "has 4 fields"),
            ("0 0 9 * * MON", "leave seconds and years out"),
            ("@daily", "is a nickname, write the five fields"),
            (
                "60 9 * * *",
                "the minute of \"60 9 * * *\" has \"60\", expected *, a number from 0 to 59, a range",
            ),
            ("0 24 * * *", "the hour of"),
            ("0 9 0 * *", "the day of month of"),
            (
                "0 9 * 13 *",
                "a number from 1 to 12 or a name of three letters",
            ),
            ("0 9 * * 8", "the day of week of"),
            ("0 9 * * MONDAY", "has \"MONDAY\""),
            ("0 9 * * JAN", "has \"JAN\""),
            ("0 9 L * *", "has \"L\""),
            ("+1 9 * * *", "has \"+1\""),
            ("1,,2 9 * * *", "has \"\""),
            (
                "0 17-9 * * *",
                "which ends before it begins: write two ranges",
            ),
            (
                "5/15 * * * *",
                "a step that has nothing to go over: write the range, as 5-59/15",
            ),
            ("*/0 * * * *", "a step that leads nowhere"),
            ("*/90 * * * *", "a step that leads nowhere"),
            ("*/x * * * *", "has \"*/x\""),
        ] {
            let error = text.parse::<Cron>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    /// A part of a field: the text, and the values that it stands for.
    fn part(first: i8, last: i8) -> impl Strategy<Value = (String, Vec<i8>)> {
        let single = (first..=last).prop_map(|value| (value.to_string(), vec![value]));
        let range = (first..=last, first..=last).prop_map(|(a, b)| {
            let (a, b) = (a.min(b), a.max(b));
            (format!("{a}-{b}"), (a..=b).collect())
        });
        let step = (1..=last - first).prop_map(move |step| {
            let values = (first..=last).filter(|value| (value - first) % step == 0);
            (format!("*/{step}"), values.collect())
        });
        let all = Just(("*".to_owned(), (first..=last).collect()));
        prop_oneof![single, range, step, all]
    }

    fn field(first: i8, last: i8) -> impl Strategy<Value = (String, Vec<i8>)> {
        prop::collection::vec(part(first, last), 1..3).prop_map(|parts| {
            let (texts, values): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            (texts.join(","), values.concat())
        })
    }

    proptest! {
        #[test]
        fn a_schedule_has_the_minutes_that_fit_all_its_fields(
            (minute, hour) in (field(0, 59), field(0, 23)),
            (day, month, weekday) in (field(1, 31), field(1, 12), field(0, 7)),
            start in 0_i64..4_000_000_000,
            length in 0_i64..5 * 24 * 60,
            offset in -720_i32..=840,
        ) {
            let text = [&minute.0, &hour.0, &day.0, &month.0, &weekday.0].map(String::as_str).join(" ");
            let cron: Cron = text.parse().unwrap();
            let window = Window { start, end: start + length * 60 };
            let sign = if offset < 0 { '-' } else { '+' };
            let zone = format!("{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60);
            let found: Vec<_> = cron.times(window, zone.parse().unwrap()).collect();

            let either = !day.0.starts_with('*') && !weekday.0.starts_with('*');
            let expected: Vec<_> = (window.start..window.end)
                .filter(|at| at % 60 == 0)
                .filter(|at| {
                    let at = Timestamp::from_second(*at).unwrap();
                    let wall = Offset::from_seconds(offset * 60).unwrap().to_datetime(at);
                    let on_day = day.1.contains(&wall.day());
                    let number = wall.weekday().to_sunday_zero_offset();
                    let on_weekday = weekday.1.contains(&number)
                        || number == 0 && weekday.1.contains(&7);
                    minute.1.contains(&wall.minute())
                        && hour.1.contains(&wall.hour())
                        && month.1.contains(&wall.month())
                        && if either { on_day || on_weekday } else { on_day && on_weekday }
                })
                .collect();
            prop_assert_eq!(found, expected, "{}", text);
        }

        #[test]
        fn no_text_panics(text in "[0-9*/,A-Z -]{0,20}|\\PC*") {
            let _ = text.parse::<Cron>();
        }
    }
}
