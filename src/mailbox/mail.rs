//! The closed lists of what threads may post to each other.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use uuid::Uuid;

use super::inbox::Slot;
use crate::message::{
    Activation, App, ChannelChange, ChannelDefinition, ConnId, Context, Deactivation, Delivery,
    Document, DocumentKey, Durability, Found, Load, MessageQuery, Millis, Party, Permissions,
    Publication, SessionId, SessionKey, Stats, StatsQuery, StoredMessage, Verdict,
};

/// Everything that can be posted to a worker.
#[derive(Debug)]
pub enum Mail {
    /// A publication for the local subscribers of its channel.
    Deliver(Delivery),
    /// A subscription begins here.
    Activate(Box<Activation>),
    /// A subscription ends here.
    Deactivate(Box<Deactivation>),
    /// A socket changes hands.
    Adopt(Box<Handover>),
    /// A session goes on here, because what it comes back to is here.
    Move(Box<Move>),
    /// The session of this connection hears its channels again from here on.
    Recover(ConnId),
    /// A long-polling request.
    Poll(Box<Poll>),
    /// The client of a long-polling request of this session went away.
    PollGone(SessionId),
    /// The store was asked for the current documents of a resource.
    Loaded(Box<Loaded>),
    /// Policies were asked whether somebody may do something.
    Verdict(Box<Verdict>),
    /// Somebody wants to know whether this worker still takes its mail.
    Probe(AcceptorId, Ticket),
}

impl Mail {
    /// The kind of slot it stands in.
    pub fn slot(&self) -> Slot {
        match self {
            Self::Deliver(_) => Slot::Publication,
            _ => Slot::Control,
        }
    }
}

/// What an upgraded socket is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A new Engine.IO session on WebSocket.
    EngineIo(App),
    /// An offer to carry an existing session from long-polling to WebSocket.
    Probe(SessionId),
    /// A client of Forge Realtime, with the context that it has proved in its handshake, if it did.
    Forge(Option<Arc<Context>>),
    /// A client of M2 Realtime, and on whose behalf it listens.
    M2(Arc<Party>),
    /// Echo of WebSocket messages, for conformance suites.
    Echo,
}

/// What a WebSocket's handshake is answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The Sec-WebSocket-Accept value.
    pub key: String,
    /// The subprotocol, where one was agreed on.
    pub protocol: Option<String>,
}

/// The current documents of a resource, as the store has them behind all that was published before
/// this mail and before all that comes after it.
#[derive(Debug)]
pub struct Loaded {
    /// What was asked for.
    pub load: Load,
    /// The documents; deleted ones, too, as far as they are remembered. None where the store
    /// failed.
    pub found: Option<Found<Arc<Publication>>>,
}

/// A socket whose HTTP part is over.
#[derive(Debug)]
pub struct Handover {
    /// The socket.
    pub socket: OwnedFd,
    /// Bytes that were already read past the request.
    pub leftover: Vec<u8>,
    /// What to answer with; none where that was done already.
    pub accept: Option<Accepted>,
    /// What it is for.
    pub purpose: Purpose,
}

/// A session that has not entered its namespace yet and goes on at another worker, which knows what
/// its client wants to come back to.
#[derive(Debug)]
pub struct Move {
    /// Its socket; none on long-polling.
    pub socket: Option<OwnedFd>,
    /// Bytes that were already read past the CONNECT packet.
    pub leftover: Vec<u8>,
    /// Under which its long-polling requests arrive.
    pub key: SessionKey,
    /// The long-polling request that waits for packets.
    pub waiting: Option<(AcceptorId, Ticket)>,
    /// The offer of a WebSocket to carry it was accepted.
    pub is_upgrading: bool,
    /// The data of its CONNECT packet.
    pub auth: Box<str>,
}

/// One request of a long-polling client.
#[derive(Debug)]
pub struct Poll {
    /// Where the answer goes.
    pub from: AcceptorId,
    /// Under which ticket.
    pub ticket: Ticket,
    /// What is asked.
    pub request: PollRequest,
}

/// What a long-polling client asks.
#[derive(Debug)]
pub enum PollRequest {
    /// A new session.
    Open(App),
    /// Whatever waits for it, or will.
    Get(SessionId),
    /// Packets from it.
    Post(SessionId, Vec<u8>),
}

/// An HTTP-serving role, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AcceptorId(pub u8);

/// Names a request that waits at an acceptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// Place in the acceptor's table.
    pub slot: u32,
    /// Which of the place's lives.
    pub generation: u32,
}

/// Everything that can be posted to an acceptor: the answer to a ticket.
#[derive(Debug)]
pub struct Answer {
    /// Which request.
    pub ticket: Ticket,
    /// Its answer.
    pub body: AnswerBody,
}

/// The answers.
#[derive(Debug)]
pub enum AnswerBody {
    /// From a worker: an Engine.IO payload for the client.
    Payload(Vec<u8>),
    /// From a worker: packets were taken.
    Taken,
    /// From a worker: the request was wrong.
    PollRefused(PollRefusal),
    /// From the side: what the store did.
    Stored(StoreOutcome),
    /// From the side: how safe a publication is.
    Kept(Durability),
    /// From the side: what became of a document; from the reader: what it is.
    Document(DocumentOutcome),
    /// From the side: what became of the policies.
    Permitted(PermissionsOutcome),
    /// From the side or the reader: about history.
    History(HistoryAnswer),
    /// From anybody who was probed: all is well.
    Alive,
    /// From the side: the store does not work, and why.
    Ailing(&'static str),
}

/// Why a long-polling request failed (contract section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PollRefusal {
    /// No such session.
    UnknownSession,
    /// The session exists, the request does not fit it.
    BadRequest,
    /// The worker has as many sessions as it may.
    Overloaded,
}

/// Everything that can be asked of the side. Answers go to the acceptor that asked, under its
/// ticket.
#[derive(Debug)]
pub enum Wish {
    /// A change of what is stored.
    Change(AcceptorId, Ticket, StoreChange),
    /// Other policies, instead of all there are.
    Permit(AcceptorId, Ticket, Permissions),
    /// History is emptied of what is there now.
    Clear(AcceptorId, Ticket),
    /// Messages are kept for so many days from now on; `None` for ever.
    SetRetention(AcceptorId, Ticket, Option<u32>),
    /// For how many days messages are kept.
    Retention(AcceptorId, Ticket),
    /// Whether the store works.
    Probe(AcceptorId, Ticket),
    /// The end: what was wished before is carried out and made safe, what comes after is not.
    Stop,
}

/// Changes to channel definitions.
#[derive(Debug)]
pub enum StoreChange {
    /// A new definition.
    Insert(ChannelDefinition),
    /// The definition of that id is changed, at that time.
    Update(Uuid, ChannelChange, Millis),
    /// No more definition of that id.
    Delete(Uuid),
}

/// What came of a change.
#[derive(Debug)]
pub enum StoreOutcome {
    /// Done; the definition as it is (or was, when deleted).
    Done(Box<ChannelDefinition>),
    /// The definition would contradict itself, in this way.
    Invalid(&'static str),
    /// There is no definition of that id.
    NotFound,
    /// Another definition has this pattern.
    Duplicate(String),
    /// The number of definitions is at its bound.
    Full,
    /// The store is busy; the same change may work a second later.
    Busy,
    /// The store failed; the log says how.
    Failed,
}

/// What came of the wish to write, delete or look at a document.
#[derive(Clone, Debug)]
pub enum DocumentOutcome {
    /// Written or deleted under this version, as safe as this.
    Written(Millis, Durability),
    /// This is it.
    Found(Box<Document>),
    /// The version that the writer gave is not the latest; this one is.
    Stale(Millis),
    /// There is none.
    NotFound,
    /// The number of documents is at its bound.
    Full,
    /// A worker or the store is busy; the same may work a second later.
    Busy,
    /// The store failed; the log says how.
    Failed,
}

/// What came of a change of policies.
#[derive(Debug)]
pub enum PermissionsOutcome {
    /// Done; the policies as they are now.
    Done(Permissions),
    /// An expression makes no sense, in these words; the policies are what they were.
    Invalid(String),
    /// The store is busy; the same change may work a second later.
    Busy,
    /// The store failed; the log says how.
    Failed,
}

/// Everything that can be asked of the reader of history. Answers go to the acceptor that asked,
/// under its ticket.
#[derive(Debug)]
pub enum Query {
    /// A page of messages.
    Messages(AcceptorId, Ticket, MessageQuery),
    /// How many there are.
    Stats(AcceptorId, Ticket, StatsQuery),
    /// What a document is.
    Document(AcceptorId, Ticket, DocumentKey),
}

/// What history says.
#[derive(Debug)]
pub enum HistoryAnswer {
    /// A page, the newest first.
    Messages(Vec<StoredMessage>),
    /// How many there are.
    Stats(Stats),
    /// So many were removed.
    Cleared(u64),
    /// For how many days messages are kept, `None` for ever: as it is, or was just set.
    Retention(Option<u32>),
    /// Nothing.
    Refused(HistoryRefusal),
}

/// Why history says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HistoryRefusal {
    /// The page should begin at a message that is not there.
    UnknownMessage,
    /// The page would be longer than it may be.
    PageTooLong,
    /// The answer took too long to find.
    TooSlow,
    /// The store is busy; the same may work a second later.
    Busy,
    /// The store failed; the log says how.
    Failed,
}
