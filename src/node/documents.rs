//! The thread of a node in a cluster that has its documents.

use std::io;
use std::sync::{Arc, mpsc};

use crossbeam_channel::{Sender, bounded, never};

use super::threads::{BACKGROUND_THREADS, Node, announce, spawn};
use super::{Event, NodeError};
use crate::background::cluster::documents::{self, Desk, Inside, Look, Outside, Queues};
use crate::background::store::Store;
use crate::background::store::copy::Copy;
use crate::cluster::name::NodeName;
use crate::config::Config;
use crate::interface::membership::Membership;
use crate::limits::READER_QUEUE_MAX;
use crate::mailbox::Inboxes;

/// What the thread needs, prepared before the threads start.
pub(super) struct Documents {
    copy: Copy,
    name: NodeName,
    inside: Inside,
    membership: Arc<Membership>,
}

impl Documents {
    /// Opens the copy of the node with this name, and the way to the thread of the cluster.
    ///
    /// # Errors
    /// If the copy cannot be opened.
    pub(super) fn open(
        config: &Config,
        store: &Store,
        name: NodeName,
        membership: Arc<Membership>,
    ) -> Result<(Self, Arc<Outside>), NodeError> {
        let copy = Copy::open(config.data_dir.join("cluster-documents.db"))?;
        let own = store.live_documents();
        if own > 0 {
            tracing::warn!(own, "documents that this node had before are not those of the cluster");
        }
        let (inside, outside) = documents::open();
        Ok((Self { copy, name, inside, membership }, outside))
    }

    /// Takes the work on documents away from the threads of the store. Returns the queue for the
    /// questions that their reader receives.
    pub(super) fn take_over(self, inboxes: &mut Inboxes) -> (Sender<Look>, (Self, Queues)) {
        let (ask, looks) = bounded(READER_QUEUE_MAX);
        let writes = std::mem::replace(&mut inboxes.documents, never());
        let loads = std::mem::replace(&mut inboxes.loads, never());
        (ask, (self, Queues { writes, loads, looks }))
    }
}

impl Node {
    /// Starts the thread. It reports its end to `told`.
    pub(super) fn start_desk(
        &self,
        (documents, queues): (Documents, Queues),
        told: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        let Documents { copy, name, inside, membership } = documents;
        let shared = self.shared.clone();
        let counters = shared.metrics.thread(self.hot_threads() + BACKGROUND_THREADS + 1);
        let mailboxes = shared.interfaces.broker.mailboxes.clone();
        let is_serving = move || membership.condition().is_serving();
        spawn("documents", told, move || {
            Desk::new((copy, name), inside, queues, (mailboxes, counters), is_serving)
                .run(|news| announce(&shared, news));
        })
    }
}
