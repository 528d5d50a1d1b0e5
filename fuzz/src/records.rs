//! Bytes in the shared state, whoever wrote them: pages of clients, and a consumer's record.

use std::num::{NonZeroU32, NonZeroU64};

use arbitrary::{Arbitrary, Unstructured};
use serde_json::json;
use tollgate_gcra::Bucket;
use tollgate_rate_table::{
    LeasePage, LeaseSlot, Meter, Page, PenaltyBucket, PenaltyPage, RatePage, Seed,
};
use tollgate_testkit::{Clock, Gateway, Process, Request};

use crate::setup::{ACME_KEY, START, sha256};

type Plugin =
    Gateway<tollgate_core::chain!(tollgate_usage_plan::UsagePlan, tollgate_access::Access)>;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    kind: Kind,
    /// Whether the entry begins as one that was written here does, else it is mostly ignored.
    marked: bool,
    entry: &'a [u8],
    now: u64,
}

/// A client, an amount, and what is done.
type Step = (u8, u32, Action);

#[derive(Arbitrary, Debug)]
enum Kind {
    Rate,
    Penalty,
    Lease,
    Record,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Action {
    Take,
    GiveBack,
    StepBack,
}

const MOST_STEPS: usize = 300;

/// Whatever an entry says, what is charged is charged, and what is refused is not.
pub fn check(bytes: &[u8]) {
    let mut rest = Unstructured::new(bytes);
    let Ok(input) = Input::arbitrary(&mut rest) else {
        return;
    };
    let steps: Vec<Step> = std::iter::from_fn(|| match rest.is_empty() {
        true => None,
        false => Step::arbitrary(&mut rest).ok(),
    })
    .take(MOST_STEPS)
    .collect();
    let ten = NonZeroU32::new(10).expect("not 0");
    let second = NonZeroU64::new(1_000_000_000).expect("not 0");
    let bucket = Bucket::new(ten, second, ten).expect("a small bucket");
    match input.kind {
        Kind::Rate => {
            let page = RatePage::from_bytes(entry(&input, RatePage::empty().as_bytes()));
            meter(page, &bucket, input.now, &steps);
        }
        Kind::Penalty => {
            let limit = PenaltyBucket {
                bucket,
                after: ten,
                within_ns: second,
                block_for_ns: second,
            };
            let page = PenaltyPage::from_bytes(entry(&input, PenaltyPage::empty().as_bytes()));
            meter(page, &limit, input.now, &steps);
        }
        Kind::Lease => leases(&input, &steps),
        Kind::Record => record(&input),
    }
}

fn entry(input: &Input<'_>, empty: &[u8]) -> Vec<u8> {
    let mut bytes = input.entry.to_vec();
    if input.marked {
        bytes.resize(empty.len(), 0);
        for (byte, mark) in bytes.iter_mut().zip(empty).take(8) {
            *byte = *mark;
        }
    }
    bytes
}

fn meter<M: Meter>(mut page: Page<M>, limit: &M::Limit, mut now: u64, steps: &[Step]) {
    let size = page.as_bytes().len();
    let seed = Seed::from_bytes([7; 16]);
    for (client, amount, action) in steps {
        let client = seed.client([[*client % 100]]);
        let cost = amount % 16;
        match action {
            Action::Take => {
                let told = page.peek(limit, client, now, cost).is_ok();
                let before = page.as_bytes().to_vec();
                let charged = page.charge(limit, client, now, cost);
                assert_eq!(charged.decision.is_ok(), told, "peek and charge differ");
                assert_eq!(charged.changed, before != page.as_bytes());
                assert!(charged.evicted.is_none() || charged.changed);
                if let Ok(admitted) = charged.decision {
                    let left = page
                        .peek(limit, client, now, 0)
                        .map(|admitted| admitted.remaining);
                    assert_eq!(
                        left.ok(),
                        Some(admitted.remaining),
                        "a charge that does not last"
                    );
                    assert!(admitted.remaining + cost.min(10) <= 10);
                }
            }
            Action::GiveBack => {
                let before = page.as_bytes().to_vec();
                let changed = page.refund(limit, client, now, cost);
                assert_eq!(changed, before != page.as_bytes());
            }
            Action::StepBack => now = now.wrapping_sub(u64::from(*amount) << 20),
        }
        now = now.saturating_add(u64::from(*amount));
        assert_eq!(page.as_bytes().len(), size);
        page = Page::from_bytes(page.into_bytes());
    }
}

fn leases(input: &Input<'_>, steps: &[Step]) {
    let mut page = LeasePage::from_bytes(entry(input, LeasePage::empty().as_bytes()));
    let seed = Seed::from_bytes([7; 16]);
    let limit = NonZeroU32::new(3).expect("not 0");
    let mut held = Vec::new();
    let mut epoch = input.now;
    for (number, amount, action) in steps {
        let client = seed.client([[*number % 100]]);
        match action {
            Action::Take => {
                let before = Page::<LeaseSlot>::held(&page, client, epoch);
                match page.acquire(client, limit, epoch) {
                    Ok(lease) => {
                        assert!(before < limit.get());
                        assert_eq!(page.held(client, epoch), before + 1);
                        held.push((client, lease));
                    }
                    Err(_) => assert_eq!(page.held(client, epoch), before),
                }
            }
            Action::GiveBack if !held.is_empty() => {
                let (client, lease) = held.swap_remove(*amount as usize % held.len());
                let before = page.held(client, epoch);
                if page.release(client, lease) {
                    assert!(page.held(client, epoch) <= before);
                }
            }
            Action::GiveBack => {}
            Action::StepBack => epoch = epoch.wrapping_sub(u64::from(amount % 4)),
        }
        epoch = epoch.saturating_add(u64::from(*amount == 0));
        page = LeasePage::from_bytes(page.into_bytes());
    }
}

/// A record that says anything at all is one of a consumer that gets its limits, and no more.
fn record(input: &Input<'_>) {
    const LIMIT: u64 = 5;
    let process = Process::new(Clock::at(START));
    let document = json!({ "usage_plan": {
        "plans": { "gold": {
            "throttle": "1000/s",
            "quota": { "limit": LIMIT, "period": "day" },
        }},
        "consumers": [{ "id": "acme", "plan": "gold", "keys": [{ "sha256": sha256(ACME_KEY) }] }],
    }});
    let plugin: Plugin = Gateway::on(process.worker(), &document).expect("a good document");
    process.put("tollgate/usage/default acme", input.entry);
    let send = || plugin.send(Request::get("/").header("x-api-key", ACME_KEY));
    let admitted = (0..=LIMIT).filter(|_| send().status == 200).count();
    assert!(admitted as u64 <= LIMIT, "{admitted} admitted");
    assert!(send().status == 429);
}
