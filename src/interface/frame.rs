//! The frames that a worker's outboxes hold.

use std::rc::Rc;
use std::sync::Arc;

use super::deflating::Deflating;
use super::encode::{self, encode};
use crate::broker::cursor::Cursor;
use crate::broker::outgoing::Outgoing;
use crate::codec::websocket::{Opcode, frame};
use crate::message::{AckId, Channel, Encoding, FrameBytes, Mark, Publication, SlowConsumer};
use crate::metrics::Counters;

/// Bytes for one or many of this worker's connections.
///
/// The worker counts its pointers to a shared frame with an [`Rc`]. It touches the atomic count of
/// the bytes once per publication instead of once per delivery. Otherwise the cache line of that
/// count would move between all workers that deliver the same frame.
#[derive(Clone, Debug)]
pub struct Frame(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: FrameBytes,
    what: What,
}

/// The kind of a frame, by which outboxes count it and leave it out.
#[derive(Debug)]
enum What {
    /// A frame that is neither counted as a delivery nor ever left out.
    Own,
    /// A delivery. It holds the publication if the channel permits leaving publications out.
    Delivery(Option<(Arc<Publication>, Encoding)>),
    /// A delivery of a document. It may be left out, because the document can be read again later.
    State(Arc<Publication>),
    /// A notice that a number of a channel's publications were lost.
    Gap(Box<(Channel, u64, Encoding)>),
}

impl What {
    fn of(publication: &Arc<Publication>, encoding: Encoding) -> Self {
        match publication.options.slow_consumer {
            _ if !publication.content.is_published() => Self::Own,
            _ if publication.content.is_state() => Self::State(publication.clone()),
            SlowConsumer::Close => Self::Delivery(None),
            SlowConsumer::DropOldest | SlowConsumer::Latest => {
                Self::Delivery(Some((publication.clone(), encoding)))
            }
        }
    }
}

impl Frame {
    /// Returns the frame of a publication for one encoding. Many connections share its bytes.
    pub fn of(publication: &Arc<Publication>, encoding: Encoding) -> Self {
        let bytes = publication.frame(encoding, encode);
        Self(Rc::new(Shared { bytes, what: What::of(publication, encoding) }))
    }

    /// Returns the compressed form of this frame, which is the publication's for the encoding; the
    /// frame itself if that is not compressed.
    pub fn deflated(
        &self,
        publication: &Arc<Publication>,
        encoding: Encoding,
        (deflating, counters): (&mut Deflating, &Counters),
    ) -> Self {
        match deflating.frame(publication, encoding, &self.0.bytes, counters) {
            Some(bytes) => Self(Rc::new(Shared { bytes, what: What::of(publication, encoding) })),
            None => self.clone(),
        }
    }

    /// Creates the frame of a publication that tells its client something else to remember than
    /// other clients.
    pub fn marked(publication: &Arc<Publication>, encoding: Encoding, mark: &Mark) -> Self {
        let text = encode::marked(publication, encoding, mark);
        let bytes = frame(Opcode::Text, &[text.as_bytes()]).into();
        Self(Rc::new(Shared { bytes, what: What::of(publication, encoding) }))
    }

    /// Creates the frame of a publication for a stream of several channels. It says how far the
    /// client has come in all of them.
    pub fn placed(publication: &Arc<Publication>, cursor: &Cursor) -> Self {
        let bytes = encode::placed(publication, cursor).into();
        Self(Rc::new(Shared { bytes, what: What::of(publication, Encoding::EventStream) }))
    }

    /// Creates the frame of a Forge event that one subscription receives again; `request` is its
    /// subscribe.
    pub fn replayed(publication: &Arc<Publication>, request: AckId) -> Self {
        let text = encode::replayed(publication, request);
        let bytes = frame(Opcode::Text, &[text.as_bytes()]).into();
        Self(Rc::new(Shared { bytes, what: What::of(publication, Encoding::Topic) }))
    }

    /// Creates the notice that so many publications of a channel were lost.
    pub fn gap_notice(channel: &Channel, count: u64, encoding: Encoding) -> Self {
        let bytes = encode::gap(channel, Some(count), encoding).into();
        let what = What::Gap(Box::new((channel.clone(), count, encoding)));
        Self(Rc::new(Shared { bytes, what }))
    }

    /// Creates a frame for one connection alone.
    pub fn own(bytes: Vec<u8>) -> Self {
        Self(Rc::new(Shared { bytes: bytes.into(), what: What::Own }))
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Outgoing for Frame {
    fn bytes(&self) -> Option<&FrameBytes> {
        Some(&self.0.bytes)
    }

    fn sharers(&self) -> usize {
        // A frame that may be left out holds its publication, which holds the bytes once more.
        let holders = Arc::strong_count(&self.0.bytes) - usize::from(self.expendable().is_some());
        Rc::strong_count(&self.0) * holders.max(1)
    }

    fn is_delivery(&self) -> bool {
        matches!(self.0.what, What::Delivery(_) | What::State(_))
    }

    fn expendable(&self) -> Option<&Publication> {
        match &self.0.what {
            What::Delivery(share) => share.as_ref().map(|(publication, _)| &**publication),
            What::State(publication) => Some(publication),
            What::Own | What::Gap(_) => None,
        }
    }

    fn is_state(&self) -> bool {
        matches!(self.0.what, What::State(_))
    }

    fn gap(&self) -> Option<(&Channel, u64)> {
        match &self.0.what {
            What::Gap(gap) => Some((&gap.0, gap.1)),
            What::Own | What::Delivery(_) | What::State(_) => None,
        }
    }

    fn notice(&self, channel: &Channel, count: u64) -> Self {
        let encoding = match &self.0.what {
            What::Delivery(Some((_, encoding))) => *encoding,
            What::Gap(gap) => gap.2,
            What::Own | What::Delivery(None) | What::State(_) => {
                unreachable!("only publications that may be left out are told of")
            }
        };
        Self::gap_notice(channel, count, encoding)
    }
}
