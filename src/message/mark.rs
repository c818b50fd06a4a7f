//! How far a client has come, as it tells when it comes back.

use super::{MessageId, Offset};

/// A place in a cluster's stream.
///
/// It is kept as bytes, because each publication and each session that can be resumed has some.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MarkPlace {
    epoch: [u8; 4],
    seq: [u8; 8],
}

impl MarkPlace {
    /// The number of its [`MarkPlace::to_bytes`].
    pub const BYTES: usize = 12;

    /// Returns a place of the epoch with this tag.
    pub fn new(epoch: u32, seq: Offset) -> Self {
        Self { epoch: epoch.to_be_bytes(), seq: seq.to_be_bytes() }
    }

    /// Returns the tag of the epoch. Places of two epochs have no order.
    pub fn epoch(&self) -> u32 {
        u32::from_be_bytes(self.epoch)
    }

    /// Returns the sequence.
    pub fn seq(&self) -> Offset {
        Offset::from_be_bytes(self.seq)
    }

    /// Returns the place as bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.epoch);
        bytes[4..].copy_from_slice(&self.seq);
        bytes
    }

    /// Returns the place that has these bytes; `None` if their number is another one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (epoch, seq) = bytes.split_first_chunk()?;
        Some(Self { epoch: *epoch, seq: seq.try_into().ok()? })
    }
}

/// What a client remembers of the last frame with a publication that it received, and tells when it
/// comes back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mark {
    /// It received this publication. What it received before that, only its worker knows.
    Id(MessageId),
    /// It received all that the stream has of its channels up to this place.
    Place(MarkPlace),
    /// It received that, and the replays of this many subscriptions since its session began.
    Replays(MarkPlace, Replays),
}

/// A number of replays, as bytes for the same reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Replays([u8; Self::BYTES]);

impl Replays {
    /// The number of its [`Replays::to_bytes`].
    pub const BYTES: usize = 2;

    /// Counts one more. After 65,535 it begins again, which is more than one session can have at
    /// once.
    #[must_use]
    pub fn next(self) -> Self {
        Self(u16::from_be_bytes(self.0).wrapping_add(1).to_be_bytes())
    }

    /// Returns the number as bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    /// Returns the number that has these bytes; `None` if their number is another one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

const _: () = assert!(size_of::<Mark>() <= 17, "sessions and logs hold several");
