//! Cold work, off the hot threads: the embedded store. Publications to keep and wishes come through
//! bounded queues that nobody waits on; answers go to the acceptor that asked.

mod history;
pub mod store;

use std::sync::Arc;

use crossbeam_channel::{Receiver, select};

use crate::message::{ChannelDefinition, Millis};
use crate::metrics::Counters;
use crate::router::{Answer, AnswerBody, Keep, Router, StoreChange, StoreOutcome, Wish};
use history::History;
use store::{Store, StoreError};

/// The one thread that writes to the store.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    wishes: Receiver<Wish>,
    history: History,
    router: Arc<Router>,
    counters: Arc<Counters>,
}

impl Writer {
    /// That takes what comes in from these queues.
    pub fn new(
        store: Store,
        wishes: Receiver<Wish>,
        records: Receiver<Keep>,
        router: Arc<Router>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { store, wishes, history: History::new(records), router, counters }
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
            }
        }
        while let Ok(keep) = self.history.records.try_recv() {
            self.keep(keep);
        }
        self.store.flush()
    }

    fn keep(&mut self, first: Keep) {
        self.history.keep(first, &mut self.store, &self.router, &self.counters);
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
