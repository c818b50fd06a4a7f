//! Sessions that can be resumed (Socket.IO calls it connection state recovery), and the log of what
//! they may have missed.
//!
//! While a session has no connection, the directory goes on giving its worker what is published on
//! its channels, and the worker's log has all of it in one order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::recovery::{Resume, encode_id};
use crate::broker::directory::Directory;
use crate::broker::link::ResumeState;
use crate::broker::resume_log::{Log, Position, Sent};
use crate::config::Recovery;
use crate::limits::{RECOVERABLE_CHANNELS_MAX, RECOVERABLE_MAX};
use crate::message::{
    Channel, ConnId, Credential, Encoding, Millis, PrivateId, RecoveryKey, WorkerId,
};

/// A worker's sessions that can be resumed.
#[derive(Debug)]
pub struct Detached {
    terms: Recovery,
    /// Tells this start of the node from all others.
    start: u64,
    /// What the worker took from its mailbox lately.
    pub log: Log,
    places: HashMap<RecoveryKey, Place>,
    /// Sessions without a connection, in the order in which they are discarded. Some of them have
    /// been resumed since.
    away: VecDeque<(Millis, RecoveryKey)>,
    /// How many sessions have no connection, and in how many channels they are together.
    sessions_away: usize,
    channels_away: usize,
}

/// What a client that wants to go on with an earlier session has shown.
#[derive(Debug)]
pub struct Resuming {
    /// The session, and what the client received of it last.
    pub resume: Resume,
    /// The client's credential, verified.
    pub credential: Arc<Credential>,
}

/// Where a session is.
#[derive(Debug)]
enum Place {
    /// It has this connection, as far as the worker knows.
    Here(ConnId),
    /// It has none.
    Away(Box<Away>),
}

/// What is kept of a session whose connection was cut.
#[derive(Debug)]
pub(super) struct Away {
    /// Names the session to other clients.
    pub(super) socket_key: [u8; 15],
    /// Whose session it is.
    pub(super) credential: Arc<Credential>,
    /// Its channels, with its encoding in each.
    pub(super) channels: Vec<(Channel, Encoding)>,
    /// What its client was sent.
    pub(super) sent: Sent,
    /// The end of the log when its connection was cut.
    pub(super) dropped: Position,
    /// See [`ResumeState::policies`].
    pub(super) policies: Option<u64>,
    /// When it is discarded.
    pub(super) until: Millis,
}

/// What a worker knows of a session that a client wants to resume.
#[derive(Debug)]
pub(super) enum Found {
    /// The worker does not have it.
    Nothing,
    /// It still has this connection.
    Here(ConnId),
    /// It has no connection, and is this client's.
    Theirs,
    /// It has no connection, and is another client's.
    Foreign,
}

impl Detached {
    /// Creates it without sessions and with an empty log.
    pub fn new(terms: Recovery, start: u64) -> Self {
        Self {
            terms,
            start,
            log: Log::new(terms.window_ms, terms.log_bytes),
            places: HashMap::new(),
            away: VecDeque::new(),
            sessions_away: 0,
            channels_away: 0,
        }
    }

    /// Discards sessions whose time to be resumed has passed, the oldest of those that are too
    /// many, and what is too old in the log.
    pub fn expire(&mut self, now: Millis, directory: &Directory, worker: WorkerId) {
        loop {
            self.log.trim(now);
            let Some(&(until, key)) = self.away.front() else { return };
            if until > now && !self.is_full() {
                return;
            }
            self.away.pop_front();
            // It may have been resumed, and cut again since.
            let is_due = |place: &Place| matches!(place, Place::Away(away) if away.until == until);
            if !self.places.get(&key).is_some_and(is_due) {
                continue;
            }
            if let Some(away) = self.returns(&key) {
                for (channel, _) in &away.channels {
                    directory.back(channel, worker);
                }
            }
        }
    }

    /// When the next session is discarded; `None` if there is none without a connection.
    pub fn next(&self) -> Option<Millis> {
        self.away.front().map(|(until, _)| *until)
    }

    /// The worker that a client must be moved to because it wants to resume a session of that one;
    /// `None` if it must not. There are `workers` of them, and the client is at `here`.
    pub(super) fn home(&self, id: &PrivateId, here: WorkerId, workers: usize) -> Option<WorkerId> {
        let is_ours = id.start == self.start;
        let is_known = id.worker.index() < workers;
        (is_ours && is_known && id.worker != here).then_some(id.worker)
    }

    /// Whether a private id was given out by this worker since the node's start.
    pub(super) fn is_from_here(&self, id: &PrivateId, here: WorkerId) -> bool {
        id.start == self.start && id.worker == here
    }

    /// Begins a session with this connection, at the end of the log.
    pub(super) fn begin(&mut self, key: RecoveryKey, connection: ConnId) -> ResumeState {
        let sent = Sent { connected: self.log.end(), replayed: None, last: None };
        self.stays(key, connection);
        ResumeState { key, sent, policies: None, resuming: None }
    }

    /// The id by which a client names one of this worker's sessions later.
    pub(super) fn private_id(&self, key: RecoveryKey, here: WorkerId) -> String {
        encode_id(&PrivateId { worker: here, start: self.start, key })
    }

    /// Looks for the session that a client wants to resume.
    pub(super) fn find(&self, key: &RecoveryKey, credential: &Credential) -> Found {
        match self.places.get(key) {
            None => Found::Nothing,
            Some(Place::Here(connection)) => Found::Here(*connection),
            Some(Place::Away(away)) if is_same_client(&away.credential, credential) => {
                Found::Theirs
            }
            Some(Place::Away(_)) => Found::Foreign,
        }
    }

    /// Notes that a session has this connection.
    pub(super) fn stays(&mut self, key: RecoveryKey, connection: ConnId) {
        self.places.insert(key, Place::Here(connection));
    }

    /// Notes that a session has no connection from now on.
    pub(super) fn leaves(&mut self, key: RecoveryKey, away: Away) {
        self.sessions_away += 1;
        self.channels_away += away.channels.len();
        self.away.push_back((away.until, key));
        self.places.insert(key, Place::Away(Box::new(away)));
    }

    /// Takes a session out that has no connection. `None` if there is no such session.
    pub(super) fn returns(&mut self, key: &RecoveryKey) -> Option<Box<Away>> {
        let Some(Place::Away(away)) = self.places.remove(key) else { return None };
        self.sessions_away -= 1;
        self.channels_away -= away.channels.len();
        Some(away)
    }

    /// Forgets a session that has a connection and cannot be resumed.
    pub(super) fn forget(&mut self, key: &RecoveryKey) {
        self.places.remove(key);
    }

    /// When a session that is cut now is discarded.
    pub(super) fn until(&self, now: Millis) -> Millis {
        now + self.terms.window_ms
    }

    /// Whether more sessions have no connection than may.
    fn is_full(&self) -> bool {
        self.sessions_away > RECOVERABLE_MAX || self.channels_away > RECOVERABLE_CHANNELS_MAX
    }
}

/// Whether two credentials are the same client's. A session is its client's alone. When the token
/// expires makes no difference: that concerns the new connection only.
pub(super) fn is_same_client(one: &Credential, other: &Credential) -> bool {
    (&one.id, &one.email, &one.role, one.is_user)
        == (&other.id, &other.email, &other.role, other.is_user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Role;

    const HERE: WorkerId = WorkerId(0);
    const CONNECTION: ConnId = ConnId { worker: HERE, slot: 1, generation: 0 };

    fn detached() -> Detached {
        Detached::new(Recovery { window_ms: 100, log_bytes: 1_000_000 }, 7)
    }

    fn credential(id: &str) -> Arc<Credential> {
        let (email, role) = (None, Role::Authenticated);
        Arc::new(Credential { id: id.into(), email, role, is_user: true, expires_at: None })
    }

    fn away(id: &str, until: Millis) -> Away {
        Away {
            socket_key: [0; 15],
            credential: credential(id),
            channels: vec![(Channel::from("a"), Encoding::Sdk)],
            sent: Sent { connected: 0, replayed: None, last: None },
            dropped: 0,
            policies: None,
            until,
        }
    }

    #[test]
    fn a_session_is_its_clients_alone() {
        let (mut detached, key) = (detached(), [1; 15]);
        assert!(matches!(detached.find(&key, &credential("alice")), Found::Nothing));
        detached.begin(key, CONNECTION);
        let found = detached.find(&key, &credential("bob"));
        assert!(matches!(found, Found::Here(CONNECTION)));
        detached.leaves(key, away("alice", 100));
        assert!(matches!(detached.find(&key, &credential("bob")), Found::Foreign));
        assert!(matches!(detached.find(&key, &credential("alice")), Found::Theirs));
        assert!(detached.returns(&key).is_some());
        assert!(detached.returns(&key).is_none());
        assert_eq!((detached.sessions_away, detached.channels_away), (0, 0));
    }

    #[test]
    fn sessions_expire_unless_they_were_resumed_and_cut_again() {
        let (mut detached, directory, key) = (detached(), Directory::default(), [1; 15]);
        for until in [100, 150] {
            directory.away(&Channel::from("a"), HERE);
            detached.leaves(key, away("alice", until));
            if until == 100 {
                assert!(detached.returns(&key).is_some());
                directory.back(&Channel::from("a"), HERE);
            }
        }
        assert_eq!(detached.next(), Some(100));
        detached.expire(120, &directory, HERE);
        assert_eq!((detached.next(), directory.channels()), (Some(150), 1));
        detached.expire(150, &directory, HERE);
        assert_eq!((detached.next(), directory.channels()), (None, 0));
        assert!(matches!(detached.find(&key, &credential("alice")), Found::Nothing));
    }

    #[test]
    fn home_is_another_worker_of_this_start() {
        let detached = detached();
        let id = |worker, start| PrivateId { worker: WorkerId(worker), start, key: [1; 15] };
        assert_eq!(detached.home(&id(1, 7), HERE, 2), Some(WorkerId(1)));
        assert_eq!(detached.home(&id(0, 7), HERE, 2), None, "the client is there");
        assert_eq!(detached.home(&id(1, 8), HERE, 2), None, "an earlier start");
        assert_eq!(detached.home(&id(2, 7), HERE, 2), None, "no such worker");
    }
}
