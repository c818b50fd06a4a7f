//! Cold work, off the hot threads: the embedded store. Wishes come through a bounded queue that
//! nobody waits on; answers go to the acceptor that asked.

mod chores;
pub mod reader;
pub mod store;

use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::message::{ChannelDefinition, Millis};
use crate::router::{Answer, AnswerBody, HistoryAnswer, Router, StoreChange, StoreOutcome, Wish};
use chores::Chores;
use store::{Store, StoreError};

/// Carries wishes out, one after the other, until it is told to stop. `announce` is given all
/// definitions after each change, before it is answered, so that whoever was answered finds the
/// change in force.
///
/// # Errors
/// When what was stored cannot be flushed at the end.
pub fn run(
    mut store: Store,
    wishes: &Receiver<Wish>,
    router: &Arc<Router>,
    announce: impl Fn(Vec<ChannelDefinition>),
) -> Result<(), StoreError> {
    let mut chores = Chores::default();
    loop {
        let wish = match wishes.recv_timeout(chores.step(&mut store, router)) {
            Ok(wish) => wish,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let (from, ticket, body) = match wish {
            Wish::Change(from, ticket, change) => {
                let outcome = apply(&store, change).and_then(|outcome| {
                    if matches!(outcome, StoreOutcome::Done(_)) {
                        announce(store.channels()?);
                    }
                    Ok(outcome)
                });
                (from, ticket, AnswerBody::Stored(outcome.unwrap_or_else(refusal)))
            }
            Wish::Clear(from, ticket) => {
                chores.clear(from, ticket, store.newest());
                continue;
            }
            Wish::SetRetention(from, ticket, days) => {
                let set = store.set_retention(days).map(|()| HistoryAnswer::Retention(days));
                chores.look_at_retention();
                (from, ticket, reader::answered(set))
            }
            Wish::Retention(from, ticket) => {
                let read = store.retention().map(HistoryAnswer::Retention);
                (from, ticket, reader::answered(read))
            }
            Wish::Probe(from, ticket) => (from, ticket, probe(&store)),
            Wish::Stop => break,
        };
        router.answer(from, Answer { ticket, body });
    }
    chores.abandon(router);
    store.flush()
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
