//! The limit on descriptors. The node keeps some back: for the database, for sockets that move from
//! HTTP to a worker, and for a few connections on which it answers that it is full, or how it is.
//!
//! Nothing is counted. The kernel gives out the lowest free number, so a number from the part that
//! is kept back means that all lower ones are in use. No connection that lasts has such a number.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::param::page_size;

use crate::limits::{DESCRIPTORS_KEPT_BACK_DIVISOR, DESCRIPTORS_KEPT_BACK_MAX};
use crate::metrics::LogThrottle;

/// What the process knows of its descriptors, and of its memory without opening another.
#[derive(Debug)]
pub struct Descriptors {
    /// The first number that is kept back.
    kept_back_from: usize,
    /// Connections that may be open at once on descriptors that are kept back.
    spares_max: usize,
    /// Those that are open.
    spares: AtomicUsize,
    /// `/proc/self/statm`, kept open.
    memory: Option<File>,
    /// `/proc/self/fd`, kept open.
    open: Option<File>,
    pauses: Mutex<LogThrottle>,
    refusals: Mutex<LogThrottle>,
}

impl Descriptors {
    /// Creates the state of a process that may have `limit` descriptors; `None` for no limit.
    pub fn new(limit: Option<u64>) -> Self {
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let kept_back = DESCRIPTORS_KEPT_BACK_MAX.min(limit / DESCRIPTORS_KEPT_BACK_DIVISOR);
        Self {
            kept_back_from: limit - kept_back,
            spares_max: kept_back.div_ceil(2),
            spares: AtomicUsize::new(0),
            memory: File::open("/proc/self/statm").ok(),
            open: File::open("/proc/self/fd").ok(),
            pauses: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// Returns whether a descriptor that was made just now is one of those that are kept back.
    pub(super) fn is_kept_back(&self, descriptor: &impl AsRawFd) -> bool {
        self.is_number_kept_back(descriptor.as_raw_fd())
    }

    fn is_number_kept_back(&self, number: RawFd) -> bool {
        usize::try_from(number).is_ok_and(|number| number >= self.kept_back_from)
    }

    /// Returns whether one more connection may be accepted on a descriptor that is kept back. Each
    /// acceptor asks for itself, so there may be one more of them than acceptors.
    pub(super) fn has_spare(&self) -> bool {
        self.spares.load(Ordering::Relaxed) < self.spares_max
    }

    /// Notes the begin of a connection on a descriptor that is kept back.
    pub(super) fn begin_spare(&self) {
        self.spares.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the end of such a connection.
    pub(super) fn end_spare(&self) {
        self.spares.fetch_sub(1, Ordering::Relaxed);
    }

    /// Warns that accepting pauses, now and then.
    pub(super) fn note_pause(&self, error: &io::Error) {
        if let Some(pauses) = due(&self.pauses) {
            tracing::warn!(
                %error,
                pauses,
                "accepting pauses, and new connections wait in the kernel; if descriptors have \
                 run out, raise their limit (`ulimit -Hn`, LimitNOFILE= in systemd)"
            );
        }
    }

    /// Warns that connections are refused for want of descriptors, now and then.
    pub(super) fn note_refusal(&self) {
        if let Some(refused) = due(&self.refusals) {
            tracing::warn!(
                refused,
                "clients are refused with 503, because descriptors have run out; raise their limit \
                 (`ulimit -Hn`, LimitNOFILE= in systemd)"
            );
        }
    }

    /// Returns the number of open descriptors; `None` if `/proc` does not say.
    pub(super) fn count_open(&self) -> Option<u64> {
        // Since Linux 6.2 the size of the directory is their number.
        let size = self.open.as_ref().and_then(|open| open.metadata().ok()).map_or(0, |m| m.size());
        if size > 0 {
            return Some(size);
        }
        // The directory itself is open while it is read.
        Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64 - 1)
    }

    /// Returns the memory in use, in bytes, from the second figure of `/proc/self/statm`, for which
    /// the kernel reads no disk. `None` if `/proc` does not say.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        let mut figures = [0; 128];
        let length = self.memory.as_ref()?.read_at(&mut figures, 0).ok()?;
        let figures = str::from_utf8(&figures[..length]).ok()?;
        let pages: u64 = figures.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(pages * page_size() as u64)
    }
}

/// Returns whether accepting failed for want of descriptors, memory or places, and not because the
/// listener has ended.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.kind() == io::ErrorKind::QuotaExceeded
        || shortages.iter().any(|one| error.raw_os_error() == Some(one.raw_os_error()))
}

/// Counts one event. Returns the number of events since the last line if the next one is due.
fn due(throttle: &Mutex<LogThrottle>) -> Option<u64> {
    throttle.lock().unwrap_or_else(PoisonError::into_inner).add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_kept_back_and_half_of_it_is_for_connections() {
        for (limit, from, spares) in [
            (Some(16), 14, 1),
            (Some(256), 224, 16),
            (Some(1_024), 960, 32),
            (Some(1_048_576), 1_048_512, 32),
            (None, usize::MAX - 64, 32),
        ] {
            let descriptors = Descriptors::new(limit);
            assert_eq!((descriptors.kept_back_from, descriptors.spares_max), (from, spares));
        }
        let descriptors = Descriptors::new(Some(256));
        assert!(!descriptors.is_number_kept_back(223) && descriptors.is_number_kept_back(224));
        assert!(!descriptors.is_number_kept_back(-1));
        (0..16).for_each(|_| descriptors.begin_spare());
        assert!(!descriptors.has_spare());
        descriptors.end_spare();
        assert!(descriptors.has_spare());
    }

    #[test]
    fn the_process_is_measured() {
        let descriptors = Descriptors::new(None);
        assert!(descriptors.resident_bytes() > Some(1024 * 1024));
        assert!(descriptors.count_open() > Some(4));
    }

    #[test]
    fn a_shortage_is_not_the_end_of_the_listener() {
        assert!(is_shortage(&Errno::MFILE.into()));
        assert!(is_shortage(&io::ErrorKind::QuotaExceeded.into()));
        assert!(!is_shortage(&Errno::INVAL.into()));
    }
}
