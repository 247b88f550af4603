//! The memory available to the process: that of its control group, or else of the machine.

use std::fs;
use std::path::Path;

/// The bytes available to the process; `None` if the system does not tell.
pub(super) fn total_bytes() -> Option<u64> {
    let machine = machine(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(group(&groups, Path::new("/sys/fs/cgroup")).map_or(machine, |limit| limit.min(machine)))
}

/// Picks `MemTotal:  1234 kB` out of `/proc/meminfo`.
fn machine(meminfo: &str) -> Option<u64> {
    let size = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = size.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The lowest limit of the process's group and its parents, in either version of control groups. `groups` is
/// `/proc/self/cgroup`. In a container the path may be one of the host, and then the root stands for the group.
fn group(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            memory if memory.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let group = root.join(path.trim_start_matches('/'));
        let above = group.ancestors().take_while(|folder| folder.starts_with(&root));
        // `max`, which is not a number, means no limit.
        above.filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells() {
        assert_eq!(machine("MemFree:  1 kB\nMemTotal:    2048 kB\n"), Some(2 << 20));
        assert!(total_bytes().is_some_and(|bytes| bytes > 64 << 20), "this machine has some");
    }

    #[test]
    fn the_least_limit_on_the_way_up_holds() {
        let root = tempfile::tempdir().unwrap();
        let limit = |folder: &str, file: &str, limit: &str| {
            fs::create_dir_all(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join(file), limit).unwrap();
        };
        limit("system/forebay", "memory.max", "max\n");
        limit("system", "memory.max", "3000\n");
        assert_eq!(group("0::/system/forebay\n", root.path()), Some(3000));
        assert_eq!(group("0::/elsewhere\n", root.path()), None);
        limit("", "memory.max", "2000\n");
        assert_eq!(group("0::/system/forebay\n", root.path()), Some(2000));
        assert_eq!(group("0::/../../docker/a\n", root.path()), Some(2000), "a path of outside");
        limit("memory/docker", "memory.limit_in_bytes", "1000\n");
        assert_eq!(group("5:cpu:/x\n4:hugetlb,memory:/docker/a\n0::/\n", root.path()), Some(1000));
    }
}
