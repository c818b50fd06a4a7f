//! Reads of the two streams by batches of direct gets, which any server with a copy may answer.
//!
//! A copy may be behind, so that no answer counts by itself. A read is proven to be up to date if
//! it contains a message that is known to exist: the one at which it ends, or, for the latest
//! messages of some subjects, a message of this node's own, which it publishes first.

mod earlier;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use super::client::Client;
use super::protocol;
use crate::cluster::ack::Ack;
use crate::cluster::chain::Missing;
use crate::cluster::events::Event;
use crate::cluster::landing::Earlier;
use crate::cluster::name::{ChannelHash, Seq, Stream, Subjects};
use crate::cluster::wire::{Anchor, Body, Message, Published};
use crate::limits::{
    CLUSTER_BATCH_BYTES, CLUSTER_BATCH_MAX, CLUSTER_READ_BYTES_MAX, CLUSTER_READ_MS_MAX,
    CLUSTER_READ_RETRY_MS, CLUSTER_READS_MAX,
};
use crate::message::{Behind, Channel, WorkerId};

const PATIENCE: Duration = Duration::from_millis(CLUSTER_READ_MS_MAX);
const RETRY: Duration = Duration::from_millis(CLUSTER_READ_RETRY_MS);

/// What is to be read.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// A stream's anchor.
    Anchor(Stream),
    /// Messages of all channels behind this place, up to this number.
    Hole(Seq, usize),
    /// The sequences of these channels' latest messages.
    Latest(Vec<ChannelHash>),
    /// A channel's missing messages.
    Channel(ChannelHash, Missing),
    /// What a worker missed of a channel.
    Behind(Channel, Behind),
    /// What the stream has of a channel.
    Earlier(Channel, Wanted),
    /// The leader of the stream of publications.
    Leader,
}

/// What is wanted of a channel from before the node heard it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The number of the read.
    pub(super) number: u64,
    /// The place behind which it is wanted; 0 if everything is.
    pub(super) behind: Seq,
    /// Whether the channel was read just now.
    pub(super) is_again: bool,
}

/// What was read.
#[derive(Debug)]
pub(super) enum Found {
    /// What a node's decisions need.
    Event(Event),
    /// What a worker missed of a channel.
    Missed(Missed),
    /// All that the stream has of a channel, with the number of the read; `None` if it could not be
    /// read.
    Earlier(Channel, u64, Option<Earlier>),
    /// The worker's publications could not be read yet.
    Unread(Channel, WorkerId),
    /// The name of the server that leads the stream of publications; `None` without a leader.
    Leader(Option<String>),
}

/// What a worker missed of a channel.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) channel: Channel,
    pub(super) worker: WorkerId,
    /// The place up to which publications may be lost; `None` if none is.
    pub(super) lost: Option<Seq>,
    /// The publications, in order.
    pub(super) publications: Vec<(Seq, Published)>,
}

/// Begins reads, each of which is a task.
pub(super) struct Reader {
    source: Arc<Source>,
    found: mpsc::Sender<Found>,
}

struct Source {
    client: Client,
    subjects: Subjects,
    places: Semaphore,
}

impl Reader {
    /// Creates a reader that sends what it finds into `found`.
    pub(super) fn new(client: Client, subjects: Subjects, found: mpsc::Sender<Found>) -> Self {
        let places = Semaphore::new(CLUSTER_READS_MAX);
        Self { source: Arc::new(Source { client, subjects, places }), found }
    }

    /// Begins a read. A read that fails has an answer only if a worker that is behind, or
    /// subscribers, wait for it.
    pub(super) fn begin(&self, ask: Ask) {
        let (source, found) = (self.source.clone(), self.found.clone());
        tokio::spawn(async move {
            let end = Instant::now() + PATIENCE;
            let Ok(Ok(_place)) = timeout_at(end, source.places.acquire()).await else {
                source.give_up(ask, &found).await;
                return;
            };
            match source.read(&ask, end).await {
                // The owner is gone only at the end of the node.
                Some(answer) => drop(found.send(answer).await),
                None => source.give_up(ask, &found).await,
            }
        });
    }
}

/// The messages of one answer.
struct Batch(Vec<protocol::Message>);

impl Source {
    async fn give_up(&self, ask: Ask, found: &mpsc::Sender<Found>) {
        let unread = match ask {
            Ask::Behind(channel, behind) => Found::Unread(channel, behind.worker),
            Ask::Earlier(channel, wanted) => Found::Earlier(channel, wanted.number, None),
            _ => return,
        };
        let _ = found.send(unread).await;
    }

    async fn read(&self, ask: &Ask, end: Instant) -> Option<Found> {
        match ask {
            Ask::Anchor(stream) => self.anchor(*stream, end).await,
            Ask::Hole(after, most) => self.hole(*after, *most, end).await,
            Ask::Latest(channels) => self.latest(channels, end).await,
            Ask::Channel(channel, missing) => self.channel(*channel, *missing, end).await,
            Ask::Behind(channel, behind) => self.behind(channel, *behind, end).await,
            Ask::Earlier(channel, wanted) => {
                if wanted.is_again {
                    pause(end).await?;
                }
                let earlier = earlier::read(self, channel, wanted.behind, end).await?;
                Some(Found::Earlier(channel.clone(), wanted.number, Some(earlier)))
            }
            Ask::Leader => self.leader(end).await,
        }
    }

    async fn anchor(&self, stream: Stream, end: Instant) -> Option<Found> {
        let subject = match stream {
            Stream::Order => self.subjects.anchor(),
            Stream::Claims => self.subjects.claims_anchor(),
        };
        let batch = self.proven(stream, vec![subject], end).await?;
        let anchor = batch.0.iter().find_map(anchor);
        Some(Found::Event(Event::AnchorRead(stream, anchor)))
    }

    async fn hole(&self, after: Seq, most: usize, end: Instant) -> Option<Found> {
        let ask = json!({
            "seq": after + 1,
            "next_by_subj": self.subjects.inputs(),
            "batch": most,
            "max_bytes": CLUSTER_BATCH_BYTES,
        });
        loop {
            if let Some(batch) = self.get(Stream::Order, &ask, end).await
                && !batch.0.is_empty()
            {
                let each = batch.0.iter().filter_map(|message| self.stored(message));
                return Some(Found::Event(Event::HoleRead(each.collect())));
            }
            pause(end).await?;
        }
    }

    async fn latest(&self, channels: &[ChannelHash], end: Instant) -> Option<Found> {
        let subjects = channels.iter().map(|channel| self.subjects.input(*channel)).collect();
        let batch = self.proven(Stream::Order, subjects, end).await?;
        let mut latest: Vec<_> = channels.iter().map(|channel| (*channel, None)).collect();
        latest.sort_unstable();
        for message in &batch.0 {
            let Some((Some(channel), message)) = self.stored(message) else { continue };
            if let Ok(at) = latest.binary_search_by_key(&channel, |(channel, _)| *channel) {
                latest[at].1 = Some(message.stamp.seq);
            }
        }
        let oldest = self.oldest(end).await?;
        Some(Found::Event(Event::LatestRead(latest, oldest)))
    }

    async fn channel(&self, hash: ChannelHash, missing: Missing, end: Instant) -> Option<Found> {
        let Missing { after, before } = missing;
        let (mut messages, mut bytes, mut last) = (Vec::new(), 0, after);
        loop {
            let batch = self.next(hash, last, end).await;
            let is_stuck = batch.as_ref().is_none_or(|batch| batch.0.is_empty());
            for message in batch.iter().flat_map(|batch| &batch.0) {
                last = sequence(message)?;
                if last < before {
                    bytes += message.payload().len();
                    messages.extend(decode(message, Some(hash)));
                }
            }
            if bytes > CLUSTER_READ_BYTES_MAX {
                return None;
            }
            // The message at `before` exists, or the one before it.
            let is_whole = last + 1 >= before;
            if is_whole || is_stuck {
                let oldest = self.oldest(end).await?;
                if is_whole || oldest >= before {
                    let read = Event::ChannelRead(hash, missing, messages, oldest);
                    return Some(Found::Event(read));
                }
                pause(end).await?;
            }
        }
    }

    async fn behind(&self, channel: &Channel, behind: Behind, end: Instant) -> Option<Found> {
        let hash = ChannelHash::of(channel);
        let Behind { worker, after, up_to } = behind;
        loop {
            let batch = self.next(hash, after, end).await;
            let mut publications = Vec::new();
            let mut last = after;
            for message in batch.iter().flat_map(|batch| &batch.0) {
                last = sequence(message)?;
                let body = decode(message, Some(hash)).map(|message| message.body);
                if last <= up_to
                    && let Some(Ok(Body::Publication(published))) = body
                {
                    publications.push((last, published));
                }
            }
            let oldest = self.oldest(end).await?;
            let lost = (oldest > after + 1).then(|| (oldest - 1).min(up_to));
            if lost == Some(up_to) || last > after {
                let missed = Missed { channel: channel.clone(), worker, lost, publications };
                return Some(Found::Missed(missed));
            }
            pause(end).await?;
        }
    }

    async fn leader(&self, end: Instant) -> Option<Found> {
        let subject = format!("$JS.API.STREAM.INFO.{}", self.subjects.stream());
        let mut answers = self.client.ask(subject, Vec::new(), Vec::new(), end).await?;
        let answer: Value = serde_json::from_slice(&answers.next().await?.payload()).ok()?;
        let leader = answer["cluster"]["leader"].as_str().map(str::to_owned);
        Some(Found::Leader(leader))
    }

    /// Reads the next messages of a channel.
    async fn next(&self, hash: ChannelHash, after: Seq, end: Instant) -> Option<Batch> {
        let ask = json!({
            "seq": after + 1,
            "next_by_subj": self.subjects.input(hash),
            "batch": CLUSTER_BATCH_MAX,
            "max_bytes": CLUSTER_BATCH_BYTES,
        });
        self.get(Stream::Order, &ask, end).await
    }

    /// Returns the sequence of the oldest message of the stream of publications.
    async fn oldest(&self, end: Instant) -> Option<Seq> {
        sequence(&self.first(end).await?)
    }

    /// Returns the oldest message of the stream of publications.
    async fn first(&self, end: Instant) -> Option<protocol::Message> {
        let ask = json!({ "seq": 1, "next_by_subj": self.subjects.inputs(), "batch": 1 });
        loop {
            let batch = self.get(Stream::Order, &ask, end).await;
            let first = batch.and_then(|batch| batch.0.into_iter().next());
            if let Some(first) = first.filter(|first| sequence(first).is_some()) {
                return Some(first);
            }
            pause(end).await?;
        }
    }

    /// Reads the latest message of each of these subjects, from a server that has everything that
    /// was stored before the read.
    async fn proven(&self, stream: Stream, subjects: Vec<String>, end: Instant) -> Option<Batch> {
        let own = match stream {
            Stream::Order => self.subjects.proof(),
            Stream::Claims => self.subjects.barrier(),
        };
        let mut all = subjects;
        all.push(own.clone());
        let ask = json!({ "multi_last": all });
        let proof = loop {
            match self.proof(stream, own.clone(), end).await {
                Some(seq) => break seq,
                None => pause(end).await?,
            }
        };
        loop {
            if let Some(Batch(mut messages)) = self.get(stream, &ask, end).await {
                let at = messages.iter().position(|one| stored_on(one) == Some(own.as_bytes()));
                let found = at.map(|at| messages.swap_remove(at));
                if found.as_ref().and_then(sequence).is_some_and(|seq| seq >= proof) {
                    return Some(Batch(messages));
                }
            }
            pause(end).await?;
        }
    }

    /// Publishes a message of the node's own and returns its sequence.
    async fn proof(&self, stream: Stream, subject: String, end: Instant) -> Option<Seq> {
        let name = self.name(stream);
        match self.client.store((&name, subject), (Vec::new(), Vec::new()), None, end).await? {
            Ack::Stored { seq, .. } => Some(seq),
            Ack::Refused(_) => None,
        }
    }

    /// Carries out one direct get of several messages. `None` if its answer has no end.
    async fn get(&self, stream: Stream, ask: &Value, end: Instant) -> Option<Batch> {
        let subject = format!("$JS.API.DIRECT.GET.{}", self.name(stream));
        let body = ask.to_string().into_bytes();
        let mut answers = self.client.ask(subject, Vec::new(), body, end).await?;
        let mut messages = Vec::new();
        loop {
            let message = answers.next().await?;
            match message.status() {
                None => messages.push(message),
                // The end, and nothing found.
                Some(204 | 404) => return Some(Batch(messages)),
                Some(_) => return None,
            }
        }
    }

    fn name(&self, stream: Stream) -> String {
        match stream {
            Stream::Order => self.subjects.stream(),
            Stream::Claims => self.subjects.claims_stream(),
        }
    }

    /// Returns a message of the stream of publications with its channel.
    fn stored(&self, message: &protocol::Message) -> Option<(Option<ChannelHash>, Message)> {
        let subject = str::from_utf8(stored_on(message)?).ok()?;
        let hash = self.subjects.stored(subject);
        decode(message, hash).map(|message| (hash, message))
    }
}

/// Waits before a read is tried again. `None` if there is no time left for that.
async fn pause(end: Instant) -> Option<()> {
    (Instant::now() + RETRY < end).then_some(())?;
    sleep(RETRY).await;
    Some(())
}

/// Returns the subject on which a message that was read is stored.
fn stored_on(message: &protocol::Message) -> Option<&[u8]> {
    message.header("Nats-Subject")
}

fn sequence(message: &protocol::Message) -> Option<Seq> {
    str::from_utf8(message.header("Nats-Sequence")?).ok()?.parse().ok()
}

/// Reads a message of a batch, in which the header for the channel's last message tells the last
/// one of the batch instead.
fn decode(message: &protocol::Message, hash: Option<ChannelHash>) -> Option<Message> {
    const LAST: &[u8] = b"Nats-Last-Sequence";
    let others = message.headers().filter(|(name, _)| *name != LAST);
    let headers = others.chain([(LAST, &b"0"[..])]);
    Message::decode(headers, &message.payload(), hash)
}

fn anchor(message: &protocol::Message) -> Option<(Anchor, Seq)> {
    let message = decode(message, None)?;
    match message.body {
        Ok(Body::Anchor(anchor)) => Some((anchor, message.stamp.seq)),
        _ => None,
    }
}
