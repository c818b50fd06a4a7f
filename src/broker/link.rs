//! The broker's part of a connection: its socket, its outbox, and the head of its subscriptions.
//! Fan-out touches nothing else of a connection.

use std::os::fd::OwnedFd;

use crate::broker::cursor::Cursor;
use crate::broker::index;
use crate::broker::outbox::Outbox;
use crate::broker::resume_log::{Position, Sent};
use crate::broker::stale::StaleDocuments;
use crate::message::{MessageId, Publication, RecoveryKey};

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
    /// Whether the node stops and takes the connection out of its channels.
    pub is_leaving: bool,
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

/// State of a link that few connections have.
#[derive(Debug, Default)]
pub struct Rare {
    /// Documents to be read again, because the client did not keep up when they were published.
    pub stale: StaleDocuments,
    /// The resume state, if the session can be resumed.
    pub resume: Option<ResumeState>,
    /// How far a client has come in the channels of one stream.
    pub cursor: Option<Box<Cursor>>,
}

/// How far a session that can be resumed has come.
#[derive(Clone, Copy, Debug)]
pub struct ResumeState {
    /// The secret part of the session's private id, by which the resume log knows it.
    pub key: RecoveryKey,
    /// The last publications that its client was sent.
    pub sent: Sent,
    /// The version of the policies that let the session into the first of its channels.
    pub policies: Option<u64>,
    /// Set while the client resumes, until it is recovered.
    pub resuming: Option<Gap>,
}

/// The part of the log that a resuming client has missed.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// The first position of the log that it may have missed.
    pub from: Position,
    /// The end of the log when its connection was cut.
    pub dropped: Position,
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
            is_leaving: false,
            progress: Progress::Moving,
            tick: 0,
            outbox: Outbox::default(),
            rare: None,
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
    pub fn mark_sent(&mut self, mark: (Position, MessageId)) {
        if let Some(state) = self.resume_mut() {
            state.sent.last = Some(mark);
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
        let is_used =
            |rare: &Rare| !rare.stale.is_empty() || rare.resume.is_some() || rare.cursor.is_some();
        if !self.rare.as_deref().is_some_and(is_used) {
            self.rare = None;
        }
    }
}
