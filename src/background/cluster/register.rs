//! How a node joins its cluster, and why it may not.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use super::beats::{Heard, listen};
use super::control::{Control, ControlError};
use super::entries::{NodeEntry, Register, Registered};
use super::identity::{self, ClusterId, IdentityError};
use super::line;
use super::protocol::{OLDEST, Version};
use crate::cluster::health::Obstacle;
use crate::cluster::name::Stream;
use crate::cluster::wire::{Anchor, Origin, VERSIONS, common_version};
use crate::config::{Config, Effective, Fingerprints};
use crate::limits::{
    NATS_PAYLOAD_BYTES_MIN, REGISTER_ATTEMPTS_MAX, REGISTER_FRESH_MS, REGISTER_LISTEN_MS,
};
use crate::message::Millis;

/// A node that wants to join.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// This start of the node.
    pub origin: &'a Origin,
    /// When it started, in milliseconds since the epoch.
    pub started: Millis,
    /// What it is set up with, of which much must be the same on all nodes.
    pub effective: &'a Effective,
}

/// What came of an attempt to join.
#[derive(Debug)]
pub enum Outcome {
    /// The node is entered.
    Joined(Box<Joined>),
    /// The node may not join. It is not entered, and may try again later.
    NotJoined(NotJoined),
}

/// The place of a node in its cluster.
#[derive(Debug)]
pub struct Joined {
    /// Where the node is entered, and leaves again when it stops.
    pub register: Register,
    /// The revision of the node's entry: the order of registration, which its heartbeats carry.
    pub revision: u64,
    /// The random number by which nodes notice that a prefix has two clusters.
    pub cluster: ClusterId,
    /// The other nodes that were entered before. Some may be dead.
    pub nodes: Vec<Registered>,
    /// The version of messages that all of them read.
    pub wire: u32,
    /// The anchors that the register keeps, of the stream of publications and of that of claims.
    pub anchors: (Option<Anchor>, Option<Anchor>),
    /// What the operator should know: settings that differ, streams that are stronger than
    /// configured, servers that could not be asked.
    pub notes: Vec<String>,
}

/// Why a node may not join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotJoined {
    /// The reason, for the node's condition.
    pub obstacle: Obstacle,
    /// More about it, and what to do.
    pub advice: String,
}

impl fmt::Display for NotJoined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not joined: {}; {}", self.obstacle, self.advice)
    }
}

/// Why an attempt to join has failed without a verdict. It is to be tried again.
#[derive(Debug, Error)]
pub enum JoinError {
    /// NATS did not do its part.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A file of the data directory cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Enters a node into its cluster, and makes the streams if they are missing. The stream of
/// publications keeps at least what clients may ask for within `window`.
///
/// # Errors
/// If NATS does not answer or refuses, or a file cannot be used.
pub async fn join(
    control: &Control,
    candidate: Candidate<'_>,
    window: Duration,
) -> Result<Outcome, JoinError> {
    let mut notes = Vec::new();
    if let Some(refused) = ask_servers(control, &mut notes).await? {
        return Ok(Outcome::NotJoined(refused));
    }
    let register = Register::open(control).await?;
    let cluster = match enter_cluster(&register, &candidate).await? {
        Ok(cluster) => cluster,
        Err(refused) => return Ok(Outcome::NotJoined(refused)),
    };
    let own = entry(&candidate, &cluster);
    let entered = Entered { control, register: &register, candidate: &candidate, own: &own };
    // Before it is entered, so that a node that goes on trying in vain keeps no other one out.
    if let Some(refused) = entered.refusal_by_heard().await? {
        return Ok(Outcome::NotJoined(refused));
    }
    let revision = match enter_node(control, &register, candidate.origin, &own).await? {
        Ok(revision) => revision,
        Err(refused) => return Ok(Outcome::NotJoined(refused)),
    };
    match entered.complete(revision, window, &mut notes).await {
        Ok(Ok((nodes, wire, anchors))) => {
            let joined = Joined { register, revision, cluster, nodes, wire, anchors, notes };
            Ok(Outcome::Joined(Box::new(joined)))
        }
        refused => {
            // The entry must not stand for a node that does not serve.
            register.remove(&candidate.origin.node, revision).await?;
            refused.map(|refused| match refused {
                Err(refused) => Outcome::NotJoined(refused),
                Ok(_) => unreachable!("it is matched above"),
            })
        }
    }
}

/// Asks each of the servers for its version and bounds. One that is down is passed over, because
/// each later connection looks again.
async fn ask_servers(
    control: &Control,
    notes: &mut Vec<String>,
) -> Result<Option<NotJoined>, ControlError> {
    for address in &control.settings().line.servers {
        let info = match line::greeting(address).await {
            Ok(info) => info,
            Err(fault) => {
                notes.push(format!("NATS at {address} cannot be asked: {fault}"));
                continue;
            }
        };
        if Version::parse(&info.version).is_none_or(|version| version < OLDEST) {
            let version =
                if info.version.is_empty() { "of no version" } else { info.version.as_str() };
            let obstacle = Obstacle::Version(address.to_string().into(), version.into());
            let advice = "older ones break the order of a channel".to_owned();
            return Ok(Some(NotJoined { obstacle, advice }));
        }
        let lacks =
            |problem: String| Err(ControlError::Server { url: address.to_string(), problem });
        if !info.headers {
            return lacks("is configured without headers, which a cluster needs".to_owned());
        }
        if info.max_payload < NATS_PAYLOAD_BYTES_MIN {
            return lacks(format!(
                "takes messages of {} bytes at most, and a cluster needs {NATS_PAYLOAD_BYTES_MIN} \
                 (`max_payload`)",
                info.max_payload
            ));
        }
    }
    Ok(None)
}

/// Enters the cluster's id unless there is one, and compares it with the one that the node
/// remembers.
async fn enter_cluster(
    register: &Register,
    candidate: &Candidate<'_>,
) -> Result<Result<ClusterId, NotJoined>, JoinError> {
    let (origin, config) = (candidate.origin, &candidate.effective.config);
    let remembered = identity::cluster_id(&config.data_dir)?;
    // If the servers have lost the register, the nodes enter the id that all of them remember.
    let id = remembered.clone().unwrap_or_else(ClusterId::random);
    let found = register.enter_cluster(id, &origin.node).await?;
    match remembered {
        Some(remembered) if remembered == found => {}
        Some(remembered) => {
            return Ok(Err(other_cluster(config, &remembered, &found)));
        }
        None => identity::remember_cluster(&config.data_dir, &found)?,
    }
    Ok(Ok(found))
}

fn other_cluster(config: &Config, remembered: &ClusterId, found: &ClusterId) -> NotJoined {
    let file = identity::cluster_file(&config.data_dir);
    let file = std::path::absolute(&file).unwrap_or(file);
    NotJoined {
        obstacle: Obstacle::Prefix(config.cluster.prefix.as_str().into()),
        advice: format!(
            "this node belongs to the cluster {}, and NATS has {}: choose another cluster.prefix \
             or other servers, or remove {} to move the node",
            remembered.as_str(),
            found.as_str(),
            Path::display(&file)
        ),
    }
}

/// Writes what the other nodes may have to know anew in the register, because a reload has changed
/// it, and warns of those that are entered with other secrets: clients are refused on some nodes
/// until all are the same. `entered` is what the register has under the node's name, with its
/// revision, which is set to the new one. It is left alone if it is of another start of the node.
///
/// # Errors
/// If NATS does not answer or refuses.
pub(super) async fn update(
    joined: &Joined,
    candidate: Candidate<'_>,
    entered: (&NodeEntry, u64),
    revision: &mut u64,
) -> Result<(), ControlError> {
    let own = entry(&candidate, &joined.cluster);
    let (entered, expected) = entered;
    if entered.incarnation != own.incarnation || *entered == own {
        return Ok(());
    }
    let register = &joined.register;
    let Some(newer) = register.enter(&candidate.origin.node, &own, expected).await? else {
        return Ok(());
    };
    *revision = newer;
    for Registered { origin: Origin { node, .. }, entry, .. } in register.nodes().await? {
        let differing = own.fingerprints.differing_secrets(&entry.fingerprints);
        if !differing.is_empty() {
            let keys = differing.join(", ");
            tracing::warn!(%node, keys, "another node has other secrets: reload it as well");
        }
    }
    Ok(())
}

fn entry(candidate: &Candidate<'_>, cluster: &ClusterId) -> NodeEntry {
    let Candidate { origin, started, effective } = *candidate;
    NodeEntry {
        incarnation: origin.incarnation.to_string(),
        host: identity::host(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        wire: VERSIONS,
        started,
        fingerprints: Fingerprints::new(effective, cluster.as_str()),
    }
}

/// Enters the node, unless another one of its name is alive.
async fn enter_node(
    control: &Control,
    register: &Register,
    origin: &Origin,
    own: &NodeEntry,
) -> Result<Result<u64, NotJoined>, JoinError> {
    let mut heard: Option<Heard> = None;
    for _ in 0..REGISTER_ATTEMPTS_MAX {
        let found = register.node(&origin.node).await?;
        let other = found.value.filter(|other| other.incarnation != own.incarnation);
        if let Some(other) = other {
            let heard = match &heard {
                Some(heard) => heard,
                None => heard.insert(listen(control, LISTEN).await?),
            };
            if other.origin(&origin.node).is_some_and(|other| heard.has(&other)) {
                return Ok(Err(name_in_use(origin, &other)));
            }
        }
        if let Some(revision) = register.enter(&origin.node, own, found.revision).await? {
            return Ok(Ok(revision));
        }
        // The read was behind, or another node of this name was faster.
        heard = None;
    }
    let what = format!("enter the node {}", origin.node);
    Err(ControlError::Silent { what }.into())
}

const LISTEN: Duration = Duration::from_millis(REGISTER_LISTEN_MS);

fn name_in_use(origin: &Origin, other: &NodeEntry) -> NotJoined {
    NotJoined {
        obstacle: Obstacle::Name(origin.node.clone()),
        advice: format!(
            "it runs on {} since {}; set cluster.node to a name of its own",
            other.host,
            date(other.started)
        ),
    }
}

/// Returns a time as people read it; empty if it is out of range.
pub(super) fn date(at: Millis) -> String {
    let at = i64::try_from(at / 1_000).ok().and_then(|at| Timestamp::from_second(at).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// A node that is about to be entered, or is and not sure yet that it may stay.
struct Entered<'a> {
    control: &'a Control,
    register: &'a Register,
    candidate: &'a Candidate<'a>,
    own: &'a NodeEntry,
}

/// The other nodes, the version of messages for all, and the anchors that are kept.
type Place = (Vec<Registered>, u32, (Option<Anchor>, Option<Anchor>));

impl Entered<'_> {
    /// Returns why the node may not join because of one that is heard. A server that is behind may
    /// hide one, so that this is looked at again once the node is entered.
    async fn refusal_by_heard(&self) -> Result<Option<NotJoined>, ControlError> {
        let mut nodes = self.register.nodes().await?;
        nodes.retain(|node| node.origin.node != self.candidate.origin.node);
        // At the end of time no entry is fresh.
        self.refusal(&nodes, Millis::MAX).await
    }

    /// Compares the node with those that were entered before it, and makes the streams.
    async fn complete(
        &self,
        revision: u64,
        window: Duration,
        notes: &mut Vec<String>,
    ) -> Result<Result<Place, NotJoined>, JoinError> {
        let mut nodes = self.register.nodes_until(revision).await?;
        let now = nodes.last().map_or(0, |own| own.at);
        nodes.retain(|node| node.origin.node != self.candidate.origin.node);
        if let Some(refused) = self.refusal(&nodes, now).await? {
            return Ok(Err(refused));
        }
        for node in &nodes {
            let differing = self.own.fingerprints.differing_settings(&node.entry.fingerprints);
            if !differing.is_empty() {
                let (name, differing) = (&node.origin.node, differing.join(", "));
                notes.push(format!("settings that differ from those of {name}: {differing}"));
            }
        }
        notes.extend(self.control.prepare(window).await?);
        // A node that cannot be read is refused above if it is alive.
        let readable = nodes.iter().map(|node| node.entry.wire).filter(|one| reads(*one));
        let wire = common_version(readable).unwrap_or(VERSIONS.0);
        let order = self.register.remembered(Stream::Order).await?;
        let claims = self.register.remembered(Stream::Claims).await?;
        Ok(Ok((nodes, wire, (order, claims))))
    }

    /// Returns why the node may not stay because of one that was entered before and is alive.
    async fn refusal(
        &self,
        nodes: &[Registered],
        now: Millis,
    ) -> Result<Option<NotJoined>, ControlError> {
        let differing: Vec<_> =
            nodes.iter().filter_map(|node| Some((node, self.difference(node)?))).collect();
        if differing.is_empty() {
            return Ok(None);
        }
        let heard = listen(self.control, LISTEN).await?;
        // A node that has just been entered may not beat yet.
        let is_fresh = |node: &Registered| node.at.saturating_add(REGISTER_FRESH_MS) > now;
        let alive =
            differing.into_iter().find(|(node, _)| heard.has(&node.origin) || is_fresh(node));
        Ok(alive.map(|(_, refused)| refused))
    }

    /// Returns why this node and another one cannot be in one cluster; `None` if they can.
    fn difference(&self, node: &Registered) -> Option<NotJoined> {
        let Registered { origin: Origin { node, .. }, entry, .. } = node;
        let differing = self.own.fingerprints.differing_secrets(&entry.fingerprints);
        if !differing.is_empty() {
            let obstacle = Obstacle::Secrets(differing.iter().map(|key| (*key).into()).collect());
            let keys = differing.join(", ");
            let advice =
                format!("{node} on {} has other values: set {keys} alike on all nodes", entry.host);
            return Some(NotJoined { obstacle, advice });
        }
        let obstacle = Obstacle::Messages(node.clone());
        let (least, most) = entry.wire;
        let advice = format!(
            "{node} on {} reads {least} to {most}, and this node {} to {}: update the older of the \
             two releases",
            entry.host, VERSIONS.0, VERSIONS.1
        );
        (!reads(entry.wire)).then_some(NotJoined { obstacle, advice })
    }
}

/// Returns whether there is a version of messages that this release and one with these read.
fn reads(wire: (u32, u32)) -> bool {
    common_version(std::iter::once(wire)).is_some()
}
