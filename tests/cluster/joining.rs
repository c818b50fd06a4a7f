//! Nodes that may not serve: not joined yet, or of a name that another one has.

use fanfare::background::cluster::seat::{Ask, News, Seat};
use fanfare::cluster::ack::Refusal;
use fanfare::cluster::events::Published;
use fanfare::cluster::health::{Condition, Obstacle};
use fanfare::cluster::name::Stream;
use fanfare::cluster::wire::Anchor;
use fanfare::message::Channel;
use tokio::sync::{mpsc, watch};

use crate::node::Node;
use crate::stream::{create_streams, request};
use crate::support::nats::Nats;
use crate::support::wait_until;

const REFUSED: Published = Published::Refused(Refusal::Unavailable);

#[test]
fn a_node_serves_when_its_register_says_so() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let (asks, mut asked) = mpsc::channel(8);
    let (tell, news) = mpsc::channel(8);
    let (peers, _) = watch::channel(Vec::new());
    let seat = Seat { asks, news, peers };
    // The register outlives the streams, which are new.
    let old = Anchor { nonce: 1, number: 7 };
    tell.try_send(News::Remembered(Stream::Order, old)).expect("there is room");
    let obstacle = Obstacle::Prefix("ff".into());
    tell.try_send(News::Joined(Err(obstacle.clone()))).expect("there is room");
    let node = Node::with_seat(1, &[nats.url()], Some(seat));
    let not_joined = Some(Condition::NotJoined(obstacle));
    wait_until("the node has heard from its register", || node.condition() == not_joined);
    let channel = Channel::from("order:1");
    assert_eq!(node.outcome(node.publish(&channel, "x")), REFUSED);
    let stream = request(&nats.url(), "$JS.API.STREAM.INFO.FF_ORD", "");
    assert_eq!(stream["state"]["messages"], 0, "it has written nothing");
    tell.try_send(News::Joined(Ok(()))).expect("there is room");
    node.serves();
    let outcome = node.outcome(node.publish(&channel, "x"));
    assert!(matches!(outcome, Published::Stored { .. }), "{outcome:?}");
    let mut remembered = Vec::new();
    wait_until("both anchors are to be remembered", || {
        let asked = std::iter::from_fn(|| asked.try_recv().ok());
        remembered.extend(asked.filter(|ask| matches!(ask, Ask::Remember(..))));
        remembered.len() == 2
    });
    let number_of = |stream| {
        let found = remembered.iter().find_map(|ask| match ask {
            Ask::Remember(of, anchor) if *of == stream => Some(anchor.number),
            _ => None,
        });
        found.expect("an anchor of this stream")
    };
    assert_eq!([number_of(Stream::Order), number_of(Stream::Claims)], [8, 1]);
    drop(tell);
    wait_until("the thread ends with its register", || node.has_ended());
}

#[test]
fn of_two_nodes_with_one_name_the_later_one_serves() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let first = Node::start(1, &[nats.url()]);
    first.serves();
    let channel = Channel::from("order:1");
    let second = Node::start(1, &[nats.url()]);
    let is_displaced = || matches!(first.condition(), Some(Condition::Displaced(_)));
    wait_until("the first node learns of the second", is_displaced);
    second.serves();
    assert_eq!(first.outcome(first.publish(&channel, "x")), REFUSED);
    let outcome = second.outcome(second.publish(&channel, "x"));
    assert!(matches!(outcome, Published::Stored { .. }), "{outcome:?}");
}
