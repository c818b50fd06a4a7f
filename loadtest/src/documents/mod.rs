//! Many documents, each watched by few clients. Clients remember the last state of each document,
//! which in the end must be the one that was written last.

mod audience;
mod field;
mod signals;
mod verdict;
mod watcher;
mod writer;

pub(crate) use self::audience::{Audience, Seen};
pub(crate) use self::field::Field;
pub(crate) use self::signals::Signals;
pub(crate) use self::verdict::Verdict;
pub(crate) use self::watcher::Counts;
pub(crate) use self::writer::{Plan, Writes, write};
