//! The task that stores what the desk asks for, while the node has joined.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::stream::Documents;
use super::{Ask, Outside, Told};
use crate::background::cluster::client::Client;
use crate::background::cluster::consumer::Consumer;
use crate::background::cluster::line;
use crate::cluster::ack::{Ack, Refusal};
use crate::cluster::documents::writes::{Outcome, Put};
use crate::cluster::documents::{Places, encode};
use crate::cluster::name::{NodeName, Prefix, Seq};
use crate::message::Millis;
use crate::metrics::Counters;

/// The error of JetStream if another message of the subject is being stored, so that its sequence
/// is not known yet.
const UNDER_WAY: u64 = 10_164;

/// The running tasks, which end when this is dropped.
pub(in crate::background::cluster) struct Service {
    tasks: [AbortHandle; 2],
}

/// What the task works with.
#[derive(Clone)]
struct Storing {
    places: Places,
    node: NodeName,
    client: Client,
    patience: Duration,
    outside: Arc<Outside>,
    /// Lets another consumer begin.
    again: mpsc::Sender<()>,
}

impl Service {
    /// Starts the tasks. `named` returns how a connection for this purpose is made; `patience` is
    /// the time for the stream to acknowledge a message, in milliseconds.
    pub(in crate::background::cluster) fn start(
        named: impl Fn(&str) -> line::Settings,
        (prefix, node): (&Prefix, NodeName),
        patience: Millis,
        outside: Arc<Outside>,
        counters: Arc<Counters>,
    ) -> Self {
        let places = Places::new(prefix);
        let client = Client::start(named("documents"));
        let sink = Documents::new(places.clone(), client.clone(), outside.clone(), counters);
        let (again, asked) = mpsc::channel(1);
        let consumer = Consumer::run(named("changes of documents"), sink, asked);
        let patience = Duration::from_millis(patience);
        let storing = Storing { places, node, client, patience, outside, again };
        let tasks = [tokio::spawn(consumer), tokio::spawn(storing.run())];
        Self { tasks: tasks.map(|task| task.abort_handle()) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Storing {
    /// Carries out requests beside each other. What is under way at the end is not answered, so
    /// that its outcome is unknown.
    async fn run(self) {
        let outside = self.outside.clone();
        let mut asks = outside.asks.lock().await;
        let _ = outside.told.try_send(Told::Begins);
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                ask = asks.recv() => {
                    let Some(ask) = ask else { return };
                    under_way.spawn(self.clone().carry_out(ask));
                }
                Some(_) = under_way.join_next() => {}
            }
        }
    }

    async fn carry_out(self, ask: Ask) {
        let told = match ask {
            Ask::Put(put, ends) => {
                let number = put.number;
                // Its writer has been answered.
                if ends <= std::time::Instant::now() {
                    return;
                }
                Told::Put(number, self.put(*put).await)
            }
            Ask::Again => {
                // If a request waits already, that one serves.
                let _ = self.again.try_send(());
                return;
            }
            Ask::Prove(number, text) => {
                let subject = self.places.proof(&self.node);
                let stored = match self.store(subject, None, text.to_string().into_bytes()).await {
                    Outcome::Stored(seq) => Some(seq),
                    _ => None,
                };
                Told::Proof(number, stored)
            }
            Ask::Raise(floor, expected) => {
                let (subject, body) = (self.places.floor(), floor.encode().into_bytes());
                let outcome = self.store(subject, Some(expected), body).await;
                tracing::debug!(?floor, ?outcome, "forgetting deleted documents");
                Told::Raised
            }
            Ask::Remove(places) => {
                for seq in places {
                    self.remove(seq).await;
                }
                return;
            }
        };
        // There is room for every answer, because there are no more requests.
        let _ = self.outside.told.try_send(told);
    }

    async fn put(&self, put: Put) -> Outcome {
        let Some(body) = encode(&put.document) else {
            return Outcome::Refused(Refusal::Error(0));
        };
        let subject = self.places.document(&put.document.key);
        match self.store(subject, Some(put.expected), body).await {
            Outcome::Refused(Refusal::Error(UNDER_WAY)) => Outcome::Refused(Refusal::Moved(0)),
            Outcome::Refused(Refusal::Error(code)) => {
                let stream = self.places.stream();
                tracing::error!(code, "the stream {stream} refuses a document, with this code");
                Outcome::Refused(Refusal::Error(code))
            }
            outcome => outcome,
        }
    }

    /// Stores a message, if the last one of its subject is the expected one.
    async fn store(&self, subject: String, expected: Option<Seq>, body: Vec<u8>) -> Outcome {
        let end = Instant::now() + self.patience;
        let (stream, message) = (self.places.stream(), (Vec::new(), body));
        match self.client.store((&stream, subject), message, expected, end).await {
            Some(Ack::Stored { seq, .. }) => Outcome::Stored(seq),
            Some(Ack::Refused(refusal)) => Outcome::Refused(refusal),
            None => Outcome::Unknown,
        }
    }

    /// Removes the message at a place, if it is still there.
    async fn remove(&self, seq: Seq) {
        let subject = format!("$JS.API.STREAM.MSG.DELETE.{}", self.places.stream());
        let body = json!({ "seq": seq, "no_erase": true }).to_string().into_bytes();
        let end = Instant::now() + self.patience;
        if let Some(mut answers) = self.client.ask(subject, Vec::new(), body, end).await {
            answers.next().await;
        }
    }
}
