//! Publications posted to the webhooks of their channel's definition.
//!
//! A thread of its own calls them; publishing threads hand a [`Call`] over and do not wait. Each
//! URL of a definition gets an HTTP POST whose body is the payload, byte for byte, with the headers
//! `Content-Type: application/json`, `X-InsForge-Event`, `X-InsForge-Channel`,
//! `X-InsForge-Message-Id` and `X-InsForge-Signature: t=<seconds>,v1=<hex>`, where `<hex>` is the
//! HMAC-SHA256 of `<seconds>.<body>` under the secret. The name of an event or a channel is
//! percent-encoded as UTF-8 if a header cannot carry it, because it holds anything but visible
//! ASCII and spaces between. A user and password in a URL are sent as basic authentication.
//!
//! - Any 2xx is success. A call without an answer, or with 5xx, 429 or 408, is repeated until it
//!   has had [`WEBHOOK_ATTEMPTS_MAX`](crate::limits::WEBHOOK_ATTEMPTS_MAX) attempts. The waits
//!   between attempts double, and are at least as long as the answer's `Retry-After`. Every other
//!   answer is final; redirects are not followed.
//! - Unless private addresses are allowed, only public ones are called. Addresses are checked for
//!   each connection ([`webhook_url`](crate::message::webhook_url)), those of names after they were
//!   resolved (`resolve.rs`). Of a name's addresses, only the public ones are connected to.
//! - Calls to one target (scheme, host and port) delay only each other: each target has places and
//!   a bound of its own, far below those of all targets together, and a call between two attempts
//!   holds no place. The order of calls to a target is not promised.
//! - A call that finds no room is dropped, counted by reason, and reported as not delivered.
//!
//! Calls are delivered at least once while the node runs: if the answer of a target is lost, it
//! gets the call again, with the same message id. Calls that wait are lost when the node ends.

mod attempt;
mod dispatch;
mod intake;
mod resolve;
mod sign;
mod warnings;

#[cfg(test)]
mod tests;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::config::{self, Secret};
use crate::limits::{WEBHOOK_LOOKUPS_MAX, WEBHOOK_RETRY_MS, WEBHOOK_WAITING_BYTES_MAX};
use crate::message::{ChannelDefinition, MessageId, Publication};
use crate::metrics::Counters;
use attempt::Caller;
use dispatch::Dispatch;
use intake::Handover;

pub use intake::Intake;
pub use warnings::warn_of_never_called;

/// A publication, and the definition that governs its channel. It is posted to every webhook URL of
/// the definition. Announcements of presence are not posted.
#[derive(Clone, Debug)]
pub struct Call {
    /// The publication to post.
    pub publication: Arc<Publication>,
    /// The definition with the URLs.
    pub definition: Arc<ChannelDefinition>,
}

/// The end of the call to one URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settled {
    /// The id of the publication.
    pub message: MessageId,
    /// Whether the URL answered 2xx.
    pub delivered: bool,
}

/// How webhooks are called.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The secret that calls are signed with.
    pub secret: Secret,
    /// Time for an answer, in each attempt.
    pub timeout: Duration,
    /// Whether addresses that are not public may be called.
    pub allow_private: bool,
    /// Bytes of payload that unsettled calls may hold.
    pub waiting_bytes: usize,
    /// Wait between the first attempt and the second; each further wait is twice as long.
    pub retry: Duration,
}

impl Settings {
    /// Returns the settings that are configured, with the secret in effect. Unsettled calls may
    /// hold at most `waiting_bytes_max` bytes, even if their own bound is higher.
    pub fn new(config: &config::Webhooks, secret: Secret, waiting_bytes_max: usize) -> Self {
        Self {
            secret,
            timeout: Duration::from_millis(config.timeout_ms),
            allow_private: config.allow_private,
            waiting_bytes: WEBHOOK_WAITING_BYTES_MAX.min(waiting_bytes_max),
            retry: Duration::from_millis(WEBHOOK_RETRY_MS),
        }
    }
}

/// The thread that calls webhooks.
pub struct Webhooks {
    intake: Intake,
    stop: watch::Sender<Option<Duration>>,
    thread: JoinHandle<()>,
}

impl Webhooks {
    /// Starts the thread, which alone may count with `counters`. `settled` is called once for each
    /// URL of each call: on that thread, or on the thread that offers a call without room. It must
    /// not block.
    ///
    /// # Errors
    /// If the system gives no thread, or TLS cannot be set up.
    pub fn start(
        settings: Settings,
        counters: Arc<Counters>,
        settled: impl Fn(Settled) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let caller = Caller::new(&settings)?;
        // Only name lookups run on further threads.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(WEBHOOK_LOOKUPS_MAX)
            .thread_name("webhook-names")
            .build()?;
        let (intake, shared, taken) = Intake::new(settings.waiting_bytes, settled);
        let (stop, stopping) = watch::channel(None);
        let thread = thread::Builder::new().name("webhooks".to_owned()).spawn(move || {
            let dispatch = Dispatch::new(caller, settings.retry, counters, shared, stopping);
            run(runtime, &dispatch, taken);
        })?;
        Ok(Self { intake, stop, thread })
    }

    /// Takes a call, from any thread, without waiting. A call that finds no room is dropped and
    /// counted, and `settled` is called for it before this returns.
    pub fn offer(&self, call: Call) {
        self.intake.offer(call);
    }

    /// Returns the way in alone, for threads that do not start or stop this one.
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Takes no more calls, waits at most `within` for those that were taken, and ends the thread.
    /// A call that waits for its next attempt gets it at once, as its last. Calls that are left
    /// then are dropped, counted and logged.
    pub fn stop(self, within: Duration) {
        self.stop.send_replace(Some(within));
        if self.thread.join().is_err() {
            tracing::error!("the thread of webhooks had failed");
        }
    }
}

/// Runs the thread, from its first call to its last.
fn run(runtime: Runtime, dispatch: &Rc<Dispatch>, taken: Receiver<Handover>) {
    let calls = LocalSet::new();
    calls.block_on(&runtime, dispatch.clone().run(taken));
    let left = dispatch.calls();
    let entered = runtime.enter();
    // Each call that is dropped counts itself.
    drop(calls);
    drop(entered);
    if left > 0 {
        tracing::warn!(calls = left, "webhook calls were dropped, because the node stops");
    }
    // A lookup of a name may be under way, and cannot be cancelled.
    runtime.shutdown_background();
}
