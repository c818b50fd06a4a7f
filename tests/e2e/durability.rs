//! Levels of durability: the state of a publication when it is answered.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::order::join;
use crate::support::kept::{message_id, publish_at, target_at};
use crate::support::trace::{DiskCall, Trace, now};
use crate::support::{API_KEY, Node, Response, user_token, wait_until};
use crate::tcp::{self, Tcp};
use crate::witness::{END, Witness};

/// How long an answer that waits for the disk may take, which other processes may use, too.
const PATIENCE: Duration = Duration::from_secs(30);
const CHANNEL: &str = "crowd";
const BULK: &str = "bulk";
const TICK: &str = "tick";
/// The database's write-ahead log, to which commits are written.
const LOG: &str = "fanfare.db-wal";

/// Payload sizes that fill history's queue, in bytes. The larger ones come first, so that in the
/// end there is no room for the smallest.
const FILLINGS: [usize; 4] = [900_000, 30_000, 1_000, 40];
/// This many publications of one size find out whether there is no room left.
const FILLINGS_MAX: usize = 120;
/// The writer gives up a batch every two seconds and then empties the queue; on a busy machine that
/// may happen while the queue is filled.
const ATTEMPTS_MAX: usize = 30;
/// Number of publications that find no room.
const REFUSALS: usize = 20;

#[test]
fn the_answer_names_the_level_that_was_asked_for_and_reached() {
    let node = Node::start();
    node.create_channel(CHANNEL);
    define_ephemeral(&node, "passing");
    let publish = |level: &str, channel| publish_at(node.port(), level, (channel, TICK), &json!(0));
    let mut kept = BTreeSet::new();
    for (asked, reached) in
        [("", "stored"), ("memory", "memory"), ("stored", "stored"), ("synced", "synced")]
    {
        let answer = publish(asked, CHANNEL);
        let body = answer.json();
        assert_eq!((answer.status, &body["durability"]), (201, &json!(reached)), "{asked}: {body}");
        let id = message_id(&body);
        let is_there = node.history().iter().any(|message| message.id == id);
        assert!(is_there || reached == "memory", "{asked}: {body}");
        kept.insert(id);
    }
    for level in ["", "memory"] {
        let answer = publish(level, "passing");
        let durability = answer.json()["durability"].clone();
        assert_eq!((answer.status, durability), (201, json!("memory")), "{level}");
    }
    for (level, channel) in [
        ("disk", CHANNEL),
        ("Stored", CHANNEL),
        ("&durability=stored", CHANNEL),
        ("stored", "passing"),
        ("synced", "passing"),
    ] {
        let answer = publish(level, channel);
        let body = answer.json();
        assert_eq!((answer.status, &body["error"]), (400, &json!("INVALID_INPUT")), "{level}");
        let message = body["message"].as_str().expect("a message is text");
        assert!(message.starts_with("durability: "), "{level}: {message}");
    }
    assert_eq!(node.metric("fanfare_publications_total"), 6, "what is refused is not published");
    wait_until("history has all that it is to keep", || ids(&node) == kept);
    assert_eq!(node.metric("fanfare_history_kept_total"), 4);
    assert_eq!(node.metric("fanfare_history_lost_total"), 0);
}

#[test]
fn synced_is_on_the_disk_before_it_is_answered_and_stored_does_not_wait_for_that() {
    const LEVELS: [&str; 9] =
        ["stored", "stored", "synced", "synced", "stored", "synced", "stored", "stored", "synced"];
    let node = Node::start();
    node.create_channel(CHANNEL);
    // The first commit to a new log syncs its header, at any level.
    node.publish(CHANNEL, TICK, &json!({}));
    let trace = Trace::attach(&node);
    let mut asked = Vec::new();
    for level in LEVELS {
        let sent = now();
        let answer = publish_at(node.port(), level, (CHANNEL, TICK), &json!({}));
        assert_eq!((answer.status, &answer.json()["durability"]), (201, &json!(level)));
        asked.push((level, sent, now()));
    }
    let calls = trace.end();
    for (level, sent, answered) in asked {
        let meanwhile = |call: &&DiskCall| sent <= call.began && call.ended <= answered;
        let calls: Vec<_> = calls.iter().filter(meanwhile).collect();
        let last = calls.iter().rposition(|call| call.file == LOG && !call.is_sync());
        let last = last.unwrap_or_else(|| panic!("{level} is answered uncommitted: {calls:?}"));
        let is_synced = calls[last..].iter().any(|call| call.file == LOG && call.is_sync());
        let syncs = calls.iter().filter(|call| call.is_sync()).count();
        assert_eq!((is_synced, syncs), if level == "synced" { (true, 1) } else { (false, 0) });
    }
}

#[test]
fn what_finds_no_room_on_its_way_into_history_is_refused_whole() {
    let node = Node::start();
    node.create_channel(CHANNEL);
    node.create_channel(BULK);
    let port = node.port();
    let mut witness = Witness::subscribe(port, CHANNEL, &user_token("crowd"));
    let database = node.share_database();
    database.execute_batch("BEGIN IMMEDIATE").expect("nobody else has it");

    let (heard, answers) = thread::scope(|scope| {
        let witness = scope.spawn(|| witness.listen());
        let store = |_| scope.spawn(move || publish_at(port, "stored", (CHANNEL, TICK), &json!(0)));
        let (told, first) = mpsc::channel();
        scope.spawn(move || told.send(publish_at(port, "stored", (CHANNEL, TICK), &json!(0))));
        // The writer waits for the database's lock with the first publication, and the others wait
        // in the queue.
        let waiting: Vec<_> = (0..4).map(store).collect();
        let mut answers = Answers::default();
        fill(port, &mut answers);
        let first = first.recv_timeout(PATIENCE).expect("it is answered without the lock");
        let body = first.json();
        assert_eq!((first.status, &body["error"]), (500, &json!("NOT_STORED")), "{body}");
        assert_eq!(body["audience"]["total"], 1, "{body}");
        answers.take(CHANNEL, &first);
        wait_until("there is room again", || {
            let last = publish_at(port, "memory", (CHANNEL, END), &json!(0));
            answers.take(CHANNEL, &last);
            last.status == 201
        });
        database.execute_batch("COMMIT").expect("it can be let go");
        waiting.into_iter().for_each(|one| answers.take(CHANNEL, &join(one)));
        (join(witness), answers)
    });
    answers.check(&node, &heard.iter().map(|event| event.id).collect());
}

/// The answers to the publishers.
#[derive(Debug, Default)]
struct Answers {
    /// Channel and id of each accepted publication.
    accepted: Vec<(&'static str, Uuid)>,
    stored: Vec<Uuid>,
    /// Publications that were delivered but not stored.
    lost: Vec<Uuid>,
    refused: usize,
}

impl Answers {
    fn take(&mut self, channel: &'static str, answer: &Response) {
        self.note(channel, (answer.status, answer.header("retry-after")), &answer.json());
    }

    fn note(&mut self, channel: &'static str, head: (u16, Option<&str>), body: &Value) {
        let (level, delivered) = (&body["durability"], &body["delivered"]);
        match head {
            (201, _) if level == "stored" => self.stored.push(message_id(body)),
            (201, _) => assert_eq!(level, "memory", "{body}"),
            (500, _) => {
                assert_eq!((level, delivered), (&json!("memory"), &json!(true)), "{body}");
                self.lost.push(message_id(body));
            }
            (503, Some("1")) => {
                assert_eq!((&body["error"], delivered), (&json!("OVERLOADED"), &Value::Null));
                self.refused += 1;
                return;
            }
            _ => panic!("unexpected answer: {head:?} {body}"),
        }
        self.accepted.push((channel, message_id(body)));
    }

    /// Checks that history, counters and the received publications agree with the answers.
    fn check(&self, node: &Node, heard: &BTreeSet<Uuid>) {
        let accepted: BTreeSet<_> = self.accepted.iter().map(|(_, id)| *id).collect();
        let settled = || {
            node.metric("fanfare_history_kept_total") + node.metric("fanfare_history_lost_total")
        };
        wait_until("all are kept or lost", || settled() >= accepted.len() as u64);
        let to_be_heard = self.accepted.iter().filter(|(channel, _)| *channel == CHANNEL);
        assert_eq!(*heard, to_be_heard.map(|(_, id)| *id).collect());
        let kept = ids(node);
        assert!(kept.is_subset(&accepted), "nothing is kept that was refused");
        assert!(self.stored.iter().all(|id| kept.contains(id)), "what is stored is kept");
        assert!(self.lost.iter().all(|id| !kept.contains(id)), "what is kept is not called lost");
        let (all, kept) = (accepted.len() as u64, kept.len() as u64);
        assert_eq!(node.metric("fanfare_publications_total"), all);
        assert_eq!(node.metric("fanfare_history_kept_total"), kept);
        assert_eq!(node.metric("fanfare_history_lost_total"), all - kept);
        assert_eq!(node.metric("fanfare_history_queue_depth"), 0);
        let refusals =
            |reason| node.metric(&format!("fanfare_refusals_total{{reason=\"{reason}\"}}"));
        assert_eq!(refusals("history_queue"), self.refused as u64);
        assert_eq!(refusals("overloaded"), 0);
        assert!(self.refused >= REFUSALS, "{} were refused", self.refused);
    }
}

/// Publishes on one connection, without waiting for history, until its queue has no room for any
/// size.
fn fill(port: u16, answers: &mut Answers) {
    let mut tcp = Tcp::connect((Ipv4Addr::LOCALHOST, port).into());
    let credential = format!("X-API-Key: {API_KEY}");
    let head = format!("POST {} HTTP/1.1", target_at("memory"));
    let bulks = FILLINGS.map(|bytes| (BULK, bytes));
    let requests = bulks.into_iter().chain([(CHANNEL, 1); REFUSALS]).map(|(channel, bytes)| {
        let payload = json!({ "fill": "x".repeat(bytes) });
        let body = json!({ "channel": channel, "event": TICK, "payload": payload });
        (channel, tcp::request(&[&head, &credential], body.to_string()))
    });
    let requests: Vec<_> = requests.collect();
    let mut is_refused = |channel, request: &[u8]| {
        assert!(tcp.send(request), "the node keeps the connection");
        let answer = tcp.response_to("POST");
        answers.note(channel, (answer.status, answer.header("retry-after")), &answer.json());
        answer.status == 503
    };
    for _ in 0..ATTEMPTS_MAX {
        let mut all = requests.iter();
        if all.all(|(channel, one)| (0..FILLINGS_MAX).any(|_| is_refused(channel, one))) {
            return;
        }
    }
    panic!("the queue is never full");
}

fn define_ephemeral(node: &Node, pattern: &str) {
    let definition = json!({ "pattern": pattern, "ephemeral": true });
    assert_eq!(node.admin("POST", "/api/realtime/channels", &definition).0, 201);
}

fn ids(node: &Node) -> BTreeSet<Uuid> {
    let history = node.history();
    let ids: BTreeSet<_> = history.iter().map(|message| message.id).collect();
    assert_eq!(ids.len(), history.len(), "nothing is there twice");
    ids
}
