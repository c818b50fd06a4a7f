//! `fanfare cluster import`: shares what was set on a node alone with the nodes of a cluster.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use async_nats::jetstream::kv;
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use thiserror::Error;

use super::follower::{Lost, end};
use super::{Unput, put};
use crate::background::cluster::beats::listen;
use crate::background::cluster::control::{Control, ControlError, Settings, deepest};
use crate::background::cluster::entries::Register;
use crate::background::cluster::identity::ClusterId;
use crate::cluster::admin::{Entry, Key};
use crate::cluster::health::differ;
use crate::config::Fingerprints;
use crate::limits::{ADMIN_ATTEMPTS_MAX, REGISTER_LISTEN_MS};
use crate::message::{ChannelDefinition, Policy};

/// Members of a definition that may differ without a conflict.
const TIMES: [&str; 2] = ["created_at", "updated_at"];

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
    /// The node that has the definitions could not join the cluster.
    #[error("{0}, so that this node could not join: set them alike on all; nothing was changed")]
    Secrets(String),
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
    Conflict(String),
}

/// Compares `own`, which was set on a node alone, with what the nodes of a cluster share, and adds
/// what is missing there if `applies`. What the nodes have stays as it is. `fingerprints` returns
/// those of this machine's settings in the cluster with an id.
///
/// # Errors
/// If NATS cannot be reached, does not answer or refuses; or if it `applies`, and a node that is
/// alive has other secrets.
pub fn import(
    settings: Settings,
    own: &[Entry],
    fingerprints: impl Fn(&ClusterId) -> Fingerprints,
    applies: bool,
) -> Result<Imported, ImportError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let control = Control::connect(settings).await?;
        let secrets = other_secrets(&control, fingerprints).await?;
        if let (true, Some(secrets)) = (applies, &secrets) {
            return Err(ImportError::Secrets(secrets.clone()));
        }
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
                return Ok(report(&fates, secrets.as_deref(), applies));
            }
        }
        Err(ImportError::Bucket("it changes all the time; try again".to_owned()))
    })
}

/// Says which secrets of this configuration differ from those of nodes that are alive; `None` if
/// none does.
async fn other_secrets(
    control: &Control,
    fingerprints: impl Fn(&ClusterId) -> Fingerprints,
) -> Result<Option<String>, ControlError> {
    let Some(register) = Register::existing(control).await? else { return Ok(None) };
    let Some(cluster) = register.cluster().await? else { return Ok(None) };
    let (own, nodes) = (fingerprints(&cluster), register.nodes().await?);
    let differing =
        nodes.iter().map(|node| (&node.origin, own.differing_secrets(&node.entry.fingerprints)));
    let mut differing: Vec<_> = differing.filter(|(_, keys)| !keys.is_empty()).collect();
    if differing.is_empty() {
        return Ok(None);
    }
    let heard = listen(control, Duration::from_millis(REGISTER_LISTEN_MS)).await?;
    differing.retain(|(origin, _)| heard.has(origin));
    let names: Vec<_> = differing.iter().map(|(origin, _)| origin.node.as_str()).collect();
    let keys: BTreeSet<_> = differing.iter().flat_map(|(_, keys)| keys).copied().collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let text = differ(&keys, " of this configuration", &names.join(", "));
    Ok((!keys.is_empty()).then_some(text))
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
        (_, Some(found)) => Fate::Conflict(other(own, found)),
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
    if as_own == *own {
        return Fate::Same;
    }
    Fate::Conflict(other(&Entry::Channel(own.clone()), &Entry::Channel(found.clone())))
}

/// Says what the nodes have in the place of `own`.
fn other(own: &Entry, found: &Entry) -> String {
    match found {
        Entry::Channel(_) => {
            let read = |entry: &Entry| serde_json::from_str(&entry.encode()).unwrap_or_default();
            let (own, found): (Map<String, Value>, Map<String, Value>) = (read(own), read(found));
            let differs = |(key, value): &(&String, &Value)| {
                !TIMES.contains(&key.as_str()) && own.get(*key) != Some(*value)
            };
            let differing = found.iter().filter(differs);
            let differing: Vec<_> = differing
                .map(|(key, value)| {
                    let own = own.get(key).unwrap_or(&Value::Null);
                    format!("{key} {value} (here {own})")
                })
                .collect();
            format!("the nodes have {}", differing.join(", "))
        }
        Entry::Permissions(permissions) => {
            let names = |side: &[Policy]| match side {
                [] => "none".to_owned(),
                all => all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", "),
            };
            let (subscribe, publish) = (names(&permissions.subscribe), names(&permissions.publish));
            format!("the nodes have others (subscribe: {subscribe}; publish: {publish})")
        }
        Entry::Retention(_) => format!("the nodes have a {}", name(found)),
    }
}

/// Returns what the operator should know before, or while, something is added.
fn warning(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Permissions(_) => {
            Some("the policies hold on all nodes, for the channels of all".to_owned())
        }
        Entry::Retention(Some(days)) => {
            Some(format!("history that is older than {days} days is deleted on all nodes"))
        }
        Entry::Retention(None) | Entry::Channel(_) => None,
    }
}

fn report(fates: &[(&Entry, Fate)], secrets: Option<&str>, applies: bool) -> Imported {
    let mut text = String::new();
    if let Some(secrets) = secrets {
        let _ = writeln!(
            text,
            "warning: {secrets}, so that this node could not join, and --apply is refused: set \
             them alike on all"
        );
    }
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
    for (entry, _) in fates.iter().filter(|(_, fate)| *fate == Fate::New) {
        if let Some(warning) = warning(entry) {
            let _ = writeln!(text, "warning: {warning}");
        }
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
    Imported { text, is_whole: conflicts == 0 && secrets.is_none() }
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
