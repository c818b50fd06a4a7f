//! Disks that fill up, refuse writes, or break, below a node that must go on fanning out.

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
/// Number of publications that the disk must fail to store.
const LOST: usize = 50;
/// Number of publications before those for which the log may still have room.
const FITTING_MAX: usize = 500;
/// Interval at which the log repeats the line about lost publications.
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
    // SQLite empties its log once it has 4 MB. The log keeps its file size, so it has room even on
    // a full disk.
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

    // A node can be started on a full disk, knows everything that was stored, and fans out.
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

/// The publications and their answers.
#[derive(Default)]
struct Ledger {
    /// Publications that were answered as stored or synced.
    kept: Vec<Uuid>,
    /// Number of publications that the disk may have failed to store.
    tried: usize,
}

impl Ledger {
    /// Publishes `count` times and checks that each answer has the requested level.
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

    /// Publishes until `LOST` publications were not stored. All are delivered, and the answers say
    /// which were not stored.
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
        // The write of a health check is small, so the log may have room for some of them.
        let ailing = (503, json!([format!("the store does not work: {ailment}")]));
        wait_until("health says so", || {
            lost += u64::from(!self.publish(node, &mut witness));
            health(node) == ailing
        });
        assert_eq!(node.metric("fanfare_history_lost_total"), lost_before + lost);
        self.check(node);
    }

    /// Publishes and checks that the publication is delivered. Returns whether it was stored.
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

    /// Checks that history contains exactly the publications that were answered as kept.
    fn check(&self, node: &Node) {
        node.check_database();
        assert_eq!(ids(node), self.kept);
    }
}

/// A subscriber that expects every publication, in the order of the answers.
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
                // For example, the leave of the witness before this one.
                Heard::Event(_) => {}
                heard => panic!("unexpected: {heard:?}"),
            }
        }
    }
}

/// Checks that the log says at once that publications are lost and why, and then only repeats it at
/// intervals.
fn check_complaints(node: &Node, since: Instant, why: &str) {
    let complains = |line: &&str| line.contains("are not in history") && line.contains(why);
    wait_until("the log says so", || node.output().lines().any(|line| complains(&line)));
    let lines = node.output().lines().filter(complains).count();
    let lines_max = 1 + since.elapsed().as_secs() / COMPLAINT_EVERY.as_secs();
    assert!(lines as u64 <= lines_max, "{lines} lines");
}

fn define(node: &Node) {
    // Without presence, a new witness does not receive the leave of the one before.
    let kept = json!({ "pattern": CHANNEL, "presence": "off" });
    assert_eq!(node.admin("POST", "/api/realtime/channels", &kept).0, 201);
    let ephemeral = json!({ "pattern": EPHEMERAL, "ephemeral": true });
    assert_eq!(node.admin("POST", "/api/realtime/channels", &ephemeral).0, 201);
}

/// Returns a payload that fills several pages of the database, unlike most payloads.
fn payload(number: usize) -> Value {
    json!({ "number": number, "fill": "x".repeat(20_000) })
}

/// Returns the status and the problems of a health check.
fn health(node: &Node) -> (u16, Value) {
    let response = node.request("GET", "/api/health", &[], b"");
    (response.status, response.json()["problems"].clone())
}

fn ids(node: &Node) -> Vec<Uuid> {
    node.history().iter().map(|message| message.id).collect()
}
