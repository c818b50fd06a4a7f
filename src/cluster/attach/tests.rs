use proptest::prelude::*;

use super::super::flight::Outcome;
use super::super::limits::{CLAIM_RETRY_MS, CLAIMS_UNDER_WAY_MAX};
use super::super::{ack::Refusal, chain::Placed};
use super::*;

type Node = Attachments<Seq>;

fn channel(number: usize) -> Channel {
    Channel::from(&*format!("c{number}"))
}

fn hash(number: usize) -> ChannelHash {
    ChannelHash::of(&channel(number))
}

fn want(number: usize) -> Want {
    Want { channel: channel(number), needs_seed: false, needs_listener: false }
}

fn stored(seq: Seq) -> Outcome {
    Outcome::Stored { seq, duplicate: false, runs_back: false }
}

fn placed(seq: Seq, last: Seq) -> Placed<Seq> {
    Placed { seq, last, bytes: 10, message: seq }
}

/// Returns a node whose line is up.
fn up() -> Node {
    let mut node = Node::new();
    node.line_up();
    assert!(node.step(1, 0), "a heartbeat follows when all channels are subscribed anew");
    assert!(node.is_renewed());
    node
}

/// Returns a node that is attached to the channel 0, at 10.
fn attached(want: Want) -> Node {
    let mut node = up();
    let hash = ChannelHash::of(&want.channel);
    node.want(want, 0);
    assert!(node.step(2, ROUND_MS));
    node.echo(2, 10, 1);
    node.claimed(hash, true, stored(5), 1);
    assert!(matches!(node.take().last(), Some(Wish::Attached(_, 10))));
    node
}

#[test]
fn a_channel_costs_some_100_bytes() {
    let bytes = size_of::<ChannelHash>() + size_of::<Attachment<Box<u8>>>();
    assert_eq!(bytes, 104);
}

#[test]
fn an_attach_takes_an_echo_behind_the_subscription_and_the_claim() {
    for is_claimed_first in [false, true] {
        let mut node = up();
        node.want(want(0), 0);
        assert!(!node.step(2, 0), "wishes are gathered");
        assert_eq!(node.due(), Some(ROUND_MS));
        assert!(node.step(2, ROUND_MS));
        let subscribed = [Wish::Subscribe(hash(0), 1), Wish::Claim(hash(0), true, 0)];
        assert_eq!(node.take(), subscribed);
        node.echo(1, 8, 1);
        node.live(hash(0), placed(9, 0), 8);
        assert_eq!(node.take(), [], "that heartbeat was sent before the subscription");
        if is_claimed_first {
            node.claimed(hash(0), true, stored(5), 1);
            assert_eq!(node.take(), []);
            node.echo(2, 10, 1);
        } else {
            node.echo(2, 10, 1);
            assert_eq!(node.take(), []);
            node.claimed(hash(0), true, stored(5), 1);
        }
        assert_eq!(node.take(), [Wish::Attached(channel(0), 10)]);
        assert_eq!((node.attached(), node.due()), (1, None));
        node.live(hash(0), placed(10, 9), 10);
        node.live(hash(0), placed(12, 9), 10);
        assert_eq!(node.take(), [Wish::Deliver(channel(0), 12, 12)]);
    }
}

#[test]
fn a_channel_that_hurries_is_subscribed_at_once_and_before_others() {
    let mut node = up();
    assert!(!node.hurry(hash(0)), "it is not wanted");
    for number in 0..=ROUND_CHANNELS_MAX {
        node.want(want(number), 0);
    }
    let last = hash(ROUND_CHANNELS_MAX);
    assert!(node.hurry(last));
    assert!(node.step(2, 0));
    assert_eq!(node.take().first(), Some(&Wish::Subscribe(last, 1)));
    assert!(!node.hurry(last), "it is subscribed");
    assert!(!node.step(3, 0), "the others have time");
}

#[test]
fn a_later_heartbeat_serves_as_well() {
    let mut node = up();
    node.want(want(0), 0);
    node.step(2, ROUND_MS);
    node.claimed(hash(0), true, stored(5), 1);
    node.take();
    node.echo(7, 30, 500);
    assert_eq!(node.take(), [Wish::Attached(channel(0), 30)]);
}

#[test]
fn live_messages_wait_for_what_the_channel_kept() {
    let mut node = up();
    node.want(Want { needs_seed: true, ..want(0) }, 0);
    node.step(2, ROUND_MS);
    node.claimed(hash(0), true, stored(5), 1);
    node.take();
    node.echo(2, 10, 1);
    assert_eq!(node.take(), [Wish::Seed(channel(0), 10)]);
    node.live(hash(0), placed(11, 3), 10);
    node.seeded(&channel(0), 8, 2);
    assert_eq!(node.take(), [], "an answer to an earlier attempt");
    node.seeded(&channel(0), 10, 2);
    let expected = [Wish::Attached(channel(0), 10), Wish::Deliver(channel(0), 11, 11)];
    assert_eq!(node.take(), expected);
}

#[test]
fn a_round_that_the_line_did_not_survive_begins_again() {
    let mut node = up();
    node.want(want(0), 0);
    node.step(2, ROUND_MS);
    node.line_down();
    node.claimed(hash(0), true, Outcome::Unknown, 1);
    node.take();
    node.echo(3, 10, 1);
    node.want(want(1), 2);
    assert!(!node.step(4, 100));
    assert_eq!(node.take(), []);
    node.line_up();
    while !node.step(4, 100) {}
    assert!(node.step(5, 100 + ROUND_MS), "both are in the next round");
    let subscribed = node.take();
    assert_eq!(subscribed.iter().filter(|one| matches!(one, Wish::Subscribe(..))).count(), 2);
    node.echo(4, 20, 110);
    node.tick(CLAIM_RETRY_MS + 1);
    node.step(6, 400);
    for number in [0, 1] {
        node.claimed(hash(number), true, stored(8), 400);
    }
    assert_eq!(node.attached(), 0);
    node.echo(5, 25, 400);
    assert_eq!(node.attached(), 2);
}

#[test]
fn a_channel_that_stays_is_subscribed_anew() {
    let mut node = attached(want(0));
    node.line_down();
    assert_eq!(node.attached(), 1);
    node.line_up();
    assert!(!node.step(5, 0));
    assert_eq!(node.take(), [Wish::Subscribe(hash(0), 2)]);
    assert!(node.step(5, 0));
    node.live(hash(0), placed(15, 13), 0);
    node.begin_reads(true, 0);
    assert_eq!(node.take(), [], "the hole may bring it");
    node.fill(hash(0), placed(12, 0));
    node.fill(hash(0), placed(13, 0));
    assert_eq!(node.take(), [12, 13, 15].map(|seq| Wish::Deliver(channel(0), seq, seq)));
    node.begin_reads(false, 0);
    assert_eq!(node.take(), []);
}

#[test]
fn a_channel_lingers_and_is_attached_again_at_once() {
    let mut node = attached(want(0));
    node.let_go(&channel(0), 100);
    node.tick(99 + DETACH_LINGER_MS);
    node.live(hash(0), placed(11, 0), 10);
    node.take();
    node.want(want(0), 150);
    assert_eq!(node.take(), [Wish::Attached(channel(0), 11)]);
    node.let_go(&channel(0), 200);
    node.tick(200 + DETACH_LINGER_MS);
    node.step(9, 2_200);
    let released =
        [Wish::Unsubscribe(1), Wish::Detached(channel(0)), Wish::Claim(hash(0), false, 5)];
    assert_eq!(node.take(), released);
    assert_eq!(node.channels.len(), 1);
    node.claimed(hash(0), false, stored(6), 2_300);
    assert_eq!((node.channels.len(), node.attached(), node.due()), (0, 0, None));
}

#[test]
fn the_claim_of_a_topic_ends_at_once() {
    let mut node = attached(Want { needs_listener: true, ..want(0) });
    node.let_go(&channel(0), 100);
    node.step(9, 100);
    assert_eq!(node.take(), [Wish::Claim(hash(0), false, 5)]);
    node.want(want(0), 110);
    node.step(9, 110);
    assert_eq!(node.take(), [], "one message at a time");
    node.claimed(hash(0), false, stored(6), 120);
    node.step(9, 120);
    assert_eq!(node.take(), [Wish::Claim(hash(0), true, 6)]);
    assert_eq!(node.attached(), 0, "not before the claim");
    node.live(hash(0), placed(11, 0), 10);
    node.claimed(hash(0), true, stored(7), 130);
    let expected = [Wish::Deliver(channel(0), 11, 11), Wish::Attached(channel(0), 11)];
    assert_eq!(node.take(), expected, "the subscription never ended");
}

#[test]
fn a_node_that_leaves_ends_its_claims() {
    let mut node = attached(want(0));
    node.want(want(1), 2);
    node.leave();
    assert!(!node.is_empty(), "the stream has a claim");
    assert!(!node.step(3, 2), "a channel that waits for a round is forgotten");
    assert_eq!(node.take(), [Wish::Claim(hash(0), false, 5)]);
    node.live(hash(0), placed(11, 10), 10);
    assert_eq!((node.take(), node.attached(), node.due()), (vec![], 0, None));
    node.claimed(hash(0), false, Outcome::Unknown, 2);
    node.tick(2 + CLAIM_RETRY_MS);
    node.step(3, 2 + CLAIM_RETRY_MS);
    assert_eq!(node.take(), [Wish::Claim(hash(0), false, 5)]);
    node.claimed(hash(0), false, stored(6), 300);
    assert!(node.is_empty());
}

#[test]
fn an_attach_that_takes_too_long_is_refused() {
    let mut node = up();
    node.want(want(0), 0);
    node.step(2, ROUND_MS);
    node.take();
    node.tick(ATTACH_MS_MAX - 1);
    assert_eq!(node.take(), []);
    node.tick(ATTACH_MS_MAX);
    assert_eq!(node.take(), [Wish::Unsubscribe(1), Wish::Failed(channel(0))]);
    node.claimed(hash(0), true, stored(3), 5_001);
    node.step(3, 5_001);
    assert_eq!(node.take(), [Wish::Claim(hash(0), false, 3)], "its claim must not stay");
    node.want(want(0), 5_002);
    node.echo(2, 10, 5_002);
    assert_eq!(node.attached(), 0, "the echo of the earlier round");
    // Without a line as well.
    let mut node = Node::new();
    node.want(want(0), 0);
    node.tick(ATTACH_MS_MAX);
    assert_eq!(node.take(), [Wish::Failed(channel(0))]);
    assert!(node.channels.is_empty());
    // The directory has refused the joins, and would keep the channel without this for ever.
    node.let_go(&channel(0), ATTACH_MS_MAX);
    assert_eq!(node.take(), [Wish::Detached(channel(0))]);
}

#[test]
fn an_echo_proves_nothing_of_a_later_subscription() {
    let mut node = up();
    node.want(want(0), 0);
    node.step(2, ROUND_MS);
    node.claimed(hash(0), true, stored(3), 1);
    node.tick(ATTACH_MS_MAX);
    node.want(want(0), ATTACH_MS_MAX);
    let later = ATTACH_MS_MAX + ROUND_MS;
    node.step(3, later);
    node.echo(2, 10, later);
    assert_eq!(node.attached(), 0);
    node.echo(3, 11, later);
    assert_eq!(node.attached(), 1);
}

#[test]
fn a_claim_that_was_taken_is_told_and_made_again() {
    let mut node = attached(Want { needs_listener: true, ..want(0) });
    assert!(node.has_all_claims());
    node.claim_ended(hash(0), 5);
    assert_eq!(node.take(), []);
    node.claim_ended(hash(0), 9);
    assert!(!node.has_all_claims());
    node.step(3, 0);
    assert_eq!(node.take(), [Wish::Claim(hash(0), true, 9)]);
    node.claimed(hash(0), true, Outcome::Refused(Refusal::Moved(12)), 0);
    node.step(3, 0);
    // Until the stream has it, other nodes say that the channel has no listener.
    assert_eq!(node.take(), [Wish::Claim(hash(0), true, 12)]);
    node.claimed(hash(0), true, stored(13), 0);
    assert_eq!(node.take(), [Wish::Gap(channel(0))]);
    assert!(node.has_all_claims());
    node.claims_lost();
    assert!(!node.has_all_claims());
    node.step(3, 0);
    assert_eq!(node.take(), [Wish::Claim(hash(0), true, 0)]);
    node.claimed(hash(0), true, stored(2), 0);
    assert_eq!(node.take(), [Wish::Gap(channel(0))]);
}

#[test]
fn a_new_epoch_is_a_gap_on_every_channel() {
    let mut node = attached(want(0));
    node.want(Want { needs_seed: true, ..want(1) }, 0);
    node.step(3, ROUND_MS);
    node.claimed(hash(1), true, stored(6), 1);
    node.echo(3, 11, 1);
    node.take();
    node.epoch_changed(1);
    assert_eq!(node.take(), [Wish::Unsubscribe(2)]);
    node.seeded(&channel(1), 11, 1);
    assert_eq!(node.attached(), 1);
    // Of the old epoch, or of the new one: the gap tells of both.
    node.live(hash(0), placed(30, 10), 2);
    node.live(hash(0), placed(3, 0), 2);
    assert_eq!(node.take(), []);
    node.begin_again(4);
    assert_eq!(node.take(), [Wish::Gap(channel(0))]);
    node.live(hash(0), placed(3, 0), 2);
    node.live(hash(0), placed(5, 3), 4);
    assert_eq!(node.take(), [Wish::Deliver(channel(0), 5, 5)]);
    assert!(node.step(4, 10));
    node.echo(4, 8, 10);
    node.seeded(&channel(1), 8, 10);
    assert_eq!(node.attached(), 2);
}

#[test]
fn claims_and_rounds_are_bounded() {
    let mut node = up();
    let count = 2 * ROUND_CHANNELS_MAX + 1;
    for number in 0..count {
        node.want(want(number), 0);
    }
    let mut rounds = 0;
    while node.step(2 + rounds, ROUND_MS) {
        rounds += 1;
    }
    assert_eq!(rounds, 3);
    let wishes = node.take();
    let claims = wishes.iter().filter(|wish| matches!(wish, Wish::Claim(..)));
    assert_eq!(claims.count(), CLAIMS_UNDER_WAY_MAX);
}

#[test]
fn a_read_that_takes_too_long_is_told_as_a_gap() {
    let mut node = attached(want(0));
    node.live(hash(0), placed(15, 13), 10);
    node.begin_reads(false, 0);
    let missing = Missing { after: 10, before: 15 };
    assert_eq!(node.take(), [Wish::Read(hash(0), missing)]);
    node.tick(node.due().unwrap());
    assert_eq!(node.take(), [Wish::Gap(channel(0)), Wish::Deliver(channel(0), 15, 15)]);
    node.read(hash(0), missing, vec![placed(12, 0)], 1);
    assert_eq!(node.take(), [], "an answer that comes too late");
}

#[derive(Clone, Debug)]
enum Step {
    Want(usize),
    LetGo(usize),
    Turn,
    Server(usize),
    Answer,
    LineDown,
    LineUp,
    Later(Millis),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize).prop_map(Step::Want),
        3 => (0..3_usize).prop_map(Step::LetGo),
        6 => Just(Step::Turn),
        6 => (1..4_usize).prop_map(Step::Server),
        6 => Just(Step::Answer),
        1 => Just(Step::LineDown),
        2 => Just(Step::LineUp),
        3 => (1..1_500_u64).prop_map(Step::Later),
    ];
    proptest::collection::vec(step, 0..150)
}

/// A server that carries out what came over the line, in order and late.
#[derive(Default)]
struct Server {
    line: VecDeque<(Option<u64>, Option<Wish<Seq>>)>,
    subscribed: BTreeMap<u64, ChannelHash>,
    claims: BTreeMap<ChannelHash, (bool, Seq)>,
    answers: VecDeque<(ChannelHash, bool, Outcome)>,
    echoes: VecDeque<(u64, Seq)>,
    seq: Seq,
}

impl Server {
    fn carry_out(&mut self) {
        let Some((beat, wish)) = self.line.pop_front() else { return };
        self.seq += 1;
        self.echoes.extend(beat.map(|beat| (beat, self.seq)));
        match wish {
            Some(Wish::Subscribe(hash, sid)) => {
                self.subscribed.insert(sid, hash);
            }
            Some(Wish::Unsubscribe(sid)) => {
                self.subscribed.remove(&sid);
            }
            Some(Wish::Claim(hash, listens, expected)) => {
                let last = self.claims.get(&hash).map_or(0, |one| one.1);
                let outcome = if last == expected {
                    self.claims.insert(hash, (listens, self.seq));
                    stored(self.seq)
                } else {
                    Outcome::Refused(Refusal::Moved(last))
                };
                self.answers.push_back((hash, listens, outcome));
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_acknowledged_channel_is_subscribed_and_claimed(steps in steps()) {
        let (mut node, mut server) = (Node::new(), Server::default());
        let (mut now, mut beat, mut is_up) = (0, 1, false);
        let mut acknowledged = BTreeSet::new();
        let mut flying: Vec<(ChannelHash, bool)> = Vec::new();
        for step in steps {
            let mut is_beat = false;
            let heard = node.heard_channels(None, 9);
            match step {
                Step::Want(number) => node.want(want(number), now),
                Step::LetGo(number) => {
                    acknowledged.remove(&hash(number));
                    node.let_go(&channel(number), now);
                }
                Step::Turn => is_beat = node.step(beat, now),
                Step::Server(count) => (0..count).for_each(|_| server.carry_out()),
                Step::Answer => {
                    if let Some((hash, listens, outcome)) = server.answers.pop_front() {
                        flying.retain(|one| one.0 != hash);
                        node.claimed(hash, listens, outcome, now);
                    }
                    if let Some((beat, seq)) = server.echoes.pop_front() {
                        node.echo(beat, seq, now);
                    }
                }
                Step::LineDown if is_up => {
                    is_up = false;
                    server.line.clear();
                    server.subscribed.clear();
                    server.echoes.clear();
                    server.answers.clear();
                    node.line_down();
                    for (hash, listens) in flying.drain(..) {
                        node.claimed(hash, listens, Outcome::Unknown, now);
                    }
                }
                Step::LineUp if !is_up => {
                    is_up = true;
                    node.line_up();
                }
                Step::Later(by) => {
                    now += by;
                    node.tick(now);
                }
                Step::LineDown | Step::LineUp => {}
            }
            for wish in node.take() {
                match wish {
                    Wish::Attached(channel, _) => {
                        let hash = ChannelHash::of(&channel);
                        acknowledged.insert(hash);
                        let is_subscribed = server.subscribed.values().any(|one| *one == hash);
                        // A channel that lingered needs no new subscription: its chain goes on.
                        let goes_on = heard.contains(&hash);
                        prop_assert!(is_subscribed || goes_on, "no subscription");
                    }
                    Wish::Failed(channel) | Wish::Detached(channel) => {
                        acknowledged.remove(&ChannelHash::of(&channel));
                    }
                    wish => {
                        if let Wish::Claim(hash, listens, _) = wish {
                            flying.push((hash, listens));
                        }
                        server.line.push_back((None, Some(wish)));
                    }
                }
            }
            if is_beat {
                server.line.push_back((Some(beat), None));
                beat += 1;
            }
            if !is_up {
                server.line.clear();
            }
            for hash in &acknowledged {
                prop_assert!(server.claims.get(hash).is_some_and(|one| one.0), "claim lost");
            }
        }
        prop_assert!(node.channels.len() <= 3 && node.timers.len() <= 3);
        prop_assert_eq!(node.claims_flying, flying.len());
    }
}
