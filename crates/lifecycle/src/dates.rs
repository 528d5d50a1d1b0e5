//! `Deprecation` (RFC 9745) and `Sunset` (RFC 8594).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tollgate_core::time::Timestamp;

/// Since when a version is deprecated, or from when on it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprecation {
    at: i64,
    value: Arc<str>,
    legacy: bool,
}

impl Deprecation {
    /// Deprecated from this instant on, in whole seconds.
    pub fn new(at: Timestamp) -> Self {
        let at = at.as_seconds();
        Deprecation {
            at,
            value: format!("@{at}").into(),
            legacy: false,
        }
    }

    /// The same, written `true` as in early drafts, for clients that know nothing else. `true` says
    /// that it has come, so nothing is said before.
    pub fn legacy(at: Timestamp) -> Self {
        Deprecation {
            at: at.as_seconds(),
            value: LEGACY.into(),
            legacy: true,
        }
    }

    /// The field's value: a Date of structured fields, as `@1688169599`.
    pub fn value(&self, now: Timestamp) -> Option<&str> {
        self.as_shared(now).map(|text| &**text)
    }

    /// The same, to be set without being copied.
    pub fn as_shared(&self, now: Timestamp) -> Option<&Arc<str>> {
        (!self.legacy || self.at <= now.as_seconds()).then_some(&self.value)
    }
}

const LEGACY: &str = "true";

/// When a version ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sunset {
    at: i64,
    value: Arc<str>,
}

impl Sunset {
    /// Ends at this instant, in whole seconds.
    pub fn new(at: Timestamp) -> Self {
        let at = at.as_seconds();
        Sunset {
            at,
            value: http_date(at).into(),
        }
    }

    /// The field's value: an IMF-fixdate (RFC 9110 section 5.6.7), as
    /// `Sat, 31 Dec 2018 23:59:59 GMT`.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The same, to be set without being copied.
    pub fn as_shared(&self) -> &Arc<str> {
        &self.value
    }
}

/// What becomes of a field that the upstream may have set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged<'a> {
    /// It stays as it is; if there is none, none is set.
    Keep,
    /// It is set to this one value.
    Set(Cow<'a, str>),
}

/// Merges `Deprecation` with the values that the upstream has set: the earlier date is kept.
///
/// The field has one value, so of several the earliest is kept, and the others go. A value that is
/// no Date goes too: to a client it says nothing, and beside another it makes that void. Dates in
/// the form of HTTP, of early drafts, are read, and written anew if they are the earliest. `true` of
/// those drafts has no date; it stays as long as our own has not come, and then our own says more.
///
/// In [legacy](Deprecation::legacy) form our own replaces all others from the date on.
pub fn merge_deprecation<'a>(
    own: &'a Deprecation,
    now: Timestamp,
    upstream: &[&[u8]],
) -> Merged<'a> {
    let Some(value) = own.value(now) else {
        return Merged::Keep;
    };
    if own.legacy {
        return keep_if_same(value, upstream);
    }
    let stated: Vec<Stated> = upstream
        .iter()
        .filter_map(|value| Stated::parse(value))
        .collect();
    let dates = stated.iter().filter_map(|stated| match stated {
        Stated::At(at) => Some(*at),
        Stated::Already => None,
    });
    let earliest = dates.fold(own.at, i64::min);
    if earliest > now.as_seconds() && stated.contains(&Stated::Already) {
        return Merged::Keep;
    }
    match earliest < own.at {
        true => set_unless_same(Cow::Owned(format!("@{earliest}")), upstream),
        false => keep_if_same(value, upstream),
    }
}

/// Merges `Sunset` with the values that the upstream has set: the earlier date is kept.
///
/// Of several the earliest is kept. A value that is no date goes. All three forms of an HTTP date
/// are read, and one that ends with `UTC`, as in an example that some have copied; they are written
/// as IMF-fixdate if they are the earliest.
///
/// `general` is the end for those who have none of their own. The upstream knows nothing of a later one
/// for somebody, so that date is passed over.
pub fn merge_sunset<'a>(own: &'a Sunset, general: &Sunset, upstream: &[&[u8]]) -> Merged<'a> {
    let dates = upstream.iter().filter_map(|value| parse_http_date(value));
    let dates = dates.filter(|date| *date != general.at);
    let earliest = dates.fold(own.at, i64::min);
    match earliest < own.at {
        true => set_unless_same(Cow::Owned(http_date(earliest)), upstream),
        false => keep_if_same(own.value(), upstream),
    }
}

fn keep_if_same<'a>(value: &'a str, upstream: &[&[u8]]) -> Merged<'a> {
    set_unless_same(Cow::Borrowed(value), upstream)
}

fn set_unless_same<'a>(value: Cow<'a, str>, upstream: &[&[u8]]) -> Merged<'a> {
    match upstream {
        [only] if *only == value.as_bytes() => Merged::Keep,
        _ => Merged::Set(value),
    }
}

/// What an upstream says about deprecation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stated {
    At(i64),
    Already,
}

impl Stated {
    fn parse(value: &[u8]) -> Option<Stated> {
        let value = value.trim_ascii();
        if value.eq_ignore_ascii_case(LEGACY.as_bytes()) || value == b"?1" {
            return Some(Stated::Already);
        }
        parse_sf_date(value)
            .or_else(|| parse_http_date(value))
            .map(Stated::At)
    }
}

/// Reads an Item that is a Date (RFC 9651 section 4.2.9); its parameters are left aside.
fn parse_sf_date(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (date, _) = text.split_once(';').unwrap_or((text, ""));
    let number = date.strip_prefix('@')?;
    let digits = number.strip_prefix('-').unwrap_or(number);
    let valid =
        (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| number.parse().ok())?
}

/// Reads a date of HTTP, from 1970 to 9999.
fn parse_http_date(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?.trim_ascii();
    let date = match text.strip_suffix(" UTC") {
        Some(date) => httpdate::parse_http_date(&format!("{date} GMT")),
        None => httpdate::parse_http_date(text),
    };
    let since = date.ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// Writes an instant as IMF-fixdate, at the latest the last of the year 9999.
fn http_date(at: i64) -> String {
    const LAST: i64 = 253_402_300_799;
    let seconds = u64::try_from(at.min(LAST)).unwrap_or_default();
    let date = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    httpdate::fmt_http_date(date.unwrap_or(UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn merged(own: Merged<'_>) -> String {
        match own {
            Merged::Keep => "keep".to_owned(),
            Merged::Set(value) => value.into_owned(),
        }
    }

    fn bytes<'a>(values: &'a [&'a str]) -> Vec<&'a [u8]> {
        values.iter().map(|value| value.as_bytes()).collect()
    }

    #[test]
    fn the_examples_of_the_standards() {
        assert_eq!(
            Deprecation::new(at(1_688_169_599)).value(at(0)),
            Some("@1688169599")
        );
        let sunset = Sunset::new(at(1_546_300_799));
        assert_eq!(sunset.value(), "Mon, 31 Dec 2018 23:59:59 GMT");
    }

    #[test]
    fn a_legacy_deprecation_is_told_when_it_has_come() {
        let legacy = Deprecation::legacy(at(100));
        for (now, value) in [
            (99, None),
            (100, Some("true")),
            (101, Some("true")),
            (99, None),
        ] {
            assert_eq!(legacy.value(at(now)), value, "{now}");
        }
        for (now, upstream, expected) in [
            (99, &["@50"][..], "keep"),
            (100, &["@50"], "true"),
            (100, &["true"], "keep"),
            (100, &[], "true"),
        ] {
            assert_eq!(
                merged(merge_deprecation(&legacy, at(now), &bytes(upstream))),
                expected
            );
        }
    }

    #[test]
    fn the_earlier_deprecation_is_kept() {
        let own = Deprecation::new(at(1_000));
        for (now, upstream, expected) in [
            (0, &[][..], "@1000"),
            (0, &["@1000"], "keep"),
            (0, &["@999"], "keep"),
            (0, &["@-5"], "keep"),
            (0, &[" @999 "], "@999"),
            (0, &["@999;a=b"], "@999"),
            (0, &["@1001"], "@1000"),
            (0, &["@900", "@800"], "@800"),
            (0, &["@900", "soon"], "@900"),
            (0, &["soon"], "@1000"),
            (0, &["999"], "@1000"),
            (0, &["@9999999999999999"], "@1000"),
            (0, &["@1.5"], "@1000"),
            (0, &["@+5"], "@1000"),
            (0, &["@"], "@1000"),
            (0, &["Thu, 01 Jan 1970 00:15:00 GMT"], "@900"),
            // `true` says that it has come, which our own does only later.
            (999, &["true"], "keep"),
            (999, &["?1"], "keep"),
            (999, &["true", "@2000"], "keep"),
            (999, &["true", "@900"], "@900"),
            (1_000, &["true"], "@1000"),
        ] {
            let found = merged(merge_deprecation(&own, at(now), &bytes(upstream)));
            assert_eq!(found, expected, "{now} {upstream:?}");
        }
        assert_eq!(merged(merge_deprecation(&own, at(0), &[b"\xff"])), "@1000");
    }

    #[test]
    fn the_earlier_sunset_is_kept() {
        // Fri, 31 Dec 1999 23:59:59 GMT.
        let own = Sunset::new(at(946_684_799));
        let same = own.value();
        for (upstream, expected) in [
            (&[][..], same),
            (&["Fri, 31 Dec 1999 23:59:59 GMT"], "keep"),
            (&["Fri, 31 Dec 1999 23:59:58 GMT"], "keep"),
            (&["Sat, 01 Jan 2000 00:00:00 GMT"], same),
            (
                &["Fri, 31 Dec 1999 23:59:58 UTC"],
                "Fri, 31 Dec 1999 23:59:58 GMT",
            ),
            (
                &["Sunday, 06-Nov-94 08:49:37 GMT"],
                "Sun, 06 Nov 1994 08:49:37 GMT",
            ),
            (
                &["Sun Nov  6 08:49:37 1994"],
                "Sun, 06 Nov 1994 08:49:37 GMT",
            ),
            (
                &[
                    "Fri, 31 Dec 1999 23:59:58 GMT",
                    "Fri, 31 Dec 1999 23:59:57 GMT",
                ],
                "Fri, 31 Dec 1999 23:59:57 GMT",
            ),
            (&["1999-12-31T00:00:00Z"], same),
            (&["@5"], same),
            // Not a Monday.
            (&["Mon, 31 Dec 1998 23:59:59 GMT"], same),
            (&["Wed, 31 Feb 1999 23:59:59 GMT"], same),
        ] {
            assert_eq!(
                merged(merge_sunset(&own, &own, &bytes(upstream))),
                expected,
                "{upstream:?}"
            );
        }
        assert_eq!(merged(merge_sunset(&own, &own, &[b"\xff"])), same);
    }

    #[test]
    fn the_general_end_does_not_shorten_a_later_one() {
        let (own, general) = (
            Sunset::new(at(2_000_000_000)),
            Sunset::new(at(1_900_000_000)),
        );
        let earlier = Sunset::new(at(1_800_000_000));
        for (upstream, expected) in [
            (&[general.value()][..], own.value()),
            (&[general.value(), earlier.value()], earlier.value()),
            (&[own.value()], "keep"),
            (&[], own.value()),
        ] {
            let found = merged(merge_sunset(&own, &general, &bytes(upstream)));
            assert_eq!(found, expected, "{upstream:?}");
        }
    }

    proptest! {
        #[test]
        fn values_are_read_back(seconds in 0_u64..18_446_744_073) {
            let deprecation = Deprecation::new(at(seconds));
            let value = deprecation.value(at(0)).unwrap();
            let item: sfv::Item = sfv::Parser::new(value)
                .with_version(sfv::Version::Rfc9651)
                .parse()
                .unwrap();
            let date = item.bare_item.as_date().unwrap();
            prop_assert_eq!(i64::from(date.unix_seconds()), i64::try_from(seconds).unwrap());
            prop_assert_eq!(parse_sf_date(value.as_bytes()), i64::try_from(seconds).ok());

            let sunset = Sunset::new(at(seconds));
            prop_assert!(sunset.value().len() == 29 && sunset.value().ends_with(" GMT"));
            prop_assert_eq!(parse_http_date(sunset.value().as_bytes()), i64::try_from(seconds).ok());
            // Another library reads the same.
            let read = jiff::fmt::rfc2822::parse(sunset.value()).unwrap();
            prop_assert_eq!(read.timestamp().as_second(), i64::try_from(seconds).unwrap());
        }

        #[test]
        fn of_two_dates_the_earlier_is_kept(own in 0_u64..9_999_999_999, other in 0_u64..9_999_999_999) {
            let theirs = Deprecation::new(at(other));
            let deprecation = Deprecation::new(at(own));
            let value = theirs.value(at(0)).unwrap();
            let found = merge_deprecation(&deprecation, at(0), &[value.as_bytes()]);
            let expected = if other <= own { Merged::Keep } else { Merged::Set(format!("@{own}").into()) };
            prop_assert_eq!(found, expected);

            let (sunset, theirs) = (Sunset::new(at(own)), Sunset::new(at(other)));
            let found = merge_sunset(&sunset, &sunset, &[theirs.value().as_bytes()]);
            let expected = if other <= own { Merged::Keep } else { Merged::Set(sunset.value().into()) };
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_value_panics(value in prop::collection::vec(any::<u8>(), 0..40), text in "[@0-9A-Za-z,: -]{0,32}") {
            for value in [&value, text.as_bytes()] {
                Stated::parse(value);
            }
        }
    }
}
