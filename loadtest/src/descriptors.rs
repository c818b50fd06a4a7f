//! How many connections one process may hold.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are reserved for everything but clients: files of `/proc`, the publisher,
/// epoll.
pub(crate) const SPARE: usize = 100;

/// Raises the soft limit to the hard one, for this process and the processes that it starts.
pub(crate) fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If that is denied, the soft limit stays, and `available` returns it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Returns how many connections fit into one process.
pub(crate) fn available() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(SPARE)
}
