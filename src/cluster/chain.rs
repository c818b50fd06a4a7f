//! The sequence of one channel: which live message is next, which one came before, and what is
//! missing between two of them.

use std::collections::VecDeque;

use super::limits::{WAITING_BYTES_MAX, WAITING_MESSAGES_MAX};
use super::name::Seq;

/// What a node knows of the sequence of one channel that it is attached to.
///
/// Every message is delivered at most once and in order. A chain never passes over a message
/// without telling that something was lost.
#[derive(Debug)]
pub struct Chain<T> {
    /// Everything of the channel up to here is delivered, or told to be lost, or was there before
    /// the node attached.
    heard: Seq,
    /// Whether `heard` is the place at which the node attached, and not a message of the channel.
    is_bound: bool,
    /// Live messages that wait until something before them is read; `None` if nothing is missing.
    repair: Option<Box<Repair<T>>>,
}

#[derive(Debug)]
struct Repair<T> {
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
    /// The highest sequence that the channel is known to have. If it is behind the last message
    /// that waits, messages were dropped at the bound.
    until: Seq,
    /// Whether messages wait although nothing is missing: what the channel kept is not read yet.
    is_held: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    seq: Seq,
    last: Seq,
    /// The place up to which the node had received everything when the message came.
    whole: Seq,
    bytes: usize,
    message: T,
}

/// A message with its place in the stream and its size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed<T> {
    /// The message's own sequence.
    pub seq: Seq,
    /// The sequence of the message before it on the channel; 0 if the stream has none.
    pub last: Seq,
    /// What the message counts for while it waits.
    pub bytes: usize,
    /// The message itself.
    pub message: T,
}

/// What a chain has to say, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told<T> {
    /// The channel's next message.
    Deliver(Seq, T),
    /// Messages between these two places may be lost. Their number is not known.
    Lost(Missing),
}

/// The messages of a channel that are missing: those after one place and before another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The last place that is known.
    pub after: Seq,
    /// The next place that is known.
    pub before: Seq,
}

impl<T> Chain<T> {
    /// Creates the chain of a channel to which the node attached at this place: what is up to there
    /// is history, what is after it comes live.
    pub fn at_bound(bound: Seq) -> Self {
        Self { heard: bound, is_bound: true, repair: None }
    }

    /// Returns the place up to which everything is settled.
    pub fn heard(&self) -> Seq {
        self.heard
    }

    /// Returns what must be read now; `None` if nothing is missing.
    pub fn missing(&self) -> Option<Missing> {
        let repair = self.repair.as_deref().filter(|repair| !repair.is_held)?;
        let before = repair.waiting.front().map_or(repair.until + 1, |front| front.seq);
        Some(Missing { after: self.heard, before })
    }

    /// Takes a live message. `whole` is the place up to which the node has received everything that
    /// it was subscribed to; 0 while it may not have. Returns whether messages have begun to wait
    /// for a read.
    ///
    /// A channel that was quiet for longer than the stream keeps messages has no message before
    /// this one. Nothing is missing then if `whole` is not before what was heard, because the
    /// stream keeps messages for longer than it takes a heartbeat to come back: all that has
    /// expired was before `whole`.
    pub fn live(&mut self, message: Placed<T>, whole: Seq, out: &mut Vec<Told<T>>) -> bool {
        if message.seq <= self.heard {
            return false;
        }
        if let Some(repair) = &mut self.repair {
            repair.wait(message, whole);
            return false;
        }
        let Placed { seq, last, .. } = message;
        if self.is_next(seq, last, whole) {
            self.deliver(seq, message.message, out);
            return false;
        }
        let mut repair = Repair::new(seq, false);
        repair.wait(message, whole);
        self.repair = Some(Box::new(repair));
        true
    }

    /// Makes live messages wait until [`Chain::release`], because what the channel kept must be
    /// delivered before them.
    pub fn hold(&mut self) {
        let heard = self.heard;
        let repair = self.repair.get_or_insert_with(|| Box::new(Repair::new(heard, true)));
        repair.is_held = true;
    }

    /// Delivers what waited since [`Chain::hold`]. Returns whether something is missing.
    pub fn release(&mut self, out: &mut Vec<Told<T>>) -> bool {
        if let Some(repair) = &mut self.repair {
            repair.is_held = false;
        }
        self.drain(out)
    }

    /// Takes a message from a read of everything in the stream, in order, that began at or before
    /// the place that was heard.
    pub fn fill(&mut self, message: Placed<T>, out: &mut Vec<Told<T>>) {
        if message.seq <= self.heard {
            return;
        }
        match &mut self.repair {
            Some(repair) if repair.is_held => repair.insert(message, self.heard),
            Some(repair) if repair.waiting.front().is_some_and(|one| one.seq <= message.seq) => {
                repair.until = repair.until.max(message.seq);
            }
            _ => {
                self.deliver(message.seq, message.message, out);
                self.drain(out);
            }
        }
    }

    /// Takes the answer to a read of `missing`: all messages of the channel there that the stream
    /// still has, in order, and the sequence of the oldest message of the stream, which was asked
    /// for afterwards. Returns whether more is missing.
    pub fn read(
        &mut self,
        missing: Missing,
        messages: impl IntoIterator<Item = Placed<T>>,
        oldest: Seq,
        out: &mut Vec<Told<T>>,
    ) -> bool {
        let Some(now) = self.missing().filter(|now| missing.after <= now.after) else {
            return false;
        };
        if oldest > self.heard + 1 {
            let before = oldest.min(now.before);
            out.push(Told::Lost(Missing { after: self.heard, before }));
        }
        for message in messages {
            if message.seq > self.heard && message.seq < now.before {
                self.deliver(message.seq, message.message, out);
            }
        }
        if missing.before < now.before {
            return self.drain(out);
        }
        self.pass(now.before, out)
    }

    /// Gives up the read of the missing messages: tells that they are lost and delivers the
    /// messages that wait behind them. Returns whether more messages are missing further on.
    pub fn give_up(&mut self, out: &mut Vec<Told<T>>) -> bool {
        let Some(missing) = self.missing() else { return false };
        out.push(Told::Lost(missing));
        self.heard = missing.before - 1;
        self.is_bound = true;
        self.drain(out)
    }

    /// Begins again at this place. Drops the messages that wait; the caller tells a gap.
    pub fn reset(&mut self, bound: Seq) {
        *self = Self::at_bound(bound);
    }

    /// Notes that the channel has a message at this place which did not come live. Returns whether
    /// messages have begun to wait for a read.
    pub fn expect(&mut self, seq: Seq) -> bool {
        if seq <= self.heard {
            return false;
        }
        match &mut self.repair {
            Some(repair) => {
                repair.until = repair.until.max(seq);
                false
            }
            None => {
                self.repair = Some(Box::new(Repair::new(seq, false)));
                true
            }
        }
    }

    /// Goes on behind a read that has ended before this place. Returns whether more is missing.
    fn pass(&mut self, before: Seq, out: &mut Vec<Told<T>>) -> bool {
        let Some(repair) = &mut self.repair else { return false };
        // The stream has said of a message that it is here, and the read did not bring it.
        let known = match repair.waiting.front() {
            Some(front) => front.last,
            None => repair.until,
        };
        if known > self.heard {
            out.push(Told::Lost(Missing { after: self.heard, before: known + 1 }));
        }
        self.heard = self.heard.max(before - 1);
        self.is_bound = true;
        self.drain(out)
    }

    /// Returns whether nothing is missing before a message.
    fn is_next(&self, seq: Seq, last: Seq, whole: Seq) -> bool {
        match last {
            _ if seq == self.heard + 1 => true,
            0 => self.heard <= whole,
            _ => last == self.heard || self.is_bound && last < self.heard,
        }
    }

    fn deliver(&mut self, seq: Seq, message: T, out: &mut Vec<Told<T>>) {
        self.heard = seq;
        self.is_bound = false;
        out.push(Told::Deliver(seq, message));
    }

    /// Delivers the waiting messages up to the next hole. Returns whether there is a hole.
    fn drain(&mut self, out: &mut Vec<Told<T>>) -> bool {
        let Some(mut repair) = self.repair.take() else { return false };
        while !repair.is_held {
            let Some(front) = repair.waiting.front() else { break };
            if front.seq > self.heard && !self.is_next(front.seq, front.last, front.whole) {
                break;
            }
            let Some(front) = repair.waiting.pop_front() else { break };
            repair.bytes -= front.bytes;
            if front.seq > self.heard {
                self.deliver(front.seq, front.message, out);
            }
        }
        if repair.is_held || !repair.waiting.is_empty() || repair.until > self.heard {
            let is_missing = !repair.is_held;
            self.repair = Some(repair);
            return is_missing;
        }
        false
    }
}

impl<T> Repair<T> {
    fn new(until: Seq, is_held: bool) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, until, is_held }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.waiting.len() < WAITING_MESSAGES_MAX && self.bytes + bytes <= WAITING_BYTES_MAX
    }

    /// Appends a live message. Drops it at the bound, and everything after it.
    fn wait(&mut self, message: Placed<T>, whole: Seq) {
        let end = self.waiting.back().map_or(0, |back| back.seq);
        if message.seq <= end {
            return;
        }
        let has_dropped = self.until > end && end > 0;
        self.until = self.until.max(message.seq);
        if !has_dropped && self.has_room(message.bytes) {
            self.push(self.waiting.len(), message, whole);
        }
    }

    /// Inserts a message of a read, unless it waits already. At the bound the last ones are dropped
    /// for it, and are read again with what is missing then.
    fn insert(&mut self, message: Placed<T>, heard: Seq) {
        let at = self.waiting.partition_point(|one| one.seq < message.seq);
        if self.waiting.get(at).is_some_and(|one| one.seq == message.seq) {
            return;
        }
        while self.waiting.len() > at && !self.has_room(message.bytes) {
            self.bytes -= self.waiting.pop_back().map_or(0, |back| back.bytes);
        }
        let last = at.checked_sub(1).map_or(heard, |before| self.waiting[before].seq);
        let has_dropped = at == self.waiting.len() && self.until > last;
        self.until = self.until.max(message.seq);
        if !has_dropped && self.has_room(message.bytes) {
            self.push(at, Placed { last, ..message }, 0);
        }
    }

    fn push(&mut self, at: usize, message: Placed<T>, whole: Seq) {
        let Placed { seq, last, bytes, message } = message;
        self.bytes += bytes;
        self.waiting.insert(at, Waiting { seq, last, whole, bytes, message });
    }
}

#[cfg(test)]
mod tests;
