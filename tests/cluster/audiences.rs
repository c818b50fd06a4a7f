//! Who received a publication, over several nodes.

use fanfare::cluster::name::NodeName;
use fanfare::message::{Audience, Channel};

use crate::node::Node;
use crate::stream::create_streams;
use crate::support::nats::Nats;
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
    use crate::support::proxy::{Proxy, Way};
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
