//! The model of a channel, which never reads the node's own: options, window and members.

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
    /// Returns how many members a new subscriber receives by name, and the number of members that
    /// it receives.
    pub(super) fn present(&self) -> (usize, usize) {
        let present = self.members.len();
        match self.options.presence {
            PresenceMode::Full => (present, present),
            PresenceMode::Count => (0, present),
            PresenceMode::Off => (0, 0),
        }
    }
}
