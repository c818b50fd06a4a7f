//! Sessions that can be resumed (Socket.IO calls this connection state recovery), and the resume
//! log, which holds the publications that they may have missed.
//!
//! While a session is detached, the directory goes on posting the publications of its channels to
//! its worker, and the worker enters all of them into its resume log in one order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::recovery::Resume;
use crate::broker::budget::Deflated;
use crate::broker::directory::Directory;
use crate::broker::link::ResumeState;
use crate::broker::resume_log::{Log, Position, Sent};
use crate::broker::sharing::Sharing;
use crate::config::Recovery;
use crate::interface::member::SocketKey;
use crate::limits::{RECOVERABLE_CHANNELS_MAX, RECOVERABLE_MAX};
use crate::message::{
    Channel, ConnId, Credential, Encoding, Millis, PrivateId, RecoveryKey, SessionWish, WorkerId,
};

/// A worker's sessions that can be resumed.
#[derive(Debug)]
pub struct Detached {
    terms: Recovery,
    /// A value that identifies this start of the node.
    start: u64,
    /// The resume log: what the worker took from its mailbox lately.
    pub log: Log,
    places: HashMap<RecoveryKey, Place>,
    /// Detached sessions with the time at which each is discarded, in milliseconds since the node
    /// started, in that order. An entry stays here after its session was resumed.
    away: VecDeque<(Millis, RecoveryKey)>,
    /// Sessions that are to be shared with other nodes, each with the time, in that order.
    changed: VecDeque<(Millis, RecoveryKey)>,
    /// Sessions whose last word to the nodes is to be said again, in the same way.
    said: VecDeque<(Millis, RecoveryKey)>,
    /// The number of detached sessions, and of the channels of all of them together.
    sessions_away: usize,
    channels_away: usize,
}

/// The verified request of a client to resume an earlier session.
#[derive(Clone, Debug)]
pub struct Resuming {
    /// The session, and the last publication that the client received.
    pub resume: Resume,
    /// The credential in the request, verified.
    pub credential: Arc<Credential>,
}

/// A session that is to be shared with other nodes.
#[derive(Clone, Copy, Debug)]
pub struct ToShare {
    /// The session.
    pub key: RecoveryKey,
    /// Whether its last word is to be said again, although nothing may have changed.
    pub is_again: bool,
}

/// The state of a session that can be resumed.
#[derive(Debug)]
enum Place {
    /// It has this connection. The connection may have been cut without the worker's notice.
    Here(ConnId),
    /// It has no connection, only this state.
    Away(Box<Away>),
}

/// A detached session: the state that is needed to resume it.
#[derive(Debug)]
pub(super) struct Away {
    /// The key of the client's socket id.
    pub(super) socket_key: SocketKey,
    /// The credential of the client that the session belongs to.
    pub(super) credential: Arc<Credential>,
    /// The channels that it is subscribed to, with the encoding of each subscription.
    pub(super) channels: Vec<(Channel, Encoding)>,
    /// The last publications that were sent to its client.
    pub(super) sent: Sent,
    /// The end of the resume log when its connection ended.
    pub(super) dropped: Position,
    /// See [`ResumeState::policies`].
    pub(super) policies: Option<u64>,
    /// See [`ResumeState::sharing`].
    pub(super) sharing: Option<Box<Sharing>>,
    /// When it is discarded, in milliseconds since the node started.
    pub(super) until: Millis,
}

/// The result of [`Detached::find`] for a client that wants to resume a session.
#[derive(Debug)]
pub(super) enum Found {
    /// The worker does not know the session.
    Nothing,
    /// The session still has this connection.
    Here(ConnId),
    /// The session is detached and belongs to the client.
    Theirs,
    /// The session is detached and belongs to another client.
    Foreign,
}

impl Detached {
    /// Creates a worker's state, without sessions and with an empty log. `start` identifies the
    /// start of the node.
    pub fn new(terms: Recovery, start: u64, deflated: Deflated) -> Self {
        Self {
            terms,
            start,
            log: Log::new(terms.window_ms, terms.log_bytes).with_deflated(deflated),
            places: HashMap::new(),
            away: VecDeque::new(),
            changed: VecDeque::new(),
            said: VecDeque::new(),
            sessions_away: 0,
            channels_away: 0,
        }
    }

    /// Discards detached sessions whose time has passed, then the oldest while there are more than
    /// [`RECOVERABLE_MAX`] sessions or [`RECOVERABLE_CHANNELS_MAX`] channels, and drops expired
    /// entries of the log. Returns what the nodes of a cluster are to know of the discarded ones.
    pub fn expire(
        &mut self,
        now: Millis,
        directory: &Directory,
        worker: WorkerId,
    ) -> Vec<(RecoveryKey, SessionWish)> {
        let mut ended = Vec::new();
        loop {
            self.log.trim(now);
            let Some(&(until, key)) = self.away.front() else { return ended };
            if until > now && !self.is_full() {
                return ended;
            }
            self.away.pop_front();
            // The session may have been resumed since, and even detached again with a later time.
            let is_due = |place: &Place| matches!(place, Place::Away(away) if away.until == until);
            if !self.places.get(&key).is_some_and(is_due) {
                continue;
            }
            if let Some(away) = self.returns(&key) {
                for (channel, _) in &away.channels {
                    directory.back(channel, worker);
                }
                let end = away.sharing.and_then(|sharing| sharing.end());
                ended.extend(end.map(|end| (key, end)));
            }
        }
    }

    /// Returns the time of the next call to [`Detached::expire`] or [`Detached::next_to_share`], in
    /// milliseconds since the node started; `None` if no entry waits.
    pub fn next(&self) -> Option<Millis> {
        let fronts = [&self.away, &self.changed, &self.said].map(|all| all.front());
        fronts.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// Notes that a session is to be shared with other nodes at this time, or that its last word is
    /// to be said again then if `is_again`, unless that is noted already.
    pub(super) fn note(
        &mut self,
        key: RecoveryKey,
        sharing: &mut Sharing,
        at: Millis,
        is_again: bool,
    ) {
        if !std::mem::replace(&mut sharing.is_noted[usize::from(is_again)], true) {
            let list = if is_again { &mut self.said } else { &mut self.changed };
            list.push_back((at, key));
        }
    }

    /// Returns a session that is to be shared with other nodes now; `None` if no session is due.
    pub fn next_to_share(&mut self, now: Millis) -> Option<ToShare> {
        for (at, all) in [&mut self.changed, &mut self.said].into_iter().enumerate() {
            if let Some((_, key)) = all.pop_front_if(|(due, _)| *due <= now) {
                return Some(ToShare { key, is_again: at == 1 });
            }
        }
        None
    }

    /// Returns the detached sessions of which the other nodes lack something.
    pub fn untold(&self) -> Vec<RecoveryKey> {
        let lacks = |sharing: &Sharing| !sharing.is_idle() || sharing.is_changed();
        let untold = self.places.iter().filter(|(_, place)| match place {
            Place::Away(away) => away.sharing.as_deref().is_some_and(lacks),
            Place::Here(_) => false,
        });
        untold.map(|(key, _)| *key).collect()
    }

    /// Returns the connection of a session; `None` if it has none.
    pub fn connection(&self, key: &RecoveryKey) -> Option<ConnId> {
        match self.places.get(key)? {
            Place::Here(connection) => Some(*connection),
            Place::Away(_) => None,
        }
    }

    /// Returns a detached session.
    pub(super) fn away_mut(&mut self, key: &RecoveryKey) -> Option<&mut Away> {
        match self.places.get_mut(key)? {
            Place::Away(away) => Some(away),
            Place::Here(_) => None,
        }
    }

    /// Returns the worker that holds the session `id`, if the client must move there to resume it.
    /// Returns `None` if the client, which is at worker `here`, must stay: the session is held
    /// there, or is from another start of the node, or names none of the `workers` workers. If
    /// sessions are shared with other nodes, each has a worker on every node.
    pub(super) fn home(
        &self,
        id: &PrivateId,
        here: WorkerId,
        (workers, are_shared): (usize, bool),
    ) -> Option<WorkerId> {
        let is_ours = id.start == self.start;
        let home = match are_shared {
            true => id.worker.index() % workers,
            false => id.worker.index(),
        };
        let home = WorkerId(u8::try_from(home).ok()?);
        let is_known = home.index() < workers;
        ((is_ours || are_shared) && is_known && home != here).then_some(home)
    }

    /// Returns whether this worker, `here`, created a private id since the node started.
    pub(super) fn is_from_here(&self, id: &PrivateId, here: WorkerId) -> bool {
        id.start == self.start && id.worker == here
    }

    /// Begins a session that has this connection, at the end of the log.
    pub(super) fn begin(&mut self, key: RecoveryKey, connection: ConnId) -> ResumeState {
        let sent = Sent { connected: self.log.end(), replayed: None, last: None };
        self.stays(key, connection);
        ResumeState { key, sent, policies: None, resuming: None, sharing: None }
    }

    /// Returns the id by which the client can ask to resume the session later.
    pub(super) fn private_id(&self, state: &ResumeState, here: WorkerId) -> PrivateId {
        let own = PrivateId { worker: here, start: self.start, key: state.key };
        state.sharing.as_ref().map_or(own, |sharing| sharing.id)
    }

    /// Looks up the session that a client with this credential wants to resume.
    pub(super) fn find(&self, key: &RecoveryKey, credential: &Credential) -> Found {
        match self.places.get(key) {
            None => Found::Nothing,
            Some(Place::Here(connection)) => Found::Here(*connection),
            Some(Place::Away(away)) if away.credential.is_same_client(credential) => Found::Theirs,
            Some(Place::Away(_)) => Found::Foreign,
        }
    }

    /// Records that a session has this connection.
    pub(super) fn stays(&mut self, key: RecoveryKey, connection: ConnId) {
        self.places.insert(key, Place::Here(connection));
    }

    /// Adds a detached session.
    pub(super) fn leaves(&mut self, key: RecoveryKey, away: Away) {
        self.sessions_away += 1;
        self.channels_away += away.channels.len();
        self.away.push_back((away.until, key));
        self.places.insert(key, Place::Away(Box::new(away)));
    }

    /// Removes a detached session and returns it. If the session is not detached, this returns
    /// `None` and forgets the session.
    pub(super) fn returns(&mut self, key: &RecoveryKey) -> Option<Box<Away>> {
        let Some(Place::Away(away)) = self.places.remove(key) else { return None };
        self.sessions_away -= 1;
        self.channels_away -= away.channels.len();
        Some(away)
    }

    /// Forgets a session that has a connection, because it can no longer be resumed.
    pub(super) fn forget(&mut self, key: &RecoveryKey) {
        self.places.remove(key);
    }

    /// Returns when a session that is detached at `now` is discarded.
    pub(super) fn until(&self, now: Millis) -> Millis {
        now + self.terms.window_ms
    }

    /// Returns whether the detached sessions exceed a bound.
    fn is_full(&self) -> bool {
        self.sessions_away > RECOVERABLE_MAX || self.channels_away > RECOVERABLE_CHANNELS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Role;

    const HERE: WorkerId = WorkerId(0);
    const CONNECTION: ConnId = ConnId { worker: HERE, slot: 1, generation: 0 };

    fn detached() -> Detached {
        Detached::new(Recovery { window_ms: 100, log_bytes: 1_000_000 }, 7, Deflated::default())
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
            sharing: None,
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
        assert_eq!(detached.home(&id(1, 7), HERE, (2, false)), Some(WorkerId(1)));
        assert_eq!(detached.home(&id(0, 7), HERE, (2, false)), None, "the client is there");
        assert_eq!(detached.home(&id(1, 8), HERE, (2, false)), None, "an earlier start");
        assert_eq!(detached.home(&id(2, 7), HERE, (2, false)), None, "no such worker");
        let foreign = detached.home(&id(3, 8), HERE, (2, true));
        assert_eq!(foreign, Some(WorkerId(1)), "any node can resume it");
    }
}
