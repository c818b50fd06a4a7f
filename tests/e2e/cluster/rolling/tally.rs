//! What clients have counted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ear::Fault;

/// Faults that are described.
const SHOWN: usize = 20;

#[derive(Default)]
pub(super) struct Tally {
    pub(super) events: usize,
    pub(super) recovered: usize,
    /// Returns after which a client was told that it had not recovered.
    pub(super) told: usize,
    /// Gaps that clients were told.
    pub(super) gaps: usize,
    /// Subscribes that were refused, and tried again.
    pub(super) refused: usize,
    pub(super) lost: u64,
    pub(super) doubled: usize,
    /// Times from the loss of a connection until the client had all its subscriptions again. The
    /// first of each client is that from its beginning.
    pub(super) absences: Vec<Duration>,
    /// How connections ended, and how many of each.
    pub(super) ends: BTreeMap<String, usize>,
    /// Connections that ended at a node that did not stop.
    pub(super) strays: usize,
    /// What is lost and doubled, in words.
    pub(super) faults: Vec<String>,
}

impl Tally {
    pub(super) fn returned(&mut self, is_recovered: bool) {
        *(if is_recovered { &mut self.recovered } else { &mut self.told }) += 1;
    }

    pub(super) fn ended(&mut self, how: String, is_expected: bool) {
        *self.ends.entry(how).or_default() += 1;
        self.strays += usize::from(!is_expected);
    }

    pub(super) fn fault(&mut self, (client, node): (usize, usize), channel: &str, fault: Fault) {
        let what = match fault {
            Fault::Lost { from, to } => {
                self.lost += to - from + 1;
                format!("lost {from} to {to}")
            }
            Fault::Doubled(number) => {
                self.doubled += 1;
                format!("{number} twice or too late")
            }
        };
        let Self { recovered, told, .. } = self;
        self.faults.push(format!(
            "client {client} at node {} on {channel}: {what}, after {recovered} recoveries and \
             {told} times without",
            node + 1
        ));
    }

    pub(super) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.recovered += other.recovered;
        self.told += other.told;
        self.gaps += other.gaps;
        self.refused += other.refused;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.strays += other.strays;
        // The first one is its beginning.
        self.absences.extend(other.absences.into_iter().skip(1));
        for (how, count) in other.ends {
            *self.ends.entry(how).or_default() += count;
        }
        self.faults.extend(other.faults);
        self.faults.truncate(SHOWN);
    }
}
