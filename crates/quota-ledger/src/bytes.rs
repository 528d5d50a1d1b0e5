//! The ledger as it is stored.

use crate::ledger::Ledger;
use crate::slope::Slope;

/// How many integers a ledger has.
const WORDS: usize = 19;

/// How many bytes a ledger takes: its integers, of eight bytes each, little-endian.
pub const LEDGER_SIZE: usize = WORDS * 8;

impl Ledger {
    /// The ledger as it is stored.
    pub fn to_bytes(&self) -> [u8; LEDGER_SIZE] {
        let words: [u64; WORDS] = [
            self.consumed,
            self.upto,
            self.total,
            self.own,
            self.floor,
            self.synced_at,
            self.reported,
            self.oldest,
            self.peek_at,
            self.seq,
            self.settled,
            self.sent_at,
            self.sent_consumed,
            self.asked,
            self.in_flight_until,
            self.retry_at,
            self.burn.to_bits(),
            self.burn_total,
            self.burn_at,
        ];
        let mut bytes = [0; LEDGER_SIZE];
        for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *chunk = word.to_le_bytes();
        }
        bytes
    }

    /// Reads a ledger. Any bytes are one.
    pub fn from_bytes(bytes: &[u8; LEDGER_SIZE]) -> Self {
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        let [
            consumed,
            upto,
            total,
            own,
            floor,
            synced_at,
            reported,
            oldest,
            peek_at,
            seq,
            settled,
            sent_at,
            sent_consumed,
            asked,
            in_flight_until,
            retry_at,
            burn,
            burn_total,
            burn_at,
        ] = words;
        Ledger {
            consumed,
            upto,
            total,
            own,
            floor,
            synced_at,
            reported,
            oldest,
            peek_at,
            seq,
            settled,
            sent_at,
            sent_consumed,
            asked,
            in_flight_until,
            retry_at,
            burn: Slope::from_bits(burn),
            burn_total,
            burn_at,
        }
    }
}
