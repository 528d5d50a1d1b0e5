//! What is simulated.

use crate::demand::{Balancing, ENVOYS};
use crate::simulation::{Attack, Incident, Scenario};
use crate::time::{MS, SECOND};

/// A consumer who is on the smallest plan.
pub(crate) const ATTACKED: usize = 50_000;

/// What the attacked consumer has left.
pub(crate) const LEFT_TO_ATTACK: u64 = 5_000;

pub(crate) fn all() -> Vec<Scenario> {
    let steady = Scenario {
        name: "by-key",
        text: "Requests come to one Envoy of their region, by the consumer's key; a twentieth to \
               other regions. Nothing happens.",
        balancing: Balancing::Hash,
        rate: 10_000.0,
        duration: 60 * SECOND,
        rollover: None,
        skew: 100 * MS,
        attack: None,
        incidents: Vec::new(),
    };
    let at_30_s = |incident| vec![(30 * SECOND, incident)];
    vec![
        steady.clone(),
        Scenario {
            name: "sticky",
            text: "Requests come by connections, of which a consumer has between 1 and 32 to its \
                   region.",
            balancing: Balancing::Sticky,
            ..steady.clone()
        },
        Scenario {
            name: "random",
            text: "Requests come to any Envoy of their region, so each Envoy sees of each \
                   consumer a fiftieth.",
            balancing: Balancing::Random,
            ..steady.clone()
        },
        Scenario {
            name: "month-ends",
            text: "The month ends after 30 s, at full load: every quota begins anew.",
            rollover: Some(30 * SECOND),
            ..steady.clone()
        },
        Scenario {
            name: "clocks-differ",
            text: "The same with clocks that are up to 500 ms before or behind the true time.",
            rollover: Some(30 * SECOND),
            skew: SECOND,
            ..steady.clone()
        },
        Scenario {
            name: "deploy",
            text: "Two minutes in which a tenth of the Envoys is restarted each minute, without \
                   a chance to report.",
            rate: 5_000.0,
            duration: 120 * SECOND,
            incidents: deploy(120),
            ..steady.clone()
        },
        Scenario {
            name: "partition",
            text: "For 10 of 11 minutes, a region can't reach the store.",
            rate: 1_000.0,
            duration: 660 * SECOND,
            incidents: vec![(
                30 * SECOND,
                Incident::Cut {
                    region: 7,
                    until: 630 * SECOND,
                },
            )],
            ..steady.clone()
        },
        Scenario {
            name: "freeze",
            text: "After 30 s, the store does nothing for 3 s.",
            incidents: at_30_s(Incident::Freeze { until: 33 * SECOND }),
            ..steady.clone()
        },
        Scenario {
            name: "data-loss",
            text: "After 30 s, the store goes back to its data of 10 s before.",
            incidents: vec![
                (20 * SECOND, Incident::Save),
                (30 * SECOND, Incident::Restore),
            ],
            ..steady.clone()
        },
        Scenario {
            name: "attack",
            text: "For 10 s, one key with 5000 units left is used at every Envoy, at 100 times \
                   its throttle.",
            balancing: Balancing::Random,
            rate: 2_000.0,
            duration: 30 * SECOND,
            attack: Some(Attack {
                consumer: ATTACKED,
                factor: 100,
                from: 10 * SECOND,
                until: 20 * SECOND,
            }),
            ..steady
        },
    ]
}

/// Restarts a tenth of the Envoys a minute, in all regions by turns.
fn deploy(seconds: u64) -> Vec<(u64, Incident)> {
    let count = ENVOYS as u64 * seconds / 600;
    let restart = |turn: u64| {
        let envoy = (turn as usize * 367) % ENVOYS;
        (turn * seconds * SECOND / count, Incident::Restart { envoy })
    };
    (0..count).map(restart).collect()
}
