//! The state that the clients' thread and the conductor of the run share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt;
use crate::progress::Progress;
use crate::timeline::{Recent, Timeline};

/// If no client makes progress for this time, the server counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Counts of the clients, and orders to them.
#[derive(Default)]
pub(crate) struct Signals {
    pub(super) connected: AtomicUsize,
    pub(super) listening: AtomicUsize,
    pub(super) lost: AtomicUsize,
    pub(super) received: AtomicU64,
    /// Writes that are due from this time on are timed.
    pub(super) measure_from_ns: AtomicU64,
    pub(super) subscribe: AtomicBool,
    pub(super) slow: AtomicBool,
    pub(super) stop: AtomicBool,
    first_failure: OnceLock<String>,
    timeline: Mutex<Timeline>,
}

/// Ends all clients when dropped, even by a panic: otherwise their thread would be waited for
/// forever.
pub(crate) struct Dismissal<'a>(&'a Signals);

impl Drop for Dismissal<'_> {
    fn drop(&mut self) {
        self.0.dismiss();
    }
}

impl Signals {
    /// Returns signals for clients that do not exist yet.
    pub(crate) fn new() -> Self {
        Self { measure_from_ns: AtomicU64::new(u64::MAX), ..Self::default() }
    }

    /// Returns a guard that ends all clients when it is dropped.
    pub(crate) fn dismissal(&self) -> Dismissal<'_> {
        Dismissal(self)
    }

    /// Waits until all `size` clients are connected.
    pub(crate) fn await_connected(&self, size: usize, progress: &mut Progress) -> Result<()> {
        self.await_all("connected", &self.connected, size, progress)
    }

    /// Has the clients subscribe, and waits until all `size` have received the present state of
    /// their documents.
    pub(crate) fn subscribe(&self, size: usize, progress: &mut Progress) -> Result<()> {
        self.subscribe.store(true, Ordering::Relaxed);
        self.await_all("subscribed", &self.listening, size, progress)
    }

    /// Has writes timed that are due from `due_ns` on.
    pub(crate) fn measure_from(&self, due_ns: u64) {
        self.measure_from_ns.store(due_ns, Ordering::Relaxed);
    }

    /// Makes slow clients read only now and then, or like the others.
    pub(crate) fn slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
    }

    /// Returns how many updates all clients have received.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Returns the latencies that clients have shared so far.
    pub(crate) fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().expect("nothing panics while it holds this")
    }

    /// Takes the latencies of the clients' thread.
    pub(super) fn share(&self, recent: &mut Recent) {
        if !recent.is_empty() {
            self.timeline().add(recent);
        }
    }

    /// Returns how many connections ended too early.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns the error of the first of them.
    pub(crate) fn first_failure(&self) -> Option<&str> {
        self.first_failure.get().map(String::as_str)
    }

    /// Makes all clients stop.
    pub(crate) fn dismiss(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Counts a lost connection. Only the first reason is kept: the later failures mostly follow
    /// from it.
    pub(super) fn fail(&self, error: &anyhow::Error) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        let _ = self.first_failure.set(format!("{error:#}"));
    }

    /// Waits until `count` reaches `size`. Returns an error if a connection fails, because the run
    /// would no longer be the requested one.
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
            interrupt::ensure_none()?;
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
