//! Charging a request to the limits that are about it.

use std::time::Duration;

use serde_json::json;
use tollgate_core::host::Host;
use tollgate_core::limit_headers::{LimitStatus, filling_time, whole_seconds};
use tollgate_core::policy::{Exchange, Mode, Policy as _, StepResult};
use tollgate_core::problem::Problem;
use tollgate_core::shared::{OnContention, UpdateFailed};
use tollgate_core::telemetry::count_uncounted;
use tollgate_gcra::Bucket;
use tollgate_rate_table::{
    Charged, Denied, LeaseSlot, Meter, NoLease, Page, PenaltyBucket, PenaltySlot, RateSlot,
};

use crate::counters::Event;
use crate::limit::{Kind, Limit};
use crate::place::{Opened, Place};
use crate::problems::{CLIENT_BLOCKED, CONCURRENCY_LIMITED, LIMIT_UNAVAILABLE, RATE_LIMITED};
use crate::{Charge, RateLimit, Stream, is_shield};

/// What a limit says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Admitted {
        remaining: u32,
        next_in_ns: u64,
    },
    Refused {
        remaining: u32,
        next_in_ns: u64,
        retry_after_ns: u64,
    },
    Blocked {
        remaining_ns: u64,
    },
}

/// A limit's entry for the request's client, read and not yet charged.
struct Pending<'a> {
    index: usize,
    limit: &'a Limit,
    place: Place,
    cost: u32,
    page: OpenedPage,
}

enum OpenedPage {
    Rate(Opened<RateSlot>),
    Penalty(Opened<PenaltySlot>),
}

impl RateLimit {
    /// Charges the limits that count all requests. Each is charged for itself, and stays so.
    pub(crate) fn shield<H: Host>(&self, x: &mut Exchange<'_, H>) -> StepResult {
        for (index, limit) in self.applying(is_shield, x)? {
            let judged = self
                .open(index, limit, x)
                .and_then(|pending| charge(pending, x));
            match judged {
                Ok((verdict, _)) => conclude(limit, verdict, x)?,
                Err(failure) => uncounted(limit, failure, x)?,
            }
        }
        Ok(())
    }

    /// Charges the limits that count admitted requests: all of those that are enforced or none.
    pub(crate) fn throttle<H: Host>(
        &self,
        stream: &mut Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        let would_deny = x.facts.would_deny.is_some();
        let is_rate = move |limit: &Limit| {
            !is_shield(limit)
                && !matches!(limit.kind, Kind::Concurrency { .. })
                && is_due(limit, would_deny)
        };
        let applying = self.applying(is_rate, x)?;
        let mut pending = Vec::with_capacity(applying.len());
        for (index, limit) in applying {
            match self.open(index, limit, x) {
                Ok(opened) => pending.push(opened),
                Err(failure) => uncounted(limit, failure, x)?,
            }
        }
        self.refuse_if_any_does(&mut pending, stream, x)?;
        for pending in pending {
            let (index, limit) = (pending.index, pending.limit);
            match charge(pending, x) {
                Ok((verdict @ Verdict::Admitted { .. }, (place, cost))) => {
                    stream.charged.push(Charge {
                        limit: index,
                        place,
                        cost,
                    });
                    conclude(limit, verdict, x)?;
                }
                // Another worker has taken what was there when it was looked at. What this request
                // was charged by others is given back when it is refused.
                Ok((verdict, _)) => conclude(limit, verdict, x)?,
                Err(failure) => uncounted(limit, failure, x)?,
            }
        }
        Ok(())
    }

    /// Takes the request's places among those under way.
    pub(crate) fn enter<H: Host>(
        &self,
        stream: &mut Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        let would_deny = x.facts.would_deny.is_some();
        let is_concurrency = move |limit: &Limit| {
            matches!(limit.kind, Kind::Concurrency { .. }) && is_due(limit, would_deny)
        };
        for (index, limit) in self.applying(is_concurrency, x)? {
            let Kind::Concurrency { most, lease_ns } = limit.kind else {
                continue;
            };
            let place = match self.seed(x.host) {
                Ok(seed) => limit.place(seed, x),
                Err(failure) => {
                    uncounted(limit, failure, x)?;
                    continue;
                }
            };
            let epoch = x.now.as_nanos() / lease_ns;
            let lease = place.update(x.host, None, |page: &mut Page<LeaseSlot>| {
                let lease = page.acquire(place.client(), most, epoch);
                (lease.is_ok(), lease)
            });
            match lease {
                Ok(Ok(lease)) => {
                    limit
                        .counters
                        .count(x.host, limit.name.as_str(), Event::Allowed);
                    stream.leases.push((index, place, lease));
                }
                Ok(Err(NoLease::Full { .. })) => refuse(limit, too_many_under_way(limit, x), x)?,
                Ok(Err(NoLease::PageFull)) => uncounted(limit, UpdateFailed::Full, x)?,
                Err(failure) => uncounted(limit, failure, x)?,
            }
        }
        Ok(())
    }

    fn open<'a, H: Host>(
        &self,
        index: usize,
        limit: &'a Limit,
        x: &Exchange<'_, H>,
    ) -> Result<Pending<'a>, UpdateFailed> {
        let seed = self.seed(x.host)?;
        let place = limit.place(seed, x);
        let page = match limit.kind {
            Kind::Penalty(_) => OpenedPage::Penalty(place.open(x.host)?),
            // Concurrency limits have a step of their own and do not come here.
            Kind::Rate(_) | Kind::Concurrency { .. } => OpenedPage::Rate(place.open(x.host)?),
        };
        Ok(Pending {
            index,
            limit,
            cost: limit.cost(x),
            place,
            page,
        })
    }

    /// Refuses the request if an enforced limit does not admit it, before any is charged.
    fn refuse_if_any_does<H: Host>(
        &self,
        pending: &mut Vec<Pending<'_>>,
        stream: &mut Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        let now = x.now.as_nanos();
        let enforced = |waiting: &&Pending<'_>| waiting.limit.mode == Mode::Enforce;
        let mut refusals = Vec::new();
        for waiting in pending.iter().filter(enforced) {
            let verdict = waiting.peek(now, waiting.cost);
            if !matches!(verdict, Verdict::Admitted { .. }) {
                refusals.push((waiting.limit, verdict));
            }
        }
        if refusals.is_empty() {
            return Ok(());
        }
        // Of the limits that would have admitted it, the client is told what is still there.
        let standing = |waiting: &Pending<'_>| {
            let verdict = match waiting.peek(now, waiting.cost) {
                Verdict::Admitted { .. } => waiting.peek(now, 0),
                refused => refused,
            };
            status(waiting.limit, verdict)
        };
        x.limits
            .extend(pending.iter().filter(enforced).filter_map(standing));
        for waiting in pending.drain(..) {
            let refused = !matches!(waiting.peek(now, waiting.cost), Verdict::Admitted { .. });
            let (index, limit) = (waiting.index, waiting.limit);
            if !refused || limit.mode == Mode::Shadow {
                continue;
            }
            // A denial may change the bucket: it may count towards a block, and one that the clock
            // has left behind by stepping back is brought along. Whether that is stored or not, the
            // request is refused. If another worker has given something back meanwhile it is
            // charged instead, and gets that back.
            if let Ok((Verdict::Admitted { .. }, (place, cost))) = charge(waiting, x) {
                stream.charged.push(Charge {
                    limit: index,
                    place,
                    cost,
                });
            }
            limit
                .counters
                .count(x.host, limit.name.as_str(), Event::Denied);
        }
        Err(too_many(&refusals, x).into())
    }

    /// Gives back what a request was charged, and tells the client how it stands without it.
    pub(crate) fn give_back<H: Host>(&self, charge: Charge, x: &mut Exchange<'_, H>) {
        let Charge { limit, place, cost } = charge;
        let Some(limit) = self.limits.get(limit) else {
            return;
        };
        let standing = match &limit.kind {
            Kind::Rate(bucket) => refund_page::<RateSlot, H>(&place, bucket, cost, x),
            Kind::Penalty(bucket) => refund_page::<PenaltySlot, H>(&place, bucket, cost, x),
            Kind::Concurrency { .. } => return,
        };
        match standing {
            Ok(verdict) if limit.mode == Mode::Enforce => {
                let told = x.limits.iter_mut().find(|told| told.name == limit.name);
                if let (Some(told), Some(status)) = (told, status(limit, verdict)) {
                    *told = status;
                }
            }
            Ok(_) => {}
            Err(failure) => {
                count_uncounted(x.host, Self::SECTION, Some(limit.name.as_str()), failure);
            }
        }
    }
}

impl Pending<'_> {
    /// What the limit would say of a request of this cost, without charging.
    fn peek(&self, now: u64, cost: u32) -> Verdict {
        let client = self.place.client();
        match (&self.page, &self.limit.kind) {
            (OpenedPage::Rate(opened), Kind::Rate(bucket)) => {
                RateSlot::verdict(opened.page.peek(bucket, client, now, cost))
            }
            (OpenedPage::Penalty(opened), Kind::Penalty(bucket)) => {
                PenaltySlot::verdict(opened.page.peek(bucket, client, now, cost))
            }
            // A page is opened by the kind of its limit.
            _ => Verdict::Admitted {
                remaining: 0,
                next_in_ns: 0,
            },
        }
    }
}

/// Whether a limit has its say on a request. One that a policy in shadow mode would have refused
/// before would not have come to those that are tried out; those that are enforced hold whatever
/// others would do.
fn is_due(limit: &Limit, would_deny: bool) -> bool {
    limit.mode == Mode::Enforce || !would_deny
}

/// What a limit says of a request, once it was charged for it or not.
type Judged = (Verdict, (Place, u32));

fn charge<H: Host>(pending: Pending<'_>, x: &Exchange<'_, H>) -> Result<Judged, UpdateFailed> {
    let Pending {
        limit,
        place,
        cost,
        page,
        ..
    } = pending;
    let verdict = match (page, &limit.kind) {
        (OpenedPage::Rate(opened), Kind::Rate(bucket)) => {
            charge_page(limit, &place, opened, bucket, cost, x)?
        }
        (OpenedPage::Penalty(opened), Kind::Penalty(bucket)) => {
            charge_page(limit, &place, opened, bucket, cost, x)?
        }
        // A page is opened by the kind of its limit.
        _ => Verdict::Admitted {
            remaining: 0,
            next_in_ns: 0,
        },
    };
    Ok((verdict, (place, cost)))
}

fn charge_page<S: Judge, H: Host>(
    limit: &Limit,
    place: &Place,
    opened: Opened<S>,
    bucket: &S::Limit,
    cost: u32,
    x: &Exchange<'_, H>,
) -> Result<Verdict, UpdateFailed> {
    let (verdict, evicted) = place.update(x.host, Some(opened), |page: &mut Page<S>| {
        // A denial is judged by a clock that was read after the page. By an earlier one it would
        // take what another worker has charged since for a clock that has stepped back, and give
        // back the difference.
        let early = x.now.as_nanos();
        let now = match page.peek(bucket, place.client(), early, cost) {
            Ok(_) => early,
            Err(_) => x.host.now().as_nanos(),
        };
        let Charged {
            decision,
            evicted,
            changed,
        } = page.charge(bucket, place.client(), now, cost);
        (changed, (S::verdict(decision), evicted.is_some()))
    })?;
    if evicted {
        limit
            .counters
            .count(x.host, limit.name.as_str(), Event::Evicted);
    }
    Ok(verdict)
}

/// Gives back a charge and says how the client then stands.
fn refund_page<S: Judge, H: Host>(
    place: &Place,
    bucket: &S::Limit,
    cost: u32,
    x: &Exchange<'_, H>,
) -> Result<Verdict, UpdateFailed> {
    place.update(x.host, None, |page: &mut Page<S>| {
        // Read after the page, as for a denial.
        let now = x.host.now().as_nanos();
        let changed = page.refund(bucket, place.client(), now, cost);
        (
            changed,
            S::verdict(page.peek(bucket, place.client(), now, 0)),
        )
    })
}

/// A kind of slot whose decisions can be told as a verdict.
trait Judge: Meter {
    fn verdict(decision: Result<tollgate_gcra::Admitted, Self::Denial>) -> Verdict;
}

impl Judge for RateSlot {
    fn verdict(decision: Result<tollgate_gcra::Admitted, Self::Denial>) -> Verdict {
        match decision {
            Ok(admitted) => Verdict::Admitted {
                remaining: admitted.remaining,
                next_in_ns: admitted.next_in_ns,
            },
            Err(refused) => refused_verdict(refused),
        }
    }
}

impl Judge for PenaltySlot {
    fn verdict(decision: Result<tollgate_gcra::Admitted, Self::Denial>) -> Verdict {
        match decision {
            Ok(admitted) => RateSlot::verdict(Ok(admitted)),
            Err(Denied::Refused(refused)) => refused_verdict(refused),
            Err(Denied::Penalized { remaining_ns } | Denied::Blocked { remaining_ns }) => {
                Verdict::Blocked { remaining_ns }
            }
        }
    }
}

fn refused_verdict(refused: tollgate_gcra::Refused) -> Verdict {
    Verdict::Refused {
        remaining: refused.remaining,
        next_in_ns: refused.next_in_ns,
        retry_after_ns: refused.retry_after_ns.unwrap_or(u64::MAX),
    }
}

/// Counts what a limit has said, notes how the client stands, and refuses the request if the limit
/// does.
fn conclude<H: Host>(limit: &Limit, verdict: Verdict, x: &mut Exchange<'_, H>) -> StepResult {
    if limit.mode == Mode::Enforce {
        x.limits.extend(status(limit, verdict));
    }
    match verdict {
        Verdict::Admitted { .. } => {
            limit
                .counters
                .count(x.host, limit.name.as_str(), Event::Allowed);
            Ok(())
        }
        Verdict::Refused { .. } | Verdict::Blocked { .. } => {
            let problem = too_many(&[(limit, verdict)], x);
            refuse(limit, problem, x)
        }
    }
}

fn refuse<H: Host>(limit: &Limit, problem: Problem, x: &mut Exchange<'_, H>) -> StepResult {
    let event = match limit.mode {
        Mode::Enforce => Event::Denied,
        Mode::Shadow => Event::WouldDeny,
    };
    limit.counters.count(x.host, limit.name.as_str(), event);
    limit.mode.refuse(problem, x)
}

fn uncounted<H: Host>(limit: &Limit, failure: UpdateFailed, x: &mut Exchange<'_, H>) -> StepResult {
    count_uncounted(
        x.host,
        RateLimit::SECTION,
        Some(limit.name.as_str()),
        failure,
    );
    match limit.on_contention {
        OnContention::Allow => Ok(()),
        OnContention::Deny => {
            let detail = "The request can't be counted at the moment.";
            let problem = Problem::new(&LIMIT_UNAVAILABLE, detail).with_header("retry-after", "1");
            refuse(limit, problem, x)
        }
    }
}

/// How the client stands, for the headers that tell of it.
fn status(limit: &Limit, verdict: Verdict) -> Option<LimitStatus> {
    let bucket: &Bucket = match &limit.kind {
        Kind::Rate(bucket) | Kind::Penalty(PenaltyBucket { bucket, .. }) => bucket,
        Kind::Concurrency { .. } => return None,
    };
    let (remaining, reset_ns) = match verdict {
        Verdict::Admitted {
            remaining,
            next_in_ns,
        }
        | Verdict::Refused {
            remaining,
            next_in_ns,
            ..
        } => (remaining, next_in_ns),
        Verdict::Blocked { remaining_ns } => (0, remaining_ns),
    };
    let burst = u64::from(bucket.burst().get());
    Some(LimitStatus {
        name: limit.name.clone(),
        allowance: burst,
        window: filling_time(bucket.interval_ns().get(), bucket.burst().get()),
        remaining: u64::from(remaining),
        reset: Duration::from_nanos(reset_ns),
    })
}

/// The answer to a request that some limits refuse: all are named, and the longest wait is told.
fn too_many<H: Host>(refusals: &[(&Limit, Verdict)], x: &Exchange<'_, H>) -> Problem {
    let names: Vec<&str> = refusals
        .iter()
        .map(|(limit, _)| limit.name.as_str())
        .collect();
    let wait = refusals.iter().map(|(limit, verdict)| {
        let nanos = match verdict {
            Verdict::Admitted { .. } => 0,
            Verdict::Refused { retry_after_ns, .. } => *retry_after_ns,
            Verdict::Blocked { remaining_ns } => *remaining_ns,
        };
        retry_after(limit, Duration::from_nanos(nanos), x)
    });
    let blocked = refusals
        .iter()
        .any(|(_, verdict)| matches!(verdict, Verdict::Blocked { .. }));
    let (kind, detail) = match blocked {
        true => (
            &CLIENT_BLOCKED,
            "Too many requests went on after others were refused.",
        ),
        false => (&RATE_LIMITED, "Requests come faster than a limit allows."),
    };
    Problem::new(kind, detail)
        .with("violated-policies", json!(names))
        .with_header("retry-after", wait.max().unwrap_or(1).to_string())
}

fn too_many_under_way<H: Host>(limit: &Limit, x: &Exchange<'_, H>) -> Problem {
    Problem::new(
        &CONCURRENCY_LIMITED,
        "Too many requests are under way at the same time.",
    )
    .with("violated-policies", json!([limit.name.as_str()]))
    .with_header(
        "retry-after",
        retry_after(limit, Duration::ZERO, x).to_string(),
    )
}

/// Whole seconds, at least 1, capped and jittered as configured.
fn retry_after<H: Host>(limit: &Limit, wait: Duration, x: &Exchange<'_, H>) -> u64 {
    let jitter = u64::try_from(limit.retry_after.jitter.as_millis()).unwrap_or(u64::MAX);
    let added = match jitter {
        0 => Duration::ZERO,
        most => {
            let mut random = [0; 8];
            x.host.fill_random(&mut random);
            let millis = u64::from_le_bytes(random).checked_rem(most.saturating_add(1));
            Duration::from_millis(millis.unwrap_or_default())
        }
    };
    let told = match limit.retry_after.max {
        // All who wait for longer are told less than they need; they must not come back together.
        Some(most) if wait >= most => most.saturating_sub(added),
        Some(most) => wait.saturating_add(added).min(most),
        None => wait.saturating_add(added),
    };
    whole_seconds(told)
}
