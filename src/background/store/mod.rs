//! What outlives the node: channel definitions, policies, and the history of messages.
//!
//! A store belongs to one thread and blocks it, and so does a reader, which looks at history beside
//! the thread that writes; the hot threads reach both only through bounded queues.

mod channels;
mod documents;
mod fault;
mod file;
mod history;
#[cfg(test)]
mod history_tests;
mod policies;
mod reader;
mod schema;
mod segments;
mod sqlite;
mod time;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::limits::{HISTORY_PAGE_BYTES_MAX, QUERY_MS_MAX};
use crate::message::MessageId;

pub use documents::Written;
pub use reader::Reader;
pub use sqlite::Store;

/// Why the store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another channel has this pattern.
    #[error("a channel with the pattern {pattern:?} already exists")]
    Duplicate {
        /// The pattern that is taken.
        pattern: String,
    },
    /// The store keeps as many channels as it may.
    #[error("the store keeps {channels_max} channels already, the most allowed")]
    Full {
        /// The bound.
        channels_max: usize,
    },
    /// No message has the id that others were to be older than.
    #[error("there is no message {id}")]
    UnknownMessage {
        /// The id.
        id: MessageId,
    },
    /// The page would be longer than it may be.
    #[error("the messages hold more than {HISTORY_PAGE_BYTES_MAX} bytes of payloads together")]
    PageTooLong,
    /// The question takes more than may be spent on it.
    #[error("the question could not be answered within {QUERY_MS_MAX} ms")]
    TooSlow,
    /// The directory or file cannot be made, opened or written.
    #[error("cannot use the store at {}: {reason}", path.display())]
    Unusable {
        /// The file, or the directory that it should lie in.
        path: PathBuf,
        /// In whose way what is.
        reason: String,
    },
    /// A later release wrote the file.
    #[error(
        "the store at {} has schema version {found}, this release knows versions up to {known}: \
         run a later release or use another data directory",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The latest that this release can read.
        known: i64,
    },
    /// The file is damaged, or never was a store.
    #[error(
        "the file {} is no sound store ({reason}): restore it from a backup or move it away",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Somebody else held the file's lock for too long.
    #[error("the store at {} is locked by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space is left for the store at {}", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// Anything else that the database reports.
    #[error("the store at {} failed: {source}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// The database's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Who can do something about a [`StoreError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Whoever made the request: it cannot be done as it stands.
    Caller,
    /// Whoever runs the node: disk, permissions, release.
    Operator,
    /// The node itself: it asked the database for something wrong.
    Node,
}

impl StoreError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Duplicate { .. }
            | Self::Full { .. }
            | Self::UnknownMessage { .. }
            | Self::PageTooLong
            | Self::TooSlow => Fault::Caller,
            Self::Failed { .. } => Fault::Node,
            _ => Fault::Operator,
        }
    }

    /// Whether the same request may succeed later with nobody doing anything to the store.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::DiskFull { .. })
    }

    /// What is wrong, for whoever may not know paths.
    pub fn ailment(&self) -> &'static str {
        match self {
            Self::Duplicate { .. }
            | Self::Full { .. }
            | Self::UnknownMessage { .. }
            | Self::PageTooLong
            | Self::TooSlow
            | Self::Failed { .. } => "it failed",
            Self::Unusable { .. } => "its file cannot be used",
            Self::Newer { .. } => "its file is of a later release",
            Self::Corrupt { .. } => "its file is damaged",
            Self::Busy { .. } => "its file is locked by another process",
            Self::DiskFull { .. } => "no space is left for it",
        }
    }

    fn unusable(path: impl Into<PathBuf>, reason: &io::Error) -> Self {
        Self::Unusable { path: path.into(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_whose_fault_and_whether_to_retry() {
        let path = PathBuf::from("/data/fanfare.db");
        let duplicate = StoreError::Duplicate { pattern: "a".into() };
        assert_eq!((duplicate.fault(), duplicate.is_temporary()), (Fault::Caller, false));
        let busy = StoreError::Busy { path: path.clone() };
        assert_eq!((busy.fault(), busy.is_temporary()), (Fault::Operator, true));
        let failed = StoreError::Failed { path, source: "no such table".into() };
        assert_eq!((failed.fault(), failed.is_temporary()), (Fault::Node, false));
        assert_eq!(failed.to_string(), "the store at /data/fanfare.db failed: no such table");
    }
}
