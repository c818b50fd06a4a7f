//! Beginning and ceasing to hear channels.

use std::time::Duration;

use fanfare::cluster::events::Published;
use fanfare::message::Channel;

use crate::node::{Heard, Node};
use crate::stream::create_streams;
use crate::support::nats::{Nats, Route, Three};
use crate::support::proxy::Way;
use crate::support::wait_until;

/// Lets a node attach to channels one after the other while another one publishes on all of them.
/// Checks that the node hears all that was published after each attach.
fn attach_in_a_flood(name: &str, publisher: &Node, listener: &Node, channels: usize) {
    const LAST: &str = "last";
    let channels: Vec<_> =
        (0..channels).map(|number| Channel::from(&*format!("{name}:{number}"))).collect();
    for channel in &channels {
        publisher.attach(channel);
    }
    let mut published = vec![0; channels.len()];
    let mut attached = vec![None; channels.len()];
    while attached.iter().any(Option::is_none) {
        let mut tokens = Vec::new();
        for (at, channel) in channels.iter().enumerate() {
            if at < 8 || attached[at - 8].is_some() {
                if published[at] == 5 {
                    listener.subscribe(channel, 1);
                }
                if attached[at].is_none() && listener.attached(channel) > 0 {
                    attached[at] = Some(published[at]);
                }
                tokens.push((at, publisher.publish(channel, &published[at].to_string())));
            }
        }
        for (at, token) in tokens {
            if let Published::Stored { .. } = publisher.outcome(token) {
                published[at] += 1;
            }
        }
    }
    let tokens: Vec<_> = channels.iter().map(|channel| publisher.publish(channel, LAST)).collect();
    for (channel, token) in channels.iter().zip(tokens) {
        let mut outcome = publisher.outcome(token);
        // On a busy machine the server may be too slow.
        while !matches!(outcome, Published::Stored { .. }) {
            println!("the last publication on {channel:?} is {outcome:?}");
            outcome = publisher.outcome(publisher.publish(channel, LAST));
        }
    }
    for (channel, attached) in channels.iter().zip(attached) {
        let is_last = |heard: &Heard| matches!(heard, Heard::At(_, text) if text == LAST);
        for node in [publisher, listener] {
            wait_until("the last one is heard", || node.heard(channel).iter().any(is_last));
        }
        let (all, heard) = (publisher.heard(channel), listener.heard(channel));
        assert!(all.ends_with(&heard), "{heard:?} are not the last ones of {all:?}");
        let since = all.len() - 1 - attached.expect("every channel is attached");
        assert!(heard.len() > since, "{} heard, {since} published since then", heard.len());
    }
}

#[test]
fn an_attach_is_exact_while_a_flood_is_under_way() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let nodes = [1, 2].map(|number| Node::start(number, &[nats.url()]));
    nodes.iter().for_each(Node::serves);
    attach_in_a_flood("flood", &nodes[0], &nodes[1], 60);
    assert_eq!(nodes[1].counter(|counters| &counters.cluster_gaps), 0);
}

#[test]
fn an_attach_is_exact_over_a_slow_route() {
    let three = Three::start();
    create_streams(&three.servers[0].url(), 3);
    let nodes: Vec<_> = three
        .servers
        .iter()
        .zip(1..)
        .map(|(server, number)| Node::start(number, &[server.url()]))
        .collect();
    nodes.iter().for_each(Node::serves);
    three.routes.iter().for_each(|route| route.delay(Way::ToServer, Duration::from_millis(30)));
    attach_in_a_flood("one", &nodes[0], &nodes[1], 12);
    attach_in_a_flood("other", &nodes[2], &nodes[0], 12);
    three.routes.iter().for_each(Route::cut);
}

#[test]
fn a_channel_is_left_after_a_while_and_heard_again() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let node = Node::start(1, &[nats.url()]);
    node.serves();
    let channel = Channel::from("order:1");
    node.attach(&channel);
    node.subscribe(&channel, 0);
    node.attach(&channel);
    assert_eq!(node.detached(&channel), 0, "it comes back within the linger");
    node.subscribe(&channel, 0);
    wait_until("the node has left", || node.detached(&channel) == 1);
    let token = node.publish(&channel, "unheard");
    node.outcome(token);
    node.attach(&channel);
    let token = node.publish(&channel, "heard");
    node.outcome(token);
    wait_until("it is heard", || node.count(&channel) == 1);
    assert!(matches!(&node.heard(&channel)[..], [Heard::At(_, text)] if text == "heard"));
}

#[test]
fn very_many_channels_are_heard_and_heard_again() {
    const CHANNELS: usize = 5_000;
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let node = Node::start(1, &[nats.url()]);
    node.serves();
    let channels: Vec<_> =
        (0..CHANNELS).map(|number| Channel::from(&*format!("c:{number}"))).collect();
    channels.iter().for_each(|channel| node.subscribe(channel, 1));
    let are_attached = || channels.iter().all(|channel| node.attached(channel) == 1);
    wait_until("the node hears all", are_attached);
    let refused = |channel: &Channel| node.refused(channel) > 0;
    assert!(!channels.iter().any(refused));
    // Fewer at once than may be under way.
    for some in channels.chunks(1_000) {
        let tokens: Vec<_> = some.iter().map(|channel| node.publish(channel, "x")).collect();
        for token in tokens {
            let outcome = node.outcome(token);
            assert!(matches!(outcome, Published::Stored { .. }), "{outcome:?}");
        }
    }
    wait_until("all is heard", || channels.iter().all(|channel| node.count(channel) == 1));
}
