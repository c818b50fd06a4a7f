//! The epochs of a stream: whether it is still the one that a node has heard, or has lost something
//! that it had acknowledged.
//!
//! The date at which a stream was created does not tell: a memory stream that has lost everything
//! keeps it. So a message in the stream itself, the anchor, has a random number, and all nodes hear
//! it live. Both streams of a cluster have one.

use super::flight::Outcome;
use super::limits::{ANCHOR_MS, ANCHOR_RETRY_MS};
use super::name::Seq;
use super::wire::Anchor;
use crate::message::Millis;

/// What a node knows of one stream's epoch.
#[derive(Debug, Default)]
pub struct Epoch {
    current: Option<Placed>,
    /// The anchor that the cluster's register has, which outlives the stream.
    remembered: Option<Anchor>,
    /// The epoch after this one must begin, because the stream has lost something.
    raise_above: Option<u64>,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    anchor: Anchor,
    seq: Seq,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Step {
    /// The line is down.
    #[default]
    Off,
    /// The anchor is being read, or is read at this time if the last attempt failed.
    Reading(Millis),
    /// The anchor is being written. If nothing comes of it, it is read again at this time.
    Writing(Millis),
    /// The anchor is known, and is written again at this time, so that it does not expire.
    Settled(Millis),
}

/// What an epoch asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Read the stream's anchor, by a read that is proven to be up to date.
    Read,
    /// Write this anchor if the last one of its subject has this sequence; 0 if there must be none.
    Write(Anchor, Seq),
    /// Keep this anchor in the cluster's register, unless that has a later one.
    Remember(Anchor),
    /// The node knows the stream's epoch now, and did not before.
    Known(Anchor, Seq),
    /// The stream has lost something. What was heard before is no longer its past; a new epoch
    /// began at this place.
    Changed(Anchor, Seq),
}

impl Epoch {
    /// Returns the number of the epoch; 0 if it is not known yet.
    pub fn number(&self) -> u64 {
        self.current.map_or(0, |current| current.anchor.number)
    }

    /// Returns the anchor of the epoch; `None` if it is not known yet.
    pub fn anchor(&self) -> Option<Anchor> {
        self.current.map(|current| current.anchor)
    }

    /// Returns whether the epoch is known and nothing says that it is over.
    pub fn is_settled(&self) -> bool {
        self.current.is_some() && self.raise_above.is_none()
    }

    /// Begins to look for the anchor, because the line is up. `remembered` is the register's
    /// anchor.
    pub fn line_up(&mut self, remembered: Option<Anchor>, now: Millis) -> Wish {
        let both = remembered.into_iter().chain(self.remembered);
        self.remembered = both.max_by_key(|anchor| anchor.number);
        self.step = Step::Reading(now + ANCHOR_RETRY_MS);
        Wish::Read
    }

    /// Stops, because the line is down.
    pub fn line_down(&mut self) {
        self.step = Step::Off;
    }

    /// Takes the answer to a read: the anchor with its sequence, or `None` if the stream has none.
    /// `nonce` is a random number for the case that a new epoch must begin.
    pub fn read(&mut self, found: Option<(Anchor, Seq)>, nonce: u128, now: Millis) -> Vec<Wish> {
        if !matches!(self.step, Step::Reading(_)) {
            return Vec::new();
        }
        match found {
            Some((anchor, seq)) => self.heard(anchor, seq, nonce, now),
            None => vec![self.write(nonce, 0, now)],
        }
    }

    /// Takes an anchor that came live, or from a read. `nonce` is as for [`Epoch::read`].
    pub fn heard(&mut self, anchor: Anchor, seq: Seq, nonce: u128, now: Millis) -> Vec<Wish> {
        if self.step == Step::Off {
            return Vec::new();
        }
        let known = self.current.map(|current| current.anchor).or(self.remembered);
        let is_same = known.is_some_and(|known| known.nonce == anchor.nonce);
        let is_later = known.is_none_or(|known| anchor.number > known.number);
        if !is_same && !is_later {
            // An old stream came back, or the register and the anchor were lost together.
            self.raise_above = self.raise_above.max(known.map(|known| known.number));
            return vec![self.write(nonce, seq, now)];
        }
        let mut wishes = Vec::new();
        let before = self.current.replace(Placed { anchor, seq });
        self.step = Step::Settled(now + ANCHOR_MS);
        match before {
            Some(before) if before.anchor.nonce != anchor.nonce => {
                wishes.push(Wish::Changed(anchor, seq));
            }
            Some(_) => {}
            None => wishes.push(Wish::Known(anchor, seq)),
        }
        if self.remembered.is_none_or(|one| one.number < anchor.number) {
            self.remembered = Some(anchor);
            wishes.push(Wish::Remember(anchor));
        }
        match self.raise_above {
            Some(above) if anchor.number <= above => wishes.push(self.write(nonce, seq, now)),
            _ => self.raise_above = None,
        }
        wishes
    }

    /// Notes that the stream has lost something: an acknowledgement ran back, or the last sequence
    /// of the stream is below one that was heard. A new epoch must begin.
    pub fn runs_back(&mut self, nonce: u128, now: Millis) -> Option<Wish> {
        let current = self.current?;
        let is_new = self.raise_above.is_none();
        self.raise_above = self.raise_above.max(Some(current.anchor.number));
        let is_free = self.step != Step::Off && is_new;
        is_free.then(|| self.write(nonce, current.seq, now))
    }

    /// Takes what became of the anchor that was written. If it was stored, it comes live.
    pub fn written(&mut self, outcome: Outcome, now: Millis) {
        let is_stored = matches!(outcome, Outcome::Stored { .. } | Outcome::Late(_));
        if matches!(self.step, Step::Writing(_)) && !is_stored {
            // Another node was faster, or the last anchor is not the one that was heard.
            let moved = matches!(outcome, Outcome::Refused(super::ack::Refusal::Moved(_)));
            self.step = Step::Reading(if moved { now } else { now + ANCHOR_RETRY_MS });
        }
    }

    /// Repeats what did not succeed, and refreshes the anchor when it is due.
    pub fn tick(&mut self, now: Millis) -> Option<Wish> {
        match (self.step, self.current) {
            (Step::Reading(at) | Step::Writing(at), _) if at <= now => {
                self.step = Step::Reading(now + ANCHOR_RETRY_MS);
                Some(Wish::Read)
            }
            (Step::Settled(at), Some(Placed { anchor, seq })) if at <= now => {
                self.step = Step::Writing(now + ANCHOR_RETRY_MS);
                Some(Wish::Write(anchor, seq))
            }
            _ => None,
        }
    }

    /// Returns when [`Epoch::tick`] has something to do; `None` while the line is down.
    pub fn due(&self) -> Option<Millis> {
        match self.step {
            Step::Off => None,
            Step::Reading(at) | Step::Writing(at) | Step::Settled(at) => Some(at),
        }
    }

    /// Writes the anchor of a new epoch, behind all that are known.
    fn write(&mut self, nonce: u128, expected: Seq, now: Millis) -> Wish {
        self.step = Step::Writing(now + ANCHOR_RETRY_MS);
        let remembered = self.remembered.map_or(0, |anchor| anchor.number);
        let highest = self.number().max(remembered).max(self.raise_above.unwrap_or(0));
        Wish::Write(Anchor { nonce, number: highest + 1 }, expected)
    }
}

#[cfg(test)]
mod tests;
