//! Ways that are cut again and again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fanfare::cluster::events::Published;
use fanfare::message::Channel;

use crate::node::{Heard, Node, quiet};
use crate::stream::create_streams;
use crate::support::nats::Nats;
use crate::support::proxy::{Proxy, Way};
use crate::support::wait_until;

const NODES: usize = 3;
const CHANNELS: usize = 4;

/// What became of the publications of a test.
#[derive(Default)]
struct Told {
    stored: Vec<BTreeSet<String>>,
    unknown: BTreeSet<String>,
}

fn publish_through_cuts(nodes: &[Node], ways: &[Proxy], channels: &[Channel], told: &mut Told) {
    let end = Instant::now() + Duration::from_secs(6);
    let (mut number, mut next_cut) = (0, Instant::now());
    while Instant::now() < end {
        let mut tokens = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            for (channel, name) in channels.iter().enumerate() {
                let text = format!("{at}-{number}");
                tokens.push((at, channel, node.publish(name, &text), text));
            }
        }
        number += 1;
        if next_cut <= Instant::now() {
            next_cut = Instant::now() + Duration::from_millis(400);
            let way = &ways[number % NODES];
            // Cut with something on its way, in either direction.
            let withheld = if number % 2 == 0 { Way::ToServer } else { Way::ToClient };
            way.withhold(withheld, true);
            quiet(20);
            way.cut();
            way.withhold(withheld, false);
        }
        for (at, channel, token, text) in tokens {
            match nodes[at].outcome(token) {
                Published::Stored { .. } => drop(told.stored[channel].insert(text)),
                Published::Unknown => drop(told.unknown.insert(text)),
                Published::Refused(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn nodes_whose_ways_are_cut_hear_the_same() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let ways: Vec<_> = (0..NODES).map(|_| Proxy::to(nats.port())).collect();
    let nodes: Vec<_> = ways
        .iter()
        .zip(1..)
        .map(|(way, number)| Node::start(number, &[format!("nats://127.0.0.1:{}", way.port())]))
        .collect();
    let channels: Vec<_> =
        (0..CHANNELS).map(|number| Channel::from(&*format!("cuts:{number}"))).collect();
    for node in &nodes {
        node.serves();
        channels.iter().for_each(|channel| node.attach(channel));
    }
    let mut told = Told { stored: vec![BTreeSet::new(); CHANNELS], ..Told::default() };
    publish_through_cuts(&nodes, &ways, &channels, &mut told);
    nodes.iter().for_each(Node::serves);
    for channel in &channels {
        let outcome = || nodes[0].outcome(nodes[0].publish(channel, "last"));
        wait_until("the last one is stored", || matches!(outcome(), Published::Stored { .. }));
    }
    for (channel, stored) in channels.iter().zip(&told.stored) {
        let is_last = |heard: &Heard| matches!(heard, Heard::At(_, text) if text == "last");
        for node in &nodes {
            wait_until("the last one is heard", || node.heard(channel).iter().any(is_last));
        }
        let heard = nodes[0].heard(channel);
        assert!(nodes.iter().all(|node| node.heard(channel) == heard), "{channel:?} differs");
        let mut texts = BTreeSet::new();
        let mut place = 0;
        for one in &heard {
            let Heard::At(seq, text) = one else { panic!("a gap without a loss: {heard:?}") };
            assert!(*seq > place, "{seq} is not behind {place}");
            place = *seq;
            assert!(text == "last" || texts.insert(text.clone()), "{text} was heard twice");
        }
        assert!(texts.is_superset(stored), "{:?}", stored.difference(&texts));
        assert!(texts.iter().all(|text| stored.contains(text) || told.unknown.contains(text)));
    }
    let cuts: u64 =
        nodes.iter().map(|node| node.counter(|counters| &counters.cluster_lost_closed)).sum();
    let stored: usize = told.stored.iter().map(BTreeSet::len).sum();
    println!("{cuts} cuts, {stored} stored, {} unknown", told.unknown.len());
    assert!(cuts > 3 && stored > 100);
}
