//! A stream: it asks the policies about its channels, joins them, and is answered with 200 only
//! when it has joined all of them.

use std::sync::Arc;

use super::cursor::Received;
use super::limits::HALF_CLOSED_LOOK_MS;
use super::wire;
use crate::broker::cursor::{Cursor, Position};
use crate::broker::directory::Subscriber;
use crate::broker::subscriptions::Joining;
use crate::codec::http::{Response, ResponseHeaders};
use crate::interface::authorize::Standing;
use crate::interface::context::Context;
use crate::interface::encode;
use crate::interface::frame::Frame;
use crate::interface::member::{self, SocketKey};
use crate::interface::next::{End, Next, Reason};
use crate::interface::rest::{ApiError, Reply};
use crate::interface::shared::Shared;
use crate::message::{
    Action, Activation, Channel, ChannelDefinition, ConnId, Credential, Encoding, MessageId,
    Millis, Now, Refusal, ReplayWish, Retain, Transport,
};

/// One stream of Server-Sent Events.
#[derive(Debug)]
pub struct Session {
    credential: Arc<Credential>,
    /// Names an anonymous client to the members of its channels.
    socket_key: SocketKey,
    /// When the next comment is sent, or a half-closed stream looks whether it has begun, in
    /// milliseconds since the node started.
    comment_at: Millis,
    /// Whether the client has closed its sending side. Then the stream ends once it has begun,
    /// because such a client may be gone.
    is_half_closed: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The client has not been answered.
    Opening(Box<Opening>),
    /// The client has been answered with 200; these subscriptions have yet to begin.
    Beginning(Vec<Joined>),
    /// All subscriptions have begun.
    Open,
    /// The client has been answered with an error, and the connection ends.
    Refused,
}

/// The channels that a client asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) channels: Vec<Channel>,
    /// The client's positions from an earlier stream; `None` if it does not resume.
    pub(super) received: Option<Received>,
}

/// A request that has not been answered.
#[derive(Debug)]
pub(super) struct Opening {
    wanted: Wanted,
    /// Headers that let the client's page read the answer.
    cors: ResponseHeaders,
}

/// A channel that was joined.
#[derive(Debug)]
struct Joined {
    channel: Channel,
    retain: Retain,
    /// When the channel's definition was last changed, on the wall's clock.
    defined_at: Millis,
    position: Position,
}

impl Opening {
    pub(super) fn new(wanted: Wanted, cors: ResponseHeaders) -> Self {
        Self { wanted, cors }
    }

    /// Returns a response with the headers that let the client's page read it.
    fn response(&mut self, mut response: Response) -> Response {
        response.headers.append(&mut self.cors);
        response
    }
}

impl Session {
    pub(super) fn new(
        credential: Arc<Credential>,
        socket_key: SocketKey,
        opening: Opening,
    ) -> Self {
        let state = State::Opening(Box::new(opening));
        Self { credential, socket_key, comment_at: 0, is_half_closed: false, state }
    }

    /// Returns when the session must be told the time, in milliseconds since the node started.
    pub(in crate::interface) fn deadline(&self, now: Now, shared: &Shared) -> Option<Millis> {
        match self.state {
            State::Opening(_) => None,
            State::Refused => Some(now.monotonic()),
            State::Beginning(_) | State::Open => {
                let closes_at = shared.closes_at(self.credential.expires_at, now);
                closes_at.into_iter().chain([self.comment_at]).min()
            }
        }
    }

    /// Returns the subscriber that the stream is.
    pub(in crate::interface) fn subscriber(&self, connection: ConnId) -> Subscriber {
        Subscriber {
            connection,
            encoding: Encoding::EventStream,
            transport: Transport::EventStream,
            member: Some(member::id(&self.credential, &self.socket_key)),
        }
    }

    /// Returns whether the client was answered with 200.
    pub(in crate::interface) fn is_open(&self) -> bool {
        matches!(self.state, State::Beginning(_) | State::Open)
    }

    /// Notes that the client has closed its sending side. Returns whether it has yet to receive the
    /// answer to its request, with what its channels keep. Then the next deadlines end the stream.
    pub(in crate::interface) fn on_input_end(&mut self, ctx: &mut Context<'_>) -> bool {
        self.is_half_closed = true;
        self.comment_at = ctx.now.monotonic();
        match self.state {
            State::Opening(_) | State::Beginning(_) => true,
            State::Open | State::Refused => !ctx.link.is_drained(),
        }
    }

    /// Asks the policies whether the client may hear its channels, and joins them if it may.
    pub(in crate::interface) fn on_open(&mut self, ctx: &mut Context<'_>) -> Next {
        self.proceed(ctx)
    }

    /// Goes on with the next channel, because a verdict is known.
    pub(in crate::interface) fn on_verdict(&mut self, ctx: &mut Context<'_>) {
        // A refused stream ends by its deadline, which is now.
        let _ = self.proceed(ctx);
    }

    fn proceed(&mut self, ctx: &mut Context<'_>) -> Next {
        let State::Opening(opening) = &self.state else { return Next::Stay };
        match self.join_all(ctx, &opening.wanted) {
            Ok(Some(joined)) => self.begin(ctx, joined),
            Ok(None) => Next::Stay,
            Err(error) => self.refuse(ctx, error),
        }
    }

    /// Joins the channels of a stream; `None` if a verdict is not known yet.
    fn join_all(
        &self,
        ctx: &mut Context<'_>,
        wanted: &Wanted,
    ) -> Result<Option<Vec<Joined>>, ApiError> {
        ctx.local.authorizer.refresh();
        let mut allowed = Vec::with_capacity(wanted.channels.len());
        for channel in &wanted.channels {
            let definition = ctx.shared.broker.definitions.load().find(channel.as_str()).cloned();
            let definition = definition.ok_or_else(|| undefined(ctx, channel))?;
            match ctx.judge(Action::Subscribe, channel, &self.credential) {
                Standing::Settled => {}
                Standing::Asked => return Ok(None),
                Standing::Overloaded => return Err(overloaded(ctx)),
            }
            if !ctx.local.authorizer.allows(Action::Subscribe, channel, &self.credential) {
                return Err(forbidden(ctx, channel));
            }
            allowed.push((channel, definition));
        }
        let received = wanted.received.as_ref();
        let joined = allowed.into_iter().map(|one| self.join(ctx, one, received));
        Ok(Some(joined.collect::<Result<_, ApiError>>()?))
    }

    fn join(
        &self,
        ctx: &mut Context<'_>,
        (channel, definition): (&Channel, Arc<ChannelDefinition>),
        received: Option<&Received>,
    ) -> Result<Joined, ApiError> {
        let (options, defined_at) = (definition.options, definition.updated_at);
        let position =
            received.map_or(Position::New, |received| received.position(channel, ctx.shared.start));
        let after = match position {
            Position::Behind(id) => Some(id),
            // No message has this id: all that is kept is wanted, and whether some is missing.
            Position::Since(_) => Some(MessageId::nil()),
            Position::New | Position::Unknown => None,
        };
        let replay = ReplayWish { seconds: options.retain.seconds(), after, behind: None };
        let joining =
            Joining { options, reply: None, replay, replays_again: false, comes_back: false };
        match ctx.join(self.subscriber(ctx.id), channel, &joining) {
            Ok(()) => Ok(Joined {
                channel: channel.clone(),
                retain: options.retain,
                defined_at,
                position,
            }),
            Err(_) if ctx.link.is_leaving() => Err(ApiError::stopping()),
            Err(_) => Err(overloaded(ctx)),
        }
    }

    /// Answers the client with 200.
    fn begin(&mut self, ctx: &mut Context<'_>, joined: Vec<Joined>) -> Next {
        let State::Opening(opening) = &mut self.state else { return Next::Stay };
        let response = Response::empty(200)
            .header("Content-Type", "text/event-stream")
            .header("X-Accel-Buffering", "no");
        let mut head = Vec::new();
        opening.response(response).write_endless(&mut head, ctx.date());
        ctx.send(head);
        ctx.send(wire::beginning());
        let until_comment = match self.is_half_closed {
            true => 0,
            false => ctx.shared.timings.ping_interval_ms,
        };
        self.comment_at = ctx.now.monotonic() + until_comment;
        ctx.local.counters.opened.add(1);
        ctx.local.counters.event_streams.add(1);
        // Until a subscription begins, the client has come as far as it says that it has.
        let positions = joined.iter().map(|one| (one.channel.clone(), one.position)).collect();
        ctx.link.set_cursor(Cursor { start: ctx.shared.start, positions });
        self.state = State::Beginning(joined);
        Next::Stay
    }

    /// Answers the client with an error, and ends.
    fn refuse(&mut self, ctx: &mut Context<'_>, error: ApiError) -> Next {
        if let State::Opening(opening) = &mut self.state {
            let mut bytes = Vec::new();
            let response = opening.response(Reply::from(error).into());
            response.write(&mut bytes, ctx.date(), false, false);
            ctx.send(bytes);
            self.state = State::Refused;
        }
        Next::close(Reason::Client)
    }

    /// Sends a comment, or ends the stream because its token has expired or it was refused.
    pub(in crate::interface) fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        if matches!(self.state, State::Refused) {
            return Next::close(Reason::Client);
        }
        let closes_at = ctx.shared.closes_at(self.credential.expires_at, ctx.now);
        if closes_at.is_some_and(|at| at <= ctx.now.monotonic()) {
            return Next::close(Reason::Expired);
        }
        if self.is_half_closed {
            if matches!(self.state, State::Open) {
                return Next::close(Reason::Client);
            }
            self.comment_at = ctx.now.monotonic() + HALF_CLOSED_LOOK_MS;
            return Next::Stay;
        }
        if ctx.now.monotonic() >= self.comment_at {
            ctx.send(wire::COMMENT.to_vec());
            self.comment_at = ctx.now.monotonic() + ctx.shared.timings.ping_interval_ms;
        }
        Next::Stay
    }

    /// Begins a subscription: sends the members of the channel, a gap event if messages may be
    /// missing, and the messages that the channel keeps. Returns the bytes of these messages.
    pub(in crate::interface) fn on_joined(
        &mut self,
        ctx: &mut Context<'_>,
        activation: Activation,
    ) -> usize {
        let State::Beginning(all) = &mut self.state else { return 0 };
        let Activation { channel, presence, present, replay, .. } = activation;
        let Some(place) = all.iter().position(|joined| joined.channel == channel) else { return 0 };
        let joined = all.swap_remove(place);
        let Some(mut cursor) = ctx.link.take_cursor() else { return 0 };
        ctx.send(wire::subscribed(&channel, &encode::presence(&presence, present)));
        let is_whole = replay.is_whole || !replay.has_gap && joined.keeps_all(ctx.now);
        if joined.position != Position::New && !is_whole {
            ctx.send(wire::gap(&channel, None));
            ctx.local.counters.gaps.add(1);
        }
        let is_shared = cursor.positions.len() == 1;
        let given = ctx.replay(
            (&channel, Encoding::EventStream),
            &replay.publications,
            usize::MAX,
            |one| {
                let mut cursor = (!is_shared).then(|| cursor.clone())?;
                cursor.passed(&channel, one.id);
                Some(Frame::placed(one, &cursor))
            },
        );
        let position = match (replay.last, joined.retain) {
            (Some(last), _) => Position::Behind(last),
            (None, Retain::Window { .. }) => Position::Since(ctx.now),
            (None, Retain::None | Retain::Last) => Position::Unknown,
        };
        cursor.place(&channel, position);
        if all.is_empty() {
            ctx.send(wire::place(&cursor));
            self.state = State::Open;
        }
        // The frames of a stream of one channel are shared: each is its own position.
        if !is_shared {
            ctx.link.set_cursor(cursor);
        }
        given.bytes
    }
}

impl Session {
    /// Ends the stream. While recovery lasts, its channels keep what it misses.
    pub(in crate::interface) fn on_end(ctx: &Context<'_>) -> End {
        let recovery = ctx.shared.recovery.as_ref();
        let until = recovery.map_or(0, |terms| ctx.now.monotonic() + terms.window_ms);
        End { lingers_until: until, ..End::default() }
    }
}

impl Joined {
    /// Returns whether the channel still keeps all messages since the client's position, if no
    /// message was there and none was dropped early.
    fn keeps_all(&self, now: Now) -> bool {
        let (Position::Since(since), Retain::Window { seconds }) = (self.position, self.retain)
        else {
            return false;
        };
        let keeps_ms = Millis::from(seconds) * 1_000;
        self.defined_at < since.wall && now.monotonic() < since.monotonic() + keeps_ms
    }
}

/// Counts the refusal of a channel that no enabled definition matches, and returns its error.
fn undefined(ctx: &mut Context<'_>, channel: &Channel) -> ApiError {
    ctx.local.auth.refusals.note("sse", Refusal::UNDEFINED, ctx.now.monotonic());
    refused_channel(ctx, channel, ": no enabled channel definition matches it")
}

/// Counts the refusal of a channel that the client may not hear, and returns its error.
fn forbidden(ctx: &Context<'_>, channel: &Channel) -> ApiError {
    refused_channel(ctx, channel, "")
}

fn refused_channel(ctx: &Context<'_>, channel: &Channel, why: &str) -> ApiError {
    ctx.local.counters.refused_unauthorized.add(1);
    let channel = channel.as_str();
    let message = format!("Not authorized to subscribe to the channel \"{channel}\"{why}");
    ApiError::new(403, "REALTIME_UNAUTHORIZED", message)
        .advise("Ask for channels that a definition and the policies allow to this credential.")
}

/// Counts a refusal for want of room, and returns its error.
fn overloaded(ctx: &Context<'_>) -> ApiError {
    ctx.local.counters.refused_overloaded.add(1);
    ApiError::overloaded()
}
