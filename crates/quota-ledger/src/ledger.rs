//! Deciding about requests.

use crate::slope::Slope;
use crate::terms::{Mode, Terms};

/// What one Envoy knows of one quota in one window. Its workers share it.
///
/// All times are nanoseconds on the Envoy's clock since the Unix epoch. A clock may step: what is
/// said to have happened in the future is as if it were not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// What this Envoy has admitted in the window.
    pub(crate) consumed: u64,
    /// Up to which `consumed` is granted. It may be below `consumed` where usage is booked
    /// afterwards.
    pub(crate) upto: u64,

    /// What the store has granted to all Envoys, at the last reply.
    pub(crate) total: u64,
    /// What of it was this Envoy's.
    pub(crate) own: u64,
    /// What the others had before the store lost its data; 0 if it has not.
    pub(crate) floor: u64,
    /// When the request of the last reply was begun; until there is one, when the window opened: at
    /// that time, nothing had been used.
    pub(crate) synced_at: u64,
    /// `consumed` at that time.
    pub(crate) reported: u64,
    /// When usage began that the store has not booked; 0 if there is none.
    pub(crate) oldest: u64,
    /// When to look whether a refusal still holds.
    pub(crate) peek_at: u64,

    /// The last request begun; 0 before the first.
    pub(crate) seq: u64,
    /// The last request answered.
    pub(crate) settled: u64,
    /// Of the last request begun: when,
    pub(crate) sent_at: u64,
    /// `consumed` at that time,
    pub(crate) sent_consumed: u64,
    /// up to which it asked,
    pub(crate) asked: u64,
    /// until when its reply is awaited; 0 if it no longer is.
    pub(crate) in_flight_until: u64,
    /// When to try again after a failure.
    pub(crate) retry_at: u64,

    /// How fast the total grows.
    pub(crate) burn: Slope,
    /// The total when that was last measured,
    pub(crate) burn_total: u64,
    /// and when.
    pub(crate) burn_at: u64,
}

/// What is to happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is admitted, and to be [`consume`](Ledger::consume)d.
    Admit,
    /// The store has to be asked: [`begin`](Ledger::begin) an exchange and let the request wait.
    Ask,
    /// An exchange is under way: let the request wait for it, and decide again then.
    Wait,
    /// The quota is spent.
    Refuse {
        /// Whether an exchange should be begun, without letting a request wait for it: it is time to
        /// see whether the quota is still spent.
        peek: bool,
    },
}

/// What an Envoy does on its own when the store has to be asked and does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    /// Admit, and book it when the store is back. What is over the limit then is not bounded but by
    /// the consumer's throttles.
    #[default]
    Allow,
    /// Refuse.
    Deny,
    /// Admit as long as this Envoy has used no more than its part of the limit, by the time of the
    /// window that has passed: `limit · percent / 100 / envoys · elapsed / length`.
    Safe {
        /// How much of the limit is given away so.
        percent: u8,
    },
}

/// When a quota's window opens, and closes, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first nanosecond.
    pub opens: u64,
    /// The first behind it.
    pub closes: u64,
}

/// How long after the beginning of an exchange that failed the store is asked again: 50 ms.
const ASK_AGAIN_NS: u64 = 50_000_000;

impl Ledger {
    /// The ledger of a window of which this Envoy has admitted nothing yet.
    pub fn new(window_opens: u64) -> Self {
        Ledger {
            consumed: 0,
            upto: 0,
            total: 0,
            own: 0,
            floor: 0,
            synced_at: window_opens,
            reported: 0,
            oldest: 0,
            peek_at: 0,
            seq: 0,
            settled: 0,
            sent_at: 0,
            sent_consumed: 0,
            asked: 0,
            in_flight_until: 0,
            retry_at: 0,
            burn: Slope::default(),
            burn_total: 0,
            burn_at: window_opens,
        }
    }

    /// Decides about a request that costs `cost` units, at least 1. Nothing is changed by that, so
    /// that several limits can be asked before any is charged.
    pub fn decide(&self, terms: &Terms, cost: u64, now: u64) -> Decision {
        let after = self.consumed.saturating_add(cost);
        if after <= self.covered(terms) || self.is_far(terms, after, now) {
            return Decision::Admit;
        }
        let in_flight = self.is_in_flight(now);
        if !self.fits(terms, after) && self.age(now).is_some_and(|age| age <= terms.fresh_ns()) {
            let latest = now.saturating_add(terms.peek_ns.saturating_mul(2));
            let time_to_peek = self.peek_at <= now || self.peek_at > latest;
            return Decision::Refuse {
                peek: time_to_peek && !in_flight,
            };
        }
        if in_flight {
            Decision::Wait
        } else {
            Decision::Ask
        }
    }

    /// Decides alone about a request for which the store would have to be asked. What is known to be
    /// spent is refused by every policy.
    pub fn decides_alone(
        &self,
        outage: Outage,
        terms: &Terms,
        cost: u64,
        window: Window,
        now: u64,
    ) -> bool {
        let after = self.consumed.saturating_add(cost);
        if after <= self.covered(terms) {
            return true;
        }
        self.fits(terms, after)
            && match outage {
                Outage::Allow => true,
                Outage::Deny => false,
                Outage::Safe { percent } => after <= self.share(terms, percent, window, now),
            }
    }

    /// Counts units of a request, whatever the limit: of one that is admitted, or what one turned out
    /// to cost.
    pub fn consume(&mut self, cost: u64, now: u64) {
        self.consumed = self.consumed.saturating_add(cost);
        if self.consumed > self.upto && self.oldest == 0 {
            self.oldest = now.max(1);
        }
    }

    /// Gives back units that were counted in this window.
    pub fn give_back(&mut self, cost: u64) {
        self.consumed = self.consumed.saturating_sub(cost);
        if self.consumed <= self.upto {
            self.oldest = 0;
        }
    }

    /// What this Envoy has admitted in the window.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// What the store has booked for this Envoy, as far as that is known.
    pub fn booked(&self) -> u64 {
        self.own
    }

    /// What this Envoy has admitted and the store may not have booked.
    pub fn unreported(&self) -> u64 {
        self.consumed.saturating_sub(self.upto)
    }

    /// Whether the limit can't hold `cost` more units, by what the store has said last. That stays so
    /// until the window ends, unless another Envoy gives back what it was granted.
    pub fn is_spent(&self, terms: &Terms, cost: u64) -> bool {
        self.has_word() && !self.fits(terms, self.consumed.saturating_add(cost))
    }

    /// Whether the store may be asked now. It is not asked for a while after an exchange that failed,
    /// however many requests wait.
    pub fn may_ask(&self, now: u64) -> bool {
        let again = self.sent_at.saturating_add(ASK_AGAIN_NS);
        self.seq == self.settled || now < self.sent_at || again <= now
    }

    /// What remains of the limit, as far as this Envoy knows: its own lease is not used yet, those of
    /// others are.
    pub fn remaining(&self, terms: &Terms) -> u64 {
        let used = self.others().saturating_add(self.consumed);
        terms.limit.saturating_sub(used)
    }

    /// How long ago the store was asked for what it last said. `None` if it has not said anything, or
    /// the clock has stepped back since.
    pub fn age_of_knowledge(&self, now: u64) -> Option<u64> {
        self.age(now).filter(|_| self.has_word())
    }

    /// Whether the ledger of a window that is over may be forgotten: the store has booked all.
    pub fn is_settled(&self) -> bool {
        self.consumed <= self.upto
    }

    /// Whether the limit is so far away that a request needs no grant, were `after` consumed with it.
    pub(crate) fn is_far(&self, terms: &Terms, after: u64, now: u64) -> bool {
        if terms.mode == Mode::Strict || !self.reports_in_time(terms, now) {
            return false;
        }
        let Some(age) = self.age(now) else {
            return false;
        };
        let unseen = match self.has_word() {
            true => terms
                .unseen(age)
                .unwrap_or_else(|| terms.guess_unseen(age, self.burn)),
            false => match terms.unseen_since_opening(age) {
                Some(unseen) => unseen,
                None => return false,
            },
        };
        let used = self.others().saturating_add(after.max(self.own));
        used.saturating_add(unseen) <= terms.limit
    }

    /// Whether the store has answered in this window.
    pub(crate) fn has_word(&self) -> bool {
        self.settled > 0
    }

    /// How long ago was known what is known. `None` if that is in the future.
    pub(crate) fn age(&self, now: u64) -> Option<u64> {
        now.checked_sub(self.synced_at)
    }

    /// A request begun in the future was begun before the clock stepped back. Nobody may be waiting
    /// for it any more.
    pub(crate) fn is_in_flight(&self, now: u64) -> bool {
        self.sent_at <= now && now < self.in_flight_until
    }

    /// What the other Envoys have of the total.
    pub(crate) fn others(&self) -> u64 {
        self.total.saturating_sub(self.own).max(self.floor)
    }

    /// Up to which `consumed` may go without a further grant. A store that has lost its data grants
    /// what it has granted before.
    fn covered(&self, terms: &Terms) -> u64 {
        self.upto.min(terms.limit.saturating_sub(self.floor))
    }

    /// Whether, by the last word of the store, the limit can hold `after`.
    fn fits(&self, terms: &Terms, after: u64) -> bool {
        self.others().saturating_add(after) <= terms.limit
    }

    /// Whether the store learns soon enough what this Envoy uses.
    fn reports_in_time(&self, terms: &Terms, now: u64) -> bool {
        let age = now.checked_sub(self.oldest);
        self.oldest == 0 || age.is_some_and(|age| age <= terms.horizon_ns)
    }

    fn share(&self, terms: &Terms, percent: u8, window: Window, now: u64) -> u64 {
        let length = u128::from(window.closes.saturating_sub(window.opens));
        let elapsed = u128::from(now.saturating_sub(window.opens)).min(length);
        // Below 2^64 · 2^8, and so below 2^128 with a time of 2^56 ns, two years; beyond, saturated.
        let given = u128::from(terms.limit).saturating_mul(u128::from(percent.min(100)));
        let parts = length
            .saturating_mul(100)
            .saturating_mul(u128::from(terms.envoys));
        let share = given.saturating_mul(elapsed).checked_div(parts);
        u64::try_from(share.unwrap_or(0)).unwrap_or(u64::MAX)
    }
}
