//! What waits in the outboxes of a worker.

use std::rc::Rc;
use std::sync::Arc;

use super::encode::{self, encode};
use crate::broker::outgoing::Outgoing;
use crate::codec::websocket::{Opcode, frame};
use crate::message::{AckId, Channel, Encoding, FrameBytes, Publication, SlowConsumer};

/// Bytes on their way to one or many of this worker's connections.
///
/// The worker counts its own pointers to a shared frame: the atomic count behind them is touched
/// once per worker and publication, not once per delivery, so that its cache line stays where it
/// is however many workers deliver the same frame.
#[derive(Clone, Debug)]
pub struct Frame(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: FrameBytes,
    what: What,
}

/// What the bytes are, as far as outboxes are concerned.
#[derive(Debug)]
enum What {
    /// Nothing that is accounted for, and nothing that may be left out.
    Own,
    /// A share of a publication; the publication itself if its channel can do without it.
    Delivery(Option<Arc<Publication>>),
    /// A share of a document: a later reading of it makes up for its loss.
    State(Arc<Publication>),
    /// The notice that so many publications of a channel were lost.
    Gap(Box<(Channel, u64)>),
}

impl What {
    fn of(publication: &Arc<Publication>) -> Self {
        match publication.options.slow_consumer {
            _ if !publication.content.is_published() => Self::Own,
            _ if publication.content.is_state() => Self::State(publication.clone()),
            SlowConsumer::Close => Self::Delivery(None),
            SlowConsumer::DropOldest | SlowConsumer::Latest => {
                Self::Delivery(Some(publication.clone()))
            }
        }
    }
}

impl Frame {
    /// A publication's frame for an encoding, that many connections share.
    pub fn of(publication: &Arc<Publication>, encoding: Encoding) -> Self {
        let bytes = publication.frame(encoding, encode);
        Self(Rc::new(Shared { bytes, what: What::of(publication) }))
    }

    /// A Forge event that one subscription gets again, named by its request.
    pub fn replayed(publication: &Arc<Publication>, request: AckId) -> Self {
        let text = encode::replayed(publication, request);
        let bytes = frame(Opcode::Text, &[text.as_bytes()]).into();
        Self(Rc::new(Shared { bytes, what: What::of(publication) }))
    }

    /// That is for one connection alone.
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
    fn is_delivery(&self) -> bool {
        matches!(self.0.what, What::Delivery(_) | What::State(_))
    }

    fn expendable(&self) -> Option<&Publication> {
        match &self.0.what {
            What::Delivery(publication) => publication.as_deref(),
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

    fn notice(channel: &Channel, count: u64) -> Self {
        let text = encode::gap(channel, count);
        let bytes = frame(Opcode::Text, &[text.as_bytes()]).into();
        let what = What::Gap(Box::new((channel.clone(), count)));
        Self(Rc::new(Shared { bytes, what }))
    }
}
