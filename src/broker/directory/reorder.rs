//! Channels whose definition says another order than before, while they have subscribers.

use super::{Directory, lock};
use crate::message::{Channel, PresenceMode, Space};

impl Directory {
    /// Attaches channels that have subscribers and that the cluster's stream orders now. These are
    /// told that they may have missed publications: those of other nodes, from the change until the
    /// node hears the channel. A channel that the stream does not order any more stays attached
    /// until it has no subscriber.
    pub fn reorder(&self, is_ordered: impl Fn(&Channel) -> bool) {
        let Some(stream) = &self.stream else { return };
        for shard in &self.shards {
            let entries = lock(&shard.entries);
            let all = entries.iter().filter(|(channel, entry)| {
                let is_local = entry.attachment.is_none() && !entry.shares.is_empty();
                is_local && channel.space() == Space::Channels
            });
            let local: Vec<Channel> = all.map(|(channel, _)| channel.clone()).collect();
            // Definitions are searched without the lock.
            drop(entries);
            for channel in local.into_iter().filter(&is_ordered) {
                let mut entries = lock(&shard.entries);
                let Some(entry) = entries.get_mut(&channel) else { continue };
                if entry.attachment.is_none() && !entry.shares.is_empty() {
                    let attachment = entry.attachment.get_or_insert_default();
                    attachment.must_tell_gap = true;
                    if entry.presence_mode != PresenceMode::Off {
                        stream.show_presence(&channel, attachment, &entry.presence);
                    }
                    stream.note(&channel, attachment);
                }
            }
        }
        stream.interests.wake();
    }
}
