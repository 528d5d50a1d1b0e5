//! Envoy's memory over time.

use std::time::Duration;

/// How much more memory there may be at the end than after the warm-up.
const MOST_GROWTH: f64 = 8.0 * 1024.0;

/// Samples of a process's resident memory.
pub(crate) struct Memory {
    pid: u32,
    /// Seconds since the start, and KiB.
    samples: Vec<(f64, f64)>,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        let samples = Vec::new();
        Memory { pid, samples }
    }

    pub(crate) fn sample(&mut self, at: Duration) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        if let Some(kib) = kib {
            self.samples.push((at.as_secs_f64(), kib));
        }
    }

    /// Prints how memory went, and says if it grew behind the warm-up, which is the first third. The
    /// measure is the line that fits the samples best, since single samples jump.
    pub(crate) fn close(&self) -> Vec<String> {
        let warm: Vec<_> = self
            .samples
            .iter()
            .skip(self.samples.len() / 3)
            .copied()
            .collect();
        let (Some(first), Some(last)) = (warm.first(), warm.last()) else {
            return vec!["no memory was measured".to_owned()];
        };
        let grown = slope(&warm) * (last.0 - first.0);
        println!("memory after warm-up:   {:.1} MiB", first.1 / 1024.0);
        println!("memory at the end:      {:.1} MiB", last.1 / 1024.0);
        println!("trend after warm-up:    {:+.2} MiB", grown / 1024.0);
        match grown <= MOST_GROWTH {
            true => Vec::new(),
            false => vec![format!("memory grew by {:.1} MiB", grown / 1024.0)],
        }
    }
}

/// The slope of the regression line.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |part: fn(&(f64, f64)) -> f64| samples.iter().map(part).sum::<f64>() / count;
    let (x, y) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let covariance: f64 = samples
        .iter()
        .map(|sample| (sample.0 - x) * (sample.1 - y))
        .sum();
    let variance: f64 = samples.iter().map(|sample| (sample.0 - x).powi(2)).sum();
    match variance > 0.0 {
        true => covariance / variance,
        false => 0.0,
    }
}
