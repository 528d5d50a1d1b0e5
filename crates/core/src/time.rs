//! Wall-clock instants. The clock itself belongs to the host; here time is a value.

use std::time::Duration;

/// An instant of the wall clock: nanoseconds since the Unix epoch.
///
/// The wall clock is what several workers share and what `expires` or a calendar is compared with;
/// it can step backwards, so differences saturate at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

impl Timestamp {
    /// An instant given in nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Timestamp(nanos)
    }

    /// An instant given in whole seconds since the Unix epoch, saturating in the year 2554.
    pub const fn from_seconds(seconds: u64) -> Self {
        Timestamp(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn as_seconds(self) -> i64 {
        // At most 2^64 / 10^9, so the cast is exact.
        (self.0 / NANOS_PER_SECOND) as i64
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The instant `span` later, saturating in the year 2554.
    pub fn saturating_add(self, span: Duration) -> Self {
        Timestamp(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// The time since `earlier`, zero if that lies in the future.
    pub fn saturating_since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// An instant as a configuration writes it: RFC 3339, `2027-06-30T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant3339(pub Timestamp);

/// The text is no RFC 3339 date and time since 1970. It is not repeated: in a list of keys it may
/// be a key in the wrong place.
#[derive(Debug)]
pub struct InvalidInstant;

impl std::fmt::Display for InvalidInstant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "expected a date and time with its UTC offset, as 2027-06-30T00:00:00Z, between \
             1970-01-01 and 9999-12-30; leave the field out for never",
        )
    }
}

impl std::str::FromStr for Instant3339 {
    type Err = InvalidInstant;

    fn from_str(text: &str) -> Result<Self, InvalidInstant> {
        let instant: jiff::Timestamp = text.trim().parse().map_err(|_| InvalidInstant)?;
        // The last instant that can be told lies in the year 2554; later ones are as good as never.
        let nanos = instant.as_nanosecond().min(i128::from(u64::MAX));
        let nanos = u64::try_from(nanos).map_err(|_| InvalidInstant)?;
        Ok(Instant3339(Timestamp::from_nanos(nanos)))
    }
}

crate::deserr_from_str!(Instant3339);

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn instants_are_read_from_rfc_3339() {
        let read = |text: &str| {
            text.parse::<Instant3339>()
                .map(|Instant3339(at)| at.as_seconds())
        };
        assert_eq!(read("2027-06-30T00:00:00Z").unwrap(), 1_814_313_600);
        assert_eq!(read("2027-06-30T02:00:00+02:00").unwrap(), 1_814_313_600);
        assert_eq!(read("1970-01-01T00:00:00Z").unwrap(), 0);
        assert_eq!(read("9999-12-30T00:00:00Z").unwrap(), 18_446_744_073);
        for bad in [
            "2027-06-30",
            "2027-06-30T00:00:00",
            "1969-12-31T23:59:59Z",
            "soon",
            "",
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("as 2027-06-30T00:00:00Z"), "{error}");
        }
    }

    #[test]
    fn differences_saturate_when_the_clock_steps_back() {
        let (early, late) = (Timestamp::from_seconds(1), Timestamp::from_seconds(3));
        assert_eq!(late.saturating_since(early), Duration::from_secs(2));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
        assert_eq!(
            Timestamp::from_nanos(u64::MAX)
                .saturating_add(Duration::MAX)
                .as_nanos(),
            u64::MAX
        );
    }
}
