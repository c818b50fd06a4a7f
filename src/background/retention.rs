//! What has to be removed from history, done in steps that are short beside what waits to be
//! stored.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::now;
use super::reader::refusal;
use super::store::{Store, StoreError};
use crate::limits::{REMOVED_ROWS_MAX, RETENTION_EVERY_MS};
use crate::mailbox::{Mailboxes, StoreRefusal, StoreResult, Ticket};
use crate::message::{Millis, Position};

const DAY_MS: Millis = 24 * 60 * 60 * 1_000;
const RETENTION_EVERY: Duration = Duration::from_millis(RETENTION_EVERY_MS);

/// What is still to be removed.
#[derive(Debug, Default)]
pub(super) struct RetentionTasks {
    /// In the order in which they were asked for. Each is a request that waits at an acceptor, so
    /// that there are no more than these have connections.
    clears: VecDeque<Clear>,
    /// When to look for messages that were kept long enough; at once, where no time is given.
    retention_due: Option<Instant>,
}

/// Somebody wants history emptied.
#[derive(Debug)]
struct Clear {
    /// Answered with how many messages were removed.
    ticket: Ticket<StoreResult<u64>>,
    /// Of everything up to here: what comes later stays.
    up_to: Position,
    removed: u64,
}

impl RetentionTasks {
    /// History is to be emptied of all up to a position; who asked is told when it is.
    pub(super) fn clear(&mut self, ticket: Ticket<StoreResult<u64>>, up_to: Position) {
        self.clears.push_back(Clear { ticket, up_to, removed: 0 });
    }

    /// How long messages are kept has changed.
    pub(super) fn look_at_retention(&mut self) {
        self.retention_due = None;
    }

    /// Does one step, where there is any to do, and says for how long none will be.
    pub(super) fn step(&mut self, store: &mut Store, mailboxes: &Mailboxes) -> Duration {
        if let Some(clear) = self.clears.pop_front() {
            self.continue_clearing(clear, store, mailboxes);
            return Duration::ZERO;
        }
        let now = Instant::now();
        if let Some(due) = self.retention_due.filter(|due| *due > now) {
            return due - now;
        }
        let removed = retain(store).unwrap_or_else(|error| {
            tracing::warn!(%error, "messages are kept for longer than they should be");
            0
        });
        if removed > 0 {
            return Duration::ZERO;
        }
        self.retention_due = Some(now + RETENTION_EVERY);
        RETENTION_EVERY
    }

    /// Tells everybody who waits that it will not be done.
    pub(super) fn abandon(self, mailboxes: &Mailboxes) {
        for Clear { ticket, .. } in self.clears {
            mailboxes.answer(ticket, Err(StoreRefusal::Busy));
        }
    }

    fn continue_clearing(&mut self, mut clear: Clear, store: &mut Store, mailboxes: &Mailboxes) {
        let cleared = match store.clear_step(clear.up_to, REMOVED_ROWS_MAX) {
            Ok(0) => Ok(clear.removed),
            Ok(removed) => {
                clear.removed += removed;
                return self.clears.push_front(clear);
            }
            Err(error) => Err(refusal(&error)),
        };
        if cleared.is_ok() {
            tracing::info!(messages = clear.removed, "history was cleared");
        }
        mailboxes.answer(clear.ticket, cleared);
    }
}

/// Removes some messages that were kept long enough, and says how many.
fn retain(store: &mut Store) -> Result<u64, StoreError> {
    let Some(days) = store.retention()? else { return Ok(0) };
    store.retain_step(now().saturating_sub(Millis::from(days) * DAY_MS), REMOVED_ROWS_MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::mailbox::{AcceptorId, Inboxes, Pending, Slot, Tickets};
    use crate::message::{
        Audience, ChannelDefinition, ChannelOptions, Content, Publication, Record, Sender,
    };

    /// A store, and an acceptor that asks for its history to be cleared.
    struct Side {
        _directory: tempfile::TempDir,
        store: Store,
        mailboxes: Mailboxes,
        inboxes: Inboxes,
        tickets: Tickets,
    }

    fn side() -> Side {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("fanfare.db")).unwrap();
        let (mailboxes, inboxes) = Mailboxes::new(1, 1, 1).unwrap();
        let tickets = Tickets::new(AcceptorId(0), mailboxes.acceptors[0].clone());
        Side { _directory: directory, store, mailboxes, inboxes, tickets }
    }

    fn append(store: &mut Store, ids: std::ops::Range<u128>, at: Millis) {
        let definition = Arc::new(ChannelDefinition {
            id: Uuid::from_u128(1),
            pattern: "c".into(),
            description: None,
            webhook_urls: None,
            enabled: true,
            options: ChannelOptions::default(),
            created_at: 0,
            updated_at: 0,
        });
        let records: Vec<Record> = ids
            .map(|id| {
                let (event, payload) = ("e".into(), "1".into());
                let content = Content::Message { event, payload, sender: Sender::System };
                let publication = Publication::new(Uuid::from_u128(id), "c".into(), at, content);
                Record {
                    publication: Arc::new(publication),
                    definition: definition.clone(),
                    audience: Audience::default(),
                }
            })
            .collect();
        store.append(&records, false).unwrap();
    }

    /// Asks for history to be cleared of all that there is now.
    fn clear<'t>(
        chores: &mut RetentionTasks,
        store: &mut Store,
        tickets: &'t Tickets,
    ) -> Pending<'t, StoreResult<u64>> {
        let inquiry = tickets.inquiry().expect("there is a place");
        let put = inquiry.put(|ticket| {
            chores.clear(ticket, store.newest());
            Ok::<(), StoreRefusal>(())
        });
        put.expect("it was taken").1
    }

    impl Side {
        fn answer(&self, pending: &mut Pending<'_, StoreResult<u64>>) -> Option<StoreResult<u64>> {
            if let Some(answered) = self.inboxes.acceptors[0].take(|_| Slot::Control) {
                self.tickets.settle(answered);
            }
            pending.take()
        }
    }

    #[test]
    fn history_is_cleared_between_what_is_appended() {
        let mut side = side();
        let step = u128::from(REMOVED_ROWS_MAX);
        append(&mut side.store, 0..2 * step + 5, 0);
        let mut chores = RetentionTasks::default();
        let mut pending = clear(&mut chores, &mut side.store, &side.tickets);
        for at in 0..3 {
            let id = 10 * step + at;
            append(&mut side.store, id..id + 1, 0);
            assert_eq!(chores.step(&mut side.store, &side.mailboxes), Duration::ZERO);
            assert!(side.answer(&mut pending).is_none());
        }
        chores.step(&mut side.store, &side.mailboxes);
        assert_eq!(side.answer(&mut pending), Some(Ok(2 * u64::from(REMOVED_ROWS_MAX) + 5)));
        drop(pending);
        assert_eq!(side.store.clear_step(side.store.newest(), 100).unwrap(), 3);
    }

    #[test]
    fn who_waits_when_the_node_stops_is_told() {
        let mut side = side();
        append(&mut side.store, 0..5, 0);
        let mut chores = RetentionTasks::default();
        let mut pending = clear(&mut chores, &mut side.store, &side.tickets);
        chores.step(&mut side.store, &side.mailboxes);
        chores.abandon(&side.mailboxes);
        assert_eq!(side.answer(&mut pending), Some(Err(StoreRefusal::Busy)));
    }

    #[test]
    fn messages_go_when_they_were_kept_long_enough() {
        let Side { _directory, mut store, mailboxes, .. } = side();
        let now = now();
        append(&mut store, 0..3, now - 3 * DAY_MS);
        append(&mut store, 3..5, now - DAY_MS);
        let mut chores = RetentionTasks::default();
        assert_eq!(chores.step(&mut store, &mailboxes), RETENTION_EVERY);
        store.set_retention(Some(2)).unwrap();
        assert!(chores.step(&mut store, &mailboxes) > Duration::ZERO, "not yet looked at again");
        chores.look_at_retention();
        assert_eq!(chores.step(&mut store, &mailboxes), Duration::ZERO);
        assert_eq!(chores.step(&mut store, &mailboxes), RETENTION_EVERY);
        assert_eq!(store.clear_step(store.newest(), 100).unwrap(), 2);
    }
}
