//! Clients that come back: they receive what they have missed, once and in order, or are told that
//! something is missing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::stream::{Event, PATH, Stream};
use super::{keep, publish};
use crate::support::{ANON_KEY, Node, wait_until};

pub(crate) const CHANNELS: [&str; 3] = ["a", "b", "c"];
/// Four workers, and recovery for longer than a test.
const RECOVERING: &[(&str, &str)] =
    &[("FANFARE_RECOVERY_WINDOW_MS", "600000"), ("FANFARE_WORKERS", "4")];
/// The same with recovery for a second.
const RECOVERING_SHORTLY: &[(&str, &str)] =
    &[("FANFARE_RECOVERY_WINDOW_MS", "1000"), ("FANFARE_WORKERS", "4")];
/// Cuts of one client.
const CUTS: usize = 200;

pub(crate) fn numbers(events: &[Event]) -> Vec<u64> {
    let ticks = events.iter().filter(|event| event.name == "tick");
    ticks.filter_map(|event| event.data["payload"]["n"].as_u64()).collect()
}

pub(crate) fn has_gap(events: &[Event]) -> bool {
    events.iter().any(|event| event.name == "gap")
}

/// Reads until a message with this number has come.
pub(crate) fn read_to(stream: &mut Stream, number: u64) -> Vec<Event> {
    let mut heard = Vec::new();
    loop {
        heard.push(stream.hear());
        if numbers(&heard).last() == Some(&number) {
            return heard;
        }
    }
}

/// Starts two nodes that keep the messages of all [`CHANNELS`] and of `orders`: one by
/// `replaySeconds`, and one of four workers by recovery.
fn nodes() -> [Node; 2] {
    let replaying = Node::start();
    let recovering = Node::with_env(RECOVERING);
    for channel in CHANNELS.iter().chain(&["orders"]) {
        keep(&replaying, channel, 600);
        recovering.create_channel(channel);
    }
    [replaying, recovering]
}

/// Publishes message 1 to a stream of `orders`, and cuts it there. Returns the stream's position.
fn cut_behind_one(node: &Node) -> String {
    let mut stream = Stream::open(node, &["orders"], ANON_KEY);
    stream.begin(1);
    publish(node, "orders", 1);
    assert_eq!(numbers(&read_to(&mut stream, 1)), [1]);
    stream.cut()
}

#[test]
fn a_client_continues_behind_its_last_event() {
    for node in nodes() {
        let last = cut_behind_one(&node);
        publish(&node, "orders", 2);
        publish(&node, "orders", 3);
        let mut again = Stream::resume(&node, &["orders"], ANON_KEY, &last);
        let heard = read_to(&mut again, 3);
        assert_eq!((numbers(&heard), has_gap(&heard)), (vec![2, 3], false));
    }
}

#[test]
fn a_client_that_has_received_no_message_continues_too() {
    for node in nodes() {
        for channels in [&CHANNELS[..1], &CHANNELS] {
            let mut stream = Stream::open(&node, channels, ANON_KEY);
            stream.begin(channels.len());
            stream.read_place();
            let last = stream.cut();
            publish(&node, "a", 1);
            let mut again = Stream::resume(&node, channels, ANON_KEY, &last);
            let heard = read_to(&mut again, 1);
            assert_eq!((numbers(&heard), has_gap(&heard)), (vec![1], false));
        }
    }
}

#[test]
fn a_client_continues_after_a_silence_that_is_longer_than_recovery() {
    let node = Node::with_env(RECOVERING_SHORTLY);
    node.create_channel("orders");
    let mut stream = Stream::open(&node, &["orders"], ANON_KEY);
    stream.begin(1);
    publish(&node, "orders", 1);
    read_to(&mut stream, 1);
    let with_one = node.metric("fanfare_stream_log_bytes");
    wait_until("the message has expired", || node.metric("fanfare_stream_log_bytes") < with_one);
    let last = stream.cut();
    publish(&node, "orders", 2);
    let mut again = Stream::resume(&node, &["orders"], ANON_KEY, &last);
    let heard = read_to(&mut again, 2);
    assert_eq!((numbers(&heard), has_gap(&heard)), (vec![2], false));
}

#[test]
fn recovery_keeps_nothing_for_a_channel_whose_streams_have_ended_long_ago() {
    let node = Node::with_env(RECOVERING_SHORTLY);
    node.create_channel("orders");
    let last = cut_behind_one(&node);
    publish(&node, "orders", 2);
    wait_until("nothing is kept", || {
        node.metric("fanfare_stream_log_bytes") == 0 && node.metric("fanfare_channels_kept") == 0
    });
    let mut again = Stream::resume(&node, &["orders"], ANON_KEY, &last);
    again.begin(1);
    assert_eq!(again.hear().name, "gap");
    assert_eq!(node.metric("fanfare_stream_log_evicted_total"), 0);
}

#[test]
fn a_gap_is_told_if_recovery_has_no_room() {
    let node = Node::with_env(&[
        ("FANFARE_RECOVERY_WINDOW_MS", "60000"),
        ("FANFARE_RECOVERY_LOG_BYTES", "1048576"),
    ]);
    node.create_channel("orders");
    let last = cut_behind_one(&node);
    node.publish("orders", "tick", &json!({ "n": 2, "filler": "x".repeat(500_000) }));
    assert!(node.metric("fanfare_stream_log_evicted_total") > 0);
    let mut again = Stream::resume(&node, &["orders"], ANON_KEY, &last);
    again.begin(1);
    assert_eq!(again.hear().name, "gap");
    publish(&node, "orders", 3);
    let heard = read_to(&mut again, 3);
    let last = again.cut();
    publish(&node, "orders", 4);
    let mut again = Stream::resume(&node, &["orders"], ANON_KEY, &last);
    let later = read_to(&mut again, 4);
    assert_eq!((numbers(&heard), numbers(&later), has_gap(&later)), (vec![3], vec![4], false));
}

#[test]
fn a_gap_is_told_if_the_channel_keeps_nothing() {
    let node = Node::start();
    node.create_channel("orders");
    let last = cut_behind_one(&node);
    publish(&node, "orders", 2);
    let mut again = Stream::resume(&node, &["orders"], ANON_KEY, &last);
    let begun = again.begin(1);
    assert_eq!(begun.len(), 1);
    let gap = again.hear();
    assert_eq!((gap.name.as_str(), gap.data), ("gap", json!({"channel": "orders", "count": null})));
}

#[test]
fn a_gap_is_told_after_a_restart_and_for_other_texts() {
    let mut node = Node::start();
    keep(&node, "orders", 60);
    let last = cut_behind_one(&node);
    node.restart();
    for last in [last.as_str(), "42", "not a cursor", &"x".repeat(4_000)] {
        let mut again = Stream::resume(&node, &["orders"], ANON_KEY, last);
        again.begin(1);
        assert_eq!(again.hear().name, "gap", "{last}");
    }
}

#[test]
fn a_gap_is_told_for_a_position_that_is_not_text() {
    let node = Node::start();
    keep(&node, "orders", 60);
    let head = format!("GET {PATH}?channel=orders&token={ANON_KEY} HTTP/1.1\r\nHost: n\r\n");
    let position = b"Last-Event-ID: \xff\x80\r\n\r\n";
    let mut stream = Stream::ask(node.port(), [head.as_bytes(), position].concat(), "");
    stream.begin(1);
    assert_eq!(stream.hear().name, "gap");
}

#[test]
fn an_absence_that_is_too_long_is_told() {
    let node = Node::start();
    keep(&node, "orders", 1);
    let last = cut_behind_one(&node);
    publish(&node, "orders", 2);
    thread::sleep(Duration::from_millis(2_500));
    let mut again = Stream::resume(&node, &["orders"], ANON_KEY, &last);
    again.begin(1);
    assert_eq!(again.hear().name, "gap");
}

/// Writers publish numbered messages on three channels while a client is cut again and again, at
/// any place of the stream.
#[test]
fn nothing_is_lost_or_doubled_over_two_hundred_cuts() {
    for channels in [&CHANNELS[..1], &CHANNELS] {
        for node in nodes() {
            // In a cluster, a stream does not resume in a channel without messages.
            channels.iter().for_each(|channel| _ = node.publish(channel, "hello", &json!({})));
            cut_while_writing(&[&node], channels);
        }
    }
}

/// Cuts a stream that takes the nodes in turn, while writers publish on the first one.
pub(crate) fn cut_while_writing(nodes: &[&Node], channels: &[&str]) {
    let is_over = &AtomicBool::new(false);
    let published: HashMap<&str, u64> = thread::scope(|scope| {
        let writers = channels.iter().map(|channel| {
            let write = move || {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    number += 1;
                    publish(nodes[0], channel, number);
                    thread::sleep(Duration::from_millis(4));
                }
                (*channel, number)
            };
            scope.spawn(write)
        });
        let writers: Vec<_> = writers.collect();
        let _stop = Stop(is_over);
        let mut heard: HashMap<String, u64> = HashMap::new();
        let last = cut_again_and_again(nodes, channels, &mut heard);
        is_over.store(true, Ordering::Relaxed);
        let published: HashMap<&str, u64> =
            writers.into_iter().map(|writer| writer.join().expect("it wrote")).collect();
        let mut stream = Stream::resume(nodes[0], channels, ANON_KEY, &last);
        while channels.iter().any(|channel| heard.get(*channel) != published.get(channel)) {
            note(&stream.hear(), &mut heard);
        }
        published
    });
    assert!(published.values().all(|count| *count > 0));
}

/// Ends the writers, also if the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn cut_again_and_again(
    nodes: &[&Node],
    channels: &[&str],
    heard: &mut HashMap<String, u64>,
) -> String {
    let mut last = String::new();
    for cut in 0..CUTS {
        let node = nodes[cut % nodes.len()];
        let mut stream = Stream::resume(node, channels, ANON_KEY, &last);
        assert_eq!(stream.status, 200);
        // A stream that is cut before its first event has a place only if it had one before.
        let events = 1 + cut % 13;
        let mut seen = 0;
        while seen < events {
            let event = stream.hear();
            seen += usize::from(event.name == "tick");
            note(&event, heard);
        }
        last = stream.cut();
    }
    last
}

/// Checks that a message is the next one of its channel.
fn note(event: &Event, heard: &mut HashMap<String, u64>) {
    assert_ne!(event.name, "gap", "{event:?} behind {heard:?}");
    let (Some(channel), Some(number)) =
        (event.data["channel"].as_str(), event.data["payload"]["n"].as_u64())
    else {
        return;
    };
    let before = heard.entry(channel.to_owned()).or_insert(number - 1);
    assert_eq!(number, *before + 1, "{channel}");
    *before = number;
}
