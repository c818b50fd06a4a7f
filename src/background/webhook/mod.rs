//! Publications posted to the webhooks of their channel's definition.
//!
//! A thread of its own calls them; whoever publishes hands a [`Call`] over and goes on. Each URL of
//! a definition gets an HTTP POST whose body is the payload, byte for byte, with the headers
//! `Content-Type: application/json`, `X-InsForge-Event`, `X-InsForge-Channel` and
//! `X-InsForge-Message-Id`, and `X-InsForge-Signature`:
//! `t=<seconds>,v1=<hex>`, where `<hex>` is the HMAC-SHA256 of `<seconds>.<body>` under the secret.
//! A name that a header cannot carry, because it holds anything but visible ASCII and spaces
//! between, is percent-encoded as UTF-8. A user and password in a URL are sent as basic
//! authentication.
//!
//! - Any 2xx is success. Without an answer, and after 5xx, 429 and 408, a call is repeated, with
//!   waits that double, and no sooner than the answer's `Retry-After` asks for; how often, says
//!   [`WEBHOOK_ATTEMPTS_MAX`](crate::limits::WEBHOOK_ATTEMPTS_MAX). Every other answer is final;
//!   redirects are not followed.
//! - Unless it is allowed, nothing is called that is not public: addresses are checked for each
//!   connection, those of names after they were resolved (`address.rs`, `resolve.rs`). Of the
//!   addresses of a name, those that are public are connected to.
//! - Calls to one target (scheme, host and port) wait for each other only: each target has places
//!   and a bound of its own, far below those of all targets together, and a call between two
//!   attempts holds no place. In which order a target is called is not promised.
//! - What finds no room is dropped, counted by reason, and told.
//!
//! A call is at least once while the node runs: a target that has taken a call but whose answer is
//! lost gets it again, with the same message id. What waits is lost with the node.

mod address;
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
use crate::limits::{WEBHOOK_LOOKUPS_MAX, WEBHOOK_RETRY_MS};
use crate::message::{ChannelDefinition, MessageId, Publication};
use crate::metrics::Counters;
use attempt::Caller;
use dispatch::Dispatch;
use intake::Handover;

pub use intake::Intake;

/// What is to be posted: a publication, to every webhook URL of the definition that governs its
/// channel. Announcements of presence are posted to nobody.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is posted.
    pub publication: Arc<Publication>,
    /// Where to.
    pub definition: Arc<ChannelDefinition>,
}

/// A call of one URL came to an end, one way or the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settled {
    /// The publication.
    pub message: MessageId,
    /// Whether the URL answered 2xx.
    pub delivered: bool,
}

/// How webhooks are called.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What calls are signed with.
    pub secret: Secret,
    /// For an answer, each time.
    pub timeout: Duration,
    /// Whether addresses that are not public may be called.
    pub allow_private: bool,
    /// Between the first attempt and the second; each further wait is twice as long.
    pub retry: Duration,
}

impl Settings {
    /// As configured, with the secret in effect.
    pub fn new(config: &config::Webhooks, secret: Secret) -> Self {
        Self {
            secret,
            timeout: Duration::from_millis(config.timeout_ms),
            allow_private: config.allow_private,
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
    /// Starts the thread. `counters` are its own: nobody else may count with them. `settled` is
    /// told of each URL of each call, once: on that thread, or on the one that offers what finds no
    /// room; it must not block.
    ///
    /// # Errors
    /// No thread, or no TLS.
    pub fn start(
        settings: Settings,
        counters: Arc<Counters>,
        settled: impl Fn(Settled) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let caller = Caller::new(&settings)?;
        // Only lookups of names run beside the thread.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(WEBHOOK_LOOKUPS_MAX)
            .thread_name("webhook-names")
            .build()?;
        let (intake, shared, taken) = Intake::new(settled);
        let (stop, stopping) = watch::channel(None);
        let thread = thread::Builder::new().name("webhooks".to_owned()).spawn(move || {
            let dispatch = Dispatch::new(caller, settings.retry, counters, shared, stopping);
            run(runtime, &dispatch, taken);
        })?;
        Ok(Self { intake, stop, thread })
    }

    /// Takes a call, from any thread. Never blocks and never waits: what finds no room is dropped
    /// and counted, and `settled` is told so before this returns.
    pub fn offer(&self, call: Call) {
        self.intake.offer(call);
    }

    /// The way in alone, for those who have no part in starting and stopping.
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Takes no more calls, lets those that were taken end for at most so long, and ends the
    /// thread. A call that waits for its next attempt has it at once, and it is the last. What is
    /// left then is dropped and counted, and the log told how much that was.
    pub fn stop(self, within: Duration) {
        self.stop.send_replace(Some(within));
        if self.thread.join().is_err() {
            tracing::error!("the thread of webhooks had failed");
        }
    }
}

/// The thread, from its first call to its last.
fn run(runtime: Runtime, dispatch: &Rc<Dispatch>, taken: Receiver<Handover>) {
    let calls = LocalSet::new();
    calls.block_on(&runtime, dispatch.clone().run(taken));
    let left = dispatch.calls();
    let entered = runtime.enter();
    // Each call that is left counts itself.
    drop(calls);
    drop(entered);
    if left > 0 {
        tracing::warn!(calls = left, "webhook calls were dropped, because the node stops");
    }
    // A name may still be looked up, and that cannot be broken off.
    runtime.shutdown_background();
}
