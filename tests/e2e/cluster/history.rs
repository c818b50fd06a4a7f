//! One history of all nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fleet::Fleet;
use crate::support::clock::Clock;
use crate::support::target::{Reaction, Target};
use crate::support::{API_KEY, Node, wait_until};

const MESSAGES: &str = "/api/realtime/messages";
const UNANSWERED: &str = "fanfare-unanswered";
const UNCONFIRMED: &str = "fanfare-unconfirmed";

/// What a node has answered: the body, and the nodes that it names in a header.
type Answer = (Value, Option<String>);

/// Asks a node, which must answer 200.
fn ask(node: &Node, method: &str, path: &str, names: &str) -> Answer {
    let bearer = format!("Bearer {API_KEY}");
    let response = node.request(method, path, &[("authorization", &*bearer)], b"");
    assert_eq!(response.status, 200, "{method} {path}: {}", response.text());
    (response.json(), response.header(names).map(str::to_owned))
}

fn read(node: &Node, query: &str) -> Answer {
    ask(node, "GET", &format!("{MESSAGES}{query}"), UNANSWERED)
}

/// Returns the messages that all nodes have together, the newest first.
fn list(node: &Node, query: &str) -> Vec<Value> {
    let (body, unanswered) = read(node, query);
    assert_eq!(unanswered, None, "{query}");
    body.as_array().expect("a list").clone()
}

fn payloads(messages: &[Value]) -> Vec<Value> {
    messages.iter().map(|message| message["payload"].clone()).collect()
}

/// Publishes on a node. Returns the id.
fn publish(node: &Node, channel: &str, event: &str, payload: &Value) -> String {
    let answer = node.publish(channel, event, payload);
    assert_eq!(answer["durability"], "stored", "{answer}");
    answer["messageId"].as_str().expect("an id").to_owned()
}

/// Publishes under an id, and returns it.
fn publish_named(node: &Node, id: &str, payload: &Value) {
    let body = json!({ "channel": "orders", "event": "tick", "payload": payload, "messageId": id });
    let (status, answer) = node.admin("POST", MESSAGES, &body);
    assert_eq!((status, &answer["durability"]), (201, &json!("stored")), "{answer}");
}

fn define<B>(fleet: &Fleet<B>, pattern: &str) -> String {
    let definition = json!({ "pattern": pattern, "presence": "off" });
    let (status, body) = fleet.nodes[0].admin("POST", "/api/realtime/channels", &definition);
    assert_eq!(status, 201, "{body}");
    body["id"].as_str().expect("an id").to_owned()
}

/// Starts nodes whose clocks differ from the true one by these seconds.
fn with_clocks(seconds: &[i64]) -> (Fleet, Vec<Arc<Clock>>) {
    let clocks = seconds.iter().map(|seconds| {
        let clock = Clock::new();
        clock.shift(*seconds);
        Arc::new(clock)
    });
    let clocks: Vec<_> = clocks.collect();
    let of_nodes = clocks.clone();
    let fleet = Fleet::each(seconds.len(), move |at, command| {
        command.envs(of_nodes[at].variables());
    });
    (fleet, clocks)
}

/// Reads all messages page by page, by cursor and by offset.
fn check_pages(node: &Node, filter: &str, expected: &[Value]) {
    for limit in [1, 7, 1_000] {
        let (mut by_cursor, mut by_offset) = (Vec::new(), Vec::new());
        let mut cursor = String::new();
        loop {
            let page = list(node, &format!("?limit={limit}{filter}{cursor}"));
            let offset = by_offset.len();
            by_offset.extend(list(node, &format!("?limit={limit}{filter}&offset={offset}")));
            let Some(last) = page.last() else { break };
            cursor = format!("&before={}", last["id"].as_str().expect("an id"));
            by_cursor.extend(page);
        }
        assert_eq!(payloads(&by_cursor), expected, "{limit} {filter}");
        assert_eq!(payloads(&by_offset), expected, "{limit} {filter}");
    }
}

#[test]
fn all_nodes_have_one_history_in_the_order_of_the_stream() {
    let (fleet, _clocks) = with_clocks(&[0, -3_600, 3_600]);
    let [orders, bills] = ["orders", "bills"].map(|pattern| define(&fleet, pattern));
    let each = (0..40).map(|number: usize| {
        let (channel, event) = (["orders", "bills"][number % 2], ["a", "b", "c"][number / 3 % 3]);
        publish(&fleet.nodes[number % 3], channel, event, &json!(number));
        (number, channel, event)
    });
    let mut all: Vec<_> = each.collect();
    all.reverse();
    let of = |is: &dyn Fn(&str, &str) -> bool| -> Vec<Value> {
        let found = all.iter().filter(|(_, channel, event)| is(channel, event));
        found.map(|(number, ..)| json!(number)).collect()
    };
    let first = list(&fleet.nodes[0], "");
    assert_eq!(payloads(&first), of(&|_, _| true));
    for node in &fleet.nodes {
        assert_eq!(list(node, ""), first);
        check_pages(node, "", &of(&|_, _| true));
        check_pages(node, &format!("&channelId={orders}"), &of(&|channel, _| channel == "orders"));
        check_pages(node, "&eventName=b", &of(&|_, event| event == "b"));
        let both = format!("&channelId={bills}&eventName=c");
        check_pages(node, &both, &of(&|channel, event| (channel, event) == ("bills", "c")));
        assert_eq!(list(node, "?offset=40"), [json!(null); 0]);
        assert_eq!(list(node, "?offset=50000"), [json!(null); 0]);
    }
    let stats = |node: &Node, query: &str| {
        let (stats, unanswered) = ask(node, "GET", &format!("{MESSAGES}/stats{query}"), UNANSWERED);
        assert_eq!(unanswered, None);
        (stats["totalMessages"].clone(), stats["topEvents"].clone())
    };
    let count =
        |channel: &str, name| all.iter().filter(|one| one.1 == channel && one.2 == name).count();
    let whole = stats(&fleet.nodes[0], "");
    assert_eq!(whole.0, json!(40));
    let of_bills = stats(&fleet.nodes[0], &format!("?channelId={bills}"));
    assert_eq!(of_bills.0, json!(20));
    for event in of_bills.1.as_array().expect("a list") {
        let name = event["eventName"].as_str().expect("a text");
        assert_eq!(event["count"], json!(count("bills", name)));
    }
    for node in &fleet.nodes {
        assert_eq!(stats(node, ""), whole);
        assert_eq!(stats(node, &format!("?channelId={bills}")), of_bills);
        assert!(node.metric("fanfare_cluster_history_questions_total") > 0);
        assert_eq!(node.metric("fanfare_cluster_history_unanswered_total"), 0);
    }
    let unknown = Uuid::from_u128(rand::random());
    let (status, body) =
        fleet.nodes[0].admin("GET", &format!("{MESSAGES}?before={unknown}"), &json!(null));
    assert_eq!((status, &body["error"]), (400, &json!("INVALID_INPUT")), "{body}");
}

#[test]
fn long_pages_come_from_other_nodes_as_well() {
    let fleet = Fleet::on_three(2, &[]);
    define(&fleet, "orders");
    let texts = (0..4).map(|number| json!({ "text": "x".repeat(900_000 + number) }));
    let texts: Vec<_> = texts.collect();
    for text in &texts {
        publish(&fleet.nodes[0], "orders", "a", text);
    }
    let found = list(&fleet.nodes[1], "");
    assert!(payloads(&found).iter().eq(texts.iter().rev()));
    for _ in 0..36 {
        publish(&fleet.nodes[0], "orders", "a", &texts[0]);
    }
    let (status, body) = fleet.nodes[1].admin("GET", MESSAGES, &json!(null));
    assert_eq!(status, 400, "{body}");
    assert!(body["message"].as_str().expect("a text").contains("bytes together"), "{body}");
    assert_eq!(list(&fleet.nodes[1], "?limit=30").len(), 30);
}

#[test]
fn a_node_that_does_not_answer_is_named() {
    let mut fleet = Fleet::start(3);
    define(&fleet, "orders");
    for number in 0..9 {
        publish(&fleet.nodes[number % 3], "orders", "a", &json!(number));
    }
    let without = json!([7, 6, 4, 3, 1, 0]);
    let all = json!([8, 7, 6, 5, 4, 3, 2, 1, 0]);
    let named = |node: &Node| {
        let (body, unanswered) = read(node, "");
        (json!(payloads(body.as_array().expect("a list"))), unanswered)
    };
    fleet.nodes[2].signal(Signal::STOP);
    let begin = Instant::now();
    assert_eq!(named(&fleet.nodes[0]), (without.clone(), Some("n3".to_owned())));
    let took = begin.elapsed();
    println!("a page without a node that stands still took {took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    let (stats, unanswered) = ask(&fleet.nodes[1], "GET", &format!("{MESSAGES}/stats"), UNANSWERED);
    assert_eq!((stats["totalMessages"].clone(), unanswered), (json!(6), Some("n3".to_owned())));
    fleet.nodes[2].signal(Signal::CONT);
    wait_until("it answers again", || named(&fleet.nodes[0]) == (all.clone(), None));

    fleet.nodes[2].kill();
    let missing = (without, Some("n3".to_owned()));
    assert_eq!(named(&fleet.nodes[1]), missing);
    wait_until("a node that is gone is not waited for", || {
        let begin = Instant::now();
        assert_eq!(named(&fleet.nodes[1]), missing);
        begin.elapsed() < Duration::from_millis(500)
    });
    // The message may be on the node that is gone.
    let unknown = format!("{MESSAGES}?before={}", Uuid::from_u128(rand::random()));
    let (status, body) = fleet.nodes[1].admin("GET", &unknown, &json!(null));
    assert_eq!((status, &body["error"]), (503, &json!("BACKPLANE_UNAVAILABLE")), "{body}");
    let port = fleet.nodes[2].port();
    fleet.nodes[2].start_again(port);
    fleet.wait_until_healthy();
    for node in &fleet.nodes {
        wait_until("it has all", || named(node) == (all.clone(), None));
    }

    // One that has left in good order may be back, too.
    fleet.nodes[2].signal(Signal::TERM);
    fleet.nodes[2].exit_status(Duration::from_secs(20));
    assert_eq!(named(&fleet.nodes[1]), missing);
    fleet.nodes[2].start_again(port);
    fleet.wait_until_healthy();
    wait_until("it is back", || named(&fleet.nodes[1]) == (all.clone(), None));

    // Without NATS a node has its own.
    fleet.nats.kill();
    wait_until("a node without NATS answers alone", || {
        named(&fleet.nodes[0]) == (json!([6, 3, 0]), Some("n2, n3".to_owned()))
    });
    fleet.nodes[0].restart();
    assert_eq!(named(&fleet.nodes[0]), (json!([6, 3, 0]), Some("*".to_owned())));
    let (status, body) = fleet.nodes[0].admin("DELETE", MESSAGES, &json!(null));
    assert_eq!((status, &body["error"]), (503, &json!("BACKPLANE_UNAVAILABLE")), "{body}");
}

#[test]
fn deletion_and_retention_hold_on_all_nodes() {
    const DAY: i64 = 24 * 60 * 60;
    let (fleet, clocks) = with_clocks(&[0, -3 * DAY, 0]);
    define(&fleet, "orders");
    for number in 0..9 {
        publish(&fleet.nodes[number % 3], "orders", "a", &json!(number));
    }
    clocks[1].shift(0);
    let days = json!({ "retentionDays": 2 });
    assert_eq!(fleet.nodes[0].admin("PATCH", "/api/realtime/config", &days).0, 200);
    for node in &fleet.nodes {
        wait_until("old ones are removed", || {
            payloads(&list(node, "")) == [8, 6, 5, 3, 2, 0].map(|number| json!(number))
        });
    }

    fleet.nodes[2].signal(Signal::STOP);
    let (cleared, unconfirmed) = ask(&fleet.nodes[0], "DELETE", MESSAGES, UNCONFIRMED);
    assert_eq!((&cleared["deleted"], unconfirmed), (&json!(3), Some("n3".to_owned())));
    fleet.nodes[2].signal(Signal::CONT);
    fleet.wait_until_healthy();
    publish(&fleet.nodes[1], "orders", "a", &json!("new"));
    wait_until("it has carried out what it was asked", || {
        payloads(&list(&fleet.nodes[0], "")) == [json!("new")]
    });
    for number in 0..3 {
        publish(&fleet.nodes[number], "orders", "a", &json!(number));
    }
    let (cleared, unconfirmed) = ask(&fleet.nodes[1], "DELETE", MESSAGES, UNCONFIRMED);
    assert_eq!((&cleared["deleted"], unconfirmed), (&json!(4), None));
    for node in &fleet.nodes {
        assert_eq!(list(node, ""), [json!(null); 0]);
    }
}

#[test]
fn channels_that_a_node_orders_itself_are_in_the_history_of_all() {
    let fleet = Fleet::start(2);
    define(&fleet, "orders");
    let local = json!({ "pattern": "local:*", "presence": "off", "order": "local" });
    assert_eq!(fleet.nodes[0].admin("POST", "/api/realtime/channels", &local).0, 201);
    for number in 0..4 {
        publish(&fleet.nodes[0], "orders", "a", &json!(number));
        publish(&fleet.nodes[1], "local:a", "a", &json!(10 + number));
    }
    for node in &fleet.nodes {
        let found = payloads(&list(node, ""));
        let of = |is: fn(i64) -> bool| -> Vec<i64> {
            let numbers = found.iter().filter_map(Value::as_i64);
            numbers.filter(|number| is(*number)).collect()
        };
        assert_eq!(found.len(), 8);
        assert_eq!(of(|number| number < 10), [3, 2, 1, 0]);
        assert_eq!(of(|number| number >= 10), [13, 12, 11, 10]);
    }
    // The place of what the stream does not order is near its time, once the node has heard others.
    publish(&fleet.nodes[0], "orders", "a", &json!(4));
    wait_until("the other node has heard of it", || {
        publish(&fleet.nodes[1], "local:a", "a", &json!(14));
        payloads(&list(&fleet.nodes[0], "?limit=1")) == [json!(14)]
    });
    publish(&fleet.nodes[0], "orders", "a", &json!(5));
    for node in &fleet.nodes {
        assert_eq!(payloads(&list(node, "?limit=2")), [json!(5), json!(14)]);
    }
}

#[test]
fn what_is_published_again_on_another_node_is_kept_once_and_webhooks_are_called_once() {
    let target = Target::always(Reaction::Status(204));
    let mut fleet = Fleet::each(3, |_, command| {
        command.env("FANFARE_WEBHOOKS_SECRET", format!("whsec_{}", "01".repeat(32)));
        command.env("FANFARE_WEBHOOKS_ALLOW_PRIVATE", "true");
    });
    let definition = json!({ "pattern": "orders", "webhookUrls": [target.url()] });
    assert_eq!(fleet.nodes[0].admin("POST", "/api/realtime/channels", &definition).0, 201);
    let [one, other] = [1, 2].map(|number: u128| Uuid::from_u128(number).to_string());
    publish_named(&fleet.nodes[0], &one, &json!("first"));
    assert_eq!(target.next().header("x-insforge-message-id"), one);
    for at in [1, 2, 0, 1] {
        publish_named(&fleet.nodes[at], &one, &json!("changed"));
        for node in &fleet.nodes {
            assert_eq!(payloads(&list(node, "")), [json!("first")]);
        }
    }
    assert_eq!(fleet.nodes[1].metric("fanfare_cluster_history_repeats_total"), 2);
    assert_eq!(fleet.nodes[1].metric("fanfare_history_kept_total"), 0);

    // Another publisher's message with the same id is another message.
    fleet.define(&json!({ "pattern": "bills", "presence": "off" }));
    let body = json!({ "channel": "bills", "event": "tick", "payload": 1, "messageId": one });
    assert_eq!(fleet.nodes[1].admin("POST", MESSAGES, &body).0, 201);
    assert_eq!(payloads(&list(&fleet.nodes[2], "")), [json!(1), json!("first")]);

    // A node that is gone may have kept the message and called its webhooks, or not.
    publish_named(&fleet.nodes[0], &other, &json!("first"));
    assert_eq!(target.next().header("x-insforge-message-id"), other);
    fleet.nodes[0].kill();
    publish_named(&fleet.nodes[1], &other, &json!("again"));
    assert_eq!(target.next().header("x-insforge-message-id"), other);
    publish_named(&fleet.nodes[2], &other, &json!("again"));
    let (found, unanswered) = read(&fleet.nodes[2], "");
    let found = payloads(found.as_array().expect("a list"));
    assert_eq!((found, unanswered), (vec![json!("again"), json!(1)], Some("n1".to_owned())));
    let port = fleet.nodes[0].port();
    fleet.nodes[0].start_again(port);
    fleet.wait_until_healthy();
    wait_until("all answer", || read(&fleet.nodes[2], "").1.is_none());
    for node in &fleet.nodes {
        assert_eq!(list(node, "").len(), 3, "{:?}", list(node, ""));
    }
    assert!(!target.has_more());
}
