//! Cold work, off the hot threads: the embedded store. Publications to keep and wishes come through
//! bounded queues that nobody waits on; answers go to the acceptor that asked.

mod history;
pub mod store;
pub mod webhook;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};

use crate::limits::{HISTORY_BATCH_MAX, SHUTDOWN_WEBHOOKS_MS, WEBHOOK_WAITING_MAX};
use crate::message::{ChannelDefinition, MessageId, Millis, Record};
use crate::metrics::Counters;
use crate::router::{Answer, AnswerBody, Keep, Router, StoreChange, StoreOutcome, Wish};
use history::History;
use store::{Store, StoreError};
use webhook::{Call, Settings, Settled, Webhooks};

/// The one thread that writes to the store.
pub struct Writer {
    store: Store,
    wishes: Receiver<Wish>,
    history: History,
    calls: Calls,
    router: Arc<Router>,
    counters: Arc<Counters>,
}

/// What comes into a [`Writer`].
#[derive(Debug)]
pub struct Incoming {
    /// What is asked of it.
    pub wishes: Receiver<Wish>,
    /// What it is to keep.
    pub records: Receiver<Keep>,
}

/// Webhooks, and what they say.
struct Calls {
    webhooks: Webhooks,
    settled: Receiver<MessageId>,
}

impl Calls {
    fn start(settings: Settings, counters: Arc<Counters>) -> io::Result<Self> {
        let (told, settled) = bounded(WEBHOOK_WAITING_MAX);
        let webhooks = Webhooks::start(settings, counters, move |call: Settled| {
            // The writer takes them between two commits; it waits for no webhook.
            if call.delivered {
                let _ = told.send(call.message);
            }
        })?;
        Ok(Self { webhooks, settled })
    }
}

impl Writer {
    /// That calls webhooks as these settings say, with a thread and counters of their own.
    ///
    /// # Errors
    /// When the system gives no thread, or no TLS.
    pub fn new(
        store: Store,
        incoming: Incoming,
        settings: Settings,
        router: Arc<Router>,
        [counters, of_webhooks]: [Arc<Counters>; 2],
    ) -> io::Result<Self> {
        let Incoming { wishes, records } = incoming;
        let calls = Calls::start(settings, of_webhooks)?;
        Ok(Self { store, wishes, history: History::new(records), calls, router, counters })
    }

    /// Keeps publications and carries wishes out, one after the other, until it is told to stop.
    /// `announce` is given all definitions after each change, before it is answered, so that
    /// whoever was answered finds the change in force.
    ///
    /// # Errors
    /// When what was stored cannot be flushed at the end.
    pub fn run(mut self, announce: impl Fn(Vec<ChannelDefinition>)) -> Result<(), StoreError> {
        loop {
            select! {
                recv(self.history.records) -> keep => {
                    if let Ok(keep) = keep {
                        self.keep(keep);
                    }
                }
                recv(self.wishes) -> wish => match wish {
                    Ok(Wish::Change(from, ticket, change)) => {
                        let body = AnswerBody::Stored(self.change(change, &announce));
                        self.router.answer(from, Answer { ticket, body });
                    }
                    Ok(Wish::Probe(from, ticket)) => {
                        let body = probe(&self.store);
                        self.router.answer(from, Answer { ticket, body });
                    }
                    Ok(Wish::Stop) | Err(_) => break,
                },
                recv(self.calls.settled) -> settled => {
                    if let Ok(message) = settled {
                        self.count_delivered(message);
                    }
                }
            }
        }
        self.stop()
    }

    /// Carries out what came before the end.
    fn stop(mut self) -> Result<(), StoreError> {
        while let Ok(keep) = self.history.records.try_recv() {
            self.keep(keep);
        }
        let Self { mut store, calls: Calls { webhooks, settled }, .. } = self;
        webhooks.stop(Duration::from_millis(SHUTDOWN_WEBHOOKS_MS));
        count(&mut store, settled.try_iter());
        store.flush()
    }

    /// Keeps a publication and those that wait behind it, and has their webhooks called.
    fn keep(&mut self, first: Keep) {
        let records = self.history.keep(first, &mut self.store, &self.router, &self.counters);
        for Record { publication, definition, .. } in records {
            if definition.webhook_urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
                self.calls.webhooks.offer(Call { publication, definition });
            }
        }
    }

    /// Counts a webhook that took a message, and those that wait to be counted behind it.
    fn count_delivered(&mut self, first: MessageId) {
        let more = self.calls.settled.try_iter().take(HISTORY_BATCH_MAX);
        count(&mut self.store, std::iter::once(first).chain(more));
    }

    fn change(
        &self,
        change: StoreChange,
        announce: &impl Fn(Vec<ChannelDefinition>),
    ) -> StoreOutcome {
        let outcome = apply(&self.store, change).and_then(|outcome| {
            if matches!(outcome, StoreOutcome::Done(_)) {
                announce(self.store.channels()?);
            }
            Ok(outcome)
        });
        outcome.unwrap_or_else(refusal)
    }
}

fn count(store: &mut Store, delivered: impl Iterator<Item = MessageId>) {
    let mut counts = HashMap::<MessageId, u32>::new();
    delivered.for_each(|message| *counts.entry(message).or_default() += 1);
    let counts: Vec<_> = counts.into_iter().collect();
    if let Err(error) = store.count_delivered(&counts) {
        tracing::error!(%error, messages = counts.len(), "history misses who took these messages");
    }
}

fn probe(store: &Store) -> AnswerBody {
    match store.probe() {
        Ok(()) => AnswerBody::Alive,
        Err(error) => {
            tracing::warn!(%error, "the store does not work");
            AnswerBody::Ailing(error.ailment())
        }
    }
}

fn apply(store: &Store, change: StoreChange) -> Result<StoreOutcome, StoreError> {
    match change {
        StoreChange::Insert(definition) => {
            if let Some(problem) = definition.problem() {
                return Ok(StoreOutcome::Invalid(problem));
            }
            store.insert_channel(&definition)?;
            tracing::info!(id = %definition.id, pattern = definition.pattern, "channel defined");
            Ok(StoreOutcome::Done(Box::new(definition)))
        }
        StoreChange::Update(id, change, now) => {
            let Some(before) = find(store, id)? else { return Ok(StoreOutcome::NotFound) };
            let after = change.apply(&before, later(now, &before));
            if let Some(problem) = after.problem() {
                return Ok(StoreOutcome::Invalid(problem));
            }
            store.update_channel(id, &after)?;
            tracing::info!(%id, pattern = after.pattern, enabled = after.enabled, "channel changed");
            Ok(StoreOutcome::Done(Box::new(after)))
        }
        StoreChange::Delete(id) => {
            let Some(before) = find(store, id)? else { return Ok(StoreOutcome::NotFound) };
            store.delete_channel(id)?;
            tracing::info!(%id, pattern = before.pattern, "channel removed");
            Ok(StoreOutcome::Done(Box::new(before)))
        }
    }
}

fn find(store: &Store, id: uuid::Uuid) -> Result<Option<ChannelDefinition>, StoreError> {
    Ok(store.channels()?.into_iter().find(|definition| definition.id == id))
}

/// A clock that was set back does not make an update older than what it updates.
fn later(now: Millis, before: &ChannelDefinition) -> Millis {
    now.max(before.updated_at)
}

fn refusal(error: StoreError) -> StoreOutcome {
    match error {
        StoreError::Duplicate { pattern } => StoreOutcome::Duplicate(pattern),
        StoreError::Full { .. } => StoreOutcome::Full,
        error if error.is_temporary() => {
            tracing::warn!(%error, "the store did not take a change");
            StoreOutcome::Busy
        }
        error => {
            tracing::error!(%error, "the store failed");
            StoreOutcome::Failed
        }
    }
}
