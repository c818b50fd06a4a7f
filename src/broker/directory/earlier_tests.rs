//! Replays that wait for what the stream has from before the node heard a channel.

use super::held_tests::{CHANNEL, Node, subscriber};
use super::*;
use crate::mailbox::Mail;
use crate::message::{ChannelOptions, Content, MarkPlace, MessageId, ReplayWish, Sender};

const NOW: Millis = 100_000;

fn options() -> ChannelOptions {
    ChannelOptions { retain: Retain::window(60), ..ChannelOptions::default() }
}

fn publication(id: u64) -> Arc<Publication> {
    let content =
        Content::Message { event: "e".into(), payload: "1".into(), sender: Sender::System };
    let id = MessageId::from_u128(id.into());
    let publication = Publication::new(id, Channel::from(CHANNEL), 0, content).under(options());
    Arc::new(publication.accepted(NOW * 1_000_000))
}

impl Node {
    fn ask(&self, number: u32, replay: ReplayWish, comes_back: bool) {
        let join = Join {
            channel: &CHANNEL.into(),
            subscriber: &subscriber(number),
            already: None,
            options: options(),
            reply: None,
            comes_back,
            replay,
            announcement: MessageId::nil(),
            now: 0,
            clock: NOW,
        };
        self.directory.join(&self.mailboxes, &join).map(drop).unwrap();
    }

    /// Asks for what came after this publication.
    fn ask_after(&self, number: u32, after: u64) {
        let after = Some(MessageId::from_u128(after.into()));
        self.ask(number, ReplayWish { seconds: 60, after, behind: None }, false);
    }

    /// Reads publications from the stream, whose ids are their offsets.
    fn fill(&self, offsets: &[u64], whole_since: Millis) {
        let publications = offsets.iter().map(|at| (*at, 0, publication(*at))).collect();
        let filling = Some(Filling { publications, behind: 0, whole_since: Some(whole_since) });
        self.directory.fill(&CHANNEL.into(), filling);
        self.directory.carry_on(&self.mailboxes, &CHANNEL.into());
    }

    /// Returns whether the node must read from the stream.
    fn must_read(&self) -> bool {
        self.directory.lacks_earlier(&CHANNEL.into()).is_some()
    }

    /// Returns the replays that were sent since the last call, and whether each has a gap.
    fn replayed(&self) -> Vec<(Vec<u128>, bool)> {
        let replay = |mail| match mail {
            Mail::Activate(it) => {
                let ids = it.replay.publications.iter().map(|one| one.id.as_u128());
                Some((ids.collect(), it.replay.has_gap))
            }
            _ => None,
        };
        self.take_mail().into_iter().filter_map(replay).collect()
    }
}

#[test]
fn a_replay_waits_for_what_is_read_once_the_node_hears_the_channel() {
    let (node, channel) = (Node::new(8, 8), Channel::from(CHANNEL));
    let wish = ReplayWish { seconds: 60, after: None, behind: None };
    node.ask(1, wish, false);
    node.fill(&[3, 4, 6], 0);
    assert!(!node.must_read(), "it is not heard");
    node.directory.attached(&node.mailboxes, &channel, MarkPlace::new(1, 4), NOW);
    assert_eq!((node.replayed().len(), node.must_read()), (0, true));
    node.fill(&[3, 4, 6], 0);
    assert_eq!(node.replayed(), [(vec![3, 4], false)], "the sixth comes by itself");
    node.ask(2, wish, false);
    assert_eq!(node.replayed(), [(vec![3, 4], false)]);
    node.directory.tell_gap(&node.mailboxes, &channel, None, NOW);
    node.take_mail();
    node.ask(3, ReplayWish { seconds: 0, after: None, behind: None }, true);
    assert_eq!(node.replayed(), [(vec![], false)], "a resumed session does not wait");
    node.ask(4, wish, false);
    node.ask(5, ReplayWish { seconds: 0, after: None, behind: None }, true);
    assert_eq!(node.replayed(), [(vec![], false)], "not even behind a request that waits");
    node.fill(&[3, 4, 6], 0);
    assert_eq!(node.replayed(), [(vec![], false)], "where the gap was is not known");
}

#[test]
fn by_a_clock_that_is_ahead_nothing_is_replayed_that_was_not_asked_for() {
    let (node, channel) = (Node::new(8, 8), Channel::from(CHANNEL));
    node.ask(1, ReplayWish { seconds: 0, after: None, behind: None }, false);
    node.directory.attached(&node.mailboxes, &channel, MarkPlace::new(1, 4), NOW);
    let ahead = |at: u64| {
        let mut publication = publication(at);
        Arc::get_mut(&mut publication).unwrap().accepted = (NOW + 480_000) * 1_000_000;
        (at, 0, publication)
    };
    let filling =
        Filling { publications: [3, 4].map(ahead).to_vec(), behind: 0, whole_since: Some(0) };
    node.directory.fill(&channel, Some(filling));
    node.directory.carry_on(&node.mailboxes, &channel);
    assert_eq!(node.replayed(), [(vec![], false)]);
    node.ask(2, ReplayWish { seconds: 60, after: None, behind: None }, false);
    assert_eq!(node.replayed(), [(vec![3, 4], false)]);
}

#[test]
fn a_client_that_is_ahead_of_the_node_waits_for_it() {
    const RECENT: Millis = NOW - 10_000;
    let (node, channel) = (Node::new(8, 8), Channel::from(CHANNEL));
    node.ask_after(1, 3);
    node.directory.attached(&node.mailboxes, &channel, MarkPlace::new(1, 4), NOW);
    node.fill(&[3, 4], RECENT);
    assert_eq!(node.replayed(), [(vec![4], false)]);
    node.ask_after(2, 4);
    assert_eq!(node.replayed(), [(vec![], false)]);

    // Another node has sent the fifth, which has not come here yet.
    node.ask_after(3, 5);
    assert_eq!((node.replayed().len(), node.must_read()), (0, true));
    node.fill(&[3, 4, 5], RECENT);
    assert_eq!((node.replayed().len(), node.must_read()), (0, true));
    node.directory.publish_ordered(&node.mailboxes, &publication(5), MarkPlace::new(1, 5));
    node.fill(&[3, 4, 5], RECENT);
    assert_eq!(node.replayed(), [(vec![], false)]);

    // A position that the stream does not have is told as a gap.
    node.ask_after(4, 9);
    for _ in 0..2 {
        assert_eq!((node.replayed().len(), node.must_read()), (0, true));
        node.fill(&[3, 4, 5], RECENT);
    }
    assert_eq!(node.replayed(), [(vec![3, 4, 5], true)]);
}

#[test]
fn a_read_that_began_before_the_request_does_not_tell_it_a_gap() {
    const RECENT: Millis = NOW - 10_000;
    let (node, channel) = (Node::new(8, 8), Channel::from(CHANNEL));
    node.ask_after(1, 3);
    node.directory.attached(&node.mailboxes, &channel, MarkPlace::new(1, 4), NOW);
    // The read that is under way for the first request finds no fifth.
    node.ask_after(2, 5);
    node.fill(&[3, 4], RECENT);
    assert_eq!((node.replayed().len(), node.must_read()), (0, true));
    node.directory.publish_ordered(&node.mailboxes, &publication(5), MarkPlace::new(1, 5));
    node.fill(&[3, 4, 5], RECENT);
    assert_eq!(node.replayed(), [(vec![4, 5], false), (vec![], false)]);
}
