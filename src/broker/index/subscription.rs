//! One subscription, as the index keeps it.

use crate::message::Encoding;

/// A connection in a list of listeners, and the subscription that put it there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The connection's slot at this worker.
    pub connection: u32,
    pub(super) subscription: u32,
}

/// How the directory counts a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The encoding that it counts in.
    pub encoding: Encoding,
    /// Whether it counts for presence.
    pub is_present: bool,
}

/// An optional [`Counted`] in one byte, so that a subscription has only 20: 0 is `None`; otherwise
/// the lower bits are the encoding, counted from 1, and the highest bit is presence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packed(u8);

impl Packed {
    const PRESENT: u8 = 0x80;

    pub(super) fn get(self) -> Option<Counted> {
        let encoding = usize::from(self.0 & !Self::PRESENT).checked_sub(1)?;
        Some(Counted { encoding: Encoding::ALL[encoding], is_present: self.0 & Self::PRESENT != 0 })
    }
}

impl From<Counted> for Packed {
    fn from(counted: Counted) -> Self {
        let encoding = counted.encoding as u8 + 1;
        Self(if counted.is_present { encoding | Self::PRESENT } else { encoding })
    }
}

const _: () = assert!(Encoding::COUNT < Packed::PRESENT as usize, "an encoding has seven bits");
const _: () = assert!(size_of::<Subscription>() == 20, "there may be millions of them");

/// One connection's subscription to one channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    pub(super) connection: u32,
    pub(super) list: u32,
    /// The connection's next subscription.
    pub(super) next: u32,
    /// Place in the list of listeners, or [`NONE`](super::NONE) while it is not active.
    pub(super) position: u32,
    /// Activations and deactivations still in the mailbox.
    pub(super) pending: u16,
    /// The encoding of the list that `position` is in.
    pub(super) heard: Encoding,
    /// How the directory counts it, if it does.
    pub(super) counted: Packed,
}
