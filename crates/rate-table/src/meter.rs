//! Charging requests to the clients of a page: what rate and penalty pages have in common.

use tollgate_gcra::{Admitted, Bucket};

use crate::client::ClientHash;
use crate::page::{Page, Seat, Slot};

/// A slot that requests are charged to.
pub trait Meter: Slot {
    /// What is charged against; the same for all clients of a page.
    type Limit;

    /// Why a request is denied.
    type Denial;

    /// Charges a request of `cost` at `now`, or denies it.
    fn charge(
        &mut self,
        limit: &Self::Limit,
        now: u64,
        cost: u32,
    ) -> Result<Admitted, Self::Denial>;

    /// Gives back what a request of `cost` was charged.
    fn refund(&mut self, limit: &Self::Limit, now: u64, cost: u32);

    /// What the client would be let off if it were forgotten.
    fn debt(&self, limit: &Self::Limit, now: u64) -> Debt;
}

/// What came of a charge.
#[must_use = "the page must be stored if it has changed"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged<D> {
    /// Whether the request is admitted.
    pub decision: Result<Admitted, D>,
    /// What another client was let off, because it had to be forgotten for this one. To be counted:
    /// a table in which this happens is too small.
    pub evicted: Option<Debt>,
    /// Whether the page has changed and must be stored.
    pub changed: bool,
}

/// What a slot holds against its client. Without debt a slot is as good as empty.
///
/// Debts are ordered by how much they matter: the smallest of a page is forgiven first, so one with
/// a block after all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Debt {
    /// For how long the client is still blocked, in nanoseconds.
    pub blocked_ns: u64,
    /// How far its bucket is from full, in nanoseconds: the tokens missing times the time in which
    /// one comes back.
    pub missing_ns: u64,
    /// The denials that count towards a block.
    pub denials: u32,
}

impl<M: Meter> Page<M> {
    /// Charges a request of `cost` at `now`, in nanoseconds, to a client, or denies it.
    ///
    /// A client without a slot is one that has never come; when it is admitted it takes a slot that
    /// owes nothing, or else the one that owes least ([`Charged::evicted`]). A denied request takes
    /// nobody's slot. A cost of 0 is a peek.
    pub fn charge(
        &mut self,
        limit: &M::Limit,
        client: ClientHash,
        now: u64,
        cost: u32,
    ) -> Charged<M::Denial> {
        let seat = self.seat(client.tag(), |slot: M| slot.debt(limit, now));
        let mut state = seat.state();
        let decision = state.charge(limit, now, cost);
        let keep = match seat {
            Seat::Taken { .. } => decision.is_ok(),
            Seat::Own { .. } | Seat::Free { .. } => true,
        };
        let changed = keep && state != seat.state();
        let evicted = match changed {
            true => self.put(seat, client.tag(), state),
            false => None,
        };
        Charged {
            decision,
            evicted,
            changed,
        }
    }

    /// What [`charge`](Self::charge) would decide, without charging. With a cost of 0 that is how
    /// the client stands.
    pub fn peek(
        &self,
        limit: &M::Limit,
        client: ClientHash,
        now: u64,
        cost: u32,
    ) -> Result<Admitted, M::Denial> {
        let (_, mut state) = self.find(client.tag()).unwrap_or_default();
        state.charge(limit, now, cost)
    }

    /// Gives back what a request of `cost` was charged, and says whether the page has changed and
    /// must be stored.
    ///
    /// To be called at once or not at all, see [`Bucket::refund`]. Nothing is due to a client that
    /// was forgotten since, which has got everything back. Clients forgotten for this one's charge
    /// are not brought back.
    #[must_use = "the page must be stored if it has changed"]
    pub fn refund(&mut self, limit: &M::Limit, client: ClientHash, now: u64, cost: u32) -> bool {
        let Some((at, before)) = self.find(client.tag()) else {
            return false;
        };
        let mut state = before;
        state.refund(limit, now, cost);
        self.write(at, client.tag(), state);
        state != before
    }
}

/// How far a bucket is from full, in nanoseconds; 0 only if it is full.
pub(crate) fn missing_ns(bucket: &Bucket, tat: u64, now: u64) -> u64 {
    if bucket.is_full(tat, now) {
        return 0;
    }
    // Giving back nothing bounds the bucket: it is at worst empty.
    let tat = bucket.refund(tat, now, 0);
    tat.saturating_sub(now).max(1)
}
