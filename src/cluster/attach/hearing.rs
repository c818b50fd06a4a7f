//! What comes on the channels that a node is attached to, live and by reads.

use std::ops::Bound;

use super::{Attachments, Phase, Wish};
use crate::cluster::chain::{Chain, Missing, Placed, Told};
use crate::cluster::name::{ChannelHash, Seq};
use crate::message::Millis;

impl<T> Attachments<T> {
    /// Lets channels that are not attached yet begin again, because a new epoch began. The others
    /// hear nothing until [`Attachments::begin_again`].
    pub fn epoch_changed(&mut self, now: Millis) {
        self.is_renewing = true;
        let mut again = Vec::new();
        for (hash, one) in &mut self.channels {
            if one.phase == Phase::Echoed {
                one.phase = Phase::Wanted;
                again.push((*hash, one.sid));
                one.sid = 0;
            }
            if one.phase.is_heard() {
                self.reads.forget(*hash);
                one.chain.reset(0);
            }
        }
        for (hash, sid) in again {
            self.wishes.push(Wish::Unsubscribe(sid));
            self.gather(hash, now);
        }
    }

    /// Begins all chains again at this place and tells a gap on each channel.
    pub fn begin_again(&mut self, seq: Seq) {
        self.is_renewing = false;
        for one in self.channels.values_mut().filter(|one| one.phase.is_heard()) {
            one.chain.reset(seq);
            self.wishes.push(Wish::Gap(one.channel.clone()));
        }
    }

    /// Tells a gap on every channel that had not heard everything in the range.
    pub fn lost(&mut self, missing: Missing) {
        for one in self.channels.values() {
            if one.phase.is_heard() && one.chain.heard() + 1 < missing.before {
                self.wishes.push(Wish::Gap(one.channel.clone()));
            }
        }
    }

    /// Takes a live message of a channel. `whole` is as for [`Chain::live`].
    pub fn live(&mut self, hash: ChannelHash, message: Placed<T>, whole: Seq) {
        self.chain(hash, |chain, told| chain.live(message, whole, told));
    }

    /// Takes a channel's message from a read of everything.
    pub fn fill(&mut self, hash: ChannelHash, message: Placed<T>) {
        self.chain(hash, |chain, told| {
            chain.fill(message, told);
            false
        });
    }

    /// Takes the answer to a read of a channel, as [`Chain::read`] does.
    pub fn read(
        &mut self,
        hash: ChannelHash,
        missing: Missing,
        messages: Vec<Placed<T>>,
        oldest: Seq,
    ) {
        if self.reads.end(hash, missing) {
            self.chain(hash, |chain, told| chain.read(missing, messages, oldest, told));
        }
    }

    /// Returns the next channels behind `after` that the node hears, up to this number.
    pub fn heard_channels(&self, after: Option<ChannelHash>, most: usize) -> Vec<ChannelHash> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.channels.range((from, Bound::Unbounded));
        let heard = rest.filter(|(_, one)| one.phase.is_heard());
        heard.map(|(hash, _)| *hash).take(most).collect()
    }

    /// Takes the sequence of a channel's latest message; `None` if the stream has none. `oldest` is
    /// the sequence of the stream's oldest message.
    pub fn latest(&mut self, hash: ChannelHash, latest: Option<Seq>, oldest: Seq) {
        self.chain(hash, |chain, told| {
            if latest.is_none() && oldest > chain.heard() + 1 {
                told.push(Told::Lost(Missing { after: chain.heard(), before: oldest }));
            }
            latest.is_some_and(|latest| chain.expect(latest))
        });
    }

    /// Begins reads, unless `is_open`: a hole is being filled, which may bring what is missing.
    pub fn begin_reads(&mut self, is_open: bool, now: Millis) {
        while !is_open && let Some(hash) = self.reads.next_channel() {
            let missing = self.channels.get(&hash).and_then(|one| one.chain.missing());
            if let Some(missing) = missing {
                self.reads.begin(hash, missing, now);
                self.wishes.push(Wish::Read(hash, missing));
            }
        }
    }

    /// Lets a channel's chain take something, and passes on what it tells. The closure returns
    /// whether something is missing.
    pub(super) fn chain(
        &mut self,
        hash: ChannelHash,
        take: impl FnOnce(&mut Chain<T>, &mut Vec<Told<T>>) -> bool,
    ) {
        let Some(one) = self.channels.get_mut(&hash) else { return };
        let is_heard = one.phase.is_heard() && !self.is_renewing;
        if !is_heard && one.phase != Phase::Echoed {
            return;
        }
        let mut told = Vec::new();
        if take(&mut one.chain, &mut told) {
            self.reads.push(hash);
        }
        self.wishes.extend(told.into_iter().map(|told| match told {
            Told::Deliver(seq, message) => Wish::Deliver(one.channel.clone(), seq, message),
            Told::Lost(_) => Wish::Gap(one.channel.clone()),
        }));
    }
}
