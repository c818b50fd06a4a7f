//! The documents of a cluster.
//!
//! All documents are in one stream of NATS, which keeps the latest message of each subject. It
//! decides which write of a document is the next one, and gives the changes of all documents one
//! order. Each node has a copy of it in a file (`background/store/copy.rs`), which its readers and
//! subscribers are served from.
//!
//! ```text
//!  PUT, DELETE ──► desk: version by the copy ──► stream, if the document's last sequence is
//!                   ▲  ▲                   the one decided by; else decide again
//!  GET, loads ──────┘  │ changes, in the stream's order
//!                      │
//!  stream ──► consumer ┘──► copy ──► fan-out to this node's subscribers
//! ```
//!
//! - The **desk** is a thread of its own ([`Desk`]). It alone has the copy. It applies changes,
//!   then fans them out, and reads for subscribers between two commits. So each answer lies exactly
//!   between the changes before it and those after it.
//! - The **service** is a task of the thread of the cluster. It stores what the desk asks for, and
//!   keeps the consumer that brings the changes.
//!
//! What holds, and why:
//!
//! - *Versions rise.* A version is later than that of the message whose sequence the stream
//!   compares ([`crate::cluster::documents::writes`]). So the messages of a subject have rising
//!   versions, and every node receives them in the order of the stream, perhaps without some in
//!   between.
//! - *A write that was answered is read.* A read waits for a proof: the node stores a message of
//!   its own and waits until the consumer has brought it and come to the end of the stream
//!   ([`crate::cluster::documents::proofs`]). Everything that was answered before is in the copy
//!   then, or something later. Refusals (409, 404, 507) are proven in
//!   the same way. In a cluster the directory retains no document, so that the answer to every
//!   subscribe is read behind a proof. While a node lags, a change from before that answer may
//!   reach the subscriber in front of it.
//!   A node whose copy does not come to the end of the stream within
//!   [`crate::limits::CLUSTER_DOCUMENT_MS_MAX`] refuses reads.
//! - *Nothing is stored only here.* The copy changes by the consumer alone.
//! - *Deleted documents are forgotten* by a message, too: the floor. It is compared and stored like
//!   a document, so that all nodes forget the same ones at the same place. A deletion must be a
//!   minute old, because a write that was decided without it may be on its way.
//! - *A stream that was made anew or has lost messages* is read from its first message. A node
//!   notices that by the life of the stream, by its end, or because a message that was stored has a
//!   place at which the copy was before. Documents
//!   that it does not have are dropped at the end, and their versions count as forgotten. A
//!   subscriber receives no document again that it has received.

mod desk;
mod service;
mod stream;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::mpsc;

use crate::background::store::copy::Change;
use crate::cluster::documents::Floor;
use crate::cluster::documents::writes::{Outcome, Put};
use crate::cluster::name::Seq;
use crate::limits::{CLUSTER_CHANGES_MAX, CLUSTER_DOCUMENT_ASKS_MAX};
pub use desk::{Desk, Look, Queues};
pub(super) use service::Service;

/// The desk's end of the way to the service.
pub struct Inside {
    asks: mpsc::Sender<Ask>,
    told: Receiver<Told>,
    changes: Receiver<Change>,
    outside: Arc<Outside>,
}

/// The service's end. It outlives the service, which begins again whenever the node joins again.
pub struct Outside {
    asks: tokio::sync::Mutex<mpsc::Receiver<Ask>>,
    told: Sender<Told>,
    changes: Sender<Change>,
    /// The life of the stream, and the place up to which the copy has everything.
    reached: Mutex<(Box<str>, Seq)>,
    /// Whether the stream has given places to other messages, so that everything must be read anew.
    is_lost: AtomicBool,
}

/// A request of the desk.
enum Ask {
    /// Store a document, before this time.
    Put(Box<Put>, Instant),
    /// Store a message of the node's own: the number by which the answer is recognized, and that in
    /// the message.
    Prove(u64, u64),
    /// Store the floor, if the one before it has this place.
    Raise(Floor, Seq),
    /// Remove these messages.
    Remove(Vec<Seq>),
    /// Let another consumer begin.
    Again,
}

/// What became of a request.
enum Told {
    Put(u64, Outcome),
    /// The place of the message; `None` if it is not known to be stored.
    Proof(u64, Option<Seq>),
    /// The floor is stored, or another one is, or neither is known.
    Raised,
    /// The service begins. Of earlier requests it knows nothing.
    Begins,
}

/// Opens the way between the desk and the service.
pub fn open() -> (Inside, Arc<Outside>) {
    let (asks, asked) = mpsc::channel(CLUSTER_DOCUMENT_ASKS_MAX);
    let (tell, told) = bounded(CLUSTER_DOCUMENT_ASKS_MAX);
    let (bring, changes) = bounded(CLUSTER_CHANGES_MAX);
    let asked = tokio::sync::Mutex::new(asked);
    let (reached, is_lost) = (Mutex::default(), AtomicBool::new(false));
    let outside = Arc::new(Outside { asks: asked, told: tell, changes: bring, reached, is_lost });
    (Inside { asks, told, changes, outside: outside.clone() }, outside)
}

impl Outside {
    fn reached(&self) -> (Box<str>, Seq) {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_reached(&self, life: &str, seq: Seq) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if *reached.0 != *life {
            reached.0 = life.into();
        }
        reached.1 = seq;
    }
}
