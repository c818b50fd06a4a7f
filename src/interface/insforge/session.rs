//! Engine.IO sessions: handling of packets, on either transport, and of deadlines.

mod long_polling;
mod resuming;

use std::sync::Arc;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::client::{self, Client};
use super::conformance::SocketIo;
use super::engineio::{self, Packet};
use super::polling::Polling;
use super::realtime::Realtime;
use super::resume;
use super::returning;
use super::sharing;
use super::violation::Violation;
use crate::broker::directory::Subscriber;
use crate::codec::websocket::{Opcode, frame};
use crate::interface::context::Context;
use crate::interface::heartbeat::{Heartbeat, Timings, beat};
use crate::interface::next::{End, Next, Reason};
use crate::interface::shared::Shared;
use crate::message::{
    AckId, Activation, Channel, ConnId, Credential, Encoding, Millis, Now, Refusal, SessionId,
    SessionKey, Settled, Transport,
};
use crate::metrics::{Counter, Counters};

/// The application that a session runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum App {
    /// InsForge Realtime over Socket.IO.
    Insforge,
    /// The application of Socket.IO conformance suites.
    SocketIoConformance,
    /// An echo of messages, as Engine.IO conformance suites expect it.
    EngineIoConformance,
}

/// An Engine.IO session with the state of its application.
#[derive(Debug)]
pub struct Session {
    /// The secret part of the session id.
    key: SessionKey,
    /// Whether an administrator's credential does not count here, for want of a certificate.
    lacks_certificate: bool,
    heartbeat: Heartbeat,
    /// The state of long-polling; `None` on a WebSocket.
    polling: Option<Box<Polling>>,
    over: Over,
}

/// The state of the application that a session runs.
#[derive(Debug)]
enum Over {
    Realtime(Realtime),
    SocketIo(Box<SocketIo>),
    /// The echo, which has no state.
    EngineIo,
}

impl Over {
    fn new(app: App, now: Millis, timings: &Timings, random: &mut StdRng) -> Self {
        match app {
            App::Insforge => Self::Realtime(Realtime::new(now, timings, random)),
            App::SocketIoConformance => Self::SocketIo(Box::new(SocketIo::new(now, timings))),
            App::EngineIoConformance => Self::EngineIo,
        }
    }
}

impl Session {
    /// Creates a session on a WebSocket that opens now.
    pub fn websocket(app: App, now: Now, timings: &Timings, random: &mut StdRng) -> Self {
        let now = now.monotonic();
        Self {
            key: random.random(),
            lacks_certificate: false,
            heartbeat: Heartbeat::new(now, timings),
            polling: None,
            over: Over::new(app, now, timings, random),
        }
    }

    /// Creates a session on long-polling that opens now.
    pub fn polling(app: App, now: Now, timings: &Timings, random: &mut StdRng) -> Self {
        let session = Self::websocket(app, now, timings, random);
        Self { polling: Some(Box::default()), ..session }
    }

    /// Returns the session with the note whether its client has shown no certificate, beside which
    /// alone an administrator's credential counts.
    pub(super) fn lacking_certificate(self, lacks_certificate: bool) -> Self {
        Self { lacks_certificate, ..self }
    }

    /// Returns the payload that answers the request that opened a session on long-polling.
    pub(in crate::interface) fn opening(&self, ctx: &Context<'_>) -> String {
        engineio::open(&self.shown_id(ctx), true, &ctx.shared.timings)
    }

    /// Returns the session's id as clients see it.
    fn shown_id(&self, ctx: &Context<'_>) -> String {
        let id = SessionId { worker: ctx.local.worker, slot: ctx.id.slot, key: self.key };
        engineio::encode_id(&id, ctx.shared.tag)
    }
}

/// Events that the runtime passes to the session.
impl Session {
    /// Handles the opening of the session's WebSocket: sends the opening packet.
    pub fn on_open(&mut self, ctx: &mut Context<'_>) -> Next {
        ctx.send_text(&engineio::open(&self.shown_id(ctx), false, &ctx.shared.timings));
        Next::Stay
    }

    /// Handles a text message of the WebSocket.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub fn on_text(&mut self, ctx: &mut Context<'_>, text: &str) -> Result<Next, Violation> {
        self.on_packet(ctx, engineio::part(text)?)
    }

    fn on_text_packet(&mut self, ctx: &mut Context<'_>, text: &str) -> Result<Next, Violation> {
        let (now, timings) = (ctx.now.monotonic(), &ctx.shared.timings);
        let packet = engineio::decode(text)?;
        if packet == Packet::Pong {
            self.heartbeat.pong(now, timings);
            return Ok(Next::Stay);
        }
        self.heartbeat.sign_of_life(now, timings);
        match packet {
            Packet::Message(data) => self.on_message(ctx, data),
            Packet::Close => {
                if let Some(polling) = &mut self.polling {
                    polling.answer_with(ctx, engineio::NOOP);
                }
                Ok(Next::close(Reason::Client))
            }
            Packet::Pong | Packet::Noop => Ok(Next::Stay),
            Packet::Ping(_) => Err(Violation("a client does not ping")),
            Packet::Upgrade => Err(Violation("an upgrade on a transport that no probe tested")),
        }
    }

    /// Refuses a message that is too long, of which only the `start` was read.
    pub fn refuse_too_long(&mut self, ctx: &mut Context<'_>, start: &[u8]) {
        if let Over::Realtime(realtime) = &mut self.over {
            realtime.refuse_too_long(ctx, start);
        }
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, data: &str) -> Result<Next, Violation> {
        match &mut self.over {
            Over::Realtime(realtime) => {
                return realtime.on_packet(ctx, data, self.lacks_certificate);
            }
            Over::SocketIo(suite) => suite.on_packet(ctx, data)?,
            Over::EngineIo => ctx.send_text(&format!("4{data}")),
        }
        Ok(Next::Stay)
    }

    /// Handles a binary message.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub fn on_binary(&mut self, ctx: &mut Context<'_>, data: &[u8]) -> Result<Next, Violation> {
        self.heartbeat.sign_of_life(ctx.now.monotonic(), &ctx.shared.timings);
        match &mut self.over {
            Over::Realtime(realtime) => realtime.on_attachment(ctx, data)?,
            Over::SocketIo(suite) => suite.on_attachment(ctx, data)?,
            Over::EngineIo => ctx.send(frame(Opcode::Binary, &[data])),
        }
        Ok(Next::Stay)
    }

    /// Closes the connection if a deadline of the client has passed, or pings the client if that is
    /// due. The caller calls this at the time that [`Session::deadline`] returned.
    pub fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        let next = match &mut self.over {
            Over::Realtime(realtime) => realtime.on_deadline(ctx),
            Over::SocketIo(suite) => suite.on_deadline(ctx),
            Over::EngineIo => Next::Stay,
        };
        match next {
            Next::Stay => {
                beat(&mut self.heartbeat, ctx, || frame(Opcode::Text, &[engineio::PING.as_bytes()]))
            }
            next => next,
        }
    }

    /// Handles the activation of a subscription: acknowledges it and sends the channel's retained
    /// publications. Returns the bytes of the publications sent.
    pub fn on_joined(&mut self, ctx: &mut Context<'_>, activation: Activation) -> usize {
        Client::on_joined(ctx, activation)
    }

    /// Handles the end of a subscription: acknowledges the unsubscribe command.
    pub fn on_left(&mut self, ctx: &mut Context<'_>, channel: &Channel, reply: Option<AckId>) {
        Client::on_left(ctx, channel, reply);
    }

    /// Answers a publish command after the cluster's stream has.
    pub fn on_settled(ctx: &mut Context<'_>, settled: Settled) {
        Client::on_settled(ctx, settled);
    }

    /// Refuses a subscribe command whose channel the node could not hear.
    pub fn on_join_refused(ctx: &mut Context<'_>, channel: Channel, reply: Option<AckId>) {
        if returning::refused(ctx) {
            return;
        }
        sharing::changed(ctx);
        client::refuse(ctx, Some(channel), Refusal::Unavailable, reply);
    }

    /// Runs the waiting commands, because a verdict that one of them waited for is known. Returns
    /// false if the worker's mailbox has no room for the mail that commands may post; the caller
    /// must call again then.
    pub fn on_verdict(&mut self, ctx: &mut Context<'_>) -> bool {
        self.realtime().is_none_or(|realtime| realtime.client.on_verdict(ctx))
    }

    /// Handles the end of the connection: detaches the session if the client may resume it, drops
    /// waiting commands, and tells a waiting poll that the session has ended. The caller must not
    /// have left the session's channels yet.
    pub fn on_end(&mut self, ctx: &mut Context<'_>, reason: Reason) -> End {
        if let Over::Realtime(realtime) = &mut self.over {
            resume::keep(&realtime.client, ctx, reason);
            realtime.client.drop_backlog(ctx);
        }
        let close_too = self.polling.as_ref().and_then(|polling| polling.probe);
        if let Some(polling) = &mut self.polling {
            polling.answer_with(ctx, engineio::CLOSE);
        }
        End { lingers_until: 0, withdraw: None, close_too }
    }
}

/// Questions of the runtime between two events.
impl Session {
    /// Returns the time for [`Session::on_deadline`], in milliseconds since the node started.
    pub fn deadline(&self, now: Now, shared: &Shared) -> Millis {
        let over = match &self.over {
            Over::Realtime(realtime) => realtime.deadline(now, shared),
            Over::SocketIo(suite) => suite.deadline(),
            Over::EngineIo => None,
        };
        let due = self.heartbeat.due();
        over.map_or(due, |over| over.min(due))
    }

    /// Returns the secret part of the session id.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Returns whether the session's transport is long-polling.
    pub fn is_polling(&self) -> bool {
        self.polling.is_some()
    }

    /// Returns the client as the broker counts it in a channel; `None` before its CONNECT is
    /// accepted, and for conformance suites. The encoding is arbitrary.
    pub fn subscriber(&self, connection: ConnId) -> Option<Subscriber> {
        let Over::Realtime(Realtime { client, .. }) = &self.over else { return None };
        client.subscriber(connection, Encoding::Sdk, self.transport())
    }

    /// Returns the gauge of open connections that counts this session.
    pub fn gauge<'c>(&self, counters: &'c Counters) -> &'c Counter {
        match (&self.over, self.transport()) {
            (Over::Realtime(_), Transport::Polling) => &counters.pollings,
            (Over::Realtime(_), _) => &counters.websockets,
            (_, Transport::Polling) => &counters.conformance_pollings,
            (_, _) => &counters.conformance_websockets,
        }
    }

    /// Returns whether the session belongs to the client with this credential.
    pub fn holds(&self, credential: &Credential) -> bool {
        let Over::Realtime(Realtime { client, .. }) = &self.over else { return false };
        let is_same = |held: &Arc<Credential>| held.is_same_client(credential);
        client.credential.as_ref().is_some_and(is_same)
    }

    /// Returns the bytes of the client's unfinished input.
    pub fn held_bytes(&self) -> usize {
        match &self.over {
            Over::Realtime(Realtime { client, .. }) => client.unfinished.bytes(),
            Over::SocketIo(_) | Over::EngineIo => 0,
        }
    }

    /// Returns whether a stopping node may close the connection. On long-polling, the client must
    /// have fetched all packets (`has_output` is false), and a poll must wait that can tell the
    /// client about the end.
    pub fn may_end(&self, has_output: bool) -> bool {
        self.polling.as_ref().is_none_or(|polling| !has_output && polling.waiting.is_some())
    }

    fn transport(&self) -> Transport {
        match self.polling {
            Some(_) => Transport::Polling,
            None => Transport::WebSocket,
        }
    }

    fn realtime(&mut self) -> Option<&mut Realtime> {
        match &mut self.over {
            Over::Realtime(realtime) => Some(realtime),
            Over::SocketIo(_) | Over::EngineIo => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_small() {
        // The memory of an idle connection depends on it.
        assert_eq!(size_of::<Session>(), 80);
    }
}
