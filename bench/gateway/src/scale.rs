//! What large documents cost: time and memory to load them, and the time of a request.

use serde::Serialize;
use tollgate_instructions::document::headers;

use crate::configuration::Configuration;
use crate::cpu;
use crate::h2load::Load;
use crate::measure::{Bench, Case, Row, median};

/// A document of some size.
#[derive(Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) row: Row,
    /// CPU that one more worker costs Envoy until it serves, in ms: a VM, and the document read.
    pub(crate) load_ms: f64,
    /// WebAssembly's memory in one more worker, in MiB.
    pub(crate) worker_mib: f64,
}

const CONFIGURATIONS: [Configuration; 11] = [
    Configuration::NoFilter,
    Configuration::Keys(1),
    Configuration::Keys(100),
    Configuration::Keys(10_000),
    Configuration::Keys(100_000),
    Configuration::Apis(10),
    Configuration::Apis(1_000),
    Configuration::Limits(1),
    Configuration::Limits(10),
    Configuration::Limits(50),
    Configuration::OtherLimits(50),
];

pub(crate) async fn measure(bench: &Bench) -> Result<Vec<Size>, String> {
    let load = Load::get(headers(&crate::tables::token(0), 8));
    let cases = CONFIGURATIONS.map(|configuration| Case::new(configuration, &load));
    let rows = bench.measure(&cases, 1).await?;
    let mut sizes = Vec::new();
    for (configuration, row) in CONFIGURATIONS.into_iter().zip(rows) {
        let (mut load_ms, mut worker_mib) = (Vec::new(), Vec::new());
        for _ in 0..bench.effort.rounds {
            let few = started(bench, configuration, FEW).await?;
            let many = started(bench, configuration, MANY).await?;
            let workers = f64::from(MANY - FEW);
            load_ms.push((many.0 - few.0) / 1000.0 / workers);
            worker_mib.push((many.1 - few.1) / 1024.0 / workers);
        }
        sizes.push(Size {
            row,
            load_ms: median(&load_ms),
            worker_mib: median(&worker_mib),
        });
    }
    Ok(sizes)
}

const FEW: u32 = 1;
const MANY: u32 = 3;

/// CPU in µs and WebAssembly's memory in KiB of an Envoy that has just started.
async fn started(
    bench: &Bench,
    configuration: Configuration,
    workers: u32,
) -> Result<(f64, f64), String> {
    let envoy = configuration.start(&bench.servers, workers).await?;
    let pid = envoy.pid();
    Ok((cpu::used_us(pid)?, cpu::wasm_kib(pid)? as f64))
}
