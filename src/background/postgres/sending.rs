//! Hands rows to the node, and waits for its answers.

use std::collections::{HashMap, HashSet, VecDeque};

use uuid::Uuid;

use super::Desk;
use crate::mailbox::Tickets;
use crate::message::{Captured, CapturedRow, MessageId, Refused, Skipped};
use crate::metrics::LogThrottle;

/// How rows were found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// By their notifications.
    Rung,
    /// By a sweep.
    Swept,
}

/// What outlives a connection.
#[derive(Default)]
pub(super) struct State {
    /// Rows that were published and are not marked yet.
    pub(super) published: HashSet<MessageId>,
    /// Rows that are never published, by reason and rule.
    skipped: HashMap<(Skipped, &'static str), LogThrottle>,
    /// Whether the last rows had to be tried again, so that the next one is sent alone.
    is_careful: bool,
    /// Whether it was said that rows are kept twice.
    pub(super) has_said_twice: bool,
}

/// Publications of rows.
pub(super) struct Sending<'a, D> {
    pub(super) desk: &'a D,
    pub(super) tickets: &'a Tickets,
    pub(super) state: &'a mut State,
    pub(super) found: Found,
}

impl<D: Desk> Sending<'_, D> {
    /// Publishes the first of these rows, as many as may be under way together, and takes away
    /// those that are done. Returns whether none of them must be tried again.
    ///
    /// A cluster may take a row after it has not taken an earlier one. Then the earlier one is
    /// tried alone, so that no more rows get ahead of it.
    pub(super) async fn some(
        &mut self,
        rows: &mut VecDeque<CapturedRow>,
        marks: &mut Marks,
    ) -> bool {
        let most = if self.state.is_careful { 1 } else { self.desk.window() };
        let mut later = rows.split_off(most.min(rows.len()));
        let mut sent = Vec::with_capacity(rows.len());
        let mut left = VecDeque::new();
        while let Some(row) = rows.pop_front() {
            // Its mark was lost.
            if self.state.published.contains(&row.id) {
                marks.add(row.id, None);
                continue;
            }
            match self.desk.publish(self.tickets, &row) {
                Ok(answer) => sent.push((row, answer)),
                // Later rows wait, too, because they must not be faster.
                Err(Refused::Overloaded | Refused::HistoryFull | Refused::Late) => {
                    rows.push_front(row);
                    break;
                }
            }
        }
        let counts = self.desk.counts();
        for (row, answer) in sent {
            match answer.await {
                Captured::Published(audience) => {
                    let is_rung = self.found == Found::Rung;
                    let counter = if is_rung { &counts.rung } else { &counts.swept };
                    counter.add(1);
                    self.state.published.insert(row.id);
                    marks.add(row.id, Some(audience));
                }
                Captured::Skipped(why, rule) => {
                    counts.skipped[why as usize].add(1);
                    self.state.log(&row, why, rule);
                    marks.add(row.id, None);
                }
                Captured::Again => left.push_back(row),
            }
        }
        self.state.is_careful = !left.is_empty();
        left.append(rows);
        let is_done = left.is_empty();
        counts.again.add(left.len() as u64);
        left.append(&mut later);
        *rows = left;
        is_done
    }
}

impl State {
    /// Logs a row that is never published.
    fn log(&mut self, row: &CapturedRow, why: Skipped, rule: &'static str) {
        let Some(count) = self.skipped.entry((why, rule)).or_default().add(1) else { return };
        let (id, channel) = (row.id, row.channel.chars().take(64).collect::<String>());
        match why {
            Skipped::NoChannel => tracing::warn!(
                count, %id, channel,
                "a row of the database has no channel: its writer means one that no enabled \
                 definition of this node matches; define it, and write the row again"
            ),
            _ => tracing::warn!(
                count, %id, channel, rule,
                "a row of the database cannot be published: its writer broke this rule"
            ),
        }
    }
}

/// Rows that are done, with their audiences.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) ids: Vec<Uuid>,
    pub(super) counts: Vec<Option<i32>>,
}

impl Marks {
    fn add(&mut self, id: Uuid, audience: Option<u32>) {
        self.ids.push(id);
        self.counts.push(audience.map(|count| i32::try_from(count).unwrap_or(i32::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::ready;

    use super::*;
    use crate::background::postgres::Answer;
    use crate::mailbox::{AcceptorId, Mailboxes};
    use crate::message::{CaptureCondition, Sender};
    use crate::metrics::capture::CaptureCounts;

    /// A node of a cluster that takes this many rows at once, and once does not take one of them.
    #[derive(Default)]
    struct Node {
        counts: CaptureCounts,
        refuses: Cell<Option<u128>>,
        asked: RefCell<Vec<u128>>,
        took: RefCell<Vec<u128>>,
    }

    impl Desk for Node {
        fn publish<'t>(&self, _: &'t Tickets, row: &CapturedRow) -> Result<Answer<'t>, Refused> {
            let number = row.id.as_u128();
            self.asked.borrow_mut().push(number);
            if self.refuses.get() == Some(number) {
                self.refuses.set(None);
                return Ok(Box::pin(ready(Captured::Again)));
            }
            self.took.borrow_mut().push(number);
            Ok(Box::pin(ready(Captured::Published(1))))
        }

        fn is_serving(&self) -> bool {
            true
        }

        fn window(&self) -> usize {
            4
        }

        fn is_ending(&self) -> bool {
            false
        }

        fn note(&self, _: CaptureCondition) {}

        fn counts(&self) -> &CaptureCounts {
            &self.counts
        }
    }

    fn row(number: u128) -> CapturedRow {
        let (channel, event) = ("orders".to_owned(), "tick".to_owned());
        let (id, payload) = (MessageId::from_u128(number), "{}".to_owned());
        CapturedRow { id, channel, event, payload, sender: Sender::System }
    }

    #[test]
    fn no_more_rows_get_ahead_of_one_that_is_tried_again_than_were_under_way_with_it() {
        let (mailboxes, _inboxes) =
            Mailboxes::new(1, 1, 1, usize::MAX).expect("it has descriptors");
        let tickets = &Tickets::new(AcceptorId(0), mailboxes.acceptors[0].clone());
        let desk = &Node::default();
        desk.refuses.set(Some(2));
        let (mut state, mut marks) = (State::default(), Marks::default());
        let mut rows: VecDeque<_> = (1..=10).map(row).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let mut rounds = Vec::new();
        runtime.expect("it needs nothing").block_on(async {
            while !rows.is_empty() {
                let state = &mut state;
                let mut sending = Sending { desk, tickets, state, found: Found::Rung };
                rounds.push(sending.some(&mut rows, &mut marks).await);
            }
        });
        // 3 and 4 were under way with 2. It is tried alone then.
        assert_eq!(*desk.asked.borrow(), [1, 2, 3, 4, 2, 5, 6, 7, 8, 9, 10]);
        assert_eq!(*desk.took.borrow(), [1, 3, 4, 2, 5, 6, 7, 8, 9, 10]);
        assert_eq!(rounds, [false, true, true, true]);
        assert_eq!(marks.ids.len(), 10);
        assert_eq!((desk.counts.again.get(), desk.counts.rung.get()), (1, 10));
    }
}
