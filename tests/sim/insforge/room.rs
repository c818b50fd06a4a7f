//! What is known of a channel without looking at the node: how it behaves, what it keeps, and who
//! is there.

use std::collections::BTreeSet;

use fanfare::message::{ChannelOptions, PresenceMode};

use crate::window::Window;

#[derive(Default)]
pub(super) struct Room {
    pub(super) options: ChannelOptions,
    pub(super) window: Window,
    pub(super) members: BTreeSet<Box<str>>,
}

impl Room {
    /// How many members a new subscriber is told of by name, and how many there are.
    pub(super) fn present(&self) -> (usize, usize) {
        let present = self.members.len();
        match self.options.presence {
            PresenceMode::Full => (present, present),
            PresenceMode::Count => (0, present),
            PresenceMode::Off => (0, 0),
        }
    }
}
