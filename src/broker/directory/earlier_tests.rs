//! Replays that wait for what the stream has from before the node heard a channel.

use super::held_tests::{CHANNEL, Node, subscriber};
use super::*;
use crate::mailbox::Mail;
use crate::message::{ChannelOptions, Content, MessageId, ReplayWish, Sender};

#[test]
fn a_replay_waits_for_what_is_read_once_the_node_hears_the_channel() {
    let node = Node::new(8, 8);
    let channel = Channel::from(CHANNEL);
    let options = ChannelOptions { retain: Retain::window(60), ..ChannelOptions::default() };
    let join = |number, comes_back| {
        let join = Join {
            channel: &channel,
            subscriber: &subscriber(number),
            already: None,
            options,
            reply: None,
            comes_back,
            replay: ReplayWish { seconds: if comes_back { 0 } else { 60 }, after: None },
            announcement: MessageId::nil(),
            now: 0,
            clock: 100_000,
        };
        node.directory.join(&node.mailboxes, &join).map(drop)
    };
    let publication = |id| {
        let content =
            Content::Message { event: "e".into(), payload: "1".into(), sender: Sender::System };
        let publication =
            Publication::new(MessageId::from_u128(id), channel.clone(), 0, content).under(options);
        Arc::new(publication.accepted(100_000 * 1_000_000))
    };
    let fill = || {
        let publications = [3, 4, 6].map(|at| (at, 0, publication(u128::from(at)))).to_vec();
        node.directory.fill(&channel, Some(Filling { publications, whole_since: 0 }));
        node.directory.carry_on(&node.mailboxes, &channel);
    };
    let replayed = || {
        let ids = |mail| match mail {
            Mail::Activate(it) => {
                let ids = it.replay.publications.iter().map(|one| one.id.as_u128());
                Some(ids.collect::<Vec<_>>())
            }
            _ => None,
        };
        node.take_mail().into_iter().filter_map(ids).collect::<Vec<_>>()
    };
    join(1, false).unwrap();
    fill();
    assert!(!node.directory.lacks_earlier(&channel), "it is not heard");
    node.directory.attached(&node.mailboxes, &channel, 4, 100_000);
    assert_eq!((replayed().len(), node.directory.lacks_earlier(&channel)), (0, true));
    fill();
    assert_eq!(replayed(), [[3, 4]], "the sixth comes by itself");
    join(2, false).unwrap();
    assert_eq!(replayed(), [[3, 4]]);
    node.directory.tell_gap(&node.mailboxes, &channel, None, 100_000);
    node.take_mail();
    join(3, true).expect("a resumed session does not wait");
    assert_eq!(replayed(), [Vec::<u128>::new()]);
    join(4, false).unwrap();
    fill();
    assert_eq!(replayed(), [Vec::<u128>::new()], "where the gap was is not known");
}
