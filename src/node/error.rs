//! Why a node did not start, or stopped.

use std::io;
use std::path::PathBuf;

use crate::auth::KeyError;
use crate::background::cluster::ImportError;
use crate::background::cluster::identity::IdentityError;
use crate::background::cluster::status::StatusError;
use crate::background::postgres::Fault;
use crate::background::store::StoreError;
use crate::config::ConfigError;
use crate::config::listen::Listen;

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The secrets in effect cannot be used as keys.
    #[error("the keys in effect are not usable: {0}")]
    Keys(#[from] KeyError),
    /// Another node uses the data directory, and each would know half of what is there.
    #[error("{} is in use by another node; choose another directory with --data-dir", .0.display())]
    InUse(PathBuf),
    /// Other nodes cannot be kept out of the data directory.
    #[error("cannot lock {}: {source}; every node needs a data directory of its own", path.display())]
    Lock {
        /// The path of the file `lock` in the data directory.
        path: PathBuf,
        /// The error of opening or locking that file.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node cannot listen.
    #[error("cannot listen on {place}: {source}; choose another address {advice}")]
    Listen {
        /// The place that was configured.
        place: Listen,
        /// The system's reason, such as an address in use.
        source: io::Error,
        /// Where another one can be set.
        advice: &'static str,
    },
    /// There is no ring for the workers' sends, which was asked for.
    #[error(
        "`io.backend` = \"ring\" cannot be had here: {0}; set it to \"auto\", or let the node use \
         io_uring"
    )]
    Ring(#[source] io::Error),
    /// The name of the node in its cluster cannot be kept in the data directory.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state of the cluster cannot be read.
    #[error(transparent)]
    Cluster(#[from] StatusError),
    /// Nothing could be imported into the cluster.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A command could not be carried out on the database.
    #[error(transparent)]
    Postgres(#[from] Fault),
    /// The system gave no thread or descriptor.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The store could not be flushed at the end.
    #[error("the store could not be flushed: {0}; what was answered as stored is in its log")]
    Flush(#[source] StoreError),
    /// The store was not flushed in time at the end.
    #[error("the store did not finish in time; what was answered as stored is in its log")]
    FlushTime,
    /// The thread of this name ended, which no thread does while the node runs.
    #[error("the thread {0} ended; see the log above, and start the node again")]
    Thread(String),
}

impl NodeError {
    /// Returns 2 if the operator's input is at fault, and 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Keys(_)
            | Self::InUse(_)
            | Self::Lock { .. }
            | Self::Ring(_) => 2,
            _ => 1,
        }
    }
}
