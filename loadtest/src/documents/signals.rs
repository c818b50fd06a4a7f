//! What the thread of the clients and the one who conducts them tell each other.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::progress::Progress;

/// Without any client getting further for so long, the server counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// How far all clients are, and what they shall do.
#[derive(Default)]
pub(crate) struct Signals {
    pub(super) connected: AtomicUsize,
    pub(super) listening: AtomicUsize,
    pub(super) lost: AtomicUsize,
    pub(super) received: AtomicU64,
    /// Writes due from then on are timed.
    pub(super) measure_from_ns: AtomicU64,
    pub(super) subscribe: AtomicBool,
    pub(super) slow: AtomicBool,
    pub(super) stop: AtomicBool,
    first_failure: OnceLock<String>,
}

/// Sends everybody home when dropped, even by a panic: they would be waited for otherwise.
pub(crate) struct Dismissal<'a>(&'a Signals);

impl Drop for Dismissal<'_> {
    fn drop(&mut self) {
        self.0.dismiss();
    }
}

impl Signals {
    /// Before anybody has come.
    pub(crate) fn new() -> Self {
        Self { measure_from_ns: AtomicU64::new(u64::MAX), ..Self::default() }
    }

    /// Sends everybody home when it is dropped.
    pub(crate) fn dismissal(&self) -> Dismissal<'_> {
        Dismissal(self)
    }

    /// Waits until all `size` clients are connected.
    pub(crate) fn await_connected(&self, size: usize, progress: &mut Progress) -> Result<()> {
        self.await_all("connected", &self.connected, size, progress)
    }

    /// Has the clients subscribe, and waits until all `size` were told what there is.
    pub(crate) fn subscribe(&self, size: usize, progress: &mut Progress) -> Result<()> {
        self.subscribe.store(true, Ordering::Relaxed);
        self.await_all("subscribed", &self.listening, size, progress)
    }

    /// Writes due from then on are timed.
    pub(crate) fn measure_from(&self, due_ns: u64) {
        self.measure_from_ns.store(due_ns, Ordering::Relaxed);
    }

    /// Has slow clients read now and then only, or as the others do.
    pub(crate) fn slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }

    /// Updates received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Connections that ended before they should.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// Why the first of them ended.
    pub(crate) fn first_failure(&self) -> Option<&str> {
        self.first_failure.get().map(String::as_str)
    }

    /// Sends everybody home.
    pub(crate) fn dismiss(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// A connection is lost. Only the first reason is kept: the others mostly follow from it.
    pub(super) fn fail(&self, error: &anyhow::Error) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        let _ = self.first_failure.set(format!("{error:#}"));
    }

    /// The first connection that fails ends it, since what follows would not be the run that was
    /// asked for.
    fn await_all(
        &self,
        what: &str,
        count: &AtomicUsize,
        size: usize,
        progress: &mut Progress,
    ) -> Result<()> {
        let mut before = 0;
        let mut since = Instant::now();
        loop {
            let now = count.load(Ordering::Relaxed);
            progress.show(|| format!("{now} of {size} {what}"));
            if let Some(failure) = self.first_failure() {
                bail!("with {now} of {size} {what}, one failed: {failure}");
            }
            if now == size {
                return Ok(());
            }
            if now > before {
                (before, since) = (now, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                bail!("{now} of {size} are {what}, none in the last {PATIENCE:?}");
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}
