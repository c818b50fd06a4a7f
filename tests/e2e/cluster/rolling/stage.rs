//! How far a rolling restart is, for the threads of its clients and publishers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

pub(super) struct Stage {
    /// The ports of the nodes.
    pub(super) ports: Vec<u16>,
    /// The number of clients that lack a connection or a subscription.
    away: AtomicUsize,
    /// The number of connections to each node.
    lines: Vec<AtomicUsize>,
    /// The node that is being restarted; the number of nodes if no node is.
    ending: AtomicUsize,
    is_quiet: AtomicBool,
    is_over: AtomicBool,
    last: OnceLock<Vec<u64>>,
}

/// Lets all threads end when it is dropped, also by a panic.
pub(super) struct Ending<'s>(pub(super) &'s Stage);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.quieten();
        self.0.is_over.store(true, SeqCst);
    }
}

impl Stage {
    /// Returns a stage on which all clients are still away.
    pub(super) fn new(ports: Vec<u16>, clients: usize) -> Self {
        let ending = AtomicUsize::new(ports.len());
        let lines = ports.iter().map(|_| AtomicUsize::new(0)).collect();
        let (is_quiet, is_over, last) = Default::default();
        Self { ports, away: AtomicUsize::new(clients), lines, ending, is_quiet, is_over, last }
    }

    /// Notes a connection to this node.
    pub(super) fn connects(&self, node: usize) {
        self.lines[node].fetch_add(1, SeqCst);
    }

    /// Notes that a connection to this node has ended.
    pub(super) fn leaves(&self, node: usize) {
        self.lines[node].fetch_sub(1, SeqCst);
    }

    /// Returns whether no client believes that it is connected to this node.
    pub(super) fn is_left(&self, node: usize) -> bool {
        self.lines(node) == 0
    }

    /// Returns how many connections to this node clients believe to have.
    pub(super) fn lines(&self, node: usize) -> usize {
        self.lines[node].load(SeqCst)
    }

    pub(super) fn is_away(&self) {
        self.away.fetch_add(1, SeqCst);
    }

    pub(super) fn is_back(&self) {
        self.away.fetch_sub(1, SeqCst);
    }

    /// Returns the number of clients that lack something.
    pub(super) fn away(&self) -> usize {
        self.away.load(SeqCst)
    }

    /// Notes that the connections of this node may end now.
    pub(super) fn ends(&self, node: usize) {
        self.ending.store(node, SeqCst);
    }

    /// Returns whether the connections of this node may end now.
    pub(super) fn is_ending(&self, node: usize) -> bool {
        self.ending.load(SeqCst) == node
    }

    /// Ends the publishing.
    pub(super) fn quieten(&self) {
        self.is_quiet.store(true, SeqCst);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.is_quiet.load(SeqCst)
    }

    /// Returns whether everything is to end at once.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// Notes the numbers of the last publications on all channels.
    pub(super) fn ends_with(&self, last: Vec<u64>) {
        self.last.set(last).expect("it is said once");
    }

    /// Returns the numbers of the last publications; `None` if they are still to come.
    pub(super) fn last(&self) -> Option<&[u64]> {
        self.last.get().map(|last| &**last)
    }
}
