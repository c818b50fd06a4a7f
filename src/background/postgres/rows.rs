//! Reads rows, publishes them, and marks them as dispatched.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, pin_mut};
use tokio::time::sleep;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Desk;
use super::connection::{Link, in_time};
use super::fault::Fault;
use super::sending::{Found, Marks, Sending, State};
use crate::limits::{POSTGRES_BATCH_MAX, POSTGRES_PATIENCE_MS, POSTGRES_REFUSED_MS};
use crate::mailbox::Tickets;
use crate::message::{CapturedRow, Sender};

/// The columns of a row.
const COLUMNS: &str = "m.id, coalesce(m.channel_name::text, ''), coalesce(m.event_name::text, ''), \
                       coalesce(m.payload::text, 'null'), coalesce(m.sender_type::text, ''), \
                       m.sender_id::text";
/// The order of sweeps. A writer's rows keep their order: `created_at` is the start of their
/// transaction, and `cmin` the command within it.
const ORDER: &str = "m.created_at, m.cmin::text::bigint, m.ctid";
/// Bytes of payloads that are in memory together; the last row may exceed them.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The rows of the database, over one connection.
pub(super) struct Rows<'a, D> {
    /// The connection that holds the lock.
    pub(super) holding: &'a Link,
    pub(super) work: &'a Link,
    pub(super) desk: &'a D,
    pub(super) tickets: &'a Tickets,
    pub(super) state: &'a mut State,
    pub(super) writes_counts: bool,
}

impl<D: Desk> Rows<'_, D> {
    /// Checks that the node still holds the lock, as far as it knows.
    ///
    /// # Errors
    /// If another node may publish the rows now.
    pub(super) fn check_lock(&self) -> Result<(), Fault> {
        if self.holding.ended.is_finished() {
            return Err(Fault::Lost("the connection that holds the lock was lost".to_owned()));
        }
        Ok(())
    }

    /// Publishes all rows that wait.
    pub(super) async fn sweep(&mut self) -> Result<(), Fault> {
        // The inner query sorts, so that no payload is made text but those of the batch.
        let query = format!(
            "SELECT {COLUMNS} FROM (SELECT m.id, m.channel_name, m.event_name, m.payload, \
               m.sender_type, m.sender_id FROM realtime.messages m \
               WHERE m.dispatched_at IS NULL ORDER BY {ORDER} LIMIT {POSTGRES_BATCH_MAX}) AS m"
        );
        while self.relay(&query, &[], Found::Swept).await? > 0 {}
        Ok(())
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
        ids: &[Uuid],
        found: Found,
    ) -> Result<usize, Fault> {
        if ids.is_empty() {
            return Ok(0);
        }
        let query = format!(
            "SELECT {COLUMNS} FROM (SELECT m.id, m.channel_name, m.event_name, m.payload, \
               m.sender_type, m.sender_id FROM unnest($1::uuid[]) WITH ORDINALITY \
               AS named (id, place) JOIN realtime.messages m USING (id) \
               WHERE m.dispatched_at IS NULL ORDER BY named.place OFFSET 0) AS m"
        );
        self.relay(&query, &[&ids], found).await
    }

    /// Reads rows, each once, publishes and marks them. Returns how many there were.
    async fn relay(
        &mut self,
        query: &str,
        parameters: &[&(dyn ToSql + Sync)],
        found: Found,
    ) -> Result<usize, Fault> {
        self.check_lock()?;
        let mut marks = Marks::default();
        let relayed = self.read(query, parameters, (&mut marks, found)).await;
        // Over a connection that is lost, nothing can be marked.
        if !matches!(relayed, Ok(_) | Err(Fault::Apart)) {
            return relayed;
        }
        self.mark(marks).await?;
        relayed
    }

    /// Reads rows and publishes them as they come. While the node has no room for them, the server
    /// waits: the connection passes on nothing that is not read.
    async fn read(
        &mut self,
        query: &str,
        parameters: &[&(dyn ToSql + Sync)],
        (marks, found): (&mut Marks, Found),
    ) -> Result<usize, Fault> {
        let given = parameters.iter().map(|one| *one as &dyn ToSql);
        let stream = in_time(self.work.client.query_raw(query, given)).await?;
        pin_mut!(stream);
        let (mut rows, mut bytes, mut count) = (Vec::new(), 0, 0);
        loop {
            let next = in_time(async { stream.next().await.transpose() }).await?;
            let is_last = next.is_none();
            if let Some(row) = next {
                let row = captured(&row);
                bytes += row.payload.len();
                count += 1;
                rows.push(row);
            }
            if is_last || bytes > BATCH_BYTES_MAX {
                self.publish(std::mem::take(&mut rows), marks, found).await?;
                bytes = 0;
            }
            if is_last {
                return Ok(count);
            }
        }
    }

    /// Publishes rows and waits for the answers, again and again until the node has taken all.
    async fn publish(
        &mut self,
        rows: Vec<CapturedRow>,
        marks: &mut Marks,
        found: Found,
    ) -> Result<(), Fault> {
        let (desk, tickets) = (self.desk, self.tickets);
        let mut rows = VecDeque::from(rows);
        let mut since = Instant::now();
        while !rows.is_empty() {
            let before = rows.len();
            let mut sending = Sending { desk, tickets, state: self.state, found };
            if sending.some(&mut rows, marks).await {
                continue;
            }
            if rows.len() < before {
                since = Instant::now();
            }
            let is_late = since.elapsed() >= Duration::from_millis(POSTGRES_PATIENCE_MS);
            if desk.is_ending() || (is_late && !desk.is_serving()) {
                return Err(Fault::Apart);
            }
            sleep(Duration::from_millis(POSTGRES_REFUSED_MS)).await;
        }
        Ok(())
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

fn captured(row: &Row) -> CapturedRow {
    let sender = match row.get(4) {
        "user" => Sender::User(row.get::<_, Option<String>>(5).map(Into::into)),
        _ => Sender::System,
    };
    let (id, channel, event, payload) = (row.get(0), row.get(1), row.get(2), row.get(3));
    CapturedRow { id, channel, event, payload, sender }
}
