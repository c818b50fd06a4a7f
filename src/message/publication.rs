//! Publications, their content, and their frames.

use std::sync::{Arc, OnceLock};

use bytestring::ByteString;

use super::{
    Channel, ChannelOptions, ConnId, Encoding, Mark, MarkPlace, Member, MessageId, Millis, Nanos,
    Offset, Sender,
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
    /// A new member of the channel, and the connection that does not receive this: its own.
    Joined(Arc<Member>, Option<ConnId>),
    /// A member whose last connection has left, and that connection, which does not receive this.
    Left(Arc<Member>, Option<ConnId>),
}

impl Content {
    /// Returns the bytes that the publisher gave: event name and payload, or a document's frame. 0
    /// for the node's own events.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Message { event, payload, .. } => event.len() + payload.len(),
            Self::Event { payload } => payload.len(),
            Self::Document { frame, .. } => frame.len(),
            Self::Joined(..) | Self::Left(..) => 0,
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
        !matches!(self, Self::Joined(..) | Self::Left(..))
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
    /// Whether its frames carry its [mark](Publication::mark), for clients that may resume after a
    /// cut.
    pub is_recoverable: bool,
    /// Its place in the cluster's stream; `None` if that does not order it.
    pub place: Option<MarkPlace>,
    /// Whether this node's subscribers receive it behind all that the stream has before it, and
    /// before all that the stream has behind it.
    pub is_in_order: bool,
    /// One frame for each encoding of WebSockets, by [`Encoding::place`].
    frames: [OnceLock<FrameBytes>; WEBSOCKET_FORMS],
    rare: OnceLock<Box<RareFrames>>,
}

/// The largest number of encodings that subscribers of one channel have on WebSockets.
const WEBSOCKET_FORMS: usize = Encoding::PER_SPACE - 1;

/// The frames that few publications have.
#[derive(Debug, Default)]
struct RareFrames {
    event_stream: OnceLock<FrameBytes>,
    /// The compressed form of each of [`Publication::frames`]; `None` if it is not shorter.
    deflated: [OnceLock<Option<FrameBytes>>; WEBSOCKET_FORMS],
}

/// With the counts of an `Arc` it fits into a block of the allocator. The next larger block has 320
/// bytes, and logs keep many publications.
const _: () = assert!(size_of::<Publication>() <= 256 - 16, "a publication has outgrown its block");

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
            place: None,
            is_in_order: false,
            frames: Default::default(),
            rare: OnceLock::new(),
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

    /// Sets its place in the cluster's stream, and whether the node's subscribers receive it in the
    /// order of the stream.
    pub fn at_place(mut self, place: MarkPlace, is_in_order: bool) -> Self {
        (self.place, self.is_in_order) = (Some(place), is_in_order);
        self
    }

    /// Sets whether its frames carry its mark.
    pub fn recoverable(mut self, is_recoverable: bool) -> Self {
        self.is_recoverable = is_recoverable;
        self
    }

    /// Returns the connection that does not receive it.
    pub fn except(&self) -> Option<ConnId> {
        match self.content {
            Content::Joined(_, except) | Content::Left(_, except) => except,
            _ => None,
        }
    }

    /// Returns what its frames tell clients to remember.
    pub fn mark(&self) -> Mark {
        match self.place.filter(|_| self.is_in_order) {
            Some(place) => Mark::Place(place),
            None => Mark::Id(self.id),
        }
    }

    /// Returns the frame in `encoding`, made by `encode` at the first call. If two threads call at
    /// once both encode and one result is kept, so that no thread waits for another.
    pub fn frame(
        &self,
        encoding: Encoding,
        encode: impl FnOnce(&Self, Encoding) -> FrameBytes,
    ) -> FrameBytes {
        let slot = self.frames.get(encoding.place());
        let slot = slot.unwrap_or_else(|| &self.rare().event_stream);
        if let Some(frame) = slot.get() {
            return frame.clone();
        }
        let frame = encode(self, encoding);
        // If another thread was faster, its frame has the same bytes as this one.
        let _ = slot.set(frame.clone());
        frame
    }

    /// Returns the compressed frame in `encoding`, made by `deflate` at the first call; `None` if
    /// that is not shorter. A thread that calls meanwhile waits, which takes no longer than to
    /// compress the same once more. Streams of events have no compressed frames.
    pub fn deflated(
        &self,
        encoding: Encoding,
        deflate: impl FnOnce() -> Option<FrameBytes>,
    ) -> Option<FrameBytes> {
        self.rare().deflated.get(encoding.place())?.get_or_init(deflate).clone()
    }

    fn rare(&self) -> &RareFrames {
        self.rare.get_or_init(Box::default)
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn threads_that_need_the_same_compressed_frame_make_it_once() {
        let content = Content::Event { payload: "\"x\"".into() };
        let publication = Publication::new(MessageId::nil(), Channel::topic("t"), 0, content);
        let (made, ready) = (AtomicUsize::new(0), Barrier::new(4));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    ready.wait();
                    let frame = publication.deflated(Encoding::Topic, || {
                        made.fetch_add(1, Ordering::Relaxed);
                        Some(FrameBytes::from(&b"short"[..]))
                    });
                    assert_eq!(frame.as_deref(), Some(&b"short"[..]));
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }
}
