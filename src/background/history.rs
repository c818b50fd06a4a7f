//! The writer's part in history. Queued publications are committed together, and publishers that
//! wait are answered with the durability that was reached.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::histories::Writing;
use super::store::Store;
use crate::limits::{COMMIT_EVERY_MS, HISTORY_BATCH_MAX};
use crate::mailbox::{Keep, Mailboxes};
use crate::message::{Durability, Record};
use crate::metrics::{Counters, LogThrottle};

/// The queue into history, and the pace of its commits.
#[derive(Debug)]
pub(super) struct History {
    pub(super) records: Receiver<Keep>,
    pace: Pace,
    log_throttle: LogThrottle,
}

/// The pace of commits.
#[derive(Debug, Default)]
pub(super) struct Pace {
    committed: Option<Instant>,
}

impl Pace {
    /// Sleeps until [`COMMIT_EVERY_MS`] have passed since the last commit, so that publications
    /// under load share commits.
    pub(super) fn keep(&mut self) {
        let every = Duration::from_millis(COMMIT_EVERY_MS);
        if let Some(passed) = self.committed.map(|last| last.elapsed())
            && passed < every
        {
            thread::sleep(every - passed);
        }
        self.committed = Some(Instant::now());
    }
}

impl History {
    pub(super) fn new(records: Receiver<Keep>) -> Self {
        Self { records, pace: Pace::default(), log_throttle: LogThrottle::default() }
    }

    /// Commits this publication together with those queued behind it, and answers the publishers
    /// that wait. Returns how many records were taken from the queue, and the records, even if the
    /// commit failed, but without those that history had already and those that another node of a
    /// cluster may have.
    pub(super) fn keep(
        &mut self,
        first: Keep,
        store: &mut Store,
        (mailboxes, histories): (&Mailboxes, &Writing),
        counters: &Counters,
    ) -> (usize, Vec<Record>) {
        self.pace.keep();
        let mut records = Vec::new();
        let mut waiting = Vec::new();
        let mut taken = 0;
        let mut next = Some(first);
        while let Some(keep) = next {
            taken += 1;
            if let Some(keep) = histories.pass_repeat(keep, store) {
                mailboxes.history.taken(&keep);
                let Keep { record, level, ticket } = keep;
                records.push(record);
                waiting.push((level, ticket));
            }
            let has_room = taken < HISTORY_BATCH_MAX;
            next = if has_room { self.records.try_recv().ok() } else { None };
        }
        if records.is_empty() {
            return (taken, records);
        }
        let sync = waiting.iter().any(|(level, _)| *level == Durability::Synced);
        let reached = match store.append(&records, sync) {
            Ok(known) => {
                counters.commits.add(1);
                let mut is_known = known.into_iter();
                records.retain(|_| !is_known.next().unwrap_or_default());
                counters.kept.add(records.len() as u64);
                // `sync` follows the highest level in the batch, so every publisher's level is
                // reached.
                Durability::Synced
            }
            Err(error) => {
                counters.lost.add(records.len() as u64);
                if let Some(lost) = self.log_throttle.add(records.len() as u64) {
                    tracing::error!(%error, lost, "publications were delivered but are not in history");
                }
                Durability::Memory
            }
        };
        for (level, ticket) in waiting {
            if let Some(ticket) = ticket {
                mailboxes.answer(ticket, level.min(reached));
            }
        }
        (taken, records)
    }
}
