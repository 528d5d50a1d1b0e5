//! How fast units are used.

/// Binary places of a slope.
const PLACES: u32 = 48;

/// Units per nanosecond, a binary fraction, rounded up so that what it bounds stays bounded. It
/// spares the path of a request a division of 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slope(u64);

impl Slope {
    /// `units` in every `span_ns`; a span of 0 counts as 1.
    pub(crate) fn new(units: u64, span_ns: u64) -> Self {
        let scaled = u128::from(units) << PLACES;
        Slope(narrow(scaled.div_ceil(u128::from(span_ns.max(1)))))
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Slope(bits)
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) fn times(self, factor: u64) -> Self {
        Slope(self.0.saturating_mul(factor))
    }

    /// Seven eighths of it.
    pub(crate) fn decayed(self) -> Self {
        Slope(self.0.saturating_sub(self.0.div_ceil(8)))
    }

    /// The units used in `ns`, rounded up.
    pub(crate) fn units_in(self, ns: u64) -> u64 {
        let scaled = u128::from(self.0).saturating_mul(u128::from(ns));
        narrow(scaled.div_ceil(1 << PLACES))
    }

    /// The time in which `units` are used, in nanoseconds, rounded down; `u64::MAX` if never.
    pub(crate) fn ns_for(self, units: u64) -> u64 {
        let scaled = u128::from(units) << PLACES;
        scaled
            .checked_div(u128::from(self.0))
            .map_or(u64::MAX, narrow)
    }
}

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    proptest! {
        #[test]
        fn a_slope_is_never_below_the_rate_and_hardly_above(
            units in 1_u64..10_000_000,
            span in 1_000_000_u64..100_000_000_000,
            ns in 0_u64..1_000_000_000_000,
        ) {
            let exact = (u128::from(units) * u128::from(ns)).div_ceil(u128::from(span));
            let found = u128::from(Slope::new(units, span).units_in(ns));
            prop_assert!(found >= exact);
            prop_assert!(found <= exact + exact / 1_000 + 1);
        }

        #[test]
        fn no_integers_are_too_large(units: u64, span: u64, ns: u64) {
            let slope = Slope::new(units, span).times(ns);
            let _ = slope.units_in(ns);
            prop_assert!(slope.decayed() <= slope);
            prop_assert_eq!(Slope::from_bits(slope.to_bits()), slope);
        }
    }

    #[test]
    fn the_time_until_units_are_used() {
        assert_eq!(Slope::new(1 << 10, 1 << 20).ns_for(1), 1 << 10);
        assert_eq!(Slope::default().ns_for(1), u64::MAX);
    }
}
