//! Pages of token buckets with a penalty box.

use std::num::{NonZeroU32, NonZeroU64};

use tollgate_gcra::{Admitted, Bucket, Refused};

use crate::meter::{Debt, Meter};
use crate::page::{Page, Slot};
use crate::rate::RateSlot;

/// A page of token buckets with a penalty box.
pub type PenaltyPage = Page<PenaltySlot>;

/// A limit whose clients are blocked for a while if they keep exceeding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PenaltyBucket {
    /// What a client may do.
    pub bucket: Bucket,
    /// How many denials of the bucket, within `within_ns`, block the client.
    pub after: NonZeroU32,
    /// How long denials add up, in nanoseconds: from the first one on, when they start anew.
    pub within_ns: NonZeroU64,
    /// How long the client is then blocked, in nanoseconds.
    pub block_for_ns: NonZeroU64,
}

/// Why a request is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The bucket does not admit it. It counts as a denial.
    Refused(Refused),
    /// The bucket does not admit it, and it was one denial too many: the client is blocked from now
    /// on.
    Penalized {
        /// How long it will be blocked, in nanoseconds.
        remaining_ns: u64,
    },
    /// The client is blocked. The request does not count as a denial, so that a block ends whatever
    /// the client does.
    Blocked {
        /// How long it is still blocked, in nanoseconds.
        remaining_ns: u64,
    },
}

/// What is known of a client: its bucket, its denials, and whether it is blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PenaltySlot {
    bucket: RateSlot,
    /// The end of its block; in the past for most.
    blocked_until: u64,
    /// When the first of `denials` was.
    first_denial: u64,
    denials: u32,
}

impl Meter for PenaltySlot {
    type Limit = PenaltyBucket;
    type Denial = Denied;

    fn charge(&mut self, limit: &PenaltyBucket, now: u64, cost: u32) -> Result<Admitted, Denied> {
        *self = self.settled(limit, now);
        match self.blocked_until.saturating_sub(now) {
            0 => self
                .bucket
                .charge(&limit.bucket, now, cost)
                .map_err(|refused| self.deny(limit, now, refused)),
            remaining_ns => Err(Denied::Blocked { remaining_ns }),
        }
    }

    /// The bucket gets back the charge. A denial costs nothing, so there is none to take back.
    fn refund(&mut self, limit: &PenaltyBucket, now: u64, cost: u32) {
        self.bucket.refund(&limit.bucket, now, cost);
    }

    fn debt(&self, limit: &PenaltyBucket, now: u64) -> Debt {
        let settled = self.settled(limit, now);
        Debt {
            blocked_ns: settled.blocked_until.saturating_sub(now),
            denials: settled.denials,
            ..settled.bucket.debt(&limit.bucket, now)
        }
    }
}

impl PenaltySlot {
    /// The slot without what is over, and with what goes on bounded: what the clock, by stepping
    /// back, has moved into the future lasts no longer than if it began now.
    fn settled(self, limit: &PenaltyBucket, now: u64) -> PenaltySlot {
        let mut bucket = self.bucket;
        // Giving back nothing bounds the bucket in the same way.
        bucket.refund(&limit.bucket, now, 0);
        let blocked_ns = self.blocked_until.saturating_sub(now);
        let blocked_until = match blocked_ns.min(limit.block_for_ns.get()) {
            0 => 0,
            blocked_ns => now.saturating_add(blocked_ns),
        };
        let counting = now.saturating_sub(self.first_denial) < limit.within_ns.get();
        let (denials, first_denial) = match self.denials {
            denials @ 1.. if counting => (denials, self.first_denial.min(now)),
            _ => (0, 0),
        };
        PenaltySlot {
            bucket,
            blocked_until,
            first_denial,
            denials,
        }
    }

    /// Counts a denial.
    fn deny(&mut self, limit: &PenaltyBucket, now: u64, refused: Refused) -> Denied {
        if self.denials == 0 {
            self.first_denial = now;
        }
        self.denials = self.denials.saturating_add(1);
        if self.denials < limit.after.get() {
            return Denied::Refused(refused);
        }
        let remaining_ns = limit.block_for_ns.get();
        *self = PenaltySlot {
            bucket: self.bucket,
            blocked_until: now.saturating_add(remaining_ns),
            ..PenaltySlot::default()
        };
        Denied::Penalized { remaining_ns }
    }
}

impl Slot for PenaltySlot {
    const KIND: u8 = 2;

    type Words = [u64; 4];
    type Common = [u64; 0];

    fn from_words([tat, blocked_until, first_denial, denials]: [u64; 4]) -> Self {
        PenaltySlot {
            bucket: RateSlot::from_words([tat]),
            blocked_until,
            first_denial,
            // Written from as many bits.
            denials: u32::try_from(denials).unwrap_or(u32::MAX),
        }
    }

    fn to_words(self) -> [u64; 4] {
        let [tat] = self.bucket.to_words();
        let denials = u64::from(self.denials);
        [tat, self.blocked_until, self.first_denial, denials]
    }
}
