//! Control groups of a test's own, with a limit of memory.

use std::fs;
use std::path::{Path, PathBuf};

use super::disk::WITHOUT;

/// The control group that the test's groups are made in, and the name of its file with the limit.
const VERSIONS: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];

/// A control group. It is removed on drop; its processes must have ended before.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Creates a group whose processes may use `bytes` bytes together. Returns `None` if the user is
    /// not root, or the variable that leaves mounts out is set.
    pub(crate) fn limited(name: &str, bytes: u64) -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some() || !rustix::process::geteuid().is_root() {
            eprintln!("not tested: only root may limit memory, and {WITHOUT} leaves it out");
            return None;
        }
        let made = VERSIONS.iter().find_map(|(root, limit)| {
            let group = Path::new(root).join(format!("{name}-{}", std::process::id()));
            fs::create_dir(&group).ok()?;
            let group = Self(group);
            fs::write(group.0.join(limit), bytes.to_string()).ok().map(|()| group)
        });
        assert!(made.is_some(), "memory cannot be limited here; {WITHOUT}=1 leaves this out");
        made
    }

    /// Returns the file that a process writes its id to, to enter the group.
    pub(crate) fn entrance(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}
