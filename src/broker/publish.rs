//! The way of every publication, from whichever interface: from its content to the workers'
//! mailboxes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rand::Rng;

use super::definitions::Definitions;
use super::directory::{Directory, Published};
use super::memory::Memory;
use super::policies::Policies;
use super::repeats::Repeats;
use crate::limits::{MAILBOX_CONTROL_MAX, STREAM_ANSWERS_MAX};
use crate::mailbox::{Keep, Keeping, Mailboxes, Publisher, Slot, StreamQueue, Submitted, Ticket};
use crate::message::{
    Audience, Channel, ChannelDefinition, ChannelOptions, ChannelOrder, Content, Durability,
    Encoding, FrameBytes, MessageId, Millis, Now, Publication, Record, Refused, RepeatKey,
};

/// Returns the frame of a publication in one encoding. The interfaces provide this function,
/// because the broker knows no protocol.
pub type Encode = fn(&Publication, Encoding) -> FrameBytes;

/// The part of the broker that all threads share.
#[derive(Debug)]
pub struct Broker {
    /// The order and the audience of every channel.
    pub directory: Directory,
    /// The definitions of allowed channels. The background replaces them whole and readers take no
    /// lock, so that a change holds on every thread when its request is answered.
    pub definitions: ArcSwap<Definitions>,
    /// The policies that decide about subscribes and publishes. Replaced whole, like the
    /// definitions.
    pub policies: Arc<ArcSwap<Policies>>,
    /// The mailboxes of all threads.
    pub mailboxes: Arc<Mailboxes>,
    /// The memory that clients make the node hold.
    pub memory: Memory,
    /// Publications that their publishers may send again, on channels that this node orders.
    pub repeats: Repeats,
}

/// A publication before it has its offset.
#[derive(Debug)]
pub struct Submission<'a> {
    /// The channel to publish on.
    pub channel: Channel,
    /// The message, event or document.
    pub content: Content,
    /// The options of the definition that governs the channel.
    pub options: ChannelOptions,
    /// The id that subscribers and history know the publication by.
    pub id: MessageId,
    /// The time of the publication, on both clocks.
    pub now: Now,
    /// Whether its frames carry its id, for clients that may resume after a cut.
    pub is_recoverable: bool,
    /// How history keeps it; `None` if it does not.
    pub history: Option<ToKeep<'a>>,
    /// Recognizes a repetition of the publication. It is needed on channels that a cluster's stream
    /// orders; on others it is `None` if the publisher has not named the publication.
    pub repeat: Option<RepeatKey>,
}

/// How history is to keep a publication.
#[derive(Debug)]
pub struct ToKeep<'a> {
    /// The definition that governs the channel.
    pub definition: &'a Arc<ChannelDefinition>,
    /// How safe it must be before its publisher is answered.
    pub level: Durability,
    /// The right to answer the publisher then; `None` if the level is reached at once.
    pub ticket: Option<Ticket<Durability>>,
}

impl<'a> Submission<'a> {
    /// Sets the right to answer the publisher once history has kept the publication.
    pub fn answered(mut self, ticket: Option<Ticket<Durability>>) -> Self {
        if let Some(history) = &mut self.history {
            history.ticket = ticket;
        }
        self
    }

    /// Returns the publication, and how history is to keep it.
    fn split(self) -> (Arc<Publication>, Option<ToKeep<'a>>) {
        let Self { channel, content, options, id, now, is_recoverable, history, .. } = self;
        let publication = Publication::new(id, channel, now.wall, content);
        let publication = publication.accepted(now.nanos).under(options);
        (Arc::new(publication.recoverable(is_recoverable)), history)
    }
}

impl Broker {
    /// Creates the broker of a node.
    pub fn new(
        directory: Directory,
        definitions: Definitions,
        policies: Policies,
        mailboxes: Mailboxes,
        memory: Memory,
    ) -> Self {
        Self {
            directory,
            definitions: ArcSwap::from_pointee(definitions),
            policies: Arc::new(ArcSwap::from_pointee(policies)),
            mailboxes: Arc::new(mailboxes),
            memory,
            repeats: Repeats::default(),
        }
    }

    /// Publishes on a channel that no cluster's stream orders. A repetition of a publication is not
    /// published again: its publisher receives the result of the first one.
    ///
    /// # Errors
    /// [`Refused`], if a mailbox or the queue to history has no free place, if too little memory is
    /// free, or if the timestamp is late. Then nothing was published and nothing is kept.
    pub fn publish(
        &self,
        submission: Submission<'_>,
        encode: Encode,
    ) -> Result<(Arc<Publication>, Published), Refused> {
        let Some(repeat) = submission.repeat else { return self.publish_new(submission, encode) };
        let (now, is_optional) = (submission.now.monotonic(), submission.content.needs_listener());
        // Held until the result is known, so that of two at the same time one is published.
        let mut known = self.repeats.lock();
        if let Some(published) = known.find(repeat, now) {
            drop(known);
            return Ok((self.keep_again(submission, published.audience)?, published));
        }
        let (publication, published) = self.publish_new(submission, encode)?;
        if published.offset > 0 || !is_optional {
            known.note(repeat, published, now);
        }
        Ok((publication, published))
    }

    /// Has history keep a publication that was published before, so that its publisher is answered
    /// once history has it. History keeps it once.
    fn keep_again(
        &self,
        submission: Submission<'_>,
        audience: Audience,
    ) -> Result<Arc<Publication>, Refused> {
        let (publication, to_keep) = submission.split();
        if let Some(ToKeep { definition, level, ticket }) = to_keep {
            let place = self.mailboxes.history.reserve(publication.content.bytes());
            let (publication, definition) = (publication.clone(), definition.clone());
            let record = Record::new(publication, definition, audience);
            place.ok_or(Refused::HistoryFull)?.post(Keep { record, level, ticket });
        }
        Ok(publication)
    }

    /// The frames of the encodings in use are made before any lock is taken. Then the directory
    /// stamps the publication, posts it, and queues it for history in the same order.
    fn publish_new(
        &self,
        submission: Submission<'_>,
        encode: Encode,
    ) -> Result<(Arc<Publication>, Published), Refused> {
        debug_assert!(!self.is_ordered(submission.options), "the stream orders this channel");
        if !self.memory.admit(submission.content.bytes()) {
            return Err(Refused::Overloaded);
        }
        let encodings = self.directory.encodings(&submission.channel);
        let (publication, to_keep) = submission.split();
        for encoding in encodings.iter() {
            publication.frame(encoding, encode);
        }
        let history = &self.mailboxes.history;
        let place = match to_keep {
            None => None,
            Some(_) => {
                Some(history.reserve(publication.content.bytes()).ok_or(Refused::HistoryFull)?)
            }
        };
        let keep = |audience| {
            let (Some(place), Some(to_keep)) = (place, to_keep) else { return };
            let ToKeep { definition, level, ticket } = to_keep;
            let definition = definition.clone();
            // In the order of the queue, places rise.
            let latest = self.mailboxes.stream.as_ref().map(StreamQueue::latest);
            let record = Record::new(publication.clone(), definition, audience);
            let record = Record { place: latest, ..record };
            place.post(Keep { record, level, ticket });
        };
        let published = self.directory.publish(&self.mailboxes.workers, &publication, keep)?;
        Ok((publication, published))
    }

    /// Returns whether a cluster's stream orders the channels with these options.
    pub fn is_ordered(&self, options: ChannelOptions) -> bool {
        self.mailboxes.stream.is_some() && options.order == ChannelOrder::Cluster
    }

    /// Sends a publication to the cluster's stream. No subscriber hears it before it has come
    /// back from there, and the publisher is answered then. Returns its id.
    ///
    /// # Errors
    /// [`Refused`], if a queue or the publisher's mailbox has no free place, or if too little
    /// memory is free. Then nothing was sent, and the publisher is not answered.
    pub fn send(
        &self,
        submission: Submission<'_>,
        publisher: Publisher,
    ) -> Result<MessageId, Refused> {
        let stream = self.mailboxes.stream.as_ref().ok_or(Refused::Overloaded)?;
        debug_assert!(submission.repeat.is_some(), "the stream recognizes repetitions");
        let repeat = submission.repeat;
        let bytes = submission.content.bytes();
        if !self.memory.admit(bytes) {
            return Err(Refused::Overloaded);
        }
        let answer = match publisher {
            Publisher::Request { .. } => None,
            Publisher::Connection(id, _) => {
                let mailbox = self.mailboxes.workers.of(id.worker);
                if mailbox.free(Slot::Control) < MAILBOX_CONTROL_MAX - STREAM_ANSWERS_MAX {
                    return Err(Refused::Overloaded);
                }
                Some(mailbox.reserve(Slot::Control).ok_or(Refused::Overloaded)?)
            }
        };
        let history = &self.mailboxes.history;
        let kept = match submission.history {
            None => None,
            Some(_) => Some(history.reserve(bytes).ok_or(Refused::HistoryFull)?),
        };
        let place = stream.publications.reserve(bytes).ok_or(Refused::Overloaded)?;
        let (publication, to_keep) = submission.split();
        let keep = to_keep.map(|ToKeep { definition, level, ticket }| Keeping {
            definition: definition.clone(),
            level,
            ticket,
        });
        let id = publication.id;
        if let Some(kept) = kept {
            kept.promise();
        }
        if let Some(answer) = answer {
            answer.promise();
        }
        place.post(Submitted { publication, keep, publisher, repeat });
        stream.interests.wake();
        Ok(id)
    }
}

/// Creates a message id that sorts by time (UUID version 7).
pub fn message_id(at: Millis, random: &mut impl Rng) -> MessageId {
    let mut bytes = [0; 10];
    random.fill_bytes(&mut bytes);
    uuid::Builder::from_unix_timestamp_millis(at, &bytes).into_uuid()
}
