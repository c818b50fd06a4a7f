use proptest::prelude::*;

use super::super::ack::Refusal;
use super::*;

fn anchor(nonce: u128, number: u64) -> Anchor {
    Anchor { nonce, number }
}

fn settled(anchor: Anchor, seq: Seq) -> Epoch {
    let mut epoch = Epoch::default();
    assert_eq!(epoch.line_up(None, 0), Wish::Read);
    let wishes = epoch.read(Some((anchor, seq)), 0, 0);
    assert_eq!(wishes, [Wish::Known(anchor, seq), Wish::Remember(anchor)]);
    epoch
}

#[test]
fn a_stream_without_an_anchor_gets_one() {
    let mut epoch = Epoch::default();
    epoch.line_up(None, 0);
    assert_eq!(epoch.read(None, 7, 0), [Wish::Write(anchor(7, 1), 0)]);
    assert!(!epoch.is_settled(), "it is known when it has come back");
    let known = [Wish::Known(anchor(7, 1), 4), Wish::Remember(anchor(7, 1))];
    assert_eq!(epoch.heard(anchor(7, 1), 4, 0, 0), known);
    assert!(epoch.is_settled());
}

#[test]
fn all_that_is_lost_begins_a_new_epoch() {
    let mut epoch = settled(anchor(7, 3), 10);
    epoch.line_down();
    assert_eq!(epoch.heard(anchor(9, 9), 11, 0, 0), [], "nothing is heard without a line");
    epoch.line_up(Some(anchor(7, 3)), 0);
    assert_eq!(epoch.read(None, 8, 0), [Wish::Write(anchor(8, 4), 0)]);
    let changed = [Wish::Changed(anchor(8, 4), 1), Wish::Remember(anchor(8, 4))];
    assert_eq!(epoch.heard(anchor(8, 4), 1, 0, 0), changed);
    // A node that starts then has only what the register remembers.
    let mut epoch = Epoch::default();
    epoch.line_up(Some(anchor(7, 3)), 0);
    assert_eq!(epoch.read(None, 8, 0), [Wish::Write(anchor(8, 4), 0)]);
}

#[test]
fn an_old_stream_that_comes_back_is_raised_above_all_that_was() {
    let mut epoch = settled(anchor(7, 3), 10);
    assert_eq!(epoch.heard(anchor(5, 2), 4, 8, 0), [Wish::Write(anchor(8, 4), 4)]);
    assert!(!epoch.is_settled());
    let mut epoch = Epoch::default();
    epoch.line_up(Some(anchor(7, 3)), 0);
    assert_eq!(epoch.read(Some((anchor(5, 3), 4)), 8, 0), [Wish::Write(anchor(8, 4), 4)]);
}

#[test]
fn an_anchor_that_runs_back_is_raised_even_if_the_line_is_down_first() {
    let mut epoch = settled(anchor(7, 3), 10);
    assert_eq!(epoch.runs_back(8, 0), Some(Wish::Write(anchor(8, 4), 10)));
    assert_eq!(epoch.runs_back(9, 0), None, "once is enough");
    epoch.line_down();
    epoch.line_up(None, 0);
    let wishes = epoch.read(Some((anchor(7, 3), 6)), 11, 0);
    assert_eq!(wishes, [Wish::Write(anchor(11, 4), 6)]);
    // A refresh of the old anchor by another node does not end it.
    epoch.written(Outcome::Refused(Refusal::Moved(12)), 0);
    assert_eq!(epoch.tick(0), Some(Wish::Read));
    assert_eq!(epoch.heard(anchor(7, 3), 12, 13, 0), [Wish::Write(anchor(13, 4), 12)]);
    epoch.heard(anchor(20, 4), 14, 0, 0);
    assert!(epoch.is_settled());
}

#[test]
fn an_anchor_is_refreshed_and_failures_are_repeated() {
    let mut epoch = settled(anchor(7, 3), 10);
    assert_eq!(epoch.tick(ANCHOR_MS - 1), None);
    assert_eq!(epoch.tick(ANCHOR_MS), Some(Wish::Write(anchor(7, 3), 10)));
    assert_eq!(epoch.heard(anchor(7, 3), 15, 0, ANCHOR_MS), []);
    let now = 2 * ANCHOR_MS;
    assert_eq!(epoch.tick(now), Some(Wish::Write(anchor(7, 3), 15)));
    epoch.written(Outcome::Unknown, now);
    assert_eq!(epoch.tick(now), None);
    assert_eq!(epoch.tick(now + ANCHOR_RETRY_MS), Some(Wish::Read));
    assert_eq!(epoch.due(), Some(now + 2 * ANCHOR_RETRY_MS));
    assert_eq!(epoch.tick(now + 2 * ANCHOR_RETRY_MS), Some(Wish::Read), "no answer to the read");
}

/// A stream's anchors, the register, and the nodes that hear and write them.
struct World {
    anchors: Vec<(Anchor, Seq)>,
    register: Option<Anchor>,
    next: Seq,
    nodes: Vec<(Epoch, Vec<Wish>)>,
    now: Millis,
    nonce: u128,
}

impl World {
    fn wish(&mut self, node: usize, wishes: impl IntoIterator<Item = Wish>) {
        for wish in wishes {
            self.nodes[node].1.push(wish);
            if let Wish::Remember(anchor) = wish {
                let is_later = self.register.is_none_or(|one| one.number < anchor.number);
                self.register = if is_later { Some(anchor) } else { self.register };
            }
        }
    }

    /// Carries out what a node asked for last.
    fn act(&mut self, node: usize) {
        self.nonce += 1;
        let wishes = std::mem::take(&mut self.nodes[node].1);
        let (nonce, now) = (self.nonce, self.now);
        for wish in wishes {
            let last = self.anchors.last().copied();
            match wish {
                Wish::Read => {
                    let wishes = self.nodes[node].0.read(last, nonce, now);
                    self.wish(node, wishes);
                }
                Wish::Write(anchor, expected) if last.map_or(0, |last| last.1) == expected => {
                    self.next += 1;
                    self.anchors.push((anchor, self.next));
                    for other in 0..self.nodes.len() {
                        let seq = self.next;
                        let wishes = self.nodes[other].0.heard(anchor, seq, nonce + 1_000, now);
                        self.wish(other, wishes);
                    }
                }
                Wish::Write(..) => {
                    let moved = Outcome::Refused(Refusal::Moved(last.map_or(0, |last| last.1)));
                    self.nodes[node].0.written(moved, now);
                }
                _ => {}
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            self.now += ANCHOR_RETRY_MS;
            for node in 0..self.nodes.len() {
                let wish = self.nodes[node].0.tick(self.now);
                self.wish(node, wish);
                self.act(node);
            }
        }
    }
}

proptest! {
    #[test]
    fn nodes_agree_on_one_epoch_and_none_is_passed_over(
        events in proptest::collection::vec((0..3_usize, 0..5_u8), 0..30)
    ) {
        let nodes = (0..3).map(|_| (Epoch::default(), vec![])).collect();
        let (anchors, register) = (vec![], None);
        let mut world = World { anchors, register, next: 0, nodes, now: 0, nonce: 0 };
        for node in 0..3 {
            let wish = world.nodes[node].0.line_up(None, 0);
            world.wish(node, [wish]);
        }
        world.settle();
        for (node, event) in events {
            let before = world.nodes[node].0.number();
            let mut is_raised = false;
            let (nonce, now) = (world.nonce + 5_000, world.now);
            match event {
                0 => world.settle(),
                1 => world.act(node),
                // The tail is lost, and a node's acknowledgement runs back.
                2 => {
                    world.anchors.pop();
                    let wish = world.nodes[node].0.runs_back(nonce, now);
                    world.wish(node, wish);
                    is_raised = true;
                }
                // All is lost, and a node connects again.
                3 => {
                    world.anchors.clear();
                    world.nodes[node].0.line_down();
                    let wish = world.nodes[node].0.line_up(world.register, now);
                    world.wish(node, [wish]);
                    is_raised = true;
                }
                // A node starts anew.
                _ => {
                    world.nodes[node] = (Epoch::default(), vec![]);
                    let wish = world.nodes[node].0.line_up(world.register, now);
                    world.wish(node, [wish]);
                }
            }
            if is_raised {
                world.settle();
                let number = world.nodes[node].0.number();
                prop_assert!(number > before, "{number} after {before}");
            }
        }
        world.settle();
        let anchors: Vec<_> = world.nodes.iter().map(|node| node.0.anchor()).collect();
        prop_assert!(anchors.iter().all(|one| one.is_some() && *one == anchors[0]), "{anchors:?}");
        prop_assert!(world.nodes.iter().all(|node| node.0.is_settled()));
        prop_assert_eq!(world.register, anchors[0]);
    }
}
