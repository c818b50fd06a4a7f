//! What the stream has of a channel from before the node heard it, for subscribers that ask for it.

use super::Owner;
use crate::background::cluster::reads::Ask;
use crate::cluster::landing::{Earlier, Landing};
use crate::message::Channel;

impl<L: Landing> Owner<'_, L> {
    /// Begins to read what is earlier, if requests wait for it and it is not being read.
    pub(super) fn read_earlier(&mut self, channel: &Channel) {
        self.begin_earlier(channel, false);
    }

    fn begin_earlier(&mut self, channel: &Channel, is_again: bool) {
        if !self.reading.contains_key(channel) && self.landing.lacks_earlier(channel) {
            self.reading.insert(channel.clone(), self.cluster.epoch());
            self.parts.reader.begin(Ask::Earlier(channel.clone(), is_again));
        }
    }

    /// Gives the node what was read, unless that is of an earlier epoch.
    pub(super) fn earlier(&mut self, channel: &Channel, earlier: Option<Earlier>) {
        let epoch = self.reading.remove(channel);
        let earlier = earlier.filter(|_| epoch == Some(self.cluster.epoch()));
        self.again.earlier(self.landing, channel, earlier);
        // Requests may wait since then, or for what the node has yet to receive.
        self.begin_earlier(channel, true);
    }
}
