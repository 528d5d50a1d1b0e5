//! Pages of token buckets.

use tollgate_gcra::{Admitted, Bucket, FULL, Refused};

use crate::meter::{Debt, Meter, missing_ns};
use crate::page::{Page, Slot};

/// A page of token buckets.
pub type RatePage = Page<RateSlot>;

/// The bucket of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSlot {
    /// Its theoretical arrival time.
    tat: u64,
}

impl Default for RateSlot {
    fn default() -> Self {
        RateSlot { tat: FULL }
    }
}

impl Meter for RateSlot {
    type Limit = Bucket;
    type Denial = Refused;

    fn charge(&mut self, bucket: &Bucket, now: u64, cost: u32) -> Result<Admitted, Refused> {
        let decision = bucket.check(self.tat, now, cost);
        self.tat = match &decision {
            Ok(admitted) => admitted.tat,
            Err(refused) => refused.tat,
        };
        decision
    }

    fn refund(&mut self, bucket: &Bucket, now: u64, cost: u32) {
        self.tat = bucket.refund(self.tat, now, cost);
    }

    fn debt(&self, bucket: &Bucket, now: u64) -> Debt {
        Debt {
            missing_ns: missing_ns(bucket, self.tat, now),
            ..Debt::default()
        }
    }
}

impl Slot for RateSlot {
    const KIND: u8 = 1;

    type Words = [u64; 1];
    type Common = [u64; 0];

    fn from_words([tat]: [u64; 1]) -> Self {
        RateSlot { tat }
    }

    fn to_words(self) -> [u64; 1] {
        [self.tat]
    }
}
