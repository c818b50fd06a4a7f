//! Three connections: the lock, the notifications, and which rows are next.
//!
//! Notifications come in the order of commits. Before the first one is taken, a sweep publishes all
//! rows that wait. Later, a row whose notification was lost is found so: the node notes which rows
//! wait, and sends itself a notification. When it comes back, all notifications of those rows have
//! come, too, and their rows were published; rows that still wait have none.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::Client;
use uuid::Uuid;

use super::connection::{BELL, ECHO, Heard, Link, in_time};
use super::fault::{Fault, beat};
use super::rows::Rows;
use super::sending::{Found, State};
use super::settings::Settings;
use super::{Desk, Told};
use super::{install, lock, shape};
use crate::limits::{POSTGRES_BATCH_MAX, POSTGRES_BEAT_MS, POSTGRES_DEAF_MS, POSTGRES_SWEEP_MS};
use crate::mailbox::Tickets;
use crate::message::CaptureCondition;

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
    let holding = Link::open(settings).await?;
    check(&holding.client).await?;
    warn_of_doubles(&holding.client, settings, state).await?;
    desk.counts().connects.add(1);
    if !lock::take(&holding, told).await? {
        return Ok(());
    }
    let _beats = Task(tokio::spawn(keep_beating(holding.client.clone())));
    // A connection in a transaction hears nothing.
    let (mut link, work) = tokio::try_join!(Link::open(settings), Link::open(settings))?;
    link.execute(&format!("LISTEN {BELL}; LISTEN {ECHO}")).await?;
    let (holding, writes_counts) = (&holding, settings.writes_counts);
    let mut rows = Rows { holding, work: &work, desk, tickets, state, writes_counts };
    rows.sweep().await?;
    told.note(CaptureCondition::Capturing);
    follow(&mut link, &mut rows).await
}

/// Publishes rows as their notifications come, and finds those without one.
async fn follow<D: Desk>(link: &mut Link, rows: &mut Rows<'_, D>) -> Result<(), Fault> {
    let mut look = interval(Duration::from_millis(POSTGRES_BEAT_MS / 2));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sweep_every = Duration::from_millis(POSTGRES_SWEEP_MS);
    let mut swept = Instant::now();
    let mut probe: Option<Probe> = None;
    let mut heard = Vec::with_capacity(POSTGRES_BATCH_MAX);
    loop {
        if rows.desk.is_ending() || !rows.desk.is_serving() {
            return Ok(());
        }
        rows.check_lock()?;
        tokio::select! {
            biased;
            count = link.heard.recv_many(&mut heard, POSTGRES_BATCH_MAX) => {
                if count == 0 {
                    return Err(Fault::Lost(text_of((&mut link.ended).await)));
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
                swept = Instant::now();
                probe = Some(send_probe(rows).await?);
            }
            _ => {}
        }
    }
}

/// Returns why a connection has ended.
fn text_of(ended: Result<String, JoinError>) -> String {
    ended.unwrap_or_else(|_| "the connection is closed".to_owned())
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

async fn send_probe<D: Desk>(rows: &Rows<'_, D>) -> Result<Probe, Fault> {
    let waiting = rows.waiting().await?;
    rows.desk.counts().waiting.sub(rows.desk.counts().waiting.get());
    rows.desk.counts().waiting.add(waiting.len() as u64);
    let sent = Instant::now();
    // Every user of the database may notify, but cannot guess the number.
    let number = rand::random();
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

/// Checks that the database is prepared and the user may do what the node does.
async fn check(client: &Client) -> Result<(), Fault> {
    let query = "SELECT to_regclass('realtime.messages') IS NOT NULL, \
                 to_regclass('realtime.fanfare_capture') IS NOT NULL, pg_is_in_recovery()";
    let row = in_time(client.query_one(query, &[])).await?;
    if row.get::<_, bool>(2) {
        let text = "the server is a standby, where rows cannot be marked: let `postgres.url` name \
                    the primary";
        return Err(Fault::Refused(text.to_owned()));
    }
    if !row.get::<_, bool>(0) {
        return Err(Fault::NotInstalled("the table realtime.messages"));
    }
    shape::check(client, false).await?;
    if !row.get::<_, bool>(1) {
        return Err(Fault::NotInstalled("the view realtime.fanfare_capture"));
    }
    let query = "SELECT quote_ident(current_user), row_security_active('realtime.messages'), \
                 has_table_privilege('realtime.messages', 'SELECT') \
                 AND has_table_privilege('realtime.messages', 'UPDATE'), \
                 has_table_privilege('realtime.fanfare_capture', 'UPDATE')";
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
    if !row.get::<_, bool>(3) {
        return Err(Fault::Refused(format!(
            "{user} may not take the lock of the node that publishes rows: GRANT UPDATE ON \
             realtime.fanfare_capture TO {user}"
        )));
    }
    Ok(())
}

/// Says once that others keep the rows that the node keeps, too.
async fn warn_of_doubles(
    client: &Client,
    settings: &Settings,
    state: &mut State,
) -> Result<(), Fault> {
    if settings.writes_counts && !state.has_said_twice && install::is_of_others(client).await? {
        state.has_said_twice = true;
        tracing::warn!("{}", install::KEPT_TWICE);
    }
    Ok(())
}
