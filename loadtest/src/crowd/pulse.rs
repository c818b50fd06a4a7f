//! The state that the holders of the clients and the conductor of the run share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::helper::Orders;
use crate::interrupt;
use crate::progress::Progress;
use crate::table::plural;
use crate::timeline::{Recent, Timeline};

/// If no connection becomes ready for this time, the server counts as stuck.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// The state of the whole crowd, over all threads and processes.
#[derive(Default)]
pub(crate) struct Pulse {
    pub(super) ready: AtomicUsize,
    pub(super) lost: AtomicUsize,
    pub(super) closed: AtomicUsize,
    pub(super) received: AtomicU64,
    pub(super) measure_from_ns: AtomicU64,
    pub(super) stop: AtomicBool,
    first_failure: OnceLock<String>,
    broken: AtomicBool,
    breakdown: OnceLock<String>,
    pids: OnceLock<Vec<u32>>,
    orders: Mutex<Vec<Orders>>,
    timeline: Mutex<Timeline>,
}

/// The counts of one process at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    ready: usize,
    lost: usize,
    received: u64,
}

impl Pulse {
    /// Waits until all `size` clients are ready. Returns an error if a connection fails, because
    /// the run would no longer be the requested one.
    pub(crate) fn wait_until_ready(&self, size: usize, progress: &mut Progress) -> Result<()> {
        let mut before = 0;
        let mut since = Instant::now();
        loop {
            let ready = self.ready.load(Ordering::Relaxed);
            progress.show(|| format!("connecting: {ready} of {size} ready"));
            if let Some(failure) = self.first_failure() {
                let ready = plural(ready, "ready connection");
                bail!("after {ready} one failed: {failure}");
            }
            if ready == size {
                return Ok(());
            }
            interrupt::ensure_none()?;
            if ready > before {
                (before, since) = (ready, Instant::now());
            }
            if since.elapsed() > CONNECT_PATIENCE {
                let seconds = CONNECT_PATIENCE.as_secs();
                bail!("only {ready} of {size} are ready, and no more in the last {seconds} s");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has publications timed that are due from `due_ns` on.
    pub(crate) fn measure_from(&self, due_ns: u64) {
        self.measure_from_ns.store(due_ns, Ordering::Relaxed);
        for orders in self.orders().iter_mut() {
            // This fails if the process has ended, which its report stream shows with a better
            // error.
            let _ = orders.say(&due_ns);
        }
    }

    /// Returns how many publications all clients have received, without repeats.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Returns the latencies that clients have shared so far.
    pub(crate) fn timeline(&self) -> std::sync::MutexGuard<'_, Timeline> {
        self.timeline.lock().expect("nothing panics while it holds this")
    }

    /// Returns how many connections ended too early.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns how many clients of this process that do not read were closed.
    pub(crate) fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// Returns the error of the first of them.
    pub(crate) fn first_failure(&self) -> Option<&str> {
        self.first_failure.get().map(String::as_str)
    }

    /// The flag that is set once a whole thread or process of clients has ended, or the run is
    /// aborted. The run is worthless then.
    pub(crate) fn broken(&self) -> &AtomicBool {
        &self.broken
    }

    /// Returns an error with the reason if a thread or process of clients has ended.
    pub(crate) fn ensure_whole(&self) -> Result<()> {
        match self.breakdown.get() {
            Some(failure) => bail!("the clients broke down: {failure}"),
            None => Ok(()),
        }
    }

    /// Returns the ids of the processes that hold clients, this one included.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> {
        let helpers = self.pids.get().into_iter().flatten().copied();
        std::iter::once(std::process::id()).chain(helpers)
    }

    /// Adds helper processes, which receive what happens through `orders`.
    pub(super) fn joined_by(&self, pids: Vec<u32>, orders: Vec<Orders>) {
        self.pids.set(pids).expect("the processes of a crowd come once and all together");
        *self.orders() = orders;
    }

    /// Makes all clients stop, in all processes.
    pub(super) fn dismiss(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.orders().clear();
    }

    /// Takes the latencies of a thread of clients.
    pub(super) fn share(&self, recent: &mut Recent) {
        if !recent.is_empty() {
            self.timeline().add(recent);
        }
    }

    /// Counts a lost connection.
    pub(super) fn fail(&self, error: &anyhow::Error) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.note_failure(format!("{error:#}"));
    }

    /// Records that all connections of a thread or process are lost.
    pub(super) fn break_down(&self, error: &anyhow::Error) {
        let _ = self.breakdown.set(format!("{error:#}"));
        self.broken.store(true, Ordering::Relaxed);
        self.fail(error);
    }

    /// Records why a connection failed.
    pub(super) fn note_failure(&self, failure: String) {
        // Only the first reason is kept: the later failures mostly follow from it.
        let _ = self.first_failure.set(failure);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            ready: self.ready.load(Ordering::Relaxed),
            lost: self.lost(),
            received: self.received(),
        }
    }

    /// Adds what another process has counted between its reports `before` and `now`.
    pub(super) fn advance(&self, before: Counts, now: Counts) {
        self.ready.fetch_add(now.ready - before.ready, Ordering::Relaxed);
        self.lost.fetch_add(now.lost - before.lost, Ordering::Relaxed);
        self.received.fetch_add(now.received - before.received, Ordering::Relaxed);
    }

    fn orders(&self) -> std::sync::MutexGuard<'_, Vec<Orders>> {
        self.orders.lock().expect("nothing panics while it holds this")
    }
}

/// Ends all clients when dropped, even by a panic: otherwise their threads would be waited for
/// forever.
pub(super) struct Dismissal<'a>(pub(super) &'a Pulse);

impl Drop for Dismissal<'_> {
    fn drop(&mut self) {
        self.0.dismiss();
    }
}
