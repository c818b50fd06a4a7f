//! The part of a node that publishes rows of a PostgreSQL database, and its commands.

use std::io;
use std::sync::{Arc, mpsc};

use super::threads::{Node, spawn};
use super::{Event, NodeError};
use crate::background::postgres::{self, Answer, Desk, Report, Settings};
use crate::config::{Config, Owner};
use crate::interface::capture::Capture;
use crate::interface::rows::publish;
use crate::limits::{POSTGRES_BATCH_MAX, POSTGRES_WINDOW};
use crate::mailbox::{CaptureEnds, Mailboxes, Tickets};
use crate::message::{CaptureCondition, CapturedRow, Refused};
use crate::metrics::capture::CaptureCounts;
use crate::runtime::shared::Shared;

pub use crate::background::postgres::{Change, Wish};

/// Carries out `fanfare postgres`.
///
/// # Errors
/// Every mistake of the configuration; or if the database cannot be reached or refuses something.
pub fn postgres(config: &Config, wish: Wish) -> Result<Report, NodeError> {
    let settings = Settings::of(config)?;
    let settings = settings.ok_or_else(|| {
        config.mistake("postgres.url", "is not set: there is no database to work on")
    })?;
    Ok(postgres::run(&settings, wish)?)
}

/// What the thread needs, prepared before the threads start.
pub(super) struct Part {
    settings: Settings,
    ends: CaptureEnds,
}

/// Prepares the thread, if a database is configured.
///
/// # Errors
/// If the settings cannot be used, or the system gives no event descriptor.
pub(super) fn part(config: &Config, mailboxes: &mut Mailboxes) -> Result<Option<Part>, NodeError> {
    let Some(settings) = Settings::of(config)? else { return Ok(None) };
    Ok(Some(Part { settings, ends: mailboxes.open_capture()? }))
}

impl Node {
    /// Starts the thread. It reports its end to `told`.
    pub(super) fn start_capture(
        &self,
        part: Option<Part>,
        told: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        let (Some(Part { settings, ends }), Some(capture)) =
            (part, self.shared.interfaces.capture.clone())
        else {
            return Ok(());
        };
        let keeps = self.shared.interfaces.config.postgres.owner == Owner::Fanfare;
        let publisher = Rows { shared: self.shared.clone(), capture, keeps };
        spawn("postgres", told, move || {
            if let Err(error) = postgres::serve(&settings, ends, &publisher) {
                tracing::error!(%error, "rows of the database cannot be published");
            }
        })
    }
}

/// The node, for that thread.
struct Rows {
    shared: Arc<Shared>,
    capture: Arc<Capture>,
    /// Whether history keeps rows and webhooks are called for them.
    keeps: bool,
}

impl Desk for Rows {
    fn publish<'t>(&self, tickets: &'t Tickets, row: &CapturedRow) -> Result<Answer<'t>, Refused> {
        let now = self.shared.clock.now();
        let sent = publish(&self.shared.interfaces, tickets, (row, self.keeps), now)?;
        Ok(Box::pin(sent.settled()))
    }

    fn is_serving(&self) -> bool {
        let membership = self.shared.interfaces.membership.as_ref();
        membership.is_none_or(|membership| membership.condition().is_serving())
    }

    fn window(&self) -> usize {
        // On a lone node, an earlier row is posted before a later one, or both wait.
        let is_in_cluster = self.shared.interfaces.membership.is_some();
        if is_in_cluster { POSTGRES_WINDOW } else { POSTGRES_BATCH_MAX }
    }

    fn is_ending(&self) -> bool {
        self.shared.shutdown.get().is_some()
    }

    fn note(&self, condition: CaptureCondition) {
        self.capture.note(condition);
    }

    fn counts(&self) -> &CaptureCounts {
        &self.capture.counts
    }
}
