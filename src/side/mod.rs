//! Cold work, off the hot threads: the embedded store, and policies' expressions. Wishes come
//! through a bounded queue that nobody waits on; answers go to the acceptor that asked.

pub mod policy;
pub mod store;

use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::message::{ChannelDefinition, Millis, Permissions};
use crate::router::{
    Answer, AnswerBody, PermissionsOutcome, Router, StoreChange, StoreOutcome, Wish,
};
use store::{Store, StoreError};

/// What has changed and holds from now on.
#[derive(Debug)]
pub enum News {
    /// These are all definitions.
    Channels(Vec<ChannelDefinition>),
    /// These are all policies.
    Permissions(Permissions),
}

/// Carries wishes out, one after the other, until it is told to stop. `announce` is given the
/// news of each change before it is answered, so that whoever was answered finds it in force.
///
/// # Errors
/// When what was stored cannot be flushed at the end.
pub fn run(
    store: Store,
    wishes: &Receiver<Wish>,
    router: &Arc<Router>,
    announce: impl Fn(News),
) -> Result<(), StoreError> {
    for wish in wishes {
        let (from, ticket, body) = match wish {
            Wish::Change(from, ticket, change) => {
                let outcome = apply(&store, change).and_then(|outcome| {
                    if matches!(outcome, StoreOutcome::Done(_)) {
                        announce(News::Channels(store.channels()?));
                    }
                    Ok(outcome)
                });
                (from, ticket, AnswerBody::Stored(outcome.unwrap_or_else(refusal)))
            }
            Wish::Permit(from, ticket, permissions) => {
                let outcome = permit(&store, permissions, &announce);
                (from, ticket, AnswerBody::Permitted(outcome))
            }
            Wish::Probe(from, ticket) => (from, ticket, probe(&store)),
            Wish::Stop => break,
        };
        router.answer(from, Answer { ticket, body });
    }
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

fn permit(store: &Store, permissions: Permissions, announce: &impl Fn(News)) -> PermissionsOutcome {
    if let Some(problem) = policy::problem(&permissions) {
        return PermissionsOutcome::Invalid(problem);
    }
    let replaced = store.replace_permissions(&permissions).and_then(|()| store.permissions());
    match replaced {
        Ok(permissions) => {
            let (subscribe, publish) = (permissions.subscribe.len(), permissions.publish.len());
            tracing::info!(subscribe, publish, "policies replaced");
            announce(News::Permissions(permissions.clone()));
            PermissionsOutcome::Done(permissions)
        }
        Err(error) if error.is_temporary() => {
            tracing::warn!(%error, "the store did not take new policies");
            PermissionsOutcome::Busy
        }
        Err(error) => {
            tracing::error!(%error, "the store failed");
            PermissionsOutcome::Failed
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
