//! What did not come live: read from the stream, or told as a gap.

use fanfare::cluster::events::Published;
use fanfare::message::Channel;

use crate::node::{Heard, Node, one_order};
use crate::stream::{create_streams, request};
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

#[test]
fn what_the_stream_has_lost_is_told_to_a_worker_that_is_behind() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let node = Node::start(1, &[nats.url()]);
    node.serves();
    let channel = Channel::from("order:1");
    node.attach(&channel);
    let publish = |text: &str| {
        let outcome = node.outcome(node.publish(&channel, text));
        assert!(matches!(outcome, Published::Stored { .. }), "{outcome:?}");
    };
    publish("heard");
    wait_until("the first one is heard", || node.count(&channel) == 1);
    node.fill(true);
    (0..20).for_each(|_| publish("lost"));
    request(&nats.url(), "$JS.API.STREAM.PURGE.FF_ORD", "{}");
    publish("kept");
    node.fill(false);
    publish("last");
    wait_until("the worker is not behind any more", || node.count(&channel) >= 3);
    let heard = node.heard(&channel);
    let [Heard::At(_, heard), Heard::Gap, Heard::At(_, kept), Heard::At(_, last)] = &heard[..]
    else {
        panic!("{heard:?}");
    };
    assert_eq!([heard, kept, last], ["heard", "kept", "last"]);
}

#[test]
#[ignore = "publishes for a while: tests/run long"]
fn in_a_long_hole_the_channels_that_moved_are_read() {
    const MISSED: usize = 66_000;
    const CHANNELS: usize = 1_500;
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let proxy = Proxy::to(nats.port());
    let far = format!("nats://127.0.0.1:{}", proxy.port());
    let nodes = [Node::start(1, &[nats.url()]), Node::start(2, &[far])];
    nodes.iter().for_each(Node::serves);
    let channels: Vec<_> =
        (0..CHANNELS).map(|number| Channel::from(&*format!("order:{number}"))).collect();
    for node in &nodes {
        channels.iter().for_each(|channel| node.subscribe(channel, 1));
        let are_attached = || channels.iter().all(|channel| node.attached(channel) == 1);
        wait_until("the node hears all", are_attached);
    }
    proxy.withhold(Way::ToClient, true);
    proxy.cut();
    // Every second channel has moved.
    for number in 0..MISSED {
        let channel = &channels[number * 2 % CHANNELS];
        let token = nodes[0].publish(channel, &number.to_string());
        if number % 500 == 499 {
            nodes[0].outcome(token);
        }
    }
    proxy.withhold(Way::ToClient, false);
    for (at, channel) in channels.iter().enumerate() {
        let missed = if at % 2 == 0 { MISSED / (CHANNELS / 2) } else { 0 };
        one_order(&[&nodes[0], &nodes[1]], channel, missed);
    }
    assert_eq!(nodes[1].counter(|counters| &counters.cluster_holes_last), 2);
    assert!(nodes[1].counter(|counters| &counters.cluster_holes_channel) >= CHANNELS as u64 / 2);
}
