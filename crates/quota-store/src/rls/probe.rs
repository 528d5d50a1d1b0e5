//! Finding out, at the start, whether a server does what will be asked of it.
//!
//! A server that is set up otherwise than we think answers all the same, and counts something else.
//! So before the first report, two calls are made about a consumer that exists for the probe alone:
//! 7 hits, then none.

use std::fmt;
use std::time::Duration;

use tollgate_calendar::Window;

use super::{Call, Descriptor, Profile, Purpose, RateLimitService, Report, Status};
use crate::StoreError;

/// How far the server's clock may be from ours, and its window's end from our window's.
const TOLERANCE_SECONDS: u64 = 60;

const HITS: u32 = 7;

/// A probe under way.
#[derive(Clone, Debug)]
pub struct Probe {
    service: RateLimitService,
    report: Report,
    limit: u32,
    window: Window,
    first: Option<Status>,
}

/// What comes next.
#[derive(Clone, Debug)]
pub enum ProbeStep {
    /// Make this call, and hand its answer to [`Probe::answered`].
    Call(Call),
    /// The probe is over.
    Done(Verdict),
}

/// What the probe has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server does what it should.
    Good,
    /// It does not. All that was found, each a sentence.
    Bad(Vec<Finding>),
    /// It gave no answer that tells. Try again, unless the error says that this won't help.
    Failed(StoreError),
    /// A window is about to end, so that nothing can be told. Begin another probe later.
    TryLater,
}

/// Something about a server that would make it count wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It applies no limit to the plan.
    NoLimit,
    /// Its limit is another.
    LimitDiffers {
        /// As our configuration has it.
        ours: u32,
        /// As the server has it.
        theirs: u32,
    },
    /// It counts 1, whatever a descriptor says.
    HitsIgnored,
    /// It does not say what remains.
    RemainingMissing,
    /// Its window ends at another time; in seconds since the Unix epoch.
    WindowDiffers {
        /// By our calendar.
        ours: i64,
        /// By the server's answer and our clock.
        theirs: i64,
    },
}

impl Probe {
    /// A probe by a quota of a plan: best the quota with the longest period, and of those the one
    /// with the largest limit. `window` is its present one.
    ///
    /// The consumer must be new to the server, so that nobody else counts there: make its
    /// [tag](crate::ConsumerTag) from the id of this Envoy and the time.
    pub fn new(
        service: RateLimitService,
        descriptor: Descriptor,
        limit: u32,
        window: Window,
    ) -> Probe {
        let hits = HITS;
        Probe {
            service,
            report: Report { descriptor, hits },
            limit,
            window,
            first: None,
        }
    }

    /// The first call.
    pub fn start(&self) -> Call {
        self.call(Purpose::Ask)
    }

    /// Takes the answer to the call that was made last, or the error that came instead.
    ///
    /// `now` is in seconds since the Unix epoch.
    pub fn answered(&mut self, now: i64, answer: Result<&[u8], StoreError>) -> ProbeStep {
        if self.window.remaining_seconds(now) <= self.tolerance() {
            return ProbeStep::Done(Verdict::TryLater);
        }
        let purpose = match self.first {
            None => Purpose::Ask,
            Some(_) => Purpose::Peek,
        };
        let status = answer.and_then(|message| self.read(purpose, message));
        match (status, self.first) {
            (Err(StoreError::NoLimit), _) => done(vec![Finding::NoLimit]),
            (Err(error), _) => ProbeStep::Done(Verdict::Failed(error)),
            (Ok(status), None) => {
                self.first = Some(status);
                ProbeStep::Call(self.call(Purpose::Peek))
            }
            (Ok(second), Some(first)) => done(self.findings(now, first, second)),
        }
    }

    fn call(&self, purpose: Purpose) -> Call {
        self.service
            .encode(purpose, std::slice::from_ref(&self.report))
    }

    fn read(&self, purpose: Purpose, message: &[u8]) -> Result<Status, StoreError> {
        let batch = std::slice::from_ref(&self.report);
        let mut statuses = self.service.decode(purpose, batch, message);
        let garbled = Err(StoreError::garbled("one status", message));
        statuses.pop().unwrap_or(garbled)
    }

    fn findings(&self, now: i64, first: Status, second: Status) -> Vec<Finding> {
        let limit = first.limit.filter(|theirs| *theirs != self.limit);
        let window_end = first.reset.and_then(|reset| self.differing_end(now, reset));
        [
            limit.map(|theirs| Finding::LimitDiffers {
                ours: self.limit,
                theirs,
            }),
            self.miscounts(first, second),
            window_end.map(|theirs| Finding::WindowDiffers {
                ours: self.window.end,
                theirs,
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What is wrong with how the server has counted 7 hits, then none.
    fn miscounts(&self, first: Status, second: Status) -> Option<Finding> {
        let limit = first.limit.unwrap_or(self.limit);
        let (over, remaining) = match limit.checked_sub(HITS) {
            Some(remaining) => (false, remaining),
            None => (true, 0),
        };
        match self.service.profile {
            Profile::EnvoyRatelimit => {
                let counted =
                    |status: Status| status.over == over && status.remaining == Some(remaining);
                (!counted(first) || !counted(second)).then_some(Finding::HitsIgnored)
            }
            // What does not fit is not counted, and a peek does not say what remains.
            Profile::Limitador if first.remaining.is_none() => Some(Finding::RemainingMissing),
            Profile::Limitador if over => (!first.over).then_some(Finding::HitsIgnored),
            Profile::Limitador => {
                let counted = !first.over && first.remaining == Some(remaining);
                (!counted).then_some(Finding::HitsIgnored)
            }
        }
    }

    /// When the server's window ends, if that is not when ours does. Limitador's begins with the
    /// first hit; its end means nothing, since the period is among the words that name a counter.
    fn differing_end(&self, now: i64, reset: Duration) -> Option<i64> {
        let seconds = i64::try_from(reset.as_secs()).unwrap_or(i64::MAX);
        let theirs = now.saturating_add(seconds);
        let apart = theirs.abs_diff(self.window.end) > self.tolerance();
        (apart && self.service.profile == Profile::EnvoyRatelimit).then_some(theirs)
    }

    fn tolerance(&self) -> u64 {
        let quarter = self.window.length_seconds().checked_div(4).unwrap_or(0);
        quarter.min(TOLERANCE_SECONDS)
    }
}

fn done(findings: Vec<Finding>) -> ProbeStep {
    ProbeStep::Done(match findings.is_empty() {
        true => Verdict::Good,
        false => Verdict::Bad(findings),
    })
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Good => f.write_str("the rate limit service counts as it should"),
            Verdict::Bad(findings) => {
                f.write_str("the rate limit service would count wrongly: ")?;
                for (i, finding) in findings.iter().enumerate() {
                    let divider = if i == 0 { "" } else { "; " };
                    write!(f, "{divider}{finding}")?;
                }
                Ok(())
            }
            Verdict::Failed(error) => write!(f, "the rate limit service can't be probed: {error}"),
            Verdict::TryLater => f.write_str("the probe waits for a new window"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::NoLimit => StoreError::NoLimit.fmt(f),
            Finding::LimitDiffers { ours, theirs } => write!(
                f,
                "its limit is {theirs} where the plan's is {ours}; load the configuration that \
                 belongs to these plans"
            ),
            Finding::HitsIgnored => f.write_str(
                "it does not count the hits that each descriptor says; envoyproxy/ratelimit does \
                 since the end of 2024, so use a newer image, and no shadow mode",
            ),
            Finding::RemainingMissing => f.write_str(
                "it does not say what remains; run Limitador with --rate-limit-headers \
                 DRAFT_VERSION_03, and with limits for these plans",
            ),
            Finding::WindowDiffers { ours, theirs } => {
                let (ours, theirs) = (label(*ours), label(*theirs));
                write!(
                    f,
                    "its window ends at {theirs}, the quota's at {ours}; for months, run \
                     envoyproxy/ratelimit with USE_CALENDAR_MONTH_RATE_LIMIT=true, of an image that \
                     knows it (others take 30 days for a month), and check the clocks"
                )
            }
        }
    }
}

fn label(instant: i64) -> String {
    crate::window_label(instant)
}
