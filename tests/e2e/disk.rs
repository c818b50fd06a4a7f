//! Disks that fill up, refuse to be written, and break, under a node that goes on fanning out.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::socket::{Heard, Socket};
use crate::support::disk::{Disk, Needs, has_own_mounts};
use crate::support::kept::{message_id, publish_at};
use crate::support::{ANON_KEY, Node, wait_until};

const CHANNEL: &str = "kept";
const EPHEMERAL: &str = "passing";
const TICK: &str = "tick";
/// Publications that meet a disk that takes none.
const LOST: usize = 50;
/// And those before them for which the log has room all the same.
const FITTING_MAX: usize = 500;
/// A line of the log about those that are lost comes so seldom.
const COMPLAINT_EVERY: Duration = Duration::from_secs(10);

#[test]
fn a_full_disk_costs_history_and_nothing_else() {
    let test = "disk::a_full_disk_costs_history_and_nothing_else";
    if !has_own_mounts(test, Needs::Memory) {
        return;
    }
    fill_and_make_room("4m", 10);
}

#[test]
fn a_full_disk_does_no_harm_where_the_log_cannot_be_brought_into_the_file() {
    let test = "disk::a_full_disk_does_no_harm_where_the_log_cannot_be_brought_into_the_file";
    if !has_own_mounts(test, Needs::Memory) {
        return;
    }
    // The log is emptied once it has 4 MB; what it has then is room on a disk that has none left.
    fill_and_make_room("16m", 250);
}

fn fill_and_make_room(size: &str, publications: usize) {
    let disk = Disk::in_memory(size);
    let mut node = Node::in_directory(disk.path(), |_| {});
    define(&node);
    let mut ledger = Ledger::default();
    ledger.publish_well(&node, "stored", publications);
    disk.fill();
    let began = Instant::now();
    ledger.publish_in_vain(&node, "no space is left for it");
    check_complaints(&node, began, "no space is left for the store");

    // A node can be started there, knows all that was stored, and fans out.
    node.restart();
    ledger.check(&node);
    ledger.publish_in_vain(&node, "no space is left for it");

    disk.make_room();
    ledger.publish_well(&node, "stored", 10);
    ledger.publish_well(&node, "synced", 10);
    assert_eq!(health(&node), (200, json!(null)));
    node.restart();
    ledger.check(&node);
}

#[test]
fn a_disk_that_cannot_be_written_costs_history_and_what_was_synced_outlives_it() {
    let test = "disk::a_disk_that_cannot_be_written_costs_history_and_what_was_synced_outlives_it";
    if !has_own_mounts(test, Needs::Image) {
        return;
    }
    let disk = Disk::in_image(32 * 1024 * 1024);
    let mut node = Node::in_directory(disk.path(), |_| {});
    define(&node);
    let mut ledger = Ledger::default();
    ledger.publish_well(&node, "stored", 10);
    let began = Instant::now();
    disk.seal("fanfare.db-wal", true);
    ledger.publish_in_vain(&node, "its file cannot be used");
    check_complaints(&node, began, "cannot use the store");
    disk.seal("fanfare.db-wal", false);
    ledger.publish_well(&node, "stored", 10);
    assert_eq!(health(&node), (200, json!(null)));

    ledger.publish_well(&node, "synced", 10);
    let synced = ledger.kept.clone();
    ledger.publish_well(&node, "stored", 10);
    disk.fail();
    ledger.publish_in_vain(&node, "its file cannot be used");
    ledger.check(&node);
    node.kill();
    disk.mount_again();
    node.start_again(node.port());
    node.check_database();
    let found = ids(&node);
    assert!(found.starts_with(&synced), "what was synced is there, in its order");
    assert!(ledger.kept.starts_with(&found), "and of what came then, the beginning");
}

/// What was published, and what was answered.
#[derive(Default)]
struct Ledger {
    /// Answered as stored or synced.
    kept: Vec<Uuid>,
    /// Publications that the disk may not have taken.
    tried: usize,
}

impl Ledger {
    /// Everything is kept as it was to be.
    fn publish_well(&mut self, node: &Node, level: &str, count: usize) {
        let mut witness = Witness::subscribe(node);
        for number in 0..count {
            let answer = publish_at(node.port(), level, (CHANNEL, TICK), &payload(number));
            let body = answer.json();
            let expected = (201, json!(level));
            assert_eq!((answer.status, body["durability"].clone()), expected, "{body}");
            witness.hear(message_id(&body));
            self.kept.push(message_id(&body));
        }
        self.check(node);
    }

    /// Publishes until enough was not kept: all of it is heard all the same, and its publisher told.
    fn publish_in_vain(&mut self, node: &Node, ailment: &str) {
        let mut witness = Witness::subscribe(node);
        let lost_before = node.metric("fanfare_history_lost_total");
        let mut lost = 0;
        for _ in 0..LOST + FITTING_MAX {
            lost += u64::from(!self.publish(node, &mut witness));
            if lost == LOST as u64 {
                break;
            }
        }
        assert_eq!(lost, LOST as u64, "the disk takes no more");
        let receipt = node.publish(EPHEMERAL, TICK, &json!({}));
        assert_eq!(receipt["durability"], "memory");
        // What health writes is small, and the log may have room for a little of it.
        let ailing = (503, json!([format!("the store does not work: {ailment}")]));
        wait_until("health says so", || {
            lost += u64::from(!self.publish(node, &mut witness));
            health(node) == ailing
        });
        assert_eq!(node.metric("fanfare_history_lost_total"), lost_before + lost);
        self.check(node);
    }

    /// Whether it is kept. It is heard in any case.
    fn publish(&mut self, node: &Node, witness: &mut Witness) -> bool {
        self.tried += 1;
        let level = if self.tried.is_multiple_of(2) { "stored" } else { "synced" };
        let answer = publish_at(node.port(), level, (CHANNEL, TICK), &payload(self.tried));
        let body = answer.json();
        let id = message_id(&body);
        witness.hear(id);
        assert_eq!(body["audience"]["total"], 1, "{body}");
        if answer.status == 201 {
            assert_eq!(body["durability"], level, "{body}");
            self.kept.push(id);
            return true;
        }
        assert_eq!((answer.status, &body["error"]), (500, &json!("NOT_STORED")), "{body}");
        assert_eq!((&body["delivered"], &body["durability"]), (&json!(true), &json!("memory")));
        false
    }

    /// History is what was answered as kept, and nothing else.
    fn check(&self, node: &Node) {
        node.check_database();
        assert_eq!(ids(node), self.kept);
    }
}

/// Who hears everything, in the order of the answers.
struct Witness(Socket);

impl Witness {
    fn subscribe(node: &Node) -> Self {
        let mut socket = Socket::connect(node.port(), ANON_KEY);
        socket.subscribe(CHANNEL);
        Self(socket)
    }

    fn hear(&mut self, id: Uuid) {
        loop {
            match self.0.hear() {
                Heard::Event(event) if event.is_named(TICK) => return assert_eq!(event.id, id),
                // The last witness is seen to leave.
                Heard::Event(_) => {}
                heard => panic!("unexpected: {heard:?}"),
            }
        }
    }
}

/// The log says that publications are lost and why, at once, and then only from time to time.
fn check_complaints(node: &Node, since: Instant, why: &str) {
    let complains = |line: &&str| line.contains("are not in history") && line.contains(why);
    wait_until("the log says so", || node.output().lines().any(|line| complains(&line)));
    let lines = node.output().lines().filter(complains).count();
    let lines_max = 1 + since.elapsed().as_secs() / COMPLAINT_EVERY.as_secs();
    assert!(lines as u64 <= lines_max, "{lines} lines");
}

fn define(node: &Node) {
    // Without presence: else a new witness hears of the leave of the one before.
    let kept = json!({ "pattern": CHANNEL, "presence": "off" });
    assert_eq!(node.admin("POST", "/api/realtime/channels", &kept).0, 201);
    let ephemeral = json!({ "pattern": EPHEMERAL, "ephemeral": true });
    assert_eq!(node.admin("POST", "/api/realtime/channels", &ephemeral).0, 201);
}

/// Several of the database's pages, as most of what is published is not.
fn payload(number: usize) -> Value {
    json!({ "number": number, "fill": "x".repeat(20_000) })
}

/// Its status, and the problems that it names.
fn health(node: &Node) -> (u16, Value) {
    let response = node.request("GET", "/api/health", &[], b"");
    (response.status, response.json()["problems"].clone())
}

fn ids(node: &Node) -> Vec<Uuid> {
    node.history().iter().map(|message| message.id).collect()
}
