#![doc = include_str!("README.md")]
//!
//! # The code
//!
//! A [`Store`] belongs to one thread and blocks it. So does a [`Reader`], which reads history and
//! documents beside the thread that writes them. The hot threads reach both only through bounded
//! queues.

mod channels;
pub mod copy;
mod documents;
mod fault;
mod file;
mod history;
#[cfg(test)]
mod history_tests;
mod places;
mod policies;
mod reader;
mod schema;
mod segments;
mod shared;
mod sqlite;
mod time;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::limits::{HISTORY_PAGE_BYTES_MAX, QUERY_MS_MAX};
use crate::message::MessageId;

pub use documents::Written;
pub use reader::Reader;
pub use shared::{Followed, Following};
pub use sqlite::Store;

/// Why the store refused or failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another channel has this pattern.
    #[error("a channel with the pattern `{pattern}` already exists")]
    Duplicate {
        /// The pattern that is taken.
        pattern: String,
    },
    /// The store holds as many channels as it may.
    #[error("the store keeps {channels_max} channels already, the most allowed")]
    Full {
        /// The most channels that the store keeps.
        channels_max: usize,
    },
    /// A query asks for messages older than one that does not exist.
    #[error("there is no message {id}")]
    UnknownMessage {
        /// The id that the query names.
        id: MessageId,
    },
    /// The page would be longer than [`HISTORY_PAGE_BYTES_MAX`].
    #[error("the messages hold more than {HISTORY_PAGE_BYTES_MAX} bytes of payloads together")]
    PageTooLong,
    /// The query takes longer than [`QUERY_MS_MAX`], or finds more event names than are counted
    /// ([`EVENTS_COUNTED_MAX`](crate::limits::EVENTS_COUNTED_MAX)).
    #[error("the query took more than {QUERY_MS_MAX} ms, or would count too many event names")]
    TooSlow,
    /// The directory or file cannot be created, opened or written.
    #[error("cannot use the store at {}: {reason}", path.display())]
    Unusable {
        /// The file, or the directory that should hold it.
        path: PathBuf,
        /// The reason, mostly in the words of the system.
        reason: String,
    },
    /// A later release wrote the file.
    #[error(
        "the store at {} has schema version {found}, this release knows versions up to {known}: \
         run a later release or use another data directory",
        path.display()
    )]
    Newer {
        /// The store's file, which a later release has written.
        path: PathBuf,
        /// The file's schema version.
        found: i64,
        /// The latest version that this release can read.
        known: i64,
    },
    /// The file is damaged, or is not a store.
    #[error(
        "the file {} is not a sound store ({reason}): restore it from a backup or move it away",
        path.display()
    )]
    Corrupt {
        /// The file that is not a sound store.
        path: PathBuf,
        /// The fault that was found in it.
        reason: String,
    },
    /// Another process held the file's lock for too long.
    #[error("the store at {} is locked by another process", path.display())]
    Busy {
        /// The file that another process has locked.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space is left for the store at {}", path.display())]
    DiskFull {
        /// The file that cannot grow.
        path: PathBuf,
    },
    /// Any other failure of the database.
    #[error("the store at {} failed: {source}", path.display())]
    Failed {
        /// The file of the store that failed.
        path: PathBuf,
        /// The database's error, whose text the log shows.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The party that can do something about a [`StoreError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The caller: the request cannot succeed as it stands.
    Caller,
    /// The operator: disk, permissions or release need attention.
    Operator,
    /// The node: it gave the database a wrong statement.
    Node,
}

impl StoreError {
    /// Returns the party that can do something about the error.
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

    /// Returns whether the same request may succeed later although nothing is done about the store.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::DiskFull { .. })
    }

    /// Returns what is wrong in words without paths, for callers that may not know them.
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
