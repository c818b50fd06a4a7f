//! A round, as faults see it.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::figures::Record;
use super::log::Log;
use super::papers::Papers;
use super::site::{Site, wait_until};
use super::watch::Watch;

/// A round in which clients publish and listen.
pub(super) struct Scene<'s> {
    pub(super) site: &'s mut Site,
    pub(super) log: &'s Log,
    watches: &'s [Watch],
    pub(super) papers: &'s Papers,
    pub(super) round: usize,
    /// The number of all rounds.
    pub(super) rounds: usize,
    pub(super) record: Record,
    /// The number of facts when the fault began.
    mark: usize,
}

impl<'s> Scene<'s> {
    pub(super) fn new(
        site: &'s mut Site,
        log: &'s Log,
        (watches, papers): (&'s [Watch], &'s Papers),
        (round, rounds): (usize, usize),
    ) -> Self {
        let (dead, cut) = (BTreeSet::new(), BTreeSet::new());
        let now = Instant::now();
        let record = Record { began: now, ended: now, dead, cut, said: None };
        Self { site, log, watches, papers, round, rounds, record, mark: 0 }
    }

    /// Notes that the fault begins now.
    pub(super) fn begin(&mut self) {
        self.record.began = Instant::now();
        self.mark = self.log.mark();
    }

    /// Notes that the fault ends now.
    pub(super) fn end(&mut self) {
        self.record.ended = Instant::now();
    }

    /// Waits until so many milliseconds have passed since the fault began.
    pub(super) fn hold(&self, millis: u64) {
        let end = self.record.began + Duration::from_millis(millis);
        thread::sleep(end.saturating_duration_since(Instant::now()));
    }

    /// Waits until health and metrics of these nodes have said that they do not serve.
    pub(super) fn is_said_by(&self, nodes: &[u64]) {
        let concerned = self.watches.iter().filter(|watch| nodes.contains(&watch.node));
        wait_until("the nodes say that they do not serve", || {
            concerned.clone().all(|watch| watch.said(self.record.began).is_some())
        });
    }

    /// Waits until each of these nodes accepts publications that all of them deliver.
    pub(super) fn is_served_by(&self, nodes: &[u64]) {
        wait_until("the nodes serve", || self.log.is_served(self.mark, nodes));
    }

    /// Notes that a node is back that others may have taken for dead. They hear of it when it
    /// serves again.
    pub(super) fn comes_back(&self, node: u64) {
        let mark = self.log.mark();
        wait_until("the node serves again", || self.log.is_served(mark, &[node]));
        self.log.back(node);
    }
}
