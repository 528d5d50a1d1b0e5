//! What is stored of a consumer: its buckets and quotas, in one entry, so that a request is charged
//! to all of them or to none by a single compare-and-swap.
//!
//! Layout, little-endian: the version; the number of buckets and of quotas, a byte each; a bucket as
//! id (4) and theoretical arrival time in ns (8); a quota as id (4), start (8) and end (8) of its
//! window in Unix seconds, used (8). That is all in version `1`. Version `2`, which is written only
//! where there are any, has ledgers behind it, to the end: id (4), start (8), end (8), and the
//! ledger's own bytes.

use tollgate_quota_ledger::{LEDGER_SIZE, Ledger};

/// Tells limits apart across configurations: a hash of the limit's name in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LimitId(u32);

impl LimitId {
    /// FNV-1a, which stays the same from build to build.
    pub(crate) fn of(name: &str) -> Self {
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        LimitId(hash)
    }
}

/// The usage of one consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    buckets: Vec<StoredBucket>,
    quotas: Vec<StoredQuota>,
    ledgers: Vec<StoredLedger>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoredBucket {
    id: LimitId,
    tat: u64,
}

/// What has been used of a quota in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredQuota {
    pub(crate) id: LimitId,
    /// The window's first second.
    pub(crate) start: i64,
    /// The first second behind the window.
    pub(crate) end: i64,
    pub(crate) used: u64,
}

/// What this Envoy knows of a quota that a store keeps, in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredLedger {
    pub(crate) id: LimitId,
    /// The window's first second.
    pub(crate) start: i64,
    /// The first second behind the window.
    pub(crate) end: i64,
    pub(crate) ledger: Ledger,
}

const VERSION: u8 = 1;
const VERSION_WITH_LEDGERS: u8 = 2;

/// Far more than a plan can have, and less than the layout can count.
const MOST_QUOTAS: usize = 64;

/// Of how many windows of a quota there may be ledgers: the one that runs, and such as the store has
/// not heard all about.
const MOST_WINDOWS: usize = 8;

/// For so many seconds after its window, a ledger waits for the store to take what it has not
/// booked.
pub(crate) const LATE_REPORTS: i64 = 24 * 3600;

impl Record {
    /// Reads an entry. One that is absent, or was written by a version of this code with another
    /// layout, is like that of a consumer that has not called yet.
    pub(crate) fn read(bytes: Option<&[u8]>) -> Self {
        bytes.and_then(parse).unwrap_or_default()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let count = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
        let (buckets, quotas) = (count(self.buckets.len()), count(self.quotas.len()));
        let version = match self.ledgers.is_empty() {
            true => VERSION,
            false => VERSION_WITH_LEDGERS,
        };
        let of_ledgers = self.ledgers.len().saturating_mul(LEDGER_SIZE + 20);
        let mut bytes = Vec::with_capacity(of_ledgers.saturating_add(128));
        bytes.extend_from_slice(&[version, buckets, quotas]);
        for bucket in self.buckets.iter().take(usize::from(buckets)) {
            bytes.extend_from_slice(&bucket.id.0.to_le_bytes());
            bytes.extend_from_slice(&bucket.tat.to_le_bytes());
        }
        for quota in self.quotas.iter().take(usize::from(quotas)) {
            bytes.extend_from_slice(&quota.id.0.to_le_bytes());
            bytes.extend_from_slice(&quota.start.to_le_bytes());
            bytes.extend_from_slice(&quota.end.to_le_bytes());
            bytes.extend_from_slice(&quota.used.to_le_bytes());
        }
        for stored in &self.ledgers {
            bytes.extend_from_slice(&stored.id.0.to_le_bytes());
            bytes.extend_from_slice(&stored.start.to_le_bytes());
            bytes.extend_from_slice(&stored.end.to_le_bytes());
            bytes.extend_from_slice(&stored.ledger.to_bytes());
        }
        bytes
    }

    /// The theoretical arrival time of a bucket; 0, a full bucket, if there is none.
    pub(crate) fn tat(&self, id: LimitId) -> u64 {
        self.buckets
            .iter()
            .find(|bucket| bucket.id == id)
            .map_or(0, |bucket| bucket.tat)
    }

    pub(crate) fn set_tat(&mut self, id: LimitId, tat: u64) {
        match self.buckets.iter_mut().find(|bucket| bucket.id == id) {
            Some(bucket) => bucket.tat = tat,
            None => self.buckets.push(StoredBucket { id, tat }),
        }
    }

    pub(crate) fn quota(&self, id: LimitId) -> Option<StoredQuota> {
        self.quotas.iter().find(|quota| quota.id == id).copied()
    }

    pub(crate) fn set_quota(&mut self, quota: StoredQuota) {
        match self.quotas.iter_mut().find(|stored| stored.id == quota.id) {
            Some(stored) => *stored = quota,
            None => self.quotas.push(quota),
        }
    }

    /// The ledgers: for a quota, that of the window that runs, and of those before it that the store
    /// has not heard all about.
    pub(crate) fn ledgers(&self) -> &[StoredLedger] {
        &self.ledgers
    }

    pub(crate) fn set_ledger(&mut self, ledger: StoredLedger) {
        let same = |stored: &&mut StoredLedger| {
            (stored.id, stored.start, stored.end) == (ledger.id, ledger.start, ledger.end)
        };
        match self.ledgers.iter_mut().find(same) {
            Some(stored) => *stored = ledger,
            None => self.ledgers.push(ledger),
        }
    }

    /// Whether the record says no more than an absent one.
    pub(crate) fn is_idle(&self, now_nanos: u64, now_seconds: i64) -> bool {
        let full = self.buckets.iter().all(|bucket| bucket.tat <= now_nanos);
        full && self.quotas.iter().all(|quota| quota.end <= now_seconds)
    }

    /// Drops what nobody needs any more: buckets that are full again, and quotas that the plan does
    /// not have and whose window is over. So a record stays as small as its plan, whatever the
    /// configurations before had.
    pub(crate) fn prune(
        &mut self,
        now_nanos: u64,
        now_seconds: i64,
        has_quota: impl Fn(LimitId) -> bool,
    ) {
        self.buckets.retain(|bucket| bucket.tat > now_nanos);
        self.quotas
            .retain(|quota| has_quota(quota.id) || quota.end > now_seconds);
        // A plan whose quotas were renamed again and again leaves many behind.
        if self.quotas.len() > MOST_QUOTAS {
            self.quotas.retain(|quota| has_quota(quota.id));
        }
        self.ledgers.retain(|stored| {
            let is_over = stored.end <= now_seconds;
            let is_too_late = stored.end.saturating_add(LATE_REPORTS) <= now_seconds;
            !(is_over && (stored.ledger.is_settled() || is_too_late))
        });
        if self.ledgers.len() > MOST_QUOTAS {
            self.ledgers.retain(|stored| has_quota(stored.id));
        }
        self.forget_oldest();
    }
}

impl Record {
    /// Keeps of each quota the windows that are the latest. While a store does not answer, a quota by
    /// the minute would have a ledger more each minute.
    fn forget_oldest(&mut self) {
        if self.ledgers.len() <= MOST_WINDOWS {
            return;
        }
        let windows: Vec<(LimitId, i64)> = self
            .ledgers
            .iter()
            .map(|stored| (stored.id, stored.start))
            .collect();
        self.ledgers.retain(|stored| {
            let later = |(id, start): &&(LimitId, i64)| *id == stored.id && *start > stored.start;
            windows.iter().filter(later).count() < MOST_WINDOWS
        });
    }
}

fn parse(bytes: &[u8]) -> Option<Record> {
    let ([version, buckets, quotas], mut rest) = bytes.split_first_chunk::<3>()?;
    if ![VERSION, VERSION_WITH_LEDGERS].contains(version) {
        return None;
    }
    let mut record = Record::default();
    for _ in 0..*buckets {
        let (id, behind) = rest.split_first_chunk()?;
        let (tat, behind) = behind.split_first_chunk()?;
        rest = behind;
        let (id, tat) = (LimitId(u32::from_le_bytes(*id)), u64::from_le_bytes(*tat));
        record.buckets.push(StoredBucket { id, tat });
    }
    for _ in 0..*quotas {
        let (id, behind) = rest.split_first_chunk()?;
        let (start, behind) = behind.split_first_chunk()?;
        let (end, behind) = behind.split_first_chunk()?;
        let (used, behind) = behind.split_first_chunk()?;
        rest = behind;
        record.quotas.push(StoredQuota {
            id: LimitId(u32::from_le_bytes(*id)),
            start: i64::from_le_bytes(*start),
            end: i64::from_le_bytes(*end),
            used: u64::from_le_bytes(*used),
        });
    }
    while *version == VERSION_WITH_LEDGERS && !rest.is_empty() {
        let (id, behind) = rest.split_first_chunk()?;
        let (start, behind) = behind.split_first_chunk()?;
        let (end, behind) = behind.split_first_chunk()?;
        let (ledger, behind) = behind.split_first_chunk()?;
        rest = behind;
        record.ledgers.push(StoredLedger {
            id: LimitId(u32::from_le_bytes(*id)),
            start: i64::from_le_bytes(*start),
            end: i64::from_le_bytes(*end),
            ledger: Ledger::from_bytes(ledger),
        });
    }
    rest.is_empty().then_some(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let buckets = proptest::collection::vec((any::<u32>(), any::<u64>()), 0..9);
        let quotas = proptest::collection::vec(
            (any::<u32>(), any::<i64>(), any::<i64>(), any::<u64>()),
            0..5,
        );
        let ledgers = proptest::collection::vec(
            (any::<u32>(), any::<i64>(), any::<i64>(), any::<u64>()),
            0..4,
        );
        (buckets, quotas, ledgers).prop_map(|(buckets, quotas, ledgers)| Record {
            buckets: buckets
                .into_iter()
                .map(|(id, tat)| StoredBucket {
                    id: LimitId(id),
                    tat,
                })
                .collect(),
            quotas: quotas
                .into_iter()
                .map(|(id, start, end, used)| StoredQuota {
                    id: LimitId(id),
                    start,
                    end,
                    used,
                })
                .collect(),
            ledgers: ledgers
                .into_iter()
                .map(|(id, start, end, consumed)| {
                    let mut ledger = Ledger::new(0);
                    ledger.consume(consumed, 1);
                    StoredLedger {
                        id: LimitId(id),
                        start,
                        end,
                        ledger,
                    }
                })
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn records_round_trip(record in record()) {
            prop_assert_eq!(Record::read(Some(&record.to_bytes())), record);
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::read(Some(&bytes));
        }
    }

    #[test]
    fn what_this_version_did_not_write_is_an_empty_record() {
        let mut other = Record::default();
        other.set_tat(LimitId::of("throttle"), 5);
        let mut bytes = other.to_bytes();
        bytes[0] = 3;
        for unreadable in [None, Some(&[][..]), Some(&bytes), Some(&bytes[..5])] {
            assert_eq!(Record::read(unreadable), Record::default());
        }
    }

    #[test]
    fn windows_that_the_store_has_not_heard_of_are_few() {
        let (id, other) = (LimitId::of("minute"), LimitId::of("month"));
        let mut record = Record::default();
        for (id, minute) in std::iter::once((other, 0)).chain((0..500).map(|minute| (id, minute))) {
            let start = minute * 60;
            let mut ledger = Ledger::new(0);
            ledger.consume(1, 1);
            record.set_ledger(StoredLedger {
                id,
                start,
                end: start + 60,
                ledger,
            });
            record.prune(0, start, |_| true);
        }
        let starts = |id: LimitId| -> Vec<i64> {
            let own = record.ledgers().iter().filter(|stored| stored.id == id);
            own.map(|stored| stored.start / 60).collect()
        };
        assert_eq!(starts(id), (492..500).collect::<Vec<_>>());
        assert_eq!(starts(other), [0]);
    }

    #[test]
    fn quotas_left_behind_never_crowd_out_those_of_the_plan() {
        let own = LimitId::of("own");
        let mut record = Record::default();
        for round in 0..500_u64 {
            let gone = LimitId::of(&format!("gone {round}"));
            record.set_quota(StoredQuota {
                id: gone,
                start: 0,
                end: i64::MAX,
                used: 1,
            });
            record.set_quota(StoredQuota {
                id: own,
                start: 0,
                end: i64::MAX,
                used: round,
            });
            record.prune(0, 0, |id| id == own);
            record = Record::read(Some(&record.to_bytes()));
            assert_eq!(record.quota(own).unwrap().used, round);
            assert!(record.quotas.len() <= MOST_QUOTAS);
        }
    }

    #[test]
    fn what_is_over_is_dropped() {
        let (day, gone, later) = (
            LimitId::of("day"),
            LimitId::of("gone"),
            LimitId::of("later"),
        );
        let mut record = Record::default();
        record.set_tat(day, 10);
        record.set_tat(gone, 9);
        for (id, end) in [(day, 5), (gone, 5), (later, 50)] {
            record.set_quota(StoredQuota {
                id,
                start: 0,
                end,
                used: 1,
            });
        }
        record.prune(9, 9, |id| id == day);
        assert_eq!((record.tat(day), record.tat(gone)), (10, 0));
        assert_eq!(record.buckets.len(), 1);
        assert!(record.quota(day).is_some() && record.quota(later).is_some());
        assert!(record.quota(gone).is_none());
    }
}
