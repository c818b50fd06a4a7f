//! Why a node does not start, or stopped.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::auth::KeyError;
use crate::background::store::StoreError;
use crate::config::ConfigError;

/// Why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The secrets cannot be used.
    #[error("the keys in effect are not usable: {0}")]
    Keys(#[from] KeyError),
    /// Two nodes would each know half of what is there.
    #[error("{} is in use by another node; choose another directory with --data-dir", .0.display())]
    InUse(PathBuf),
    /// Nobody can be kept out of the data directory.
    #[error("cannot lock {}: {source}; every node needs a data directory of its own", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody can connect.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The system gave no thread or descriptor.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The store could not be closed as it should.
    #[error("the store could not be flushed: {0}; what was answered as stored is in its log")]
    Flush(#[source] StoreError),
    /// The same, for want of time.
    #[error("the store did not finish in time; what was answered as stored is in its log")]
    FlushTime,
    /// A thread ended, which none does while the node runs.
    #[error("the thread {0} ended; see the log above, and start the node again")]
    Thread(String),
}

impl NodeError {
    /// 2 where the operator's input is at fault, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Keys(_) | Self::InUse(_) | Self::Lock { .. } => 2,
            _ => 1,
        }
    }
}
