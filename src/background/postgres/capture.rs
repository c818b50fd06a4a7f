//! One pair of connections: the lock, the notifications, and which rows are next.
//!
//! Notifications come in the order of commits. Before the first one is taken, a sweep publishes all
//! rows that wait. Later, a row whose notification was lost is found so: the node notes which rows
//! wait, and sends itself a notification. When it comes back, all notifications of those rows have
//! come, too, and their rows were published; rows that still wait have none.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::Client;
use uuid::Uuid;

use super::connection::{BELL, ECHO, Heard, Link, in_time};
use super::fault::{Fault, beat};
use super::rows::{Found, Rows, State};
use super::settings::Settings;
use super::{Desk, Told};
use crate::limits::{
    POSTGRES_BATCH_MAX, POSTGRES_BEAT_MS, POSTGRES_DEAF_MS, POSTGRES_LOCK_MS, POSTGRES_SILENCE_MS,
    POSTGRES_SWEEP_MS,
};
use crate::mailbox::Tickets;
use crate::message::CaptureCondition;

/// The advisory lock of the node that captures. It stands for nothing.
pub(super) const LOCK: (i32, i32) = (0x6661_6e66, 0x6172_6501);

/// A look for rows whose notification was lost.
struct Probe {
    number: u64,
    sent: Instant,
    /// The rows that waited.
    waiting: Vec<Uuid>,
}

impl Probe {
    fn is_late(&self) -> bool {
        self.sent.elapsed() >= Duration::from_millis(POSTGRES_DEAF_MS)
    }
}

/// Ends a task when it is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Captures until the node stops, or leaves the rows to another node.
///
/// # Errors
/// If the connections cannot be made or are lost, or the database is not prepared.
pub(super) async fn run<D: Desk>(
    settings: &Settings,
    told: &mut Told<'_, D>,
    tickets: &Tickets,
    state: &mut State,
) -> Result<(), Fault> {
    let desk = told.desk;
    let mut link = Link::open(settings).await?;
    check(&link.client).await?;
    desk.counts().connects.add(1);
    if !lock(&mut link, told).await? {
        return Ok(());
    }
    link.execute(&format!("LISTEN {BELL}; LISTEN {ECHO}")).await?;
    let _beats = Task(tokio::spawn(keep_beating(link.client.clone())));
    let work = Link::open(settings).await?;
    let mut rows =
        Rows { work: &work, desk, tickets, state, writes_counts: settings.writes_counts };
    rows.sweep().await?;
    told.note(CaptureCondition::Capturing);
    follow(&mut link, &mut rows).await
}

/// Publishes rows as their notifications come, and finds those without one.
async fn follow<D: Desk>(link: &mut Link, rows: &mut Rows<'_, D>) -> Result<(), Fault> {
    let mut look = interval(Duration::from_millis(POSTGRES_BEAT_MS / 2));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sweep_every = Duration::from_millis(POSTGRES_SWEEP_MS);
    let (mut swept, mut number) = (Instant::now(), 0);
    let mut probe: Option<Probe> = None;
    let mut heard = Vec::with_capacity(POSTGRES_BATCH_MAX);
    loop {
        if rows.desk.is_ending() || !rows.desk.is_serving() {
            return Ok(());
        }
        tokio::select! {
            biased;
            count = link.heard.recv_many(&mut heard, POSTGRES_BATCH_MAX) => {
                if count == 0 {
                    return Err(Fault::Lost(lost(link).await));
                }
                take(&mut heard, &mut probe, rows).await?;
            }
            _ = look.tick() => {}
        }
        if link.has_dropped.swap(false, Ordering::Relaxed) {
            rows.desk.counts().overflows.add(1);
            while link.heard.try_recv().is_ok() {}
            (probe, heard) = (None, Vec::new());
            rows.sweep().await?;
        }
        match &probe {
            // Notifications that wait may be in front of the node's own.
            Some(one) if one.is_late() && link.heard.is_empty() => return Err(Fault::Deaf),
            None if swept.elapsed() >= sweep_every => {
                number += 1;
                swept = Instant::now();
                probe = Some(send_probe(rows, number).await?);
            }
            _ => {}
        }
    }
}

/// Returns why a connection has ended.
async fn lost(link: &mut Link) -> String {
    (&mut link.ended).await.unwrap_or_else(|_| "the connection is closed".to_owned())
}

/// Publishes the rows of notifications, in their order.
async fn take<D: Desk>(
    heard: &mut Vec<Heard>,
    probe: &mut Option<Probe>,
    rows: &mut Rows<'_, D>,
) -> Result<(), Fault> {
    let mut rung = Vec::with_capacity(heard.len());
    for one in heard.drain(..) {
        let number = match one {
            Heard::Bell(id) => {
                rung.push(id);
                continue;
            }
            Heard::Echo(number) => number,
        };
        rows.publish_named(&std::mem::take(&mut rung), Found::Rung).await?;
        // Echoes of another node come here, too.
        let Some(answered) = probe.take_if(|probe| probe.number == number) else { continue };
        let missed = rows.publish_named(&answered.waiting, Found::Swept).await?;
        if missed == POSTGRES_BATCH_MAX {
            rows.sweep().await?;
        }
    }
    rows.publish_named(&rung, Found::Rung).await.map(drop)
}

async fn send_probe<D: Desk>(rows: &Rows<'_, D>, number: u64) -> Result<Probe, Fault> {
    let waiting = rows.waiting().await?;
    rows.desk.counts().waiting.sub(rows.desk.counts().waiting.get());
    rows.desk.counts().waiting.add(waiting.len() as u64);
    let sent = Instant::now();
    let notify = format!("SELECT pg_notify('{ECHO}', '{number}')");
    rows.work.execute(&notify).await?;
    Ok(Probe { number, sent, waiting })
}

/// Shows other nodes that this one is alive.
async fn keep_beating(client: Arc<Client>) {
    while beat(&client).await.is_ok() {
        sleep(Duration::from_millis(POSTGRES_BEAT_MS)).await;
    }
}

/// Takes the lock. Ends the connection of a holder that is silent. Returns false if the node stops
/// or leaves the rows to others.
async fn lock<D: Desk>(link: &mut Link, told: &mut Told<'_, D>) -> Result<bool, Fault> {
    let (one, other) = LOCK;
    loop {
        if told.desk.is_ending() || !told.desk.is_serving() {
            return Ok(false);
        }
        let take = "SELECT pg_try_advisory_lock($1, $2)";
        if in_time(link.client.query_one(take, &[&one, &other])).await?.get(0) {
            return Ok(true);
        }
        told.note(CaptureCondition::Waiting);
        let silence = format!("{POSTGRES_SILENCE_MS} milliseconds");
        let end = "SELECT pg_terminate_backend(a.pid) FROM pg_locks l \
                   JOIN pg_stat_activity a ON a.pid = l.pid \
                   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 \
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                   AND l.classid = $1::int4::oid AND l.objid = $2::int4::oid AND a.state = 'idle' \
                   AND clock_timestamp() - a.state_change > $3::text::interval";
        let ended = in_time(link.client.query(end, &[&one, &other, &silence])).await?;
        if !ended.is_empty() {
            tracing::warn!(
                "the node that publishes the rows of the database is silent: taking over"
            );
            continue;
        }
        sleep(Duration::from_millis(POSTGRES_LOCK_MS)).await;
    }
}

/// Checks that the database is prepared and the user may do what the node does.
async fn check(client: &Client) -> Result<(), Fault> {
    let query = "SELECT to_regclass('realtime.messages') IS NOT NULL, \
                 EXISTS (SELECT FROM pg_attribute WHERE attname = 'dispatched_at' \
                   AND attrelid = to_regclass('realtime.messages') AND NOT attisdropped), \
                 pg_is_in_recovery(), \
                 EXISTS (SELECT FROM pg_attribute WHERE attname = 'id' AND atttypid = 'uuid'::regtype \
                   AND attrelid = to_regclass('realtime.messages')), \
                 current_setting('server_encoding') <> 'SQL_ASCII'";
    let row = in_time(client.query_one(query, &[])).await?;
    if !row.get::<_, bool>(0) {
        return Err(Fault::NotInstalled("the table realtime.messages"));
    }
    if !row.get::<_, bool>(1) {
        return Err(Fault::NotInstalled("the column realtime.messages.dispatched_at"));
    }
    if row.get::<_, bool>(2) {
        let text = "the server is a standby, where rows cannot be marked: let `postgres.url` name \
                    the primary";
        return Err(Fault::Refused(text.to_owned()));
    }
    if !row.get::<_, bool>(3) {
        let text = "the column realtime.messages.id is not of the type uuid, which messages have their \
                    ids from: change its type";
        return Err(Fault::Refused(text.to_owned()));
    }
    if !row.get::<_, bool>(4) {
        let text = "the database has the encoding SQL_ASCII, so that a row may be no text: use a \
                    database with another encoding, such as UTF8";
        return Err(Fault::Refused(text.to_owned()));
    }
    let query = "SELECT current_user::text, row_security_active('realtime.messages'), \
                 has_table_privilege('realtime.messages', 'SELECT') \
                 AND has_table_privilege('realtime.messages', 'UPDATE')";
    let row = in_time(client.query_one(query, &[])).await?;
    let user: String = row.get(0);
    if row.get::<_, bool>(1) {
        return Err(Fault::Refused(format!(
            "row security hides rows of realtime.messages from {user}: let `postgres.url` name the \
             table's owner, or a user with BYPASSRLS"
        )));
    }
    if !row.get::<_, bool>(2) {
        return Err(Fault::Refused(format!(
            "{user} may not read and mark rows: GRANT SELECT, UPDATE ON realtime.messages TO {user}"
        )));
    }
    Ok(())
}
