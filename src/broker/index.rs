//! A worker's own index: which of its connections hear which channel, by encoding.
//!
//! Fan-out walks one dense list for each encoding. Every subscription knows its place in that list,
//! so that leaving costs the same in a channel of ten and of ten thousand. The subscriptions of a
//! connection form a chain, so that the connection itself keeps 4 bytes.

mod subscription;

use std::collections::HashMap;
use std::sync::Arc;

use super::slab::Slab;
use crate::message::{Channel, Encoding};

pub use subscription::{Counted, Listener};
use subscription::{Packed, Subscription};

/// Marks the end of a chain.
pub const NONE: u32 = u32::MAX;

/// The subscriptions of a worker's connections, by channel and by connection.
#[derive(Debug, Default)]
pub struct Index {
    channels: HashMap<Channel, u32>,
    lists: Slab<List>,
    subscriptions: Slab<Subscription>,
    /// The slots of each user's connections that may receive the user's own documents.
    users: HashMap<Arc<str>, Vec<u32>>,
}

#[derive(Debug)]
struct List {
    channel: Channel,
    subscriptions: u32,
    /// One list for each encoding, at [`Encoding::place`].
    listeners: [Vec<Listener>; Encoding::PER_SPACE],
}

impl Index {
    /// Returns whether a connection hears a channel: its subscription was activated and has not
    /// ended.
    pub fn hears(&self, first: u32, channel: &Channel) -> bool {
        self.find(first, channel).is_some_and(|id| self.subscription(id).position != NONE)
    }

    /// Returns how the directory counts a connection in a channel; `None` if it does not.
    pub fn counted(&self, first: u32, channel: &Channel) -> Option<Counted> {
        self.find(first, channel).and_then(|id| self.subscription(id).counted.get())
    }

    /// Returns whether an activation or a deactivation of this subscription is still in the
    /// mailbox.
    pub fn is_pending(&self, first: u32, channel: &Channel) -> bool {
        self.find(first, channel).is_some_and(|id| self.subscription(id).pending > 0)
    }

    /// Notes that the directory counts the connection and has posted its activation. `first` is the
    /// head of the connection's subscriptions.
    pub fn joined(
        &mut self,
        connection: u32,
        first: &mut u32,
        channel: &Channel,
        counted: Counted,
    ) {
        let id = match self.find(*first, channel) {
            Some(id) => id,
            None => self.insert(connection, first, channel),
        };
        let subscription = self.subscription_mut(id);
        subscription.counted = counted.into();
        subscription.pending += 1;
    }

    /// Notes that the directory no longer counts the connection and has posted its deactivation.
    pub fn left(&mut self, first: u32, channel: &Channel) {
        if let Some(id) = self.find(first, channel) {
            let subscription = self.subscription_mut(id);
            subscription.counted = Packed::default();
            subscription.pending += 1;
        }
    }

    /// Handles an activation: the connection hears the channel from here on.
    pub fn activate(&mut self, first: u32, channel: &Channel, encoding: Encoding) {
        let Some(id) = self.find(first, channel) else { return };
        self.unlist(id);
        let subscription = self.subscription_mut(id);
        subscription.pending -= 1;
        let listener = Listener { connection: subscription.connection, subscription: id };
        let list = subscription.list;
        let listeners = &mut self.list_mut(list).listeners[encoding.place()];
        let position = place(listeners.len());
        if listeners.is_empty() {
            // Many channels have one listener here and never a second one.
            listeners.reserve_exact(1);
        }
        listeners.push(listener);
        let subscription = self.subscription_mut(id);
        (subscription.heard, subscription.position) = (encoding, position);
    }

    /// Handles a deactivation: the connection hears nothing on the channel from here on.
    pub fn deactivate(&mut self, first: &mut u32, channel: &Channel) {
        let Some(id) = self.find(*first, channel) else { return };
        self.unlist(id);
        let subscription = self.subscription_mut(id);
        subscription.pending -= 1;
        if subscription.pending == 0 && subscription.counted.get().is_none() {
            self.unlink(first, id);
            self.remove(id);
        }
    }

    /// Handles the refusal of a join. Returns true if the directory does not count the connection
    /// any more: no later join or leave is on its way.
    pub fn refuse(&mut self, first: &mut u32, channel: &Channel) -> bool {
        let Some(id) = self.find(*first, channel) else { return false };
        let subscription = self.subscription_mut(id);
        subscription.pending -= 1;
        if subscription.pending > 0 || subscription.position != NONE {
            return false;
        }
        let was_counted = subscription.counted.get().is_some();
        self.unlink(first, id);
        self.remove(id);
        was_counted
    }

    /// Removes all subscriptions of a connection that is gone. Calls `counted` with each that the
    /// directory still counts.
    pub fn forget(&mut self, first: u32, mut counted: impl FnMut(Channel, Counted)) {
        let mut next = first;
        while next != NONE {
            let id = next;
            let subscription = *self.subscription(id);
            next = subscription.next;
            if let Some(how) = subscription.counted.get() {
                counted(self.list(subscription.list).channel.clone(), how);
            }
            self.unlist(id);
            self.remove(id);
        }
    }

    /// Iterates over the channels in which the directory counts a connection.
    pub fn of(&self, first: u32) -> impl Iterator<Item = (&Channel, Counted)> {
        self.subscriptions(first)
            .filter_map(|one| one.counted.get().map(|how| (&self.list(one.list).channel, how)))
    }

    /// Every channel that a connection begins to hear, or ceases to, by mail that is still in the
    /// mailbox; and whether it begins.
    pub fn unsettled(&self, first: u32) -> impl Iterator<Item = (&Channel, bool)> {
        self.subscriptions(first).filter_map(|one| {
            let (hears, will_hear) = (one.position != NONE, one.counted.get().is_some());
            (hears != will_hear).then(|| (&self.list(one.list).channel, will_hear))
        })
    }

    fn subscriptions(&self, first: u32) -> impl Iterator<Item = &Subscription> {
        let mut next = first;
        std::iter::from_fn(move || {
            let subscription = (next != NONE).then(|| self.subscription(next))?;
            next = subscription.next;
            Some(subscription)
        })
    }

    /// Returns the connections that hear a channel in an encoding.
    pub fn listeners(&self, channel: &Channel, encoding: Encoding) -> &[Listener] {
        match self.channels.get(channel) {
            Some(list) => &self.list(*list).listeners[encoding.place()],
            None => &[],
        }
    }

    /// Returns the connections that hear a channel, by encoding, with one look-up for all
    /// encodings.
    pub fn audience(&self, channel: &Channel) -> impl Iterator<Item = (Encoding, &[Listener])> {
        let list = self.channels.get(channel).map(|list| self.list(*list));
        let encodings = channel.encodings().iter();
        list.into_iter().flat_map(move |list| {
            encodings.clone().map(move |encoding| (*encoding, &*list.listeners[encoding.place()]))
        })
    }

    /// Adds a connection of a user.
    pub fn user_came(&mut self, user: &Arc<str>, connection: u32) {
        self.users.entry(user.clone()).or_default().push(connection);
    }

    /// Removes a connection of a user.
    pub fn user_left(&mut self, user: &Arc<str>, connection: u32) {
        let Some(connections) = self.users.get_mut(user) else { return };
        connections.retain(|one| *one != connection);
        if connections.is_empty() {
            self.users.remove(user);
        }
    }

    /// Returns the slots of a user's connections.
    pub fn of_user(&self, user: &str) -> &[u32] {
        self.users.get(user).map_or(&[], Vec::as_slice)
    }

    /// Returns the number of subscriptions of all connections.
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Returns whether no connection has a subscription.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn subscription(&self, id: u32) -> &Subscription {
        self.subscriptions.get(id).expect("a chain or list holds ids in use only")
    }

    fn subscription_mut(&mut self, id: u32) -> &mut Subscription {
        self.subscriptions.get_mut(id).expect("a chain or list holds ids in use only")
    }

    fn list(&self, id: u32) -> &List {
        self.lists.get(id).expect("a list lives as long as subscriptions to it")
    }

    fn list_mut(&mut self, id: u32) -> &mut List {
        self.lists.get_mut(id).expect("a list lives as long as subscriptions to it")
    }

    fn find(&self, first: u32, channel: &Channel) -> Option<u32> {
        let list = *self.channels.get(channel)?;
        let mut next = first;
        while next != NONE {
            let subscription = self.subscription(next);
            if subscription.list == list {
                return Some(next);
            }
            next = subscription.next;
        }
        None
    }

    fn insert(&mut self, connection: u32, first: &mut u32, channel: &Channel) -> u32 {
        let list = match self.channels.get(channel) {
            Some(list) => *list,
            None => {
                let empty = List {
                    channel: channel.clone(),
                    subscriptions: 0,
                    listeners: Default::default(),
                };
                let list = self.lists.insert(empty);
                self.channels.insert(channel.clone(), list);
                list
            }
        };
        self.list_mut(list).subscriptions += 1;
        let id = self.subscriptions.insert(Subscription {
            connection,
            list,
            next: *first,
            position: NONE,
            pending: 0,
            heard: Encoding::Documented,
            counted: Packed::default(),
        });
        *first = id;
        id
    }

    /// Removes a subscription from the list of listeners, if it is there.
    fn unlist(&mut self, id: u32) {
        let Subscription { list, position, heard, .. } = *self.subscription(id);
        if position == NONE {
            return;
        }
        let listeners = &mut self.list_mut(list).listeners[heard.place()];
        listeners.swap_remove(position as usize);
        if let Some(moved) = listeners.get(position as usize).copied() {
            self.subscription_mut(moved.subscription).position = position;
        }
        self.subscription_mut(id).position = NONE;
    }

    /// Removes a subscription from its connection's chain.
    fn unlink(&mut self, first: &mut u32, id: u32) {
        let after = self.subscription(id).next;
        if *first == id {
            *first = after;
            return;
        }
        let mut before = *first;
        while self.subscription(before).next != id {
            before = self.subscription(before).next;
        }
        self.subscription_mut(before).next = after;
    }

    fn remove(&mut self, id: u32) {
        let Some(Subscription { list: list_id, .. }) = self.subscriptions.remove(id) else {
            return;
        };
        let list = self.list_mut(list_id);
        list.subscriptions -= 1;
        if list.subscriptions == 0
            && let Some(list) = self.lists.remove(list_id)
        {
            self.channels.remove(&list.channel);
        }
    }
}

/// Converts the length of a list. Lists have far fewer than 2³² entries, because each entry is a
/// connection of this worker.
fn place(length: usize) -> u32 {
    u32::try_from(length).expect("a list has fewer than 2^32 listeners")
}
