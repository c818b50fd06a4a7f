//! Workers that are behind: what they missed is read from the stream, while the line goes on.

use std::collections::{BTreeSet, HashSet};

use super::super::reads::{Ask, Missed, Reader};
use crate::cluster::landing::Landing;
use crate::limits::CLUSTER_BEHIND_READS_MAX;
use crate::message::{Channel, MarkPlace, WorkerId};
use crate::metrics::Counters;

/// The channels on which a worker is behind.
#[derive(Debug, Default)]
pub(super) struct Catching {
    channels: BTreeSet<Channel>,
    /// What is being read.
    reading: HashSet<(Channel, WorkerId)>,
}

impl Catching {
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Notes that a worker is behind on a channel.
    pub(super) fn note(&mut self, channel: &Channel, counters: &Counters) {
        if !self.channels.contains(channel) {
            self.channels.insert(channel.clone());
            counters.cluster_behind.add(1);
        }
    }

    /// Begins reads for workers that have room again.
    pub(super) fn look(&mut self, landing: &mut impl Landing, reader: &Reader) {
        let reading = &mut self.reading;
        self.channels.retain(|channel| {
            if reading.len() >= CLUSTER_BEHIND_READS_MAX {
                return true;
            }
            let Some(behind) = landing.behind(channel) else { return false };
            for one in behind {
                if reading.len() < CLUSTER_BEHIND_READS_MAX
                    && reading.insert((channel.clone(), one.worker))
                {
                    reader.begin(Ask::Behind(channel.clone(), one));
                }
            }
            true
        });
    }

    /// Notes that a worker's publications could not be read. They are asked for again.
    pub(super) fn unread(&mut self, channel: Channel, worker: WorkerId) {
        self.reading.remove(&(channel, worker));
    }

    /// Gives a worker what it missed.
    pub(super) fn missed(
        &mut self,
        landing: &mut impl Landing,
        missed: Missed,
        epoch: u32,
        counters: &Counters,
    ) {
        let Missed { channel, worker, lost, publications } = missed;
        let key = (channel, worker);
        self.reading.remove(&key);
        if let Some(seq) = lost {
            // Without room for the notice everything is read again.
            if landing.gap(&key.0, Some((worker, seq))) {
                return;
            }
            counters.cluster_gaps.add(1);
        }
        let publications: Vec<_> =
            publications.into_iter().map(|(seq, one)| (MarkPlace::new(epoch, seq), one)).collect();
        if !publications.is_empty() && !landing.catch_up(&key.0, worker, publications) {
            counters.cluster_caught_up.add(1);
        }
    }
}
