//! A stretch of time.

/// The instants from `start` to just before `end`, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first instant inside.
    pub start: i64,
    /// The first instant after.
    pub end: i64,
}

impl Window {
    /// Whether the instant `at` is inside.
    pub fn contains(&self, at: i64) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether all of `other` is inside. A window encloses itself.
    pub fn encloses(&self, other: &Window) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The seconds from `now` to the end: 0 after the window, more than its length before it.
    pub fn remaining_seconds(&self, now: i64) -> u64 {
        seconds_between(now, self.end)
    }

    /// The seconds from start to end.
    pub fn length_seconds(&self) -> u64 {
        seconds_between(self.start, self.end)
    }
}

fn seconds_between(from: i64, to: i64) -> u64 {
    match from < to {
        true => to.abs_diff(from),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const WINDOW: Window = Window { start: 10, end: 20 };

    #[test]
    fn the_start_is_inside_and_the_end_is_not() {
        for (at, inside) in [(9, false), (10, true), (19, true), (20, false)] {
            assert_eq!(WINDOW.contains(at), inside, "{at}");
        }
    }

    #[test]
    fn a_window_encloses_what_does_not_stick_out() {
        for (start, end, enclosed) in [
            (10, 20, true),
            (11, 19, true),
            (9, 20, false),
            (10, 21, false),
            (20, 30, false),
        ] {
            assert_eq!(WINDOW.encloses(&Window { start, end }), enclosed);
        }
    }

    #[test]
    fn what_remains_ends_with_the_window() {
        for (now, remaining) in [(5, 15), (10, 10), (19, 1), (20, 0), (i64::MAX, 0)] {
            assert_eq!(WINDOW.remaining_seconds(now), remaining, "{now}");
        }
        assert_eq!(WINDOW.length_seconds(), 10);
        let all = Window {
            start: i64::MIN,
            end: i64::MAX,
        };
        assert_eq!(all.remaining_seconds(i64::MIN), u64::MAX);
        assert_eq!(all.length_seconds(), u64::MAX);
    }
}
