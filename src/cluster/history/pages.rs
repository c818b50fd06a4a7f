//! A page of the history of all nodes.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use super::{Held, Key};
use crate::cluster::name::NodeName;
use crate::limits::CLUSTER_HISTORY_FOUND_MAX;
use crate::message::{Position, StreamPlace};

/// The search for a page. Messages that are to be left out are passed over in steps, so that no
/// node must name all of them; the rest is merged.
#[derive(Clone, Debug)]
pub struct Pages {
    /// For each node, the message before which its part of the page is.
    nodes: BTreeMap<NodeName, Option<Key>>,
    /// The message before which the page is, which another node may have as well.
    before: Option<Uuid>,
    /// Messages that are still to be left out.
    offset: u64,
    limit: u32,
}

/// What to ask all nodes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// For the message with this number, counted from 1.
    Pass(u64),
    /// For so many messages.
    Take(u32),
}

impl Pages {
    /// Begins to search for a page of at most `limit` messages before a message, without the newest
    /// `offset` of them.
    pub fn new(
        nodes: impl IntoIterator<Item = NodeName>,
        before: Option<&(Key, Uuid)>,
        offset: u64,
        limit: u32,
    ) -> Self {
        let key = before.map(|(key, _)| key);
        let nodes = nodes.into_iter().map(|node| (node, key.cloned())).collect();
        Self { nodes, before: before.map(|(_, twin)| *twin), offset, limit }
    }

    /// Returns what to ask all nodes next.
    pub fn next(&self) -> Next {
        let twin = u64::from(self.before.is_some());
        let all = self.offset.saturating_add(self.limit.into()).saturating_add(twin);
        match u32::try_from(all) {
            Ok(all) if all <= CLUSTER_HISTORY_FOUND_MAX => Next::Take(all),
            _ => Next::Pass((self.offset / self.nodes.len().max(1) as u64).max(1)),
        }
    }

    /// Returns the nodes that are asked, each with the message before which it searches.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeName, Option<&Key>)> {
        self.nodes.iter().map(|(node, below)| (node, below.as_ref()))
    }

    /// Takes the message with the number that [`Next::Pass`] has said, of each node that has so
    /// many. Returns false if no node has, so that the page is empty.
    pub fn pass(&mut self, number: u64, found: impl IntoIterator<Item = (NodeName, Held)>) -> bool {
        let keys = found.into_iter().map(|(node, Held { place, position, .. })| Key {
            place,
            node,
            position,
        });
        // Of each node there are at most `number` messages that are not older than the newest of
        // these. So that one, and those before it on its node, are among the messages to leave out.
        let Some(newest) = keys.max() else { return false };
        self.offset = self.offset.saturating_sub(number);
        self.nodes.insert(newest.node.clone(), Some(newest));
        true
    }

    /// Merges what all nodes have found. Returns the page, the newest message first: the node and
    /// the position of each. A message that two nodes have is on it once.
    pub fn page(
        &self,
        found: impl IntoIterator<Item = (NodeName, Vec<Held>)>,
    ) -> Vec<(NodeName, Held)> {
        let found = found.into_iter();
        let mut all: Vec<_> = found
            .flat_map(|(node, helds)| helds.into_iter().map(move |held| (node.clone(), held)))
            .collect();
        let key = |one: &(NodeName, Held)| -> (StreamPlace, NodeName, Position) {
            (one.1.place, one.0.clone(), one.1.position)
        };
        all.sort_by_cached_key(|one| std::cmp::Reverse(key(one)));
        let mut seen: HashSet<_> = self.before.into_iter().collect();
        all.retain(|(_, held)| seen.insert(held.twin));
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        all.into_iter().skip(offset).take(self.limit as usize).collect()
    }
}

#[cfg(test)]
mod tests;
