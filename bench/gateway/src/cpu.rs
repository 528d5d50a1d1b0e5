//! What a process has used, from `/proc`.

use std::fs;
use std::path::Path;

/// The CPU time of all threads of a process, user and system, in µs.
///
/// It is what `/proc/<pid>/stat` gives as `utime` and `stime`, which count in steps of 10 ms, taken
/// from where the kernel has it in ns (`/proc/<pid>/task/<tid>/schedstat`). Threads that have ended
/// are not in it; Envoy's stay.
pub(crate) fn used_us(pid: u32) -> Result<f64, String> {
    let tasks = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
    let mut total = 0;
    for task in tasks {
        let path = task.map_err(|error| error.to_string())?.path();
        total += on_cpu_ns(&path)?;
    }
    Ok(total as f64 / 1000.0)
}

fn on_cpu_ns(task: &Path) -> Result<u64, String> {
    let path = task.join("schedstat");
    let text = fs::read_to_string(&path).map_err(|error| {
        format!(
            "{}: {error}: the kernel must have CONFIG_SCHED_INFO",
            path.display()
        )
    })?;
    let first = text.split_whitespace().next();
    first
        .and_then(|ns| ns.parse().ok())
        .ok_or_else(|| format!("{}: {text:?} is not as expected", path.display()))
}

/// The memory of a process that is in RAM, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| format!("{path} has no VmRSS"))
}
