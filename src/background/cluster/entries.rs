//! The entries of a cluster's register, a bucket of NATS that outlives the streams.

use std::time::Duration;

use async_nats::jetstream::kv::{self, Operation};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::control::{Control, ControlError, deepest};
use super::identity::ClusterId;
use crate::cluster::name::{Incarnation, NodeName, Stream};
use crate::cluster::wire::{Anchor, Origin};
use crate::config::Fingerprints;
use crate::limits::{NATS_CALL_MS, REGISTER_MARKER_MS};
use crate::message::Millis;

/// The key of the cluster's own entry.
const CLUSTER: &str = "cluster";
/// The start of the keys of nodes; the name follows.
const NODE: &str = "node.";

/// What a node says of itself in the register.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Tells this start of the node from others, in hexadecimal digits.
    pub incarnation: String,
    /// The name of its machine.
    pub host: String,
    /// Its release.
    pub version: String,
    /// The lowest and the highest version of messages that it reads.
    pub wire: (u32, u32),
    /// When it started, in milliseconds since the epoch, by its own clock.
    pub started: Millis,
    /// What all nodes must have the same.
    pub fingerprints: Fingerprints,
}

impl NodeEntry {
    /// Returns the start of the node with this name that wrote the entry; `None` if the entry does
    /// not say it as this release does.
    pub(super) fn origin(&self, node: &NodeName) -> Option<Origin> {
        let incarnation = Incarnation::read(&self.incarnation)?;
        Some(Origin { node: node.clone(), incarnation })
    }
}

/// A node that is entered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// This start of the node.
    pub origin: Origin,
    /// The revision of its entry, by which nodes are ordered.
    pub revision: u64,
    /// When it was entered, in milliseconds since the epoch, by the clock of NATS.
    pub at: Millis,
    /// What it says of itself.
    pub entry: NodeEntry,
}

/// The cluster's own entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ClusterEntry {
    id: String,
    created_by: String,
}

/// The text of an anchor in the register.
#[derive(Debug, Serialize, Deserialize)]
struct AnchorEntry {
    nonce: String,
    number: u64,
}

/// What the register has under a key.
pub(super) struct Found<T> {
    pub(super) revision: u64,
    /// `None` if it was deleted, or cannot be read.
    pub(super) value: Option<T>,
}

/// The register of a cluster.
#[derive(Clone, Debug)]
pub struct Register {
    store: kv::Store,
}

impl Register {
    /// Opens the register, and creates it if it is missing.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn open(control: &Control) -> Result<Self, ControlError> {
        control.register().await.map(|store| Self { store })
    }

    /// Opens the register; `None` if no node has created it.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn existing(control: &Control) -> Result<Option<Self>, ControlError> {
        let store = control.existing_register().await?;
        Ok(store.map(|store| Self { store }))
    }

    /// Returns the id of the cluster; `None` if no node has entered one.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn cluster(&self) -> Result<Option<ClusterId>, ControlError> {
        let found = self.read::<ClusterEntry>(CLUSTER).await?;
        Ok(found.value.and_then(|entry| ClusterId::read(&entry.id)))
    }

    /// Enters the id of the cluster unless there is one. Returns the one that there is.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn enter_cluster(
        &self,
        id: ClusterId,
        by: &NodeName,
    ) -> Result<ClusterId, ControlError> {
        if let Some(found) = self.cluster().await? {
            return Ok(found);
        }
        let entry = ClusterEntry { id: id.as_str().to_owned(), created_by: by.to_string() };
        match self.write(CLUSTER, &entry, 0).await? {
            Some(_) => Ok(id),
            None => self.cluster().await?.ok_or_else(|| unreadable(CLUSTER)),
        }
    }

    /// Returns a node's entry.
    pub(super) async fn node(&self, node: &NodeName) -> Result<Found<NodeEntry>, ControlError> {
        self.read(&format!("{NODE}{node}")).await
    }

    /// Enters a node if its entry has this revision. Returns the new one; `None` if the entry has
    /// another.
    pub(super) async fn enter(
        &self,
        node: &NodeName,
        entry: &NodeEntry,
        expected: u64,
    ) -> Result<Option<u64>, ControlError> {
        self.write(&format!("{NODE}{node}"), entry, expected).await
    }

    /// Deletes a node's entry, unless it has another revision by now.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn remove(&self, node: &NodeName, revision: u64) -> Result<(), ControlError> {
        let key = format!("{NODE}{node}");
        let marker = Duration::from_millis(REGISTER_MARKER_MS);
        let removed = self.store.purge_expect_revision_with_ttl(&key, revision, marker).await;
        match removed {
            Ok(()) => Ok(()),
            // It belongs to a later start of the node, or is gone.
            Err(_) if self.read::<NodeEntry>(&key).await?.revision != revision => Ok(()),
            Err(error) => Err(failed(&format!("delete {key}"), &error)),
        }
    }

    /// Returns the nodes up to the one whose latest entry has this revision, in the order of their
    /// entries. None is left out, whichever server answers, because that one must come last.
    pub(super) async fn nodes_until(&self, revision: u64) -> Result<Vec<Registered>, ControlError> {
        let what = "read the nodes";
        let reading = async {
            let watch = self.store.watch_with_history(format!("{NODE}*")).await;
            let mut watch = watch.map_err(|error| failed(what, &error))?;
            let mut nodes = Vec::new();
            while let Some(entry) = watch.next().await {
                let entry = entry.map_err(|error| failed(what, &error))?;
                nodes.extend(registered(&entry));
                if entry.revision >= revision {
                    return Ok(nodes);
                }
            }
            Err(ControlError::Silent { what: what.to_owned() })
        };
        let read = timeout(Duration::from_millis(NATS_CALL_MS), reading).await;
        read.unwrap_or_else(|_| Err(ControlError::Silent { what: what.to_owned() }))
    }

    /// Returns all nodes, in the order of their names. A server that is behind may leave out the
    /// latest ones.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn nodes(&self) -> Result<Vec<Registered>, ControlError> {
        let what = "read the nodes";
        let keys = self.store.keys().await.map_err(|error| failed(what, &error))?;
        let keys: Vec<_> = keys.collect().await;
        let mut nodes = Vec::new();
        for key in keys {
            let key = key.map_err(|error| failed(what, &error))?;
            if !key.starts_with(NODE) {
                continue;
            }
            let entry = self.store.entry(&key).await.map_err(|error| failed(what, &error))?;
            nodes.extend(entry.and_then(|entry| registered(&entry)));
        }
        nodes.sort_by(|one, other| one.origin.node.cmp(&other.origin.node));
        Ok(nodes)
    }

    /// Returns the anchor that the register keeps of a stream; `None` if it keeps none.
    ///
    /// # Errors
    /// If NATS does not answer or refuses.
    pub async fn remembered(&self, stream: Stream) -> Result<Option<Anchor>, ControlError> {
        Ok(self.anchor(stream).await?.value)
    }

    /// Keeps a stream's anchor, unless there is a later one.
    ///
    /// # Errors
    /// If NATS does not answer or refuses. It is to be tried again.
    pub async fn remember(&self, stream: Stream, anchor: Anchor) -> Result<(), ControlError> {
        let text = AnchorEntry { nonce: format!("{:032x}", anchor.nonce), number: anchor.number };
        loop {
            let found = self.anchor(stream).await?;
            if found.value.is_some_and(|found| found.number >= anchor.number) {
                return Ok(());
            }
            // Otherwise another node was faster: its number is higher, or it tries again as well.
            if self.write(anchor_key(stream), &text, found.revision).await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn anchor(&self, stream: Stream) -> Result<Found<Anchor>, ControlError> {
        let Found { revision, value } = self.read::<AnchorEntry>(anchor_key(stream)).await?;
        let value = value.and_then(|text| {
            let nonce = u128::from_str_radix(&text.nonce, 16).ok()?;
            Some(Anchor { nonce, number: text.number })
        });
        Ok(Found { revision, value })
    }

    /// Reads an entry, perhaps from a server that is behind: only [`Register::write`] decides.
    async fn read<T: for<'a> Deserialize<'a>>(&self, key: &str) -> Result<Found<T>, ControlError> {
        let entry = self.store.entry(key).await;
        let entry = entry.map_err(|error| failed(&format!("read {key}"), &error))?;
        let Some(entry) = entry else { return Ok(Found { revision: 0, value: None }) };
        let is_there = entry.operation == Operation::Put;
        let value = is_there.then(|| serde_json::from_slice(&entry.value).ok()).flatten();
        Ok(Found { revision: entry.revision, value })
    }

    /// Writes an entry if it has this revision; 0 if it has no entry. Returns the new revision;
    /// `None` if it has another.
    async fn write(
        &self,
        key: &str,
        value: &impl Serialize,
        expected: u64,
    ) -> Result<Option<u64>, ControlError> {
        let text = serde_json::to_vec(value).map_err(|error| failed("write an entry", &error))?;
        let written = self.store.update(key, Bytes::from(text), expected).await;
        match written {
            Ok(revision) => Ok(Some(revision)),
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => Ok(None),
            Err(error) => Err(failed(&format!("write {key}"), &error)),
        }
    }
}

fn anchor_key(stream: Stream) -> &'static str {
    match stream {
        Stream::Order => "epoch.publications",
        Stream::Claims => "epoch.claims",
    }
}

/// Returns the node of an entry; `None` if it was deleted or is of a release that writes another
/// form.
fn registered(entry: &kv::Entry) -> Option<Registered> {
    if entry.operation != Operation::Put {
        return None;
    }
    let node = NodeName::read(entry.key.strip_prefix(NODE)?)?;
    let value: NodeEntry = serde_json::from_slice(&entry.value).ok()?;
    let origin = value.origin(&node)?;
    let at = Millis::try_from(entry.created.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    Some(Registered { origin, revision: entry.revision, at, entry: value })
}

fn unreadable(key: &str) -> ControlError {
    ControlError::Refused {
        what: format!("read {key}"),
        problem: "it is there and cannot be read".to_owned(),
        advice: "; another program or a later release has written it",
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> ControlError {
    ControlError::Refused {
        what: format!("{what} in the register"),
        problem: deepest(error),
        advice: "",
    }
}
