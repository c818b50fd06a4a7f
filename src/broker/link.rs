//! The broker's part of a connection: its socket, its outbox, and the head of its subscriptions.
//! Fan-out touches nothing else of a connection.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::broker::cursor::Cursor;
use crate::broker::index;
use crate::broker::outbox::Outbox;
use crate::broker::outgoing::Outgoing;
use crate::broker::resume_log::{Position, Sent};
use crate::broker::sharing::Sharing;
use crate::broker::stale::StaleDocuments;
use crate::message::{Channel, Mark, Offset, Publication, RecoveryKey, SharedSession};

/// The part of a connection that fan-out and sending need. The link of an idle connection owns no
/// memory besides its own.
#[derive(Debug)]
pub struct Link<F> {
    /// The socket; `None` on long-polling.
    pub socket: Option<OwnedFd>,
    /// Head of the connection's subscriptions in the index.
    pub subscriptions: u32,
    /// Number of them that the directory counts.
    pub subscribed: u16,
    /// Whether the connection is in the list of connections to drain.
    pub is_dirty: bool,
    /// Whether the socket is full; the poller reports when it is writable.
    pub is_blocked: bool,
    /// Whether the connection is in the list of sockets to read.
    pub is_unread: bool,
    /// Whether the peer has closed its side: the socket is read until its end.
    pub has_ended: bool,
    /// What is true of few connections.
    marks: Marks,
    /// Whether the client takes what it is sent.
    pub progress: Progress,
    /// The tick of the timer wheel's live entry for the connection; 0 if it has no entry.
    pub tick: u64,
    /// Frames that the client has not taken.
    pub outbox: Outbox<F>,
    /// State that few connections have.
    pub rare: Option<Box<Rare>>,
}

/// Whether a client takes what it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The client takes it, as far as is known.
    Moving,
    /// The client took nothing when connections were last looked through, and has taken nothing
    /// since.
    Stuck,
    /// The client has left too much: the connection is closed at the end of the step.
    Doomed,
}

/// Two facts in one byte, because a link has no room for another.
#[derive(Clone, Copy, Debug)]
struct Marks(u8);

impl Marks {
    /// The node stops and takes the connection out of its channels.
    const LEAVING: u8 = 1;
    /// Messages of the connection may be compressed.
    const DEFLATES: u8 = 2;
}

/// State of a link that few connections have.
#[derive(Debug, Default)]
pub struct Rare {
    /// Documents to be read again, because the client did not keep up when they were published.
    pub stale: StaleDocuments,
    /// The resume state, if the session can be resumed.
    pub resume: Option<ResumeState>,
    /// How far a client has come in the channels of one stream.
    pub cursor: Option<Box<Cursor>>,
    /// Bytes that were taken out of the outbox to be encrypted, and that the socket has not taken.
    pub sealed: usize,
}

/// How far a session that can be resumed has come.
#[derive(Debug)]
pub struct ResumeState {
    /// The secret part of the session's private id, by which the resume log knows it.
    pub key: RecoveryKey,
    /// The last publications that its client was sent.
    pub sent: Sent,
    /// The version of the policies that let the session into the first of its channels.
    pub policies: Option<u64>,
    /// Set while the client resumes, until it is recovered.
    pub resuming: Option<Recovering>,
    /// What the nodes of a cluster know of the session; `None` if they know nothing.
    pub sharing: Option<Box<Sharing>>,
}

/// Where a resuming client gets what it has missed.
#[derive(Debug)]
pub enum Recovering {
    /// From the worker's own log.
    Log(Gap),
    /// From the cluster's stream, channel by channel.
    Stream(Box<Returning>),
}

/// A session that another node had.
#[derive(Debug)]
pub struct Returning {
    /// What that shared of it.
    pub session: SharedSession,
    /// What the client remembers of it.
    pub offset: Option<Mark>,
    /// The place of the word that this node has taken it over.
    pub taken: Offset,
    /// The tag of the stream's epoch in which the client has missed something.
    pub epoch: u32,
    /// The channels that are not joined yet.
    pub awaited: usize,
    /// Whether nothing is missing in `missed`.
    pub is_whole: bool,
    /// What the client missed until it joined each channel again, in no order.
    pub missed: Vec<Arc<Publication>>,
    /// Where the worker's log was when the client joined each channel again.
    pub joined: HashMap<Channel, Position>,
}

/// The part of the log that a resuming client has missed.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// The first position of the log that it may have missed.
    pub from: Position,
    /// The end of the log when its connection was cut.
    pub dropped: Position,
}

impl<F: Outgoing> Link<F> {
    /// Returns whether the socket has taken everything.
    pub fn is_drained(&self) -> bool {
        self.outbox.is_empty() && self.sealed() == 0
    }
}

impl<F> Link<F> {
    /// Creates the link of a connection that has nothing to send yet.
    pub fn new(socket: Option<OwnedFd>) -> Self {
        Self {
            socket,
            subscriptions: index::NONE,
            subscribed: 0,
            is_dirty: false,
            is_blocked: false,
            is_unread: false,
            has_ended: false,
            marks: Marks(0),
            progress: Progress::Moving,
            tick: 0,
            outbox: Outbox::default(),
            rare: None,
        }
    }

    /// Returns whether the node stops and takes the connection out of its channels.
    pub fn is_leaving(&self) -> bool {
        self.marks.0 & Marks::LEAVING != 0
    }

    /// Notes that the node stops and takes the connection out of its channels. Returns false if
    /// that was known.
    pub fn begin_leaving(&mut self) -> bool {
        let is_new = !self.is_leaving();
        self.marks.0 |= Marks::LEAVING;
        is_new
    }

    /// Returns whether messages may be compressed, because the client has negotiated that.
    pub fn deflates(&self) -> bool {
        self.marks.0 & Marks::DEFLATES != 0
    }

    /// Sets whether messages may be compressed.
    pub fn set_deflates(&mut self, deflates: bool) {
        self.marks.0 &= !Marks::DEFLATES;
        if deflates {
            self.marks.0 |= Marks::DEFLATES;
        }
    }

    /// Returns the resume state; `None` if the session cannot be resumed.
    pub fn resume(&self) -> Option<&ResumeState> {
        self.rare.as_ref()?.resume.as_ref()
    }

    /// Returns the resume state, to be changed.
    pub fn resume_mut(&mut self) -> Option<&mut ResumeState> {
        self.rare.as_mut()?.resume.as_mut()
    }

    /// Returns whether the session can be resumed at other nodes of a cluster, and is not being
    /// resumed here.
    pub fn goes_on_elsewhere(&self) -> bool {
        self.resume().is_some_and(|state| state.sharing.is_some() && state.resuming.is_none())
    }

    /// Makes the session one that can be resumed.
    pub fn set_resume(&mut self, state: ResumeState) {
        self.rare.get_or_insert_default().resume = Some(state);
    }

    /// Removes and returns the resume state, so that the session cannot be resumed any more.
    pub fn take_resume(&mut self) -> Option<ResumeState> {
        let state = self.rare.as_mut()?.resume.take();
        self.tidy();
        state
    }

    /// Returns how far the client has come in the channels of one stream, to be moved; `None` if
    /// its frames do not say so.
    pub fn cursor_mut(&mut self) -> Option<&mut Cursor> {
        self.rare.as_mut()?.cursor.as_deref_mut()
    }

    /// Takes the cursor away. Frames say no longer how far the client has come.
    pub fn take_cursor(&mut self) -> Option<Cursor> {
        let cursor = self.rare.as_mut()?.cursor.take();
        self.tidy();
        cursor.map(|cursor| *cursor)
    }

    /// Lets the client's frames say how far it has come in each of its channels.
    pub fn set_cursor(&mut self, cursor: Cursor) {
        self.rare.get_or_insert_default().cursor = Some(Box::new(cursor));
    }

    /// Notes that a publication was put into the outbox, if the session can be resumed.
    pub fn mark_sent(&mut self, mark: (Position, Mark)) {
        if let Some(state) = self.resume_mut() {
            state.sent.last = Some(mark);
        }
    }

    /// Returns how many encrypted bytes the socket has not taken. The outbox may hold less by as
    /// many.
    pub fn sealed(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.sealed)
    }

    /// Notes how many encrypted bytes the socket has not taken.
    pub fn set_sealed(&mut self, bytes: usize) {
        if bytes != self.sealed() {
            self.rare.get_or_insert_default().sealed = bytes;
            self.tidy();
        }
    }

    /// Returns whether the client has stale documents.
    pub fn is_stale(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.stale.is_empty())
    }

    /// Returns whether this document, or an earlier version of it, is stale.
    pub fn is_stale_in(&self, document: &Publication) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.stale.contains(document))
    }

    /// Changes which documents are stale, and returns the result of `change`.
    pub fn with_stale<R>(&mut self, change: impl FnOnce(&mut StaleDocuments) -> R) -> R {
        let result = change(&mut self.rare.get_or_insert_default().stale);
        self.tidy();
        result
    }

    fn tidy(&mut self) {
        let is_used = |rare: &Rare| {
            !rare.stale.is_empty()
                || rare.resume.is_some()
                || rare.cursor.is_some()
                || rare.sealed > 0
        };
        if !self.rare.as_deref().is_some_and(is_used) {
            self.rare = None;
        }
    }
}
