//! Compares what a resuming client hears of a channel with what it should hear.

use std::ops::RangeInclusive;

/// The publications that a client heard and those that it should hear. They are numbered in the
/// order in which they were accepted.
#[derive(Default, Debug)]
pub(super) struct Stream {
    pub(super) is_joined: bool,
    pub(super) heard: Vec<u64>,
    due: Vec<Due>,
    /// The subscribe that joined the channel, until it is answered, and the publications between
    /// the last answered unsubscribe and it.
    joining: Option<(u64, RangeInclusive<u64>)>,
    /// The last unsubscribe, until it is answered.
    leaving: Option<Leaving>,
    /// The last publication before the last answered unsubscribe.
    left_at: u64,
    /// Publications that the client may hear: those before a subscribe whose answer was lost.
    early: Vec<RangeInclusive<u64>>,
}

#[derive(Debug)]
struct Due {
    number: u64,
    /// Whether the client has left the channel since, and was cut before the answer.
    may_be_lost: bool,
}

#[derive(Debug)]
struct Leaving {
    ack: u64,
    /// How many publications were due before it.
    due: usize,
    /// The last publication before it.
    published: u64,
}

impl Stream {
    /// Notes that a subscribe was accepted after `published` publications.
    pub(super) fn joins(&mut self, ack: u64, published: u64) {
        if !self.is_joined {
            self.is_joined = true;
            self.joining = Some((ack, self.left_at + 1..=published));
        }
    }

    /// Notes that an unsubscribe was accepted after `published` publications.
    pub(super) fn leaves(&mut self, ack: u64, published: u64) {
        self.is_joined = false;
        self.leaving = Some(Leaving { ack, due: self.due.len(), published });
    }

    /// Notes that the client has received an answer.
    pub(super) fn answered(&mut self, ack: u64) {
        self.joining.take_if(|(joining, _)| *joining == ack);
        if let Some(Leaving { published, .. }) = self.leaving.take_if(|one| one.ack == ack) {
            self.left_at = published;
        }
    }

    /// Notes that the connection has ended.
    pub(super) fn cut(&mut self) {
        let last = self.heard.last().copied().unwrap_or_default();
        let left = self.leaving.take().map_or(0, |one| one.due);
        self.due[..left].iter_mut().for_each(|due| due.may_be_lost |= due.number > last);
        self.early.extend(self.joining.take().map(|(_, early)| early));
    }

    /// Notes that a publication was accepted.
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

    /// Checks that the client has heard all that is due, and nothing else.
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
