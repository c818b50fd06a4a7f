//! The lock of the node that publishes rows. It is on a view that only those may lock who may
//! update it, so that no other user can keep the rows from being published.
//!
//! It lasts as long as a transaction, which has no snapshot between two queries: it keeps no row
//! from being vacuumed.

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;

use super::connection::{Link, in_time};
use super::fault::Fault;
use super::{Desk, Told};
use crate::limits::{
    POSTGRES_BUSY_TIMES, POSTGRES_LOCK_MS, POSTGRES_REFUSED_MS, POSTGRES_SILENCE_MS,
};
use crate::message::CaptureCondition;

/// Takes the lock, or fails at once.
const TAKE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
                    LOCK TABLE realtime.fanfare_capture IN EXCLUSIVE MODE NOWAIT";
/// Lets the server keep a transaction without end. Not every version has both settings.
const UNLIMITED: &str = "SELECT set_config(name, '0', false) FROM pg_settings \
                         WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')";
/// The sessions that hold the lock. The state of other users' sessions may be hidden.
const HOLDERS: &str = "SELECT l.pid, coalesce(a.usename::text, 'a prepared transaction'), \
      a.usename IS NOT DISTINCT FROM current_user::name OR a.state IS NOT NULL, \
      coalesce(clock_timestamp() - a.state_change > $1::text::interval * \
        CASE a.state WHEN 'active' THEN $2::float8 ELSE 1 END, false), \
      current_user::text \
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
    WHERE l.locktype = 'relation' AND l.granted AND l.mode <> 'AccessShareLock' \
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND l.relation = to_regclass('realtime.fanfare_capture') \
    AND l.pid IS DISTINCT FROM pg_backend_pid()";

/// A session that holds the lock.
struct Holder {
    /// Its process; `None` if it is a prepared transaction.
    process: Option<i32>,
    user: String,
    /// Whether it can be seen whether it is alive.
    is_visible: bool,
    is_silent: bool,
    /// The user of the node.
    own_user: String,
}

impl Holder {
    /// Says why it cannot be told whether the holder lives, or why it cannot be ended.
    fn trouble(&self) -> CaptureCondition {
        let Self { process, user, own_user, .. } = self;
        let named = process.map(|process| format!(", process {process}")).unwrap_or_default();
        let text = format!(
            "{user}{named}, holds the lock of the node that publishes rows, and {own_user} cannot \
             see whether that session lives, or may not end it: let all nodes of this database have \
             one user; or end the session as a superuser, with pg_terminate_backend or ROLLBACK \
             PREPARED, and see who may update realtime.fanfare_capture"
        );
        CaptureCondition::Failing(text.into())
    }
}

/// Takes the lock. Ends the connection of a holder that is silent. Returns false if the node stops
/// or leaves the rows to others.
pub(super) async fn take<D: Desk>(link: &Link, told: &mut Told<'_, D>) -> Result<bool, Fault> {
    link.execute(UNLIMITED).await?;
    let mut ended = None;
    loop {
        if told.desk.is_ending() || !told.desk.is_serving() {
            return Ok(false);
        }
        match holder(&link.client).await? {
            None if try_take(link).await? => return Ok(true),
            None => {}
            Some(holder) if holder.is_silent => {
                if end(link, &holder, &mut ended).await? {
                    sleep(Duration::from_millis(POSTGRES_REFUSED_MS)).await;
                    continue;
                }
                told.note(holder.trouble());
            }
            Some(holder) if !holder.is_visible => told.note(holder.trouble()),
            Some(_) => told.note(CaptureCondition::Waiting),
        }
        sleep(Duration::from_millis(POSTGRES_LOCK_MS)).await;
    }
}

async fn try_take(link: &Link) -> Result<bool, Fault> {
    match link.execute(TAKE).await {
        Ok(()) => Ok(true),
        Err(Fault::Busy(_)) => link.execute("ROLLBACK").await.map(|()| false),
        Err(fault) => Err(fault),
    }
}

async fn holder(client: &Client) -> Result<Option<Holder>, Fault> {
    let silence = format!("{POSTGRES_SILENCE_MS} milliseconds");
    let times = POSTGRES_BUSY_TIMES as f64;
    let rows = in_time(client.query(HOLDERS, &[&silence, &times])).await?;
    Ok(rows.first().map(|row| Holder {
        process: row.get(0),
        user: row.get(1),
        is_visible: row.get(2),
        is_silent: row.get(3),
        own_user: row.get(4),
    }))
}

/// Ends the session of a silent holder. `ended` is the last one that was ended. Returns false if
/// the user may not.
async fn end(link: &Link, holder: &Holder, ended: &mut Option<i32>) -> Result<bool, Fault> {
    let end = "SELECT pg_terminate_backend($1)";
    match in_time(link.client.execute(end, &[&holder.process])).await {
        Ok(_) => {
            if std::mem::replace(ended, holder.process) != holder.process {
                tracing::warn!(
                    "the node that publishes the rows of the database is silent: taking over"
                );
            }
            Ok(true)
        }
        Err(Fault::Denied(_)) => Ok(false),
        Err(fault) => Err(fault),
    }
}
