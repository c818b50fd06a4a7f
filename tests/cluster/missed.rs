//! What did not come live: read from the stream, or told as a gap.

use fanfare::message::Channel;

use crate::node::{Heard, Node, one_order};
use crate::stream::create_streams;
use crate::support::nats::Nats;
use crate::support::proxy::{Proxy, Way};
use crate::support::wait_until;

#[test]
fn what_a_node_missed_without_its_line_is_read() {
    const MISSED: usize = 3_000;
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let proxy = Proxy::to(nats.port());
    let far = format!("nats://127.0.0.1:{}", proxy.port());
    let nodes = [Node::start(1, &[nats.url()]), Node::start(2, &[far])];
    nodes.iter().for_each(Node::serves);
    let channels = [1, 2, 3].map(|number| Channel::from(&*format!("order:{number}")));
    for node in &nodes {
        channels.iter().for_each(|channel| node.attach(channel));
    }
    let publish = |from: usize, to: usize| {
        for number in from..to {
            let token = nodes[0].publish(&channels[number % 3], &number.to_string());
            if number % 100 == 99 {
                nodes[0].outcome(token);
            }
        }
    };
    publish(0, 300);
    proxy.withhold(Way::ToClient, true);
    proxy.cut();
    publish(300, MISSED);
    proxy.withhold(Way::ToClient, false);
    publish(MISSED, MISSED + 300);
    for (at, channel) in channels.iter().enumerate() {
        let heard = one_order(&[&nodes[0], &nodes[1]], channel, MISSED / 3 + 100);
        let texts = heard.iter().map(|heard| match heard {
            Heard::At(_, text) => text.parse::<usize>().unwrap(),
            Heard::Gap => unreachable!("checked by the order"),
        });
        assert!(texts.eq((at..MISSED + 300).step_by(3)));
    }
    assert!(nodes[1].counter(|counters| &counters.cluster_holes_read) > 0);
    wait_until("nothing is missing any more", || nodes[1].is_serving());
}

#[test]
fn a_worker_that_is_behind_is_given_what_it_missed() {
    const MISSED: usize = 2_000;
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let nodes = [1, 2].map(|number| Node::start(number, &[nats.url()]));
    nodes.iter().for_each(Node::serves);
    let channel = Channel::from("order:1");
    nodes.iter().for_each(|node| node.attach(&channel));
    let publish = |from: usize, to: usize| {
        for number in from..to {
            let token = nodes[0].publish(&channel, &number.to_string());
            if number % 100 == 99 {
                nodes[0].outcome(token);
            }
        }
    };
    publish(0, 100);
    wait_until("both heard the first ones", || {
        nodes.iter().all(|node| node.count(&channel) == 100)
    });
    nodes[1].fill(true);
    publish(100, MISSED);
    wait_until("one node heard all", || nodes[0].count(&channel) == MISSED);
    assert_eq!(nodes[1].count(&channel), 100);
    nodes[1].fill(false);
    publish(MISSED, MISSED + 100);
    one_order(&[&nodes[0], &nodes[1]], &channel, MISSED + 100);
    assert!(nodes[1].counter(|counters| &counters.cluster_behind) == 1);
    assert!(nodes[1].counter(|counters| &counters.cluster_caught_up) >= 1);
}
