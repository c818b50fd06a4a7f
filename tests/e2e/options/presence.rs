//! `presence`: the news of joins and leaves that subscribers receive.

use serde_json::json;

use super::{Client, define, names, redefine};
use crate::support::{Node, user_token};

const CHANNEL: &str = "room";

fn start(presence: &str) -> (Node, String) {
    let node = Node::with(|command| {
        command.args(["--workers", "2"]);
    });
    let id = define(&node, &json!({ "pattern": CHANNEL, "presence": presence }));
    (node, id)
}

#[test]
fn counted_members_are_not_named() {
    let (node, _) = start("count");
    let [ada, bob] = ["ada", "bob"].map(user_token);
    let mut watcher = Client::connect(&node, &ada);
    let count = |count| json!({ "members": [], "count": count, "truncated": true });
    assert_eq!(watcher.subscribe(CHANNEL), count(1));
    let mut bobs = [(); 2].map(|()| Client::connect(&node, &bob));
    assert_eq!(bobs.each_mut().map(|one| one.subscribe(CHANNEL)), [count(2), count(2)]);
    assert_eq!(bobs[0].subscribe(CHANNEL), count(2), "again");
    bobs[0].unsubscribe(CHANNEL);
    assert_eq!(watcher.subscribe(CHANNEL), count(2), "one connection of him is left");
    bobs[1].unsubscribe(CHANNEL);
    node.soon("he has left", || watcher.subscribe(CHANNEL) == count(1));
    assert!(watcher.hear().is_empty(), "nothing is announced");
    assert_eq!(node.metric("fanfare_presence_suppressed_total"), 0);
}

#[test]
fn without_presence_nobody_is_seen() {
    let (node, _) = start("off");
    let [ada, bob] = ["ada", "bob"].map(user_token);
    let mut watcher = Client::connect(&node, &ada);
    assert_eq!(watcher.subscribe(CHANNEL), json!({ "members": [] }));
    let mut other = Client::connect(&node, &bob);
    assert_eq!(other.subscribe(CHANNEL), json!({ "members": [] }));
    other.unsubscribe(CHANNEL);
    assert!(watcher.hear().is_empty(), "nothing is announced");
    node.publish(CHANNEL, "tick", &json!({}));
    watcher.listen();
    assert_eq!(names(&watcher.hear()), ["tick"]);
}

#[test]
fn whoever_came_under_another_mode_leaves_as_it_came() {
    let (node, id) = start("off");
    let [ada, bob] = ["ada", "bob"].map(user_token);
    let (mut watcher, mut unseen) = (Client::connect(&node, &ada), Client::connect(&node, &bob));
    watcher.subscribe(CHANNEL);
    unseen.subscribe(CHANNEL);

    redefine(&node, &id, &json!({ "presence": "full" }));
    let mut seen = Client::connect(&node, &bob);
    let members = seen.subscribe(CHANNEL)["members"].clone();
    assert_eq!(members.as_array().map(Vec::len), Some(1), "{members}");
    assert_eq!(members[0]["presenceId"], "bob");
    watcher.listen();
    unseen.unsubscribe(CHANNEL);
    assert_eq!(names(&watcher.hear()), ["presence:join"], "bob is still there");
    unseen.subscribe(CHANNEL);
    seen.unsubscribe(CHANNEL);
    assert!(watcher.hear().is_empty(), "bob is still there, by the connection that came again");
    unseen.unsubscribe(CHANNEL);
    watcher.listen();
    assert_eq!(names(&watcher.hear()), ["presence:leave"]);
}

#[test]
fn a_leave_is_announced_as_the_channel_wants_it_then() {
    let (node, id) = start("full");
    let [ada, bob] = ["ada", "bob"].map(user_token);
    let (mut watcher, mut other) = (Client::connect(&node, &ada), Client::connect(&node, &bob));
    watcher.subscribe(CHANNEL);
    other.subscribe(CHANNEL);
    watcher.listen();
    assert_eq!(names(&watcher.hear()), ["presence:join"]);
    redefine(&node, &id, &json!({ "presence": "count" }));
    other.unsubscribe(CHANNEL);
    assert!(watcher.hear().is_empty(), "by now it is nobody's business");
    let counted = json!({ "members": [], "count": 1, "truncated": true });
    node.soon("only ada is counted", || watcher.subscribe(CHANNEL) == counted);

    // After the definition is deleted, the option at the time of the last join counts.
    other.subscribe(CHANNEL);
    let (status, _) = node.admin("DELETE", &format!("/api/realtime/channels/{id}"), &json!(null));
    assert_eq!(status, 200);
    other.unsubscribe(CHANNEL);
    assert!(watcher.hear().is_empty(), "who was only counted is not named now");
}
