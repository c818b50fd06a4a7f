//! Connection state recovery (contract section 7.7): a client whose connection was cut comes back
//! to its subscriptions and is given what it missed, or is told that it cannot be.
//!
//! While a session is away the directory goes on giving its worker what is published on its
//! channels, and the worker's log has all of it in one order. A session that comes back is counted
//! in its channels again, each of which puts mail into the worker's own mailbox, and behind all of
//! that stands [`Mail::Recover`]: when it comes up, what was missed is in the log up to this place
//! and nothing of it is in any outbox, and from here on the session hears its channels as before.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::close::{self, Reason};
use super::frame::Frame;
use super::{Worker, command};
use crate::config;
use crate::engine::log::{Log, Position, Sent};
use crate::hub::message_id;
use crate::limits::{
    RECOVERABLE_CHANNELS_MAX, RECOVERABLE_MAX, RECOVERY_BYTES_MAX, RECOVERY_PUBLICATIONS_MAX,
};
use crate::mailbox::{Mail, Slot};
use crate::message::{
    Channel, ConnId, Credential, Group, Millis, PresenceMode, PrivateId, Publication, RecoveryKey,
    WorkerId,
};
use crate::protocol::recovery::{Resume, encode_id};
use crate::protocol::{insforge, socketio};

/// What a worker knows about sessions that may come back.
#[derive(Debug)]
pub(super) struct Recovery {
    /// See [`Hub::start`](crate::hub::Hub::start).
    start: u64,
    terms: config::Recovery,
    log: Log,
    places: HashMap<RecoveryKey, Place>,
    /// Those who are away, in the order in which they are given up, with some who came back since.
    away: VecDeque<(Millis, RecoveryKey)>,
    /// How many are away, and of how many channels together.
    sessions_away: usize,
    channels_away: usize,
}

/// Where a session is.
#[derive(Debug)]
enum Place {
    /// It has this connection, as far as the worker knows.
    Here(ConnId),
    /// It is away.
    Away(Box<Away>),
}

/// What is kept of a session whose connection was cut.
#[derive(Debug)]
struct Away {
    socket_key: [u8; 15],
    credential: Arc<Credential>,
    channels: Vec<(Channel, Group)>,
    sent: Sent,
    /// The end of the log when it was cut.
    dropped: Position,
    /// See [`Lineage::policies`].
    policies: Option<u64>,
    until: Millis,
}

/// Which session a connection goes on with.
#[derive(Debug)]
pub(super) struct Lineage {
    key: RecoveryKey,
    sent: Sent,
    /// The version of the policies that let it into the first of its channels.
    policies: Option<u64>,
    /// It comes back, and is not yet told so.
    comes_back: Option<Return>,
}

#[derive(Clone, Copy, Debug)]
struct Return {
    /// From where on it has missed what there was.
    from: Position,
    /// See [`Away::dropped`].
    dropped: Position,
}

impl Recovery {
    /// With nothing to come back to yet.
    pub(super) fn new(terms: config::Recovery, start: u64) -> Self {
        let log = Log::new(terms.window_ms, terms.log_bytes);
        Self {
            start,
            terms,
            log,
            places: HashMap::new(),
            away: VecDeque::new(),
            sessions_away: 0,
            channels_away: 0,
        }
    }

    /// Whether there are more away than may be.
    fn is_full(&self) -> bool {
        self.sessions_away > RECOVERABLE_MAX || self.channels_away > RECOVERABLE_CHANNELS_MAX
    }

    /// Somebody is away from now on.
    fn leaves(&mut self, key: RecoveryKey, away: Away) {
        self.sessions_away += 1;
        self.channels_away += away.channels.len();
        self.away.push_back((away.until, key));
        self.places.insert(key, Place::Away(Box::new(away)));
    }

    /// Whoever is away under this key is so no longer.
    fn returns(&mut self, key: &RecoveryKey) -> Option<Box<Away>> {
        let Some(Place::Away(away)) = self.places.remove(key) else { return None };
        self.sessions_away -= 1;
        self.channels_away -= away.channels.len();
        Some(away)
    }
}

/// Enters a publication into the log and notes it for everybody who was given it.
pub(super) fn note(worker: &mut Worker, publication: &Arc<Publication>) {
    let Some(recovery) = worker.recovery.as_mut().filter(|_| publication.is_recoverable) else {
        return;
    };
    let position = recovery.log.heard(publication.clone(), worker.now);
    for &group in publication.channel.groups() {
        for listener in worker.index.listeners(&publication.channel, group) {
            let connection = worker.connections.get_mut(listener.connection);
            let session = connection.and_then(|connection| connection.session());
            if let Some(lineage) = session.and_then(|session| session.lineage.as_mut()) {
                lineage.sent.last = Some((position, publication.id));
            }
        }
    }
}

/// Notes what a connection was given, last of all, of a channel that it has begun to hear.
pub(super) fn note_replay(worker: &mut Worker, id: ConnId, last: &Publication) {
    let Some(end) = worker.recovery.as_ref().map(|recovery| recovery.log.end()) else { return };
    let Some(lineage) = worker.session(id).and_then(|session| session.lineage.as_mut()) else {
        return;
    };
    lineage.sent.replayed = Some((end, last.id));
    lineage.sent.last = lineage.sent.replayed;
}

/// Notes that policies let a client hear a channel.
pub(super) fn note_permission(worker: &mut Worker, id: ConnId) {
    if worker.recovery.is_none() {
        return;
    }
    let version = worker.verdicts.judged_by();
    if let Some(lineage) = worker.session(id).and_then(|session| session.lineage.as_mut()) {
        lineage.policies.get_or_insert(version);
    }
}

/// Notes that a connection hears a channel from now on.
pub(super) fn note_beginning(worker: &mut Worker, id: ConnId, channel: &Channel) {
    note_change(worker, id, channel, Log::began);
}

/// Notes that a connection hears a channel no longer.
pub(super) fn note_end(worker: &mut Worker, id: ConnId, channel: &Channel) {
    note_change(worker, id, channel, Log::ended);
}

fn note_change(
    worker: &mut Worker,
    id: ConnId,
    channel: &Channel,
    note: fn(&mut Log, RecoveryKey, Channel, Millis),
) {
    let Some(key) = worker.session(id).and_then(|session| Some(session.lineage.as_ref()?.key))
    else {
        return;
    };
    let now = worker.now;
    if let Some(recovery) = &mut worker.recovery {
        note(&mut recovery.log, key, channel.clone(), now);
    }
}

/// A session begins with this connection. The id by which it can be gone on with, where it can be.
pub(super) fn begin(worker: &mut Worker, id: ConnId) -> Option<String> {
    let worker_id = worker.id;
    let recovery = worker.recovery.as_mut()?;
    let (key, start) = (rand::random(), recovery.start);
    let sent = Sent { connected: recovery.log.end(), replayed: None, last: None };
    let session = worker.connections.by_id(id)?.session()?;
    session.lineage = Some(Box::new(Lineage { key, sent, policies: None, comes_back: None }));
    recovery.places.insert(key, Place::Here(id));
    Some(encode_id(&PrivateId { worker: worker_id, start, key }))
}

/// The worker that a client must be brought to, if it wants to come back to a session of another.
pub(super) fn home(worker: &Worker, resume: &Resume) -> Option<WorkerId> {
    let recovery = worker.recovery.as_ref()?;
    let is_ours = resume.id.start == recovery.start;
    let is_known = resume.id.worker.index() < worker.hub.mailboxes.workers.len();
    (is_ours && is_known && resume.id.worker != worker.id).then_some(resume.id.worker)
}

/// Brings a client back to its session: the answer to its CONNECT follows with
/// [`Mail::Recover`]. False where there is nothing to come back to.
pub(super) fn resume(
    worker: &mut Worker,
    id: ConnId,
    resume: &Resume,
    credential: &Arc<Credential>,
) -> bool {
    if worker.recovery.is_none() {
        return false;
    }
    let came_back = come_back(worker, id, resume, credential);
    if let Err(why) = came_back {
        worker.counters.not_recovered.add(1);
        tracing::debug!(why, "a client is not recovered");
    }
    came_back.is_ok()
}

fn come_back(
    worker: &mut Worker,
    id: ConnId,
    resume: &Resume,
    credential: &Arc<Credential>,
) -> Result<(), &'static str> {
    const UNKNOWN: &str = "its session is not known";
    let key = resume.id.key;
    let recovery = worker.recovery.as_ref().ok_or(UNKNOWN)?;
    if resume.id.start != recovery.start || resume.id.worker != worker.id {
        return Err("its session is another node's, or of an earlier start");
    }
    if let Place::Here(old) = *recovery.places.get(&key).ok_or(UNKNOWN)? {
        // The cut was not noticed here yet.
        let held = worker.session(old).and_then(|session| session.credential.clone());
        if !held.is_some_and(|held| is_same(&held, credential)) {
            return Err("its session is somebody else's");
        }
        close::now(worker, old.slot, Reason::Client);
    }
    let recovery = worker.recovery.as_mut().ok_or(UNKNOWN)?;
    match recovery.places.get(&key) {
        Some(Place::Away(away)) if is_same(&away.credential, credential) => {}
        Some(Place::Away(_)) => return Err("its session is somebody else's"),
        _ => return Err(UNKNOWN),
    }
    let away = recovery.returns(&key).ok_or(UNKNOWN)?;
    let came_back = rejoin(worker, id, resume, credential, &away);
    for (channel, _) in &away.channels {
        worker.hub.directory.back(channel, worker.id);
    }
    came_back
}

/// A session is its owner's alone. When the token expires is the new connection's own affair.
fn is_same(one: &Credential, other: &Credential) -> bool {
    (&one.id, &one.email, &one.role, one.is_user)
        == (&other.id, &other.email, &other.role, other.is_user)
}

/// Counts the session in all of its channels again, or in none.
fn rejoin(
    worker: &mut Worker,
    id: ConnId,
    resume: &Resume,
    credential: &Arc<Credential>,
    away: &Away,
) -> Result<(), &'static str> {
    const GONE: &str = "its connection is gone";
    let key = resume.id.key;
    let log = worker.recovery.as_ref().map(|recovery| &recovery.log).ok_or(GONE)?;
    let from = log.resume_from(&away.sent, away.dropped, resume.offset);
    let from = from.ok_or("what it missed is not known, or is no longer in the log")?;
    let policies = worker.hub.policies.load().version();
    if away.policies.is_some_and(|version| version != policies) {
        return Err("policies have changed meanwhile");
    }
    let definitions = worker.hub.definitions.load();
    if away.channels.iter().any(|(channel, _)| definitions.find(channel.as_str()).is_none()) {
        return Err("a channel of it may not be used any more");
    }
    drop(definitions);
    let hub = worker.hub.clone();
    let place = hub.mailboxes.workers.of(worker.id).reserve(Slot::Control);
    let place = place.ok_or("the worker's mailbox is full")?;
    let session = worker.session(id).ok_or(GONE)?;
    let own_key = std::mem::replace(&mut session.socket_key, away.socket_key);
    session.credential = Some(credential.clone());
    let joined =
        away.channels.iter().all(|(channel, group)| command::rejoin(worker, id, channel, *group));
    if !joined {
        command::leave_everything(worker, id.slot);
        worker.session(id).ok_or(GONE)?.socket_key = own_key;
        return Err("a worker's mailbox is full");
    }
    let comes_back = Some(Return { from, dropped: away.dropped });
    let session = worker.session(id).ok_or(GONE)?;
    session.lineage =
        Some(Box::new(Lineage { key, sent: away.sent, policies: away.policies, comes_back }));
    if let Some(recovery) = &mut worker.recovery {
        recovery.places.insert(key, Place::Here(id));
    }
    place.post(Mail::Recover(id));
    Ok(())
}

/// Gives a session that came back what it missed, and its channels.
pub(super) fn recover(worker: &mut Worker, id: ConnId) {
    let Some(connection) = worker.connections.by_id(id) else { return };
    let first = connection.subscriptions;
    let Some(session) = connection.session() else { return };
    let socket_id = session.socket_id();
    let Some(lineage) = &mut session.lineage else { return };
    let Some(Return { from, .. }) = lineage.comes_back.take() else { return };
    let (key, offset) = (lineage.key, lineage.sent);
    let groups: HashMap<Channel, Group> =
        worker.index.of(first).map(|(channel, counted)| (channel.clone(), counted.group)).collect();
    let Some(recovery) = &worker.recovery else { return };
    let missed = recovery.log.missed(&key, from, |channel| groups.contains_key(channel));
    if recovery.log.start() > from || !fits(&missed) {
        return begin_anew(worker, id);
    }
    let private_id = encode_id(&PrivateId { worker: worker.id, start: recovery.start, key });
    if let Some(session) = worker.session(id) {
        session.namespaces |= 1;
        if let Some(lineage) = &mut session.lineage {
            let last = missed.last().map(|(position, one)| (*position, one.id));
            lineage.sent = Sent { last: last.or(offset.last), ..offset };
        }
    }
    worker.send_text(id.slot, &socketio::connected_for_good(&socket_id, &private_id));
    give(worker, id, &missed, &groups);
    for (channel, group) in &groups {
        worker.index.activate(first, channel, *group);
        sync_presence(worker, id, channel);
    }
    worker.schedule(id.slot);
    worker.counters.recovered.add(1);
    worker.counters.recovered_publications.add(missed.len() as u64);
}

/// Whether an outbox would hold it with room to spare.
fn fits(missed: &[(Position, Arc<Publication>)]) -> bool {
    let bytes: usize = missed.iter().map(|(_, one)| one.content.bytes() + ENVELOPE_BYTES).sum();
    missed.len() <= RECOVERY_PUBLICATIONS_MAX && bytes <= RECOVERY_BYTES_MAX
}

/// What a dialect puts around a publication, at most, for a channel of ordinary length.
const ENVELOPE_BYTES: usize = 512;

fn give(
    worker: &mut Worker,
    id: ConnId,
    missed: &[(Position, Arc<Publication>)],
    groups: &HashMap<Channel, Group>,
) {
    for (_, publication) in missed {
        let Some(group) = groups.get(&publication.channel) else { continue };
        let frame = Frame::of(publication, *group);
        let Some(connection) = worker.connections.by_id(id) else { return };
        worker.counters.matched.add(1);
        if !worker.drain.push(id.slot, connection, frame) {
            worker.counters.dropped_slow_consumer.add(1);
        }
    }
}

/// Joins and leaves are not given again: who is there now comes in their place.
fn sync_presence(worker: &mut Worker, id: ConnId, channel: &Channel) {
    let definitions = worker.hub.definitions.load();
    let is_full = definitions
        .find(channel.as_str())
        .is_some_and(|definition| definition.options.presence == PresenceMode::Full);
    drop(definitions);
    if !is_full {
        return;
    }
    let Some((presence, present)) = worker.hub.directory.present(channel) else { return };
    let now = worker.hub.clock.wall();
    let text = insforge::presence_sync(channel, &presence, present, (message_id(now), now));
    worker.send_text(id.slot, &text);
}

/// What it missed is gone after all: the client is let in as a new one.
fn begin_anew(worker: &mut Worker, id: ConnId) {
    let Some(session) = worker.session(id) else { return };
    let credential = session.credential.clone();
    forget(worker, id);
    command::leave_everything(worker, id.slot);
    worker.counters.not_recovered.add(1);
    tracing::debug!("a client is not recovered: what it missed does not fit, or has just gone");
    if let Some(session) = worker.session(id) {
        session.socket_key = rand::random();
        session.credential = credential;
    }
    super::session::welcome(worker, id);
}

/// The client has left for good: there is nothing to come back to.
pub(super) fn forget(worker: &mut Worker, id: ConnId) {
    let Some(lineage) = worker.session(id).and_then(|session| session.lineage.take()) else {
        return;
    };
    if let Some(recovery) = &mut worker.recovery {
        recovery.places.remove(&lineage.key);
    }
}

/// Keeps what a session needs to come back. To be called while it is still in its channels.
pub(super) fn keep(worker: &mut Worker, slot: u32, reason: Reason) {
    let id = worker.connections.id(slot);
    if !reason.may_come_back() {
        return forget(worker, id);
    }
    let Some(connection) = worker.connections.by_id(id) else { return };
    let first = connection.subscriptions;
    let Some(session) = connection.session() else { return };
    let (socket_key, credential) = (session.socket_key, session.credential.clone());
    let (Some(lineage), Some(credential)) = (session.lineage.take(), credential) else { return };
    let channels: Vec<(Channel, Group)> =
        worker.index.of(first).map(|(channel, counted)| (channel.clone(), counted.group)).collect();
    for (channel, _) in &channels {
        worker.hub.directory.away(channel, worker.id);
    }
    let policies = lineage.policies;
    let Some(recovery) = &mut worker.recovery else { return };
    let dropped = lineage.comes_back.map_or(recovery.log.end(), |back| back.dropped);
    let until = worker.now + recovery.terms.window_ms;
    let sent = lineage.sent;
    let away = Away { socket_key, credential, channels, sent, dropped, policies, until };
    recovery.leaves(lineage.key, away);
    expire(worker);
}

/// Gives up whom nobody waits for any longer.
pub(super) fn expire(worker: &mut Worker) {
    let now = worker.now;
    while let Some(recovery) = &mut worker.recovery {
        recovery.log.trim(now);
        let Some(&(until, key)) = recovery.away.front() else { return };
        if until > now && !recovery.is_full() {
            return;
        }
        recovery.away.pop_front();
        // It may have come back, and been cut again since.
        let is_due = |place: &Place| matches!(place, Place::Away(away) if away.until == until);
        if !recovery.places.get(&key).is_some_and(is_due) {
            continue;
        }
        if let Some(away) = recovery.returns(&key) {
            for (channel, _) in &away.channels {
                worker.hub.directory.back(channel, worker.id);
            }
        }
    }
}

/// When somebody is to be given up next.
pub(super) fn next(worker: &Worker) -> Option<Millis> {
    worker.recovery.as_ref()?.away.front().map(|(until, _)| *until)
}
