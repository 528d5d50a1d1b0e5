//! The store's half of the protocol: what every store has to do, as the reference for scripts and
//! stand-ins, and for tests.

use std::collections::BTreeMap;

use crate::exchange::{Reply, Request};

/// One counter: a quota of one consumer in one window. All that is done in [`exchange`] is atomic.
///
/// [`exchange`]: Counter::exchange
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// The sum of what the Envoys have been granted.
    total: u64,
    envoys: BTreeMap<u64, Account>,
}

/// What is known of an Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    /// The last request that was applied.
    seq: u64,
    /// Up to which the Envoy may admit.
    upto: u64,
}

impl Counter {
    /// Applies a request of an Envoy, unless it or a later one has been applied already, and answers.
    pub fn exchange(&mut self, envoy: u64, request: &Request) -> Reply {
        let account = self.envoys.entry(envoy).or_default();
        let previous = account.seq;
        if request.seq > account.seq {
            let asked = request.consumed.saturating_add(request.want);
            let free = request.limit.saturating_sub(self.total);
            // Usage is booked even over the limit; only what is wanted ahead of it has to be free.
            let upto = request
                .consumed
                .max(asked.min(account.upto.saturating_add(free)));
            let others = self.total.saturating_sub(account.upto);
            self.total = others.saturating_add(upto);
            *account = Account {
                seq: request.seq,
                upto,
            };
        }
        Reply {
            seq: account.seq,
            previous,
            upto: account.upto,
            total: self.total,
        }
    }

    /// The sum of what the Envoys have been granted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The Envoys that are known, and up to which each may admit.
    pub fn envoys(&self) -> impl Iterator<Item = (u64, u64)> {
        let envoys = self.envoys.iter();
        envoys.map(|(envoy, account)| (*envoy, account.upto))
    }

    /// Up to which an Envoy may admit.
    pub fn upto(&self, envoy: u64) -> u64 {
        self.envoys.get(&envoy).map_or(0, |account| account.upto)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn request(seq: u64, consumed: u64, want: u64) -> Request {
        Request {
            seq,
            consumed,
            want,
            limit: 100,
        }
    }

    #[test]
    fn grants_end_at_the_limit_and_what_is_given_back_is_granted_again() {
        let mut counter = Counter::default();
        assert_eq!(counter.exchange(1, &request(1, 0, 60)).upto, 60);
        assert_eq!(counter.exchange(2, &request(1, 0, 60)).upto, 40);
        assert_eq!(counter.exchange(3, &request(1, 0, 1)).upto, 0);
        let reply = counter.exchange(1, &request(2, 30, 0));
        assert_eq!((reply.upto, reply.total), (30, 70));
        assert_eq!(counter.exchange(3, &request(2, 0, 50)).upto, 30);
        assert_eq!(counter.total(), 100);
    }

    #[test]
    fn usage_is_booked_over_the_limit() {
        let mut counter = Counter::default();
        counter.exchange(1, &request(1, 0, 90));
        let reply = counter.exchange(2, &request(1, 50, 5));
        assert_eq!((reply.upto, reply.total), (50, 140));
    }

    #[test]
    fn a_repeated_request_is_answered_the_same_and_a_late_one_changes_nothing() {
        let mut counter = Counter::default();
        counter.exchange(1, &request(1, 0, 10));
        let reply = counter.exchange(1, &request(2, 10, 10));
        assert_eq!((reply.previous, reply.seq), (1, 2));
        let again = counter.exchange(1, &request(2, 10, 10));
        assert_eq!(
            again,
            Reply {
                previous: 2,
                ..reply
            }
        );
        let late = counter.exchange(1, &request(1, 0, 90));
        assert_eq!(late, again);
        assert_eq!(counter.upto(1), 20);
        assert_eq!(counter.upto(2), 0);
        assert_eq!(counter.envoys().collect::<Vec<_>>(), [(1, 20)]);
    }
}
