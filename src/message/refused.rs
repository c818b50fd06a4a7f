//! Refusals by full queues and by the directory.

use super::Refusal;

/// Why a queue or the directory refused a request. Then no subscriber receives anything, and
/// nothing is kept. The same request may succeed later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The mailbox or the queue has no free place, or the node too little memory.
    Overloaded,
    /// The queue to history has no free place.
    HistoryFull,
    /// A publication with a later timestamp was faster, and timestamps of this channel must not run
    /// back: the publication needs a new timestamp. Only topics have this rule.
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
