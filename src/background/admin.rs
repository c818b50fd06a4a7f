//! Changes that administrators make: to channel definitions and to policies.

use super::store::{Store, StoreError};
use super::{News, policy, refused};
use crate::mailbox::{StoreChange, StoreRefusal, StoreResult};
use crate::message::{ChannelDefinition, Millis, Permissions};

/// Inserts, updates or deletes a channel definition, and announces all definitions. Returns the
/// definition after the change, or the deleted one.
pub(super) fn change(
    store: &Store,
    change: StoreChange,
    announce: &impl Fn(News<'_>),
) -> StoreResult<Box<ChannelDefinition>> {
    let changed = apply(store, change)?;
    announce(News::Channels(store.channels().map_err(refusal)?));
    Ok(Box::new(changed))
}

fn apply(store: &Store, change: StoreChange) -> StoreResult<ChannelDefinition> {
    match change {
        StoreChange::Insert(definition) => {
            check(&definition)?;
            store.insert_channel(&definition).map_err(refusal)?;
            tracing::info!(id = %definition.id, pattern = definition.pattern, "channel defined");
            Ok(definition)
        }
        StoreChange::Update(id, change, now) => {
            let before = find(store, id)?;
            let after = change.apply(&before, later(now, &before));
            check(&after)?;
            store.update_channel(id, &after).map_err(refusal)?;
            tracing::info!(%id, pattern = after.pattern, enabled = after.enabled, "channel changed");
            Ok(after)
        }
        StoreChange::Delete(id) => {
            let before = find(store, id)?;
            store.delete_channel(id).map_err(refusal)?;
            tracing::info!(%id, pattern = before.pattern, "channel removed");
            Ok(before)
        }
    }
}

/// Replaces all policies and announces them, if every expression is valid. Returns the policies as
/// they are stored.
pub(super) fn permit(
    store: &Store,
    permissions: Permissions,
    announce: &impl Fn(News<'_>),
) -> StoreResult<Permissions> {
    if let Some(problem) = policy::problem(&permissions) {
        return Err(StoreRefusal::Invalid(problem));
    }
    let replaced = store.replace_permissions(&permissions).and_then(|()| store.permissions());
    let permissions =
        replaced.map_err(|error| refused(&error, "new policies could not be stored"))?;
    let (subscribe, publish) = (permissions.subscribe.len(), permissions.publish.len());
    tracing::info!(subscribe, publish, "policies replaced");
    announce(News::Permissions(permissions.clone()));
    Ok(permissions)
}

/// Refuses a definition that contradicts itself.
fn check(definition: &ChannelDefinition) -> StoreResult<()> {
    match definition.problem() {
        Some(problem) => Err(StoreRefusal::Invalid(problem.to_owned())),
        None => Ok(()),
    }
}

fn find(store: &Store, id: uuid::Uuid) -> StoreResult<ChannelDefinition> {
    let all = store.channels().map_err(refusal)?;
    all.into_iter().find(|definition| definition.id == id).ok_or(StoreRefusal::NotFound)
}

/// Returns the time of an update: `now`, or the time of the update before if the clock was set
/// back.
fn later(now: Millis, before: &ChannelDefinition) -> Millis {
    now.max(before.updated_at)
}

fn refusal(error: StoreError) -> StoreRefusal {
    refused(&error, "a change of channels could not be stored")
}
