//! What came of a run.

use crate::store::CounterId;

#[derive(Default)]
pub(crate) struct Outcome {
    windows: [Vec<Tally>; 2],
    pub(crate) throttled: u64,
    pub(crate) refused: u64,
    /// Refused because the store did not answer.
    pub(crate) failed: u64,
    /// How long requests waited, in microseconds.
    waits: Vec<u32>,
    /// What the store did in each second: exchanges and counters.
    pub(crate) load: Vec<(u64, u64)>,
    /// What was promised and not kept.
    pub(crate) violations: Vec<String>,
    pub(crate) summary: Summary,
}

/// Of one consumer in one window, in units.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// What its throttles let through.
    pub(crate) demand: u64,
    pub(crate) admitted: u64,
    /// Of that, what Envoys admitted on their own because the store did not answer.
    pub(crate) alone: u64,
    /// What was admitted and lost with an Envoy.
    pub(crate) lost: u64,
    /// How often an Envoy ended that had something to tell.
    pub(crate) crashes: u64,
    /// How often an Envoy told usage later than the horizon.
    pub(crate) silent: u64,
    /// What the store had booked and forgot.
    pub(crate) forgotten: u64,
}

/// Over all consumers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) demand: u64,
    pub(crate) admitted: u64,
    pub(crate) alone: u64,
    pub(crate) lost: u64,
    pub(crate) over: Spread,
    /// What was asked for and left, and refused all the same.
    pub(crate) under: Spread,
    /// Counters whose limit was reached.
    pub(crate) spent: u64,
    pub(crate) waited: u64,
    pub(crate) wait_p50_ms: f64,
    pub(crate) wait_p99_ms: f64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    pub(crate) sum: u64,
    pub(crate) max: u64,
    /// Of the consumers who reached their limit.
    pub(crate) p999: u64,
}

impl Outcome {
    pub(crate) fn new(consumers: usize) -> Self {
        Outcome {
            windows: [
                vec![Tally::default(); consumers],
                vec![Tally::default(); consumers],
            ],
            ..Outcome::default()
        }
    }

    pub(crate) fn tally(&mut self, id: CounterId) -> &mut Tally {
        &mut self.windows[id.window as usize][id.consumer as usize]
    }

    pub(crate) fn read(&self, id: CounterId) -> &Tally {
        &self.windows[id.window as usize][id.consumer as usize]
    }

    pub(crate) fn waited(&mut self, ns: u64) {
        self.waits.push((ns / 1_000) as u32);
    }

    /// Adds everything up. `promise` says what a counter had left, and how much more may have been
    /// admitted, if something is promised.
    pub(crate) fn close(&mut self, promise: impl Fn(CounterId, &Tally) -> (u64, Option<u64>)) {
        let mut summary = Summary::default();
        let (mut overs, mut unders) = (Vec::new(), Vec::new());
        for (window, tallies) in (0..).zip(&self.windows) {
            for (consumer, tally) in (0..).zip(tallies).filter(|(_, tally)| tally.demand > 0) {
                let id = CounterId { window, consumer };
                let (rest, allowed) = promise(id, tally);
                summary.demand += tally.demand;
                summary.admitted += tally.admitted;
                summary.alone += tally.alone;
                summary.lost += tally.lost;
                let over = tally.admitted.saturating_sub(rest);
                let due = rest.min(tally.demand);
                let under = due.saturating_sub(tally.admitted);
                if tally.demand >= rest {
                    summary.spent += 1;
                    overs.push(over);
                }
                unders.push(under);
                if allowed.is_some_and(|allowed| over > allowed) {
                    let what = format!("{id:?}: {over} over the limit, allowed {allowed:?}");
                    self.violations.push(what);
                }
            }
        }
        summary.over = Spread::of(overs);
        summary.under = Spread::of(unders);
        self.waits.sort_unstable();
        summary.waited = self.waits.len() as u64;
        summary.wait_p50_ms = quantile(&self.waits, 0.5).map_or(0.0, in_ms);
        summary.wait_p99_ms = quantile(&self.waits, 0.99).map_or(0.0, in_ms);
        self.summary = summary;
    }
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Spread {
            sum: values.iter().sum(),
            max: values.last().copied().unwrap_or(0),
            p999: quantile(&values, 0.999).unwrap_or(0),
        }
    }
}

fn in_ms(us: u32) -> f64 {
    f64::from(us) / 1_000.0
}

fn quantile<T: Copy>(sorted: &[T], part: f64) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * part).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_is_allowed_is_a_broken_promise() {
        let judged = |admitted, allowed| {
            let mut outcome = Outcome::new(3);
            let id = CounterId {
                window: 1,
                consumer: 2,
            };
            outcome.tally(id).demand = 20;
            outcome.tally(id).admitted = admitted;
            outcome.close(|_, _| (10, allowed));
            (outcome.violations.len(), outcome.summary)
        };
        let (broken, summary) = judged(13, Some(2));
        assert_eq!((broken, summary.over.max, summary.under.max), (1, 3, 0));
        assert_eq!(judged(13, Some(3)).0, 0);
        assert_eq!(judged(13, None).0, 0);
        let (broken, summary) = judged(8, Some(0));
        assert_eq!((broken, summary.over.max, summary.under.max), (0, 0, 2));
    }
}
