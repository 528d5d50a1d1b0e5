//! When to ask next: spans with a part that is left to chance, so that proxies which started together
//! or lost the issuer together do not ask together.

use std::time::Duration;

use tollgate_core::host::Host;

use crate::settings::Settings;
use crate::state::SHORTEST_PAUSE;

/// A part of a span that is left to chance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance(u32);

impl Chance {
    pub(crate) fn draw<H: Host>(host: &H) -> Chance {
        let mut bytes = [0; 4];
        host.fill_random(&mut bytes);
        Chance(u32::from_le_bytes(bytes))
    }

    /// From nothing up to the whole span.
    fn of(self, span: Duration) -> Duration {
        let product = u128::from(nanos(span)).saturating_mul(u128::from(self.0));
        Duration::from_nanos(u64::try_from(product >> 32).unwrap_or(u64::MAX))
    }
}

/// How long after they were fetched keys are refreshed: 80 % of their lifetime, give or take a tenth
/// of that, but not sooner than a failure is followed by the next attempt.
pub(crate) fn refresh_after(lifetime: Duration, chance: Chance) -> Duration {
    let middle = tenths(lifetime, 8);
    let spread = tenths(middle, 2);
    tenths(middle, 9)
        .saturating_add(chance.of(spread))
        .max(SHORTEST_PAUSE)
}

/// How long to pause after so many failures in a row: one second doubled with each, and of that, from
/// the half to the whole.
pub(crate) fn pause_after(failures: u32, settings: &Settings, chance: Chance) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let longest = settings.max_backoff.max(SHORTEST_PAUSE);
    let span = SHORTEST_PAUSE
        .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
        .min(longest);
    let half = tenths(span, 5);
    half.saturating_add(chance.of(half)).max(SHORTEST_PAUSE)
}

fn tenths(span: Duration, tenths: u64) -> Duration {
    Duration::from_nanos((nanos(span) / 10).saturating_mul(tenths))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_refresh_comes_before_the_keys_are_stale() {
        let after = |seconds, chance| refresh_after(secs(seconds), Chance(chance));
        assert_eq!(after(600, 0), secs(432));
        assert_eq!(after(600, 1 << 31), secs(480));
        assert!(after(600, u32::MAX) > Duration::from_millis(527_999));
        assert_eq!(after(10, 0), Duration::from_millis(7_200));
        assert_eq!(after(10, 1 << 31), secs(8));
        assert_eq!(after(1, 0), secs(1));
    }

    /// Nor do they ask together whose issuer wants to be asked again at once.
    #[test]
    fn the_shortest_lifetime_has_half_a_minute_and_a_part_left_to_chance() {
        let shortest = Settings::default().min_lifetime;
        let after = |chance| refresh_after(shortest, Chance(chance));
        assert!(after(0) >= secs(30) && after(0) < secs(31));
        assert!(after(u32::MAX) > after(0) + secs(6) && after(u32::MAX) < shortest);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let settings = Settings::default();
        let pause = |failures| pause_after(failures, &settings, Chance(0));
        let pauses = [1, 2, 3, 4, 7, 8, u32::MAX].map(pause);
        assert_eq!(pauses, [1, 1, 2, 4, 30, 30, 30].map(secs));
    }

    proptest! {
        #[test]
        fn spans_stay_in_their_bounds(failures: u32, lifetime in 0..u64::MAX, chance: u32) {
            let settings = Settings::default();
            let pause = pause_after(failures, &settings, Chance(chance));
            prop_assert!(pause >= SHORTEST_PAUSE && pause <= settings.max_backoff);
            let lifetime = Duration::from_nanos(lifetime).max(SHORTEST_PAUSE);
            let refresh = refresh_after(lifetime, Chance(chance));
            prop_assert!(refresh >= SHORTEST_PAUSE && refresh <= lifetime);
        }
    }
}
