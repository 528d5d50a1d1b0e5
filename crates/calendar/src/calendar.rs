//! The windows that a calendar divides time into.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use crate::{InvalidCalendar, Period, Settings, UtcOffset, Weekday, Window};

/// Divides all time into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Calendar {
    period: Period,
    offset: UtcOffset,
    rule: Rule,
}

/// Where windows begin on the clock on the wall, which is counted in seconds as if it were UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rule {
    /// Every `length` seconds, counted from `origin`.
    Seconds { length: i64, origin: i64 },
    /// Every `length` months, counted from `origin`, at midnight on `day` or the month's last day.
    Months { length: i64, origin: i64, day: i8 },
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
const YEAR_IN_MONTHS: i64 = 12;

/// The first instant that is given a window of its period, -9997-01-01T00:00:00Z. With it all
/// calculations stay in the range of `jiff`, which begins with the year -9999.
const EARLIEST: i64 = -377_642_044_800;

/// The last instant that is given a window of its period, 9998-01-01T00:00:00Z.
const LATEST: i64 = 253_339_228_800;

/// Where a calculation leaves the range all the same.
const ALL_TIME: Window = Window {
    start: i64::MIN,
    end: i64::MAX,
};

impl Calendar {
    /// The calendar with these settings, or all that is wrong with them.
    pub fn new(settings: Settings) -> Result<Calendar, InvalidCalendar> {
        settings.validate()?;
        Ok(Calendar {
            period: settings.period,
            offset: settings.offset,
            rule: Rule::new(&settings),
        })
    }

    /// How long the windows are.
    pub fn period(&self) -> Period {
        self.period
    }

    /// The window that contains the instant `at`, in seconds since the Unix epoch.
    ///
    /// All instants before about the year -9997 share one window, and so do those after 9998. No
    /// window contains `i64::MAX`, which is the end of the last.
    pub fn window(&self, at: i64) -> Window {
        let nearest = at.clamp(EARLIEST, LATEST);
        let window = self.window_in_range(nearest).unwrap_or(ALL_TIME);
        if at < window.start {
            return Window {
                start: i64::MIN,
                end: window.start,
            };
        }
        if at >= window.end {
            return Window {
                start: window.end,
                end: i64::MAX,
            };
        }
        window
    }

    /// `None` only for instants out of range.
    fn window_in_range(&self, at: i64) -> Option<Window> {
        let offset = self.offset.seconds();
        let wall = at.checked_add(offset)?;
        let window = match self.rule {
            Rule::Seconds { length, origin } => window_of_seconds(wall, length, origin)?,
            Rule::Months {
                length,
                origin,
                day,
            } => window_of_months(wall, length, origin, day)?,
        };
        Some(Window {
            start: window.start.checked_sub(offset)?,
            end: window.end.checked_sub(offset)?,
        })
    }
}

fn window_of_seconds(wall: i64, length: i64, origin: i64) -> Option<Window> {
    let start = round_down(wall, length, origin)?;
    let end = start.checked_add(length)?;
    Some(Window { start, end })
}

fn window_of_months(wall: i64, length: i64, origin: i64, day: i8) -> Option<Window> {
    let today = Timestamp::from_second(wall).ok()?;
    let today = Offset::UTC.to_datetime(today).date();
    let month = round_down(month_of(today), length, origin)?;
    let begin = |month| Some(seconds_of(day_of_month(month, day)?));

    // In the month that a window starts with, the days before its first belong to the one before.
    let (start, end) = match today >= day_of_month(month, day)? {
        true => (month, month.checked_add(length)?),
        false => (month.checked_sub(length)?, month),
    };
    Some(Window {
        start: begin(start)?,
        end: begin(end)?,
    })
}

/// The last of `origin`, `origin ± length`, `origin ± 2 length` … that is not after `at`.
fn round_down(at: i64, length: i64, origin: i64) -> Option<i64> {
    let since = at.checked_sub(origin)?.checked_rem_euclid(length)?;
    at.checked_sub(since)
}

/// The months since January of the year 0.
fn month_of(date: Date) -> i64 {
    i64::from(date.year())
        .saturating_mul(YEAR_IN_MONTHS)
        .saturating_add(i64::from(date.month()).saturating_sub(1))
}

/// The day `day` of a month counted as [`month_of`] does, or its last if it has fewer.
fn day_of_month(month: i64, day: i8) -> Option<Date> {
    let year = i16::try_from(month.checked_div_euclid(YEAR_IN_MONTHS)?).ok()?;
    let month = month.checked_rem_euclid(YEAR_IN_MONTHS)?.checked_add(1)?;
    let first = Date::new(year, i8::try_from(month).ok()?, 1).ok()?;
    let day = day.min(first.days_in_month());
    Date::new(first.year(), first.month(), day).ok()
}

/// Midnight at the beginning of a day, in seconds on the clock on the wall.
fn seconds_of(date: Date) -> i64 {
    const EPOCH: Date = Date::constant(1970, 1, 1);
    date.duration_since(EPOCH).as_secs()
}

impl Rule {
    /// The rule of settings without mistakes.
    fn new(settings: &Settings) -> Rule {
        let every = |length| Rule::Seconds { length, origin: 0 };
        // In range, since there are no mistakes.
        let day = settings.anchor_day.and_then(|day| i8::try_from(day).ok());
        let day = day.unwrap_or(1);
        match settings.period {
            Period::Minute => every(MINUTE),
            Period::Hour => every(HOUR),
            Period::Day => every(DAY),
            Period::Week => Rule::Seconds {
                length: WEEK,
                origin: first_midnight(settings.week_start.unwrap_or(Weekday::Monday)),
            },
            Period::Month => Rule::Months {
                length: 1,
                origin: 0,
                day,
            },
            Period::Year => Rule::Months {
                length: YEAR_IN_MONTHS,
                origin: i64::from(settings.anchor_month.unwrap_or(1)).saturating_sub(1),
                day,
            },
        }
    }
}

/// The first midnight since 1970-01-01, which was a Thursday, that begins such a day.
fn first_midnight(weekday: Weekday) -> i64 {
    match weekday {
        Weekday::Thursday => 0,
        Weekday::Friday => DAY,
        Weekday::Saturday => 2 * DAY,
        Weekday::Sunday => 3 * DAY,
        Weekday::Monday => 4 * DAY,
        Weekday::Tuesday => 5 * DAY,
        Weekday::Wednesday => 6 * DAY,
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// Settings written as `period offset key=value…`.
    fn settings(text: &str) -> Settings {
        let mut words = text.split(' ');
        let period = words.next().unwrap().parse().unwrap();
        let mut settings = Settings::every(period);
        for word in words {
            match word.split_once('=') {
                None => settings.offset = word.parse().unwrap(),
                Some(("start", day)) => settings.week_start = Some(day.parse().unwrap()),
                Some(("day", day)) => settings.anchor_day = Some(day.parse().unwrap()),
                Some(("month", month)) => settings.anchor_month = Some(month.parse().unwrap()),
                Some((other, _)) => panic!("{other}"),
            }
        }
        settings
    }

    fn calendar(text: &str) -> Calendar {
        Calendar::new(settings(text)).unwrap()
    }

    fn instant(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    /// Checks the window at an instant against its RFC 3339 bounds.
    fn check(settings: &str, at: &str, start: &str, end: &str) {
        let window = calendar(settings).window(instant(at));
        let expected = Window {
            start: instant(start),
            end: instant(end),
        };
        assert_eq!(window, expected, "{settings} at {at}");
    }

    /// The same with dates in UTC.
    fn check_dates(settings: &str, at: &str, start: &str, end: &str) {
        let midnight = |date| format!("{date}T00:00:00Z");
        let last_second = format!("{at}T23:59:59Z");
        for at in [midnight(at), last_second] {
            check(settings, &at, &midnight(start), &midnight(end));
        }
    }

    #[test]
    fn short_windows_begin_on_the_clock_on_the_wall() {
        let at = "2026-03-10T21:47:31Z";
        for (settings, start, end) in [
            ("minute", "2026-03-10T21:47:00Z", "2026-03-10T21:48:00Z"),
            ("hour", "2026-03-10T21:00:00Z", "2026-03-10T22:00:00Z"),
            ("day", "2026-03-10T00:00:00Z", "2026-03-11T00:00:00Z"),
            (
                "hour +05:30",
                "2026-03-10T21:30:00Z",
                "2026-03-10T22:30:00Z",
            ),
            (
                "hour +05:45",
                "2026-03-10T21:15:00Z",
                "2026-03-10T22:15:00Z",
            ),
            ("day +02:00", "2026-03-09T22:00:00Z", "2026-03-10T22:00:00Z"),
            ("day -05:30", "2026-03-10T05:30:00Z", "2026-03-11T05:30:00Z"),
            ("day +14:00", "2026-03-10T10:00:00Z", "2026-03-11T10:00:00Z"),
        ] {
            check(settings, at, start, end);
        }
    }

    #[test]
    fn weeks_start_with_their_day() {
        // 2026-03-11 is a Wednesday.
        for (settings, start, end) in [
            ("week", "2026-03-09", "2026-03-16"),
            ("week start=monday", "2026-03-09", "2026-03-16"),
            ("week start=tuesday", "2026-03-10", "2026-03-17"),
            ("week start=wednesday", "2026-03-11", "2026-03-18"),
            ("week start=thursday", "2026-03-05", "2026-03-12"),
            ("week start=friday", "2026-03-06", "2026-03-13"),
            ("week start=saturday", "2026-03-07", "2026-03-14"),
            ("week start=sunday", "2026-03-08", "2026-03-15"),
        ] {
            check_dates(settings, "2026-03-11", start, end);
        }
        check_dates("week", "1969-12-31", "1969-12-29", "1970-01-05");
    }

    #[test]
    fn months_end_in_their_own_length() {
        for (at, start, end) in [
            ("2026-01-31", "2026-01-01", "2026-02-01"),
            ("2026-02-28", "2026-02-01", "2026-03-01"),
            ("2028-02-29", "2028-02-01", "2028-03-01"),
            ("2026-12-31", "2026-12-01", "2027-01-01"),
        ] {
            check_dates("month", at, start, end);
        }
    }

    #[test]
    fn an_anchor_day_that_a_month_lacks_is_its_last() {
        for (settings, at, start, end) in [
            ("month day=31", "2026-01-30", "2025-12-31", "2026-01-31"),
            ("month day=31", "2026-01-31", "2026-01-31", "2026-02-28"),
            ("month day=31", "2026-02-27", "2026-01-31", "2026-02-28"),
            ("month day=31", "2026-02-28", "2026-02-28", "2026-03-31"),
            ("month day=31", "2026-03-30", "2026-02-28", "2026-03-31"),
            ("month day=31", "2026-04-30", "2026-04-30", "2026-05-31"),
            ("month day=31", "2028-02-28", "2028-01-31", "2028-02-29"),
            ("month day=31", "2028-02-29", "2028-02-29", "2028-03-31"),
            ("month day=30", "2026-03-01", "2026-02-28", "2026-03-30"),
            ("month day=29", "2026-02-28", "2026-02-28", "2026-03-29"),
            ("month day=29", "2028-02-28", "2028-01-29", "2028-02-29"),
            // 2000 was a leap year, 2100 is none.
            ("month day=29", "2000-02-29", "2000-02-29", "2000-03-29"),
            ("month day=29", "2100-02-28", "2100-02-28", "2100-03-29"),
            ("month day=15", "2026-01-14", "2025-12-15", "2026-01-15"),
            ("month day=15", "2026-12-15", "2026-12-15", "2027-01-15"),
        ] {
            check_dates(settings, at, start, end);
        }
    }

    #[test]
    fn years_start_with_their_anchor() {
        for (settings, at, start, end) in [
            ("year", "2026-01-01", "2026-01-01", "2027-01-01"),
            ("year", "2026-12-31", "2026-01-01", "2027-01-01"),
            ("year month=4", "2026-03-31", "2025-04-01", "2026-04-01"),
            ("year month=4", "2026-04-01", "2026-04-01", "2027-04-01"),
            (
                "year month=4 day=6",
                "2026-04-05",
                "2025-04-06",
                "2026-04-06",
            ),
            (
                "year month=4 day=6",
                "2026-04-06",
                "2026-04-06",
                "2027-04-06",
            ),
            (
                "year month=12 day=31",
                "2026-12-31",
                "2026-12-31",
                "2027-12-31",
            ),
            (
                "year month=12 day=31",
                "2026-12-30",
                "2025-12-31",
                "2026-12-31",
            ),
            ("year day=15", "2026-01-14", "2025-01-15", "2026-01-15"),
            (
                "year month=2 day=29",
                "2026-02-27",
                "2025-02-28",
                "2026-02-28",
            ),
            (
                "year month=2 day=29",
                "2026-02-28",
                "2026-02-28",
                "2027-02-28",
            ),
            (
                "year month=2 day=29",
                "2028-02-28",
                "2027-02-28",
                "2028-02-29",
            ),
            (
                "year month=2 day=29",
                "2028-02-29",
                "2028-02-29",
                "2029-02-28",
            ),
        ] {
            check_dates(settings, at, start, end);
        }
    }

    #[test]
    fn long_windows_begin_at_midnight_on_the_wall() {
        for (settings, at, start, end) in [
            (
                "month +02:00",
                "2026-02-28T22:00:00Z",
                "2026-02-28T22:00:00Z",
                "2026-03-31T22:00:00Z",
            ),
            (
                "month +02:00",
                "2026-02-28T21:59:59Z",
                "2026-01-31T22:00:00Z",
                "2026-02-28T22:00:00Z",
            ),
            (
                "month -0930 day=31",
                "2028-02-29T09:29:59Z",
                "2028-01-31T09:30:00Z",
                "2028-02-29T09:30:00Z",
            ),
            (
                "week -12 start=sunday",
                "2026-03-08T12:00:00Z",
                "2026-03-08T12:00:00Z",
                "2026-03-15T12:00:00Z",
            ),
            (
                "year +14",
                "2025-12-31T10:00:00Z",
                "2025-12-31T10:00:00Z",
                "2026-12-31T10:00:00Z",
            ),
        ] {
            check(settings, at, start, end);
        }
    }

    #[test]
    fn the_range_is_that_of_its_comments() {
        assert_eq!(EARLIEST, seconds_of(Date::constant(-9997, 1, 1)));
        assert_eq!(LATEST, seconds_of(Date::constant(9998, 1, 1)));
    }

    #[test]
    fn beyond_the_range_there_is_one_window() {
        for text in [
            "minute",
            "day +14:00",
            "week -12:00",
            "month day=31",
            "year month=12 day=31",
        ] {
            let calendar = calendar(text);
            let (first, last) = (calendar.window(i64::MIN), calendar.window(i64::MAX));
            assert_eq!(first.start, i64::MIN);
            assert_eq!(last.end, i64::MAX);
            assert_eq!(calendar.window(first.end).start, first.end);
            assert_eq!(calendar.window(last.start - 1).end, last.start);
            assert!(first.end <= EARLIEST && LATEST <= last.start);
        }
    }
}
