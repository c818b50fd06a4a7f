//! Streams of a node that stops.

use std::time::Duration;

use rustix::process::Signal;

use super::publish;
use super::stream::Stream;
use crate::support::{ANON_KEY, Node};

#[test]
fn streams_end_when_the_node_stops_and_hear_everything_before() {
    let mut node = Node::with_env(&[("FANFARE_DRAIN_MS", "500")]);
    node.create_channel("orders");
    let mut streams: Vec<_> = (0..20).map(|_| Stream::open(&node, &["orders"], ANON_KEY)).collect();
    streams.iter_mut().for_each(|stream| drop(stream.begin(1)));
    for number in 0..50 {
        publish(&node, "orders", number);
    }
    node.signal(Signal::TERM);
    for stream in &mut streams {
        let numbers: Vec<_> = std::iter::from_fn(|| stream.next())
            .filter(|event| event.name == "tick")
            .filter_map(|event| event.data["payload"]["n"].as_u64())
            .collect();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    }
    assert_eq!(node.exit_status(Duration::from_secs(30)).code(), Some(0));
}
