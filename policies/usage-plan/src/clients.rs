//! Callers that are known by a verified token: which consumer or plan is theirs, and where the
//! usage of those is kept that the configuration does not name.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use tollgate_claims::{ClaimPath, key_text};
use tollgate_core::host::Host;
use tollgate_core::name_list::NameList;
use tollgate_core::shared::{UpdateFailed, agreed_seed};
use tollgate_core::token::Token;
use tollgate_rate_table::{SLOTS_PER_PAGE, Seed, TableSize};

use crate::record::Record;

/// Which consumer a token's client is.
#[derive(Default)]
pub(crate) struct Clients {
    listed: HashMap<Box<str>, Vec<(Provider, u32)>>,
    /// Where clients may be known by a consumer's id.
    by_id: Option<ById>,
}

/// Consumers who are known by their ids.
struct ById {
    ids: Arc<NameList>,
    /// Those who are not, because they list their clients; sorted.
    except: Box<[u32]>,
}

/// The provider whose tokens name the client so; all if absent.
pub(crate) type Provider = Option<Box<str>>;

impl Clients {
    /// Adds a client's name for a consumer; gives back the consumer that has it already.
    pub(crate) fn add(&mut self, name: &str, provider: Provider, consumer: u32) -> Option<u32> {
        let named = self.listed.entry(name.into()).or_default();
        let taken = named.iter().find(|(known, _)| *known == provider);
        if let Some((_, other)) = taken {
            return Some(*other);
        }
        named.push((provider, consumer));
        None
    }

    /// Lets all consumers but these, who are sorted, be known by their ids too.
    pub(crate) fn know_by_id(&mut self, ids: &Arc<NameList>, except: Box<[u32]>) {
        let ids = Arc::clone(ids);
        self.by_id = Some(ById { ids, except });
    }

    /// The consumer that a token was issued to. What is said of its provider goes first, and what is
    /// listed goes before what is only meant.
    pub(crate) fn find(&self, token: &Token) -> Option<u32> {
        let client = token.client.as_deref()?;
        let named = self.listed.get(client).map_or(&[][..], Vec::as_slice);
        let of = |wanted: Option<&str>| {
            let mut named = named.iter();
            let found = named.find(|(provider, _)| provider.as_deref() == wanted);
            found.map(|(_, consumer)| *consumer)
        };
        of(Some(&*token.provider))
            .or_else(|| of(None))
            .or_else(|| self.by_id.as_ref()?.find(client))
    }
}

impl ById {
    fn find(&self, client: &str) -> Option<u32> {
        let consumer = self.ids.find(client)?;
        self.except.binary_search(&consumer).err()?;
        Some(consumer)
    }
}

/// How callers with a token come to a plan.
pub(crate) struct TokenPlans {
    pub(crate) plan_claim: Option<ClaimPath>,
    /// The providers whose claim counts; all if absent.
    pub(crate) providers: Option<Vec<Box<str>>>,
    pub(crate) default: Option<u16>,
    pub(crate) client_claim: Option<ClaimPath>,
    /// The plans by their names.
    pub(crate) names: HashMap<Box<str>, u16>,
    /// How many pages the usage of clients takes at most.
    pub(crate) size: TableSize,
    /// What the keys of these pages begin with.
    pub(crate) prefix: Box<str>,
}

/// What a token's claims say about the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimedPlan {
    /// Nothing.
    None,
    /// One that the configuration has.
    Plan(u16),
    /// One that it has not.
    Unknown,
}

impl TokenPlans {
    pub(crate) fn claimed(&self, token: &Token) -> ClaimedPlan {
        let counts = self.providers.as_ref().is_none_or(|providers| {
            let mut providers = providers.iter();
            providers.any(|name| **name == *token.provider)
        });
        let claim = self
            .plan_claim
            .as_ref()
            .filter(|_| counts)
            .and_then(|claim| claim.find(&token.claims));
        match claim {
            None => ClaimedPlan::None,
            Some(claim) => match claim.as_str().and_then(|name| self.names.get(name)) {
                Some(plan) => ClaimedPlan::Plan(*plan),
                None => ClaimedPlan::Unknown,
            },
        }
    }

    /// Where the usage of a token's client is kept: a page, and a tag in it. `None` if the token
    /// does not name its client.
    pub(crate) fn place<H: Host>(
        &self,
        token: &Token,
        host: &H,
    ) -> Result<Option<ClientPlace>, UpdateFailed> {
        let client = match &self.client_claim {
            Some(claim) => claim
                .find(&token.claims)
                .and_then(key_text)
                .map(|name| ("claim", name)),
            None => {
                let client = token.client.as_ref().map(|name| ("client", name));
                let subject = || token.subject.as_ref().map(|name| ("subject", name));
                let named = client.or_else(subject);
                named.map(|(sort, name)| (sort, name.as_bytes().into()))
            }
        };
        // A subject is not the client of the same name.
        let Some((sort, client)) = client else {
            return Ok(None);
        };
        let seed = Seed::from_bytes(agreed_seed(host)?);
        // Issuers need not know of one another's clients.
        let hash = seed.client([token.provider.as_bytes(), sort.as_bytes(), &client]);
        Ok(Some(ClientPlace {
            page: hash.page(self.size),
            tag: hash.tag(),
        }))
    }

    /// The key of a page in the shared state.
    pub(crate) fn key(&self, place: ClientPlace) -> String {
        format!("{}{}", self.prefix, place.page)
    }
}

/// Where the usage of a client is kept that the configuration does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientPlace {
    page: u32,
    tag: NonZeroU64,
}

/// The records of some clients, in one entry of the shared state: each as its tag (8 bytes,
/// little-endian), its length (2) and its bytes. The page has room for [`SLOTS_PER_PAGE`]; a client
/// whose buckets are full and whose quota periods are over makes room for another, and nobody else
/// does: a quota is never forgotten.
pub(crate) struct ClientPage(Vec<(NonZeroU64, Vec<u8>)>);

impl ClientPage {
    /// Reads an entry. One that can't be read is like one that is absent.
    pub(crate) fn read(bytes: Option<&[u8]>) -> Self {
        ClientPage(bytes.and_then(parse).unwrap_or_default())
    }

    /// The record of a client.
    pub(crate) fn record(&self, place: ClientPlace) -> Record {
        let found = self.0.iter().find(|(tag, _)| *tag == place.tag);
        Record::read(found.map(|(_, record)| record.as_slice()))
    }

    /// Stores the record of a client; `Err` if there is no room for one more at this time.
    pub(crate) fn store(
        &mut self,
        place: ClientPlace,
        record: &Record,
        (now_nanos, now_seconds): (u64, i64),
    ) -> Result<(), UpdateFailed> {
        let bytes = record.to_bytes();
        if let Some((_, stored)) = self.0.iter_mut().find(|(tag, _)| *tag == place.tag) {
            *stored = bytes;
            return Ok(());
        }
        if self.0.len() >= SLOTS_PER_PAGE {
            self.0
                .retain(|(_, record)| !Record::read(Some(record)).is_idle(now_nanos, now_seconds));
        }
        if self.0.len() >= SLOTS_PER_PAGE {
            return Err(UpdateFailed::Full);
        }
        self.0.push((place.tag, bytes));
        Ok(())
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(self.0.len().saturating_mul(64));
        for (tag, record) in &self.0 {
            // A record is some thousand bytes at most: its plan bounds it.
            let length = u16::try_from(record.len()).unwrap_or(u16::MAX);
            page.extend_from_slice(&tag.get().to_le_bytes());
            page.extend_from_slice(&length.to_le_bytes());
            page.extend(record.iter().take(usize::from(length)));
        }
        page
    }
}

fn parse(mut bytes: &[u8]) -> Option<Vec<(NonZeroU64, Vec<u8>)>> {
    let mut records = Vec::with_capacity(SLOTS_PER_PAGE);
    while !bytes.is_empty() {
        let (tag, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (record, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        records.push((NonZeroU64::new(u64::from_le_bytes(*tag))?, record.to_vec()));
        bytes = rest;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::record::{LimitId, StoredQuota};

    fn place(tag: u64) -> ClientPlace {
        ClientPlace {
            page: 0,
            tag: NonZeroU64::new(tag).unwrap(),
        }
    }

    fn record(end: i64, used: u64) -> Record {
        let mut record = Record::default();
        record.set_quota(StoredQuota {
            id: LimitId::of("day"),
            start: 0,
            end,
            used,
        });
        record
    }

    #[test]
    fn records_of_a_page_are_kept_apart() {
        let mut page = ClientPage::read(None);
        page.store(place(1), &record(100, 7), (0, 0)).unwrap();
        page.store(place(2), &record(100, 9), (0, 0)).unwrap();
        page.store(place(1), &record(100, 8), (0, 0)).unwrap();
        let page = ClientPage::read(Some(&page.to_bytes()));
        assert_eq!(page.record(place(1)), record(100, 8));
        assert_eq!(page.record(place(2)), record(100, 9));
        assert_eq!(page.record(place(3)), Record::default());
    }

    #[test]
    fn a_full_page_keeps_every_quota_that_runs() {
        let mut page = ClientPage::read(None);
        for tag in 1..=SLOTS_PER_PAGE as u64 {
            let end = if tag == 5 { 50 } else { 100 };
            page.store(place(tag), &record(end, tag), (0, 0)).unwrap();
        }
        let next = place(1000);
        assert_eq!(
            page.store(next, &record(100, 1), (0, 49)),
            Err(UpdateFailed::Full)
        );
        // One that is there can still be charged.
        page.store(place(7), &record(100, 70), (0, 49)).unwrap();
        page.store(next, &record(100, 1), (0, 50)).unwrap();
        assert_eq!(page.record(place(5)), Record::default());
        assert_eq!(page.record(place(6)), record(100, 6));
        assert_eq!(page.record(place(7)), record(100, 70));
    }

    #[test]
    fn what_cant_be_read_is_as_if_it_were_not_there() {
        let mut bytes = {
            let mut page = ClientPage::read(None);
            page.store(place(1), &record(100, 7), (0, 0)).unwrap();
            page.to_bytes()
        };
        bytes.pop();
        assert_eq!(
            ClientPage::read(Some(&bytes)).record(place(1)),
            Record::default()
        );
    }
}
