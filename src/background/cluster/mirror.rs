//! The consumer that brings all claims of the cluster, from the first message of their stream.

use tokio::sync::mpsc;

use super::consumer::{Consumer, Gone, Sink};
use super::line;
use super::protocol::Message;
use crate::cluster::events::{Event, Mirrored};
use crate::cluster::name::{Seq, Subject, Subjects};
use crate::cluster::wire::{self, Body, Claim};

/// Passes the claims on.
pub(super) struct Mirror {
    subjects: Subjects,
    events: mpsc::Sender<Event>,
}

impl Mirror {
    /// Starts the task, which sends what it reads into `events` and begins again whenever it is
    /// asked to.
    pub(super) fn start(
        settings: line::Settings,
        subjects: Subjects,
        events: mpsc::Sender<Event>,
        again: mpsc::Receiver<()>,
    ) {
        tokio::spawn(Consumer::run(settings, Self { subjects, events }, again));
    }

    fn mirrored(&self, message: &Message, seq: Seq) -> Mirrored {
        let subject = str::from_utf8(message.subject()).ok();
        match subject.and_then(|subject| self.subjects.read(subject)) {
            Some(Subject::Claim(claimed, node)) => match Claim::decode(&message.payload()) {
                Some(claim) => Mirrored::Claim(claimed, node, claim),
                None => Mirrored::Other,
            },
            Some(Subject::ClaimsAnchor) => anchor(message, seq).unwrap_or(Mirrored::Other),
            _ => Mirrored::Other,
        }
    }
}

impl Sink for Mirror {
    const WHAT: &str = "claims";

    fn stream(&self) -> String {
        self.subjects.claims_stream()
    }

    async fn begin(&mut self) -> Result<Option<Seq>, Gone> {
        self.events.send(Event::MirrorBegins).await.map_err(|_| Gone)?;
        Ok(Some(1))
    }

    async fn take(&mut self, message: &Message, seq: Seq, _: bool) -> Result<(), Gone> {
        let mirrored = self.mirrored(message, seq);
        self.events.send(Event::Mirrored(seq, mirrored)).await.map_err(|_| Gone)
    }
}

/// Reads the anchor of the stream of claims. A consumer tells the place beside the headers.
fn anchor(message: &Message, seq: Seq) -> Option<Mirrored> {
    let seq = seq.to_string();
    let place = [
        (&b"Nats-Sequence"[..], seq.as_bytes()),
        (b"Nats-Last-Sequence", b"0"),
        (b"Nats-Time-Stamp", b"1970-01-01T00:00:00Z"),
    ];
    let is_own = |name: &[u8]| name.starts_with(b"Ff-");
    let headers = message.headers().filter(|(name, _)| is_own(name)).chain(place);
    match wire::Message::decode(headers, &message.payload(), None)?.body {
        Ok(Body::Anchor(anchor)) => Some(Mirrored::Anchor(anchor)),
        _ => None,
    }
}
