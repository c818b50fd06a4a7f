//! Removes messages from history, on request or because they were kept long enough. Each step is
//! short, so that the writer's other work goes on between steps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::now;
use super::reader::refusal;
use super::store::{Store, StoreError};
use crate::cluster::history::{Answer, Refusal};
use crate::limits::{REMOVED_ROWS_MAX, RETENTION_EVERY_MS};
use crate::mailbox::{Changed, Mailboxes, StoreRefusal, StoreResult, Ticket};
use crate::message::{Millis, Position};

const DAY_MS: Millis = 24 * 60 * 60 * 1_000;
const RETENTION_EVERY: Duration = Duration::from_millis(RETENTION_EVERY_MS);

/// Removals that are to be done.
#[derive(Debug, Default)]
pub(super) struct RetentionTasks {
    /// In the order of the requests. Each waits on an HTTP connection, and the bound on those is
    /// the bound on these.
    clears: VecDeque<Clear>,
    /// When to look next for messages that were kept long enough; `None` for at once.
    retention_due: Option<Instant>,
}

/// A request to empty history.
#[derive(Debug)]
struct Clear {
    /// Answered with the number of removed messages.
    caller: Caller,
    /// The last position to remove; later messages stay.
    up_to: Position,
    removed: u64,
}

/// The caller that history is emptied for.
#[derive(Debug)]
pub(super) enum Caller {
    /// One of a node that is alone.
    Ticket(Ticket<StoreResult<Changed<u64>>>),
    /// The task of the cluster.
    Task(oneshot::Sender<Answer>),
}

impl Caller {
    fn answer(self, mailboxes: &Mailboxes, cleared: Result<u64, StoreRefusal>) {
        match self {
            Self::Ticket(ticket) => mailboxes.answer(ticket, cleared.map(Changed::from)),
            Self::Task(answer) => {
                let answered = cleared.map_or_else(
                    |refusal| match refusal {
                        StoreRefusal::Busy => Answer::Refused(Refusal::Busy),
                        _ => Answer::Refused(Refusal::Failed),
                    },
                    Answer::Cleared,
                );
                // The task does not wait any more if it takes no answer.
                let _ = answer.send(answered);
            }
        }
    }
}

impl RetentionTasks {
    /// Queues the removal of all messages up to a position. The caller is answered once it is done.
    pub(super) fn clear(&mut self, caller: Caller, up_to: Position) {
        self.clears.push_back(Clear { caller, up_to, removed: 0 });
    }

    /// Looks for messages that were kept long enough at the next step, because the limit has
    /// changed.
    pub(super) fn look_at_retention(&mut self) {
        self.retention_due = None;
    }

    /// Does the next step if one is due. Returns how long the caller may wait before the next call.
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

    /// Answers every waiting request with `Busy`, because the node stops.
    pub(super) fn abandon(self, mailboxes: &Mailboxes) {
        for Clear { caller, .. } in self.clears {
            caller.answer(mailboxes, Err(StoreRefusal::Busy));
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
        clear.caller.answer(mailboxes, cleared);
    }
}

/// Removes messages that were kept long enough, at most [`REMOVED_ROWS_MAX`]. Returns their number.
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
    use crate::message::{Audience, ChannelDefinition, Content, Publication, Record, Sender};

    /// A store, and an acceptor that asks for its history to be cleared.
    struct Bench {
        _directory: tempfile::TempDir,
        store: Store,
        mailboxes: Mailboxes,
        inboxes: Inboxes,
        tickets: Tickets,
    }

    fn bench() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("fanfare.db")).unwrap();
        let (mailboxes, inboxes) = Mailboxes::new(1, 1, 1, usize::MAX).unwrap();
        let tickets = Tickets::new(AcceptorId(0), mailboxes.acceptors[0].clone());
        Bench { _directory: directory, store, mailboxes, inboxes, tickets }
    }

    fn append(store: &mut Store, ids: std::ops::Range<u128>, at: Millis) {
        let definition = Arc::new(ChannelDefinition::numbered(1, "c"));
        let records: Vec<Record> = ids
            .map(|id| {
                let (event, payload) = ("e".into(), "1".into());
                let content = Content::Message { event, payload, sender: Sender::System };
                let publication = Publication::new(Uuid::from_u128(id), "c".into(), at, content);
                Record::new(Arc::new(publication), definition.clone(), Audience::default())
            })
            .collect();
        store.append(&records, false).unwrap();
    }

    /// Requests the removal of all messages that are in the store now.
    fn clear<'t>(
        tasks: &mut RetentionTasks,
        store: &mut Store,
        tickets: &'t Tickets,
    ) -> Pending<'t, StoreResult<Changed<u64>>> {
        let inquiry = tickets.inquiry().expect("there is a place");
        let put = inquiry.put(|ticket| {
            tasks.clear(Caller::Ticket(ticket), store.newest());
            Ok::<(), StoreRefusal>(())
        });
        put.expect("it was taken").1
    }

    impl Bench {
        fn answer(
            &self,
            pending: &mut Pending<'_, StoreResult<Changed<u64>>>,
        ) -> Option<StoreResult<u64>> {
            if let Some(answered) = self.inboxes.acceptors[0].take(|_| Slot::Control) {
                self.tickets.settle(answered);
            }
            pending.take().map(|answer| answer.map(|changed| changed.now))
        }
    }

    #[test]
    fn history_is_cleared_between_what_is_appended() {
        let mut bench = bench();
        let step = u128::from(REMOVED_ROWS_MAX);
        append(&mut bench.store, 0..2 * step + 5, 0);
        let mut tasks = RetentionTasks::default();
        let mut pending = clear(&mut tasks, &mut bench.store, &bench.tickets);
        for at in 0..3 {
            let id = 10 * step + at;
            append(&mut bench.store, id..id + 1, 0);
            assert_eq!(tasks.step(&mut bench.store, &bench.mailboxes), Duration::ZERO);
            assert!(bench.answer(&mut pending).is_none());
        }
        tasks.step(&mut bench.store, &bench.mailboxes);
        assert_eq!(bench.answer(&mut pending), Some(Ok(2 * u64::from(REMOVED_ROWS_MAX) + 5)));
        drop(pending);
        assert_eq!(bench.store.clear_step(bench.store.newest(), 100).unwrap(), 3);
    }

    #[test]
    fn who_waits_when_the_node_stops_is_told() {
        let mut bench = bench();
        append(&mut bench.store, 0..5, 0);
        let mut tasks = RetentionTasks::default();
        let mut pending = clear(&mut tasks, &mut bench.store, &bench.tickets);
        tasks.step(&mut bench.store, &bench.mailboxes);
        tasks.abandon(&bench.mailboxes);
        assert_eq!(bench.answer(&mut pending), Some(Err(StoreRefusal::Busy)));
    }

    #[test]
    fn messages_go_when_they_were_kept_long_enough() {
        let Bench { _directory, mut store, mailboxes, .. } = bench();
        let now = now();
        append(&mut store, 0..3, now - 3 * DAY_MS);
        append(&mut store, 3..5, now - DAY_MS);
        let mut tasks = RetentionTasks::default();
        assert_eq!(tasks.step(&mut store, &mailboxes), RETENTION_EVERY);
        store.set_retention(Some(2)).unwrap();
        assert!(tasks.step(&mut store, &mailboxes) > Duration::ZERO, "not yet looked at again");
        tasks.look_at_retention();
        assert_eq!(tasks.step(&mut store, &mailboxes), Duration::ZERO);
        assert_eq!(tasks.step(&mut store, &mailboxes), RETENTION_EVERY);
        assert_eq!(store.clear_step(store.newest(), 100).unwrap(), 2);
    }
}
