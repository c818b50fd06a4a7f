//! What the node takes from buckets that all nodes share, and what the others tell of theirs.

use super::Owner;
use crate::background::cluster::protocol::Message;
use crate::cluster::landing::Landing;
use crate::cluster::wire::Took;
use crate::limits::TAKINGS_TOLD_MS;
use crate::message::Millis;

impl<L: Landing> Owner<'_, L> {
    /// Returns whether nothing is to be told, or not before what was told has arrived.
    pub(super) fn has_told_takings(&self) -> bool {
        self.takings_at.is_some() || !self.landing.has_takings()
    }

    /// Tells the other nodes what this one has taken, in one message at a time.
    pub(super) fn tell_takings(&mut self, now: Millis) {
        if self.takings_at.is_some_and(|at| at + TAKINGS_TOLD_MS <= now) {
            self.takings_told();
        }
        if self.has_told_takings() {
            return;
        }
        let took = Took { from: self.me.clone(), takings: self.landing.takings() };
        if let Some(body) = took.encode() {
            let subject = self.parts.subjects.took();
            self.tell(&subject, None, &body);
        }
        self.takings_at = Some(now);
    }

    /// Takes what a node has told. The node's own message comes back when it is on its way to all
    /// the others.
    pub(super) fn took(&mut self, message: &Message) {
        let Some(Took { from, takings }) = Took::decode(&message.payload()) else {
            self.parts.counters.cluster_received_unknown.add(1);
            return;
        };
        if from == self.me {
            self.takings_told();
        } else {
            self.landing.taken_elsewhere(&takings);
        }
    }

    fn takings_told(&mut self) {
        self.takings_at = None;
        self.landing.takings_told();
    }
}
