//! A subscription that checks what it hears.

/// A subscription to a channel.
pub(super) struct Ear {
    pub(super) channel: usize,
    /// The publication that was heard last; `None` if the next one may have any number from
    /// `floor` on.
    pub(super) last: Option<u64>,
    floor: u64,
    pub(super) state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Out,
    /// The subscribe with this number is not answered.
    Asked(u64),
    In,
}

/// What must not happen.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Lost { from: u64, to: u64 },
    Doubled(u64),
}

impl Ear {
    /// Returns a subscription that has not begun.
    pub(super) fn new(channel: usize) -> Self {
        Self { channel, last: None, floor: 1, state: State::Out }
    }

    /// Notes whether the session was resumed on which the client comes back.
    pub(super) fn comes_back(&mut self, is_recovered: bool) {
        if !is_recovered {
            self.miss();
        }
        // A subscribe that was not answered is to be repeated.
        if !is_recovered || self.state != State::In {
            self.state = State::Out;
        }
    }

    /// Notes that the client was told that it has missed something.
    pub(super) fn miss(&mut self) {
        self.floor = self.last.take().map_or(self.floor, |last| last + 1);
    }

    pub(super) fn hear(&mut self, number: u64) -> Option<Fault> {
        let due = self.last.map_or(self.floor, |last| last + 1);
        if number < due {
            return Some(Fault::Doubled(number));
        }
        let is_known = self.last.replace(number).is_some();
        (is_known && number > due).then(|| Fault::Lost { from: due, to: number - 1 })
    }

    /// Returns what has not come, if `last` is the last publication.
    pub(super) fn lacks(&self, last: u64) -> Option<Fault> {
        let from = self.last.map_or(last, |heard| heard + 1);
        (self.last != Some(last)).then_some(Fault::Lost { from, to: last })
    }
}

#[test]
fn what_is_lost_or_doubled_is_a_fault_unless_it_is_told() {
    let mut ear = Ear::new(0);
    assert_eq!([3, 4].map(|number| ear.hear(number)), [None, None]);
    assert_eq!(ear.hear(4), Some(Fault::Doubled(4)));
    assert_eq!(ear.hear(7), Some(Fault::Lost { from: 5, to: 6 }));
    ear.comes_back(true);
    assert_eq!(ear.hear(9), Some(Fault::Lost { from: 8, to: 8 }));
    ear.comes_back(false);
    assert_eq!(ear.hear(9), Some(Fault::Doubled(9)));
    assert_eq!([11, 12].map(|number| ear.hear(number)), [None, None]);
    ear.miss();
    assert_eq!([14, 15].map(|number| ear.hear(number)), [None, None]);
    assert_eq!(ear.lacks(16), Some(Fault::Lost { from: 16, to: 16 }));
    assert_eq!(ear.lacks(15), None);
}
