//! Sorting that costs a plugin one routine.
//!
//! The standard library's sorts are made anew for each type and each order, at five to ten kilobytes
//! of WebAssembly each. Here what is sorted are places, so that one routine serves all. It is for
//! configurations: a large list that is sorted in place, without numbers beside it, is better off
//! with the standard library.

use std::cmp::Ordering;
use std::mem;

/// Sorts as `slice::sort_by` does: what is equal stays in its order. No more than 2^32 items.
pub fn sort_by<T>(items: &mut [T], order: impl Fn(&T, &T) -> Ordering) {
    let sorted = places(items.len(), &|a, b| match (items.get(a), items.get(b)) {
        (Some(a), Some(b)) => order(a, b),
        _ => Ordering::Equal,
    });
    permute(&sorted, &mut |a, b| swap(items, a, b));
}

/// Sorts what has an order of its own.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// The places of so many items, at most 2^32, in the order of the items.
pub(crate) fn places(count: usize, order: &dyn Fn(usize, usize) -> Ordering) -> Vec<u32> {
    let mut places: Vec<u32> = (0..count)
        .map_while(|place| place.try_into().ok())
        .collect();
    places.sort_by(|a, b| order(index(*a), index(*b)));
    places
}

/// Brings items into the order of `sorted`, which has each place once, with a swap for each at most.
fn permute(sorted: &[u32], swap_items: &mut dyn FnMut(usize, usize)) {
    // Where the item goes that is at a place now.
    let mut goes_to = vec![0; sorted.len()];
    for (to, from) in sorted.iter().enumerate() {
        if let Some(goes_to) = goes_to.get_mut(index(*from)) {
            *goes_to = to;
        }
    }
    // Each turn either brings an item to its place or finds one that is there.
    let mut place = 0_usize;
    for _ in 0..goes_to.len().saturating_mul(2) {
        match goes_to.get(place) {
            Some(to) if *to != place => {
                let to = *to;
                swap_items(place, to);
                swap(&mut goes_to, place, to);
            }
            _ => place = place.saturating_add(1),
        }
    }
}

/// As `slice::swap`, which panics where there is no such place.
fn swap<T>(items: &mut [T], a: usize, b: usize) {
    if let Ok([a, b]) = items.get_disjoint_mut([a, b]) {
        mem::swap(a, b);
    }
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_standard_library_does(items: Vec<(u8, u32)>) {
            let by_first = |a: &(u8, u32), b: &(u8, u32)| (a.0 % 8).cmp(&(b.0 % 8));
            let (mut ours, mut theirs) = (items.clone(), items);
            sort_by(&mut ours, by_first);
            theirs.sort_by(by_first);
            prop_assert_eq!(&ours, &theirs);
            sort(&mut ours);
            theirs.sort_unstable();
            prop_assert_eq!(ours, theirs);
        }
    }
}
