//! Making ids, and telling a well-formed one.

use std::cell::Cell;

use tollgate_core::host::Host;
use tollgate_core::time::Timestamp;
use uuid::{Builder, Uuid};

/// Makes UUIDs of version 7 that rise from one to the next on one worker.
#[derive(Default)]
pub(crate) struct Generator {
    last: Cell<Last>,
}

/// The time and counter of the id made last.
#[derive(Clone, Copy, Default)]
struct Last {
    millis: u64,
    counter: u16,
}

/// `rand_a` has 12 bits.
const LARGEST_COUNTER: u16 = 0x0fff;

impl Generator {
    /// A UUID version 7. Within a millisecond, or when the clock has stepped back, `rand_a` counts
    /// up (RFC 9562 section 6.2, method 1: fixed bit-length dedicated counter); it starts at a
    /// random number of 11 bits, so that there is room to count.
    pub(crate) fn uuid7<H: Host>(&self, now: Timestamp, host: &H) -> Uuid {
        let mut random = [0; 10];
        host.fill_random(&mut random);
        let [high, low, ..] = random;
        let seed = u16::from_be_bytes([high, low]) & (LARGEST_COUNTER >> 1);
        let last = self.last.get();
        let next = if now.as_millis() > last.millis {
            Last {
                millis: now.as_millis(),
                counter: seed,
            }
        } else if last.counter < LARGEST_COUNTER {
            Last {
                millis: last.millis,
                counter: last.counter.saturating_add(1),
            }
        } else {
            Last {
                millis: last.millis.saturating_add(1),
                counter: seed,
            }
        };
        self.last.set(next);
        let [first, second, ..] = &mut random;
        [*first, *second] = next.counter.to_be_bytes();
        Builder::from_unix_timestamp_millis(next.millis, &random).into_uuid()
    }

    /// A UUID version 4.
    pub(crate) fn uuid4<H: Host>(host: &H) -> Uuid {
        let mut random = [0; 16];
        host.fill_random(&mut random);
        Builder::from_random_bytes(random).into_uuid()
    }
}

/// Whether an id that somebody else made may be passed on, logged and shown: letters, digits and a
/// few marks, none of which means anything to a shell, a log, a header list or a URI.
pub(crate) fn is_well_formed(id: &str, max_length: u64) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(&byte);
    !id.is_empty()
        && u64::try_from(id.len()).is_ok_and(|length| length <= max_length)
        && id.bytes().all(allowed)
}
