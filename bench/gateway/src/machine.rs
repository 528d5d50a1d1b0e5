//! Where something was measured.

use std::fs;

use serde::Serialize;

/// A machine, as the reader of a table must know it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    /// Processes that wanted a CPU in the minute before.
    load: String,
    envoy: String,
}

impl Machine {
    pub(crate) fn read(envoy: &str) -> Self {
        let first = |path: &str, prefix: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let mut lines = text.lines().map(str::to_owned);
            lines
                .find(|line| line.starts_with(prefix))
                .unwrap_or_default()
        };
        let cpu = first("/proc/cpuinfo", "model name");
        let kernel = first("/proc/sys/kernel/osrelease", "");
        let load = first("/proc/loadavg", "");
        Machine {
            cpu: cpu
                .rsplit_once(": ")
                .map_or(cpu.clone(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel,
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            envoy: envoy.to_owned(),
        }
    }

    /// Whether others use the machine, so that what is measured is larger than it should be.
    pub(crate) fn is_busy(&self) -> bool {
        self.load.parse().is_ok_and(|load: f64| load > 1.0)
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "{}, {} cores, Linux {}, load {} before the run, Envoy {}",
            self.cpu, self.cores, self.kernel, self.load, self.envoy
        )
    }
}
