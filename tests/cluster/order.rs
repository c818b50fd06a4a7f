//! One order of publications on all nodes.

use fanfare::cluster::events::Published;
use fanfare::message::Channel;

use crate::node::{Heard, Node, one_order};
use crate::stream::create_streams;
use crate::support::nats::Nats;

#[test]
fn all_nodes_hear_one_order() {
    const EACH: usize = 300;
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let nodes: Vec<_> = (1..=3).map(|number| Node::start(number, &[nats.url()])).collect();
    let channel = Channel::from("order:1");
    for node in &nodes {
        node.serves();
        node.attach(&channel);
    }
    let mut tokens = Vec::new();
    for number in 0..EACH {
        for (at, node) in nodes.iter().enumerate() {
            tokens.push((at, node.publish(&channel, &format!("{at}-{number}"))));
        }
    }
    let all: Vec<_> = nodes.iter().collect();
    let heard = one_order(&all, &channel, EACH * nodes.len());
    for at in 0..nodes.len() {
        let own = heard.iter().filter_map(|heard| match heard {
            Heard::At(_, text) => text.strip_prefix(&format!("{at}-")),
            Heard::Gap => None,
        });
        assert!(own.eq((0..EACH).map(|number| number.to_string())), "in the publisher's order");
    }
    for (at, token) in tokens {
        let outcome = nodes[at].outcome(token);
        let Published::Stored { seq, duplicate: false } = outcome else { panic!("{outcome:?}") };
        assert!(heard.iter().any(|heard| matches!(heard, Heard::At(place, _) if *place == seq)));
    }
}
