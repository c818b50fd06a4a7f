//! How much memory this process may use: the machine's, or less in a control group (a container).

use std::fs;
use std::path::{Path, PathBuf};

/// What is assumed of a machine that does not say how much memory it has, in bytes.
const UNKNOWN_BYTES: u64 = 1024 * 1024 * 1024;

/// Returns how many bytes of memory this process may use: the lowest limit of its control groups,
/// of version 1 or 2, and of the groups that they are in, or the machine's memory.
pub(super) fn memory_bytes() -> u64 {
    limit(Path::new("/"))
}

/// Returns the same of a system whose `proc` and `sys` are mounted under `root`.
fn limit(root: &Path) -> u64 {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let machine = machine_bytes(&read(root.join("proc/meminfo")));
    let groups = read(root.join("proc/self/cgroup"));
    let limits = groups.lines().filter_map(|line| group_limit(&root.join("sys/fs/cgroup"), line));
    limits.chain(machine).min().unwrap_or(UNKNOWN_BYTES)
}

/// Returns the machine's memory from the text of `/proc/meminfo`, in bytes.
fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the lowest limit of a group and those that it is in. `line` is one of
/// `/proc/self/cgroup`: a hierarchy's number, its controllers, and the group's path. Version 2 has
/// no controllers there. `None` if the group limits no memory.
fn group_limit(mounts: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (mount, file) = match controllers {
        "" => (mounts.to_owned(), "memory.max"),
        all if all.split(',').any(|one| one == "memory") => {
            (mounts.join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    // In a container the path may be that outside of it, and the mount the group itself.
    let group = mount.join(path.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|group| group.starts_with(&mount));
    let limits = groups.filter_map(|group| fs::read_to_string(group.join(file)).ok());
    limits.filter_map(|limit| limit.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn system(files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        limit(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemFree: 5 kB\nMemTotal:   4194304 kB\n");

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        assert_eq!(system(&[MEMINFO]), 4_096 * MIB);
        let version_2 = [
            MEMINFO,
            ("proc/self/cgroup", "0::/pod/node\n"),
            ("sys/fs/cgroup/pod/memory.max", "209715200\n"),
            ("sys/fs/cgroup/pod/node/memory.max", "max\n"),
        ];
        assert_eq!(system(&version_2), 200 * MIB);
        let version_1 = [
            MEMINFO,
            ("proc/self/cgroup", "9:cpu:/a\n4:hugetlb,memory:/a/b\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "104857600\n"),
        ];
        assert_eq!(system(&version_1), 100 * MIB);
    }

    #[test]
    fn the_mount_is_the_group_where_its_path_is_not_there() {
        let container = [
            MEMINFO,
            ("proc/self/cgroup", "0::/system.slice/docker-1.scope\n"),
            ("sys/fs/cgroup/memory.max", "52428800\n"),
        ];
        assert_eq!(system(&container), 50 * MIB);
    }

    #[test]
    fn a_system_that_says_nothing_is_taken_for_a_small_one() {
        assert_eq!(system(&[]), UNKNOWN_BYTES);
        assert_eq!(system(&[("proc/meminfo", "MemTotal: a lot\n")]), UNKNOWN_BYTES);
    }
}
