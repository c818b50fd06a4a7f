//! Replay of events before a subscription, and after a lost connection.

use serde_json::{Value, json};

use super::app::{invocation, place, publish};
use super::listener::Listener;
use crate::support::{Node, wait_until};

/// Publishes an event and returns its id; `None` if the topic has no subscriber.
fn tell(node: &Node, payload: &str) -> Option<String> {
    let body = json!({ "name": "room", "payload": payload });
    let result = publish(node, "publish", &invocation(&place()), &body);
    result["eventId"].as_str().map(str::to_owned)
}

fn replay(listener: &mut Listener, options: Value) -> (u64, Value) {
    let answer = listener.try_subscribe("room", &json!({ "options": options }));
    assert_eq!(answer["type"], "subscribed", "{answer}");
    (answer["id"].as_u64().expect("an id"), answer["last"].clone())
}

fn payloads(listener: &mut Listener, count: usize, replay: Option<u64>) -> Vec<String> {
    let one = |_| {
        let event = listener.hear();
        assert_eq!(event["replay"].as_u64(), replay, "{event}");
        event["payload"].as_str().expect("a payload is text").to_owned()
    };
    (0..count).map(one).collect()
}

#[test]
fn a_newcomer_gets_what_it_asks_for_before_what_is_live() {
    let node = Node::start();
    let mut first = Listener::connect(&node, &place());
    assert_eq!(replay(&mut first, json!({ "replaySeconds": 60 })), (2, Value::Null));
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|payload| tell(&node, payload)).collect();
    assert_eq!(payloads(&mut first, 3, None), ["a", "b", "c"]);

    let mut second = Listener::connect(&node, &place());
    let (id, last) = replay(&mut second, json!({ "replaySeconds": 0.5 }));
    assert_eq!(last.as_str(), ids[2].as_deref());
    assert_eq!(payloads(&mut second, 3, Some(id)), ["a", "b", "c"]);
    tell(&node, "d");
    assert_eq!(payloads(&mut second, 1, None), ["d"]);

    let (id, _) = replay(&mut second, json!({ "replaySeconds": 3600, "after": ids[1] }));
    assert_eq!(payloads(&mut second, 2, Some(id)), ["c", "d"], "asked for again");
    tell(&node, "e");
    assert_eq!(payloads(&mut second, 1, None), ["e"], "once, though subscribed twice");
    second.hear_nothing();

    let mut third = Listener::connect(&node, &place());
    let (_, last) = replay(&mut third, json!({}));
    assert!(last.is_string());
    third.hear_nothing();
}

#[test]
fn what_was_let_go_of_before_its_time_is_told() {
    let node = Node::start();
    let mut first = Listener::connect(&node, &place());
    first.subscribe("room", &json!({}));
    let oldest = tell(&node, "0");
    (1..=256).for_each(|number| drop(tell(&node, &number.to_string())));
    let mut second = Listener::connect(&node, &place());
    let (id, _) = replay(&mut second, json!({ "replaySeconds": 60, "after": oldest }));
    let gap = second.hear();
    assert_eq!(
        (&gap["type"], &gap["error"]["code"]),
        (&json!("subscription_error"), &json!("GAP"))
    );
    let heard = payloads(&mut second, 256, Some(id));
    assert_eq!((&*heard[0], &*heard[255]), ("1", "256"));
}

#[test]
fn what_is_published_to_nobody_is_nowhere() {
    let node = Node::start();
    assert_eq!(tell(&node, "nobody"), None);
    let mut listener = Listener::connect(&node, &place());
    assert_eq!(replay(&mut listener, json!({ "replaySeconds": 60 })).1, Value::Null);
    listener.hear_nothing();
    drop(listener);
    wait_until("it is gone", || node.metric("fanfare_connections") == 0);
    node.soon("without linger it is gone at once", || tell(&node, "nobody any more").is_none());
}

#[test]
fn who_was_cut_off_is_waited_for_and_who_left_is_not() {
    let node = Node::with_env(&[("FANFARE_FORGE_LINGER_MS", "4000")]);
    let mut listener = Listener::connect(&node, &place());
    let topic = listener.subscribe("room", &json!({}));
    let last = tell(&node, "before");
    drop(listener);
    wait_until("it is gone", || node.metric("fanfare_connections") == 0);
    assert!(tell(&node, "meanwhile").is_some());
    let mut back = Listener::connect(&node, &place());
    let (id, _) = replay(&mut back, json!({ "replaySeconds": 60, "after": last }));
    assert_eq!(payloads(&mut back, 1, Some(id)), ["meanwhile"]);
    let mut ask = |message| {
        let id = back.say(message);
        loop {
            let answer = back.hear();
            if answer["id"] == id {
                return;
            }
            // In a cluster, it may come to the node while the next subscribe waits there.
            assert!(node.is_three() && answer["payload"] == "unheard", "{answer}");
        }
    };
    wait_until("nobody is waited for any more", || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        ask(json!({ "type": "unsubscribe", "topic": topic }));
        let is_alone = tell(&node, "unheard").is_none();
        ask(json!({ "type": "subscribe", "channel": "room" }));
        is_alone
    });
}

#[test]
fn a_topic_that_keeps_nothing_replays_nothing_and_waits_for_nobody() {
    let node = Node::with_env(&[
        ("FANFARE_FORGE_REPLAY_SECONDS", "0"),
        ("FANFARE_FORGE_LINGER_MS", "60000"),
    ]);
    let mut listener = Listener::connect(&node, &place());
    listener.subscribe("room", &json!({}));
    assert!(tell(&node, "a").is_some());
    let mut second = Listener::connect(&node, &place());
    assert_eq!(replay(&mut second, json!({ "replaySeconds": 60 })).1, Value::Null);
    second.hear_nothing();
    drop((listener, second));
    wait_until("both are gone", || node.metric("fanfare_connections") == 0);
    node.soon("nobody could fetch it", || tell(&node, "b").is_none());
}

#[test]
fn who_says_goodbye_is_not_waited_for() {
    let node = Node::with_env(&[("FANFARE_FORGE_LINGER_MS", "60000")]);
    let mut listener = Listener::connect(&node, &place());
    listener.subscribe("room", &json!({}));
    assert!(tell(&node, "here").is_some());
    listener.leave();
    wait_until("it is gone", || node.metric("fanfare_connections") == 0);
    node.soon("it is gone", || tell(&node, "gone").is_none());

    let mut cut_off = Listener::connect(&node, &place());
    cut_off.subscribe("room", &json!({}));
    drop(cut_off);
    wait_until("it is gone", || node.metric("fanfare_connections") == 0);
    assert!(tell(&node, "it may come back").is_some());
    let mut back = Listener::connect(&node, &place());
    let topic = back.subscribe("room", &json!({}));
    back.ask(json!({ "type": "unsubscribe", "topic": topic }));
    // In a cluster, the node that it was cut off from goes on waiting.
    let is_waited_for = tell(&node, "it came and left").is_some();
    assert!(!is_waited_for || node.is_three());
}

#[test]
fn nothing_follows_a_close() {
    let node = Node::start();
    let mut witness = Listener::connect(&node, &place());
    witness.subscribe("room", &json!({}));
    tell(&node, "kept");
    for message in [
        json!({ "type": "subscribe", "id": 7, "channel": "room", "options": { "replaySeconds": 60 } }),
        json!({ "type": "unsubscribe", "id": 7, "topic": "none" }),
    ] {
        let bytes = Listener::connect(&node, &place()).say_and_leave(&message);
        let close = bytes.iter().position(|byte| *byte == 0x88).expect("the node closes, too");
        let behind = &bytes[close + 2 + usize::from(bytes[close + 1])..];
        assert!(behind.is_empty(), "{}", String::from_utf8_lossy(behind));
    }
    assert_eq!(payloads(&mut witness, 1, None), ["kept"]);
}
