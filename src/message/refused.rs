//! What full queues and the directory answer.

use super::Refusal;

/// Why a queue or the directory did nothing of what it was asked: nobody receives anything, nothing
/// is kept. The same request may succeed later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// A mailbox or a queue concerned has no place.
    Overloaded,
    /// The queue into history has no place.
    HistoryFull,
    /// Another publication with a later timestamp was faster, and timestamps of this channel must
    /// not run back: the publication needs a new timestamp. Only topics have this rule.
    Late,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded | Refused::Late => Self::Overloaded,
            Refused::HistoryFull => Self::HistoryFull,
        }
    }
}
