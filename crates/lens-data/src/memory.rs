//! How much memory a process can still take.

use std::path::{Path, PathBuf};

/// Bytes that this process can still take: what the system calls available, and what the limits of its
/// control groups and on its address space (`ulimit -v`) leave. `None` where the system does not tell.
pub fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = group_folders(&own).into_iter().filter_map(|folder| left_in_group(&folder));
    groups.chain(address_space()).chain([kilobytes * 1024]).min()
}

/// The folders of the control groups that limit the memory of a process with this
/// `/proc/self/cgroup`, its own and those around it. In a container they are seen from its root.
fn group_folders(own: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            all if all.split(',').any(|c| c == "memory") => Path::new("/sys/fs/cgroup/memory"),
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        folders.extend(own.ancestors().take_while(|f| f.starts_with(root)).map(Path::to_owned));
    }
    folders
}

/// What the limit of a control group leaves; the system frees cached files by itself.
fn left_in_group(folder: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let either = |new: &str, old: &str| number(new).or_else(|| number(old));
    let limit = either("memory.max", "memory.limit_in_bytes")?;
    let used = either("memory.current", "memory.usage_in_bytes")?;
    let stat = read("memory.stat").unwrap_or_default();
    let cached = stat.lines().find_map(|l| l.strip_prefix("inactive_file ")?.trim().parse().ok());
    Some(limit.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
}

/// Bytes of address space that this process has. `None` where the system does not tell.
pub fn address_space_taken() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// What a limit on the address space leaves; `None` without one.
#[cfg(unix)]
fn address_space() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    let limit = getrlimit(Resource::As).current?;
    Some(limit.saturating_sub(address_space_taken()?))
}

#[cfg(not(unix))]
fn address_space() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        if cfg!(target_os = "linux") {
            assert!(available().unwrap() > 1 << 20);
        }
    }

    #[test]
    fn the_groups_of_a_process_are_its_own_and_those_around_it() {
        let paths = |texts: &[&str]| texts.iter().map(PathBuf::from).collect::<Vec<_>>();
        let all = |text: &str| {
            // A slash at the end is part of the text of a path, and not of the path.
            let folders = group_folders(text).into_iter();
            folders.map(|f| f.components().collect::<PathBuf>()).collect::<Vec<_>>()
        };
        assert_eq!(all("0::/\n"), paths(&["/sys/fs/cgroup"]));
        assert_eq!(
            all("0::/a.slice/b\n"),
            paths(&["/sys/fs/cgroup/a.slice/b", "/sys/fs/cgroup/a.slice", "/sys/fs/cgroup"])
        );
        let old = "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\nnonsense\n";
        let expected = ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
        assert_eq!(all(old), paths(&expected));
    }

    #[test]
    fn a_group_leaves_what_it_does_not_use_and_what_can_be_freed() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(left_in_group(folder.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "600\n");
        assert_eq!(left_in_group(folder.path()), None, "no limit");
        write("memory.max", "1000\n");
        assert_eq!(left_in_group(folder.path()), Some(400));
        write("memory.stat", "anon 500\ninactive_file 100\n");
        assert_eq!(left_in_group(folder.path()), Some(500));
        write("memory.current", "5000\n");
        assert_eq!(left_in_group(folder.path()), Some(0));
    }
}
