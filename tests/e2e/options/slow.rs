//! `slowConsumer`: clients that do not read for a while, and what they lose.

use serde_json::json;
use uuid::Uuid;

use super::{Client, Told, define, ids_and_gaps, publish, settled};
use crate::overload::narrow;
use crate::socket::{Heard, Socket};
use crate::support::{Node, user_token, wait_until};

const CHANNEL: &str = "feed";
/// Bytes of a publication; a few fill an outbox.
const BULK: usize = 64 * 1024;
/// Number of such publications that fill all buffers on the way to a client, and its outbox.
const BULKS: usize = 600;
const MATCHED: &str = "fanfare_deliveries_matched_total";

/// Two clients that do not read, one on each transport, and one that reads.
struct Scene {
    node: Node,
    idle: [Client; 2],
    reader: Client,
}

impl Scene {
    fn new(verdict: &str) -> Self {
        let node = Node::with(|command| {
            command.args(["--workers", "2"]);
        });
        define(&node, &json!({ "pattern": CHANNEL, "slowConsumer": verdict, "presence": "off" }));
        let (port, token) = (node.port(), user_token("reader"));
        let sockets = [Socket::over(narrow(port), &token), Socket::connect_polling(port, &token)];
        let mut scene =
            Self { idle: sockets.map(Client::new), reader: Client::connect(&node, &token), node };
        for client in scene.idle.iter_mut().chain([&mut scene.reader]) {
            client.subscribe(CHANNEL);
        }
        scene
    }

    /// Publishes `count` times with two event names in turn. The reader must receive each.
    fn publish(&mut self, count: usize, bytes: usize) -> Vec<Uuid> {
        let payload = json!({ "fill": "x".repeat(bytes) });
        let tell = |number: usize| {
            let event = if number.is_multiple_of(2) { "even" } else { "odd" };
            let id = publish(&self.node, CHANNEL, event, &payload);
            self.reader.listen();
            id
        };
        let ids: Vec<Uuid> = (0..count).map(tell).collect();
        assert_eq!(ids_and_gaps(&std::mem::take(&mut self.reader.heard)).0, ids);
        ids
    }

    /// Has the idle clients read again. Each publication must be received in order or counted as
    /// lost. Returns the messages and the number of losses of both clients.
    fn read_again(&mut self, all: &[Uuid]) -> [(Vec<Told>, u64); 2] {
        let due = 3 * all.len() as u64;
        wait_until("all is matched", || self.node.metric(MATCHED) == due);
        self.idle.each_mut().map(|client| {
            let told = client.hear();
            let (ids, mut gaps) = ids_and_gaps(&told);
            let lost = gaps.remove(CHANNEL).unwrap_or_default();
            assert!(gaps.is_empty(), "{gaps:?}");
            let mut rest = all.iter();
            assert!(ids.iter().all(|id| rest.any(|other| other == id)), "in order, each once");
            assert_eq!(ids.len() as u64 + lost, all.len() as u64, "lost or heard");
            assert_eq!(ids.last(), all.last(), "the last is heard");
            (told, lost)
        })
    }
}

#[test]
fn who_loses_the_oldest_is_told_how_many() {
    let mut scene = Scene::new("drop_oldest");
    let all = scene.publish(BULKS, BULK);
    let told = scene.read_again(&all);
    let lost: u64 = told.iter().map(|one| one.1).sum();
    assert!(told.iter().all(|one| one.1 > 0), "both lost some");
    for (told, lost) in &told {
        // The notice stands in the place of the loss, between the older and the newer publications.
        let gap = told.iter().position(|one| matches!(one, Told::Gap(..))).expect("there is one");
        let before = told[..gap].len();
        let after = told[gap + 1].event().expect("a publication follows").id;
        let place = all.iter().position(|id| *id == after).expect("it was published");
        if told.iter().filter(|one| matches!(one, Told::Gap(..))).count() == 1 {
            assert_eq!(place - before, usize::try_from(*lost).expect("few"));
        }
    }
    let sums = settled(&scene.node);
    let dropped = |reason| sums.value("fanfare_deliveries_dropped_total", &[("reason", reason)]);
    assert_eq!(dropped("drop_oldest"), lost as f64);
    assert_eq!(sums.sum("fanfare_deliveries_dropped_total"), lost as f64);
    assert_eq!(sums.plain("fanfare_deliveries_conflated_total"), 0.0);
    let notices = told.iter().flat_map(|one| &one.0);
    let notices = notices.filter(|one| matches!(one, Told::Gap(..))).count();
    assert_eq!(sums.plain("fanfare_gaps_total"), notices as f64);
    assert_eq!(sums.plain("fanfare_deliveries_matched_total"), 3.0 * all.len() as f64);
    assert_eq!(sums.sum("fanfare_connections_closed_total"), 0.0);
}

#[test]
fn who_wants_the_latest_gets_little_else() {
    let mut scene = Scene::new("latest");
    let all = scene.publish(BULKS, BULK / 2);
    let told = scene.read_again(&all);
    for (place, (told, lost)) in told.iter().enumerate() {
        // A socket's buffers hold some megabytes before it is full.
        let kept = told.len();
        assert!(*lost > 0 && (place == 0 || kept < 140), "{lost} lost, {kept} kept");
        let last = told.iter().rev().filter_map(Told::event).take(2);
        let last: Vec<Uuid> = last.map(|event| event.id).collect();
        let expected: Vec<Uuid> = all.iter().rev().take(2).copied().collect();
        assert_eq!(last, expected, "the latest of each event");
    }
    let lost: u64 = told.iter().map(|one| one.1).sum();
    let sums = settled(&scene.node);
    assert_eq!(sums.plain("fanfare_deliveries_conflated_total"), lost as f64);
    assert_eq!(sums.sum("fanfare_deliveries_dropped_total"), 0.0);
    assert_eq!(sums.sum("fanfare_connections_closed_total"), 0.0);
}

#[test]
fn who_is_closed_has_heard_all_up_to_then() {
    let mut scene = Scene::new("close");
    let all = scene.publish(BULKS, BULK);
    let closed = scene.node.metric("fanfare_connections_closed_total{reason=\"slow_consumer\"}");
    assert_eq!(closed, 2);
    let socket = &mut scene.idle[0].socket;
    let mut heard = Vec::new();
    while let Heard::Event(event) = socket.hear() {
        heard.push(event.id);
    }
    assert!(heard.len() < all.len() && all.starts_with(&heard), "in order, without a gap");
    let sums = settled(&scene.node);
    let dropped = sums.value("fanfare_deliveries_dropped_total", &[("reason", "slow_consumer")]);
    assert!(dropped > 0.0);
    assert_eq!(sums.sum("fanfare_deliveries_dropped_total"), dropped);
    assert_eq!(sums.plain("fanfare_gaps_total"), 0.0);
}

#[test]
fn who_keeps_up_loses_nothing_of_the_latest() {
    let mut scene = Scene::new("latest");
    // Many publications at once, whose deliveries wait only for the end of the worker's turn.
    let mut speaker = Client::connect(&scene.node, &user_token("speaker"));
    speaker.subscribe(CHANNEL);
    for _ in 0..200 {
        let publication = json!({ "channel": CHANNEL, "event": "same", "payload": 1 });
        speaker.socket.ask(super::PUBLISH, &publication);
    }
    speaker.socket.flush();
    for _ in 0..200 {
        scene.reader.listen();
    }
    let (ids, gaps) = ids_and_gaps(&scene.reader.hear());
    assert_eq!((ids.len(), gaps.len()), (200, 0));
}
