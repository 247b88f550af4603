//! What processes have used, from /proc.

use std::fs;
use std::time::Duration;

/// The kernel's clock ticks in `/proc/PID/stat` (proc(5)); 100 on every Linux of the last twenty years.
const TICKS_PER_SECOND: u64 = 100;

/// The CPU time of a process so far, with the children it has waited for.
pub fn cpu(pid: u32) -> Duration {
    fields(pid).map_or(Duration::ZERO, |(_, ticks)| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// The CPU time of a process, its living children, and those it has waited for.
pub fn cpu_with_children(pid: u32) -> Duration {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter(|&child| fields(child).is_some_and(|(parent, _)| parent == pid));
    cpu(pid) + children.map(cpu).sum::<Duration>()
}

/// The most memory that a process has had resident, in bytes.
pub fn peak_resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// The bytes that a process has had written to disks.
pub fn written(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
}

/// The parent of a process, and the ticks it has used.
fn fields(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields[11..15].iter().map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum();
    Some((fields[1].parse().ok()?, ticks))
}
