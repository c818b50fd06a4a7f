//! Subscriptions that end with their tokens.

use crate::message::Channel;

/// The subscriptions of one client that end with their tokens. An empty set takes one pointer.
#[derive(Debug, Default)]
pub(super) struct Endings {
    #[expect(clippy::box_collection, reason = "it saves 16 bytes of every connection")]
    all: Option<Box<Vec<Ending>>>,
}

#[derive(Debug)]
struct Ending {
    topic: Channel,
    /// When the token expires, in seconds since the epoch.
    expires_at: u64,
    /// Whether the session has left the topic, and the end of the subscription is still on its way
    /// through the mailbox.
    is_left: bool,
}

impl Endings {
    /// Notes that a subscription ends at `expires_at` seconds since the epoch. It replaces an
    /// earlier note for the same topic.
    pub(super) fn note(&mut self, topic: Channel, expires_at: u64) {
        self.forget(&topic);
        let ending = Ending { topic, expires_at, is_left: false };
        self.all.get_or_insert_default().push(ending);
    }

    /// Forgets a subscription, because the client has left it.
    pub(super) fn forget(&mut self, topic: &Channel) {
        self.retain(|one| one.topic != *topic);
    }

    /// Returns when the next subscription ends, in seconds since the epoch; `None` if none will.
    pub(super) fn next_s(&self) -> Option<u64> {
        self.iter().filter(|one| !one.is_left).map(|one| one.expires_at).min()
    }

    /// Returns the topics that the session has to leave because their tokens have expired.
    pub(super) fn due(&self, now_s: u64) -> Vec<Channel> {
        let due = self.iter().filter(|one| !one.is_left && one.expires_at <= now_s);
        due.map(|one| one.topic.clone()).collect()
    }

    /// Notes that the session has left a topic because its token has expired.
    pub(super) fn note_left(&mut self, topic: &Channel) {
        let all = self.all.iter_mut().flat_map(|all| all.iter_mut());
        all.filter(|one| one.topic == *topic).for_each(|one| one.is_left = true);
    }

    /// Removes a subscription that the session has left because its token has expired. Returns
    /// false if the session has not left this topic for that reason.
    pub(super) fn remove_left(&mut self, topic: &Channel) -> bool {
        let is_left = |one: &Ending| one.is_left && one.topic == *topic;
        let found = self.iter().any(is_left);
        self.retain(|one| !is_left(one));
        found
    }

    fn iter(&self) -> impl Iterator<Item = &Ending> {
        self.all.iter().flat_map(|all| all.iter())
    }

    fn retain(&mut self, stays: impl Fn(&Ending) -> bool) {
        if let Some(all) = &mut self.all {
            all.retain(stays);
            if all.is_empty() {
                self.all = None;
            }
        }
    }
}
