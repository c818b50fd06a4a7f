//! The way of every publication, whichever interface it comes from: from its content to the
//! workers' mailboxes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rand::Rng;

use super::definitions::Definitions;
use super::directory::{Directory, Published};
use super::policies::Policies;
use crate::mailbox::{Keep, Mailboxes, Ticket};
use crate::message::{
    Channel, ChannelDefinition, ChannelOptions, Content, Durability, Encoding, FrameBytes,
    MessageId, Millis, Now, Publication, Record, Refused,
};

/// Returns the frame of a publication in one encoding. The interfaces provide this function, so
/// that the broker knows no protocol.
pub type Encode = fn(&Publication, Encoding) -> FrameBytes;

/// The node's half of the broker, shared by all threads.
#[derive(Debug)]
pub struct Broker {
    /// Order and audience of every channel.
    pub directory: Directory,
    /// Which channels there may be. Replaced whole by the background and read without waiting, so
    /// that a change holds on every thread from the moment that it is answered.
    pub definitions: ArcSwap<Definitions>,
    /// Who may subscribe and publish. Replaced whole as the definitions are.
    pub policies: Arc<ArcSwap<Policies>>,
    /// The mailboxes of all threads.
    pub mailboxes: Arc<Mailboxes>,
}

/// A publication before it has its place.
#[derive(Debug)]
pub struct Submission<'a> {
    /// The channel.
    pub channel: Channel,
    /// What it says.
    pub content: Content,
    /// How the channel behaves.
    pub options: ChannelOptions,
    /// The id that it gets.
    pub id: MessageId,
    /// Now.
    pub now: Now,
    /// Whether its frames name it, for clients that may resume after a cut.
    pub is_recoverable: bool,
    /// How it is kept in history; `None` if it is not.
    pub history: Option<ToKeep<'a>>,
}

/// How a publication is to be kept in history.
#[derive(Debug)]
pub struct ToKeep<'a> {
    /// The definition that governs the channel.
    pub definition: &'a Arc<ChannelDefinition>,
    /// How safe it must be before its publisher is answered.
    pub level: Durability,
    /// Answered then; `None` if the level is reached at once.
    pub ticket: Option<Ticket<Durability>>,
}

impl Broker {
    /// Publishes. The frames of the encodings in use are made before any lock is taken; then the
    /// directory stamps the publication, posts it, and queues it for history in the same order.
    ///
    /// # Errors
    /// [`Refused`], if a worker concerned or history has no room for it. Then nothing was published
    /// and nothing is kept.
    pub fn publish(
        &self,
        submission: Submission<'_>,
        encode: Encode,
    ) -> Result<(Arc<Publication>, Published), Refused> {
        let Submission { channel, content, options, id, now, is_recoverable, history: to_keep } =
            submission;
        let encodings = self.directory.encodings(&channel);
        let publication = Publication::new(id, channel, now.wall, content);
        let publication = publication.accepted(now.nanos).under(options);
        let publication = Arc::new(publication.recoverable(is_recoverable));
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
            let record = Record { publication: publication.clone(), definition, audience };
            place.post(Keep { record, level, ticket });
        };
        let published = self.directory.publish(&self.mailboxes.workers, &publication, keep)?;
        Ok((publication, published))
    }
}

/// Creates a message id that sorts by time (UUID version 7).
pub fn message_id(at: Millis, random: &mut impl Rng) -> MessageId {
    let mut bytes = [0; 10];
    random.fill_bytes(&mut bytes);
    uuid::Builder::from_unix_timestamp_millis(at, &bytes).into_uuid()
}
