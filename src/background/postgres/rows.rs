//! Reads rows, publishes them, and marks them as dispatched.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, pin_mut};
use tokio::time::sleep;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Desk;
use super::connection::{Link, in_time};
use super::fault::Fault;
use crate::limits::{POSTGRES_BATCH_MAX, POSTGRES_PATIENCE_MS, POSTGRES_REFUSED_MS};
use crate::mailbox::Tickets;
use crate::message::{Captured, CapturedRow, MessageId, Refused, Sender, Skipped};
use crate::metrics::LogThrottle;

/// The columns of a row, before its place.
const COLUMNS: &str = "m.id, coalesce(m.channel_name::text, ''), coalesce(m.event_name::text, ''), \
                       coalesce(m.payload::text, 'null'), coalesce(m.sender_type::text, ''), \
                       m.sender_id::text";
/// The order of sweeps. A writer's rows keep their order: `created_at` is the start of their
/// transaction, and `cmin` the command within it.
const ORDER: &str = "m.created_at, m.cmin::text::bigint, m.ctid";
/// Bytes of payloads that are read together; the first row may have more.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

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
    pub(super) skipped: LogThrottle,
}

/// The rows of the database, over one connection.
pub(super) struct Rows<'a, D> {
    pub(super) work: &'a Link,
    pub(super) desk: &'a D,
    pub(super) tickets: &'a Tickets,
    pub(super) state: &'a mut State,
    pub(super) writes_counts: bool,
}

impl<D: Desk> Rows<'_, D> {
    /// Publishes all rows that wait.
    pub(super) async fn sweep(&mut self) -> Result<(), Fault> {
        let query = format!(
            "SELECT {COLUMNS}, 0::bigint FROM realtime.messages m \
             WHERE m.dispatched_at IS NULL ORDER BY {ORDER} LIMIT {POSTGRES_BATCH_MAX}"
        );
        loop {
            let (rows, _) = self.read(&query, &[]).await?;
            if rows.is_empty() {
                return Ok(());
            }
            self.publish(rows, Found::Swept).await?;
        }
    }

    /// Returns the ids of rows that wait, at most a batch.
    pub(super) async fn waiting(&self) -> Result<Vec<Uuid>, Fault> {
        let query = format!(
            "SELECT m.id FROM realtime.messages m WHERE m.dispatched_at IS NULL \
             ORDER BY {ORDER} LIMIT {POSTGRES_BATCH_MAX}"
        );
        let rows = in_time(self.work.client.query(&query, &[])).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Publishes those of the rows that wait, in this order. Returns how many there were.
    pub(super) async fn publish_named(
        &mut self,
        mut ids: &[Uuid],
        found: Found,
    ) -> Result<usize, Fault> {
        let query = format!(
            "SELECT {COLUMNS}, named.place FROM unnest($1::uuid[]) WITH ORDINALITY \
             AS named (id, place) JOIN realtime.messages m USING (id) \
             WHERE m.dispatched_at IS NULL ORDER BY named.place"
        );
        let mut all = 0;
        while !ids.is_empty() {
            let (rows, last) = self.read(&query, &[&ids]).await?;
            // Rows behind the last one were not read.
            ids = last.and_then(|last| ids.get(last..)).unwrap_or_default();
            all += rows.len();
            self.publish(rows, found).await?;
        }
        Ok(all)
    }

    /// Reads rows up to [`BATCH_BYTES_MAX`]. Returns the place of the last one if there may be
    /// more.
    async fn read(
        &self,
        query: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(Vec<CapturedRow>, Option<usize>), Fault> {
        let given = parameters.iter().map(|one| *one as &dyn ToSql);
        let stream = in_time(self.work.client.query_raw(query, given)).await?;
        pin_mut!(stream);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = in_time(async { stream.next().await.transpose() }).await? {
            let sender = match row.get(4) {
                "user" => Sender::User(row.get::<_, Option<String>>(5).map(Into::into)),
                _ => Sender::System,
            };
            let payload: String = row.get(3);
            bytes += payload.len();
            let (id, channel, event) = (row.get(0), row.get(1), row.get(2));
            rows.push(CapturedRow { id, channel, event, payload, sender });
            if bytes > BATCH_BYTES_MAX {
                let place: i64 = row.get(6);
                return Ok((rows, usize::try_from(place).ok()));
            }
        }
        Ok((rows, None))
    }

    /// Publishes rows, waits for the answers, and marks the rows.
    async fn publish(&mut self, mut rows: Vec<CapturedRow>, found: Found) -> Result<(), Fault> {
        let began = Instant::now();
        let mut marks = Marks::default();
        while !rows.is_empty() {
            let again = self.try_publish(&rows, &mut marks, found).await;
            rows.retain(|row| again.contains(&row.id));
            if rows.is_empty() {
                break;
            }
            let is_late = began.elapsed() >= Duration::from_millis(POSTGRES_PATIENCE_MS);
            if self.desk.is_ending() || (is_late && !self.desk.is_serving()) {
                self.mark(marks).await?;
                return Err(Fault::Apart);
            }
            sleep(Duration::from_millis(POSTGRES_REFUSED_MS)).await;
        }
        self.mark(marks).await
    }

    /// Publishes rows in their order. Returns those that must be published again.
    async fn try_publish(
        &mut self,
        rows: &[CapturedRow],
        marks: &mut Marks,
        found: Found,
    ) -> Vec<Uuid> {
        let (desk, tickets) = (self.desk, self.tickets);
        let mut sent = Vec::with_capacity(rows.len());
        let mut again = Vec::new();
        for row in rows {
            // Its mark was lost.
            if self.state.published.contains(&row.id) {
                marks.add(row.id, None);
                continue;
            }
            match desk.publish(tickets, row) {
                Ok(answer) => sent.push((row, answer)),
                // Later rows wait, too, because they must not be faster.
                Err(Refused::Overloaded | Refused::HistoryFull | Refused::Late) => {
                    let left = rows.iter().skip_while(|one| one.id != row.id);
                    again.extend(left.map(|row| row.id));
                    break;
                }
            }
        }
        for (row, answer) in sent {
            match answer.await {
                Captured::Published(audience) => {
                    let counts = desk.counts();
                    let counter = if found == Found::Rung { &counts.rung } else { &counts.swept };
                    counter.add(1);
                    self.state.published.insert(row.id);
                    marks.add(row.id, Some(audience));
                }
                Captured::Skipped(why) => {
                    self.skipped(row, why);
                    marks.add(row.id, None);
                }
                Captured::Again => again.push(row.id),
            }
        }
        desk.counts().again.add(again.len() as u64);
        again
    }

    /// Counts a row that is never published, and logs it.
    fn skipped(&mut self, row: &CapturedRow, why: Skipped) {
        let counts = self.desk.counts();
        let counter = match why {
            Skipped::NoChannel => &counts.without_channel,
            Skipped::Invalid(_) => &counts.invalid,
        };
        counter.add(1);
        let Some(count) = self.state.skipped.add(1) else { return };
        let (id, channel) = (row.id, &row.channel);
        match why {
            Skipped::NoChannel => tracing::warn!(
                count, %id, channel,
                "a row of the database has no channel: its writer means one that no enabled \
                 definition of this node matches; define it, and write the row again"
            ),
            Skipped::Invalid(rule) => tracing::warn!(
                count, %id, channel, rule,
                "a row of the database cannot be published: its writer broke this rule"
            ),
        }
    }

    /// Marks rows as dispatched.
    async fn mark(&mut self, marks: Marks) -> Result<(), Fault> {
        let Marks { ids, counts } = marks;
        if ids.is_empty() {
            return Ok(());
        }
        let count = "ws_audience_count = coalesce(d.heard, m.ws_audience_count), ";
        let count = if self.writes_counts { count } else { "" };
        let statement = format!(
            "UPDATE realtime.messages AS m SET {count}dispatched_at = clock_timestamp() \
             FROM unnest($1::uuid[], $2::int4[]) AS d (id, heard) \
             WHERE m.id = d.id AND m.dispatched_at IS NULL"
        );
        in_time(self.work.client.execute(&statement, &[&ids, &counts])).await?;
        for id in &ids {
            self.state.published.remove(id);
        }
        Ok(())
    }
}

/// Rows that are done, with their audiences.
#[derive(Default)]
struct Marks {
    ids: Vec<Uuid>,
    counts: Vec<Option<i32>>,
}

impl Marks {
    fn add(&mut self, id: Uuid, audience: Option<u32>) {
        self.ids.push(id);
        self.counts.push(audience.map(|count| i32::try_from(count).unwrap_or(i32::MAX)));
    }
}
