//! What a client that resumes hears of a channel, against what it should hear.

use std::ops::RangeInclusive;

/// Publications are numbered in the order in which they were accepted.
#[derive(Default, Debug)]
pub(super) struct Stream {
    pub(super) is_joined: bool,
    pub(super) heard: Vec<u64>,
    due: Vec<Due>,
    /// The subscribe by which it was joined, if that is not answered, and what was published before
    /// it since the last unsubscribe that was answered.
    joining: Option<(u64, RangeInclusive<u64>)>,
    /// The last unsubscribe, if that is not answered.
    leaving: Option<Leaving>,
    /// The last publication before the last unsubscribe that was answered.
    left_at: u64,
    /// Publications that its client may hear: those before a subscribe whose answer was lost.
    early: Vec<RangeInclusive<u64>>,
}

#[derive(Debug)]
struct Due {
    number: u64,
    /// Whether its client has left the channel since, and was cut before that was answered.
    may_be_lost: bool,
}

#[derive(Debug)]
struct Leaving {
    ack: u64,
    /// How much was due before it.
    due: usize,
    /// The last publication before it.
    published: u64,
}

impl Stream {
    /// A subscribe was accepted, after that many publications.
    pub(super) fn joins(&mut self, ack: u64, published: u64) {
        if !self.is_joined {
            self.is_joined = true;
            self.joining = Some((ack, self.left_at + 1..=published));
        }
    }

    /// An unsubscribe was accepted, after that many publications.
    pub(super) fn leaves(&mut self, ack: u64, published: u64) {
        self.is_joined = false;
        self.leaving = Some(Leaving { ack, due: self.due.len(), published });
    }

    /// The client has received an answer.
    pub(super) fn answered(&mut self, ack: u64) {
        self.joining.take_if(|(joining, _)| *joining == ack);
        if let Some(Leaving { published, .. }) = self.leaving.take_if(|one| one.ack == ack) {
            self.left_at = published;
        }
    }

    /// Its connection ends.
    pub(super) fn cut(&mut self) {
        let last = self.heard.last().copied().unwrap_or_default();
        let left = self.leaving.take().map_or(0, |one| one.due);
        self.due[..left].iter_mut().for_each(|due| due.may_be_lost |= due.number > last);
        self.early.extend(self.joining.take().map(|(_, early)| early));
    }

    /// A publication was accepted.
    pub(super) fn publish(&mut self, number: u64) {
        if self.is_joined {
            self.due.push(Due { number, may_be_lost: false });
        }
    }

    pub(super) fn hear(&mut self, number: u64) {
        self.heard.push(number);
    }

    pub(super) fn check_so_far(&self) {
        let Self { heard, .. } = self;
        assert!(heard.is_sorted_by(|one, next| one < next), "each once, in order: {heard:?}");
    }

    /// Checks that its client has received everything.
    pub(super) fn check(&self) {
        self.check_so_far();
        let missing = |due: &&Due| !due.may_be_lost && !self.heard.contains(&due.number);
        let missing = self.due.iter().find(missing);
        assert!(missing.is_none(), "all of it is heard: {missing:?}, {self:?}");
        let is_due = |number| self.due.iter().any(|due| due.number == number);
        let is_early = |number| self.early.iter().any(|early| early.contains(&number));
        let other = self.heard.iter().find(|number| !is_due(**number) && !is_early(**number));
        assert!(other.is_none(), "nothing else is heard: {other:?}, {self:?}");
    }
}
