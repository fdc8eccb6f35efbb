//! How many processors and how much memory the lab may use here.

use std::path::{Path, PathBuf};

/// Processors this process may use at once: its affinity and its control group's quota (v1 and v2), at least 1.
/// [`std::thread::available_parallelism`] looks at both.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Threads of this host, other than the caller's, that run or wait for a processor at this moment (`/proc/loadavg`, proc_loadavg(5));
/// None where that cannot be read.
pub fn runnable() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let (running, _) = text.split_whitespace().nth(3)?.split_once('/')?;
    running.parse::<usize>().ok().map(|n| n.saturating_sub(1))
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What this process may use in all: the host's, or its control group's limit where that is less.
    pub total: u64,
    /// What of it is free to use now, page cache counted as free.
    pub available: u64,
}

/// The memory there is; None where `/proc/meminfo` is not there.
pub fn memory() -> Option<Memory> {
    memory_at(Path::new("/"))
}

fn memory_at(root: &Path) -> Option<Memory> {
    let meminfo = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let mut memory =
        Memory { total: field(&meminfo, "MemTotal:")?, available: field(&meminfo, "MemAvailable:")? };
    for group in groups(root) {
        let number =
            |file: &str| std::fs::read_to_string(group.dir.join(file)).ok()?.trim().parse::<u64>().ok();
        // "max" (v2) does not parse, and v1 without a limit shows a number beyond any host's memory.
        let Some(limit) = number(group.limit) else { continue };
        let cache = std::fs::read_to_string(group.dir.join("memory.stat"))
            .ok()
            .and_then(|s| statistic(&s, group.cache));
        let used = number(group.usage).unwrap_or(0).saturating_sub(cache.unwrap_or(0));
        memory.total = memory.total.min(limit);
        memory.available = memory.available.min(limit.saturating_sub(used));
    }
    Some(memory)
}

struct Group {
    dir: PathBuf,
    limit: &'static str,
    usage: &'static str,
    cache: &'static str,
}

/// This process's memory control groups and all above them, each of which may limit it.
fn groups(root: &Path) -> Vec<Group> {
    let mut found = Vec::new();
    for line in std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default().lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let make: fn(PathBuf) -> Group = if controllers.is_empty() {
            |dir| Group { dir, limit: "memory.max", usage: "memory.current", cache: "inactive_file" }
        } else if controllers.split(',').any(|c| c == "memory") {
            |dir| Group {
                dir,
                limit: "memory.limit_in_bytes",
                usage: "memory.usage_in_bytes",
                cache: "total_inactive_file",
            }
        } else {
            continue;
        };
        let mount = root.join(if controllers.is_empty() { "sys/fs/cgroup" } else { "sys/fs/cgroup/memory" });
        // In a container the path may be the host's, and only the mount's own root be visible.
        for above in Path::new(path.trim_start_matches('/')).ancestors() {
            found.push(make(mount.join(above)));
        }
    }
    found
}

/// `MemTotal:   123 kB`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let kib: u64 =
        text.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

fn statistic(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:       8000 kB\nMemFree: 1 kB\nMemAvailable:   6000 kB\n");

    #[test]
    fn this_host_has_some() {
        assert!(cores() >= 1);
        assert!(runnable().is_some());
        let memory = memory().unwrap();
        assert!(memory.total >= memory.available);
    }

    #[test]
    fn without_control_groups_it_is_the_hosts() {
        let root = host(&[MEMINFO]);
        assert_eq!(memory_at(root.path()), Some(Memory { total: 8000 << 10, available: 6000 << 10 }));
        assert_eq!(memory_at(host(&[]).path()), None);
    }

    #[test]
    fn a_limit_of_a_group_above_counts_in_v2() {
        let root = host(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/ci/job\n"),
            ("sys/fs/cgroup/ci/memory.max", "4096000\n"),
            ("sys/fs/cgroup/ci/memory.current", "3000000\n"),
            ("sys/fs/cgroup/ci/memory.stat", "anon 1\ninactive_file 1000000\n"),
            ("sys/fs/cgroup/ci/job/memory.max", "max\n"),
        ]);
        assert_eq!(memory_at(root.path()), Some(Memory { total: 4_096_000, available: 2_096_000 }));
    }

    #[test]
    fn v1_without_a_limit_changes_nothing() {
        let root = host(&[
            MEMINFO,
            ("proc/self/cgroup", "5:memory:/docker/x\n4:cpu:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(memory_at(root.path()).unwrap().total, 8000 << 10);
    }
}
