//! The `sunset` section, as it is written.

use deserr::{DeserializeError, Deserr, IntoValue, Value, ValuePointerRef};
use tollgate_calendar::UtcOffset;
use tollgate_core::config::{ConfigErrors, OneOrMany, Table, parse_text};
use tollgate_core::headers::FieldName;
use tollgate_core::name::Name;
use tollgate_core::policy::Mode;
use tollgate_core::time::Instant3339;
use tollgate_core::units::Span;

use crate::cron::Cron;
use crate::media_type::MediaRange;
use crate::successor::Successor;
use crate::uri::Docs;

/// A version of one or more APIs, and its life.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct VersionConfig {
    /// The API.
    #[deserr(default)]
    pub api: Option<Name>,
    /// In place of `api`, several whose versions live alike.
    #[deserr(default)]
    pub apis: Option<Vec<Name>>,
    /// Which requests of the API are for the version: those that fit one of these. If absent, the
    /// API itself is the version.
    #[deserr(default)]
    pub version: OneOrMany<SelectorConfig>,
    /// Since when it is deprecated, or from when on it will be. Only a hint: requests are served.
    #[deserr(default)]
    pub deprecated: Option<Instant3339>,
    /// When it ends, not before it is deprecated.
    #[deserr(default)]
    pub sunset: Option<Instant3339>,
    /// Where the same is in the next version.
    #[deserr(default)]
    pub successor: Option<Successor>,
    /// Where the same is in the latest version.
    #[deserr(default)]
    pub latest: Option<Successor>,
    /// Where people read about it: linked as `deprecation` and `sunset`.
    #[deserr(default)]
    pub docs: Option<Docs>,
    /// What becomes of requests after the sunset.
    #[deserr(default)]
    pub after_sunset: AfterSunset,
    /// When it goes dark for practice, between deprecation and sunset.
    #[deserr(default)]
    pub brownouts: Vec<BrownoutConfig>,
    /// Consumers for whom it ends later, and when. They see no brownouts.
    #[deserr(default)]
    pub grace: Table<Instant3339, Name>,
    /// Whether the deprecation is told as `true`, for clients that know only early drafts.
    #[deserr(default)]
    pub legacy_deprecation_true: bool,
    /// Whether refusals are given or only counted.
    #[deserr(default)]
    pub mode: Mode,
}

/// Where a request names the version: one of `header`, `query` and `media_type`.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct SelectorConfig {
    /// A header.
    #[deserr(default)]
    pub header: Option<FieldName>,
    /// A parameter of the query.
    #[deserr(default)]
    pub query: Option<String>,
    /// A media type in `Accept` or `Content-Type`.
    #[deserr(default)]
    pub media_type: Option<MediaRange>,
    /// What the header or parameter has, letter by letter: one of these.
    #[deserr(default)]
    pub value: OneOrMany<String>,
    /// Whether requests are for this version too that name none in a header or parameter given here.
    #[deserr(default)]
    pub default: bool,
}

/// What becomes of requests after the sunset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum AfterSunset {
    /// They are answered with 410.
    #[default]
    Gone,
    /// They are sent on to the successor, with 308.
    Redirect,
    /// They are served; the sunset is only a hint.
    Pass,
}

/// When a version goes dark for practice.
///
/// - `{ at: "0 9 * * MON", for: 15m }`: on a schedule;
/// - `{ ramp: { period: 1h, first: 1m, last: 30m } }`: at the beginning of every period, for longer
///   each time;
/// - `{ from: 2026-11-20T09:00:00Z, for: 12h }`, or with `until`: once.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct BrownoutConfig {
    /// When it begins.
    #[deserr(default)]
    pub at: Option<Cron>,
    /// For how long.
    #[deserr(default, rename = "for")]
    pub length: Option<Span>,
    /// The clock on the wall that `at` goes by; UTC if absent.
    #[deserr(default)]
    pub utc_offset: Option<Offset>,
    /// A growing share of each period.
    #[deserr(default)]
    pub ramp: Option<RampConfig>,
    /// Since when; since the deprecation if absent.
    #[deserr(default)]
    pub from: Option<Instant3339>,
    /// Until when; until the sunset if absent.
    #[deserr(default)]
    pub until: Option<Instant3339>,
    /// The answer. Where two brownouts meet, that of the one written first.
    #[deserr(default)]
    pub answer: Answer,
}

/// Brownouts that grow evenly from period to period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct RampConfig {
    /// How far apart they begin.
    pub period: Span,
    /// How long the first is.
    pub first: Span,
    /// How long the last is: at most a period.
    pub last: Span,
}

/// How a request is answered during a brownout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Answer {
    /// With 410, as after the sunset: no client rides it out by trying again.
    #[default]
    Gone,
    /// With 503, and when it is over in `Retry-After`.
    Unavailable,
}

/// `+02:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(pub UtcOffset);

impl<E: DeserializeError> Deserr<E> for Offset {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, E> {
        parse_text(value, location, |text| {
            text.parse()
                .map(Offset)
                .map_err(|error: tollgate_calendar::InvalidUtcOffset| error.to_string())
        })
    }
}
