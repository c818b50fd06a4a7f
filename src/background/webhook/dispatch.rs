//! The thread of webhooks: it decides which call has its turn, and settles each.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;

use super::attempt::{Caller, Verdict};
use super::intake::{Handover, Loss, Parcel, Shared};
use super::warnings::Warnings;
use crate::limits::{
    WEBHOOK_ATTEMPTS_MAX, WEBHOOK_CONCURRENT_MAX, WEBHOOK_TARGET_CONCURRENT_MAX,
    WEBHOOK_TARGET_QUEUE_MAX,
};
use crate::message::webhook_url::{self, Refusal};
use crate::message::{ChannelDefinition, MessageId};
use crate::metrics::Counters;

/// The log's name for the target if calls to all targets are concerned.
const ALL_TARGETS: &str = "all";

/// The state that all calls share.
pub(super) struct Dispatch {
    caller: Caller,
    retry: Duration,
    counters: Arc<Counters>,
    shared: Arc<Shared>,
    /// Set when the node stops: for how long the calls that were taken may go on.
    stopping: watch::Receiver<Option<Duration>>,
    targets: RefCell<HashMap<Rc<str>, Rc<Target>>>,
    /// Notified when the last target is forgotten.
    idle: Notify,
    /// Places for attempts under way, to all targets together.
    places: Semaphore,
    warnings: RefCell<Warnings>,
}

/// The calls to one scheme, host and port. It exists as long as there are any.
struct Target {
    origin: Rc<str>,
    /// Places for attempts under way.
    places: Semaphore,
    /// Calls that are not settled.
    calls: Cell<usize>,
}

/// The end of a call.
#[derive(Clone, Copy)]
enum Outcome {
    Delivered,
    Refused,
    Failed,
    Dropped(Loss),
}

impl Dispatch {
    pub(super) fn new(
        caller: Caller,
        retry: Duration,
        counters: Arc<Counters>,
        shared: Arc<Shared>,
        stopping: watch::Receiver<Option<Duration>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            caller,
            retry,
            counters,
            shared,
            stopping,
            targets: RefCell::default(),
            idle: Notify::new(),
            places: Semaphore::new(WEBHOOK_CONCURRENT_MAX),
            warnings: RefCell::default(),
        })
    }

    /// Takes calls until the node stops, then waits for those that it has.
    pub(super) async fn run(self: Rc<Self>, mut taken: Receiver<Handover>) {
        let mut stopping = self.stopping.clone();
        loop {
            // `select!` chooses at random, so that neither a flood of calls nor one of losses keeps
            // the others from being seen.
            tokio::select! {
                _ = stopping.changed() => break,
                () = self.shared.lost.notified() => self.count_losses(),
                handover = taken.recv() => match handover {
                    Some(handover) => self.take(handover),
                    None => break,
                },
            }
        }
        taken.close();
        while let Some(handover) = taken.recv().await {
            self.take(handover);
        }
        let within = stopping.borrow().unwrap_or_default();
        let _ = timeout(within, self.settle_all()).await;
        self.count_losses();
    }

    /// Returns how many calls are not settled.
    pub(super) fn calls(&self) -> usize {
        self.targets.borrow().values().map(|target| target.calls.get()).sum()
    }

    async fn settle_all(&self) {
        while !self.targets.borrow().is_empty() {
            self.idle.notified().await;
        }
    }

    /// Counts the calls that offering threads dropped, because only this thread may count.
    fn count_losses(&self) {
        for (loss, calls) in self.shared.take_losses() {
            self.count_loss(loss, calls);
            if let Some(suppressed) = self.warnings.borrow_mut().due(ALL_TARGETS, Instant::now()) {
                tracing::warn!(calls, reason = %loss, suppressed, "webhook calls were dropped");
            }
        }
    }

    /// Starts a call to each URL of the definition.
    fn take(self: &Rc<Self>, handover: Handover) {
        let Handover { parcel, definition } = handover;
        let urls = definition.webhook_urls.as_deref().unwrap_or_default();
        self.counters.webhook_waiting.add(urls.len() as u64);
        for (at, url) in urls.iter().enumerate() {
            match self.admit(url, &definition) {
                Ok(target) => {
                    let (parcel, definition) = (parcel.clone(), definition.clone());
                    let (dispatch, outcome) = (self.clone(), Outcome::Dropped(Loss::Stopped));
                    let call = Pending { dispatch, parcel, definition, at, target, outcome };
                    tokio::task::spawn_local(call.carry());
                }
                Err(outcome) => self.settle(parcel.publication().id, outcome),
            }
        }
    }

    /// Returns the URL's target, with one call more, or the end of a call that cannot begin.
    fn admit(&self, url: &str, definition: &ChannelDefinition) -> Result<Rc<Target>, Outcome> {
        let refused = |origin: &str, refusal: Refusal| {
            self.warn(origin, definition, refusal);
            Outcome::Refused
        };
        let url = webhook_url::parse(url).map_err(|refusal| refused("unknown", refusal))?;
        let origin = webhook_url::origin(&url);
        self.caller.check(&url).map_err(|refusal| refused(&origin, refusal))?;
        let target = self.target(origin);
        if target.calls.get() >= WEBHOOK_TARGET_QUEUE_MAX {
            self.warn(&target.origin, definition, "its bound on waiting calls is reached");
            return Err(Outcome::Dropped(Loss::Target));
        }
        target.calls.set(target.calls.get() + 1);
        Ok(target)
    }

    fn target(&self, origin: String) -> Rc<Target> {
        let mut targets = self.targets.borrow_mut();
        if let Some(target) = targets.get(&*origin) {
            return target.clone();
        }
        let target = Rc::new(Target {
            origin: origin.into(),
            places: Semaphore::new(WEBHOOK_TARGET_CONCURRENT_MAX),
            calls: Cell::new(0),
        });
        targets.insert(target.origin.clone(), target.clone());
        target
    }

    /// Takes a call off its target, and forgets a target that has none.
    fn leave(&self, target: &Target) {
        target.calls.set(target.calls.get() - 1);
        if target.calls.get() > 0 {
            return;
        }
        let mut targets = self.targets.borrow_mut();
        targets.remove(&target.origin);
        if targets.is_empty() {
            self.idle.notify_one();
        }
    }

    fn settle(&self, message: MessageId, outcome: Outcome) {
        let counters = &self.counters;
        match outcome {
            Outcome::Delivered => counters.webhook_delivered.add(1),
            Outcome::Refused => counters.webhook_refused.add(1),
            Outcome::Failed => counters.webhook_failed.add(1),
            Outcome::Dropped(loss) => self.count_loss(loss, 1),
        }
        counters.webhook_waiting.sub(1);
        self.shared.room.give_calls_back(1);
        self.shared.settle(message, matches!(outcome, Outcome::Delivered));
    }

    fn count_loss(&self, loss: Loss, calls: u64) {
        let counters = &self.counters;
        let by_reason = match loss {
            Loss::Waiting => &counters.webhook_dropped_waiting,
            Loss::Bytes => &counters.webhook_dropped_bytes,
            Loss::Handover => &counters.webhook_dropped_handover,
            Loss::Target => &counters.webhook_dropped_target_queue,
            Loss::Stopped => &counters.webhook_dropped_stopped,
        };
        by_reason.add(calls);
        counters.webhook_dropped.add(calls);
    }

    /// Logs why a call was not delivered, unless the target was in the log a moment ago.
    fn warn(&self, origin: &str, definition: &ChannelDefinition, reason: impl Display) {
        let Some(suppressed) = self.warnings.borrow_mut().due(origin, Instant::now()) else {
            return;
        };
        let pattern = &definition.pattern;
        tracing::warn!(origin, pattern, %reason, suppressed, "a webhook call was not delivered");
    }

    /// Returns the wait after an attempt: twice as long each time, give or take half, so that calls
    /// that failed together are not repeated together.
    fn wait_after(&self, attempt: u32) -> Duration {
        let doubled = self.retry * 2u32.saturating_pow(attempt - 1);
        doubled.mul_f64(rand::random_range(0.5..1.5))
    }
}

/// A call to one URL that is not settled. If it is dropped before it has an outcome, it counts as
/// dropped because the node stops.
struct Pending {
    dispatch: Rc<Dispatch>,
    parcel: Arc<Parcel>,
    definition: Arc<ChannelDefinition>,
    /// The index of the URL among the definition's: thousands of calls may wait, and the definition
    /// holds the text already.
    at: usize,
    target: Rc<Target>,
    outcome: Outcome,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.dispatch.settle(self.parcel.publication().id, self.outcome);
        self.dispatch.leave(&self.target);
    }
}

impl Pending {
    async fn carry(self) {
        let mut stopping = self.dispatch.stopping.clone();
        for attempt in 1..=WEBHOOK_ATTEMPTS_MAX {
            let is_last = attempt == WEBHOOK_ATTEMPTS_MAX || stopping.borrow().is_some();
            let (fault, after) = match self.attempt().await {
                Verdict::Again(fault, after) if !is_last => (fault, after),
                verdict => return self.end(verdict),
            };
            let wait = self.dispatch.wait_after(attempt).max(after.unwrap_or_default());
            let origin = &*self.target.origin;
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(origin, attempt, %fault, wait_ms, "a webhook call waits to be repeated");
            // If the node stops, the wait ends and the next attempt is the last.
            let _ = timeout(wait, stopping.wait_for(Option::is_some)).await;
        }
    }

    async fn attempt(&self) -> Verdict {
        let dispatch = &self.dispatch;
        let _turn = self.target.places.acquire().await.expect("the semaphores stay open");
        let _place = dispatch.places.acquire().await.expect("the semaphores stay open");
        let url = match webhook_url::parse(self.url()) {
            Ok(url) => url,
            Err(refusal) => return Verdict::Refused(refusal),
        };
        dispatch.counters.webhook_attempts.add(1);
        // A request takes kilobytes. In a box it takes none while the call waits.
        Box::pin(dispatch.caller.attempt(url, &self.parcel)).await
    }

    fn url(&self) -> &str {
        self.definition.webhook_urls.as_ref().map_or("", |urls| &urls[self.at])
    }

    fn end(mut self, verdict: Verdict) {
        self.outcome = match verdict {
            Verdict::Delivered => Outcome::Delivered,
            Verdict::Refused(refusal) => self.not_delivered(refusal, Outcome::Refused),
            Verdict::Failed(fault) | Verdict::Again(fault, _) => {
                self.not_delivered(fault, Outcome::Failed)
            }
        };
    }

    fn not_delivered(&self, reason: impl Display, outcome: Outcome) -> Outcome {
        self.dispatch.warn(&self.target.origin, &self.definition, reason);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::background::webhook::intake::Intake;
    use crate::background::webhook::tests::{call, settings};

    fn dispatch() -> Rc<Dispatch> {
        let settings = settings();
        let (_, shared, _) = Intake::new(usize::MAX, |_| {});
        let (_, stopping) = watch::channel(None);
        let caller = Caller::new(&settings).unwrap();
        Dispatch::new(caller, settings.retry, Arc::default(), shared, stopping)
    }

    #[test]
    fn a_target_is_forgotten_with_its_last_call() {
        let (dispatch, definition) = (dispatch(), call(&[]).definition);
        let admit = |url| dispatch.admit(url, &definition).ok().unwrap();
        let [one, same, other] = ["http://a/x", "http://u:p@A:80/y", "https://a/x"].map(admit);
        assert!(Rc::ptr_eq(&one, &same) && !Rc::ptr_eq(&one, &other));
        assert_eq!((dispatch.calls(), dispatch.targets.borrow().len()), (3, 2));
        dispatch.leave(&one);
        assert_eq!((dispatch.calls(), dispatch.targets.borrow().len()), (2, 2));
        dispatch.leave(&same);
        dispatch.leave(&other);
        assert_eq!((dispatch.calls(), dispatch.targets.borrow().len()), (0, 0));
    }

    #[test]
    fn waits_double_give_or_take_half() {
        let dispatch = dispatch();
        for attempt in 1..=4 {
            let doubled = dispatch.retry * (1 << (attempt - 1));
            let waits: Vec<_> = (0..100).map(|_| dispatch.wait_after(attempt)).collect();
            assert!(waits.iter().all(|wait| (doubled / 2..doubled * 3 / 2).contains(wait)));
            assert!(waits.iter().any(|wait| *wait != waits[0]));
        }
    }

    #[test]
    fn a_call_that_waits_is_small() {
        let (dispatch, call) = (dispatch(), call(&["http://a/"]));
        let (intake, _, mut taken) = Intake::new(usize::MAX, |_| {});
        intake.offer(call);
        let Handover { parcel, definition } = taken.try_recv().unwrap();
        let target = dispatch.admit("http://a/", &definition).ok().unwrap();
        let outcome = Outcome::Dropped(Loss::Stopped);
        let call = Pending { dispatch, parcel, definition, at: 0, target, outcome };
        let bytes = size_of_val(&call.carry());
        assert!(bytes <= 512, "{bytes} bytes, and there may be 65,536 of them");
    }
}
