//! The machine, and the source, of a measurement.

use std::process::Command;

/// What this was measured on.
pub fn machine() -> Vec<String> {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let find = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let (cpu, memory) = (run("cat", &["/proc/cpuinfo"]), run("cat", &["/proc/meminfo"]));
    vec![
        format!("{} x {}", cpu.matches("processor\t").count(), find(&cpu, "model name")),
        format!("memory: {}", find(&memory, "MemTotal")),
        format!("kernel: {}", run("uname", &["-sr"]).split('-').next().unwrap_or_default()),
        format!("date: {}", run("date", &["-u", "+%F"])),
        format!("commit: {}", run("git", &["describe", "--always", "--dirty"])),
    ]
}
