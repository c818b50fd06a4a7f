//! What the streams must be.

use std::time::Duration;

use async_nats::jetstream::stream::{self, DiscardPolicy, Republish, StorageType};

use super::{ControlError, Settings};
use crate::cluster::documents::Places;
use crate::cluster::limits::{CLAIMS_MAX, LIMBO_MS};
use crate::cluster::name::Stream;
use crate::cluster::sessions;
use crate::config::Storage;
use crate::limits::{
    CLUSTER_DOCUMENT_MESSAGES_MAX, CLUSTER_INVOCATIONS_MAX, CLUSTER_SESSIONS_MAX,
    RETENTION_MARGIN_MS,
};

/// How long a repeated message is recognized. It is also the shortest age that NATS accepts then.
const DUPLICATES: Duration = Duration::from_millis(LIMBO_MS);
/// Messages of the stream of claims: as many claims as a mirror holds, and as many ends of claims,
/// which stay for a while. At the bound further ones are refused, because a claim that made way for
/// another would hide a subscriber.
const CLAIM_MESSAGES_MAX: usize = 2 * CLAIMS_MAX;

/// Returns a stream's configuration. The stream of publications keeps what clients may ask for
/// within `window`.
pub(super) fn wanted(settings: &Settings, stream: Stream, window: Duration) -> stream::Config {
    let Settings { prefix, replicas, storage, stream_bytes, .. } = settings;
    let stored = prefix.stored(stream);
    let both = stream::Config {
        name: prefix.stream(stream),
        subjects: vec![stored.clone()],
        storage: stored_in(*storage),
        num_replicas: *replicas,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_bytes: -1,
        duplicate_window: DUPLICATES,
        allow_direct: true,
        deny_delete: true,
        ..stream::Config::default()
    };
    match stream {
        Stream::Order => stream::Config {
            description: Some("publications and heartbeats of a cluster of Fanfare".to_owned()),
            max_age: DUPLICATES.max(window) + Duration::from_millis(RETENTION_MARGIN_MS),
            max_bytes: i64::try_from(*stream_bytes).unwrap_or(i64::MAX),
            discard: DiscardPolicy::Old,
            republish: Some(Republish {
                source: stored,
                destination: prefix.live(),
                headers_only: false,
            }),
            ..both
        },
        Stream::Claims => stream::Config {
            description: Some("claims of channels of a cluster of Fanfare".to_owned()),
            max_messages: i64::try_from(CLAIM_MESSAGES_MAX).unwrap_or(i64::MAX),
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            // The end of a claim expires.
            allow_message_ttl: true,
            // The nodes' mirrors would not notice a purge.
            deny_purge: true,
            ..both
        },
    }
}

/// Returns the configuration of the stream of documents, which are kept in files whatever the other
/// streams are. It is a bucket of keys and values to the tools of NATS.
pub(super) fn documents(settings: &Settings) -> stream::Config {
    let places = Places::new(&settings.prefix);
    stream::Config {
        description: Some("documents of a cluster of Fanfare".to_owned()),
        storage: StorageType::File,
        max_messages: i64::try_from(CLUSTER_DOCUMENT_MESSAGES_MAX).unwrap_or(i64::MAX),
        allow_direct: true,
        allow_rollup: true,
        ..last_words(settings, places.stream(), places.stored())
    }
}

/// Returns the configuration of the stream of invocations, each of which it forgets by itself. It
/// is a bucket of keys and values to the tools of NATS.
pub(super) fn invocations(settings: &Settings) -> stream::Config {
    let bucket = settings.prefix.invocations();
    stream::Config {
        description: Some("invocations that the nodes of a cluster of Fanfare know".to_owned()),
        storage: StorageType::File,
        max_messages: CLUSTER_INVOCATIONS_MAX,
        allow_message_ttl: true,
        allow_rollup: true,
        ..last_words(settings, format!("KV_{bucket}"), format!("$KV.{bucket}.>"))
    }
}

/// Returns the configuration of the stream of sessions, each of which it forgets by itself. It is
/// kept like publications, without which no session can be resumed.
pub(super) fn shared_sessions(settings: &Settings) -> stream::Config {
    let Settings { prefix, storage, .. } = settings;
    stream::Config {
        description: Some("sessions of Socket.IO of a cluster of Fanfare".to_owned()),
        storage: stored_in(*storage),
        max_messages: CLUSTER_SESSIONS_MAX,
        allow_message_ttl: true,
        ..last_words(settings, sessions::stream(prefix), sessions::stored(prefix))
    }
}

/// Returns what streams have in common that keep the last message of each subject. No message makes
/// way for another. The leader alone is asked for one, because a server that is behind would say
/// that it has no message.
fn last_words(settings: &Settings, name: String, stored: String) -> stream::Config {
    stream::Config {
        name,
        subjects: vec![stored],
        num_replicas: settings.replicas,
        max_messages_per_subject: 1,
        max_bytes: -1,
        discard: DiscardPolicy::New,
        duplicate_window: DUPLICATES,
        allow_direct: false,
        ..stream::Config::default()
    }
}

fn stored_in(storage: Storage) -> StorageType {
    match storage {
        Storage::Memory => StorageType::Memory,
        Storage::File => StorageType::File,
    }
}

/// Checks an existing stream. Returns what the operator should know of one that is larger or safer
/// than configured. Its age is raised elsewhere.
pub(super) fn check(
    wanted: &stream::Config,
    found: &stream::Config,
) -> Result<Vec<String>, ControlError> {
    let stream = &wanted.name;
    let fail = |problem: String| ControlError::Stream { stream: stream.clone(), problem };
    let others = [
        ("other subjects", found.subjects != wanted.subjects),
        ("other republished subjects", found.republish != wanted.republish),
        ("a mirror or sources", found.mirror.is_some() || found.sources.is_some()),
        ("other rules of retention", found.retention != wanted.retention),
        (
            "another bound of messages for each subject",
            found.max_messages_per_subject != wanted.max_messages_per_subject,
        ),
        ("another rule for a full stream", found.discard != wanted.discard),
        ("no direct reads", wanted.allow_direct && !found.allow_direct),
        ("direct reads", !wanted.allow_direct && found.allow_direct),
        ("deletions", wanted.deny_delete && !found.deny_delete),
        ("no deletions", !wanted.deny_delete && found.deny_delete),
        ("purges", wanted.deny_purge && !found.deny_purge),
        ("no expiry of single messages", wanted.allow_message_ttl && !found.allow_message_ttl),
        ("a shorter window of duplicates", found.duplicate_window < wanted.duplicate_window),
        ("an age at which claims expire", wanted.max_age.is_zero() && !found.max_age.is_zero()),
        ("messages that are not acknowledged", found.no_ack),
    ];
    let other: Vec<_> = others.iter().filter_map(|(what, is)| is.then_some(*what)).collect();
    if !other.is_empty() {
        let other = other.join(", ");
        return Err(fail(format!(
            "exists and was not made by a node of this release (it has {other}); choose another \
             `cluster.prefix`, or delete the stream while no node runs"
        )));
    }
    let named = |storage| if storage == StorageType::File { "file" } else { "memory" };
    let compared = [
        (
            "cluster.replicas",
            found.num_replicas.cmp(&wanted.num_replicas),
            (found.num_replicas.to_string(), wanted.num_replicas.to_string()),
            format!("nats stream edit {stream} --replicas {}", wanted.num_replicas),
        ),
        (
            "cluster.stream_bytes",
            bytes(found.max_bytes).cmp(&bytes(wanted.max_bytes)),
            (found.max_bytes.to_string(), wanted.max_bytes.to_string()),
            format!("nats stream edit {stream} --max-bytes {}", wanted.max_bytes),
        ),
        (
            "cluster.storage",
            (found.storage == StorageType::File).cmp(&(wanted.storage == StorageType::File)),
            (named(found.storage).to_owned(), named(wanted.storage).to_owned()),
            format!("nats stream rm {stream}` while no node runs, and `fanfare"),
        ),
    ];
    let mut notes = Vec::new();
    for (key, order, (is, wants), command) in compared {
        match order {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Less => {
                return Err(fail(format!(
                    "has less than `{key}` = {wants} asks for: {is}; set `{key}` as on the other \
                     nodes, or change the stream (`{command}`)"
                )));
            }
            std::cmp::Ordering::Greater => notes.push(format!(
                "the stream {stream} has more than `{key}` = {wants} asks for: {is}"
            )),
        }
    }
    Ok(notes)
}

/// Returns a bound of bytes, of which −1 is the highest.
fn bytes(bound: i64) -> u64 {
    u64::try_from(bound).unwrap_or(u64::MAX)
}
