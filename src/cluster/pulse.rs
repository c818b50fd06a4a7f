//! Heartbeats: whether a node hears its own, whom else it hears, and how far its clock is off.

use std::collections::{BTreeMap, VecDeque};

use super::limits::{BEAT_MS, BEATS_REMEMBERED, DEAD_MS, DEAF_MS, NODES_MAX, OFFSETS, SUSPECT_MS};
use super::name::{Incarnation, NodeName};
use super::wire::{Beat, Origin};
use crate::message::Millis;

/// The heartbeats of a node and of its peers.
#[derive(Debug)]
pub struct Pulse {
    me: Origin,
    /// The revision of the node's own entry in the register.
    registered: u64,
    next: u64,
    due: Millis,
    /// Own heartbeats under way, with the time at which each was sent.
    sent: VecDeque<(u64, Millis)>,
    /// When the last own heartbeat was acknowledged, and when the last one came back; `None` while
    /// the line is down.
    line: Option<Line>,
    /// When the stream last acknowledged a heartbeat, and when one last came back, on any line.
    answered: [Option<Millis>; 2],
    /// When another node of the same name, which was registered later, was last heard.
    displaced: Option<Millis>,
    peers: BTreeMap<NodeName, Peer>,
    /// Whether there are more nodes than are kept apart.
    is_crowded: bool,
    /// The latest measurements of the clock's offset, in milliseconds.
    offsets: VecDeque<i64>,
    /// How long the latest heartbeat took until it was acknowledged, and until it came back.
    took: (Option<Millis>, Option<Millis>),
}

#[derive(Clone, Copy, Debug)]
struct Line {
    acked: Millis,
    echoed: Millis,
    /// Which sides were told to be deaf.
    is_deaf: [bool; 2],
    /// Which sides have answered since the line is up.
    has_answered: [bool; 2],
}

/// What a node knows of another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The start of the node that was heard last.
    pub incarnation: Incarnation,
    /// When it was heard last.
    pub heard: Millis,
    /// Whether it has been silent for [`SUSPECT_MS`].
    pub is_suspect: bool,
    /// What its last heartbeat said.
    pub beat: Beat,
}

/// The side of the line that is deaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The stream does not acknowledge the node's heartbeats.
    Publishing,
    /// The node's heartbeats do not come back.
    Reading,
}

impl Side {
    fn place(self) -> usize {
        match self {
            Self::Publishing => 0,
            Self::Reading => 1,
        }
    }
}

/// What heartbeats say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// An own heartbeat has come back. This is its number.
    Echo(u64),
    /// A side of the line has been silent for [`DEAF_MS`].
    Deaf(Side),
    /// Another node of the same name was registered later. This one must not act any more.
    Displaced(Incarnation),
    /// The other node of the same name has been silent for [`DEAD_MS`]: this one may register
    /// again, under a new incarnation.
    Free,
    /// A node is heard for the first time, again, or under another incarnation.
    Up(NodeName),
    /// A node has been silent for [`SUSPECT_MS`].
    Suspect(NodeName),
    /// A node has been silent for [`DEAD_MS`] and is forgotten. Its claims are to be ended.
    Dead(NodeName),
}

impl Pulse {
    /// Creates the pulse of a node whose entry in the register has this revision.
    pub fn new(me: Origin, registered: u64) -> Self {
        Self {
            me,
            registered,
            next: 1,
            due: 0,
            sent: VecDeque::new(),
            line: None,
            answered: [None; 2],
            displaced: None,
            peers: BTreeMap::new(),
            is_crowded: false,
            offsets: VecDeque::new(),
            took: (None, None),
        }
    }

    /// Begins to beat, because the line is up. Other nodes get the time until they are suspect
    /// anew, because this node did not listen.
    pub fn line_up(&mut self, now: Millis) {
        let (is_deaf, has_answered) = ([false; 2], [false; 2]);
        self.line = Some(Line { acked: now, echoed: now, is_deaf, has_answered });
        self.due = now;
        self.sent.clear();
        for peer in self.peers.values_mut() {
            peer.heard = now;
        }
    }

    /// Stops beating, because the line is down.
    pub fn line_down(&mut self) {
        self.line = None;
    }

    /// Returns whether a heartbeat is due.
    pub fn is_due(&self, now: Millis) -> bool {
        self.line.is_some() && self.displaced.is_none() && self.due <= now
    }

    /// Returns the number and the revision for a heartbeat that is sent now.
    pub fn beat(&mut self, now: Millis) -> (u64, u64) {
        let number = self.next;
        self.next += 1;
        self.due = now + BEAT_MS;
        if self.sent.len() >= BEATS_REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((number, now));
        (number, self.registered)
    }

    /// Returns the number that the next heartbeat will have.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Notes that the stream has acknowledged a heartbeat.
    pub fn acked(&mut self, now: Millis) {
        if let Some((_, sent)) = self.sent.back() {
            self.took.0 = Some(now.saturating_sub(*sent));
        }
        if let Some(line) = &mut self.line {
            line.acked = now;
            line.is_deaf[0] = false;
            line.has_answered[0] = true;
            self.answered[0] = Some(now);
        }
    }

    /// Takes a heartbeat that came live. `stored` is the time of the stream's clock at which it was
    /// stored, and `wall` that of this node's wall clock now, in milliseconds since the epoch.
    pub fn heard(
        &mut self,
        from: &Origin,
        beat: Beat,
        stored: Millis,
        clocks: (Millis, Millis),
    ) -> Option<Told> {
        let (now, wall) = clocks;
        self.line.as_ref()?;
        if from == &self.me {
            return Some(self.echo(beat.number, stored, now, wall));
        }
        if from.node == self.me.node {
            // The one that was registered earlier must yield.
            if beat.registered <= self.registered {
                return None;
            }
            let is_new = self.displaced.replace(now).is_none();
            return is_new.then_some(Told::Displaced(from.incarnation));
        }
        let Origin { node, incarnation } = from.clone();
        let known = self.peers.get(&node);
        if known.is_none() && self.peers.len() >= NODES_MAX {
            self.is_crowded = true;
            return None;
        }
        let is_other = known.is_some_and(|peer| peer.incarnation != incarnation);
        if is_other && known.is_some_and(|peer| peer.beat.registered > beat.registered) {
            return None;
        }
        let is_up = is_other || known.is_none_or(|peer| peer.is_suspect);
        let peer = Peer { incarnation, heard: now, is_suspect: false, beat };
        self.peers.insert(node.clone(), peer);
        is_up.then_some(Told::Up(node))
    }

    fn echo(&mut self, number: u64, stored: Millis, now: Millis, wall: Millis) -> Told {
        if let Some(line) = &mut self.line {
            line.echoed = now;
            line.is_deaf[1] = false;
            line.has_answered[1] = true;
            self.answered[1] = Some(now);
        }
        while let Some((one, at)) = self.sent.front().copied().filter(|(one, _)| *one <= number) {
            self.sent.pop_front();
            if one == number {
                self.took.1 = Some(now.saturating_sub(at));
                let middle = wall.saturating_sub(now.saturating_sub(at) / 2);
                if self.offsets.len() >= OFFSETS {
                    self.offsets.pop_front();
                }
                self.offsets.push_back(stored.cast_signed().wrapping_sub(middle.cast_signed()));
            }
        }
        Told::Echo(number)
    }

    /// Looks for silence.
    pub fn tick(&mut self, now: Millis) -> Vec<Told> {
        let mut told = Vec::new();
        let Some(line) = &mut self.line else { return told };
        if let Some(at) = self.displaced {
            if at + DEAD_MS <= now {
                self.displaced = Some(now);
                told.push(Told::Free);
            }
            return told;
        }
        for (side, since) in [(Side::Publishing, line.acked), (Side::Reading, line.echoed)] {
            let place = side.place();
            if since + DEAF_MS <= now && !line.is_deaf[place] {
                line.is_deaf[place] = true;
                told.push(Told::Deaf(side));
            }
        }
        // A node that does not hear itself does not judge others.
        if line.echoed + DEAF_MS <= now {
            return told;
        }
        for (node, peer) in &mut self.peers {
            if !peer.is_suspect && peer.heard + SUSPECT_MS <= now {
                peer.is_suspect = true;
                told.push(Told::Suspect(node.clone()));
            }
        }
        let is_dead = |peer: &Peer| peer.heard + DEAD_MS <= now;
        let dead: Vec<_> = self.peers.extract_if(.., |_, peer| is_dead(peer)).collect();
        told.extend(dead.into_iter().map(|(node, _)| Told::Dead(node)));
        told
    }

    /// Returns when the next heartbeat is due or [`Pulse::tick`] may find a silence; `None` while
    /// the line is down.
    pub fn due(&self) -> Option<Millis> {
        let line = self.line?;
        if let Some(at) = self.displaced {
            return Some(at + DEAD_MS);
        }
        let sides = [(line.acked, line.is_deaf[0]), (line.echoed, line.is_deaf[1])];
        let deaf = sides.into_iter().filter(|(_, is_deaf)| !is_deaf);
        Some(deaf.map(|(since, _)| since + DEAF_MS).fold(self.due, Millis::min))
    }

    /// Returns whether this side of the line is silent: it was told to be deaf, or has not answered
    /// since the line is up. A line that comes up proves nothing: its server may be cut off from
    /// the stream.
    pub fn is_silent(&self, side: Side) -> bool {
        let place = side.place();
        self.line.is_none_or(|line| line.is_deaf[place] || !line.has_answered[place])
    }

    /// Returns when this side last answered, on this line or an earlier one; `None` if it never
    /// has.
    pub fn answered(&self, side: Side) -> Option<Millis> {
        self.answered[side.place()]
    }

    /// Returns how long ago the node's own heartbeat came back, also while the line is down; `None`
    /// if none has come back yet.
    pub fn silence(&self, now: Millis) -> Option<Millis> {
        self.answered[1].map(|at| now.saturating_sub(at))
    }

    /// Returns how long the latest heartbeat took until it was acknowledged, and until it came
    /// back.
    pub fn took(&self) -> (Option<Millis>, Option<Millis>) {
        self.took
    }

    /// Returns the number of other nodes that are not suspect; 0 while this node hears nothing.
    pub fn living(&self) -> usize {
        if self.is_silent(Side::Reading) {
            return 0;
        }
        self.peers.values().filter(|peer| !peer.is_suspect).count()
    }

    /// Returns whether another node of the same name was registered later.
    pub fn is_displaced(&self) -> bool {
        self.displaced.is_some()
    }

    /// Returns whether there were more nodes than are kept apart.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// Returns the other nodes that are not dead, in the order of their names.
    pub fn peers(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.peers.iter()
    }

    /// Returns whether this start of a node is heard: the node itself, or one that is not suspect.
    pub fn is_living(&self, origin: &Origin) -> bool {
        let peer = self.peers.get(&origin.node);
        let is_heard =
            peer.is_some_and(|peer| peer.incarnation == origin.incarnation && !peer.is_suspect);
        origin == &self.me || is_heard
    }

    /// Returns whether this node is the first by name of those that are heard. It does what one
    /// node must do for all.
    pub fn is_first(&self) -> bool {
        self.peers.iter().all(|(node, peer)| peer.is_suspect || self.me.node < *node)
    }

    /// Returns what must be added to the node's wall clock to get the stream's, in milliseconds.
    /// It is the median of the latest measurements, and 0 before the first.
    pub fn clock_offset(&self) -> i64 {
        let mut sorted: Vec<_> = self.offsets.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(node: &str, incarnation: u64) -> Origin {
        let node = NodeName::read(node).unwrap();
        Origin { node, incarnation: Incarnation(incarnation) }
    }

    fn name(node: &str) -> NodeName {
        NodeName::read(node).unwrap()
    }

    fn fresh() -> Pulse {
        let mut pulse = Pulse::new(origin("n5", 1), 10);
        pulse.line_up(0);
        pulse
    }

    fn hear(pulse: &mut Pulse, from: &Origin, registered: u64, now: Millis) -> Option<Told> {
        let beat = Beat { number: 1, registered, ..Beat::default() };
        pulse.heard(from, beat, 0, (now, 0))
    }

    /// Lets the node's own heartbeats come back until `until`, each at once.
    fn live(pulse: &mut Pulse, from: Millis, until: Millis) -> Vec<Told> {
        let me = pulse.me.clone();
        let mut told = Vec::new();
        for now in (from..=until).step_by(100) {
            if pulse.is_due(now) {
                let (number, _) = pulse.beat(now);
                pulse.acked(now);
                pulse.heard(&me, Beat { number, ..Beat::default() }, 0, (now, 0));
            }
            told.extend(pulse.tick(now));
        }
        told
    }

    #[test]
    fn a_heartbeat_is_due_twice_a_second_while_the_line_is_up() {
        let mut pulse = fresh();
        assert!(pulse.is_due(0));
        assert_eq!(pulse.beat(0), (1, 10));
        assert!(!pulse.is_due(BEAT_MS - 1) && pulse.is_due(BEAT_MS));
        pulse.line_down();
        assert!(!pulse.is_due(BEAT_MS));
        assert_eq!(pulse.due(), None);
    }

    #[test]
    fn a_node_that_hears_nothing_counts_no_other_node() {
        let mut pulse = fresh();
        hear(&mut pulse, &origin("n1", 7), 3, 0);
        assert_eq!(pulse.living(), 0, "nothing proves that the line is heard");
        live(&mut pulse, 0, 1_000);
        assert_eq!(pulse.living(), 1);
        for now in (1_000..1_000 + 2 * DEAF_MS).step_by(100) {
            pulse.tick(now);
        }
        assert_eq!(pulse.living(), 0);
        pulse.line_up(9_000);
        assert_eq!(pulse.living(), 0);
        live(&mut pulse, 9_000, 9_500);
        assert_eq!(pulse.living(), 1, "it has its time until it is suspect");
    }

    #[test]
    fn a_silence_is_looked_for_when_it_has_lasted_too_long() {
        let mut pulse = fresh();
        for now in (0..).step_by(usize::try_from(BEAT_MS).unwrap()).take(6) {
            pulse.beat(now);
        }
        assert_eq!(pulse.due(), Some(DEAF_MS), "before the next heartbeat");
        pulse.acked(100);
        pulse.tick(DEAF_MS);
        assert_eq!(pulse.due(), Some(100 + DEAF_MS));
        pulse.tick(100 + DEAF_MS);
        assert_eq!(pulse.due(), Some(6 * BEAT_MS), "each is told once");
        hear(&mut pulse, &origin("n5", 2), 11, 5_000);
        assert_eq!(pulse.due(), Some(5_000 + DEAD_MS), "the other one may be gone by then");
    }

    #[test]
    fn each_side_is_deaf_by_itself() {
        let mut pulse = fresh();
        let me = pulse.me.clone();
        let (number, _) = pulse.beat(0);
        pulse.acked(1_000);
        assert_eq!(pulse.tick(DEAF_MS - 1), []);
        assert_eq!(pulse.tick(DEAF_MS), [Told::Deaf(Side::Reading)]);
        assert_eq!(pulse.tick(DEAF_MS + 1), [], "told once");
        let told = pulse.heard(&me, Beat { number, ..Beat::default() }, 0, (2_500, 0));
        assert_eq!(told, Some(Told::Echo(number)));
        assert!(!pulse.is_silent(Side::Reading));
        assert_eq!(pulse.tick(3_000), [Told::Deaf(Side::Publishing)]);
        assert!(pulse.is_silent(Side::Publishing));
        assert_eq!(pulse.answered(Side::Publishing), Some(1_000));
    }

    #[test]
    fn a_line_that_comes_up_is_silent_until_it_answers() {
        let mut pulse = fresh();
        let sides = [Side::Publishing, Side::Reading];
        let silent = |pulse: &Pulse| sides.map(|side| pulse.is_silent(side));
        live(&mut pulse, 0, 100);
        assert_eq!(silent(&pulse), [false, false]);
        pulse.line_down();
        assert_eq!(silent(&pulse), [true, true]);
        pulse.line_up(5_000);
        assert_eq!(silent(&pulse), [true, true]);
        assert_eq!(sides.map(|side| pulse.answered(side)), [Some(0), Some(0)]);
        pulse.acked(5_001);
        assert_eq!(silent(&pulse), [false, true]);
        live(&mut pulse, 5_100, 5_200);
        assert_eq!(silent(&pulse), [false, false]);
    }

    #[test]
    fn a_silent_node_is_suspect_then_dead() {
        let mut pulse = fresh();
        assert_eq!(hear(&mut pulse, &origin("n1", 7), 1, 0), Some(Told::Up(name("n1"))));
        assert!(pulse.is_living(&origin("n1", 7)) && !pulse.is_living(&origin("n1", 8)));
        assert!(!pulse.is_first());
        assert_eq!(live(&mut pulse, 0, SUSPECT_MS), [Told::Suspect(name("n1"))]);
        assert!(!pulse.is_living(&origin("n1", 7)) && pulse.is_first());
        assert_eq!(hear(&mut pulse, &origin("n1", 7), 1, 3_100), Some(Told::Up(name("n1"))));
        assert_eq!(hear(&mut pulse, &origin("n1", 7), 1, 3_200), None);
        let told = live(&mut pulse, 3_200, 3_200 + DEAD_MS);
        assert_eq!(told, [Told::Suspect(name("n1")), Told::Dead(name("n1"))]);
        assert_eq!(pulse.peers().count(), 0);
    }

    #[test]
    fn a_node_that_does_not_hear_itself_does_not_judge_others() {
        let mut pulse = fresh();
        hear(&mut pulse, &origin("n1", 7), 1, 0);
        pulse.acked(DEAD_MS);
        let told = pulse.tick(DEAD_MS + 1);
        assert_eq!(told, [Told::Deaf(Side::Reading)]);
        pulse.line_down();
        assert_eq!(pulse.tick(DEAD_MS * 2), []);
        pulse.line_up(DEAD_MS * 2);
        assert_eq!(pulse.tick(DEAD_MS * 2), [], "others get their time anew");
    }

    #[test]
    fn of_two_nodes_with_one_name_the_later_goes_on() {
        let mut pulse = fresh();
        assert_eq!(hear(&mut pulse, &origin("n5", 2), 9, 0), None, "the other one must yield");
        assert!(!pulse.is_displaced());
        let told = hear(&mut pulse, &origin("n5", 3), 11, 0);
        assert_eq!(told, Some(Told::Displaced(Incarnation(3))));
        assert!(!pulse.is_due(BEAT_MS), "its heartbeats would confuse the others");
        assert_eq!(hear(&mut pulse, &origin("n5", 3), 11, 5_000), None);
        assert_eq!(pulse.tick(DEAD_MS), []);
        assert_eq!(pulse.tick(5_000 + DEAD_MS), [Told::Free]);
        // Of two others the later one counts as well.
        let mut pulse = fresh();
        hear(&mut pulse, &origin("n1", 2), 4, 0);
        assert_eq!(hear(&mut pulse, &origin("n1", 1), 3, 0), None);
        assert!(pulse.is_living(&origin("n1", 2)));
        assert_eq!(hear(&mut pulse, &origin("n1", 3), 5, 0), Some(Told::Up(name("n1"))));
        assert!(!pulse.is_living(&origin("n1", 2)));
    }

    #[test]
    fn nodes_beyond_the_bound_are_not_noted() {
        let mut pulse = fresh();
        for number in 0..NODES_MAX {
            assert!(hear(&mut pulse, &origin(&format!("m{number}"), 1), 1, 0).is_some());
        }
        assert!(!pulse.is_crowded());
        assert_eq!(hear(&mut pulse, &origin("n1", 1), 1, 0), None);
        assert!(pulse.is_crowded());
        assert_eq!(pulse.peers().count(), NODES_MAX);
    }

    #[test]
    fn the_clock_s_offset_is_a_median() {
        let mut pulse = fresh();
        let me = pulse.me.clone();
        assert_eq!(pulse.clock_offset(), 0);
        // The stream's clock is 5 s ahead, and each way takes 10 ms. Some echoes are late.
        for turn in 0..40 {
            let sent = turn * BEAT_MS;
            let (number, _) = pulse.beat(sent);
            let late = if turn % 3 == 0 { 400 } else { 0 };
            let (stored, now) = (1_005_000 + sent + 10, sent + 20 + late);
            let beat = Beat { number, ..Beat::default() };
            pulse.heard(&me, beat, stored, (now, 1_000_000 + now));
        }
        assert_eq!(pulse.clock_offset(), 5_000);
        // A heartbeat that is not its own measures nothing.
        for _ in 0..40 {
            pulse.heard(&me, Beat { number: 999, ..Beat::default() }, 0, (0, 0));
        }
        assert_eq!(pulse.clock_offset(), 5_000);
    }
}
