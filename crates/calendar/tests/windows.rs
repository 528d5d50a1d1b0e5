//! What holds for every calendar: its windows tile the time line, and they are the ones that the
//! civil arithmetic of `jiff` finds in a time zone of that offset.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may fail by a panic"
)]

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan, Zoned};
use proptest::prelude::*;
use tollgate_calendar::{Calendar, Period, Settings, UtcOffset, Weekday, Window};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

const DAY: u64 = 86_400;

fn settings() -> impl Strategy<Value = Settings> {
    let offset = (-12 * 60..=14 * 60_i32).prop_map(|minutes| {
        let sign = if minutes < 0 { '-' } else { '+' };
        let distance = minutes.abs();
        let text = format!("{sign}{:02}:{:02}", distance / 60, distance % 60);
        text.parse::<UtcOffset>().unwrap()
    });
    let anchor_day = prop_oneof![
        Just(None),
        (1..=31_u8).prop_map(Some),
        (28..=31_u8).prop_map(Some)
    ];
    (
        prop::sample::select(Period::ALL),
        offset,
        prop::option::of(prop::sample::select(Weekday::ALL)),
        anchor_day,
        prop::option::of(1..=12_u8),
    )
        .prop_map(
            |(period, offset, week_start, anchor_day, anchor_month)| Settings {
                period,
                offset,
                week_start: week_start.filter(|_| period == Period::Week),
                anchor_day: anchor_day.filter(|_| matches!(period, Period::Month | Period::Year)),
                anchor_month: anchor_month.filter(|_| period == Period::Year),
            },
        )
}

fn seconds(date: &str) -> i64 {
    date.parse::<Timestamp>().unwrap().as_second()
}

/// Instants from 1990 to 2100, many of them around midnight at the end of a month.
fn instant() -> impl Strategy<Value = i64> {
    let around_month_end = (1990..2100_i16, 1..=12_i8, -20..20_i64, -2..3_i64).prop_map(
        |(year, month, hours, rest)| {
            let midnight = Date::new(year, month, 1).unwrap().to_zoned(TimeZone::UTC);
            midnight.unwrap().timestamp().as_second() + hours * 3600 + rest
        },
    );
    prop_oneof![
        seconds("1990-01-01T00:00:00Z")..seconds("2100-12-31T00:00:00Z"),
        around_month_end,
    ]
}

/// The window found day by day, and by the library's own rounding within a day.
fn window_by_jiff(settings: &Settings, at: i64) -> Window {
    let offset = Offset::from_seconds(i32::try_from(settings.offset.seconds()).unwrap()).unwrap();
    let now = Timestamp::from_second(at)
        .unwrap()
        .to_zoned(TimeZone::fixed(offset));
    let (start, end) = match settings.period {
        Period::Minute => {
            let start = now.with().second(0).build().unwrap();
            (start.clone(), start.checked_add(1.minute()).unwrap())
        }
        Period::Hour => {
            let start = now.with().minute(0).second(0).build().unwrap();
            (start.clone(), start.checked_add(1.hour()).unwrap())
        }
        Period::Day | Period::Week | Period::Month | Period::Year => {
            let mut start = now.start_of_day().unwrap();
            while !starts_window(settings, &start) {
                start = start.yesterday().unwrap();
            }
            let mut end = now.start_of_day().unwrap().tomorrow().unwrap();
            while !starts_window(settings, &end) {
                end = end.tomorrow().unwrap();
            }
            (start, end)
        }
    };
    Window {
        start: start.timestamp().as_second(),
        end: end.timestamp().as_second(),
    }
}

fn starts_window(settings: &Settings, midnight: &Zoned) -> bool {
    let anchor_day = i8::try_from(settings.anchor_day.unwrap_or(1)).unwrap();
    let anchor_month = i8::try_from(settings.anchor_month.unwrap_or(1)).unwrap();
    let on_anchor_day = midnight.day() == anchor_day.min(midnight.days_in_month());
    match settings.period {
        Period::Week => {
            let name = settings.week_start.unwrap_or(Weekday::Monday).name();
            format!("{:?}", midnight.weekday()).to_lowercase() == name
        }
        Period::Month => on_anchor_day,
        Period::Year => on_anchor_day && midnight.month() == anchor_month,
        Period::Minute | Period::Hour | Period::Day => true,
    }
}

/// The shortest and the longest window of a period, in seconds.
fn lengths(settings: &Settings) -> (u64, u64) {
    match settings.period {
        Period::Minute => (60, 60),
        Period::Hour => (3600, 3600),
        Period::Day => (DAY, DAY),
        Period::Week => (7 * DAY, 7 * DAY),
        Period::Month => (28 * DAY, 31 * DAY),
        Period::Year => (365 * DAY, 366 * DAY),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_windows_are_those_of_the_civil_calendar(settings in settings(), at in instant()) {
        let calendar = Calendar::new(settings).unwrap();
        prop_assert_eq!(calendar.window(at), window_by_jiff(&settings, at));
    }

    #[test]
    fn windows_are_as_long_as_their_period(settings in settings(), at in instant()) {
        let window = Calendar::new(settings).unwrap().window(at);
        let (shortest, longest) = lengths(&settings);
        prop_assert!((shortest..=longest).contains(&window.length_seconds()));
        prop_assert_eq!(window.remaining_seconds(window.start), window.length_seconds());
        prop_assert!(window.remaining_seconds(at) > 0);
    }

    #[test]
    fn windows_tile_the_time_line(
        settings in settings(),
        at in prop_oneof![
            instant(),
            any::<i64>(),
            -400_000_000_000..400_000_000_000_i64,
            // Where the range of the calculation ends.
            -378_000_000_000..-377_000_000_000_i64,
            253_000_000_000..254_000_000_000_i64,
            Just(i64::MIN),
            Just(i64::MAX - 1),
        ],
    ) {
        let calendar = Calendar::new(settings).unwrap();
        let window = calendar.window(at);
        prop_assert!(window.contains(at));
        prop_assert_eq!(calendar.window(window.start), window);
        prop_assert_eq!(calendar.window(window.end - 1), window);
        if window.start > i64::MIN {
            prop_assert_eq!(calendar.window(window.start - 1).end, window.start);
        }
        if window.end < i64::MAX {
            prop_assert_eq!(calendar.window(window.end).start, window.end);
        }
    }

    #[test]
    fn later_instants_have_later_windows(
        settings in settings(),
        far in prop::collection::vec(any::<i64>(), 2),
        near in prop::collection::vec(instant(), 2..10),
    ) {
        let calendar = Calendar::new(settings).unwrap();
        let mut sorted = [far, near].concat();
        sorted.sort_unstable();
        for pair in sorted.windows(2) {
            let (earlier, later) = (calendar.window(pair[0]), calendar.window(pair[1]));
            prop_assert!(earlier == later || earlier.end <= later.start);
            prop_assert_eq!(earlier == later, earlier.encloses(&later));
        }
    }
}
