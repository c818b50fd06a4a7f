//! Changes that administrators make: to channel definitions and to policies.

use super::store::{Store, StoreError};
use super::{News, policy};
use crate::mailbox::{PermissionsOutcome, StoreChange, StoreOutcome};
use crate::message::{ChannelDefinition, Millis, Permissions};

/// Changes a channel definition.
pub(super) fn change(
    store: &Store,
    change: StoreChange,
    announce: &impl Fn(News<'_>),
) -> StoreOutcome {
    let outcome = apply(store, change).and_then(|outcome| {
        if matches!(outcome, StoreOutcome::Done(_)) {
            announce(News::Channels(store.channels()?));
        }
        Ok(outcome)
    });
    outcome.unwrap_or_else(refusal)
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

/// Replaces all policies, if each of them is sound.
pub(super) fn permit(
    store: &Store,
    permissions: Permissions,
    announce: &impl Fn(News<'_>),
) -> PermissionsOutcome {
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
