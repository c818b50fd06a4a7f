//! Who received a publication, over several nodes.

use std::time::Duration;

use fanfare::background::cluster::line::Event;
use fanfare::background::cluster::protocol::Publish;
use fanfare::cluster::events::Published;
use fanfare::cluster::name::{ChannelHash, NodeName, Seq};
use fanfare::cluster::wire::{Ask, Counted};
use fanfare::message::{Audience, Channel};
use tokio::time::timeout;

use crate::node::Node;
use crate::stream::{create_streams, with_line};
use crate::support::nats::Nats;
use crate::support::proxy::{Proxy, Way};
use crate::support::wait_until;

fn websocket(subscribers: u32) -> Audience {
    Audience { websocket: subscribers, ..Audience::default() }
}

#[test]
fn an_audience_is_counted_on_all_nodes() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let nodes = [1, 2, 3].map(|number| Node::start(number, &[nats.url()]));
    nodes.iter().for_each(Node::serves);
    let channel = Channel::from("order:1");
    for (node, subscribers) in nodes.iter().zip([0, 3, 4]) {
        if subscribers > 0 {
            node.attach(&channel);
            node.subscribe(&channel, subscribers);
        }
    }
    let count = |publisher: &Node| publisher.total(publisher.publish_counted(&channel, "x"));
    wait_until("all nodes are known", || count(&nodes[0]).is_named);
    for publisher in &nodes {
        wait_until("the audience is known", || {
            let total = count(publisher);
            let is_known = total.is_named && total.unknown.is_empty();
            if is_known {
                assert_eq!((total.audience, total.nodes), (websocket(7), 2));
            }
            is_known
        });
    }
    let nobody = nodes[0].total(nodes[0].publish_counted(&"empty".into(), "x"));
    assert_eq!((nobody.audience, nobody.nodes, nobody.unknown), (websocket(0), 0, vec![]));
}

#[test]
fn a_node_that_is_gone_without_a_word_is_unknown() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let proxy = Proxy::to(nats.port());
    let far = format!("nats://127.0.0.1:{}", proxy.port());
    let nodes = [Node::start(1, &[nats.url()]), Node::start(2, &[far])];
    nodes.iter().for_each(Node::serves);
    let channel = Channel::from("order:1");
    nodes[0].attach(&channel);
    nodes[1].attach(&channel);
    wait_until("both nodes answer", || {
        let total = nodes[0].total(nodes[0].publish_counted(&channel, "x"));
        total.is_named && total.nodes == 2
    });
    for way in [Way::ToServer, Way::ToClient] {
        proxy.withhold(way, true);
    }
    let total = nodes[0].total(nodes[0].publish_counted(&channel, "x"));
    assert_eq!(total.unknown, [NodeName::read("n2").unwrap()], "{total:?}");
    assert_eq!((total.audience, total.nodes), (websocket(1), 1));
    assert!(nodes[0].counter(|counters| &counters.cluster_audiences_unknown) >= 1);
    for way in [Way::ToServer, Way::ToClient] {
        proxy.withhold(way, false);
    }
}

/// Asks the node 1 who received a publication, as another node does in the stream's first epoch.
/// Returns `None` if it does not answer.
fn ask(nats: &Nats, channel: &Channel, seq: Seq) -> Option<Counted> {
    ask_in(nats, channel, seq, 1)
}

fn ask_in(nats: &Nats, channel: &Channel, seq: Seq, epoch: u64) -> Option<Counted> {
    const REPLY: &str = "ff.n.test.0.c.1";
    with_line(&nats.url(), async |line| {
        line.subscribe(REPLY, 1).expect("the line takes it");
        let body = Ask { channel: ChannelHash::of(channel), seq, epoch }.encode();
        let payload = [body.as_bytes()];
        let question =
            Publish { subject: "ff.n.n1.ask", reply: Some(REPLY), headers: &[], payload: &payload };
        line.publish(&question).expect("the line takes it");
        let answer = async {
            loop {
                if let Event::Message(message) = line.next().await {
                    return Counted::decode(&message.payload()).expect("it is a count");
                }
            }
        };
        timeout(Duration::from_millis(500), answer).await.ok()
    })
}

#[test]
fn a_node_that_is_asked_tells_what_it_knows() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let node = Node::start(1, &[nats.url()]);
    node.serves();
    let channel = Channel::from("order:1");
    let publish = |is_counted| {
        let token = match is_counted {
            true => node.publish_counted(&channel, "x"),
            false => node.publish(&channel, "x"),
        };
        match node.outcome(token) {
            Published::Stored { seq, .. } => seq,
            other => panic!("{other:?}"),
        }
    };
    let before = publish(true);
    node.attach(&channel);
    node.subscribe(&channel, 5);
    let [counted, uncounted] = [true, false].map(publish);
    wait_until("all is heard", || node.count(&channel) == 2);
    let told = |seq| ask(&nats, &channel, seq).map(|counted| counted.audience);
    assert_eq!(told(before), Some(websocket(0)), "it was not attached");
    assert_eq!(told(counted), Some(websocket(5)));
    assert_eq!(told(uncounted), None, "it does not know any more");
    assert_eq!(ask(&nats, &"unknown".into(), counted), None);
    for seq in [before, counted] {
        assert_eq!(ask_in(&nats, &channel, seq, 2), None, "it is not in this epoch");
    }
}

#[test]
fn a_count_does_not_outlive_the_stream_that_it_was_counted_in() {
    let mut nats = Nats::one();
    create_streams(&nats.url(), 1);
    let node = Node::start(1, &[nats.url()]);
    node.serves();
    let channel = Channel::from("order:1");
    node.attach(&channel);
    node.subscribe(&channel, 5);
    let token = node.publish_counted(&channel, "x");
    let Published::Stored { seq, .. } = node.outcome(token) else { panic!("it is stored") };
    wait_until("it is heard", || node.count(&channel) == 1);
    let told = |nats: &Nats, epoch| ask_in(nats, &channel, seq, epoch).map(|one| one.audience);
    assert_eq!(told(&nats, 1), Some(websocket(5)));
    nats.restart(false);
    create_streams(&nats.url(), 1);
    wait_until("the gap is told", || node.gaps(&channel) > 0);
    node.serves();
    // Another message has the place now, which may be one from before the node listened again.
    for epoch in [1, 2] {
        assert_ne!(told(&nats, epoch), Some(websocket(5)));
    }
}
