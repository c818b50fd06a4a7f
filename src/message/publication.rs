//! Publications, their content, and their frames.

use std::sync::{Arc, OnceLock};

use bytestring::ByteString;

use super::{
    Channel, ChannelOptions, ConnId, Encoding, Member, MessageId, Millis, Nanos, Offset, Sender,
};

/// The content of a publication.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A message under an event name.
    Message {
        /// The event name that the publisher chose.
        event: Box<str>,
        /// JSON text, unchanged: a slice of what was received.
        payload: ByteString,
        /// The publisher, as subscribers see it.
        sender: Sender,
    },
    /// An event of a topic.
    Event {
        /// JSON text of a string with its quotes, unchanged: a slice of what was received.
        payload: ByteString,
    },
    /// The state of a resource.
    Document {
        /// The one user that may receive the document; `None` if every subscriber may.
        audience: Option<Arc<str>>,
        /// The version of the document.
        version: Millis,
        /// False if the document was deleted.
        exists: bool,
        /// The frame that subscribers receive, made by the only thread that writes documents.
        /// Keeping the frame itself means that a current document is in memory once.
        frame: FrameBytes,
    },
    /// A new member of the channel.
    Joined(Arc<Member>),
    /// A member whose last connection has left.
    Left(Arc<Member>),
}

impl Content {
    /// Returns the bytes that the publisher gave: event name and payload, or a document's frame. 0
    /// for the node's own events.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Message { event, payload, .. } => event.len() + payload.len(),
            Self::Event { payload } => payload.len(),
            Self::Document { frame, .. } => frame.len(),
            Self::Joined(_) | Self::Left(_) => 0,
        }
    }

    /// Returns whether it is published only if the channel has a subscriber: events, which are
    /// dropped otherwise, and documents, which are in the store.
    pub fn needs_listener(&self) -> bool {
        matches!(self, Self::Event { .. } | Self::Document { .. })
    }

    /// Returns whether it is the state of something, so that a later publication makes up for its
    /// loss.
    pub fn is_state(&self) -> bool {
        matches!(self, Self::Document { .. })
    }

    /// Returns whether it is a document that was not deleted.
    pub fn exists(&self) -> bool {
        matches!(self, Self::Document { exists: true, .. })
    }

    /// Returns whether the timestamps of its channel must not run back. Documents have versions
    /// instead.
    pub fn is_stamped_in_order(&self) -> bool {
        matches!(self, Self::Event { .. })
    }

    /// Returns whether it comes from a publisher, so that its deliveries are accounted for one by
    /// one.
    pub fn is_published(&self) -> bool {
        !matches!(self, Self::Joined(_) | Self::Left(_))
    }
}

/// The bytes of a frame, shared by all its receivers.
///
/// `Bytes` would cost more memory: 16 bytes more in each place for a frame, and an allocation of
/// its own for the count of its holders, which it does not tell. To make, share and drop a frame
/// takes 38 ns with either at 300 bytes; at 16 KiB `Bytes` saves 130 ns, once per publication and
/// encoding.
pub type FrameBytes = Arc<[u8]>;

/// A publication, with its frames.
#[derive(Debug)]
pub struct Publication {
    /// The id, by which acknowledgements, frames and history name it.
    pub id: MessageId,
    /// The channel on which it is published.
    pub channel: Channel,
    /// The time at which it was accepted.
    pub at: Millis,
    /// The time at which it was accepted, in nanoseconds since the node started; 0 if that was not
    /// set.
    pub accepted: Nanos,
    /// The message, event, document or announcement.
    pub content: Content,
    /// The options of its channel when it was accepted.
    pub options: ChannelOptions,
    /// Whether its frames carry its id, for clients that may resume after a cut.
    pub is_recoverable: bool,
    /// The connection that does not receive it: the one whose own join or leave it announces.
    pub except: Option<ConnId>,
    /// One frame for each encoding, by [`Encoding::place`].
    frames: [OnceLock<FrameBytes>; Encoding::PER_SPACE],
}

impl Publication {
    /// Creates a publication without frames.
    pub fn new(id: MessageId, channel: Channel, at: Millis, content: Content) -> Self {
        Self {
            id,
            channel,
            at,
            accepted: 0,
            content,
            options: ChannelOptions::default(),
            is_recoverable: false,
            except: None,
            frames: Default::default(),
        }
    }

    /// Sets the time at which it was accepted, in nanoseconds since the node started.
    pub fn accepted(mut self, accepted: Nanos) -> Self {
        self.accepted = accepted;
        self
    }

    /// Sets the options of its channel.
    pub fn under(mut self, options: ChannelOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets whether its frames carry its id.
    pub fn recoverable(mut self, is_recoverable: bool) -> Self {
        self.is_recoverable = is_recoverable;
        self
    }

    /// Sets the connection that does not receive it.
    pub fn except(mut self, connection: ConnId) -> Self {
        self.except = Some(connection);
        self
    }

    /// Returns the frame in `encoding`, made by `encode` at the first call. If two threads call at
    /// once both encode and one result is kept, so that no thread waits for another.
    pub fn frame(
        &self,
        encoding: Encoding,
        encode: impl FnOnce(&Self, Encoding) -> FrameBytes,
    ) -> FrameBytes {
        let slot = &self.frames[encoding.place()];
        if let Some(frame) = slot.get() {
            return frame.clone();
        }
        let frame = encode(self, encoding);
        // If another thread was faster, its frame has the same bytes as this one.
        let _ = slot.set(frame.clone());
        frame
    }
}

/// A publication with its offset, on its way to the subscribers of one worker.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The publication to deliver.
    pub publication: Arc<Publication>,
    /// Its place in the channel. Announcements of presence have the offset of the publication
    /// before them.
    pub offset: Offset,
}
