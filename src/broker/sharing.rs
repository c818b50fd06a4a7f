//! What the nodes of a cluster know of a session, so that each of them can resume it.
//!
//! Nothing that a client is told may be missing in what is shared when its node is killed. So the
//! nodes learn that a session changes before a subscribe or unsubscribe is carried out, and from
//! then on it cannot be resumed elsewhere; when it has not changed for a moment, they learn what it
//! is now. A session that no node can resume yet changes without a word.

use std::sync::Arc;

use crate::message::{
    Channel, Credential, Encoding, Mark, MarkPlace, NotShared, Offset, PrivateId, Replays,
    SessionWish, SharedChannel, SharedSession, SocketKey,
};

/// What is shared of a session.
#[derive(Debug)]
pub struct Sharing {
    /// The id by which its client asks to resume it. Another node may have made it.
    pub id: PrivateId,
    subscriptions: Vec<Subscription>,
    replays: Replays,
    replayed_at: Option<MarkPlace>,
    /// Whether the place of the last replay was not known.
    is_replay_open: bool,
    before: Option<Mark>,
    known: Known,
    under_way: Option<UnderWay>,
    is_changed: bool,
    has_failed: bool,
    /// Whether the node ends and has begun to say what the other nodes lack.
    is_ending: bool,
    /// Whether the session is in a list of those that are to be shared soon, and of those whose
    /// last word is to be said again.
    pub is_noted: [bool; 2],
}

#[derive(Debug)]
struct Subscription {
    channel: Channel,
    encoding: Encoding,
    /// `None` if the stream does not order the channel.
    since: Option<MarkPlace>,
}

/// The last word of the node on the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Nothing,
    /// That it changes, at this place.
    Changing(Offset),
    /// What it is, at this place.
    Session(Offset),
    /// The last word may have arrived, or the one before it is at this place.
    Unclear(Offset),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum UnderWay {
    Changing,
    Session,
}

/// Whether a session may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MayChange {
    /// It may.
    Now,
    /// Once the nodes have been told.
    Told,
    /// Once an answer has come.
    Answered,
    /// The nodes could not be told.
    Not,
}

/// Who a session belongs to, and where the stream is.
#[derive(Debug)]
pub struct Owner<'a> {
    /// The key of the client's socket id.
    pub socket_key: SocketKey,
    /// The client's credential.
    pub credential: &'a Arc<Credential>,
    /// See [`SharedSession::policies`]. `Err` if the policies have changed since.
    pub policies: Result<Option<u64>, ()>,
    /// Where the stream is; `None` if that is not known at the moment.
    pub place: Option<MarkPlace>,
}

/// What a client has missed of the channels of its session.
#[derive(PartialEq, Eq, Debug)]
pub struct Missed {
    /// The tag of the stream's epoch.
    pub epoch: u32,
    /// For each channel, the place behind which it has missed everything.
    pub behind: Vec<Offset>,
}

impl Sharing {
    /// Creates a session of which nothing is shared. `before` is what its client remembers of an
    /// earlier one.
    pub fn new(id: PrivateId, before: Option<Mark>) -> Self {
        Self {
            id,
            subscriptions: Vec::new(),
            replays: Replays::default(),
            replayed_at: None,
            is_replay_open: false,
            before,
            known: Known::Nothing,
            under_way: None,
            is_changed: false,
            has_failed: false,
            is_ending: false,
            is_noted: [false; 2],
        }
    }

    /// Creates the session that was taken over; the word of that has this place.
    pub fn of(id: PrivateId, session: &SharedSession, now: Offset) -> Self {
        let subscriptions = session.channels.iter().map(|one| Subscription {
            channel: one.channel.clone(),
            encoding: one.encoding,
            since: Some(one.since),
        });
        Self {
            subscriptions: subscriptions.collect(),
            replays: session.replays,
            replayed_at: session.replayed_at,
            known: Known::Changing(now),
            is_changed: true,
            ..Self::new(id, session.before)
        }
    }

    /// Notes that a subscription has begun or has another encoding.
    pub fn joined(&mut self, channel: &Channel, encoding: Encoding, since: Option<MarkPlace>) {
        self.is_changed = true;
        match self.subscriptions.iter_mut().find(|one| one.channel == *channel) {
            Some(known) => known.encoding = encoding,
            None => {
                self.subscriptions.push(Subscription { channel: channel.clone(), encoding, since });
            }
        }
    }

    /// Notes that a subscription has ended.
    pub fn left(&mut self, channel: &Channel) {
        self.is_changed = true;
        self.subscriptions.retain(|one| one.channel != *channel);
    }

    /// Notes that a subscription is sent earlier publications, while the stream is at this place.
    /// Returns what the client is to remember with the last of them.
    pub fn replayed(&mut self, place: Option<MarkPlace>) -> Option<Mark> {
        self.is_changed = true;
        self.replays = self.replays.next();
        self.is_replay_open = place.is_none();
        self.replayed_at = place.or(self.replayed_at);
        place.map(|place| Mark::Replays(place, self.replays))
    }

    /// Notes that something else of the session has changed, or may have.
    pub fn changed(&mut self) {
        self.is_changed = true;
    }

    /// Returns whether the session may change now, without a call of [`Sharing::may_change`].
    pub fn is_free(&self) -> bool {
        let is_known = matches!(self.known, Known::Session(_) | Known::Unclear(_));
        self.under_way.is_none() && !is_known && !self.has_failed
    }

    /// Returns whether the session may change now.
    pub fn may_change(&mut self) -> MayChange {
        if std::mem::take(&mut self.has_failed) {
            return MayChange::Not;
        }
        match (self.under_way, self.known) {
            (Some(_), _) => MayChange::Answered,
            (None, Known::Session(_) | Known::Unclear(_)) => MayChange::Told,
            (None, Known::Nothing | Known::Changing(_)) => MayChange::Now,
        }
    }

    /// Returns the word that the session changes. [`Sharing::answered`] must follow.
    pub fn tell_change(&mut self) -> SessionWish {
        self.is_changed = true;
        self.under_way = Some(UnderWay::Changing);
        SessionWish::Share(None, self.last_word())
    }

    /// Returns what the nodes are to know of the session, if they do not know it; its subscriptions
    /// must be settled. [`Sharing::answered`] must follow.
    pub fn share(&mut self, owner: &Owner<'_>) -> Option<SessionWish> {
        if self.under_way.is_some() || !self.is_changed {
            return None;
        }
        if self.is_replay_open && owner.place.is_some() {
            (self.replayed_at, self.is_replay_open) = (owner.place, false);
        }
        let Some(session) = self.session(owner) else {
            let is_told = matches!(self.known, Known::Session(_) | Known::Unclear(_));
            return is_told.then(|| self.tell_change());
        };
        self.is_changed = false;
        self.under_way = Some(UnderWay::Session);
        Some(SessionWish::Share(Some(Box::new(session)), self.last_word()))
    }

    fn session(&self, owner: &Owner<'_>) -> Option<SharedSession> {
        if self.subscriptions.is_empty() || self.is_replay_open {
            return None;
        }
        let channels = self.subscriptions.iter().map(|one| {
            let since = one.since?;
            Some(SharedChannel { channel: one.channel.clone(), encoding: one.encoding, since })
        });
        Some(SharedSession {
            socket_key: owner.socket_key,
            credential: owner.credential.clone(),
            policies: owner.policies.ok()?,
            channels: channels.collect::<Option<_>>()?,
            replays: self.replays,
            replayed_at: self.replayed_at,
            before: self.before,
        })
    }

    /// Notes that the session has left the list of those that are to be shared, or of those whose
    /// last word is to be said again if `is_again`.
    pub fn is_due(&mut self, is_again: bool) {
        self.is_noted[usize::from(is_again)] = false;
        self.is_changed |= is_again;
    }

    /// Returns whether no word is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Returns whether the nodes lack something.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Notes that the node ends. Returns true the first time that no word is under way: then what
    /// the other nodes lack must be said at once.
    pub fn ends(&mut self) -> bool {
        self.is_idle() && !std::mem::replace(&mut self.is_ending, true)
    }

    /// Returns whether no word is under way and none is to be said soon.
    pub fn is_said(&self) -> bool {
        self.is_idle() && !self.is_noted[0]
    }

    /// Returns the word that the session has ended, if the nodes know of it.
    pub fn end(&self) -> Option<SessionWish> {
        let is_known = self.known != Known::Nothing && self.under_way.is_none();
        is_known.then(|| SessionWish::End(self.last_word()))
    }

    /// Takes the answer to the last word. Returns false if another node has taken the session over.
    pub fn answered(&mut self, answer: Result<Offset, NotShared>) -> bool {
        let under_way = self.under_way.take();
        match (under_way, answer) {
            (_, Err(NotShared::Moved)) => return false,
            (Some(UnderWay::Changing), Ok(place)) => self.known = Known::Changing(place),
            (Some(UnderWay::Session), Ok(place)) => self.known = Known::Session(place),
            (Some(UnderWay::Changing), Err(not)) => {
                self.has_failed = true;
                self.is_unclear(not);
            }
            (Some(UnderWay::Session), Err(not)) => {
                self.is_changed = true;
                self.is_unclear(not);
            }
            (None, _) => {}
        }
        true
    }

    fn is_unclear(&mut self, not: NotShared) {
        if not == NotShared::Unknown {
            self.known = Known::Unclear(self.last_word());
        }
    }

    /// Returns whether another node may have taken the session over.
    pub fn may_be_elsewhere(&self) -> bool {
        self.under_way.is_none() && matches!(self.known, Known::Session(_) | Known::Unclear(_))
    }

    /// Takes the session over again: its last word had the place `before`, and now has the place
    /// `now`. Returns false if another node has changed it meanwhile.
    pub fn taken(&mut self, before: Offset, now: Offset) -> bool {
        let is_same = self.known == Known::Session(before);
        (self.known, self.is_changed) = (Known::Changing(now), true);
        is_same
    }

    fn last_word(&self) -> Offset {
        match self.known {
            Known::Nothing => 0,
            Known::Changing(place) | Known::Session(place) | Known::Unclear(place) => place,
        }
    }
}

/// Returns what a client has missed that names `offset` as the last that it received.
///
/// # Errors
/// Why that is not known, for the log.
pub fn missed(session: &SharedSession, offset: Option<Mark>) -> Result<Missed, &'static str> {
    const REPLAYS: &str = "it may lack earlier publications that it has asked for";
    let offset = offset.filter(|offset| session.before != Some(*offset));
    let has_all_replays = |place: MarkPlace| {
        session.replayed_at.is_none_or(|at| at.epoch() == place.epoch() && at < place)
    };
    let place = match offset {
        None if session.replays == Replays::default() => None,
        Some(Mark::Place(place)) if has_all_replays(place) => Some(place),
        Some(Mark::Replays(place, replays)) if replays == session.replays => Some(place),
        Some(Mark::Id(_)) => return Err("only its own node knows what it received"),
        None | Some(Mark::Place(_) | Mark::Replays(..)) => return Err(REPLAYS),
    };
    let first = session.channels.first().map(|one| one.since);
    let epoch = place.or(first).map(|place| place.epoch()).ok_or("it has no channels")?;
    let behind = session.channels.iter().map(|one| {
        let since = (one.since.epoch() == epoch).then(|| one.since.seq());
        match place {
            // What it received in this epoch is behind what began in an earlier one.
            Some(place) => Some(place.seq().max(since.unwrap_or(0))),
            None => since,
        }
    });
    let behind = behind.collect::<Option<_>>().ok_or("the stream has lost what it missed")?;
    Ok(Missed { epoch, behind })
}

#[cfg(test)]
mod tests;
