//! What a node may have missed on all its channels: while its line was down, or while the stream
//! changed its leader.
//!
//! A heartbeat that comes back proves that everything before it in the stream has come, as far as
//! the node was subscribed on the servers of the leader of that time. So a hole reaches from the
//! last echo before the event to the first echo of a heartbeat that was sent after it.

use std::collections::VecDeque;

use super::chain::Missing;
use super::limits::{
    BEAT_MS, HOLE_BATCH_MAX, HOLE_MESSAGES_MAX, HOLE_MS_MAX, HOLE_STEP_MS, LEADER_NOTICE_MS,
};
use super::name::Seq;
use crate::message::Millis;

/// The hole of a node's line.
#[derive(Debug, Default)]
pub struct Hole {
    state: State,
    /// The sequence of the last own heartbeat that came back; 0 before the first.
    echo: Seq,
    /// Echoes of the time in which a change of the leader may not have been noticed yet, one for
    /// each [`BEAT_MS`], and the last one before that time.
    echoes: VecDeque<(Millis, Seq)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// No heartbeat has come back yet, so that nothing can be missing.
    #[default]
    New,
    Whole,
    /// Something may be missing behind `after`. The hole ends at the echo of a heartbeat with this
    /// number or a later one; `None` while the line is down.
    Open {
        after: Seq,
        beat: Option<u64>,
    },
    Filling(Filling),
    /// The stream has begun a new epoch. Everything up to the echo of a heartbeat with this number,
    /// or a later one, is told as a gap; `None` while the line is down.
    Renewing(Option<u64>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Filling {
    /// What is read already.
    after: Seq,
    up_to: Seq,
    /// When the present step is asked for again.
    step: Millis,
    /// When the hole is given up.
    end: Millis,
    /// Whether the hole is too long to be read message by message.
    is_survey: bool,
}

/// What a hole asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Read the stream's messages behind this place, the first ones up to this number.
    Read(Seq, usize),
    /// Ask for the latest messages of the channels that were not asked for yet.
    Survey,
    /// All channels must be told that they may have lost something.
    Lost(Missing),
    /// Nothing is missing any more, but for channels with reads of their own.
    Whole,
    /// All channels begin again at this place and must be told that they have lost something.
    Begin(Seq),
}

impl Hole {
    /// Returns the place up to which the node has received everything that it was subscribed to; 0
    /// if something may be missing.
    pub fn whole(&self) -> Seq {
        if self.state == State::Whole { self.echo } else { 0 }
    }

    /// Returns whether something may be missing.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. } | State::Filling(_) | State::Renewing(_))
    }

    /// Returns whether the hole is being read message by message.
    pub fn is_filling(&self) -> bool {
        matches!(self.state, State::Filling(Filling { is_survey: false, .. }))
    }

    /// Returns whether the latest messages of channels are being asked for.
    pub fn is_survey(&self) -> bool {
        matches!(self.state, State::Filling(Filling { is_survey: true, .. }))
    }

    /// Begins a hole, because the line is down.
    pub fn line_down(&mut self) {
        self.open(None, self.echo);
    }

    /// Begins a hole, or makes it longer: it ends at the echo of a heartbeat with this number or a
    /// later one, because the node has just subscribed anew.
    pub fn opened(&mut self, beat: u64) {
        self.open(Some(beat), self.echo);
    }

    /// Begins a hole, or makes it longer, because the stream has changed its leader at some time
    /// since [`LEADER_NOTICE_MS`]. It ends at the echo of a heartbeat with this number or a later
    /// one, unless the line is down.
    pub fn leader_changed(&mut self, beat: u64, now: Millis) {
        let is_before = |(at, _): &&(Millis, Seq)| *at + LEADER_NOTICE_MS <= now;
        let before = self.echoes.iter().rev().find(is_before).or(self.echoes.front());
        let after = before.map_or(self.echo, |(_, seq)| *seq);
        let is_down = matches!(self.state, State::Open { beat: None, .. } | State::Renewing(None));
        self.open((!is_down).then_some(beat), after);
    }

    fn open(&mut self, beat: Option<u64>, from: Seq) {
        let after = match self.state {
            State::New => return,
            State::Renewing(_) => {
                self.state = State::Renewing(beat);
                return;
            }
            State::Whole => from,
            State::Open { after, .. } => after.min(from),
            State::Filling(filling) => filling.after.min(from),
        };
        self.state = State::Open { after, beat };
    }

    /// Forgets the hole, because a new epoch began: everything up to the echo of the next
    /// heartbeat, which has this number, is told as a gap. What was heard before has sequences of
    /// the old epoch or of the new one, and nothing tells which.
    pub fn reset(&mut self, beat: u64) {
        self.echoes.clear();
        let is_down = matches!(self.state, State::Open { beat: None, .. } | State::Renewing(None));
        self.state = State::Renewing((!is_down).then_some(beat));
    }

    /// Takes the echo of a heartbeat with its number and its sequence.
    pub fn echo(&mut self, number: u64, seq: Seq, now: Millis) -> Option<Wish> {
        let before = self.state;
        self.remember(seq, now);
        match before {
            State::New => self.state = State::Whole,
            State::Renewing(Some(beat)) if beat <= number => {
                (self.state, self.echo) = (State::Whole, seq);
                return Some(Wish::Begin(seq));
            }
            State::Renewing(_) => return None,
            State::Open { after, beat: Some(beat) } if beat <= number => {
                self.echo = seq;
                if seq <= after + 1 {
                    self.state = State::Whole;
                    return Some(Wish::Whole);
                }
                let is_survey = seq - after > HOLE_MESSAGES_MAX;
                let end = now + HOLE_MS_MAX;
                let filling = Filling { after, up_to: seq, step: now, end, is_survey };
                self.state = State::Filling(filling);
                return self.step(now);
            }
            State::Open { .. } => return None,
            State::Whole | State::Filling(_) => {}
        }
        self.echo = self.echo.max(seq);
        None
    }

    /// Remembers an echo for the case that the leader has changed.
    fn remember(&mut self, seq: Seq, now: Millis) {
        if self.echoes.back().is_none_or(|(at, _)| at + BEAT_MS <= now) {
            self.echoes.push_back((now, seq));
        }
        // The one before the time stays.
        while self.echoes.get(1).is_some_and(|(at, _)| at + LEADER_NOTICE_MS <= now) {
            self.echoes.pop_front();
        }
    }

    /// Takes the sequences of the messages of a read, in order. Returns what is lost between them,
    /// and what to do next.
    pub fn read(&mut self, seqs: impl IntoIterator<Item = Seq>, now: Millis) -> Vec<Wish> {
        let State::Filling(filling) = &mut self.state else { return Vec::new() };
        let mut wishes = Vec::new();
        let begin = filling.after;
        for seq in seqs {
            if filling.is_survey || seq <= filling.after || filling.after >= filling.up_to {
                continue;
            }
            // The stream has every sequence: what is not there any more has expired.
            if seq > filling.after + 1 {
                let before = seq.min(filling.up_to + 1);
                wishes.push(Wish::Lost(Missing { after: filling.after, before }));
            }
            filling.after = seq;
        }
        if filling.after == begin {
            return wishes;
        }
        filling.end = now + HOLE_MS_MAX;
        if filling.after >= filling.up_to {
            self.state = State::Whole;
            wishes.push(Wish::Whole);
        } else {
            wishes.extend(self.step(now));
        }
        wishes
    }

    /// Notes that one question for the latest messages was answered, and whether that was the last
    /// one. Returns what to do next.
    pub fn surveyed(&mut self, is_last: bool, now: Millis) -> Option<Wish> {
        let State::Filling(filling) = &mut self.state else { return None };
        filling.end = now + HOLE_MS_MAX;
        if !is_last {
            return self.step(now);
        }
        self.state = State::Whole;
        Some(Wish::Whole)
    }

    /// Asks again for what was not answered, and gives up in the end.
    pub fn tick(&mut self, now: Millis) -> Vec<Wish> {
        let State::Filling(filling) = self.state else { return Vec::new() };
        if filling.end <= now {
            self.state = State::Whole;
            let missing = Missing { after: filling.after, before: filling.up_to + 1 };
            return vec![Wish::Lost(missing), Wish::Whole];
        }
        if filling.step <= now { self.step(now).into_iter().collect() } else { Vec::new() }
    }

    /// Returns when [`Hole::tick`] has something to do; `None` if nothing is asked for.
    pub fn due(&self) -> Option<Millis> {
        match self.state {
            State::Filling(filling) => Some(filling.step.min(filling.end)),
            _ => None,
        }
    }

    fn step(&mut self, now: Millis) -> Option<Wish> {
        let State::Filling(filling) = &mut self.state else { return None };
        filling.step = now + HOLE_STEP_MS;
        if filling.is_survey {
            return Some(Wish::Survey);
        }
        let rest = usize::try_from(filling.up_to - filling.after).unwrap_or(usize::MAX);
        Some(Wish::Read(filling.after, rest.min(HOLE_BATCH_MAX)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole_at(seq: Seq) -> Hole {
        let mut hole = Hole::default();
        assert_eq!(hole.whole(), 0);
        assert_eq!(hole.echo(1, seq, 0), None);
        assert_eq!(hole.whole(), seq);
        hole
    }

    fn lost(after: Seq, before: Seq) -> Wish {
        Wish::Lost(Missing { after, before })
    }

    #[test]
    fn a_hole_begins_at_the_last_echo_and_ends_at_one_sent_later() {
        let mut hole = whole_at(100);
        hole.echo(2, 110, 0);
        hole.line_down();
        assert!(hole.is_open() && hole.whole() == 0);
        assert_eq!(hole.echo(3, 120, 0), None, "sent before the line was down");
        hole.opened(5);
        assert_eq!(hole.echo(4, 125, 0), None, "sent before the node subscribed again");
        assert_eq!(hole.echo(5, 130, 0), Some(Wish::Read(110, 20)));
        assert_eq!(hole.read(111..=120, 0), [Wish::Read(120, 10)]);
        hole.echo(6, 140, 0);
        assert_eq!(hole.whole(), 0);
        assert_eq!(hole.read(121..=130, 0), [Wish::Whole]);
        assert_eq!(hole.whole(), 140, "what came since the first echo came live");
    }

    #[test]
    fn what_has_expired_is_told_to_be_lost() {
        let mut hole = whole_at(100);
        hole.opened(2);
        hole.echo(2, 200, 0);
        assert_eq!(
            hole.read([150, 151, 160], 0),
            [lost(100, 150), lost(151, 160), Wish::Read(160, 40)]
        );
        assert_eq!(hole.read(300..310, 0), [lost(160, 201), Wish::Whole]);
    }

    #[test]
    fn a_hole_in_a_hole_is_read_from_where_the_first_read_came() {
        let mut hole = whole_at(100);
        hole.opened(2);
        hole.echo(2, 200, 0);
        hole.read(101..=120, 0);
        hole.line_down();
        assert_eq!(hole.read(121..=130, 0), [], "an answer that comes too late");
        hole.opened(9);
        assert_eq!(hole.echo(9, 300, 0), Some(Wish::Read(120, 180)));
    }

    #[test]
    fn a_read_without_progress_is_repeated_and_given_up() {
        let mut hole = whole_at(100);
        hole.opened(2);
        hole.echo(2, 200, 0);
        assert_eq!(hole.read([], 0), []);
        assert_eq!(hole.read([50, 100], 0), []);
        assert_eq!(hole.tick(HOLE_STEP_MS - 1), []);
        assert_eq!(hole.tick(HOLE_STEP_MS), [Wish::Read(100, 100)]);
        assert_eq!(hole.read(101..=150, 3_000), [Wish::Read(150, 50)]);
        assert_eq!(hole.tick(3_000 + HOLE_MS_MAX), [lost(150, 201), Wish::Whole]);
        assert_eq!((hole.due(), hole.whole()), (None, 200));
    }

    #[test]
    fn a_long_hole_is_surveyed() {
        let mut hole = whole_at(100);
        hole.opened(2);
        assert_eq!(hole.echo(2, 101 + HOLE_MESSAGES_MAX, 0), Some(Wish::Survey));
        assert!(hole.is_survey());
        assert_eq!(hole.surveyed(false, 0), Some(Wish::Survey));
        assert_eq!(hole.surveyed(true, 0), Some(Wish::Whole));
        assert!(!hole.is_open());
        let mut hole = whole_at(100);
        hole.opened(2);
        let read = Wish::Read(100, HOLE_BATCH_MAX);
        assert_eq!(hole.echo(2, 100 + HOLE_MESSAGES_MAX, 0), Some(read));
    }

    #[test]
    fn a_hole_reaches_back_to_before_a_change_of_the_leader_that_is_noticed_late() {
        let mut hole = Hole::default();
        for number in 1..=60 {
            hole.echo(number, number * 10, number * BEAT_MS);
        }
        let now = 60 * BEAT_MS;
        hole.leader_changed(61, now);
        let after = (60 - LEADER_NOTICE_MS / BEAT_MS) * 10;
        assert_eq!(hole.echo(61, 610, now), Some(Wish::Read(after, 610 - after as usize)));
        assert!(hole.echoes.len() as u64 <= LEADER_NOTICE_MS / BEAT_MS + 2);
        // The news comes while the line is down, or has just come up.
        let mut hole = Hole::default();
        hole.echo(1, 100, 0);
        hole.echo(2, 200, 1_000);
        hole.line_down();
        hole.leader_changed(3, 1_500);
        assert_eq!(hole.echo(3, 250, 1_600), None, "the node has not subscribed again");
        hole.opened(4);
        assert_eq!(hole.echo(4, 300, 2_000), Some(Wish::Read(100, 200)));
    }

    #[test]
    fn a_new_epoch_ends_a_hole_at_the_echo_of_the_next_heartbeat() {
        let mut hole = whole_at(100);
        hole.opened(2);
        hole.echo(2, 200, 0);
        hole.reset(4);
        assert!(hole.is_open() && !hole.is_filling());
        assert_eq!(hole.read(101..=200, 0), []);
        assert_eq!(hole.echo(3, 210, 0), None, "perhaps of the old epoch");
        assert_eq!(hole.echo(4, 20, 0), Some(Wish::Begin(20)));
        assert_eq!((hole.is_open(), hole.whole()), (false, 20), "sequences have begun again");
        hole.line_down();
        hole.reset(5);
        assert_eq!(hole.echo(5, 30, 0), None, "the line is down");
        hole.opened(7);
        assert_eq!(hole.echo(7, 40, 0), Some(Wish::Begin(40)));
    }

    proptest! {
        #[test]
        fn a_hole_is_read_forwards_and_ends_with_the_line_up(
            steps in proptest::collection::vec((0..6_u8, 1..40_u64), 0..80)
        ) {
            let mut hole = whole_at(10);
            let (mut next, mut beat, mut now, mut oldest) = (11, 2, 0, 1);
            let (mut is_up, mut covered, mut asked) = (true, 10, None);
            for (step, count) in steps {
                let wishes = match step {
                    // Messages are published: received only if the line is up.
                    0 => {
                        next += count;
                        vec![]
                    }
                    1 => {
                        hole.line_down();
                        is_up = false;
                        vec![]
                    }
                    2 => {
                        hole.opened(beat);
                        is_up = true;
                        vec![]
                    }
                    3 if is_up => {
                        next += 1;
                        beat += 1;
                        hole.echo(beat - 1, next - 1, now).into_iter().collect()
                    }
                    4 => match asked.take() {
                        Some(Wish::Read(after, most)) => {
                            let found = (oldest.max(after + 1)..next).take(most);
                            hole.read(found, now)
                        }
                        _ => hole.tick(now),
                    },
                    _ => {
                        now += count * 10;
                        oldest = next.min(oldest + count);
                        hole.tick(now)
                    }
                };
                for wish in wishes {
                    if let Wish::Lost(missing) = wish {
                        prop_assert!(missing.after < missing.before);
                    }
                    if let Wish::Read(after, most) = wish {
                        prop_assert!(after >= covered, "read again what was covered");
                        prop_assert!(most <= HOLE_BATCH_MAX && most > 0);
                        covered = after;
                        asked = Some(wish);
                    }
                }
                if hole.whole() > 0 {
                    prop_assert!(is_up, "whole without a line");
                    prop_assert!(hole.whole() >= covered);
                    covered = hole.whole();
                }
            }
        }
    }
}
