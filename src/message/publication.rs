//! What is published.

use std::sync::{Arc, OnceLock};

use super::{
    Channel, ChannelOptions, ConnId, Encoding, Member, MessageId, Millis, Nanos, Offset, Sender,
};

/// What a publication says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A message under an event name. The payload is the JSON text as it came.
    Message {
        /// Event name.
        event: Box<str>,
        /// JSON text, unchanged.
        payload: Box<str>,
        /// Who sent it.
        sender: Sender,
    },
    /// An event of a topic. The payload is a JSON string, with its quotes, as it came.
    Event {
        /// JSON text of a string, unchanged.
        payload: Box<str>,
    },
    /// The state of a resource.
    Document {
        /// The only user who is told of it; everybody, where there is none.
        audience: Option<Arc<str>>,
        /// Its version.
        version: Millis,
        /// Whether it is there; else it was deleted.
        exists: bool,
        /// What subscribers are told, made by the only thread that writes documents. It is the
        /// frame itself, so that a current document is in memory once.
        frame: FrameBytes,
    },
    /// A member appeared.
    Joined(Arc<Member>),
    /// A member's last connection left.
    Left(Arc<Member>),
}

impl Content {
    /// Bytes of what a publisher gave: event name and payload, or a document with its frame. 0 for
    /// the node's own events.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Message { event, payload, .. } => event.len() + payload.len(),
            Self::Event { payload } => payload.len(),
            Self::Document { frame, .. } => frame.len(),
            Self::Joined(_) | Self::Left(_) => 0,
        }
    }

    /// Whether it is published only where somebody listens, and else is nowhere: events, and
    /// documents, which are in the store.
    pub fn needs_listener(&self) -> bool {
        matches!(self, Self::Event { .. } | Self::Document { .. })
    }

    /// Whether it is the state of something, so that a later one makes up for it.
    pub fn is_state(&self) -> bool {
        matches!(self, Self::Document { .. })
    }

    /// Whether it is a document that is there: not deleted.
    pub fn exists(&self) -> bool {
        matches!(self, Self::Document { exists: true, .. })
    }

    /// Whether its channel's timestamps must not run back. Documents have versions.
    pub fn is_stamped_in_order(&self) -> bool {
        matches!(self, Self::Event { .. })
    }

    /// Whether a publisher said it, and its subscribers' shares are accounted for one by one.
    pub fn is_published(&self) -> bool {
        !matches!(self, Self::Joined(_) | Self::Left(_))
    }
}

/// A frame's bytes, shared by everybody who gets them.
pub type FrameBytes = Arc<[u8]>;

/// One thing that all subscribers of a channel must learn, with its frames.
#[derive(Debug)]
pub struct Publication {
    /// Its id.
    pub id: MessageId,
    /// Where it goes.
    pub channel: Channel,
    /// When it was accepted.
    pub at: Millis,
    /// When it was accepted, on the node's own clock; 0 where nobody asks.
    pub accepted: Nanos,
    /// What it says.
    pub content: Content,
    /// How its channel behaved when it was accepted.
    pub options: ChannelOptions,
    /// Whether its frames name it, for clients that may come back after a cut.
    pub is_recoverable: bool,
    /// The connection that is not told: the one whose own joining is announced.
    pub except: Option<ConnId>,
    /// By the encodings' places.
    frames: [OnceLock<FrameBytes>; Encoding::PER_SPACE],
}

impl Publication {
    /// A publication without frames yet.
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

    /// The same, accepted at this time of the node's own clock.
    pub fn accepted(mut self, accepted: Nanos) -> Self {
        self.accepted = accepted;
        self
    }

    /// The same, on a channel that behaves like this.
    pub fn under(mut self, options: ChannelOptions) -> Self {
        self.options = options;
        self
    }

    /// The same, named in its frames or not.
    pub fn recoverable(mut self, is_recoverable: bool) -> Self {
        self.is_recoverable = is_recoverable;
        self
    }

    /// The same, kept from one connection.
    pub fn except(mut self, connection: ConnId) -> Self {
        self.except = Some(connection);
        self
    }

    /// Returns the frame in `encoding`, made by `encode` at the first call. Two threads that call
    /// at once both encode, and one result is kept, so that no thread waits for another.
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
        // A loser of the race keeps its own copy: the bytes are the same.
        let _ = slot.set(frame.clone());
        frame
    }
}

/// A publication with its place in the channel, on its way to one worker's subscribers.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What is delivered.
    pub publication: Arc<Publication>,
    /// Its place in the channel; announcements of presence share the place of the publication
    /// before them.
    pub offset: Offset,
}
