//! Kept promises of a node that is killed, or told to stop, while it answers publishers.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use uuid::Uuid;

use crate::order::{Ending, join};
use crate::publisher::TICK;
use crate::socket::{Heard, Socket};
use crate::support::kept::{Kept, message_id, target_at};
use crate::support::{ANON_KEY, API_KEY, Node};
use crate::tcp::{self, Response, Tcp};

const CHANNELS: [&str; 3] = ["orders", "chat", "ticks"];
/// How often the node is killed, unless `FANFARE_TEST_KILLS` says otherwise.
const KILLS: &str = "5";
/// How long the disk may take, which other processes may use, too.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two publications of a publisher that does not wait for the store.
const PAUSE: Duration = Duration::from_millis(1);

#[test]
fn what_was_answered_as_stored_outlives_a_kill() {
    let kills = std::env::var("FANFARE_TEST_KILLS").unwrap_or_else(|_| KILLS.to_owned());
    let kills: usize = kills.parse().expect("FANFARE_TEST_KILLS is a number");
    let mut node = node();
    let levels = ["stored", "stored", "synced", "synced", "memory", "stored"];
    let mut publishers: Vec<_> =
        (0..).zip(levels).map(|(number, level)| Publisher::new(number, level, 1)).collect();
    let mut before = 0;
    for kill in 0..kills {
        let port = node.port();
        let heard = live(port, &mut publishers, |life| {
            // Kills right after an answer: a publication that was answered too early would be lost
            // now.
            life.wait_for(40 + 23 * kill);
            life.is_over.store(true, Ordering::Relaxed);
            node.kill();
        });
        node.start_again(port);
        node.check_database();
        let history = node.history();
        check(&history, &publishers);
        check_order(&history[before..], &heard);
        before = history.len();
        // The node continues as before.
        let receipt = node.publish(CHANNELS[0], "after", &json!(kill));
        assert_eq!(receipt["durability"], "stored");
        before += 1;
    }
    assert!(publishers.iter().all(|one| !one.answered.is_empty()), "everybody published");
}

#[test]
fn a_node_that_stops_keeps_all_that_it_answered() {
    let mut node = node();
    let mut publishers: Vec<_> =
        (0..6).map(|number| Publisher::new(number, "memory", 20)).collect();
    let heard = live(node.port(), &mut publishers, |life| {
        life.wait_for(2_000);
        life.is_over.store(true, Ordering::Relaxed);
        node.signal(Signal::TERM);
        assert!(node.exit_status(PATIENCE).success());
    });
    node.check_database();
    let history = node.history();
    check(&history, &publishers);
    check_order(&history, &heard);
    let is_kept = ids(&history);
    for publisher in &publishers {
        let lost = publisher.answered.iter().find(|(_, id)| !is_kept.contains(id));
        assert_eq!(lost, None, "answered and not kept");
    }
}

/// Publishes on one channel with one level of durability.
struct Publisher {
    number: u64,
    channel: &'static str,
    level: &'static str,
    /// Number of publications that it sends before it waits for their answers.
    breath: u64,
    asked: u64,
    /// Numbers of the answered publications with their ids.
    answered: Vec<(u64, Uuid)>,
    refused: HashSet<u64>,
}

/// One life of the node.
#[derive(Default)]
struct Life {
    /// Number of answered publications that must be kept.
    answered: AtomicUsize,
    is_over: AtomicBool,
}

impl Life {
    /// Waits until `enough` publications were answered. It spins, in order to act right after the
    /// answer.
    fn wait_for(&self, enough: usize) {
        let end = Instant::now() + PATIENCE;
        while self.answered.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < end, "fewer than {enough} are answered in {PATIENCE:?}");
            thread::yield_now();
        }
    }
}

fn node() -> Node {
    let node = Node::with(|command| {
        command.args(["--workers", "2"]).env("FANFARE_DRAIN_MS", "300");
    });
    CHANNELS.iter().for_each(|channel| _ = node.create_channel(channel));
    node
}

/// Runs all publishers until `end` has ended the node. Returns what was received on each channel.
fn live(
    port: u16,
    publishers: &mut [Publisher],
    end: impl FnOnce(&Life),
) -> HashMap<&'static str, Vec<Uuid>> {
    let life = Life::default();
    let ears = CHANNELS.map(|channel| {
        let mut socket = Socket::connect(port, ANON_KEY);
        socket.subscribe(channel);
        (channel, socket)
    });
    thread::scope(|scope| {
        let _ending = Ending(&life.is_over);
        let ears = ears.map(|(channel, ear)| (channel, scope.spawn(|| listen(ear))));
        let publishers: Vec<_> = publishers
            .iter_mut()
            .map(|publisher| scope.spawn(|| publisher.publish(port, &life)))
            .collect();
        end(&life);
        publishers.into_iter().for_each(join);
        ears.map(|(channel, ear)| (channel, join(ear))).into()
    })
}

/// Returns all publications that are received before the connection ends.
fn listen(mut socket: Socket) -> Vec<Uuid> {
    let mut ids = Vec::new();
    let mut end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match socket.look() {
            Heard::Event(event) if event.is_named(TICK) => ids.push(event.id),
            // No publications come while the disk is busy.
            Heard::Nothing => continue,
            Heard::End => return ids,
            heard => panic!("unexpected: {heard:?}"),
        }
        end = Instant::now() + PATIENCE;
    }
    panic!("the node says nothing for {PATIENCE:?}");
}

impl Publisher {
    fn new(number: u64, level: &'static str, breath: u64) -> Self {
        let channel = CHANNELS[number as usize % CHANNELS.len()];
        Self {
            number,
            channel,
            level,
            breath,
            asked: 0,
            answered: Vec::new(),
            refused: HashSet::new(),
        }
    }

    /// Publishes until the connection ends, which must not happen while the node lives.
    fn publish(&mut self, port: u16, life: &Life) {
        let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, port).into());
        while self.publish_breath(&mut tcp, life) {}
        assert!(life.is_over.load(Ordering::Relaxed), "the node answers while it lives");
    }

    /// Publishes `breath` times and reads the answers. Returns false if the connection has ended.
    fn publish_breath(&mut self, tcp: &mut Tcp, life: &Life) -> bool {
        let numbers = self.asked..self.asked + self.breath;
        self.asked = numbers.end;
        if !tcp.send(self.requests(numbers.clone())) {
            return false;
        }
        for number in numbers {
            let Some(answer) = tcp.try_response("POST", PATIENCE) else { return false };
            self.settle(number, &answer, life);
        }
        if self.level == "memory" && self.breath == 1 {
            thread::sleep(PAUSE);
        }
        true
    }

    fn settle(&mut self, number: u64, answer: &Response, life: &Life) {
        let body = answer.json();
        if answer.status == 503 {
            // Only a publisher that does not wait for the disk may find history's queue full.
            assert_eq!((self.level, &body["error"]), ("memory", &json!("OVERLOADED")));
            self.refused.insert(number);
            return;
        }
        let expected = (201, json!(self.level));
        assert_eq!((answer.status, body["durability"].clone()), expected, "{body}");
        self.answered.push((number, message_id(&body)));
        let counts = self.level != "memory" || self.breath > 1;
        life.answered.fetch_add(counts.into(), Ordering::Relaxed);
    }

    fn requests(&self, numbers: Range<u64>) -> Vec<u8> {
        let head = format!("POST {} HTTP/1.1", target_at(self.level));
        let credential = format!("X-API-Key: {API_KEY}");
        let request = |number| {
            let payload = json!({ "publisher": self.number, "number": number });
            let body = json!({ "channel": self.channel, "event": TICK, "payload": payload });
            tcp::request(&[&head, &credential], body.to_string())
        };
        numbers.flat_map(request).collect()
    }
}

/// Checks that history contains everything that was answered as stored or synced, once and with its
/// id, nothing that was refused or not asked for, and each publisher's messages in order.
fn check(history: &[Kept], publishers: &[Publisher]) {
    let mut kept = HashMap::new();
    let mut last = HashMap::new();
    for message in history.iter().filter(|message| message.event == TICK) {
        let of = |key: &str| message.payload[key].as_u64().expect("a number");
        let (name, number) = (of("publisher"), of("number"));
        let publisher = publishers.iter().find(|one| one.number == name).expect("it is known");
        let is_its_own = number < publisher.asked && message.channel == publisher.channel;
        assert!(is_its_own && !publisher.refused.contains(&number), "{message:?}");
        let before = last.insert(name, number);
        assert!(before < Some(number), "{name}: {number} after {before:?}");
        kept.insert((name, number), message.id);
    }
    assert_eq!(ids(history).len(), history.len(), "nothing is there twice");
    for publisher in publishers {
        for (number, id) in &publisher.answered {
            let found = kept.get(&(publisher.number, *number));
            let may_be_lost = publisher.level == "memory" && found.is_none();
            assert!(may_be_lost || found == Some(id), "{number} of {}", publisher.number);
        }
    }
}

/// Checks that history and the subscribers have the same order, up to the point where one of them
/// ends.
fn check_order(history: &[Kept], heard: &HashMap<&'static str, Vec<Uuid>>) {
    for (channel, heard) in heard {
        let kept = history.iter().filter(|message| message.channel == *channel);
        let differs = kept.zip(heard).position(|(message, id)| message.id != *id);
        assert_eq!(differs, None, "where {channel} was kept in another order than heard");
    }
}

fn ids(history: &[Kept]) -> HashSet<Uuid> {
    history.iter().map(|message| message.id).collect()
}
