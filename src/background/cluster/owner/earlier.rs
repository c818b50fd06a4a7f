//! What the stream has of a channel from before the node heard it, for subscribers that ask for it.

use super::Owner;
use crate::background::cluster::reads::{Ask, Wanted};
use crate::cluster::landing::{Earlier, Landing};
use crate::message::Channel;

impl<L: Landing> Owner<'_, L> {
    /// Begins to read what is earlier, if requests wait for it and it is not being read.
    pub(super) fn read_earlier(&mut self, channel: &Channel) {
        self.begin_earlier(channel, false);
    }

    /// Begins to read it anew, because a read that is under way may lack something: it began before
    /// the node heard the channel, or before a gap.
    pub(super) fn read_earlier_anew(&mut self, channel: &Channel) {
        self.reading.remove(channel);
        self.read_earlier(channel);
    }

    fn begin_earlier(&mut self, channel: &Channel, is_again: bool) {
        if self.reading.contains_key(channel) {
            return;
        }
        if let Some(behind) = self.landing.lacks_earlier(channel) {
            self.reads += 1;
            self.reading.insert(channel.clone(), (self.reads, self.cluster.epoch()));
            let wanted = Wanted { number: self.reads, behind, is_again };
            self.parts.reader.begin(Ask::Earlier(channel.clone(), wanted));
        }
    }

    /// Gives the node what a read has found, unless another one has begun since. What was found in
    /// an earlier epoch is of another stream.
    pub(super) fn earlier(&mut self, channel: &Channel, read: u64, earlier: Option<Earlier>) {
        let Some((_, epoch)) = self.reading.get(channel).copied().filter(|one| one.0 == read)
        else {
            return;
        };
        self.reading.remove(channel);
        let earlier = earlier.filter(|_| epoch == self.cluster.epoch());
        let epoch = self.cluster.epoch_tag();
        let earlier = earlier.map(|earlier| Earlier { epoch, ..earlier });
        self.again.earlier(self.landing, channel, earlier);
        // Requests may wait since then, or for what the node has yet to receive.
        self.begin_earlier(channel, true);
    }
}
