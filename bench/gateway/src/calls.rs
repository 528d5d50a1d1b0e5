//! What calls of the host cost, and of what is added to a request they are the cause.

use serde::Serialize;
use serde_json::{Map, Value};
use tollgate_instructions::cost;
use tollgate_instructions::scenario::Scenario;

use crate::configuration::Configuration;
use crate::h2load::Load;
use crate::measure::{Bench, Case, Row};

/// How often a request makes the call that is measured.
const TIMES: u32 = 20;

/// One call, or all that a request makes.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) row: Row,
    /// How often the call was made, and how often a request of the full document makes it.
    pub(crate) call: Option<Often>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Often {
    pub(crate) measured: f64,
    pub(crate) in_a_request: f64,
}

/// A call by its name in the ABI without `proxy_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Only this one, again and again.
    Of(&'static str),
    /// Each as often as a request of the full document makes it.
    OfFull,
}

impl Calls {
    pub(crate) fn name(self) -> String {
        match self {
            Calls::Of(call) => format!("`{call}`"),
            Calls::OfFull => "all of them".to_owned(),
        }
    }

    /// What the plugin is told that makes them.
    pub(crate) fn document(self) -> Value {
        let calls = match self {
            Calls::Of(call) => vec![(call, TIMES)],
            Calls::OfFull => of_full(),
        };
        let members = calls.into_iter();
        Value::Object(Map::from_iter(
            members.map(|(call, times)| (call.to_owned(), times.into())),
        ))
    }
}

/// The calls that a request of the full document makes.
fn of_full() -> Vec<(&'static str, u32)> {
    let calls = cost::measure(Scenario::Full).calls;
    calls
        .into_iter()
        .map(|(call, times)| (as_measured(call), times.round() as u32))
        .filter(|(_, times)| *times > 0)
        .collect()
}

/// The only headers that are looked for one by one are those of which most responses have none.
fn as_measured(call: &'static str) -> &'static str {
    match call {
        "get_header_map_value" => "get_header_map_value of none",
        other => other,
    }
}

pub(crate) async fn measure(bench: &Bench, load: &Load) -> Result<Vec<Measured>, String> {
    let calls = of_full();
    let mut cases = vec![Case::new(Configuration::EmptyUsed, load)];
    let each = calls.iter().map(|(call, _)| Calls::Of(call));
    cases.extend(
        each.chain([Calls::OfFull])
            .map(|calls| Case::new(Configuration::Calls(calls), load)),
    );
    cases.push(Case::new(Configuration::Full, load));
    let rows = bench.measure(&cases, 1).await?;
    let mut often = calls.iter().map(|(_, times)| Often {
        measured: f64::from(TIMES),
        in_a_request: f64::from(*times),
    });
    let measured = rows.into_iter().enumerate().map(|(index, row)| Measured {
        row,
        call: match index {
            0 => None,
            _ => often.next(),
        },
    });
    Ok(measured.collect())
}
