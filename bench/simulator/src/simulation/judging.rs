//! Whether what came of a run is what was promised.

use hashbrown::HashMap;

use super::{Simulation, Strategy, used_before};
use crate::demand::SKEW_OF_CLOCKS;
use crate::outcome::{Outcome, Tally};
use crate::store::CounterId;

impl Simulation<'_> {
    /// What came of it, and whether it is what was promised.
    pub(super) fn judge(mut self) -> Outcome {
        let mut consumed: HashMap<CounterId, u64> = HashMap::new();
        for envoy in &self.envoys {
            for (id, cell) in &envoy.cells {
                *consumed.entry(*id).or_default() += cell.ledger.consumed();
            }
        }
        if self.strategy.has_ledger() {
            for (id, total) in self.store.totals() {
                let tally = self.outcome.read(id);
                let consumed = consumed.get(&id).copied().unwrap_or(0);
                let booked = total - used_before(&self.population, id).min(total);
                if tally.forgotten == 0 && booked < consumed {
                    let what = format!("{id:?}: {booked} of {consumed} are booked");
                    self.outcome.violations.push(what);
                }
            }
        }
        self.outcome.load = std::mem::take(&mut self.store.load);
        let (population, terms, strategy) = (&self.population, &self.terms, self.strategy);
        self.outcome.close(|id, tally: &Tally| {
            let consumer = population.consumer(id.consumer as usize);
            let plan = population.plans[consumer.tier];
            let rest = plan.limit - used_before(population, id);
            let span = terms[consumer.tier].horizon_ns() + SKEW_OF_CLOCKS;
            let each = plan.rate.units_in(span);
            let excused = tally.alone + tally.forgotten;
            let allowed = match strategy {
                Strategy::Strict => Some(excused),
                Strategy::Adaptive => Some(excused + (tally.silent + tally.crashes) * each),
                Strategy::Synchronous => Some(tally.forgotten),
                Strategy::Naive | Strategy::Learning => None,
            };
            (rest, allowed)
        });
        self.outcome
    }
}
