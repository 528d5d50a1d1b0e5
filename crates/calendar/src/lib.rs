//! The windows of a quota by the civil calendar: minutes, hours, days, weeks, months and years as
//! they begin at a fixed offset from UTC, months and years on an anchor day if wanted.
//!
//! A [`Calendar`] tells which [`Window`] contains an instant. Its windows follow one another without
//! gap or overlap. Instants are whole seconds since the Unix epoch, leap seconds not counted. The
//! time is always an argument, and nothing here fails or panics once a calendar is built.
//!
//! There are no time zones with daylight saving time: their rules change by decree, and a plugin
//! carries no database of them.
//!
//! ```
//! use tollgate_calendar::{Calendar, Period, Settings};
//!
//! let calendar = Calendar::new(Settings {
//!     anchor_day: Some(31),
//!     ..Settings::every(Period::Month)
//! })
//! .unwrap();
//!
//! // 2026-03-01T00:00:00Z is in the window from 28 February to 31 March.
//! let window = calendar.window(1_772_323_200);
//! assert_eq!((window.start, window.end), (1_772_236_800, 1_774_915_200));
//! ```

mod calendar;
mod names;
mod offset;
mod settings;
mod window;

pub use calendar::Calendar;
pub use names::{InvalidPeriod, InvalidWeekday, Period, Weekday};
pub use offset::{InvalidUtcOffset, UtcOffset};
pub use settings::{InvalidCalendar, InvalidSetting, Settings};
pub use window::Window;
