//! What a process uses, from `/proc`.

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

/// The memory of all WebAssembly instances of a process, in KiB.
///
/// What of the process is in RAM says little here: Envoy itself takes and returns more than a plugin
/// has. V8 reserves GiBs of addresses for each memory, so that it need not check them, and opens as many
/// from the start as the instance has asked for: a writable mapping, and a large one behind it that
/// nobody may touch.
pub(crate) fn wasm_kib(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/maps");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok(wasm_bytes(&text) / 1024)
}

fn wasm_bytes(maps: &str) -> u64 {
    let mappings: Vec<Mapping<'_>> = maps.lines().filter_map(Mapping::read).collect();
    let of_instance = |pair: &&[Mapping<'_>]| {
        matches!(pair, [open, reserved] if open.end == reserved.start
            && open.access.starts_with("rw")
            && reserved.access.starts_with("---")
            && reserved.size() >= RESERVED_AT_LEAST)
    };
    let instances = mappings.windows(2).filter(of_instance);
    instances.map(|pair| pair[0].size()).sum()
}

/// An instance may ask for 4 GiB.
const RESERVED_AT_LEAST: u64 = 4 << 30;

/// A line of `/proc/<pid>/maps`.
struct Mapping<'a> {
    start: u64,
    end: u64,
    access: &'a str,
}

impl<'a> Mapping<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        Some(Mapping {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            access: words.next()?,
        })
    }

    fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_instances_is_what_is_open_before_a_reservation() {
        let maps = "\
            100000000-100200000 rw-p 00000000 00:00 0\n\
            100200000-300000000 ---p 00000000 00:00 0\n\
            500000000-500100000 rw-p 00000000 00:00 0\n\
            500100000-500101000 ---p 00000000 00:00 0\n\
            600000000-600100000 r-xp 00000000 00:00 0 envoy\n\
            600100000-800000000 ---p 00000000 00:00 0\n\
            900000000-900100000 rw-p 00000000 00:00 0 [heap]\n";
        assert_eq!(wasm_bytes(maps), 0x20_0000);
        assert_eq!(wasm_bytes(""), 0);
    }
}
