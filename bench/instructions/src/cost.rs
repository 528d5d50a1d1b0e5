//! What a request of a scenario costs, beside instructions.

use std::thread;

use crate::allocations;
use crate::scenario::Scenario;

/// Over how many requests the averages are taken.
const COUNT: usize = 1000;

/// Averages over many requests.
#[derive(Clone, Debug)]
pub struct Cost {
    /// How often the plugin asks for memory.
    pub allocations: f64,
    /// How many bytes it asks for.
    pub bytes: f64,
    /// The calls of the host, by their names in the ABI without `proxy_`.
    pub calls: Vec<(&'static str, f64)>,
}

impl Cost {
    /// The calls of the host as text.
    pub fn calls(&self) -> String {
        let calls = self
            .calls
            .iter()
            .map(|(name, each)| format!("{name} {each}"));
        calls.collect::<Vec<_>>().join(", ")
    }

    /// How many calls of the host there are.
    pub fn all_calls(&self) -> f64 {
        self.calls.iter().map(|(_, each)| each).sum()
    }
}

/// Measures a scenario. Memory is counted where [`Counting`](allocations::Counting) is the
/// allocator.
///
/// # Panics
///
/// When a request is not answered as it should be.
pub fn measure(scenario: Scenario) -> Cost {
    // A host of its own, which is a thread's.
    let measured = thread::spawn(move || {
        let mut session = scenario.start(COUNT);
        let (calls, asked) = (session.plugin().calls(), allocations::so_far());
        session.send(COUNT);
        let asked_then = allocations::so_far();
        let each = |now: u64, before: u64| (now - before) as f64 / COUNT as f64;
        let now = session.plugin().calls().into_iter();
        let calls = now.map(|(name, now)| {
            let before = calls.get(name).copied().unwrap_or_default();
            (name.trim_start_matches("proxy_"), each(now, before))
        });
        Cost {
            allocations: each(asked_then.times, asked.times),
            bytes: each(asked_then.bytes, asked.bytes),
            calls: calls.filter(|(_, each)| *each > 0.0).collect(),
        }
    });
    measured.join().expect("a scenario that runs")
}
