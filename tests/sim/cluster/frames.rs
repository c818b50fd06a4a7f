//! What travels between clients and servers and between servers.

use std::rc::Rc;

use fanfare::cluster::ack::Ack;
use fanfare::cluster::events::Event;
use fanfare::cluster::name::{ChannelHash, NodeName, Seq, Stream};
use fanfare::cluster::wire::{Anchor, Beat, Claim, Counted, Origin};
use fanfare::message::Millis;

use super::jetstream::Entry;

/// What servers connect apart, each with a delay of its own: the clients' messages, or questions to
/// JetStream and its replication.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Account {
    Clients,
    System,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Subject {
    Beat(NodeName),
    Anchor,
    Channel(ChannelHash),
    Claim(ChannelHash, NodeName),
    Barrier(NodeName),
}

/// What a client subscribes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Topic {
    Beats,
    Anchor,
    Channel(ChannelHash),
    /// Answers to the connection with this number.
    Answers(u64),
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Payload {
    Beat(Beat),
    Anchor(Anchor),
    /// A publication on the channel with this number, with its id.
    Publication(usize, u64),
    Claim(Claim),
    Barrier,
}

/// Where an answer goes: the number of a connection, and that of a message.
pub(super) type Reply = (u64, u64);

/// A message to a stream.
#[derive(Clone, Debug)]
pub(super) struct Publish {
    pub(super) stream: Stream,
    pub(super) subject: Subject,
    pub(super) from: Origin,
    /// The sequence that the last message of the subject must have.
    pub(super) expected: Option<Seq>,
    /// What makes a second message with it a duplicate.
    pub(super) id: Option<u64>,
    /// After how many milliseconds the message expires; 0 if only the stream's own limit counts.
    pub(super) ttl: Millis,
    pub(super) payload: Payload,
    /// The publication's token, if nodes are to count their subscribers.
    pub(super) ask: Option<u64>,
    /// The connection that waits for the answer, and the message's number there.
    pub(super) reply: Reply,
}

/// What a client sends.
#[derive(Clone, Debug)]
pub(super) enum Up {
    /// It is new, and subscribes to everything but channels.
    Hello,
    Subscribe(u64, ChannelHash),
    Unsubscribe(u64),
    Publish(Box<Publish>),
    /// To another client, past the streams.
    Count(u64, u64, Counted),
}

/// What a client receives.
#[derive(Clone, Debug)]
pub(super) enum Down {
    Live(Topic, Rc<Entry>),
    Answer(u64, Ack),
    Count(u64, Counted),
    Closed,
}

/// What one server sends another one.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    /// A client of the sender has subscribed to a topic, or has ended that.
    Interest(Topic, bool),
    Publish(Box<Publish>),
    Live(Topic, Rc<Entry>),
    /// To a client of the other server.
    Down(u64, Down),
    /// The leader of a stream of this term has entries up to this number.
    Append(Stream, u64, usize),
    /// The sender has so many entries of the leader of this term.
    Has(Stream, u64, usize),
    /// So many entries are in force.
    Commit(Stream, u64, usize),
}

/// What is on the way from one server to another.
#[derive(Clone, Debug)]
pub(super) struct Routed {
    pub(super) way: (usize, usize),
    /// How often each server had been started.
    pub(super) starts: (u32, u32),
    pub(super) account: Account,
    pub(super) frame: Frame,
}

/// What happens at some time.
#[derive(Debug)]
pub(super) enum Item {
    Up(u64, Up),
    Down(u64, Down),
    Route(Routed),
    /// Looks for streams without a leader and for followers that are behind.
    Watch,
    /// An answer that was held up at the leader.
    Answer(usize, Reply, Ack),
    Serve(usize),
    Resume(usize),
    Heal(usize, usize),
    /// A server that a client has left notices it.
    Forget(u64),
    /// The routes are as fast as they were.
    Quicken(usize, usize, Account),
    /// To a station, with the number of its start.
    Station(usize, u32, Call),
    /// The next thing of the script.
    Step,
}

/// What happens to a node.
#[derive(Debug)]
pub(super) enum Call {
    Wake(Millis),
    /// It writes what it has on this connection.
    Flush(u64),
    Connect,
    Break(u64),
    /// An answer to a read, the end of a wait, or news.
    Tell(Box<Event>),
    /// Asks servers for something.
    Ask(Read, u32),
    /// The mirror's consumer with this number has something.
    Mirror(u64, Box<Event>),
    /// The mirror's consumer begins again, with the first message if that is true.
    Consume(bool),
    /// Another node asks about a publication: its connection, the token, the channel, the place.
    Question(u64, u64, ChannelHash, Seq),
    Publish(u64),
    Start,
    GoOn,
    /// Its process ends, and is started again after a while if it is to be.
    Kill(Option<Millis>),
}

/// A question to the servers.
#[derive(Clone, Debug)]
pub(super) enum Read {
    Anchor(Stream),
    Hole(Seq, usize),
    Channel(ChannelHash, fanfare::cluster::chain::Missing),
    Latest(Vec<ChannelHash>),
}
