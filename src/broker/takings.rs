//! What a node of a cluster takes from buckets that all nodes share.
//!
//! Each node has a copy of each bucket in use. It grants at once, and tells the others what it has
//! taken, which they take from their copies. Until they know, it takes no more than its share of
//! what is left ([`Bucket::take_shared`]), so that nodes which grant at the same time do not grant
//! the same tokens.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bucket::Bucket;
use crate::limits::{TAKINGS_MAX, TAKINGS_TOLD_MAX};
use crate::message::{Channel, Millis, Taking};

/// What this node has taken and the others do not know.
#[derive(Debug, Default)]
pub struct Takings(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The nodes of the cluster that are heard, this one included. Up to 1, the node is alone.
    nodes: u32,
    untold: HashMap<Channel, Untold>,
    /// Buckets of which something is not on its way to the other nodes, each once.
    fresh: Vec<Channel>,
    /// Buckets of which something is on its way, each once.
    under_way: Vec<Channel>,
}

/// Tokens of one bucket.
#[derive(Debug, Default)]
struct Untold {
    rate: u32,
    fresh: u32,
    under_way: u32,
}

/// Whether a token was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// None is left.
    Refused,
    /// It was, and the thread that tells the other nodes need not be woken.
    Granted,
    /// It was, and that thread must be woken.
    First,
}

impl Takings {
    /// Takes a token of a bucket with this rate, if one is left. Beyond [`TAKINGS_MAX`] buckets,
    /// and as long as no other node is heard, the bucket is this node's own.
    pub fn take(
        &self,
        channel: &Channel,
        (bucket, rate): (&mut Bucket, u32),
        now: Millis,
    ) -> Taken {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let untold = inner.untold.get(channel).map(|one| one.fresh + one.under_way);
        let is_own = inner.nodes < 2 || untold.is_none() && inner.untold.len() >= TAKINGS_MAX;
        let is_granted = match is_own {
            true => bucket.take(rate, now),
            false => bucket.take_shared((rate, inner.nodes), untold.unwrap_or(0), now),
        };
        if is_own || !is_granted {
            return if is_granted { Taken::Granted } else { Taken::Refused };
        }
        let one = inner.untold.entry(channel.clone()).or_default();
        (one.rate, one.fresh) = (rate, one.fresh + 1);
        if one.fresh > 1 {
            return Taken::Granted;
        }
        inner.fresh.push(channel.clone());
        if inner.fresh.len() == 1 { Taken::First } else { Taken::Granted }
    }

    /// Returns whether the other nodes are to be told of something.
    pub fn is_empty(&self) -> bool {
        self.lock().fresh.is_empty()
    }

    /// Returns what to tell the other nodes: a part of it, if it is much. [`Takings::told`] must
    /// follow before the next part.
    pub fn tell(&self) -> Vec<Taking> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let rest = inner.fresh.len().saturating_sub(TAKINGS_TOLD_MAX);
        inner.under_way = inner.fresh.split_off(rest);
        let mut takings = Vec::new();
        for channel in &inner.under_way {
            let Some(one) = inner.untold.get_mut(channel) else { continue };
            one.under_way = mem::take(&mut one.fresh);
            let (rate, count) = (one.rate, one.under_way);
            takings.push(Taking { channel: channel.clone(), rate, count });
        }
        takings
    }

    /// Notes that the other nodes know what was told, or will not hear of it.
    pub fn told(&self) {
        let mut inner = self.lock();
        for channel in mem::take(&mut inner.under_way) {
            if let Some(one) = inner.untold.get_mut(&channel) {
                one.under_way = 0;
                if one.fresh == 0 {
                    inner.untold.remove(&channel);
                }
            }
        }
    }

    /// Notes how many nodes are heard, this one included. What was taken before is not told if
    /// there is no other.
    pub fn set_nodes(&self, nodes: usize) {
        let mut inner = self.lock();
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        if nodes < 2 {
            *inner = Inner::default();
        }
        inner.nodes = nodes;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A thread that panics under the lock ends the node.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
