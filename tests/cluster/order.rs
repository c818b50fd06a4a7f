//! One order of publications on all nodes.

use fanfare::cluster::events::Published;
use fanfare::message::Channel;

use crate::node::{Heard, Node, one_order};
use crate::stream::{create_streams, request};
use crate::support::nats::{Nats, Three};
use crate::support::wait_until;

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

#[test]
fn the_order_goes_on_behind_another_leader() {
    const EACH: usize = 400;
    let mut three = Three::start();
    let urls = three.servers.each_ref().map(Nats::url);
    create_streams(&urls[0], 3);
    let nodes = [1, 2, 3].map(|number| Node::start(number, &urls));
    let channel = Channel::from("order:1");
    for node in &nodes {
        node.serves();
        node.attach(&channel);
    }
    let info = request(&urls[0], "$JS.API.STREAM.INFO.FF_ORD", "");
    let leader = info["cluster"]["leader"].as_str().expect("the stream has a leader");
    let leader = three.servers.iter().position(|server| server.name() == leader).expect("a server");
    let mut stored = Vec::new();
    let mut unknown = 0;
    for number in 0..EACH {
        if number == EACH / 2 {
            three.servers[leader].kill();
        }
        // What is refused was not published, for certain, and is published again.
        wait_until("the stream takes publications", || {
            let node = &nodes[number % 3];
            match node.outcome(node.publish(&channel, &number.to_string())) {
                Published::Stored { seq, .. } => stored.push((seq, number)),
                Published::Unknown => unknown += 1,
                _ => return false,
            }
            true
        });
    }
    assert!(stored.len() > EACH / 2, "{} stored, {unknown} unknown", stored.len());
    let last = stored.last().expect("some are stored").0;
    let hears_last = |heard: &Heard| matches!(heard, Heard::At(seq, _) if *seq == last);
    for node in &nodes {
        wait_until("the last one is heard", || node.heard(&channel).iter().any(hears_last));
        let heard = node.heard(&channel);
        let places: Vec<_> = heard
            .iter()
            .filter_map(|heard| match heard {
                Heard::At(seq, text) => Some((*seq, text.parse::<usize>().expect("a number"))),
                Heard::Gap => None,
            })
            .collect();
        assert!(places.is_sorted() && places.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(node.gaps(&channel), 0, "{heard:?}");
        assert!(stored.iter().all(|one| places.contains(one)), "{stored:?} in {places:?}");
        assert!(places.len() <= stored.len() + unknown);
    }
}
