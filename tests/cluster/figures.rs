//! What a node's thread costs for each publication, and what subscriptions would cost with the
//! client library of NATS.

use std::collections::VecDeque;

use fanfare::cluster::events::Published;
use fanfare::message::Channel;

use crate::node::Node;
use crate::stream::create_streams;
use crate::support::nats::{Nats, resident_bytes};
use crate::support::wait_until;

const PUBLICATIONS: u64 = 150_000;
const CHANNELS: usize = 100;
/// Publications that are not answered at one time.
const WINDOW: usize = 2_000;
/// CPU time for a publication that is only published or only received, in microseconds. A core must
/// carry more than one stream takes, which is some 60,000 publications a second. A build that is
/// not optimized needs ten times as long.
const MICROS_MAX: u64 = if cfg!(debug_assertions) { 150 } else { 15 };

#[test]
#[ignore = "measures for a while: tests/run long"]
fn a_publication_costs_microseconds() {
    let nats = Nats::one();
    create_streams(&nats.url(), 1);
    let [publisher, listener] = [1, 2].map(|number| Node::start(number, &[nats.url()]));
    publisher.serves();
    listener.serves();
    let channels: Vec<_> =
        (0..CHANNELS).map(|number| Channel::from(&*format!("figures:{number}"))).collect();
    channels.iter().for_each(|channel| listener.attach(channel));
    listener.measure();
    let text = "x".repeat(120);
    let before = (publisher.cpu_micros(), listener.cpu_micros());
    let mut tokens = VecDeque::new();
    let mut stored = 0;
    let mut settle = |token| match publisher.outcome(token) {
        Published::Stored { .. } => stored += 1,
        other => println!("{other:?}"),
    };
    for number in 0..PUBLICATIONS {
        let at = usize::try_from(number).expect("a short test") % CHANNELS;
        tokens.push_back(publisher.publish(&channels[at], &text));
        if tokens.len() >= WINDOW {
            tokens.pop_front().map(&mut settle);
        }
    }
    tokens.into_iter().for_each(&mut settle);
    let received = || listener.counter(|counters| &counters.cluster_received_publication);
    wait_until("everything is received", || received() >= stored);
    assert!(stored > PUBLICATIONS / 2, "{stored} stored");
    let cost = |before, now: u64| (now - before) * 1_000 / PUBLICATIONS;
    let publish = cost(before.0, publisher.cpu_micros());
    let receive = cost(before.1, listener.cpu_micros());
    println!(
        "CPU of the thread: {publish} ns for each publish, {receive} ns for each live message"
    );
    assert!(publish < MICROS_MAX * 1_000 && receive < MICROS_MAX * 1_000);
}

/// The reason why nodes have a line of their own. Its subscriptions cost the node nothing: see
/// `load.rs`.
#[tokio::test]
#[ignore = "measures for a while: tests/run long"]
async fn a_subscription_of_the_client_library_costs_kilobytes() {
    const SUBSCRIPTIONS: u64 = 20_000;
    let nats = Nats::one();
    let client = async_nats::connect(nats.url()).await.expect("the server takes the connection");
    let before = resident_bytes(std::process::id());
    let mut all = Vec::new();
    for number in 0..SUBSCRIPTIONS {
        let subject = format!("ff.live.{number:026}");
        all.push(client.subscribe(subject).await.expect("the client takes it"));
    }
    client.flush().await.expect("the server has them");
    let each = resident_bytes(std::process::id()).saturating_sub(before) / SUBSCRIPTIONS;
    println!("{each} bytes of the client library for each of {SUBSCRIPTIONS} subscriptions");
    assert!(each > 1_000, "the library could be used instead of a line of our own");
}
