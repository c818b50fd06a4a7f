//! What becomes of publications.

use std::time::{Duration, Instant};

use fanfare::cluster::ack::Refusal;
use fanfare::cluster::events::Published;
use fanfare::cluster::health::Condition;
use fanfare::message::Channel;
use uuid::Uuid;

use crate::node::{Node, quiet};
use crate::stream::create_streams;
use crate::support::nats::Nats;
use crate::support::proxy::{Proxy, Way};
use crate::support::wait_until;

fn stored(published: Published) -> u64 {
    match published {
        Published::Stored { seq, duplicate: false } => seq,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_repeated_publication_is_heard_once() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let nodes = [1, 2].map(|number| Node::start(number, &[nats.url()]));
    nodes.iter().for_each(Node::serves);
    let [one, other] = [Channel::from("order:1"), Channel::from("order:2")];
    nodes[0].attach(&one);
    nodes[0].attach(&other);
    let id = Uuid::from_u128(7);
    let seq = stored(nodes[0].outcome(nodes[0].publish_as(&one, "a", id, false)));
    let again = nodes[1].outcome(nodes[1].publish_as(&one, "a", id, false));
    assert_eq!(again, Published::Stored { seq, duplicate: true });
    stored(nodes[1].outcome(nodes[1].publish_as(&other, "a", id, false)));
    wait_until("both are heard", || nodes[0].count(&other) == 1);
    assert_eq!(nodes[0].count(&one), 1);
    assert_eq!(nodes[1].counter(|counters| &counters.cluster_duplicate), 1);
}

#[test]
fn a_server_that_is_killed_refuses_and_comes_back() {
    let mut nats = Nats::one();
    create_streams(&nats.url(), 1);
    let node = Node::start(1, &[nats.url()]);
    node.serves();
    let channel = Channel::from("order:1");
    node.attach(&channel);
    stored(node.outcome(node.publish(&channel, "before")));
    nats.kill();
    wait_until("the node knows", || !node.is_serving());
    let refused = node.outcome(node.publish(&channel, "without"));
    assert_eq!(refused, Published::Refused(Refusal::Unavailable));
    assert!(matches!(node.condition(), Some(Condition::NoAnswer(_))), "{:?}", node.condition());
    nats.start_again(false);
    // The stream is gone: what was heard before is the past of no stream.
    wait_until("the node is connected", || {
        let refused = node.outcome(node.publish(&channel, "no stream"));
        assert!(matches!(refused, Published::Refused(_)), "{refused:?}");
        !matches!(node.condition(), Some(Condition::NoAnswer(_)))
    });
    create_streams(&nats.url(), 1);
    node.serves();
    wait_until("the gap is told", || node.gaps(&channel) == 1);
    stored(node.outcome(node.publish(&channel, "after")));
    wait_until("the node hears again", || node.count(&channel) == 2);
    assert!(node.counter(|counters| &counters.cluster_epochs) >= 1);
}

#[test]
fn a_server_that_stands_still_leaves_publications_unknown() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let node = Node::start(1, &[nats.url()]);
    node.serves();
    let channel = Channel::from("order:1");
    node.attach(&channel);
    stored(node.outcome(node.publish(&channel, "before")));
    nats.freeze();
    let start = Instant::now();
    let token = node.publish(&channel, "perhaps");
    assert_eq!(node.outcome(token), Published::Unknown);
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    nats.thaw();
    node.serves();
    wait_until("the late answer comes", || node.outcomes(token).len() == 2);
    assert!(matches!(node.outcomes(token)[1], Published::Late(_)), "{:?}", node.outcomes(token));
    wait_until("it is heard", || node.count(&channel) == 2);
}

#[test]
fn publications_without_a_way_are_refused_and_those_under_way_unknown() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let proxy = Proxy::to(nats.port());
    let node = Node::start(1, &[format!("nats://127.0.0.1:{}", proxy.port())]);
    node.serves();
    let channel = Channel::from("order:1");
    node.attach(&channel);
    proxy.withhold(Way::ToClient, true);
    let token = node.publish(&channel, "stored without an answer");
    quiet(300);
    proxy.cut();
    assert_eq!(node.outcome(token), Published::Unknown);
    let refused = node.outcome(node.publish(&channel, "refused"));
    assert_eq!(refused, Published::Refused(Refusal::Unavailable));
    proxy.withhold(Way::ToClient, false);
    node.serves();
    wait_until("what was missed is read", || node.count(&channel) == 1);
    assert_eq!(node.gaps(&channel), 0);
}

#[test]
fn events_without_a_listener_are_not_published() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let mut nodes = [1, 2].map(|number| Node::start(number, &[nats.url()]));
    nodes.iter().for_each(Node::serves);
    let topic = Channel::topic("t1");
    // A node that has just connected may not have heard of all others.
    let is_unheard = |node: &Node| node.outcome(node.publish(&topic, "x")) == Published::NotHeard;
    wait_until("it is certain that nobody listens", || is_unheard(&nodes[0]));
    nodes[1].attach(&topic);
    let seq = stored(nodes[0].outcome(nodes[0].publish(&topic, "heard")));
    assert!(seq > 0);
    wait_until("it is heard", || nodes[1].count(&topic) == 1);
    nodes[1].subscribe(&topic, 0);
    // The claim ends at once; an event may be published before its end is stored.
    wait_until("nobody listens any more", || is_unheard(&nodes[0]));
    nodes[1].attach(&topic);
    nodes[1].end();
    wait_until("the claims of a node that ended are gone", || is_unheard(&nodes[0]));
    assert!(nodes[0].counter(|counters| &counters.cluster_unheard) >= 3);
}

#[test]
fn without_a_barrier_nobody_is_said_not_to_listen() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let node = Node::start(1, &[nats.url()]);
    node.serves();
    let topic = Channel::topic("t1");
    wait_until("it is certain that nobody listens", || {
        node.outcome(node.publish(&topic, "x")) == Published::NotHeard
    });
    nats.freeze();
    let outcome = node.outcome(node.publish(&topic, "x"));
    assert_eq!(outcome, Published::Unproven);
    nats.thaw();
}
