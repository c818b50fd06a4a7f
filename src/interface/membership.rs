//! What all threads know of the node's part in its cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::cluster::health::{Condition, Obstacle};
use crate::cluster::landing::Ending;
use crate::cluster::vitals::Vitals;
use crate::limits::CLUSTER_PATIENCE_MS;
use crate::message::Now;

/// The node's part in its cluster.
#[derive(Debug)]
pub struct Membership {
    condition: ArcSwap<Condition>,
    vitals: ArcSwap<Vitals>,
    /// When the node began not to serve the cluster's channels, in milliseconds since it started.
    since: AtomicU64,
    /// How far the end of the node is, as the number of an [`Ending`].
    ending: AtomicU8,
}

impl Default for Membership {
    fn default() -> Self {
        let condition = ArcSwap::from_pointee(Condition::NotJoined(Obstacle::Pending));
        let (since, ending) = (AtomicU64::new(0), AtomicU8::new(0));
        Self { condition, vitals: ArcSwap::default(), since, ending }
    }
}

impl Membership {
    /// Returns the condition of the node in its cluster.
    pub fn condition(&self) -> Arc<Condition> {
        self.condition.load_full()
    }

    /// Returns what the node measured last.
    pub fn vitals(&self) -> Arc<Vitals> {
        self.vitals.load_full()
    }

    /// Takes what the node measures.
    pub fn measured(&self, vitals: Vitals) {
        self.vitals.store(Arc::new(vitals));
    }

    /// Returns why the node does not serve the cluster's channels, and whether clients should go to
    /// another node: it has not served them for [`CLUSTER_PATIENCE_MS`], or cannot by itself.
    pub fn trouble(&self, now: Now) -> Option<(String, bool)> {
        let condition = self.condition();
        let since = self.since.load(Ordering::Acquire);
        let is_lasting = match &*condition {
            Condition::NotJoined(obstacle) => *obstacle != Obstacle::Pending,
            Condition::Displaced(_) => true,
            _ => false,
        };
        let is_late = since + CLUSTER_PATIENCE_MS <= now.monotonic();
        (!condition.is_serving()).then(|| (condition.to_string(), is_lasting || is_late))
    }

    /// Notes the condition of the node at this time.
    pub fn note(&self, condition: &Condition, now: Now) {
        let before = self.condition.swap(Arc::new(condition.clone()));
        if before.is_serving() && !condition.is_serving() {
            self.since.store(now.monotonic(), Ordering::Release);
        }
    }

    /// Notes how far the end of the node is. The bell of the cluster's thread must be rung.
    pub fn end(&self, ending: Ending) {
        let number = match ending {
            Ending::No => 0,
            Ending::Draining => 1,
            Ending::Over => 2,
        };
        self.ending.store(number, Ordering::Release);
    }

    /// Returns how far the end of the node is.
    pub fn ending(&self) -> Ending {
        match self.ending.load(Ordering::Acquire) {
            0 => Ending::No,
            1 => Ending::Draining,
            _ => Ending::Over,
        }
    }
}
