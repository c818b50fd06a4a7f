#![doc = include_str!("README.md")]
//!
//! # The code
//!
//! - `settings` reads the URL, `connection` and `tls` are the connection, and `fault` says why
//!   there is none.
//! - `install` makes, shows and removes the schema, whose statements are in `schema/`.
//! - `lock` makes one node of many capture. `capture` decides which rows are next; `rows` reads
//!   and marks them, and `sending` publishes them.
//! - `shape` says which tables can be used.
//! - [`serve`] is the thread.

mod capture;
mod connection;
mod fault;
mod install;
mod lock;
mod rows;
mod sending;
mod settings;
mod shape;
mod tls;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use rand::RngExt as _;
use tokio::runtime::Builder;
use tokio::time::sleep;

use super::mail::{ring, until_mail};
use crate::limits::{
    POSTGRES_ANSWERS_MAX, POSTGRES_BEAT_MS, POSTGRES_RETRY_MS, POSTGRES_RETRY_MS_MAX,
};
use crate::mailbox::{Answered, CaptureEnds, Inbox, Slot, Tickets};
use crate::message::{CaptureCondition, Captured, CapturedRow, Refused};
use crate::metrics::capture::CaptureCounts;
use sending::State;

pub use fault::Fault;
pub use install::{Change, Report, Wish, run};
pub use settings::{Settings, check};

/// The answer to a publication.
pub type Answer<'t> = Pin<Box<dyn Future<Output = Captured> + 't>>;

/// The rest of the node, for the thread that publishes rows.
pub trait Desk {
    /// Publishes a row. Answers of other threads come under `tickets`.
    ///
    /// # Errors
    /// If the node has no room for it.
    fn publish<'t>(&self, tickets: &'t Tickets, row: &CapturedRow) -> Result<Answer<'t>, Refused>;

    /// Returns whether the node serves the channels that it would publish on.
    fn is_serving(&self) -> bool;

    /// Returns how many rows may be under way together.
    fn window(&self) -> usize;

    /// Returns whether the node stops.
    fn is_ending(&self) -> bool;

    /// Takes the condition of the capture.
    fn note(&self, condition: CaptureCondition);

    /// Returns what the thread counts.
    fn counts(&self) -> &CaptureCounts;
}

/// Publishes the rows of a database as long as the process lives.
///
/// # Errors
/// If the system gives no runtime or descriptor.
pub fn serve(settings: &Settings, ends: CaptureEnds, desk: &impl Desk) -> io::Result<()> {
    let CaptureEnds { answers, tickets } = ends;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        tokio::select! {
            ended = take_answers(answers, &tickets) => ended,
            () = keep_capturing(settings, desk, &tickets) => Ok(()),
        }
    })
}

/// Takes the answers of other threads.
async fn take_answers(inbox: Inbox<Answered>, tickets: &Tickets) -> io::Result<()> {
    let ring = ring(&inbox)?;
    loop {
        for _ in 0..POSTGRES_ANSWERS_MAX {
            let Some(answer) = inbox.take(|_| Slot::Control) else { break };
            tickets.settle(answer);
        }
        until_mail(&inbox, &ring).await;
    }
}

/// Connects, captures, and connects again after a failure.
async fn keep_capturing(settings: &Settings, desk: &impl Desk, tickets: &Tickets) {
    let mut state = State::default();
    let mut told = Told { desk, last: None };
    let mut pause = POSTGRES_RETRY_MS;
    loop {
        if desk.is_ending() || !desk.is_serving() {
            if !desk.is_ending() {
                told.note(CaptureCondition::Apart);
            }
            sleep(Duration::from_millis(POSTGRES_BEAT_MS / 2)).await;
            continue;
        }
        let before = desk.counts().connects.get();
        let fault = match capture::run(settings, &mut told, tickets, &mut state).await {
            Ok(()) | Err(Fault::Apart) => continue,
            Err(fault) => fault,
        };
        desk.counts().failures.add(1);
        told.note(CaptureCondition::Failing(fault.to_string().into()));
        if desk.counts().connects.get() > before {
            pause = POSTGRES_RETRY_MS;
        }
        let drawn = rand::rng().random_range(pause / 2..=pause);
        sleep(Duration::from_millis(drawn)).await;
        pause = (2 * pause).min(POSTGRES_RETRY_MS_MAX);
    }
}

/// Tells conditions, to the node and to the log.
struct Told<'d, D> {
    desk: &'d D,
    last: Option<CaptureCondition>,
}

impl<D: Desk> Told<'_, D> {
    fn note(&mut self, condition: CaptureCondition) {
        if self.last.as_ref() == Some(&condition) {
            return;
        }
        match &condition {
            CaptureCondition::Failing(_) => tracing::warn!("{condition}; it is tried again"),
            CaptureCondition::Connecting => {}
            _ => tracing::info!("{condition}"),
        }
        self.desk.note(condition.clone());
        self.last = Some(condition);
    }
}
