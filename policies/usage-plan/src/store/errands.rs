//! Accounts for which an exchange is wanted.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use tollgate_core::time::Timestamp;

use super::Account;

/// Accounts for which an exchange is wanted, and how many requests wait for it. They take turns, so
/// that where calls are scarce none is left out.
#[derive(Default)]
pub(super) struct Errands {
    accounts: BTreeMap<Account, Waiting>,
    last: Option<Account>,
}

/// Requests that wait, as they were counted when they were looked at last.
#[derive(Clone, Copy, Default)]
struct Waiting {
    requests: u64,
    /// When the first of them was counted.
    since: Timestamp,
}

/// Requests that wait are looked at all at once, again and again, with 2 ms between at least. What
/// was counted longer ago than this was counted at an earlier look, and is counted anew.
const LOOK: Duration = Duration::from_millis(2);

impl Errands {
    /// Adds an account for which no request waits.
    pub(super) fn add(&mut self, account: Account) {
        self.accounts.entry(account).or_default();
    }

    /// Adds a request that waits.
    pub(super) fn add_waiting(&mut self, account: Account, now: Timestamp) {
        let waiting = self.accounts.entry(account).or_default();
        let is_of_this_look = waiting.since <= now && now.saturating_since(waiting.since) < LOOK;
        if !is_of_this_look {
            *waiting = Waiting {
                requests: 0,
                since: now,
            };
        }
        waiting.requests = waiting.requests.saturating_add(1);
    }

    /// Takes the account whose turn it is, and how many requests wait.
    pub(super) fn next(&mut self) -> Option<(Account, u64)> {
        let behind = self
            .last
            .and_then(|last| self.accounts.range((Excluded(last), Unbounded)).next());
        let (account, waiting) = behind.or_else(|| self.accounts.first_key_value())?;
        let (account, requests) = (*account, waiting.requests);
        self.accounts.remove(&account);
        self.last = Some(account);
        Some((account, requests))
    }

    /// Takes all.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Account> + use<> {
        std::mem::take(&mut self.accounts).into_keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::store::Holder;

    fn account(number: u32) -> Account {
        Account {
            holder: Holder::Consumer(number),
            plan: 0,
        }
    }

    #[test]
    fn a_request_counts_once_however_often_it_is_looked_at() {
        let mut errands = Errands::default();
        let begin = Timestamp::from_seconds(1_795_176_000);
        for look in 0..10 {
            for _ in 0..3 {
                errands.add_waiting(account(1), begin.saturating_add(LOOK * look));
            }
        }
        errands.add(account(1));
        assert_eq!(errands.next(), Some((account(1), 3)));
        assert!(errands.next().is_none());
    }

    #[test]
    fn accounts_take_turns() {
        let mut errands = Errands::default();
        let mut served = Vec::new();
        for _ in 0..4 {
            for number in 0..3 {
                errands.add(account(number));
            }
            served.extend(errands.next());
        }
        let served: Vec<Account> = served.into_iter().map(|(account, _)| account).collect();
        assert_eq!(served, [0, 1, 2, 0].map(account));
    }
}
