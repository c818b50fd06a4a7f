//! Sessions of Socket.IO that the nodes of a cluster share, so that each of them can resume them.

use std::sync::Arc;

use super::{
    Channel, ConnId, Credential, Encoding, Mark, MarkPlace, Offset, RecoveryKey, Replays, SocketKey,
};

/// What is shared of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedSession {
    /// The key of the client's socket id.
    pub socket_key: SocketKey,
    /// The credential of the client that the session belongs to.
    pub credential: Arc<Credential>,
    /// Tells the policies that let the session into its channels from others; `None` if nothing was
    /// asked of them.
    pub policies: Option<u64>,
    /// The channels that it is subscribed to.
    pub channels: Vec<SharedChannel>,
    /// How many of its subscriptions were sent earlier publications.
    pub replays: Replays,
    /// Where the stream was when the last of them was.
    pub replayed_at: Option<MarkPlace>,
    /// What its client remembered of an earlier session when this one began.
    pub before: Option<Mark>,
}

/// A subscription of a shared session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedChannel {
    /// Where its publications come from.
    pub channel: Channel,
    /// The encoding of the client's frames.
    pub encoding: Encoding,
    /// The place in the stream behind which the client receives the channel.
    pub since: MarkPlace,
}

/// What a worker wishes for a session that all nodes share. The nodes know the last word on it,
/// which has a place in a stream of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionWish {
    /// Replaces the last word, which has this place if it has arrived; 0 for the first word. No
    /// node can resume the session if this is `None`.
    Share(Option<Box<SharedSession>>, Offset),
    /// Forgets a session that has ended, whose last word has this place. This is not answered.
    End(Offset),
    /// Takes a session over for the client of a connection that has received the stream up to this
    /// place. No other node can resume it any more.
    Take {
        /// Where the client waits.
        connection: ConnId,
        /// The credential of its client.
        credential: Arc<Credential>,
        /// The place.
        up_to: Offset,
    },
}

/// The answer to a [`SessionWish`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionTold {
    /// The secret part of the session's private id.
    pub session: RecoveryKey,
    /// What has become of the wish.
    pub what: SessionWord,
}

/// What has become of a [`SessionWish`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionWord {
    /// What is shared has this place, or why it is not shared.
    Shared(Result<Offset, NotShared>),
    /// The session is taken over for this connection, or why it is not.
    Taken(ConnId, Result<Box<TakenSession>, NotTaken>),
}

/// A session that was taken over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakenSession {
    /// What was shared of it.
    pub session: SharedSession,
    /// The place that this had.
    pub before: Offset,
    /// The place of the word that it is taken over.
    pub now: Offset,
}

/// Why a session is not shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotShared {
    /// Another node has taken it over.
    Moved,
    /// There is no room for it, for certain.
    Full,
    /// It is not known whether it is shared.
    Unknown,
}

/// Why a session is not taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// No node has shared it, or that was too long ago.
    Unknown,
    /// It has ended.
    Ended,
    /// It is changing, or was when its node ended, or its own node alone can resume it.
    Changing,
    /// It belongs to another client.
    Foreign,
    /// The cluster cannot be reached.
    Unavailable,
}
