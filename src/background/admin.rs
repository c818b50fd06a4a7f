//! Changes that administrators make: to channel definitions, to policies and to the retention of
//! history. A node alone makes them at once. A node of a cluster plans them: they are made when all
//! nodes have been told, each when it hears of them.

pub(super) mod sharing;

use super::store::{Store, StoreError};
use super::{News, policy, refused};
use crate::cluster::admin::Entry;
use crate::limits::DEFINITIONS_MAX;
use crate::mailbox::{Changed, Mailboxes, StoreChange, StoreRefusal, StoreResult, Wish};
use crate::message::{ChannelDefinition, Millis, Permissions};

/// A change that is possible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::background) struct Planned {
    /// How it is after the change; the old value if it is deleted.
    pub entry: Entry,
    /// Whether it is deleted.
    pub is_deletion: bool,
}

/// Returns what a change would make of what the store has, or why it is refused. What is no change
/// is not refused, but planned as nothing.
pub(super) fn plan(store: &Store, wish: &Wish) -> StoreResult<Option<Planned>> {
    let put = |entry| Some(Planned { entry, is_deletion: false });
    Ok(match wish {
        Wish::Change(_, StoreChange::Delete(id)) => {
            let entry = Entry::Channel(find(&all(store)?, *id)?.clone());
            Some(Planned { entry, is_deletion: true })
        }
        Wish::Change(_, change) => put(Entry::Channel(after(store, change)?)),
        Wish::Permit(_, permissions) => {
            if let Some(problem) = policy::problem(permissions) {
                return Err(StoreRefusal::Invalid(problem));
            }
            put(Entry::Permissions(sorted(permissions)))
        }
        Wish::SetRetention(_, days) => put(Entry::Retention(*days)),
        _ => None,
    })
}

/// Answers who wished for a change.
pub(super) fn answer(
    mailboxes: &Mailboxes,
    wish: Wish,
    changed: StoreResult<Entry>,
    unconfirmed: Vec<Box<str>>,
) {
    match (wish, changed) {
        (Wish::Change(ticket, _), Ok(Entry::Channel(now))) => {
            mailboxes.answer(ticket, Ok(Changed { now: Box::new(now), unconfirmed }));
        }
        (Wish::Permit(ticket, _), Ok(Entry::Permissions(now))) => {
            mailboxes.answer(ticket, Ok(Changed { now, unconfirmed }));
        }
        (Wish::SetRetention(ticket, _), Ok(Entry::Retention(now))) => {
            mailboxes.answer(ticket, Ok(Changed { now, unconfirmed }));
        }
        (wish, changed) => refuse(mailboxes, wish, changed.err().unwrap_or(StoreRefusal::Failed)),
    }
}

/// Tells who wished for a change that it is refused.
pub(super) fn refuse(mailboxes: &Mailboxes, wish: Wish, refusal: StoreRefusal) {
    match wish {
        Wish::Change(ticket, _) => mailboxes.answer(ticket, Err(refusal)),
        Wish::Permit(ticket, _) => mailboxes.answer(ticket, Err(refusal)),
        Wish::SetRetention(ticket, _) => mailboxes.answer(ticket, Err(refusal)),
        Wish::Invoke(ticket, _) => mailboxes.answer(ticket, Err(refusal)),
        _ => {}
    }
}

/// Makes a change on a node alone, announces it, and answers.
pub(super) fn change(
    store: &mut Store,
    wish: Wish,
    mailboxes: &Mailboxes,
    announce: &impl Fn(News<'_>),
) {
    let changed = plan(store, &wish).and_then(|planned| {
        let Planned { entry, is_deletion } = planned.ok_or(StoreRefusal::NotFound)?;
        make(store, &entry, is_deletion)?;
        tell(&entry, is_deletion);
        announce_entry(store, &entry, announce)?;
        Ok(entry)
    });
    answer(mailboxes, wish, changed, Vec::new());
}

fn make(store: &mut Store, entry: &Entry, is_deletion: bool) -> StoreResult<()> {
    match entry {
        Entry::Channel(definition) => {
            let made = match is_deletion {
                true => store.delete_channel(definition.id).map(drop),
                false => store.update_channel(definition.id, definition).and_then(|is_there| {
                    if is_there { Ok(()) } else { store.insert_channel(definition) }
                }),
            };
            made.map_err(|error| refusal(&error))
        }
        Entry::Permissions(permissions) => store
            .replace_permissions(permissions)
            .map_err(|error| refused(&error, "new policies could not be stored")),
        Entry::Retention(days) => store
            .set_retention(*days)
            .map_err(|error| refused(&error, "the retention could not be stored")),
    }
}

/// Announces the kind of thing that has changed, as the store has all of it now.
fn announce_entry(store: &Store, entry: &Entry, announce: &impl Fn(News<'_>)) -> StoreResult<()> {
    match entry {
        Entry::Channel(_) => announce(News::Channels(all(store)?)),
        Entry::Permissions(permissions) => announce(News::Permissions(permissions.clone())),
        Entry::Retention(_) => {}
    }
    Ok(())
}

/// Logs a change.
fn tell(entry: &Entry, is_deletion: bool) {
    match entry {
        Entry::Channel(ChannelDefinition { id, pattern, .. }) if is_deletion => {
            tracing::info!(%id, pattern, "channel removed");
        }
        Entry::Channel(ChannelDefinition {
            id, pattern, enabled, created_at, updated_at, ..
        }) => {
            let what = if created_at == updated_at { "channel defined" } else { "channel changed" };
            tracing::info!(%id, pattern, enabled, "{what}");
        }
        Entry::Permissions(Permissions { subscribe, publish }) => {
            let (subscribe, publish) = (subscribe.len(), publish.len());
            tracing::info!(subscribe, publish, "policies replaced");
        }
        Entry::Retention(days) => tracing::info!(?days, "retention of history set"),
    }
}

/// Returns a definition as it is after a change, or why the change is refused.
fn after(store: &Store, change: &StoreChange) -> StoreResult<ChannelDefinition> {
    let all = all(store)?;
    let after = match change {
        StoreChange::Insert(_) if all.len() >= DEFINITIONS_MAX => return Err(StoreRefusal::Full),
        StoreChange::Insert(definition) => definition.clone(),
        StoreChange::Update(id, change, now) => {
            let before = find(&all, *id)?;
            change.clone().apply(before, later(*now, before))
        }
        StoreChange::Delete(id) => return find(&all, *id).cloned(),
    };
    if let Some(problem) = after.problem() {
        return Err(StoreRefusal::Invalid(problem.to_owned()));
    }
    let is_taken = all.iter().any(|one| one.pattern == after.pattern && one.id != after.id);
    if is_taken { Err(StoreRefusal::Duplicate(after.pattern)) } else { Ok(after) }
}

fn all(store: &Store) -> StoreResult<Vec<ChannelDefinition>> {
    store.channels().map_err(|error| refusal(&error))
}

fn find(all: &[ChannelDefinition], id: uuid::Uuid) -> StoreResult<&ChannelDefinition> {
    all.iter().find(|definition| definition.id == id).ok_or(StoreRefusal::NotFound)
}

/// Returns policies in the order in which the store returns them.
fn sorted(permissions: &Permissions) -> Permissions {
    let mut permissions = permissions.clone();
    for side in [&mut permissions.subscribe, &mut permissions.publish] {
        side.sort_by(|one, other| one.name.cmp(&other.name));
    }
    permissions
}

/// Returns the time of an update: `now`, or the time of the update before if the clock was set
/// back.
fn later(now: Millis, before: &ChannelDefinition) -> Millis {
    now.max(before.updated_at)
}

fn refusal(error: &StoreError) -> StoreRefusal {
    refused(error, "a change of channels could not be stored")
}
