//! Messages that are sent and not answered, and what became of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ack::{Ack, Refusal};
use super::limits::{FLIGHT_BYTES_MAX, FLIGHTS_KEPT_BACK, FLIGHTS_MAX, LIMBO_MAX, LIMBO_MS};
use super::name::Seq;
use crate::message::Millis;

/// What is sent and not answered. `T` says what a message was for.
///
/// Every flight ends exactly once: stored, refused or unknown. An unknown one may be answered late,
/// once, which is told apart.
#[derive(Debug)]
pub struct Flights<T> {
    next: u64,
    flying: BTreeMap<u64, Flight<T>>,
    /// The deadlines of all that fly.
    deadlines: BTreeSet<(Millis, u64)>,
    bytes: usize,
    /// Unknown flights that may be answered late, with the time at which they are forgotten.
    limbo: BTreeMap<u64, T>,
    forget: VecDeque<(Millis, u64)>,
}

#[derive(Debug)]
struct Flight<T> {
    what: T,
    bytes: usize,
    deadline: Millis,
    /// The highest sequence that the stream had acknowledged when the message was sent.
    acked: Seq,
    /// Whether the kernel may have some of the message's bytes.
    is_written: bool,
}

/// A message to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departure<T> {
    /// What the message is for.
    pub what: T,
    /// The size of the message, in bytes.
    pub bytes: usize,
    /// How long the answer may take, in milliseconds.
    pub patience: Millis,
    /// The highest sequence that the stream has acknowledged so far.
    pub acked: Seq,
    /// Whether it may take the places that are kept back from publications.
    pub is_urgent: bool,
}

/// The end of a flight.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Landing<T> {
    /// What the message was for.
    pub what: T,
    /// What became of the message.
    pub outcome: Outcome,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The stream has it.
    Stored {
        /// The message's place in the stream.
        seq: Seq,
        /// Whether the stream had it before, so that nothing was added.
        duplicate: bool,
        /// Whether the stream gave away a sequence that it had acknowledged before: its tail is
        /// lost.
        runs_back: bool,
    },
    /// The stream does not have it, for certain.
    Refused(Refusal),
    /// The stream may have it, now or later.
    Unknown,
    /// An answer to a message that was unknown: the stream has it.
    Late(Seq),
}

impl<T: Copy> Flights<T> {
    /// Creates the flights of a node. The first message has the number 1.
    pub fn new() -> Self {
        Self {
            next: 1,
            flying: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            bytes: 0,
            limbo: BTreeMap::new(),
            forget: VecDeque::new(),
        }
    }

    /// Returns the number of messages and of bytes that are not answered.
    pub fn under_way(&self) -> (usize, usize) {
        (self.flying.len(), self.bytes)
    }

    /// Notes a message that is about to be sent and returns its number, or `None` if there is no
    /// room for it.
    pub fn depart(&mut self, departure: Departure<T>, now: Millis) -> Option<u64> {
        let Departure { what, bytes, patience, acked, is_urgent } = departure;
        let most = if is_urgent { FLIGHTS_MAX } else { FLIGHTS_MAX - FLIGHTS_KEPT_BACK };
        let fits = is_urgent || self.bytes + bytes <= FLIGHT_BYTES_MAX;
        if self.flying.len() >= most || !fits {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let deadline = now + patience;
        self.bytes += bytes;
        self.deadlines.insert((deadline, number));
        self.flying.insert(number, Flight { what, bytes, deadline, acked, is_written: false });
        Some(number)
    }

    /// Notes that the kernel may have some bytes of all messages up to this number.
    pub fn written(&mut self, up_to: u64) {
        for flight in self.flying.range_mut(..=up_to).rev().map(|(_, flight)| flight) {
            if flight.is_written {
                break;
            }
            flight.is_written = true;
        }
    }

    /// Takes the answer to a message. Returns `None` if the message is over already.
    pub fn answered(&mut self, number: u64, ack: &Ack) -> Option<Landing<T>> {
        if let Some(flight) = self.end(number) {
            let outcome = match *ack {
                Ack::Stored { seq, duplicate } => {
                    let runs_back = seq <= flight.acked && !duplicate;
                    Outcome::Stored { seq, duplicate, runs_back }
                }
                Ack::Refused(refusal) => Outcome::Refused(refusal),
            };
            return Some(Landing { what: flight.what, outcome });
        }
        let what = self.limbo.remove(&number)?;
        match *ack {
            Ack::Stored { seq, .. } => Some(Landing { what, outcome: Outcome::Late(seq) }),
            Ack::Refused(_) => None,
        }
    }

    /// Ends the flights whose answer did not come in time. `may_be_late` says which of them may
    /// still be answered.
    pub fn tick(&mut self, now: Millis, may_be_late: impl Fn(T) -> bool) -> Vec<Landing<T>> {
        while self.forget.front().is_some_and(|(at, _)| *at <= now) {
            self.forget_one();
        }
        let mut landings = Vec::new();
        while let Some(&(deadline, number)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            landings.extend(self.give_up(number, now, &may_be_late));
        }
        landings
    }

    /// Ends all flights, because the line is down. What the kernel has no bytes of was not sent;
    /// the rest is unknown.
    pub fn line_down(&mut self, now: Millis, may_be_late: impl Fn(T) -> bool) -> Vec<Landing<T>> {
        let numbers: Vec<_> = self.flying.keys().copied().collect();
        let each = numbers.into_iter().filter_map(|number| {
            if self.flying.get(&number)?.is_written {
                return self.give_up(number, now, &may_be_late);
            }
            let what = self.end(number)?.what;
            Some(Landing { what, outcome: Outcome::Refused(Refusal::Unavailable) })
        });
        each.collect()
    }

    /// Forgets what was acknowledged before each of these messages was sent, because sequences have
    /// begun again.
    pub fn begin_epoch(&mut self, is_concerned: impl Fn(T) -> bool) {
        for flight in self.flying.values_mut().filter(|flight| is_concerned(flight.what)) {
            flight.acked = 0;
        }
    }

    /// Returns when [`Flights::tick`] has something to do; `None` if nothing flies.
    pub fn due(&self) -> Option<Millis> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn give_up(
        &mut self,
        number: u64,
        now: Millis,
        may_be_late: impl Fn(T) -> bool,
    ) -> Option<Landing<T>> {
        let what = self.end(number)?.what;
        if may_be_late(what) {
            if self.forget.len() >= LIMBO_MAX {
                self.forget_one();
            }
            self.limbo.insert(number, what);
            self.forget.push_back((now + LIMBO_MS, number));
        }
        Some(Landing { what, outcome: Outcome::Unknown })
    }

    fn forget_one(&mut self) {
        if let Some((_, number)) = self.forget.pop_front() {
            self.limbo.remove(&number);
        }
    }

    fn end(&mut self, number: u64) -> Option<Flight<T>> {
        let flight = self.flying.remove(&number)?;
        self.deadlines.remove(&(flight.deadline, number));
        self.bytes -= flight.bytes;
        Some(flight)
    }
}

impl<T: Copy> Default for Flights<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn departure(what: u64, bytes: usize) -> Departure<u64> {
        Departure { what, bytes, patience: 100, acked: 0, is_urgent: false }
    }

    fn stored(seq: Seq) -> Ack {
        Ack::Stored { seq, duplicate: false }
    }

    fn outcome(landing: Option<Landing<u64>>) -> Option<Outcome> {
        landing.map(|landing| landing.outcome)
    }

    #[test]
    fn places_and_bytes_are_bounded_and_some_are_kept_back() {
        let mut flights = Flights::new();
        let half = departure(0, FLIGHT_BYTES_MAX / 2 + 1);
        let first = flights.depart(half, 0).unwrap();
        assert_eq!(flights.depart(half, 0), None);
        assert!(flights.depart(Departure { is_urgent: true, ..half }, 0).is_some());
        flights.answered(first, &stored(1));
        assert_eq!(flights.under_way(), (1, half.bytes), "the answer gave the bytes back");
        for _ in 1..FLIGHTS_MAX - FLIGHTS_KEPT_BACK {
            assert!(flights.depart(departure(0, 1), 0).is_some());
        }
        assert_eq!(flights.depart(departure(0, 1), 0), None);
        for _ in 0..FLIGHTS_KEPT_BACK {
            assert!(flights.depart(Departure { is_urgent: true, ..departure(0, 1) }, 0).is_some());
        }
        assert_eq!(flights.depart(Departure { is_urgent: true, ..departure(0, 1) }, 0), None);
    }

    #[test]
    fn an_answer_that_runs_back_is_told() {
        let mut flights = Flights::new();
        let sent = |flights: &mut Flights<u64>, acked| {
            flights.depart(Departure { acked, ..departure(0, 1) }, 0).unwrap()
        };
        let runs_back = |landing| match outcome(landing) {
            Some(Outcome::Stored { runs_back, .. }) => runs_back,
            other => panic!("{other:?}"),
        };
        let number = sent(&mut flights, 10);
        assert!(!runs_back(flights.answered(number, &stored(11))));
        let number = sent(&mut flights, 10);
        assert!(runs_back(flights.answered(number, &stored(10))), "10 was given to another");
        let number = sent(&mut flights, 10);
        let duplicate = Ack::Stored { seq: 4, duplicate: true };
        assert!(!runs_back(flights.answered(number, &duplicate)));
        // Acknowledged after a later one, which is no fault: it was sent before.
        let number = sent(&mut flights, 10);
        assert!(!runs_back(flights.answered(number, &stored(12))));
    }

    #[test]
    fn what_was_not_written_was_not_sent() {
        let mut flights = Flights::new();
        let numbers = [1, 2, 3].map(|what| flights.depart(departure(what, 1), 0).unwrap());
        flights.written(numbers[1]);
        let landings = flights.line_down(0, |_| true);
        let refused = Outcome::Refused(Refusal::Unavailable);
        let outcomes: Vec<_> = landings.iter().map(|landing| landing.outcome).collect();
        assert_eq!(outcomes, [Outcome::Unknown, Outcome::Unknown, refused]);
        assert_eq!(outcome(flights.answered(numbers[0], &stored(5))), Some(Outcome::Late(5)));
        assert_eq!(flights.answered(numbers[0], &stored(5)), None);
        assert_eq!(flights.answered(numbers[2], &stored(5)), None);
    }

    #[test]
    fn late_answers_are_recognized_for_a_while_and_up_to_a_bound() {
        let mut flights = Flights::new();
        let first = flights.depart(departure(1, 1), 0).unwrap();
        assert_eq!(flights.tick(99, |_| true), []);
        assert_eq!(flights.tick(100, |_| true).len(), 1);
        flights.tick(100 + LIMBO_MS - 1, |_| true);
        assert_eq!(outcome(flights.answered(first, &stored(3))), Some(Outcome::Late(3)));
        let second = flights.depart(departure(2, 1), 0).unwrap();
        flights.tick(100, |_| true);
        flights.tick(100 + LIMBO_MS, |_| true);
        assert_eq!(flights.answered(second, &stored(3)), None);
        let third = flights.depart(departure(3, 1), 0).unwrap();
        flights.tick(100, |_| true);
        for _ in 0..LIMBO_MAX {
            flights.depart(departure(4, 1), 0).unwrap();
            flights.tick(100, |_| true);
        }
        assert_eq!(flights.answered(third, &stored(3)), None, "the oldest was forgotten");
        let fourth = flights.depart(departure(3, 1), 0).unwrap();
        flights.tick(100, |_| false);
        assert_eq!(flights.answered(fourth, &stored(3)), None, "not one that may be late");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Depart(usize),
        Answer(u64, bool),
        Written(u64),
        Tick(Millis),
        LineDown,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..100_usize).prop_map(Step::Depart),
            4 => (1..40_u64, any::<bool>()).prop_map(|(number, is)| Step::Answer(number, is)),
            1 => (1..40_u64).prop_map(Step::Written),
            2 => (0..80_u64).prop_map(Step::Tick),
            1 => Just(Step::LineDown),
        ];
        proptest::collection::vec(step, 0..120)
    }

    proptest! {
        #[test]
        fn a_flight_ends_exactly_once(steps in steps()) {
            let mut flights = Flights::new();
            let (mut now, mut count) = (0, 0);
            let mut ends: BTreeMap<u64, Vec<Outcome>> = BTreeMap::new();
            for step in steps.iter().chain([&Step::LineDown]) {
                let landings = match *step {
                    Step::Depart(bytes) => {
                        count += 1;
                        prop_assert_eq!(flights.depart(departure(count, bytes), now), Some(count));
                        vec![]
                    }
                    Step::Answer(number, is_stored) => {
                        let refused = Ack::Refused(Refusal::Overloaded);
                        let ack = if is_stored { stored(number) } else { refused };
                        flights.answered(number, &ack).into_iter().collect()
                    }
                    Step::Written(number) => {
                        flights.written(number);
                        vec![]
                    }
                    Step::Tick(by) => {
                        now += by;
                        flights.tick(now, |_| true)
                    }
                    Step::LineDown => flights.line_down(now, |_| true),
                };
                for landing in landings {
                    ends.entry(landing.what).or_default().push(landing.outcome);
                }
            }
            prop_assert_eq!(flights.under_way(), (0, 0));
            prop_assert_eq!(flights.due(), None);
            prop_assert_eq!(ends.len() as u64, count);
            for outcomes in ends.values() {
                match outcomes[..] {
                    [Outcome::Stored { .. } | Outcome::Refused(_) | Outcome::Unknown] => {}
                    [Outcome::Unknown, Outcome::Late(_)] => {}
                    _ => prop_assert!(false, "{outcomes:?}"),
                }
            }
        }
    }
}
