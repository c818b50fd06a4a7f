//! The connections that a worker closes when the node is short of memory.

use fanfare::interface::Session;
use fanfare::message::{ConnId, Now, WorkerId};
use fanfare::runtime::Worker;

use crate::node::Node;

const WORKER: WorkerId = WorkerId(0);
/// The memory for clients, which is also what is allocated when all of it is used.
const ALL: usize = 32 * 1024 * 1024;
/// Payload of a message in two parts, in bytes.
const PART: usize = 500;

/// Returns a time in milliseconds since the node started.
fn at(ms: u64) -> Now {
    Now { nanos: ms * 1_000_000, wall: ms }
}

struct Crowd {
    node: Node,
    worker: Worker,
}

impl Crowd {
    fn new() -> Self {
        let node = Node::with_memory(ALL);
        let worker = node.worker(WORKER, at(0));
        Self { node, worker }
    }

    fn open(&mut self) -> ConnId {
        self.node.open(&mut self.worker, WORKER, Session::Echo)
    }

    /// The client sends the first part of a text, which it does not finish.
    fn begin(&mut self, id: ConnId) {
        let header = [0x81, 0xfe, 0x03, 0xe8, 0, 0, 0, 0];
        let mut bytes = [&header[..], &[b'x'; PART]].concat();
        self.worker.receive(id.slot, &mut bytes);
    }

    fn finish(&mut self, id: ConnId) {
        self.worker.receive(id.slot, &mut [b'x'; PART]);
    }

    /// Looks after the memory at a time when so many bytes are allocated.
    fn watch(&mut self, ms: u64, allocated: usize) {
        self.worker.at(at(ms));
        self.worker.watch_memory(|| allocated);
    }

    fn is_open(&mut self, id: ConnId) -> bool {
        self.worker.link(id).is_some()
    }
}

#[test]
fn a_client_that_finishes_nothing_between_two_looks_is_closed() {
    let mut crowd = Crowd::new();
    let [stuck, slow, idle] = [(); 3].map(|()| crowd.open());
    crowd.begin(stuck);
    crowd.begin(slow);
    crowd.watch(10_000, ALL);
    crowd.finish(slow);
    assert!([stuck, slow, idle].into_iter().all(|id| crowd.is_open(id)), "they have a second");
    crowd.watch(10_900, ALL);
    assert!(crowd.is_open(stuck));
    crowd.watch(11_000, ALL);
    assert_eq!([stuck, slow, idle].map(|id| crowd.is_open(id)), [false, true, true]);
}

#[test]
fn a_shortage_that_has_passed_closes_no_client() {
    let mut crowd = Crowd::new();
    let client = crowd.open();
    crowd.begin(client);
    crowd.watch(10_000, ALL);
    crowd.finish(client);
    crowd.watch(11_500, 0);
    crowd.begin(client);
    crowd.watch(30_000, ALL);
    assert!(crowd.is_open(client), "the first look at a new shortage");
    crowd.watch(31_000, ALL);
    assert!(!crowd.is_open(client));
}

#[test]
fn a_client_that_holds_more_than_its_share_is_closed_at_once() {
    let mut crowd = Crowd::new();
    let [small, large] = [(); 2].map(|()| crowd.open());
    crowd.begin(small);
    crowd.begin(large);
    let mut more = vec![0x80, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
    more.resize(more.len() + 900_000, b'x');
    crowd.finish(large);
    let mut begun = vec![0x01, 0xfe, 0x03, 0xe8, 0, 0, 0, 0];
    begun.resize(begun.len() + 1_000, b'x');
    crowd.worker.receive(large.slot, &mut begun);
    crowd.worker.receive(large.slot, &mut more);
    crowd.watch(10_000, ALL / 2);
    assert!(crowd.is_open(large), "there is room for it");
    crowd.watch(10_001, ALL - 100_000);
    assert_eq!([small, large].map(|id| crowd.is_open(id)), [true, false]);
}
