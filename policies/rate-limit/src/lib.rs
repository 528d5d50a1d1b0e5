//! Token buckets for everyone: limits on how fast requests come and how many are under way, for
//! clients that nobody configured, in memory that never grows.
//!
//! ```yaml
//! rate_limit:
//! - { name: per-address, key: client_address, rate: 2000 / 5m, count: all, on_exceed: { block_for: 10m } }
//! - { name: per-consumer, key: consumer, rate: 100/s, burst: 200 }
//! - { name: uploads, key: consumer, match: { path: /v1/uploads/**, methods: POST }, concurrent: 4 }
//! ```

mod admission;
mod config;
mod counters;
mod key;
mod limit;
mod place;
pub mod problems;

use std::cell::OnceCell;

use tollgate_core::config::Rejected;
use tollgate_core::host::Host;
use tollgate_core::order;
use tollgate_core::policy::{
    Callbacks, Compile, Exchange, Halt, Policy, Step, StepResult, TargetUse,
};
use tollgate_core::problem::{Kind, Problem, REQUEST_AMBIGUOUS};
use tollgate_core::shared::{UpdateFailed, agreed_seed};
use tollgate_core::telemetry::count_uncounted;
use tollgate_rate_table::{Lease, LeaseSlot, Page, Seed};

use config::Count;
pub use config::LimitConfig;
use limit::Limit;
use place::Place;

/// The policy; see the crate's documentation.
pub struct RateLimit {
    /// The most specific first.
    limits: Vec<Limit>,
    seed: OnceCell<Seed>,
}

/// What the policy remembers of a request.
#[derive(Default)]
pub struct Stream {
    /// What it was charged, to be given back if it is refused after all.
    charged: Vec<Charge>,
    /// Its places among the requests under way, each with its limit's place.
    leases: Vec<(usize, Place, Lease)>,
}

/// What a request was charged by a limit.
struct Charge {
    /// The limit's place.
    limit: usize,
    place: Place,
    cost: u32,
}

impl Policy for RateLimit {
    const SECTION: &'static str = "rate_limit";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS.union(Callbacks::RESPONSE_HEADERS);
    type Section = Vec<LimitConfig>;
    type Stream = Stream;

    fn kinds(kinds: &mut Vec<&'static Kind>) {
        problems::all(kinds);
    }

    fn compile(section: Vec<LimitConfig>, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        let mut limits: Vec<Limit> = Vec::with_capacity(section.len());
        let mut verdict = Ok(());
        if section.is_empty() {
            verdict = Err(cx
                .errors
                .add("rate_limit", "the list is empty: add a limit"));
        }
        let mut names = Vec::with_capacity(section.len());
        for (index, config) in section.into_iter().enumerate() {
            if names.contains(&config.name) {
                let message = format!("\"{}\" is the name of another limit too", config.name);
                verdict = Err(cx.errors.add(format!("rate_limit[{index}].name"), message));
            }
            names.push(config.name.clone());
            match Limit::compile(index, config, cx) {
                Ok(limit) => limits.push(limit),
                Err(rejected) => verdict = Err(rejected),
            }
        }
        order::sort_by(&mut limits, |a, b| b.specificity().cmp(&a.specificity()));
        verdict?;
        Ok(RateLimit {
            limits,
            seed: OnceCell::new(),
        })
    }

    fn target_use(&self) -> TargetUse {
        let uses = self
            .limits
            .iter()
            .map(|limit| TargetUse::of(limit.mode, limit.depends_on_target()));
        uses.max().unwrap_or_default()
    }

    fn step<H: Host>(
        &self,
        step: Step,
        stream: &mut Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        match step {
            Step::Shield => self.shield(x),
            Step::Throttle => self.throttle(stream, x),
            Step::Concurrency => self.enter(stream, x),
            Step::Forward => {
                self.forward(x);
                Ok(())
            }
            Step::Identify | Step::Require | Step::Authenticate | Step::Entitle | Step::Charge => {
                Ok(())
            }
        }
    }

    fn undo<H: Host>(&self, stream: &mut Stream, x: &mut Exchange<'_, H>) {
        for charge in stream.charged.drain(..) {
            self.give_back(charge, x);
        }
        self.leave(stream, x.host);
    }

    fn finish<H: Host>(&self, stream: &mut Stream, host: &H) {
        self.leave(stream, host);
    }
}

impl RateLimit {
    /// Gives back the places among the requests under way.
    fn leave<H: Host>(&self, stream: &mut Stream, host: &H) {
        for (limit, place, lease) in stream.leases.drain(..) {
            let released = place.update(host, None, |page: &mut Page<LeaseSlot>| {
                (page.release(place.client(), lease), ())
            });
            if let Err(failure) = released {
                let name = self.limits.get(limit).map(|limit| limit.name.as_str());
                count_uncounted(host, Self::SECTION, name, failure);
            }
        }
    }

    /// The headers in which trusted callers say what a request costs are not for the upstream.
    fn forward<H>(&self, x: &mut Exchange<'_, H>) {
        for limit in &self.limits {
            if let Some(name) = limit.cost_header()
                && x.request.get(name).is_some()
            {
                x.edits.remove(name.to_owned());
            }
        }
    }

    /// The limits of a kind that are about this request.
    fn applying<'a, H: Host>(
        &'a self,
        wanted: impl Fn(&Limit) -> bool + 'a,
        x: &mut Exchange<'_, H>,
    ) -> Result<Vec<(usize, &'a Limit)>, Halt> {
        // Mostly no limit of a step is about a request; then nothing is allocated.
        let mut applying = Vec::new();
        for (index, limit) in self
            .limits
            .iter()
            .enumerate()
            .filter(|(_, limit)| wanted(limit))
        {
            match limit.applies(x) {
                Ok(true) => applying.push((index, limit)),
                Ok(false) => {}
                Err(ambiguous) => {
                    let problem = Problem::new(&REQUEST_AMBIGUOUS, ambiguous.explanation());
                    limit.mode.refuse(problem, x)?;
                }
            }
        }
        Ok(applying)
    }

    /// The seed of the clients' hashes: random, so that nobody can aim at a page, and shared by the
    /// workers, so that they agree. It is made by whoever comes first.
    fn seed<H: Host>(&self, host: &H) -> Result<&Seed, UpdateFailed> {
        if let Some(seed) = self.seed.get() {
            return Ok(seed);
        }
        let agreed = agreed_seed(host)?;
        Ok(self.seed.get_or_init(|| Seed::from_bytes(agreed)))
    }
}

/// Whether a limit counts all requests, before it is known who calls.
fn is_shield(limit: &Limit) -> bool {
    limit.count == Count::All
}

#[cfg(test)]
mod tests;
