//! What the consumer of the stream of documents brings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::TrySendError;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Outside;
use crate::background::cluster::client::Client;
use crate::background::cluster::consumer::{Gone, Sink};
use crate::background::cluster::protocol::Message;
use crate::background::store::copy::Change;
use crate::cluster::documents::{Places, Unread};
use crate::cluster::name::Seq;
use crate::limits::{CLUSTER_CHANGES_RETRY_MS, CLUSTER_MIRROR_RETRY_MS};
use crate::metrics::{Counters, LogThrottle};

/// How long the stream may take to describe itself.
const PATIENCE: Duration = Duration::from_millis(4 * CLUSTER_MIRROR_RETRY_MS);
const RETRY: Duration = Duration::from_millis(CLUSTER_CHANGES_RETRY_MS);

/// Passes the messages of the stream on as changes.
pub(super) struct Documents {
    places: Places,
    client: Client,
    outside: Arc<Outside>,
    counters: Arc<Counters>,
    /// The life of the stream, and the place of the last message that was passed on.
    passed: (Box<str>, Seq),
    skipped: LogThrottle,
}

impl Documents {
    /// Creates the sink that goes on where the copy is.
    pub(super) fn new(
        places: Places,
        client: Client,
        outside: Arc<Outside>,
        counters: Arc<Counters>,
    ) -> Self {
        let passed = outside.reached();
        Self { places, client, outside, counters, passed, skipped: LogThrottle::default() }
    }

    /// Passes a change on, as soon as there is room for it.
    async fn pass(&self, change: Change) -> Result<(), Gone> {
        let mut next = change;
        loop {
            match self.outside.changes.try_send(next) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(change)) => next = change,
                Err(TrySendError::Disconnected(_)) => return Err(Gone),
            }
            sleep(RETRY).await;
        }
    }

    /// Asks the leader for the life and the last place of the stream.
    async fn life(&self) -> Option<(Box<str>, Seq)> {
        let subject = format!("$JS.API.STREAM.INFO.{}", self.places.stream());
        let end = Instant::now() + PATIENCE;
        let mut answers = self.client.ask(subject, Vec::new(), Vec::new(), end).await?;
        let answer: Value = serde_json::from_slice(&answers.next().await?.payload()).ok()?;
        let created = answer["created"].as_str()?.into();
        Some((created, answer["state"]["last_seq"].as_u64()?))
    }

    fn skip(&mut self, seq: Seq, unread: Unread) {
        let why = match unread {
            Unread::Version => {
                self.counters.cluster_skipped_version.add(1);
                "a later version"
            }
            Unread::Malformed(what) => {
                self.counters.cluster_skipped_malformed.add(1);
                what
            }
        };
        if let Some(count) = self.skipped.add(1) {
            let stream = self.places.stream();
            tracing::warn!(count, seq, "a message of the stream {stream} is skipped: {why}");
        }
    }
}

impl Sink for Documents {
    const WHAT: &str = "documents";

    fn stream(&self) -> String {
        self.places.stream()
    }

    async fn begin(&mut self) -> Result<Option<Seq>, Gone> {
        let Some((life, last)) = self.life().await else { return Ok(None) };
        let is_other = self.passed.0 != life;
        let is_lost = self.outside.is_lost.swap(false, Ordering::AcqRel);
        if is_other || is_lost || last < self.passed.1 {
            if self.passed.1 > 0 {
                let stream = self.places.stream();
                let how = if is_other { "was made anew" } else { "has lost messages" };
                tracing::warn!(last, "the stream {stream} {how}; all documents are read from it");
            }
            self.pass(Change::Began(life.clone(), last)).await?;
            self.passed = (life, 0);
        }
        Ok(Some(self.passed.1 + 1))
    }

    async fn take(&mut self, message: &Message, seq: Seq, is_last: bool) -> Result<(), Gone> {
        let subject = str::from_utf8(message.subject());
        let subject = subject.map_err(|_| Unread::Malformed("subject"));
        let read = subject.and_then(|subject| self.places.read(subject, &message.payload()));
        if let Err(unread) = read {
            self.skip(seq, unread);
        }
        self.pass(Change::Message(seq, read.ok())).await?;
        self.passed.1 = seq;
        if is_last { self.pass(Change::CaughtUp).await } else { Ok(()) }
    }
}
