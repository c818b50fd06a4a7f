//! The log of a channel with streams: its publications since the first of them subscribed, as long
//! as recovery keeps them. A stream whose connection was cut resumes from here, at any worker.
//!
//! A stream's client holds its position itself, as the id of a publication. So the log knows
//! nothing of streams that have ended: it lives on for a while after the last of them.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::budget::Budget;
use super::resume_log::weight;
use super::window::accepted;
use crate::limits::{
    CHANNEL_LOG_BYTES_MAX, CHANNEL_LOG_OVERHEAD_BYTES, CHANNEL_LOG_PUBLICATIONS_MAX,
};
use crate::message::{MarkPlace, MessageId, Millis, Offset, Publication};

/// What is kept for the streams of all channels of a node.
#[derive(Debug)]
pub struct ChannelLogs {
    /// How long a publication is kept, and a log after its channel's last stream, in milliseconds;
    /// 0 if no channel has a log.
    pub keep: Millis,
    /// The bytes of all logs.
    pub budget: Budget,
}

/// The latest publications of one channel, in order and without a hole.
///
/// A log must be closed before it is dropped, so that the budget is right.
#[derive(Debug)]
pub struct ChannelLog {
    /// Publications with their ids, which are searched without touching the publications.
    kept: VecDeque<(MessageId, Arc<Publication>)>,
    /// The publication directly before the kept ones. If there was none since the log began, an id
    /// that no publication has.
    before: MessageId,
    /// The place in the cluster's stream behind which nothing is missing.
    whole_behind: Offset,
    bytes: usize,
    /// When the log ends if the channel has no streams, in milliseconds since the node started.
    until: Millis,
}

impl ChannelLogs {
    /// Creates the logs of a node that keeps publications for `keep` milliseconds, in at most
    /// `bytes_max` bytes.
    pub fn new(keep: Millis, bytes_max: usize) -> Self {
        Self { keep, budget: Budget::new(bytes_max) }
    }

    /// Begins the log of a channel. `before` is the last publication of the channel if it is known,
    /// else an id that no publication has. What follows is behind this place of the cluster's
    /// stream. Returns `None` if there is to be no log, or no room for it, which is counted.
    pub fn begin(&self, before: MessageId, whole_behind: Offset) -> Option<Box<ChannelLog>> {
        if self.keep == 0 {
            return None;
        }
        if !self.budget.take(CHANNEL_LOG_OVERHEAD_BYTES) {
            self.budget.count_evicted();
            return None;
        }
        let bytes = CHANNEL_LOG_OVERHEAD_BYTES;
        let kept = VecDeque::new();
        Some(Box::new(ChannelLog { kept, before, whole_behind, bytes, until: 0 }))
    }
}

impl ChannelLog {
    /// Adds a publication. The oldest ones are dropped if it does not fit otherwise.
    pub fn push(&mut self, publication: &Arc<Publication>, logs: &ChannelLogs) {
        self.expire(accepted(publication), logs);
        let weight = weight(publication, logs.budget.deflated);
        while self.kept.len() >= CHANNEL_LOG_PUBLICATIONS_MAX
            || self.bytes + weight > CHANNEL_LOG_BYTES_MAX
            || !logs.budget.take(weight)
        {
            logs.budget.count_evicted();
            if !self.drop_oldest(logs) {
                self.pass(publication);
                return;
            }
        }
        self.bytes += weight;
        self.kept.push_back((publication.id, publication.clone()));
    }

    /// Puts earlier publications, in their order, before those that the log has: all behind this
    /// place of the cluster's stream. They must reach up to these without a hole; those that the
    /// log has already are left out.
    pub fn fill(&mut self, earlier: &[Arc<Publication>], behind: Offset, logs: &ChannelLogs) {
        self.whole_behind = self.whole_behind.min(behind);
        let known = std::mem::take(&mut self.kept);
        known.iter().for_each(|(_, one)| logs.budget.give(weight(one, logs.budget.deflated)));
        self.bytes = CHANNEL_LOG_OVERHEAD_BYTES;
        let ids: HashSet<_> = known.iter().map(|(id, _)| *id).collect();
        let new = earlier.iter().filter(|one| !ids.contains(&one.id));
        new.for_each(|one| self.push(one, logs));
        known.iter().for_each(|(_, one)| self.push(one, logs));
    }

    /// Returns whether the log has all publications after this one.
    pub fn knows(&self, id: MessageId) -> bool {
        self.before == id || self.kept.iter().any(|(one, _)| *one == id)
    }

    /// Returns all publications after this one; `None` if the log does not know what came after it.
    pub fn after(&self, id: MessageId) -> Option<Vec<Arc<Publication>>> {
        let known = self.kept.iter().rposition(|(one, _)| *one == id);
        let from = match known {
            Some(place) => place + 1,
            None if self.before == id => 0,
            None => return None,
        };
        Some(self.kept.range(from..).map(|(_, publication)| publication.clone()).collect())
    }

    /// Returns whether the log has all that the cluster's stream has behind this place.
    pub fn covers(&self, behind: Offset) -> bool {
        self.whole_behind <= behind
    }

    /// Returns all publications behind a place of the cluster's stream; `None` if some may be
    /// missing.
    pub fn behind(&self, behind: Offset) -> Option<Vec<Arc<Publication>>> {
        let is_behind =
            |one: &&Arc<Publication>| one.place.is_some_and(|place| place.seq() > behind);
        let all = self.kept.iter().map(|(_, publication)| publication).filter(is_behind);
        self.covers(behind).then(|| all.cloned().collect())
    }

    /// Returns the id behind which a client has missed nothing: that of the channel's last
    /// publication, or the one that the log began with.
    pub fn last(&self) -> MessageId {
        self.kept.back().map_or(self.before, |(id, _)| *id)
    }

    /// Keeps the log until this time, in milliseconds since the node started, although the channel
    /// may have no streams any more.
    pub fn linger(&mut self, until: Millis) {
        self.until = self.until.max(until);
    }

    /// Drops expired publications. Returns whether the log must be kept if its channel has no
    /// streams.
    pub fn expire(&mut self, now: Millis, logs: &ChannelLogs) -> bool {
        let is_old = |(_, one): &(_, Arc<_>)| accepted(one) + logs.keep <= now;
        while self.kept.front().is_some_and(is_old) {
            self.drop_oldest(logs);
        }
        now < self.until
    }

    /// Gives back all that the log took of the budget.
    pub fn close(self, logs: &ChannelLogs) {
        logs.budget.give(self.bytes);
    }

    /// Drops the oldest publication. Returns false if there is none.
    fn drop_oldest(&mut self, logs: &ChannelLogs) -> bool {
        let Some((_, oldest)) = self.kept.pop_front() else { return false };
        self.pass(&oldest);
        let weight = weight(&oldest, logs.budget.deflated);
        self.bytes -= weight;
        logs.budget.give(weight);
        true
    }

    /// Notes that the log does not have this publication, and none before it.
    fn pass(&mut self, publication: &Publication) {
        self.before = publication.id;
        let seq = publication.place.as_ref().map_or(0, MarkPlace::seq);
        self.whole_behind = self.whole_behind.max(seq);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::broker::budget::Deflated;
    use crate::message::{Channel, Content, Sender};

    const MARK: MessageId = MessageId::from_u128(u128::MAX);

    fn publication(number: u64, at: Millis, bytes: usize) -> Arc<Publication> {
        let (event, payload) = ("e".into(), "1".repeat(bytes).into());
        let content = Content::Message { event, payload, sender: Sender::System };
        let publication = Publication::new(id(number), Channel::from("c"), 0, content);
        Arc::new(publication.accepted(at * 1_000_000))
    }

    fn id(number: u64) -> MessageId {
        MessageId::from_u128(number.into())
    }

    fn logs() -> ChannelLogs {
        ChannelLogs::new(10_000, 1024 * 1024 * 1024)
    }

    fn begin(logs: &ChannelLogs) -> Box<ChannelLog> {
        logs.begin(MARK, 0).expect("there is room")
    }

    fn after(log: &ChannelLog, id: MessageId) -> Option<Vec<u128>> {
        let missed = log.after(id)?;
        Some(missed.iter().map(|one| one.id.as_u128()).collect())
    }

    #[test]
    fn what_came_after_a_known_publication_is_there_or_nothing_is_known() {
        let logs = logs();
        let mut log = begin(&logs);
        assert_eq!((after(&log, MARK), log.last()), (Some(vec![]), MARK));
        (1..4).for_each(|number| log.push(&publication(number, 1_000 * number, 1), &logs));
        assert_eq!(after(&log, MARK), Some(vec![1, 2, 3]));
        assert_eq!(after(&log, id(2)), Some(vec![3]));
        assert_eq!((after(&log, id(3)), log.last()), (Some(vec![]), id(3)));
        assert_eq!((after(&log, id(9)), after(&log, MessageId::nil())), (None, None));
        log.expire(12_000, &logs);
        assert_eq!((after(&log, MARK), after(&log, id(1))), (None, None), "1 and 2 are gone");
        assert_eq!(after(&log, id(2)), Some(vec![3]), "nothing is missing after 2");
        log.expire(60_000, &logs);
        assert_eq!((after(&log, id(2)), after(&log, id(3))), (None, Some(vec![])));
        assert_eq!(log.last(), id(3), "a quiet channel loses no client's position");
        log.close(&logs);
        assert_eq!((logs.budget.bytes(), logs.budget.evicted()), (0, 0));
    }

    #[test]
    fn a_log_outlives_the_last_stream_for_a_while() {
        let logs = logs();
        let mut log = begin(&logs);
        log.linger(500);
        log.linger(400);
        assert_eq!((log.expire(499, &logs), log.expire(500, &logs)), (true, false));
    }

    #[test]
    fn a_node_without_recovery_or_room_begins_no_log() {
        assert!(ChannelLogs::new(0, 1_000_000).begin(MARK, 0).is_none());
        let logs = ChannelLogs::new(1, CHANNEL_LOG_OVERHEAD_BYTES);
        let log = begin(&logs);
        assert!(logs.begin(MARK, 0).is_none());
        assert_eq!(logs.budget.evicted(), 1);
        log.close(&logs);
        assert!(logs.begin(MARK, 0).is_some());
    }

    #[test]
    fn the_oldest_make_room_in_a_channel() {
        let logs = logs();
        let mut log = begin(&logs);
        let all = CHANNEL_LOG_PUBLICATIONS_MAX as u64 + 3;
        (1..=all).for_each(|number| log.push(&publication(number, 0, 1), &logs));
        assert_eq!(log.kept.len(), CHANNEL_LOG_PUBLICATIONS_MAX);
        assert_eq!((after(&log, id(2)), logs.budget.evicted()), (None, 3));
        assert!(after(&log, id(3)).is_some());
        log.push(&publication(all + 1, 0, CHANNEL_LOG_BYTES_MAX), &logs);
        assert_eq!(after(&log, id(all)), None, "it was too large to be kept");
        assert_eq!(after(&log, id(all + 1)), Some(vec![]));
        assert_eq!(logs.budget.bytes(), CHANNEL_LOG_OVERHEAD_BYTES);
    }

    #[test]
    fn a_publication_that_the_node_has_no_room_for_is_no_hole() {
        let bytes_max =
            2 * CHANNEL_LOG_OVERHEAD_BYTES + 2 * weight(&publication(0, 0, 1), Deflated::default());
        let logs = ChannelLogs::new(10_000, bytes_max);
        let (mut one, mut other) = (begin(&logs), begin(&logs));
        one.push(&publication(1, 0, 1), &logs);
        one.push(&publication(2, 0, 1), &logs);
        other.push(&publication(3, 0, 1), &logs);
        assert_eq!((after(&other, MARK), after(&other, id(3))), (None, Some(vec![])));
        one.push(&publication(4, 0, 1), &logs);
        assert_eq!((after(&one, MARK), after(&one, id(1))), (None, Some(vec![2, 4])));
    }

    proptest! {
        #[test]
        fn it_has_all_after_a_known_publication_and_the_budget_is_right(
            steps in prop::collection::vec((0..3_000_u64, 1..1_000_000_usize), 1..60),
            bytes_max in 0..20_000_000_usize,
        ) {
            let logs = ChannelLogs::new(10_000, CHANNEL_LOG_OVERHEAD_BYTES + bytes_max);
            let mut log = begin(&logs);
            let mut now = 0;
            for (number, (pause, bytes)) in (1..).zip(steps) {
                now += pause;
                log.push(&publication(number, now, bytes), &logs);
                for earlier in 0..=number {
                    let named = if earlier == 0 { MARK } else { id(earlier) };
                    let all: Vec<_> = (earlier + 1..=number).map(u128::from).collect();
                    prop_assert!(after(&log, named).is_none_or(|missed| missed == all));
                }
                prop_assert_eq!(log.last(), id(number));
                prop_assert_eq!(after(&log, id(number)), Some(vec![]));
                prop_assert_eq!(logs.budget.bytes(), log.bytes);
            }
            log.close(&logs);
            prop_assert_eq!(logs.budget.bytes(), 0);
        }
    }
}
