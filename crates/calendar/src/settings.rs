//! What a calendar is made from.

use std::fmt;

use crate::{Period, UtcOffset, Weekday};

/// What a [`Calendar`](crate::Calendar) is made from.
///
/// What is `None` takes its default; setting what the period has no use for is a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long the windows are.
    pub period: Period,
    /// The clock on the wall whose midnight counts.
    pub offset: UtcOffset,
    /// The day that weeks start with, Monday by default.
    pub week_start: Option<Weekday>,
    /// The day of the month, 1 to 31, that months and years start with, 1 by default. In a month
    /// that is shorter it is the last day.
    pub anchor_day: Option<u8>,
    /// The month, 1 to 12, that years start with, January by default.
    pub anchor_month: Option<u8>,
}

impl Settings {
    /// The usual windows of `period`, in UTC.
    pub fn every(period: Period) -> Settings {
        Settings {
            period,
            offset: UtcOffset::UTC,
            week_start: None,
            anchor_day: None,
            anchor_month: None,
        }
    }

    /// All that is wrong with them, if anything is.
    pub(crate) fn validate(&self) -> Result<(), InvalidCalendar> {
        let Settings { period, .. } = *self;
        let mut mistakes = Vec::new();
        if self.week_start.is_some() && period != Period::Week {
            mistakes.push(InvalidSetting::WeekStartWithout { period });
        }
        if let Some(found) = self.anchor_day {
            if !matches!(period, Period::Month | Period::Year) {
                mistakes.push(InvalidSetting::AnchorDayWithout { period });
            } else if !(1..=31).contains(&found) {
                mistakes.push(InvalidSetting::AnchorDayOutOfRange { found });
            }
        }
        if let Some(found) = self.anchor_month {
            if period != Period::Year {
                mistakes.push(InvalidSetting::AnchorMonthWithout { period });
            } else if !(1..=12).contains(&found) {
                mistakes.push(InvalidSetting::AnchorMonthOutOfRange { found });
            }
        }
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(InvalidCalendar { mistakes }),
        }
    }
}

/// Settings that make no calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidCalendar {
    mistakes: Vec<InvalidSetting>,
}

impl InvalidCalendar {
    /// All that is wrong, at least one.
    pub fn mistakes(&self) -> &[InvalidSetting] {
        &self.mistakes
    }
}

impl fmt::Display for InvalidCalendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidCalendar {}

/// One setting that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidSetting {
    /// Only weeks have a day that they start with.
    WeekStartWithout {
        /// The period asked for.
        period: Period,
    },
    /// Only months and years have an anchor day.
    AnchorDayWithout {
        /// The period asked for.
        period: Period,
    },
    /// Only years have an anchor month.
    AnchorMonthWithout {
        /// The period asked for.
        period: Period,
    },
    /// No month has such a day.
    AnchorDayOutOfRange {
        /// The day asked for.
        found: u8,
    },
    /// There is no such month.
    AnchorMonthOutOfRange {
        /// The month asked for.
        found: u8,
    },
}

impl InvalidSetting {
    /// The field of [`Settings`] that is at fault.
    pub fn field(&self) -> &'static str {
        match self {
            InvalidSetting::WeekStartWithout { .. } => "week_start",
            InvalidSetting::AnchorDayWithout { .. }
            | InvalidSetting::AnchorDayOutOfRange { .. } => "anchor_day",
            InvalidSetting::AnchorMonthWithout { .. }
            | InvalidSetting::AnchorMonthOutOfRange { .. } => "anchor_month",
        }
    }
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field();
        let without = |f: &mut fmt::Formatter<'_>, period, expected| {
            write!(
                f,
                "{field} does nothing with the period {period}, expected it only with {expected}: \
                 remove it"
            )
        };
        match self {
            InvalidSetting::WeekStartWithout { period } => without(f, period, "week"),
            InvalidSetting::AnchorDayWithout { period } => without(f, period, "month or year"),
            InvalidSetting::AnchorMonthWithout { period } => without(f, period, "year"),
            InvalidSetting::AnchorDayOutOfRange { found } => write!(
                f,
                "{field} is {found}, expected 1 to 31, where 31 is the last day of every month"
            ),
            InvalidSetting::AnchorMonthOutOfRange { found } => {
                write!(f, "{field} is {found}, expected 1 to 12")
            }
        }
    }
}

impl std::error::Error for InvalidSetting {}
#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::Calendar;

    #[test]
    fn settings_that_the_period_has_no_use_for_are_refused() {
        let base = Settings::every;
        for (settings, expected) in [
            (
                Settings {
                    anchor_day: Some(1),
                    ..base(Period::Day)
                },
                "anchor_day does nothing with the period day, expected it only with month or \
                 year: remove it",
            ),
            (
                Settings {
                    anchor_month: Some(1),
                    ..base(Period::Month)
                },
                "anchor_month does nothing with the period month, expected it only with year: \
                 remove it",
            ),
            (
                Settings {
                    week_start: Some(Weekday::Monday),
                    ..base(Period::Month)
                },
                "week_start does nothing with the period month, expected it only with week: \
                 remove it",
            ),
        ] {
            let error = Calendar::new(settings).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn anchors_that_do_not_exist_are_refused() {
        let base = Settings::every;
        for (settings, expected) in [
            (
                Settings {
                    anchor_day: Some(32),
                    ..base(Period::Month)
                },
                "anchor_day is 32, expected 1 to 31, where 31 is the last day of every month",
            ),
            (
                Settings {
                    anchor_month: Some(13),
                    ..base(Period::Year)
                },
                "anchor_month is 13, expected 1 to 12",
            ),
        ] {
            let error = Calendar::new(settings).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_field() {
        for (period, anchor, fields) in [
            (
                Period::Minute,
                1,
                vec!["week_start", "anchor_day", "anchor_month"],
            ),
            (
                Period::Day,
                1,
                vec!["week_start", "anchor_day", "anchor_month"],
            ),
            (Period::Week, 1, vec!["anchor_day", "anchor_month"]),
            (Period::Month, 1, vec!["week_start", "anchor_month"]),
            (
                Period::Month,
                0,
                vec!["week_start", "anchor_day", "anchor_month"],
            ),
            (Period::Year, 1, vec!["week_start"]),
            (
                Period::Year,
                0,
                vec!["week_start", "anchor_day", "anchor_month"],
            ),
        ] {
            let error = Calendar::new(Settings {
                week_start: Some(Weekday::Sunday),
                anchor_day: Some(anchor),
                anchor_month: Some(anchor),
                ..Settings::every(period)
            })
            .unwrap_err();
            let found: Vec<&str> = error.mistakes().iter().map(InvalidSetting::field).collect();
            assert_eq!(found, fields);
            let messages = error.to_string();
            for (message, field) in messages.split("; ").zip(fields) {
                assert!(message.starts_with(field), "{messages}");
            }
        }
    }
}
