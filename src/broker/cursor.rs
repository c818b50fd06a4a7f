//! How far a client has come in each of several channels that reach it in one stream.

use crate::message::{Channel, MessageId, Now};

/// The positions of one client, in the order in which it named its channels. Fan-out moves them.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// Tells this start of the node from all others.
    pub start: u64,
    /// Each channel once, with the client's position in it.
    pub positions: Box<[(Channel, Position)]>,
}

/// How far a client has come in one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    /// The subscription has not begun: the client has missed nothing.
    New,
    /// Nothing is known: the channel kept nothing when the client subscribed.
    Unknown,
    /// The client has received everything from before this moment, when the channel's window was
    /// empty, and nothing since.
    Since(Now),
    /// The client has received this message and everything from before it. Before the first message
    /// of a channel's log, this is the id that the log began with.
    Behind(MessageId),
}

impl Cursor {
    /// Notes that a message is sent to the client.
    pub fn passed(&mut self, channel: &Channel, id: MessageId) {
        self.place(channel, Position::Behind(id));
    }

    /// Sets the position in a channel. Channels that the client did not name are ignored.
    pub fn place(&mut self, channel: &Channel, position: Position) {
        if let Some(place) = self.positions.iter_mut().find(|(one, _)| one == channel) {
            place.1 = position;
        }
    }
}
