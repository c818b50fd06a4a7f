//! What the log says of the other nodes and of the connection to a server: each change while they
//! are few.

use std::collections::BTreeMap;

use super::Owner;
use crate::background::cluster::address::Address;
use crate::cluster::landing::Landing;
use crate::cluster::limits::NODES_MAX;
use crate::cluster::name::{Incarnation, NodeName};
use crate::metrics::LogChanges;

/// Whether another node is heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It was never heard.
    Unknown,
    /// This start of it is heard.
    Heard(Incarnation),
    /// It has been silent for a while.
    Silent,
    /// It is silent because it has ended: its last heartbeat said that it was about to.
    Ended,
}

/// What the log has of the other nodes.
#[derive(Debug, Default)]
pub(super) struct Others(BTreeMap<NodeName, LogChanges<State>>);

impl Others {
    fn note(&mut self, node: &NodeName, state: State) {
        // Nodes may come and go under ever new names.
        if self.0.len() >= NODES_MAX && !self.0.contains_key(node) {
            self.0.retain(|_, log| matches!(log.latest(), State::Heard(_)));
        }
        let log = self.0.entry(node.clone()).or_insert_with(|| LogChanges::new(State::Unknown));
        log.note(state);
        tell(node, log);
    }

    /// Writes the lines that are due.
    pub(super) fn tell(&mut self) {
        for (node, log) in &mut self.0 {
            tell(node, log);
        }
    }
}

fn tell(node: &NodeName, log: &mut LogChanges<State>) {
    let Some((before, changes)) = log.due() else { return };
    let changes = (changes > 1).then_some(changes);
    match (before, log.latest()) {
        (State::Unknown, State::Heard(_)) => {
            tracing::info!(%node, changes, "another node of the cluster is heard");
        }
        (State::Heard(_), State::Heard(_)) => {
            tracing::info!(%node, changes, "another node of the cluster has started again");
        }
        (_, State::Heard(_)) => {
            tracing::info!(%node, changes, "another node of the cluster is heard again");
        }
        (_, State::Ended) => tracing::info!(%node, changes, "another node has left the cluster"),
        (_, State::Silent | State::Unknown) => tracing::warn!(
            %node,
            changes,
            "another node of the cluster is silent: it was killed, or does not reach NATS"
        ),
    }
}

/// The connection of a node to a server of its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// There was none yet.
    None,
    /// It is connected to the server at this address, which has this version.
    Up(Address, String),
    /// It has lost the server at this address for this reason.
    Down(Address, String),
}

impl<L: Landing> Owner<'_, L> {
    /// Notes that a start of another node is heard, or none.
    pub(super) fn note_other(&mut self, node: &NodeName, living: Option<Incarnation>) {
        let state = match living {
            Some(incarnation) => State::Heard(incarnation),
            None if self.cluster.was_draining(node) => State::Ended,
            None => State::Silent,
        };
        self.others.note(node, state);
    }

    /// Writes the line about the connection that is due, if there is one.
    pub(super) fn tell_link(&mut self) {
        let Some((_, changes)) = self.link.due() else { return };
        let changes = (changes > 1).then_some(changes);
        match self.link.latest() {
            Link::Up(address, version) => {
                tracing::info!(%address, version, changes, "connected to the cluster's broker");
            }
            Link::Down(address, fault) => {
                tracing::warn!(%address, changes, "lost the cluster's broker: {fault}");
            }
            Link::None => {}
        }
    }
}
