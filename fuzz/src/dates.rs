//! Dates, times that come again, durations, rates and sizes of the configuration.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use tollgate_calendar::{Calendar, Period, Settings, UtcOffset, Weekday, Window};
use tollgate_core::units::{Rate, Size, Span};
use tollgate_lifecycle::Cron;

/// The text is tried as each of them; the first bytes are an instant.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    check_rate(&text);
    round_trip::<Size>(&text);
    round_trip::<Span>(&text);
    round_trip::<UtcOffset>(&text);
    explained::<Period>(&text);
    explained::<Weekday>(&text);
    let Some((instant, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let at = i64::from_le_bytes(*instant);
    check_calendar(at, rest);
    if let Some(cron) = explained::<Cron>(&String::from_utf8_lossy(rest)) {
        check_cron(cron, at);
    }
}

/// What is read says what it is; what is not is explained in one line.
fn explained<T: FromStr<Err: Display>>(text: &str) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            let error = error.to_string();
            assert!(
                !error.is_empty() && !error.contains(char::is_control),
                "{error:?}"
            );
            None
        }
    }
}

/// What is written is read as the same.
fn round_trip<T: FromStr<Err: Display> + Display + Debug + PartialEq>(text: &str) {
    if let Some(value) = explained::<T>(text) {
        let written = value.to_string();
        assert_eq!(
            explained::<T>(&written).as_ref(),
            Some(&value),
            "{text:?} as {written:?}"
        );
    }
}

/// A rate in another's spelling is written in ours, and means the same.
fn check_rate(text: &str) {
    if let Some(rate) = explained::<Rate>(text) {
        let again = explained::<Rate>(&rate.to_string());
        let meaning = |rate: &Rate| (rate.requests, rate.per, rate.burst_or_default());
        assert_eq!(
            again.as_ref().map(meaning),
            Some(meaning(&rate)),
            "{text:?} as {rate}"
        );
    }
}

/// Every instant is in its window, and windows follow one another without a gap.
fn check_calendar(at: i64, rest: &[u8]) {
    let [period, anchor, offset, ..] = rest else {
        return;
    };
    let period = Period::ALL[usize::from(*period) % Period::ALL.len()];
    let offset = format!("+{:02}:{:02}", offset % 24, offset % 60);
    let settings = Settings {
        anchor_day: (anchor % 32 != 0).then_some(anchor % 32),
        offset: offset.parse().unwrap_or(UtcOffset::UTC),
        ..Settings::every(period)
    };
    let Ok(calendar) = Calendar::new(settings) else {
        return;
    };
    let window = calendar.window(at);
    assert!(window.start <= window.end);
    // From the year 9998 on, and windows may be a year long, instants are clamped.
    if (0..253_000_000_000).contains(&at) {
        assert!(window.contains(at), "{window:?} {at}");
        assert_eq!(calendar.window(window.start), window);
        assert_eq!(calendar.window(window.end).start, window.end);
        assert_eq!(calendar.window(window.end.saturating_sub(1)), window);
    }
}

fn check_cron(cron: Cron, at: i64) {
    let start = at.rem_euclid(4_102_444_800);
    let within = Window {
        start,
        end: start + 3 * 86_400,
    };
    let mut before = i64::MIN;
    for time in cron.times(within, UtcOffset::UTC) {
        assert!(
            within.contains(time) && time > before && time % 60 == 0,
            "{time} in {within:?}"
        );
        before = time;
    }
}
