//! What becomes of a publication besides being heard.

use std::sync::Arc;

use super::{Audience, ChannelDefinition, Publication};

/// How safe a publication is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Durability {
    /// On its way: lost if the node ends before it is stored.
    Memory,
    /// Committed: survives the end of the process.
    Stored,
    /// Committed and on the disk: survives the loss of power.
    Synced,
}

impl Durability {
    /// All of them, the least safe first.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Stored, Self::Synced];

    /// As the interface writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Stored => "stored",
            Self::Synced => "synced",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// A publication on its way into history.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was published.
    pub publication: Arc<Publication>,
    /// The definition that governed its channel.
    pub definition: Arc<ChannelDefinition>,
    /// Whom it was posted to.
    pub audience: Audience,
}
