//! How many connections one process may hold.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for everything that is no client: files of `/proc`, the publisher, epoll.
pub(crate) const SPARE: usize = 100;

/// Raises the soft limit to the hard one, for this process and those that it starts.
pub(crate) fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where that is denied, the soft limit holds and is what `available` says.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Connections that fit into a process.
pub(crate) fn available() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(SPARE)
}
