//! `fanfare cluster import`: shares what was set on a node alone with the nodes of a cluster.

use std::fmt::Write as _;
use std::io;

use async_nats::jetstream::kv;
use futures_util::StreamExt as _;
use thiserror::Error;

use super::follower::{Lost, end};
use super::{Unput, put};
use crate::background::cluster::control::{Control, ControlError, Settings, deepest};
use crate::cluster::admin::{Entry, Key};
use crate::limits::ADMIN_ATTEMPTS_MAX;
use crate::message::ChannelDefinition;

/// What an import has done, or would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// The lines to print.
    pub text: String,
    /// Whether nothing stood in the way.
    pub is_whole: bool,
}

/// Why there was no import.
#[derive(Debug, Error)]
pub enum ImportError {
    /// NATS did not do its part.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The bucket cannot be read or written.
    #[error("what the nodes of the cluster share cannot be read or changed: {0}")]
    Bucket(String),
    /// The system gave no descriptors or timers.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// What becomes of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fate {
    /// The nodes have it already.
    Same,
    /// It is added.
    New,
    /// The nodes have something else in its place, which stays.
    Conflict(&'static str),
}

/// Compares `own`, which was set on a node alone, with what the nodes of a cluster share, and adds
/// what is missing there if `applies`. What the nodes have stays as it is.
///
/// # Errors
/// If NATS cannot be reached, does not answer or refuses.
pub fn import(settings: Settings, own: &[Entry], applies: bool) -> Result<Imported, ImportError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let control = Control::connect(settings).await?;
        let bucket = control.administration().await?;
        for _ in 0..ADMIN_ATTEMPTS_MAX {
            let (_, mut revision) = end(&control).await.map_err(lost)?;
            let shared = shared(&bucket).await?;
            let fates: Vec<_> = own.iter().map(|entry| (entry, fate(entry, &shared))).collect();
            let mut is_behind = false;
            for (entry, _) in fates.iter().filter(|(_, fate)| applies && *fate == Fate::New) {
                match put(&control, entry, false, revision).await {
                    Ok(stored) => revision = stored,
                    Err(Unput::Behind) => is_behind = true,
                    Err(Unput::Refused(refusal)) => {
                        return Err(ImportError::Bucket(format!("NATS refuses it ({refusal:?})")));
                    }
                }
                if is_behind {
                    break;
                }
            }
            if !is_behind {
                return Ok(report(&fates, applies));
            }
        }
        Err(ImportError::Bucket("it changes all the time; try again".to_owned()))
    })
}

fn lost(lost: Lost) -> ImportError {
    ImportError::Bucket(lost.to_string())
}

/// Reads what the nodes share.
async fn shared(bucket: &kv::Store) -> Result<Vec<Entry>, ImportError> {
    let failed = |error: &dyn std::error::Error| ImportError::Bucket(deepest(error));
    let keys = bucket.keys().await.map_err(|error| failed(&error))?;
    let keys: Vec<_> = keys.collect().await;
    let mut entries = Vec::new();
    for key in keys {
        let key = key.map_err(|error| failed(&error))?;
        let value = bucket.get(&key).await.map_err(|error| failed(&error))?;
        let read = Key::read(&key).zip(value);
        entries.extend(read.and_then(|(key, value)| Entry::decode(key, &value)));
    }
    Ok(entries)
}

fn fate(own: &Entry, shared: &[Entry]) -> Fate {
    let same_key = shared.iter().find(|entry| entry.key() == own.key());
    match (own, same_key) {
        (_, Some(found)) if found == own => Fate::Same,
        (_, Some(_)) => Fate::Conflict("the nodes have another one"),
        (Entry::Channel(own), None) => of_pattern(own, shared),
        (_, None) => Fate::New,
    }
}

/// Returns what becomes of a definition whose id the nodes do not have.
fn of_pattern(own: &ChannelDefinition, shared: &[Entry]) -> Fate {
    let with_pattern = shared.iter().find_map(|entry| match entry {
        Entry::Channel(found) if found.pattern == own.pattern => Some(found),
        _ => None,
    });
    let Some(found) = with_pattern else { return Fate::New };
    let (id, created_at, updated_at) = (own.id, own.created_at, own.updated_at);
    let as_own = ChannelDefinition { id, created_at, updated_at, ..found.clone() };
    if as_own == *own { Fate::Same } else { Fate::Conflict("the nodes have another definition") }
}

fn report(fates: &[(&Entry, Fate)], applies: bool) -> Imported {
    let mut text = String::new();
    let mut counts = [0; 3];
    for (entry, fate) in fates {
        let (count, word) = match fate {
            Fate::New if applies => (0, "added"),
            Fate::New => (0, "would be added"),
            Fate::Same => (1, "is shared already"),
            Fate::Conflict(_) => (2, "conflict"),
        };
        counts[count] += 1;
        let why = if let Fate::Conflict(why) = fate { format!(": {why}") } else { String::new() };
        let _ = writeln!(text, "{:<18} {}{why}", word, name(entry));
    }
    let [new, same, conflicts] = counts;
    let verb = if applies { "added" } else { "to add" };
    let _ = writeln!(text, "{new} {verb}, {same} shared already, {conflicts} in conflict");
    if conflicts > 0 {
        text.push_str("What is in conflict stays as the nodes have it: change it there.\n");
    }
    if !applies && new > 0 {
        text.push_str("Nothing was changed. To add it: fanfare cluster import --apply\n");
    }
    Imported { text, is_whole: conflicts == 0 }
}

fn name(entry: &Entry) -> String {
    match entry {
        Entry::Channel(definition) => format!("channel {}", definition.pattern),
        Entry::Permissions(permissions) => {
            let count = permissions.subscribe.len() + permissions.publish.len();
            format!("{count} policies")
        }
        Entry::Retention(Some(days)) => format!("retention of {days} days"),
        Entry::Retention(None) => "retention for ever".to_owned(),
    }
}
